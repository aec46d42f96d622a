//! Somebody else's tools over our evidence: BagIt, sha256sum, OpenSSL, three shells, two transparency-log crates.
//!
//! A tool that is absent is named with what it needs; nothing is skipped in silence.
#![allow(missing_docs, reason = "a test crate has no reader of docs")]

mod scene;

use firebreak_evidence::checkpoint::{Checkpoint, ledger_origin};
use firebreak_evidence::encoding::{Hash, hex, sha256};
use firebreak_evidence::merkle::{self, consistency_proof, inclusion_proof, leaf_hash};
use firebreak_evidence::note::{Signer as _, key_id, parse_pem, pem, sign_note, split_note, vkey};
use firebreak_evidence::salt::Salter;
use scene::faults::{Golden, Script, all};
use scene::{BASE, pin, signer, verdict};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

/// Whether a tool answers; says what is needed if it does not.
fn has(tool: &str, arguments: &[&str]) -> bool {
    let found = Command::new(tool)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let there = found.is_ok_and(|status| status.success());
    if !there {
        println!("SKIPPED: needs `{tool} {}` to work", arguments.join(" "));
    }
    there
}

fn run<S: AsRef<OsStr>>(
    tool: &str,
    arguments: impl IntoIterator<Item = S>,
    folder: &Path,
) -> Output {
    Command::new(tool)
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap_or_else(|error| panic!("{tool}: {error}"))
}

fn good_bags() -> [PathBuf; 3] {
    ["good_vector", "good_mixed", "good_recovered"].map(|name| vectors().join(name))
}

#[test]
fn bagit_of_the_library_of_congress_accepts_the_good_bags() {
    let python = std::env::var("FIREBREAK_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    if !has(&python, &["-c", "import bagit"]) {
        println!(
            "SKIPPED: needs PyPI `bagit` (pip install bagit), by python3 or the one that FIREBREAK_PYTHON names"
        );
        return;
    }
    for bag in good_bags() {
        let out = run(
            &python,
            ["-m", "bagit", "--validate", &bag.to_string_lossy()],
            &vectors(),
        );
        assert!(
            out.status.success(),
            "{}: {}",
            bag.display(),
            String::from_utf8_lossy(&out.stderr)
        );
    }
    let out = run(
        &python,
        ["-m", "bagit", "--validate", "byte_changed"],
        &vectors(),
    );
    assert!(!out.status.success(), "it must see a changed byte too");
}

#[test]
fn sha256sum_accepts_both_manifests() {
    if !has("sha256sum", &["--version"]) {
        return;
    }
    for bag in good_bags() {
        for manifest in ["manifest-sha256.txt", "tagmanifest-sha256.txt"] {
            let out = run("sha256sum", ["-c", manifest], &bag);
            assert!(out.status.success(), "{}/{manifest}", bag.display());
        }
    }
}

#[test]
fn openssl_makes_the_same_fingerprint_and_salts_and_accepts_the_signatures() {
    if !has("openssl", &["version"]) {
        return;
    }
    let bag = vectors().join("good_vector");
    let work = scratch("openssl");
    let der = run(
        "openssl",
        ["pkey", "-pubin", "-in", "keys/log.pem", "-outform", "DER"],
        &bag,
    );
    assert_eq!(hex(&sha256(&der.stdout)), pin().hex());
    for note in ["seal/seal.note", "tlog/checkpoint"] {
        let bytes = std::fs::read(bag.join(note)).unwrap();
        let (body, lines) = split_note(&bytes).unwrap();
        let blob = firebreak_evidence::encoding::unbase64(lines[0].1).unwrap();
        std::fs::write(work.join("body"), body).unwrap();
        std::fs::write(work.join("sig"), &blob[4..]).unwrap();
        let key = bag.join("keys/log.pem");
        let key = key.to_str().unwrap();
        let out = run(
            "openssl",
            [
                "pkeyutl", "-verify", "-pubin", "-inkey", key, "-rawin", "-in", "body", "-sigfile",
                "sig",
            ],
            &work,
        );
        assert!(
            out.status.success(),
            "{note}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
    }
    let key: [u8; 32] = std::fs::read(bag.join("tlog/salt.key"))
        .unwrap()
        .try_into()
        .unwrap();
    let indexes: Vec<u8> = (0..300u128).flat_map(u128::to_be_bytes).collect();
    std::fs::write(work.join("indexes"), indexes).unwrap();
    let out = run(
        "openssl",
        [
            "enc",
            "-aes-256-ecb",
            "-nopad",
            "-K",
            &hex(&key),
            "-in",
            "indexes",
        ],
        &work,
    );
    let salter = Salter::new(&key);
    let salts: Vec<u8> = (0..300).flat_map(|i| salter.salt(i)).collect();
    assert!(out.stdout == salts, "salts differ from openssl's");
}

fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn shells() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut shells = vec![("sh", vec![])];
    for (tool, first) in [("bash", vec![]), ("dash", vec![]), ("busybox", vec!["sh"])] {
        let probe: Vec<&str> = first.iter().copied().chain(["-c", "true"]).collect();
        if has(tool, &probe) {
            shells.push((tool, first));
        }
    }
    shells
}

