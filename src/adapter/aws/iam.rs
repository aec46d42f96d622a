//! Users, access keys, policies.

use std::collections::BTreeMap;

use aws_sdk_iam::types::{StatusType, Tag};

use super::classify::Failure;
use super::connect::Inner;
use super::policy::{decoded, said, time};
use super::rate::Service;
use super::wire::{Call, Does};
use crate::port::{
    AccessKeySeen, Answer, Cause, LastUsed, NewAccessKey, Page, PortError, Principal,
    PrincipalSeen, Secret, UserSeen,
};

/// A list that never ends is cut here: no principal has so many of anything.
const PAGES: usize = 100;

fn iam<'a>(does: Does, tried: &'static str, on: &'a str) -> Call<'a> {
    Call::new(Service::Iam, does, tried, on)
}

fn unreadable(tried: &'static str, on: &str, missing: &str) -> PortError {
    PortError::new(
        Cause::Unreadable,
        tried,
        on,
        format!("the answer has no {missing}"),
    )
}

fn tags(all: &[Tag]) -> BTreeMap<String, String> {
    all.iter()
        .map(|t| (t.key().to_owned(), t.value().to_owned()))
        .collect()
}

/// `true` when done, `false` when it was gone already.
fn done_or_gone<T>(result: Result<Answer<T>, Failure>) -> Result<Answer<bool>, PortError> {
    match result {
        Ok(answer) => Ok(answer.map(|_| true)),
        Err(f) if f.error.cause == Cause::NotFound => Ok(Answer {
            value: false,
            request_id: f.request_id,
            server_date: f.server_date,
        }),
        Err(f) => Err(f.error),
    }
}

impl Inner {
    pub(super) async fn list_users(
        &self,
        page: Option<String>,
    ) -> Result<Page<UserSeen>, PortError> {
        let call = iam(Does::Read, "list the users of", "the account");
        let make = || self.iam.list_users().set_marker(page.clone()).send();
        let out = self.wire.call(call, make).await?.value;
        let items = out.users().iter().map(|u| UserSeen {
            name: u.user_name().to_owned(),
            arn: u.arn().to_owned(),
            path: u.path().to_owned(),
            tags: None,
            groups: None,
        });
        Ok(Page {
            items: items.collect(),
            next: out.marker.filter(|_| out.is_truncated),
        })
    }

    pub(super) async fn user(&self, name: &str) -> Result<UserSeen, PortError> {
        let tried = "look at user";
        let make = || self.iam.get_user().user_name(name).send();
        let out = self.wire.call(iam(Does::Read, tried, name), make).await?;
        let user = out
            .value
            .user
            .ok_or_else(|| unreadable(tried, name, "user"))?;
        let groups = match self.groups(name).await {
            Ok(groups) => Some(groups),
            Err(e) if e.cause == Cause::Refused => None,
            Err(e) => return Err(e),
        };
        Ok(UserSeen {
            name: user.user_name().to_owned(),
            arn: user.arn().to_owned(),
            path: user.path().to_owned(),
            tags: Some(tags(user.tags())),
            groups,
        })
    }

    async fn groups(&self, user: &str) -> Result<Vec<String>, PortError> {
        let (mut all, mut marker) = (Vec::new(), None);
        for _ in 0..PAGES {
            let call = iam(Does::Read, "list the groups of user", user);
            let request = self.iam.list_groups_for_user().user_name(user);
            let make = || request.clone().set_marker(marker.clone()).send();
            let out = self.wire.call(call, make).await?.value;
            all.extend(out.groups().iter().map(|g| g.group_name().to_owned()));
            marker = out.marker.filter(|_| out.is_truncated);
            if marker.is_none() {
                break;
            }
        }
        Ok(all)
    }

    pub(super) async fn list_roles(
        &self,
        page: Option<String>,
    ) -> Result<Page<(String, String)>, PortError> {
        let call = iam(Does::Read, "list the roles of", "the account");
        let make = || self.iam.list_roles().set_marker(page.clone()).send();
        let out = self.wire.call(call, make).await?.value;
        let items = out
            .roles()
            .iter()
            .map(|r| (r.role_name().to_owned(), r.arn().to_owned()));
        Ok(Page {
            items: items.collect(),
            next: out.marker.filter(|_| out.is_truncated),
        })
    }

