//! Telling people: texts for the terminal, and one HTTPS webhook.
//!
//! # Guarantees
//! - The text is recorded first, so it is shown even where the webhook fails.
//! - The webhook is HTTPS with a verified certificate (the system's roots, and a file of the user's own where given), not
//!   redirected, within 10 s. Sent once: a lost reply may mean that people were told.
//! - Its URL often holds a secret: errors name its host only.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::CertificateDer};

use super::kube::clean;
use crate::port::{Cause, Message, Notifier, PortError};

const DEADLINE: Duration = Duration::from_secs(10);
const TRIED: &str = "send a message to";

type Https = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Records every text for the command line to print, and posts it to the webhook if there is one.
pub struct Messages {
    texts: Mutex<Vec<Message>>,
    webhook: Option<Webhook>,
}

impl Messages {
    /// Only shown.
    pub fn shown() -> Self {
        Messages {
            texts: Mutex::new(Vec::new()),
            webhook: None,
        }
    }
    /// Shown and posted.
    pub fn posted(webhook: Webhook) -> Self {
        Messages {
            webhook: Some(webhook),
            ..Messages::shown()
        }
    }
    /// Takes what was recorded since the last call, in order.
    pub fn take(&self) -> Vec<Message> {
        std::mem::take(&mut *self.texts.lock().unwrap_or_else(|e| e.into_inner()))
    }
}

#[async_trait]
impl Notifier for Messages {
    async fn send(&self, message: &Message) -> Result<Vec<String>, PortError> {
        self.texts
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .push(message.clone());
        let mut used = vec!["print".to_owned()];
        if let Some(webhook) = &self.webhook {
            webhook.post(message).await?;
            used.push("webhook".into());
        }
        Ok(used)
    }
}

/// One place that takes messages as JSON by HTTPS POST.
pub struct Webhook {
    url: Uri,
    host: String,
    client: Https,
}

