//! What a person meets when keys, heads, pinned files or folders are not as they were left: words, exit codes, what is left.

mod support;

use std::path::Path;
use std::process::{Command, Stdio};

use firebreak::cli::exit::Exit;
use serde_json::Value;
use support::user::User;

/// A user with one incident and one sealed bag.
fn with_a_bag(name: &str, id: &str) -> User {
    let user = User::new(name);
    user.expect(&["incident", "open", "x", "--id", id], Exit::Ok);
    let file = user.home.join("a.log");
    std::fs::write(&file, "one\n").expect("a file");
    user.expect(&["evidence", "add", utf8(&file)], Exit::Ok);
    user
}

fn utf8(path: &Path) -> &str {
    path.to_str().expect("utf-8")
}

fn state_of<'a>(report: &'a Value, check: &str) -> &'a str {
    let checks = report["checks"].as_array().expect("checks");
    let one = checks.iter().find(|c| c["id"] == check).expect("the check");
    one["state"].as_str().expect("a state")
}

#[test]
fn a_pinned_file_that_was_changed_fails_verification_and_nothing_goes_on_from_it() {
    let user = User::new("custody-pins");
    let run = [
        "drill",
        "run",
        "security-breach",
        "--id",
        "DRILL-PINS",
        "--json",
    ];
    user.expect(&run, Exit::Ok);
    let folder = user.home.join("fb/DRILL-PINS");
    let plain = ["verify", utf8(&folder), "--json"];
    let good = user.json(&plain, Exit::Verdict(21));
    assert_eq!(state_of(&good["report"], "C21"), "PASSED");
    let mut trust: Vec<_> = std::fs::read_dir(folder.join("trust"))
        .expect("trust")
        .map(|e| e.expect("an entry").path())
        .collect();
    trust.sort();
    assert!(
        trust.len() >= 4,
        "signers, people, playbook, plan: {trust:?}"
    );
    for path in trust {
        let was = std::fs::read(&path).expect("read");
        std::fs::write(&path, [&was[..], b"\n"].concat()).expect("written");
        let bad = user.json(&plain, Exit::Tampered);
        assert_eq!(
            state_of(&bad["report"], "C21"),
            "FAILED",
            "{}",
            path.display()
        );
        std::fs::write(&path, was).expect("written");
    }
    let signers = folder.join("trust/allowed_signers");
    std::fs::write(&signers, "intruder ssh-ed25519 AAAA\n").expect("written");
    let (_, story) = user.expect(&["resume", "--incident", "DRILL-PINS"], Exit::Tampered);
    assert!(
        story.contains("FB0604") && story.contains("allowed_signers"),
        "{story}"
    );
}

#[test]
fn damaged_heads_are_called_tampering_and_the_folder_is_verified_all_the_same() {
    let user = with_a_bag("custody-heads", "INC-HEADS");
    std::fs::write(user.home.join("fb/INC-HEADS/state/heads.json"), "{\"cut").expect("written");
    let (_, story) = user.expect(&["incident", "note", "y"], Exit::Tampered);
    assert!(story.contains("FB0604"), "{story}");
    for which in [
        &["verify", "--last"][..],
        &["verify", "--incident", "INC-HEADS"],
    ] {
        let (answer, story) = user.expect(which, Exit::Tampered);
        assert!(
            answer.contains("VERDICT") && answer.contains("C13"),
            "{answer}"
        );
        assert!(story.contains("FB0604"), "{story}");
    }
}

#[test]
fn a_key_that_is_no_key_and_a_ledger_that_does_not_open_still_get_a_verdict() {
    let user = with_a_bag("custody-unopened", "INC-UNOPENED");
    let folder = user.home.join("fb/INC-UNOPENED");
    std::fs::write(folder.join("state/epoch.key"), "short").expect("written");
    let (answer, story) = user.expect(&["verify", "--last"], Exit::Tampered);
    assert!(
        answer.contains("VERDICT") && story.contains("epoch.key"),
        "{answer}{story}"
    );
    std::fs::write(folder.join("ledger/ledger.jsonl"), "").expect("written");
    for which in [
        &["verify", "--last"][..],
        &["verify", "--incident", "INC-UNOPENED"],
        &["verify", utf8(&folder)],
    ] {
        let (answer, _) = user.expect(which, Exit::Tampered);
        assert!(answer.contains("VERDICT"), "{answer}");
    }
}

