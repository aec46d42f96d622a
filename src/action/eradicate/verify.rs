//! The looks that a machine asks for on the way: does the new one work, does nobody use the old one, did the rollout come up.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::incident::clock_text;
use crate::port::{
    Login, LoginAnswer, ProbeAnswer, ProbeCall, Secret, Signer, TrailBy, TrailQuery,
};
use crate::rotation::call::Look;
use crate::rotation::plan::What;
use crate::rotation::words::Grade;

use super::carry::{Carrier, Rotation};

/// What a look found.
#[derive(Default)]
pub(super) struct Found {
    pub(super) holds: bool,
    pub(super) facts: BTreeMap<String, String>,
    pub(super) grade: Option<Grade>,
}

impl Found {
    pub(super) fn holds(facts: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        Found {
            holds: true,
            ..Found::not(facts)
        }
    }
    pub(super) fn not(facts: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        Found {
            holds: false,
            facts: facts.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
            grade: None,
        }
    }
    pub(super) fn graded(mut self, grade: Grade) -> Self {
        self.grade = Some(grade);
        self
    }
}

impl Rotation {
    /// Looks at what the machine asks for.
    pub(super) async fn find(&self, at: &mut Carrier, look: &Look) -> Found {
        match look {
            Look::NewKeyWorks { key } => self.new_key_works(at, key).await,
            Look::OldKeyQuiet { key } => self.old_key_quiet(at, key).await,
            Look::ScanClean { user } => self.scan_clean(at, user).await,
            Look::ChainClean => self.chain_clean(at).await,
            Look::OldKeyDead { user, key } => self.old_key_dead(at, user, key).await,
            Look::WhoCreated { user, key } => self.who_created(user, key).await,
            Look::TrustEffective { role } => self.trust_effective(at, role).await,
            Look::SessionsDenied { role } => self.sessions_denied(at, role).await,
            Look::NewPasswordWorks => self.new_password_works(at).await,
            Look::OldPasswordDead => self.old_password_dead(at).await,
            Look::SessionsGone => self.sessions_gone(at).await,
            Look::ReplicasInSync { secret } => self.in_sync(secret).await,
            Look::RolloutDone { workload } => self.rollout_done(*workload).await,
        }
    }

    /// Regions of the two endpoints that are probed.
    pub(super) fn endpoints(&self) -> [Option<String>; 2] {
        let second = if self.plan.region == "us-east-1" {
            "us-west-2"
        } else {
            "us-east-1"
        };
        [None, Some(second.to_owned())]
    }

    async fn new_key_works(&self, at: &Carrier, key: &str) -> Found {
        let Some(new) = &at.hand.new else {
            return Found::not([("why", "the new secret is not at hand".into())]);
        };
        let signer = Signer {
            id: key.to_owned(),
            secret: new.secret.duplicate(),
            token: None,
        };
        let waits = &self.plan.waits;
        let (mut failures, mut unanswered, mut spent) = (0u32, 0u32, 0u64);
        for region in self.endpoints() {
            let call = ProbeCall::CallerIdentity { region };
            let mut in_a_row = 0;
            while in_a_row < waits.verify_times {
                match self.estate.cloud.probe(&signer, &call).await {
                    Ok(answer) if matches!(answer.value, ProbeAnswer::Works(_)) => in_a_row += 1,
                    Ok(_) => {
                        in_a_row = 0;
                        failures += 1;
                    }
                    // No answer says nothing about the key.
                    Err(_) => unanswered += 1,
                }
                spent += waits.verify_apart_ms.max(1);
                let late = spent > waits.verify_cap_ms * 2 || failures + unanswered > 4 * CAP;
                if late || self.halted() {
                    return Found::not([
                        ("failures", failures.to_string()),
                        ("unanswered", unanswered.to_string()),
                    ]);
                }
                if in_a_row < waits.verify_times {
                    self.wait(waits.verify_apart_ms).await;
                }
            }
        }
        Found::holds([
            ("times", waits.verify_times.to_string()),
            ("endpoints", "2".into()),
            ("failures", failures.to_string()),
        ])
    }

