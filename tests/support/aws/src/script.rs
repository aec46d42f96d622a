//! What a test may order: faults, and the settings that hold for every call. The JSON of the control endpoint is these types.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::call::Call;

/// Which calls are meant. What is not given fits all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Match {
    /// `iam`, …
    pub service: Option<String>,
    /// `CreateAccessKey`, …; a `*` at its end stands for any rest.
    pub action: Option<String>,
    /// Access key id that signed it.
    pub key: Option<String>,
    /// Parameters with their values.
    pub parameter: BTreeMap<String, String>,
}

impl Match {
    /// Calls of this action.
    pub fn action(service: &str, action: &str) -> Match {
        Match {
            service: Some(service.to_owned()),
            action: Some(action.to_owned()),
            ..Match::default()
        }
    }

    /// The same, of those with this parameter.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Match {
        self.parameter.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The same, of those that this key signed.
    #[must_use]
    pub fn by(mut self, key: &str) -> Match {
        self.key = Some(key.to_owned());
        self
    }

    /// True when it means this call.
    pub fn fits(&self, call: &Call) -> bool {
        let action = |wanted: &String| match wanted.strip_suffix('*') {
            Some(prefix) => call.action.starts_with(prefix),
            None => *wanted == call.action,
        };
        self.service.as_ref().is_none_or(|s| *s == call.service)
            && self.action.as_ref().is_none_or(action)
            && self
                .key
                .as_ref()
                .is_none_or(|k| call.key.as_ref() == Some(k))
            && self
                .parameter
                .iter()
                .all(|(name, value)| call.parameter(name) == Some(value))
    }
}

/// How long something is held back: so many seconds of the proxy's clock, or so many calls.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delay {
    /// Seconds.
    Seconds(f64),
    /// Calls.
    Calls(u64),
}

/// What becomes of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// Refused before the effect.
    Refuse {
        /// HTTP status; 5xx too.
        status: u16,
        /// Code.
        code: String,
        /// Text.
        #[serde(default)]
        message: String,
    },
    /// Refused before the effect, as a service does that is asked too often.
    Throttle,
    /// The connection ends; the double never hears of it.
    LoseRequest,
    /// The double did it; the connection ends before a byte of its answer.
    LoseReply,
    /// The double did it; the connection ends in the middle of its answer.
    CutReply,
    /// No effect and no answer, until the client gives up.
    HangRequest,
    /// The double did it; no answer, until the client gives up.
    HangReply,
    /// Held up for so many milliseconds, then done.
    Latency(u64),
    /// The double gets it twice; the client sees the first answer.
    Twice,
    /// Answered as done; done later. For calls whose success has no result.
    Late(Delay),
    /// Of `CreateAccessKey`: the new id is refused and not listed for so long. A call counts when it would have met the key.
    HideKey(Delay),
}

impl Fault {
    /// Its name in the log.
    pub fn name(&self) -> &'static str {
        match self {
            Fault::Refuse { .. } => "refuse",
            Fault::Throttle => "throttle",
            Fault::LoseRequest => "lose_request",
            Fault::LoseReply => "lose_reply",
            Fault::CutReply => "cut_reply",
            Fault::HangRequest => "hang_request",
            Fault::HangReply => "hang_reply",
            Fault::Latency(_) => "latency",
            Fault::Twice => "twice",
            Fault::Late(_) => "late",
            Fault::HideKey(_) => "hide_key",
        }
    }
}

/// An order: the `nth` of these calls and the `times - 1` after it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Which calls.
    #[serde(default, rename = "match")]
    pub calls: Match,
    /// The first that is concerned, counted from 1 since the order was given.
    #[serde(default = "one")]
    pub nth: u64,
    /// How many are; 0 = all from there.
    #[serde(default = "one")]
    pub times: u64,
    /// What becomes of them.
    pub fault: Fault,
    /// Calls that fitted so far.
    #[serde(default)]
    pub seen: u64,
}

fn one() -> u64 {
    1
}

impl Order {
    /// This fault for the next such call.
    pub fn new(calls: Match, fault: Fault) -> Order {
        Order {
            calls,
            nth: 1,
            times: 1,
            fault,
            seen: 0,
        }
    }

    /// The same, beginning with the nth such call.
    #[must_use]
    pub fn nth(mut self, nth: u64) -> Order {
        self.nth = nth;
        self
    }

    /// The same for so many calls in a row; 0 = for all.
    #[must_use]
    pub fn times(mut self, times: u64) -> Order {
        self.times = times;
        self
    }

    /// Counts a call and says whether it is concerned.
    pub fn meets(&mut self, call: &Call) -> bool {
        if !self.calls.fits(call) {
            return false;
        }
        self.seen += 1;
        self.seen >= self.nth && (self.times == 0 || self.seen < self.nth + self.times)
    }

