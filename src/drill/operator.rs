//! The personas at the terminal: they confirm, answer as the file beside the playbook says, and sign for real.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Duration, Utc};

use crate::incident::body::{Answer, Decision, GateDecided};
use crate::incident::{Entry, IncidentId, Outcome, RunId, StepPath, kind};
use crate::plan::approval_text::ApprovalText;
use crate::port::{
    Clock, Ledger, ManualQuestion, Operator, Question, Random, Reply, RunEvent, SignedText,
};

use super::cast::{Cast, Persona};

/// How long a persona's signature holds.
const TTL: Duration = Duration::minutes(15);
/// What every word of a persona begins with.
const EXERCISE: &str = "EXERCISE";

/// Answers for everybody in a drill.
pub struct DrillOperator {
    /// The incident.
    pub incident: IncidentId,
    /// Who signs.
    pub cast: Arc<Cast>,
    /// What is answered.
    pub answers: BTreeMap<StepPath, Answer>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness of nonces.
    pub random: Arc<dyn Random>,
    /// Who has signed before a drill was killed: they do not sign again.
    pub ledger: Arc<dyn Ledger>,
    /// Is told what happens.
    pub watch: Arc<dyn Fn(&RunEvent) + Send + Sync>,
}

#[async_trait]
impl Operator for DrillOperator {
    async fn confirm(&self, question: &Question) -> Reply {
        Reply::Typed {
            reason: question
                .needs_reason
                .then(|| format!("{EXERCISE}: rehearsal")),
            shown_sha256: None,
        }
    }

    /// From the embedded answers; a step that it does not name and that gives no value is done. One that should give values and has no answer stays
    /// open: a made-up value would make the rehearsal worth nothing.
    async fn answer(&self, question: &ManualQuestion) -> Option<Answer> {
        let step = StepPath::parse(&question.step).ok()?;
        match self.answers.get(&step) {
            Some(said) => Some(Answer {
                text: marked(&said.text),
                ..said.clone()
            }),
            None if question.values.is_empty() => Some(Answer {
                text: format!("{EXERCISE}: done as far as an exercise goes"),
                outcome: Outcome::Done,
                values: BTreeMap::new(),
            }),
            None => None,
        }
    }

    async fn signatures(&self, question: &Question) -> Vec<SignedText> {
        let wanted = usize::try_from(question.quorum).unwrap_or(usize::MAX);
        let signed = self.signed(question);
        self.cast
            .signers()
            .take(wanted)
            .filter(|persona| !signed.contains(&persona.person.principal))
            .filter_map(|persona| self.sign(persona, question))
            .collect()
    }

    fn event(&self, event: &RunEvent) {
        (self.watch)(event);
    }
}

impl DrillOperator {
    /// Principals whose decision about this very call counts already.
    fn signed(&self, question: &Question) -> BTreeSet<String> {
        // A ledger that cannot be read is said by whoever writes to it next.
        let Ok(history) = self.ledger.history() else {
            return BTreeSet::new();
        };
        let about = |e: &Entry, d: &GateDecided| {
            e.run() == Some(question.run.as_str())
                && d.rejected.is_none()
                && d.steps.get(&question.step) == Some(&question.call_sha256)
        };
        history
            .bodies::<GateDecided>(kind::GATE_DECIDED)
            .filter(|(e, d)| about(e, d))
            .map(|(_, d)| d.principal)
            .collect()
    }

    /// A signed approval; `None` where the question names nothing that could be signed, or the host has no randomness. The gate then
    /// stays closed and the score says so.
    fn sign(&self, persona: &Persona, question: &Question) -> Option<SignedText> {
        let mut nonce = [0u8; 16];
        self.random.fill(&mut nonce).ok()?;
        let issued = whole_second(self.clock.now());
        let until = question
            .expires
            .as_deref()
            .and_then(|t| DateTime::parse_from_rfc3339(t).ok())
            .map_or(issued + TTL, |t| whole_second(t.with_timezone(&Utc)));
        let text = ApprovalText {
            incident: self.incident.clone(),
            run: RunId::parse(&question.run).ok()?,
            plan_sha256: question.plan_sha256.clone(),
            steps: vec![(
                StepPath::parse(&question.step).ok()?,
                question.call_sha256.clone(),
            )],
            attempt: question.attempt,
            decision: Decision::Approve,
            effect: question.effect,
            principal: persona.person.principal.clone(),
            issued,
            expires: until,
            nonce: nonce.iter().map(|b| format!("{b:02x}")).collect(),
            reason: Some(format!("{EXERCISE}: rehearsal")),
        }
        .write();
        let signature = persona.key.sign(&text);
        Some(SignedText { text, signature })
    }
}

/// The text with its mark, which it carries only once.
fn marked(text: &str) -> String {
    if text.starts_with(EXERCISE) {
        text.to_owned()
    } else {
        format!("{EXERCISE}: {text}")
    }
}

/// Approval texts carry whole seconds.
fn whole_second(time: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp(time.timestamp(), 0).unwrap_or(time)
}
