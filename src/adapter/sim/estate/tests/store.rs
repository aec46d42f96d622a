//! The secret store and leases.

use super::*;
use crate::port::{CURRENT, Claim, LeaseTerms, PENDING, PREVIOUS};

const ID: &str = "shop/payments/key";
const TOKEN: &str = "5f0c1f1e-0000-5000-8000-000000000001";
const OTHER: &str = "5f0c1f1e-0000-5000-8000-000000000002";

fn value(text: &str) -> Secret {
    Secret::new(text.into())
}

async fn holder(lab: &Lab, label: &str) -> Option<String> {
    let seen = lab.sim.describe(ID).await.expect("described").value;
    seen.holder(label).map(str::to_owned)
}

#[tokio::test]
async fn the_same_token_with_the_same_value_is_nothing_and_with_another_a_conflict() {
    let lab = Lab::new();
    lab.sim
        .put(ID, TOKEN, &value("new-value"), &[PENDING])
        .await
        .expect("put");
    lab.sim
        .put(ID, TOKEN, &value("new-value"), &[PENDING])
        .await
        .expect("again");
    assert_eq!(lab.sim.see(|w| w.count("vault_put", ID)), 1);
    let other = lab
        .sim
        .put(ID, TOKEN, &value("other-value"), &[PENDING])
        .await;
    assert_eq!(other.expect_err("refused").cause, Cause::Conflict);
    let read = lab
        .sim
        .read(ID, &VersionRef::Id(TOKEN.into()))
        .await
        .expect("read");
    assert_eq!(read.value.expose_secret(), "new-value");
    let short = lab.sim.put(ID, "short", &value("v"), &[PENDING]).await;
    assert_eq!(short.expect_err("refused").cause, Cause::Rejected);
}

#[tokio::test]
async fn a_label_moves_only_from_its_holder_and_the_previous_one_follows() {
    let lab = Lab::new();
    let old = holder(&lab, CURRENT).await.expect("current");
    lab.sim
        .put(ID, TOKEN, &value("new-value"), &[PENDING])
        .await
        .expect("put");
    let stale = lab
        .sim
        .move_label(ID, CURRENT, Some(TOKEN), Some(TOKEN))
        .await;
    assert_eq!(stale.expect_err("refused").cause, Cause::Conflict);
    let unnamed = lab.sim.move_label(ID, CURRENT, None, Some(TOKEN)).await;
    assert_eq!(unnamed.expect_err("refused").cause, Cause::Conflict);
    lab.sim
        .move_label(ID, CURRENT, Some(&old), Some(TOKEN))
        .await
        .expect("moved");
    assert_eq!(holder(&lab, CURRENT).await.as_deref(), Some(TOKEN));
    assert_eq!(holder(&lab, PREVIOUS).await, Some(old.clone()));
    assert_eq!(lab.sim.see(|w| w.labelled(ID)), (1, 1));
    lab.sim
        .move_label(ID, PENDING, Some(TOKEN), None)
        .await
        .expect("removed");
    lab.sim
        .move_label(ID, PREVIOUS, Some(&old), None)
        .await
        .expect("removed");
    assert_eq!(lab.sim.see(|w| w.labelled(ID)), (1, 0));
    // Clean labels are no proof: the old value can still be read by its id.
    lab.sim
        .read(ID, &VersionRef::Id(old))
        .await
        .expect("still readable");
    let removed = lab.sim.move_label(ID, CURRENT, Some(TOKEN), None).await;
    assert_eq!(removed.expect_err("refused").cause, Cause::Rejected);
}

#[tokio::test]
async fn a_name_is_taken_also_while_it_waits_for_its_deletion() {
    let lab = Lab::new();
    let none = std::collections::BTreeMap::new();
    lab.sim
        .create("escrow/1", TOKEN, &value("v"), &none)
        .await
        .expect("made");
    lab.sim
        .create("escrow/1", TOKEN, &value("v"), &none)
        .await
        .expect("the same");
    let taken = async |token| {
        let made = lab.sim.create("escrow/1", token, &value("w"), &none).await;
        made.expect_err("taken").cause
    };
    assert_eq!(taken(TOKEN).await, Cause::Conflict);
    assert_eq!(taken(OTHER).await, Cause::Conflict);
    let now = lab.now();
    lab.meddle(|w| w.secrets.get_mut("escrow/1").expect("there").deleted = Some(now));
    assert_eq!(taken(OTHER).await, Cause::Conflict);
    let read = lab
        .sim
        .read("escrow/1", &VersionRef::Label(CURRENT.into()))
        .await;
    assert_eq!(read.err().expect("refused").cause, Cause::Rejected);
}