    pub(super) async fn access_keys(
        &self,
        user: &str,
    ) -> Result<Answer<Vec<AccessKeySeen>>, PortError> {
        let (mut all, mut marker) = (Vec::new(), None);
        loop {
            let call = iam(Does::Read, "list the access keys of user", user);
            let request = self.iam.list_access_keys().user_name(user);
            let make = || request.clone().set_marker(marker.clone()).send();
            let answer = self.wire.call(call, make).await?;
            let out = &answer.value;
            for key in out.access_key_metadata() {
                let id = key.access_key_id().unwrap_or_default();
                all.push(AccessKeySeen {
                    id: id.to_owned(),
                    // What is neither Active nor Inactive is not known to be off.
                    active: key.status() != Some(&StatusType::Inactive),
                    created: key.create_date().and_then(time),
                });
            }
            marker = out.marker.clone().filter(|_| out.is_truncated);
            if marker.is_none() || all.len() > PAGES {
                return Ok(answer.map(|_| all));
            }
        }
    }

    pub(super) async fn key_last_used(&self, key: &str) -> Result<LastUsed, PortError> {
        let tried = "ask when it was used last: access key";
        let make = || {
            self.iam
                .get_access_key_last_used()
                .access_key_id(key)
                .send()
        };
        let out = self.wire.call(iam(Does::Read, tried, key), make).await?;
        let used = out
            .value
            .access_key_last_used
            .ok_or_else(|| unreadable(tried, key, "last use"))?;
        Ok(LastUsed {
            at: used.last_used_date().and_then(time),
            service: said(used.service_name()),
            region: said(used.region()),
        })
    }

    pub(super) async fn create_access_key(
        &self,
        user: &str,
    ) -> Result<Answer<NewAccessKey>, PortError> {
        let tried = "make an access key for user";
        let make = || self.iam.create_access_key().user_name(user).send();
        let answer = self.wire.call(iam(Does::Issue, tried, user), make).await?;
        let (request_id, server_date) = (answer.request_id, answer.server_date);
        let key = answer
            .value
            .access_key
            .filter(|k| !k.access_key_id.is_empty() && !k.secret_access_key.is_empty())
            .ok_or_else(|| unreadable(tried, user, "key"))?;
        Ok(Answer {
            value: NewAccessKey {
                created: key.create_date().and_then(time),
                id: key.access_key_id,
                secret: Secret::new(key.secret_access_key),
            },
            request_id,
            server_date,
        })
    }

    pub(super) async fn set_access_key(
        &self,
        user: &str,
        key: &str,
        active: bool,
    ) -> Result<Answer<()>, PortError> {
        let (status, does, tried) = if active {
            (StatusType::Active, Does::Issue, "set Active the access key")
        } else {
            (
                StatusType::Inactive,
                Does::Kill,
                "set Inactive the access key",
            )
        };
        let request = self.iam.update_access_key().user_name(user);
        let request = request.access_key_id(key).status(status);
        let make = || request.clone().send();
        let answer = self.wire.call(iam(does, tried, key), make).await?;
        Ok(answer.map(|_| ()))
    }

    pub(super) async fn delete_access_key(
        &self,
        user: &str,
        key: &str,
    ) -> Result<Answer<bool>, PortError> {
        let call = iam(Does::Issue, "delete the access key", key);
        let request = self.iam.delete_access_key().user_name(user);
        let make = || request.clone().access_key_id(key).send();
        done_or_gone(self.wire.try_call(call, make).await)
    }

    pub(super) async fn principal(
        &self,
        principal: &Principal,
    ) -> Result<Answer<PrincipalSeen>, PortError> {
        match principal {
            Principal::User(name) => self.user_principal(name).await,
            Principal::Role(name) => self.role_principal(name).await,
        }
    }

    async fn user_principal(&self, name: &str) -> Result<Answer<PrincipalSeen>, PortError> {
        let tried = "look at user";
        let make = || self.iam.get_user().user_name(name).send();
        let mut answer = self.wire.call(iam(Does::Read, tried, name), make).await?;
        let user = answer
            .value
            .user
            .take()
            .ok_or_else(|| unreadable(tried, name, "user"))?;
        let principal = Principal::User(name.to_owned());
        let seen = PrincipalSeen {
            arn: user.arn().to_owned(),
            path: user.path().to_owned(),
            inline: self.inline(&principal).await?,
            attached: self.attached(&principal).await?,
            trust: None,
            max_session_s: None,
            mfa: self.mfa(name).await?,
            console_password_created: self.login_profile(name).await?,
            console_password_used: user.password_last_used().and_then(time),
            tags: Some(tags(user.tags())),
        };
        Ok(answer.map(|_| seen))
    }

