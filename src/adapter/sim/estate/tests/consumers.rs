//! The database and the cluster's consumers.

use std::collections::BTreeMap;

use super::*;
use crate::incident::body::ObjectRef;
use crate::port::{Rollout, SecretWrite};

const ROLE: &str = "web_sessions";
const NEW: &str = "a-new-password-of-the-rotation-32";

async fn answer(lab: &Lab, host: &str, password: &str) -> String {
    match lab
        .sim
        .try_login(&server(host), &login(ROLE, password))
        .await
        .expect("up")
    {
        LoginAnswer::Accepted { .. } => "accepted".into(),
        LoginAnswer::Refused { sqlstate, .. } => sqlstate,
    }
}

fn old_password(lab: &Lab) -> String {
    lab.sim.see(|w| {
        json(
            w.secrets["shop/db/web-sessions"].current().expect("value"),
            "password",
        )
    })
}

async fn set(lab: &Lab, password: &str) {
    let verifier = Secret::new(postgres_protocol::password::scram_sha_256(
        password.as_bytes(),
    ));
    lab.sim
        .set_verifier(&server(DB_PRIMARY), &admin(), ROLE, &verifier)
        .await
        .expect("set");
}

async fn workload(lab: &Lab, secret: &str) -> ObjectRef {
    let found = lab.sim.consumers(NAMESPACE, secret).await.expect("listed");
    found.first().expect("one").object.clone()
}

async fn write(lab: &Lab, name: &str, key: &str, from: &str, to: &str) {
    let seen = lab.sim.secret(NAMESPACE, name).await.expect("read");
    let (from, to) = (Secret::new(from.into()), Secret::new(to.into()));
    let write = SecretWrite {
        object: &seen.object,
        expect: BTreeMap::from([(key.to_owned(), Some(&from))]),
        set: BTreeMap::from([(key.to_owned(), &to)]),
    };
    lab.sim.write_secret(&write).await.expect("written");
}

async fn roll(lab: &Lab, workload: &ObjectRef, looks: usize) -> Rollout {
    let mut seen = lab.sim.rollout(workload).await.expect("seen");
    for _ in 1..looks {
        if seen.complete() {
            break;
        }
        seen = lab.sim.rollout(workload).await.expect("seen");
    }
    seen
}

#[tokio::test]
async fn a_login_is_checked_against_the_verifier_on_primary_and_replica() {
    let lab = Lab::new();
    let old = old_password(&lab);
    lab.meddle(|w| w.databases[0].replica_lag = 3);
    set(&lab, NEW).await;
    assert_eq!(answer(&lab, DB_PRIMARY, NEW).await, "accepted");
    assert_eq!(answer(&lab, DB_PRIMARY, &old).await, "28P01");
    // The replica has not seen it yet, then it has.
    assert_eq!(answer(&lab, DB_REPLICA, NEW).await, "accepted");
    assert_eq!(answer(&lab, DB_REPLICA, &old).await, "28P01");
    set(&lab, &old).await;
    assert_eq!(answer(&lab, DB_REPLICA, &old).await, "28P01");
    let stranger = login("nobody", NEW);
    let no = lab
        .sim
        .try_login(&server(DB_PRIMARY), &stranger)
        .await
        .expect("up");
    assert!(matches!(no, LoginAnswer::Refused { sqlstate, .. } if sqlstate == "28P01"));
}

#[tokio::test]
async fn a_role_that_may_not_log_in_is_28000_with_the_right_password_only() {
    let lab = Lab::new();
    let old = old_password(&lab);
    lab.meddle(|w| w.databases[0].roles.get_mut(ROLE).expect("role").can_login = false);
    assert_eq!(answer(&lab, DB_PRIMARY, &old).await, "28000");
    assert_eq!(answer(&lab, DB_PRIMARY, NEW).await, "28P01");
}

