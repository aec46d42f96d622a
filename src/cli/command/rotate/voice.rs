//! The person who decides about a rotation: shown the plan itself, not only its digest, before anything is typed.

use std::sync::Arc;

use async_trait::async_trait;

use crate::cli::operator::{Given, Terminal};
use crate::cli::output::{Output, clean};
use crate::cli::session::{Session, read_line};
use crate::custody::Custody;
use crate::incident::body::Answer;
use crate::plan::call::sha256_hex;
use crate::port::{ManualQuestion, Operator, Question, Reply, RunEvent, SignedText};

use super::{Speak, show, text};

/// What a command does when the rotation's gate is reached.
pub(super) enum Gate {
    /// It leaves the gate to others: the run parks.
    Leave,
    /// It asks, once.
    Ask {
        /// The word to type.
        word: String,
        /// What was given in its place.
        confirm: Option<String>,
        /// The reason, if it was given.
        reason: Option<String>,
    },
}

impl Gate {
    /// Asks for this word, with what the command line has of it.
    pub(super) fn ask(word: impl Into<String>, speak: &Speak) -> Self {
        Gate::Ask {
            word: word.into(),
            confirm: speak.confirm.clone(),
            reason: speak.reason.clone(),
        }
    }
}

/// The terminal, with a gate of its own for the rotation.
pub(super) struct Voice {
    terminal: Terminal,
    out: Output,
    custody: Arc<Custody>,
    gate: Gate,
    /// Somebody else draws the progress.
    quiet: bool,
}

impl Voice {
    /// A voice for one run.
    pub(super) fn new(session: &Session, custody: &Arc<Custody>, gate: Gate, quiet: bool) -> Self {
        Voice {
            terminal: Terminal::new(session.out, Given::Nothing),
            out: session.out,
            custody: custody.clone(),
            gate,
            quiet,
        }
    }

    /// The plan that a question is about, in words; its digest stands among the arguments of the call.
    fn shown(&self, question: &Question) -> String {
        let named = question
            .lines
            .iter()
            .find_map(|l| l.strip_prefix("plan_sha256: "))
            .map(|l| l.trim_matches('"'));
        let shown = named.and_then(|sha256| {
            let plan = show::read(&self.custody, sha256).ok()?;
            Some(text::plan(&plan, sha256))
        });
        shown.unwrap_or_else(|| question.lines.join("\n"))
    }

    fn typed(&self, word: &str, confirm: Option<&str>) -> Option<bool> {
        if let Some(given) = confirm {
            return Some(given == word);
        }
        if !self.out.can_ask {
            return None;
        }
        let prompt = format!("Type {} to rotate: ", self.out.strong(word));
        let answer = tokio::task::block_in_place(|| read_line(&prompt));
        Some(answer.is_ok_and(|a| a == word))
    }

    fn reason(&self, given: Option<&str>) -> Option<String> {
        if let Some(given) = given {
            return Some(given.to_owned());
        }
        if !self.out.can_ask {
            return None;
        }
        let prompt = "Reason (it stands in the document): ";
        let answer = tokio::task::block_in_place(|| read_line(prompt)).ok()?;
        Some(answer).filter(|a| !a.is_empty())
    }
}

#[async_trait]
impl Operator for Voice {
    async fn confirm(&self, question: &Question) -> Reply {
        if !question.what.ends_with("rotate_credentials") {
            return self.terminal.confirm(question).await;
        }
        let shown = self.shown(question);
        self.out.progress_end();
        self.out.tell(clean(&shown));
        let Gate::Ask {
            word,
            confirm,
            reason,
        } = &self.gate
        else {
            return Reply::NoTerminal;
        };
        match self.typed(word, confirm.as_deref()) {
            None => {
                self.out.tell(format!(
                    "there is no terminal to ask on: give --confirm {word}"
                ));
                return Reply::NoTerminal;
            }
            Some(false) => {
                self.out.tell(format!(
                    "something else than `{word}` was typed: nothing was changed"
                ));
                return Reply::NoTerminal;
            }
            Some(true) => {}
        }
        let reason = self.reason(reason.as_deref());
        if question.needs_reason && reason.is_none() {
            self.out
                .tell("a rotation wants a reason: give --reason TEXT; nothing was changed");
            return Reply::NoTerminal;
        }
        Reply::Typed {
            reason,
            shown_sha256: Some(sha256_hex(shown.as_bytes())),
        }
    }

    async fn answer(&self, question: &ManualQuestion) -> Option<Answer> {
        self.terminal.answer(question).await
    }

    async fn signatures(&self, question: &Question) -> Vec<SignedText> {
        self.out.tell(clean(&self.shown(question)));
        self.out.tell(
            "  it is signed, by people who do not run it: firebreak rotate approve --principal PRINCIPAL --key FILE",
        );
        Vec::new()
    }

    fn event(&self, event: &RunEvent) {
        let of_rotation =
            matches!(event, RunEvent::Progress { step, .. } if step.starts_with("replace/"));
        if of_rotation && self.quiet {
            return;
        }
        self.terminal.event(event);
    }
}
