//! The simulated account: IAM, STS and the trail.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::port::{
    AccessKeySeen, Answer, CallerIdentity, Cause, Cloud, LastUsed, NewAccessKey, Page, PortError,
    Principal, PrincipalSeen, ProbeAnswer, ProbeCall, Secret, Session, Signer, TrailEvent,
    TrailQuery, UserSeen,
};

use super::key::{Hand, No, Signed};
use super::policy::{Asked, Verdict, is_document, judge, size};
use super::trail::Told;
use super::world::{Effect, EstateWorld, Member, member_key};
use super::{Call, Scene, SimEstate};

/// Access keys of a user; inactive ones count.
const SLOTS: usize = 2;

#[async_trait]
impl Cloud for SimEstate {
    async fn identity(&self) -> Result<Answer<CallerIdentity>, PortError> {
        let call = Call::look(
            "identity",
            "sts:GetCallerIdentity",
            "ask who we are in",
            "the account",
        );
        self.call(call, |w, scene| {
            let signed = ours(w, &call, scene)?;
            let id = w.members.get(&signed.member).map_or("", |m| m.id.as_str());
            let user_id = match &signed.session {
                Some(session) => format!("{id}:{session}"),
                None => id.to_owned(),
            };
            Ok(scene.answer(CallerIdentity {
                arn: w.signed_arn(&signed),
                account: w.account.clone(),
                user_id,
                access_key_id: signed.key,
            }))
        })
    }

    async fn regions(&self) -> Result<Vec<String>, PortError> {
        let call = Call::look(
            "regions",
            "ec2:DescribeRegions",
            "list regions of",
            "the account",
        );
        self.call(call, |w, _| Ok(w.regions.clone()))
    }

    async fn list_users(&self, page: Option<String>) -> Result<Page<UserSeen>, PortError> {
        let call = Call::look(
            "list_users",
            "iam:ListUsers",
            "list users of",
            "the account",
        );
        self.call(call, |w, _| {
            let of_kind = w.members.iter().filter(|(k, _)| k.starts_with("user/"));
            let users = of_kind
                .map(|(key, m)| user_seen(w, key, m, false))
                .collect();
            Ok(page_of(users, page.as_deref(), w.page_size))
        })
    }

    async fn user(&self, name: &str) -> Result<UserSeen, PortError> {
        let call = Call::look("user", "iam:GetUser", "look at user", name);
        self.call(call, |w, _| {
            let key = format!("user/{name}");
            let member = member(w, &key, &call)?;
            Ok(user_seen(w, &key, member, true))
        })
    }

    async fn list_roles(&self, page: Option<String>) -> Result<Page<(String, String)>, PortError> {
        let call = Call::look(
            "list_roles",
            "iam:ListRoles",
            "list roles of",
            "the account",
        );
        self.call(call, |w, _| {
            let of_kind = w.members.iter().filter(|(k, _)| k.starts_with("role/"));
            let roles = of_kind
                .map(|(key, m)| (m.name.clone(), w.arn(key)))
                .collect();
            Ok(page_of(roles, page.as_deref(), w.page_size))
        })
    }

    async fn access_keys(&self, user: &str) -> Result<Answer<Vec<AccessKeySeen>>, PortError> {
        let call = Call::look(
            "access_keys",
            "iam:ListAccessKeys",
            "list access keys of user",
            user,
        );
        self.call(call, |w, scene| {
            member(w, &format!("user/{user}"), &call)?;
            let keys = w
                .keys
                .iter()
                .filter(|(_, k)| k.user == user && k.unlisted_for == 0);
            let mut seen: Vec<AccessKeySeen> = keys
                .map(|(id, key)| AccessKeySeen {
                    id: id.clone(),
                    active: key.active,
                    created: Some(key.created),
                })
                .collect();
            seen.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
            Ok(scene.answer(seen))
        })
    }

    async fn key_last_used(&self, key: &str) -> Result<LastUsed, PortError> {
        let call = Call::look(
            "key_last_used",
            "iam:GetAccessKeyLastUsed",
            "ask for the last use of key",
            key,
        );
        self.call(call, |w, _| {
            let found = w.keys.get(key).ok_or_else(|| gone(&call, "access key"))?;
            Ok(LastUsed {
                at: found.used,
                service: found.used_at.clone(),
                region: found.used.map(|_| w.region().to_owned()),
            })
        })
    }

