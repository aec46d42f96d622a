//! Trying a connection from inside a pod, with whatever tool its image has.
//!
//! One exec runs one small script: `nc` first, then the `/dev/tcp` of bash, then python3. It prints a line
//! `firebreak <tool> <exit code>` after what the tool said; [`judge`] turns that into open, refused or silent. Where there is no
//! shell, `nc` and python3 are run directly.

use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::change::said;
use super::exec::{Said, words};
use super::{KubeCluster, clean};
use crate::port::{Cause, PortError, Probe, ProbeResult, ProbeSource, ProbeTarget, Sockets, Tried};
use crate::reach::cluster::Protocol;

/// What an exec may take beside the try itself.
const OVERHEAD: Duration = Duration::from_secs(5);

/// `$1` address, `$2` port, `$3` seconds. `-z` closes at once; an `nc` without it is ended by `timeout`, and one that had to be ended
/// (124, 137, 143) was connected: `-w` bounds the opening.
const CONNECT: &str = r#"
if command -v nc >/dev/null 2>&1; then
  said=$(nc -z -v -w "$3" "$1" "$2" </dev/null 2>&1); code=$?
  case $said in *nvalid*|*nrecognized*|*sage:*|*nknown*option*)
    said=$(timeout $(($3 + 1)) nc -w "$3" "$1" "$2" </dev/null 2>&1 >/dev/null); code=$?
    case $code in 124|137|143) code=0 ;; esac ;;
  esac
  echo "$said"; echo "firebreak nc $code"; exit 0
