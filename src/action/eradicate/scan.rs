//! What the intruder does against a kill: keys, a console password, denies taken off, roles assumed.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use crate::port::{Cause, PortError, Principal, TrailBy, TrailEvent, TrailQuery};
use crate::rotation::machine::access_key::{CHAIN_REVOKED, FOREIGN_KEY, SESSIONS_DENIED};
use crate::rotation::plan::{AccessKey, What};

use super::carry::{Carrier, Rotation};
use super::prepare::t_in_place;
use super::prove::{CLEAN, LEAST_MS};
use super::verify::Found;

/// At most so many credentials are followed in the trail.
const FOLLOWED: usize = 200;

impl Rotation {
    /// Two clean scans apart: no active key but those that the plan leaves and ours, no new console password, the denies in place.
    pub(super) async fn scan_clean(&self, at: &Carrier, user: &str) -> Found {
        let What::AccessKey(planned) = &self.item(at.item).what else {
            return Found::not([("why", "it is no access key".into())]);
        };
        let waits = &self.plan.waits;
        let (mut clean, mut spent) = (0, 0);
        while clean < CLEAN {
            if let Err(found) = self.scan(user, planned).await {
                return found;
            }
            clean += 1;
            spent += waits.scan_apart_ms.max(LEAST_MS);
            if spent > waits.scan_cap_ms || self.halted() {
                return Found::not([("why", "not two clean scans in time".into())]);
            }
            if clean < CLEAN {
                self.wait(waits.scan_apart_ms).await;
            }
        }
        Found::holds([("scans", CLEAN.to_string())])
    }

