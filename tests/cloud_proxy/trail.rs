//! The trail that it serves, and an attacker in it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::scene::{PATIENCE, Scene};
use crate::support::aws::{Attacker, Delay, Effect, Fault, Match, Move, Order, Signer, xml};

#[tokio::test]
async fn the_trail_follows_a_chain_of_sessions_and_holds_no_secret() {
    let Some(scene) = Scene::begin() else { return };
    let key = scene.user("traced").await;
    let trust = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sts:AssumeRole"}]}"#;
    let all =
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;
    let mut roles = Vec::new();
    for role in ["trace-a", "trace-b"] {
        let made = scene
            .iam(
                "CreateRole",
                &[("RoleName", role), ("AssumeRolePolicyDocument", trust)],
            )
            .await;
        roles.push(xml::text(made.text(), "Arn").expect("an ARN"));
        scene
            .iam(
                "PutRolePolicy",
                &[
                    ("RoleName", role),
                    ("PolicyName", "all"),
                    ("PolicyDocument", all),
                ],
            )
            .await;
    }
    let assume = |with: Signer, role: String, session: &'static str| {
        let scene = &scene;
        async move {
            let ask = [
                ("RoleArn", role.as_str()),
                ("RoleSessionName", session),
                ("SourceIdentity", "me"),
            ];
            Signer::of(&scene.as_(&with, "sts", "AssumeRole", &ask).await).expect("a session")
        }
    };
    let first = assume(key.clone(), roles[0].clone(), "one").await;
    let second = assume(first.clone(), roles[1].clone(), "two").await;
    scene.as_(&second, "iam", "ListUsers", &[]).await;

    let by = |id: &str| json!({ "LookupAttributes": [{ "AttributeKey": "AccessKeyId", "AttributeValue": id }] });
    let mut ids = vec![key.id.clone()];
    while let Some(id) = ids.last().filter(|id| **id != second.id).cloned() {
        let answer = scene
            .json(&scene.root, "cloudtrail", "LookupEvents", by(&id))
            .await;
        let whole: Value = serde_json::from_str(
            answer["Events"][0]["CloudTrailEvent"]
                .as_str()
                .expect("an event"),
        )
        .expect("JSON");
        assert_eq!(whole["eventName"], "AssumeRole");
        assert_eq!(whole["userIdentity"]["accessKeyId"], id.as_str());
        ids.push(
            whole["responseElements"]["credentials"]["accessKeyId"]
                .as_str()
                .expect("an id")
                .to_owned(),
        );
    }
    assert_eq!(ids, [key.id.as_str(), &first.id, &second.id]);
    let last = scene
        .json(&scene.root, "cloudtrail", "LookupEvents", by(&second.id))
        .await;
    let whole = last["Events"][0]["CloudTrailEvent"]
        .as_str()
        .expect("an event");
    let event: Value = serde_json::from_str(whole).expect("JSON");
    assert_eq!(event["userIdentity"]["type"], "AssumedRole");
    assert_eq!(
        event["userIdentity"]["sessionContext"]["sessionIssuer"]["userName"],
        "trace-b"
    );
    assert_eq!(last["Events"][0]["Username"], "two");

    let kept = format!(
        "{}{last}",
        serde_json::to_string(&scene.proxy.log()).expect("JSON")
    );
    for signer in [&key, &first, &second] {
        assert!(!kept.contains(&signer.secret));
        assert!(
            signer
                .token
                .as_ref()
                .is_none_or(|token| !kept.contains(token))
        );
    }
}

