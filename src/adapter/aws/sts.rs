//! Identities, sessions, and probes: calls with somebody's credentials.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_config::Region;
use aws_config::identity::IdentityCache;
use tokio::time::Instant;

use super::classify::Failure;
use super::config::{credentials, no_retries};
use super::connect::Inner;
use super::policy::time;
use super::rate::Service;
use super::wire::{Call, Does, Look, is_loopback};
use crate::port::{
    Answer, CallerIdentity, Cause, PortError, ProbeAnswer, ProbeCall, Secret, Session, Signer,
};

/// STS refuses a good secret for so long after it saw a bad one for the same key id.
const APART: Duration = Duration::from_secs(5);
const TRIED: &str = "probe the credential";

/// Keeps calls with two secrets for one key id apart.
#[derive(Debug, Default)]
pub(super) struct Spacing(Mutex<BTreeMap<String, (bool, Instant)>>);

impl Spacing {
    /// Notes a call for `key`, with its true secret or not; answers how long to wait before it.
    fn book(&self, key: &str, with_secret: bool, now: Instant) -> Duration {
        let mut last = self.0.lock().unwrap_or_else(|e| e.into_inner());
        last.retain(|_, (_, at)| now.saturating_duration_since(*at) < APART);
        let wait = match last.get(key) {
            Some((other, at)) if *other != with_secret => {
                (*at + APART).saturating_duration_since(now)
            }
            _ => Duration::ZERO,
        };
        last.insert(key.to_owned(), (with_secret, now + wait));
        wait
    }
}

impl Inner {
    /// Who we are, and what was seen of the question: the endpoint and the key that it was signed with.
    pub(super) async fn who(&self) -> Result<(Answer<CallerIdentity>, Arc<Look>), PortError> {
        let call = Call::new(
            Service::Sts,
            Does::Read,
            "ask who we are at",
            &self.wire.region,
        );
        let (answer, look) = self
            .wire
            .seen(call, || self.sts.get_caller_identity().send())
            .await?;
        let access_key_id = look.access_key().unwrap_or_default();
        let identity = answer.map(|out| CallerIdentity {
            arn: out.arn.unwrap_or_default(),
            account: out.account.unwrap_or_default(),
            user_id: out.user_id.unwrap_or_default(),
            access_key_id,
        });
        Ok((identity, look))
    }

    pub(super) async fn regions(&self) -> Result<Vec<String>, PortError> {
        let own = &self.wire.region;
        let mut all = if self.regions.is_empty() {
            self.enabled_regions().await?
        } else {
            self.regions.clone()
        };
        all.retain(|r| r != own);
        all.insert(0, own.clone());
        Ok(all)
    }

    async fn enabled_regions(&self) -> Result<Vec<String>, PortError> {
        use aws_sdk_account::types::RegionOptStatus::{Enabled, EnabledByDefault};
        let (mut all, mut page) = (Vec::new(), None);
        loop {
            let call = Call::new(
                Service::Account,
                Does::Read,
                "list the regions of",
                "the account",
            );
            let request = self.account.list_regions().max_results(50);
            let request =
                request.set_region_opt_status_contains(Some(vec![Enabled, EnabledByDefault]));
            let make = || request.clone().set_next_token(page.clone()).send();
            let answer = self.wire.call(call, make).await;
            let out = answer.map_err(|mut e| {
                e.detail
                    .push_str("; allow `account:ListRegions`, or name the regions to work in");
                e
            })?;
            let names = out.value.regions().iter().filter_map(|r| r.region_name());
            all.extend(names.map(str::to_owned));
            page = out.value.next_token;
            if page.is_none() {
                return Ok(all);
            }
        }
    }

