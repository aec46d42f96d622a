//! A proxy in front of ministack, and somebody who calls through it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::support::aws::{AwsProxy, Client, Match, Options, Reply, Signer, xml};
use crate::support::doubles::{Double, Which, double};

/// Long enough for a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A proxy and somebody who calls through it.
pub struct Scene {
    /// Kept while the test runs.
    _double: Arc<Double>,
    pub proxy: AwsProxy,
    pub client: Client,
    pub root: Signer,
}

impl Scene {
    pub fn begin() -> Option<Scene> {
        let double = double(Which::Ministack)?;
        let proxy = AwsProxy::start(Options::before(double.address())).expect("free ports");
        Some(Scene {
            _double: double,
            client: Client::new(proxy.address()),
            proxy,
            root: Signer::root(),
        })
    }

    /// Calls IAM as root.
    pub async fn iam(&self, action: &str, parameters: &[(&str, &str)]) -> Reply {
        self.as_(&self.root, "iam", action, parameters).await
    }

    pub async fn as_(
        &self,
        signer: &Signer,
        service: &str,
        action: &str,
        parameters: &[(&str, &str)],
    ) -> Reply {
        self.client
            .query(signer, service, action, parameters)
            .await
            .expect("an answer")
    }

    pub async fn json(&self, signer: &Signer, service: &str, action: &str, body: Value) -> Value {
        let reply = self
            .client
            .json(signer, service, action, &body)
            .await
            .expect("an answer");
        serde_json::from_slice(&reply.body).expect("JSON")
    }

    /// A user who may do all, with one key.
    pub async fn user(&self, name: &str) -> Signer {
        assert!(self.iam("CreateUser", &[("UserName", name)]).await.ok());
        let all = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;
        let policy = [
            ("UserName", name),
            ("PolicyName", "all"),
            ("PolicyDocument", all),
        ];
        assert!(self.iam("PutUserPolicy", &policy).await.ok());
        self.key(name).await
    }

    pub async fn key(&self, user: &str) -> Signer {
        Signer::of(&self.iam("CreateAccessKey", &[("UserName", user)]).await).expect("a key")
    }

    /// The ids of a user's keys, as listed.
    pub async fn keys(&self, user: &str) -> Vec<String> {
        let reply = self.iam("ListAccessKeys", &[("UserName", user)]).await;
        let members = xml::members(reply.text())
            .map(|m| m.items)
            .unwrap_or_default();
        members
            .iter()
            .filter_map(|member| xml::text(member, "AccessKeyId"))
            .collect()
    }

    pub async fn alive(&self, signer: &Signer) -> bool {
        self.as_(signer, "sts", "GetCallerIdentity", &[]).await.ok()
    }

    pub async fn disable(&self, user: &str, key: &str) -> Reply {
        let parameters = [
            ("UserName", user),
            ("AccessKeyId", key),
            ("Status", "Inactive"),
        ];
        self.iam("UpdateAccessKey", &parameters).await
    }
}

/// Creations of keys for a user.
pub fn create(user: &str) -> Match {
    Match::action("iam", "CreateAccessKey").with("UserName", user)
}
