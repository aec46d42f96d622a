//! The person at the terminal, as the engine sees them.

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use serde_json::Value;

use crate::incident::Outcome;
use crate::incident::body::Answer;
use crate::incident::clock_text::span;
use crate::port::{ManualQuestion, Operator, Question, Reply, RunEvent};

use super::output::{Output, clean, clean_line};
use super::session::read_line;

/// How a reversible gate of this command is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    /// Each gate asks.
    Nothing,
    /// The one confirmation of this command was typed: it opens its reversible gates.
    Confirmed {
        /// Digest of what was shown.
        shown_sha256: String,
        /// Reason, if one was given.
        reason: Option<String>,
    },
}

/// A terminal, or none.
pub struct Terminal {
    out: Output,
    given: Given,
    /// One question at a time.
    asking: Mutex<()>,
}

impl Terminal {
    /// A terminal.
    pub fn new(out: Output, given: Given) -> Self {
        Terminal {
            out,
            given,
            asking: Mutex::new(()),
        }
    }

    fn ask(&self, prompt: &str) -> Option<String> {
        let _one = self
            .asking
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        tokio::task::block_in_place(|| read_line(prompt).ok())
    }

    fn show(&self, question: &Question) {
        self.out.progress_end();
        self.out.tell(clean(&format!(
            "\n{} ({}, {})",
            question.title, question.step, question.effect
        )));
        question
            .lines
            .iter()
            .for_each(|l| self.out.tell(clean_line(&format!("  {l}"))));
    }
}

#[async_trait]
impl Operator for Terminal {
    async fn confirm(&self, question: &Question) -> Reply {
        if let Given::Confirmed {
            shown_sha256,
            reason,
        } = &self.given
            && !question.signed
            && question.what != "approve"
            && (!question.needs_reason || reason.is_some())
        {
            return Reply::Typed {
                reason: reason.clone(),
                shown_sha256: Some(shown_sha256.clone()),
            };
        }
        self.show(question);
        if !self.out.can_ask || question.signed {
            let key = if question.signed {
                " --principal PRINCIPAL --key FILE"
            } else {
                ""
            };
            self.out.tell(format!(
                "  decide it: firebreak playbook approve --step {}{key}",
                question.step
            ));
            return Reply::NoTerminal;
        }
        let word = question
            .step
            .rsplit('/')
            .next()
            .unwrap_or(&question.step)
            .to_owned();
        if self
            .ask(&format!("Type {} to go on: ", self.out.strong(&word)))
            .as_deref()
            != Some(word.as_str())
        {
            return Reply::Declined;
        }
        let reason = if question.needs_reason {
            self.ask("Reason (it stands in the document): ")
                .filter(|r| !r.is_empty())
        } else {
            None
        };
        if question.needs_reason && reason.is_none() {
            return Reply::Declined;
        }
        Reply::Typed {
            reason,
            shown_sha256: None,
        }
    }

    async fn answer(&self, question: &ManualQuestion) -> Option<Answer> {
        self.out.progress_end();
        let owner = question
            .owner
            .as_deref()
            .map(|o| format!(" ({o})"))
            .unwrap_or_default();
        match &question.refused {
            Some(why) => self.out.tell(clean_line(&format!("  not taken: {why}"))),
            None => self.out.tell(clean(&format!(
                "\n{}{owner}\n  {}",
                question.title,
                question.text.trim().replace('\n', "\n  ")
            ))),
        }
        if !self.out.can_ask {
            let names = question.values.keys();
            let values: String = names.map(|n| format!(" --value {n}=VALUE")).collect();
            for (name, allows) in &question.allows {
                self.out.tell(clean_line(&format!("  {name} is {allows}")));
            }
            self.out.tell(format!(
                "  answer it: firebreak incident answer {} TEXT{values}",
                question.step
            ));
            return None;
        }
        let text = self.ask("Answer (empty = later, with firebreak incident answer STEP TEXT; begin with ! if it failed): ").filter(|t| !t.is_empty())?;
        let (outcome, text) = match text.strip_prefix('!') {
            Some(rest) => (Outcome::Failed, rest.trim().to_owned()),
            None => (Outcome::Done, text),
        };
        let mut values = BTreeMap::new();
        for (name, sample) in &question.values {
            let allows = question.allows.get(name).map_or("", String::as_str);
            let given = self.ask(&clean_line(&format!("  {name} ({allows}) = ")))?;
            values.insert(name.clone(), typed(&given, sample));
        }
        Some(Answer {
            text,
            outcome,
            values,
        })
    }

