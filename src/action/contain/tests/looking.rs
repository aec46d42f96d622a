//! The reading ports of the world of these tests.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use super::world::{State, World, fail, labels};
use crate::incident::body::ObjectRef;
use crate::port::*;
use crate::reach::cluster::*;

#[async_trait]
impl ClusterView for World {
    async fn identity(&self) -> Result<ClusterIdentity, PortError> {
        Ok(ClusterIdentity {
            context: "test".into(),
            server: "https://127.0.0.1:6443".into(),
            uid: "uid-kube-system".into(),
            version: "v1.34.0".into(),
            user: None,
        })
    }
    async fn look(&self, _: &LookScope) -> Result<ClusterSnapshot, PortError> {
        self.read(|s| s.cluster.clone())
    }
    async fn pod(&self, pod: &PodName) -> Result<Option<Pod>, PortError> {
        self.read(|s| s.cluster.pods.iter().find(|p| p.id() == *pod).cloned())
    }
    async fn pods_by_selector(&self, ns: &str, text: &str) -> Result<Vec<Pod>, PortError> {
        let selector = Selector::labels(labels(text));
        self.read(|s| {
            let all = s.cluster.pods.iter();
            all.filter(|p| p.namespace == ns && selector.matches(&p.labels))
                .cloned()
                .collect()
        })
    }
    async fn node(&self, name: &str) -> Result<Option<Node>, PortError> {
        self.read(|s| s.cluster.nodes.iter().find(|n| n.name == name).cloned())
    }
    async fn object(&self, _: &str, _: &str, _: &str) -> Result<Option<Value>, PortError> {
        Ok(None)
    }
    async fn events(&self, _: &str, _: &str) -> Result<Vec<Value>, PortError> {
        Ok(Vec::new())
    }
    async fn may(&self, rights: &[Right]) -> Result<Vec<RightAnswer>, PortError> {
        let lacks = self.lock().lacks.clone();
        let missing = rights
            .iter()
            .filter(|r| Some(&r.resource) == lacks.as_ref());
        Ok(missing
            .map(|r| RightAnswer {
                right: r.clone(),
                allowed: Some(false),
            })
            .collect())
    }
    async fn enforcement(&self) -> Result<Enforcement, PortError> {
        Ok(Enforcement {
            plugin: None,
            enforces: None,
            basis: "a test".into(),
        })
    }
    async fn roles_with(&self, _: &Right) -> Result<Vec<String>, PortError> {
        Ok(Vec::new())
    }
}

impl World {
    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> Result<T, PortError> {
        let s = self.lock();
        if s.dead {
            return Err(fail(Cause::Unreachable, "cluster"));
        }
        Ok(look(&s))
    }
}

#[async_trait]
impl Probe for World {
    async fn connect(
        &self,
        from: &ProbeSource,
        to: &ProbeTarget,
        _: Duration,
    ) -> Result<ProbeResult, PortError> {
        let mut s = self.lock();
        let pod = s.cluster.pods.iter().find(|p| p.uid == from.pod.uid);
        let pod = pod.ok_or_else(|| fail(Cause::NotFound, &from.pod.name))?;
        if s.dead || s.no_tools.contains(&pod.name) {
            return Err(fail(Cause::Unsupported, &pod.name));
        }
        let mut tried = s.answer(pod, to);
        if tried == Tried::Silent && s.late > 0 {
            s.late -= 1;
            tried = Tried::Open;
        }
        Ok(ProbeResult {
            tried,
            elapsed_ms: 1,
        })
    }
    async fn listen(&self, at: &ProbeSource, port: u16, _: Duration) -> Result<(), PortError> {
        let mut s = self.lock();
        if s.dead || s.no_tools.contains(&at.pod.name) {
            return Err(fail(Cause::Unsupported, &at.pod.name));
        }
        s.opened.push((at.pod.uid.clone(), port));
        Ok(())
    }
    async fn sockets(&self, at: &ProbeSource) -> Result<Sockets, PortError> {
        if self.lock().no_tools.contains(&at.pod.name) {
            return Err(fail(Cause::Unsupported, &at.pod.name));
        }
        let s = self.lock();
        Ok(Sockets {
            listening: Vec::new(),
            established: s.connections.clone(),
            stalled: s.stalled.clone(),
        })
    }
}

#[async_trait]
impl Acquire for World {
    async fn capture(
        &self,
        pod: &ObjectRef,
        _: &CaptureKind,
    ) -> Result<Box<dyn ByteStream>, PortError> {
        Err(fail(Cause::Unsupported, &pod.name))
    }
}

#[async_trait]
impl Notifier for World {
    async fn send(&self, _: &Message) -> Result<Vec<String>, PortError> {
        Ok(Vec::new())
    }
}
