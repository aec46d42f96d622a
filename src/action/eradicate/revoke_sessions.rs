//! `contain.revoke_sessions`: ends running sessions of roles and users by a time-based deny. It kills only; nothing new is issued.
//!
//! *Effect*: an inline policy `AWSRevokeOlderSessions` that denies everything to sessions issued before now; a policy of that name that is
//! there keeps the later of the two cut-offs. Long-term keys are not touched: they carry no issue time. *Undo*: the policy that was there
//! before is put back, or ours is removed; sessions that were refused meanwhile work again until they expire. *What it disturbs*: every
//! consumer with a session of the role, until it gets a fresh one. *Permissions*: `iam:GetRole*`, `iam:PutRolePolicy`, `iam:GetUser*`,
//! `iam:PutUserPolicy`, `cloudtrail:LookupEvents`. *Cost and time*: seconds; the cloud gives no bound for when it takes hold.
//! *Source*: AWS IAM User Guide, "Revoke IAM role temporary security credentials".

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::action::registry::{ActionSpec, Sample, UndoSpec, Use, check_as, read_as};
use crate::action::{Action, ActionError, Applied, Class, Context, Observed, Preview, Undone};
use crate::incident::body::{ObjectRef, WriteIntended, WriteSeen};
use crate::incident::{Effect, Phase, clock_text, kind};
use crate::port::{Estate, Principal, PrincipalSeen};
use crate::rotation::guards;
use crate::rotation::sessions::{self, POLICY_NAME};

use super::planner::refuse;
use super::revoke_targets::{kind_of, place, targets};
use super::rotate_credentials::estate;

/// Arguments of `contain.revoke_sessions`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeArgs {
    /// Roles, by name or ARN.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Users.
    #[serde(default)]
    pub users: Vec<String>,
    /// What the incident's contained pods could use.
    #[serde(default)]
    pub handover: bool,
    /// Also roles that were reached from these, by the trail.
    #[serde(default = "yes")]
    pub chain: bool,
}

fn yes() -> bool {
    true
}

static SPEC: ActionSpec = ActionSpec {
    name: "contain.revoke_sessions",
    about: "Ends running cloud sessions of roles and users by a time-based deny.",
    effect: Effect::Reversible,
    phase: Phase::Containment,
    uses: &[Use::Call],
    args_schema: || schemars::schema_for!(RevokeArgs),
    check_args: check_as::<RevokeArgs>,
    undo: UndoSpec::Own,
    result: &[
        ("revoked", Sample::Integer),
        ("principals", Sample::Texts),
        ("open_ends", Sample::Texts),
    ],
    rights: &[],
    exhibit: None,
    volatility: None,
    disturbs: 0,
    timeout_s: 300,
};

/// What this action calls its write.
const WHAT: &str = "deny_sessions";
/// Kind of a user in entries.
const USER: &str = "IAMUser";
/// The field that it writes.
const FIELD: &str = "inline/AWSRevokeOlderSessions";

/// The action.
pub struct RevokeSessions;

