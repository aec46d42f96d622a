//! Playbooks: one fixture per lint code, our own files clean, a schema that agrees with the reader, and a reader that never panics.

#[path = "playbooks/registry.rs"]
mod registry;
#[path = "playbooks/validator.rs"]
mod validator;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use firebreak::incident::{Effect, Milestone, StepPath};
use firebreak::playbook::embedded::{self, ALL};
use firebreak::playbook::finding::CODES;
use firebreak::playbook::lint::{check, has_errors};
use firebreak::playbook::model::{Kind, Span};
use firebreak::playbook::{Finding, Playbook, Severity, Vars, explain, outline, read, schema};
use serde_json::{Value, json};

use registry::registry;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn codes(findings: &[Finding]) -> BTreeSet<&'static str> {
    findings.iter().map(|f| f.code).collect()
}

fn page(findings: &[Finding]) -> String {
    findings.iter().map(|f| format!("{f}\n")).collect()
}

fn ours(name: &str) -> Playbook {
    let text = embedded::find(name).expect("embedded").text;
    read(text.as_bytes(), Some(&format!("{name}.yaml"))).unwrap_or_else(|f| panic!("{}", page(&f)))
}

/// A whole playbook around steps, for tests of one thing.
fn with_steps(head: &str, steps: &str) -> String {
    format!(
        "firebreak: playbook/v1\nid: t\nname: T\nversion: 1\ntypes: [mitigation]\nroles: {{ ic: {{ kind: individual }} }}\n{head}steps:\n{steps}"
    )
}

#[test]
fn every_code_has_a_fixture_that_gives_exactly_that_code() {
    let registry = registry();
    let mut seen = BTreeSet::new();
    let mut wrong = String::new();
    for entry in fs::read_dir(here("tests/playbooks/lint")).expect("fixtures") {
        let path = entry.expect("entry").path();
        let name = path
            .file_stem()
            .and_then(|s| s.to_str())
            .expect("name")
            .to_owned();
        let code = name.split('-').next().expect("code").to_owned();
        let bytes = fs::read(&path).expect("reads");
        let (_, findings) = check(&bytes, None, &registry);
        if codes(&findings) != BTreeSet::from([code.as_str()]) {
            wrong.push_str(&format!("{name}: {}\n", page(&findings)));
        }
        for f in &findings {
            assert!(
                f.line > 0 && f.column > 0 && !f.fix.is_empty(),
                "{name}: {f}"
            );
            // A fixture says where with a comment on the line itself.
            let text = String::from_utf8_lossy(&bytes);
            if let Some(marked) = text.lines().position(|l| l.contains("# here")) {
                assert_eq!(f.line as usize, marked + 1, "{name}: {f}");
            }
        }
        seen.insert(code);
    }
    assert!(wrong.is_empty(), "{wrong}");
    let missing: Vec<_> = CODES
        .iter()
        .map(|c| c.code)
        .filter(|c| !seen.contains(*c))
        .collect();
    assert!(missing.is_empty(), "no fixture for {missing:?}");
}

#[test]
fn our_own_playbooks_are_clean() {
    for e in ALL {
        let (playbook, findings) = check(
            e.text.as_bytes(),
            Some(&format!("{}.yaml", e.name)),
            &firebreak::cli::compose::actions().registry(),
        );
        assert!(findings.is_empty(), "{}:\n{}", e.name, page(&findings));
        assert_eq!(playbook.expect("reads").id, e.name);
    }
}

#[test]
fn deleting_any_numbered_step_of_the_breach_playbook_is_found() {
    let text = embedded::find("security-breach").expect("embedded").text;
    for number in ["3.1", "3.2", "3.3", "3.4", "3.5", "3.6", "3.7", "3.8"] {
        let without = text.replace(&format!("runbook: [\"{number}\"]"), "runbook: []");
        assert_ne!(without, text, "{number} is carried");
        let (_, findings) = check(without.as_bytes(), None, &registry());
        let found = findings
            .iter()
            .any(|f| f.code == "FB0318" && f.message.contains(number));
        assert!(
            found && has_errors(&findings),
            "{number}: {}",
            page(&findings)
        );
    }
}

