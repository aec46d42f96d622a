//! Secrets Manager.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_secretsmanager::types::{SecretListEntry, Tag};

use super::connect::Inner;
use super::policy::time;
use super::rate::Service;
use super::wire::{Call, Does};
use crate::port::{
    Answer, CURRENT, Cause, Page, PortError, Secret, SecretSeen, SecretVersion, Vault, VersionRef,
};

/// Secrets of a page.
const PAGE: i32 = 100;
/// Shortest and longest token that may become a version id.
const TOKEN: std::ops::RangeInclusive<usize> = 32..=64;

/// The secret store of the configured region.
pub(super) struct AwsVault(pub(super) Arc<Inner>);

fn vault<'a>(does: Does, tried: &'static str, on: &'a str) -> Call<'a> {
    Call::new(Service::SecretsManager, does, tried, on)
}

fn tags(all: Vec<Tag>) -> BTreeMap<String, String> {
    all.into_iter()
        .filter_map(|t| Some((t.key?, t.value.unwrap_or_default())))
        .collect()
}

fn labels(all: Option<HashMap<String, Vec<String>>>) -> BTreeMap<String, Vec<String>> {
    all.unwrap_or_default().into_iter().collect()
}

fn listed(entry: SecretListEntry) -> SecretSeen {
    SecretSeen {
        arn: entry.arn.unwrap_or_default(),
        name: entry.name.unwrap_or_default(),
        tags: Some(tags(entry.tags.unwrap_or_default())),
        owning_service: entry.owning_service,
        rotation_function: entry.rotation_lambda_arn,
        rotation_enabled: entry.rotation_enabled.unwrap_or_default(),
        versions: labels(entry.secret_versions_to_stages),
        replicas: BTreeMap::new(),
        deleted: entry.deleted_date.as_ref().and_then(time),
        changed: entry.last_changed_date.as_ref().and_then(time),
        accessed: entry.last_accessed_date.as_ref().and_then(time),
    }
}

fn check_token(tried: &'static str, id: &str, token: &str) -> Result<(), PortError> {
    if TOKEN.contains(&token.len()) {
        return Ok(());
    }
    let detail = format!(
        "a version id has 32 to 64 characters, `{token}` has {}",
        token.len()
    );
    Err(PortError::new(Cause::Rejected, tried, id, detail))
}

#[async_trait]
impl Vault for AwsVault {
    async fn list(&self, page: Option<String>) -> Result<Page<SecretSeen>, PortError> {
        let call = vault(Does::Read, "list the secrets of", "the account");
        let request = self.0.secrets.list_secrets().max_results(PAGE);
        let request = request.include_planned_deletion(true).set_next_token(page);
        let out = self
            .0
            .wire
            .call(call, || request.clone().send())
            .await?
            .value;
        let entries = out.secret_list.unwrap_or_default();
        Ok(Page {
            items: entries.into_iter().map(listed).collect(),
            next: out.next_token.filter(|t| !t.is_empty()),
        })
    }

    async fn describe(&self, id: &str) -> Result<Answer<SecretSeen>, PortError> {
        let call = vault(Does::Read, "look at secret", id);
        let make = || self.0.secrets.describe_secret().secret_id(id).send();
        let answer = self.0.wire.call(call, make).await?;
        Ok(answer.map(|out| {
            let replicas = out.replication_status.unwrap_or_default().into_iter();
            SecretSeen {
                arn: out.arn.unwrap_or_default(),
                name: out.name.unwrap_or_default(),
                tags: Some(tags(out.tags.unwrap_or_default())),
                owning_service: out.owning_service,
                rotation_function: out.rotation_lambda_arn,
                rotation_enabled: out.rotation_enabled.unwrap_or_default(),
                versions: labels(out.version_ids_to_stages),
                replicas: replicas
                    .filter_map(|r| Some((r.region?, r.status?.as_str().to_owned())))
                    .collect(),
                deleted: out.deleted_date.as_ref().and_then(time),
                changed: out.last_changed_date.as_ref().and_then(time),
                accessed: out.last_accessed_date.as_ref().and_then(time),
            }
        }))
    }

