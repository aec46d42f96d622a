//! Everything that is remembered, behind one lock that is never held across a wait.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::attacker::Spoils;
use crate::call::Call;
use crate::forward::Request;
use crate::known::{Known, seconds};
use crate::log::{Effect, Log};
use crate::pages;
use crate::reply::Reply;
use crate::script::{Delay, Fault, Order, Settings};
use crate::trail::{Trail, after};
use crate::xml;

/// Until when something is held back.
#[derive(Clone, Copy, Debug)]
enum Until {
    Time(DateTime<Utc>),
    Calls(u64),
}

/// A call that was answered and not done yet.
pub struct Late {
    /// Its number in the log.
    pub number: u64,
    /// What it asks.
    pub call: Call,
    /// As it came.
    pub request: Request,
    /// Who sent it.
    pub source: String,
    until: Until,
}

/// See the room's page.
#[derive(Default)]
pub struct State {
    /// Settings.
    pub settings: Settings,
    /// Faults that were ordered.
    pub orders: Vec<Order>,
    /// What came through.
    pub log: Log,
    /// What the attackers got.
    pub spoils: Vec<Spoils>,
    known: Known,
    trail: Trail,
    late: Vec<Late>,
    hidden: HashMap<String, Until>,
    ahead: TimeDelta,
}

/// What is to become of a call.
pub struct Plan {
    /// Its number in the log.
    pub number: u64,
    /// Wait so long first, milliseconds.
    pub latency_ms: u64,
    /// What was ordered for it.
    pub faults: Vec<Fault>,
    /// The answer, if the double is not to hear of it.
    pub refusal: Option<Reply>,
    /// The user whose place for a new key is taken while it runs.
    pub creating: Option<String>,
}

impl State {
    /// The proxy's clock: the machine's, moved ahead by what tests ordered.
    pub fn now(&self) -> DateTime<Utc> {
        Utc::now() + self.ahead
    }

    /// Moves the clock ahead.
    pub fn advance(&mut self, seconds: f64) {
        self.ahead += after(seconds);
    }

    /// Notes a call and decides.
    pub fn admit(&mut self, call: &Call, source: &str) -> Plan {
        let now = self.now();
        let identity = call.key.as_ref().and_then(|key| self.known.identity(key));
        let principal = identity.map(|i| i.arn.clone());
        let number = self.log.arrived(call, source.to_owned(), principal, now);
        // Each order counts each call, also one that another order takes.
        let faults: Vec<Fault> = self
            .orders
            .iter_mut()
            .filter_map(|order| order.meets(call).then(|| order.fault.clone()))
            .collect();
        let latency: u64 = faults
            .iter()
            .map(|fault| {
                if let Fault::Latency(ms) = fault {
                    *ms
                } else {
                    0
                }
            })
            .sum();
        let mut plan = Plan {
            number,
            latency_ms: latency + self.settings.latency_ms,
            faults,
            refusal: None,
            creating: None,
        };
        self.refuse(call, &mut plan, now);
        let named = plan
            .faults
            .iter()
            .map(Fault::name)
            .collect::<Vec<_>>()
            .join("+");
        if !named.is_empty() {
            self.log.change(number, |entry| entry.fault = Some(named));
        }
        plan
    }

