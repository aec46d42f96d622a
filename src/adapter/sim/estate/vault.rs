//! The simulated secret store: versions, labels that move by compare-and-swap, and who else writes there.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, Duration, Timelike, Utc};
use serde::{Deserialize, Serialize};

use crate::port::{
    Answer, CURRENT, Cause, PREVIOUS, Page, PortError, Secret, SecretSeen, SecretVersion, Vault,
    VersionRef,
};

use super::cloud::page_of;
use super::key::{Hand, No};
use super::trail::Told;
use super::world::{EstateWorld, Kept, whole_seconds};
use super::{Call, Scene, SimEstate};

/// A secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredSecret {
    /// ARN.
    pub arn: String,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// Service that owns it.
    pub owning_service: Option<String>,
    /// Rotation function.
    pub rotation_function: Option<String>,
    /// Scheduled rotation.
    pub rotation_enabled: bool,
    /// Versions by id.
    pub versions: BTreeMap<String, StoredVersion>,
    /// Replicas: region → looks until it is in sync.
    pub replicas: BTreeMap<String, u32>,
    /// Looks that a replica needs after each change.
    pub replica_lag: u32,
    /// When it was scheduled for deletion.
    pub deleted: Option<DateTime<Utc>>,
    /// When it last changed.
    pub changed: Option<DateTime<Utc>>,
    /// When it was last read, to the day.
    pub accessed: Option<DateTime<Utc>>,
}

/// A version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredVersion {
    /// Its value.
    pub value: Kept,
    /// Labels.
    pub labels: Vec<String>,
    /// When it was made.
    pub created: DateTime<Utc>,
    /// Calls of ours until it is seen.
    pub hidden_for: u32,
}

impl StoredSecret {
    pub(super) fn tick(&mut self) {
        for version in self.versions.values_mut() {
            version.hidden_for = version.hidden_for.saturating_sub(1);
        }
        for looks in self.replicas.values_mut() {
            *looks = looks.saturating_sub(1);
        }
    }
    /// The version that holds a label.
    pub fn holder(&self, label: &str) -> Option<&str> {
        self.versions
            .iter()
            .find(|(_, v)| v.labels.iter().any(|l| l == label))
            .map(|(id, _)| id.as_str())
    }
    /// The value in use.
    pub fn current(&self) -> Option<&str> {
        let id = self.holder(CURRENT)?;
        self.versions.get(id).map(|v| v.value.0.as_str())
    }
    /// Stores a version and gives it its labels, which leave those that hold them.
    pub fn store(&mut self, id: &str, value: Kept, labels: &[&str], now: DateTime<Utc>) {
        let version = StoredVersion {
            value,
            labels: Vec::new(),
            created: now,
            hidden_for: 0,
        };
        self.versions.insert(id.to_owned(), version);
        for label in labels {
            self.give(label, Some(id));
        }
        self.touch(now);
        self.prune(now);
    }
    /// Moves a label. When the label in use moves, the version that had it becomes the previous one by itself.
    fn give(&mut self, label: &str, to: Option<&str>) {
        let from = self.holder(label).map(str::to_owned);
        if from.as_deref() == to {
            return;
        }
        for version in self.versions.values_mut() {
            version.labels.retain(|l| l != label);
        }
        if let Some(version) = to.and_then(|to| self.versions.get_mut(to)) {
            version.labels.push(label.to_owned());
        }
        if label == CURRENT && from.is_some() {
            self.give(PREVIOUS, from.as_deref());
        }
    }
    fn touch(&mut self, now: DateTime<Utc>) {
        self.changed = Some(whole_seconds(now));
        for looks in self.replicas.values_mut() {
            *looks = self.replica_lag;
        }
    }
    /// Versions without labels go only past a hundred, and only after a day.
    fn prune(&mut self, now: DateTime<Utc>) {
        let bare = |v: &StoredVersion| v.labels.is_empty();
        while self.versions.values().filter(|v| bare(v)).count() > 100 {
            let oldest = self
                .versions
                .iter()
                .filter(|(_, v)| bare(v) && now - v.created > Duration::days(1))
                .min_by_key(|(_, v)| v.created)
                .map(|(id, _)| id.clone());
            let Some(oldest) = oldest else { return };
            self.versions.remove(&oldest);
        }
    }
    fn seen(&self, name: &str) -> SecretSeen {
        let visible = self.versions.iter().filter(|(_, v)| v.hidden_for == 0);
        SecretSeen {
            arn: self.arn.clone(),
            name: name.to_owned(),
            tags: Some(self.tags.clone()),
            owning_service: self.owning_service.clone(),
            rotation_function: self.rotation_function.clone(),
            rotation_enabled: self.rotation_enabled,
            versions: visible
                .filter(|(_, v)| !v.labels.is_empty())
                .map(|(id, v)| (id.clone(), v.labels.clone()))
                .collect(),
            replicas: self
                .replicas
                .iter()
                .map(|(region, looks)| {
                    let status = if *looks == 0 { "InSync" } else { "InProgress" };
                    (region.clone(), status.to_owned())
                })
                .collect(),
            deleted: self.deleted,
            changed: self.changed,
            accessed: self.accessed,
        }
    }
}

