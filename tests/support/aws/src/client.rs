//! A bare client that signs (SigV4): for tests, for the attacker, for seeding, and as the yardstick of benchmarks.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use chrono::Utc;
use hmac::{Hmac, Mac as _};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Uri};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::forward::{Forwarder, Request};
use crate::reply::Reply;
use crate::xml;

/// Who signs. Of a double, never of AWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// Access key id.
    pub id: String,
    /// Secret.
    pub secret: String,
    /// Session token, of a session.
    pub token: Option<String>,
}

impl Signer {
    /// Ministack's root.
    pub fn root() -> Signer {
        Signer::new("test", "test")
    }

    /// A key.
    pub fn new(id: &str, secret: &str) -> Signer {
        Signer {
            id: id.to_owned(),
            secret: secret.to_owned(),
            token: None,
        }
    }

    /// The credentials in an answer of `CreateAccessKey`, `AssumeRole` and the like.
    pub fn of(reply: &Reply) -> Option<Signer> {
        let text = reply.text();
        Some(Signer {
            id: xml::text(text, "AccessKeyId")?,
            secret: xml::text(text, "SecretAccessKey")?,
            token: xml::text(text, "SessionToken"),
        })
    }
}

/// A client of one endpoint.
#[derive(Clone)]
pub struct Client {
    at: SocketAddr,
    forwarder: Forwarder,
    user_agent: String,
    region: String,
}

impl Client {
    /// For this endpoint, region us-east-1.
    pub fn new(at: SocketAddr) -> Client {
        Client {
            at,
            forwarder: Forwarder::new(None),
            user_agent: "bare-client".to_owned(),
            region: "us-east-1".to_owned(),
        }
    }

    /// The same under another name and from another of our addresses.
    #[must_use]
    pub fn called(mut self, user_agent: &str, from: Option<IpAddr>) -> Client {
        user_agent.clone_into(&mut self.user_agent);
        self.forwarder = Forwarder::new(from);
        self
    }

    /// The same for another region.
    #[must_use]
    pub fn region(mut self, region: &str) -> Client {
        region.clone_into(&mut self.region);
        self
    }

    /// Calls IAM or STS.
    pub async fn query(
        &self,
        signer: &Signer,
        service: &str,
        action: &str,
        parameters: &[(&str, &str)],
    ) -> Result<Reply, String> {
        let version = if service == "sts" {
            "2011-06-15"
        } else {
            "2010-05-08"
        };
        let mut body = format!("Action={action}&Version={version}");
        for (name, value) in parameters {
            let _ = write!(body, "&{}={}", encoded(name), encoded(value));
        }
        self.send(
            signer,
            service,
            ("content-type", "application/x-www-form-urlencoded"),
            body,
        )
        .await
    }

    /// Calls a service that speaks JSON: `secretsmanager`, `cloudtrail`.
    pub async fn json(
        &self,
        signer: &Signer,
        service: &str,
        action: &str,
        body: &Value,
    ) -> Result<Reply, String> {
        let prefix = match service {
            "cloudtrail" => "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101",
            other => other,
        };
        self.send(
            signer,
            service,
            ("x-amz-target", &format!("{prefix}.{action}")),
            body.to_string(),
        )
        .await
    }

    async fn send(
        &self,
        signer: &Signer,
        service: &str,
        header: (&str, &str),
        body: String,
    ) -> Result<Reply, String> {
        let date = Utc::now().format("%Y%m%dT%H%M%SZ").to_string();
        let mut signed = vec![
            ("host".to_owned(), self.at.to_string()),
            ("x-amz-date".to_owned(), date.clone()),
            (header.0.to_owned(), header.1.to_owned()),
        ];
        if let Some(token) = &signer.token {
            signed.push(("x-amz-security-token".to_owned(), token.clone()));
        }
        signed.sort();
        let scope = format!("{}/{}/{service}/aws4_request", &date[..8], self.region);
        let authorization = authorization(signer, &scope, &date, &signed, body.as_bytes());
        signed.push(("authorization".to_owned(), authorization));
        signed.push(("user-agent".to_owned(), self.user_agent.clone()));
        if header.0 == "x-amz-target" {
            signed.push((
                "content-type".to_owned(),
                "application/x-amz-json-1.1".to_owned(),
            ));
        }
        let request = Request {
            method: Method::POST,
            uri: Uri::from_static("/"),
            headers: headers(&signed)?,
            body: body.into(),
        };
        self.forwarder.send(self.at, request).await
    }
}

fn headers(pairs: &[(String, String)]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name: HeaderName = name.parse().map_err(|e| format!("{name}: {e}"))?;
        let value = HeaderValue::from_str(value).map_err(|e| format!("{name}: {e}"))?;
        headers.insert(name, value);
    }
    Ok(headers)
}

/// Signature Version 4 of a POST to `/` without a query.
fn authorization(
    signer: &Signer,
    scope: &str,
    date: &str,
    headers: &[(String, String)],
    body: &[u8],
) -> String {
    let names = headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect::<Vec<_>>()
        .join(";");
    let lines = headers
        .iter()
        .fold(String::new(), |mut lines, (name, value)| {
            let _ = writeln!(lines, "{name}:{value}");
            lines
        });
    let canonical = format!(
        "POST\n/\n\n{lines}\n{names}\n{}",
        hex(&Sha256::digest(body))
    );
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{date}\n{scope}\n{}",
        hex(&Sha256::digest(canonical.as_bytes()))
    );
    let first = format!("AWS4{}", signer.secret).into_bytes();
    let key = scope
        .split('/')
        .fold(first, |key, part| mac(&key, part.as_bytes()));
    let signature = hex(&mac(&key, to_sign.as_bytes()));
    format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
        signer.id
    )
}

fn mac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length is taken");
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}
