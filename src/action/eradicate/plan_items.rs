//! From members to items: what each kind needs to know before it is begun, and why one is not begun at all.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use crate::action::ActionError;
use crate::incident::clock_text;
use crate::port::{CURRENT, Cause, Login, Principal, PrincipalSeen, Secret, Server, VersionRef};
use crate::rotation::chain::{Ask, Walk};
use crate::rotation::guards::{self, KeyUse, Slot};
use crate::rotation::inventory::Credential;
use crate::rotation::map::{MapSink, SecretPlace};
use crate::rotation::plan::{
    AccessKey, AccountMove, DatabasePassword, Escrow, Item, RoleSessions, Sink, What,
};
use crate::rotation::words::{CredentialKind, Reason, RotationMode};
use crate::rotation::{binding, sessions, trust};

use super::contents::Contents;
use super::gather::{self, said, used_at};
use super::hand::{self, KEY_ID, KEY_SECRET, PASSWORD, USERNAME};
use super::holders::Held;
use super::planner::{Member, Planner, refuse};
use super::side_by_side::each;
use super::walk;

/// The longest session of a role where the cloud does not say.
const LONGEST_SESSION_S: u64 = 43_200;

/// An item before it has its number.
struct Draft {
    kind: CredentialKind,
    mode: RotationMode,
    name: String,
    arn: String,
    why: Vec<String>,
    binding: BTreeMap<String, String>,
    what: What,
    held: Held,
    no_return: String,
    needs_human: Option<Reason>,
    last_used: Option<DateTime<Utc>>,
}

