//! The two streams: the answer on stdout, the story on stderr. No colour or progress where nobody looks.
//!
//! An answer that cannot be written (a full disk) is never answered with success: [`Output::settle`] has the last word on the exit code.

use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::sync::OnceLock;

use serde::Serialize;

use super::error::CliError;
use super::exit::Exit;

/// Why a part of the answer was lost, the first time. One for the process, as stdout is.
static LOST: OnceLock<std::io::Error> = OnceLock::new();

/// When colour is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ColorWhen {
    /// On a terminal, unless `NO_COLOR` is set or `TERM` is `dumb`.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How this command talks.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// One JSON document on stdout instead of text.
    pub json: bool,
    /// Colour on stderr.
    color: bool,
    /// Somebody looks at stderr.
    pub live: bool,
    /// Somebody can answer.
    pub can_ask: bool,
}

impl Output {
    /// Decides from flags, environment and terminals; stdout and stderr apart.
    pub fn new(json: bool, color: ColorWhen, no_input: bool) -> Self {
        let dumb = std::env::var("TERM").is_ok_and(|t| t == "dumb");
        let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty()) || dumb;
        let live = std::io::stderr().is_terminal();
        Output {
            json,
            color: match color {
                ColorWhen::Always => true,
                ColorWhen::Never => false,
                ColorWhen::Auto => live && !plain,
            },
            live: live && !dumb,
            can_ask: !no_input && std::io::stdin().is_terminal() && live,
        }
    }

    /// Prints a part of the answer, unless the answer is JSON.
    pub fn answer(&self, text: impl AsRef<str>) {
        if !self.json {
            self.write(format!("{}\n", text.as_ref()).as_bytes());
        }
    }

    /// Writes bytes of the answer as they are.
    pub fn write(&self, bytes: &[u8]) {
        self.written(std::io::stdout().write_all(bytes));
    }

    /// Keeps what became of a write to stdout.
    pub fn written(&self, result: std::io::Result<()>) {
        if let Err(e) = result
            // A closed pipe is the reader's choice, not our failure.
            && e.kind() != ErrorKind::BrokenPipe
        {
            // The first failure is the one to tell; what was lost after it has the same cause.
            _ = LOST.set(e);
        }
    }

    /// The exit code, now that everything is said: an answer that was lost is told, and is a failure.
    pub fn settle(&self, exit: Exit) -> Exit {
        self.written(std::io::stdout().flush());
        let Some(e) = LOST.get() else { return exit };
        self.tell_error(
            &CliError::new(
                Exit::Failed,
                "FB1112",
                format!("the answer could not be written to standard output: {e}"),
            )
            .hint("what was done is done and recorded; free space, then firebreak log shows it"),
        );
        exit.worst(Exit::Failed)
    }

    /// Prints the answer as JSON.
    pub fn document(&self, value: &impl Serialize) -> Result<(), CliError> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|e| CliError::new(Exit::Internal, "FB1100", e.to_string()))?;
        self.write(format!("{text}\n").as_bytes());
        Ok(())
    }

    /// Tells a line of the story.
    pub fn tell(&self, text: impl AsRef<str>) {
        _ = writeln!(std::io::stderr(), "{}", text.as_ref());
    }

    /// Tells a line that is overwritten by the next; nothing without a terminal.
    pub fn progress(&self, text: impl AsRef<str>) {
        if self.live {
            _ = write!(std::io::stderr(), "\r\x1b[2K{}", text.as_ref());
            _ = std::io::stderr().flush();
        }
    }

    /// Ends a progress line.
    pub fn progress_end(&self) {
        if self.live {
            _ = write!(std::io::stderr(), "\r\x1b[2K");
        }
    }

    /// Emphasis where there is colour; the words alone carry the meaning.
    pub fn strong(&self, text: &str) -> String {
        if self.color {
            format!("\x1b[1m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// Alarm where there is colour.
    pub fn alarm(&self, text: &str) -> String {
        if self.color {
            format!("\x1b[1;31m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// Tells an error: message, hint.
    pub fn error(&self, e: &CliError) {
        if self.json {
            let value = serde_json::json!({"schema": "firebreak/error/v1", "code": e.code, "message": e.message, "hint": e.hint, "exit": e.exit.code()});
            _ = self.document(&value);
        }
        self.tell_error(e);
    }

    fn tell_error(&self, e: &CliError) {
        self.tell(format!(
            "{}: {}",
            self.alarm(&format!("error[{}]", e.code)),
            indented(&clean(&e.message))
        ));
        if let Some(hint) = &e.hint {
            self.tell(format!(
                "{}: {}",
                self.strong("hint"),
                indented(&clean(hint))
            ));
        }
    }
}

/// Further lines of a message stand behind the first: none can pass for a message of its own.
fn indented(text: &str) -> String {
    text.replace('\n', "\n  ")
}

/// Makes text of several lines from outside safe for a terminal: control characters and bidirectional marks are shown, not obeyed.
///
/// What must stay one line (a path, a name, what a person said) goes through [`clean_line`].
pub fn clean(text: &str) -> String {
    shown(text, |c| c == '\n' || c == '\t')
}

/// Makes text from outside safe as a part of one line: a line break in a path or an answer is shown too, so that it cannot pass for
/// a line of ours.
pub fn clean_line(text: &str) -> String {
    shown(text, |_| false)
}

fn shown(text: &str, may_stay: impl Fn(char) -> bool) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        let hidden = (c.is_control() && !may_stay(c))
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        if hidden {
            safe.extend(c.escape_unicode());
        } else {
            safe.push(c);
        }
    }
    safe
}

/// A fingerprint or digest in groups of four, for reading aloud.
pub fn grouped(hex: &str) -> String {
    hex.as_bytes()
        .chunks(4)
        .map(|c| String::from_utf8_lossy(c).into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escape_sequence_in_a_name_is_shown_and_not_obeyed() {
        assert_eq!(clean("web\x1b[2J\u{202e}x\n"), "web\\u{1b}[2J\\u{202e}x\n");
        assert_eq!(clean_line("a\nb\tc\u{2028}"), "a\\u{a}b\\u{9}c\\u{2028}");
    }
}
