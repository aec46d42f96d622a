//! `kill -9` after every ledger entry of the breach playbook, and after every effect in the simulated cluster: `resume` ends in the same
//! state, nothing is done twice, and the bags verify. Needs the feature `fault`.
#![cfg(feature = "fault")]

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

use firebreak_evidence::note::Fingerprint;
use firebreak_evidence::source::DirSource;
use firebreak_evidence::verify::{Given, Policy, verify};
use serde_json::Value;

const ID: &str = "DRILL-CRASH";
const SIGKILL: i32 = 9;
/// Label of a contained pod.
const QUARANTINE: &str = "firebreak/quarantine";

/// A home of its own that goes away.
struct Home(PathBuf);

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Home {
    fn new(name: &str) -> Self {
        static HOMES: AtomicU64 = AtomicU64::new(0);
        let n = HOMES.fetch_add(1, Ordering::Relaxed);
        // A killed process loses nothing that it gave to the system: memory serves as well as a disk here, and needs no syncs.
        let memory = Path::new("/dev/shm");
        let root = if memory.is_dir() {
            memory.to_owned()
        } else {
            std::env::temp_dir()
        };
        let place = root.join(format!("firebreak-crash-{}-{n}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&place);
        std::fs::create_dir_all(&place).expect("home");
        Home(place)
    }
    fn firebreak(&self, args: &[&str], fault: Option<&str>) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firebreak"));
        command
            .args(args)
            .env_clear()
            .env("HOME", &self.0)
            .env("FIREBREAK_HOME", &self.0)
            .env("USER", "crash");
        if let Some(fault) = fault {
            command.env("FIREBREAK_FAULT", fault);
        }
        command.output().expect("firebreak runs")
    }
    fn drill(&self, fault: Option<&str>) -> Output {
        self.firebreak(
            &["drill", "run", "security-breach", "--id", ID, "--json"],
            fault,
        )
    }
    fn resume(&self, fault: Option<&str>) -> Output {
        self.firebreak(&["resume", "--incident", ID, "--json"], fault)
    }
    fn incident(&self) -> PathBuf {
        self.0.join(ID)
    }
    fn entries(&self) -> Vec<Value> {
        let text =
            std::fs::read_to_string(self.incident().join("ledger/ledger.jsonl")).expect("ledger");
        text.lines()
            .map(|l| serde_json::from_str(l).expect("an entry"))
            .collect()
    }
    fn world(&self) -> Value {
        let bytes = std::fs::read(self.incident().join("state/sim-world.json")).expect("world");
        serde_json::from_slice(&bytes).expect("a world")
    }
}

/// What a drill leaves of the world, without names and ids that are new each time.
fn end_state(world: &Value) -> BTreeMap<&'static str, Vec<String>> {
    let cluster = &world["cluster"];
    let all = |list: &str| cluster[list].as_array().cloned().unwrap_or_default();
    let keys = |labels: &Value| {
        labels
            .as_object()
            .map(|m| m.keys().cloned().collect::<Vec<_>>().join(","))
            .unwrap_or_default()
    };
    let mut pods: Vec<String> = all("pods")
        .iter()
        .map(|p| {
            let name = p["name"].as_str().unwrap_or_default();
            let stem = name.rsplit_once('-').map_or(name, |(stem, _)| stem);
            let owner = p["owner"]["name"].as_str().unwrap_or("nobody");
            format!(
                "{}/{stem} of {owner} with {}",
                p["namespace"].as_str().unwrap_or_default(),
                keys(&p["labels"])
            )
        })
        .collect();
    pods.sort();
    let policies = all("policies")
        .iter()
        .map(|p| {
            let name = p["name"].as_str().unwrap_or_default();
            let ours = name.starts_with("firebreak-");
            format!(
                "{}/{}",
                p["namespace"].as_str().unwrap_or_default(),
                if ours { "ours" } else { name }
            )
        })
        .collect();
    let nodes = all("nodes")
        .iter()
        .map(|n| {
            format!(
                "{} {} {}",
                n["name"],
                n["unschedulable"],
                n["taints"].as_array().map_or(0, Vec::len)
            )
        })
        .collect();
    let namespaces = cluster["namespaces"]
        .as_object()
        .map(|m| m.keys().cloned().collect())
        .unwrap_or_default();
    BTreeMap::from([
        ("pods", pods),
        ("policies", policies),
        ("nodes", nodes),
        ("namespaces", namespaces),
    ])
}