#[tokio::test]
async fn the_trail_answers_by_one_attribute_in_pages_and_late() {
    let Some(scene) = Scene::begin() else { return };
    let key = scene.user("looked-up").await;
    let look = |body: Value| scene.json(&scene.root, "cloudtrail", "LookupEvents", body);
    let by = |name: &str, value: &str| json!({ "LookupAttributes": [{ "AttributeKey": name, "AttributeValue": value }] });
    let found = look(by("EventName", "CreateAccessKey")).await;
    let id = found["Events"][0]["EventId"]
        .as_str()
        .expect("an id")
        .to_owned();
    let made: Value = serde_json::from_str(
        found["Events"][0]["CloudTrailEvent"]
            .as_str()
            .expect("an event"),
    )
    .expect("JSON");
    assert_eq!(
        made["responseElements"]["accessKey"]["accessKeyId"],
        key.id.as_str()
    );
    let attributes = [
        ("EventId", id.as_str()),
        ("Username", "root"),
        ("ResourceName", key.id.as_str()),
        ("ResourceType", "AWS::IAM::AccessKey"),
        ("EventSource", "iam.amazonaws.com"),
        ("ReadOnly", "false"),
        ("AccessKeyId", "test"),
    ];
    for (name, value) in attributes {
        let found = look(by(name, value)).await;
        let ids: Vec<&Value> = found["Events"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|e| &e["EventId"])
            .collect();
        assert!(ids.contains(&&json!(id)), "{name}: {found}");
    }
    let two = json!({ "LookupAttributes": [{ "AttributeKey": "EventName", "AttributeValue": "a" },
                                           { "AttributeKey": "ReadOnly", "AttributeValue": "true" }] });
    assert_eq!(
        look(two).await["__type"],
        "InvalidLookupAttributesException"
    );

    for _ in 0..60 {
        scene.alive(&key).await;
    }
    let mine = by("AccessKeyId", &key.id);
    let first = look(mine.clone()).await;
    assert_eq!(first["Events"].as_array().map(Vec::len), Some(50));
    let mut more = mine.clone();
    more["NextToken"] = first["NextToken"].clone();
    let second = look(more).await;
    assert_eq!(second["Events"].as_array().map(Vec::len), Some(10));
    assert!(second.get("NextToken").is_none());

    scene.proxy.set(|settings| settings.trail_lag_s = 300.0);
    assert_eq!(look(mine.clone()).await["Events"], json!([]));
    scene.proxy.advance(Duration::from_secs(301));
    assert_eq!(
        look(mine).await["Events"].as_array().map(Vec::len),
        Some(50)
    );
}

#[tokio::test]
async fn an_attacker_uses_the_window_of_a_late_effect() {
    let Some(scene) = Scene::begin() else { return };
    let stolen = scene.user("victim").await;
    let trust = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sts:AssumeRole"}]}"#;
    let role = scene
        .iam(
            "CreateRole",
            &[("RoleName", "next"), ("AssumeRolePolicyDocument", trust)],
        )
        .await;
    let role = xml::text(role.text(), "Arn").expect("an ARN");
    let update = Match::action("iam", "UpdateAccessKey");
    let put = Match::action("iam", "PutUserPolicy").with("PolicyName", "deny");
    scene.proxy.order(Order::new(
        update.clone(),
        Fault::Late(Delay::Seconds(3600.0)),
    ));
    scene.proxy.attack(Attacker {
        id: stolen.id.clone(),
        secret: stolen.secret.clone(),
        token: None,
        when: Some(update),
        every_ms: 10,
        rounds: 3000,
        moves: vec![
            Move::CreateKey("victim".to_owned()),
            Move::AssumeRole(role),
            Move::DeleteUserPolicy("victim".to_owned(), "deny".to_owned()),
        ],
    });
    // The deny counts for a late one too: it is put, and gone again before anybody looked.
    let deny = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"s3:*","Resource":"*"}]}"#;
    let policy = [
        ("UserName", "victim"),
        ("PolicyName", "deny"),
        ("PolicyDocument", deny),
    ];
    assert!(scene.iam("PutUserPolicy", &policy).await.ok());
    assert!(scene.disable("victim", &stolen.id).await.ok());
    let spoils = scene.proxy.wait_for_spoils(3, PATIENCE);
    assert_eq!(spoils.len(), 3);
    assert_eq!(spoils[0].with, stolen.id);
    assert_eq!(scene.proxy.effects(&put).len(), 1);
    let names = scene
        .iam("ListUserPolicies", &[("UserName", "victim")])
        .await;
    assert!(!names.text().contains("deny"));
    scene.proxy.settle();
    let done = scene.proxy.wait(
        0,
        |e| e.effect == Effect::Done && e.call.action == "UpdateAccessKey",
        PATIENCE,
    );
    assert!(done.is_some());
    assert!(!scene.alive(&stolen).await);
    // Its new key lives on, and the trail says from where it was made.
    let gave = spoils[0].gave.clone().expect("a key");
    assert!(scene.keys("victim").await.contains(&gave));
    let by =
        json!({ "LookupAttributes": [{ "AttributeKey": "ResourceName", "AttributeValue": gave }] });
    let found = scene
        .json(&scene.root, "cloudtrail", "LookupEvents", by)
        .await;
    let whole = found["Events"][0]["CloudTrailEvent"]
        .as_str()
        .expect("an event");
    assert!(whole.contains("\"sourceIPAddress\":\"127.0.0.2\"") && whole.contains("attacker/1.0"));
}
