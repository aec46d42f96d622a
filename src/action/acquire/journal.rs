//! `acquire.journal`: the systemd journal of this host.

use std::path::Path;
use std::process::Stdio;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use crate::action::registry::{ActionSpec, ArgError, UndoSpec, Use, read_as};
use crate::action::{Action, ActionError, Applied, Class, Context, Observed, Preview};
use crate::incident::{Category, Effect, Phase};
use crate::port::{Ended, ExhibitDraft, Right};

use super::bag::StepBag;
use super::files::{all_or_error, draft as file_draft};
use super::pods::{read, shown};
use super::{READS, RESULT, look_for_bag};

/// Where the journal's files are when there is no tool to read them.
const FOLDER: &str = "/var/log/journal";
/// What is kept of the tool's standard error.
const STDERR: u64 = 4096;

/// Arguments.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JournalArgs {
    /// Units, all if none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<String>,
    /// From when on, as `journalctl --since` reads it: `2026-11-24 23:00:00`, `-2h`, `today`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

impl JournalArgs {
    /// All fields in the export format: nothing that the journal knows is lost, binary fields neither.
    fn command(&self) -> Vec<String> {
        let mut argv = vec![
            "--output=export".to_owned(),
            "--no-pager".into(),
            "--quiet".into(),
        ];
        argv.extend(self.units.iter().map(|u| format!("--unit={u}")));
        argv.extend(self.since.iter().map(|s| format!("--since={s}")));
        argv
    }
}

fn check(value: &Value) -> Result<(), ArgError> {
    let args: JournalArgs = read_as(value)?;
    let empty = args
        .units
        .iter()
        .chain(&args.since)
        .any(|v| v.trim().is_empty() || v.contains('\0'));
    if !empty {
        return Ok(());
    }
    Err(ArgError {
        path: ".".into(),
        message: "a unit or time is empty".into(),
    })
}

static SPEC: ActionSpec = ActionSpec {
    name: "acquire.journal",
    about: "Copies the systemd journal of this host.",
    effect: Effect::Read,
    phase: Phase::Containment,
    uses: &[Use::Call],
    args_schema: || schemars::schema_for!(JournalArgs),
    check_args: check,
    undo: UndoSpec::None(READS),
    result: RESULT,
    rights: &[],
    exhibit: Some(Category::Logs),
    volatility: Some(4),
    disturbs: 0,
    timeout_s: 1800,
};

/// Copies the systemd journal of this host: by `journalctl` in the export format, else its files as they are.
///
/// *Effect*: read. *Undo*: none needed. *What it disturbs*: nothing. *Permissions*: reading the system journal (root, or the group
/// `systemd-journal`; others get their own entries only). *Cost and time*: as long as the journal is. *Source*:
/// <https://systemd.io/JOURNAL_EXPORT_FORMATS/>.
pub struct Journal;

#[async_trait]
impl Action for Journal {
    fn spec(&self) -> &'static ActionSpec {
        &SPEC
    }

    async fn preview(&self, _cx: &Context, args: &Value) -> Result<Preview, ActionError> {
        let args: JournalArgs = read(args)?;
        let what = match args.units.as_slice() {
            [] => "the journal of this host".to_owned(),
            units => format!("the journal of {}", shown(&units.join(", "))),
        };
        Ok(Preview {
            changes: vec![format!("copy {what} into a sealed bag")],
            undo: READS.into(),
            ..Preview::default()
        })
    }

    async fn apply(&self, cx: &Context, args: &Value) -> Result<Applied, ActionError> {
        let args: JournalArgs = read(args)?;
        take(cx, &args, "journalctl", Path::new(FOLDER)).await
    }

    async fn observe(&self, cx: &Context, _args: &Value) -> Result<Observed, ActionError> {
        look_for_bag(cx)
    }

    fn rights(&self, _args: &Value) -> Vec<Right> {
        Vec::new()
    }
}

