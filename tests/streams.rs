//! Where an answer goes, and disks that are full: a failed write is said and answered with an exit code, and what was cut short is
//! finished by typing the same command again.

mod support;

use std::fs::OpenOptions;
use std::process::{Command, Output, Stdio};

use firebreak::cli::exit::Exit;

use support::user::User;

/// Every command here prints something, in each of the ways that there are to print.
const PRINTING: [&[&str]; 9] = [
    &[],
    &["explain"],
    &["--json", "explain", "FB0401"],
    &["help", "exit-codes"],
    &["--help"],
    &["--version"],
    &["completions", "bash"],
    &["man"],
    &["playbook", "schema"],
];

fn to_a_full_disk(mut command: Command) -> Output {
    let full = OpenOptions::new().write(true).open("/dev/full");
    command
        .stdout(full.expect("Linux has /dev/full"))
        .stderr(Stdio::piped())
        .output()
        .expect("it runs")
}

#[test]
fn an_answer_that_could_not_be_written_is_said_and_never_answered_with_success() {
    let user = User::new("streams-full");
    for args in PRINTING {
        let out = to_a_full_disk(user.command(args));
        let story = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{args:?}\n{story}");
        assert!(
            story.contains("error[FB1112]") && story.contains("No space left"),
            "{args:?}\n{story}"
        );
        assert!(!story.contains("panicked"), "{args:?}\n{story}");
    }
}

#[test]
fn an_error_keeps_its_own_exit_code_where_its_document_could_not_be_written() {
    let user = User::new("streams-error");
    let out = to_a_full_disk(user.command(&["--json", "explain", "FB9999"]));
    let story = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{story}");
    assert!(
        story.contains("error[FB1101]") && story.contains("error[FB1112]"),
        "{story}"
    );
}

#[test]
fn a_reader_that_went_away_is_no_failure_and_nothing_is_said_of_it() {
    let user = User::new("streams-pipe");
    for args in PRINTING {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = user.command(args);
        let out = command.stdout(writer).stderr(Stdio::piped()).output();
        let out = out.expect("it runs");
        let story = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(0), "{args:?}\n{story}");
        assert!(story.is_empty(), "{args:?}\n{story}");
    }
}

const ID: &str = "INC-FULL-1";

fn opened(name: &str) -> User {
    let user = User::new(name);
    user.expect(&["incident", "open", "odd logins", "--id", ID], Exit::Ok);
    user
}

/// Runs it where no file may grow beyond `blocks` of 512 bytes: a write fails as on a full disk, and the tool's code sees the error.
fn on_a_small_disk(user: &User, blocks: u64, args: &[&str]) -> Output {
    let plain = user.command(args);
    let mut shell = Command::new("sh");
    shell
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f \"$1\"; shift; exec \"$@\"",
            "sh",
        ])
        .arg(blocks.to_string())
        .arg(plain.get_program())
        .args(args)
        .env_clear()
        .stdin(Stdio::null());
    for (name, value) in plain.get_envs() {
        value.map(|v| shell.env(name, v));
    }
    shell.output().expect("sh runs")
}

#[test]
fn an_exhibit_that_no_longer_fits_is_a_clear_error_and_the_next_command_finishes_the_bag() {
    let user = opened("streams-exhibit");
    user.expect(&["evidence", "open", "a disk"], Exit::Ok);
    let image = user.home.join("image.raw");
    std::fs::write(&image, vec![7; 1 << 20]).expect("a file");
    let image = image.display().to_string();
    let out = on_a_small_disk(&user, 256, &["evidence", "add", &image, "--bag", "1"]);
    let story = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{story}");
    assert!(
        story.contains("error[FB1204]") && story.contains("free space"),
        "{story}"
    );
    user.expect(&["evidence", "add", &image, "--bag", "1"], Exit::Ok);
    user.expect(&["evidence", "seal", "--bag", "1"], Exit::Ok);
    let (answer, _) = user.expect(&["verify", "--last"], Exit::Verdict(22));
    assert!(answer.contains("RECOVERED TAIL"), "{answer}");
}

#[test]
fn a_seal_that_does_not_fit_is_a_clear_error_and_sealing_again_succeeds() {
    let user = opened("streams-seal");
    user.expect(&["evidence", "open", "a disk"], Exit::Ok);
    for n in 0..8 {
        let name = format!("a-name-that-makes-the-manifest-longer-{n}");
        std::fs::write(user.home.join(&name), "seen").expect("a file");
        let path = user.home.join(&name).display().to_string();
        user.expect(&["evidence", "add", &path, "--bag", "1"], Exit::Ok);
    }
    let out = on_a_small_disk(&user, 1, &["evidence", "seal", "--bag", "1"]);
    let story = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{story}");
    assert!(
        story.contains("error[FB") && story.contains("free space"),
        "{story}"
    );
    user.expect(&["evidence", "seal", "--bag", "1"], Exit::Ok);
    user.expect(&["verify", "--last"], Exit::Ok);
}

#[test]
fn an_entry_that_does_not_fit_is_a_clear_error_and_the_same_note_again_is_kept_once() {
    let user = opened("streams-entry");
    let ledger = user.home.join("fb").join(ID).join("ledger/ledger.jsonl");
    let long = "the pager went off. ".repeat(100);
    let size = std::fs::metadata(&ledger).expect("a ledger").len();
    // One block more than the ledger has: the entry begins to be written, and does not fit.
    let out = on_a_small_disk(&user, size / 512 + 2, &["incident", "note", &long]);
    let story = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{story}");
    assert!(
        story.contains("error[FB0601]") && story.contains("free space"),
        "{story}"
    );
    user.expect(&["incident", "note", &long], Exit::Ok);
    let (log, _) = user.expect(&["log", "--kind", "incident.note"], Exit::Ok);
    assert_eq!(log.lines().count(), 1, "{log}");
    user.expect(&["verify", "--last"], Exit::Ok);
}