fi
if command -v bash >/dev/null 2>&1 && command -v timeout >/dev/null 2>&1; then
  said=$(timeout "$3" bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$1" "$2" 2>&1); code=$?
  echo "$said"; echo "firebreak bash $code"; exit 0
fi
if command -v python3 >/dev/null 2>&1; then
  said=$(python3 -c "$4" "$1" "$2" "$3" 2>&1); code=$?
  echo "$said"; echo "firebreak python3 $code"; exit 0
fi
echo "firebreak none 127"
"#;

const PYTHON: &str = "import socket,sys
try:
 socket.create_connection((sys.argv[1],int(sys.argv[2])),float(sys.argv[3])).close()
except (socket.timeout,TimeoutError): print('timed out'); sys.exit(1)
except OSError as e: print(e.strerror or e); sys.exit(1)";

/// `$1` port, `$2` seconds, `$3` port in hexadecimal. Succeeds only once something listens there.
const LISTEN: &str = r#"
(end=$(($(date +%s) + $2))
while left=$((end - $(date +%s))); [ $left -gt 0 ]; do
  if command -v nc >/dev/null 2>&1; then
    timeout $left nc -l -p "$1" || [ $? -ge 124 ] || timeout $left nc -l "$1" || sleep 1
  else
    python3 -c "import socket,sys;s=socket.socket();s.setsockopt(1,2,1);s.bind(('',int(sys.argv[1])));s.listen(8);s.settimeout(float(sys.argv[2]))
while 1: s.accept()[0].close()" "$1" $left || sleep 1
  fi
done) </dev/null >/dev/null 2>&1 &
n=0
until cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -q ":$3 [0-9A-F:]* 0A"; do
  n=$((n + 1)); [ $n -lt 30 ] || exit 1
  sleep 0.1 2>/dev/null || sleep 1
done
"#;

#[async_trait]
impl Probe for KubeCluster {
    async fn connect(
        &self,
        from: &ProbeSource,
        to: &ProbeTarget,
        within: Duration,
    ) -> Result<ProbeResult, PortError> {
        let tried = format!("try a connection to {} from", clean(&to.to_string()));
        let on = said(&from.pod);
        let unsupported =
            |detail: &str| PortError::new(Cause::Unsupported, tried.as_str(), clean(&on), detail);
        if to.protocol != Protocol::Tcp {
            return Err(unsupported("only TCP tells open from closed"));
        }
        if to.address.is_empty() || to.address.starts_with('-') {
            return Err(PortError::new(
                Cause::Rejected,
                tried.as_str(),
                clean(&on),
                "not an address",
            ));
        }
        let seconds = within.as_secs().max(1);
        let (port, wait) = (to.port.to_string(), seconds.to_string());
        let began = Instant::now();
        let budget = Duration::from_secs(seconds) + OVERHEAD;
        let script = words(["sh", "-c", CONNECT, "sh", &to.address, &port, &wait, PYTHON]);
        let mut done = self
            .run(&from.pod, &from.container, &script, budget, &tried)
            .await;
        for argv in [
            words(["nc", "-z", "-v", "-w", &wait, &to.address, &port]),
            words(["python3", "-c", PYTHON, &to.address, &port, &wait]),
        ] {
            if !matches!(&done, Err(e) if e.cause == Cause::Unsupported) {
                break;
            }
            let direct = self
                .run(&from.pod, &from.container, &argv, budget, &tried)
                .await;
            done = direct.map(|said| direct_answer(&argv[0], said));
        }
        let elapsed = began.elapsed();
        let said = done?;
        match judge(&said, elapsed, Duration::from_secs(seconds)) {
            Verdict::Tried(tried) => Ok(ProbeResult {
                tried,
                elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            }),
            Verdict::NoTool => Err(unsupported(
                "the image has no nc, bash or python3 to try it with",
            )),
            Verdict::Unclear(what) => Err(unsupported(&clean(&format!(
                "its tools do not tell: {what}"
            )))),
        }
    }

    async fn listen(
        &self,
        at: &ProbeSource,
        port: u16,
        lasting: Duration,
    ) -> Result<(), PortError> {
        let tried = format!("listen on port {port} in");
        let hex = format!("{port:04X}");
        let seconds = lasting.as_secs().max(1).to_string();
        let script = words(["sh", "-c", LISTEN, "sh", &port.to_string(), &seconds, &hex]);
        let budget = Duration::from_secs(4) + OVERHEAD;
        let said_ = self
            .run(&at.pod, &at.container, &script, budget, &tried)
            .await?;
        if said_.exit == 0 {
            return Ok(());
        }
        let detail = format!("its tools cannot listen: {}", said_.stderr);
        Err(PortError::new(
            Cause::Unsupported,
            tried,
            clean(&said(&at.pod)),
            clean(&detail),
        ))
    }

    async fn sockets(&self, at: &ProbeSource) -> Result<Sockets, PortError> {
        let tried = "read the sockets of";
        let budget = OVERHEAD;
        let cat = words(["cat", "/proc/net/tcp", "/proc/net/tcp6"]);
        let mut done = self.run(&at.pod, &at.container, &cat, budget, tried).await;
        if matches!(&done, Err(e) if e.cause == Cause::Unsupported) {
            let line = "while read -r line; do echo \"$line\"; done < /proc/net/tcp; while read -r line; do echo \"$line\"; done < /proc/net/tcp6";
            let shell = words(["sh", "-c", line]);
            done = self
                .run(&at.pod, &at.container, &shell, budget, tried)
                .await;
        }
        let text = done?.stdout;
        let text = String::from_utf8_lossy(&text);
        if !text.contains("local_address") {
            let detail = "its tools do not show /proc/net/tcp";
            return Err(PortError::new(
                Cause::Unsupported,
                tried,
                clean(&said(&at.pod)),
                detail,
            ));
        }
        Ok(sockets_of(&text))
    }
}

/// The answer of a tool that was run without our script, in the script's form.
fn direct_answer(tool: &str, said: Said) -> Said {
    let mut stdout = said.stdout;
    stdout.extend_from_slice(said.stderr.as_bytes());
    stdout.extend_from_slice(format!("\nfirebreak {tool} {}\n", said.exit).as_bytes());
    Said {
        stdout,
        stderr: String::new(),
        exit: 0,
    }
}

/// What a probe's output says.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Tried(Tried),
    NoTool,
    Unclear(String),
}

