//! What a running pod says of itself: its network and its processes, read by exec with its own tools. *Low trust*, every line of it.

use tokio::time::Duration;

use crate::action::{ActionError, Context};
use crate::incident::Category;
use crate::port::{CaptureKind, Cluster, ExhibitDraft};
use crate::reach::cluster::Container;

use super::bag::{Got, Limit, StepBag};
use super::pods::Source;

/// Longest for hashing the executables of one container: what comes after it must have its share of the pod's time.
const HASHING: Duration = Duration::from_secs(2);

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

/// The connection tracking table of the pod's own network namespace. The node's own table is the node's to show.
const CONNTRACK: [&str; 2] = ["cat", "/proc/net/nf_conntrack"];

/// SHA-256 of what each process really runs, by the kernel's own link to it, also where the file was deleted or replaced since. One file
/// is read once, however many processes run it. What cannot be read is named on standard error too, and makes the list a part.
pub(super) const EXECUTABLES: &str = r#"command -v sha256sum >/dev/null 2>&1 || exit 127
bad=0 seen=
for p in /proc/[0-9]*; do
  pid=${p#/proc/} sum=
  exe=$(readlink "$p/exe" 2>/dev/null)
  for s in $seen; do
    [ "$p/exe" -ef "/proc/${s%%:*}/exe" ] && sum=${s#*:} && break
  done
  if [ -z "$sum" ] && sum=$(sha256sum "$p/exe" 2>/dev/null); then
    sum=${sum%% *} seen="$seen $pid:${sum%% *}"
  fi
  if [ -n "$sum" ]; then
    echo "$sum $pid $exe"
  elif [ -d "$p" ]; then
    [ -n "$exe" ] || exe=$(cat "$p/comm" 2>/dev/null)
    echo "unreadable $pid $exe"
    echo "process $pid ($exe): its executable cannot be read" >&2
    bad=3
  fi
done
exit $bad"#;

/// A pod that is asked, until when, and where it goes.
pub(super) struct Inside<'a> {
    pub(super) cx: &'a Context,
    pub(super) cluster: &'a Cluster,
    pub(super) source: &'a Source,
    pub(super) limit: &'a Limit,
}

impl Inside<'_> {
    /// Most volatile first.
    pub(super) async fn take(&self, bag: &mut StepBag) -> Result<(), ActionError> {
        self.sockets(bag).await?;
        self.conntrack(bag).await?;
        self.processes(bag).await?;
        self.executables(bag).await
    }

    async fn sockets(&self, bag: &mut StepBag) -> Result<(), ActionError> {
        let (name, what) = ("sockets", "network state");
        if self.first(bag, name, what, &SOCKETS).await? == Got::Nothing(true) {
            let what = format!("{what} of pod {}", self.source.id());
            bag.missing(&what, "no running container has a tool to read it");
        }
        Ok(())
    }

    /// A pod may seldom see the table, and its own is empty where the node tracks for it: then what to type at its node is said.
    async fn conntrack(&self, bag: &mut StepBag) -> Result<(), ActionError> {
        let (name, what) = ("conntrack", "connection tracking entries");
        let before = bag.len();
        self.first(bag, name, what, &CONNTRACK).await?;
        if bag.len() > before {
            return Ok(());
        }
        let pod = &self.source.pod;
        let typed: Vec<String> = pod
            .ips
            .iter()
            .flat_map(|ip| ["-s", "-d"].map(|way| format!("conntrack -L {way} {ip}")))
            .collect();
        let what = format!("{what} of pod {}", self.source.id());
        let why = format!(
            "they can be read on its node {} only: {}",
            pod.node,
            typed.join("; ")
        );
        bag.missing(&what, &why);
        Ok(())
    }

    async fn processes(&self, bag: &mut StepBag) -> Result<(), ActionError> {
        let ways: [&[&str]; 3] = [&["sh", "-c", PROCESSES], &["ps", "-ef"], &["ps"]];
        for container in self.running() {
            let mut draft = self.draft(container, "processes", "processes", Category::Process);
            let mut got = Got::Nothing(true);
            for argv in ways {
                let exec = (container, argv);
                got = self.exec(bag, exec, &mut draft, self.limit).await?;
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

    async fn executables(&self, bag: &mut StepBag) -> Result<(), ActionError> {
        let what = "SHA-256 of the executables of all processes";
        for container in self.running() {
            let mut draft = self.draft(container, "executables", what, Category::Process);
            let why = format!("cut off: the {} s for hashing were over", HASHING.as_secs());
            let limit = Limit::of(HASHING, why).earlier(self.limit);
            let exec = (container, ["sh", "-c", EXECUTABLES].as_slice());
            if self.exec(bag, exec, &mut draft, &limit).await? == Got::Nothing(true) {
                bag.missing(&draft.description, "its image has no sh or no sha256sum");
            }
        }
        Ok(())
    }

    /// From the first container that can: they share one network.
    async fn first(
        &self,
        bag: &mut StepBag,
        name: &str,
        what: &str,
        argv: &[&str],
    ) -> Result<Got, ActionError> {
        for container in self.running() {
            let mut draft = self.draft(container, name, what, Category::Network);
            let exec = (container, argv);
            let got = self.exec(bag, exec, &mut draft, self.limit).await?;
            if got != Got::Nothing(true) {
                return Ok(got);
            }
        }
        Ok(Got::Nothing(true))
    }

    fn running(&self) -> impl Iterator<Item = &Container> {
        self.source.pod.containers.iter().filter(|c| c.running)
    }

    fn draft(
        &self,
        container: &Container,
        name: &str,
        what: &str,
        category: Category,
    ) -> ExhibitDraft {
        let draft = self.source.draft(name, what, category, "POST pods/exec", 2);
        let mut draft = self.source.of_container(container, draft);
        draft.trust = Some("low".into());
        draft
    }

    /// A way that the image does not have is no loss yet: who asks tries another, or says it.
    async fn exec(
        &self,
        bag: &mut StepBag,
        (container, argv): (&Container, &[&str]),
        draft: &mut ExhibitDraft,
        limit: &Limit,
    ) -> Result<Got, ActionError> {
        draft.command = Some(argv.join(" "));
        let kind = CaptureKind::Exec {
            container: container.name.clone(),
            argv: argv.iter().map(|w| (*w).to_owned()).collect(),
        };
        let from = (self.cluster.acquire.as_ref(), &self.source.object, &kind);
        bag.capture(self.cx, from, draft, Some(limit), true).await
    }
}
