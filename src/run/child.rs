//! A `run:` step: a child in its own process group, environment cleared, output streamed into a bag of its own.

use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::incident::{Category, Refs};
use crate::port::{CustodyError, Ended, ExhibitDraft, Exhibits, OpenBag};

/// Most bytes that are kept of one child's output.
pub(super) const CAP: usize = 16 * 1024 * 1024;
/// Most bytes that are kept of its standard error.
const STDERR_CAP: usize = 1024 * 1024;
/// Time between the polite and the hard end of a process group.
const GRACE: Duration = Duration::from_secs(2);

/// A child to run.
pub(super) struct ChildSpec {
    pub(super) argv: Vec<String>,
    /// Environment that it gets: names and values.
    pub(super) env: Vec<(String, std::ffi::OsString)>,
    pub(super) step: String,
    pub(super) kind: Category,
    pub(super) refs: Refs,
    pub(super) limit: Duration,
}

/// How it ended.
pub(super) struct ChildEnd {
    pub(super) how: How,
    pub(super) stdout: String,
    pub(super) stderr: String,
    /// The bag that holds its output.
    pub(super) bag: Option<String>,
}

/// The ways to end.
pub(super) enum How {
    /// It could not be started: nothing happened.
    NotStarted(String),
    /// It exited.
    Exited(ExitStatus),
    /// Its time ran out, or the operator interrupted; its group was ended.
    Killed(&'static str),
}

/// Runs it. Its output becomes exhibits whatever its end.
///
/// # Errors
/// When the evidence cannot be written. A child that runs is ended first.
pub(super) async fn run(
    spec: ChildSpec,
    exhibits: Arc<dyn Exhibits>,
    cancel: watch::Receiver<bool>,
) -> Result<ChildEnd, CustodyError> {
    let mut command = Command::new(&spec.argv[0]);
    command
        .args(&spec.argv[1..])
        .env_clear()
        .envs(spec.env.iter().map(|(n, v)| (n, v)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let mut bag = exhibits.open_bag(&format!("output of step {}", spec.step), &spec.refs)?;
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(e) => {
            let how = How::NotStarted(e.to_string());
            return finish(&spec, bag, how, Vec::new(), Vec::new());
        }
    };
    bag.begin(&exhibit(&spec, "stdout", "standard output"))?;
    let streamed = stream(&spec, &mut child, bag.as_mut(), cancel).await;
    if streamed.is_err() {
        end_group(&mut child).await;
    }
    let (how, stdout, stderr, capped) = streamed?;
    bag.finish(match (&how, capped) {
        (_, true) => Ended::Cap(format!("output is kept up to {CAP} bytes")),
        (How::Killed(why), _) => Ended::Cap((*why).to_owned()),
        _ => Ended::Complete,
    })?;
    finish(&spec, bag, how, stdout, stderr)
}

type Streamed = (How, Vec<u8>, Vec<u8>, bool);

/// Reads both pipes until the child is gone; standard output goes into the bag as it comes.
async fn stream(
    spec: &ChildSpec,
    child: &mut Child,
    bag: &mut dyn OpenBag,
    mut cancel: watch::Receiver<bool>,
) -> Result<Streamed, CustodyError> {
    let mut out = child.stdout.take();
    let err = child.stderr.take();
    let stderr = tokio::spawn(read_capped(err, STDERR_CAP));
    let limit = tokio::time::sleep(spec.limit);
    tokio::pin!(limit);
    let mut kept = Vec::new();
    let mut written = 0usize;
    let mut capped = false;
    let mut buffer = vec![0u8; 64 * 1024];
    let mut killed = None;
    while let Some(pipe) = out.as_mut() {
        tokio::select! {
            read = pipe.read(&mut buffer) => match read {
                Ok(0) | Err(_) => out = None,
                Ok(n) => {
                    let keep = n.min(CAP - written);
                    capped |= keep < n;
                    bag.write(&buffer[..keep])?;
                    written += keep;
                    let head = keep.min((64 * 1024 + 1usize).saturating_sub(kept.len()));
                    kept.extend_from_slice(&buffer[..head]);
                }
            },
            () = &mut limit => { killed = Some("its time ran out"); break; }
            () = cancelled(&mut cancel) => { killed = Some("interrupted by the operator"); break; }
        }
    }
    let how = match killed {
        Some(why) => {
            end_group(child).await;
            How::Killed(why)
        }
        None => wait(child, &mut limit, &mut cancel).await,
    };
    // Grandchildren that kept the pipe open are gone with the group, or keep it for ever: they get a moment, no more.
    let stderr = tokio::time::timeout(GRACE, stderr)
        .await
        .ok()
        .and_then(Result::ok)
        .unwrap_or_default();
    Ok((how, kept, stderr, capped))
}

async fn wait(
    child: &mut Child,
    limit: &mut std::pin::Pin<&mut tokio::time::Sleep>,
    cancel: &mut watch::Receiver<bool>,
) -> How {
    let why = tokio::select! {
        status = child.wait() => match status {
            Ok(status) => return How::Exited(status),
            Err(_) => "its end could not be seen",
        },
        () = limit.as_mut() => "its time ran out",
        () = cancelled(cancel) => "interrupted by the operator",
    };
    end_group(child).await;
    How::Killed(why)
}

async fn cancelled(cancel: &mut watch::Receiver<bool>) {
    if cancel.wait_for(|c| *c).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn read_capped(pipe: Option<impl AsyncRead + Unpin>, cap: usize) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut pipe) = pipe else { return kept };
    let mut buffer = vec![0u8; 16 * 1024];
    while let Ok(n) = pipe.read(&mut buffer).await {
        if n == 0 {
            break;
        }
        kept.extend_from_slice(&buffer[..n.min(cap - kept.len())]);
    }
    kept
}

/// Ends the whole group, politely, then hard.
async fn end_group(child: &mut Child) {
    let group = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw);
    let Some(group) = group else { return };
    let _ = kill_process_group(group, Signal::TERM);
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        let _ = kill_process_group(group, Signal::KILL);
        let _ = child.wait().await;
    }
}