#[async_trait]
impl Action for RevokeSessions {
    fn spec(&self) -> &'static ActionSpec {
        &SPEC
    }

    async fn preview(&self, cx: &Context, args: &Value) -> Result<Preview, ActionError> {
        let args = read(args)?;
        let estate = estate(cx)?;
        let targets = match targets(cx, estate, &args).await {
            Err(e) if e.class == Class::Refused => {
                return Ok(Preview {
                    blocked: vec![format!("{} {}", e.code, e.message)],
                    ..Preview::default()
                });
            }
            other => other?,
        };
        let mut preview = Preview {
            undo: "the policy that was there before is put back".into(),
            cannot: targets.open_ends.clone(),
            ..Preview::default()
        };
        preview.cannot.push("sessions of root and of services' own roles; how long the cloud takes to deny everywhere".into());
        preview.binding.insert("account".into(), targets.account);
        for principal in &targets.principals {
            let (kind, name) = (kind_of(principal), principal.name());
            preview
                .changes
                .push(format!("deny sessions of {kind} {name} issued before now"));
            preview.blast_radius.push(format!(
                "every consumer with a session of {kind} {name}, until it gets a fresh one"
            ));
        }
        if targets.principals.is_empty() && args.handover {
            preview.warnings.push(
                "nothing was handed over by a containment yet: it is looked at when the step runs"
                    .into(),
            );
        }
        Ok(preview)
    }

    async fn apply(&self, cx: &Context, args: &Value) -> Result<Applied, ActionError> {
        let args = read(args)?;
        let estate = estate(cx)?.clone();
        let targets = targets(cx, &estate, &args).await?;
        let written = of_step(cx)?;
        let mut failed = Vec::new();
        // One that cannot be denied does not keep the others alive.
        for principal in &targets.principals {
            let before = written.get(&place(principal));
            if let Err(e) = deny(cx, &estate, principal, before).await {
                if e.class == Class::Ledger {
                    return Err(e);
                }
                failed.push((principal.name().to_owned(), e));
            }
        }
        let done = targets.principals.len() - failed.len();
        if let Some((_, first)) = failed.first() {
            let names: Vec<&str> = failed.iter().map(|(n, _)| n.as_str()).collect();
            let text = format!(
                "{done} of {} denied; not {}: {first}",
                targets.principals.len(),
                names.join(", ")
            );
            return Err(ActionError {
                message: text,
                ..first.clone()
            });
        }
        Ok(applied(&targets.principals, &targets.open_ends))
    }

    async fn observe(&self, cx: &Context, args: &Value) -> Result<Observed, ActionError> {
        let args = read(args)?;
        let estate = estate(cx)?;
        let targets = targets(cx, estate, &args).await?;
        let written = of_step(cx)?;
        for principal in &targets.principals {
            let Some(intent) = written.get(&place(principal)) else {
                return Ok(Observed::NotDone);
            };
            let seen = estate.cloud.principal(principal).await?.value;
            if t_of(&seen) < intent.t {
                return Ok(Observed::NotDone);
            }
        }
        Ok(Observed::Done(applied(
            &targets.principals,
            &targets.open_ends,
        )))
    }

    /// From the ledger alone: what this step wrote is taken back where it still stands.
    async fn undo(&self, cx: &Context, _: &Value) -> Result<Undone, ActionError> {
        let estate = estate(cx)?.clone();
        let (mut back, mut left) = (0, Vec::new());
        for (place, intent) in of_step(cx)? {
            let Some(principal) = principal_of(&place) else {
                continue;
            };
            match take_back(cx, &estate, &principal, &intent).await {
                Ok(None) => back += 1,
                Ok(Some(why)) => left.push(why),
                Err(e) if e.class == Class::Ledger => return Err(e),
                Err(e) => left.push(format!("{place}: {e}; remove {POLICY_NAME} by hand")),
            }
        }
        if left.is_empty() {
            return Ok(Undone::Undone(format!(
                "{back} policies are as they were before"
            )));
        }
        Ok(Undone::Stuck {
            summary: format!(
                "{back} policies are as they were before, {} are not",
                left.len()
            ),
            left,
        })
    }
}

fn read(args: &Value) -> Result<RevokeArgs, ActionError> {
    read_as(args).map_err(|e| ActionError::new(Class::Refused, e.to_string()))
}

fn applied(principals: &[Principal], open_ends: &[String]) -> Applied {
    let names: Vec<String> = principals.iter().map(place).collect();
    Applied {
        summary: format!(
            "sessions of {} principals that were issued before now are denied; {} open ends",
            names.len(),
            open_ends.len()
        ),
        result: json!({ "revoked": names.len(), "principals": names, "open_ends": open_ends }),
    }
}

/// What this step wrote, or was about to write: place → the first intent for it.
struct Written {
    before: Option<String>,
    document: String,
    t: Option<DateTime<Utc>>,
}

fn of_step(cx: &Context) -> Result<BTreeMap<String, Written>, ActionError> {
    let history = cx.ledger.history()?;
    let mine = cx.refs();
    let mut written = BTreeMap::new();
    for (entry, body) in history.bodies::<WriteIntended>(kind::WRITE_INTENDED) {
        let refs = &entry.refs;
        let same = refs.run == mine.run && refs.step == mine.step && refs.attempt == mine.attempt;
        if !same || body.what != WHAT || body.reversal {
            continue;
        }
        let text = |fields: &BTreeMap<String, Option<String>>| fields.get(FIELD).cloned().flatten();
        let document = text(&body.written).unwrap_or_default();
        let kind = if body.object.kind == USER {
            "user"
        } else {
            "role"
        };
        let one = written
            .entry(format!("{kind}/{}", body.object.name))
            .or_insert_with(|| Written {
                before: text(&body.before),
                t: None,
                document: String::new(),
            });
        // What was there before the first write is given back; what was written last is what must still stand.
        one.t = sessions::cutoff(&document);
        one.document = document;
    }
    Ok(written)
}

