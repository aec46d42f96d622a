//! The one bag of a step: opened, filled and sealed by it.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use crate::incident::Category;
use crate::incident::body::{ExhibitAcquired, ObjectRef};
use crate::port::{Acquire, CaptureKind, CustodyError, Ended, ExhibitDraft, OpenBag, Piece};

use super::super::{ActionError, Applied, Class, Context};
use super::answer;

/// Until when a source may take, and what is said when that is over.
#[derive(Debug, Clone)]
pub(super) struct Limit {
    until: Instant,
    why: String,
}

impl Limit {
    /// A budget from now on.
    pub(super) fn of(budget: Duration, why: impl Into<String>) -> Self {
        Limit {
            until: Instant::now() + budget,
            why: why.into(),
        }
    }
    /// The one of two that ends first.
    pub(super) fn earlier(self, other: &Limit) -> Limit {
        if other.until < self.until {
            other.clone()
        } else {
            self
        }
    }
    /// True when nothing more may be begun.
    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }
    /// Waits for an answer, at most until then; otherwise the words for it.
    pub(super) async fn wait<T>(&self, answer: impl Future<Output = T>) -> Result<T, String> {
        let answer = tokio::time::timeout_at(self.until, answer).await;
        answer.map_err(|_| self.why.clone())
    }
    /// The words for it.
    pub(super) fn why(&self) -> &str {
        &self.why
    }
}

/// What came of one source.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Got {
    /// All of it, or a part that is marked as such.
    Taken,
    /// Nothing; `true` where the source cannot be had in this way at all, so that another way may be tried.
    Nothing(bool),
}

/// Why a wait ended without its answer.
struct Stopped(String);

/// The bag of a step while it is filled.
pub(super) struct StepBag {
    /// `None` only while a blocking thread has it.
    bag: Option<Box<dyn OpenBag>>,
    exhibits: Vec<ExhibitAcquired>,
    incomplete: Vec<String>,
    notes: Vec<Value>,
}

impl StepBag {
    /// Opens the step's bag.
    pub(super) fn open(cx: &Context, purpose: &str) -> Result<Self, ActionError> {
        let Some(custody) = &cx.custody else {
            return Err(ActionError::new(
                Class::Internal,
                "a step that acquires was given no custody",
            ));
        };
        Ok(StepBag {
            bag: Some(custody.open_bag(purpose, &cx.refs())?),
            exhibits: Vec::new(),
            incomplete: Vec::new(),
            notes: Vec::new(),
        })
    }

    fn bag(&mut self) -> Result<&mut Box<dyn OpenBag>, ActionError> {
        let lost = || {
            ActionError::new(
                Class::Internal,
                "the bag was lost by the thread that filled it",
            )
        };
        self.bag.as_mut().ok_or_else(lost)
    }

    /// Says that something could not be had.
    pub(super) fn missing(&mut self, what: &str, why: &str) {
        self.incomplete.push(format!("{what}: {why}"));
        self.note(what, "nothing", why);
    }

    /// Says which pods are meant and are not there.
    pub(super) fn gone(&mut self, pods: &[String]) {
        for pod in pods {
            self.missing("pod", pod);
        }
    }

    fn note(&mut self, what: &str, outcome: &str, why: &str) {
        self.notes
            .push(json!({ "source": what, "outcome": outcome, "why": why }));
    }

    /// Takes bytes in that are here already.
    pub(super) fn bytes(&mut self, draft: &ExhibitDraft, bytes: &[u8]) -> Result<(), ActionError> {
        let bag = self.bag()?;
        bag.begin(draft)?;
        bag.write(bytes)?;
        self.finish(draft, Ended::Complete)
    }

    fn finish(&mut self, draft: &ExhibitDraft, ended: Ended) -> Result<(), ActionError> {
        let what = &draft.description;
        match &ended {
            Ended::Complete => self.note(what, "complete", ""),
            Ended::Cap(why) | Ended::Error(why) => {
                self.incomplete.push(format!("{what}: {why}"));
                self.note(what, "part", why);
            }
        }
        let acquired = self.bag()?.finish(ended)?;
        self.exhibits.push(acquired);
        Ok(())
    }

