//! `firebreak evidence bench FILE`: sealing, verifying and the ledger on one file, beside sha256sum and openssl, in one run.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use firebreak_evidence::note::Fingerprint;
use firebreak_evidence::source::DirSource;
use firebreak_evidence::verify::{Given, Policy, verify};
use serde_json::json;

use crate::custody::{Custody, OpenRequest};
use crate::incident::body::Note;
use crate::incident::{Category, Draft, IncidentId, Mode, Refs, kind};
use crate::port::{ExhibitDraft, Exhibits as _, Ledger as _};

use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::session::{Session, store};

/// Entries of the grouped measurement, in batches of so many.
const GROUPED: usize = 50_000;
const BATCH: usize = 1_000;
/// Entries that are appended one by one, each with its own sync.
const SINGLE: usize = 200;

/// Measures and prints. Everything is written below the system's temporary folder and removed.
pub fn evidence(session: &Session, file: &Path) -> CliResult {
    let meta = std::fs::metadata(file).map_err(|e| {
        CliError::new(
            Exit::Usage,
            "FB1105",
            format!("cannot read `{}`: {e}", file.display()),
        )
    })?;
    if !meta.is_file() || meta.len() == 0 {
        return Err(CliError::usage(format!(
            "`{}` is no file with bytes in it",
            file.display()
        )));
    }
    let folder = std::env::temp_dir().join(format!("firebreak-bench-{}", std::process::id()));
    let measured = measure(session, file, &folder);
    _ = std::fs::remove_dir_all(&folder);
    let m = measured?;
    let bytes = meta.len();
    let mib = |d: Duration| bytes as f64 / (1024.0 * 1024.0) / d.as_secs_f64();
    let row = |name: &str, d: Option<Duration>| match d {
        None => format!("{name:<28} not here"),
        Some(d) => format!(
            "{name:<28} {:>9.3} s  {:>8.0} MiB/s",
            d.as_secs_f64(),
            mib(d)
        ),
    };
    let ratio = |a: Duration, b: Option<Duration>| {
        b.map_or_else(
            || "not measurable".to_owned(),
            |b| format!("{:.2} ×", a.as_secs_f64() / b.as_secs_f64()),
        )
    };
    if session.out.json {
        session.out.document(&json!({
            "schema": "firebreak/bench/v1", "bytes": bytes, "records": m.records, "seal_s": m.seal.as_secs_f64(), "verify_s": m.verify.as_secs_f64(), "copy_s": m.copy.map(|d| d.as_secs_f64()),
            "sha256sum_s": m.sha256sum.map(|d| d.as_secs_f64()), "openssl_s": m.openssl.map(|d| d.as_secs_f64()), "peak_rss_kib_after_seal": m.rss_seal_kib, "peak_rss_kib": m.rss_kib,
            "append_single_per_s": m.single_per_s, "append_grouped_per_s": m.grouped_per_s,
        }))?;
        return Ok(Exit::Ok);
    }
    let out = &session.out;
    out.answer(format!(
        "{} bytes, {} records; each program read the file once before",
        bytes, m.records
    ));
    out.answer(row("seal", Some(m.seal)));
    out.answer(row("verify", Some(m.verify)));
    out.answer(row("copy, with one sync", m.copy));
    out.answer(row("sha256sum", m.sha256sum));
    out.answer(row("openssl dgst -sha256", m.openssl));
    out.answer(format!(
        "seal / openssl               {}",
        ratio(m.seal, m.openssl)
    ));
    out.answer(format!(
        "seal / copy with one sync    {}",
        ratio(m.seal, m.copy)
    ));
    out.answer(format!(
        "seal / sha256sum             {}",
        ratio(m.seal, m.sha256sum)
    ));
    out.answer(format!(
        "verify / openssl             {}",
        ratio(m.verify, m.openssl)
    ));
    out.answer(format!(
        "records sealed               {:.0} /s",
        m.records as f64 / m.seal.as_secs_f64()
    ));
    out.answer(format!(
        "peak memory                  {} KiB after sealing, {} KiB in all",
        m.rss_seal_kib, m.rss_kib
    ));
    out.answer(format!(
        "ledger, one by one with sync {:.0} entries/s",
        m.single_per_s
    ));
    out.answer(format!(
        "ledger, batches of {BATCH}      {:.0} entries/s",
        m.grouped_per_s
    ));
    Ok(Exit::Ok)
}

struct Measured {
    records: u64,
    seal: Duration,
    verify: Duration,
    /// What the disk alone takes: sealing stores every byte durably, a digest stores none.
    copy: Option<Duration>,
    sha256sum: Option<Duration>,
    openssl: Option<Duration>,
    rss_seal_kib: u64,
    rss_kib: u64,
    single_per_s: f64,
    grouped_per_s: f64,
}