#[tokio::test]
async fn a_secret_tells_who_else_writes_it_and_a_service_keeps_its_own() {
    let lab = Lab::new();
    let owned = lab
        .sim
        .describe("rds!cluster-reports")
        .await
        .expect("there")
        .value;
    assert_eq!(owned.owning_service.as_deref(), Some("rds"));
    let put = lab
        .sim
        .put("rds!cluster-reports", TOKEN, &value("v"), &[PENDING])
        .await;
    assert_eq!(put.expect_err("refused").cause, Cause::Rejected);
    let turned = lab
        .sim
        .describe("shop/mail/smtp")
        .await
        .expect("there")
        .value;
    assert!(turned.rotation_enabled && turned.rotation_function.is_some());
}

#[tokio::test]
async fn a_foreign_pending_version_appears_and_a_late_version_is_not_seen_at_first() {
    let then = Mishap::ForeignPending { secret: ID.into() };
    let lab = Lab::with(EstateFault::of("describe", 1, then));
    let seen = lab.sim.describe(ID).await.expect("described").value;
    assert_ne!(seen.holder(PENDING), seen.holder(CURRENT));
    assert!(seen.holder(PENDING).is_some());
    lab.sim.fault(EstateFault::hidden("vault_put", 1, 2));
    lab.sim
        .put(ID, TOKEN, &value("new-value"), &[])
        .await
        .expect("put");
    let read = async || lab.sim.read(ID, &VersionRef::Id(TOKEN.into())).await;
    assert_eq!(read().await.err().expect("hidden").cause, Cause::NotFound);
    assert_eq!(read().await.expect("seen").labels, [CURRENT]);
}

#[tokio::test]
async fn replicas_follow_after_a_while_and_reads_are_kept_to_the_day() {
    let lab = Lab::new();
    lab.meddle(|w| {
        let secret = w.secrets.get_mut(ID).expect("there");
        secret.replicas.insert("eu-west-1".into(), 0);
        secret.replica_lag = 2;
    });
    lab.sim
        .put(ID, TOKEN, &value("new-value"), &[])
        .await
        .expect("put");
    let status = async || {
        let seen = lab.sim.describe(ID).await.expect("there").value;
        (seen.replicas["eu-west-1"].clone(), seen.accessed)
    };
    assert_eq!(status().await.0, "InProgress");
    lab.sim
        .read(ID, &VersionRef::Label(CURRENT.into()))
        .await
        .expect("read");
    let (replica, accessed) = status().await;
    assert_eq!(replica, "InSync");
    assert_eq!(
        accessed.expect("read").to_rfc3339(),
        "2026-09-21T00:00:00+00:00"
    );
}

#[tokio::test]
async fn a_lease_has_one_holder_and_an_older_holder_finds_itself_put_off() {
    let lab = Lab::new();
    let terms = |run: &str| LeaseTerms {
        what: format!("account/{ACCOUNT}"),
        owner: "ana@ops".into(),
        run: run.into(),
        epoch: 0,
        expires: lab.now() + chrono::Duration::seconds(60),
    };
    let claim = async |run: &str| lab.sim.claim(&terms(run), lab.now()).await.expect("asked");
    let Claim::Ours(first) = claim("run-1").await else {
        panic!("free")
    };
    assert_eq!(first.terms.epoch, 1);
    let Claim::Theirs(theirs) = claim("run-2").await else {
        panic!("held")
    };
    assert_eq!(theirs.run, "run-1");
    let Claim::Ours(again) = claim("run-1").await else {
        panic!("ours")
    };
    assert_eq!(again.terms.epoch, 1);
    let until = lab.now() + chrono::Duration::seconds(120);
    let put_off = lab.sim.renew(&first, until).await.expect_err("put off");
    assert_eq!(put_off.cause, Cause::Conflict);
    let renewed = lab.sim.renew(&again, until).await.expect("renewed");
    lab.clock.pass(130 * SECOND);
    let Claim::Ours(second) = claim("run-2").await else {
        panic!("run out")
    };
    assert_eq!(second.terms.epoch, 2);
    lab.sim.release(&renewed).await.expect("gone is fine");
    lab.sim.release(&second).await.expect("given back");
    let Claim::Ours(third) = claim("run-3").await else {
        panic!("free")
    };
    assert_eq!(third.terms.epoch, 3);
}