fn finish(
    spec: &ChildSpec,
    mut bag: Box<dyn OpenBag>,
    how: How,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
) -> Result<ChildEnd, CustodyError> {
    if !stderr.is_empty() {
        bag.begin(&exhibit(spec, "stderr", "standard error"))?;
        bag.write(&stderr)?;
        bag.finish(if stderr.len() >= STDERR_CAP {
            Ended::Cap(format!("standard error is kept up to {STDERR_CAP} bytes"))
        } else {
            Ended::Complete
        })?;
    }
    let result = json!({
        "argv": spec.argv,
        "ended": match &how {
            How::NotStarted(why) => format!("not started: {why}"),
            How::Exited(status) => status.to_string(),
            How::Killed(why) => (*why).to_owned(),
        },
    });
    bag.begin(&exhibit(spec, "result.json", "command and how it ended"))?;
    bag.write(result.to_string().as_bytes())?;
    bag.finish(Ended::Complete)?;
    let number = bag.number().to_owned();
    bag.seal()?;
    Ok(ChildEnd {
        how,
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
        bag: Some(number),
    })
}

fn exhibit(spec: &ChildSpec, name: &str, what: &str) -> ExhibitDraft {
    ExhibitDraft {
        name: format!("{}/{name}", spec.step.replace(['/', '[', ']'], "-")),
        description: format!("{what} of `{}`", spec.argv.join(" ")),
        category: spec.kind,
        system: std::collections::BTreeMap::from([("step".to_owned(), spec.step.clone())]),
        method: "run".into(),
        command: Some(spec.argv.join(" ")),
        trust: None,
        volatility: 7,
    }
}
