//! A rotation's plan and its standing as text for people. What a decision is about is exactly this text; its digest stands in the decision.

use crate::incident::clock_text::span;
use crate::incident::rotate::{CredentialRow, RotationStatus};
use crate::rotation::plan::{Item, RotationPlan, What};

/// A plan.
pub(super) fn plan(plan: &RotationPlan, digest: &str) -> String {
    let mut lines = vec![
        format!(
            "Rotation of {} credential(s) in account {} ({}), {}",
            plan.items.len(),
            plan.account,
            plan.region,
            plan.mode()
        ),
        format!("  by           {}", plan.caller),
        format!("  selected     {}", plan.selector),
        format!("  valid until  {}", plan.expires),
    ];
    if let Some(t0) = &plan.t0 {
        lines.push(format!("  compromised  since {t0}"));
    }
    let deletions = if plan.deletions {
        "old credentials are deleted once they are proven dead"
    } else {
        "nothing is deleted: old credentials stay disabled until a plan of their own deletes them"
    };
    lines.push(format!("  deletions    {deletions}"));
    for item in &plan.items {
        lines.extend(of_item(plan, item));
    }
    section(
        &mut lines,
        "restarts, each once",
        plan.workloads.iter().map(|w| {
            let by_hand = if w.rollable { "" } else { ": by a person" };
            format!("{}{by_hand} ({})", w.place(), w.how.join(", "))
        }),
    );
    section(
        &mut lines,
        "emergency access that keeps working",
        plan.break_glass
            .iter()
            .map(|b| format!("{} as {}, tested {}", b.profile, b.arn, b.tested)),
    );
    section(
        &mut lines,
        "left alone",
        plan.excluded.iter().map(|e| format!("{}: {}", e.id, e.why)),
    );
    section(
        &mut lines,
        "guards",
        plan.guards
            .iter()
            .map(|g| format!("{:<12} {}: {}", g.guard, g.verdict, g.detail)),
    );
    section(&mut lines, "warnings", plan.warnings.iter().cloned());
    section(
        &mut lines,
        "found and not rotated",
        plan.residual.iter().cloned(),
    );
    lines.push(format!("Rotation plan sha256:{digest}"));
    lines.join("\n")
}

fn section(lines: &mut Vec<String>, heading: &str, of: impl Iterator<Item = String>) {
    let mut of = of.peekable();
    if of.peek().is_some() {
        lines.push(format!("  {heading}"));
        lines.extend(of.map(|l| format!("    {l}")));
    }
}

fn of_item(plan: &RotationPlan, item: &Item) -> Vec<String> {
    let mut lines = vec![format!(
        "{} {} {}, {}",
        item.id, item.kind, item.name, item.mode
    )];
    if let Some(reason) = item.needs_human {
        lines.push(format!("  not begun: {reason}, a person decides"));
    }
    lines.extend(item.why.iter().map(|w| format!("  because      {w}")));
    match &item.what {
        What::AccessKey(key) => {
            lines.push(format!("  old          {}", key.old));
            if let Some(victim) = &key.victim {
                lines.push(format!("  frees a slot by deleting {victim}"));
            }
            let made = if key.escrow.exists {
                ""
            } else {
                " (made by the run)"
            };
            lines.push(format!("  new kept in  {}{made}", key.escrow.secret));
            if !key.chain.is_empty() {
                lines.push(format!("  also revoked {}", key.chain.join(", ")));
            }
            lines.extend(key.open_ends.iter().map(|e| format!("  open end     {e}")));
        }
        What::RoleSessions(role) => {
            let trust = match role.trust_after {
                Some(_) => "its trust is changed, then sessions are revoked twice",
                None => "sessions are revoked; its trust stays as it is",
            };
            lines.push(format!("  sessions     {trust}"));
            lines.extend(role.moves.iter().map(|m| {
                let place = plan
                    .workloads
                    .get(m.workload)
                    .map_or_else(String::new, |w| w.place());
                format!(
                    "  moves        {place} from service account {} to {}",
                    m.from, m.to
                )
            }));
            lines.extend(role.open_ends.iter().map(|e| format!("  open end     {e}")));
        }
        What::DatabasePassword(password) => {
            lines.push(format!("  kept in      {}", password.escrow.secret));
            let servers: Vec<String> = password.servers().map(ToString::to_string).collect();
            lines.push(format!(
                "  role         {} on {}",
                password.role,
                servers.join(", ")
            ));
        }
    }
    lines.extend(item.sinks.iter().map(|s| {
        let keys: Vec<&str> = s.keys.values().map(String::as_str).collect();
        format!("  written to   Secret {} ({})", s.place(), keys.join(", "))
    }));
    lines.push(format!("  no return    from {}", item.no_return));
    lines
}

