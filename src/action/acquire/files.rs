//! `acquire.files`: files and folders of this host.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::action::registry::{ActionSpec, ArgError, UndoSpec, Use, read_as};
use crate::action::{Action, ActionError, Applied, Class, Context, Observed, Preview};
use crate::incident::{Category, Effect, Phase};
use crate::port::{ExhibitDraft, Right};

use super::bag::StepBag;
use super::pods::{read, shown};
use super::{READS, RESULT, look_for_bag};

/// Arguments.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilesArgs {
    /// Files and folders of this host, each an exhibit.
    #[schemars(length(min = 1))]
    pub paths: Vec<PathBuf>,
}

fn check(value: &Value) -> Result<(), ArgError> {
    let args: FilesArgs = read_as(value)?;
    let refused = |message: &str| {
        Err(ArgError {
            path: "paths".into(),
            message: message.into(),
        })
    };
    if args.paths.is_empty() {
        return refused("name at least one file or folder");
    }
    if args.paths.iter().any(|p| p.as_os_str().is_empty()) {
        return refused("a path is empty");
    }
    Ok(())
}

static SPEC: ActionSpec = ActionSpec {
    name: "acquire.files",
    about: "Copies files and folders of this host.",
    effect: Effect::Read,
    phase: Phase::Containment,
    uses: &[Use::Call],
    args_schema: || schemars::schema_for!(FilesArgs),
    check_args: check,
    undo: UndoSpec::None(READS),
    result: RESULT,
    rights: &[],
    exhibit: Some(Category::Disk),
    volatility: Some(4),
    disturbs: 0,
    timeout_s: 3600,
};

/// Copies files and folders of this host.
///
/// *Effect*: read. *Undo*: none needed. *What it disturbs*: access times, where the file system keeps them. *Permissions*: reading the
/// files. *Cost and time*: one pass over the bytes, memory flat. Links and special files inside a folder are listed, never followed; a
/// part that cannot be read is said. *Source*: RFC 3227 §2.1.
pub struct Files;

#[async_trait]
impl Action for Files {
    fn spec(&self) -> &'static ActionSpec {
        &SPEC
    }

    async fn preview(&self, _cx: &Context, args: &Value) -> Result<Preview, ActionError> {
        let args: FilesArgs = read(args)?;
        let mut preview = Preview {
            undo: READS.into(),
            ..Preview::default()
        };
        for path in &args.paths {
            let name = shown(&path.display().to_string());
            match tokio::fs::metadata(path).await {
                Ok(meta) if meta.is_dir() => preview
                    .changes
                    .push(format!("copy folder {name} into a sealed bag")),
                Ok(meta) => preview.changes.push(format!(
                    "copy file {name} ({} bytes) into a sealed bag",
                    meta.len()
                )),
                Err(e) => preview.blocked.push(format!("cannot read `{name}`: {e}")),
            }
        }
        Ok(preview)
    }

    async fn apply(&self, cx: &Context, args: &Value) -> Result<Applied, ActionError> {
        let args: FilesArgs = read(args)?;
        let mut bag = StepBag::open(cx, "files of this host")?;
        for path in &args.paths {
            bag.path(cx, &draft(path), path).await?;
        }
        all_or_error(bag, "no file or folder could be read")
    }

    async fn observe(&self, cx: &Context, _args: &Value) -> Result<Observed, ActionError> {
        look_for_bag(cx)
    }

    fn rights(&self, _args: &Value) -> Vec<Right> {
        Vec::new()
    }
}

/// Seals. A bag that holds nothing but notes is sealed too, and then the step fails: asking for files and getting none is no success.
pub(super) fn all_or_error(bag: StepBag, why: &str) -> Result<Applied, ActionError> {
    let some = bag.len() > 0;
    let applied = bag.seal()?;
    if some {
        return Ok(applied);
    }
    let first = applied.result["incomplete"][0].as_str().unwrap_or_default();
    Err(ActionError::new(Class::Failed, format!("{why}: {first}")).code("FB1204"))
}

pub(super) fn draft(path: &Path) -> ExhibitDraft {
    // The place is recorded whole; a relative one would mean nothing to a reader elsewhere.
    let whole = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let name = path
        .file_name()
        .map_or("files".into(), |n| n.to_string_lossy().into_owned());
    ExhibitDraft {
        name,
        description: format!("{} of this host", shown(&whole.display().to_string())),
        category: Category::Disk,
        system: [("path".to_owned(), whole.display().to_string())].into(),
        method: "read".into(),
        command: None,
        trust: None,
        volatility: 4,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fakes::Fakes;
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn a_file_that_cannot_be_read_is_said_beside_those_that_can() {
        let fakes = Fakes::new();
        let here = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let args = json!({ "paths": [here, "/nonexistent/file"] });
        let applied = Files.apply(&fakes.context(), &args).await.expect("applied");
        assert_eq!(
            fakes.taken()[0]
                .draft
                .system
                .get("path")
                .map(String::as_str),
            Some(here)
        );
        assert!(
            applied.result["incomplete"][0]
                .as_str()
                .expect("a text")
                .contains("/nonexistent/file")
        );
        let none = Files
            .apply(&fakes.context(), &json!({ "paths": ["/nonexistent/file"] }))
            .await;
        assert_eq!(none.expect_err("nothing").class, Class::Failed);
    }

    #[test]
    fn a_step_without_a_path_is_refused() {
        assert!(
            check(&json!({ "paths": [] })).is_err() && check(&json!({ "paths": [""] })).is_err()
        );
    }
}
