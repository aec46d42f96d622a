//! The command line as a person meets it, without any server: words, exit codes, places, JSON.

mod support;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use firebreak::cli::exit::Exit;
use serde_json::Value;
use support::user::User;

#[test]
fn the_table_of_exit_codes_is_the_one_of_the_man_page() {
    let user = User::new("cli-exit");
    let (table, _) = user.expect(&["help", "exit-codes"], Exit::Ok);
    let (man, _) = user.expect(&["man"], Exit::Ok);
    for exit in Exit::all() {
        assert!(
            table.contains(&format!("{:>4}  {}", exit.code(), exit.meaning())),
            "{exit:?}"
        );
        assert!(man.contains(exit.meaning()), "{exit:?}");
    }
}

#[test]
fn an_incident_is_opened_noted_answered_and_closed_and_its_folder_verifies() {
    let user = User::new("cli-incident");
    let opened = user.json(
        &[
            "--json",
            "incident",
            "open",
            "odd logins",
            "--id",
            "INC-TEST-1",
        ],
        Exit::Ok,
    );
    let folder = opened["folder"].as_str().expect("folder").to_owned();
    let fingerprint = opened["fingerprint"]
        .as_str()
        .expect("fingerprint")
        .to_owned();
    user.expect(&["incident", "note", "the pager went off"], Exit::Ok);
    user.expect(
        &[
            "incident",
            "milestone",
            "occurred",
            "--at",
            "2026-11-24T21:00:00+01:00",
            "--confidence",
            "low",
        ],
        Exit::Ok,
    );
    let (log, _) = user.expect(&["log"], Exit::Ok);
    assert!(
        log.contains("the pager went off") && log.contains("ana@"),
        "{log}"
    );
    let (_, story) = user.expect(&["incident", "close"], Exit::Denied);
    assert!(story.contains("FB1110"), "{story}");
    user.expect(&["incident", "close", "--confirm", "INC-TEST-1"], Exit::Ok);
    assert!(
        !PathBuf::from(&folder).join("state/epoch.key").exists(),
        "the key is erased"
    );
    user.expect(
        &["verify", &folder, "--fingerprint", &fingerprint],
        Exit::Ok,
    );
    user.expect(&["verify", &folder], Exit::Verdict(21));
    let (_, story) = user.expect(
        &["incident", "note", "too late", "--incident", "INC-TEST-1"],
        Exit::Failed,
    );
    assert!(story.contains("closed"), "{story}");
}