    async fn create_access_key(&self, user: &str) -> Result<Answer<NewAccessKey>, PortError> {
        let call = Call::change(
            "create_access_key",
            "iam:CreateAccessKey",
            "create an access key for user",
            user,
        );
        self.call(call, |w, scene| {
            let signed = ours(w, &call, scene)?;
            let id = w
                .make_key(&signed, user, Hand::Ours, scene.now)
                .map_err(|no| call.no(&no))?;
            scene.effect = true;
            let made = w
                .keys
                .get_mut(&id)
                .ok_or_else(|| gone(&call, "access key"))?;
            if let Some((listed, usable)) = scene.hide {
                made.unlisted_for = listed;
                made.unusable_for = usable;
            }
            Ok(scene.answer(NewAccessKey {
                secret: Secret::new(made.secret.0.clone()),
                created: Some(made.created),
                id,
            }))
        })
    }

    async fn set_access_key(
        &self,
        user: &str,
        key: &str,
        active: bool,
    ) -> Result<Answer<()>, PortError> {
        let call = Call::change(
            "set_access_key",
            "iam:UpdateAccessKey",
            "set the status of key",
            key,
        );
        self.call(call, |w, scene| {
            let found = w.keys.get(key).filter(|k| k.user == user);
            let now_active = found.ok_or_else(|| gone(&call, "access key"))?.active;
            if now_active != active {
                let key = key.to_owned();
                scene.commit(w, Effect::SetKey { key, active });
            }
            let status = if active { "Active" } else { "Inactive" };
            let request = [("userName", user), ("accessKeyId", key), ("status", status)];
            told(w, &call, scene, &request, None)?;
            Ok(scene.answer(()))
        })
    }

    async fn delete_access_key(&self, user: &str, key: &str) -> Result<Answer<bool>, PortError> {
        let call = Call::change(
            "delete_access_key",
            "iam:DeleteAccessKey",
            "delete access key",
            key,
        );
        self.call(call, |w, scene| {
            let there = w.keys.get(key).is_some_and(|k| k.user == user);
            if there {
                scene.commit(
                    w,
                    Effect::DeleteKey {
                        key: key.to_owned(),
                    },
                );
                let request = [("userName", user), ("accessKeyId", key)];
                told(w, &call, scene, &request, None)?;
            }
            Ok(scene.answer(there))
        })
    }

    async fn principal(&self, principal: &Principal) -> Result<Answer<PrincipalSeen>, PortError> {
        let key = member_key(principal);
        let call = Call::look("principal", "iam:GetUser", "look at", &key);
        self.call(call, |w, scene| {
            let m = member(w, &key, &call)?;
            let tags = readable(w, "iam:ListUserTags").then(|| m.tags.clone());
            Ok(scene.answer(PrincipalSeen {
                arn: w.arn(&key),
                path: m.path.clone(),
                inline: m.inline.clone(),
                attached: m.attached.clone(),
                trust: m.trust.clone(),
                max_session_s: m.max_session_s,
                mfa: m.mfa.clone(),
                console_password_created: m.console_created,
                console_password_used: m.console_used,
                tags,
            }))
        })
    }

    async fn put_inline_policy(
        &self,
        principal: &Principal,
        name: &str,
        document: &str,
    ) -> Result<Answer<()>, PortError> {
        let key = member_key(principal);
        let action = match principal {
            Principal::User(_) => "iam:PutUserPolicy",
            Principal::Role(_) => "iam:PutRolePolicy",
        };
        let call = Call::change("put_inline_policy", action, "put an inline policy on", &key);
        self.call(call, |w, scene| {
            let m = member(w, &key, &call)?;
            fits(m, name, document).map_err(|no| call.no(&no))?;
            if m.inline.get(name).map(String::as_str) != Some(document) {
                let effect = Effect::PutInline {
                    member: key.clone(),
                    name: name.to_owned(),
                    document: document.to_owned(),
                };
                scene.commit(w, effect);
            }
            let request = [(name_of(principal), principal.name()), ("policyName", name)];
            told(w, &call, scene, &request, None)?;
            Ok(scene.answer(()))
        })
    }

    async fn delete_inline_policy(
        &self,
        principal: &Principal,
        name: &str,
    ) -> Result<Answer<bool>, PortError> {
        let key = member_key(principal);
        let action = match principal {
            Principal::User(_) => "iam:DeleteUserPolicy",
            Principal::Role(_) => "iam:DeleteRolePolicy",
        };
        let call = Call::change(
            "delete_inline_policy",
            action,
            "delete an inline policy of",
            &key,
        );
        self.call(call, |w, scene| {
            let there = w
                .members
                .get(&key)
                .is_some_and(|m| m.inline.contains_key(name));
            if there {
                let effect = Effect::DeleteInline {
                    member: key.clone(),
                    name: name.to_owned(),
                };
                scene.commit(w, effect);
                let request = [(name_of(principal), principal.name()), ("policyName", name)];
                told(w, &call, scene, &request, None)?;
            }
            Ok(scene.answer(there))
        })
    }