impl EstateWorld {
    /// Adds a secret with one version in use.
    pub fn add_secret(&mut self, name: &str, value: &str, now: DateTime<Utc>) -> &mut StoredSecret {
        let arn = self.secret_arn(name);
        let id = self.mint_uid();
        let secret = self.secrets.entry(name.to_owned()).or_default();
        secret.arn = arn;
        secret.store(&id, Kept(value.to_owned()), &[CURRENT], now);
        secret
    }
    /// ARN of a secret, named by name or ARN.
    pub(super) fn secret_arn(&self, id: &str) -> String {
        if id.starts_with("arn:") {
            return id.to_owned();
        }
        if let Some(secret) = self.secrets.get(id) {
            return secret.arn.clone();
        }
        let suffix: String = super::super::world::uid_of(&format!("{}/{id}", self.seed))
            .chars()
            .take(6)
            .collect();
        let (region, account) = (self.region(), &self.account);
        format!("arn:aws:secretsmanager:{region}:{account}:secret:{id}-{suffix}")
    }
    /// Name of the secret of this name or ARN.
    pub(super) fn secret_name(&self, id: &str) -> Option<String> {
        if self.secrets.contains_key(id) {
            return Some(id.to_owned());
        }
        self.secrets
            .iter()
            .find(|(_, s)| s.arn == id)
            .map(|(name, _)| name.clone())
    }
}

#[async_trait]
impl Vault for SimEstate {
    async fn list(&self, page: Option<String>) -> Result<Page<SecretSeen>, PortError> {
        let call = Call::look(
            "vault_list",
            "secretsmanager:ListSecrets",
            "list secrets of",
            "the account",
        );
        self.call(call, |w, _| {
            let all = w.secrets.iter().filter(|(_, s)| s.deleted.is_none());
            let all = all.map(|(name, s)| s.seen(name)).collect();
            Ok(page_of(all, page.as_deref(), w.page_size))
        })
    }

    async fn describe(&self, id: &str) -> Result<Answer<SecretSeen>, PortError> {
        let call = Call::look(
            "describe",
            "secretsmanager:DescribeSecret",
            "look at secret",
            id,
        );
        self.call(call, |w, scene| {
            let name = w.secret_name(id).ok_or_else(|| missing(&call))?;
            let secret = w.secrets.get(&name).ok_or_else(|| missing(&call))?;
            let mut seen = secret.seen(&name);
            if w.missing.contains("secretsmanager:ListTags") {
                seen.tags = None;
            }
            Ok(scene.answer(seen))
        })
    }

