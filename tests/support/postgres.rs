//! A real PostgreSQL of the test's own: a primary, and a streaming replica where a test needs one.
//!
//! A test that needs it begins with
//! ```ignore
//! let Some(servers) = Postgres::start("name", Tls::On) else { return };
//! ```
//! Everything is in one folder below the system's temporary folder, listens on loopback only, and goes away with the value. PostgreSQL refuses
//! to run as root; then its own account `postgres` runs it.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use firebreak::port::{Login, Secret, Server};

/// How long a server may take for what it does in a second or two when nothing is wrong.
const PATIENCE: Duration = Duration::from_secs(60);
/// The administrator's role and its password.
const ADMIN: (&str, &str) = ("admin", "AdminOfTheTest2345");

/// Whether the server speaks TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    On,
    Off,
}

/// A primary and perhaps its replica.
pub struct Postgres {
    folder: PathBuf,
    tls: Tls,
    primary: Running,
    replica: Option<Running>,
}

/// One server process.
struct Running {
    child: Child,
    port: u16,
    data: PathBuf,
}

/// Where the programs are: Debian keeps them apart by version.
fn programs() -> Option<PathBuf> {
    let found = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut versions: Vec<PathBuf> = found.flatten().map(|e| e.path().join("bin")).collect();
    versions.retain(|bin| bin.join("postgres").exists() && bin.join("pg_basebackup").exists());
    versions.sort();
    versions.pop()
}

fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

/// A program of PostgreSQL, as an account that it accepts.
fn command(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    command.arg(program);
    command
}

fn run(command: &mut Command) -> String {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("{command:?} does not run: {e}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?} ended with {}:\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Asks until there is an answer.
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "waited {PATIENCE:?} in vain for {what}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback can be listened on");
    listener.local_addr().expect("it is bound").port()
}

/// A key and a certificate signed by a new authority, both for `localhost` and nothing else.
fn certificates(folder: &Path) {
    let ec = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
    ];
    let openssl = |args: &[&str]| run(Command::new("openssl").args(args).current_dir(folder));
    let ca = [
        "req",
        "-x509",
        "-days",
        "2",
        "-subj",
        "/CN=test authority",
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
    ];
    openssl(&[&ca[..], &ec[..]].concat());
    let ask = [
        "req",
        "-subj",
        "/CN=localhost",
        "-keyout",
        "server.key",
        "-out",
        "server.csr",
    ];
    openssl(&[&ask[..], &ec[..]].concat());
    std::fs::write(folder.join("names"), "subjectAltName=DNS:localhost\n").expect("own folder");
    openssl(&[
        "x509",
        "-req",
        "-days",
        "2",
        "-in",
        "server.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-extfile",
        "names",
        "-out",
        "server.pem",
    ]);
}