    async fn set_trust(&self, role: &str, document: &str) -> Result<Answer<()>, PortError> {
        let key = format!("role/{role}");
        let call = Call::change(
            "set_trust",
            "iam:UpdateAssumeRolePolicy",
            "set the trust policy of",
            &key,
        );
        self.call(call, |w, scene| {
            let m = member(w, &key, &call)?;
            if !is_document(document) {
                return Err(call.no(&No::new("MalformedPolicyDocument", "it is no policy")));
            }
            if size(document) > 2_048 {
                return Err(call.no(&No::new(
                    "LimitExceeded",
                    "a trust policy has 2048 characters",
                )));
            }
            if m.trust.as_deref() != Some(document) {
                let effect = Effect::SetTrust {
                    member: key.clone(),
                    document: document.to_owned(),
                };
                scene.commit(w, effect);
            }
            told(w, &call, scene, &[("roleName", role)], None)?;
            Ok(scene.answer(()))
        })
    }

    async fn simulate(
        &self,
        principal: &str,
        actions: &[String],
        extra: Option<&str>,
    ) -> Result<Vec<String>, PortError> {
        let call = Call::look(
            "simulate",
            "iam:SimulatePrincipalPolicy",
            "simulate policies of",
            principal,
        );
        self.call(call, |w, _| {
            let member = w
                .member_of_arn(principal)
                .ok_or_else(|| gone(&call, "principal"))?;
            let denied = |action: &&String| {
                let asked = Asked {
                    action,
                    resource: "*",
                    context: [("aws:PrincipalArn".to_owned(), w.arn(&member))].into(),
                };
                // Organisation policies are not looked at, as with the real one.
                judge(w.documents(&member).into_iter().chain(extra), &asked) != Verdict::Allowed
            };
            Ok(actions.iter().filter(denied).cloned().collect())
        })
    }

    async fn probe(
        &self,
        signer: &Signer,
        probe: &ProbeCall,
    ) -> Result<Answer<ProbeAnswer>, PortError> {
        let call = Call::look("probe", "probe:Call", "probe with key", &signer.id);
        self.call(call, |w, scene| {
            let signed = w.authenticate(signer, scene.now);
            let answer = signed.and_then(|signed| probed(w, &signed, probe, scene.now));
            Ok(scene.answer(answered(answer)))
        })
    }

    async fn probe_without_secret(
        &self,
        key: &str,
        _region: Option<String>,
    ) -> Result<Answer<ProbeAnswer>, PortError> {
        let call = Call::look("probe_without_secret", "probe:Call", "probe key", key);
        self.call(call, |w, scene| {
            let signer = Signer {
                id: key.to_owned(),
                secret: Secret::new(w.mint_secret().0),
                token: None,
            };
            let answer = w.authenticate(&signer, scene.now).map(|_| None);
            Ok(scene.answer(answered(answer)))
        })
    }

    async fn assume_role(&self, arn: &str, session: &str) -> Result<Answer<Session>, PortError> {
        let call = Call {
            resource: arn,
            ..Call::change("assume_role", "sts:AssumeRole", "assume role", arn)
        };
        self.call(call, |w, scene| {
            let signed = ours(w, &call, scene)?;
            let id = w
                .assume(&signed, arn, session, scene.now)
                .map_err(|no| call.no(&no))?;
            scene.effect = true;
            let request = [("roleArn", arn), ("roleSessionName", session)];
            told(w, &call, scene, &request, Some(&id))?;
            let made = w.by_id(&id, scene.now).map_err(|no| call.no(&no))?;
            let signer = w.signer(&id).ok_or_else(|| gone(&call, "session"))?;
            Ok(scene.answer(Session {
                arn: w.signed_arn(&made),
                expires: w.sessions.get(&id).map(|s| s.expires),
                signer,
            }))
        })
    }

    async fn trail(&self, query: &TrailQuery) -> Result<Page<TrailEvent>, PortError> {
        let call = Call::look(
            "trail",
            "cloudtrail:LookupEvents",
            "search the trail of",
            &query.region,
        );
        self.call(call, |w, scene| Ok(w.look_up(query, scene.now)))
    }
}

impl EstateWorld {
    /// Makes an access key as who signed: slots, then the key, then the event. Rights were asked before.
    pub(super) fn make_key(
        &mut self,
        signed: &Signed,
        user: &str,
        hand: Hand,
        now: DateTime<Utc>,
    ) -> Result<String, No> {
        if !self.members.contains_key(&format!("user/{user}")) {
            return Err(No::new("NoSuchEntity", "there is no such user"));
        }
        if self.keys.values().filter(|k| k.user == user).count() >= SLOTS {
            let text = "Cannot exceed quota for AccessKeysPerUser: 2";
            return Err(No::new("LimitExceeded", text));
        }
        let id = self.add_key(user, now, hand);
        let event = Told {
            action: "iam:CreateAccessKey",
            request: &[("userName", user)],
            made: Some(&id),
            error: None,
            hand,
        };
        self.record(Some(signed), &event, now);
        Ok(id)
    }
}

