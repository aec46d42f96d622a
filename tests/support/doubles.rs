//! Doubles of AWS: whole servers of other people, started on loopback and stopped by their process id.
//!
//! They come from PyPI (`tests/requirements-doubles.txt`); where they are not installed the tests are skipped and say so. Tests of one
//! program that run at the same time share a server, so each uses names of its own.
//!
//! *Guarantees*: they listen on loopback and nowhere else, which is looked up when they are ready. They see nothing of this machine's
//! real credentials or profiles. They end with the value, and with the test program however that ends, because they read from a pipe
//! that it holds.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use aws_smithy_http_client::tls;
use firebreak::adapter::aws::{self, Aws, Options, Pace};
use firebreak::port::{Secret, Signer};

/// Region of all tests.
pub const REGION: &str = "eu-west-1";
/// So long a double may take to answer for the first time, on a busy machine.
const START: Duration = Duration::from_secs(120);

/// Runs a module until the pipe that it reads from is closed.
const UNTIL_WE_END: &str = "import os, runpy, sys, threading
threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(0)), daemon=True).start()
module = sys.argv.pop(1)
runpy.run_module(module, run_name='__main__', alter_sys=True)";

/// Nothing that an AWS client would find on this machine by itself.
pub const NO_REAL_ACCOUNT: [(&str, &str); 3] = [
    ("AWS_EC2_METADATA_DISABLED", "true"),
    ("AWS_CONFIG_FILE", "/dev/null"),
    ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
];

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Right about status, sessions, deny, compare-and-swap.
    Ministack,
    /// Right about key slots, last use, compare-and-swap.
    Moto,
}

impl Which {
    fn module(self) -> &'static str {
        match self {
            Which::Ministack => "ministack",
            Which::Moto => "moto.server",
        }
    }

    /// A path that answers 200 once it serves.
    fn ready(self) -> &'static str {
        match self {
            Which::Ministack => "/_ministack/health",
            Which::Moto => "/moto-api/",
        }
    }

    fn settle(self, command: &mut Command, port: u16) {
        match self {
            Which::Ministack => command
                .env("AUTH", "true")
                .env("BIND_HOST", "127.0.0.1")
                .env("SFTP_ENABLED", "0")
                .env("IOT_MTLS_ENABLED", "0")
                .env("CLOUDTRAIL_RECORDING", "1")
                .env("GATEWAY_PORT", port.to_string()),
            Which::Moto => command.args(["-H", "127.0.0.1", "-p", &port.to_string()]),
        };
    }
}

/// A running double.
pub struct Double {
    child: Child,
    /// `http://127.0.0.1:…`
    pub url: String,
}

impl Drop for Double {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

static RUNNING: [Mutex<Weak<Double>>; 2] = [Mutex::new(Weak::new()), Mutex::new(Weak::new())];

/// The double, started if none is running. `None`, with a line that says why, where it is not installed.
pub fn double(which: Which) -> Option<Arc<Double>> {
    let mut running = RUNNING[which as usize]
        .lock()
        .unwrap_or_else(|e| e.into_inner());
    if let Some(double) = running.upgrade() {
        return Some(double);
    }
    let python = python_with(which)?;
    let double = Arc::new(start(which, &python));
    *running = Arc::downgrade(&double);
    Some(double)
}

/// The Python of `tests/run`, if it has this double.
fn python_with(which: Which) -> Option<OsString> {
    let Some(python) = std::env::var_os("FIREBREAK_PYTHON") else {
        eprintln!("SKIPPED {which:?}: needs FIREBREAK_PYTHON, see tests/run");
        return None;
    };
    let package = which.module().split('.').next().unwrap_or_default();
    let look =
        format!("import importlib.util, sys; sys.exit(not importlib.util.find_spec('{package}'))");
    let found = Command::new(&python).args(["-c", &look]).status();
    if !found.is_ok_and(|status| status.success()) {
        eprintln!(
            "SKIPPED {which:?}: needs the packages of tests/requirements-doubles.txt, see tests/run"
        );
        return None;
    }
    Some(python)
}

fn start(which: Which, python: &OsString) -> Double {
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .expect("a free port")
        .port();
    let home = super::own_folder(&format!("double-{which:?}-{port}"));
    let said = home.join("log.txt");
    let log = File::create(&said).expect("its folder can be written");
    let mut command = Command::new(python);
    // Nothing of a real account may be near it, and it must not look for one.
    command
        .args(["-c", UNTIL_WE_END, which.module()])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", &home)
        .envs(NO_REAL_ACCOUNT)
        .current_dir(&home)
        .stdin(Stdio::piped())
        .stdout(log.try_clone().expect("a descriptor"))
        .stderr(log);
    which.settle(&mut command, port);
    let mut double = Double {
        child: command.spawn().expect("the double starts"),
        url: format!("http://127.0.0.1:{port}"),
    };
    let began = Instant::now();
    while !answers(double.address(), which.ready()) {
        let ended = double.child.try_wait().expect("its state");
        assert!(
            ended.is_none(),
            "{which:?} ended with {ended:?}, see {}",
            said.display()
        );
        assert!(
            began.elapsed() < START,
            "{which:?} does not answer, see {}",
            said.display()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    for place in listening(double.child.id()) {
        assert!(place.ip().is_loopback(), "{which:?} listens on {place}");
    }
    double
}

impl Double {
    /// Where it listens, without the scheme.
    pub fn address(&self) -> SocketAddr {
        let address = self.url.trim_start_matches("http://");
        address.parse().expect("it was made from one")
    }

    /// What to connect with: the double's root, as fast as it goes.
    pub fn options(&self, run: &str) -> Options {
        let mut options = Options::of_run(run, super::own_folder("double-leases"));
        options.endpoint = Some(self.url.clone());
        options.region = Some(REGION.into());
        options.signer = Some(root());
        options.pace = Pace::Unbounded;
        options
    }

    /// Connected as root.
    pub async fn aws(&self) -> Aws {
        let connected = aws::connect(self.options("run-1")).await;
        connected.expect("the double answers")
    }

    /// The SDK as somebody, for what no port does: making users, roles, buckets, sessions.
    pub async fn sdk(&self, signer: &Signer) -> aws_config::SdkConfig {
        let ring = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(ring)
            .build_https();
        let credentials = aws_credential_types::Credentials::new(
            &signer.id,
            signer.secret.expose_secret(),
            signer.token.as_ref().map(|t| t.expose_secret().to_owned()),
            None,
            "test",
        );
        aws_config::defaults(aws_config::BehaviorVersion::latest())
            .region(aws_config::Region::new(REGION))
            .endpoint_url(&self.url)
            .http_client(http)
            .credentials_provider(credentials)
            .load()
            .await
    }
}

/// Both doubles' root.
pub fn root() -> Signer {
    Signer {
        id: "test".into(),
        secret: Secret::new("test".into()),
        token: None,
    }
}

/// The environment of a program that is to use an endpoint with these credentials, and no others.
pub fn environment(endpoint: &str, id: &str, secret: &str) -> Vec<(String, String)> {
    let own = [
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_REGION", REGION),
        ("AWS_ACCESS_KEY_ID", id),
        ("AWS_SECRET_ACCESS_KEY", secret),
    ];
    let all = own.into_iter().chain(NO_REAL_ACCOUNT);
    all.map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
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

fn read_folder(path: impl AsRef<Path>) -> Vec<PathBuf> {
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