/// Reads with `tool`; where it is absent, copies `folder`.
async fn take(
    cx: &Context,
    args: &JournalArgs,
    tool: &str,
    folder: &Path,
) -> Result<Applied, ActionError> {
    let argv = args.command();
    let started = Command::new(tool)
        .args(&argv)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(_) if folder.is_dir() => {
            let mut bag = StepBag::open(cx, "journal of this host, its files")?;
            bag.path(cx, &file_draft(folder), folder).await?;
            return all_or_error(bag, "the journal's files could not be read");
        }
        Err(e) => {
            let message = format!(
                "this host has no journal that can be read: `{tool}` does not start ({e}) and there is no `{}`",
                folder.display()
            );
            return Err(ActionError::new(Class::Failed, message)
                .hint("acquire its log files with acquire.files instead"));
        }
    };
    let gone = || ActionError::new(Class::Internal, "the journal's output was not connected");
    let stdout = child.stdout.take().ok_or_else(gone)?;
    let stderr = child.stderr.take().ok_or_else(gone)?;
    let said = tokio::spawn(said_of(stderr));
    let mut bag = StepBag::open(cx, "journal of this host")?;
    let command = format!("{tool} {}", argv.join(" "));
    let end = async {
        let status = child.wait().await;
        let said = said.await.unwrap_or_default();
        match status {
            Ok(status) if status.success() => Ended::Complete,
            Ok(status) => Ended::Error(shown(&format!(
                "{tool} ended with {status}: {}",
                said.trim()
            ))),
            Err(e) => Ended::Error(e.to_string()),
        }
    };
    bag.reader(cx, &draft(command), stdout, end).await?;
    all_or_error(bag, "the journal gave nothing")
}

/// The beginning of what the tool complained about; the rest is read and dropped, so that it never blocks.
async fn said_of(mut stderr: impl tokio::io::AsyncRead + Unpin) -> String {
    let mut kept = Vec::new();
    let _ = (&mut stderr).take(STDERR).read_to_end(&mut kept).await;
    let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&kept).into_owned()
}

fn draft(command: String) -> ExhibitDraft {
    ExhibitDraft {
        name: "journal".into(),
        description: "systemd journal of this host".into(),
        category: Category::Logs,
        system: Default::default(),
        method: "journalctl".into(),
        command: Some(command),
        trust: None,
        volatility: 4,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fakes::Fakes;
    use super::*;

    fn args() -> JournalArgs {
        JournalArgs {
            units: vec!["ssh.service".into()],
            since: Some("-2h".into()),
        }
    }

    #[tokio::test]
    async fn the_tools_output_is_kept_with_the_command_that_made_it() {
        let fakes = Fakes::new();
        let applied = take(&fakes.context(), &args(), "echo", Path::new("/nonexistent"))
            .await
            .expect("applied");
        let taken = fakes.taken();
        assert_eq!(
            taken[0].text(),
            "--output=export --no-pager --quiet --unit=ssh.service --since=-2h\n"
        );
        assert_eq!(taken[0].ended, Some(Ended::Complete));
        assert_eq!(applied.result["exhibits"], 2);
    }

    #[tokio::test]
    async fn a_host_without_a_journal_is_said_and_no_bag_is_opened() {
        let fakes = Fakes::new();
        let e = take(
            &fakes.context(),
            &args(),
            "no-such-tool-here",
            Path::new("/nonexistent"),
        )
        .await;
        let e = e.expect_err("nothing to read");
        assert!(
            e.message.contains("no-such-tool-here") && e.hint.is_some(),
            "{e}"
        );
        assert!(fakes.taken().is_empty());
    }

    #[tokio::test]
    async fn a_tool_that_fails_without_output_is_a_failure() {
        let fakes = Fakes::new();
        let e = take(
            &fakes.context(),
            &args(),
            "false",
            Path::new("/nonexistent"),
        )
        .await
        .expect_err("failed");
        assert!(e.message.contains("ended with"), "{e}");
    }
}
