//! Doubles of a cloud account, one process each: ministack and moto, from `tests/requirements.txt`.
//!
//! *Guarantees*: they listen on loopback and nowhere else, which is looked up when they are ready. They see nothing of this machine's
//! real credentials or profiles. They end with the value, and with the test program however that ends, because they read from a pipe
//! that it holds.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::lab::wait_for;
use super::own_folder;

/// Runs a module until the pipe that it reads from is closed.
const UNTIL_WE_END: &str = "import os, runpy, sys, threading
threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(0)), daemon=True).start()
module = sys.argv.pop(1)
runpy.run_module(module, run_name='__main__', alter_sys=True)";

/// A running double.
pub struct Double {
    child: Child,
    address: SocketAddr,
}

impl Double {
    /// Ministack with its authentication on. Its root signs with `test`, `test`. Without it, says that the test is skipped.
    pub fn ministack(test: &str) -> Option<Double> {
        Double::start(test, "ministack", "/_ministack/health", |command, port| {
            let settings = [
                ("AUTH", "true"),
                ("BIND_HOST", "127.0.0.1"),
                ("SFTP_ENABLED", "0"),
                ("IOT_MTLS_ENABLED", "0"),
                ("CLOUDTRAIL_RECORDING", "1"),
            ];
            command.envs(settings).env("GATEWAY_PORT", port.to_string());
        })
    }

    /// Moto; it takes any credentials. Without it, says that the test is skipped.
    pub fn moto(test: &str) -> Option<Double> {
        Double::start(test, "moto.server", "/moto-api/", |command, port| {
            command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        })
    }

    fn start(
        test: &str,
        module: &str,
        ready: &str,
        settle: fn(&mut Command, u16),
    ) -> Option<Double> {
        let package = module.split('.').next().unwrap_or(module);
        let Some(python) = python_with(package) else {
            eprintln!("SKIPPED: needs {package}; tests/run installs it (FIREBREAK_PYTHON)");
            return None;
        };
        let folder = own_folder(&format!("double-{test}-{package}"));
        let log = std::fs::File::create(folder.join("log.txt"))
            .expect("the test's folder can be written");
        let port = free_port();
        let mut command = Command::new(python);
        command
            .args(["-c", UNTIL_WE_END, module])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &folder)
            .envs(NO_REAL_ACCOUNT)
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log);
        settle(&mut command, port);
        let mut double = Double {
            child: command.spawn().expect("Python starts"),
            address: (Ipv4Addr::LOCALHOST, port).into(),
        };
        wait_for(
            &format!("{package}; see {}", folder.join("log.txt").display()),
            || {
                let ended = double.child.try_wait().expect("it is ours");
                assert!(
                    ended.is_none(),
                    "{package} ended: {ended:?}; see {}",
                    folder.join("log.txt").display()
                );
                answers(double.address, ready).then_some(())
            },
        );
        for place in listening(double.child.id()) {
            assert!(place.ip().is_loopback(), "{package} listens on {place}");
        }
        Some(double)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Nothing that an AWS client would find on this machine by itself.
pub const NO_REAL_ACCOUNT: [(&str, &str); 3] = [
    ("AWS_EC2_METADATA_DISABLED", "true"),
    ("AWS_CONFIG_FILE", "/dev/null"),
    ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
];

/// The environment of a program that is to use an endpoint with these credentials, and no others.
pub fn environment(endpoint: &str, id: &str, secret: &str) -> Vec<(String, String)> {
    let own = [
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", id),
        ("AWS_SECRET_ACCESS_KEY", secret),
    ];
    own.into_iter()
        .chain(NO_REAL_ACCOUNT)
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The Python of `tests/run`, if it has this package.
fn python_with(package: &str) -> Option<std::ffi::OsString> {
    let python = std::env::var_os("FIREBREAK_PYTHON")?;
    let code = format!(
        "import importlib.util, sys; sys.exit(importlib.util.find_spec('{package}') is None)"
    );
    let found = Command::new(&python).args(["-c", &code]).status();
    found.is_ok_and(|status| status.success()).then_some(python)
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("it is bound").port()
}

fn answers(address: SocketAddr, path: &str) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"
        )?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        Ok(head.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}

/// Where a process and its children listen (TCP), from Linux's tables.
pub fn listening(pid: u32) -> Vec<SocketAddr> {
    let mut sockets = Vec::new();
    let mut processes = vec![pid];
    while let Some(process) = processes.pop() {
        let folder = format!("/proc/{process}");
        for descriptor in read_folder(format!("{folder}/fd")) {
            sockets.extend(
                std::fs::read_link(descriptor)
                    .ok()
                    .map(|target| target.display().to_string()),
            );
        }
        for task in read_folder(format!("{folder}/task")) {
            let children = std::fs::read_to_string(task.join("children")).unwrap_or_default();
            processes.extend(
                children
                    .split_whitespace()
                    .filter_map(|child| child.parse::<u32>().ok()),
            );
        }
    }
    let tables = [
        format!("/proc/{pid}/net/tcp"),
        format!("/proc/{pid}/net/tcp6"),
    ];
    let lines = tables
        .iter()
        .map(|table| std::fs::read_to_string(table).unwrap_or_default());
    lines
        .flat_map(|table| table.lines().skip(1).map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|line| listener(&line, &sockets))
        .collect()
}

fn read_folder(path: impl AsRef<Path>) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(path)
        .into_iter()
        .flatten()
        .flatten()
        .map(|item| item.path())
        .collect()
}

/// `N: ADDRESS:PORT PEER STATE … UID TIMEOUT INODE …`; state 0A listens.
fn listener(line: &str, sockets: &[String]) -> Option<SocketAddr> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let ours = format!("socket:[{}]", fields.get(9)?);
    if fields.get(3) != Some(&"0A") || !sockets.contains(&ours) {
        return None;
    }
    let (address, port) = fields.get(1)?.split_once(':')?;
    // Words of four bytes, each in the machine's order.
    let words: Vec<u8> = (0..address.len() / 8)
        .filter_map(|n| u32::from_str_radix(address.get(n * 8..n * 8 + 8)?, 16).ok())
        .flat_map(u32::to_ne_bytes)
        .collect();
    let ip = match <[u8; 4]>::try_from(words.as_slice()) {
        Ok(four) => IpAddr::from(four),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(words.as_slice()).ok()?),
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}