#[test]
fn an_open_incident_without_its_key_is_listed_with_what_is_wrong() {
    let user = with_a_bag("custody-keyless", "INC-KEYLESS");
    std::fs::remove_file(user.home.join("fb/INC-KEYLESS/state/epoch.key")).expect("removed");
    let (board, _) = user.expect(&[], Exit::Ok);
    assert!(
        board.contains("INC-KEYLESS")
            && board.contains("epoch.key")
            && board.contains("firebreak verify"),
        "{board}"
    );
    let document = user.json(&["--json"], Exit::Ok);
    let wrong = document["incidents"][0]["wrong"]
        .as_str()
        .expect("what is wrong");
    assert!(wrong.contains("epoch.key"), "{wrong}");
    let (_, story) = user.expect(&["incident", "note", "y"], Exit::Usage);
    assert!(
        story.contains("INC-KEYLESS") && story.contains("epoch.key"),
        "{story}"
    );
    // It stands in nobody's way.
    user.expect(&["incident", "open", "y", "--id", "INC-NEXT"], Exit::Ok);
    user.expect(&["incident", "note", "z"], Exit::Ok);
}

#[test]
fn a_line_break_in_a_path_or_a_note_makes_no_line_of_its_own() {
    let user = with_a_bag("custody-breaks", "INC-BREAKS");
    let forged = "x\nINC-BREAKS/E-0099  7 bytes  /etc/shadow";
    let path = user.home.join("x\nerror[FB0000]: forged");
    std::fs::write(&path, "one\n").expect("a file");
    let (answer, _) = user.expect(&["evidence", "add", utf8(&path)], Exit::Ok);
    assert!(!answer.lines().any(|l| l.starts_with("error[")), "{answer}");
    let (answer, _) = user.expect(
        &["evidence", "add", utf8(&path), "--description", forged],
        Exit::Ok,
    );
    assert!(
        !answer.lines().any(|l| l.starts_with("INC-BREAKS/E-0099")),
        "{answer}"
    );
    user.expect(
        &[
            "incident",
            "note",
            "said\n    0  2026-01-01T00:00:00.000Z  forged",
        ],
        Exit::Ok,
    );
    let (log, _) = user.expect(&["log"], Exit::Ok);
    assert!(
        !log.lines()
            .any(|l| l.trim_start().starts_with("0  2026-01-01")),
        "{log}"
    );
    assert!(log.contains("said\\u{a}"), "{log}");
    let missing = user.home.join("none\nerror[FB0000]: forged");
    let (_, story) = user.expect(&["evidence", "add", utf8(&missing)], Exit::Usage);
    assert!(
        !story.lines().any(|l| l.starts_with("error[FB0000]")),
        "{story}"
    );
}

#[test]
fn what_may_never_end_is_refused_before_a_bag_is_opened_and_listed_inside_a_folder() {
    let user = User::new("custody-endless");
    user.expect(&["incident", "open", "x", "--id", "INC-ENDLESS"], Exit::Ok);
    let folder = user.home.join("source");
    std::fs::create_dir_all(&folder).expect("a folder");
    let pipe = folder.join("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .expect("mkfifo")
            .success()
    );
    let _socket = std::os::unix::net::UnixListener::bind(folder.join("s")).expect("a socket");
    std::fs::write(folder.join("a"), "one\n").expect("a file");
    for path in [utf8(&pipe), utf8(&folder.join("s")), "/dev/zero"] {
        let (_, story) = user.expect(&["evidence", "add", path], Exit::Usage);
        assert!(
            story.contains("FB1105") && story.contains("nothing was taken in"),
            "{story}"
        );
    }
    assert!(
        !user.home.join("fb/INC-ENDLESS/bags").exists(),
        "no bag was opened"
    );
    user.expect(&["evidence", "add", utf8(&folder)], Exit::Ok);
    let list = user
        .home
        .join("fb/INC-ENDLESS/bags/INC-ENDLESS_0001/data/source/files.jsonl");
    let list = std::fs::read_to_string(list).expect("the list");
    assert!(
        list.contains("\"fifo\"") && list.contains("\"socket\""),
        "{list}"
    );
}

/// A file-size limit is a disk that is full after so many blocks.
fn on_a_small_disk(user: &User, blocks: u32, args: &str) -> (Option<i32>, String) {
    let firebreak = env!("CARGO_BIN_EXE_firebreak");
    let line = format!("trap '' XFSZ; ulimit -f {blocks}; exec {firebreak} {args}");
    let mut command = user.command(&[]);
    let environment: Vec<_> = command
        .get_envs()
        .filter_map(|(k, v)| Some((k.to_owned(), v?.to_owned())))
        .collect();
    let out = Command::new("sh")
        .args(["-c", &line])
        .env_clear()
        .envs(environment)
        .stdin(Stdio::null())
        .output()
        .expect("sh runs");
    _ = command.stdin(Stdio::null());
    (
        out.status.code(),
        String::from_utf8_lossy(&out.stderr).into_owned(),
    )
}

