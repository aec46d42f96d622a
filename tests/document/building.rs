//! The action `report.build` over a ledger and a folder in memory.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use firebreak::action::report_build::ReportBuild;
use firebreak::action::{Action, Class, Context, Observed};
use firebreak::incident::*;
use firebreak::port::*;
use serde_json::json;

use super::histories;

struct Memory(Mutex<History>);

impl Ledger for Memory {
    fn append(&self, drafts: Vec<Draft>) -> Result<Vec<Entry>, LedgerError> {
        let mut history = self.0.lock().expect("lock");
        let mut stored = Vec::new();
        for d in drafts {
            let entry = Entry {
                seq: history.entries.len() as u64,
                time: histories::at(5000),
                kind: d.kind,
                actor: d.actor,
                target: d.target,
                refs: d.refs,
                body: d.body,
                sha256: histories::hex(b"stored"),
                writer: 1,
                clock_back_ms: 0,
            };
            history.entries.push(entry.clone());
            stored.push(entry);
        }
        Ok(stored)
    }
    fn checkpoint(&self) -> Result<(), LedgerError> {
        Ok(())
    }
    fn history(&self) -> Result<History, LedgerError> {
        Ok(self.0.lock().expect("lock").clone())
    }
}

#[derive(Default)]
struct Folder {
    files: Mutex<Vec<(String, Vec<u8>)>>,
    full: bool,
}

impl Documents for Folder {
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        if self.full {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        let mut files = self.files.lock().expect("lock");
        files.retain(|(n, _)| n != name);
        files.push((name.to_owned(), bytes.to_vec()));
        Ok(())
    }
    fn text(&self, _: &str) -> io::Result<Option<String>> {
        Ok(None)
    }
}

impl RunFiles for Folder {
    fn pin(&self, _: &str, _: &[u8]) -> io::Result<()> {
        Err(io::Error::other("a document pins nothing"))
    }
    fn pinned(&self, _: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }
    fn lock_run(&self, _: &RunId) -> io::Result<Option<LockGuard>> {
        Ok(None)
    }
}

struct Still;

impl Clock for Still {
    fn now(&self) -> DateTime<Utc> {
        histories::at(6000)
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

struct Silent;

#[async_trait]
impl Notifier for Silent {
    async fn send(&self, _: &Message) -> Result<Vec<String>, PortError> {
        Ok(vec![])
    }
}

fn context(folder: Arc<Folder>) -> Context {
    let history = histories::open_draft();
    Context {
        incident: history.incident.clone(),
        mode: history.mode,
        run: RunId::parse(histories::RUN).expect("run"),
        step: StepPath::parse("report").expect("step"),
        attempt: 1,
        key: "0".repeat(32),
        ledger: Arc::new(Memory(Mutex::new(history))),
        custody: None,
        documents: Some(folder.clone()),
        files: folder,
        ports: Ports {
            cluster: None,
            estate: None,
            notifier: Arc::new(Silent),
            clock: Arc::new(Still),
            random: Arc::new(HostRandom),
        },
        deadline: Duration::from_secs(60),
        cancel: tokio::sync::watch::channel(false).1,
        progress: Arc::new(|_| {}),
    }
}

#[tokio::test]
async fn report_build_writes_four_files_and_then_says_so_in_the_ledger() {
    let folder = Arc::new(Folder::default());
    let cx = context(folder.clone());
    let args = json!({});
    let observed = ReportBuild.observe(&cx, &args).await.expect("observe");
    assert_eq!(observed, Observed::NotDone);
    let applied = ReportBuild.apply(&cx, &args).await.expect("apply");
    let files = folder.files.lock().expect("lock").clone();
    let names: Vec<&str> = files.iter().map(|(n, _)| n.as_str()).collect();
    assert_eq!(
        names,
        [
            "incident.md",
            "incident.html",
            "lessons.md",
            "incident.json"
        ]
    );
    assert_eq!(
        applied.result["document_sha256"],
        histories::hex(&files[3].1)
    );
    let history = cx.ledger.history().expect("history");
    assert_eq!(
        history.entries.last().map(|e| e.kind.as_str()),
        Some(kind::REPORT_BUILT)
    );
    let observed = ReportBuild.observe(&cx, &args).await.expect("observe");
    assert_eq!(observed, Observed::Done(applied));
}

#[tokio::test]
async fn a_full_disk_is_said_and_no_entry_claims_a_document() {
    let cx = context(Arc::new(Folder {
        full: true,
        ..Folder::default()
    }));
    let failed = ReportBuild.apply(&cx, &json!({})).await.expect_err("full");
    assert_eq!((failed.class, failed.code), (Class::Failed, "FB1008"));
    assert!(failed.hint.is_some());
    let history = cx.ledger.history().expect("history");
    assert_eq!(history.of(kind::REPORT_BUILT).count(), 0);
}

#[test]
fn report_build_takes_no_arguments() {
    let spec = ReportBuild.spec();
    assert!((spec.check_args)(&json!({})).is_ok());
    assert!((spec.check_args)(&json!({"path": "/etc"})).is_err());
}