/// Steps with the outcome that the ledger holds last.
fn outcomes(entries: &[Value]) -> BTreeMap<String, String> {
    entries
        .iter()
        .filter(|e| e["kind"] == "step.finished")
        .map(|e| (text(&e["refs"]["step"]), text(&e["body"]["outcome"])))
        .collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Each attempt of a step ends at most once, and an effect that was seen to be written is never intended again.
fn nothing_is_done_twice(entries: &[Value]) -> Result<(), String> {
    let mut ended = BTreeSet::new();
    for e in entries.iter().filter(|e| e["kind"] == "step.finished") {
        let attempt = (text(&e["refs"]["step"]), e["refs"]["attempt"].to_string());
        if !ended.insert(attempt.clone()) {
            return Err(format!("{attempt:?} ended twice"));
        }
    }
    let mut written = BTreeSet::new();
    for e in entries.iter().filter(|e| e["kind"] == "contain.write_seen") {
        let body = &e["body"];
        // Canaries come and go; what stays is written once.
        if body["verdict"] != "written" || body["object"]["namespace"] == "firebreak-hands" {
            continue;
        }
        let write = (
            text(&e["refs"]["step"]),
            text(&body["what"]),
            text(&body["object"]["name"]),
            body["reversal"].to_string(),
        );
        if !written.insert(write.clone()) {
            return Err(format!("{write:?} was written twice"));
        }
    }
    Ok(())
}

/// Verdict of ledger and bags.
fn verdict(incident: &Path, entries: &[Value]) -> (u8, String) {
    let fingerprint =
        Fingerprint::parse(&text(&entries[0]["body"]["fingerprint"])).expect("fingerprint");
    let given = Given {
        fingerprints: vec![fingerprint],
        ..Given::default()
    };
    let report = verify(
        &DirSource::open(incident).expect("folder"),
        &Policy::default(),
        &given,
    );
    (
        report.exit,
        format!("{}: {:#?}", report.verdict, report.findings),
    )
}

/// A drill that nobody disturbed: entries, outcomes and what it left.
struct Clean {
    entries: usize,
    outcomes: BTreeMap<String, String>,
    state: BTreeMap<&'static str, Vec<String>>,
}

fn clean() -> &'static Clean {
    static CLEAN: OnceLock<Clean> = OnceLock::new();
    CLEAN.get_or_init(play_clean)
}

fn play_clean() -> Clean {
    let home = Home::new("clean");
    let output = home.drill(None);
    assert!(output.status.success(), "{output:?}");
    let entries = home.entries();
    assert_eq!(verdict(&home.incident(), &entries).0, 0);
    let world = home.world();
    let target = world["cluster"]["pods"]
        .as_array()
        .expect("pods")
        .iter()
        .filter(|p| p["labels"][QUARANTINE].is_string())
        .count();
    assert_eq!(target, 1, "one pod is contained");
    Clean {
        entries: entries.len(),
        outcomes: outcomes(&entries),
        state: end_state(&world),
    }
}

/// Kills a drill at a point and resumes it. `Ok(false)` when the point was never reached.
fn killed_and_resumed(clean: &Clean, fault: &str, second: Option<&str>) -> Result<bool, String> {
    let home = Home::new(&fault.replace('=', "-"));
    let first = home.drill(Some(fault));
    let killed = first.status.signal() == Some(SIGKILL);
    if !killed && !first.status.success() {
        return Err(format!("neither killed nor well: {first:?}"));
    }
    if killed {
        if let Some(second) = second {
            let again = home.resume(Some(second));
            if again.status.signal() != Some(SIGKILL) && !again.status.success() {
                return Err(format!(
                    "the second life was neither killed nor well: {again:?}"
                ));
            }
        }
        let resumed = home.resume(None);
        if !resumed.status.success() {
            let said = String::from_utf8_lossy(&resumed.stderr).into_owned();
            let answer = String::from_utf8_lossy(&resumed.stdout).into_owned();
            return Err(format!("resume: {} \n{said}\n{answer}", resumed.status));
        }
    }
    let entries = home.entries();
    nothing_is_done_twice(&entries)?;
    let (exit, said) = verdict(&home.incident(), &entries);
    if !matches!(exit, 0 | 22) {
        return Err(format!("verdict {exit}: {said}"));
    }
    if outcomes(&entries) != clean.outcomes {
        return Err(format!("outcomes differ: {:#?}", outcomes(&entries)));
    }
    let state = end_state(&home.world());
    if state != clean.state {
        return Err(format!(
            "the world differs: {state:#?}\nnot {:#?}",
            clean.state
        ));
    }
    Ok(killed)
}