    async fn role_principal(&self, name: &str) -> Result<Answer<PrincipalSeen>, PortError> {
        let tried = "look at role";
        let make = || self.iam.get_role().role_name(name).send();
        let mut answer = self.wire.call(iam(Does::Read, tried, name), make).await?;
        let role = answer
            .value
            .role
            .take()
            .ok_or_else(|| unreadable(tried, name, "role"))?;
        let principal = Principal::Role(name.to_owned());
        let seen = PrincipalSeen {
            arn: role.arn().to_owned(),
            path: role.path().to_owned(),
            inline: self.inline(&principal).await?,
            attached: self.attached(&principal).await?,
            trust: role.assume_role_policy_document().map(decoded),
            max_session_s: role
                .max_session_duration()
                .and_then(|s| u64::try_from(s).ok()),
            mfa: Vec::new(),
            console_password_created: None,
            console_password_used: None,
            tags: Some(tags(role.tags())),
        };
        Ok(answer.map(|_| seen))
    }

    /// Names of inline policies, then each document. One that vanishes in between is gone.
    async fn inline(&self, principal: &Principal) -> Result<BTreeMap<String, String>, PortError> {
        let mut documents = BTreeMap::new();
        for name in self.inline_names(principal).await? {
            if let Some(text) = self.inline_document(principal, &name).await? {
                documents.insert(name, decoded(&text));
            }
        }
        Ok(documents)
    }

    async fn inline_names(&self, principal: &Principal) -> Result<Vec<String>, PortError> {
        let (mut all, mut marker) = (Vec::new(), None);
        for _ in 0..PAGES {
            let call = iam(Does::Read, "list the inline policies of", principal.name());
            let (names, next) = match principal {
                Principal::User(name) => {
                    let request = self.iam.list_user_policies().user_name(name);
                    let make = || request.clone().set_marker(marker.clone()).send();
                    let out = self.wire.call(call, make).await?.value;
                    (out.policy_names, out.marker.filter(|_| out.is_truncated))
                }
                Principal::Role(name) => {
                    let request = self.iam.list_role_policies().role_name(name);
                    let make = || request.clone().set_marker(marker.clone()).send();
                    let out = self.wire.call(call, make).await?.value;
                    (out.policy_names, out.marker.filter(|_| out.is_truncated))
                }
            };
            all.extend(names);
            marker = next;
            if marker.is_none() {
                break;
            }
        }
        Ok(all)
    }

    async fn inline_document(
        &self,
        principal: &Principal,
        policy: &str,
    ) -> Result<Option<String>, PortError> {
        let call = iam(Does::Read, "read the inline policy", policy);
        let read = match principal {
            Principal::User(name) => {
                let request = self.iam.get_user_policy().user_name(name);
                let make = || request.clone().policy_name(policy).send();
                let out = self.wire.call(call, make).await;
                out.map(|a| Some(a.value.policy_document))
            }
            Principal::Role(name) => {
                let request = self.iam.get_role_policy().role_name(name);
                let make = || request.clone().policy_name(policy).send();
                let out = self.wire.call(call, make).await;
                out.map(|a| Some(a.value.policy_document))
            }
        };
        present(read)
    }

    async fn attached(&self, principal: &Principal) -> Result<Vec<String>, PortError> {
        let (mut all, mut marker) = (Vec::new(), None);
        for _ in 0..PAGES {
            let call = iam(Does::Read, "list the managed policies of", principal.name());
            let (policies, next) = match principal {
                Principal::User(name) => {
                    let request = self.iam.list_attached_user_policies().user_name(name);
                    let make = || request.clone().set_marker(marker.clone()).send();
                    let out = self.wire.call(call, make).await?.value;
                    (
                        out.attached_policies,
                        out.marker.filter(|_| out.is_truncated),
                    )
                }
                Principal::Role(name) => {
                    let request = self.iam.list_attached_role_policies().role_name(name);
                    let make = || request.clone().set_marker(marker.clone()).send();
                    let out = self.wire.call(call, make).await?.value;
                    (
                        out.attached_policies,
                        out.marker.filter(|_| out.is_truncated),
                    )
                }
            };
            let arns = policies.unwrap_or_default();
            all.extend(arns.into_iter().filter_map(|p| p.policy_arn));
            marker = next;
            if marker.is_none() {
                break;
            }
        }
        Ok(all)
    }

    async fn mfa(&self, user: &str) -> Result<Vec<String>, PortError> {
        let call = iam(Does::Read, "list the MFA devices of user", user);
        let make = || self.iam.list_mfa_devices().user_name(user).send();
        let out = self.wire.call(call, make).await?.value;
        let all = out.mfa_devices().iter();
        Ok(all.map(|d| d.serial_number().to_owned()).collect())
    }