#[tokio::test]
async fn open_sessions_survive_a_new_verifier_and_are_ended_per_server() {
    let lab = Lab::new();
    let primary = server(DB_PRIMARY);
    let later = lab.now() + chrono::Duration::seconds(1);
    let open = async |host| {
        let seen = lab.sim.sessions(&server(host), &admin(), ROLE, later).await;
        seen.expect("listed").matched
    };
    // Two pods and the intruder.
    assert_eq!(open(DB_PRIMARY).await, 3);
    set(&lab, NEW).await;
    assert_eq!(open(DB_PRIMARY).await, 3);
    assert_eq!(open(DB_REPLICA).await, 0);
    let ended = lab
        .sim
        .end_sessions(&primary, &admin(), ROLE, later)
        .await
        .expect("ended");
    assert_eq!(ended.matched, 3);
    assert!(ended.clients.iter().any(|c| c.contains("198.51.100.10")));
    assert_eq!(open(DB_PRIMARY).await, 0);
}

#[tokio::test]
async fn sessions_that_began_after_the_cut_are_spared() {
    let lab = Lab::new();
    let cut = lab.now() - chrono::Duration::minutes(10);
    let primary = server(DB_PRIMARY);
    let ended = lab
        .sim
        .end_sessions(&primary, &admin(), ROLE, cut)
        .await
        .expect("ended");
    assert_eq!(ended.matched, 1);
    let all = lab.now() + chrono::Duration::seconds(1);
    let left = lab
        .sim
        .sessions(&primary, &admin(), ROLE, all)
        .await
        .expect("listed");
    assert_eq!(left.matched, 2);
}

#[tokio::test]
async fn a_lesser_admin_cannot_reach_a_superuser_nor_see_verifiers() {
    let lab = Lab::new();
    let primary = server(DB_PRIMARY);
    let seen = lab.sim.role(&primary, &admin(), ROLE).await.expect("seen");
    assert!(seen.exists && seen.can_login && !seen.in_recovery);
    assert_eq!(
        (seen.password_type.as_str(), &seen.verifier_sha256),
        ("unknown", &None)
    );
    assert!(
        lab.sim
            .role(&server(DB_REPLICA), &admin(), ROLE)
            .await
            .expect("seen")
            .in_recovery
    );
    lab.meddle(|w| w.databases[0].roles.get_mut(ROLE).expect("role").superuser = true);
    let later = lab.now() + chrono::Duration::seconds(1);
    let ended = lab
        .sim
        .end_sessions(&primary, &admin(), ROLE, later)
        .await
        .expect("asked");
    assert_eq!((ended.matched, ended.out_of_reach), (0, 3));
    lab.meddle(|w| {
        w.databases[0]
            .roles
            .get_mut(DB_ADMIN)
            .expect("role")
            .superuser = true
    });
    let seen = lab.sim.role(&primary, &admin(), ROLE).await.expect("seen");
    assert_eq!(seen.password_type, "SCRAM-SHA-256");
    assert!(seen.verifier_sha256.is_some());
}

#[tokio::test]
async fn a_replica_takes_no_password_and_a_password_in_clear_is_no_verifier() {
    let lab = Lab::new();
    let cause = async |host, text: String| {
        let verifier = Secret::new(text);
        let set = lab
            .sim
            .set_verifier(&server(host), &admin(), ROLE, &verifier)
            .await;
        set.expect_err("refused").cause
    };
    let verifier = postgres_protocol::password::scram_sha_256(NEW.as_bytes());
    assert_eq!(cause(DB_REPLICA, verifier).await, Cause::Rejected);
    assert_eq!(cause(DB_PRIMARY, NEW.into()).await, Cause::Rejected);
    let wrong = login(DB_ADMIN, "wrong");
    let refused = lab
        .sim
        .role(&server(DB_PRIMARY), &wrong, ROLE)
        .await
        .expect_err("refused");
    assert_eq!(refused.cause, Cause::Refused);
}

#[tokio::test]
async fn one_role_has_a_window_that_ends_when_its_consumer_has_rolled_out() {
    let lab = Lab::new();
    let old = old_password(&lab);
    let web = workload(&lab, "web-session-key").await;
    assert!(lab.sim.see(|w| w.outages("Deployment/shop/web").is_empty()));
    set(&lab, NEW).await;
    assert!(!lab.sim.see(|w| w.outages("Deployment/shop/web").is_empty()));
    write(&lab, "web-session-key", "DB_PASSWORD", &old, NEW).await;
    // It read its environment when it started: the write alone does not help.
    let before = lab.sim.rollout(&web).await.expect("seen");
    assert_eq!(before.available, 0);
    lab.sim
        .restart(&web, Some("run-1"))
        .await
        .expect("restarted");
    lab.sim
        .restart(&web, Some("run-1"))
        .await
        .expect("the same again");
    let done = roll(&lab, &web, 12).await;
    assert!(done.complete(), "{done:?}");
    assert_eq!(done.restarted_by.as_deref(), Some("run-1"));
    assert_eq!(lab.world().deployments[0].rollouts, 1);
    let outages = lab.sim.see(|w| w.outages("Deployment/shop/web").len());
    lab.sim.identity().await.expect("one more moment");
    assert_eq!(
        lab.sim.see(|w| w.outages("Deployment/shop/web").len()),
        outages
    );
}