    async fn scan(&self, user: &str, planned: &AccessKey) -> Result<(), Found> {
        let unread = |e: PortError| Found::not([("why", e.to_string())]);
        let keys = self.patiently(|| self.estate.cloud.access_keys(user)).await;
        let keys = keys.map_err(unread)?.value;
        let ours = self.ours.lock().map(|o| o.clone()).unwrap_or_default();
        let known =
            |id: &String| ours.contains(id) || (planned.before.contains(id) && *id != planned.old);
        let foreign: Vec<&str> = keys
            .iter()
            .filter(|k| k.active && !known(&k.id))
            .map(|k| k.id.as_str())
            .collect();
        if !foreign.is_empty() {
            return Err(Found::not([("keys", foreign.join(","))]));
        }
        let mut missing = Vec::new();
        let mut principals = vec![Principal::User(user.to_owned())];
        principals.extend(planned.chain.iter().map(|r| Principal::Role(r.clone())));
        for principal in &principals {
            let seen = self
                .patiently(|| self.estate.cloud.principal(principal))
                .await;
            let seen = seen.map_err(unread)?.value;
            if t_in_place(&seen).is_none() {
                missing.push(principal.name());
            }
            let made = seen.console_password_created;
            let planned_at = self.plan.created.parse::<DateTime<Utc>>().ok();
            if let Some(made) = made.filter(|made| planned_at.is_some_and(|at| *made > at)) {
                return Err(Found::not([("console", made.to_rfc3339())]));
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        Err(Found::not([("denies", missing.join(","))]))
    }

    /// Once the trail has caught up with the first deny: roles that were assumed from the compromised keys and not revoked since.
    pub(super) async fn chain_clean(&self, at: &Carrier) -> Found {
        let What::AccessKey(planned) = &self.item(at.item).what else {
            return Found::not([("why", "it is no access key".into())]);
        };
        let lag = self.plan.waits.trail_lag_ms;
        let since = at.journal.when(SESSIONS_DENIED, "");
        let passed = since.map_or(0, |t| (self.cx.ports.clock.now() - t).num_milliseconds());
        let left = lag.saturating_sub(u64::try_from(passed).unwrap_or(0));
        if left > self.plan.waits.poll_ms {
            (self.cx.progress)(&format!(
                "{}: the old key is dead and replaced; {} s more until the audit trail has caught up, then a last look for roles assumed with it (Ctrl-C parks, `rotate resume` looks)",
                self.item(at.item).id,
                left / 1_000
            ));
        }
        self.wait(left).await;
        if self.halted() {
            return Found::not([("why", "the trail has not caught up".into())]);
        }
        let assumed = match self.assumed_from(at, planned).await {
            Ok(assumed) => assumed,
            Err(e) => {
                return Found::holds([("trail", format!("not readable: {e}"))]);
            }
        };
        let (mut open, mut protected) = (BTreeSet::new(), BTreeSet::new());
        for (role, when) in &assumed {
            let t = match self.revoked_until(at, role).await {
                Ok(t) => t,
                Err(e) => return Found::not([("why", e.to_string())]),
            };
            if t.is_some_and(|t| *when < t) {
                continue;
            }
            let principal = Principal::Role(role.clone());
            match self.protected(&principal) {
                Some(_) => protected.insert(role.as_str()),
                None => open.insert(role.as_str()),
            };
        }
        if open.is_empty() && protected.is_empty() {
            return Found::holds([("assumed", assumed.len().to_string())]);
        }
        let mut found = Found::not([]);
        for (name, roles) in [("roles", open), ("protected", protected)] {
            if !roles.is_empty() {
                let roles: Vec<&str> = roles.into_iter().collect();
                found.facts.insert(name.into(), roles.join(","));
            }
        }
        found
    }

    /// Until when sessions of a role are denied: by us, or by whoever else put the deny there.
    async fn revoked_until(
        &self,
        at: &Carrier,
        role: &str,
    ) -> Result<Option<DateTime<Utc>>, PortError> {
        let ours = at.journal.got(CHAIN_REVOKED, role, "t");
        let ours = ours.and_then(|t| t.parse::<DateTime<Utc>>().ok());
        let principal = Principal::Role(role.to_owned());
        let seen = self
            .patiently(|| self.estate.cloud.principal(&principal))
            .await;
        match seen {
            Ok(seen) => Ok(ours.max(t_in_place(&seen.value))),
            // A role that is gone, or of another account, has no sessions that we could deny.
            Err(e) if e.cause == Cause::NotFound => Ok(Some(DateTime::<Utc>::MAX_UTC)),
            Err(e) => Err(e),
        }
    }

    /// Roles that were assumed since the plan was made from the old key, the intruder's keys and the sessions that came of them, and when.
    async fn assumed_from(
        &self,
        at: &Carrier,
        planned: &AccessKey,
    ) -> Result<Vec<(String, DateTime<Utc>)>, PortError> {
        let mut open: Vec<String> = vec![planned.old.clone()];
        open.extend(
            at.journal
                .steps()
                .filter(|(step, ..)| *step == FOREIGN_KEY)
                .map(|(_, id, _)| id.to_owned()),
        );
        let (mut visited, mut assumed) = (BTreeSet::new(), Vec::new());
        while let Some(id) = open.pop() {
            if visited.len() >= FOLLOWED || !visited.insert(id.clone()) {
                continue;
            }
            for event in self.made_with(&id).await? {
                if let Some((role, next)) = assumption(&event) {
                    assumed.push((role, event.at));
                    open.extend(next);
                }
            }
        }
        Ok(assumed)
    }

    async fn made_with(&self, id: &str) -> Result<Vec<TrailEvent>, PortError> {
        let created = self.plan.created.parse::<DateTime<Utc>>();
        let now = self.account_now().await;
        let mut query = TrailQuery {
            region: self.plan.region.clone(),
            by: Some(TrailBy::AccessKey(id.to_owned())),
            from: created.unwrap_or(now),
            to: now,
            page: None,
        };
        let mut events = Vec::new();
        loop {
            let page = self.patiently(|| self.estate.cloud.trail(&query)).await?;
            events.extend(page.items);
            match page.next {
                Some(next) if !self.halted() => query.page = Some(next),
                _ => return Ok(events),
            }
        }
    }
}

/// Name of the role that an event assumed, and the id of the credentials that came of it.
fn assumption(event: &TrailEvent) -> Option<(String, Option<String>)> {
    if !event.name.starts_with("AssumeRole") {
        return None;
    }
    let raw: serde_json::Value = serde_json::from_str(event.raw.as_deref()?).ok()?;
    if raw["errorCode"].is_string() {
        return None;
    }
    let role = raw["requestParameters"]["roleArn"].as_str()?;
    let role = role.rsplit('/').next()?.to_owned();
    let next = raw["responseElements"]["credentials"]["accessKeyId"].as_str();
    Some((role, next.map(str::to_owned)))
}
