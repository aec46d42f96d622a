//! The golden evidence in `vectors/`: it is what the code writes, and each folder gets its verdict.
//!
//! After a wanted change: `FIREBREAK_WRITE_VECTORS=1 cargo test -p firebreak-evidence --test vectors`.
#![allow(missing_docs, reason = "a test crate has no reader of docs")]

mod scene;

use firebreak_evidence::memory::MemorySource;
use firebreak_evidence::source::{BagSource as _, DirSource, Kind, read_all};
use firebreak_evidence::verify::{Given, Policy, verify};
use scene::faults::{Golden, Script, all};
use scene::pin;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

fn index(golden: &[Golden]) -> String {
    let mut lines = format!("# fingerprint {}\n# name\texit\tVERIFY.sh\n", pin().hex());
    for Golden {
        name, exit, script, ..
    } in golden
    {
        let script = match script {
            Script::Agrees => "agrees",
            Script::NotChecked(check) => check,
            Script::NotABag => "-",
        };
        lines += &format!("{name}\t{exit}\t{script}\n");
    }
    lines
}

fn write(golden: &[Golden]) -> std::io::Result<()> {
    for Golden { name, files, .. } in golden {
        let root = folder().join(name);
        if root.exists() {
            std::fs::remove_dir_all(&root)?;
        }
        for (path, bytes) in &files.files {
            let file = root.join(path);
            std::fs::create_dir_all(file.parent().unwrap())?;
            std::fs::write(file, bytes)?;
        }
        #[cfg(unix)]
        for path in &files.others {
            std::os::unix::fs::symlink("bagit.txt", root.join(path))?;
        }
    }
    std::fs::write(folder().join("index.tsv"), index(golden))
}

fn read(root: &Path) -> MemorySource {
    let source =
        DirSource::open(root).unwrap_or_else(|error| panic!("{}: {error}", root.display()));
    let mut found = MemorySource::default();
    for item in source.list().unwrap() {
        match item.kind {
            Kind::File => {
                _ = found.files.insert(
                    item.path.clone(),
                    read_all(&source, &item.path, u64::MAX).unwrap(),
                )
            }
            Kind::Dir => {}
            Kind::Other => found.others.push(item.path),
        }
    }
    found
}

#[test]
fn golden_evidence_is_what_the_code_writes() {
    let golden = all();
    if std::env::var_os("FIREBREAK_WRITE_VECTORS").is_some() {
        write(&golden).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(folder().join("index.tsv")).unwrap(),
        index(&golden)
    );
    for Golden { name, files, .. } in &golden {
        assert!(
            read(&folder().join(name)) == *files,
            "{name} has drifted: see the head of this file"
        );
    }
}

#[test]
fn golden_evidence_gets_its_verdict() {
    for Golden {
        name, files, exit, ..
    } in all()
    {
        let given = Given {
            fingerprints: vec![pin()],
            ..Given::default()
        };
        let report = verify(&files, &Policy::default(), &given);
        assert_eq!(report.exit, exit, "{name}\n{report}");
        if exit != 0 || name == "good_with_a_form" {
            let of_bags = report.bags.iter().flat_map(|bag| &bag.findings);
            assert!(
                report.findings.iter().chain(of_bags).next().is_some(),
                "{name}"
            );
        }
    }
}

#[test]
fn a_bag_resealed_with_another_key_is_untrusted_without_a_pin() {
    let golden = all();
    let resealed = golden
        .iter()
        .find(|golden| golden.name == "resealed_with_another_key")
        .unwrap();
    let report = verify(&resealed.files, &Policy::default(), &Given::default());
    assert_eq!(report.exit, 21, "{report}");
}
