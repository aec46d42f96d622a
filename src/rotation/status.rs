//! The proof table of a rotation: what each old credential was, what took its place, how its death was shown, and what is not proven.
//!
//! A view of the plan and of the run's entries; it knows nothing that they do not say. Live view, `rotate status`, the document and
//! `--json` all show this one value.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::incident::Entry;
use crate::incident::clock_text::{millis, seconds, span};
use crate::incident::kind;
use crate::incident::rotate::{
    CredentialRow, Exposure, RotateIntent, RotateOutcome, RotationStatus, RotationTotals,
};

use super::journal::{ItemJournal, Standing};
use super::machine::{access_key as key, database_password as password, role_sessions as role};
use super::machine::{rollout, turn};
use super::plan::{Item, RotationPlan, What};
use super::words::{Grade, RotationMode};

/// An item that was not begun.
pub const WAITING: &str = "waiting";
/// An item that was begun and has not ended.
pub const RUNNING: &str = "running";

/// Where a rotation stands after these entries. `entries` are those of the run, in order; `digest` is the plan's.
pub fn status<'e>(
    plan: &RotationPlan,
    digest: &str,
    run: &str,
    entries: impl IntoIterator<Item = &'e Entry>,
) -> RotationStatus {
    let entries: Vec<&Entry> = entries.into_iter().collect();
    let journals = ItemJournal::of(entries.iter().copied());
    let fresh = ItemJournal::new();
    let view = View {
        plan,
        workloads: plan
            .workloads
            .iter()
            .map(|w| journals.get(&rollout::item_id(&w.place())))
            .collect(),
    };
    let rows: Vec<CredentialRow> = plan
        .items
        .iter()
        .map(|item| view.row(item, journals.get(&item.id).unwrap_or(&fresh)))
        .collect();
    let totals = totals(&view, &journals, &rows, &entries);
    RotationStatus {
        plan_sha256: digest.to_owned(),
        run: run.to_owned(),
        mode: plan.mode().to_owned(),
        account: plan.account.clone(),
        not_proven: not_proven(plan, &rows),
        rows,
        totals,
    }
}

/// The plan beside the journals of its workloads.
struct View<'a> {
    plan: &'a RotationPlan,
    workloads: Vec<Option<&'a ItemJournal>>,
}

impl View<'_> {
    fn row(&self, item: &Item, journal: &ItemJournal) -> CredentialRow {
        let facts = Facts::of(item, journal);
        let (dead_step, dead_facts) = (facts.dead, facts.of_step(facts.dead, ""));
        let ended = journal.ended.as_ref();
        let state = match ended {
            Some(ended) => ended.state.clone(),
            None if journal.len > 0 => RUNNING.to_owned(),
            None => WAITING.to_owned(),
        };
        let mut entries = journal.entries(dead_step, "");
        entries.extend(facts.disabled_entries());
        entries.sort_unstable();
        entries.dedup();
        CredentialRow {
            item: item.id.clone(),
            account: self.plan.account.clone(),
            kind: item.kind.to_string(),
            mode: item.mode.to_string(),
            name: item.name.clone(),
            old: facts.old(),
            new: facts.new_id(),
            disabled_at: facts.disabled().map(seconds),
            void_before: facts.void_before(),
            no_return: facts.no_return(),
            grade: journal.grades.get(dead_step).cloned(),
            codes: dead_facts.get("code").cloned().into_iter().collect(),
            entries,
            verified: facts.verified(),
            consumers: self.consumers(item, journal),
            attempts: journal.attempt,
            orphans: orphans(journal),
            residue: residue(item, journal, &facts),
            state,
            reason: ended
                .and_then(|e| e.reason.clone())
                .or_else(|| item.needs_human.map(|r| r.as_str().to_owned())),
            hint: ended.and_then(|e| e.hint.clone()),
            not_proven: unproven(item, journal, &facts),
        }
    }

    /// One line for each sink and each workload.
    fn consumers(&self, item: &Item, journal: &ItemJournal) -> Vec<String> {
        let mut lines = Vec::new();
        for sink in &item.sinks {
            let place = sink.place();
            let how = match journal.standing(turn::DISTRIBUTED, &place) {
                _ if journal.undone(turn::DISTRIBUTED, &place) => "taken back",
                Some(Standing::Done(_)) => "written",
                Some(Standing::Refused(_)) => "refused",
                Some(Standing::InDoubt(_)) => "in doubt",
                _ => "not written",
            };
            lines.push(format!("Secret {place}: {how}"));
        }
        for index in self.fed(item) {
            let workload = &self.plan.workloads[index];
            let how = rolled_out(workload.rollable, self.workloads[index]);
            lines.push(format!("{}: {how}", workload.place()));
        }
        lines
    }

    fn fed(&self, item: &Item) -> Vec<usize> {
        let mut all = item.workloads.clone();
        if let What::RoleSessions(role) = &item.what {
            all.extend(role.moves.iter().map(|m| m.workload));
        }
        all.sort_unstable();
        all.dedup();
        all.retain(|w| *w < self.plan.workloads.len());
        all
    }

    /// When a workload was complete with its new credential.
    fn available(&self, workload: usize) -> Option<DateTime<Utc>> {
        self.workloads[workload]?.when(rollout::AVAILABLE, "")
    }
}

