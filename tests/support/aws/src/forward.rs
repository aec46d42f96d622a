//! Requests on their way to the double, byte for byte as they were signed.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use hyper::{Method, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::reply::Reply;

/// A request, whole, so that it can be sent twice or later.
#[derive(Clone, Debug)]
pub struct Request {
    /// Method.
    pub method: Method,
    /// Path and query.
    pub uri: Uri,
    /// Headers, `Host` as it was signed.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

/// Connections to doubles, kept alive.
#[derive(Clone)]
pub struct Forwarder {
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Forwarder {
    /// With no connection yet; from this address of ours, if one is given.
    pub fn new(from: Option<std::net::IpAddr>) -> Forwarder {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_local_address(from);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            // Shorter than the doubles keep theirs, so that we never write into one that is just being closed.
            .pool_idle_timeout(Duration::from_secs(2))
            .build(connector);
        Forwarder { client }
    }

    /// Sends it and reads the whole answer.
    pub async fn send(&self, to: SocketAddr, request: Request) -> Result<Reply, String> {
        let path = request.uri.path_and_query().map_or("/", |p| p.as_str());
        let mut builder = hyper::Request::builder()
            .method(request.method)
            .uri(format!("http://{to}{path}"));
        if let Some(headers) = builder.headers_mut() {
            *headers = request.headers;
            // The body is whole here.
            headers.remove(TRANSFER_ENCODING);
        }
        let outgoing = builder
            .body(Full::new(request.body))
            .map_err(|e| e.to_string())?;
        let answer = self
            .client
            .request(outgoing)
            .await
            .map_err(|e| format!("{e}: {:?}", std::error::Error::source(&e)))?;
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
        let mut headers = parts.headers;
        headers.remove(TRANSFER_ENCODING);
        Ok(Reply {
            status: parts.status,
            headers,
            body,
        })
    }
}

/// What a client hears when the double itself is not there.
pub fn unreachable(error: &str) -> Reply {
    let body = Bytes::from(format!("the fault proxy cannot reach its double: {error}"));
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert(CONTENT_LENGTH, body.len().into());
    Reply {
        status: StatusCode::BAD_GATEWAY,
        headers,
        body,
    }
}
