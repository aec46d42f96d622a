//! What was done: each run with each of its steps, its outcome, who decided, and what a reader must not overlook.

use crate::incident::body::*;
use crate::incident::clock_text::millis;
use crate::incident::{Effect, Entry, History, Outcome, kind};

use super::document::{Approval, Message, Resolution, RunStory, StepState, StepStory};
use super::times::cite;

/// A decision as a verb of the past.
pub(super) fn decided(decision: Decision) -> &'static str {
    match decision {
        Decision::Approve => "approved",
        Decision::Refuse => "refused",
        Decision::BreakGlass => "broke the glass",
    }
}

fn decision_word(decision: Decision) -> &'static str {
    match decision {
        Decision::Approve => "approve",
        Decision::Refuse => "refuse",
        Decision::BreakGlass => "break-glass",
    }
}

/// Every run in order of creation.
pub(super) fn runs(history: &History) -> Vec<RunStory> {
    history
        .bodies::<RunCreated>(kind::RUN_CREATED)
        .map(|(entry, run)| run_story(history, entry, run))
        .collect()
}

fn run_story(history: &History, created: &Entry, run: RunCreated) -> RunStory {
    let entries: Vec<&Entry> = history
        .entries
        .iter()
        .filter(|e| e.run() == Some(&run.run))
        .collect();
    let mut how = ("open".to_owned(), None, None);
    let mut resumed = 0;
    for e in &entries {
        if let Some(b) = e.body_as::<RunParked>(kind::RUN_PARKED) {
            how = ("parked".into(), Some(b.why), None);
        } else if e.kind == kind::RUN_RESUMED {
            how = ("open".into(), None, None);
            resumed += 1;
        } else if let Some(b) = e.body_as::<RunEnded>(kind::RUN_ENDED) {
            how = (b.how, b.why, Some(millis(e.time)));
        }
    }
    let mut outline = run.steps.clone();
    // Steps of a loop carry a number that the outline does not know: they follow their entries.
    for e in &entries {
        if let Some(path) = e.step()
            && e.kind == kind::STEP_STARTED
            && !outline.iter().any(|o| o.path == path)
            && let Some(started) = e.body_as::<StepStarted>(kind::STEP_STARTED)
        {
            outline.push(StepOutline {
                path: path.to_owned(),
                name: path.to_owned(),
                kind: "call".into(),
                action: Some(started.what),
                phase: None,
                effect: started.effect,
                runbook: vec![],
                expected_s: None,
            });
        }
    }
    let steps = outline
        .iter()
        .map(|o| step_story(o, &run.policy, &entries))
        .collect();
    RunStory {
        run: run.run,
        playbook: format!("{} v{}", run.playbook, run.version),
        mode: run.mode,
        policy: run.policy,
        executor: run.executor,
        created: millis(created.time),
        ended: how.2,
        how: how.0,
        why: how.1,
        resumed,
        steps,
        cite: cite(created),
    }
}

fn step_story(outline: &StepOutline, policy: &str, run: &[&Entry]) -> StepStory {
    let mut s = StepStory {
        path: outline.path.clone(),
        name: outline.name.clone(),
        kind: outline.kind.clone(),
        what: outline.action.clone(),
        phase: outline.phase,
        effect: outline.effect,
        runbook: outline.runbook.clone(),
        state: StepState::NotReached,
        by: None,
        summary: None,
        code: None,
        left: vec![],
        attempts: 0,
        tries: 0,
        started: None,
        finished: None,
        elapsed_ms: None,
        expected_s: outline.expected_s,
        approvals: approvals(&outline.path, run),
        resolutions: vec![],
        red: vec![],
        cites: vec![],
    };
    for e in run.iter().filter(|e| e.step() == Some(&outline.path)) {
        follow(&mut s, e);
    }
    s.red = red(&s, policy);
    s
}

/// Takes one entry of the step into its story.
fn follow(s: &mut StepStory, e: &Entry) {
    let known = match e.kind.as_str() {
        kind::GATE_REQUESTED => {
            s.state = StepState::Waiting;
            true
        }
        kind::STEP_STARTED => started(s, e),
        kind::STEP_FINISHED => finished(s, e),
        kind::STEP_IN_DOUBT => e.body_as::<StepInDoubt>(&e.kind).is_some_and(|b| {
            s.state = StepState::InDoubt;
            s.summary = Some(b.known);
            true
        }),
        kind::STEP_RESOLVED => resolved(s, e),
        kind::UNDO_STARTED => true,
        kind::UNDO_FINISHED => undone(s, e),
        kind::ANSWER => e.body_as::<Answer>(&e.kind).is_some_and(|b| {
            s.by = Some("answer".into());
            s.summary = Some(b.text);
            s.state = state(b.outcome);
            s.finished = Some(millis(e.time));
            true
        }),
        _ => false,
    };
    if known {
        s.cites.push(cite(e));
    }
}

