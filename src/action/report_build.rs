//! `report.build`: writes the incident document and the lessons learned from the ledger as it stands.
//!
//! *Effect*: writes `report/` in the incident folder, nothing outside. *Undo*: none is needed, the next build replaces the files.
//! *What it disturbs*: nothing. *Permissions*: none. *Cost and time*: below a second for thousands of entries.

use std::io;

use async_trait::async_trait;
use schemars::{JsonSchema, Schema, schema_for};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::incident::body::{ReportBuilt, ReportText};
use crate::incident::rotate::RotationPlanned;
use crate::incident::{Effect, History, Phase, kind};
use crate::port::{Documents, RunFiles};
use crate::report::{self, Texts};

use super::registry::{Sample, UndoSpec, check_as};
use super::{Action, ActionError, ActionSpec, Applied, Class, Context, Observed, Preview, Use};

/// Takes no arguments: the ledger says everything.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Args {}

const UNDO: &str =
    "it changes nothing outside the incident folder, and the next build replaces its files";

static SPEC: ActionSpec = ActionSpec {
    name: "report.build",
    about: "Builds the incident document and the lessons learned from the ledger.",
    effect: Effect::Read,
    phase: Phase::Review,
    uses: &[Use::Call],
    args_schema,
    check_args: check_as::<Args>,
    undo: UndoSpec::None(UNDO),
    result: &[("document_sha256", Sample::Text), ("files", Sample::Texts)],
    rights: &[],
    exhibit: None,
    volatility: None,
    disturbs: 0,
    timeout_s: 60,
};

fn args_schema() -> Schema {
    schema_for!(Args)
}

/// The action.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReportBuild;

/// The texts that the entries refer to and do not hold.
///
/// # Errors
/// When a text is there and cannot be read. One that is missing is no error: the document says so.
pub fn texts(
    history: &History,
    documents: &dyn Documents,
    files: &dyn RunFiles,
) -> io::Result<Texts> {
    let mut texts = Texts::new();
    for (_, entry) in history.bodies::<ReportText>(kind::REPORT_TEXT) {
        let is_digest =
            entry.sha256.len() == 64 && entry.sha256.bytes().all(|b| b.is_ascii_hexdigit());
        // The digest becomes a file name: anything else stays out of paths.
        if entry.text.is_none()
            && is_digest
            && let Some(text) = documents.text(&entry.sha256)?
        {
            texts.insert(entry.sha256, text);
        }
    }
    for (_, planned) in history.bodies::<RotationPlanned>(kind::ROTATION_PLANNED) {
        let sha256 = planned.plan_sha256;
        let is_digest = sha256.len() == 64 && sha256.bytes().all(|b| b.is_ascii_hexdigit());
        if is_digest
            && let Some(bytes) = files.pinned(&format!("{sha256}.json"))?
            && let Ok(text) = String::from_utf8(bytes)
        {
            texts.insert(sha256, text);
        }
    }
    Ok(texts)
}

fn local(tried: &str, error: &io::Error) -> ActionError {
    ActionError::new(Class::Failed, format!("cannot {tried}: {error}"))
        .code("FB1008")
        .hint("free the disk or its permissions, then run `firebreak report build`")
}

fn result(built: &ReportBuilt) -> Applied {
    Applied {
        result: json!({"document_sha256": built.document_sha256, "files": built.files}),
        summary: format!(
            "{} built over {} entries, SHA-256 {}",
            built.files.join(", "),
            built.entries,
            built.document_sha256
        ),
    }
}

#[async_trait]
impl Action for ReportBuild {
    fn spec(&self) -> &'static ActionSpec {
        &SPEC
    }

    async fn preview(&self, cx: &Context, _args: &Value) -> Result<Preview, ActionError> {
        Ok(Preview {
            changes: vec![format!(
                "write incident.md, incident.html, incident.json and lessons.md of {} into its folder `report/`",
                cx.incident
            )],
            undo: UNDO.into(),
            ..Preview::default()
        })
    }

    async fn apply(&self, cx: &Context, _args: &Value) -> Result<Applied, ActionError> {
        let documents = cx.documents.as_ref().ok_or_else(|| {
            ActionError::new(Class::Internal, "no place to write documents was given")
        })?;
        let history = cx.ledger.history()?;
        let texts = texts(&history, documents.as_ref(), cx.files.as_ref())
            .map_err(|e| local("read a text", &e))?;
        let document = report::build(&history, &texts, cx.ports.clock.now());
        let rendered = report::render(&document, &history);
        for (name, bytes) in &rendered.files {
            documents
                .write(name, bytes)
                .map_err(|e| local(&format!("write `report/{name}`"), &e))?;
        }
        // A crash before this line leaves whole files and no entry: the step runs again and replaces them.
        let built = ReportBuilt {
            document_sha256: rendered.document_sha256,
            entries: document.control.ledger.entries,
            files: rendered
                .files
                .iter()
                .map(|(name, _)| (*name).to_owned())
                .collect(),
        };
        cx.record(kind::REPORT_BUILT, &built)?;
        Ok(result(&built))
    }

    async fn observe(&self, cx: &Context, _args: &Value) -> Result<Observed, ActionError> {
        let history = cx.ledger.history()?;
        let refs = cx.refs();
        let built = history
            .bodies::<ReportBuilt>(kind::REPORT_BUILT)
            .filter(|(e, _)| {
                e.refs.run == refs.run && e.refs.step == refs.step && e.refs.attempt == refs.attempt
            })
            .last();
        Ok(match built {
            Some((_, built)) => Observed::Done(result(&built)),
            None => Observed::NotDone,
        })
    }
}
