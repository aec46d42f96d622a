//! What it breaks, by order.

use std::time::Duration;

use serde_json::json;

use crate::scene::{PATIENCE, Scene, create};
use crate::support::aws::{Bucket, Delay, Effect, Entry, Fault, Match, Order};

#[tokio::test]
async fn a_refusal_before_the_effect_speaks_the_services_protocol() {
    let Some(scene) = Scene::begin() else { return };
    scene.user("refused").await;
    let refuse = |status, code: &str| Fault::Refuse {
        status,
        code: code.to_owned(),
        message: String::new(),
    };
    scene
        .proxy
        .order(Order::new(create("refused"), refuse(500, "ServiceFailure")).nth(2));
    scene.key("refused").await;
    let reply = scene
        .iam("CreateAccessKey", &[("UserName", "refused")])
        .await;
    assert_eq!(
        (reply.status.as_u16(), reply.code().as_deref()),
        (500, Some("ServiceFailure"))
    );
    assert_eq!(scene.keys("refused").await.len(), 2);
    let entry = scene
        .proxy
        .log()
        .into_iter()
        .find(|e| e.status == Some(500))
        .expect("it is in the log");
    assert_eq!(
        (entry.forwarded, entry.effect, entry.fault.as_deref()),
        (0, Effect::None, Some("refuse"))
    );

    let put = Match::action("secretsmanager", "Put*");
    scene
        .proxy
        .order(Order::new(put, refuse(400, "InternalServiceError")));
    let body = json!({ "SecretId": "none", "SecretString": "x" });
    let reply = scene
        .json(&scene.root, "secretsmanager", "PutSecretValue", body)
        .await;
    assert_eq!(reply["__type"], "InternalServiceError");
}

