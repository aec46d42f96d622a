//! What a running pod says of itself: its network and its processes, read by exec with its own tools. *Low trust*, every line of it.

use crate::action::{ActionError, Context};
use crate::incident::Category;
use crate::port::{CaptureKind, Cluster};

use super::bag::{Got, Limit, StepBag};
use super::pods::Source;

/// The network state as the kernel shows it inside the pod: all containers share it.
const SOCKETS: [&str; 8] = [
    "cat",
    "/proc/net/tcp",
    "/proc/net/tcp6",
    "/proc/net/udp",
    "/proc/net/udp6",
    "/proc/net/unix",
    "/proc/net/arp",
    "/proc/net/route",
];

/// Each process with its exact arguments (NUL between them), status, executable and open files.
const PROCESSES: &str = r#"for p in /proc/[0-9]*; do
  [ -r "$p/cmdline" ] || continue
  echo "==> $p/cmdline <=="; cat "$p/cmdline" 2>/dev/null; echo
  echo "==> $p/status <=="; cat "$p/status" 2>/dev/null
  echo "==> $p/exe <=="; readlink "$p/exe" 2>/dev/null
  echo "==> $p/fd <=="; ls -l "$p/fd" 2>/dev/null
done; true"#;

/// From the first container that can: they share one network.
pub(super) async fn sockets(
    cx: &Context,
    cluster: &Cluster,
    bag: &mut StepBag,
    source: &Source,
    limit: &Limit,
) -> Result<(), ActionError> {
    let what = "network state";
    for container in source.pod.containers.iter().filter(|c| c.running) {
        let mut draft = source.draft("sockets", what, Category::Network, "POST pods/exec", 2);
        draft = source.of_container(container, draft);
        draft.command = Some(SOCKETS.join(" "));
        draft.trust = Some("low".into());
        let kind = CaptureKind::Exec {
            container: container.name.clone(),
            argv: SOCKETS.map(str::to_owned).to_vec(),
        };
        let from = (cluster.acquire.as_ref(), &source.object, &kind);
        if bag.capture(cx, from, &draft, Some(limit), true).await? != Got::Nothing(true) {
            return Ok(());
        }
    }
    bag.missing(
        &format!("{what} of pod {}", source.id()),
        "no running container has a tool to read it",
    );
    Ok(())
}

/// From every running container: each has processes of its own.
pub(super) async fn processes(
    cx: &Context,
    cluster: &Cluster,
    bag: &mut StepBag,
    source: &Source,
    limit: &Limit,
) -> Result<(), ActionError> {
    let ways: [&[&str]; 3] = [&["sh", "-c", PROCESSES], &["ps", "-ef"], &["ps"]];
    for container in source.pod.containers.iter().filter(|c| c.running) {
        let draft = source.draft(
            "processes",
            "processes",
            Category::Process,
            "POST pods/exec",
            2,
        );
        let mut draft = source.of_container(container, draft);
        draft.trust = Some("low".into());
        let mut got = Got::Nothing(true);
        for argv in ways {
            draft.command = Some(argv.join(" "));
            let kind = CaptureKind::Exec {
                container: container.name.clone(),
                argv: argv.iter().map(|w| (*w).to_owned()).collect(),
            };
            let from = (cluster.acquire.as_ref(), &source.object, &kind);
            got = bag.capture(cx, from, &draft, Some(limit), true).await?;
            if got != Got::Nothing(true) {
                break;
            }
        }
        if got == Got::Nothing(true) {
            bag.missing(&draft.description, "its image has no tool to list them");
        }
    }
    Ok(())
}