fn ours(w: &EstateWorld, call: &Call<'_>, scene: &Scene) -> Result<Signed, PortError> {
    w.by_id(&w.operator.key, scene.now)
        .map_err(|no| call.no(&no))
}

fn told(
    w: &mut EstateWorld,
    call: &Call<'_>,
    scene: &Scene,
    request: &[(&str, &str)],
    made: Option<&str>,
) -> Result<(), PortError> {
    let signed = ours(w, call, scene)?;
    let event = Told {
        action: call.action,
        request,
        made,
        error: None,
        hand: Hand::Ours,
    };
    w.record(Some(&signed), &event, scene.now);
    Ok(())
}

/// Makes the probe's call as who signed.
fn probed(
    w: &mut EstateWorld,
    signed: &Signed,
    probe: &ProbeCall,
    now: DateTime<Utc>,
) -> Result<Option<String>, No> {
    let (action, resource) = match probe {
        ProbeCall::CallerIdentity { .. } => ("sts:GetCallerIdentity", "*".to_owned()),
        ProbeCall::ListAccountAliases => ("iam:ListAccountAliases", "*".to_owned()),
        ProbeCall::DescribeSecret(id) => ("secretsmanager:DescribeSecret", w.secret_arn(id)),
        ProbeCall::AssumeRole(arn) => ("sts:AssumeRole", arn.clone()),
    };
    let service = action.split(':').next().unwrap_or_default();
    w.mark_used(&signed.key, service, now);
    let allowed = match probe {
        ProbeCall::AssumeRole(arn) => w.assume(signed, arn, "firebreak-probe", now).map(Some),
        _ => w.authorize(signed, action, &resource, now).map(|()| None),
    };
    let event = Told {
        action,
        request: &[("roleArn", resource.as_str())],
        made: allowed.as_ref().ok().and_then(|m| m.as_deref()),
        error: allowed.as_ref().err().map(|no| no.code),
        hand: Hand::Ours,
    };
    w.record(Some(signed), &event, now);
    allowed?;
    let tells = matches!(probe, ProbeCall::CallerIdentity { .. });
    Ok(tells.then(|| w.signed_arn(signed)))
}

fn answered(answer: Result<Option<String>, No>) -> ProbeAnswer {
    match answer {
        Ok(arn) => ProbeAnswer::Works(arn),
        Err(no) => ProbeAnswer::Refused {
            code: no.code.to_owned(),
            text: no.text,
        },
    }
}

/// An inline policy must be one and fit with the others: user 2,048, role 10,240 characters that are no white space.
fn fits(member: &Member, name: &str, document: &str) -> Result<(), No> {
    if !is_document(document) {
        return Err(No::new("MalformedPolicyDocument", "it is no policy"));
    }
    let limit = if member.trust.is_some() {
        10_240
    } else {
        2_048
    };
    let others = member.inline.iter().filter(|(n, _)| *n != name);
    let total = others.map(|(_, d)| size(d)).sum::<usize>() + size(document);
    if total > limit {
        let text = format!("Maximum policy size of {limit} bytes exceeded");
        return Err(No::new("LimitExceeded", text));
    }
    Ok(())
}

fn member<'w>(w: &'w EstateWorld, key: &str, call: &Call<'_>) -> Result<&'w Member, PortError> {
    w.members.get(key).ok_or_else(|| gone(call, "user or role"))
}

fn gone(call: &Call<'_>, what: &str) -> PortError {
    call.error(
        Cause::NotFound,
        format!("NoSuchEntity: there is no such {what}"),
    )
}

fn name_of(principal: &Principal) -> &'static str {
    match principal {
        Principal::User(_) => "userName",
        Principal::Role(_) => "roleName",
    }
}

fn readable(w: &EstateWorld, action: &str) -> bool {
    !w.missing.contains(action)
}

fn user_seen(w: &EstateWorld, key: &str, m: &Member, whole: bool) -> UserSeen {
    UserSeen {
        name: m.name.clone(),
        arn: w.arn(key),
        path: m.path.clone(),
        tags: (whole && readable(w, "iam:ListUserTags")).then(|| m.tags.clone()),
        groups: (whole && readable(w, "iam:ListGroupsForUser")).then(|| m.groups.clone()),
    }
}

/// One page of a list; the mark is the place of its first item.
pub(super) fn page_of<T>(all: Vec<T>, page: Option<&str>, size: usize) -> Page<T> {
    let from: usize = page.and_then(|p| p.parse().ok()).unwrap_or(0);
    let total = all.len();
    let items: Vec<T> = all.into_iter().skip(from).take(size.max(1)).collect();
    let next = from + items.len();
    Page {
        items,
        next: (next < total).then(|| next.to_string()),
    }
}