/// Words decide first. A tool that says nothing is judged by the time it took: a refusal comes at once, silence lasts.
fn judge(said: &Said, elapsed: Duration, within: Duration) -> Verdict {
    let text = String::from_utf8_lossy(&said.stdout);
    let last = text
        .lines()
        .rev()
        .find_map(|l| l.strip_prefix("firebreak "));
    let Some((tool, code)) = last.and_then(|l| l.split_once(' ')) else {
        return Verdict::Unclear(format!("{text} {}", said.stderr));
    };
    let lower = text.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|w| lower.contains(w));
    match (tool, code.trim()) {
        ("none", _) => Verdict::NoTool,
        (_, "0") => Verdict::Tried(Tried::Open),
        _ if says(&[
            "bad address",
            "name or service",
            "not known",
            "forward host lookup",
            "servname",
            "resolve",
        ]) =>
        {
            Verdict::Unclear(text.into_owned())
        }
        _ if says(&[
            "refused",
            "prohibited",
            "not permitted",
            "no route to host",
            "unreachable",
        ]) =>
        {
            Verdict::Tried(Tried::Refused)
        }
        _ if says(&["timed out", "timeout", "in progress"]) => Verdict::Tried(Tried::Silent),
        ("bash", "124" | "143" | "137") => Verdict::Tried(Tried::Silent),
        _ if says(&["invalid option", "unrecognized", "usage:", "not found"]) => {
            Verdict::Unclear(text.into_owned())
        }
        _ if elapsed + Duration::from_millis(100) >= within => Verdict::Tried(Tried::Silent),
        // A tool that says something else has failed in its own way: that is no answer of the network.
        _ if text
            .lines()
            .any(|l| !l.trim().is_empty() && !l.starts_with("firebreak ")) =>
        {
            Verdict::Unclear(text.into_owned())
        }
        _ => Verdict::Tried(Tried::Refused),
    }
}

/// Reads `/proc/net/tcp` and `tcp6` one after the other. State 0A is LISTEN, 01 ESTABLISHED (`include/net/tcp_states.h`).
fn sockets_of(text: &str) -> Sockets {
    let mut found = Sockets::default();
    for line in text.lines() {
        let mut fields = line.split_whitespace();
        let (Some(local), Some(remote), Some(state)) =
            (fields.nth(1), fields.next(), fields.next())
        else {
            continue;
        };
        let (Some((address, port)), Some((peer, peer_port))) = (end_of(local), end_of(remote))
        else {
            continue;
        };
        match state {
            "0A" if !found.listening.contains(&port) => found.listening.push(port),
            "01" => {
                let show =
                    |a: std::net::IpAddr, p: u16| std::net::SocketAddr::new(a, p).to_string();
                let line = format!("{} → {}", show(address, port), show(peer, peer_port));
                if is_stalled(fields.next(), fields.nth(1)) {
                    found.stalled.push(line.clone());
                }
                found.established.push(line);
            }
            _ => {}
        }
    }
    found.listening.sort_unstable();
    found
}

/// Retransmissions without an answer after which nothing gets through: about 1.4 seconds at the kernel's shortest timer.
const STALLED_AFTER: u32 = 3;

/// `tx_queue:rx_queue` holds data that waits for its acknowledgement, and `retrnsmt` counts how often it was sent again.
fn is_stalled(queues: Option<&str>, retransmissions: Option<&str>) -> bool {
    let hex = |t: &str| u32::from_str_radix(t, 16).ok();
    let waiting = queues.and_then(|q| hex(q.split_once(':')?.0));
    let again = retransmissions.and_then(hex);
    waiting.is_some_and(|n| n > 0) && again.is_some_and(|n| n >= STALLED_AFTER)
}