fn state(outcome: Outcome) -> StepState {
    match outcome {
        Outcome::Done => StepState::Done,
        Outcome::Failed => StepState::Failed,
        Outcome::InDoubt => StepState::InDoubt,
        Outcome::Undone => StepState::Undone,
        Outcome::Stuck => StepState::Stuck,
    }
}

fn started(s: &mut StepStory, e: &Entry) -> bool {
    let Some(b) = e.body_as::<StepStarted>(&e.kind) else {
        return false;
    };
    s.state = StepState::Running;
    s.tries += 1;
    s.attempts = s.attempts.max(e.refs.attempt.unwrap_or(1));
    s.started.get_or_insert_with(|| millis(e.time));
    if s.what.is_none() && !b.what.is_empty() {
        s.what = Some(b.what);
    }
    true
}

fn finished(s: &mut StepStory, e: &Entry) -> bool {
    let Some(b) = e.body_as::<StepFinished>(&e.kind) else {
        return false;
    };
    s.state = if b.by == "skipped" {
        StepState::Skipped
    } else {
        state(b.outcome)
    };
    s.by = Some(b.by);
    // A person's words stay: the step's own line after an answer only repeats them.
    if s.by.as_deref() != Some("answer") || s.summary.is_none() {
        s.summary = Some(b.summary);
    }
    s.code = b.code;
    s.elapsed_ms = Some(b.elapsed_ms);
    s.finished = Some(millis(e.time));
    true
}

fn resolved(s: &mut StepStory, e: &Entry) -> bool {
    let Some(b) = e.body_as::<StepResolved>(&e.kind) else {
        return false;
    };
    s.state = match b.verdict.as_str() {
        "ran" => StepState::Done,
        "did-not-run" => StepState::Failed,
        "retry" => StepState::Waiting,
        _ => StepState::InDoubt,
    };
    s.summary = Some(b.reason.clone());
    s.finished = Some(millis(e.time));
    s.resolutions.push(Resolution {
        verdict: b.verdict,
        by: b.by,
        actor: e.actor.id.clone(),
        reason: b.reason,
        cite: cite(e),
    });
    true
}

fn undone(s: &mut StepStory, e: &Entry) -> bool {
    let Some(b) = e.body_as::<UndoFinished>(&e.kind) else {
        return false;
    };
    s.state = state(b.outcome);
    s.summary = Some(b.summary);
    s.left = b.left;
    s.finished = Some(millis(e.time));
    true
}

/// Decisions that name the step: one decision may cover several steps.
fn approvals(path: &str, run: &[&Entry]) -> Vec<Approval> {
    run.iter()
        .filter_map(|e| Some((e, e.body_as::<GateDecided>(kind::GATE_DECIDED)?)))
        .filter(|(e, b)| b.steps.contains_key(path) || e.step() == Some(path))
        .map(|(e, b)| Approval {
            how: b.how,
            decision: decision_word(b.decision).into(),
            principal: b.principal,
            role: b.role,
            key: b.key,
            reason: b.reason,
            rejected: b.rejected,
            time: millis(e.time),
            cite: cite(e),
        })
        .collect()
}

fn red(s: &StepStory, policy: &str) -> Vec<String> {
    let mut red = Vec::new();
    let counted = |a: &&Approval| a.rejected.is_none();
    for a in s.approvals.iter().filter(counted) {
        if a.decision == "break-glass" {
            let why = a.reason.as_deref().unwrap_or("no reason given");
            red.push(format!("break-glass by {}: {why}", a.principal));
        }
    }
    let lasting = matches!(s.effect, Effect::Irreversible | Effect::Destructive);
    if policy == "solo" && lasting && s.tries > 0 {
        let why = s
            .approvals
            .iter()
            .filter(counted)
            .find_map(|a| a.reason.clone())
            .unwrap_or_else(|| "no reason given".into());
        red.push(format!(
            "{} and approved by one person alone: {why}",
            s.effect
        ));
    }
    for r in s.resolutions.iter().filter(|r| r.by == "person") {
        red.push(format!(
            "outcome decided by {} ({}): {}",
            r.actor, r.verdict, r.reason
        ));
    }
    match s.state {
        StepState::InDoubt => red.push("in doubt: it may have happened".into()),
        StepState::Stuck => red.push("stuck: its undo failed, something is left".into()),
        _ => {}
    }
    red
}

/// Every message that was shown, sent, or could not be.
pub(super) fn messages(history: &History) -> Vec<Message> {
    history
        .entries
        .iter()
        .filter_map(|e| {
            let b: Notice = e
                .body_as(kind::NOTICE_SENT)
                .or_else(|| e.body_as(kind::NOTICE_FAILED))?;
            Some(Message {
                to: b.to,
                channel: b.channel,
                text: b.text,
                time: millis(e.time),
                outcome: if e.kind == kind::NOTICE_SENT {
                    "sent".into()
                } else {
                    "failed".into()
                },
                error: b.error,
                cite: cite(e),
            })
        })
        .collect()
}