    async fn read(&self, id: &str, version: &VersionRef) -> Result<SecretVersion, PortError> {
        let tried = "read secret";
        let request = self.0.secrets.get_secret_value().secret_id(id);
        let request = match version {
            VersionRef::Id(version) => request.version_id(version),
            VersionRef::Label(label) => request.version_stage(label),
        };
        let call = vault(Does::Read, tried, id);
        let out = self
            .0
            .wire
            .call(call, || request.clone().send())
            .await?
            .value;
        let missing = |cause, detail| PortError::new(cause, tried, id, detail);
        let value = out
            .secret_string
            .map(Secret::new)
            .ok_or_else(|| missing(Cause::Unsupported, "its value is bytes, not text"))?;
        Ok(SecretVersion {
            id: out
                .version_id
                .ok_or_else(|| missing(Cause::Unreadable, "the answer has no version id"))?,
            labels: out.version_stages.unwrap_or_default(),
            value,
        })
    }

    async fn create(
        &self,
        name: &str,
        token: &str,
        value: &Secret,
        tags: &BTreeMap<String, String>,
    ) -> Result<Answer<String>, PortError> {
        let tried = "make secret";
        check_token(tried, name, token)?;
        let tags = tags
            .iter()
            .map(|(key, value)| Tag::builder().key(key).value(value).build())
            .collect();
        let request = self.0.secrets.create_secret().name(name);
        let request = request.client_request_token(token).set_tags(Some(tags));
        let make = || request.clone().secret_string(value.expose_secret()).send();
        let answer = self
            .0
            .wire
            .call(vault(Does::Issue, tried, name), make)
            .await?;
        if answer.value.version_id.as_deref() != Some(token) {
            let arn = answer.value.arn.as_deref().unwrap_or(name);
            self.put_once_more(arn, token, value).await?;
        }
        Ok(answer.map(|_| token.to_owned()))
    }

    async fn put(
        &self,
        id: &str,
        token: &str,
        value: &Secret,
        labels: &[&str],
    ) -> Result<Answer<String>, PortError> {
        let tried = "store a version of secret";
        check_token(tried, id, token)?;
        let labels = labels.iter().map(|l| (*l).to_owned()).collect();
        let request = self.0.secrets.put_secret_value().secret_id(id);
        let request = request
            .client_request_token(token)
            .set_version_stages(Some(labels));
        let make = || request.clone().secret_string(value.expose_secret()).send();
        let answer = self
            .0
            .wire
            .call(vault(Does::Issue, tried, id), make)
            .await?;
        Ok(answer.map(|out| out.version_id.unwrap_or_else(|| token.to_owned())))
    }

    async fn move_label(
        &self,
        id: &str,
        label: &str,
        from: Option<&str>,
        to: Option<&str>,
    ) -> Result<Answer<()>, PortError> {
        let call = vault(Does::Issue, "move a label of secret", id);
        let request = self.0.secrets.update_secret_version_stage().secret_id(id);
        let request = request
            .version_stage(label)
            .set_remove_from_version_id(from.map(str::to_owned))
            .set_move_to_version_id(to.map(str::to_owned));
        let moved = self.0.wire.try_call(call, || request.clone().send()).await;
        let mut failure = match moved {
            Ok(answer) => return Ok(answer.map(|_| ())),
            Err(failure) => failure,
        };
        // The service has one code for a stale `from` and for a request that can never work. Who holds the label tells them apart.
        if failure.error.cause == Cause::Rejected
            && let Ok(holder) = self.holder(id, label).await
            && holder.as_deref() != from
        {
            failure.error.cause = Cause::Conflict;
        }
        Err(failure.error)
    }
}

impl AwsVault {
    /// Off-spec servers give the first version an id of their own. The value is stored once more under ours, which becomes current. If
    /// that fails the secret is there all the same, whatever the reason.
    async fn put_once_more(&self, id: &str, token: &str, value: &Secret) -> Result<(), PortError> {
        let put = self.put(id, token, value, &[CURRENT]).await;
        put.map(|_| ()).map_err(|e| PortError {
            cause: Cause::LostReply,
            detail: format!(
                "the secret was made, but not under our version id: {}",
                e.detail
            ),
            ..e
        })
    }

    async fn holder(&self, id: &str, label: &str) -> Result<Option<String>, PortError> {
        let seen = self.describe(id).await?.value;
        Ok(seen.holder(label).map(str::to_owned))
    }
}