#[test]
fn a_full_disk_before_the_first_entry_leaves_no_half_made_incident() {
    let user = User::new("custody-full");
    let root = user.home.join("fb");
    for blocks in [0, 1] {
        for (args, id) in [
            ("incident open x --id INC-FULL", "INC-FULL"),
            ("drill run security-breach --id DRILL-FULL", "DRILL-FULL"),
        ] {
            let (code, story) = on_a_small_disk(&user, blocks, args);
            assert_eq!(code, Some(1), "{story}");
            assert!(!root.join(id).exists(), "{args}, {blocks} blocks: {story}");
        }
    }
    // A folder that was there before is finished by typing the same again.
    let half = root.join("INC-FULL/ledger");
    std::fs::create_dir_all(&half).expect("a folder");
    std::fs::write(half.join("ledger.jsonl"), "{\"actor\":{\"cut").expect("written");
    let (code, story) = on_a_small_disk(&user, 1, "incident open x --id INC-FULL");
    assert_eq!(code, Some(1), "{story}");
    user.expect(&["incident", "open", "x", "--id", "INC-FULL"], Exit::Ok);
    user.expect(&["verify", "--last"], Exit::Ok);
}

#[test]
fn an_emptied_ledger_is_never_opened_anew_over_its_key() {
    let user = with_a_bag("custody-emptied", "INC-EMPTIED");
    let folder = user.home.join("fb/INC-EMPTIED");
    let key = std::fs::read(folder.join("state/epoch.key")).expect("a key");
    std::fs::write(folder.join("ledger/ledger.jsonl"), "").expect("written");
    let (_, story) = user.expect(
        &["incident", "open", "x", "--id", "INC-EMPTIED"],
        Exit::Tampered,
    );
    assert!(story.contains("FB0604"), "{story}");
    assert_eq!(
        std::fs::read(folder.join("state/epoch.key")).expect("a key"),
        key
    );
}

const ONE_NOTE: &str = "firebreak: playbook/v1\nid: one\nname: One\nversion: 1\ntypes: [mitigation]\nsteps:\n  - id: it\n    note: seen\n";

#[test]
fn an_ended_run_whose_playbook_was_changed_is_called_tampered_with() {
    let user = User::new("custody-ended");
    user.expect(&["incident", "open", "x", "--id", "INC-ENDED"], Exit::Ok);
    let book = user.home.join("one.yaml");
    std::fs::write(&book, ONE_NOTE).expect("a playbook");
    let planned = user.json(&["playbook", "plan", utf8(&book), "--json"], Exit::Ok);
    let run = planned["plan"]["run"].as_str().expect("a run");
    let digest = &planned["digest"].as_str().expect("a digest")[..12];
    user.expect(&["playbook", "apply", run, "--confirm", digest], Exit::Ok);
    let sha256 = planned["plan"]["playbook_sha256"].as_str().expect("sha256");
    let pinned = user.home.join(format!("fb/INC-ENDED/trust/{sha256}.yaml"));
    std::fs::write(pinned, "changed").expect("written");
    let undo = ["playbook", "undo", "it", "--confirm", "INC-ENDED"];
    let (_, story) = user.expect(&undo, Exit::Tampered);
    assert!(story.contains("FB0604"), "{story}");
}

#[test]
fn an_incident_that_another_process_opens_is_left_to_it() {
    let user = User::new("custody-two");
    let folder = user.home.join("fb/INC-TWO");
    std::fs::create_dir_all(folder.join("state")).expect("a folder");
    let lock = std::fs::File::create(folder.join("state/opening.lock")).expect("a lock");
    lock.try_lock().expect("nobody has it");
    let open = ["incident", "open", "x", "--id", "INC-TWO"];
    let (_, story) = user.expect(&open, Exit::TryAgain);
    assert!(story.contains("FB0603"), "{story}");
    assert!(folder.join("state/opening.lock").exists(), "it is not ours");
    drop(lock);
    user.expect(&open, Exit::Ok);
}

#[test]
fn an_incident_whose_opening_was_cut_after_its_first_entry_is_finished_by_the_same_command() {
    let id = firebreak::incident::IncidentId::parse("INC-HALF").expect("an id");
    let user = User::new("custody-half");
    let folder = user.home.join("fb/INC-HALF");
    let request = firebreak::custody::OpenRequest {
        id: id.clone(),
        mode: firebreak::incident::Mode::Live,
        org: "example.org".into(),
        targets: Vec::new(),
        policy: "solo".into(),
        trust: std::collections::BTreeMap::new(),
        actor: firebreak::incident::Actor::person("ana"),
    };
    let store = firebreak::adapter::store::DirStore::open(&folder).expect("a folder");
    let custody = firebreak::custody::Custody::create(
        Box::new(store),
        request,
        std::sync::Arc::new(firebreak::port::HostClock::new()),
        std::sync::Arc::new(firebreak::port::HostRandom),
    );
    drop(custody.expect("its first entry"));
    let open = ["incident", "open", "odd logins", "--id", "INC-HALF"];
    user.expect(&open, Exit::Ok);
    let (board, _) = user.expect(&[], Exit::Ok);
    assert!(
        board.contains("odd logins") && board.contains("declared"),
        "{board}"
    );
    user.expect(&["verify", "--last"], Exit::Ok);
    let (_, story) = user.expect(&open, Exit::Usage);
    assert!(story.contains("FB1102"), "{story}");
}