async fn deny(
    cx: &Context,
    estate: &Estate,
    principal: &Principal,
    written: Option<&Written>,
) -> Result<(), ActionError> {
    let answer = estate.cloud.principal(principal).await?;
    let there = t_of(&answer.value);
    if let Some(written) = written
        && there >= written.t
        && there.is_some()
    {
        return Ok(());
    }
    // Issue times have a resolution of one second: what was issued in this very second is older than the next one.
    let now = answer.server_date.unwrap_or_else(|| cx.ports.clock.now());
    let t = there.map_or(next(now), |there| there.max(next(now)));
    let document = sessions::deny_older_than(t);
    sessions::fits(principal, &answer.value, &document).map_err(|why| refuse(guards::SIZE, why))?;
    let intent = cx.intend(&intended(
        principal,
        answer.value.inline.get(POLICY_NAME),
        Some(&document),
    ))?;
    let put = estate
        .cloud
        .put_inline_policy(principal, POLICY_NAME, &document)
        .await;
    saw(cx, estate, principal, intent, false).await?;
    put?;
    (cx.progress)(&format!(
        "sessions of {} issued before {} are denied",
        place(principal),
        clock_text::seconds(t)
    ));
    Ok(())
}

fn next(now: DateTime<Utc>) -> DateTime<Utc> {
    now.trunc_subsecs(0) + TimeDelta::seconds(1)
}

/// Puts back what was there. `Some(why)` = it was left, because somebody else wrote meanwhile.
async fn take_back(
    cx: &Context,
    estate: &Estate,
    principal: &Principal,
    written: &Written,
) -> Result<Option<String>, ActionError> {
    let seen = estate.cloud.principal(principal).await?.value;
    let there = seen.inline.get(POLICY_NAME);
    let is = |a: Option<&String>, b: Option<&String>| match (a, b) {
        (Some(a), Some(b)) => sessions::same_policy(a, b),
        (None, None) => true,
        _ => false,
    };
    if is(there, written.before.as_ref()) {
        return Ok(None);
    }
    if !is(there, Some(&written.document)) {
        return Ok(Some(format!(
            "{}: {POLICY_NAME} was changed by somebody else meanwhile and was left: look at it",
            place(principal)
        )));
    }
    let intent = cx.intend(&WriteIntended {
        reversal: true,
        ..intended(principal, there, written.before.as_ref())
    })?;
    let done = match &written.before {
        Some(before) => estate
            .cloud
            .put_inline_policy(principal, POLICY_NAME, before)
            .await
            .map(|_| ()),
        None => estate
            .cloud
            .delete_inline_policy(principal, POLICY_NAME)
            .await
            .map(|_| ()),
    };
    saw(cx, estate, principal, intent, true).await?;
    done?;
    Ok(None)
}

async fn saw(
    cx: &Context,
    estate: &Estate,
    principal: &Principal,
    intent: u64,
    reversal: bool,
) -> Result<(), ActionError> {
    let now = match estate.cloud.principal(principal).await {
        Ok(answer) => answer.value.inline.get(POLICY_NAME).cloned(),
        // It cannot be told; the next look does.
        Err(_) => return Ok(()),
    };
    let seen = WriteSeen {
        object: object(principal),
        what: WHAT.into(),
        seen: [(FIELD.to_owned(), now)].into(),
        verdict: "written".into(),
        reversal,
    };
    cx.saw(intent, &seen)
}

fn intended(
    principal: &Principal,
    before: Option<&String>,
    after: Option<&String>,
) -> WriteIntended {
    WriteIntended {
        object: object(principal),
        what: WHAT.into(),
        before: [(FIELD.to_owned(), before.cloned())].into(),
        written: [(FIELD.to_owned(), after.cloned())].into(),
        reversal: false,
    }
}

fn object(principal: &Principal) -> ObjectRef {
    ObjectRef {
        kind: match principal {
            Principal::User(_) => USER.into(),
            Principal::Role(_) => "IAMRole".into(),
        },
        namespace: String::new(),
        name: principal.name().to_owned(),
        uid: String::new(),
    }
}

fn t_of(seen: &PrincipalSeen) -> Option<DateTime<Utc>> {
    super::prepare::t_in_place(seen)
}

fn principal_of(place: &str) -> Option<Principal> {
    match place.split_once('/')? {
        ("user", name) => Some(Principal::User(name.into())),
        ("role", name) => Some(Principal::Role(name.into())),
        _ => None,
    }
}
