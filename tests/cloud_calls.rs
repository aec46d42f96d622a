//! How our calls to AWS behave when the other side misbehaves: a server that answers by script and remembers what it was asked.
#![cfg(feature = "adapters")]

use std::collections::VecDeque;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use firebreak::adapter::aws::{Aws, Kind, Options, Pace, Rates, Service, connect};
use firebreak::port::{Cause, PortError, Principal, Secret, Signer};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// What the server does with one request.
#[derive(Debug, Clone)]
enum Does {
    /// Answers with a status and a body.
    Answer(u16, &'static str),
    /// Takes the request and hangs up.
    HangUp,
    /// Takes the request and is silent.
    Silence,
}

const WHO: &str = "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::123456789012:user/ana</Arn><UserId>AIDA</UserId><Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>";
const KEY: &str = "<CreateAccessKeyResponse><CreateAccessKeyResult><AccessKey><UserName>u</UserName><AccessKeyId>AKIANEW</AccessKeyId><Status>Active</Status><SecretAccessKey>s3cret</SecretAccessKey></AccessKey></CreateAccessKeyResult></CreateAccessKeyResponse>";
const KEYS: &str = "<ListAccessKeysResponse><ListAccessKeysResult><AccessKeyMetadata/><IsTruncated>false</IsTruncated></ListAccessKeysResult></ListAccessKeysResponse>";
const THROTTLED: &str = "<ErrorResponse><Error><Type>Sender</Type><Code>Throttling</Code><Message>Rate exceeded</Message></Error><RequestId>r-9</RequestId></ErrorResponse>";
const FULL: &str = "<ErrorResponse><Error><Type>Sender</Type><Code>LimitExceeded</Code><Message>Cannot exceed quota for AccessKeysPerUser: 2</Message></Error></ErrorResponse>";
const BROKEN: &str = "<ErrorResponse><Error><Type>Receiver</Type><Code>ServiceFailure</Code><Message>oops</Message></Error></ErrorResponse>";

/// What was asked, but for who we are: head and body.
type Asked = Arc<Mutex<Vec<String>>>;

struct Server {
    url: String,
    asked: Asked,
    script: Arc<Mutex<VecDeque<Does>>>,
}

impl Server {
    /// Answers who we are always, and the rest by script; when that is at its end it hangs up.
    async fn start(script: &[Does]) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let asked = Asked::default();
        let script = Arc::new(Mutex::new(script.iter().cloned().collect::<VecDeque<_>>()));
        let (seen, steps) = (Arc::clone(&asked), Arc::clone(&script));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&seen), Arc::clone(&steps)));
            }
        });
        Server {
            url: format!("http://127.0.0.1:{port}"),
            asked,
            script,
        }
    }
    fn options(&self) -> Options {
        let mut options = Options::of_run("run-7", std::env::temp_dir());
        options.endpoint = Some(self.url.clone());
        options.region = Some("eu-west-1".into());
        options.signer = Some(Signer {
            id: "AKIAOURS".into(),
            secret: Secret::new("ours".into()),
            token: None,
        });
        options.pace = Pace::Unbounded;
        options
    }
    async fn aws(&self) -> Aws {
        connect(self.options()).await.expect("it says who we are")
    }
    fn times(&self, action: &str) -> usize {
        let all = self.asked.lock().expect("asked");
        all.iter().filter(|r| r.contains(action)).count()
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    asked: Asked,
    script: Arc<Mutex<VecDeque<Does>>>,
) {
    let mut bytes = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let whole = text.split_once("\r\n\r\n").filter(|(head, body)| {
            let length = head.lines().find_map(|l| {
                let (name, value) = l.split_once(": ")?;
                (name.eq_ignore_ascii_case("content-length")).then(|| value.parse().ok())?
            });
            body.len() >= length.unwrap_or(0)
        });
        if whole.is_none() {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(n) => bytes.extend_from_slice(&buffer[..n]),
            }
            continue;
        }
        bytes.clear();
        let step = if text.contains("Action=GetCallerIdentity") {
            Does::Answer(200, WHO)
        } else {
            asked.lock().expect("asked").push(text);
            let next = script.lock().expect("script").pop_front();
            next.unwrap_or(Does::HangUp)
        };
        let (status, body) = match step {
            Does::Answer(status, body) => (status, body),
            Does::HangUp => return,
            Does::Silence => std::future::pending().await,
        };
        let answer = format!(
            "HTTP/1.1 {status} x\r\ndate: Wed, 25 Nov 2026 03:27:02 GMT\r\nx-amzn-requestid: r-1\r\ncontent-type: text/xml\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn create(aws: &Aws) -> PortError {
    let made = aws.cloud.create_access_key("u").await;
    made.err().expect("it fails")
}

