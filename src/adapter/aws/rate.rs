//! Budgets: how fast each service of each account may be called, learned from what it refuses.
//!
//! One token bucket per (account, service, region, read or write), shared by all tasks of the process. A throttled call multiplies the
//! rate by 0.7, once a second at most, since calls that were on their way are refused together; five clean seconds in which somebody had
//! to wait add one call a second. Kills go before issues. Crates considered: `governor`, whose quota is fixed when it is made, so that a
//! rate cannot follow the server, and which knows no order among those who wait.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

/// A throttled call multiplies the rate by this.
const BACK_OFF: f64 = 0.7;
/// The rate never falls below this many calls a second.
const FLOOR: f64 = 0.5;
/// So long without being throttled is clean.
const CLEAN: Duration = Duration::from_secs(5);
/// Refusals within this time of one that counted are of the same wave.
const WAVE: Duration = Duration::from_secs(1);

/// A service with a budget of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// Users, keys, policies: one budget for the account, whatever the region.
    Iam,
    /// Identities and sessions.
    Sts,
    /// The secret store.
    SecretsManager,
    /// The trail.
    CloudTrail,
    /// The lease's bucket.
    S3,
    /// Which regions are enabled.
    Account,
}

impl Service {
    /// The name in signatures and in a view.
    pub fn as_str(self) -> &'static str {
        match self {
            Service::Iam => "iam",
            Service::Sts => "sts",
            Service::SecretsManager => "secretsmanager",
            Service::CloudTrail => "cloudtrail",
            Service::S3 => "s3",
            Service::Account => "account",
        }
    }
    /// Calls a second to start with. IAM and STS do not publish their limits; the trail documents two a second, the secret store fifty.
    fn start(self, kind: Kind) -> f64 {
        match (self, kind) {
            (Service::Iam, Kind::Write) => 5.0,
            (Service::Iam, Kind::Read) => 15.0,
            (Service::Sts, _) => 50.0,
            (Service::SecretsManager, Kind::Write) => 20.0,
            (Service::SecretsManager, Kind::Read) => 200.0,
            (Service::CloudTrail, _) => 1.5,
            (Service::S3, _) => 50.0,
            (Service::Account, _) => 2.0,
        }
    }
}

/// Which of a service's two budgets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Looks.
    Read,
    /// Changes.
    Write,
}

/// Who goes first where several wait for one budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Makes an intruder's credential useless.
    Kill,
    /// Everything else.
    Rest,
}

/// One budget, as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct BudgetSeen {
    /// Account.
    pub account: String,
    /// Service.
    pub service: Service,
    /// Region of the calls.
    pub region: String,
    /// Looks or changes.
    pub kind: Kind,
    /// Calls a second at the moment; `None` = unbounded.
    pub rate: Option<f64>,
    /// Calls that were let through.
    pub calls: u64,
    /// Calls that the server throttled.
    pub throttled: u64,
    /// How many wait now.
    pub waiting: u64,
}

/// The bucket itself. Pure: time is an argument.
#[derive(Debug)]
struct Bucket {
    rate: f64,
    tokens: f64,
    filled: Instant,
    throttled: Option<Instant>,
    /// When the rate was last changed, up or down.
    changed: Instant,
    /// Somebody had to wait since then: the rate is what holds us back.
    wanted: bool,
}

impl Bucket {
    fn new(rate: f64, now: Instant) -> Self {
        Bucket {
            rate,
            tokens: rate.max(1.0),
            filled: now,
            throttled: None,
            changed: now,
            wanted: false,
        }
    }

    /// Takes a token, or says how long until there is one.
    fn take(&mut self, now: Instant) -> Result<(), Duration> {
        self.learn(now);
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + passed * self.rate).min(self.rate.max(1.0));
        self.filled = now;
        // A nanosecond's rounding must not make anybody wait once more.
        if self.tokens >= 1.0 - 1e-6 {
            self.tokens -= 1.0;
            return Ok(());
        }
        self.wanted = true;
        Err(Duration::from_secs_f64((1.0 - self.tokens) / self.rate))
    }

    fn learn(&mut self, now: Instant) {
        if self.wanted && now.saturating_duration_since(self.changed) >= CLEAN {
            self.rate += 1.0;
            self.changed = now;
            self.wanted = false;
        }
    }

    fn throttle(&mut self, now: Instant) {
        if self
            .throttled
            .is_some_and(|at| now.saturating_duration_since(at) < WAVE)
        {
            return;
        }
        self.rate = (self.rate * BACK_OFF).max(FLOOR);
        self.tokens = self.tokens.min(0.0);
        self.throttled = Some(now);
        self.changed = now;
        self.wanted = false;
    }
}

