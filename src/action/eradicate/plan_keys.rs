//! Items of access keys: the slot, the escrow, the sinks, the chain.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde_json::json;

use crate::action::ActionError;
use crate::incident::clock_text;
use crate::port::{CURRENT, Cause, Principal, PrincipalSeen, Secret};
use crate::rotation::chain::{Ask, Walk};
use crate::rotation::guards::{self, KeyUse, Slot};
use crate::rotation::inventory::Credential;
use crate::rotation::plan::{AccessKey, Escrow, What};
use crate::rotation::words::{CredentialKind, Reason, RotationMode};
use crate::rotation::{binding, sessions};

use super::contents::Contents;
use super::gather::{self, said, used_at};
use super::hand::{KEY_ID, KEY_SECRET};
use super::holders::Held;
use super::plan_items::Draft;
use super::planner::{Member, Planner, refuse};
use super::side_by_side::each;
use super::walk;

impl Planner<'_> {
    pub(super) async fn key_items(
        &mut self,
        members: Vec<Member>,
    ) -> Result<Vec<Draft>, ActionError> {
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
        let mut walks = match emergency {
            true => self.key_walks(&members).await?,
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
            let walked = walks.remove(&member.credential.id).unwrap_or_default();
            let seen = principals.get(&user);
            let draft = self
                .key_item(member, &of_user, seen, &walked, &freed)
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
        &mut self,
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
            match answer {
                Ok(answer) => _ = principals.insert(name, answer.value),
                // In an emergency the kill does not wait for a look.
                Err(e) => self.warnings.push(format!(
                    "policies of {name} could not be read, so that it is not known whether the deny fits: {}",
                    said(&e)
                )),
            }
        }
        Ok(principals)
    }

    async fn key_item(
        &mut self,
        member: Member,
        keys: &[KeyUse],
        principal: Option<&PrincipalSeen>,
        walked: &Walk,
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
        let (chain, open_ends) = self.key_chain(walked);
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

    /// Walks the chain of each key, side by side: the trail answers slowly, and an emergency does not wait for one after the other.
    async fn key_walks(
        &mut self,
        members: &[Member],
    ) -> Result<BTreeMap<String, Walk>, ActionError> {
        let (window, end) = self.window().await;
        let (estate, account) = (self.estate.clone(), self.me.account.clone());
        let ids = members.iter().map(|m| m.credential.id.clone()).collect();
        let walked = each(ids, move |id: String| {
            let (estate, account, window) = (estate.clone(), account.clone(), window.clone());
            let end = end.clone();
            async move {
                let start = vec![Ask::Key(id.clone())];
                let mut walked = walk::walk(&estate, &account, start, &window).await;
                walked.open_ends.extend(end);
                (id, walked)
            }
        })
        .await?;
        Ok(walked.into_iter().collect())
    }

    /// Roles whose sessions were minted from a key, by name, and what could not be followed.
    fn key_chain(&self, walked: &Walk) -> (Vec<String>, Vec<String>) {
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
}
