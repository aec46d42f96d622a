//! Who must agree before a step: the floor by effect, as data, and whether the decisions at hand meet it.

use serde::{Deserialize, Serialize};

use crate::incident::Effect;
use crate::incident::body::{Decision, GateDecided};
use crate::playbook::model::{Approval, Kind, Step};

/// The two policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyName {
    /// One operator who holds every role.
    Solo,
    /// People with keys.
    Team,
}

impl PolicyName {
    /// The word in entries.
    pub fn as_str(self) -> &'static str {
        match self {
            PolicyName::Solo => "solo",
            PolicyName::Team => "team",
        }
    }
    /// Parses the word.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "solo" => Some(PolicyName::Solo),
            "team" => Some(PolicyName::Team),
            _ => None,
        }
    }
}

/// How whoever runs the plan counts among the signers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Executor {
    /// As one of them.
    CountsOnce,
    /// Not at all.
    NeverCounts,
}

/// What is needed before a step may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "need")]
pub enum Need {
    /// Nothing.
    Nothing,
    /// A typed confirmation.
    Typed,
    /// A typed confirmation with a typed reason; red in the document.
    TypedWithReason,
    /// Signatures of distinct people.
    Signed {
        /// How many.
        quorum: u32,
        /// How the executor counts.
        executor: Executor,
        /// One person may go on alone with a reason.
        break_glass: bool,
    },
    /// Refused until a second person is there.
    SecondPerson,
}

/// The floor: what each policy asks for each effect.
pub const FLOOR: &[(PolicyName, Effect, Need)] = &[
    (PolicyName::Solo, Effect::Read, Need::Nothing),
    (PolicyName::Solo, Effect::Reversible, Need::Typed),
    (
        PolicyName::Solo,
        Effect::Irreversible,
        Need::TypedWithReason,
    ),
    (PolicyName::Solo, Effect::Destructive, Need::SecondPerson),
    (PolicyName::Team, Effect::Read, Need::Nothing),
    (PolicyName::Team, Effect::Reversible, Need::Typed),
    (PolicyName::Team, Effect::Irreversible, TWO_PEOPLE),
    (
        PolicyName::Team,
        Effect::Destructive,
        Need::Signed {
            quorum: 2,
            executor: Executor::NeverCounts,
            break_glass: false,
        },
    ),
];

const TWO_PEOPLE: Need = Need::Signed {
    quorum: 2,
    executor: Executor::CountsOnce,
    break_glass: false,
};

/// The floor of one effect.
pub fn floor(policy: PolicyName, effect: Effect) -> Need {
    FLOOR
        .iter()
        .find(|(p, e, _)| *p == policy && *e == effect)
        .map_or(Need::SecondPerson, |(_, _, need)| *need)
}

/// What a step needs: the floor, or more where the playbook asks for more.
pub fn need(policy: PolicyName, step: &Step) -> Need {
    let floor = floor(policy, step.effect());
    let asked = step.approve.as_ref();
    match policy {
        PolicyName::Solo => solo(floor, asked.is_some() || step.kind == Kind::Approve),
        PolicyName::Team => rotates(step, asked.map_or(floor, |a| team(floor, a))),
    }
}

/// Whoever replaces credentials never counts among those who decide about it: they would hold what they let through.
fn rotates(step: &Step, need: Need) -> Need {
    let eradicates = matches!(&step.kind, Kind::Call(c) if c.action.starts_with("eradicate."));
    match need {
        Need::Signed {
            quorum,
            break_glass,
            ..
        } if eradicates => Need::Signed {
            quorum,
            executor: Executor::NeverCounts,
            break_glass,
        },
        other => other,
    }
}

/// Under `solo` the operator holds every role: what a playbook asks of people, they answer by typing.
fn solo(floor: Need, asked: bool) -> Need {
    if floor == Need::Nothing && asked {
        Need::Typed
    } else {
        floor
    }
}