    /// Why it makes no sense, if so.
    pub fn check(&self) -> Result<(), String> {
        let action = self.calls.action.as_deref().unwrap_or("");
        match &self.fault {
            Fault::Late(_) if !LATE.iter().any(|known| fits_name(known, action)) => Err(format!(
                "late: `{action}` has a result; possible: {}",
                LATE.join(" ")
            )),
            Fault::HideKey(_) if action != "CreateAccessKey" => {
                Err("hide_key: only for CreateAccessKey".to_owned())
            }
            _ if self.nth == 0 => Err("nth: calls are counted from 1".to_owned()),
            _ => Ok(()),
        }
    }
}

/// Actions whose success has no result, so that it can be told before it is true.
const LATE: [&str; 9] = [
    "UpdateAccessKey",
    "DeleteAccessKey",
    "DeleteLoginProfile",
    "UpdateLoginProfile",
    "UpdateAssumeRolePolicy",
    "Put*Policy",
    "Delete*Policy",
    "Attach*Policy",
    "Detach*Policy",
];

fn fits_name(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        Some((prefix, suffix)) => name.starts_with(prefix) && name.ends_with(suffix),
        None => pattern == name,
    }
}

/// A bucket that nobody is told of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bucket {
    /// Service; none = all together.
    #[serde(default)]
    pub service: Option<String>,
    /// Writes only, reads only, or (none) both together.
    #[serde(default)]
    pub writes: Option<bool>,
    /// Refill.
    pub per_second: f64,
    /// Size.
    pub burst: f64,
    /// What is in it; begins full.
    #[serde(skip)]
    level: Option<(f64, f64)>,
}

impl Bucket {
    /// A full bucket.
    pub fn new(service: Option<&str>, writes: Option<bool>, per_second: f64, burst: f64) -> Bucket {
        Bucket {
            service: service.map(str::to_owned),
            writes,
            per_second,
            burst,
            level: None,
        }
    }

    /// Takes a token for a call that it concerns; false when there was none.
    pub fn admits(&mut self, call: &Call, now_s: f64) -> bool {
        let concerned = self.service.as_ref().is_none_or(|s| *s == call.service)
            && self.writes.is_none_or(|writes| writes == call.writes());
        if !concerned {
            return true;
        }
        let (tokens, since) = self.level.unwrap_or((self.burst, now_s));
        let tokens = (tokens + (now_s - since) * self.per_second).min(self.burst);
        let admitted = tokens >= 1.0;
        self.level = Some((if admitted { tokens - 1.0 } else { tokens }, now_s));
        admitted
    }
}

/// What holds for every call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Access keys that a user may have, Inactive ones too; 0 = no limit.
    pub keys_per_user: usize,
    /// Items in one page of a list, whatever the client asks for; 0 = what it asks for, or 100.
    pub page_size: usize,
    /// Seconds until an event is in the trail.
    pub trail_lag_s: f64,
    /// Seconds until a use is in `GetAccessKeyLastUsed`.
    pub last_used_lag_s: f64,
    /// Milliseconds that every call takes longer.
    pub latency_ms: u64,
    /// Limits of rate.
    pub buckets: Vec<Bucket>,
    /// Account of principals that nothing was heard of.
    pub account: String,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            keys_per_user: 2,
            page_size: 0,
            trail_lag_s: 0.0,
            last_used_lag_s: 0.0,
            latency_ms: 0,
            buckets: Vec::new(),
            account: "000000000000".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_reads_as_it_is_documented() {
        let text = r#"{"match": {"service": "iam", "action": "CreateAccessKey", "parameter": {"UserName": "ci-01"}},
                       "nth": 2, "fault": {"late": {"calls": 3}}}"#;
        let order: Order = serde_json::from_str(text).unwrap();
        assert_eq!(order.nth, 2);
        assert_eq!(order.fault, Fault::Late(Delay::Calls(3)));
        assert!(order.check().unwrap_err().contains("has a result"));
        let plain: Order = serde_json::from_str(r#"{"fault": "lose_reply"}"#).unwrap();
        assert_eq!(plain.fault, Fault::LoseReply);
        assert!(serde_json::from_str::<Order>(r#"{"fault": "lose_reply", "often": 1}"#).is_err());
    }

    #[test]
    fn policies_may_be_late_and_lists_may_not() {
        let late = |action: &str| {
            Order::new(Match::action("iam", action), Fault::Late(Delay::Calls(1))).check()
        };
        assert!(late("PutUserPolicy").is_ok());
        assert!(late("UpdateAccessKey").is_ok());
        assert!(late("ListUsers").is_err());
    }
}
