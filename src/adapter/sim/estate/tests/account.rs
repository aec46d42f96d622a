//! IAM and STS.

use super::*;

#[tokio::test]
async fn a_user_has_two_slots_and_an_inactive_key_takes_one() {
    let lab = Lab::new();
    let user = "ci-build";
    let old = lab.key_of(user);
    lab.sim
        .set_access_key(user, &old, false)
        .await
        .expect("set");
    lab.sim.create_access_key(user).await.expect("second");
    let third = lab
        .sim
        .create_access_key(user)
        .await
        .err()
        .expect("no slot");
    assert_eq!(third.cause, Cause::Rejected);
    assert!(third.detail.starts_with("LimitExceeded"));
    assert!(
        lab.sim
            .delete_access_key(user, &old)
            .await
            .expect("gone")
            .value
    );
    assert!(
        !lab.sim
            .delete_access_key(user, &old)
            .await
            .expect("gone")
            .value
    );
    lab.sim.create_access_key(user).await.expect("freed");
}

#[tokio::test]
async fn an_inactive_or_deleted_key_is_unknown_and_a_wrong_secret_a_mismatch() {
    let lab = Lab::new();
    let (user, key) = ("ci-build", lab.key_of("ci-build"));
    let blind = async || {
        code(
            lab.sim
                .probe_without_secret(&key, None)
                .await
                .expect("sent")
                .value,
        )
    };
    assert_eq!(lab.code(&key, whoami()).await, "works");
    assert_eq!(blind().await, "SignatureDoesNotMatch");
    lab.clock.pass(6 * SECOND);
    let kept = lab.signer(&key);
    lab.sim
        .set_access_key(user, &key, false)
        .await
        .expect("set");
    assert_eq!(blind().await, "InvalidClientTokenId");
    assert_eq!(lab.code(&key, whoami()).await, "InvalidClientTokenId");
    lab.sim.set_access_key(user, &key, true).await.expect("set");
    assert_eq!(lab.code(&key, whoami()).await, "works");
    lab.sim
        .delete_access_key(user, &key)
        .await
        .expect("deleted");
    let answer = lab.sim.probe(&kept, &whoami()).await.expect("answered");
    assert_eq!(code(answer.value), "InvalidClientTokenId");
}

#[tokio::test]
async fn a_wrong_signature_makes_the_token_service_refuse_the_right_one_for_five_seconds() {
    let lab = Lab::new();
    let key = lab.key_of("ci-build");
    lab.sim
        .probe_without_secret(&key, None)
        .await
        .expect("sent");
    assert_eq!(lab.code(&key, whoami()).await, "SignatureDoesNotMatch");
    lab.clock.pass(5 * SECOND);
    assert_eq!(lab.code(&key, whoami()).await, "works");
}

#[tokio::test]
async fn caller_identity_is_answered_under_deny_all_and_nothing_else_is() {
    let lab = Lab::new();
    let key = lab.key_of("ci-build");
    let deny = r#"{"Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}"#;
    let user = Principal::User("ci-build".into());
    lab.sim
        .put_inline_policy(&user, "deny", deny)
        .await
        .expect("put");
    assert_eq!(lab.code(&key, whoami()).await, "works");
    let reports = format!("arn:aws:iam::{ACCOUNT}:role/shop-reports");
    assert_eq!(
        lab.code(&key, ProbeCall::AssumeRole(reports)).await,
        "AccessDenied"
    );
    // The replacement is blocked too: that is why deny-all is for principals that have a successor.
    let new = lab
        .sim
        .create_access_key("ci-build")
        .await
        .expect("made")
        .value;
    assert_eq!(
        lab.code(&new.id, ProbeCall::ListAccountAliases).await,
        "AccessDenied"
    );
}

#[tokio::test]
async fn a_deny_by_issue_time_ends_older_role_sessions_to_the_second_and_spares_newer_ones() {
    let lab = Lab::new();
    let old = lab.world().attacker.holds[1].clone();
    assert_eq!(lab.code(&old, ProbeCall::ListAccountAliases).await, "works");
    let open = |w: &mut EstateWorld, at| w.open_session("role/shop-web", "new", at, 3600, "");
    let (mut same, mut later) = (String::new(), String::new());
    let now = lab.now();
    lab.meddle(|w| {
        same = open(w, now + chrono::Duration::milliseconds(900));
        later = open(w, now + chrono::Duration::seconds(1));
    });
    let role = Principal::Role("shop-web".into());
    let t = now + chrono::Duration::seconds(1);
    lab.sim
        .put_inline_policy(&role, "AWSRevokeOlderSessions", &deny_older(t))
        .await
        .expect("put");
    for id in [&old, &same] {
        assert_eq!(
            lab.code(id, ProbeCall::ListAccountAliases).await,
            "AccessDenied"
        );
        assert_eq!(lab.code(id, whoami()).await, "works");
    }
    assert_eq!(
        lab.code(&later, ProbeCall::ListAccountAliases).await,
        "works"
    );
}

