//! Its ways: orders over HTTP, more than one double.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::scene::Scene;
use crate::support::aws::forward::{Forwarder, Request};
use crate::support::aws::{AwsProxy, Client, Match, Options, Signer};
use crate::support::doubles::{Which, double};

#[tokio::test]
async fn orders_come_over_http_too() {
    let Some(scene) = Scene::begin() else { return };
    let control = scene.proxy.control();
    let order = json!({ "match": { "action": "ListUsers" }, "fault": { "refuse": { "status": 503, "code": "Busy" } } });
    assert_eq!(ask(control, "POST", "orders", &order).await["orders"], 1);
    assert_eq!(
        scene.iam("ListUsers", &[]).await.code().as_deref(),
        Some("Busy")
    );
    let wait = json!({ "match": { "action": "ListUsers" }, "timeout_s": 60 });
    assert_eq!(ask(control, "POST", "wait", &wait).await["fault"], "refuse");
    let log = ask(control, "GET", "log", &Value::Null).await;
    assert_eq!(
        (&log[0]["action"], &log[0]["key"], &log[0]["effect"]),
        (&json!("ListUsers"), &json!("test"), &json!("none"))
    );
    let set = ask(control, "POST", "settings", &json!({ "page_size": 1 })).await;
    assert_eq!(
        (&set["page_size"], &set["keys_per_user"]),
        (&json!(1), &json!(2))
    );
    let unknown = ask(control, "POST", "settings", &json!({ "pagesize": 1 })).await;
    assert!(
        unknown["error"]
            .as_str()
            .expect("words")
            .contains("pagesize")
    );
}

/// Asks the control port.
async fn ask(at: SocketAddr, method: &str, path: &str, body: &Value) -> Value {
    let request = Request {
        method: method.parse().expect("a method"),
        uri: format!("/_proxy/{path}").parse().expect("a path"),
        headers: Default::default(),
        body: body.to_string().into(),
    };
    let reply = Forwarder::new(None)
        .send(at, request)
        .await
        .expect("an answer");
    serde_json::from_slice(&reply.body).expect("JSON")
}

#[tokio::test]
async fn it_stands_before_moto_for_the_services_that_are_given_to_it() {
    let (Some(ministack), Some(moto)) = (double(Which::Ministack), double(Which::Moto)) else {
        return;
    };
    let mut options = Options::before(ministack.address());
    options.services.insert("s3".to_owned(), moto.address());
    let proxy = AwsProxy::start(options).expect("free ports");
    let client = Client::new(proxy.address());
    let root = Signer::root();
    assert!(
        client
            .query(&root, "sts", "GetCallerIdentity", &[])
            .await
            .expect("an answer")
            .text()
            .contains("000000000000")
    );
    let authorization = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=00";
    for (path, body) in [("/bags", ""), ("/bags/lease", "x")] {
        let request = Request {
            method: "PUT".parse().expect("a method"),
            uri: path.parse().expect("a path"),
            headers: [("authorization", authorization), ("host", "localhost")]
                .into_iter()
                .map(|(name, value)| {
                    (
                        name.parse().expect("a name"),
                        value.parse().expect("a value"),
                    )
                })
                .collect(),
            body: body.into(),
        };
        let reply = Forwarder::new(None)
            .send(proxy.address(), request)
            .await
            .expect("an answer");
        assert!(reply.ok(), "{path}: {}", reply.text());
    }
    assert_eq!(proxy.effects(&Match::action("s3", "PutObject")).len(), 1);
}