fn rolled_out(rollable: bool, journal: Option<&ItemJournal>) -> String {
    if !rollable {
        return "to be restarted by a person".into();
    }
    let Some(journal) = journal else {
        return "not restarted".into();
    };
    if journal.undone(rollout::TRIGGERED, "") {
        return "restart taken back".into();
    }
    match journal.standing(rollout::AVAILABLE, "") {
        Some(Standing::Done(_)) => {
            let began = journal.when(rollout::TRIGGERED, "");
            let took = journal.when(rollout::AVAILABLE, "").zip(began);
            let took = took.map(|(end, began)| span((end - began).num_milliseconds()));
            match took {
                Some(took) => format!("restarted once, available after {took}"),
                None => "restarted once, available".into(),
            }
        }
        Some(Standing::DoesNotHold(_)) => "restarted, did not come up".into(),
        _ if journal.done(rollout::TRIGGERED, "") => "restarting".into(),
        _ => "not restarted".into(),
    }
}

/// What one item's journal says, by the names of its kind.
struct Facts<'a> {
    item: &'a Item,
    journal: &'a ItemJournal,
    /// Step whose observation is the proof of death.
    dead: &'static str,
}

impl<'a> Facts<'a> {
    fn of(item: &'a Item, journal: &'a ItemJournal) -> Self {
        let dead = match &item.what {
            What::AccessKey(_) => key::OLD_DEAD,
            What::RoleSessions(_) => role::OLD_DENIED,
            What::DatabasePassword(_) => password::OLD_DEAD,
        };
        Facts {
            item,
            journal,
            dead,
        }
    }
    fn of_step(&self, step: &str, target: &str) -> BTreeMap<String, String> {
        match self.journal.standing(step, target) {
            Some(Standing::Done(facts) | Standing::DoesNotHold(facts)) => facts.clone(),
            _ => BTreeMap::new(),
        }
    }
    fn is_dead(&self) -> bool {
        self.journal.done(self.dead, "")
    }
    fn old(&self) -> String {
        match &self.item.what {
            What::AccessKey(k) => k.old.clone(),
            What::RoleSessions(_) => "all sessions issued before".into(),
            What::DatabasePassword(p) => {
                let version = p.escrow.current.as_deref().unwrap_or("?");
                format!("version {version}")
            }
        }
    }
    fn new_id(&self) -> Option<String> {
        let got = |step, name| self.journal.got(step, "", name).map(str::to_owned);
        match &self.item.what {
            What::AccessKey(_) => got(key::CREATED, "key_id"),
            What::RoleSessions(_) => None,
            What::DatabasePassword(_) => {
                got(password::PENDING_PUT, "version_id").map(|v| format!("version {v}"))
            }
        }
    }
    /// Step and target that first took the old one's power.
    fn disabling(&self) -> (&'static str, &'static str) {
        match &self.item.what {
            What::AccessKey(_) => (key::OLD_INACTIVE, ""),
            What::RoleSessions(_) => (role::REVOKED, "1"),
            What::DatabasePassword(_) => (password::NEW_SET, ""),
        }
    }
    fn disabled(&self) -> Option<DateTime<Utc>> {
        let (step, target) = self.disabling();
        if self.journal.undone(step, target) || !self.journal.done(step, target) {
            return None;
        }
        self.journal.when(step, target)
    }
    fn disabled_entries(&self) -> Vec<u64> {
        let (step, target) = self.disabling();
        self.journal.entries(step, target)
    }
    fn void_before(&self) -> Option<String> {
        let got = |step, target, name| self.journal.got(step, target, name).map(str::to_owned);
        match &self.item.what {
            What::AccessKey(_) => got(key::SESSIONS_DENIED, "", "t"),
            What::RoleSessions(_) => [role::AGAIN, "2", "1"]
                .iter()
                .find_map(|n| got(role::REVOKED, n, "t")),
            What::DatabasePassword(_) => self
                .journal
                .done(password::SESSIONS_GONE, "")
                .then(|| got(password::NEW_SET, "", "t_set"))
                .flatten(),
        }
    }
    fn no_return(&self) -> Option<String> {
        let first = |step: &str| {
            let of_step = |(s, target, standing): (&'a str, &'a str, &'a Standing)| {
                (s == step && matches!(standing, Standing::Done(_)))
                    .then(|| self.journal.when(s, target))?
            };
            self.journal.steps().filter_map(of_step).min()
        };
        let passed: Option<(&str, DateTime<Utc>)> = match &self.item.what {
            What::AccessKey(_) => [key::SLOT_FREE, key::OLD_DELETED]
                .into_iter()
                .find_map(|step| Some((step, first(step)?))),
            What::RoleSessions(_) => None,
            What::DatabasePassword(_) => {
                let step = match self.item.mode {
                    RotationMode::Graceful => password::SESSIONS_ENDED,
                    RotationMode::Emergency => password::NEW_SET,
                };
                first(step).map(|at| (step, at))
            }
        };
        passed.map(|(step, at)| format!("{step} at {}", seconds(at)))
    }
    fn verified(&self) -> Option<String> {
        let step = match &self.item.what {
            What::AccessKey(_) => key::VERIFIED,
            What::RoleSessions(_) => return None,
            What::DatabasePassword(_) => password::NEW_TESTED,
        };
        if !self.journal.done(step, "") {
            return None;
        }
        let facts = self.of_step(step, "");
        if let What::DatabasePassword(_) = &self.item.what {
            // Each server by its own name.
            let servers: Vec<String> = facts.into_keys().collect();
            return Some(format!("logged in on {}", servers.join(", ")));
        }
        let fact = |name: &str| facts.get(name).map(String::as_str);
        Some(match (fact("times"), fact("endpoints")) {
            (Some(times), Some(endpoints)) => {
                format!("{times} answers in a row at each of {endpoints} endpoints")
            }
            _ => "yes".into(),
        })
    }
}