    /// Quiet is evidence, not a timer: no use since the consumers restarted, for the whole period, plus what the trail lags.
    async fn old_key_quiet(&self, at: &Carrier, key: &str) -> Found {
        let waits = &self.plan.waits;
        let since = self
            .rollouts
            .available_at(&self.item(at.item).workloads)
            .or_else(|| {
                at.journal
                    .when(crate::rotation::machine::access_key::VERIFIED, "")
            });
        let Some(since) = since else {
            return Found::not([("who", "when the consumers restarted is not known".into())]);
        };
        // Uses are told by the account's clock, the restart by ours.
        let now = self.account_now().await;
        let since = since + (now - self.cx.ports.clock.now());
        let used = self
            .patiently(|| self.estate.cloud.key_last_used(key))
            .await;
        let used = match used {
            Err(e) => return Found::not([("who", format!("its last use cannot be read: {e}"))]),
            Ok(used) => used,
        };
        let straggled = used.at.filter(|at| *at > since);
        let simulated = self.cx.ports.clock.waits_are_simulated();
        let until = straggled.unwrap_or(since) + ms(waits.grace_ms) + ms(waits.trail_lag_ms);
        if now < until && (!simulated || straggled.is_some()) {
            let used = straggled.map(|at| {
                let service = used.service.unwrap_or_default();
                format!("used at {} on {service}; ", clock_text::seconds(at))
            });
            let who = self.stragglers(key, since).await.unwrap_or_default();
            return Found::not([(
                "who",
                format!(
                    "{}{who} the grace period ends at {}",
                    used.unwrap_or_default(),
                    clock_text::seconds(until)
                ),
            )]);
        }
        // Who used it and has stopped for the whole period is no straggler any more.
        let since = straggled.unwrap_or(since);
        match self.stragglers(key, since).await {
            Some(who) if !who.is_empty() => Found::not([("who", who)]),
            Some(_) => Found::holds([
                ("since", clock_text::seconds(since)),
                ("trail", "no event".into()),
            ])
            .graded(Grade::Quiet),
            None => Found::holds([
                ("since", clock_text::seconds(since)),
                ("trail", "not readable: last use only".into()),
            ])
            .graded(Grade::Quiet),
        }
    }

    /// What time it is by the account's clock; by ours, where it does not tell.
    pub(super) async fn account_now(&self) -> DateTime<Utc> {
        let asked = self.patiently(|| self.estate.cloud.identity()).await;
        let theirs = asked.ok().and_then(|a| a.server_date);
        theirs.unwrap_or_else(|| self.cx.ports.clock.now())
    }

    /// Client software and address of who still uses a key; `None` when the trail cannot be read.
    async fn stragglers(&self, key: &str, since: DateTime<Utc>) -> Option<String> {
        let query = TrailQuery {
            region: self.plan.region.clone(),
            by: Some(TrailBy::AccessKey(key.to_owned())),
            from: since,
            to: self.account_now().await,
            page: None,
        };
        let page = self.estate.cloud.trail(&query).await.ok()?;
        let who: Vec<String> = page
            .items
            .iter()
            .filter(|e| e.at > since)
            .map(|e| {
                let raw = e.raw.as_deref().unwrap_or("{}");
                let raw: serde_json::Value = serde_json::from_str(raw).unwrap_or_default();
                let text = |name: &str| raw[name].as_str().unwrap_or("?").to_owned();
                format!(
                    "{} from {} by {}",
                    e.name,
                    text("sourceIPAddress"),
                    text("userAgent")
                )
            })
            .take(5)
            .collect();
        Some(who.join("; "))
    }