#[tokio::test]
async fn a_rollout_keeps_its_old_pods_until_new_ones_work_and_can_be_taken_back() {
    let lab = Lab::new();
    let old = old_password(&lab);
    let web = workload(&lab, "web-session-key").await;
    write(
        &lab,
        "web-session-key",
        "DB_PASSWORD",
        &old,
        "not-the-password",
    )
    .await;
    lab.sim
        .restart(&web, Some("run-1"))
        .await
        .expect("restarted");
    let stuck = roll(&lab, &web, 8).await;
    assert!(!stuck.complete());
    assert_eq!(stuck.available, 2);
    assert!(
        stuck
            .trouble
            .as_deref()
            .expect("said")
            .starts_with("CrashLoopBackOff")
    );
    write(
        &lab,
        "web-session-key",
        "DB_PASSWORD",
        "not-the-password",
        &old,
    )
    .await;
    lab.sim.restart(&web, None).await.expect("taken back");
    let back = roll(&lab, &web, 8).await;
    assert!(back.complete(), "{back:?}");
    assert_eq!(back.restarted_by, None);
    assert!(lab.sim.see(|w| w.outages("Deployment/shop/web").is_empty()));
}

#[tokio::test]
async fn a_volume_follows_its_secret_and_an_access_key_is_used_by_its_consumer() {
    let lab = Lab::new();
    let user = "shop-payments";
    let old = lab.key_of(user);
    let secret = lab.signer(&old).secret;
    let new = lab.sim.create_access_key(user).await.expect("made").value;
    let seen = lab
        .sim
        .secret(NAMESPACE, "payment-api-token")
        .await
        .expect("read");
    let id = Secret::new(new.id.clone());
    let write = SecretWrite {
        object: &seen.object,
        expect: BTreeMap::from([("AWS_SECRET_ACCESS_KEY".to_owned(), Some(&secret))]),
        set: BTreeMap::from([
            ("AWS_ACCESS_KEY_ID".to_owned(), &id),
            ("AWS_SECRET_ACCESS_KEY".to_owned(), &new.secret),
        ]),
    };
    lab.sim.write_secret(&write).await.expect("written");
    lab.sim
        .set_access_key(user, &old, false)
        .await
        .expect("set");
    let health = || lab.world().health["Deployment/shop/web"].clone();
    assert!(health().degraded.is_empty(), "{:?}", health().why);
    assert!(
        lab.sim
            .key_last_used(&new.id)
            .await
            .expect("asked")
            .at
            .is_some()
    );
    lab.sim
        .set_access_key(user, &new.id, false)
        .await
        .expect("set");
    assert_eq!(health().outages.len(), 1);
    assert!(health().why.expect("said").contains("InvalidClientTokenId"));
}

#[tokio::test]
async fn a_secret_is_written_only_if_it_is_as_it_was() {
    let lab = Lab::new();
    let seen = lab
        .sim
        .secret(NAMESPACE, "db-credentials")
        .await
        .expect("read");
    let (other, new) = (Secret::new("other".into()), Secret::new("new".into()));
    let mut object = seen.object.clone();
    let cause = async |object: &ObjectRef, expect: Option<&Secret>| {
        let write = SecretWrite {
            object,
            expect: BTreeMap::from([("DB_PASSWORD".to_owned(), expect)]),
            set: BTreeMap::from([("DB_PASSWORD".to_owned(), &new)]),
        };
        lab.sim.write_secret(&write).await.err().map(|e| e.cause)
    };
    let now = &seen.data["DB_PASSWORD"];
    assert_eq!(cause(&object, Some(&other)).await, Some(Cause::Conflict));
    assert_eq!(cause(&object, None).await, Some(Cause::Conflict));
    object.uid = "another".into();
    assert_eq!(cause(&object, Some(now)).await, Some(Cause::Conflict));
    let set = |w: &mut EstateWorld, immutable| {
        w.kube_secrets
            .get_mut("shop/db-credentials")
            .expect("there")
            .immutable = immutable;
    };
    lab.meddle(|w| set(w, true));
    assert_eq!(cause(&seen.object, Some(now)).await, Some(Cause::Rejected));
    lab.meddle(|w| set(w, false));
    assert_eq!(cause(&seen.object, Some(now)).await, None);
    // The same again is no conflict: a resume may send it twice.
    assert_eq!(cause(&seen.object, Some(now)).await, None);
    let after = lab
        .sim
        .secret(NAMESPACE, "db-credentials")
        .await
        .expect("read");
    assert_ne!(after.version, seen.version);
    assert_eq!(after.managers.last().map(String::as_str), Some("firebreak"));
}

