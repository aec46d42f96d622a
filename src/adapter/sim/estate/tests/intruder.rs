//! The intruder, inside the window and outside it.

use super::*;

fn awake(lab: &Lab) {
    lab.meddle(|w| w.attacker.rounds = 1_000);
}

#[tokio::test]
async fn while_his_key_works_he_makes_another_and_the_trail_tells_whose_it_is() {
    let lab = Lab::new();
    awake(&lab);
    let stolen = lab.key_of("shop-payments");
    lab.sim.identity().await.expect("a moment");
    let his = lab.sim.see(|w| w.active_of(Hand::Attacker));
    assert_eq!(his.len(), 1);
    let events = lab
        .events("us-east-1", TrailBy::AccessKey(stolen.clone()))
        .await;
    let made = events
        .iter()
        .find(|e| e.name == "CreateAccessKey")
        .expect("event");
    assert!(made.raw.as_ref().expect("raw").contains(&his[0]));
    // With that one he sets the stolen one Active again.
    lab.sim
        .set_access_key("shop-payments", &stolen, false)
        .await
        .expect("set");
    assert_eq!(lab.sim.see(|w| w.active_keys("shop-payments").len()), 2);
    // He may wake one only: then both stay as they are set.
    for key in [&stolen, &his[0]] {
        lab.sim
            .set_access_key("shop-payments", key, false)
            .await
            .expect("set");
    }
    assert!(lab.sim.see(|w| w.active_keys("shop-payments").is_empty()));
    lab.sim.identity().await.expect("a moment");
    assert!(lab.sim.see(|w| w.active_keys("shop-payments").is_empty()));
}

#[tokio::test]
async fn a_dead_key_is_of_no_use_to_him() {
    let lab = Lab::new();
    let stolen = lab.key_of("shop-payments");
    lab.sim
        .set_access_key("shop-payments", &stolen, false)
        .await
        .expect("set");
    awake(&lab);
    lab.sim.identity().await.expect("a moment");
    assert!(lab.sim.see(|w| w.active_of(Hand::Attacker)).is_empty());
}

#[tokio::test]
async fn inside_the_window_of_a_late_deny_he_removes_it() {
    let lab = Lab::with(EstateFault::late("put_inline_policy", 1, 1));
    let role = Principal::Role("shop-web".into());
    let t = lab.now() + chrono::Duration::seconds(1);
    let put = async || {
        lab.sim
            .put_inline_policy(&role, "AWSRevokeOlderSessions", &deny_older(t))
            .await
    };
    put().await.expect("done, it says");
    awake(&lab);
    let in_place = || {
        lab.sim.see(|w| {
            w.members["role/shop-web"]
                .inline
                .contains_key("AWSRevokeOlderSessions")
        })
    };
    assert!(!in_place());
    // It takes hold now, and what he holds is denied from this moment on.
    lab.sim.identity().await.expect("a moment");
    assert!(in_place());
    assert!(
        lab.world()
            .attacker
            .deeds
            .iter()
            .any(|d| d.answer == "AccessDenied")
    );
}

#[tokio::test]
async fn his_token_mints_new_sessions_until_trust_is_elsewhere() {
    let lab = Lab::new();
    let role = Principal::Role("shop-web".into());
    awake(&lab);
    let t = lab.now() + chrono::Duration::seconds(1);
    let doc = deny_older(t);
    lab.clock.pass(2 * SECOND);
    lab.sim
        .put_inline_policy(&role, "AWSRevokeOlderSessions", &doc)
        .await
        .expect("put");
    let minted = |w: &EstateWorld| {
        let mints = |d: &&Deed| d.action == "sts:AssumeRoleWithWebIdentity" && d.answer == "ok";
        w.attacker.deeds.iter().filter(mints).count()
    };
    // The revoked session is worth nothing, so he mints a fresh one: its issue time is later than T.
    assert_eq!(lab.sim.see(minted), 1);
    let trust = trust_service_account(ACCOUNT, NAMESPACE, "web-2");
    lab.sim.set_trust("shop-web", &trust).await.expect("set");
    lab.clock.pass(2 * SECOND);
    let doc = deny_older(lab.now());
    lab.sim
        .put_inline_policy(&role, "AWSRevokeOlderSessions", &doc)
        .await
        .expect("put");
    lab.sim.identity().await.expect("a moment");
    assert_eq!(lab.sim.see(minted), 1);
    let refused =
        |d: &Deed| d.action == "sts:AssumeRoleWithWebIdentity" && d.answer == "AccessDenied";
    assert!(lab.world().attacker.deeds.iter().any(refused));
}

#[tokio::test]
async fn he_comes_back_into_the_database_until_the_password_is_another() {
    let lab = Lab::new();
    awake(&lab);
    let later = || lab.now() + chrono::Duration::seconds(1);
    let his = || {
        lab.sim
            .see(|w| w.has_session("web_sessions", "198.51.100.10"))
    };
    let end = async || {
        let at = server(DB_PRIMARY);
        lab.sim
            .end_sessions(&at, &admin(), "web_sessions", later())
            .await
            .expect("ended");
    };
    end().await;
    assert!(his());
    let verifier = Secret::new(verifier("another-password", b"0123456789abcdef", 4_096));
    lab.sim
        .set_verifier(&server(DB_PRIMARY), &admin(), "web_sessions", &verifier)
        .await
        .expect("set");
    assert!(his());
    end().await;
    assert!(!his());
}

#[tokio::test]
async fn before_anybody_acts_every_consumer_of_the_shop_works() {
    let lab = Lab::new();
    for _ in 0..3 {
        lab.sim.identity().await.expect("a moment");
    }
    let health = lab.world().health;
    assert_eq!(health.len(), 5);
    for (consumer, health) in health {
        assert_eq!(health.moments, 3);
        assert!(health.degraded.is_empty(), "{consumer}: {:?}", health.why);
    }
}

#[tokio::test]
async fn the_shop_has_the_names_of_the_cluster_beside_it() {
    let now = DateTime::from_timestamp(1_790_000_000, 0).expect("time");
    let cluster = world_shop(now, [7; 16]);
    let estate = estate_shop(now, &cluster);
    for pod in cluster
        .cluster
        .pods
        .iter()
        .filter(|p| p.labels.get("app").is_some_and(|a| a == "web"))
    {
        for used in &pod.secrets {
            assert!(
                estate
                    .kube_secrets
                    .contains_key(&format!("{NAMESPACE}/{}", used.name))
            );
        }
    }
    for account in &cluster.cluster.service_accounts {
        let arn = &account.annotations["eks.amazonaws.com/role-arn"];
        assert!(estate.member_of_arn(arn).is_some(), "{arn}");
    }
    let web = estate
        .deployments
        .iter()
        .find(|d| d.name == "web")
        .expect("web");
    let owners = cluster
        .cluster
        .controllers
        .iter()
        .filter_map(|c| c.owner.as_ref());
    assert!(owners.into_iter().any(|o| o.uid == web.uid));
}