    async fn login_profile(
        &self,
        user: &str,
    ) -> Result<Option<chrono::DateTime<chrono::Utc>>, PortError> {
        let call = iam(Does::Read, "look at the console password of user", user);
        let make = || self.iam.get_login_profile().user_name(user).send();
        let out = present(self.wire.call(call, make).await.map(Some))?;
        let profile = out.and_then(|a| a.value.login_profile);
        // A profile without a date is a password all the same.
        Ok(profile.map(|p| time(p.create_date()).unwrap_or_default()))
    }

    pub(super) async fn put_inline_policy(
        &self,
        principal: &Principal,
        name: &str,
        document: &str,
    ) -> Result<Answer<()>, PortError> {
        let call = iam(Does::Kill, "put an inline policy on", principal.name());
        match principal {
            Principal::User(user) => {
                let request = self.iam.put_user_policy().user_name(user);
                let request = request.policy_name(name).policy_document(document);
                let answer = self.wire.call(call, || request.clone().send()).await?;
                Ok(answer.map(|_| ()))
            }
            Principal::Role(role) => {
                let request = self.iam.put_role_policy().role_name(role);
                let request = request.policy_name(name).policy_document(document);
                let answer = self.wire.call(call, || request.clone().send()).await?;
                Ok(answer.map(|_| ()))
            }
        }
    }

    pub(super) async fn delete_inline_policy(
        &self,
        principal: &Principal,
        name: &str,
    ) -> Result<Answer<bool>, PortError> {
        let call = iam(Does::Issue, "remove an inline policy of", principal.name());
        match principal {
            Principal::User(user) => {
                let request = self.iam.delete_user_policy().user_name(user);
                let make = || request.clone().policy_name(name).send();
                done_or_gone(self.wire.try_call(call, make).await)
            }
            Principal::Role(role) => {
                let request = self.iam.delete_role_policy().role_name(role);
                let make = || request.clone().policy_name(name).send();
                done_or_gone(self.wire.try_call(call, make).await)
            }
        }
    }

    pub(super) async fn set_trust(
        &self,
        role: &str,
        document: &str,
    ) -> Result<Answer<()>, PortError> {
        let call = iam(Does::Kill, "replace the trust policy of role", role);
        let request = self.iam.update_assume_role_policy().role_name(role);
        let make = || request.clone().policy_document(document).send();
        Ok(self.wire.call(call, make).await?.map(|_| ()))
    }

    pub(super) async fn simulate(
        &self,
        principal: &str,
        actions: &[String],
        extra: Option<&str>,
    ) -> Result<Vec<String>, PortError> {
        let source = self.policy_source(principal).await?;
        let (mut denied, mut marker) = (Vec::new(), None);
        for _ in 0..PAGES {
            let call = iam(Does::Read, "simulate the policies of", principal);
            let request = self
                .iam
                .simulate_principal_policy()
                .policy_source_arn(&source)
                .set_action_names(Some(actions.to_vec()))
                .set_policy_input_list(extra.map(|d| vec![d.to_owned()]));
            let make = || request.clone().set_marker(marker.clone()).send();
            let out = self.wire.call(call, make).await?.value;
            let results = out.evaluation_results().iter();
            denied.extend(
                results
                    .filter(|r| r.eval_decision().as_str() != "allowed")
                    .map(|r| r.eval_action_name().to_owned()),
            );
            marker = out.marker.filter(|_| out.is_truncated);
            if marker.is_none() {
                break;
            }
        }
        Ok(denied)
    }

    /// Policies belong to roles, not to their sessions: `…:assumed-role/name/session` is looked up, since it does not tell the role's path.
    async fn policy_source(&self, principal: &str) -> Result<String, PortError> {
        let Some((_, rest)) = principal.split_once(":assumed-role/") else {
            return Ok(principal.to_owned());
        };
        let role = rest.split('/').next().unwrap_or(rest);
        let tried = "look at role";
        let make = || self.iam.get_role().role_name(role).send();
        let out = self.wire.call(iam(Does::Read, tried, role), make).await?;
        let role_seen = out
            .value
            .role
            .ok_or_else(|| unreadable(tried, role, "role"))?;
        Ok(role_seen.arn)
    }
}

/// `None` where it is not there.
fn present<T>(read: Result<Option<T>, PortError>) -> Result<Option<T>, PortError> {
    match read {
        Err(e) if e.cause == Cause::NotFound => Ok(None),
        other => other,
    }
}