#[test]
fn an_allowed_warning_is_silent_and_an_error_never_is() {
    let text = with_steps(
        "allow: { FB0309: because }\nvars: { a: { type: bool, value: true } }\n",
        "  - if: a\n    then: [ { note: x } ]\n",
    );
    let (_, findings) = check(text.as_bytes(), None, &registry());
    assert!(findings.is_empty(), "{}", page(&findings));
    let warned = text.replace("allow: { FB0309: because }\n", "");
    let (_, findings) = check(warned.as_bytes(), None, &registry());
    assert_eq!(codes(&findings), BTreeSet::from(["FB0309"]));
    assert!(!has_errors(&findings) && findings[0].severity == Severity::Warning);
}

#[test]
fn paths_are_ids_and_places_and_steps_are_found_by_them() {
    let text = with_steps(
        "vars: { a: { type: string, value: x } }\n",
        "  - note: one\n  - id: b\n    if: a == 'x'\n    then:\n      - note: two\n      - id: c\n        note: three\n    else:\n      - note: four\n  - parallel:\n      - note: five\n      - steps: [ { note: six } ]\n",
    );
    let p = read(text.as_bytes(), Some("dir/t.yaml")).unwrap_or_else(|f| panic!("{}", page(&f)));
    let paths: Vec<&str> = p.all_steps().iter().map(|s| s.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "note-1",
            "b",
            "b/note-1",
            "b/c",
            "b/note-3",
            "parallel-3",
            "parallel-3/note-1",
            "parallel-3/steps-2",
            "parallel-3/steps-2/note-1"
        ]
    );
    let path = StepPath::parse("b/c").expect("path");
    assert!(matches!(&p.find(&path).expect("found").kind, Kind::Note { text } if text == "three"));
    assert_eq!(p.parent(&path).expect("parent").path.as_str(), "b");
}

#[test]
fn defaults_follow_kind_and_effect() {
    let text = with_steps(
        "",
        "  - call: test.call\n    effect: read\n  - run: [rm, x]\n    effect: irreversible\n    resume: ask\n  - manual: do it\n    owner: ic\n  - check: test.probe\n    with: { namespace: a }\n  - wait: 1m30s\n",
    );
    let p = read(text.as_bytes(), None).unwrap_or_else(|f| panic!("{}", page(&f)));
    let steps = p.all_steps();
    let time = |i: usize, action| {
        steps[i]
            .timeout_or_default(&p.defaults, action)
            .map(|d| d.as_secs())
    };
    assert_eq!(
        [
            time(0, None),
            time(1, None),
            time(2, None),
            time(3, None),
            time(4, None)
        ],
        [Some(600), Some(600), Some(3600), Some(60), None]
    );
    assert_eq!(time(0, Some(Duration::from_secs(120))), Some(120));
    let retries: Vec<u32> = steps
        .iter()
        .map(|s| s.retry_or_default(&p.defaults).max)
        .collect();
    assert_eq!(retries, [3, 0, 0, 3, 0]);
    assert_eq!(steps[1].effect(), Effect::Irreversible);
    assert!(matches!(&steps[3].kind, Kind::Check { expect, .. } if expect == "ok == true"));
    assert!(matches!(&steps[4].kind, Kind::Wait { time: Span::Fixed(d) } if d.as_secs() == 90));
}

#[test]
fn several_mistakes_are_told_at_once_each_at_its_place() {
    let text = with_steps(
        "",
        "  - note: 5\n  - cal: test.call\n    effect: read\n  - call: test.call\n    effect: reed\n    with: { url: [x] }\n  - if: x ==\n    then:\n      - note: ok\n        colour: red\n",
    );
    let findings = read(text.as_bytes(), None).expect_err("refused");
    let found: Vec<(&str, u32, u32)> = findings
        .iter()
        .map(|f| (f.code, f.line, f.column))
        .collect();
    assert_eq!(
        found,
        [
            ("FB0101", 8, 11),
            ("FB0101", 9, 5),
            ("FB0111", 9, 5),
            ("FB0101", 12, 13),
            ("FB0206", 14, 13),
            ("FB0101", 17, 9)
        ],
        "{}",
        page(&findings)
    );
    assert!(findings[1].fix.contains("`call`"), "{}", findings[1].fix);
}