impl Webhook {
    /// Prepares it: `url` must be `https://…`; `ca_file` adds certificates (PEM) to the system's roots.
    ///
    /// # Errors
    /// When the URL is not one, or certificates cannot be read.
    pub fn new(url: &str, ca_file: Option<PathBuf>) -> Result<Self, PortError> {
        let local = |host: &str, detail: &str| {
            PortError::new(Cause::Local, TRIED, clean(host), clean(detail))
        };
        let url: Uri = url
            .trim()
            .parse()
            .map_err(|_| local("webhook", "not a URL"))?;
        let host = url.host().unwrap_or_default().to_owned();
        if url.scheme_str() != Some("https") || host.is_empty() {
            return Err(local(&host, "a webhook must be an https:// URL"));
        }
        let roots = roots(ca_file).map_err(|detail| local(&host, &detail))?;
        let tls = ClientConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(|e| local(&host, &e.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_only()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Webhook { url, host, client })
    }

    /// The host, which is all that may be shown of the URL.
    pub fn host(&self) -> &str {
        &self.host
    }

    async fn post(&self, message: &Message) -> Result<(), PortError> {
        let failed =
            |cause, detail: &str| PortError::new(cause, TRIED, clean(&self.host), clean(detail));
        let body = serde_json::to_vec(message).map_err(|e| failed(Cause::Local, &e.to_string()))?;
        let request = Request::post(self.url.clone())
            .header("content-type", "application/json")
            .header("user-agent", "firebreak")
            .body(Full::new(Bytes::from(body)))
            .map_err(|_| failed(Cause::Local, "the request cannot be made"))?;
        let answer = async {
            let response = self.client.request(request).await.map_err(|e| {
                let cause = if e.is_connect() {
                    Cause::Unreachable
                } else {
                    Cause::LostReply
                };
                failed(cause, &because(&e))
            })?;
            let status = response.status();
            // Read to its end, so that the other side is done with it; at most 64 KiB.
            let _ = Limited::new(response.into_body(), 64 << 10).collect().await;
            match status.as_u16() {
                200..300 => Ok(()),
                300..=399 => Err(failed(
                    Cause::Rejected,
                    &format!("it answered {status}; redirects are not followed"),
                )),
                429 => Err(failed(Cause::Throttled, &format!("it answered {status}"))),
                401 | 403 => Err(failed(Cause::Refused, &format!("it answered {status}"))),
                500.. => Err(failed(Cause::LostReply, &format!("it answered {status}"))),
                _ => Err(failed(Cause::Rejected, &format!("it answered {status}"))),
            }
        };
        match tokio::time::timeout(DEADLINE, answer).await {
            Ok(done) => done,
            Err(_) => Err(failed(Cause::Timeout, "no answer within 10 s")),
        }
    }
}

/// The client's error with its sources. None of them holds the URL: only addresses, TLS and HTTP faults.
fn because(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut next = e.source();
    while let Some(error) = next {
        text.push_str(": ");
        text.push_str(&error.to_string());
        next = error.source();
    }
    text
}

fn roots(ca_file: Option<PathBuf>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(native.certs);
    if let Some(path) = ca_file {
        use tokio_rustls::rustls::pki_types::pem::PemObject as _;
        let cannot = |e: String| format!("cannot read certificates from `{}`: {e}", path.display());
        let certificates =
            CertificateDer::pem_file_iter(&path).map_err(|e| cannot(e.to_string()))?;
        let mut some = false;
        for certificate in certificates {
            let certificate = certificate.map_err(|e| cannot(e.to_string()))?;
            roots.add(certificate).map_err(|e| cannot(e.to_string()))?;
            some = true;
        }
        if !some {
            return Err(cannot("there is none in it".into()));
        }
    }
    if roots.is_empty() {
        return Err("this system has no root certificates, and no file was given".into());
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        Message {
            incident: "INC-1".into(),
            drill: false,
            to: vec!["owner".into()],
            text: "contained".into(),
        }
    }

    #[tokio::test]
    async fn the_text_is_kept_and_the_urls_secret_is_not_told_when_the_webhook_fails() {
        // Nothing listens on the port of a listener that is gone.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|l| l.local_addr())
            .expect("a free port")
            .port();
        let url = format!("https://localhost:{port}/hook/s3cr3t?token=t0ken");
        let messages = Messages::posted(Webhook::new(&url, None).expect("a webhook"));
        let e = messages.send(&message()).await.expect_err("nobody there");
        assert_eq!(e.cause, Cause::Unreachable);
        let said = format!("{e} {e:?}");
        assert!(said.contains("localhost"), "{said}");
        assert!(
            !said.contains("s3cr3t") && !said.contains("t0ken"),
            "{said}"
        );
        assert_eq!(messages.take(), [message()]);
        assert_eq!(messages.take(), []);
    }

    #[test]
    fn only_https_and_readable_certificates_are_taken() {
        for url in [
            "http://hooks.example/s3cr3t",
            "hooks.example",
            "https:///s3cr3t",
        ] {
            let e = Webhook::new(url, None).err().expect("refused");
            assert!(
                e.cause == Cause::Local && !e.to_string().contains("s3cr3t"),
                "{e}"
            );
        }
        let none = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let e = Webhook::new("https://hooks.example/x", Some(none.into())).err();
        assert!(
            e.expect("no certificate")
                .to_string()
                .contains("Cargo.toml")
        );
    }

    /// A key and a certificate of its own for `localhost`; `None` where there is no openssl.
    fn certificate(name: &str) -> Option<(PathBuf, PathBuf)> {
        let folder = std::env::temp_dir();
        let own = format!("firebreak-webhook-{}-{name}", std::process::id());
        let (key, pem) = (
            folder.join(format!("{own}.key")),
            folder.join(format!("{own}.pem")),
        );
        let made = std::process::Command::new("openssl")
            .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500 -subj /CN=localhost".split(' '))
            .args(["-addext", "subjectAltName=DNS:localhost"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&pem)
            .output();
        let made = made.is_ok_and(|o| o.status.success());
        if !made {
            println!("SKIPPED the webhook over TLS: needs openssl");
        }
        made.then_some((key, pem))
    }

    /// Takes one request over TLS, answers 200, and gives what it was sent; `None` where the client went away.
    async fn one_request(
        key: &PathBuf,
        pem: &PathBuf,
    ) -> (u16, tokio::task::JoinHandle<Option<String>>) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        use tokio_rustls::rustls::ServerConfig;
        use tokio_rustls::rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
        let certificate = CertificateDer::from_pem_file(pem).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(key).expect("a key");
        let tls = ServerConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a key that fits");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let served = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.ok()?;
            let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(tls));
            let mut stream = acceptor.accept(stream).await.ok()?;
            let mut seen = Vec::new();
            while !seen.ends_with(b"}") {
                let mut block = [0; 4096];
                match stream.read(&mut block).await.ok()? {
                    0 => return None,
                    n => seen.extend_from_slice(&block[..n]),
                }
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            stream.write_all(answer).await.ok()?;
            stream.shutdown().await.ok()?;
            Some(String::from_utf8_lossy(&seen).into_owned())
        });
        (port, served)
    }

    #[tokio::test]
    async fn a_server_with_a_certificate_of_its_own_is_told_only_where_that_certificate_is_named() {
        let Some((key, pem)) = certificate("own") else {
            return;
        };
        let (port, served) = one_request(&key, &pem).await;
        let url = format!("https://localhost:{port}/hook/s3cr3t");
        let trusting = Messages::posted(Webhook::new(&url, Some(pem.clone())).expect("a webhook"));
        let used = trusting.send(&message()).await.expect("it is told");
        assert_eq!(used, ["print", "webhook"]);
        let request = served.await.expect("served").expect("a request");
        assert!(
            request.starts_with("POST /hook/s3cr3t HTTP/1.1\r\n"),
            "{request}"
        );
        let body = request.split("\r\n\r\n").nth(1).expect("a body");
        let sent: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(sent, serde_json::to_value(message()).expect("JSON"));

        let (port, served) = one_request(&key, &pem).await;
        let url = format!("https://localhost:{port}/hook/s3cr3t");
        // The system's roots, and one certificate that is not the server's: it is refused before anything is sent.
        let (other_key, other) = certificate("other").expect("openssl is here");
        let strict = Messages::posted(Webhook::new(&url, Some(other.clone())).expect("a webhook"));
        let e = strict
            .send(&message())
            .await
            .expect_err("it is not trusted");
        let said = e.to_string();
        assert_eq!(e.cause, Cause::Unreachable, "{said}");
        assert!(
            said.contains("certificate") && !said.contains("s3cr3t"),
            "{said}"
        );
        assert_eq!(served.await.expect("served"), None, "nothing was sent");
        for made in [key, pem, other_key, other] {
            std::fs::remove_file(made).expect("it was made here");
        }
    }
}
