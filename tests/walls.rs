//! The walls between the rooms: who may know whom, read from the `use` lines and paths of the source.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

/// Each room with the rooms it may name. `cli` and `drill` are the composition roots.
const WALLS: [(&str, &[&str]); 14] = [
    ("incident", &[]),
    ("reach", &["incident"]),
    ("condition", &[]),
    ("rotation", &["incident", "condition", "port"]),
    ("playbook", &["incident", "condition", "action::registry"]),
    ("plan", &["incident", "playbook", "action::registry"]),
    ("port", &["incident", "reach"]),
    ("custody", &["incident", "port"]),
    (
        "action",
        &[
            "incident",
            "condition",
            "reach",
            "rotation",
            "port",
            "report",
        ],
    ),
    ("run", &["incident", "playbook", "plan", "action", "port"]),
    ("report", &["incident", "rotation"]),
    ("adapter", &["incident", "reach", "port"]),
    (
        "drill",
        &[
            "incident", "reach", "rotation", "playbook", "plan", "action", "port", "custody",
            "run", "report", "adapter",
        ],
    ),
    (
        "cli",
        &[
            "incident", "reach", "rotation", "playbook", "plan", "action", "port", "custody",
            "run", "report", "adapter", "drill",
        ],
    ),
];

/// Third-party crates that only one room may name.
const ONLY: [(&str, &[&str]); 26] = [
    ("aws_config", &["adapter"]),
    ("aws_credential_types", &["adapter"]),
    ("aws_sdk_account", &["adapter"]),
    ("aws_sdk_cloudtrail", &["adapter"]),
    ("aws_sdk_iam", &["adapter"]),
    ("aws_sdk_s3", &["adapter"]),
    ("aws_sdk_secretsmanager", &["adapter"]),
    ("aws_sdk_sts", &["adapter"]),
    ("aws_smithy_http_client", &["adapter"]),
    ("aws_smithy_runtime_api", &["adapter"]),
    ("aws_smithy_types", &["adapter"]),
    ("aws_types", &["adapter"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("kube", &["adapter"]),
    ("k8s_openapi", &["adapter"]),
    ("http_body_util", &["adapter"]),
    ("hyper", &["adapter"]),
    ("hyper_util", &["adapter"]),
    ("hyper_rustls", &["adapter"]),
    ("rustls", &["adapter"]),
    ("rustls_native_certs", &["adapter"]),
    ("tokio_rustls", &["adapter"]),
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

/// The module that a file is: `cli/command/log.rs` is `cli::command::log`.
fn module(inside: &Path) -> Vec<String> {
    let path = inside.with_extension("");
    let mut parts: Vec<String> = path
        .components()
        .map(|c| c.as_os_str().to_string_lossy().into_owned())
        .collect();
    if parts.last().is_some_and(|p| p == "mod") {
        parts.pop();
    }
    parts
}

/// Every path from the root that the code of `module` names, whether it begins with `crate::` or climbs with `super::`; braces spread out.
fn named(module: &[String], code: &str) -> BTreeSet<String> {
    static BEGIN: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\b(?:crate::|(?:self::)?(?:super::)+)").expect("pattern"));
    let mut all = BTreeSet::new();
    for found in BEGIN.find_iter(code) {
        let up = found.as_str().matches("super::").count();
        let above = match up {
            0 => &[],
            _ => &module[..module.len().saturating_sub(up)],
        };
        let base: String = above.iter().map(|m| format!("{m}::")).collect();
        spread(&base, &code[found.end()..], &mut all);
    }
    all
}

/// Reads one branch of a `use` tree below `base`, and answers what follows it.
fn spread<'a>(base: &str, text: &'a str, all: &mut BTreeSet<String>) -> &'a str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
    let (path, rest) = text.split_at(end.unwrap_or(text.len()));
    let here = format!("{base}{path}");
    let Some(mut rest) = rest.strip_prefix('{') else {
        all.insert(here.trim_end_matches(':').to_owned());
        return rest;
    };
    while let Some(next) = rest.chars().next() {
        rest = match next {
            '}' => return &rest[1..],
            c if c == ',' || c.is_whitespace() => &rest[1..],
            _ => {
                let after = spread(&here, rest, all);
                // `as name` and `*` end the branch.
                &after[after.find([',', '}']).unwrap_or(after.len())..]
            }
        };
    }
    rest
}

fn breaches(module: &[String], allowed: &[&str], code: &str) -> Vec<String> {
    let room = module.first().map(String::as_str).unwrap_or_default();
    named(module, code)
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
            let inside = file.strip_prefix(&root).expect("below");
            let found = breaches(&module(inside), allowed, &code(&text));
            if !found.is_empty() {
                wrong.insert(inside.to_owned(), found);
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
    // Our own folder `adapter/kube` is reached by `crate::adapter::kube`: what stands behind `::` is no crate.
    let crates = ONLY.map(|(name, rooms)| {
        let begin = Regex::new(&format!(r"(?:^|[^:\w]){name}::")).expect("pattern");
        (name, begin, rooms)
    });
    for file in files {
        let inside = file.strip_prefix(&root).expect("below").to_owned();
        let room = inside
            .components()
            .next()
            .map(|c| c.as_os_str().to_string_lossy().into_owned())
            .unwrap_or_default();
        let text = code(&std::fs::read_to_string(&file).expect("readable"));
        for (name, begin, rooms) in &crates {
            if begin.is_match(&text) && !rooms.contains(&room.as_str()) {
                wrong.push(format!("{} names {name}", inside.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_check_sees_a_breach_when_there_is_one() {
    let plan = ["plan".to_owned(), "stale".to_owned()];
    let found = |allowed: &[&str], code: &str| breaches(&plan, allowed, code);
    let flat = "use crate::{adapter::kube, incident::Entry};\nuse crate::run::Engine;";
    assert_eq!(found(&["incident"], flat), ["adapter::kube", "run::Engine"]);
    let registry = "use crate::action::registry::Registry;";
    assert!(found(&["incident", "action::registry"], registry).is_empty());
    assert_eq!(
        found(&["action::registry"], "use crate::action::Actions;"),
        ["action::Actions"]
    );
}

#[test]
fn the_check_sees_a_breach_in_nested_braces_and_behind_super() {
    let plan = ["plan".to_owned(), "stale".to_owned()];
    let found = |code: &str| breaches(&plan, &["incident"], code);
    let nested = "use crate::{\n    incident::{Entry, kind::{self, BAG_OPENED as B}},\n    run::{Engine, next::*},\n    cli,\n};";
    assert_eq!(found(nested), ["cli", "run::Engine", "run::next"]);
    assert_eq!(
        found("use super::super::{custody::Custody, plan::Plan};"),
        ["custody::Custody"]
    );
    assert_eq!(
        found("fn f(e: super::super::run::Engine) {}"),
        ["run::Engine"]
    );
    assert!(found("use super::people::People; use self::super::seen;").is_empty());
}