#[test]
fn evidence_goes_in_by_file_folder_and_pipe_and_one_changed_byte_is_found() {
    let user = User::new("cli-evidence");
    user.expect(
        &["incident", "open", "files", "--id", "INC-TEST-2"],
        Exit::Ok,
    );
    let source = user.home.join("source");
    std::fs::create_dir_all(source.join("sub")).expect("folder");
    std::fs::write(source.join("a.log"), "one\ntwo\n").expect("file");
    std::fs::write(source.join("sub/b.bin"), [0u8, 1, 2]).expect("file");
    std::os::unix::fs::symlink("/etc/passwd", source.join("link")).expect("link");
    let log = source.join("a.log");
    user.expect(&["evidence", "open", "by hand"], Exit::Ok);
    user.expect(
        &[
            "evidence",
            "add",
            log.to_str().expect("utf-8"),
            source.to_str().expect("utf-8"),
        ],
        Exit::Ok,
    );
    let piped = {
        use std::io::Write as _;
        let mut child = user
            .command(&["evidence", "add", "-", "--name", "dmesg"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("runs");
        child
            .stdin
            .take()
            .expect("pipe")
            .write_all(b"kernel line\n")
            .expect("written");
        child.wait_with_output().expect("ends")
    };
    assert!(piped.status.success());
    user.expect(&["evidence", "seal"], Exit::Ok);
    user.expect(&["verify", "--last"], Exit::Ok);
    let bag = user.home.join("fb/INC-TEST-2/bags/INC-TEST-2_0001");
    let text = std::fs::read_to_string(bag.join("data/source/files.jsonl")).expect("listed");
    assert!(
        text.contains("\"kind\":\"link\"") && !text.contains("root:"),
        "a link is listed and not followed: {text}"
    );
    let victim = bag.join("data/a.log/00000.log");
    let mut bytes = std::fs::read(&victim).expect("read");
    bytes[0] ^= 1;
    std::fs::write(&victim, bytes).expect("write");
    let (answer, _) = user.expect(&["verify", "--last"], Exit::Tampered);
    assert!(
        answer.contains("TAMPERED at") && answer.contains("data/a.log"),
        "{answer}"
    );
}

#[test]
fn an_empty_bag_is_refused_and_a_missing_file_is_named() {
    let user = User::new("cli-empty");
    user.expect(&["incident", "open", "x", "--id", "INC-TEST-3"], Exit::Ok);
    user.expect(&["evidence", "open", "nothing"], Exit::Ok);
    let (_, story) = user.expect(&["evidence", "seal"], Exit::Usage);
    assert!(story.contains("FB1205"), "{story}");
    let (_, story) = user.expect(&["evidence", "add", "/no/such/file"], Exit::Usage);
    assert!(story.contains("/no/such/file"), "{story}");
}

#[test]
fn several_open_incidents_are_named_and_one_is_asked_for() {
    let user = User::new("cli-several");
    user.expect(&["incident", "open", "one", "--id", "INC-ONE"], Exit::Ok);
    user.expect(&["incident", "open", "two", "--id", "INC-TWO"], Exit::Ok);
    let (_, story) = user.expect(&["incident", "note", "x"], Exit::Usage);
    assert!(
        story.contains("INC-ONE") && story.contains("INC-TWO") && story.contains("--incident"),
        "{story}"
    );
    user.expect(
        &["incident", "note", "x", "--incident", "INC-TWO"],
        Exit::Ok,
    );
    let (_, story) = user.expect(
        &["incident", "open", "again", "--id", "INC-ONE"],
        Exit::Usage,
    );
    assert!(story.contains("FB1102"), "{story}");
}

#[test]
fn a_name_that_is_a_terminal_escape_is_shown_and_not_obeyed() {
    let user = User::new("cli-escape");
    user.expect(&["incident", "open", "x", "--id", "INC-ESC"], Exit::Ok);
    let file = user.home.join("evil\u{1b}[2Jname");
    std::fs::write(&file, "x\n").expect("file");
    let (answer, story) = user.expect(
        &["evidence", "add", file.to_str().expect("utf-8")],
        Exit::Ok,
    );
    let (log, _) = user.expect(&["log"], Exit::Ok);
    for text in [answer, story, log] {
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_a_clear_error_with_a_next_step() {
    let user = User::new("cli-full");
    std::fs::write(user.home.join("fb"), "a file where the folder should be").expect("file");
    let (_, story) = user.expect(&["incident", "open", "x"], Exit::Failed);
    assert!(
        story.contains("error[FB") && story.contains("hint:"),
        "{story}"
    );
}

#[test]
fn no_cluster_is_a_clear_error_and_changes_nothing() {
    let user = User::new("cli-nocluster");
    let (_, story) = user.expect(
        &["contain", "pod", "shop/web", "--confirm", "shop/web"],
        Exit::Usage,
    );
    assert!(
        story.contains("FB1208") && story.contains("--kubeconfig"),
        "{story}"
    );
    assert!(
        !user.home.join("fb").exists(),
        "no incident is opened before the cluster answers"
    );
    user.expect(&["doctor"], Exit::Failed);
}

#[test]
fn the_drill_asks_nothing_passes_and_its_bags_verify() {
    let user = User::new("cli-drill");
    let report = user.json(&["--json", "drill", "run", "security-breach"], Exit::Ok);
    assert_eq!(report["exit"], 0, "{report}");
    assert_eq!(report["objectives_met"], true);
    let fingerprint = report["fingerprint"].as_str().expect("fingerprint");
    for bag in report["bags"].as_array().expect("bags") {
        let bag = bag.as_str().expect("path");
        user.expect(&["verify", bag, "--fingerprint", fingerprint], Exit::Ok);
        let script = PathBuf::from(bag).join("VERIFY.sh");
        let out = Command::new("sh")
            .arg(&script)
            .arg(bag)
            .arg(fingerprint)
            .output()
            .expect("sh runs");
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stdout)
        );
    }
    let folder = PathBuf::from(report["incident_dir"].as_str().expect("folder"));
    for name in [
        "incident.md",
        "incident.html",
        "incident.json",
        "lessons.md",
    ] {
        let text = std::fs::read_to_string(folder.join("report").join(name)).expect("built");
        assert!(text.contains("DRILL"), "{name} says that it is a drill");
    }
}

#[test]
fn our_secrets_appear_in_no_file_and_no_output() {
    let user = User::new("cli-secrets");
    let secret = "hunter2-planted-secret";
    let run = |args: &[&str]| {
        let mut command = user.command(args);
        command
            .env(
                "FIREBREAK_WEBHOOK_URL",
                format!("https://127.0.0.1:9/{secret}"),
            )
            .env("PLANTED", secret);
        command.output().expect("runs")
    };
    let outputs = [
        run(&["config"]),
        run(&["--json", "config"]),
        run(&["drill", "run", "security-breach"]),
        run(&["log"]),
        run(&["doctor"]),
    ];
    for out in &outputs {
        let all = [out.stdout.clone(), out.stderr.clone()].concat();
        assert!(
            !String::from_utf8_lossy(&all).contains(secret),
            "{}",
            String::from_utf8_lossy(&all)
        );
    }
    let mut todo = vec![user.home.join("fb")];
    let mut key = None;
    let mut files = Vec::new();
    while let Some(folder) = todo.pop() {
        for item in std::fs::read_dir(folder).expect("readable").flatten() {
            let path = item.path();
            if path.is_dir() {
                todo.push(path);
            } else if path.ends_with("state/epoch.key") {
                key = Some(std::fs::read(path).expect("key"));
            } else {
                files.push(path);
            }
        }
    }
    let key = key.expect("the drill's key is kept until close");
    let hex: String = key.iter().map(|b| format!("{b:02x}")).collect();
    for path in files {
        let bytes = std::fs::read(&path).expect("readable");
        let holds = |needle: &[u8]| bytes.windows(needle.len()).any(|w| w == needle);
        assert!(
            !holds(secret.as_bytes()) && !holds(&key) && !holds(hex.as_bytes()),
            "{}",
            path.display()
        );
    }
}

#[test]
fn every_command_has_help_and_completions_are_made() {
    let user = User::new("cli-help");
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let (text, _) = user.expect(&["completions", shell], Exit::Ok);
        assert!(text.contains("firebreak"));
    }
    for command in [
        "doctor",
        "contain",
        "verify",
        "incident",
        "evidence",
        "log",
        "playbook",
        "report",
        "drill",
        "policy",
        "permissions",
    ] {
        user.expect(&["help", command], Exit::Ok);
    }
    user.expect(&["help", "nonsense"], Exit::Usage);
    user.expect(&["explain", "FB0602"], Exit::Ok);
    user.expect(&["explain", "FB9999"], Exit::Usage);
}

#[test]
fn the_built_in_playbooks_are_clean_and_the_schema_has_not_drifted() {
    let user = User::new("cli-playbooks");
    user.expect(
        &[
            "playbook",
            "lint",
            "contain-pod",
            "security-breach",
            "release-pod",
        ],
        Exit::Ok,
    );
    let (schema, _) = user.expect(&["playbook", "schema"], Exit::Ok);
    let committed = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/playbooks/playbook.v1.schema.json"
    ))
    .expect("committed");
    let read = |t: &str| serde_json::from_str::<Value>(t).expect("JSON");
    assert_eq!(
        read(&schema),
        read(&committed),
        "firebreak playbook schema > playbooks/playbook.v1.schema.json"
    );
}

