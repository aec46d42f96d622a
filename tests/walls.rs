//! The walls between the rooms: who may know whom, read from the `use` lines and paths of the source.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Each room with the rooms it may name. `cli` and `drill` are the composition roots.
const WALLS: [(&str, &[&str]); 12] = [
    ("incident", &[]),
    ("reach", &["incident"]),
    ("playbook", &["incident", "action::registry"]),
    ("plan", &["incident", "playbook", "action::registry"]),
    ("port", &["incident", "reach"]),
    ("custody", &["incident", "port"]),
    ("action", &["incident", "reach", "port", "report"]),
    ("run", &["incident", "playbook", "plan", "action", "port"]),
    ("report", &["incident"]),
    ("adapter", &["incident", "reach", "port"]),
    (
        "drill",
        &[
            "incident", "reach", "playbook", "plan", "action", "port", "custody", "run", "report",
            "adapter",
        ],
    ),
    (
        "cli",
        &[
            "incident", "reach", "playbook", "plan", "action", "port", "custody", "run", "report",
            "adapter", "drill",
        ],
    ),
];

/// Third-party crates that only one room may name.
const ONLY: [(&str, &[&str]); 8] = [
    ("clap", &["cli"]),
    ("kube", &["adapter"]),
    ("k8s_openapi", &["adapter"]),
    ("hyper", &["adapter"]),
    ("hyper_util", &["adapter"]),
    ("hyper_rustls", &["adapter"]),
    ("tokio_postgres", &["adapter"]),
    ("tokio_postgres_rustls", &["adapter"]),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for item in std::fs::read_dir(folder).expect("readable").flatten() {
        let path = item.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// True for files that hold tests only: they may build a world of any rooms.
fn is_test(path: &Path) -> bool {
    path.components().any(|c| c.as_os_str() == "tests")
        || path
            .file_name()
            .is_some_and(|n| n == "tests.rs" || n == "fakes.rs" || n == "testing.rs")
}

/// The part before the test module, without comments.
fn code(text: &str) -> String {
    let tests = ["\n#[cfg(test)]\nmod ", "\n#[cfg(all(test"];
    let end = tests
        .iter()
        .filter_map(|t| text.find(t))
        .min()
        .unwrap_or(text.len());
    let text = &text[..end];
    text.lines()
        .filter(|l| !l.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Every `crate::a::b` that the code names, with braces spread out one level.
fn named(code: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            let inside = list.split('}').next().unwrap_or_default();
            all.extend(
                inside
                    .split(',')
                    .map(|p| p.trim().to_owned())
                    .filter(|p| !p.is_empty()),
            );
            continue;
        }
        let path: String = rest
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_' || *c == ':')
            .collect();
        all.insert(path.trim_end_matches(':').to_owned());
    }
    all
}

fn breaches(room: &str, allowed: &[&str], code: &str) -> Vec<String> {
    named(code)
        .into_iter()
        .filter(|path| {
            let first = path.split("::").next().unwrap_or_default();
            let known = WALLS.iter().any(|(r, _)| *r == first);
            let fits = allowed
                .iter()
                .any(|a| path == a || path.starts_with(&format!("{a}::")));
            known && first != room && !fits
        })
        .collect()
}

#[test]
fn no_room_names_another_against_the_order() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = BTreeMap::new();
    for (room, allowed) in WALLS {
        let mut files = Vec::new();
        sources(&root.join(room), &mut files);
        assert!(!files.is_empty(), "room {room} is empty");
        for file in files.into_iter().filter(|f| !is_test(f)) {
            let text = std::fs::read_to_string(&file).expect("readable");
            let found = breaches(room, allowed, &code(&text));
            if !found.is_empty() {
                wrong.insert(file.strip_prefix(&root).expect("below").to_owned(), found);
            }
        }
    }
    assert!(wrong.is_empty(), "against the walls: {wrong:#?}");
}

#[test]
fn sdks_and_the_command_line_stay_in_their_rooms() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut wrong = Vec::new();
    for file in files {
        let inside = file.strip_prefix(&root).expect("below").to_owned();
        let room = inside
            .components()
            .next()
            .map(|c| c.as_os_str().to_string_lossy().into_owned())
            .unwrap_or_default();
        let text = code(&std::fs::read_to_string(&file).expect("readable"));
        for (name, rooms) in ONLY {
            let uses =
                text.contains(&format!("use {name}::")) || text.contains(&format!(" {name}::"));
            // Our own folder `adapter/kube` is reached by `crate::adapter::kube`.
            if uses && !rooms.contains(&room.as_str()) {
                wrong.push(format!("{} names {name}", inside.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_check_sees_a_breach_when_there_is_one() {
    let code = "use crate::{adapter::kube, incident::Entry};\nuse crate::run::Engine;";
    assert_eq!(
        breaches("plan", &["incident"], code),
        ["adapter::kube", "run::Engine"]
    );
    assert!(
        breaches(
            "plan",
            &["incident", "action::registry"],
            "use crate::action::registry::Registry;"
        )
        .is_empty()
    );
    assert_eq!(
        breaches("plan", &["action::registry"], "use crate::action::Actions;"),
        ["action::Actions"]
    );
}
