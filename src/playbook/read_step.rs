//! One step of the file to a [`Step`] of the model, and the blocks that hold it.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::incident::{Milestone, StepPath};

use super::condition::Condition;
use super::duration;
use super::model::{
    Approval, Call, Evidence, Kind, Notify, OnTimeout, OutputFrom, Span, Step, StepMilestone,
    WaitAck,
};
use super::raw::{RawApproval, RawCall, RawMilestone, RawStep};
use super::read::{Reader, is_slug, known};
use super::tree::escape;
use super::variable;

/// A playbook may have this many steps.
pub(super) const MAX_STEPS: usize = 500;

/// Kinds, without `approve`, which is one only where no other stands.
const KINDS: [&str; 10] = [
    "call", "run", "manual", "check", "notify", "if", "parallel", "steps", "wait", "note",
];
const BLOCKS: [&str; 4] = ["then", "else", "parallel", "steps"];
/// Keys for steps that act; a block does nothing itself, and a key that nothing honours would deceive its reader.
const ACTING: [&str; 12] = [
    "approve",
    "retry",
    "undo",
    "done_if",
    "require",
    "outputs",
    "evidence",
    "plan_value",
    "timeout",
    "budget",
    "resume",
    "effect",
];

/// Reads blocks of steps.
pub(super) struct Steps<'r, 'a> {
    reader: &'r mut Reader<'a>,
    known: Vec<String>,
    count: usize,
}

impl<'r, 'a> Steps<'r, 'a> {
    pub(super) fn new(reader: &'r mut Reader<'a>) -> Self {
        Steps {
            reader,
            known: known::<RawStep>(),
            count: 0,
        }
    }
    /// Steps read so far.
    pub(super) fn count(&self) -> usize {
        self.count
    }
    /// Reads one list of steps whose places begin at 1.
    pub(super) fn block(
        &mut self,
        value: Option<&Value>,
        pointer: &str,
        inside: Option<&StepPath>,
        least: usize,
    ) -> Vec<Step> {
        let mut names = Names::default();
        self.list(value, pointer, inside, least, &mut names)
    }
    fn list(
        &mut self,
        value: Option<&Value>,
        pointer: &str,
        inside: Option<&StepPath>,
        least: usize,
        names: &mut Names,
    ) -> Vec<Step> {
        let items = match value {
            Some(Value::Array(items)) if items.len() >= least => items.as_slice(),
            None if least == 0 => &[],
            _ => {
                let what = pointer.rsplit('/').next().unwrap_or("steps");
                let place = self.reader.places.key(pointer);
                self.reader.at(
                    "FB0110",
                    place,
                    format!(
                        "`{what}` is a list of at least {least} step{}",
                        if least == 1 { "" } else { "s" }
                    ),
                    "begin each step with `- `",
                );
                &[]
            }
        };
        items
            .iter()
            .enumerate()
            .filter_map(|(i, item)| self.step(item, &format!("{pointer}/{i}"), inside, names))
            .collect()
    }

    fn step(
        &mut self,
        value: &Value,
        pointer: &str,
        inside: Option<&StepPath>,
        names: &mut Names,
    ) -> Option<Step> {
        self.count += 1;
        names.place += 1;
        let Some(map) = value.as_object() else {
            self.reader.say(
                "FB0101",
                pointer,
                "a step is a mapping",
                "such as `- note: text`",
            );
            return None;
        };
        let mut map = map.clone();
        self.reader.unknown_keys(&mut map, pointer, &self.known);
        let kinds: Vec<&str> = KINDS.into_iter().filter(|k| map.contains_key(*k)).collect();
        let kind = match kinds.as_slice() {
            [one] => *one,
            [] if map.contains_key("approve") => "approve",
            [] => {
                self.reader.say(
                    "FB0111",
                    pointer,
                    "the step has no kind",
                    format!("one of {}, approve", KINDS.join(", ")),
                );
                return None;
            }
            several => {
                self.reader.say(
                    "FB0111",
                    pointer,
                    format!(
                        "the step has {} kinds: {}",
                        several.len(),
                        several.join(", ")
                    ),
                    "one step, one kind",
                );
                return None;
            }
        };
        let path = self.path(&map, kind, pointer, inside, names)?;
        let before = self.reader.findings.len();
        let step = self.make(map, kind, &path, pointer);
        for finding in &mut self.reader.findings[before..] {
            if finding.path.is_empty() {
                finding.path = path.to_string();
            }
        }
        step
    }

