//! Doubles of AWS: whole servers of other people, started on loopback and stopped by their process id.
//!
//! They come from PyPI (`tests/requirements-doubles.txt`); where they are not installed the tests are skipped and say so. Tests of one
//! program that run at the same time share a server, so each uses names of its own.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
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

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Right about status, sessions, deny, compare-and-swap.
    Ministack,
    /// Right about key slots, last use, compare-and-swap.
    Moto,
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
    let program = program(which)?;
    let double = Arc::new(start(which, &program));
    *running = Arc::downgrade(&double);
    Some(double)
}

fn program(which: Which) -> Option<PathBuf> {
    let name = match which {
        Which::Ministack => "ministack",
        Which::Moto => "moto_server",
    };
    let Some(python) = std::env::var_os("FIREBREAK_PYTHON") else {
        eprintln!("SKIPPED {name}: needs FIREBREAK_PYTHON, see tests/run");
        return None;
    };
    let program = PathBuf::from(python).with_file_name(name);
    if !program.exists() {
        eprintln!(
            "SKIPPED {name}: needs the packages of tests/requirements-doubles.txt, see tests/run"
        );
        return None;
    }
    Some(program)
}

fn start(which: Which, program: &PathBuf) -> Double {
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .expect("a free port")
        .port();
    let home = super::own_folder(&format!("double-{which:?}-{port}"));
    let mut command = Command::new(program);
    // Nothing of a real account may be near it, and it must not look for one.
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", &home)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .current_dir(&home)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    match which {
        Which::Ministack => command
            .env("AUTH", "true")
            .env("BIND_HOST", "127.0.0.1")
            .env("SFTP_ENABLED", "0")
            .env("IOT_MTLS_ENABLED", "0")
            .env("CLOUDTRAIL_RECORDING", "1")
            .env("GATEWAY_PORT", port.to_string()),
        Which::Moto => command.args(["-H", "127.0.0.1", "-p", &port.to_string()]),
    };
    let child = command.spawn().expect("the double starts");
    let mut double = Double {
        child,
        url: format!("http://127.0.0.1:{port}"),
    };
    let began = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        let ended = double.child.try_wait().expect("its state");
        assert!(ended.is_none(), "{which:?} ended with {ended:?}");
        assert!(began.elapsed() < START, "{which:?} does not listen");
        std::thread::sleep(Duration::from_millis(50));
    }
    double
}

impl Double {
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
