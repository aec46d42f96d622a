//! A `run:` step: a child in its own process group, environment cleared, output streamed into a bag of its own.
//!
//! *Guarantees*: a child that is ended goes with its whole group, politely, then hard, also what ignored the polite word and also
//! when this process leaves at once; output that could not be read to its end is never called complete. *Assumptions*: a program that
//! leaves the group on purpose (`setsid`) leaves our hands.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::incident::{Category, Refs};
use crate::port::{CustodyError, Ended, ExhibitDraft, Exhibits, OpenBag};

use super::files::Pattern;

/// Most bytes that are kept of one child's output.
pub(super) const CAP: usize = 16 * 1024 * 1024;
/// Most bytes that are kept of its standard error.
const STDERR_CAP: usize = 1024 * 1024;
/// Most bytes of its output that later steps can take values from.
const HEAD: usize = 64 * 1024 + 1;
/// Time between the polite and the hard end of a process group, and for the pipes to end after the child has.
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
    /// Files to take besides its output, as globs; looked for when it has ended.
    pub(super) files: Vec<Pattern>,
}

/// How it ended.
pub(super) struct ChildEnd {
    pub(super) how: How,
    pub(super) stdout: String,
    pub(super) stderr: String,
    /// The bag that holds its output.
    pub(super) bag: Option<String>,
    /// What of its output or files is not in the bag, for people.
    pub(super) missing: Vec<String>,
    /// True where its output could not be read: what later steps would take from it is not what it wrote.
    pub(super) unread: bool,
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

/// Groups of children that run now, so that none outlives a process that leaves at once.
static GROUPS: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

fn groups() -> MutexGuard<'static, BTreeSet<i32>> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends every child of this process with its whole group, hard, and lets no other begin. For the second Ctrl-C, right before the
/// process leaves.
pub fn end_children() {
    let groups = groups();
    for group in groups.iter().filter_map(|id| Pid::from_raw(*id)) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    // A child takes this lock to begin: it stays taken until the process is gone.
    std::mem::forget(groups);
}

/// A child's process group. Unless it was let go, it is ended when this is dropped: by an error, or with the task that held it.
struct Group(Option<Pid>);

impl Group {
    /// Starts a child in a group of its own, listed before anybody can ask who runs.
    fn spawn(command: &mut Command) -> std::io::Result<(Child, Self)> {
        let mut groups = groups();
        let child = command.process_group(0).spawn()?;
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        groups.extend(id);
        Ok((child, Group(id.and_then(Pid::from_raw))))
    }
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // A group that is gone already is what was wanted.
            let _ = kill_process_group(group, signal);
        }
    }
    /// Ends all of it: politely, then hard. What ignores the polite word gets the hard one also when the child itself has gone.
    async fn end(&self, child: &mut Child) {
        self.signal(Signal::TERM);
        let _ = tokio::time::timeout(GRACE, child.wait()).await;
        self.signal(Signal::KILL);
        let _ = child.wait().await;
    }
    /// The child has exited by itself: what it left running on purpose is no longer ours.
    fn let_go(mut self) {
        self.forget();
    }
    fn forget(&mut self) {
        if let Some(group) = self.0.take() {
            groups().remove(&group.as_raw_nonzero().get());
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        self.forget();
    }
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
        .kill_on_drop(true);
    let mut bag = exhibits.open_bag(&format!("output of step {}", spec.step), &spec.refs)?;
    // Dropped by any return before the end, the group is ended.
    let (mut child, group) = match Group::spawn(&mut command) {
        Ok(spawned) => spawned,
        Err(e) => {
            let how = How::NotStarted(e.to_string());
            return finish(&spec, bag, how, Pumped::default(), Pumped::default());
        }
    };
    bag.begin(&exhibit(&spec, "stdout", "standard output"))?;
    let (how, stdout, stderr) = stream(&spec, (&mut child, group), bag.as_mut(), cancel).await?;
    bag.finish(match (&how, &stdout) {
        (_, Pumped { error: Some(e), .. }) => Ended::Error(format!("it could not be read: {e}")),
        (_, Pumped { capped: true, .. }) => Ended::Cap(format!("output is kept up to {CAP} bytes")),
        (How::Killed(why), _) => Ended::Cap((*why).to_owned()),
        (_, Pumped { ended: false, .. }) => Ended::Cap(LEFT_OPEN.into()),
        _ => Ended::Complete,
    })?;
    finish(&spec, bag, how, stdout, stderr)
}

