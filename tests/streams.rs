//! Where an answer goes, and disks that are full: a failed write is said and answered with an exit code, and what was cut short is
//! finished by typing the same command again.

mod support;

use std::fs::OpenOptions;
use std::process::{Command, Output, Stdio};

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