#[derive(Debug)]
struct State {
    bucket: Option<Bucket>,
    calls: u64,
    throttled: u64,
    kills_waiting: u64,
    waiting: u64,
}

/// One budget that tasks wait at. At most one task per turn looks at the clock; the others stand in line behind it.
#[derive(Debug)]
pub(super) struct Budget {
    state: Mutex<State>,
    kills: tokio::sync::Mutex<()>,
    rest: tokio::sync::Mutex<()>,
}

/// Counts somebody as waiting until it goes, also when the task is cut.
struct Waits<'a>(&'a Budget, Turn);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.waiting -= 1;
        if self.1 == Turn::Kill {
            state.kills_waiting -= 1;
        }
    }
}

impl Budget {
    fn new(rate: Option<f64>) -> Self {
        Budget {
            state: Mutex::new(State {
                bucket: rate.map(|r| Bucket::new(r, Instant::now())),
                calls: 0,
                throttled: 0,
                kills_waiting: 0,
                waiting: 0,
            }),
            kills: tokio::sync::Mutex::new(()),
            rest: tokio::sync::Mutex::new(()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn waits(&self, turn: Turn) -> Waits<'_> {
        let mut state = self.state();
        state.waiting += 1;
        if turn == Turn::Kill {
            state.kills_waiting += 1;
        }
        Waits(self, turn)
    }

    /// Waits for leave to make one call.
    pub(super) async fn pass(&self, turn: Turn) {
        let _waits = self.waits(turn);
        let line = match turn {
            Turn::Kill => &self.kills,
            Turn::Rest => &self.rest,
        };
        let _head = line.lock().await;
        while let Err(wait) = self.step(turn, Instant::now()) {
            tokio::time::sleep(wait).await;
        }
    }

    /// One try of the head of a line.
    fn step(&self, turn: Turn, now: Instant) -> Result<(), Duration> {
        let mut state = self.state();
        let kills = state.kills_waiting;
        if let Some(bucket) = &mut state.bucket {
            if turn == Turn::Rest && kills > 0 {
                return Err(Duration::from_secs_f64(1.0 / bucket.rate));
            }
            bucket.take(now)?;
        }
        state.calls += 1;
        Ok(())
    }

    /// The server said: too many.
    pub(super) fn throttled(&self) {
        let mut state = self.state();
        state.throttled += 1;
        if let Some(bucket) = &mut state.bucket {
            bucket.throttle(Instant::now());
        }
    }
}

type Key = (String, Service, String, Kind);

/// All budgets of the process. Give the same one to every connection, so that two of one account share theirs.
#[derive(Debug, Default)]
pub struct Rates {
    unbounded: bool,
    budgets: Mutex<BTreeMap<Key, Arc<Budget>>>,
}

impl Rates {
    /// Budgets that start carefully and learn.
    pub fn careful() -> Arc<Self> {
        Arc::new(Rates::default())
    }
    /// No budgets, only counters: for servers on this host (a connection refuses to send anything elsewhere with it).
    pub fn unbounded() -> Arc<Self> {
        Arc::new(Rates {
            unbounded: true,
            ..Rates::default()
        })
    }
    /// True when nothing is held back.
    pub fn is_unbounded(&self) -> bool {
        self.unbounded
    }

    fn budgets(&self) -> MutexGuard<'_, BTreeMap<Key, Arc<Budget>>> {
        self.budgets.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub(super) fn of(
        &self,
        account: &str,
        service: Service,
        region: &str,
        kind: Kind,
    ) -> Arc<Budget> {
        // IAM is one for the whole account: calls signed for several regions draw on one budget.
        let region = if service == Service::Iam {
            "global"
        } else {
            region
        };
        let key = (account.to_owned(), service, region.to_owned(), kind);
        let rate = (!self.unbounded).then(|| service.start(kind));
        Arc::clone(
            self.budgets()
                .entry(key)
                .or_insert_with(|| Arc::new(Budget::new(rate))),
        )
    }

    /// How all budgets stand, for a live view and the report's totals.
    pub fn seen(&self) -> Vec<BudgetSeen> {
        let all = self.budgets();
        all.iter()
            .map(|((account, service, region, kind), budget)| {
                let state = budget.state();
                BudgetSeen {
                    account: account.clone(),
                    service: *service,
                    region: region.clone(),
                    kind: *kind,
                    rate: state.bucket.as_ref().map(|b| b.rate),
                    calls: state.calls,
                    throttled: state.throttled,
                    waiting: state.waiting,
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls a server that allows `limit` a second for `seconds`, as fast as the bucket lets; answers (allowed, refused) of the last
    /// `tail` seconds.
    fn against(limit: f64, start: f64, seconds: u64, tail: u64) -> (u64, u64) {
        let began = Instant::now();
        let end = began + Duration::from_secs(seconds);
        let mut now = began;
        let (mut bucket, mut server) = (Bucket::new(start, now), Bucket::new(limit, now));
        let (mut allowed, mut refused) = (0, 0);
        while now < end {
            match bucket.take(now) {
                Err(wait) => now += wait,
                Ok(()) => {
                    // The server does not learn.
                    server.wanted = false;
                    let fits = server.take(now).is_ok();
                    if !fits {
                        bucket.throttle(now);
                    }
                    if end.duration_since(now) <= Duration::from_secs(tail) {
                        if fits {
                            allowed += 1;
                        } else {
                            refused += 1;
                        }
                    }
                }
            }
        }
        (allowed, refused)
    }

    #[test]
    fn a_hidden_limit_is_found_and_hardly_ever_crossed() {
        let (allowed, refused) = against(8.0, 5.0, 90, 60);
        assert!(allowed as f64 >= 0.8 * 8.0 * 60.0, "{allowed}");
        assert!(
            (refused as f64) < 0.05 * (allowed + refused) as f64,
            "{refused}"
        );
        // Far too fast at first: a third of a minute later it has come down.
        let (allowed, refused) = against(4.0, 40.0, 60, 40);
        assert!(allowed as f64 >= 0.8 * 4.0 * 40.0, "{allowed}");
        assert!(
            (refused as f64) < 0.05 * (allowed + refused) as f64,
            "{refused}"
        );
    }

    #[test]
    fn a_wave_of_refusals_counts_once_and_the_rate_has_a_floor() {
        let now = Instant::now();
        let mut bucket = Bucket::new(10.0, now);
        for _ in 0..50 {
            bucket.throttle(now);
        }
        assert!((bucket.rate - 7.0).abs() < 1e-9, "{}", bucket.rate);
        for n in 1..60 {
            bucket.throttle(now + Duration::from_secs(n));
        }
        assert!((bucket.rate - FLOOR).abs() < 1e-9, "{}", bucket.rate);
    }

    #[test]
    fn an_idle_budget_does_not_grow() {
        let now = Instant::now();
        let mut bucket = Bucket::new(5.0, now);
        for n in 0..100 {
            assert!(bucket.take(now + Duration::from_secs(n)).is_ok());
        }
        assert!((bucket.rate - 5.0).abs() < 1e-9);
    }

    #[test]
    fn kills_go_before_issues_and_a_cut_task_stops_waiting() {
        let budget = Budget::new(Some(1.0));
        let now = Instant::now();
        assert!(budget.step(Turn::Rest, now).is_ok());
        let kill = budget.waits(Turn::Kill);
        let later = now + Duration::from_secs(2);
        assert!(budget.step(Turn::Rest, later).is_err());
        assert!(budget.step(Turn::Kill, later).is_ok());
        drop(kill);
        assert!(
            budget
                .step(Turn::Rest, later + Duration::from_secs(2))
                .is_ok()
        );
    }

    #[test]
    fn iam_has_one_budget_for_all_regions_and_what_was_counted_is_seen() {
        let rates = Rates::careful();
        let one = rates.of("1", Service::Iam, "eu-west-1", Kind::Write);
        let other = rates.of("1", Service::Iam, "us-east-1", Kind::Write);
        assert!(Arc::ptr_eq(&one, &other));
        assert!(one.step(Turn::Rest, Instant::now()).is_ok());
        one.throttled();
        let seen = rates.seen();
        assert_eq!((seen[0].calls, seen[0].throttled), (1, 1));
        assert_eq!(seen[0].rate, Some(3.5));
        assert_eq!(
            Rates::unbounded()
                .of("1", Service::Iam, "x", Kind::Read)
                .state()
                .bucket
                .as_ref()
                .map(|b| b.rate),
            None
        );
    }
}