/// Under `team` a playbook's gate is signed; it may raise the floor and never lower it.
fn team(floor: Need, asked: &Approval) -> Need {
    let quorum = asked.quorum.unwrap_or(1).max(1);
    match floor {
        Need::Signed {
            quorum: least,
            executor,
            ..
        } => Need::Signed {
            quorum: quorum.max(least),
            executor,
            break_glass: false,
        },
        Need::Nothing | Need::Typed => Need::Signed {
            quorum,
            executor: Executor::CountsOnce,
            break_glass: asked.break_glass,
        },
        Need::TypedWithReason | Need::SecondPerson => floor,
    }
}

/// Where a gate stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GateState {
    /// It may start; `seq` of the decision that opened it, none where nothing was needed.
    Open(Option<u64>),
    /// It waits: how many count, how many are needed.
    Waiting {
        /// People that count.
        have: u32,
        /// People needed.
        need: u32,
    },
    /// Somebody refused.
    Refused {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// Nobody here may decide alone.
    SecondPerson,
}

/// Whether the decisions about one call open its gate. `decisions` are those that count, in order, with their entries.
pub fn judge<'a>(
    need: Need,
    path: &str,
    call_sha256: &str,
    executor: &str,
    decisions: impl Iterator<Item = (u64, &'a GateDecided)>,
) -> GateState {
    let about: Vec<(u64, &GateDecided)> = decisions
        .filter(|(_, d)| d.steps.get(path).is_some_and(|s| s == call_sha256))
        .collect();
    if need == Need::Nothing {
        return GateState::Open(None);
    }
    if let Some((_, d)) = about.iter().find(|(_, d)| d.decision == Decision::Refuse) {
        return GateState::Refused {
            by: d.principal.clone(),
            reason: d.reason.clone().unwrap_or_else(|| "no reason given".into()),
        };
    }
    match need {
        Need::Nothing => GateState::Open(None),
        Need::SecondPerson => GateState::SecondPerson,
        Need::Typed => one(&about, |_| true),
        Need::TypedWithReason => one(&about, |d| d.how == "signed" || has_reason(d)),
        Need::Signed {
            quorum,
            executor: counts,
            break_glass,
        } => signed(&about, quorum, counts, break_glass, executor),
    }
}

fn has_reason(decided: &GateDecided) -> bool {
    decided
        .reason
        .as_deref()
        .is_some_and(|r| !r.trim().is_empty())
}

fn one(about: &[(u64, &GateDecided)], fits: impl Fn(&GateDecided) -> bool) -> GateState {
    match about.iter().find(|(_, d)| fits(d)) {
        Some((seq, _)) => GateState::Open(Some(*seq)),
        None => GateState::Waiting { have: 0, need: 1 },
    }
}

