//! Copying from simulated pods: their logs, and what their image's tools would answer.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};

use crate::incident::body::ObjectRef;
use crate::port::{Acquire, ByteStream, CaptureKind, Cause, Piece, PortError, Right};
use crate::reach::cluster::Pod;

use super::world::{Inside, Process, World};
use super::{Call, SimCluster, probe, same_pod};

/// Size of one piece of a stream.
const PIECE: usize = 16 * 1024;

#[async_trait]
impl Acquire for SimCluster {
    async fn capture(
        &self,
        pod: &ObjectRef,
        kind: &CaptureKind,
    ) -> Result<Box<dyn ByteStream>, PortError> {
        let on = format!("{}/{}", pod.namespace, pod.name);
        let call = |tried| Call {
            method: "capture",
            tried,
            on: &on,
        };
        let pieces = match kind {
            CaptureKind::Logs {
                container,
                previous,
                tail_lines,
            } => {
                let right = Right::new("", "pods/log", "get").within(&pod.namespace);
                let call = call("read the log of pod");
                let log =
                    self.look_at(call, &[right], |w| log(w, pod, container, *previous, call))?;
                pieces(tail(&log, *tail_lines).as_bytes(), None, String::new())
            }
            CaptureKind::Exec { container, argv } => {
                let call = call("run a command in pod");
                let answer = self.look_at(call, &probe::exec(pod), |w| {
                    let found = probe::with_tools(w, pod, container, call)?;
                    Ok(run(found, &probe::inside(w, found), argv))
                })?;
                pieces(answer.stdout.as_bytes(), Some(answer.exit), answer.stderr)
            }
        };
        Ok(Box::new(Pieces(pieces)))
    }
}

/// A stream that holds everything it will say.
struct Pieces(VecDeque<Piece>);

#[async_trait]
impl ByteStream for Pieces {
    async fn next(&mut self) -> Option<Result<Piece, PortError>> {
        self.0.pop_front().map(Ok)
    }
}

fn pieces(bytes: &[u8], exit: Option<i32>, stderr: String) -> VecDeque<Piece> {
    let mut pieces: VecDeque<Piece> = bytes
        .chunks(PIECE)
        .map(|c| Piece::Bytes(c.to_vec()))
        .collect();
    pieces.push_back(Piece::End { exit, stderr });
    pieces
}

fn log(
    world: &World,
    pod: &ObjectRef,
    container: &str,
    previous: bool,
    call: Call<'_>,
) -> Result<String, PortError> {
    let found = same_pod(world, pod, call)?;
    if !found.containers.iter().any(|c| c.name == container) {
        return Err(call.error(
            Cause::Rejected,
            format!("container {container} is not valid for pod {}", pod.name),
        ));
    }
    let inside = probe::inside(world, found);
    if previous {
        return inside.previous_logs.get(container).cloned().ok_or_else(|| {
            call.error(
                Cause::Rejected,
                format!("previous terminated container \"{container}\" not found"),
            )
        });
    }
    Ok(inside.logs.get(container).cloned().unwrap_or_default())
}

fn tail(log: &str, lines: Option<u32>) -> &str {
    let Some(lines) = lines else { return log };
    let wanted = usize::try_from(lines).unwrap_or(usize::MAX);
    let all: Vec<&str> = log.split_inclusive('\n').collect();
    let skipped: usize = all[..all.len().saturating_sub(wanted)]
        .iter()
        .map(|l| l.len())
        .sum();
    &log[skipped..]
}

/// What a command answers.
struct Answer {
    stdout: String,
    stderr: String,
    exit: i32,
}

impl Answer {
    fn of(stdout: String) -> Self {
        Answer {
            stdout,
            stderr: String::new(),
            exit: 0,
        }
    }
}

/// Answers the few commands that acquisition uses; any other is not in the image.
fn run(pod: &Pod, inside: &Inside, argv: &[String]) -> Answer {
    match argv
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        ["ps", ..] => Answer::of(process_table(&inside.processes)),
        ["cat", files @ ..] => cat(pod, inside, files),
        ["netstat" | "ss", ..] => Answer::of(connection_table(inside)),
        ["sh", "-c", script, ..] => shell(pod, inside, script),
        [tool, ..] => Answer {
            stdout: String::new(),
            stderr: format!("{tool}: not found"),
            exit: 127,
        },
        [] => Answer {
            stdout: String::new(),
            stderr: "no command".into(),
            exit: 126,
        },
    }
}

/// A shell script answers everything of ours that it mentions, each under its name: enough for a drill, and no shell.
fn shell(pod: &Pod, inside: &Inside, script: &str) -> Answer {
    let mut out = String::new();
    for file in FILES {
        if script.contains(file)
            && let Some(text) = file_text(pod, inside, file)
        {
            let _ = writeln!(out, "==> {file} <==\n{text}");
        }
    }
    if script.contains("sha256sum") {
        for p in &inside.processes {
            // A simulated file holds its own name.
            let sum = format!("{:x}", Sha256::digest(&p.exe));
            let _ = writeln!(out, "{sum} {} {}", p.pid, p.exe);
        }
    }
    if script.contains("ps ") || script.contains("/cmdline") {
        let _ = writeln!(
            out,
            "==> processes <==\n{}",
            process_table(&inside.processes)
        );
    }
    Answer::of(out)
}