    fn path(
        &mut self,
        map: &Map<String, Value>,
        kind: &str,
        pointer: &str,
        inside: Option<&StepPath>,
        names: &mut Names,
    ) -> Option<StepPath> {
        let own = match map.get("id") {
            Some(Value::String(id)) if is_slug(id) => id.clone(),
            Some(other) => {
                self.reader.say(
                    "FB0114",
                    &format!("{pointer}/id"),
                    format!("{other} is no id"),
                    "lower-case letters, digits and `-`, at most 63",
                );
                return None;
            }
            None => format!("{kind}-{}", names.place),
        };
        if !names.taken.insert(own.clone()) {
            self.reader.say(
                "FB0114",
                &format!("{pointer}/id"),
                format!("another step of this block is called `{own}`"),
                "give each step of a block its own id",
            );
            return None;
        }
        let path = match inside {
            Some(block) => block.child(&own),
            None => StepPath::parse(&own),
        };
        path.ok()
    }

    fn make(
        &mut self,
        mut map: Map<String, Value>,
        kind: &str,
        path: &StepPath,
        pointer: &str,
    ) -> Option<Step> {
        let lists: Map<String, Value> = BLOCKS
            .into_iter()
            .filter_map(|key| Some((key.to_owned(), map.remove(key)?)))
            .collect();
        self.misplaced(&map, &lists, kind, pointer);
        let text_of = |key: &str| map.get(key).and_then(Value::as_str).map(str::to_owned);
        let condition = text_of(if kind == "if" { "if" } else { "expect" });
        // The lists are read whatever the rest looks like: one wrong key must not hide the steps inside.
        let inner = self.blocks(kind, &lists, path, pointer);
        let raw: RawStep = self.reader.typed(&Value::Object(map), pointer)?;
        if let Some(text) = condition {
            self.condition(
                &text,
                &format!("{pointer}/{}", if kind == "if" { "if" } else { "expect" }),
            );
        }
        let kind = self.kind(kind, &raw, inner, pointer)?;
        let outputs = raw.outputs.unwrap_or_default();
        Some(Step {
            path: path.clone(),
            id: raw.id,
            name: raw.name,
            why: raw.why,
            runbook: raw.runbook.unwrap_or_default(),
            phase: raw.phase,
            owner: raw.owner,
            effect: raw.effect,
            require: raw.require.map(call),
            done_if: raw.done_if.map(call),
            approve: raw
                .approve
                .and_then(|a| self.approval(a, &format!("{pointer}/approve"))),
            timeout: self.reader.time(&format!("{pointer}/timeout"), raw.timeout),
            retry: raw
                .retry
                .map(|r| self.reader.retry(&format!("{pointer}/retry"), r)),
            undo: raw.undo.map(call),
            on_failure: raw.on_failure,
            resume: raw.resume,
            evidence: raw.evidence.map(|e| Evidence {
                kind: e.kind,
                seal: e.seal.unwrap_or(true),
                files: e.files.unwrap_or_default(),
                redact: e.redact.unwrap_or_default(),
            }),
            outputs: outputs
                .into_iter()
                .filter_map(|(name, raw)| {
                    let at = format!("{pointer}/outputs/{}/from", escape(&name));
                    Some((name, self.output(&raw.from, &at)?))
                })
                .collect(),
            milestone: raw
                .milestone
                .and_then(|m| self.milestone(m, &format!("{pointer}/milestone"))),
            drill: raw.drill,
            budget: self.reader.time(&format!("{pointer}/budget"), raw.budget),
            plan_value: raw.plan_value.unwrap_or_default(),
            kind,
            pointer: pointer.to_owned(),
        })
    }

