//! Orders over HTTP, on a port of their own, so that people and other languages have what Rust tests have.
//!
//! | Request | Does |
//! |---|---|
//! | `GET /_proxy/ready` | answers when it serves |
//! | `GET /_proxy/log?after=N` | calls after number N |
//! | `POST /_proxy/wait` `{"match": {…}, "after": N, "timeout_s": S}` | the first such call that has ended, or 408 |
//! | `GET`, `POST`, `DELETE /_proxy/orders` | faults: list, add (an object or a list of them), take all back |
//! | `GET`, `POST /_proxy/settings` | settings: show, change those that are named |
//! | `POST /_proxy/clock` `{"advance_s": S}` | moves the proxy's clock ahead |
//! | `POST /_proxy/settle` | lets everything that is held back happen now |
//! | `POST /_proxy/attackers`, `GET /_proxy/spoils` | lets an attacker loose; what attackers got |
//! | `POST /_proxy/forget` | empties log, trail, orders and spoils |

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::attacker::{self, Attacker};
use crate::proxy::Shared;
use crate::script::{Match, Order, Settings};

type Answer = Result<Value, (StatusCode, String)>;

/// Serves orders about the proxy whose clients come to `clients`.
pub async fn accept(listener: TcpListener, shared: Arc<Shared>, clients: SocketAddr) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = shared.clone();
        let serve = service_fn(move |request| serve(request, shared.clone(), clients));
        tokio::spawn(async move {
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), serve)
                .await;
        });
    }
}

async fn serve(
    request: hyper::Request<Incoming>,
    shared: Arc<Shared>,
    clients: SocketAddr,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let method = request.method().as_str().to_owned();
    let path = request
        .uri()
        .path()
        .trim_start_matches("/_proxy/")
        .to_owned();
    let query = request.uri().query().unwrap_or("").to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    let (status, value) = match answer(&method, &path, &query, &body, shared, clients).await {
        Ok(value) => (StatusCode::OK, value),
        Err((status, error)) => (status, json!({ "error": error })),
    };
    let mut response = Response::new(Full::new(Bytes::from(format!("{value}\n"))));
    *response.status_mut() = status;
    let json = hyper::header::HeaderValue::from_static("application/json");
    response
        .headers_mut()
        .insert(hyper::header::CONTENT_TYPE, json);
    Ok(response)
}

async fn answer(
    method: &str,
    path: &str,
    query: &str,
    body: &[u8],
    shared: Arc<Shared>,
    clients: SocketAddr,
) -> Answer {
    match (method, path) {
        ("GET", "ready") => Ok(json!({ "ready": true })),
        ("GET", "log") => {
            let after = query
                .strip_prefix("after=")
                .and_then(|n| n.parse().ok())
                .unwrap_or(0);
            Ok(json!(shared.lock().log.after(after)))
        }
        ("POST", "wait") => wait(read(body)?, shared).await,
        ("GET", "orders") => Ok(json!(shared.lock().orders)),
        ("POST", "orders") => order(body, &shared),
        ("DELETE", "orders") => {
            shared.lock().orders.clear();
            Ok(json!({}))
        }
        ("GET", "settings") => Ok(json!(shared.lock().settings)),
        ("POST", "settings") => settings(body, &shared),
        ("POST", "clock") => {
            shared.lock().advance(read::<Clock>(body)?.advance_s);
            Ok(json!({ "now": shared.lock().now() }))
        }
        ("POST", "settle") => {
            shared.lock().settle();
            Ok(json!({}))
        }
        ("POST", "attackers") => {
            tokio::spawn(attacker::run(read::<Attacker>(body)?, clients, shared));
            Ok(json!({}))
        }
        ("GET", "spoils") => Ok(json!(shared.lock().spoils)),
        ("POST", "forget") => {
            shared.lock().forget();
            Ok(json!({}))
        }
        _ => Err((
            StatusCode::NOT_FOUND,
            format!("no `{method} /_proxy/{path}`"),
        )),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Clock {
    advance_s: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wait {
    #[serde(default, rename = "match")]
    calls: Match,
    #[serde(default)]
    after: u64,
    timeout_s: f64,
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, (StatusCode, String)> {
    serde_json::from_slice(body).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))
}

async fn wait(wait: Wait, shared: Arc<Shared>) -> Answer {
    let patience = Duration::from_secs_f64(wait.timeout_s.clamp(0.0, 600.0));
    let found = tokio::task::spawn_blocking(move || {
        shared.wait(
            wait.after,
            |entry| entry.ended && wait.calls.fits(&entry.call),
            patience,
        )
    });
    match found.await {
        Ok(Some(entry)) => Ok(json!(entry)),
        _ => Err((
            StatusCode::REQUEST_TIMEOUT,
            "no such call in that time".to_owned(),
        )),
    }
}

fn order(body: &[u8], shared: &Shared) -> Answer {
    let given: Value = read(body)?;
    let list = if given.is_array() {
        given
    } else {
        json!([given])
    };
    let refused = |error: String| (StatusCode::BAD_REQUEST, error);
    let orders: Vec<Order> = serde_json::from_value(list).map_err(|e| refused(e.to_string()))?;
    for order in &orders {
        order.check().map_err(refused)?;
    }
    let mut state = shared.lock();
    state.orders.extend(orders);
    Ok(json!({ "orders": state.orders.len() }))
}

fn settings(body: &[u8], shared: &Shared) -> Answer {
    let given: Value = read(body)?;
    let mut state = shared.lock();
    let mut merged = json!(state.settings);
    for (name, value) in given.as_object().into_iter().flatten() {
        merged[name.as_str()] = value.clone();
    }
    let settings: Settings = serde_json::from_value(merged)
        .map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
    state.settings = settings;
    Ok(json!(state.settings))
}