    /// Takes a stream from a pod in. What came before a failure is kept. A source that gave no byte makes no exhibit: it is noted.
    /// With `quietly`, a source that cannot be had in this way is not called missing yet.
    pub(super) async fn capture(
        &mut self,
        cx: &Context,
        source: (&dyn Acquire, &ObjectRef, &CaptureKind),
        draft: &ExhibitDraft,
        limit: Option<&Limit>,
        quietly: bool,
    ) -> Result<Got, ActionError> {
        let (acquire, pod, kind) = source;
        let what = draft.description.clone();
        let nothing = |me: &mut Self, why: &str, unsupported: bool| {
            if !(quietly && unsupported) {
                me.missing(&what, why);
            }
            Ok(Got::Nothing(unsupported))
        };
        let mut stream = match wait(cx, limit, acquire.capture(pod, kind)).await {
            Err(Stopped(why)) => return nothing(self, &why, false),
            Ok(Err(e)) => return nothing(self, &e.detail, is_unsupported(e.cause)),
            Ok(Ok(stream)) => stream,
        };
        let (mut begun, mut unsupported) = (false, false);
        let ended = loop {
            match wait(cx, limit, stream.next()).await {
                Err(Stopped(why)) => break Ended::Cap(why),
                Ok(None) => {
                    break Ended::Error("the stream ended without saying that it was all".into());
                }
                Ok(Some(Err(e))) => {
                    unsupported = is_unsupported(e.cause);
                    break Ended::Error(e.detail);
                }
                Ok(Some(Ok(Piece::Bytes(bytes)))) => {
                    let bag = self.bag()?;
                    if !begun {
                        bag.begin(draft)?;
                        begun = true;
                    }
                    bag.write(&bytes)?;
                }
                Ok(Some(Ok(Piece::End { exit, stderr }))) => {
                    unsupported = matches!(exit, Some(126 | 127));
                    break end_of(exit, &stderr);
                }
            }
        };
        if begun {
            return self.finish(draft, ended).map(|()| Got::Taken);
        }
        match ended {
            Ended::Complete => {
                self.note(
                    &draft.description,
                    "empty",
                    "the source is there and holds nothing",
                );
                Ok(Got::Taken)
            }
            Ended::Cap(why) | Ended::Error(why) => nothing(self, &why, unsupported),
        }
    }

    /// Takes bytes in as they come from a reader of this host; answers false when there were none.
    pub(super) async fn reader(
        &mut self,
        cx: &Context,
        draft: &ExhibitDraft,
        mut reader: impl tokio::io::AsyncRead + Unpin,
        end: impl Future<Output = Ended>,
    ) -> Result<bool, ActionError> {
        use tokio::io::AsyncReadExt as _;
        let (mut begun, mut buffer) = (false, vec![0; 256 << 10]);
        let cut = loop {
            match wait(cx, None, reader.read(&mut buffer)).await {
                Err(Stopped(why)) => break Some(Ended::Cap(why)),
                Ok(Err(e)) => break Some(Ended::Error(e.to_string())),
                Ok(Ok(0)) => break None,
                Ok(Ok(n)) => {
                    let bag = self.bag()?;
                    if !begun {
                        bag.begin(draft)?;
                        begun = true;
                    }
                    bag.write(&buffer[..n])?;
                }
            }
        };
        let ended = match cut {
            Some(cut) => cut,
            None => end.await,
        };
        match (begun, ended) {
            (true, ended) => self.finish(draft, ended)?,
            (false, Ended::Complete) => self.missing(&draft.description, "there is nothing in it"),
            (false, Ended::Cap(why) | Ended::Error(why)) => self.missing(&draft.description, &why),
        }
        Ok(begun)
    }