fn script(shell: &(&str, Vec<&str>), folder: &Path, fingerprint: &str) -> Output {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/VERIFY.sh");
    let arguments = shell.1.iter().map(|word| word.to_string());
    let rest = [
        path.to_string_lossy().into_owned(),
        folder.to_string_lossy().into_owned(),
        fingerprint.to_owned(),
    ];
    run(shell.0, arguments.chain(rest), Path::new("/"))
}

#[test]
fn the_script_agrees_with_the_verifier_or_says_not_checked_in_every_shell() {
    if !has("openssl", &["version"]) {
        return;
    }
    for shell in shells() {
        for Golden {
            name,
            files,
            exit,
            script: expected,
        } in all()
        {
            if expected == Script::NotABag {
                continue;
            }
            let out = script(&shell, &vectors().join(name), &pin().hex());
            let text = String::from_utf8_lossy(&out.stdout).into_owned();
            let code = out.status.code().unwrap_or(-1);
            match expected {
                Script::NotChecked(check) => {
                    assert_eq!(code, 0, "{} {name}\n{text}", shell.0);
                    assert!(
                        text.contains(&format!("NOT CHECKED  {check}")),
                        "{name}\n{text}"
                    );
                }
                _ => assert_eq!(code, i32::from(exit), "{} {name}\n{text}", shell.0),
            }
            assert_eq!(verdict(&files).exit, exit);
            let form = files.files.keys().any(|path| path.starts_with("forms/"));
            assert_eq!(
                text.contains("UNPROTECTED  forms/custody-form.html"),
                form,
                "{name}\n{text}"
            );
            assert!(
                text.contains("NOT CHECKED"),
                "{name}: it always says what it did not check\n{text}"
            );
            assert!(
                text.lines()
                    .last()
                    .is_some_and(|line| line.starts_with("VERDICT")),
                "{name}\n{text}"
            );
        }
    }
}

#[test]
fn the_script_reads_a_fingerprint_as_people_write_it_and_never_calls_a_slip_tampering() {
    if !has("openssl", &["version"]) {
        return;
    }
    let bag = vectors().join("good_vector");
    for shell in shells() {
        let grouped = pin().to_string().to_uppercase().replace(' ', ": ");
        for (given, code) in [
            (grouped.as_str(), 0),
            ("-", 21),
            ("", 2),
            ("824c", 2),
            ("not hex at all", 2),
        ] {
            let out = script(&shell, &bag, given);
            assert_eq!(
                out.status.code(),
                Some(code),
                "{} {given}: {}",
                shell.0,
                String::from_utf8_lossy(&out.stdout)
            );
        }
        let out = script(&shell, &bag, &"0".repeat(64));
        assert_eq!(out.status.code(), Some(6), "another key is tampering");
    }
}