#[test]
fn a_role_is_printed_for_every_verb() {
    let user = User::new("cli-permissions");
    for (verb, _) in firebreak::cli::command::permissions::VERBS {
        let (text, _) = user.expect(&["permissions", verb], Exit::Ok);
        assert!(
            text.contains("rbac.authorization.k8s.io/v1"),
            "{verb}: {text}"
        );
    }
    user.expect(&["permissions", "everything"], Exit::Usage);
}

#[test]
fn the_key_of_an_incident_is_never_taken_into_a_bag_and_a_bag_never_takes_itself_in() {
    let user = User::new("cli-own");
    user.expect(&["incident", "open", "x", "--id", "INC-OWN"], Exit::Ok);
    let key = user.home.join("fb/INC-OWN/state/epoch.key");
    let secret = std::fs::read(&key).expect("a key");
    let (_, story) = user.expect(
        &["evidence", "add", key.to_str().expect("utf-8")],
        Exit::Usage,
    );
    assert!(story.contains("FB1105") && story.contains("own"), "{story}");
    assert!(
        !user.home.join("fb/INC-OWN/bags/INC-OWN_0001").exists(),
        "refused before a bag was opened"
    );
    let home = user.home.to_str().expect("utf-8").to_owned();
    let (answer, _) = user.expect(&["evidence", "add", &home], Exit::Missed);
    assert!(answer.contains("left out"), "{answer}");
    let mut todo = vec![user.home.join("fb/INC-OWN/bags")];
    while let Some(at) = todo.pop() {
        if at.is_dir() {
            todo.extend(
                std::fs::read_dir(&at)
                    .expect("a folder")
                    .map(|e| e.expect("an entry").path()),
            );
        } else {
            let bytes = std::fs::read(&at).expect("a file");
            assert!(
                !bytes.windows(secret.len()).any(|w| w == secret),
                "{} holds the key",
                at.display()
            );
        }
    }
}

