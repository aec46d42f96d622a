//! A rotation in a history: one key replaced in an emergency with the intruder awake, one password that waits for a person.

use std::collections::BTreeMap;

use firebreak::incident::rotate::*;
use firebreak::incident::{Effect, History, Mode, Phase, kind};
use firebreak::report::Texts;
use firebreak::rotation::plan::{RotationPlan, Waits};
use serde_json::json;

use super::histories::{Story, hex};
use super::incidents::outline;

const PAY: &str = "item-0001";
const DB: &str = "item-0002";
const WEB: &str = "workload:shop/Deployment/web";

fn plan() -> RotationPlan {
    let escrow = |secret: &str, fields: [&str; 2]| json!({"secret": secret, "exists": true, "fields": fields, "current": "v1"});
    let server = |host: &str| json!({"host": host, "port": 5432, "database": "shop"});
    let sink = |name: &str| json!({"object": {"kind": "Secret", "namespace": "shop", "name": name, "uid": format!("uid-{name}")}, "keys": {"password": "DB_PASSWORD"}});
    serde_json::from_value(json!({
        "format": "rotation-plan/v1", "incident": "INC-20261124-7K2Q", "created": "2026-11-24T22:10:00Z", "expires": "2026-11-25T22:10:00Z",
        "t0": "2026-11-24T20:00:00Z", "account": "111122223333", "region": "eu-central-1",
        "caller": "arn:aws:sts::111122223333:assumed-role/firebreak-response/ayse", "selector": "set('handover')",
        "on_unknown": "refuse", "on_stale": "refuse", "map_sha256": null, "deletions": false,
        "items": [
            {"id": PAY, "kind": "iam-access-key", "mode": "emergency", "name": "shop-payments", "arn": "arn:aws:iam::111122223333:user/shop/shop-payments",
             "why": ["handed over by shop/web-7d9"], "binding": {}, "sinks": [sink("payment-api-token")], "workloads": [0], "no_return": "OldDeleted", "needs_human": null,
             "what": {"is": "access-key", "user": "shop-payments", "old": "AKIAOLD", "before": ["AKIAOLD"], "victim": null,
                      "escrow": escrow("shop/payments/key", ["access_key_id", "secret_access_key"]), "chain": ["shop-reports"], "open_ends": ["account 999988887777 cannot be entered"]}},
            {"id": DB, "kind": "pg-password", "mode": "emergency", "name": "web_sessions", "arn": "arn:aws:secretsmanager:eu-central-1:111122223333:secret:shop/db/web",
             "why": ["handed over by shop/web-7d9"], "binding": {}, "sinks": [sink("web-session-key")], "workloads": [0], "no_return": "NewSet", "needs_human": null,
             "what": {"is": "database-password", "escrow": escrow("shop/db/web", ["username", "password"]), "role": "web_sessions", "primary": server("db.shop.example"),
                      "replicas": [server("db-replica.shop.example")], "admin": "shop/db/admin", "system_identifier": "7412365489012345678"}},
        ],
        "workloads": [{"object": {"kind": "Deployment", "namespace": "shop", "name": "web", "uid": "uid-web"}, "how": ["env"], "rollable": true}],
        "excluded": [], "break_glass": [], "guards": [{"guard": "lease", "verdict": "passed", "detail": "free"}], "residual": ["MFA device of shop-admin"], "warnings": [],
        "waits": Waits::default(), "concurrency": 4,
    }))
    .expect("a plan")
}

/// The plan's bytes, by their digest, as the incident pins them.
pub fn texts() -> Texts {
    let bytes = plan().canonical().expect("canonical");
    let text = String::from_utf8(bytes).expect("UTF-8");
    Texts::from([(hex(text.as_bytes()), text)])
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(k, v)| ((*k).into(), (*v).into()))
        .collect()
}

