//! What goes wrong on purpose, as data: at which call, on what, which time, and what then.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::port::{Cause, PortError};

use super::Call;
use super::key::Hand;
use super::world::EstateWorld;

/// One thing that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EstateFault {
    /// Name of the port's method: `create_access_key`. Methods of the secret store and the database that share a name with another are
    /// told apart by [`super::Call`]'s names: `vault_list`, `vault_create`, `vault_read`, `vault_put`.
    pub call: String,
    /// What it is called on (user, secret, server, workload); `None` = whatever.
    pub on: Option<String>,
    /// At which such call, from 1; 0 = at each.
    pub nth: u64,
    /// What happens.
    pub then: Mishap,
    /// Such calls so far.
    #[serde(default)]
    pub met: u64,
}

/// The name that the world's file uses.
pub(super) type Fault = EstateFault;

/// What happens at a fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mishap {
    /// The call fails before it has any effect.
    Refuse {
        /// Cause, as [`Cause::as_str`] names it.
        cause: String,
        /// The server's code.
        code: String,
    },
    /// The effect happens, is durable, and the reply is lost.
    LoseReply,
    /// It is answered with *done* and takes hold so many calls later (keys' status and deletion, inline policies, trust).
    Late {
        /// Calls.
        calls: u32,
    },
    /// What it makes (a key, a secret's version) is not seen for so many calls.
    Hide {
        /// Calls until lists and reads show it.
        listed: u32,
        /// Calls until a key authenticates.
        usable: u32,
    },
    /// Before the call, a database server goes down.
    Down {
        /// Host.
        host: String,
        /// For so many calls.
        calls: u32,
    },
    /// Before the call, somebody else's rotation puts a pending version.
    ForeignPending {
        /// Secret's name.
        secret: String,
    },
    /// Before the call, the intruder makes a key for a user.
    ForeignKey {
        /// User.
        user: String,
    },
    /// Before the call, somebody changes a value of a Kubernetes Secret.
    MeddleSecret {
        /// `namespace/name`.
        secret: String,
        /// Key.
        key: String,
        /// New value.
        value: String,
    },
}

impl EstateFault {
    /// The call fails before its effect, with the code that fits the cause.
    pub fn before(call: &str, nth: u64, cause: Cause) -> Self {
        let code = match cause {
            Cause::Refused => "AccessDenied",
            Cause::Throttled => "Throttling",
            Cause::Unreachable => "ServiceUnavailable",
            _ => "InternalFailure",
        };
        EstateFault::of(
            call,
            nth,
            Mishap::Refuse {
                cause: cause.as_str().to_owned(),
                code: code.to_owned(),
            },
        )
    }
    /// The call's effect happens and its reply is lost.
    pub fn after(call: &str, nth: u64) -> Self {
        EstateFault::of(call, nth, Mishap::LoseReply)
    }
    /// The call's effect comes so many calls later.
    pub fn late(call: &str, nth: u64, calls: u32) -> Self {
        EstateFault::of(call, nth, Mishap::Late { calls })
    }
    /// What the call makes is not seen for so many calls.
    pub fn hidden(call: &str, nth: u64, calls: u32) -> Self {
        let (listed, usable) = (calls, calls);
        EstateFault::of(call, nth, Mishap::Hide { listed, usable })
    }
    /// Any mishap at the n-th such call.
    pub fn of(call: &str, nth: u64, then: Mishap) -> Self {
        EstateFault {
            call: call.to_owned(),
            on: None,
            nth,
            then,
            met: 0,
        }
    }
    /// Only where it is called on this.
    #[must_use]
    pub fn on(mut self, what: &str) -> Self {
        self.on = Some(what.to_owned());
        self
    }
}

/// A rate limit that nobody told us of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bucket {
    /// Methods that draw from it; none = all.
    pub calls: Vec<String>,
    /// Tokens that come each second.
    pub per_second: f64,
    /// Tokens it holds at most.
    pub holds: f64,
    /// Tokens it has.
    pub tokens: f64,
    /// When it was filled last.
    pub filled: Option<DateTime<Utc>>,
    /// Calls that it turned away.
    pub throttled: u64,
}

impl Bucket {
    /// A full bucket.
    pub fn new(calls: &[&str], per_second: f64, holds: f64) -> Self {
        Bucket {
            calls: calls.iter().map(|c| (*c).to_owned()).collect(),
            per_second,
            holds,
            tokens: holds,
            filled: None,
            throttled: 0,
        }
    }
    /// Takes a token. False when there is none.
    fn take(&mut self, now: DateTime<Utc>) -> bool {
        let since = self
            .filled
            .map_or(0, |at| (now - at).num_milliseconds().max(0));
        // Milliseconds of a test or a drill fit exactly.
        #[expect(clippy::cast_precision_loss, reason = "spans of a drill are short")]
        let more = since as f64 / 1000.0 * self.per_second;
        self.tokens = (self.tokens + more).min(self.holds);
        self.filled = Some(now);
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        } else {
            self.throttled += 1;
        }
        enough
    }
}

/// What a call has to reckon with.
#[derive(Debug, Default)]
pub(super) struct Fate {
    pub before: Option<PortError>,
    pub lose: bool,
    pub late: Option<u32>,
    pub hide: Option<(u32, u32)>,
}

/// Counts the call and says what becomes of it. What others do to the world is done here.
pub(super) fn fate(world: &mut EstateWorld, call: &Call<'_>, now: DateTime<Utc>) -> Fate {
    let mut due = Vec::new();
    for fault in &mut world.faults {
        let meant = fault.call == call.method && fault.on.as_deref().is_none_or(|on| on == call.on);
        if meant {
            fault.met += 1;
            if fault.nth == 0 || fault.nth == fault.met {
                due.push(fault.then.clone());
            }
        }
    }
    let mut fate = Fate::default();
    for mishap in due {
        strike(world, call, mishap, &mut fate, now);
    }
    let throttled = world
        .buckets
        .iter_mut()
        .filter(|b| b.calls.is_empty() || b.calls.iter().any(|c| c == call.method))
        .any(|b| !b.take(now));
    if throttled && fate.before.is_none() {
        fate.before = Some(call.error(Cause::Throttled, "Throttling: Rate exceeded"));
    }
    fate
}

fn strike(
    world: &mut EstateWorld,
    call: &Call<'_>,
    mishap: Mishap,
    fate: &mut Fate,
    now: DateTime<Utc>,
) {
    match mishap {
        Mishap::Refuse { cause, code } => {
            let detail = format!("{code}: simulated fault");
            fate.before = Some(call.error(super::super::fault::cause_of(&cause), detail));
        }
        Mishap::LoseReply => fate.lose = true,
        Mishap::Late { calls } => fate.late = Some(calls),
        Mishap::Hide { listed, usable } => fate.hide = Some((listed, usable)),
        Mishap::Down { host, calls } => {
            for cluster in &mut world.databases {
                cluster.take_down(&host, calls);
            }
        }
        Mishap::ForeignPending { secret } => {
            let (id, value) = (world.mint_uid(), world.mint_secret());
            if let Some(secret) = world.secrets.get_mut(&secret) {
                secret.store(&id, value, &[crate::port::PENDING], now);
            }
        }
        Mishap::ForeignKey { user } => {
            let id = world.add_key(&user, now, Hand::Attacker);
            world.attacker.holds.push(id);
        }
        Mishap::MeddleSecret { secret, key, value } => {
            if let Some(secret) = world.kube_secrets.get_mut(&secret) {
                secret.set(&key, &value, "somebody");
            }
        }
    }
}
