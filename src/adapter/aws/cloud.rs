//! The cloud port, by the parts that do the work.

use std::sync::Arc;

use async_trait::async_trait;

use super::connect::Inner;
use crate::port::{
    AccessKeySeen, Answer, CallerIdentity, Cloud, LastUsed, NewAccessKey, Page, PortError,
    Principal, PrincipalSeen, ProbeAnswer, ProbeCall, Session, Signer, TrailEvent, TrailQuery,
    UserSeen,
};

/// One account.
pub(super) struct AwsCloud(pub(super) Arc<Inner>);

#[async_trait]
impl Cloud for AwsCloud {
    async fn identity(&self) -> Result<Answer<CallerIdentity>, PortError> {
        Ok(self.0.who().await?.0)
    }
    async fn regions(&self) -> Result<Vec<String>, PortError> {
        self.0.regions().await
    }
    async fn list_users(&self, page: Option<String>) -> Result<Page<UserSeen>, PortError> {
        self.0.list_users(page).await
    }
    async fn user(&self, name: &str) -> Result<UserSeen, PortError> {
        self.0.user(name).await
    }
    async fn list_roles(&self, page: Option<String>) -> Result<Page<(String, String)>, PortError> {
        self.0.list_roles(page).await
    }
    async fn access_keys(&self, user: &str) -> Result<Answer<Vec<AccessKeySeen>>, PortError> {
        self.0.access_keys(user).await
    }
    async fn key_last_used(&self, key: &str) -> Result<LastUsed, PortError> {
        self.0.key_last_used(key).await
    }
    async fn create_access_key(&self, user: &str) -> Result<Answer<NewAccessKey>, PortError> {
        self.0.create_access_key(user).await
    }
    async fn set_access_key(
        &self,
        user: &str,
        key: &str,
        active: bool,
    ) -> Result<Answer<()>, PortError> {
        self.0.set_access_key(user, key, active).await
    }
    async fn delete_access_key(&self, user: &str, key: &str) -> Result<Answer<bool>, PortError> {
        self.0.delete_access_key(user, key).await
    }
    async fn principal(&self, principal: &Principal) -> Result<Answer<PrincipalSeen>, PortError> {
        self.0.principal(principal).await
    }
    async fn put_inline_policy(
        &self,
        principal: &Principal,
        name: &str,
        document: &str,
    ) -> Result<Answer<()>, PortError> {
        self.0.put_inline_policy(principal, name, document).await
    }
    async fn delete_inline_policy(
        &self,
        principal: &Principal,
        name: &str,
    ) -> Result<Answer<bool>, PortError> {
        self.0.delete_inline_policy(principal, name).await
    }
    async fn set_trust(&self, role: &str, document: &str) -> Result<Answer<()>, PortError> {
        self.0.set_trust(role, document).await
    }
    async fn simulate(
        &self,
        principal: &str,
        actions: &[String],
        extra: Option<&str>,
    ) -> Result<Vec<String>, PortError> {
        self.0.simulate(principal, actions, extra).await
    }
    async fn probe(
        &self,
        signer: &Signer,
        call: &ProbeCall,
    ) -> Result<Answer<ProbeAnswer>, PortError> {
        self.0.probe(signer, call).await
    }
    async fn probe_without_secret(
        &self,
        key: &str,
        region: Option<String>,
    ) -> Result<Answer<ProbeAnswer>, PortError> {
        self.0.probe_without_secret(key, region).await
    }
    async fn assume_role(&self, arn: &str, session: &str) -> Result<Answer<Session>, PortError> {
        self.0.assume_role(arn, session).await
    }
    async fn trail(&self, query: &TrailQuery) -> Result<Page<TrailEvent>, PortError> {
        self.0.look_up(query).await
    }
}