/// Keys that appeared on the way, with their fate.
fn orphans(journal: &ItemJournal) -> Vec<String> {
    let mut fates: BTreeMap<&str, &str> = BTreeMap::new();
    for (_, step, target, _, standing) in journal.all_steps() {
        if !matches!(standing, Standing::Done(_)) {
            continue;
        }
        let fate = match step {
            key::FOREIGN_KEY => "not ours: Inactive and flagged, kept as evidence",
            key::ORPHAN_DELETED => "ours of an unclear creation: deleted",
            key::INTRUDER_INACTIVE | key::ORPHAN_INACTIVE => "Inactive",
            _ => continue,
        };
        let settled = fates.get(target).is_some_and(|f| *f != "Inactive");
        if !settled {
            fates.insert(target, fate);
        }
    }
    fates
        .into_iter()
        .map(|(id, fate)| format!("{id}: {fate}"))
        .collect()
}

/// What is left over that nobody can take away here.
fn residue(item: &Item, journal: &ItemJournal, facts: &Facts<'_>) -> Vec<String> {
    let mut left = Vec::new();
    match &item.what {
        What::AccessKey(k) => {
            let deleted =
                journal.done(key::OLD_DELETED, "") || journal.done(key::SLOT_FREE, &k.old);
            if facts.disabled().is_some() && !deleted {
                left.push(format!(
                    "{} is Inactive and not deleted: deleting it is a plan of its own",
                    k.old
                ));
            }
            if journal.done(key::SESSIONS_DENIED, "") {
                left.push(format!(
                    "the deny on {} stays until the longest session has expired (36 h)",
                    k.user
                ));
            }
            if !k.escrow.exists && journal.done(key::ESCROWED, "") {
                left.push(format!(
                    "the new key stands in {}: a person takes it over",
                    k.escrow.secret
                ));
            }
        }
        What::RoleSessions(r) => {
            if journal.done(role::REVOKED, "1") {
                left.push(format!(
                    "the deny on {} stays until its longest session has expired ({} h)",
                    r.role,
                    r.max_session_s.div_ceil(3_600)
                ));
            }
        }
        What::DatabasePassword(p) => {
            if journal.done(turn::LABELS_CLEANED, crate::port::PREVIOUS) {
                left.push(format!(
                    "the old version of {} has no label and is still readable by its id",
                    p.escrow.secret
                ));
            }
        }
    }
    if item
        .sinks
        .iter()
        .any(|s| journal.done(turn::DISTRIBUTED, &s.place()))
    {
        left.push(
            "the old value may stand in etcd's history and backups, and in notes of earlier tools"
                .into(),
        );
    }
    left
}