#[tokio::test]
async fn a_lost_request_has_no_effect_and_a_lost_or_cut_reply_has_one() {
    let Some(scene) = Scene::begin() else { return };
    scene.user("lost").await;
    scene.proxy.forget();
    let all = [
        (Fault::LoseRequest, 0),
        (Fault::LoseReply, 1),
        (Fault::CutReply, 1),
    ];
    for (fault, effects) in all {
        scene.proxy.forget();
        scene.proxy.order(Order::new(create("lost"), fault.clone()));
        let answer = scene
            .client
            .query(
                &scene.root,
                "iam",
                "CreateAccessKey",
                &[("UserName", "lost")],
            )
            .await;
        assert!(answer.is_err(), "{fault:?}");
        assert_eq!(
            scene.proxy.effects(&create("lost")).len(),
            effects,
            "{fault:?}"
        );
        if let Some(extra) = scene.keys("lost").await.get(1) {
            scene
                .iam(
                    "DeleteAccessKey",
                    &[("UserName", "lost"), ("AccessKeyId", extra)],
                )
                .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_without_an_answer_is_in_the_log_with_its_effect() {
    let Some(scene) = Scene::begin() else { return };
    scene.user("silent").await;
    for (fault, forwarded) in [(Fault::HangRequest, 0), (Fault::HangReply, 1)] {
        scene.proxy.forget();
        scene.proxy.order(Order::new(create("silent"), fault));
        let (client, root) = (scene.client.clone(), scene.root.clone());
        let asking = tokio::spawn(async move {
            client
                .query(&root, "iam", "CreateAccessKey", &[("UserName", "silent")])
                .await
        });
        let wanted = |e: &Entry| e.ended && e.call.action == "CreateAccessKey";
        let entry = scene.proxy.wait(0, wanted, PATIENCE).expect("it is noted");
        assert_eq!((entry.status, entry.forwarded), (None, forwarded));
        asking.abort();
    }
}

#[tokio::test]
async fn a_client_that_goes_away_does_not_take_its_call_with_it() {
    let Some(scene) = Scene::begin() else { return };
    scene.user("gone").await;
    scene
        .proxy
        .order(Order::new(create("gone"), Fault::Latency(200)));
    let number = scene.proxy.log().len() as u64;
    let call = scene.client.query(
        &scene.root,
        "iam",
        "CreateAccessKey",
        &[("UserName", "gone")],
    );
    let arrived = async {
        while scene.proxy.log_after(number).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! { _ = call => panic!("it is held up"), () = arrived => {} }
    let entry = scene
        .proxy
        .wait(number, |e| e.ended, PATIENCE)
        .expect("it ends");
    assert_eq!((entry.effect, entry.status), (Effect::Done, Some(200)));
}

#[tokio::test]
async fn a_hidden_bucket_throttles_until_it_refills() {
    let Some(scene) = Scene::begin() else { return };
    scene
        .proxy
        .set(|settings| settings.buckets = vec![Bucket::new(Some("iam"), None, 0.001, 2.0)]);
    for _ in 0..2 {
        assert!(scene.iam("ListUsers", &[]).await.ok());
    }
    let throttled = scene.iam("ListUsers", &[]).await;
    assert_eq!(
        (throttled.status.as_u16(), throttled.code().as_deref()),
        (400, Some("Throttling"))
    );
    assert!(
        scene.alive(&scene.root).await,
        "another service has its own"
    );
    scene.proxy.advance(Duration::from_secs(1000));
    assert!(scene.iam("ListUsers", &[]).await.ok());
}

#[tokio::test]
async fn a_call_delivered_twice_works_twice_and_is_answered_once() {
    let Some(scene) = Scene::begin() else { return };
    scene.iam("CreateUser", &[("UserName", "twice")]).await;
    scene.proxy.order(Order::new(create("twice"), Fault::Twice));
    let seen = scene.key("twice").await;
    let keys = scene.keys("twice").await;
    assert_eq!((keys.len(), &keys[0]), (2, &seen.id));
    assert_eq!(scene.proxy.effects(&create("twice"))[0].forwarded, 2);
}

#[tokio::test]
async fn a_late_effect_is_answered_at_once_and_comes_after_so_many_calls() {
    let Some(scene) = Scene::begin() else { return };
    let key = scene.user("late").await;
    scene.proxy.order(Order::new(
        Match::action("iam", "UpdateAccessKey"),
        Fault::Late(Delay::Calls(2)),
    ));
    assert!(scene.disable("late", &key.id).await.ok());
    let alive = [
        scene.alive(&key).await,
        scene.alive(&key).await,
        scene.alive(&key).await,
    ];
    assert_eq!(alive, [true, true, false]);
    assert_eq!(
        scene
            .proxy
            .effects(&Match::action("iam", "UpdateAccessKey"))
            .len(),
        1
    );
}

#[tokio::test]
async fn a_late_effect_comes_by_the_proxys_clock_too() {
    let Some(scene) = Scene::begin() else { return };
    let key = scene.user("later").await;
    let delete = Match::action("iam", "DeleteAccessKey");
    scene.proxy.order(Order::new(
        delete.clone(),
        Fault::Late(Delay::Seconds(3600.0)),
    ));
    assert!(
        scene
            .iam(
                "DeleteAccessKey",
                &[("UserName", "later"), ("AccessKeyId", &key.id)]
            )
            .await
            .ok()
    );
    assert_eq!(scene.keys("later").await, [key.id]);
    assert_eq!(scene.proxy.effects(&delete).len(), 0);
    scene.proxy.advance(Duration::from_secs(3601));
    let done = scene.proxy.wait(
        0,
        |e| e.effect == Effect::Done && delete.fits(&e.call),
        PATIENCE,
    );
    assert!(done.is_some());
    assert!(scene.keys("later").await.is_empty());
}

#[tokio::test]
async fn a_new_key_is_refused_and_not_listed_while_it_is_hidden() {
    let Some(scene) = Scene::begin() else { return };
    scene.user("hidden").await;
    scene.proxy.order(Order::new(
        create("hidden"),
        Fault::HideKey(Delay::Calls(2)),
    ));
    let key = scene.key("hidden").await;
    assert_eq!(scene.keys("hidden").await.len(), 1);
    let refused = scene.as_(&key, "sts", "GetCallerIdentity", &[]).await;
    assert_eq!(refused.code().as_deref(), Some("InvalidClientTokenId"));
    assert!(scene.alive(&key).await);
    assert_eq!(scene.keys("hidden").await.len(), 2);
}