/// Why an output that did not end is not complete.
const LEFT_OPEN: &str =
    "a process that it left behind keeps the pipe open; what it writes later is not kept";

/// What came through one pipe.
#[derive(Default)]
struct Pumped {
    /// Its beginning: all of it where it fits.
    kept: Vec<u8>,
    /// Bytes that were stored.
    stored: usize,
    /// More came than is kept.
    capped: bool,
    /// It came to its end.
    ended: bool,
    /// It broke before.
    error: Option<String>,
}

impl Pumped {
    /// Takes what one read brought, as far as the cap goes; answers what is to be stored.
    fn take<'b>(
        &mut self,
        read: std::io::Result<usize>,
        buffer: &'b [u8],
        (cap, head): (usize, usize),
    ) -> &'b [u8] {
        let come = match read {
            Ok(0) => {
                self.ended = true;
                &[]
            }
            Ok(n) => &buffer[..n],
            // A pipe that breaks is no pipe that ended: nothing after this is known.
            Err(e) => {
                self.ended = true;
                self.error = Some(e.to_string());
                &[]
            }
        };
        let keep = &come[..come.len().min(cap - self.stored)];
        self.capped |= keep.len() < come.len();
        self.stored += keep.len();
        let first = keep.len().min(head.saturating_sub(self.kept.len()));
        self.kept.extend_from_slice(&keep[..first]);
        keep
    }
    /// What is not in the bag, in words.
    fn missing(&self, name: &str, cap: usize) -> Option<String> {
        match self {
            Pumped { error: Some(e), .. } => Some(format!("{name} could not be read: {e}")),
            Pumped { capped: true, .. } => Some(format!("{name} is kept up to {cap} bytes")),
            Pumped { ended: false, .. } => Some(format!("{name} is cut: {LEFT_OPEN}")),
            _ => None,
        }
    }
}

/// Reads both pipes until they end and the child is gone; standard output goes into the bag as it comes.
async fn stream(
    spec: &ChildSpec,
    (child, group): (&mut Child, Group),
    bag: &mut dyn OpenBag,
    mut cancel: watch::Receiver<bool>,
) -> Result<(How, Pumped, Pumped), CustodyError> {
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    let (mut stdout, mut stderr) = (Pumped::default(), Pumped::default());
    let (mut out_buffer, mut err_buffer) = (vec![0u8; 64 * 1024], vec![0u8; 16 * 1024]);
    let limit = tokio::time::sleep(spec.limit);
    let grace = tokio::time::sleep(Duration::ZERO);
    tokio::pin!(limit, grace);
    let mut status = None;
    let killed = loop {
        if status.is_some() && stdout.ended && stderr.ended {
            break None;
        }
        tokio::select! {
            read = read(&mut out, &mut out_buffer), if !stdout.ended => {
                let keep = stdout.take(read, &out_buffer, (CAP, HEAD));
                bag.write(keep)?;
            }
            read = read(&mut err, &mut err_buffer), if !stderr.ended => {
                stderr.take(read, &err_buffer, (STDERR_CAP, STDERR_CAP));
            }
            ended = child.wait(), if status.is_none() => match ended {
                Ok(ended) => {
                    status = Some(ended);
                    grace.as_mut().reset(tokio::time::Instant::now() + GRACE);
                }
                Err(_) => break Some("its end could not be seen"),
            },
            // The child has gone and something of it keeps a pipe: it gets a moment, no more.
            () = grace.as_mut(), if status.is_some() => break None,
            () = limit.as_mut(), if status.is_none() => break Some("its time ran out"),
            () = cancelled(&mut cancel), if status.is_none() => break Some("interrupted by the operator"),
        }
    };
    if let Some(why) = killed {
        group.end(child).await;
        drain(&mut out, &mut err, (&mut stdout, &mut stderr), bag).await?;
        return Ok((How::Killed(why), stdout, stderr));
    }
    group.let_go();
    // The loop ends without a reason only once the status is there.
    Ok((
        status.map_or(How::Killed("its end could not be seen"), How::Exited),
        stdout,
        stderr,
    ))
}