    /// Keys that this kind needs and lacks, or carries and cannot honour (FB0117).
    fn misplaced(
        &mut self,
        map: &Map<String, Value>,
        lists: &Map<String, Value>,
        kind: &str,
        pointer: &str,
    ) {
        let has = |key: &str| map.contains_key(key) || lists.contains_key(key);
        let block = matches!(kind, "if" | "parallel" | "steps");
        let mut wrong: Vec<(&str, String)> = Vec::new();
        let belongs = |key: &'static str, homes: &[&str]| {
            (has(key) && !homes.contains(&kind))
                .then(|| (key, format!("`{key}` belongs to {}", homes.join(" and "))))
        };
        wrong.extend(belongs("with", &["call", "check"]));
        wrong.extend(belongs("expect", &["check"]));
        wrong.extend(belongs("then", &["if"]));
        wrong.extend(belongs("else", &["if"]));
        wrong.extend(belongs("undo", &["call", "run"]));
        wrong.extend(belongs("retry", &["call", "run", "check"]));
        wrong.extend(belongs("evidence", &["run"]));
        wrong.extend(super::unbuilt::keys(map));
        wrong.extend(belongs("outputs", &["call", "run", "check", "manual"]));
        if block {
            for key in ACTING.into_iter().filter(|k| has(k)) {
                wrong.push((key, format!("`{key}` has no meaning on a block, which does nothing itself; put it on the steps inside")));
            }
        }
        if matches!(kind, "note" | "wait" | "approve") {
            for key in ["effect", "resume", "plan_value", "done_if"]
                .into_iter()
                .filter(|k| has(k))
            {
                wrong.push((key, format!("`{key}` has no meaning on a `{kind}` step")));
            }
        }
        for (key, message) in wrong {
            let place = self.reader.places.key(&format!("{pointer}/{key}"));
            self.reader
                .at("FB0117", place, message, "move it or leave it out");
        }
        for (needed, kinds) in [("owner", ["manual", ""]), ("effect", ["call", "run"])] {
            if kinds.contains(&kind) && !has(needed) {
                self.reader.say(
                    "FB0117",
                    pointer,
                    format!("a `{kind}` step says its `{needed}`"),
                    format!("add `{needed}:`"),
                );
            }
        }
    }

    fn blocks(
        &mut self,
        kind: &str,
        lists: &Map<String, Value>,
        path: &StepPath,
        pointer: &str,
    ) -> (Vec<Step>, Vec<Step>) {
        let at = |key: &str| format!("{pointer}/{key}");
        match kind {
            "if" => {
                // One block in two halves: the paths inside stay unique without naming the half.
                let mut names = Names::default();
                let then = self.list(lists.get("then"), &at("then"), Some(path), 1, &mut names);
                let otherwise =
                    self.list(lists.get("else"), &at("else"), Some(path), 0, &mut names);
                (then, otherwise)
            }
            "parallel" => (
                self.block(lists.get(kind), &at(kind), Some(path), 2),
                Vec::new(),
            ),
            "steps" => (
                self.block(lists.get(kind), &at(kind), Some(path), 1),
                Vec::new(),
            ),
            _ => (Vec::new(), Vec::new()),
        }
    }

    fn kind(
        &mut self,
        kind: &str,
        raw: &RawStep,
        inner: (Vec<Step>, Vec<Step>),
        pointer: &str,
    ) -> Option<Kind> {
        let text = |t: &Option<String>| t.clone().unwrap_or_default();
        let named = |action: &Option<String>| Call {
            action: text(action),
            with: Value::Object(raw.with.clone().unwrap_or_default()),
        };
        Some(match kind {
            "call" => Kind::Call(named(&raw.call)),
            "check" => Kind::Check {
                call: named(&raw.check),
                expect: raw.expect.clone().unwrap_or_else(|| "ok == true".into()),
            },
            "run" => {
                let argv = raw.run.clone().unwrap_or_default();
                if argv.first().is_none_or(String::is_empty) {
                    self.reader.say(
                        "FB0117",
                        &format!("{pointer}/run"),
                        "a `run` step names a program",
                        "`run: [program, word, …]`",
                    );
                    return None;
                }
                Kind::Run { argv }
            }
            "manual" => Kind::Manual {
                text: self.full(&raw.manual, &format!("{pointer}/manual"))?,
            },
            "note" => Kind::Note {
                text: self.full(&raw.note, &format!("{pointer}/note"))?,
            },
            "notify" => {
                let n = raw.notify.as_ref()?;
                Kind::Notify(Notify {
                    to: n.to.clone(),
                    template: n.template.clone(),
                    wait_ack: n.wait_ack.unwrap_or(WaitAck::None),
                    external: n.external.unwrap_or(false),
                })
            }
            "if" => Kind::If {
                condition: text(&raw.r#if),
                then: inner.0,
                otherwise: inner.1,
            },
            "parallel" => Kind::Parallel { steps: inner.0 },
            "steps" => Kind::Steps { steps: inner.0 },
            "wait" => Kind::Wait {
                time: self.span(&text(&raw.wait), &format!("{pointer}/wait"))?,
            },
            _ => Kind::Approve,
        })
    }

    fn full(&mut self, text: &Option<String>, pointer: &str) -> Option<String> {
        let text = text.clone().unwrap_or_default();
        if text.trim().is_empty() {
            self.reader.say(
                "FB0117",
                pointer,
                "the text is empty",
                "say what is to be done or noted",
            );
            return None;
        }
        Some(text)
    }

    fn span(&mut self, text: &str, pointer: &str) -> Option<Span> {
        if let Some(name) = variable::exact(text) {
            return Some(Span::Variable(name.to_owned()));
        }
        let fixed = duration::parse(text).map(Span::Fixed);
        if fixed.is_none() {
            self.reader.say(
                "FB0101",
                pointer,
                format!("`{text}` is no duration"),
                "such as 90s, 5m, 1h30m, 2d, or \"${name}\" of a duration variable",
            );
        }
        fixed
    }

    fn condition(&mut self, text: &str, pointer: &str) {
        if let Err(e) = Condition::parse(text) {
            let place = self.reader.places.inside(pointer, e.column);
            self.reader.at(
                "FB0206",
                place,
                format!("the expression is not understood: {e}"),
                "CEL, such as `isolation == 'isolated'`",
            );
        }
    }

    fn approval(&mut self, raw: RawApproval, pointer: &str) -> Option<Approval> {
        if raw.roles.is_empty() {
            self.reader.say(
                "FB0301",
                &format!("{pointer}/roles"),
                "an approval names no role",
                "say who may decide",
            );
        }
        if raw.on_timeout.is_none() {
            self.reader.say(
                "FB0306",
                pointer,
                "the approval does not say what happens when nobody decides in time",
                "`on_timeout: escalate`, `park` or `refuse`",
            );
        }
        Some(Approval {
            roles: raw.roles,
            quorum: raw.quorum,
            distinct: raw.distinct.unwrap_or(true),
            ttl: self
                .reader
                .time(&format!("{pointer}/ttl"), raw.ttl)
                .unwrap_or(Duration::from_secs(15 * 60)),
            on_timeout: raw.on_timeout.unwrap_or(OnTimeout::Park),
            break_glass: raw.break_glass.unwrap_or(false),
        })
    }

    fn output(&mut self, from: &str, pointer: &str) -> Option<OutputFrom> {
        let pointed = |p: &str| (p.is_empty() || p.starts_with('/')).then(|| p.to_owned());
        let source = match from.split_once(':') {
            Some(("json", p)) => pointed(p).map(OutputFrom::Json),
            Some(("result", p)) => pointed(p).map(OutputFrom::Result),
            None => match from {
                "stdout" => Some(OutputFrom::Stdout),
                "stderr" => Some(OutputFrom::Stderr),
                "exit" => Some(OutputFrom::Exit),
                "answer" => Some(OutputFrom::Answer),
                _ => None,
            },
            _ => None,
        };
        if source.is_none() {
            self.reader.say(
                "FB0118",
                pointer,
                format!("`{from}` is no source of an output"),
                "stdout, stderr, exit, answer, json:/pointer or result:/pointer",
            );
        }
        source
    }

    fn milestone(&mut self, raw: RawMilestone, pointer: &str) -> Option<StepMilestone> {
        let (name, tier) = match raw {
            RawMilestone::Name(name) => (name, None),
            RawMilestone::Tiered(t) => (t.name, t.tier),
        };
        if matches!(name, Milestone::Occurred | Milestone::Aware) {
            self.reader.say(
                "FB0101",
                pointer,
                format!("`{name}` is only ever a person's statement"),
                "a person states it: `firebreak incident milestone NAME --at TIME`",
            );
            return None;
        }
        if tier.is_some_and(|t| !(1..=3).contains(&t)) {
            self.reader.say(
                "FB0101",
                &format!("{pointer}/tier"),
                "tiers are 1, 2 and 3",
                "see the service list of the runbook",
            );
        }
        Some(StepMilestone { name, tier })
    }
}

fn call(raw: RawCall) -> Call {
    Call {
        action: raw.call,
        with: Value::Object(raw.with.unwrap_or_default()),
    }
}

/// Ids of one block, and how many steps it has so far.
#[derive(Default)]
struct Names {
    place: usize,
    taken: BTreeSet<String>,
}
