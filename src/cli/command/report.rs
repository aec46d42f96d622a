//! `firebreak report`: build the documents, check what is open, write a section.

use std::path::PathBuf;

use serde_json::json;

use crate::cli::command::incident::checked;
use crate::cli::error::{CliError, CliResult};
use crate::cli::exit::Exit;
use crate::cli::output::{clean, grouped};
use crate::cli::session::Session;
use crate::custody::Custody;
use crate::incident::body::{ReportBuilt, ReportText};
use crate::incident::rotate::RotationPlanned;
use crate::incident::{Draft, History, kind};
use crate::plan::call::sha256_hex;
use crate::port::Ledger as _;
use crate::report::{self, Texts};

/// The longest text that stands in the entry itself.
const INLINE: usize = 4096;

/// Arguments of `firebreak report`.
#[derive(Debug, clap::Subcommand)]
pub enum ReportCommand {
    /// Write incident.md, incident.html, incident.json and lessons.md
    Build {
        /// As it stood after this entry
        #[arg(long, value_name = "SEQ")]
        at: Option<u64>,
    },
    /// List open fields and contradictions; exit 3 while there are some
    Check,
    /// Write a section that only a person can; a later text supersedes it
    Write {
        /// Section, as `report check` names it
        section: String,
        /// The text; or --file
        text: Option<String>,
        /// File with the text
        #[arg(long, value_name = "FILE", conflicts_with = "text")]
        file: Option<PathBuf>,
    },
}

/// Runs it.
pub fn run(session: &Session, command: &ReportCommand) -> CliResult {
    match command {
        ReportCommand::Build { at } => build(session, *at),
        ReportCommand::Check => check(session),
        ReportCommand::Write {
            section,
            text,
            file,
        } => write(session, section, text.as_deref(), file.as_ref()),
    }
}

/// Texts that are too long for an entry, by digest.
///
/// # Errors
/// When one is gone or changed.
pub fn texts(custody: &Custody, history: &History) -> Result<Texts, CliError> {
    let mut texts = Texts::default();
    for (_, text) in history
        .bodies::<ReportText>(kind::REPORT_TEXT)
        .filter(|(_, t)| t.text.is_none())
    {
        let path = format!("notes/{}.md", text.sha256);
        let bytes = custody
            .load(&path)?
            .filter(|b| sha256_hex(b) == text.sha256);
        let bytes = bytes.ok_or_else(|| {
            CliError::new(
                Exit::Tampered,
                "FB0604",
                format!("`{path}` is gone or changed since it was recorded"),
            )
        })?;
        texts.insert(text.sha256, String::from_utf8_lossy(&bytes).into_owned());
    }
    // A plan that is gone is said by the document; it stands in nobody's way here.
    for (_, planned) in history.bodies::<RotationPlanned>(kind::ROTATION_PLANNED) {
        let bytes = custody.load(&format!("trust/{}.json", planned.plan_sha256))?;
        if let Some(Ok(text)) = bytes.map(String::from_utf8) {
            texts.insert(planned.plan_sha256, text);
        }
    }
    Ok(texts)
}

fn build(session: &Session, at: Option<u64>) -> CliResult {
    let custody = session.incident()?;
    let mut history = custody.history()?;
    if let Some(seq) = at {
        let keep = usize::try_from(seq).unwrap_or(usize::MAX).saturating_add(1);
        history.entries.truncate(keep);
    }
    let as_of = match at {
        None => session.clock.now(),
        Some(_) => history
            .entries
            .last()
            .map_or_else(|| session.clock.now(), |e| e.time),
    };
    let doc = report::build(&history, &texts(&custody, &history)?, as_of);
    let files = report::render(&doc, &history);
    let folder = if let Some(seq) = at {
        format!("report/at-{seq}")
    } else {
        "report".to_owned()
    };
    let mut names = Vec::new();
    for (name, bytes) in &files.files {
        custody.keep(&format!("{folder}/{name}"), bytes)?;
        names.push((*name).to_owned());
    }
    let closed = history.of(kind::INCIDENT_CLOSED).next().is_some();
    if at.is_none() && !closed {
        let body = ReportBuilt {
            document_sha256: files.document_sha256.clone(),
            entries: history.entries.len() as u64,
            files: names.clone(),
        };
        custody.ledger().append(vec![
            Draft::new(kind::REPORT_BUILT, &body).by(&session.actor),
        ])?;
    }
    let place = custody.place().join(&folder);
    if session.out.json {
        session.out.document(&json!({"schema": "firebreak/report/v1", "incident": custody.id(), "folder": place, "files": names, "document_sha256": files.document_sha256}))?;
        return Ok(Exit::Ok);
    }
    names
        .iter()
        .for_each(|n| session.out.answer(place.join(n).display().to_string()));
    session.out.answer(format!(
        "document    {}\nnext: firebreak report check --incident {}",
        grouped(&files.document_sha256),
        custody.id()
    ));
    Ok(Exit::Ok)
}

fn check(session: &Session) -> CliResult {
    let custody = session.incident()?;
    let history = custody.history()?;
    let doc = report::build(&history, &texts(&custody, &history)?, session.clock.now());
    let findings = &doc.findings;
    if session.out.json {
        session.out.document(&json!({"schema": "firebreak/report-check/v1", "incident": custody.id(), "findings": findings}))?;
    }
    report::check::lines(findings)
        .iter()
        .for_each(|l| session.out.answer(clean(l)));
    if findings.is_empty() {
        session.out.answer("nothing is open");
        return Ok(Exit::Ok);
    }
    let id = custody.id();
    session.out.answer(format!(
        "write a section: firebreak report write SECTION --file FILE --incident {id}"
    ));
    if findings.iter().any(|f| f.code == "FB1002") {
        session.out.answer(format!(
            "state a time:    firebreak incident milestone NAME --at TIME --incident {id}"
        ));
    }
    Ok(Exit::Parked)
}

fn write(
    session: &Session,
    section: &str,
    text: Option<&str>,
    file: Option<&PathBuf>,
) -> CliResult {
    if report::section(section).is_none() {
        let all: Vec<_> = report::sections().iter().map(|s| s.key).collect();
        return Err(CliError::usage(format!("there is no section `{section}`"))
            .hint(format!("one of {}", all.join(", "))));
    }
    let text = match (text, file) {
        (Some(text), _) => checked(text)?,
        (None, Some(path)) => std::fs::read_to_string(path).map_err(|e| {
            CliError::new(
                Exit::Usage,
                "FB1105",
                format!("cannot read `{}`: {e}", path.display()),
            )
        })?,
        (None, None) => return Err(CliError::usage("give the text, or --file FILE")),
    };
    let custody = session.incident()?;
    let sha256 = sha256_hex(text.as_bytes());
    let inline = (text.len() <= INLINE).then(|| text.clone());
    if inline.is_none() {
        custody.keep(&format!("notes/{sha256}.md"), text.as_bytes())?;
    }
    let body = ReportText {
        section: section.to_owned(),
        text: inline,
        sha256,
    };
    let stored = custody.ledger().append(vec![
        Draft::new(kind::REPORT_TEXT, &body).by(&session.actor),
    ])?;
    let seq = stored.first().map_or(0, |e| e.seq);
    session.out.answer(format!(
        "{section} written, entry {seq}; next: firebreak report build --incident {}",
        custody.id()
    ));
    Ok(Exit::Ok)
}
