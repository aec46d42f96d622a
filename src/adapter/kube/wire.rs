//! Requests to the API server: one place for deadlines, causes, warnings and paging.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::http::{Method, Request, StatusCode};
use kube::client::Body;
use kube::core::Status;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::{Does, clean, of_status, of_transport, too_slow};
use crate::port::{Cause, PortError};

/// Longest a request may take, its answer read to the end.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);
/// Longest a connection may take to open: less than a request, so that "never connected" and "no answer" stay apart.
pub(super) const CONNECT: Duration = Duration::from_secs(5);
/// How often a read is sent at most.
const READS: u32 = 3;
/// Pause between two reads.
const PAUSE: Duration = Duration::from_millis(200);
/// Objects of one page of a list.
const PAGE: u32 = 500;

/// A connection to one API server.
#[derive(Clone)]
pub(super) struct Wire {
    client: kube::Client,
}

/// What a write was answered.
pub(super) struct Reply {
    /// The object as stored (or as it would be).
    pub(super) value: Value,
    /// `Warning` headers.
    pub(super) warnings: Vec<String>,
}

/// A request before it is sent.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) content: &'a str,
    pub(super) body: Option<Value>,
    /// Verb phrase for errors.
    pub(super) tried: &'a str,
    /// Object for errors.
    pub(super) on: &'a str,
}

#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct Page<T> {
    #[serde(default)]
    metadata: PageMeta,
    #[serde(default = "Vec::new", deserialize_with = "null_is_empty")]
    items: Vec<T>,
}

#[derive(Deserialize, Default)]
struct PageMeta {
    #[serde(default, rename = "continue")]
    next: String,
}

/// A Go server writes an empty list as `null`.
fn null_is_empty<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    d: D,
) -> Result<Vec<T>, D::Error> {
    Ok(Option::<Vec<T>>::deserialize(d)?.unwrap_or_default())
}

impl Wire {
    pub(super) fn new(client: kube::Client) -> Self {
        Wire { client }
    }

    pub(super) fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// One write, sent once.
    pub(super) async fn write(&self, call: Call<'_>) -> Result<Reply, PortError> {
        let (tried, on) = (call.tried, call.on);
        match tokio::time::timeout(DEADLINE, self.once(call, Does::Write)).await {
            Ok(done) => done.and_then(|(bytes, warnings)| {
                let value = parse(&bytes, tried, on)?;
                Ok(Reply { value, warnings })
            }),
            Err(_) => Err(too_slow(DEADLINE, tried, on)),
        }
    }