    async fn new_password_works(&self, at: &Carrier) -> Found {
        let (What::DatabasePassword(password), Some(new)) =
            (&self.item(at.item).what, &at.hand.new)
        else {
            return Found::not([("why", "the new password is not at hand".into())]);
        };
        let waits = &self.plan.waits;
        let mut facts = BTreeMap::new();
        for server in password.servers() {
            let mut spent = 0;
            loop {
                match self.login(server, &password.role, &new.secret).await {
                    Ok(LoginAnswer::Accepted { server_now }) => {
                        // By this server's own clock: from here on nobody gets in with the old one.
                        facts.insert(server.to_string(), clock_text::millis(server_now));
                        break;
                    }
                    other => {
                        // A replica has the new verifier only once it has replayed it.
                        spent += waits.poll_ms.max(1);
                        if spent > waits.verify_cap_ms || self.halted() {
                            return Found::not([
                                ("server", server.to_string()),
                                ("answer", said(&other)),
                            ]);
                        }
                        self.wait(waits.poll_ms).await;
                    }
                }
            }
        }
        Found {
            holds: true,
            facts,
            grade: None,
        }
    }

    pub(super) async fn login(
        &self,
        server: &crate::port::Server,
        role: &str,
        password: &Secret,
    ) -> Result<LoginAnswer, crate::port::PortError> {
        let login = Login {
            role: role.to_owned(),
            password: password.duplicate(),
        };
        self.patiently(|| self.estate.database.try_login(server, &login))
            .await
    }

    async fn in_sync(&self, secret: &str) -> Found {
        let waits = &self.plan.waits;
        let mut spent = 0;
        loop {
            match self.patiently(|| self.estate.vault.describe(secret)).await {
                Ok(seen) => {
                    let behind: Vec<String> = seen
                        .value
                        .replicas
                        .iter()
                        .filter(|(_, status)| status.as_str() != "InSync")
                        .map(|(region, status)| format!("{region}: {status}"))
                        .collect();
                    if behind.is_empty() {
                        return Found::holds([("replicas", seen.value.replicas.len().to_string())]);
                    }
                    if spent > waits.rollout_ms || self.halted() {
                        return Found::not([("behind", behind.join(", "))]);
                    }
                }
                Err(e) => return Found::not([("why", e.to_string())]),
            }
            spent += waits.poll_ms.max(1);
            self.wait(waits.poll_ms).await;
        }
    }

    pub(super) async fn rollout_done(&self, workload: usize) -> Found {
        let object = &self.plan.workloads[workload].object;
        let Ok(workloads) = self.workloads() else {
            return Found::not([("why", "this command has no cluster".into())]);
        };
        let waits = &self.plan.waits;
        let mut spent = 0;
        let mut last = String::new();
        while spent <= waits.rollout_ms && !self.halted() {
            match workloads.rollout(object).await {
                Ok(r) if r.complete() => {
                    return Found::holds([
                        ("replicas", r.desired.to_string()),
                        ("waited_ms", spent.to_string()),
                    ]);
                }
                Ok(r) => {
                    let trouble = r.trouble.map(|t| format!(", {t}")).unwrap_or_default();
                    last = format!(
                        "{} of {} updated, {} available{trouble}",
                        r.updated, r.desired, r.available
                    );
                }
                Err(e) => last = e.to_string(),
            }
            spent += waits.poll_ms.max(1);
            self.wait(waits.poll_ms).await;
        }
        Found::not([("stands", last)])
    }
}

/// How many failed probes end a verification whose waits are nought.
const CAP: u32 = 25;

fn ms(ms: u64) -> TimeDelta {
    TimeDelta::milliseconds(i64::try_from(ms).unwrap_or(i64::MAX / 4))
}

/// How a login was answered, for entries.
pub(super) fn said(answer: &Result<LoginAnswer, crate::port::PortError>) -> String {
    match answer {
        Ok(LoginAnswer::Accepted { .. }) => "accepted".into(),
        Ok(LoginAnswer::Refused { sqlstate, .. }) => sqlstate.clone(),
        Err(e) => e.cause.as_str().into(),
    }
}