/// What was still in the pipes of a group that was ended, within the grace.
async fn drain(
    out: &mut Option<impl AsyncRead + Unpin>,
    err: &mut Option<impl AsyncRead + Unpin>,
    (stdout, stderr): (&mut Pumped, &mut Pumped),
    bag: &mut dyn OpenBag,
) -> Result<(), CustodyError> {
    let grace = tokio::time::sleep(GRACE);
    tokio::pin!(grace);
    let mut out_buffer = vec![0u8; 64 * 1024];
    let mut err_buffer = vec![0u8; 16 * 1024];
    while !(stdout.ended && stderr.ended) {
        tokio::select! {
            read = read(out, &mut out_buffer), if !stdout.ended => {
                let keep = stdout.take(read, &out_buffer, (CAP, HEAD));
                bag.write(keep)?;
            }
            read = read(err, &mut err_buffer), if !stderr.ended => {
                stderr.take(read, &err_buffer, (STDERR_CAP, STDERR_CAP));
            }
            () = grace.as_mut() => break,
        }
    }
    Ok(())
}

async fn read(
    pipe: &mut Option<impl AsyncRead + Unpin>,
    buffer: &mut [u8],
) -> std::io::Result<usize> {
    match pipe {
        Some(pipe) => pipe.read(buffer).await,
        None => Ok(0),
    }
}