#[tokio::test]
async fn a_deny_by_issue_time_on_a_user_ends_its_sessions_and_no_key() {
    let lab = Lab::new();
    let key = lab.key_of("ci-build");
    let now = lab.now();
    let mut session = String::new();
    lab.meddle(|w| {
        session = w.open_session("user/ci-build", "", now, 3600, &key);
        w.add_role("open", "/", ALLOW_ALL, &trust_account(ACCOUNT));
    });
    let reports = || ProbeCall::AssumeRole(format!("arn:aws:iam::{ACCOUNT}:role/open"));
    assert_eq!(lab.code(&session, reports()).await, "works");
    let user = Principal::User("ci-build".into());
    let t = now + chrono::Duration::seconds(1);
    lab.sim
        .put_inline_policy(&user, "deny-older", &deny_older(t))
        .await
        .expect("put");
    assert_eq!(lab.code(&session, reports()).await, "AccessDenied");
    assert_eq!(lab.code(&key, reports()).await, "works");
}

#[tokio::test]
async fn sessions_outlive_the_key_that_they_were_made_with_and_the_role_that_they_came_from() {
    let lab = Lab::new();
    let key = lab.key_of("ci-build");
    let now = lab.now();
    let mut session = String::new();
    lab.meddle(|w| session = w.open_session("user/ci-build", "", now, 3600, &key));
    lab.sim
        .set_access_key("ci-build", &key, false)
        .await
        .expect("set");
    assert_eq!(lab.code(&session, whoami()).await, "works");
    // A chained session is another role's: revoking the first does not touch it.
    let chained = lab.world().attacker.holds[2].clone();
    let role = Principal::Role("shop-web".into());
    lab.sim
        .put_inline_policy(&role, "AWSRevokeOlderSessions", &deny_older(now))
        .await
        .expect("put");
    assert_eq!(
        lab.code(&chained, ProbeCall::ListAccountAliases).await,
        "works"
    );
    lab.clock.pass(3600 * SECOND);
    assert_eq!(lab.code(&session, whoami()).await, "ExpiredToken");
}

#[tokio::test]
async fn trust_decides_who_assumes_a_role_and_running_sessions_live_on() {
    let lab = Lab::new();
    let web = format!("arn:aws:iam::{ACCOUNT}:role/shop-web");
    let now = lab.now();
    let mint = |lab: &Lab, subject: &str| {
        let (mut made, subject) = (None, format!("system:serviceaccount:shop:{subject}"));
        lab.meddle(|w| made = w.assume_with_token(&subject, &web, "s", now).ok());
        made
    };
    let before = mint(&lab, "web").expect("trusted");
    assert!(mint(&lab, "web-2").is_none());
    let trust = trust_service_account(ACCOUNT, NAMESPACE, "web-2");
    lab.sim.set_trust("shop-web", &trust).await.expect("set");
    assert!(mint(&lab, "web").is_none());
    assert!(mint(&lab, "web-2").is_some());
    assert_eq!(
        lab.code(&before, ProbeCall::ListAccountAliases).await,
        "works"
    );
    let refused = lab
        .sim
        .assume_role(&web, "us")
        .await
        .err()
        .expect("not trusted");
    assert_eq!(refused.cause, Cause::Refused);
}

