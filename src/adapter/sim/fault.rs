//! What goes wrong on purpose, as data in the world's file: which call, which time, and what then.

use serde::{Deserialize, Serialize};

use crate::port::{Cause, PortError};

use super::world::{Enforcing, World};

/// One thing that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Name of the port's method: `change_labels`; its previews are `preview:change_labels`.
    pub call: String,
    /// At which call of that method, from 1; 0 = at each.
    pub nth: u64,
    /// What happens.
    pub then: Then,
}

/// What happens at a fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// The call fails before it has any effect, with a cause as [`Cause::as_str`] names it.
    FailBefore(String),
    /// The effect happens, is durable, and the reply is lost.
    LoseReply,
    /// Before the call, somebody deletes the pod and makes another under its name.
    Recreate {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
    },
    /// Before the call, somebody sets a label of a pod.
    Relabel {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// Label key.
        key: String,
        /// New value.
        value: String,
    },
    /// Before the call, the network plugin stops.
    StopPlugin,
}

impl Fault {
    /// The call fails before its effect.
    pub fn before(call: &str, nth: u64, cause: Cause) -> Self {
        Fault {
            call: call.to_owned(),
            nth,
            then: Then::FailBefore(cause.as_str().to_owned()),
        }
    }
    /// The call's effect happens and its reply is lost.
    pub fn after(call: &str, nth: u64) -> Self {
        Fault {
            call: call.to_owned(),
            nth,
            then: Then::LoseReply,
        }
    }
}

/// What a call has to reckon with.
#[derive(Debug, Default)]
pub(super) struct Fate {
    /// Fail before the effect.
    pub before: Option<PortError>,
    /// Fail after it.
    pub after: Option<PortError>,
    /// The world changed by itself before the call, or counts calls for a fault: it must be saved whatever the call does.
    pub dirty: bool,
}

/// Counts the call and says what becomes of it. What others do to the world is done here.
pub(super) fn fate(world: &mut World, call: &str, tried: &str, on: &str) -> Fate {
    if !world.faults.iter().any(|f| f.call == call) {
        return Fate::default();
    }
    let count = world.calls.entry(call.to_owned()).or_default();
    *count += 1;
    let now = *count;
    let due: Vec<Then> = world
        .faults
        .iter()
        .filter(|f| f.call == call && (f.nth == 0 || f.nth == now))
        .map(|f| f.then.clone())
        .collect();
    let mut fate = Fate {
        dirty: true,
        ..Fate::default()
    };
    for then in due {
        match then {
            Then::FailBefore(word) => {
                let detail = format!("simulated fault: {word}");
                fate.before = Some(PortError::new(cause_of(&word), tried, on, detail));
            }
            Then::LoseReply => {
                fate.after = Some(PortError::new(
                    Cause::LostReply,
                    tried,
                    on,
                    "simulated fault: the connection broke before the answer came",
                ));
            }
            Then::Recreate { namespace, name } => {
                world.recreate_pod(&namespace, &name);
                super::control::settle(world);
            }
            Then::Relabel {
                namespace,
                name,
                key,
                value,
            } => {
                if let Some(pod) = world.pod_mut(&namespace, &name) {
                    pod.labels.insert(key, value);
                }
                super::control::settle(world);
            }
            Then::StopPlugin => world.enforcing = Enforcing::Never,
        }
    }
    fate
}

/// The cause of a word; one that we do not know is our own fault and says so as `Local`.
pub(super) fn cause_of(word: &str) -> Cause {
    [
        Cause::Refused,
        Cause::NotFound,
        Cause::Conflict,
        Cause::Rejected,
        Cause::Throttled,
        Cause::Unreachable,
        Cause::LostReply,
        Cause::Timeout,
        Cause::Unsupported,
        Cause::Unreadable,
    ]
    .into_iter()
    .find(|c| c.as_str() == word)
    .unwrap_or(Cause::Local)
}