    /// Takes a file or folder of this host in. One that cannot be read is said, not an error.
    pub(super) async fn path(
        &mut self,
        cx: &Context,
        draft: &ExhibitDraft,
        path: &Path,
    ) -> Result<bool, ActionError> {
        let lost = || {
            ActionError::new(
                Class::Internal,
                "the bag was lost by the thread that filled it",
            )
        };
        let mut bag = self.bag.take().ok_or_else(lost)?;
        let (place, given) = (path.to_owned(), draft.clone());
        let told = Arc::clone(&cx.progress);
        let done = tokio::task::spawn_blocking(move || {
            let mut next = 0;
            let mut progress = |bytes: u64| {
                if bytes >= next {
                    told(&format!("{}: {bytes} bytes", given.description));
                    next = bytes + (64 << 20);
                }
            };
            let result = bag.add_path(&place, &given, &mut progress);
            (bag, result)
        });
        let (bag, result) = done.await.map_err(|_| lost())?;
        self.bag = Some(bag);
        match result {
            Err(CustodyError::Read { detail, .. }) => {
                self.missing(&draft.description, &detail);
                Ok(false)
            }
            Err(e) => Err(e.into()),
            Ok(acquired) => {
                match &acquired.why {
                    Some(why) => {
                        self.incomplete
                            .push(format!("{}: {why}", draft.description));
                        self.note(&draft.description, "part", why);
                    }
                    None => self.note(&draft.description, "complete", ""),
                }
                self.exhibits.push(acquired);
                Ok(true)
            }
        }
    }

    /// How many exhibits there are so far.
    pub(super) fn len(&self) -> usize {
        self.exhibits.len()
    }

    /// Adds the notes of what was tried, and seals.
    pub(super) fn seal(mut self) -> Result<Applied, ActionError> {
        let mut lines = String::new();
        for note in &self.notes {
            lines.push_str(&note.to_string());
            lines.push('\n');
        }
        if lines.is_empty() {
            lines.push_str("{\"source\":\"none\",\"outcome\":\"nothing\",\"why\":\"there was nothing to take\"}\n");
        }
        let draft = ExhibitDraft {
            name: "notes".into(),
            description: "what was tried, and what came of it".into(),
            category: Category::Other,
            system: Default::default(),
            method: "firebreak".into(),
            command: None,
            trust: None,
            volatility: 7,
        };
        let bag = self.bag()?;
        bag.begin(&draft)?;
        bag.write(lines.as_bytes())?;
        let acquired = bag.finish(Ended::Complete)?;
        self.exhibits.push(acquired);
        let lost = || {
            ActionError::new(
                Class::Internal,
                "the bag was lost by the thread that filled it",
            )
        };
        let sealed = self.bag.take().ok_or_else(lost)?.seal()?;
        Ok(answer(&sealed, &self.exhibits, self.incomplete))
    }
}

fn is_unsupported(cause: crate::port::Cause) -> bool {
    cause == crate::port::Cause::Unsupported
}

fn end_of(exit: Option<i32>, stderr: &str) -> Ended {
    match exit {
        None | Some(0) => Ended::Complete,
        Some(code) if stderr.is_empty() => Ended::Error(format!("the command ended with {code}")),
        Some(code) => Ended::Error(format!("the command ended with {code}: {stderr}")),
    }
}

/// Waits for an answer until the limit is over or the person asks to stop.
async fn wait<T>(
    cx: &Context,
    limit: Option<&Limit>,
    answer: impl Future<Output = T>,
) -> Result<T, Stopped> {
    let mut cancel = cx.cancel.clone();
    let stopped = async {
        // A closed channel means that nobody can ask any more.
        if cancel.wait_for(|asked| *asked).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let late = async {
        match limit {
            Some(limit) => tokio::time::sleep_until(limit.until).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = stopped => Err(Stopped("stopped by the person who ran it".into())),
        answer = answer => Ok(answer),
        () = late => Err(Stopped(limit.map(|l| l.why.clone()).unwrap_or_default())),
    }
}