#[test]
fn a_verdict_is_answered_although_the_ledger_cannot_be_told() {
    let user = User::new("cli-untold");
    user.expect(&["incident", "open", "x", "--id", "INC-UNTOLD"], Exit::Ok);
    let file = user.home.join("a.log");
    std::fs::write(&file, "one\n").expect("a file");
    user.expect(
        &["evidence", "add", file.to_str().expect("utf-8")],
        Exit::Ok,
    );
    std::fs::remove_file(user.home.join("fb/INC-UNTOLD/state/epoch.key")).expect("removed");
    let (answer, story) = user.expect(&["verify", "--last"], Exit::Ok);
    assert!(answer.contains("INTACT"), "{answer}");
    assert!(story.contains("was not told"), "{story}");
    let (_, story) = user.expect(
        &["incident", "note", "y", "--incident", "INC-UNTOLD"],
        Exit::Failed,
    );
    assert!(
        story.contains("epoch.key") && !story.contains("is closed:"),
        "{story}"
    );
}

/// The stranger's own tool, built beside ours; with `cargo test -p firebreak` alone there is none.
#[test]
fn the_verifier_of_a_stranger_agrees_about_a_live_folder_and_a_changed_byte() {
    let tool = PathBuf::from(env!("CARGO_BIN_EXE_firebreak")).with_file_name("firebreak-verify");
    if !tool.is_file() {
        println!("SKIPPED firebreak-verify on a live folder: build it with --workspace");
        return;
    }
    let user = User::new("cli-stranger");
    let opened = user.json(&["--json", "incident", "open", "odd logins"], Exit::Ok);
    let text = |name: &str| opened[name].as_str().expect(name).to_owned();
    let (folder, fingerprint) = (PathBuf::from(text("folder")), text("fingerprint"));
    std::fs::write(user.home.join("note.txt"), "seen at nine").expect("a file");
    let note = user.home.join("note.txt").display().to_string();
    user.expect(&["evidence", "add", &note], Exit::Ok);
    user.expect(&["report", "build"], Exit::Ok);
    let stranger = || {
        let mut verify = Command::new(&tool);
        verify.arg(&folder).args(["--fingerprint", &fingerprint]);
        let out = verify.output().expect("it runs");
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        (out.status.code(), said)
    };
    let (code, said) = stranger();
    assert_eq!(code, Some(0), "{said}");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
    let lost = Command::new(&tool)
        .arg(&folder)
        .args(["--fingerprint", &fingerprint])
        .stdout(full.expect("Linux has /dev/full"))
        .status();
    assert_eq!(
        lost.expect("it runs").code(),
        Some(70),
        "a verdict that nobody can read is no success"
    );
    let ledger = folder.join("ledger/ledger.jsonl");
    let entries = std::fs::read_to_string(&ledger).expect("a ledger");
    let changed = entries.replacen("odd logins", "odd logons", 1);
    std::fs::write(&ledger, changed).expect("changed");
    let (code, said) = stranger();
    assert_eq!(code, Some(6), "{said}");
}

/// A drill answers 0 or 5 only: also one that Ctrl-C parked, with the command that goes on.
#[test]
fn a_drill_that_is_interrupted_says_so_answers_five_and_goes_on() {
    use std::io::{BufRead as _, BufReader, Read as _};
    let user = User::new("cli-interrupted");
    let mut drill = user.command(&["drill", "run", "security-breach", "--id", "DRILL-CUT"]);
    drill.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut drill = drill.spawn().expect("firebreak runs");
    let mut story = BufReader::new(drill.stderr.take().expect("a story"));
    let mut told = String::new();
    while !told.contains("declare") {
        assert_ne!(story.read_line(&mut told).expect("told"), 0, "{told}");
    }
    let interrupted = Command::new("kill")
        .args(["-INT", &drill.id().to_string()])
        .status();
    assert!(interrupted.expect("kill").success());
    story.read_to_string(&mut told).expect("told");
    let out = drill.wait_with_output().expect("it ends");
    let answer = String::from_utf8_lossy(&out.stdout);
    assert_eq!(out.status.code(), Some(5), "{answer}\n{told}");
    assert!(
        told.contains("press Ctrl-C again to leave at once"),
        "{told}"
    );
    assert!(told.contains("interrupted by the operator"), "{told}");
    assert!(
        answer.contains("DRILL DRILL-CUT ended early")
            && answer.contains("report      not built")
            && answer.contains("firebreak resume DRILL-CUT"),
        "{answer}"
    );
    user.expect(&["resume", "DRILL-CUT"], Exit::Ok);
}