#[tokio::test]
async fn a_change_whose_reply_is_lost_is_sent_once_and_left_in_doubt() {
    for step in [
        Does::HangUp,
        Does::Answer(500, BROKEN),
        Does::Answer(503, ""),
    ] {
        let server = Server::start(std::slice::from_ref(&step)).await;
        let aws = server.aws().await;
        let e = create(&aws).await;
        assert!(e.cause.may_have_happened(), "{step:?}: {e}");
        assert_eq!(server.times("Action=CreateAccessKey"), 1, "{step:?}");
    }
}

#[tokio::test]
async fn a_change_that_gets_no_answer_in_time_is_in_doubt() {
    let server = Server::start(&[Does::Silence]).await;
    let mut options = server.options();
    options.deadline = Duration::from_millis(1500);
    let aws = connect(options).await.expect("connected");
    let e = create(&aws).await;
    assert_eq!(e.cause, Cause::Timeout, "{e}");
    assert_eq!(server.times("Action=CreateAccessKey"), 1);
}

#[tokio::test]
async fn a_throttled_change_is_not_repeated_and_slows_its_budget() {
    let server = Server::start(&[Does::Answer(400, THROTTLED)]).await;
    let mut options = server.options();
    let rates = Rates::careful();
    options.pace = Pace::Budgets(Arc::clone(&rates));
    let aws = connect(options).await.expect("connected");
    let e = create(&aws).await;
    assert_eq!(e.cause, Cause::Throttled);
    assert_eq!(e.detail, "Throttling: Rate exceeded (request r-1)");
    assert_eq!(server.times("Action=CreateAccessKey"), 1);
    let seen = rates.seen();
    let writes = seen
        .iter()
        .find(|b| b.service == Service::Iam && b.kind == Kind::Write)
        .expect("counted");
    assert_eq!(
        (writes.calls, writes.throttled, writes.rate),
        (1, 1, Some(3.5))
    );
    assert_eq!(
        (writes.account.as_str(), writes.waiting),
        ("123456789012", 0)
    );
}

#[tokio::test]
async fn a_full_quota_is_final() {
    let server = Server::start(&[Does::Answer(409, FULL)]).await;
    let e = create(&server.aws().await).await;
    assert_eq!(e.cause, Cause::Rejected);
    assert!(
        e.detail.starts_with("LimitExceeded: Cannot exceed quota"),
        "{e}"
    );
}

#[tokio::test]
async fn a_read_is_repeated_a_few_times() {
    let steps = [
        Does::Answer(400, THROTTLED),
        Does::HangUp,
        Does::Answer(200, KEYS),
    ];
    let server = Server::start(&steps).await;
    let aws = server.aws().await;
    assert_eq!(aws.cloud.access_keys("u").await.expect("at last").value, []);
    assert_eq!(server.times("Action=ListAccessKeys"), 3);
    let e = aws
        .cloud
        .access_keys("u")
        .await
        .expect_err("hangs up for good");
    assert_eq!(server.times("Action=ListAccessKeys"), 3 + 4, "{e}");
}

#[tokio::test]
async fn nothing_listening_means_never_sent() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    drop(listener);
    let server = Server::start(&[]).await;
    let mut options = server.options();
    options.endpoint = Some(format!("http://127.0.0.1:{port}"));
    let e = connect(options).await.err().expect("nobody there");
    assert_eq!(e.cause, Cause::Unreachable, "{e}");
}

#[tokio::test]
async fn an_answer_is_kept_with_its_request_id_and_the_servers_time() {
    let server = Server::start(&[Does::Answer(200, KEY)]).await;
    let aws = server.aws().await;
    assert_eq!(aws.identity.access_key_id, "AKIAOURS");
    assert_eq!(aws.endpoint, server.url);
    let made = aws.cloud.create_access_key("u").await.expect("made");
    assert_eq!(made.value.id, "AKIANEW");
    assert_eq!(made.request_id.as_deref(), Some("r-1"));
    assert_eq!(made.server_date.map(|d| d.timestamp()), Some(1_795_577_222));
    let asked = server.asked.lock().expect("asked")[0].to_ascii_lowercase();
    assert!(asked.contains("app/firebreak-run-7"), "{asked}");
    assert!(server.script.lock().expect("script").is_empty());
}