#[tokio::test]
async fn a_writer_from_elsewhere_takes_our_change_back() {
    let lab = Lab::new();
    lab.meddle(|w| {
        let secret = w
            .kube_secrets
            .get_mut("shop/db-credentials")
            .expect("there");
        secret.written_by = Some("ExternalSecret/db".into());
        secret.reverts = Some(Reverting {
            data: secret.data.clone(),
            after: 1,
            left: None,
        });
    });
    let seen = lab
        .sim
        .secret(NAMESPACE, "db-credentials")
        .await
        .expect("read");
    let old = seen.data["DB_PASSWORD"].duplicate();
    write(
        &lab,
        "db-credentials",
        "DB_PASSWORD",
        old.expose_secret(),
        NEW,
    )
    .await;
    for _ in 0..2 {
        lab.sim.identity().await.expect("a moment");
    }
    let after = lab
        .sim
        .secret(NAMESPACE, "db-credentials")
        .await
        .expect("read");
    assert!(after.data["DB_PASSWORD"].same_as(&old));
    assert_eq!(after.written_by.as_deref(), Some("ExternalSecret/db"));
}

#[tokio::test]
async fn a_workload_moves_to_a_new_account_and_gets_its_role_by_it() {
    let lab = Lab::new();
    let web = workload(&lab, "web-session-key").await;
    let arn = format!("arn:aws:iam::{ACCOUNT}:role/shop-web");
    let annotations = BTreeMap::from([("eks.amazonaws.com/role-arn".to_owned(), arn)]);
    let put = async |a: &BTreeMap<String, String>| {
        lab.sim.put_service_account(NAMESPACE, "web-2", a).await
    };
    let made = put(&annotations).await.expect("made");
    assert_eq!(put(&annotations).await.expect("the same").uid, made.uid);
    assert_eq!(
        put(&BTreeMap::new()).await.expect_err("another").cause,
        Cause::Conflict
    );
    let wrong = lab.sim.move_service_account(&web, "api", "web-2").await;
    assert_eq!(wrong.expect_err("refused").cause, Cause::Conflict);
    let trust = trust_service_account(ACCOUNT, NAMESPACE, "web-2");
    lab.sim.set_trust("shop-web", &trust).await.expect("set");
    lab.sim
        .move_service_account(&web, "web", "web-2")
        .await
        .expect("moved");
    let done = roll(&lab, &web, 12).await;
    assert!(done.complete(), "{done:?}");
    assert_eq!(done.service_account, "web-2");
    assert!(lab.sim.see(|w| w.outages("Deployment/shop/web").is_empty()));
}

#[tokio::test]
async fn what_has_no_template_is_listed_and_not_rolled_out() {
    let lab = Lab::new();
    lab.meddle(|w| {
        let mut job = w.deployments[0].clone();
        (job.kind, job.name, job.uid) = ("Job".into(), "report".into(), "uid-job".into());
        w.deployments.push(job);
    });
    let found = lab
        .sim
        .consumers(NAMESPACE, "web-session-key")
        .await
        .expect("listed");
    assert_eq!(
        found.iter().map(|c| c.rollable).collect::<Vec<_>>(),
        [true, false]
    );
    let job = found[1].object.clone();
    let refused = lab
        .sim
        .restart(&job, Some("run-1"))
        .await
        .expect_err("refused");
    assert_eq!(refused.cause, Cause::Unsupported);
}