/// A playbook of one manual step, as a file; answers its path.
fn question(user: &User, id: &str, step: &str) -> String {
    let file = user.home.join(format!("{id}.yaml"));
    let yaml = format!(
        "firebreak: playbook/v1\nid: {id}\nname: Ask\nversion: 1\ntypes: [mitigation]\nroles: {{ ic: {{ kind: individual, contact: ic }} }}\nsteps:\n  - id: {step}\n    manual: look\n    owner: ic\n"
    );
    std::fs::write(&file, yaml).expect("written");
    file.display().to_string()
}

/// Plans a file and begins the run that the plan names; answers the run.
fn begun(user: &User, file: &str) -> String {
    let planned = user.json(&["playbook", "plan", file, "--json"], Exit::Ok);
    let run = planned["plan"]["run"].as_str().expect("a run").to_owned();
    let digest = &planned["digest"].as_str().expect("a digest")[..12];
    let args = ["playbook", "apply", &run, "--confirm", digest, "--json"];
    let parked = user.json(&args, Exit::Parked);
    assert_eq!(parked["run"], run.as_str());
    run
}

#[test]
fn two_open_runs_are_told_apart_by_what_waits_in_them() {
    let user = User::new("cli-runs");
    let opened = user.json(&["incident", "open", "two runs", "--json"], Exit::Ok);
    let id = opened["incident"].as_str().expect("an id");
    let first = begun(&user, &question(&user, "one", "first"));
    let second = begun(&user, &question(&user, "two", "second"));
    let status = user.json(&["incident", "status", id, "--json"], Exit::Ok);
    let waits = &status["runs"][0]["waiting"][0];
    assert_eq!(waits["awaits"], "answer");
    let command = format!("firebreak incident answer first TEXT --incident {id} --run {first}");
    assert_eq!(waits["next"], command.as_str());
    let (text, _) = user.expect(&["incident", "status", id], Exit::Ok);
    assert!(
        text.contains("step `first` waits for an answer of ic"),
        "{text}"
    );
    for args in [&["resume"][..], &["incident", "park", "lunch"]] {
        let (_, story) = user.expect(args, Exit::Usage);
        assert!(story.contains(&first) && story.contains(&second), "{story}");
    }
    let answered = user.json(&["incident", "answer", "first", "seen", "--json"], Exit::Ok);
    assert_eq!(
        (&answered["run"], &answered["step"]),
        (&Value::from(first.as_str()), &Value::from("first"))
    );
    let (_, story) = user.expect(&["incident", "answer", "third", "seen"], Exit::Usage);
    assert!(story.contains("waits for this at step `third`"), "{story}");
    user.json(&["resume", "--run", &first, "--json"], Exit::Ok);
    let parked = user.json(&["incident", "park", "lunch", "--json"], Exit::Ok);
    assert_eq!(parked["run"], second.as_str());
    let (again, _) = user.expect(&["incident", "park", "dinner"], Exit::Ok);
    assert!(again.contains("was parked before"), "{again}");
    let begun_before = ["playbook", "apply", &second];
    let (_, story) = user.expect(&begun_before, Exit::Usage);
    assert!(
        story.contains("was started before"),
        "it is said before anybody is asked: {story}"
    );
}

