//! The text of an approval: what a person reads and signs. One field a line in a fixed order, LF, printable ASCII only, so that a
//! reason cannot forge a line. What is parsed writes back to the very same bytes, or it is malformed.

use chrono::{DateTime, Utc};

use crate::incident::body::Decision;
use crate::incident::{Effect, IncidentId, Mode, RunId, StepPath, clock_text};

use super::people::is_principal;

/// First line.
const HEAD: &str = "firebreak approval v1";
/// Longest reason.
const REASON: usize = 500;

/// Namespace of an approval's signature; a drill's can never be replayed live.
pub fn namespace(mode: Mode) -> &'static str {
    match mode {
        Mode::Live => "approval@firebreak",
        Mode::Drill => "approval-drill@firebreak",
    }
}

/// An approval as fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalText {
    /// Incident.
    pub incident: IncidentId,
    /// Run: one plan, one run.
    pub run: RunId,
    /// Digest of the plan's exact bytes, hex.
    pub plan_sha256: String,
    /// Steps with the digest of each call.
    pub steps: Vec<(StepPath, String)>,
    /// Attempt.
    pub attempt: u32,
    /// What is decided.
    pub decision: Decision,
    /// The strongest effect it opens.
    pub effect: Effect,
    /// Who signs.
    pub principal: String,
    /// From.
    pub issued: DateTime<Utc>,
    /// Until.
    pub expires: DateTime<Utc>,
    /// 32 hex, never used before.
    pub nonce: String,
    /// One line, if any.
    pub reason: Option<String>,
}

/// A text that is no approval (FB0501).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the approval: {what}")]
pub struct Malformed {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

/// The word of a decision.
pub fn decision_word(decision: Decision) -> &'static str {
    match decision {
        Decision::Approve => "approve",
        Decision::Refuse => "refuse",
        Decision::BreakGlass => "break-glass",
    }
}

impl ApprovalText {
    /// The text, exact bytes to be signed.
    pub fn write(&self) -> String {
        let mut text = format!(
            "{HEAD}\nincident {}\nrun {}\nplan sha256:{}\n",
            self.incident, self.run, self.plan_sha256
        );
        for (path, digest) in &self.steps {
            text.push_str(&format!("step {path} sha256:{digest}\n"));
        }
        text.push_str(&format!(
            "attempt {}\ndecision {}\neffect {}\nprincipal {}\nissued {}\nexpires {}\nnonce {}\nreason {}\n",
            self.attempt,
            decision_word(self.decision),
            self.effect,
            self.principal,
            clock_text::seconds(self.issued),
            clock_text::seconds(self.expires),
            self.nonce,
            self.reason.as_deref().unwrap_or("-"),
        ));
        text
    }

    /// Reads a text.
    ///
    /// # Errors
    /// With the first line that is not as it must be.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let mut lines = Lines::of(text)?;
        if lines.take("")? != HEAD {
            return Err(lines.wrong("it does not begin with `firebreak approval v1`"));
        }
        let incident = lines.field("incident", |t| IncidentId::parse(t).ok())?;
        let run = lines.field("run", |t| RunId::parse(t).ok())?;
        let plan_sha256 = lines.field("plan", digest)?;
        let mut steps = Vec::new();
        while lines.peek().is_some_and(|l| l.starts_with("step ")) {
            steps.push(lines.field("step", |t| {
                let (path, sha) = t.split_once(' ')?;
                Some((StepPath::parse(path).ok()?, digest(sha)?))
            })?);
        }
        if steps.is_empty() {
            return Err(lines.wrong("it names no step"));
        }
        let parsed = ApprovalText {
            incident,
            run,
            plan_sha256,
            steps,
            attempt: lines.field("attempt", |t| t.parse().ok().filter(|n| *n > 0))?,
            decision: lines.field("decision", decision)?,
            effect: lines.field("effect", Effect::parse)?,
            principal: lines.field("principal", |t| is_principal(t).then(|| t.to_owned()))?,
            issued: lines.field("issued", time)?,
            expires: lines.field("expires", time)?,
            nonce: lines.field("nonce", |t| is_hex(t, 32).then(|| t.to_owned()))?,
            reason: lines.field("reason", reason)?,
        };
        if lines.peek().is_some() || parsed.write() != text {
            return Err(lines.wrong("it does not write back to the same bytes"));
        }
        Ok(parsed)
    }
}

/// Whether a reason may stand in an approval: one line of printable ASCII, not `-`, at most 500 characters.
pub fn is_reason(text: &str) -> bool {
    reason(text).flatten().is_some()
}

