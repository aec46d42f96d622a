//! Simulated consumers of a cluster: Secrets, rollouts, ServiceAccounts, with the preconditions of the port.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::incident::body::ObjectRef;
use crate::port::{
    Cause, Consumer, PortError, Rollout, Secret, SecretObject, SecretWrite, Workloads,
};

use super::consumer::{AccountKept, Deployment, KubeSecret};
use super::rollout;
use super::world::EstateWorld;
use super::{Call, SimEstate};

/// Our field manager.
const MANAGER: &str = "firebreak";

#[async_trait]
impl Workloads for SimEstate {
    async fn secret(&self, namespace: &str, name: &str) -> Result<SecretObject, PortError> {
        let on = format!("{namespace}/{name}");
        let call = Call::look("secret", "k8s:ReadSecret", "read Secret", &on);
        self.call(call, |w, _| {
            let found = w.kube_secrets.get(&on).ok_or_else(|| gone(&call))?;
            let value = |v: &super::Kept| Secret::new(v.0.clone());
            Ok(SecretObject {
                object: object("Secret", namespace, name, &found.uid),
                version: found.version.to_string(),
                data: found
                    .data
                    .iter()
                    .map(|(k, v)| (k.clone(), value(v)))
                    .collect(),
                binary: found.binary.clone(),
                immutable: found.immutable,
                managers: found.managers.clone(),
                written_by: found.written_by.clone(),
            })
        })
    }

    async fn write_secret(&self, write: &SecretWrite<'_>) -> Result<ObjectRef, PortError> {
        let on = format!("{}/{}", write.object.namespace, write.object.name);
        let call = Call::change("write_secret", "k8s:PatchSecret", "write Secret", &on);
        self.call(call, |w, scene| {
            let found = w.kube_secrets.get_mut(&on).ok_or_else(|| gone(&call))?;
            guard(&found.uid, &write.object.uid, &call)?;
            let same = write.set.iter().all(|(k, v)| {
                found
                    .data
                    .get(k)
                    .is_some_and(|old| old.0 == v.expose_secret())
            });
            if same {
                // What is so already is no conflict.
                return Ok(write.object.clone());
            }
            expected(found, write, &call)?;
            if found.immutable {
                let detail = "field is immutable when `immutable` is set";
                return Err(call.error(Cause::Rejected, detail));
            }
            for (key, value) in &write.set {
                found.set(key, value.expose_secret(), MANAGER);
            }
            scene.effect = true;
            Ok(write.object.clone())
        })
    }

    async fn consumers(&self, namespace: &str, secret: &str) -> Result<Vec<Consumer>, PortError> {
        let on = format!("{namespace}/{secret}");
        let call = Call::look(
            "consumers",
            "k8s:ListWorkloads",
            "list consumers of Secret",
            &on,
        );
        self.call(call, |w, _| {
            let all = w.deployments.iter().filter(|d| d.namespace == namespace);
            let consumer = |d: &Deployment| {
                let mounts = d.mounts.iter().filter(|m| m.secret == secret);
                let how: Vec<String> = mounts.map(|m| m.how.clone()).collect();
                (!how.is_empty()).then(|| Consumer {
                    object: object(&d.kind, namespace, &d.name, &d.uid),
                    how,
                    rollable: d.rollable(),
                    reloader: d.reloader,
                })
            };
            Ok(all.filter_map(consumer).collect())
        })
    }

    async fn rollout(&self, workload: &ObjectRef) -> Result<Rollout, PortError> {
        let on = full_name(workload);
        let call = Call::look("rollout", "k8s:ReadWorkload", "look at the rollout of", &on);
        self.call(call, |w, scene| {
            let uid = rollable(w, workload, &call)?.uid.clone();
            rollout::advance_one(w, &uid, scene.now);
            let d = same(w, workload, &call)?;
            Ok(seen(d))
        })
    }

    async fn restart(&self, workload: &ObjectRef, value: Option<&str>) -> Result<(), PortError> {
        let on = full_name(workload);
        let call = Call::change("restart", "k8s:PatchWorkload", "restart", &on);
        self.call(call, |w, scene| {
            let d = rollable(w, workload, &call)?;
            if d.restarted_by.as_deref() != value {
                d.restarted_by = value.map(str::to_owned);
                changed(d);
                scene.effect = true;
            }
            Ok(())
        })
    }