#[test]
fn arguments_are_told_at_line_and_column() {
    for (with, at) in [
        ("{ namespace: 5 }", (10, 24)),
        ("{ namespace: a, pot: b }", (10, 27)),
        ("{ pod: a }", (10, 11)),
        ("{ namespace: a, budget_s: \"${name}\" }", (10, 37)),
    ] {
        let text = with_steps(
            "vars: { name: { type: string, value: x } }\n",
            &format!("  - call: acquire.volatile\n    with: {with}\n    effect: read\n"),
        );
        let (_, findings) = check(text.as_bytes(), None, &registry());
        assert_eq!(
            codes(&findings),
            BTreeSet::from(["FB0116"]),
            "{with}: {}",
            page(&findings)
        );
        assert_eq!(
            (findings[0].line, findings[0].column),
            at,
            "{with}: {}",
            findings[0]
        );
    }
}

#[test]
fn kinds_of_later_versions_are_refused_and_said_so() {
    for key in ["each", "until", "http", "playbook", "clocks"] {
        let text = with_steps("", &format!("  - {key}: x\n    note: text\n"));
        let findings = read(text.as_bytes(), None).expect_err("refused");
        assert_eq!(findings[0].code, "FB0101");
        assert!(
            findings[0].fix.contains("this version"),
            "{}",
            findings[0].fix
        );
    }
}

#[test]
fn the_breach_playbook_carries_the_scenario() {
    let p = ours("security-breach");
    let by = |path: &str| {
        p.find(&StepPath::parse(path).expect("path"))
            .unwrap_or_else(|| panic!("{path}"))
            .clone()
    };
    assert_eq!(p.objectives.contain_s, Some(1800));
    assert_eq!(p.objectives.rto_s, Some(3600));
    let mut milestones: Vec<Milestone> = p
        .all_steps()
        .iter()
        .filter_map(|s| Some(s.milestone?.name))
        .collect();
    // `verified` stands in each branch that ends with a proof; only one of them is ever taken.
    milestones.dedup();
    assert_eq!(
        milestones,
        [
            Milestone::Declared,
            Milestone::Contained,
            Milestone::Eradicated,
            Milestone::Restored,
            Milestone::Verified
        ]
    );
    let isolate = by("act/main/isolate");
    assert!(isolate.approve.expect("approval").break_glass && isolate.runbook == ["3.1"]);
    assert!(
        matches!(by("review").kind, Kind::Manual { text } if text.contains("Root cause analysis"))
    );
    // What this version leaves to people says so.
    for path in [
        "act/main/secure/cut/sessions/by-hand",
        "act/main/scope",
        "act/main/rotate/by-hand",
        "act/main/patch",
        "review",
    ] {
        let step = by(path);
        assert!(
            matches!(step.kind, Kind::Manual { .. }) && step.why.is_some(),
            "{path}"
        );
    }
}

#[test]
fn nothing_that_captures_or_proves_stops_isolation_or_what_follows() {
    for name in ["contain-pod", "security-breach"] {
        let p = ours(name);
        for step in p.all_steps() {
            let Some(call) = step.call() else { continue };
            if call.action.starts_with("acquire.")
                || (call.action == "contain.probe_isolation" && matches!(step.kind, Kind::Call(_)))
            {
                let goes_on = step.on_failure_or_default(&p.defaults);
                assert_eq!(
                    goes_on,
                    firebreak::playbook::model::OnFailure::Continue,
                    "{}",
                    step.path
                );
            }
        }
        // A probe that could not start leaves a verdict to branch on, instead of an unknown that parks.
        assert_eq!(p.vars["isolation"].value, Some(json!("not-proven")));
    }
}

#[test]
fn the_drills_answers_answer_every_question_and_nothing_else() {
    for e in ALL {
        let p = ours(e.name);
        let answers = e.answers().unwrap_or_else(|f| panic!("{}", page(&f)));
        let asked: BTreeSet<_> = p
            .all_steps()
            .iter()
            .filter(|s| matches!(s.kind, Kind::Manual { .. }))
            .map(|s| s.path.clone())
            .collect();
        assert_eq!(
            answers.keys().cloned().collect::<BTreeSet<_>>(),
            asked,
            "{}",
            e.name
        );
        let mut vars = Vars::default();
        for step in p.all_steps() {
            let Some(answer) = answers.get(&step.path) else {
                continue;
            };
            assert!(answer.text.starts_with("EXERCISE"), "{}", step.path);
            for name in step.outputs.keys() {
                vars.set(&p.vars, name, &answer.values[name])
                    .expect("the answer fits");
            }
        }
    }
    let wrong = embedded::answers(b"A/B: { text: x }\nb: { text: z, outcome: maybe }\n")
        .expect_err("refused");
    assert_eq!(wrong.len(), 2);
}

