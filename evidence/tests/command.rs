//! `firebreak-verify` as a person or a script meets it: exit codes, and what is said.
#![allow(missing_docs, reason = "a test crate has no reader of docs")]

mod scene;

use scene::pin;
use std::path::Path;
use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_firebreak-verify"))
        .args(arguments)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors"))
        .output()
        .expect("the program runs")
}

fn code(arguments: &[&str]) -> i32 {
    run(arguments).status.code().expect("it ends by itself")
}

#[test]
fn exit_codes_are_those_of_the_verdicts() {
    let print = pin().hex();
    let with = |path: &str| code(&[path, "--fingerprint", &print]);
    assert_eq!(with("good_vector"), 0);
    assert_eq!(with("incident_good"), 0);
    assert_eq!(with("good_recovered"), 22);
    assert_eq!(with("byte_changed"), 6);
    assert_eq!(with("open_bag"), 23);
    assert_eq!(with("redacted_copy"), 24);
    assert_eq!(code(&["good_vector"]), 21);
    assert_eq!(
        code(&["good_vector", "--fingerprint", &print, "--require-anchor"]),
        20
    );
    let seal = scene::faults::seal_sha256(&scene::bag_of(&scene::incident(), 1));
    let anchored = [
        "good_vector",
        "--fingerprint",
        &print,
        "--require-anchor",
        "--expect-seal",
        &seal,
    ];
    assert_eq!(code(&anchored), 0, "the seal of the worked example");
    let head = "3:MavrW9OQIN0NkrcrPT5zFiSoRC6Kgs3KfwMz1bE/gds=";
    assert_eq!(
        code(&[
            "good_vector",
            "--fingerprint",
            &print,
            "--require-anchor",
            "--at-least",
            head
        ]),
        0
    );
    assert_eq!(
        code(&[
            "incident_good/bags/INC-2031_0002",
            "--fingerprint",
            &print,
            "--ledger",
            "incident_good"
        ]),
        0
    );
}

#[test]
fn a_slip_of_the_reader_is_usage_and_never_a_verdict() {
    for arguments in [
        &["good_vector", "--fingerprint", "824c"][..],
        &["good_vector", "--fingerprint"],
        &["good_vector", "--expect-seal", "x"],
        &["good_vector", "--at-least", "3"],
        &["good_vector", "--fingreprint", "824c"],
        &["no-such-folder"],
        &[],
        &["good_vector", "good_mixed"],
    ] {
        let out = run(arguments);
        assert_eq!(out.status.code(), Some(2), "{arguments:?}");
        assert!(!String::from_utf8_lossy(&out.stdout).contains("VERDICT"));
    }
    assert_eq!(code(&["--help"]), 0);
}

#[test]
fn a_grouped_upper_case_fingerprint_is_read() {
    let grouped = pin().to_string().to_uppercase();
    assert_eq!(code(&["good_vector", "--fingerprint", &grouped]), 0);
}

#[test]
fn a_file_is_an_unsupported_copy() {
    let out = run(&["index.tsv"]);
    assert_eq!(out.status.code(), Some(24));
    assert!(String::from_utf8_lossy(&out.stderr).contains("unsupported copy"));
}

#[test]
fn json_and_text_agree() {
    let print = pin().hex();
    let out = run(&["byte_changed", "--fingerprint", &print, "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).expect("it is JSON");
    assert_eq!(
        (json["exit"].as_i64(), out.status.code()),
        (Some(6), Some(6))
    );
    let text = run(&["byte_changed", "--fingerprint", &print]);
    let text = String::from_utf8(text.stdout).expect("ASCII");
    assert!(
        text.contains(&format!(
            "VERDICT {} (exit 6)",
            json["verdict"].as_str().expect("words")
        )),
        "{text}"
    );
    assert_eq!(json["verdict"], "TAMPERED at data/auth.log/00000.log");
}

#[test]
fn the_worked_example_of_the_readme_is_the_golden_bag() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"))
        .expect("it is here");
    let bag = scene::bag_of(&scene::incident(), 1);
    let seal = String::from_utf8(bag.files["seal/seal.note"].clone()).expect("UTF-8");
    assert!(readme.contains(&seal), "the seal in the README has drifted");
    assert!(
        readme.contains(&scene::faults::seal_sha256(&bag)),
        "its SHA-256 has"
    );
    assert!(readme.contains(&pin().hex()));
}