/// One change with its answer.
fn change(s: &mut Story, item: &str, step: &str, call: &str, got: &[(&str, &str)]) {
    s.wait(2).tell(
        kind::ROTATE_INTENT,
        &RotateIntent {
            item: item.into(),
            kind: "x".into(),
            step: step.into(),
            attempt: 1,
            target: String::new(),
            call: call.into(),
            params: map(&[("user", "shop-payments")]),
            before: BTreeMap::new(),
            idempotency: None,
            fp: None,
            reversal: false,
            epoch: 1,
        },
    );
    s.wait(1).tell(
        kind::ROTATE_OUTCOME,
        &RotateOutcome {
            item: item.into(),
            step: step.into(),
            attempt: 1,
            target: String::new(),
            result: "ok".into(),
            code: None,
            got: map(got),
            request_id: None,
            server_date: None,
            reversal: false,
        },
    );
}

fn seen(
    s: &mut Story,
    item: &str,
    step: &str,
    target: &str,
    facts: &[(&str, &str)],
    grade: Option<&str>,
) {
    s.wait(5).tell(
        kind::ROTATE_OBSERVED,
        &RotateObserved {
            item: item.into(),
            step: step.into(),
            attempt: 1,
            target: target.into(),
            holds: true,
            facts: map(facts),
            grade: grade.map(str::to_owned),
            settles: None,
            reversal: false,
        },
    );
}

fn ended(s: &mut Story, item: &str, state: &str, reason: Option<&str>, summary: &str) {
    s.wait(1).tell(
        kind::ROTATE_ITEM,
        &RotateItem {
            item: item.into(),
            kind: "x".into(),
            state: state.into(),
            reason: reason.map(str::to_owned),
            summary: summary.into(),
            hint: reason.map(|_| "bring the server back, then `rotate resume`".into()),
            resumable: reason.is_some(),
        },
    );
}

/// The history.
pub fn rotated() -> History {
    let mut s = Story::new(Mode::Live);
    s.time(30)
        .by("ayse@laptop")
        .declare("Keys of the shop are known");
    s.time(60).created(
        "solo",
        vec![outline(
            "replace/rotate",
            "Replace the credentials",
            "call",
            "eradicate.rotate_credentials",
            Phase::Eradication,
            Effect::Irreversible,
        )],
    );
    let plan = plan();
    s.tool().step("plan").tell(
        kind::ROTATION_PLANNED,
        &RotationPlanned {
            plan_sha256: plan.digest().expect("digest"),
            mode: plan.mode().into(),
            account: plan.account.clone(),
            items: BTreeMap::from([("iam-access-key".into(), 1), ("pg-password".into(), 1)]),
            selector: plan.selector.clone(),
            expires: plan.expires.clone(),
            map_sha256: None,
        },
    );
    s.wait(30).start(
        "replace/rotate",
        "eradicate.rotate_credentials",
        Effect::Irreversible,
    );
    change(&mut s, PAY, "OldInactive", "iam:UpdateAccessKey", &[]);
    let t = [("t", "2026-11-24T22:13:00Z")];
    change(&mut s, PAY, "UserSessionsDenied", "iam:PutUserPolicy", &t);
    seen(
        &mut s,
        PAY,
        "ForeignKey",
        "AKIAEVIL",
        &[("why", "it appeared during the kill")],
        None,
    );
    let code = [("code", "InvalidClientTokenId"), ("refusals", "10")];
    seen(
        &mut s,
        PAY,
        "OldProvenDead",
        "",
        &code,
        Some("probed-without-secret"),
    );
    change(
        &mut s,
        PAY,
        "Created",
        "iam:CreateAccessKey",
        &[("key_id", "AKIANEW")],
    );
    change(
        &mut s,
        WEB,
        "RolloutTriggered",
        "kubernetes:RestartWorkload",
        &[],
    );
    seen(&mut s, WEB, "RolloutAvailable", "", &[], None);
    ended(
        &mut s,
        PAY,
        "done",
        None,
        "AKIAOLD replaced by AKIANEW; the old one is dead",
    );
    change(
        &mut s,
        DB,
        "NewSet",
        "postgres:SetVerifier",
        &[("t_set", "2026-11-24T22:14:00Z")],
    );
    ended(
        &mut s,
        DB,
        "needs-human",
        Some("account_unreachable"),
        "db-replica.shop.example cannot be reached",
    );
    s.history()
}