#[test]
fn contain_pod_takes_a_name_or_a_selector() {
    let p = ours("contain-pod");
    let start = |pairs: &[(&str, &str)]| {
        let given: BTreeMap<String, String> = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        Vars::start(&p.vars, &given)
    };
    let isolate = p
        .find(&StepPath::parse("isolate").expect("path"))
        .expect("step")
        .call()
        .expect("call")
        .clone();
    let filled = |vars: &Vars| {
        firebreak::playbook::variable::fill_arguments(&isolate.with, vars).expect("fills")
    };
    let by_name = start(&[("ns", "shop"), ("pod", "web-7d9")]).expect("starts");
    assert_eq!(
        filled(&by_name),
        json!({"namespace": "shop", "pod": "web-7d9", "isolate_first": false})
    );
    let by_selector = start(&[
        ("ns", "shop"),
        ("selector", "app=web"),
        ("isolate_first", "true"),
    ])
    .expect("starts");
    assert_eq!(
        filled(&by_selector),
        json!({"namespace": "shop", "selector": "app=web", "isolate_first": true})
    );
    for bad in ["Shop", "a/b", "", "-x"] {
        assert_eq!(
            start(&[("ns", bad)]).expect_err("refused")[0].code,
            "FB0202",
            "{bad}"
        );
    }
    assert_eq!(start(&[]).expect_err("refused")[0].code, "FB0201");
}

#[test]
fn a_playbook_explains_itself() {
    for e in ALL {
        let p = ours(e.name);
        let text = explain(&p, &registry());
        for step in p.all_steps() {
            assert!(text.contains(step.path.as_str()), "{}", step.path);
        }
        assert!(text.contains(&p.sha256) && text.contains(&p.name));
        assert_eq!(outline(&p, &registry()).len(), p.all_steps().len());
    }
    let text = explain(&ours("security-breach"), &registry());
    assert!(
        text.contains("approved by 1 of ic, security within 5m"),
        "{text}"
    );
    assert!(text.contains("required: --var ns=…"), "{text}");
}

