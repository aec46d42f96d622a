//! Which credentials are meant: what is read for it, the hand-over of containments, the sets that only the trail knows.

use std::collections::BTreeSet;

use crate::action::ActionError;
use crate::condition::{Condition, Sets};
use crate::incident::body::Credentials;
use crate::incident::kind;
use crate::rotation::chain::{Ask, Reached};
use crate::rotation::guards::{self, KeyUse};
use crate::rotation::inventory::{Credential, Fact};
use crate::rotation::plan::Excluded;
use crate::rotation::select::{self, CHAIN, Judged, OnUnknown, TOUCHED_BY, Wanted};
use crate::rotation::words::CredentialKind;

use super::contents::Contents;
use super::gather::{self, Scope, Stored, UserKeys};
use super::holders::Holders;
use super::planner::{Member, Planner, refuse};
use super::walk;

impl Planner<'_> {
    /// What is meant: the expression that the arguments stand for, judged over what there is.
    pub(super) async fn select(&mut self) -> Result<(Vec<Member>, String), ActionError> {
        let handed = self.handed_over()?;
        let mut wanted = self.args.wanted();
        self.read(&wanted, &handed).await?;
        self.resolve_names(&mut wanted)?;
        if self.args.handover {
            wanted.handover = Some(self.handover_ids(&handed));
        }
        let Some((text, mut sets)) = wanted.stands_for() else {
            return Err(refuse(
                "FB3030",
                "nothing is selected: give an expression, names, or the hand-over of a containment",
            ));
        };
        let condition = select::read(&text).map_err(|why| refuse("FB3030", why))?;
        self.trail_sets(&condition, &mut sets).await;
        let all = self.inventory();
        let judged = select::judge(&condition, &all, &sets, self.now);
        let mut members = self.decide(all, judged)?;
        self.tags_of(&mut members).await?;
        let members = self.spare(members)?;
        if members.is_empty() && !self.args.allow_empty {
            return Err(refuse("FB3032", format!("nothing is selected by {text}"))
                .hint("see what there is: firebreak rotate select \"true\""));
        }
        Ok((members, text))
    }

    /// Reads what the selection may be about.
    async fn read(&mut self, wanted: &Wanted, handed: &[Credentials]) -> Result<(), ActionError> {
        let asked = match &wanted.expression {
            Some(text) => Some(select::read(text).map_err(|why| refuse("FB3030", why))?),
            None => None,
        };
        let kinds = asked
            .as_ref()
            .map_or_else(BTreeSet::new, |c| select::kinds_of(c, &Sets::new()));
        let filtered = !wanted.only_named() && asked.is_none();
        let inner = !wanted.secrets.is_empty() || self.args.handover;
        let open = |k: CredentialKind| filtered || kinds.contains(&k);
        let names = |name: &str| asked.as_ref().is_some_and(|c| c.names().contains_key(name));
        let all_users = open(CredentialKind::IamAccessKey) || inner || !wanted.keys.is_empty();
        if all_users || !wanted.users.is_empty() {
            let scope = Scope {
                users: (!all_users).then_some(&wanted.users),
                details: names("tags") || names("groups") || !wanted.tags.is_empty(),
                uses: names("last_used"),
            };
            self.users = gather::users(self.cx, &self.estate, &scope).await?;
        }
        if open(CredentialKind::IamRoleSessions) || !wanted.roles.is_empty() || self.args.handover {
            self.roles = gather::roles(&self.estate).await?;
            if names("tags") || !wanted.tags.is_empty() {
                self.role_tags = gather::role_tags(&self.estate, &self.roles).await?;
            }
        }
        let look_inside = !self.args.skip_values;
        if look_inside
            || inner
            || open(CredentialKind::PgPassword)
            || open(CredentialKind::SmSecret)
        {
            let canaries = self.canaries();
            self.secrets = gather::secrets(self.cx, &self.estate, &canaries, look_inside).await?;
        }
        let only = self.args.namespaces.iter().cloned().collect();
        self.holders = Holders::read(self.cx, &self.estate, &only).await?;
        self.holders.also(&self.estate, handed).await?;
        self.warnings.extend(self.holders.unread.iter().cloned());
        Ok(())
    }

    pub(super) fn canaries(&self) -> BTreeSet<String> {
        let of_map = self.map.iter().flat_map(|m| &m.canaries);
        of_map.chain(&self.args.canaries).cloned().collect()
    }

    /// What is named one by one must be there. Roles and secrets may be named by ARN.
    fn resolve_names(&self, wanted: &mut Wanted) -> Result<(), ActionError> {
        let missing = |what: &str, name: &str| {
            refuse(
                "FB3036",
                format!("there is no {what} `{name}` in account {}", self.me.account),
            )
            .hint("check the name, and the account: firebreak doctor")
        };
        for user in &wanted.users {
            if !self.users.iter().any(|u| u.user.name == *user) {
                return Err(missing("user", user));
            }
        }
        for key in &wanted.keys {
            let mut all = self
                .users
                .iter()
                .filter_map(|u| u.keys.as_ref().ok())
                .flatten();
            if !all.any(|k| k.key.id == *key) {
                return Err(missing("access key", key));
            }
        }
        let mut roles = BTreeSet::new();
        for role in &wanted.roles {
            let found = self
                .roles
                .iter()
                .find(|(name, arn)| *name == role || *arn == role);
            roles.insert(found.ok_or_else(|| missing("role", role))?.0.clone());
        }
        wanted.roles = roles;
        let mut secrets = BTreeSet::new();
        for secret in &wanted.secrets {
            let found = self
                .secrets
                .iter()
                .find(|s| s.seen.name == *secret || s.seen.arn == *secret);
            let found = found.ok_or_else(|| missing("secret", secret))?;
            // What only keeps a user's key stands for that key.
            secrets.insert(match &found.contents {
                Ok(Contents::Key { id, .. }) if self.knows_key(id) => id.clone(),
                _ => found.seen.arn.clone(),
            });
        }
        wanted.secrets = secrets;
        Ok(())
    }

    /// What containments listed of their pods.
    fn handed_over(&self) -> Result<Vec<Credentials>, ActionError> {
        if !self.args.handover {
            return Ok(Vec::new());
        }
        let history = self.cx.ledger.history()?;
        let all = history.bodies::<Credentials>(kind::CREDENTIALS_LISTED);
        Ok(all.map(|(_, c)| c).collect())
    }

    /// Ids of what the contained pods could use: the credential inside each Secret, and the role. What is not recognised is said.
    fn handover_ids(&mut self, handed: &[Credentials]) -> BTreeSet<String> {
        let mut ids = BTreeSet::new();
        let mut places = BTreeSet::new();
        let mut strangers = Vec::new();
        for pod in handed {
            places.extend(
                pod.secrets
                    .keys()
                    .map(|s| format!("{}/{s}", pod.pod.namespace)),
            );
            let Some(arn) = &pod.role_arn else { continue };
            match self.roles.values().find(|known| *known == arn) {
                Some(known) => _ = ids.insert(known.clone()),
                None => self.residual.push(format!(
                    "{arn}: no role of this account; revoke its sessions where it is"
                )),
            }
        }
        let accounts: BTreeSet<String> = handed
            .iter()
            .map(|pod| format!("{}/{}", pod.pod.namespace, pod.service_account))
            .collect();
        self.residual.extend(accounts.iter().map(|a| {
            format!("service account {a}: a pod's token dies with the pod; what the cluster lets the account do is not changed")
        }));
        for place in places {
            match self.inside(&place) {
                None => self.residual.push(format!("Secret {place} was not read: what is in it is not known")),
                Some(inside) if inside.is_empty() => self.residual.push(format!("Secret {place}: nothing in it is a credential that this version rotates; look at it")),
                Some(inside) => ids.extend(inside),
            }
        }
        ids.retain(|id| {
            let foreign = id.starts_with("AKIA") && !self.knows_key(id);
            if foreign {
                strangers.push(format!(
                    "access key {id} belongs to no user of this account: tell its owner"
                ));
            }
            !foreign
        });
        self.residual.append(&mut strangers);
        ids
    }

    /// What could not be read of the tags that mark emergency access is read now, for members only.
    async fn tags_of(&mut self, members: &mut [Member]) -> Result<(), ActionError> {
        let unread = |m: &Member| {
            m.credential.kind == CredentialKind::IamAccessKey
                && matches!(m.credential.tags, Fact::Unknown(_))
        };
        let names: BTreeSet<String> = members
            .iter()
            .filter(|m| unread(m))
            .map(|m| m.credential.name.clone())
            .collect();
        let tags = gather::user_tags(&self.estate, names).await?;
        for member in members.iter_mut().filter(|m| unread(m)) {
            match tags.get(&member.credential.name) {
                Some(Ok(tags)) => member.credential.tags = Fact::Known(tags.clone()),
                Some(Err(why)) => self.warnings.push(format!(
                    "whether {} is marked as emergency access is not known: {why}",
                    member.credential.name
                )),
                None => {}
            }
        }
        Ok(())
    }

    /// Ids of the credentials in a Kubernetes Secret; `None` = it was not read.
    fn inside(&self, place: &str) -> Option<Vec<String>> {
        let secret = self
            .holders
            .secrets
            .iter()
            .find(|s| Holders::place(s) == place)?;
        let mut ids = Holders::key_ids(secret);
        for stored in &self.secrets {
            if let Ok(Contents::Database(login)) = &stored.contents
                && secret
                    .data
                    .values()
                    .any(|v| v.expose_secret().contains(login.password.expose_secret()))
            {
                ids.push(stored.seen.arn.clone());
            }
        }
        Some(ids)
    }

    /// Sets that only the trail knows.
    async fn trail_sets(&mut self, condition: &Condition, sets: &mut Sets) {
        let asked = condition
            .calls()
            .iter()
            .filter(|(f, _)| f == CHAIN || f == TOUCHED_BY);
        for (function, of) in asked.cloned().collect::<BTreeSet<_>>() {
            let (window, end) = self.window().await;
            let start = match of.starts_with("arn:") {
                true => Ask::Role(of.clone()),
                false => Ask::Key(of.clone()),
            };
            let walked = walk::walk(&self.estate, &self.me.account, vec![start], &window).await;
            let unread = walked
                .open_ends
                .iter()
                .any(|e| e.contains("could not be read"));
            let members: Vec<String> = if function == CHAIN {
                let of_role = |r: &Reached| {
                    let name = guards::principal(&r.arn).map(|(_, n)| n.to_owned());
                    [Some(r.arn.clone()), name].into_iter().flatten()
                };
                walked.roles.iter().flat_map(of_role).collect()
            } else {
                walked.touched.iter().cloned().collect()
            };
            let ends = walked
                .open_ends
                .iter()
                .chain(&end)
                .map(|e| format!("{function}('{of}'): {e}"));
            self.warnings.extend(ends);
            sets.insert((function, of), (!unread).then_some(members));
        }
    }

    /// Everything that was read, as a selection sees it.
    fn inventory(&self) -> Vec<Credential> {
        let mut all = Vec::new();
        for user in &self.users {
            match &user.keys {
                Ok(keys) => all.extend(keys.iter().map(|k| self.key(user, k))),
                Err(why) => all.push(self.unlisted(user, why)),
            }
        }
        for (name, arn) in &self.roles {
            let mut role = Credential::new(
                CredentialKind::IamRoleSessions,
                &self.me.account,
                arn,
                name,
                arn,
            );
            role.path = Fact::of_readable(path_of(arn));
            let unread = || Fact::Unknown("they were not asked for".into());
            role.tags = self.role_tags.get(name).cloned().unwrap_or_else(unread);
            all.push(role);
        }
        all.extend(self.secrets.iter().filter_map(|s| self.secret(s)));
        all
    }

    /// Keys that could not be listed are no keys that are not there: the user stands for them, and never as a member.
    fn unlisted(&self, user: &UserKeys, why: &str) -> Credential {
        let u = &user.user;
        let kind = CredentialKind::IamAccessKey;
        let mut c = Credential::new(kind, &self.me.account, UNLISTED, &u.name, &u.arn);
        c.path = Fact::Known(u.path.clone());
        c.tags = Fact::of_readable(u.tags.clone());
        c.groups = Fact::of_readable(u.groups.clone());
        let unknown = || Fact::Unknown(format!("its keys could not be listed: {why}"));
        (c.status, c.secret, c.namespace) = (unknown(), unknown(), unknown());
        c.created = Fact::Unknown(why.into());
        c.last_used = Fact::Unknown(why.into());
        c
    }

    fn key(&self, user: &UserKeys, key: &KeyUse) -> Credential {
        let (u, k) = (&user.user, &key.key);
        let mut c = Credential::new(
            CredentialKind::IamAccessKey,
            &self.me.account,
            &k.id,
            &u.name,
            &u.arn,
        );
        c.path = Fact::Known(u.path.clone());
        c.tags = Fact::of_readable(u.tags.clone());
        c.groups = Fact::of_readable(u.groups.clone());
        c.status = Fact::Known(if k.active { "Active" } else { "Inactive" }.into());
        c.created = Fact::of_readable(k.created);
        c.last_used = match &key.used {
            Ok(Some(at)) => Fact::Known(*at),
            Ok(None) => Fact::None,
            Err(why) => Fact::Unknown(why.clone()),
        };
        let unread = self.secrets.iter().find_map(|s| s.contents.as_ref().err());
        c.secret = match (self.secret_of_key(&k.id), unread) {
            (Some(stored), _) => Fact::Known(stored.seen.name.clone()),
            (None, Some(why)) => Fact::Unknown(format!("not every secret was looked at: {why}")),
            (None, None) => Fact::None,
        };
        c.namespace = match (&self.holders.snapshot, self.holder_of(&k.id)) {
            (None, _) => Fact::Unknown("this command has no cluster".into()),
            (_, Some(namespace)) => Fact::Known(namespace),
            _ => Fact::None,
        };
        c
    }

    fn holder_of(&self, id: &str) -> Option<String> {
        let mut all = self.holders.secrets.iter();
        let holds = all.find(|s| s.data.values().any(|v| v.expose_secret() == id))?;
        Some(holds.object.namespace.clone())
    }

    /// The secret of the store that keeps a key.
    pub(super) fn secret_of_key(&self, key: &str) -> Option<&Stored> {
        self.secrets
            .iter()
            .find(|s| matches!(&s.contents, Ok(Contents::Key { id, .. }) if id == key))
    }

    /// A secret is a credential of its own unless it only keeps a user's key of this account.
    fn secret(&self, stored: &Stored) -> Option<Credential> {
        let seen = &stored.seen;
        let mapped = self
            .map
            .as_ref()
            .and_then(|m| m.password_in(&seen.name, &seen.arn));
        let (kind, database) = match (&stored.contents, mapped) {
            (Ok(Contents::Database(login)), _) => (
                CredentialKind::PgPassword,
                Some(format!("{}/{}", login.host, login.database)),
            ),
            (_, Some(entry)) => (
                CredentialKind::PgPassword,
                entry.servers.as_ref().map(|s| s.primary.to_string()),
            ),
            (Ok(Contents::Key { id, .. }), None) if self.knows_key(id) => return None,
            _ => (CredentialKind::SmSecret, None),
        };
        let mut c = Credential::new(kind, &self.me.account, &seen.arn, &seen.name, &seen.arn);
        c.region.clone_from(&self.region);
        c.tags = Fact::of_readable(seen.tags.clone());
        c.secret = Fact::Known(seen.name.clone());
        c.database = database.map_or(Fact::None, Fact::Known);
        c.created = Fact::of_readable(seen.changed);
        c.last_used = Fact::of_readable(seen.accessed);
        Some(c)
    }

    fn knows_key(&self, id: &str) -> bool {
        let mut all = self
            .users
            .iter()
            .filter_map(|u| u.keys.as_ref().ok())
            .flatten();
        all.any(|k| k.key.id == id)
    }

    /// Members; unknown ones as the plan says.
    fn decide(
        &mut self,
        all: Vec<Credential>,
        judged: Vec<Judged>,
    ) -> Result<Vec<Member>, ActionError> {
        let (mut members, mut unknown) = (Vec::new(), Vec::new());
        for (credential, judged) in all.into_iter().zip(judged) {
            let judged = match judged {
                Judged::In(_) if credential.id == UNLISTED => {
                    Judged::Unknown("its keys could not be listed".into())
                }
                judged => judged,
            };
            match judged {
                Judged::Out => {}
                Judged::Unknown(why)
                    if credential.id == UNLISTED
                        && self.args.on_unknown() == OnUnknown::Include =>
                {
                    self.residual
                        .push(format!("access keys of {}: {why}", credential.name));
                }
                Judged::In(why) => members.push(Member { credential, why }),
                Judged::Unknown(why) => match self.args.on_unknown() {
                    OnUnknown::Include => members.push(Member {
                        credential,
                        why: vec![format!("not known, and included: {why}")],
                    }),
                    OnUnknown::Exclude => self.excluded.push(Excluded {
                        id: credential.id.clone(),
                        why: format!("not known, and excluded: {why}"),
                    }),
                    OnUnknown::Refuse => {
                        unknown.push(format!("{} {} ({})", credential.kind, credential.name, why))
                    }
                },
            }
        }
        if unknown.is_empty() {
            return Ok(members);
        }
        let shown: Vec<&str> = unknown.iter().take(5).map(String::as_str).collect();
        Err(refuse(
            "FB3031",
            format!(
                "of {} it cannot be told whether they are meant: {}",
                unknown.len(),
                shown.join("; ")
            ),
        )
        .hint("grant the right to read them, or decide: --on-unknown include|exclude"))
    }
}

/// Stands for the keys of a user that could not be listed.
const UNLISTED: &str = "(not listed)";

/// The path of a role's ARN.
fn path_of(arn: &str) -> Option<String> {
    let tail = arn.splitn(6, ':').nth(5)?.split_once('/')?.1;
    Some(match tail.rsplit_once('/') {
        Some((path, _)) => format!("/{path}/"),
        None => "/".into(),
    })
}