    fn event(&self, event: &RunEvent) {
        let line = match event {
            RunEvent::Started { step, what, .. } => {
                self.out.progress(clean_line(&format!("… {step}: {what}")));
                return;
            }
            RunEvent::Progress { step, line } => {
                self.out.progress(clean_line(&format!("… {step}: {line}")));
                return;
            }
            RunEvent::Finished {
                step,
                outcome,
                summary,
                elapsed_ms,
                ..
            } => format!(
                "{} {step}: {summary} ({})",
                match outcome {
                    Outcome::Done => "done  ".to_owned(),
                    other => self.out.alarm(&format!("{other:<6}")),
                },
                span(i64::try_from(*elapsed_ms).unwrap_or(i64::MAX))
            ),
            RunEvent::Skipped { step, why } => format!("skip   {step}: {why}"),
            RunEvent::InDoubt { step, known } => {
                format!("{} {step}: {known}", self.out.alarm("DOUBT "))
            }
            RunEvent::Waiting { step, what, until } => format!(
                "wait   {step}: {what}{}",
                until
                    .as_deref()
                    .map(|u| format!(", until {u}"))
                    .unwrap_or_default()
            ),
            RunEvent::Decided { steps, who, how } => {
                format!("decide {}: {who}, {how}", steps.join(", "))
            }
            RunEvent::Milestone { name, step } => {
                format!("{} {name} ({step})", self.out.strong("reach "))
            }
            RunEvent::Notice { to, text, channel } => {
                format!("notice to {} by {channel}: {text}", to.join(", "))
            }
            RunEvent::Parked { why, hint } => {
                format!("{} {why}\n       next: {hint}", self.out.strong("parked"))
            }
            RunEvent::Undone {
                step,
                outcome,
                summary,
                left,
            } => {
                let left: String = left.iter().map(|l| format!("\n       left: {l}")).collect();
                format!("{outcome:<6} {step}: {summary}{left}")
            }
        };
        self.out.progress_end();
        // Emphasis is ours, the rest may come from anywhere: each part was cleaned of control characters but our own.
        self.out.tell(keep_emphasis(&line));
    }
}

/// Cleans a line but for the emphasis that we put in ourselves.
fn keep_emphasis(line: &str) -> String {
    const OURS: [&str; 3] = ["\x1b[1;31m", "\x1b[1m", "\x1b[0m"];
    let Some(at) = line
        .find("\x1b[0m")
        .filter(|_| OURS.iter().any(|o| line.starts_with(o)))
    else {
        return clean(line);
    };
    let (mark, rest) = line.split_at(at + OURS[2].len());
    format!("{mark}{}", clean(rest))
}

/// A typed value in the sample's type; text where it does not fit, so that the engine's check names the variable.
fn typed(given: &str, sample: &Value) -> Value {
    match sample {
        Value::Bool(_) => match given {
            "true" | "yes" | "y" => Value::Bool(true),
            "false" | "no" | "n" => Value::Bool(false),
            other => Value::String(other.to_owned()),
        },
        Value::Number(_) => given
            .parse::<i64>()
            .map_or_else(|_| Value::String(given.to_owned()), Value::from),
        Value::Array(_) => Value::Array(
            given
                .split(',')
                .map(|p| Value::String(p.trim().to_owned()))
                .collect(),
        ),
        _ => Value::String(given.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_emphasis_stays_and_an_escape_from_outside_does_not() {
        assert_eq!(
            keep_emphasis("\x1b[1mreach \x1b[0m web\x1b[2J"),
            "\x1b[1mreach \x1b[0m web\\u{1b}[2J"
        );
        assert_eq!(keep_emphasis("web\x1b[0m"), "web\\u{1b}[0m");
    }
}