/// Where a rotation stands: one block per credential, the sums, and what is not proven.
pub(super) fn status(status: &RotationStatus) -> String {
    let mut lines = Vec::new();
    for row in &status.rows {
        lines.extend(of_row(row));
    }
    lines.extend(totals(status));
    lines.push("Not proven:".into());
    lines.extend(status.not_proven.iter().map(|l| format!("  - {l}")));
    lines.join("\n")
}

fn of_row(row: &CredentialRow) -> Vec<String> {
    let reason = row
        .reason
        .as_deref()
        .map(|r| format!(" ({r})"))
        .unwrap_or_default();
    let mut lines = vec![format!(
        "{} {}{reason}  {} {}, {}",
        row.item, row.state, row.kind, row.name, row.mode
    )];
    let new = row
        .new
        .as_deref()
        .map(|n| format!(" → {n}"))
        .unwrap_or_default();
    lines.push(format!("  {}{new}", row.old));
    let mut add = |name: &str, value: &Option<String>| {
        if let Some(value) = value {
            lines.push(format!("  {name:<11} {value}"));
        }
    };
    add("disabled", &row.disabled_at);
    add("void before", &row.void_before);
    add("no return", &row.no_return);
    add("new works", &row.verified);
    if let Some(grade) = &row.grade {
        let codes = match row.codes.as_slice() {
            [] => String::new(),
            codes => format!(": {}", codes.join("; ")),
        };
        let entries: Vec<String> = row.entries.iter().map(ToString::to_string).collect();
        lines.push(format!(
            "  old is dead {grade}{codes} (entries {})",
            entries.join(", ")
        ));
    }
    let lists = [
        ("consumer", &row.consumers),
        ("appeared", &row.orphans),
        ("left over", &row.residue),
    ];
    for (name, list) in lists {
        lines.extend(list.iter().map(|l| format!("  {name:<11} {l}")));
    }
    if row.attempts > 1 {
        lines.push(format!("  attempts    {}", row.attempts));
    }
    lines.extend(row.hint.iter().map(|h| format!("  do          {h}")));
    lines
}

/// The sums, one line each.
pub(super) fn totals(status: &RotationStatus) -> Vec<String> {
    let t = &status.totals;
    let states: Vec<String> = t.by_state.iter().map(|(s, n)| format!("{n} {s}")).collect();
    let mut lines = vec![format!(
        "{} credential(s): {}; {} old proven dead; {} changes sent, {} throttled",
        status.rows.len(),
        states.join(", "),
        t.old_dead,
        t.calls,
        t.throttled
    )];
    let time = |ms: Option<i64>| ms.map_or_else(|| "not yet".to_owned(), span);
    lines.push(format!(
        "time to last old dead: {}; to last consumer healthy: {}",
        time(t.time_to_last_old_dead_ms),
        time(t.time_to_last_consumer_ms)
    ));
    if let Some(e) = &t.longest_exposure {
        let until = match &e.until {
            Some(_) => "until it was disabled",
            None => "and it is usable still",
        };
        lines.push(format!(
            "longest exposure: {} {} since {}, {until}",
            e.item,
            span(e.ms),
            e.since
        ));
    }
    lines
}