impl Planner<'_> {
    /// Items in the order in which they are begun: an emergency kills the most recently used first.
    pub(super) async fn items(&mut self, members: Vec<Member>) -> Result<Vec<Item>, ActionError> {
        let (mut keys, mut roles, mut passwords) = (Vec::new(), Vec::new(), Vec::new());
        for member in members {
            match member.credential.kind {
                CredentialKind::IamAccessKey => keys.push(member),
                CredentialKind::IamRoleSessions => roles.push(member),
                CredentialKind::PgPassword => passwords.push(member),
                other => self.residual.push(format!(
                    "{other} {}: what it opens is not known here; name it in a map, or rotate it where it is used",
                    member.credential.name
                )),
            }
        }
        let mut drafts = self.role_items(roles).await?;
        drafts.extend(self.key_items(keys).await?);
        for member in passwords {
            drafts.push(self.password_item(member).await?);
        }
        drafts.sort_by_key(|d| {
            let emergency = d.mode == RotationMode::Emergency;
            let recent = d.last_used.filter(|_| emergency);
            (!emergency, std::cmp::Reverse(recent))
        });
        self.warnings.append(&mut self.holders.warnings);
        self.slot_guard(&drafts);
        Ok(drafts
            .into_iter()
            .enumerate()
            .map(|(at, d)| self.numbered(at + 1, d))
            .collect())
    }

    fn numbered(&self, number: usize, d: Draft) -> Item {
        let id = format!("item-{number:04}");
        let mut item = Item {
            kind: d.kind,
            mode: d.mode,
            name: d.name,
            arn: d.arn,
            why: d.why,
            binding: d.binding,
            what: d.what,
            sinks: d.held.sinks,
            workloads: d.held.workloads,
            no_return: d.no_return,
            needs_human: d.needs_human,
            id,
        };
        if let What::AccessKey(key) = &mut item.what
            && !key.escrow.exists
        {
            key.escrow.secret =
                format!("firebreak/{}/{}/{}", self.cx.incident, self.cx.run, item.id);
        }
        item
    }

    fn slot_guard(&mut self, drafts: &[Draft]) {
        let count = |r: Reason| drafts.iter().filter(|d| d.needs_human == Some(r)).count();
        for (guard, code, reason, what) in [
            (
                "slots",
                guards::SLOTS,
                Reason::TwoKeysUsed,
                "with both slots in use",
            ),
            (
                "owner",
                guards::OWNER,
                Reason::ForeignOwner,
                "written by somebody else",
            ),
            (
                "size",
                guards::SIZE,
                Reason::NotRevocable,
                "that no policy of ours can limit",
            ),
        ] {
            let n = count(reason);
            let verdict = if n == 0 { "passed" } else { "refused-items" };
            self.guards.push(guards::result(
                guard,
                verdict,
                format!("{n} items {what} ({code})"),
            ));
        }
        let canaries = self.canaries().len();
        self.guards.push(guards::result(
            "not-ours",
            "passed",
            format!(
                "{canaries} canaries are never called with or read ({})",
                guards::NOT_OURS
            ),
        ));
        self.guards.push(guards::result(
            "lease",
            "not-checked",
            "taken when the run begins",
        ));
    }

    async fn key_items(&mut self, members: Vec<Member>) -> Result<Vec<Draft>, ActionError> {
        let freed: BTreeSet<String> = self.args.free_slot.iter().cloned().collect();
        let mut members: Vec<Member> = members
            .into_iter()
            .filter(|m| !freed.contains(&m.credential.id))
            .collect();
        let names: BTreeSet<String> = members.iter().map(|m| m.credential.name.clone()).collect();
        let mut keys = self.keys_with_use(&names).await?;
        members.retain(|m| self.is_live(&m.credential));
        let emergency = self.args.mode_of(CredentialKind::IamAccessKey) == RotationMode::Emergency;
        let principals = match emergency {
            true => self.principals(names).await?,
            false => BTreeMap::new(),
        };
        // A key that frees the slot for another of the same user is no item of its own.
        let all: Vec<(String, String)> = members
            .iter()
            .map(|m| (m.credential.name.clone(), m.credential.id.clone()))
            .collect();
        let mut victims = BTreeSet::new();
        let mut drafts = Vec::new();
        for member in members {
            if victims.contains(&member.credential.id) {
                continue;
            }
            let user = member.credential.name.clone();
            let of_user = keys.entry(user.clone()).or_default().clone();
            let draft = self
                .key_item(member, &of_user, principals.get(&user), &freed)
                .await?;
            if let What::AccessKey(key) = &draft.what
                && let Some(victim) = key.victim.as_ref().filter(|v| **v != key.old)
            {
                victims.insert(victim.clone());
                if all.contains(&(user.clone(), victim.clone())) {
                    self.warnings.push(format!(
                        "{victim} of {user} is not replaced: it is the one that frees the slot"
                    ));
                }
            }
            drafts.push(draft);
        }
        drafts.retain(|d| match &d.what {
            What::AccessKey(key) => {
                !victims.contains(&key.old) || key.victim.as_ref() == Some(&key.old)
            }
            _ => true,
        });
        Ok(drafts)
    }

    /// An inactive key opens nothing: it is said, not replaced.
    fn is_live(&mut self, c: &Credential) -> bool {
        let inactive = c.status.known().is_some_and(|s| s == "Inactive");
        if inactive {
            self.residual.push(format!(
                "access key {} of {} is Inactive already: nothing is replaced",
                c.id, c.name
            ));
        }
        !inactive
    }

    /// All keys of these users, each with its last use.
    async fn keys_with_use(
        &mut self,
        names: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, Vec<KeyUse>>, ActionError> {
        let mut flat = Vec::new();
        for user in self.users.iter().filter(|u| names.contains(&u.user.name)) {
            for key in user.keys.iter().flatten() {
                flat.push((user.user.name.clone(), key.clone()));
            }
        }
        let (users, keys): (Vec<String>, Vec<KeyUse>) = flat.into_iter().unzip();
        let keys = gather::uses(&self.estate, keys).await?;
        let mut by_user: BTreeMap<String, Vec<KeyUse>> = BTreeMap::new();
        for (user, key) in users.into_iter().zip(keys) {
            by_user.entry(user).or_default().push(key);
        }
        Ok(by_user)
    }

    async fn principals(
        &self,
        names: BTreeSet<String>,
    ) -> Result<BTreeMap<String, PrincipalSeen>, ActionError> {
        let cloud = self.estate.cloud.clone();
        let seen = each(names.into_iter().collect(), move |name: String| {
            let cloud = cloud.clone();
            async move {
                let principal = Principal::User(name.clone());
                (name, cloud.principal(&principal).await)
            }
        })
        .await?;
        let mut principals = BTreeMap::new();
        for (name, answer) in seen {
            principals.insert(name, answer?.value);
        }
        Ok(principals)
    }

    async fn key_item(
        &mut self,
        member: Member,
        keys: &[KeyUse],
        principal: Option<&PrincipalSeen>,
        freed: &BTreeSet<String>,
    ) -> Result<Draft, ActionError> {
        let c = member.credential;
        let mode = self.args.mode_of(c.kind);
        let emergency = mode == RotationMode::Emergency;
        let mut needs_human = None;
        let victim = match guards::slot(keys, &c.id, emergency, self.t0, freed, self.now) {
            Slot::Free => None,
            Slot::Victim(id) => Some(id),
            Slot::TwoKeysUsed(why) => {
                needs_human = Some(Reason::TwoKeysUsed);
                self.warnings.push(format!(
                    "{}: both slots are taken, and {why}: name the one that may go (`free_slot`)",
                    c.name
                ));
                None
            }
        };
        let seen: Vec<_> = keys.iter().map(|k| k.key.clone()).collect();
        let mut binding = binding::keys(&seen);
        let (escrow, secret, foreign) = self.key_escrow(&c, &mut binding).await?;
        let mut held = self.key_sinks(&c, secret.as_ref()).await?;
        self.holders
            .consumers(&self.estate.clone(), &mut held)
            .await?;
        if let Some(why) = foreign.or_else(|| held.foreign.clone()) {
            needs_human = needs_human.or(Some(Reason::ForeignOwner));
            self.warnings.push(format!("{}: {why}", c.name));
        }
        if held.sinks.is_empty() && mode == RotationMode::Graceful && !escrow.exists {
            self.warnings.push(format!(
                "{}: nobody is known to read {}: the new one waits in the store until a person brings it to its consumers",
                c.name, c.id
            ));
        }
        let (chain, open_ends) = match emergency {
            true => self.key_chain(&c).await,
            false => (Vec::new(), Vec::new()),
        };
        if let Some(seen) = principal {
            let user = Principal::User(c.name.clone());
            if let Err(why) = sessions::fits(&user, seen, &sessions::deny_older_than(self.now)) {
                needs_human = needs_human.or(Some(Reason::NotRevocable));
                self.warnings.push(why);
            }
        }
        let this = keys.iter().find(|k| k.key.id == c.id);
        let last_used = this.and_then(used_at);
        self.note_key(&c, keys, principal);
        Ok(Draft {
            kind: c.kind,
            mode,
            name: c.name.clone(),
            arn: c.arn.clone(),
            why: member.why,
            binding,
            no_return: match (&victim, self.args.delete) {
                (Some(victim), true) => format!("SlotFree: {victim} is deleted"),
                (None, true) if !emergency => "OldDeleted: the old key is deleted".into(),
                _ => "none: the old key is only made Inactive".into(),
            },
            what: What::AccessKey(AccessKey {
                user: c.name,
                old: c.id,
                before: seen.iter().map(|k| k.id.clone()).collect(),
                victim,
                escrow,
                chain,
                open_ends,
            }),
            held,
            needs_human,
            last_used,
        })
    }

    /// Where the new key is kept: what the map says, where the old one is kept, or a secret of the run's own. With the old secret, where the
    /// store has it, and who else writes there.
    async fn key_escrow(
        &self,
        c: &Credential,
        binding: &mut BTreeMap<String, String>,
    ) -> Result<(Escrow, Option<Secret>, Option<String>), ActionError> {
        let usual = (KEY_ID.to_owned(), KEY_SECRET.to_owned());
        let mapped = self
            .map
            .as_ref()
            .and_then(|m| m.key_of(&c.name))
            .and_then(|(_, p)| p);
        let found = self.secret_of_key(&c.id);
        let (id, fields) = match (mapped, found) {
            (Some(place), _) => {
                let fields = place.json_keys.map(|k| (k.id, k.secret));
                (place.id, fields.unwrap_or(usual))
            }
            (None, Some(stored)) => match &stored.contents {
                Ok(Contents::Key { fields, .. }) => (stored.seen.arn.clone(), fields.clone()),
                _ => (stored.seen.arn.clone(), usual),
            },
            (None, None) => {
                let escrow = Escrow {
                    secret: String::new(),
                    exists: false,
                    fields: usual,
                    current: None,
                };
                return Ok((escrow, None, None));
            }
        };
        let seen = match self.estate.vault.describe(&id).await {
            Ok(answer) => answer.value,
            Err(e) if e.cause == Cause::NotFound => {
                return Err(refuse(
                    "FB3034",
                    format!(
                        "the map keeps the key of {} in `{id}`, which is not there",
                        c.name
                    ),
                ));
            }
            Err(e) => return Err(e.into()),
        };
        binding.extend(crate::rotation::binding::secret(&seen));
        let escrow = Escrow {
            secret: seen.arn.clone(),
            exists: true,
            fields,
            current: seen.holder(CURRENT).map(str::to_owned),
        };
        let secret = match found.map(|s| &s.contents) {
            Some(Ok(Contents::Key { secret, .. })) => Some(secret.duplicate()),
            _ => None,
        };
        Ok((escrow, secret, guards::owner(&seen)))
    }

    async fn key_sinks(
        &mut self,
        c: &Credential,
        secret: Option<&Secret>,
    ) -> Result<Held, ActionError> {
        let sinks = self.map.as_ref().and_then(|m| m.key_of(&c.name));
        let sinks = sinks.map(|(e, _)| e.sinks.clone()).unwrap_or_default();
        if sinks.is_empty() {
            return Ok(self.holders.sinks_of_key(&c.id, secret));
        }
        self.mapped(&sinks).await
    }

    /// Sinks that the map names must be there, and ours to write.
    async fn mapped(&self, sinks: &[MapSink]) -> Result<Held, ActionError> {
        let Some(workloads) = &self.estate.workloads else {
            return Err(refuse(
                "FB3034",
                "the map names Secrets of a cluster, and this command has none",
            )
            .hint("name one with --context or --kubeconfig"));
        };
        let mut held = Held::default();
        for sink in sinks {
            let object = workloads.secret(&sink.namespace, &sink.secret).await?;
            if let Some(why) = guards::sink_owner(&object) {
                held.foreign = Some(format!("{}/{}: {why}", sink.namespace, sink.secret));
            }
            held.sinks.push(Sink {
                object: object.object,
                keys: sink.keys.clone(),
            });
        }
        Ok(held)
    }

    /// Roles whose sessions were minted from a key, by name, and what could not be followed.
    async fn key_chain(&mut self, c: &Credential) -> (Vec<String>, Vec<String>) {
        let walked = self.walked(vec![Ask::Key(c.id.clone())]).await;
        let mut ends = walked.open_ends.clone();
        let mut chain = Vec::new();
        for reached in &walked.roles {
            match self.reachable(&reached.arn) {
                Ok(name) => chain.push(name),
                Err(why) => ends.push(why),
            }
        }
        (chain, ends)
    }

    async fn walked(&mut self, starts: Vec<Ask>) -> Walk {
        let (window, end) = self.window().await;
        let mut walked = walk::walk(&self.estate, &self.me.account, starts, &window).await;
        walked.open_ends.extend(end);
        walked
    }

    /// The name of a role whose sessions may be denied, or why they may not.
    fn reachable(&self, arn: &str) -> Result<String, String> {
        let Some((false, name)) = guards::principal(arn) else {
            return Err(format!("{arn} is no role"));
        };
        if self.spared.has_role(name) {
            return Err(format!(
                "{name} was reached and is our own or the emergency access: its sessions are not denied; look at them by hand"
            ));
        }
        if arn.contains(":role/aws-service-role/") {
            return Err(format!(
                "{name} is a service's own role: no policy of ours limits it"
            ));
        }
        Ok(name.to_owned())
    }

    async fn role_items(&mut self, members: Vec<Member>) -> Result<Vec<Draft>, ActionError> {
        let mut members = members;
        let starts = members
            .iter()
            .map(|m| Ask::Role(m.credential.arn.clone()))
            .collect();
        let walked = match members.is_empty() {
            true => Walk::default(),
            false => self.walked(starts).await,
        };
        for reached in &walked.roles {
            if members.iter().any(|m| m.credential.arn == reached.arn) {
                continue;
            }
            match self.reachable(&reached.arn) {
                Err(why) => self.residual.push(why),
                Ok(name) => members.push(Member {
                    credential: Credential::new(
                        CredentialKind::IamRoleSessions,
                        &self.me.account,
                        &reached.arn,
                        &name,
                        &reached.arn,
                    ),
                    why: vec![format!(
                        "its sessions were minted by {} at {}",
                        reached.from,
                        clock_text::seconds(reached.at)
                    )],
                }),
            }
        }
        let mut drafts = Vec::new();
        for member in members {
            drafts.push(self.role_item(member, &walked.open_ends).await?);
        }
        Ok(drafts)
    }

    async fn role_item(&mut self, member: Member, ends: &[String]) -> Result<Draft, ActionError> {
        let c = member.credential;
        let mut needs_human = self.reachable(&c.arn).err().map(|why| {
            self.warnings.push(why);
            Reason::NotRevocable
        });
        let principal = Principal::Role(c.name.clone());
        let seen = self.estate.cloud.principal(&principal).await?.value;
        if let Err(why) = sessions::fits(&principal, &seen, &sessions::deny_older_than(self.now)) {
            needs_human = needs_human.or(Some(Reason::NotRevocable));
            self.warnings.push(why);
        }
        let trust_before = seen.trust.clone().unwrap_or_default();
        let mut open_ends = ends.to_vec();
        let mut held = Held::default();
        let (moves, trust_after) = self.moves(&c, &trust_before, &mut held, &mut open_ends);
        self.before.push(json!({
            "kind": c.kind.as_str(), "role": c.name, "arn": seen.arn, "trust": trust_before, "inline": seen.inline,
            "attached": seen.attached, "max_session_s": seen.max_session_s, "tags": seen.tags,
        }));
        Ok(Draft {
            kind: c.kind,
            mode: self.args.mode_of(c.kind),
            why: member.why,
            binding: binding::role(&seen),
            no_return:
                "none: policy and trust can be put back; sessions that were denied stay ended"
                    .into(),
            what: What::RoleSessions(RoleSessions {
                role: c.name.clone(),
                max_session_s: seen.max_session_s.unwrap_or(LONGEST_SESSION_S),
                trust_before,
                trust_after,
                moves,
                open_ends,
            }),
            name: c.name,
            arn: c.arn,
            held,
            needs_human,
            last_used: None,
        })
    }

    /// Workloads that run with a role by their service account: each account gets a successor, and only that is trusted.
    fn moves(
        &mut self,
        c: &Credential,
        trust_before: &str,
        held: &mut Held,
        ends: &mut Vec<String>,
    ) -> (Vec<AccountMove>, Option<String>) {
        let incident = self.cx.incident.to_string();
        let run = self.cx.run.to_string();
        let mut moves = Vec::new();
        let mut trust_after: Option<String> = None;
        for (namespace, from, annotations) in self.holders.accounts_of(&c.arn) {
            let to = trust::successor(&incident, &run, &namespace, &from);
            let text = trust_after.as_deref().unwrap_or(trust_before);
            let running = self.holders.running_as(&namespace, &from);
            let fixed: Vec<bool> = running.iter().map(|(_, rollable)| *rollable).collect();
            let Some(after) = trust::moved(text, &namespace, &from, &to) else {
                ends.push(format!("the trust of {} does not name the service account {namespace}/{from}: a stolen token of it mints new sessions until it expires", c.name));
                continue;
            };
            if fixed.contains(&false) {
                ends.push(format!("{namespace}/{from} is also used by what cannot be rolled out (a bare pod or a Job): it loses the role"));
            }
            trust_after = Some(after);
            for (object, rollable) in running {
                let index = self.holders.workload(
                    object,
                    vec![format!("service account {from}")],
                    rollable,
                );
                if !held.workloads.contains(&index) {
                    held.workloads.push(index);
                }
                if rollable {
                    moves.push(AccountMove {
                        workload: index,
                        namespace: namespace.clone(),
                        from: from.clone(),
                        to: to.clone(),
                        annotations: annotations.clone(),
                    });
                }
            }
        }
        if trust::by_pattern(trust_before) {
            ends.push(format!(
                "the trust of {} lets service accounts in by a pattern: write their names",
                c.name
            ));
        }
        if trust_after.is_none() && moves.is_empty() {
            ends.push(format!(
                "the trust of {} is not changed: who could assume it can do so again",
                c.name
            ));
        }
        (moves, trust_after)
    }

    fn note_key(&mut self, c: &Credential, keys: &[KeyUse], principal: Option<&PrincipalSeen>) {
        let time = |t: Option<DateTime<Utc>>| t.map(clock_text::seconds);
        let keys: Vec<_> = keys
            .iter()
            .map(|k| {
                let used = match &k.used {
                    Ok(at) => json!({ "at": time(*at) }),
                    Err(why) => json!({ "not_read": why }),
                };
                json!({ "id": k.key.id, "active": k.key.active, "created": time(k.key.created), "last_used": used })
            })
            .collect();
        let more = principal.map(|p| {
            json!({
                "inline": p.inline, "attached": p.attached, "mfa": p.mfa, "tags": p.tags,
                "console_password_created": time(p.console_password_created),
                "console_password_used": time(p.console_password_used),
            })
        });
        self.before.push(json!({ "kind": c.kind.as_str(), "user": c.name, "arn": c.arn, "key": c.id, "keys": keys, "principal": more }));
    }

    async fn password_item(&mut self, member: Member) -> Result<Draft, ActionError> {
        let c = member.credential;
        let mode = self.args.mode_of(c.kind);
        let entry = self
            .map
            .as_ref()
            .and_then(|m| m.password_in(&c.name, &c.arn))
            .cloned();
        let stored = self.secrets.iter().find(|s| s.seen.arn == c.arn);
        let login = stored.and_then(|s| match &s.contents {
            Ok(Contents::Database(login)) => Some(login),
            _ => None,
        });
        let place = entry.as_ref().and_then(|e| e.secret.as_ref());
        let fields = place
            .and_then(|p: &SecretPlace| p.json_keys.clone())
            .map(|k| (k.id, k.secret))
            .or_else(|| login.map(|l| l.fields.clone()))
            .unwrap_or_else(|| (USERNAME.into(), PASSWORD.into()));
        let role = entry
            .as_ref()
            .and_then(|e| e.principal.clone())
            .or_else(|| login.map(|l| l.role.clone()))
            .unwrap_or_default();
        let servers = entry.as_ref().and_then(|e| e.servers.clone());
        let primary = match (&servers, login) {
            (Some(servers), _) => servers.primary.clone(),
            (None, Some(l)) => Server {
                host: l.host.clone(),
                port: l.port,
                database: l.database.clone(),
                ca_file: None,
            },
            (None, None) => {
                return Err(refuse(
                    "FB3034",
                    format!(
                        "which server `{}` opens is not known: name it in a map",
                        c.name
                    ),
                ));
            }
        };
        let admin = entry
            .as_ref()
            .and_then(|e| e.admin.clone())
            .or_else(|| login.and_then(|l| l.admin.clone()))
            .or_else(|| self.args.admin.clone());
        let password = login.map(|l| l.password.duplicate());
        let seen = self.estate.vault.describe(&c.arn).await?.value;
        let mut held = match &entry {
            Some(e) if !e.sinks.is_empty() => self.mapped(&e.sinks).await?,
            _ => match &password {
                Some(password) => self.holders.sinks_of_password(password),
                None => Held::default(),
            },
        };
        self.holders
            .consumers(&self.estate.clone(), &mut held)
            .await?;
        let mut what = DatabasePassword {
            escrow: Escrow {
                secret: seen.arn.clone(),
                exists: true,
                fields,
                current: seen.holder(CURRENT).map(str::to_owned),
            },
            role,
            primary,
            replicas: servers.map(|s| s.replicas).unwrap_or_default(),
            admin: admin.unwrap_or_default(),
            system_identifier: String::new(),
        };
        if entry.is_none() {
            self.warnings.push(format!(
                "{}: its replicas are not known: sessions there are not ended. A map names them",
                c.name
            ));
        }
        let mut binding = binding::secret(&seen);
        let mut needs_human = None;
        if let Some(why) = guards::owner(&seen).or_else(|| held.foreign.clone()) {
            needs_human = Some(Reason::ForeignOwner);
            self.warnings.push(format!("{}: {why}", c.name));
        } else if let Err((reason, why)) = self.database(&mut what, &mut binding).await {
            needs_human = Some(reason);
            self.warnings.push(format!("{}: {why}", c.name));
        }
        self.before.push(json!({
            "kind": c.kind.as_str(), "secret": seen.name, "arn": seen.arn, "versions": seen.versions,
            "changed": seen.changed.map(clock_text::seconds), "accessed": seen.accessed.map(clock_text::seconds),
            "role": what.role, "server": what.primary.to_string(), "system_identifier": what.system_identifier,
        }));
        Ok(Draft {
            kind: c.kind,
            mode,
            name: c.name,
            arn: c.arn,
            why: member.why,
            binding,
            no_return: match mode {
                RotationMode::Graceful => {
                    "OldSessionsTerminated: sessions with the old password are ended".into()
                }
                RotationMode::Emergency => "NewSet: the server forgets the old password".into(),
            },
            what: What::DatabasePassword(what),
            held,
            needs_human,
            last_used: None,
        })
    }

    /// The role on its server: the same role, a server that takes writes, and which one it is.
    async fn database(
        &mut self,
        what: &mut DatabasePassword,
        binding: &mut BTreeMap<String, String>,
    ) -> Result<(), (Reason, String)> {
        let admin = self.admin_login(&what.admin).await?;
        let seen = self
            .estate
            .database
            .role(&what.primary, &admin, &what.role)
            .await
            .map_err(|e| (Reason::AccountUnreachable, e.to_string()))?;
        if !seen.exists {
            return Err((
                Reason::Stale,
                format!("there is no role `{}` on {}", what.role, what.primary),
            ));
        }
        if seen.in_recovery {
            return Err((
                Reason::Stale,
                format!("{} is a replica: it takes no writes", what.primary),
            ));
        }
        if seen.superuser {
            self.warnings.push(format!(
                "role `{}` is a superuser: its sessions may be out of the admin's reach",
                what.role
            ));
        }
        if seen.password_type == "md5" {
            self.warnings.push(format!("role `{}` has an md5 password: the new one is SCRAM, which clients of libpq before 10 do not speak", what.role));
        }
        what.system_identifier.clone_from(&seen.system_identifier);
        binding.extend(crate::rotation::binding::database(&seen));
        Ok(())
    }

    async fn admin_login(&self, id: &str) -> Result<Login, (Reason, String)> {
        if id.is_empty() {
            let why = "who may alter the role is not known: name the secret with that login in a map, or with --admin";
            return Err((Reason::Permission, why.into()));
        }
        let label = VersionRef::Label(CURRENT.into());
        let read = self.estate.vault.read(id, &label).await;
        let read = read.map_err(|e| (Reason::Permission, format!("`{id}`: {}", said(&e))))?;
        let fields = Escrow {
            secret: id.into(),
            exists: true,
            fields: (USERNAME.into(), PASSWORD.into()),
            current: None,
        };
        let login = hand::from_json(&fields, &read.value);
        let login = login.map_err(|why| (Reason::Permission, format!("`{id}`: {why}")))?;
        Ok(Login {
            role: login.id,
            password: login.secret,
        })
    }
}

/// How long a plan's graceful items wait at least, for people.
pub(super) fn expected(items: &[Item], grace_ms: u64) -> String {
    let graceful = items
        .iter()
        .filter(|i| i.mode == RotationMode::Graceful)
        .count();
    let span = TimeDelta::milliseconds(i64::try_from(grace_ms).unwrap_or(i64::MAX / 4));
    match graceful {
        0 => "kills first; nothing waits for a grace period".into(),
        n => format!(
            "{n} graceful items wait {} h until their old credential is made inactive",
            span.num_hours()
        ),
    }
}