    fn refuse(&mut self, call: &Call, plan: &mut Plan, now: DateTime<Utc>) {
        let n = plan.number;
        if call
            .key
            .as_ref()
            .is_some_and(|key| self.meets_hidden(key, now))
        {
            plan.refusal = Some(Reply::dead_key(call, n));
            return;
        }
        plan.refusal = plan.faults.iter().find_map(|fault| match fault {
            Fault::Refuse {
                status,
                code,
                message,
            } => Some(Reply::refusal(call, n, *status, code, message)),
            Fault::Throttle => Some(Reply::throttled(call, n)),
            _ => None,
        });
        #[expect(
            clippy::cast_precision_loss,
            reason = "milliseconds of this century fit"
        )]
        let now_s = now.timestamp_millis() as f64 / 1000.0;
        if plan.refusal.is_none()
            && !self
                .settings
                .buckets
                .iter_mut()
                .all(|b| b.admits(call, now_s))
        {
            plan.refusal = Some(Reply::throttled(call, n));
            self.log
                .change(n, |entry| entry.fault = Some("bucket".to_owned()));
        }
        if plan.refusal.is_none() && call.action == "CreateAccessKey" {
            self.take_place(call, plan);
        }
    }

    /// A user's places for keys. A key that is dead is not told of them: the double refuses it.
    fn take_place(&mut self, call: &Call, plan: &mut Plan) {
        let dead = call.key.as_ref().is_some_and(|key| self.known.is_dead(key));
        let Some(user) = self.known.user_of(call).filter(|_| !dead) else {
            return;
        };
        let limit = self.settings.keys_per_user;
        if self.known.reserve(&user, limit) {
            plan.creating = Some(user);
        } else {
            let text = format!("Cannot exceed quota for AccessKeysPerUser: {limit}");
            plan.refusal = Some(Reply::refusal(
                call,
                plan.number,
                409,
                "LimitExceeded",
                &text,
            ));
        }
    }

    /// True while the key is hidden; counts a meeting.
    fn meets_hidden(&mut self, key: &str, now: DateTime<Utc>) -> bool {
        let hidden = match self.hidden.get_mut(key) {
            None => return false,
            Some(Until::Time(until)) => now < *until,
            Some(Until::Calls(0)) => false,
            Some(Until::Calls(left)) => {
                *left -= 1;
                true
            }
        };
        if !hidden {
            self.hidden.remove(key);
        }
        hidden
    }

    fn until(&self, delay: Delay) -> Until {
        match delay {
            Delay::Seconds(seconds) => Until::Time(self.now() + after(seconds)),
            Delay::Calls(calls) => Until::Calls(calls),
        }
    }

    /// Keeps a call for later.
    pub fn postpone(
        &mut self,
        plan: &Plan,
        call: Call,
        request: Request,
        source: String,
        delay: Delay,
    ) {
        let until = self.until(delay);
        self.log
            .change(plan.number, |entry| entry.effect = Effect::Pending);
        self.late.push(Late {
            number: plan.number,
            call,
            request,
            source,
            until,
        });
    }

    /// What is due now; `arrival` = another call is about to be handled, which counts.
    pub fn due(&mut self, arrival: bool) -> Vec<Late> {
        let now = self.now();
        let due = |late: &mut Late| match &mut late.until {
            Until::Time(until) => *until <= now,
            Until::Calls(0) => arrival,
            Until::Calls(left) => {
                *left -= u64::from(arrival);
                false
            }
        };
        self.late.extract_if(.., due).collect()
    }

    /// Lets everything that is held back happen now.
    pub fn settle(&mut self) {
        let now = self.now();
        for late in &mut self.late {
            late.until = Until::Time(now);
        }
        self.hidden.clear();
    }

    /// Takes in what the double answered.
    pub fn answered(&mut self, number: u64, call: &Call, source: &str, reply: &Reply) {
        let now = self.now();
        let account = self.settings.account.clone();
        if !reply.refuses_the_key() {
            self.known.used(call, now);
        }
        // The event is about the world before it: who assumed a role is told by the key that asked.
        self.trail
            .note(call, reply, &self.known, source, &account, now);
        if reply.ok() {
            self.known.learn(call, reply, &account, now);
        }
        self.log.change(number, |entry| {
            entry.forwarded += 1;
            entry.request_id = reply.request_id();
            if reply.ok() && call.writes() {
                entry.effect = Effect::Done;
            } else if entry.effect == Effect::Pending {
                entry.effect = Effect::None;
                entry.code = reply.code();
            }
        });
    }

    /// Ends the place that a new key took while it was made, and hides it if that was ordered.
    pub fn created(&mut self, plan: &Plan, reply: &Reply) {
        if let Some(user) = &plan.creating {
            self.known.release(user);
        }
        let hide = plan.faults.iter().find_map(|fault| match fault {
            Fault::HideKey(delay) => Some(*delay),
            _ => None,
        });
        if let (Some(delay), Some(key)) = (hide, xml::text(reply.text(), "AccessKeyId")) {
            let until = self.until(delay);
            self.hidden.insert(key, until);
        }
    }

    /// Gives back what a call took that the double never hears of.
    pub fn abandoned(&mut self, plan: &Plan) {
        if let Some(user) = &plan.creating {
            self.known.release(user);
        }
    }

    /// Puts into an answer what the double lacks.
    pub fn complete(&mut self, number: u64, call: &Call, reply: &mut Reply) {
        let now = self.now();
        match call.action.as_str() {
            "LookupEvents"
                if !reply.refuses_the_key()
                    && reply.code().as_deref() != Some("AccessDeniedException") =>
            {
                *reply = self
                    .trail
                    .answer(call, number, now, self.settings.trail_lag_s);
            }
            "GetAccessKeyLastUsed" if reply.ok() => self.complete_last_used(call, reply, now),
            "ListAccessKeys" if reply.ok() => {
                let hidden: Vec<String> = self.hidden.keys().cloned().collect();
                let listed = |key: &String| reply.text().contains(key.as_str());
                let hidden: Vec<String> = hidden
                    .into_iter()
                    .filter(listed)
                    .filter(|k| self.meets_hidden(k, now))
                    .collect();
                if !hidden.is_empty() {
                    pages::hide(reply, &hidden);
                }
            }
            _ => {}
        }
        pages::page(call, reply, self.settings.page_size);
    }

    fn complete_last_used(&self, call: &Call, reply: &mut Reply, now: DateTime<Utc>) {
        let until = now - after(self.settings.last_used_lag_s);
        let key = call.parameter("AccessKeyId").unwrap_or("");
        let Some(last) = self.known.last_use(key, until) else {
            return;
        };
        let text = reply.text();
        let Some(old) = xml::inner(text, "AccessKeyLastUsed") else {
            return;
        };
        let new = format!(
            "<LastUsedDate>{}</LastUsedDate><ServiceName>{}</ServiceName><Region>{}</Region>",
            seconds(last.at),
            last.service,
            last.region
        );
        let body = text.replacen(old, &new, 1);
        reply.replace(body);
    }

    /// Notes how a call ended for its client.
    pub fn ended(&mut self, number: u64, reply: Option<&Reply>) {
        self.log.change(number, |entry| {
            entry.status = reply.map(|r| r.status.as_u16());
            entry.code = reply.and_then(Reply::code);
            entry.ended = true;
        });
    }

    /// Counts from nothing again: no log, no trail, no orders, no spoils. What is known of keys stays, they exist.
    pub fn forget(&mut self) {
        self.orders.clear();
        self.log.forget();
        self.trail.forget();
        self.spoils.clear();
    }
}