    pub(super) async fn assume_role(
        &self,
        arn: &str,
        session: &str,
    ) -> Result<Answer<Session>, PortError> {
        let tried = "assume the role";
        let call = Call::new(Service::Sts, Does::Issue, tried, arn);
        let request = self
            .sts
            .assume_role()
            .role_arn(arn)
            .role_session_name(session);
        let answer = self.wire.call(call, || request.clone().send()).await?;
        let (request_id, server_date) = (answer.request_id, answer.server_date);
        let missing = || {
            PortError::new(
                Cause::Unreadable,
                tried,
                arn,
                "the answer has no credentials",
            )
        };
        let given = answer.value.credentials.ok_or_else(missing)?;
        let user = answer.value.assumed_role_user;
        Ok(Answer {
            value: Session {
                expires: time(given.expiration()),
                signer: Signer {
                    id: given.access_key_id,
                    secret: Secret::new(given.secret_access_key),
                    token: Some(Secret::new(given.session_token)),
                },
                arn: user.map(|u| u.arn).unwrap_or_default(),
            },
            request_id,
            server_date,
        })
    }

    pub(super) async fn probe(
        &self,
        signer: &Signer,
        call: &ProbeCall,
    ) -> Result<Answer<ProbeAnswer>, PortError> {
        self.apart(&signer.id, true).await;
        self.probe_with(signer, call).await
    }

    pub(super) async fn probe_without_secret(
        &self,
        key: &str,
        region: Option<String>,
    ) -> Result<Answer<ProbeAnswer>, PortError> {
        // A temporary key without its token is refused as unknown, alive or dead: the answer would prove nothing.
        if key.starts_with("ASIA") {
            let detail =
                "it is a temporary key, and without its token the answer says nothing about it";
            return Err(PortError::new(Cause::Unsupported, TRIED, key, detail));
        }
        self.apart(key, false).await;
        let signer = Signer {
            id: key.to_owned(),
            secret: random_secret()?,
            token: None,
        };
        self.probe_with(&signer, &ProbeCall::CallerIdentity { region })
            .await
    }