fn measure(session: &Session, file: &Path, folder: &Path) -> Result<Measured, CliError> {
    // Once through the page cache, so that no program pays for the disk of another.
    let mut warm = std::fs::File::open(file).map_err(|e| CliError::usage(e.to_string()))?;
    std::io::copy(&mut warm, &mut std::io::sink())
        .map_err(|e| CliError::new(Exit::Failed, "FB1105", e.to_string()))?;
    let sha256sum = timed(Command::new("sha256sum").arg(file));
    let openssl = timed(Command::new("openssl").args(["dgst", "-sha256"]).arg(file));
    let copy = copied(file, folder);
    let custody = open(session, &folder.join("bag"), "DRILL-BENCH")?;
    let started = Instant::now();
    let mut bag = custody.open_bag("benchmark", &Refs::default())?;
    bag.add_path(file, &exhibit(file), &mut |_| {})?;
    let sealed = bag.seal()?;
    let seal = started.elapsed();
    let rss_seal_kib = peak_rss_kib();
    let source = DirSource::open(custody.place())
        .map_err(|e| CliError::new(Exit::Failed, "FB1105", e.to_string()))?;
    let given = Given {
        fingerprints: Fingerprint::parse(&custody.opened().fingerprint)
            .into_iter()
            .collect(),
        ..Given::default()
    };
    let started = Instant::now();
    let report = verify(&source, &Policy::default(), &given);
    let verify = started.elapsed();
    if report.exit != 0 {
        return Err(CliError::new(
            Exit::Internal,
            "FB1100",
            format!(
                "the benchmark's own bag does not verify: {}",
                report.verdict
            ),
        ));
    }
    let ledger = open(session, &folder.join("ledger"), "DRILL-BENCH-LEDGER")?.ledger();
    let note = || {
        Draft::new(
            kind::INCIDENT_NOTE,
            &Note {
                text: "a line of the size that entries usually have, for the benchmark".into(),
                at: None,
            },
        )
    };
    let started = Instant::now();
    for _ in 0..SINGLE {
        ledger.append(vec![note()])?;
    }
    let single_per_s = SINGLE as f64 / started.elapsed().as_secs_f64();
    let started = Instant::now();
    for _ in 0..GROUPED / BATCH {
        ledger.append((0..BATCH).map(|_| note()).collect())?;
    }
    let grouped_per_s = GROUPED as f64 / started.elapsed().as_secs_f64();
    Ok(Measured {
        records: sealed.records,
        seal,
        verify,
        copy,
        sha256sum,
        openssl,
        rss_seal_kib,
        rss_kib: peak_rss_kib(),
        single_per_s,
        grouped_per_s,
    })
}

fn open(session: &Session, folder: &Path, id: &str) -> Result<Custody, CliError> {
    let request = OpenRequest {
        id: IncidentId::parse(id)
            .map_err(|e| CliError::new(Exit::Internal, "FB1100", e.to_string()))?,
        mode: Mode::Drill,
        org: "benchmark.invalid".into(),
        targets: Vec::new(),
        policy: "solo".into(),
        trust: BTreeMap::new(),
        actor: session.actor.clone(),
    };
    Ok(Custody::create(
        store(folder)?,
        request,
        session.clock.clone(),
        session.random.clone(),
    )?)
}

fn exhibit(file: &Path) -> ExhibitDraft {
    ExhibitDraft {
        name: file
            .file_name()
            .map_or_else(|| "file".to_owned(), |n| n.to_string_lossy().into_owned()),
        description: "benchmark".into(),
        category: Category::Other,
        system: BTreeMap::new(),
        method: "read".into(),
        command: None,
        trust: None,
        volatility: 5,
    }
}

/// Wall time of a plain copy that is durable at its end.
fn copied(file: &Path, folder: &Path) -> Option<Duration> {
    std::fs::create_dir_all(folder).ok()?;
    let to = folder.join("copy");
    let started = Instant::now();
    let copy = std::fs::copy(file, &to).and_then(|_| std::fs::File::open(&to)?.sync_all());
    let took = started.elapsed();
    _ = std::fs::remove_file(&to);
    copy.ok().map(|()| took)
}

/// Wall time of a program; `None` where it is not here or fails.
fn timed(command: &mut Command) -> Option<Duration> {
    let started = Instant::now();
    let status = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .ok()?;
    status.success().then(|| started.elapsed())
}

/// The highest resident size so far, as Linux tells it; 0 elsewhere.
fn peak_rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}