    async fn read(&self, id: &str, version: &VersionRef) -> Result<SecretVersion, PortError> {
        let call = Call::look(
            "vault_read",
            "secretsmanager:GetSecretValue",
            "read secret",
            id,
        );
        self.call(call, |w, scene| {
            let today = whole_seconds(scene.now)
                .with_hour(0)
                .and_then(|t| t.with_minute(0));
            let secret = open(w, id, &call)?;
            let wanted = match version {
                VersionRef::Id(id) => Some(id.clone()),
                VersionRef::Label(label) => secret.holder(label).map(str::to_owned),
            };
            let found = wanted.and_then(|id| {
                let found = secret.versions.get(&id).filter(|v| v.hidden_for == 0)?;
                Some(SecretVersion {
                    labels: found.labels.clone(),
                    value: Secret::new(found.value.0.clone()),
                    id,
                })
            });
            let found = found.ok_or_else(|| {
                let text = "Secrets Manager can't find the specified secret value";
                call.no(&No::new("ResourceNotFoundException", text))
            })?;
            secret.accessed = today.and_then(|t| t.with_second(0));
            Ok(found)
        })
    }

    async fn create(
        &self,
        name: &str,
        token: &str,
        value: &Secret,
        tags: &BTreeMap<String, String>,
    ) -> Result<Answer<String>, PortError> {
        let call = Call::change(
            "vault_create",
            "secretsmanager:CreateSecret",
            "create secret",
            name,
        );
        self.call(call, |w, scene| {
            proper(token, value).map_err(|no| call.no(&no))?;
            if let Some(found) = w.secrets.get(name) {
                // The same request again is the same secret; a name that waits for its deletion is taken too.
                let same = found.versions.get(token).map(|v| v.value.0.as_str());
                if found.deleted.is_none() && same == Some(value.expose_secret()) {
                    return Ok(scene.answer(token.to_owned()));
                }
                let text = "a secret of this name exists, or waits for its deletion";
                return Err(call.no(&No::new("ResourceExistsException", text)));
            }
            let arn = w.secret_arn(name);
            let secret = w.secrets.entry(name.to_owned()).or_default();
            secret.arn = arn;
            secret.tags = tags.clone();
            put_version(secret, token, value, &[CURRENT], scene);
            event(w, &call, scene, &[("name", name)])?;
            Ok(scene.answer(token.to_owned()))
        })
    }

    async fn put(
        &self,
        id: &str,
        token: &str,
        value: &Secret,
        labels: &[&str],
    ) -> Result<Answer<String>, PortError> {
        let call = Call::change(
            "vault_put",
            "secretsmanager:PutSecretValue",
            "put a version of secret",
            id,
        );
        self.call(call, |w, scene| {
            proper(token, value).map_err(|no| call.no(&no))?;
            let secret = open(w, id, &call)?;
            if let Some(owner) = &secret.owning_service {
                let text = format!("the secret is managed by {owner}");
                return Err(call.no(&No::new("InvalidRequestException", text)));
            }
            match secret.versions.get(token) {
                Some(found) if found.value.0 == value.expose_secret() => {
                    return Ok(scene.answer(token.to_owned()));
                }
                Some(_) => {
                    let text = "the token was used with another value";
                    return Err(call.no(&No::new("ResourceExistsException", text)));
                }
                None => {}
            }
            let labels = if labels.is_empty() {
                &[CURRENT]
            } else {
                labels
            };
            if labels.len() > 20 {
                return Err(call.no(&No::new("LimitExceeded", "20 labels at most")));
            }
            put_version(secret, token, value, labels, scene);
            event(
                w,
                &call,
                scene,
                &[("secretId", id), ("clientRequestToken", token)],
            )?;
            Ok(scene.answer(token.to_owned()))
        })
    }