fn unproven(item: &Item, journal: &ItemJournal, facts: &Facts<'_>) -> Vec<String> {
    let mut open = Vec::new();
    let name = &item.name;
    if item.needs_human.is_some() && journal.len == 0 {
        open.push(format!("{name}: not begun, the old credential is alive"));
    } else if !facts.is_dead() {
        open.push(format!(
            "{name}: the old credential is not shown to be dead"
        ));
    }
    match journal.grades.get(facts.dead).and_then(|g| Grade::parse(g)) {
        Some(Grade::State) => {
            let why = facts.of_step(facts.dead, "").remove("why");
            let why = why.map(|w| format!(": {w}")).unwrap_or_default();
            open.push(format!(
                "{name}: dead by the state that the service reports, nothing was refused before our eyes{why}"
            ));
        }
        Some(Grade::Quiet) => open.push(format!("{name}: quiet, not refused")),
        Some(Grade::Probed | Grade::ProbedWithoutSecret) | None => {}
    }
    let (open_ends, chain) = match &item.what {
        What::AccessKey(k) => (k.open_ends.as_slice(), true),
        What::RoleSessions(r) => {
            if r.trust_after.is_none() {
                open.push(format!(
                    "{name}: its trust was not changed; whoever is trusted can open new sessions"
                ));
            }
            (r.open_ends.as_slice(), true)
        }
        What::DatabasePassword(_) => ([].as_slice(), false),
    };
    if chain {
        open.extend(
            open_ends
                .iter()
                .map(|end| format!("{name}: open end: {end}")),
        );
    }
    if let What::AccessKey(k) = &item.what
        && item.mode == RotationMode::Graceful
        && journal.done(key::OLD_INACTIVE, "")
    {
        open.push(format!(
            "{name}: sessions that {} had opened before live on (graceful does not deny them)",
            k.old
        ));
    }
    open
}