fn signed(
    about: &[(u64, &GateDecided)],
    quorum: u32,
    counts: Executor,
    break_glass: bool,
    executor: &str,
) -> GateState {
    let mut people: Vec<&str> = Vec::new();
    let mut keys: Vec<&str> = Vec::new();
    let mut last = None;
    for (seq, d) in about.iter().filter(|(_, d)| d.how == "signed") {
        if break_glass && d.decision == Decision::BreakGlass && has_reason(d) {
            return GateState::Open(Some(*seq));
        }
        let Some(key) = d.key.as_deref() else {
            continue;
        };
        let excluded = counts == Executor::NeverCounts && d.principal == executor;
        let fresh = !people.contains(&d.principal.as_str()) && !keys.contains(&key);
        if d.decision == Decision::Approve && !excluded && fresh {
            people.push(&d.principal);
            keys.push(key);
            last = Some(*seq);
        }
    }
    let have = u32::try_from(people.len()).unwrap_or(u32::MAX);
    if have >= quorum {
        GateState::Open(last)
    } else {
        GateState::Waiting { have, need: quorum }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn signed_by(principal: &str, key: &str) -> GateDecided {
        GateDecided {
            how: "signed".into(),
            decision: Decision::Approve,
            principal: principal.into(),
            role: None,
            steps: BTreeMap::from([("isolate".to_owned(), "ab".to_owned())]),
            shown_sha256: "0".into(),
            text: None,
            signature: None,
            key: Some(key.into()),
            reason: None,
            expires: None,
            rejected: None,
        }
    }

    fn judged(need: Need, decisions: &[GateDecided]) -> GateState {
        judge(
            need,
            "isolate",
            "ab",
            "me@x",
            decisions.iter().enumerate().map(|(n, d)| (n as u64, d)),
        )
    }

    #[test]
    fn every_policy_has_a_floor_for_every_effect_and_solo_never_destroys_alone() {
        for policy in [PolicyName::Solo, PolicyName::Team] {
            for effect in Effect::ALL {
                assert!(FLOOR.iter().any(|(p, e, _)| *p == policy && e == effect));
            }
        }
        assert_eq!(
            floor(PolicyName::Solo, Effect::Destructive),
            Need::SecondPerson
        );
    }

    #[test]
    fn one_person_twice_or_one_key_twice_is_one() {
        let two = TWO_PEOPLE;
        let waiting = GateState::Waiting { have: 1, need: 2 };
        assert_eq!(
            judged(two, &[signed_by("a@x", "k1"), signed_by("a@x", "k2")]),
            waiting
        );
        assert_eq!(
            judged(two, &[signed_by("a@x", "k1"), signed_by("b@x", "k1")]),
            waiting
        );
        assert_eq!(
            judged(two, &[signed_by("a@x", "k1"), signed_by("b@x", "k2")]),
            GateState::Open(Some(1))
        );
    }

    #[test]
    fn the_executor_counts_once_and_for_destruction_not_at_all() {
        let both = [signed_by("me@x", "k1"), signed_by("b@x", "k2")];
        assert_eq!(judged(TWO_PEOPLE, &both), GateState::Open(Some(1)));
        let destructive = floor(PolicyName::Team, Effect::Destructive);
        assert_eq!(
            judged(destructive, &both),
            GateState::Waiting { have: 1, need: 2 }
        );
    }

    #[test]
    fn who_rotates_never_counts_among_those_who_decide_about_it() {
        let never = |path: &str, name: &str| {
            let text = crate::playbook::embedded::find(name)
                .expect("embedded")
                .text;
            let book = crate::playbook::read(text.as_bytes(), None).expect("reads");
            let step = book.find(&crate::incident::StepPath::parse(path).expect("path"));
            let need = need(PolicyName::Team, step.expect("a step"));
            matches!(
                need,
                Need::Signed {
                    quorum: 2,
                    executor: Executor::NeverCounts,
                    break_glass: false
                }
            )
        };
        assert!(never("replace/rotate", "rotate"));
        assert!(never("replace/delete", "rotate"));
        assert!(never("act/main/rotate/replace", "security-breach"));
        assert!(!never("isolate", "contain-pod"));
    }

    #[test]
    fn a_refusal_wins_and_another_call_does_not_count() {
        let mut refusal = signed_by("b@x", "k2");
        refusal.decision = Decision::Refuse;
        refusal.reason = Some("wrong pod".into());
        assert!(matches!(
            judged(TWO_PEOPLE, &[signed_by("a@x", "k1"), refusal]),
            GateState::Refused { .. }
        ));
        let mut other = signed_by("a@x", "k1");
        other.steps = BTreeMap::from([("isolate".to_owned(), "cd".to_owned())]);
        assert_eq!(
            judged(Need::Typed, &[other]),
            GateState::Waiting { have: 0, need: 1 }
        );
    }

    #[test]
    fn a_typed_word_never_meets_a_signature_and_an_irreversible_step_wants_a_reason() {
        let mut typed = signed_by("me@x", "k");
        typed.how = "typed".into();
        typed.key = None;
        assert_eq!(
            judged(TWO_PEOPLE, &[typed.clone()]),
            GateState::Waiting { have: 0, need: 2 }
        );
        assert_eq!(
            judged(Need::TypedWithReason, &[typed.clone()]),
            GateState::Waiting { have: 0, need: 1 }
        );
        typed.reason = Some("spreading".into());
        assert_eq!(
            judged(Need::TypedWithReason, &[typed]),
            GateState::Open(Some(0))
        );
    }
}
