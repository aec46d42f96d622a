//! A playbook in words, as `playbook show` prints it: what each step does, who decides, and what happens when it fails.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;

use crate::action::registry::{Registry, UndoSpec};
use crate::incident::Effect;
use crate::incident::body::StepOutline;

use super::duration;
use super::model::{Approval, Call, Kind, OnFailure, OnTimeout, Playbook, Span, Step};
use super::variable::Type;

/// The playbook as text.
pub fn explain(playbook: &Playbook, registry: &Registry) -> String {
    let mut page = Page {
        playbook,
        registry,
        text: String::new(),
    };
    page.head();
    page.variables();
    page.line(0, "Steps:");
    page.block(&playbook.steps, 1);
    page.text
}

/// Every step in path order, as the ledger keeps it for readers of the report.
pub fn outline(playbook: &Playbook, registry: &Registry) -> Vec<StepOutline> {
    playbook
        .all_steps()
        .into_iter()
        .map(|step| {
            let spec = step.call().and_then(|c| registry.find(&c.action));
            StepOutline {
                path: step.path.to_string(),
                name: step.title().to_owned(),
                kind: step.kind.word().to_owned(),
                action: step.call().map(|c| c.action.clone()),
                phase: step.phase.or(spec.map(|s| s.phase)),
                effect: step.effect(),
                runbook: step.runbook.clone(),
                expected_s: step.budget.map(|b| b.as_secs()),
            }
        })
        .collect()
}

struct Page<'a> {
    playbook: &'a Playbook,
    registry: &'a Registry,
    text: String,
}