    /// One object, or anything else that is got by a path.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        tried: &str,
        on: &str,
    ) -> Result<T, PortError> {
        parse(
            &self.read(Method::GET, path, None, tried, on).await?,
            tried,
            on,
        )
    }

    /// One object that holds secrets: the answer is wiped after it was read, and what cannot be read is not quoted.
    pub(super) async fn get_hidden<T: DeserializeOwned>(
        &self,
        path: &str,
        tried: &str,
        on: &str,
    ) -> Result<T, PortError> {
        let bytes = self.read(Method::GET, path, None, tried, on).await?;
        let bytes = zeroize::Zeroizing::new(bytes);
        serde_json::from_slice(&bytes).map_err(|_| {
            let detail = "the server's answer cannot be read";
            PortError::new(Cause::Unreadable, tried, clean(on), detail)
        })
    }

    /// One object; `None` when it is not there.
    pub(super) async fn get_opt<T: DeserializeOwned>(
        &self,
        path: &str,
        tried: &str,
        on: &str,
    ) -> Result<Option<T>, PortError> {
        match self.get(path, tried, on).await {
            Ok(value) => Ok(Some(value)),
            Err(e) if e.cause == Cause::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// A question that is asked by POST and changes nothing (access reviews).
    pub(super) async fn ask(
        &self,
        path: &str,
        body: Value,
        tried: &str,
        on: &str,
    ) -> Result<Value, PortError> {
        parse(
            &self.read(Method::POST, path, Some(body), tried, on).await?,
            tried,
            on,
        )
    }

    /// A whole list, page by page. A list that ages away between two pages (410) is begun again once.
    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        tried: &str,
    ) -> Result<Vec<T>, PortError> {
        let mut again = true;
        loop {
            match self.pages(path, query, tried).await {
                Err(e) if e.cause == Cause::Unreadable && e.detail.contains("too old") && again => {
                    again = false
                }
                other => return other,
            }
        }
    }

    async fn pages<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        tried: &str,
    ) -> Result<Vec<T>, PortError> {
        let (mut all, mut next) = (Vec::new(), String::new());
        loop {
            let mut url = format!("{path}?limit={PAGE}");
            for (key, value) in query.iter().copied().chain([("continue", next.as_str())]) {
                if !value.is_empty() {
                    url.push_str(&format!("&{key}={}", encoded(value)));
                }
            }
            let page: Page<T> = self.get(&url, tried, path).await?;
            all.extend(page.items);
            if page.metadata.next.is_empty() {
                return Ok(all);
            }
            next = page.metadata.next;
        }
    }

    async fn read(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        tried: &str,
        on: &str,
    ) -> Result<Vec<u8>, PortError> {
        let attempts = async {
            let mut sent = 0;
            loop {
                sent += 1;
                let call = Call {
                    method: method.clone(),
                    path: path.to_owned(),
                    content: "application/json",
                    body: body.clone(),
                    tried,
                    on,
                };
                match self.once(call, Does::Read).await {
                    Err(e)
                        if sent < READS
                            && (e.cause.is_transient() || e.cause == Cause::LostReply) =>
                    {
                        tokio::time::sleep(PAUSE).await;
                    }
                    done => return done.map(|(bytes, _)| bytes),
                }
            }
        };
        tokio::time::timeout(DEADLINE, attempts)
            .await
            .unwrap_or_else(|_| Err(too_slow(DEADLINE, tried, on)))
    }

    async fn once(&self, call: Call<'_>, does: Does) -> Result<(Vec<u8>, Vec<String>), PortError> {
        let Call { tried, on, .. } = call;
        let response = self.open(call, does).await?;
        let warnings = response
            .headers()
            .get_all("warning")
            .iter()
            .map(|w| warning_text(&String::from_utf8_lossy(w.as_bytes())))
            .collect();
        let code = response.status();
        let body = response.into_body().collect().await;
        let bytes = body
            .map_err(|e| of_transport(&e, does, tried, on))?
            .to_bytes()
            .to_vec();
        if code.is_success() {
            return Ok((bytes, warnings));
        }
        Err(of_status(&status_of(code, &bytes), does, tried, on))
    }

    /// Sends, and answers as soon as the head of the answer is there.
    async fn open(
        &self,
        call: Call<'_>,
        does: Does,
    ) -> Result<hyper::http::Response<Body>, PortError> {
        let body = call
            .body
            .map_or_else(Vec::new, |b| b.to_string().into_bytes());
        let request = Request::builder()
            .method(call.method)
            .uri(call.path)
            .header("content-type", call.content)
            .header("accept", "application/json")
            .body(Body::from(body))
            .map_err(|e| {
                PortError::new(
                    Cause::Local,
                    call.tried,
                    clean(call.on),
                    clean(&e.to_string()),
                )
            })?;
        let sent = self.client.send(request).await;
        sent.map_err(|e| of_transport(&e, does, call.tried, call.on))
    }

    /// Opens a stream of bytes: the head within the deadline, the rest as it comes.
    pub(super) async fn stream(
        &self,
        path: &str,
        tried: &str,
        on: &str,
    ) -> Result<Body, PortError> {
        let call = Call {
            method: Method::GET,
            path: path.to_owned(),
            content: "application/json",
            body: None,
            tried,
            on,
        };
        let opened = tokio::time::timeout(DEADLINE, self.open(call, Does::Read));
        let response = opened
            .await
            .unwrap_or_else(|_| Err(too_slow(DEADLINE, tried, on)))?;
        if response.status().is_success() {
            return Ok(response.into_body());
        }
        let code = response.status();
        let rest = tokio::time::timeout(DEADLINE, response.into_body().collect()).await;
        let bytes = match rest {
            Ok(Ok(rest)) => rest.to_bytes().to_vec(),
            _ => Vec::new(),
        };
        Err(of_status(&status_of(code, &bytes), Does::Read, tried, on))
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8], tried: &str, on: &str) -> Result<T, PortError> {
    serde_json::from_slice(bytes).map_err(|e| {
        let detail = format!("the server's answer cannot be read: {e}");
        PortError::new(Cause::Unreadable, tried, clean(on), clean(&detail))
    })
}

/// The server's Status object; a proxy's error page becomes one without a message.
fn status_of(code: StatusCode, bytes: &[u8]) -> Status {
    let mut status = serde_json::from_slice::<Status>(bytes)
        .ok()
        .filter(|s| !s.message.is_empty())
        .unwrap_or_else(|| Status::failure("", code.canonical_reason().unwrap_or_default()));
    status.code = code.as_u16();
    status
}

/// `299 - "text"` without its frame.
fn warning_text(header: &str) -> String {
    let text = header.split_once('"').map_or(header, |(_, rest)| rest);
    clean(text.trim_end().trim_end_matches('"'))
}

/// A name as one segment of a URL. An empty one, or one that walks, is refused: it would address something else.
pub(super) fn segment(name: &str) -> Result<String, PortError> {
    let walks = name.is_empty() || name == "." || name == ".." || name.contains(['/', '%']);
    if walks || name.chars().any(char::is_control) {
        let detail = "not a name of an object";
        return Err(PortError::new(
            Cause::Rejected,
            "address",
            clean(name),
            detail,
        ));
    }
    Ok(encoded(name))
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_never_addresses_anything_but_one_object() {
        for bad in ["", ".", "..", "a/b", "a%2fb", "a\nb"] {
            assert_eq!(
                segment(bad).expect_err("refused").cause,
                Cause::Rejected,
                "{bad:?}"
            );
        }
        assert_eq!(
            segment("system:web é").expect("a name"),
            "system%3Aweb%20%C3%A9"
        );
    }

    #[test]
    fn a_warning_is_freed_from_its_frame() {
        assert_eq!(
            warning_text("299 - \"policy/v1beta1 is deprecated\""),
            "policy/v1beta1 is deprecated"
        );
    }

    #[test]
    fn a_proxys_page_is_a_status_without_words() {
        let status = status_of(StatusCode::BAD_GATEWAY, b"<html>");
        assert_eq!((status.code, status.reason.as_str()), (502, "Bad Gateway"));
    }
}
