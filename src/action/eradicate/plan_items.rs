//! From members to items: what each kind needs to know before it is begun, and why one is not begun at all.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use crate::action::ActionError;
use crate::incident::clock_text;
use crate::port::{Principal, PrincipalSeen};
use crate::rotation::chain::{Ask, Walk};
use crate::rotation::guards;
use crate::rotation::inventory::Credential;
use crate::rotation::map::MapSink;
use crate::rotation::plan::{AccountMove, Item, RoleSessions, Sink, What};
use crate::rotation::words::{CredentialKind, Reason, RotationMode};
use crate::rotation::{binding, sessions, trust};

use super::gather::said;
use super::holders::Held;
use super::planner::{Member, Planner, refuse};
use super::walk;

/// The longest session of a role where the cloud does not say.
const LONGEST_SESSION_S: u64 = 43_200;

/// An item before it has its number.
pub(super) struct Draft {
    pub(super) kind: CredentialKind,
    pub(super) mode: RotationMode,
    pub(super) name: String,
    pub(super) arn: String,
    pub(super) why: Vec<String>,
    pub(super) binding: BTreeMap<String, String>,
    pub(super) what: What,
    pub(super) held: Held,
    pub(super) no_return: String,
    pub(super) needs_human: Option<Reason>,
    pub(super) last_used: Option<DateTime<Utc>>,
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

    /// Sinks that the map names must be there, and ours to write.
    pub(super) async fn mapped(&self, sinks: &[MapSink]) -> Result<Held, ActionError> {
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

    pub(super) async fn walked(&mut self, starts: Vec<Ask>) -> Walk {
        let (window, end) = self.window().await;
        let mut walked = walk::walk(&self.estate, &self.me.account, starts, &window).await;
        walked.open_ends.extend(end);
        walked
    }

    /// The name of a role whose sessions may be denied, or why they may not.
    pub(super) fn reachable(&self, arn: &str) -> Result<String, String> {
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
        let seen = match self.estate.cloud.principal(&principal).await {
            Ok(answer) => answer.value,
            // One role that may not be looked at keeps no other alive.
            Err(e) => {
                let why = format!("{}: {}", c.name, said(&e));
                self.warnings.push(why);
                needs_human = needs_human.or(Some(Reason::Permission));
                unseen(&c)
            }
        };
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
}

/// A role of which nothing could be read.
fn unseen(c: &Credential) -> PrincipalSeen {
    PrincipalSeen {
        arn: c.arn.clone(),
        path: String::new(),
        inline: BTreeMap::new(),
        attached: Vec::new(),
        trust: None,
        max_session_s: None,
        mfa: Vec::new(),
        console_password_created: None,
        console_password_used: None,
        tags: None,
    }
}

/// How long a plan's graceful items wait at least, for people.
pub(super) fn expected(items: &[Item], grace_ms: u64) -> String {
    let graceful = items
        .iter()
        .filter(|i| i.mode == RotationMode::Graceful && i.kind == CredentialKind::IamAccessKey)
        .count();
    let span = TimeDelta::milliseconds(i64::try_from(grace_ms).unwrap_or(i64::MAX / 4));
    match graceful {
        0 => "nothing waits for a grace period".into(),
        n => format!(
            "{n} access keys wait {} h, in which nobody may use the old one, before it is made inactive",
            span.num_hours()
        ),
    }
}