fn reason(text: &str) -> Option<Option<String>> {
    if text == "-" {
        return Some(None);
    }
    let fine = !text.is_empty()
        && text.len() <= REASON
        && text.trim() == text
        && text.bytes().all(|b| (0x20..0x7f).contains(&b));
    fine.then(|| Some(text.to_owned()))
}

fn decision(text: &str) -> Option<Decision> {
    [Decision::Approve, Decision::Refuse, Decision::BreakGlass]
        .into_iter()
        .find(|d| decision_word(*d) == text)
}

fn digest(text: &str) -> Option<String> {
    let hex = text.strip_prefix("sha256:")?;
    is_hex(hex, 64).then(|| hex.to_owned())
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn time(text: &str) -> Option<DateTime<Utc>> {
    let time = DateTime::parse_from_rfc3339(text).ok()?.with_timezone(&Utc);
    (clock_text::seconds(time) == text).then_some(time)
}

struct Lines<'t> {
    lines: Vec<&'t str>,
    at: usize,
}

impl<'t> Lines<'t> {
    fn of(text: &'t str) -> Result<Self, Malformed> {
        let body = text.strip_suffix('\n').ok_or(Malformed {
            line: 1,
            what: "it does not end with a line feed".into(),
        })?;
        let lines: Vec<&str> = body.split('\n').collect();
        match lines
            .iter()
            .position(|l| !l.bytes().all(|b| (0x20..0x7f).contains(&b)))
        {
            Some(at) => Err(Malformed {
                line: at + 1,
                what: "only printable ASCII may stand here".into(),
            }),
            None => Ok(Lines { lines, at: 0 }),
        }
    }
    fn peek(&self) -> Option<&'t str> {
        self.lines.get(self.at).copied()
    }
    fn take(&mut self, what: &str) -> Result<&'t str, Malformed> {
        let line = self
            .peek()
            .ok_or_else(|| self.wrong(&format!("`{what}` is missing")))?;
        self.at += 1;
        Ok(line)
    }
    fn field<T>(
        &mut self,
        name: &str,
        read: impl Fn(&'t str) -> Option<T>,
    ) -> Result<T, Malformed> {
        let line = self.take(name)?;
        line.strip_prefix(name)
            .and_then(|rest| rest.strip_prefix(' '))
            .and_then(read)
            .ok_or_else(|| Malformed {
                line: self.at,
                what: format!("no well-formed `{name}` stands here"),
            })
    }
    fn wrong(&self, what: &str) -> Malformed {
        Malformed {
            line: self.at.max(1),
            what: what.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) const TEXT: &str = "firebreak approval v1\nincident INC-2031\nrun run-0123456789abcdef\nplan sha256:0000000000000000000000000000000000000000000000000000000000000000\nstep isolate sha256:1111111111111111111111111111111111111111111111111111111111111111\nattempt 1\ndecision approve\neffect reversible\nprincipal ic@example.org\nissued 2026-11-24T23:55:00Z\nexpires 2026-11-25T00:10:00Z\nnonce 00112233445566778899aabbccddeeff\nreason spreading to payments\n";

    #[test]
    fn a_text_writes_back_to_the_same_bytes() {
        let parsed = ApprovalText::parse(TEXT).expect("well-formed");
        assert_eq!(parsed.write(), TEXT);
        assert_eq!(parsed.reason.as_deref(), Some("spreading to payments"));
        let none = TEXT.replace("reason spreading to payments", "reason -");
        assert_eq!(ApprovalText::parse(&none).expect("no reason").reason, None);
    }

    #[test]
    fn a_line_feed_in_a_reason_a_second_space_or_another_order_is_malformed() {
        for (from, to) in [
            ("to payments", "to\nattempt 2"),
            ("to payments", "to payments "),
            ("to payments", "to p\u{e9}"),
            ("to payments", "to \u{1b}[31m"),
            ("attempt 1", "attempt 01"),
            ("attempt 1", "attempt 0"),
            ("incident INC", "incident  INC"),
            ("T23:55:00Z", "T23:55:00+00:00"),
            ("decision approve", "decision yes"),
            ("0000\nstep", "000G\nstep"),
            ("\nreason spreading to payments\n", "\n"),
            ("payments\n", "payments\nmore\n"),
            ("payments\n", "payments"),
            ("payments\n", "payments\r\n"),
        ] {
            let bad = TEXT.replacen(from, to, 1);
            assert_ne!(bad, TEXT, "{from}");
            assert!(ApprovalText::parse(&bad).is_err(), "{to:?}");
        }
    }
}