/// `0700F40A:A10A` → address and port. The kernel prints each 32-bit word in the host's order: little-endian on every
/// architecture that Kubernetes supports but s390x, where addresses would read reversed.
fn end_of(text: &str) -> Option<(std::net::IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let bytes: Vec<u8> = (0..address.len() / 2)
        .map(|i| u8::from_str_radix(address.get(2 * i..2 * i + 2)?, 16).ok())
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = bytes
        .chunks(4)
        .flat_map(|word| word.iter().rev().copied())
        .collect();
    let address = match bytes.len() {
        4 => std::net::IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        16 => std::net::IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical(),
        _ => return None,
    };
    Some((address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(stdout: &str, elapsed_ms: u64) -> Verdict {
        let said = Said {
            stdout: stdout.as_bytes().to_vec(),
            stderr: String::new(),
            exit: 0,
        };
        judge(
            &said,
            Duration::from_millis(elapsed_ms),
            Duration::from_secs(2),
        )
    }

    #[test]
    fn open_refused_and_silent_are_told_apart_for_every_kind_of_tool() {
        for (said, ms, want) in [
            (
                "10.0.0.1 (10.0.0.1:80) open\nfirebreak nc 0\n",
                50,
                Tried::Open,
            ),
            (
                "nc: 10.0.0.1 (10.0.0.1:80): Connection refused\nfirebreak nc 1\n",
                50,
                Tried::Refused,
            ),
            (
                "nc: connect to 10.0.0.1 port 80 (tcp) timed out: Operation now in progress\nfirebreak nc 1\n",
                2050,
                Tried::Silent,
            ),
            ("\nfirebreak nc 1\n", 60, Tried::Refused),
            ("\nfirebreak nc 1\n", 2010, Tried::Silent),
            (
                "sh: connect: Connection refused\nfirebreak bash 1\n",
                50,
                Tried::Refused,
            ),
            ("\nfirebreak bash 124\n", 2050, Tried::Silent),
            (
                "No route to host\nfirebreak python3 1\n",
                50,
                Tried::Refused,
            ),
        ] {
            assert_eq!(verdict(said, ms), Verdict::Tried(want), "{said}");
        }
    }

    #[test]
    fn no_tool_and_a_tool_that_fails_are_never_taken_for_a_closed_port() {
        assert_eq!(verdict("firebreak none 127\n", 10), Verdict::NoTool);
        assert!(matches!(
            verdict("nc: bad address 'x'\nfirebreak nc 1\n", 10),
            Verdict::Unclear(_)
        ));
        assert!(matches!(verdict("", 10), Verdict::Unclear(_)));
        assert!(matches!(
            verdict("nc: socket: Too many open files\nfirebreak nc 1\n", 10),
            Verdict::Unclear(_)
        ));
    }

    #[test]
    fn a_connection_whose_data_is_sent_again_and_again_is_stalled() {
        let line = |queue: &str, again: &str| {
            let text = format!(
                "  sl  local_address\n   0: 0600C70A:D38A 0A6433C6:115C 01 {queue}:00000000 01:000000FA {again}     0        0 1101075\n"
            );
            let got = sockets_of(&text);
            assert_eq!(got.established.len(), 1);
            got.stalled.len()
        };
        assert_eq!(line("000000A0", "00000004"), 1);
        assert_eq!(line("000000A0", "00000002"), 0, "loss, not a cut");
        assert_eq!(line("00000000", "00000004"), 0, "nothing waits");
    }

    #[test]
    fn sockets_are_read_from_both_families() {
        let text = "  sl  local_address rem_address   st tx_queue\n   0: 00000000:1F90 00000000:0000 0A 0:0\n   1: 0700F40A:A10A 0A6433C6:115C 01 0:0\n  sl  local_address\n   0: 0000000000000000FFFF00000700F40A:01BB 0000000000000000FFFF00000800F40A:C350 01 0\n   1: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 0\n";
        let got = sockets_of(text);
        assert_eq!(got.listening, [8080]);
        assert_eq!(
            got.established,
            [
                "10.244.0.7:41226 → 198.51.100.10:4444",
                "10.244.0.7:443 → 10.244.0.8:50000"
            ]
        );
    }
}