fn cat(pod: &Pod, inside: &Inside, files: &[&str]) -> Answer {
    let mut answer = Answer::of(String::new());
    for file in files {
        match file_text(pod, inside, file) {
            Some(text) => answer.stdout.push_str(&text),
            None => {
                let _ = writeln!(
                    answer.stderr,
                    "cat: can't open '{file}': No such file or directory"
                );
                answer.exit = 1;
            }
        }
    }
    answer
}

const FILES: [&str; 8] = [
    "/proc/net/tcp",
    "/proc/net/tcp6",
    "/proc/net/udp",
    "/proc/net/udp6",
    "/proc/net/unix",
    "/proc/net/arp",
    "/proc/net/route",
    "/proc/net/nf_conntrack",
];

fn file_text(pod: &Pod, inside: &Inside, path: &str) -> Option<String> {
    const HEADER: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
    match path {
        "/proc/net/tcp" => Some(format!("{HEADER}{}", tcp_table(inside))),
        "/proc/net/tcp6" | "/proc/net/udp" | "/proc/net/udp6" => Some(HEADER.to_owned()),
        "/proc/net/unix" => {
            Some("Num       RefCount Protocol Flags    Type St Inode Path\n".to_owned())
        }
        "/proc/net/arp" => Some(format!(
            "IP address       HW type     Flags       HW address            Mask     Device\n{:<16} 0x1         0x2         0a:58:0a:f4:00:01     *        eth0\n",
            gateway(pod)
        )),
        "/proc/net/route" => Some(
            "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\neth0\t00000000\t0100F40A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
                .to_owned(),
        ),
        "/proc/net/nf_conntrack" => Some(tracked(inside)),
        _ => process_file(inside, path),
    }
}

/// `/proc/<pid>/cmdline` and `/proc/<pid>/comm`.
fn process_file(inside: &Inside, path: &str) -> Option<String> {
    let (pid, file) = path.strip_prefix("/proc/")?.split_once('/')?;
    let pid: u32 = pid.parse().ok()?;
    let process = inside.processes.iter().find(|p| p.pid == pid)?;
    match file {
        "cmdline" => Some(
            process
                .command
                .split(' ')
                .fold(String::new(), |mut all, word| {
                    all.push_str(word);
                    all.push('\0');
                    all
                }),
        ),
        "comm" => Some(format!("{}\n", process.exe.rsplit('/').next()?)),
        _ => None,
    }
}

fn gateway(pod: &Pod) -> String {
    let first = pod.ips.first().map_or("", String::as_str);
    match first.rsplit_once('.') {
        Some((net, _)) => format!("{net}.1"),
        None => String::new(),
    }
}

fn process_table(processes: &[Process]) -> String {
    processes.iter().fold(
        "PID   PPID  USER     COMMAND\n".to_owned(),
        |mut table, p| {
            let _ = writeln!(
                table,
                "{:<5} {:<5} {:<8} {}",
                p.pid, p.parent, p.user, p.command
            );
            table
        },
    )
}

fn connection_table(inside: &Inside) -> String {
    let mut table = "Proto Local Address           Foreign Address         State\n".to_owned();
    for port in &inside.listening {
        let _ = writeln!(
            table,
            "tcp   {:<23} {:<23} LISTEN",
            format!("0.0.0.0:{port}"),
            "0.0.0.0:*"
        );
    }
    for line in &inside.established {
        if let Some((local, remote)) = line.split_once(" → ") {
            let _ = writeln!(table, "tcp   {local:<23} {remote:<23} ESTABLISHED");
        }
    }
    table
}

/// Lines of `/proc/net/tcp`: addresses in little-endian hex, state 0A listens, 01 is established.
fn tcp_table(inside: &Inside) -> String {
    let listening = inside.listening.iter().map(|port| {
        (
            format!("00000000:{port:04X}"),
            "00000000:0000".to_owned(),
            "0A",
        )
    });
    let established = inside.established.iter().filter_map(|line| {
        let (local, remote) = line.split_once(" → ")?;
        Some((hex_end(local)?, hex_end(remote)?, "01"))
    });
    listening
        .chain(established)
        .enumerate()
        .fold(String::new(), |mut table, (n, (local, remote, state))| {
            let _ = writeln!(
                table,
                "{n:>4}: {local} {remote} {state} 00000000:00000000 00:00000000 00000000  1000        0 {} 1 0000000000000000 100 0 0 10 0",
                40_000 + n
            );
            table
        })
}

/// Lines of `/proc/net/nf_conntrack` for the connections that are open.
fn tracked(inside: &Inside) -> String {
    inside
        .established
        .iter()
        .filter_map(|line| {
            let (local, remote) = line.split_once(" → ")?;
            let (from, sport) = local.rsplit_once(':')?;
            let (to, dport) = remote.rsplit_once(':')?;
            Some(format!(
                "ipv4     2 tcp      6 86390 ESTABLISHED src={from} dst={to} sport={sport} dport={dport} src={to} dst={from} sport={dport} dport={sport} [ASSURED] mark=0 use=1\n"
            ))
        })
        .collect()
}

fn hex_end(end: &str) -> Option<String> {
    let (address, port) = end.rsplit_once(':')?;
    let address: Ipv4Addr = address.parse().ok()?;
    let port: u16 = port.parse().ok()?;
    Some(format!(
        "{:08X}:{port:04X}",
        u32::from_le_bytes(address.octets())
    ))
}
