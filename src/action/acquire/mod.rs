//! Making forensic copies: volatile state, manifests and logs of pods, files and the journal of this host, the cloud's audit trail.
//!
//! # Flow
//! Each step opens one bag, takes its sources in from the most volatile to the least, writes notes of what it tried, and seals the bag.
//!
//! # Guarantees
//! - Nothing is changed: all actions here are of effect `read` and need no undo.
//! - What came before a failure is kept, with the reason why it is not all ([`Ended`](crate::port::Ended)).
//! - What could not be had is said twice: in the step's result (`incomplete`) and in the bag (`notes`).
//! - Names from a cluster go into an exhibit's ids, never into a path.
//!
//! # Caveats
//! What a pod's own tools answer is marked `low` trust: an intruder may have replaced them. Acquired content holds whatever was in the
//! pod, secrets too; a bag is as confidential as that.

mod bag;
mod cloud_trail;
#[cfg(test)]
mod fakes;
mod files;
mod inside;
mod journal;
mod logs;
mod manifests;
mod pods;
#[cfg(test)]
mod tests_volatile;
mod volatile;

use crate::incident::body::{BagSealed, ExhibitAcquired};
use crate::incident::kind;
use crate::port::{Cause, PortError};

use super::registry::{RightSpec, Sample};
use super::{ActionError, Actions, Applied, Class, Context, Observed};

pub use cloud_trail::CloudTrail;
pub use files::Files;
pub use journal::Journal;
pub use logs::Logs;
pub use manifests::Manifests;
pub use volatile::Volatile;

/// Adds every action of this room.
pub fn actions(to: Actions) -> Actions {
    to.with(Volatile)
        .with(Manifests)
        .with(Logs)
        .with(Files)
        .with(Journal)
        .with(CloudTrail)
}

/// Fields of every result here.
const RESULT: &[(&str, Sample)] = &[
    ("bag", Sample::Text),
    ("exhibits", Sample::Integer),
    ("bytes", Sample::Integer),
    ("seal_sha256", Sample::Text),
    ("incomplete", Sample::Texts),
];

/// Said where an undo would stand.
const READS: &str = "it only reads: there is nothing to undo";

const fn right(group: &'static str, resource: &'static str, verb: &'static str) -> RightSpec {
    RightSpec {
        group,
        resource,
        verb,
        cluster_wide: false,
    }
}

const fn wide(resource: &'static str, verb: &'static str) -> RightSpec {
    RightSpec {
        group: "",
        resource,
        verb,
        cluster_wide: true,
    }
}

/// Values as JSON lines.
fn lines(values: &[serde_json::Value]) -> String {
    values.iter().map(|v| format!("{v}\n")).collect()
}

/// A failed read: it leaves nothing in doubt, whatever became of the request.
fn read_failed(e: PortError) -> ActionError {
    let class = match e.cause {
        Cause::Timeout => Class::Timeout,
        Cause::LostReply => Class::Transient,
        Cause::Unreadable => Class::Failed,
        _ => return e.into(),
    };
    ActionError::new(class, e.to_string())
}

/// A step that sealed its bag before it was cut off is done; any other runs again, into a bag of its own.
fn look_for_bag(cx: &Context) -> Result<Observed, ActionError> {
    let history = cx.ledger.history()?;
    let run = cx.run.as_str();
    let mine = |run_: Option<&str>, step: Option<&str>| {
        run_ == Some(run) && step == Some(cx.step.as_str())
    };
    let sealed = history
        .bodies::<BagSealed>(kind::BAG_SEALED)
        .filter(|(entry, bag)| {
            mine(entry.run(), entry.step())
                && entry.refs.attempt == Some(cx.attempt)
                && bag.recoveries == 0
                && !bag.late
        })
        .last();
    let Some((_, sealed)) = sealed else {
        return Ok(Observed::NotDone);
    };
    let exhibits: Vec<ExhibitAcquired> = history
        .bodies::<ExhibitAcquired>(kind::EXHIBIT_ACQUIRED)
        .filter(|(_, e)| e.bag == sealed.bag)
        .map(|(_, e)| e)
        .collect();
    let incomplete: Vec<String> = exhibits
        .iter()
        .filter_map(|e| {
            e.why
                .as_ref()
                .map(|why| format!("{}: {why}", e.description))
        })
        .collect();
    Ok(Observed::Done(answer(&sealed, &exhibits, incomplete)))
}

/// The result of a step with a sealed bag.
fn answer(sealed: &BagSealed, exhibits: &[ExhibitAcquired], incomplete: Vec<String>) -> Applied {
    let bytes: u64 = exhibits.iter().map(|e| e.bytes).sum();
    let mut summary = format!(
        "{} exhibits, {bytes} bytes, sealed in bag {}",
        exhibits.len(),
        sealed.bag
    );
    if !incomplete.is_empty() {
        summary.push_str(&format!(
            "; {} incomplete: {}",
            incomplete.len(),
            incomplete[0]
        ));
    }
    Applied {
        result: serde_json::json!({
            "bag": sealed.bag,
            "exhibits": exhibits.len(),
            "bytes": bytes,
            "seal_sha256": sealed.seal_sha256,
            "incomplete": incomplete,
        }),
        summary,
    }
}