#[test]
fn the_script_sees_a_sample_of_flipped_bits_in_every_file() {
    if !has("openssl", &["version"]) {
        return;
    }
    let golden = all();
    let good = golden
        .iter()
        .find(|golden| golden.name == "good_vector")
        .expect("the first one");
    let folder = scratch("flips");
    let shell = ("sh", vec![]);
    for (path, bytes) in &good.files.files {
        let file = folder.join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
    }
    for (path, bytes) in &good.files.files {
        // All of a short file would take minutes: the first and last bytes and some between.
        for at in [
            0,
            1,
            bytes.len() / 3,
            bytes.len() / 2,
            bytes.len() - 2,
            bytes.len() - 1,
        ] {
            let mut mutant = bytes.clone();
            mutant[at] ^= 1 << (at % 7);
            std::fs::write(folder.join(path), mutant).unwrap();
            let out = script(&shell, &folder, &pin().hex());
            let code = out.status.code();
            assert!(
                matches!(code, Some(6 | 24)),
                "{path} byte {at}: {code:?}\n{}",
                String::from_utf8_lossy(&out.stdout)
            );
        }
        std::fs::write(folder.join(path), bytes).unwrap();
    }
    assert_eq!(
        script(&shell, &folder, &pin().hex()).status.code(),
        Some(0),
        "nothing was left changed"
    );
}

#[test]
fn signed_note_accepts_our_notes() {
    use signed_note::{StandardVerifier, Verifier as _, VerifierList};
    for name in ["good_vector", "good_mixed"] {
        let bag = vectors().join(name);
        let vkeys = std::fs::read_to_string(bag.join("keys/log.vkey")).unwrap();
        for path in ["seal/seal.note", "tlog/checkpoint"] {
            let bytes = std::fs::read(bag.join(path)).unwrap();
            let note = signed_note::Note::from_bytes(&bytes).unwrap();
            let verifiers: Vec<Box<dyn signed_note::Verifier>> = vkeys
                .lines()
                .map(|line| {
                    Box::new(StandardVerifier::new(line).unwrap()) as Box<dyn signed_note::Verifier>
                })
                .collect();
            assert_eq!(verifiers.len(), 3);
            let (verified, _) = note.verify(&VerifierList::new(verifiers)).unwrap();
            assert_eq!(verified.len(), 1, "{name}/{path}");
        }
    }
    let verifier = StandardVerifier::new(&vkey(BASE, &signer().public_key())).unwrap();
    assert_eq!(
        verifier.key_id(),
        u32::from_be_bytes(key_id(BASE, &signer().public_key()))
    );
}

fn theirs(hash: &Hash) -> tlog_tiles::Hash {
    tlog_tiles::Hash(*hash)
}

#[test]
fn tlog_tiles_accepts_our_proofs_and_our_checkpoints() {
    let leaves: Vec<Hash> = (0..600u32).map(|i| leaf_hash(&i.to_be_bytes())).collect();
    for size in (1..=40).chain([63, 64, 65, 127, 255, 256, 257, 511, 512, 599, 600]) {
        let root = theirs(&merkle::root(&leaves[..size]));
        for index in (0..size).step_by(1 + size / 17) {
            let proof = inclusion_proof(&leaves[..size], index as u64).unwrap();
            let proof: Vec<_> = proof.iter().map(theirs).collect();
            tlog_tiles::check_record(
                &proof,
                size as u64,
                root,
                index as u64,
                theirs(&leaves[index]),
            )
            .unwrap_or_else(|error| panic!("leaf {index} of {size}: {error}"));
        }
        for old in (1..=size).step_by(1 + size / 13) {
            let proof = consistency_proof(&leaves[..size], old as u64).unwrap();
            let proof: Vec<_> = proof.iter().map(theirs).collect();
            tlog_tiles::check_tree(
                &proof,
                size as u64,
                root,
                old as u64,
                theirs(&merkle::root(&leaves[..old])),
            )
            .unwrap_or_else(|error| panic!("{old} of {size}: {error}"));
        }
    }
    let origin = ledger_origin(BASE);
    let head = Checkpoint {
        origin: origin.clone(),
        size: 600,
        root: merkle::root(&leaves),
    };
    let note = sign_note(&head.body(), &origin, &signer()).unwrap();
    let note = signed_note::Note::from_bytes(note.as_bytes()).unwrap();
    let text = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
    assert_eq!((text.size(), text.hash().0), (600, head.root));
}

#[test]
fn the_key_file_reads_back() {
    let key = signer().public_key();
    assert_eq!(parse_pem(pem(&key).as_bytes()), Some(key));
    assert_eq!(parse_pem(pem(&key).replace('\n', "\r\n").as_bytes()), None);
}
