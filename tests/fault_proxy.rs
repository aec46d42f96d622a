//! The fault proxy itself, in front of a server that counts what reaches it. Needs nothing but loopback.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

mod support;
use support::own_folder;
use support::proxy::{Fault, FaultProxy};

/// A server that answers each request with the number of requests so far.
struct Counter {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
}

impl Counter {
    fn start() -> Counter {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let requests = Arc::new(AtomicUsize::new(0));
        let count = requests.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.expect("a connection");
                if read_head(&mut client).is_empty() {
                    continue;
                }
                let number = (count.fetch_add(1, Ordering::SeqCst) + 1).to_string();
                let length = number.len();
                let _ = write!(
                    client,
                    "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{number}"
                );
            }
        });
        Counter { address, requests }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn read_head(from: &mut impl Read) -> Vec<u8> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && matches!(from.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
    head
}

fn proxy(server: &Counter, folder: &Path) -> FaultProxy {
    let original = folder.join("original.kubeconfig");
    let config = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{ "name": "c", "cluster": { "server": format!("http://{}", server.address) } }],
        "users": [{ "name": "u", "user": { "token": "for-a-test" } }],
        "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
    });
    std::fs::write(&original, config.to_string()).expect("the folder can be written");
    FaultProxy::start(&original, folder)
}

/// Sends one request over a connection of its own; what comes back may be nothing.
fn ask(proxy: &FaultProxy, method: &str, path: &str) -> String {
    let mut connection = TcpStream::connect(proxy.address()).expect("the proxy listens");
    connection
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a socket option");
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: any\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    connection
        .write_all(request.as_bytes())
        .expect("it is open");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("it ends");
    answer
}

#[test]
fn a_lost_request_never_reaches_the_server() {
    let server = Counter::start();
    let proxy = proxy(&server, &own_folder("lost-request"));
    proxy.lose(2, Fault::LostRequest);
    assert!(ask(&proxy, "POST", "/one").ends_with('1'));
    assert_eq!(ask(&proxy, "POST", "/two"), "");
    assert_eq!(server.requests(), 1);
    assert!(ask(&proxy, "POST", "/three").ends_with('2'));
    let writes = proxy.writes();
    assert_eq!(writes.len(), 3);
    assert_eq!(writes[1].path, "/two");
    assert_eq!(writes[1].fault, Some(Fault::LostRequest));
    assert_eq!(writes[1].status, None);
}

#[test]
fn a_lost_reply_has_taken_effect_when_the_connection_ends() {
    let server = Counter::start();
    let proxy = proxy(&server, &own_folder("lost-reply"));
    proxy.lose(1, Fault::LostReply);
    assert_eq!(ask(&proxy, "DELETE", "/one"), "");
    assert_eq!(server.requests(), 1);
    assert_eq!(proxy.writes()[0].status.map(|s| s.as_u16()), Some(200));
}

#[test]
fn reads_reviews_and_dry_runs_are_not_counted() {
    let server = Counter::start();
    let proxy = proxy(&server, &own_folder("not-counted"));
    proxy.lose(1, Fault::LostRequest);
    let review = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    assert_ne!(ask(&proxy, "GET", "/api/v1/pods?watch=true"), "");
    assert_ne!(ask(&proxy, "POST", review), "");
    assert_ne!(ask(&proxy, "PATCH", "/api/v1/pods/a?dryRun=All"), "");
    assert_eq!(proxy.writes().len(), 0);
    assert_eq!(ask(&proxy, "PATCH", "/api/v1/pods/a"), "");
    assert_eq!(server.requests(), 3);
}

#[test]
fn forgetting_counts_from_one_and_drops_what_was_planned() {
    let server = Counter::start();
    let proxy = proxy(&server, &own_folder("forget"));
    proxy.lose(2, Fault::LostRequest);
    assert_ne!(ask(&proxy, "PUT", "/one"), "");
    proxy.forget();
    assert_ne!(ask(&proxy, "PUT", "/two"), "");
    assert_ne!(ask(&proxy, "PUT", "/three"), "");
    assert_eq!(proxy.writes()[0].path, "/two");
}

#[test]
fn a_server_that_is_gone_answers_nothing_until_it_is_back() {
    let server = Counter::start();
    let proxy = proxy(&server, &own_folder("gone"));
    proxy.gone(true);
    assert_eq!(ask(&proxy, "GET", "/version"), "");
    assert_eq!(server.requests(), 0);
    proxy.gone(false);
    assert_ne!(ask(&proxy, "GET", "/version"), "");
}

#[test]
fn the_clients_kubeconfig_keeps_the_token_and_leads_to_the_proxy() {
    let server = Counter::start();
    let proxy = proxy(&server, &own_folder("kubeconfig"));
    let text = std::fs::read_to_string(proxy.kubeconfig()).expect("it was written");
    let config: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    let expected = format!("http://{}", proxy.address());
    assert_eq!(
        config["clusters"][0]["cluster"]["server"],
        expected.as_str()
    );
    assert_eq!(config["users"][0]["user"]["token"], "for-a-test");
}