#[tokio::test]
async fn unbounded_calls_never_leave_this_host() {
    let server = Server::start(&[]).await;
    let mut options = server.options();
    options.endpoint = Some("https://192.0.2.1".into());
    let e = connect(options).await.err().expect("held back");
    assert_eq!(e.cause, Cause::Local, "{e}");
    assert!(e.detail.contains("unbounded"), "{e}");
}

#[tokio::test]
async fn an_intruders_words_reach_nobodys_terminal_unclean() {
    const EVIL: &str = "<ErrorResponse><Error><Code>Bad</Code><Message>a&#x202e;b password=hunter2</Message></Error></ErrorResponse>";
    let server = Server::start(&[Does::Answer(400, EVIL)]).await;
    let aws = server.aws().await;
    let user = Principal::User("u\u{1b}[31m".into());
    let put = aws.cloud.put_inline_policy(&user, "p", "{}").await;
    let said = put.expect_err("refused").to_string();
    assert!(!said.contains('\u{202e}') && !said.contains("hunter2") && !said.contains('\u{1b}'));
}

/// A certificate for `localhost` that only a bundle of one's own can trust; `None` without openssl.
fn certificate(folder: &Path) -> Option<()> {
    std::fs::create_dir_all(folder).expect("own folder");
    let made = Command::new("openssl")
        .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost".split(' '))
        .args("-addext subjectAltName=DNS:localhost -keyout key.pem -out cert.pem".split(' '))
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .current_dir(folder)
        .output();
    match made {
        Ok(out) => assert!(out.status.success(), "{out:?}"),
        Err(e) => {
            eprintln!("SKIPPED: needs openssl ({e})");
            return None;
        }
    }
    Some(())
}

#[tokio::test]
async fn a_bundle_of_ones_own_is_trusted_and_an_unknown_certificate_is_not() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cloud-tls");
    let Some(()) = certificate(&folder) else {
        return;
    };
    let chain = CertificateDer::from_pem_file(folder.join("cert.pem")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).expect("a key");
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .expect("a server");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                tokio::spawn(serve(stream, Asked::default(), Arc::default()));
            }
        }
    });
    let plain = Server::start(&[]).await;
    let options = |ca_file| {
        let mut options = plain.options();
        options.endpoint = Some(format!("https://localhost:{port}"));
        options.ca_file = ca_file;
        options
    };
    let trusted = connect(options(Some(folder.join("cert.pem")))).await;
    assert_eq!(trusted.expect("trusted").identity.account, "123456789012");
    let refused = connect(options(None)).await.err().expect("not trusted");
    assert_eq!(refused.cause, Cause::Unreachable, "{refused}");
    assert!(refused.detail.contains("certificate"), "{refused}");
}

/// Keeps all that anybody traces.
struct Recorder(Arc<Mutex<String>>);

impl tracing::field::Visit for Recorder {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        let mut all = self.0.lock().expect("records");
        all.push_str(&format!("{field}={value:?}\n"));
    }
}

impl tracing::Subscriber for Recorder {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        span.record(&mut Recorder(Arc::clone(&self.0)));
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, values: &tracing::span::Record<'_>) {
        values.record(&mut Recorder(Arc::clone(&self.0)));
    }
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut Recorder(Arc::clone(&self.0)));
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn a_subscriber_that_wants_everything_gets_no_secret() {
    const VALUE: &str = "pl4nted-n3w-passw0rd";
    const TOKEN: &str = "pl4nted-s3ss10n-t0ken";
    let records = Arc::new(Mutex::new(String::new()));
    let subscriber = Recorder(Arc::clone(&records));
    tracing::subscriber::set_global_default(subscriber).expect("the only one");
    let server = Server::start(&[Does::HangUp]).await;
    let mut options = server.options();
    options.signer = Some(Signer {
        id: "ASIAOURS".into(),
        secret: Secret::new("ours".into()),
        token: Some(Secret::new(TOKEN.into())),
    });
    let aws = connect(options).await.expect("connected");
    let (id, value) = ("0".repeat(32), Secret::new(VALUE.into()));
    let put = aws.vault.put("shop/db", &id, &value, &["AWSPENDING"]);
    put.await.expect_err("it hangs up");
    assert_eq!((server.times(VALUE), server.times(TOKEN)), (1, 1));
    let records = records.lock().expect("records");
    for secret in [VALUE, TOKEN] {
        assert!(!records.contains(secret), "a record holds a secret");
    }
}
