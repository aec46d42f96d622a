//! Who agrees, and what happens after a failure or a crash: FB0301, FB0302, FB0314, FB0317.

use crate::incident::Effect;
use crate::playbook::model::{Approval, DrillMode, Kind, OnFailure, Resume, Step};

use super::Lint;

/// People that an effect needs at least where a team decides. Under the `solo` policy a typed confirmation stands in.
pub fn floor(effect: Effect) -> u32 {
    match effect {
        Effect::Read => 0,
        Effect::Reversible => 1,
        Effect::Irreversible | Effect::Destructive => 2,
    }
}

pub(super) fn look(lint: &mut Lint<'_>, step: &Step) {
    if let Some(approve) = &step.approve {
        approval(lint, step, approve);
    }
    resume(lint, step);
    let goes_on = step.on_failure_or_default(&lint.playbook.defaults) == OnFailure::Continue;
    if step.milestone.is_some() && goes_on {
        lint.step(
            "FB0317",
            step,
            "/on_failure",
            "a milestone step that goes on after its failure would be passed over in silence",
            "let it park, or put the milestone on a step that must succeed",
        );
    }
    if let Kind::Notify(n) = &step.kind
        && n.external
        && step.drill == Some(DrillMode::Run)
    {
        lint.step(
            "FB0314",
            step,
            "/drill",
            "a message that leaves the organisation would be sent in a drill",
            "`drill: simulate`",
        );
    }
}

fn approval(lint: &mut Lint<'_>, step: &Step, approve: &Approval) {
    let effect = step.effect();
    let floor = floor(effect);
    let mut say = |below: &str, message: String, fix: &str| {
        lint.step("FB0301", step, &format!("/approve{below}"), message, fix);
    };
    if let Some(quorum) = approve.quorum
        && quorum < floor.max(1)
    {
        say(
            "/quorum",
            format!(
                "{quorum} approve, and a step that is {effect} needs {}",
                floor.max(1)
            ),
            "leave `quorum` out to take the floor, or ask for more",
        );
    }
    if floor > 1 && !approve.distinct {
        say(
            "/distinct",
            format!("one person may approve twice a step that is {effect}"),
            "leave `distinct` out",
        );
    }
    if approve.break_glass && effect == Effect::Destructive {
        say(
            "/break_glass",
            "one person alone may never destroy".into(),
            "leave `break_glass` out",
        );
    }
}

/// A built-in can always be looked at by its own `observe`; a child process only by a probe that the playbook names.
fn resume(lint: &mut Lint<'_>, step: &Step) {
    let unseen = matches!(step.kind, Kind::Run { .. }) && step.done_if.is_none();
    if unseen && step.effect() >= Effect::Irreversible && step.resume != Some(Resume::Ask) {
        lint.step(
            "FB0302",
            step,
            "/effect",
            format!(
                "after a crash nobody could tell whether this {} step ran",
                step.effect()
            ),
            "`done_if:` with a probe, or `resume: ask`",
        );
    }
}