/// Tries every point, a few at a time, and tells all that failed.
fn at_every_point(clean: &Clean, points: &[(String, Option<String>)]) -> u64 {
    let next = Mutex::new(points.iter());
    let failed = Mutex::new(Vec::new());
    let kills = AtomicU64::new(0);
    let workers = std::thread::available_parallelism()
        .map_or(2, usize::from)
        .min(8);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let point = next.lock().expect("points").next();
                    let Some((fault, second)) = point else { return };
                    match killed_and_resumed(clean, fault, second.as_deref()) {
                        Ok(killed) => _ = kills.fetch_add(u64::from(killed), Ordering::Relaxed),
                        Err(why) => failed
                            .lock()
                            .expect("failed")
                            .push(format!("{fault} {second:?}: {why}")),
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("failed");
    assert!(
        failed.is_empty(),
        "{} of {} points:\n{}",
        failed.len(),
        points.len(),
        failed.join("\n\n")
    );
    kills.into_inner()
}

#[test]
fn a_drill_that_is_killed_after_any_ledger_entry_resumes_to_the_same_end() {
    let clean = clean();
    let points: Vec<_> = (0..clean.entries)
        .map(|n| (format!("kill-after-entry={n}"), None))
        .collect();
    let kills = at_every_point(clean, &points);
    // Parallel steps may save an entry or two; that the points were really reached is what this says.
    assert!(
        kills + 3 >= clean.entries as u64,
        "{kills} kills of {} entries",
        clean.entries
    );
}

#[test]
fn a_drill_that_is_killed_after_any_effect_observes_it_and_does_not_repeat_it() {
    let clean = clean();
    let points: Vec<_> = (1..=24)
        .map(|n| (format!("kill-after-effect={n}"), None))
        .collect();
    let kills = at_every_point(clean, &points);
    assert!(kills >= 3, "{kills} kills");
}

#[test]
fn a_drill_that_is_killed_again_while_it_resumes_still_ends_the_same() {
    let clean = clean();
    let points: Vec<_> = (10..clean.entries)
        .step_by(9)
        .map(|n| {
            (
                format!("kill-after-entry={n}"),
                Some(format!("kill-after-entry={}", n + 3)),
            )
        })
        .collect();
    at_every_point(clean, &points);
}

/// The seal of a bag is on disk and its entry is not: the bag that is sealed next must name that seal as the one before.
#[test]
fn a_bag_that_is_killed_between_its_seal_and_its_entry_forks_no_line_of_seals() {
    for finish in [
        &["evidence", "add"][..],
        &["evidence", "seal", "--bag", "2"],
    ] {
        let home = Home::new("seal-untold");
        let run = |args: &[&str], fault| home.firebreak(args, fault);
        let well = |output: &Output| assert!(output.status.success(), "{output:?}");
        let file = home.0.join("a.log");
        std::fs::write(&file, "one\n").expect("a file");
        let file = file.to_str().expect("utf-8");
        well(&run(&["incident", "open", "x", "--id", ID], None));
        for _ in 0..2 {
            well(&run(&["evidence", "open", "by hand"], None));
        }
        for bag in ["1", "2"] {
            well(&run(&["evidence", "add", file, "--bag", bag], None));
        }
        let killed = run(
            &["evidence", "seal", "--bag", "1"],
            Some("kill-at=seal-untold"),
        );
        assert_eq!(killed.status.signal(), Some(SIGKILL), "{killed:?}");
        let mut last = finish.to_vec();
        if finish.len() == 2 {
            // A process that has no bag by hand opens one of its own.
            well(&run(&["evidence", "seal", "--bag", "2"], None));
            last.push(file);
        }
        well(&run(&last, None));
        let entries = home.entries();
        let sealed: Vec<_> = entries
            .iter()
            .filter(|e| e["kind"] == "bag.sealed")
            .collect();
        assert_eq!(sealed[0]["body"]["bag"], "0001");
        assert_eq!(sealed[0]["body"]["late"], true);
        let (exit, said) = verdict(&home.incident(), &entries);
        assert_eq!(exit, 0, "{said}");
    }
}
