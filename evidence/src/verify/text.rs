//! The report for a terminal: the same facts as the JSON form, in ASCII.

use super::report::{Finding, Report, Severity, State, Verdict};
use std::fmt::{self, Write as _};

/// Returns text from evidence as printable ASCII: a name can hold an escape sequence.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ' '..='~' => safe.push(c),
            _ => safe.extend(c.escape_unicode()),
        }
    }
    safe
}

impl Report {
    /// Returns the report for a terminal: printable ASCII and line ends, nothing else.
    pub fn to_text(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        write_report(&mut text, self)?;
        f.write_str(&text)
    }
}

fn write_report(out: &mut String, report: &Report) -> fmt::Result {
    for bag in &report.bags {
        write_report(out, bag)?;
        out.push('\n');
    }
    writeln!(out, "{} {}", report.what, escape(&report.name))?;
    for check in &report.checks {
        let word = match check.state {
            State::Passed => "PASSED",
            State::Failed => "FAILED",
            State::NotChecked => "NOT CHECKED",
        };
        write!(
            out,
            "  {word:<12} {} {}: {}",
            check.id,
            check.name,
            escape(&check.reason)
        )?;
        let how = if check.how.is_empty() {
            String::new()
        } else {
            format!(" [{}]", escape(&check.how))
        };
        writeln!(out, "{how}")?;
    }
    report
        .findings
        .iter()
        .try_for_each(|finding| write_finding(out, finding))?;
    write_facts(out, report)?;
    writeln!(out, "  not checked, by anybody with these files alone:")?;
    let never = report
        .not_checked
        .iter()
        .filter(|line| !line.starts_with('C'));
    never
        .into_iter()
        .try_for_each(|line| writeln!(out, "    - {}", escape(line)))?;
    writeln!(
        out,
        "VERDICT {} (exit {})",
        escape(&report.verdict),
        report.exit
    )?;
    if report.kind == Verdict::FreshnessNotProven {
        writeln!(
            out,
            "  Nothing outside pins this in time. --expect-seal or --at-least with a value from paper would."
        )?;
    }
    Ok(())
}

fn write_finding(out: &mut String, finding: &Finding) -> fmt::Result {
    let word = match finding.severity {
        Severity::Note => "NOTE",
        Severity::Unprotected => "UNPROTECTED",
        Severity::Recovered => "RECOVERED",
        Severity::Untrusted => "UNTRUSTED",
        Severity::Unsealed => "UNSEALED",
        Severity::Incomplete => "INCOMPLETE",
        Severity::Tampered => "TAMPERED",
    };
    let record = finding
        .record
        .map_or_else(String::new, |record| format!(":{record}"));
    let (path, expected, found) = (
        escape(&finding.path),
        escape(&finding.expected),
        escape(&finding.found),
    );
    writeln!(
        out,
        "  {word:<12} {} {path}{record}: expected {expected}; found {found}",
        finding.check
    )
}

fn write_facts(out: &mut String, report: &Report) -> fmt::Result {
    if let Some(seal) = &report.seal {
        writeln!(out, "  seal sha256  {}", seal.seal_sha256)?;
        writeln!(out, "  key          {}", seal.fingerprint)?;
        writeln!(out, "  tree         {}:{}", seal.tree_size, seal.root)?;
        writeln!(
            out,
            "  payload      {} bytes in {} files; closed {} by the host's clock",
            seal.bytes,
            seal.files,
            escape(&seal.closed)
        )?;
    }
    if let Some(ledger) = &report.ledger {
        writeln!(
            out,
            "  ledger       {} entries ({}), {} of them signed",
            ledger.size,
            escape(&ledger.mode),
            ledger.signed_size
        )?;
        writeln!(out, "  ledger head  {}:{}", ledger.size, ledger.root)?;
        if let Some(key) = &ledger.fingerprint {
            writeln!(out, "  key          {key}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_evidence_reaches_the_terminal_raw() {
        assert_eq!(
            escape("a\u{1b}[31m\u{202e}b\n"),
            "a\\u{1b}[31m\\u{202e}b\\u{a}"
        );
    }
}