impl Page<'_> {
    fn line(&mut self, depth: usize, text: impl AsRef<str>) {
        for (i, line) in text.as_ref().lines().enumerate() {
            let indent = "  ".repeat(depth + usize::from(i > 0));
            // Writing to a String cannot fail.
            let _ = writeln!(self.text, "{indent}{}", line.trim_end());
        }
    }
    fn head(&mut self) {
        let p = self.playbook;
        self.line(0, format!("{} (version {}, {})", p.name, p.version, p.tlp));
        if !p.description.is_empty() {
            self.line(0, &p.description);
        }
        if let Some(runbook) = &p.runbook {
            self.line(0, format!("Carries out the runbook's {runbook}."));
        }
        let o = &p.objectives;
        let promises: Vec<String> = [
            ("contain within", o.contain_s),
            ("RTO", o.rto_s),
            ("recovery expected", o.recovery_expected_s),
            ("recovery limit", o.recovery_limit_s),
        ]
        .into_iter()
        .filter_map(|(what, s)| {
            Some(format!(
                "{what} {}",
                duration::format(Duration::from_secs(s?))
            ))
        })
        .collect();
        if !promises.is_empty() {
            self.line(0, format!("Objectives: {}.", promises.join(", ")));
        }
        for (code, reason) in &p.allow {
            self.line(0, format!("Allows {code}: {reason}."));
        }
        self.line(0, format!("SHA-256 {}", p.sha256));
        self.text.push('\n');
    }
    fn variables(&mut self) {
        let p = self.playbook;
        if !p.vars.is_empty() {
            self.line(0, "Variables:");
        }
        for (name, d) in &p.vars {
            let mut text = format!("{name} ({})", d.kind.word());
            if !d.description.is_empty() {
                text.push_str(&format!(": {}", d.description));
            }
            text.push_str(&match (&d.value, d.external, &d.kind) {
                (_, _, Type::Secret) => "; a secret, by reference".to_owned(),
                (Some(value), true, _) => format!("; {value} unless --var {name}=… says otherwise"),
                (None, true, _) => format!("; required: --var {name}=…"),
                (Some(value), false, _) => format!("; begins as {value}"),
                (None, false, _) => "; set by a step".to_owned(),
            });
            self.line(1, text);
        }
        if !p.vars.is_empty() {
            self.text.push('\n');
        }
    }
    fn block(&mut self, steps: &[Step], depth: usize) {
        for step in steps {
            self.step(step, depth);
        }
    }
    fn step(&mut self, step: &Step, depth: usize) {
        let numbers = if step.runbook.is_empty() {
            String::new()
        } else {
            format!(" [runbook {}]", step.runbook.join(", "))
        };
        let name = match &step.name {
            Some(name) => format!(" - {name}"),
            None => String::new(),
        };
        self.line(depth, format!("{}{name}{numbers}", step.path));
        self.what(step, depth + 1);
        if let Some(why) = &step.why {
            self.line(depth + 1, format!("Why: {why}."));
        }
        self.conditions(step, depth + 1);
        for (word, block) in step.blocks() {
            match word {
                "else" if block.is_empty() => continue,
                "then" | "else" => self.line(depth + 1, format!("{word}:")),
                _ => {}
            }
            self.block(block, depth + 2);
        }
    }
    fn what(&mut self, step: &Step, depth: usize) {
        let owner = step.owner.as_deref().unwrap_or("a person");
        let text = match &step.kind {
            Kind::Call(call) => self.called("Does", call),
            Kind::Check { call, expect } => {
                format!("{}; must hold: {expect}", self.called("Looks", call))
            }
            Kind::Run { argv } => format!("Runs {} (no shell).", Value::from(argv.clone())),
            Kind::Manual { text } => format!("{owner} does this and answers: {text}"),
            Kind::Approve => "Waits until people agree.".to_owned(),
            Kind::Notify(n) => {
                let external = if n.external {
                    ", outside the organisation"
                } else {
                    ""
                };
                format!("Tells {}{external}: {}", n.to.join(", "), n.template)
            }
            Kind::If { condition, .. } => format!("If {condition}"),
            Kind::Parallel { .. } => "Side by side:".to_owned(),
            Kind::Steps { .. } => "In order:".to_owned(),
            Kind::Wait {
                time: Span::Fixed(time),
            } => format!("Waits {}.", duration::format(*time)),
            Kind::Wait {
                time: Span::Variable(name),
            } => format!("Waits ${{{name}}}."),
            Kind::Note { text } => format!("Notes: {text}"),
        };
        self.line(depth, text);
    }
    fn called(&self, verb: &str, call: &Call) -> String {
        let about = self
            .registry
            .find(&call.action)
            .map(|s| s.about)
            .unwrap_or("unknown to this version");
        let with = match call.with.as_object() {
            Some(map) if map.is_empty() => String::new(),
            _ => format!(" with {}", call.with),
        };
        format!("{verb} {}{with}: {about}", call.action)
    }
    fn conditions(&mut self, step: &Step, depth: usize) {
        let mut said = Vec::new();
        if step.effect() > Effect::Read {
            said.push(format!("effect {}", step.effect()));
            said.push(self.undo(step));
        }
        if let Some(require) = &step.require {
            said.push(format!(
                "only where {} {} is true",
                require.action, require.with
            ));
        }
        if let Some(done) = &step.done_if {
            said.push(format!(
                "nothing to do where {} {} is true",
                done.action, done.with
            ));
        }
        if let Some(approve) = &step.approve {
            said.push(approval(approve));
        }
        for name in step.outputs.keys() {
            said.push(format!("sets {name}"));
        }
        if !step.kind.is_block() {
            said.extend(match step.on_failure_or_default(&self.playbook.defaults) {
                OnFailure::Park => None,
                OnFailure::Continue => Some("a failure is recorded and the run goes on".to_owned()),
                OnFailure::OfferUndo => Some("a failure parks with the undo prepared".to_owned()),
                OnFailure::Stop => Some("a failure ends the run".to_owned()),
            });
        }
        if let Some(milestone) = step.milestone {
            said.push(format!("milestone {}", milestone.name));
        }
        if let Some(budget) = step.budget {
            said.push(format!("expected {}", duration::format(budget)));
        }
        if !said.is_empty() {
            self.line(depth, format!("({})", said.join("; ")));
        }
    }
    fn undo(&self, step: &Step) -> String {
        if let Some(undo) = &step.undo {
            return format!("undo on request by {} {}", undo.action, undo.with);
        }
        let spec = step.call().and_then(|c| self.registry.find(&c.action));
        match spec.map(|s| s.undo) {
            Some(UndoSpec::Own) => "undo on request".to_owned(),
            Some(UndoSpec::None(why)) => format!("no undo: {why}"),
            None => "no undo".to_owned(),
        }
    }
}

fn approval(a: &Approval) -> String {
    let people = a.quorum.map_or_else(
        || "the people that policy asks for".to_owned(),
        |q| format!("{q}"),
    );
    let then = match a.on_timeout {
        OnTimeout::Escalate => "asks the next level, and parks without one",
        OnTimeout::Park => "parks",
        OnTimeout::Refuse => "counts as a refusal",
    };
    let alone = if a.break_glass {
        "; one may go on alone with a reason"
    } else {
        ""
    };
    format!(
        "approved by {people} of {} within {}, else {then}{alone}",
        a.roles.join(", "),
        duration::format(a.ttl)
    )
}
