//! Trying connections in the simulated network.

use std::time::Duration;

use async_trait::async_trait;

use crate::incident::body::ObjectRef;
use crate::port::{
    Cause, PortError, Probe, ProbeResult, ProbeSource, ProbeTarget, Right, Sockets, Tried,
};
use crate::reach::cluster::Pod;

use super::world::{Inside, World};
use super::{Call, SimCluster, flow, same_pod};

#[async_trait]
impl Probe for SimCluster {
    async fn connect(
        &self,
        from: &ProbeSource,
        to: &ProbeTarget,
        within: Duration,
    ) -> Result<ProbeResult, PortError> {
        let on = format!("{}/{} → {to}", from.pod.namespace, from.pod.name);
        let call = Call {
            method: "connect",
            tried: "probe",
            on: &on,
        };
        self.effect(call, &exec(&from.pod), |w| {
            let pod = with_tools(w, &from.pod, &from.container, call)?.clone();
            let tried = flow::connect(w, &pod, to);
            catch_up(w);
            let elapsed_ms = match tried {
                Tried::Open | Tried::Refused => 1,
                // A dropped packet is waited for in full; the sim says so without waiting.
                Tried::Silent => u64::try_from(within.as_millis()).unwrap_or(u64::MAX),
            };
            Ok(ProbeResult { tried, elapsed_ms })
        })
    }

    async fn listen(
        &self,
        at: &ProbeSource,
        port: u16,
        _lasting: Duration,
    ) -> Result<(), PortError> {
        let on = format!("{}/{}:{port}", at.pod.namespace, at.pod.name);
        let call = Call {
            method: "listen",
            tried: "listen in pod",
            on: &on,
        };
        self.effect(call, &exec(&at.pod), |w| {
            let uid = with_tools(w, &at.pod, &at.container, call)?.uid.clone();
            let listening = &mut w.inside.entry(uid).or_default().listening;
            if !listening.contains(&port) {
                listening.push(port);
            }
            Ok(())
        })
    }

    async fn sockets(&self, at: &ProbeSource) -> Result<Sockets, PortError> {
        let on = format!("{}/{}", at.pod.namespace, at.pod.name);
        let call = Call {
            method: "sockets",
            tried: "read sockets of pod",
            on: &on,
        };
        self.look_at(call, &exec(&at.pod), |w| {
            let pod = with_tools(w, &at.pod, &at.container, call)?;
            let inside = inside(w, pod);
            Ok(Sockets {
                listening: inside.listening,
                established: inside.established,
                stalled: Vec::new(),
            })
        })
    }
}

/// Rights to run something in a pod.
pub(super) fn exec(pod: &ObjectRef) -> [Right; 1] {
    [Right::new("", "pods/exec", "create").within(&pod.namespace)]
}

/// The pod with this UID, if something can be run in the container.
pub(super) fn with_tools<'w>(
    world: &'w World,
    pod: &ObjectRef,
    container: &str,
    call: Call<'_>,
) -> Result<&'w Pod, PortError> {
    let found = same_pod(world, pod, call)?;
    if found.phase != "Running"
        || !found
            .containers
            .iter()
            .any(|c| c.name == container && c.running)
    {
        return Err(call.error(
            Cause::NotFound,
            format!("container `{container}` is not running"),
        ));
    }
    if inside(world, found).bare_image {
        return Err(call.error(
            Cause::Unsupported,
            "exec: \"sh\": executable file not found in $PATH",
        ));
    }
    Ok(found)
}

/// What is inside a pod.
pub(super) fn inside(world: &World, pod: &Pod) -> Inside {
    world.inside.get(&pod.uid).cloned().unwrap_or_default()
}

/// A late plugin comes one probe nearer to what the API says.
fn catch_up(world: &mut World) {
    if let Some(behind) = &mut world.behind {
        behind.probes_left = behind.probes_left.saturating_sub(1);
        if behind.probes_left == 0 {
            world.behind = None;
        }
    }
}
