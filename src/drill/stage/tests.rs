use super::*;
use crate::adapter::store::DirStore;
use crate::incident::Effect;
use crate::plan::approval;
use crate::plan::approval_text::ApprovalText;
use crate::playbook::read;
use crate::port::{HostClock, HostRandom, ManualQuestion, Operator as _, Question, Reply};

const PLAYBOOK: &str = "firebreak: playbook/v1\nid: rehearsal\nname: Rehearsal\nversion: 1\ntypes: [mitigation]\nroles: { ic: { kind: individual, contact: incident-commander }, security: { kind: group, contact: security-officer } }\nvars: { files: { type: \"list<string>\", external: true }, ns: { type: string, external: true } }\nsteps:\n  - id: ask\n    manual: look\n    owner: ic\n";
const ANSWERS: &str = "scope: { text: seen, values: { restore: false } }\n";

/// A folder of its own that goes away.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let place =
            std::env::temp_dir().join(format!("firebreak-drill-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&place);
        Folder(place)
    }
    fn store(&self) -> Box<dyn Store> {
        Box::new(DirStore::open(&self.0).expect("folder"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn playbook() -> Playbook {
    read::read(PLAYBOOK.as_bytes(), Some("rehearsal.yaml")).expect("playbook")
}

fn set(folder: &Folder) -> Stage {
    let request = Request {
        id: IncidentId::parse("DRILL-1").expect("id"),
        org: "unregistered.invalid".into(),
        actor: Actor::person("me@here"),
        playbook: &playbook(),
        script: ANSWERS.as_bytes(),
    };
    Stage::set(
        folder.store(),
        request,
        Arc::new(HostClock::for_drill()),
        Arc::new(HostRandom),
    )
    .expect("set")
}

fn question(roles: &[&str]) -> Question {
    Question {
        run: "run-0123456789abcdef".into(),
        step: "isolate".into(),
        attempt: 1,
        title: "Isolate".into(),
        effect: Effect::Irreversible,
        what: "contain.isolate_workload".into(),
        call_sha256: "1".repeat(64),
        plan_sha256: "2".repeat(64),
        needs_reason: true,
        quorum: 2,
        signed: true,
        roles: roles.iter().map(|r| (*r).to_owned()).collect(),
        expires: None,
        lines: Vec::new(),
    }
}

#[test]
fn a_stage_is_a_drill_with_its_world_people_and_files_and_is_taken_up_again_as_it_was() {
    let folder = Folder::new("again");
    let stage = set(&folder);
    assert_eq!(stage.custody.opened().mode, Mode::Drill);
    assert_eq!(stage.custody.opened().targets, [stage.sim.target()]);
    let policy = stage.policy().expect("policy");
    assert_eq!(policy.people.len(), 3);
    let vars = stage.vars();
    assert_eq!(
        (vars.len(), vars["ns"].as_str()),
        (2, "shop"),
        "only what the playbook declares"
    );
    let files: Vec<String> = serde_json::from_str(&vars["files"]).expect("a list");
    assert!(
        std::path::Path::new(&files[0])
            .join("var/log/auth.log")
            .is_file()
    );
    stage
        .sim
        .meddle(|w| w.recreate_pod("shop", crate::adapter::sim::COMPROMISED))
        .expect("saved");

    let custody = Custody::open(
        folder.store(),
        Arc::new(HostClock::for_drill()),
        Arc::new(HostRandom),
        &Actor::person("me@here"),
    );
    let again = Stage::reset(
        Arc::new(custody.expect("opened")),
        Arc::new(HostClock::for_drill()),
        Arc::new(HostRandom),
    )
    .expect("reset");
    assert_eq!(again.sim.world(), stage.sim.world());
    assert_eq!(again.answers, stage.answers);
    assert_eq!(again.subject, stage.subject);
    assert_eq!(again.cast.executor(), stage.cast.executor());
    assert_eq!(again.policy().expect("policy"), policy);
    let keys = |s: &Stage| {
        s.cast
            .signers()
            .map(|p| p.key.public_line())
            .collect::<Vec<_>>()
    };
    assert_eq!(keys(&again), keys(&stage));
}

#[test]
fn a_second_drill_in_the_same_folder_and_a_changed_trust_file_are_refused() {
    let folder = Folder::new("refused");
    let stage = set(&folder);
    let request = Request {
        id: IncidentId::parse("DRILL-1").expect("id"),
        org: "o".into(),
        actor: Actor::person("me"),
        playbook: &playbook(),
        script: ANSWERS.as_bytes(),
    };
    let world = stage.sim.world();
    let again = Stage::set(
        folder.store(),
        request,
        Arc::new(HostClock::for_drill()),
        Arc::new(HostRandom),
    );
    assert!(matches!(
        again.err(),
        Some(DrillError::Opening(OpeningError::Exists(_)))
    ));
    let stored = folder
        .store()
        .load(WORLD_FILE)
        .expect("read")
        .expect("there");
    assert_eq!(
        crate::adapter::sim::World::read(&stored).expect("world"),
        world,
        "the first world is untouched"
    );
    let mut store = folder.store();
    let people = store
        .load("trust/people.yaml")
        .expect("read")
        .expect("there");
    let changed = String::from_utf8(people)
        .expect("text")
        .replace("commander\"]", "commander\",\"x\"]");
    store
        .replace("trust/people.yaml", format!("{changed}\n").as_bytes())
        .expect("written");
    assert!(matches!(stage.policy(), Err(DrillError::Damaged(_))));
}

#[tokio::test]
async fn personas_sign_for_real_in_the_drill_namespace_and_never_live() {
    let folder = Folder::new("sign");
    let stage = set(&folder);
    let operator = stage.operator(Arc::new(|_| {}));
    let signed = operator.signatures(&question(&["ic"])).await;
    assert_eq!(signed.len(), 2);
    let policy = stage.policy().expect("policy");
    let mut principals = Vec::new();
    for approval in &signed {
        let text = ApprovalText::parse(&approval.text).expect("well-formed");
        assert_eq!(text.incident, *stage.custody.id());
        assert_eq!(text.steps[0].1, "1".repeat(64));
        let message = approval.text.as_bytes();
        let key = approval::verify(message, &approval.signature, "approval-drill@firebreak")
            .expect("verifies");
        let signer = policy
            .signers
            .iter()
            .find(|s| s.principal == text.principal)
            .expect("known");
        assert_eq!(signer.key.as_ref().expect("key").key_data(), key.key_data());
        assert!(approval::verify(message, &approval.signature, "approval@firebreak").is_err());
        principals.push(text.principal);
    }
    principals.dedup();
    assert_eq!(principals.len(), 2);
    assert!(
        !principals
            .iter()
            .any(|p| p.starts_with(&stage.cast.executor().id))
    );
}

#[tokio::test]
async fn answers_come_from_the_script_and_no_value_is_made_up() {
    let folder = Folder::new("answers");
    let stage = set(&folder);
    let operator = stage.operator(Arc::new(|_| {}));
    let ask = |step: &str, value: Option<&str>| ManualQuestion {
        run: String::new(),
        step: step.into(),
        attempt: 1,
        title: String::new(),
        text: String::new(),
        owner: None,
        values: value
            .map(|v| (v.to_owned(), serde_json::json!(true)))
            .into_iter()
            .collect(),
        allows: BTreeMap::new(),
        refused: None,
        deadline: None,
    };
    let scope = operator
        .answer(&ask("scope", Some("restore")))
        .await
        .expect("scripted");
    assert_eq!(
        (scope.text.as_str(), &scope.values["restore"]),
        ("EXERCISE: seen", &serde_json::json!(false))
    );
    assert!(operator.answer(&ask("other", None)).await.is_some());
    assert!(
        operator
            .answer(&ask("other", Some("since")))
            .await
            .is_none()
    );
    let reply = operator.confirm(&question(&[])).await;
    assert!(matches!(reply, Reply::Typed { reason: Some(r), .. } if r.starts_with("EXERCISE")));
}