async fn cancelled(cancel: &mut watch::Receiver<bool>) {
    if cancel.wait_for(|c| *c).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn finish(
    spec: &ChildSpec,
    mut bag: Box<dyn OpenBag>,
    how: How,
    stdout: Pumped,
    stderr: Pumped,
) -> Result<ChildEnd, CustodyError> {
    let started = !matches!(how, How::NotStarted(_));
    let cut = |p: &Pumped, name, cap| p.missing(name, cap).filter(|_| started);
    let err_cut = cut(&stderr, "standard error", STDERR_CAP);
    if !stderr.kept.is_empty() || err_cut.is_some() {
        bag.begin(&exhibit(spec, "stderr", "standard error"))?;
        bag.write(&stderr.kept)?;
        bag.finish(match (&stderr.error, &err_cut) {
            (Some(_), Some(why)) => Ended::Error(why.clone()),
            (_, Some(why)) => Ended::Cap(why.clone()),
            (_, None) => Ended::Complete,
        })?;
    }
    let mut missing: Vec<String> = cut(&stdout, "standard output", CAP).into_iter().collect();
    missing.extend(err_cut);
    if started {
        missing.extend(take_files(spec, bag.as_mut())?);
    }
    let result = json!({
        "argv": spec.argv,
        "ended": match &how {
            How::NotStarted(why) => format!("not started: {why}"),
            How::Exited(status) => status.to_string(),
            How::Killed(why) => (*why).to_owned(),
        },
        "missing": missing,
    });
    bag.begin(&exhibit(spec, "result.json", "command and how it ended"))?;
    bag.write(result.to_string().as_bytes())?;
    bag.finish(Ended::Complete)?;
    let number = bag.number().to_owned();
    bag.seal()?;
    Ok(ChildEnd {
        how,
        unread: stdout.error.is_some() || stderr.error.is_some(),
        stdout: String::from_utf8_lossy(&stdout.kept).into_owned(),
        stderr: String::from_utf8_lossy(&stderr.kept).into_owned(),
        bag: Some(number),
        missing,
    })
}

/// Takes the step's files into its bag; answers what could not be taken. A pattern that finds nothing is said, never passed over.
fn take_files(spec: &ChildSpec, bag: &mut dyn OpenBag) -> Result<Vec<String>, CustodyError> {
    let mut missing = Vec::new();
    for pattern in &spec.files {
        let found = match pattern.matching() {
            Ok(found) => found,
            Err(why) => {
                missing.push(why);
                continue;
            }
        };
        if found.is_empty() {
            missing.push(format!("no file fits `{}`", pattern.text));
        }
        for path in found {
            missing.extend(take_file(spec, bag, &path)?);
        }
    }
    Ok(missing)
}

fn take_file(
    spec: &ChildSpec,
    bag: &mut dyn OpenBag,
    path: &Path,
) -> Result<Option<String>, CustodyError> {
    let shown = path.display().to_string();
    let name = format!("files/{}", shown.trim_start_matches('/'));
    match bag.add_path(
        path,
        &exhibit(spec, &name, &format!("file {shown}")),
        &mut |_| {},
    ) {
        Ok(taken) if taken.ended == "complete" => Ok(None),
        Ok(taken) => Ok(Some(format!(
            "`{shown}` is not complete: {}",
            taken.why.unwrap_or(taken.ended)
        ))),
        Err(CustodyError::Read { detail, .. }) => Ok(Some(format!("`{shown}`: {detail}"))),
        Err(other) => Err(other),
    }
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

#[cfg(test)]
mod tests {
    use super::super::testing::MemoryBags;
    use super::*;

    async fn shell(script: &str, limit: Duration) -> ChildEnd {
        let spec = ChildSpec {
            argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            env: vec![("PATH".into(), "/usr/bin:/bin".into())],
            step: "it".into(),
            kind: Category::Other,
            refs: Refs::default(),
            limit,
            files: Vec::new(),
        };
        let (_tell, cancel) = watch::channel(false);
        run(spec, Arc::new(MemoryBags::default()), cancel)
            .await
            .expect("bags take everything")
    }

    fn pid(end: &ChildEnd) -> Pid {
        let id = end.stdout.trim().parse().expect("a pid");
        Pid::from_raw(id).expect("a pid")
    }

    /// True while it runs; one that is gone and that nobody has collected does not.
    fn runs(pid: Pid) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
        stat.is_ok_and(|s| !s.rsplit(") ").next().unwrap_or_default().starts_with('Z'))
    }

    async fn is_gone(pid: Pid) -> bool {
        for _ in 0..1_000 {
            if !runs(pid) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        false
    }

    #[tokio::test]
    async fn what_ignores_the_polite_word_is_ended_with_its_group_also_when_the_child_obeyed() {
        let script = "(trap '' TERM; exec sleep 300) & echo $!; wait";
        let end = shell(script, Duration::from_millis(500)).await;
        assert!(matches!(end.how, How::Killed("its time ran out")));
        assert!(is_gone(pid(&end)).await, "the grandchild survived");
    }

    #[tokio::test]
    async fn an_output_that_a_left_behind_process_keeps_open_is_kept_so_far_and_said_to_be_cut() {
        let end = shell(
            "echo told >&2; sleep 300 & echo $!",
            Duration::from_secs(60),
        )
        .await;
        assert!(matches!(end.how, How::Exited(status) if status.success()));
        assert_eq!(end.stderr, "told\n");
        assert_eq!(end.missing.len(), 2, "{:?}", end.missing);
        assert!(end.missing[1].contains("keeps the pipe open"));
        let _ = rustix::process::kill_process(pid(&end), Signal::KILL);
    }

    #[tokio::test]
    async fn a_group_is_listed_while_it_runs_and_ended_when_nobody_holds_it_any_more() {
        let spawned = Group::spawn(Command::new("/bin/sleep").arg("300"));
        let (mut child, group) = spawned.expect("it starts");
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        let id = id.expect("it runs");
        assert!(groups().contains(&id), "a second Ctrl-C would not find it");
        drop(group);
        let status = child.wait().await.expect("it ends");
        assert!(!status.success() && !groups().contains(&id));
    }

    #[test]
    fn a_pipe_that_breaks_is_not_taken_for_one_that_ended() {
        let mut pumped = Pumped::default();
        let kept = pumped.take(Ok(3), b"abc", (CAP, HEAD)).len();
        assert_eq!(kept, 3);
        pumped.take(Err(std::io::Error::other("broken")), b"", (CAP, HEAD));
        assert_eq!(
            pumped.missing("standard output", CAP).as_deref(),
            Some("standard output could not be read: broken")
        );
    }

    #[test]
    fn output_over_the_cap_is_dropped_and_said() {
        let mut pumped = Pumped::default();
        assert_eq!(pumped.take(Ok(4), b"abcd", (3, 2)), b"abc");
        assert_eq!((pumped.kept.as_slice(), pumped.capped), (&b"ab"[..], true));
        assert!(pumped.take(Ok(4), b"abcd", (3, 2)).is_empty());
    }
}