#[tokio::test]
async fn inline_policies_are_measured_together_without_white_space() {
    let lab = Lab::new();
    let role = Principal::Role("shop-web".into());
    let user = Principal::User("ci-build".into());
    let long = |n: usize| format!(r#"{{"Statement":[],  "Sid": "{}"}}"#, "x".repeat(n));
    lab.sim
        .put_inline_policy(&user, "a", &long(1_500))
        .await
        .expect("fits");
    let error = lab
        .sim
        .put_inline_policy(&user, "b", &long(400))
        .await
        .expect_err("too long");
    assert_eq!(error.cause, Cause::Rejected);
    assert!(error.detail.starts_with("LimitExceeded"));
    lab.sim
        .put_inline_policy(&role, "a", &long(9_000))
        .await
        .expect("roles hold more");
    lab.sim
        .put_inline_policy(&user, "a", &long(100))
        .await
        .expect("replaced, not added");
    let error = lab
        .sim
        .put_inline_policy(&user, "c", "{")
        .await
        .expect_err("no policy");
    assert!(error.detail.starts_with("MalformedPolicyDocument"));
}

#[tokio::test]
async fn the_operator_can_lock_itself_out_and_an_organisation_policy_is_not_simulated() {
    let lab = Lab::new();
    let me = lab.sim.identity().await.expect("who").value;
    let us = format!("arn:aws:iam::{ACCOUNT}:role/firebreak-response");
    assert!(me.arn.contains("assumed-role/firebreak-response/operator"));
    let deny = r#"{"Statement":[{"Effect":"Deny","Action":"iam:Create*","Resource":"*"}]}"#;
    let asked = ["iam:CreateAccessKey".to_owned()];
    assert!(
        lab.sim
            .simulate(&us, &asked, None)
            .await
            .expect("simulated")
            .is_empty()
    );
    assert_eq!(
        lab.sim
            .simulate(&us, &asked, Some(deny))
            .await
            .expect("simulated"),
        asked
    );
    lab.meddle(|w| w.organisation.push(deny.into()));
    assert!(
        lab.sim
            .simulate(&us, &asked, None)
            .await
            .expect("simulated")
            .is_empty()
    );
    let refused = lab
        .sim
        .create_access_key("ci-build")
        .await
        .err()
        .expect("denied");
    assert_eq!(refused.cause, Cause::Refused);
    assert!(refused.detail.contains("explicit deny"));
}

#[tokio::test]
async fn lists_come_in_pages_and_what_cannot_be_read_is_unknown() {
    let lab = Lab::new();
    lab.meddle(|w| {
        w.page_size = 2;
        w.missing.insert("iam:ListUserTags".into());
    });
    let (mut names, mut page) = (Vec::new(), None);
    loop {
        let got = lab.sim.list_users(page).await.expect("listed");
        names.extend(got.items.into_iter().map(|u| (u.name, u.tags.is_some())));
        page = got.next;
        if page.is_none() {
            break;
        }
    }
    assert_eq!(names.len(), 6);
    assert!(names.iter().all(|(_, tags)| !tags));
    let user = lab.sim.user("ci-build").await.expect("user");
    assert_eq!((user.tags, user.groups), (None, Some(Vec::new())));
    lab.meddle(|w| w.missing.clear());
    let tags = lab
        .sim
        .user("ci-build")
        .await
        .expect("user")
        .tags
        .expect("readable");
    assert_eq!(tags["team"], "pay");
}

#[tokio::test]
async fn the_trail_comes_late_and_tells_what_was_made_and_by_whom() {
    let lab = Lab::new();
    lab.meddle(|w| {
        w.trail.lag_s = 300;
        w.operator.app = "firebreak-run-7".into();
    });
    let made = lab
        .sim
        .create_access_key("ci-build")
        .await
        .expect("made")
        .value;
    let by_name = || TrailBy::EventName("CreateAccessKey".into());
    assert!(lab.events("us-east-1", by_name()).await.is_empty());
    lab.clock.pass(300 * SECOND);
    let events = lab.events("us-east-1", by_name()).await;
    assert!(lab.events(REGION, by_name()).await.is_empty());
    let raw: serde_json::Value =
        serde_json::from_str(events[0].raw.as_ref().expect("raw")).expect("json");
    assert_eq!(raw["responseElements"]["accessKey"]["accessKeyId"], made.id);
    let me = lab.sim.identity().await.expect("who").value;
    assert_eq!(raw["userIdentity"]["arn"], me.arn);
    assert_eq!(raw["userIdentity"]["accessKeyId"], me.access_key_id);
    assert!(
        raw["userAgent"]
            .as_str()
            .expect("agent")
            .contains("firebreak-run-7")
    );
}

#[tokio::test]
async fn the_chain_of_stolen_sessions_can_be_walked_in_the_trail() {
    let lab = Lab::new();
    let holds = lab.world().attacker.holds.clone();
    let next = |events: &[TrailEvent]| {
        let raw = events
            .iter()
            .find(|e| e.name == "AssumeRole")
            .and_then(|e| e.raw.clone());
        let raw: serde_json::Value = serde_json::from_str(&raw.expect("event")).expect("json");
        raw["responseElements"]["credentials"]["accessKeyId"].clone()
    };
    let events = lab
        .events(REGION, TrailBy::AccessKey(holds[1].clone()))
        .await;
    assert_eq!(next(&events), holds[2]);
    let first = lab
        .events(
            REGION,
            TrailBy::EventName("AssumeRoleWithWebIdentity".into()),
        )
        .await;
    assert!(
        first
            .iter()
            .any(|e| e.raw.as_ref().expect("raw").contains(&holds[1]))
    );
}

#[tokio::test]
async fn use_moves_the_last_use_and_a_fresh_key_has_none() {
    let lab = Lab::new();
    let made = lab
        .sim
        .create_access_key("ci-build")
        .await
        .expect("made")
        .value;
    assert_eq!(
        lab.sim.key_last_used(&made.id).await.expect("asked").at,
        None
    );
    assert_eq!(lab.code(&made.id, whoami()).await, "works");
    let used = lab.sim.key_last_used(&made.id).await.expect("asked");
    assert_eq!(
        (used.at, used.service.as_deref()),
        (Some(lab.now()), Some("sts"))
    );
}

#[tokio::test]
async fn the_servers_clock_may_differ_from_ours_and_tells_whole_seconds() {
    let lab = Lab::new();
    lab.meddle(|w| w.time.ahead_ms = 90_400);
    let date = lab
        .sim
        .identity()
        .await
        .expect("who")
        .server_date
        .expect("date");
    assert_eq!(date - lab.now(), chrono::Duration::seconds(90));
}