#[test]
fn what_is_in_the_way_of_closing_and_what_is_next_are_said_whole() {
    let user = User::new("cli-hints");
    let open = ["incident", "open", "odd logins", "--id", "INC-HINTS"];
    let (opened, _) = user.expect(&open, Exit::Ok);
    assert!(
        opened.contains("next        firebreak contain pod NS/NAME --incident INC-HINTS"),
        "{opened}"
    );
    user.expect(&["evidence", "open", "a disk"], Exit::Ok);
    user.expect(&["evidence", "open", "another"], Exit::Ok);
    let close = ["incident", "close", "--confirm", "INC-HINTS"];
    let (_, story) = user.expect(&close, Exit::Parked);
    assert!(
        story.contains("bags 0001, 0002 are still open")
            && story.contains("evidence seal --bag 1 --incident INC-HINTS")
            && story.contains("evidence seal --bag 2 --incident INC-HINTS"),
        "{story}"
    );
    let (_, story) = user.expect(&["log", "--incident", "inc hints"], Exit::Usage);
    assert!(story.contains("hint: firebreak incident status"), "{story}");
    user.expect(&["incident", "open", "more", "--id", "INC-MORE"], Exit::Ok);
    let (_, story) = user.expect(&["log"], Exit::Usage);
    assert!(
        story.contains("FB1109") && story.contains("hint: firebreak incident status"),
        "{story}"
    );
    let (help, _) = user.expect(&["incident", "milestone", "--help"], Exit::Ok);
    for name in firebreak::incident::Milestone::ALL {
        let stated = *name != firebreak::incident::Milestone::Closed;
        assert_eq!(help.contains(name.as_str()), stated, "{name}: {help}");
    }
}

#[test]
fn closing_and_policy_answer_json_like_their_siblings() {
    let user = User::new("cli-json");
    let opened = user.json(&["incident", "open", "short", "--json"], Exit::Ok);
    let id = opened["incident"].as_str().expect("an id");
    let closed = user.json(&["incident", "close", "--confirm", id, "--json"], Exit::Ok);
    assert_eq!(
        (&closed["incident"], &closed["closed"]),
        (&opened["incident"], &Value::from(true))
    );
    let solo = user.json(&["policy", "solo", "--json"], Exit::Ok);
    assert_eq!(solo, user.json(&["policy", "show", "--json"], Exit::Ok));
}

/// Until a file is there; answers what stands in it.
fn awaited(file: &std::path::Path) -> String {
    for _ in 0..3_000 {
        match std::fs::read_to_string(file) {
            Ok(text) if text.ends_with('\n') => return text.trim().to_owned(),
            _ => std::thread::sleep(std::time::Duration::from_millis(10)),
        }
    }
    panic!("{} never came", file.display());
}

#[test]
fn a_second_interrupt_leaves_no_child_behind_that_ignores_the_polite_word() {
    use std::io::{BufRead as _, BufReader};
    use std::os::unix::fs::PermissionsExt as _;
    let user = User::new("cli-interrupt");
    user.expect(&["incident", "open", "a child"], Exit::Ok);
    let script = user.home.join("hold.sh");
    let text = "#!/bin/sh\ntrap '' TERM INT\necho $$ > \"$0.pid\"\nexec sleep 300\n";
    std::fs::write(&script, text).expect("written");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).expect("set");
    let file = user.home.join("hold.yaml");
    let yaml = format!(
        "firebreak: playbook/v1\nid: hold\nname: Hold\nversion: 1\ntypes: [mitigation]\nenv: [PATH]\nsteps:\n  - id: it\n    run: [{}]\n    effect: read\n",
        script.display()
    );
    std::fs::write(&file, yaml).expect("written");
    let file = file.display().to_string();
    let planned = user.json(&["playbook", "plan", &file, "--json"], Exit::Ok);
    let run = planned["plan"]["run"].as_str().expect("a run");
    let digest = &planned["digest"].as_str().expect("a digest")[..12];
    let mut running = user
        .command(&["playbook", "apply", run, "--confirm", digest])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("firebreak runs");
    let child = awaited(&user.home.join("hold.sh.pid"));
    let us = i32::try_from(running.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    let interrupt =
        || rustix::process::kill_process(us.expect("a pid"), rustix::process::Signal::INT);
    interrupt().expect("sent");
    let story = BufReader::new(running.stderr.take().expect("piped"));
    let mut lines = story.lines().map_while(Result::ok);
    assert!(lines.any(|l| l.contains("press Ctrl-C again")));
    interrupt().expect("sent");
    let status = running.wait().expect("it ends");
    assert_eq!(status.code(), Some(i32::from(Exit::Interrupted.code())));
    let state = || std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
    let gone = || state().is_empty() || state().contains(") Z ");
    assert!(
        (0..1_000).any(|_| gone() || {
            std::thread::sleep(std::time::Duration::from_millis(5));
            false
        }),
        "the child survived: {}",
        state()
    );
}
