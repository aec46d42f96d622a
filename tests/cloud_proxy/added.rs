//! What it adds: places for keys, last use, pages, seeded users.

use std::time::Duration;

use serde_json::json;

use crate::scene::{Scene, create};
use crate::support::aws::seed::{Size, seed};
use crate::support::aws::{Signer, xml};

#[tokio::test]
async fn a_third_key_is_refused_and_an_inactive_one_counts() {
    let Some(scene) = Scene::begin() else { return };
    let first = scene.user("slots").await;
    scene.key("slots").await;
    scene.disable("slots", &first.id).await;
    let third = scene.iam("CreateAccessKey", &[("UserName", "slots")]).await;
    assert_eq!(
        (third.status.as_u16(), third.code().as_deref()),
        (409, Some("LimitExceeded"))
    );
    scene
        .iam(
            "DeleteAccessKey",
            &[("UserName", "slots"), ("AccessKeyId", &first.id)],
        )
        .await;
    scene.key("slots").await;
    assert_eq!(scene.proxy.effects(&create("slots")).len(), 3);
}

#[tokio::test]
async fn any_signed_call_is_a_use_and_a_refused_key_is_not_used() {
    let Some(scene) = Scene::begin() else { return };
    let key = scene.user("used").await;
    let ask = [("AccessKeyId", key.id.as_str())];
    let never = scene.iam("GetAccessKeyLastUsed", &ask).await;
    assert_eq!(xml::text(never.text(), "LastUsedDate"), None);
    let wrong = Signer::new(&key.id, "not the secret");
    assert_eq!(
        scene
            .as_(&wrong, "sts", "GetCallerIdentity", &[])
            .await
            .code()
            .as_deref(),
        Some("SignatureDoesNotMatch")
    );
    let still = scene.iam("GetAccessKeyLastUsed", &ask).await;
    assert_eq!(xml::text(still.text(), "LastUsedDate"), None);
    scene
        .json(&key, "secretsmanager", "ListSecrets", json!({}))
        .await;
    let used = scene.iam("GetAccessKeyLastUsed", &ask).await;
    assert_eq!(
        xml::text(used.text(), "ServiceName").as_deref(),
        Some("secretsmanager")
    );
    assert!(xml::text(used.text(), "LastUsedDate").is_some());

    scene.proxy.set(|settings| settings.last_used_lag_s = 600.0);
    scene.proxy.advance(Duration::from_secs(601));
    assert!(scene.alive(&key).await);
    let behind = scene.iam("GetAccessKeyLastUsed", &ask).await;
    assert_eq!(
        xml::text(behind.text(), "ServiceName").as_deref(),
        Some("secretsmanager")
    );
}

#[tokio::test]
async fn lists_of_iam_come_in_pages_that_a_deletion_does_not_upset() {
    let Some(scene) = Scene::begin() else { return };
    for name in ["page-1", "page-2", "page-3", "page-4"] {
        scene
            .iam("CreateUser", &[("UserName", name), ("Path", "/pages/")])
            .await;
    }
    let page = |marker: Option<String>| {
        let scene = &scene;
        async move {
            let mut ask = vec![("PathPrefix", "/pages/"), ("MaxItems", "2")];
            ask.extend(marker.as_deref().map(|marker| ("Marker", marker)));
            let reply = scene.iam("ListUsers", &ask).await;
            let names: Vec<String> = xml::members(reply.text())
                .expect("users")
                .items
                .iter()
                .filter_map(|item| xml::text(item, "UserName"))
                .collect();
            (
                names,
                xml::text(reply.text(), "Marker"),
                xml::text(reply.text(), "IsTruncated"),
            )
        }
    };
    let (first, marker, truncated) = page(None).await;
    assert_eq!(
        (first, truncated.as_deref()),
        (vec!["page-1".to_owned(), "page-2".to_owned()], Some("true"))
    );
    scene.iam("DeleteUser", &[("UserName", "page-1")]).await;
    let (second, marker, truncated) = page(marker).await;
    assert_eq!(second, ["page-3", "page-4"]);
    assert_eq!((marker, truncated.as_deref()), (None, Some("false")));
}

#[tokio::test]
async fn lists_of_secrets_come_in_pages_and_a_cap_makes_them_small() {
    let Some(scene) = Scene::begin() else { return };
    for name in ["paged/1", "paged/2", "paged/3"] {
        scene
            .json(
                &scene.root,
                "secretsmanager",
                "CreateSecret",
                json!({ "Name": name, "SecretString": "x" }),
            )
            .await;
    }
    scene.proxy.set(|settings| settings.page_size = 2);
    let mine = json!([{ "Key": "name", "Values": ["paged/"] }]);
    let first = scene
        .json(
            &scene.root,
            "secretsmanager",
            "ListSecrets",
            json!({ "Filters": mine }),
        )
        .await;
    assert_eq!(first["SecretList"].as_array().map(Vec::len), Some(2));
    let more = json!({ "Filters": mine, "NextToken": first["NextToken"] });
    let second = scene
        .json(&scene.root, "secretsmanager", "ListSecrets", more)
        .await;
    assert_eq!(second["SecretList"][0]["Name"], "paged/3");
    assert!(second.get("NextToken").is_none());
}

#[tokio::test]
async fn seeding_makes_users_whose_keys_and_secrets_work() {
    let Some(scene) = Scene::begin() else { return };
    let size = Size {
        users: 4,
        two_keys_every: 2,
    };
    let seeded = seed(scene.proxy.address(), size).await.expect("a company");
    assert_eq!(
        seeded
            .users
            .iter()
            .map(|user| user.keys.len())
            .collect::<Vec<_>>(),
        [1, 2, 1, 2]
    );
    let (id, secret) = &seeded.users[0].keys[0];
    let machine = Signer::new(id, secret);
    let read = json!({ "SecretId": seeded.users[0].secret });
    let held = scene
        .json(&machine, "secretsmanager", "GetSecretValue", read)
        .await;
    assert!(
        held["SecretString"]
            .as_str()
            .expect("its own secret")
            .contains(id.as_str())
    );
    let others = json!({ "SecretId": seeded.users[1].secret });
    let refused = scene
        .json(&machine, "secretsmanager", "GetSecretValue", others)
        .await;
    assert!(
        refused["__type"]
            .as_str()
            .expect("a refusal")
            .contains("AccessDenied"),
        "{refused}"
    );
}