    async fn put_service_account(
        &self,
        namespace: &str,
        name: &str,
        annotations: &BTreeMap<String, String>,
    ) -> Result<ObjectRef, PortError> {
        let on = format!("{namespace}/{name}");
        let call = Call::change(
            "put_service_account",
            "k8s:CreateServiceAccount",
            "make ServiceAccount",
            &on,
        );
        self.call(call, |w, scene| {
            if let Some(found) = w.accounts.get(&on) {
                if found.annotations == *annotations {
                    return Ok(object("ServiceAccount", namespace, name, &found.uid));
                }
                let detail = "a ServiceAccount of this name is there with other annotations";
                return Err(call.error(Cause::Conflict, detail));
            }
            let uid = w.mint_uid();
            let account = AccountKept {
                uid: uid.clone(),
                annotations: annotations.clone(),
            };
            w.accounts.insert(on.clone(), account);
            scene.effect = true;
            Ok(object("ServiceAccount", namespace, name, &uid))
        })
    }

    async fn move_service_account(
        &self,
        workload: &ObjectRef,
        from: &str,
        to: &str,
    ) -> Result<(), PortError> {
        let on = full_name(workload);
        let call = Call::change(
            "move_service_account",
            "k8s:PatchWorkload",
            "move the ServiceAccount of",
            &on,
        );
        self.call(call, |w, scene| {
            let d = rollable(w, workload, &call)?;
            if d.service_account == to {
                // What is so already is no conflict.
                return Ok(());
            }
            if d.service_account != from {
                let detail = format!("the test failed: it is `{}` now", d.service_account);
                return Err(call.error(Cause::Conflict, detail));
            }
            to.clone_into(&mut d.service_account);
            changed(d);
            scene.effect = true;
            Ok(())
        })
    }
}

fn changed(d: &mut Deployment) {
    d.observed = false;
    d.rollouts += 1;
}

fn seen(d: &Deployment) -> Rollout {
    let template = d.template();
    let count = |test: &dyn Fn(&&super::RunningPod) -> bool| {
        u32::try_from(d.pods.iter().filter(test).count()).unwrap_or(u32::MAX)
    };
    let crashed = d
        .pods
        .iter()
        .find(|p| p.template == template && !p.starting && !p.ready);
    Rollout {
        object: object(&d.kind, &d.namespace, &d.name, &d.uid),
        restarted_by: d.restarted_by.clone(),
        observed: d.observed,
        desired: d.replicas,
        updated: count(&|p| p.template == template),
        available: count(&|p| p.ready),
        total: count(&|_| true),
        oldest_pod: d.pods.iter().map(|p| p.created).min(),
        trouble: crashed.map(|p| format!("CrashLoopBackOff in {}", p.name)),
        service_account: d.service_account.clone(),
    }
}

/// Each value must be as expected, as the tests of a JSON Patch demand.
fn expected(found: &KubeSecret, write: &SecretWrite<'_>, call: &Call<'_>) -> Result<(), PortError> {
    for (key, wanted) in &write.expect {
        let now = found.data.get(key).map(|v| v.0.as_str());
        if now != wanted.map(Secret::expose_secret) {
            let detail = format!("the test failed: `{key}` is not what it was");
            return Err(call.error(Cause::Conflict, detail));
        }
    }
    Ok(())
}

fn guard(found: &str, wanted: &str, call: &Call<'_>) -> Result<(), PortError> {
    if found == wanted {
        return Ok(());
    }
    let detail = format!("it is another object now: UID {found} instead of {wanted}");
    Err(call.error(Cause::Conflict, detail))
}

fn same<'w>(
    w: &'w mut EstateWorld,
    wanted: &ObjectRef,
    call: &Call<'_>,
) -> Result<&'w mut Deployment, PortError> {
    let found = w.deployments.iter_mut().find(|d| {
        d.kind == wanted.kind && d.namespace == wanted.namespace && d.name == wanted.name
    });
    let found = found.ok_or_else(|| gone(call))?;
    guard(&found.uid, &wanted.uid, call)?;
    Ok(found)
}

fn rollable<'w>(
    w: &'w mut EstateWorld,
    wanted: &ObjectRef,
    call: &Call<'_>,
) -> Result<&'w mut Deployment, PortError> {
    let found = same(w, wanted, call)?;
    if found.rollable() {
        Ok(found)
    } else {
        Err(call.error(Cause::Unsupported, "it has no pod template to roll out"))
    }
}

fn gone(call: &Call<'_>) -> PortError {
    call.error(Cause::NotFound, "not found")
}

fn full_name(workload: &ObjectRef) -> String {
    format!("{}/{}/{}", workload.kind, workload.namespace, workload.name)
}

fn object(kind: &str, namespace: &str, name: &str, uid: &str) -> ObjectRef {
    ObjectRef {
        kind: kind.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
    }
}