#[test]
fn the_schema_knows_kinds_and_arguments() {
    let schema = schema(&registry());
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
    assert!(
        !schema.to_string().contains("Raw"),
        "type names of ours leak"
    );
    let step = &schema["$defs"]["Step"];
    assert_eq!(step["oneOf"].as_array().map(Vec::len), Some(11));
    let behind = step["allOf"]
        .as_array()
        .expect("rules")
        .iter()
        .find(|r| r["if"]["properties"]["call"]["const"] == "acquire.volatile")
        .expect("rule");
    assert_eq!(
        behind["then"]["properties"]["with"]["$ref"],
        "#/$defs/with.acquire.volatile"
    );
    let with = &schema["$defs"]["with.acquire.volatile"];
    assert_eq!(with["required"], json!(["namespace"]));
    assert_eq!(with["additionalProperties"], json!(false));
    assert_eq!(
        with["properties"]["budget_s"]["anyOf"]
            .as_array()
            .map(Vec::len),
        Some(2)
    );
    let level = &schema["$defs"]["with.test.call"]["properties"]["level"];
    assert!(
        level.to_string().contains("high") && !level.to_string().contains("$ref"),
        "{level}"
    );
    // Every reference leads somewhere.
    let mut open = vec![&schema];
    while let Some(at) = open.pop() {
        match at {
            Value::Object(map) => {
                if let Some(Value::String(target)) = map.get("$ref") {
                    assert!(
                        schema.pointer(target.trim_start_matches('#')).is_some(),
                        "{target}"
                    );
                }
                open.extend(map.values());
            }
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
    let text = firebreak::playbook::schema::text(&registry());
    assert_eq!(firebreak::playbook::schema::drift(&text, &registry()), None);
    assert!(
        firebreak::playbook::schema::drift(&text.replacen("playbook", "cookbook", 1), &registry())
            .is_some()
    );
}

#[test]
fn reader_and_schema_judge_the_same_files_alike() {
    let registry = registry();
    let made = schema(&registry);
    let accepted = |text: &str| {
        let value: Value = serde_saphyr::from_str(text).expect("YAML");
        validator::valid(&made, &made, &value)
    };
    let real = schema(&firebreak::cli::compose::actions().registry());
    for e in ALL {
        let value: Value = serde_saphyr::from_str(e.text).expect("YAML");
        assert!(validator::valid(&real, &real, &value), "{}", e.name);
    }
    // What a schema can say it must say; what only a reader can (order, names, meaning) it must let pass.
    let shape = [
        "FB0101",
        "FB0101-empty",
        "FB0101-later",
        "FB0101-statement",
        "FB0101-type",
        "FB0101-with",
        "FB0102",
        "FB0103",
        "FB0104",
        "FB0105",
        "FB0106",
        "FB0107",
        "FB0110",
        "FB0110-parallel",
        "FB0111",
        "FB0111-two",
        "FB0115",
        "FB0115-place",
        "FB0116",
        "FB0116-undo",
        "FB0116-unknown",
        "FB0117",
        "FB0117-effect",
        "FB0306",
    ];
    for name in shape {
        let text =
            fs::read_to_string(here(&format!("tests/playbooks/lint/{name}.yaml"))).expect(name);
        assert!(!accepted(&text), "the schema accepts {name}");
    }
    for entry in fs::read_dir(here("tests/playbooks/lint")).expect("fixtures") {
        let path = entry.expect("entry").path();
        let name = path.file_stem().and_then(|s| s.to_str()).expect("name");
        let meaning = name.starts_with("FB02")
            || (name.starts_with("FB03") && !shape.contains(&name) && name != "FB0307");
        if meaning {
            assert!(
                accepted(&fs::read_to_string(&path).expect("reads")),
                "the schema refuses {name}"
            );
        }
    }
}

/// Small, seeded, good enough to mangle files.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % below.max(1) as u64).expect("small")
    }
}

#[test]
fn the_reader_never_panics() {
    let registry = registry();
    let mut dice = Dice(0x5eed_f12e_b4ea_c001);
    for _ in 0..300 {
        let noise: Vec<u8> = (0..dice.roll(400))
            .map(|_| u8::try_from(dice.roll(256)).expect("byte"))
            .collect();
        let _ = check(&noise, None, &registry);
        let alphabet = b"abs:-{}[]\"'$ \n#&*!|>%@`,?0x";
        let yamlish: Vec<u8> = (0..dice.roll(300))
            .map(|_| alphabet[dice.roll(alphabet.len())])
            .collect();
        let _ = check(&yamlish, None, &registry);
    }
    let bits: Vec<&[u8]> = vec![
        b"${",
        b"}",
        b"\n",
        b"  ",
        b"- ",
        b": ",
        b"\"",
        b"[",
        b"{",
        b"if",
        b"steps:",
        b"&a ",
        b"*a",
        b"<<: ",
        b"\xff",
        "\u{202e}".as_bytes(),
        b"null",
        b"99999999999999999999",
        b"''",
    ];
    for e in ALL {
        for _ in 0..400 {
            let mut bytes = e.text.as_bytes().to_vec();
            for _ in 0..=dice.roll(3) {
                let at = dice.roll(bytes.len());
                match dice.roll(4) {
                    0 => {
                        let end = (at + dice.roll(60)).min(bytes.len());
                        bytes.drain(at..end);
                    }
                    1 => {
                        let bit = bits[dice.roll(bits.len())];
                        bytes.splice(at..at, bit.iter().copied());
                    }
                    2 => bytes[at] = u8::try_from(dice.roll(256)).expect("byte"),
                    _ => {
                        let from = dice.roll(bytes.len());
                        let end = (from + dice.roll(200)).min(bytes.len());
                        let piece = bytes[from..end].to_vec();
                        bytes.splice(at..at, piece);
                    }
                }
            }
            if let (Some(p), _) = check(&bytes, None, &registry) {
                let _ = explain(&p, &registry);
            }
        }
    }
}
