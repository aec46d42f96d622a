//! Lint: what a well-formed playbook must still be before anybody runs it.
//!
//! One file per concern: [`action`] (what is called), [`approval`] (who agrees, what happens after failure and crash), [`flow`]
//! (what is known when it is read), [`order`] (the runbook's order, the order of volatility, the time it takes), [`leak`] (shells,
//! images, secrets). Errors refuse the playbook; a warning may be allowed with a reason (`allow:`).

mod action;
mod approval;
mod flow;
mod leak;
mod order;

use crate::action::registry::Registry;

use super::finding::{self, Finding, Severity, sort};
use super::model::{Kind, Playbook, Position, Step};

/// What lint gathers.
struct Lint<'a> {
    playbook: &'a Playbook,
    registry: &'a Registry,
    findings: Vec<Finding>,
}

impl Lint<'_> {
    /// Adds a finding about a step, at a key or value below it (`""` for the step itself).
    fn step(
        &mut self,
        code: &'static str,
        step: &Step,
        below: &str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        let place = self
            .playbook
            .places
            .value(&format!("{}{below}", step.pointer));
        self.at(code, place, &step.path.to_string(), message, fix);
    }
    /// Adds a finding at a place.
    fn at(
        &mut self,
        code: &'static str,
        place: Position,
        path: &str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.findings
            .push(Finding::new(code, place, message, fix).of(path));
    }
    /// Adds a finding about the file.
    fn file(
        &mut self,
        code: &'static str,
        pointer: &str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        let place = self.playbook.places.value(pointer);
        self.at(code, place, "", message, fix);
    }
}

/// Everything that is wrong with a playbook, sorted by place; allowed warnings are left out.
pub fn lint(playbook: &Playbook, registry: &Registry) -> Vec<Finding> {
    let mut lint = Lint {
        playbook,
        registry,
        findings: Vec::new(),
    };
    allowed(&mut lint);
    roles(&mut lint);
    for step in playbook.all_steps() {
        action::look(&mut lint, step);
        approval::look(&mut lint, step);
        leak::look(&mut lint, step);
    }
    flow::look(&mut lint);
    order::look(&mut lint);
    let mut findings = lint.findings;
    findings.retain(|f| f.severity == Severity::Error || !playbook.allow.contains_key(f.code));
    sort(&mut findings);
    findings.dedup();
    findings
}

/// Reads and lints: the playbook where it could be read, and every finding.
pub fn check(
    bytes: &[u8],
    file: Option<&str>,
    registry: &Registry,
) -> (Option<Playbook>, Vec<Finding>) {
    match super::read::read(bytes, file) {
        Ok(playbook) => {
            let findings = lint(&playbook, registry);
            (Some(playbook), findings)
        }
        Err(findings) => (None, findings),
    }
}

/// True where something forbids to run it.
pub fn has_errors(findings: &[Finding]) -> bool {
    findings.iter().any(|f| f.severity == Severity::Error)
}

/// FB0109.
fn allowed(lint: &mut Lint<'_>) {
    let playbook = lint.playbook;
    for (code, reason) in &playbook.allow {
        let pointer = format!("/allow/{code}");
        let warning = finding::find(code).is_some_and(|c| c.severity == Severity::Warning);
        if !warning {
            lint.file(
                "FB0109",
                &pointer,
                format!("`{code}` is no warning that can be allowed"),
                "remove it, and mend what it was for",
            );
        } else if reason.trim().is_empty() {
            lint.file(
                "FB0109",
                &pointer,
                format!("`{code}` is allowed without a reason"),
                "say why, for the person who approves the plan",
            );
        }
    }
}

/// FB0108.
fn roles(lint: &mut Lint<'_>) {
    let playbook = lint.playbook;
    for step in playbook.all_steps() {
        let mut used: Vec<(&str, String)> = Vec::new();
        if let Some(owner) = &step.owner {
            used.push((owner, "/owner".into()));
        }
        if let Some(approve) = &step.approve {
            used.extend(
                approve
                    .roles
                    .iter()
                    .enumerate()
                    .map(|(i, r)| (r.as_str(), format!("/approve/roles/{i}"))),
            );
        }
        if let Kind::Notify(n) = &step.kind {
            used.extend(
                n.to.iter()
                    .enumerate()
                    .map(|(i, r)| (r.as_str(), format!("/notify/to/{i}"))),
            );
        }
        for (role, below) in used {
            if !playbook.roles.contains_key(role) {
                lint.step(
                    "FB0108",
                    step,
                    &below,
                    format!("the role `{role}` is not declared"),
                    "declare it under `roles:`",
                );
            }
        }
    }
}