/// The list that is always printed: what each row leaves open, and what no rotation can show.
fn not_proven(plan: &RotationPlan, rows: &[CredentialRow]) -> Vec<String> {
    let mut all: Vec<String> = rows.iter().flat_map(|r| r.not_proven.clone()).collect();
    all.extend(plan.residual.iter().map(|r| format!("not rotated: {r}")));
    all.extend(
        plan.guards
            .iter()
            .filter(|g| g.verdict == "not-checked")
            .map(|g| format!("guard {} was not checked: {}", g.guard, g.detail)),
    );
    let refuses = |r: &CredentialRow| r.grade.is_some();
    if rows.iter().any(refuses) {
        all.push(
            "AWS gives no bound for how long a change takes to reach every endpoint: two were probed"
                .into(),
        );
    }
    all.push("credentials that nobody selected, and what was copied before they died".into());
    all
}

fn totals(
    view: &View<'_>,
    journals: &BTreeMap<String, ItemJournal>,
    rows: &[CredentialRow],
    entries: &[&Entry],
) -> RotationTotals {
    let mut totals = RotationTotals::default();
    for row in rows {
        *totals.by_state.entry(row.state.clone()).or_default() += 1;
    }
    let mut first: Option<DateTime<Utc>> = None;
    for entry in entries {
        if let Some(_intent) = entry.body_as::<RotateIntent>(kind::ROTATE_INTENT) {
            first.get_or_insert(entry.time);
            totals.calls += 1;
        } else if let Some(outcome) = entry.body_as::<RotateOutcome>(kind::ROTATE_OUTCOME)
            && outcome.code.as_deref() == Some("throttled")
        {
            totals.throttled += 1;
        }
    }
    let fresh = ItemJournal::new();
    let of = |item: &Item| Facts::of(item, journals.get(&item.id).unwrap_or(&fresh)).dead_at();
    let dead: Vec<Option<DateTime<Utc>>> = view.plan.items.iter().map(of).collect();
    totals.old_dead = dead.iter().flatten().count() as u64;
    totals.time_to_last_old_dead_ms = last(&dead).zip(first).map(ms);
    let fed: Vec<Option<DateTime<Utc>>> = (0..view.plan.workloads.len())
        .filter(|w| view.plan.workloads[*w].rollable)
        .map(|w| view.available(w))
        .collect();
    totals.time_to_last_consumer_ms = last(&fed).zip(first).map(ms);
    totals.longest_exposure = longest(view.plan, journals, entries.last().map(|e| e.time));
    totals
}

impl Facts<'_> {
    fn dead_at(&self) -> Option<DateTime<Utc>> {
        self.is_dead()
            .then(|| self.journal.when(self.dead, ""))
            .flatten()
    }
}

/// The last of them, once all are there.
fn last(times: &[Option<DateTime<Utc>>]) -> Option<DateTime<Utc>> {
    times
        .iter()
        .copied()
        .collect::<Option<Vec<_>>>()?
        .into_iter()
        .max()
}

fn ms((end, begin): (DateTime<Utc>, DateTime<Utc>)) -> i64 {
    (end - begin).num_milliseconds()
}

fn longest(
    plan: &RotationPlan,
    journals: &BTreeMap<String, ItemJournal>,
    now: Option<DateTime<Utc>>,
) -> Option<Exposure> {
    let since_text = plan.t0.as_deref().unwrap_or(&plan.created);
    let since: DateTime<Utc> = since_text.parse().ok()?;
    let fresh = ItemJournal::new();
    let exposure = |item: &Item| {
        let journal = journals.get(&item.id).unwrap_or(&fresh);
        let until = Facts::of(item, journal).disabled();
        let end = until.or(now)?;
        Some(Exposure {
            item: item.id.clone(),
            since: since_text.to_owned(),
            until: until.map(millis),
            ms: ms((end, since)),
        })
    };
    // One that is usable still is worse than any that was closed.
    plan.items
        .iter()
        .filter_map(exposure)
        .max_by_key(|e| (e.until.is_none(), e.ms, std::cmp::Reverse(e.item.clone())))
}

#[cfg(test)]
mod tests;