    async fn move_label(
        &self,
        id: &str,
        label: &str,
        from: Option<&str>,
        to: Option<&str>,
    ) -> Result<Answer<()>, PortError> {
        let call = Call::change(
            "move_label",
            "secretsmanager:UpdateSecretVersionStage",
            "move a label of secret",
            id,
        );
        self.call(call, |w, scene| {
            let secret = open(w, id, &call)?;
            let holder = secret.holder(label).map(str::to_owned);
            check_move(secret, label, holder.as_deref(), from, to, &call)?;
            if holder.as_deref() != to {
                secret.give(label, to);
                secret.touch(scene.now);
                scene.effect = true;
            }
            event(
                w,
                &call,
                scene,
                &[("secretId", id), ("versionStage", label)],
            )?;
            Ok(scene.answer(()))
        })
    }
}

/// The store's own conditions on a label's move.
fn check_move(
    secret: &StoredSecret,
    label: &str,
    holder: Option<&str>,
    from: Option<&str>,
    to: Option<&str>,
    call: &Call<'_>,
) -> Result<(), PortError> {
    let code = "InvalidParameterException";
    if from.is_some() && holder != from {
        let text = format!("{code}: the version to remove {label} from does not hold it");
        return Err(call.error(Cause::Conflict, text));
    }
    if from.is_none() && holder.is_some() && holder != to {
        let text = format!("{code}: {label} is held by another version, which must be named");
        return Err(call.error(Cause::Conflict, text));
    }
    if to.is_some_and(|to| !secret.versions.contains_key(to)) {
        return Err(call.no(&No::new("ResourceNotFoundException", "no such version")));
    }
    if to.is_none() && label == CURRENT {
        let text = "AWSCURRENT can be moved, not removed";
        return Err(call.no(&No::new("InvalidParameterException", text)));
    }
    Ok(())
}

fn put_version(
    secret: &mut StoredSecret,
    token: &str,
    value: &Secret,
    labels: &[&str],
    scene: &mut Scene,
) {
    secret.store(
        token,
        Kept(value.expose_secret().to_owned()),
        labels,
        scene.now,
    );
    if let (Some((listed, _)), Some(made)) = (scene.hide, secret.versions.get_mut(token)) {
        made.hidden_for = listed;
    }
    scene.effect = true;
}

/// A token has 32 to 64 characters, a value 65,536 bytes at most.
fn proper(token: &str, value: &Secret) -> Result<(), No> {
    if !(32..=64).contains(&token.len()) {
        return Err(No::new(
            "InvalidParameterException",
            "a token has 32 to 64 characters",
        ));
    }
    if value.expose_secret().len() > 65_536 {
        return Err(No::new(
            "InvalidParameterException",
            "a value has 65536 bytes at most",
        ));
    }
    Ok(())
}

fn open<'w>(
    w: &'w mut EstateWorld,
    id: &str,
    call: &Call<'_>,
) -> Result<&'w mut StoredSecret, PortError> {
    let name = w.secret_name(id).ok_or_else(|| missing(call))?;
    let secret = w.secrets.get_mut(&name).ok_or_else(|| missing(call))?;
    if secret.deleted.is_some() {
        let text = "the secret was marked for deletion";
        return Err(call.no(&No::new("InvalidRequestException", text)));
    }
    Ok(secret)
}

fn missing(call: &Call<'_>) -> PortError {
    let text = "Secrets Manager can't find the specified secret";
    call.no(&No::new("ResourceNotFoundException", text))
}

fn event(
    w: &mut EstateWorld,
    call: &Call<'_>,
    scene: &Scene,
    request: &[(&str, &str)],
) -> Result<(), PortError> {
    let signed = w
        .by_id(&w.operator.key, scene.now)
        .map_err(|no| call.no(&no))?;
    let event = Told {
        action: call.action,
        request,
        made: None,
        error: None,
        hand: Hand::Ours,
    };
    w.record(Some(&signed), &event, scene.now);
    Ok(())
}