    async fn apart(&self, key: &str, with_secret: bool) {
        let wait = self.spacing.book(key, with_secret, Instant::now());
        let own_server = self.sdk.endpoint_url().is_some_and(is_loopback);
        if !own_server && !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    async fn probe_with(
        &self,
        signer: &Signer,
        call: &ProbeCall,
    ) -> Result<Answer<ProbeAnswer>, PortError> {
        let probe = |service| Call::new(service, Does::Probe, TRIED, &signer.id);
        let outcome = match call {
            ProbeCall::CallerIdentity { region } => {
                let client = self.sts_as(signer, region.as_deref());
                let call = probe(Service::Sts).in_region(region.as_deref());
                let made = self
                    .wire
                    .try_call(call, || client.get_caller_identity().send());
                made.await.map(|a| a.map(|out| out.arn))
            }
            ProbeCall::ListAccountAliases => {
                let client = self.iam_as(signer);
                let made = self
                    .wire
                    .try_call(probe(Service::Iam), || client.list_account_aliases().send());
                made.await.map(|a| a.map(|_| None))
            }
            ProbeCall::DescribeSecret(id) => {
                let client = self.secrets_as(signer);
                let make = || client.describe_secret().secret_id(id).send();
                let made = self.wire.try_call(probe(Service::SecretsManager), make);
                made.await.map(|a| a.map(|out| out.arn))
            }
            ProbeCall::AssumeRole(arn) => {
                let client = self.sts_as(signer, None);
                let session = super::config::session_name(&self.run);
                let request = client
                    .assume_role()
                    .role_arn(arn)
                    .role_session_name(session);
                let made = self
                    .wire
                    .try_call(probe(Service::Sts), || request.clone().send());
                made.await
                    .map(|a| a.map(|out| out.assumed_role_user.map(|u| u.arn)))
            }
        };
        answer(outcome)
    }

    fn sts_as(&self, signer: &Signer, region: Option<&str>) -> aws_sdk_sts::Client {
        let region = region.unwrap_or(&self.wire.region).to_owned();
        let config = aws_sdk_sts::config::Builder::from(&self.sdk)
            .region(Region::new(region))
            .credentials_provider(credentials(signer))
            .identity_cache(IdentityCache::no_cache())
            .retry_config(no_retries())
            .interceptor(self.watch);
        aws_sdk_sts::Client::from_conf(config.build())
    }

    fn iam_as(&self, signer: &Signer) -> aws_sdk_iam::Client {
        let config = aws_sdk_iam::config::Builder::from(&self.sdk)
            .credentials_provider(credentials(signer))
            .identity_cache(IdentityCache::no_cache())
            .retry_config(no_retries())
            .interceptor(self.watch);
        aws_sdk_iam::Client::from_conf(config.build())
    }

    fn secrets_as(&self, signer: &Signer) -> aws_sdk_secretsmanager::Client {
        let config = aws_sdk_secretsmanager::config::Builder::from(&self.sdk)
            .credentials_provider(credentials(signer))
            .identity_cache(IdentityCache::no_cache())
            .retry_config(no_retries())
            .interceptor(self.watch);
        aws_sdk_secretsmanager::Client::from_conf(config.build())
    }
}

/// A refusal is an answer. A refusal because of a wrong clock is not: it would be read as a dead credential.
fn answer(
    outcome: Result<Answer<Option<String>>, Failure>,
) -> Result<Answer<ProbeAnswer>, PortError> {
    match outcome {
        Ok(answer) => Ok(answer.map(ProbeAnswer::Works)),
        Err(f) if f.is_clock() => Err(PortError {
            cause: Cause::Local,
            ..f.error
        }),
        Err(f) if f.is_refusal() => Ok(Answer {
            value: ProbeAnswer::Refused {
                code: f.code.unwrap_or_default(),
                text: f.text,
            },
            request_id: f.request_id,
            server_date: f.server_date,
        }),
        Err(f) => Err(f.error),
    }
}

/// Forty characters that nobody has as a secret.
fn random_secret() -> Result<Secret, PortError> {
    use base64::Engine as _;
    let mut bytes = [0; 30];
    getrandom::fill(&mut bytes)
        .map_err(|e| PortError::new(Cause::Local, TRIED, "this host", e.to_string()))?;
    Ok(Secret::new(
        base64::engine::general_purpose::STANDARD.encode(bytes),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_secrets_for_one_key_id_are_kept_apart() {
        let spacing = Spacing::default();
        let now = Instant::now();
        assert_eq!(spacing.book("AKIA1", true, now), Duration::ZERO);
        assert_eq!(spacing.book("AKIA1", true, now), Duration::ZERO);
        assert_eq!(spacing.book("AKIA2", false, now), Duration::ZERO);
        let soon = now + Duration::from_secs(2);
        assert_eq!(spacing.book("AKIA1", false, soon), Duration::from_secs(3));
        // The other way round it counts from when that call is made.
        assert_eq!(spacing.book("AKIA1", true, soon), Duration::from_secs(8));
        let later = now + Duration::from_secs(60);
        assert_eq!(spacing.book("AKIA1", false, later), Duration::ZERO);
    }

    #[test]
    fn a_wrong_clock_proves_no_credential_dead() {
        let failure = |text: &str| Failure {
            error: PortError::new(Cause::Refused, TRIED, "AKIA1", text),
            code: Some("SignatureDoesNotMatch".into()),
            text: text.into(),
            request_id: None,
            server_date: None,
        };
        let e = answer(Err(failure(
            "Signature expired: 20261125 is now earlier than",
        )));
        assert_eq!(e.expect_err("no answer").cause, Cause::Local);
        let refused = answer(Err(failure("The request signature does not match"))).expect("told");
        assert!(matches!(refused.value, ProbeAnswer::Refused { .. }));
    }

    #[test]
    fn random_secrets_look_like_secrets_and_differ() {
        let (a, b) = (
            random_secret().expect("random"),
            random_secret().expect("random"),
        );
        assert_eq!(a.expose_secret().len(), 40);
        assert!(!a.same_as(&b));
    }
}