impl Postgres {
    /// A primary; without PostgreSQL on this machine, says that the test is skipped and returns nothing.
    pub fn start(test: &str, tls: Tls) -> Option<Postgres> {
        let Some(bin) = programs() else {
            eprintln!(
                "SKIPPED: needs PostgreSQL (Debian package postgresql); tests/run installs it"
            );
            return None;
        };
        let mut salt = [0; 4];
        getrandom::fill(&mut salt).expect("the system has randomness");
        let name = format!("firebreak-pg-{test}-{:08x}", u32::from_le_bytes(salt));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).expect("the temporary folder can be written");
        std::fs::write(folder.join("password"), ADMIN.1).expect("own folder");
        certificates(&folder);
        if is_root() {
            run(Command::new("chown").args(["-R", "postgres:"]).arg(&folder));
        }
        run(Command::new("chmod")
            .arg("0600")
            .arg(folder.join("server.key")));
        let data = folder.join("primary");
        run(command(&bin.join("initdb"))
            .args([
                "-A",
                "scram-sha-256",
                "-U",
                ADMIN.0,
                "--no-sync",
                "-E",
                "UTF8",
            ])
            .arg("--pwfile")
            .arg(folder.join("password"))
            .arg("-D")
            .arg(&data));
        let primary = Running::start(&folder, data, tls);
        let servers = Postgres {
            folder,
            tls,
            primary,
            replica: None,
        };
        if statements_library().exists() {
            servers.sql("CREATE EXTENSION pg_stat_statements");
        }
        Some(servers)
    }

    /// The same with a streaming replica.
    pub fn start_with_replica(test: &str) -> Option<Postgres> {
        let mut servers = Postgres::start(test, Tls::On)?;
        let bin = programs().expect("it was there a moment ago");
        let data = servers.folder.join("replica");
        run(command(&bin.join("pg_basebackup"))
            .env("PGPASSWORD", ADMIN.1)
            // It looks for a certificate of its own in there.
            .env("HOME", &servers.folder)
            .args([
                "-R",
                "-X",
                "stream",
                "-c",
                "fast",
                "--no-sync",
                "-U",
                ADMIN.0,
            ])
            .args(["-h", "127.0.0.1", "-p", &servers.primary.port.to_string()])
            .arg("-D")
            .arg(&data));
        servers.replica = Some(Running::start(&servers.folder, data, Tls::On));
        Some(servers)
    }

    /// The primary, as a map would name it.
    pub fn primary(&self) -> Server {
        self.server(self.primary.port)
    }

    /// The replica.
    pub fn replica(&self) -> Server {
        self.server(self.replica.as_ref().expect("it was started with one").port)
    }

    /// A server on this port with our authority.
    pub fn server(&self, port: u16) -> Server {
        let ca = self.folder.join("ca.pem");
        Server {
            host: "localhost".into(),
            port,
            database: "postgres".into(),
            ca_file: Some(ca.to_str().expect("UTF-8").to_owned()),
        }
    }

    /// The administrator.
    pub fn admin(&self) -> Login {
        Login {
            role: ADMIN.0.into(),
            password: Secret::new(ADMIN.1.into()),
        }
    }

    /// Runs statements on the primary as the administrator; answers what they printed, one row a line.
    pub fn sql(&self, statements: &str) -> String {
        self.sql_on(self.primary.port, statements)
    }

    fn sql_on(&self, port: u16, statements: &str) -> String {
        let text = run(Command::new("psql")
            .env("PGPASSWORD", ADMIN.1)
            .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"])
            .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-U", ADMIN.0])
            .args(["-d", "postgres", "-c", statements]));
        text.trim().to_owned()
    }

    /// Waits until the replica has all that the primary has now.
    pub fn replicate(&self) {
        let port = self.replica().port;
        let written = self.sql("SELECT pg_current_wal_lsn()");
        wait_for("the replica", || {
            let ask = format!("SELECT pg_last_wal_replay_lsn() >= '{written}'::pg_lsn");
            (self.sql_on(port, &ask) == "t").then_some(())
        });
    }

    /// What the servers logged so far.
    pub fn log(&self) -> String {
        let logs = ["primary.log", "replica.log"];
        let logs = logs.map(|l| std::fs::read_to_string(self.folder.join(l)).unwrap_or_default());
        logs.concat()
    }

    /// What `pg_stat_statements` kept; `None` where it is not installed.
    pub fn statements(&self) -> Option<String> {
        let there = statements_library().exists();
        there.then(|| self.sql("SELECT query FROM pg_stat_statements"))
    }

    /// Ends the primary at once, as a crash would.
    pub fn crash(&mut self) {
        let _ = self.primary.child.kill();
        let _ = self.primary.child.wait();
    }

    /// Starts the primary again on its port.
    pub fn start_again(&mut self) {
        let data = self.primary.data.clone();
        self.primary = Running::start_on(&self.folder, data, self.tls, self.primary.port);
    }
}

fn statements_library() -> PathBuf {
    let lib = programs().and_then(|bin| Some(bin.parent()?.join("lib")));
    lib.unwrap_or_default().join("pg_stat_statements.so")
}

impl Running {
    fn start(folder: &Path, data: PathBuf, tls: Tls) -> Running {
        Running::start_on(folder, data, tls, free_port())
    }

    fn start_on(folder: &Path, data: PathBuf, tls: Tls, port: u16) -> Running {
        let bin = programs().expect("it was there a moment ago");
        let name = data.file_name().expect("a folder");
        let name = name.to_str().expect("UTF-8").to_owned();
        let log = File::options()
            .create(true)
            .append(true)
            .open(folder.join(format!("{name}.log")))
            .expect("own folder");
        let place = folder.display();
        let mut settings = vec![
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={port}"),
            format!("unix_socket_directories={place}"),
            "log_statement=ddl".to_owned(),
            "fsync=off".to_owned(),
            "max_connections=40".to_owned(),
        ];
        if tls == Tls::On {
            settings.push("ssl=on".to_owned());
            settings.push(format!("ssl_cert_file={place}/server.pem"));
            settings.push(format!("ssl_key_file={place}/server.key"));
        }
        if statements_library().exists() {
            settings.push("shared_preload_libraries=pg_stat_statements".to_owned());
        }
        let mut command = command(&bin.join("postgres"));
        command.arg("-D").arg(&data);
        for setting in &settings {
            command.args(["-c", setting]);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("postgres runs");
        let mut running = Running { child, port, data };
        let pid_file = running.data.join("postmaster.pid");
        let mine = running.child.id().to_string();
        wait_for("postgres", || {
            if let Ok(Some(ended)) = running.child.try_wait() {
                let log = std::fs::read_to_string(folder.join(format!("{name}.log")));
                panic!("postgres ended with {ended}: {}", log.unwrap_or_default());
            }
            let text = std::fs::read_to_string(&pid_file).unwrap_or_default();
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            let ready = lines.last() == Some(&"ready") && lines.first() == Some(&mine.as_str());
            ready.then_some(())
        });
        running
    }
}

impl Running {
    fn stop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let pid = rustix::process::Pid::from_child(&self.child);
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
            let _ = self.child.wait();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // The servers end before their folder goes.
        drop(self.replica.take());
        self.primary.stop();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
