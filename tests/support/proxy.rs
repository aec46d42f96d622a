//! A proxy in front of an API server that loses requests and replies on purpose.
//!
//! *Flow*: a client (usually our binary in a process of its own) is given [`FaultProxy::kubeconfig`], which names
//! `http://127.0.0.1:PORT`. Each request goes on to the API server of the original kubeconfig with that one's
//! certificate. Requests that change something are counted from 1 in the order of their arrival, and
//! [`FaultProxy::lose`] says what becomes of the Nth.
//!
//! *Guarantees*: [`Fault::LostRequest`] never reaches the server. [`Fault::LostReply`] has taken effect when the client's
//! connection ends, because the whole reply was read first. Everything else passes unchanged, watches and upgraded
//! connections (exec, attach) too.
//!
//! *Assumptions*: it can reach the API server, so the test runs inside the lab's network (see `tests/run`).
//!
//! Not counted, because they change nothing: reads, dry runs, and the reviews of who may do what. Exec is not
//! counted either; it is a connection, not a write.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HOST, HeaderValue, UPGRADE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use kube::client::ConfigExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

type Body = UnsyncBoxBody<Bytes, hyper::Error>;
type Error = Box<dyn std::error::Error + Send + Sync>;

/// What becomes of one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection ends and the server never hears of the request.
    LostRequest,
    /// The server did what it was asked; the connection ends before a byte of its answer arrives.
    LostReply,
    /// The server never hears of the request and the client gets no answer at all, until its own deadline.
    Silence,
}

/// One request that would change something, in the order of arrival.
#[derive(Clone, Debug)]
pub struct Write {
    pub method: Method,
    /// Path without the query.
    pub path: String,
    /// What the server answered; nothing if it never heard of it.
    pub status: Option<StatusCode>,
    /// What we did to it.
    pub fault: Option<Fault>,
}

/// A running proxy; it ends when it is dropped.
pub struct FaultProxy {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    kubeconfig: PathBuf,
    runtime: Option<Runtime>,
}

#[derive(Default)]
struct State {
    writes: Vec<Write>,
    faults: Vec<(usize, Fault)>,
    gone: bool,
}

impl FaultProxy {
    /// Starts a proxy for the current context of `original` and writes the kubeconfig of its clients into `folder`.
    ///
    /// A token or a namespace in `original` stays in the clients' kubeconfig; a client certificate is what the proxy itself uses.
    pub fn start(original: &Path, folder: &Path) -> FaultProxy {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let parsed = Kubeconfig::read_from(original).expect("the original kubeconfig");
        let upstream = upstream(&runtime, parsed.clone());
        let state = Arc::new(Mutex::new(State::default()));
        let (listener, address) = listener(&runtime);
        runtime.spawn(accept(listener, Arc::new(upstream), state.clone()));
        let kubeconfig = folder.join(format!("proxy-{}.kubeconfig", address.port()));
        write_kubeconfig(&kubeconfig, parsed, address);
        FaultProxy {
            address,
            state,
            kubeconfig,
            runtime: Some(runtime),
        }
    }

    /// The kubeconfig that leads through this proxy.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Does `fault` to the `nth` write, counted from 1 since the start or the last [`FaultProxy::forget`].
    pub fn lose(&self, nth: usize, fault: Fault) {
        assert!(nth > 0, "writes are counted from 1");
        self.state().faults.push((nth, fault));
    }

    /// The writes so far.
    pub fn writes(&self) -> Vec<Write> {
        self.state().writes.clone()
    }

    /// Counts from 1 again, with no fault planned.
    pub fn forget(&self) {
        *self.state() = State::default();
    }

    /// Ends each connection at its next request, reads too, as if the server were gone; `false` brings it back.
    pub fn gone(&self, gone: bool) {
        self.state().gone = gone;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Not the runtime's own drop: it waits, and panics inside of another runtime.
            runtime.shutdown_background();
        }
    }
}

/// The real server.
struct Upstream {
    host: String,
    port: u16,
    authority: HeaderValue,
    /// None: plain HTTP.
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Upstream {
    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await?;
        tcp.set_nodelay(true)?;
        Ok(match &self.tls {
            None => Box::new(tcp),
            Some((connector, name)) => Box::new(connector.connect(name.clone(), tcp).await?),
        })
    }
}

fn upstream(runtime: &Runtime, kubeconfig: Kubeconfig) -> Upstream {
    // On a thread of its own: the caller may be inside a runtime, where blocking on another one panics.
    let handle = runtime.handle().clone();
    let load = move || {
        let options = KubeConfigOptions::default();
        handle.block_on(kube::Config::from_custom_kubeconfig(kubeconfig, &options))
    };
    let config = std::thread::spawn(load)
        .join()
        .expect("loading does not panic")
        .expect("a kubeconfig that leads to a server");
    let host = config.cluster_url.host().expect("a host").to_owned();
    let secure = config.cluster_url.scheme_str() == Some("https");
    let port = config
        .cluster_url
        .port_u16()
        .unwrap_or(if secure { 443 } else { 80 });
    let authority = HeaderValue::from_str(&format!("{host}:{port}")).expect("printable");
    let tls = secure.then(|| {
        let mut client: ClientConfig = config.rustls_client_config().expect("keys that fit");
        // The proxy speaks HTTP/1.1: a connection that is upgraded to a websocket exists only there.
        client.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = config.tls_server_name.clone().unwrap_or(host.clone());
        let name = ServerName::try_from(name).expect("a server name");
        (TlsConnector::from(Arc::new(client)), name)
    });
    Upstream {
        host,
        port,
        authority,
        tls,
    }
}

fn listener(runtime: &Runtime) -> (TcpListener, SocketAddr) {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    listener.set_nonblocking(true).expect("a socket option");
    let _entered = runtime.enter();
    (
        TcpListener::from_std(listener).expect("it is bound"),
        address,
    )
}

/// The original with the server replaced and the keys, which plain HTTP has no use for, taken out.
fn write_kubeconfig(path: &Path, mut config: Kubeconfig, proxy: SocketAddr) {
    for cluster in config
        .clusters
        .iter_mut()
        .filter_map(|c| c.cluster.as_mut())
    {
        cluster.server = Some(format!("http://{proxy}"));
        cluster.certificate_authority = None;
        cluster.certificate_authority_data = None;
        cluster.tls_server_name = None;
    }
    for user in config
        .auth_infos
        .iter_mut()
        .filter_map(|u| u.auth_info.as_mut())
    {
        user.client_certificate = None;
        user.client_certificate_data = None;
        user.client_key = None;
        user.client_key_data = None;
    }
    // JSON is YAML.
    let text = serde_json::to_vec_pretty(&config).expect("a kubeconfig can be written");
    std::fs::write(path, text).expect("the test's folder can be written");
}

async fn accept(listener: TcpListener, upstream: Arc<Upstream>, state: Arc<Mutex<State>>) {
    while let Ok((client, _)) = listener.accept().await {
        let (upstream, state) = (upstream.clone(), state.clone());
        let serve = service_fn(move |request| answer(request, upstream.clone(), state.clone()));
        tokio::spawn(async move {
            // An error is a connection that ended, most of all one that we ended on purpose.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(client), serve)
                .with_upgrades()
                .await;
        });
    }
}

/// Answers one request; an `Err` ends the client's connection without a byte of answer.
async fn answer(
    request: Request<Incoming>,
    upstream: Arc<Upstream>,
    state: Arc<Mutex<State>>,
) -> Result<Response<Body>, Error> {
    let lock = || state.lock().expect("no holder panics");
    if lock().gone {
        return Err("the server is gone".into());
    }
    let index = is_write(&request).then(|| lock().arrived(&request));
    let fault = index.and_then(|index| lock().writes[index].fault);
    match fault {
        Some(Fault::LostRequest) => return Err("lost before the effect".into()),
        Some(Fault::Silence) => std::future::pending().await,
        Some(Fault::LostReply) | None => {}
    }
    let response = match forward(request, &upstream).await {
        Ok(response) => response,
        // The server itself cannot be reached: the client hears it in words, and the test in its failure.
        Err(error) => return Ok(bad_gateway(&*error)),
    };
    if let Some(index) = index {
        lock().writes[index].status = Some(response.status());
    }
    if fault == Some(Fault::LostReply) {
        response.into_body().collect().await?;
        return Err("lost after the effect".into());
    }
    Ok(response)
}

impl State {
    /// Notes a write and returns its index.
    fn arrived(&mut self, request: &Request<Incoming>) -> usize {
        let nth = self.writes.len() + 1;
        let fault = self.faults.iter().find(|(n, _)| *n == nth).map(|(_, f)| *f);
        self.writes.push(Write {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            status: None,
            fault,
        });
        nth - 1
    }
}

fn is_write(request: &Request<Incoming>) -> bool {
    let uri = request.uri();
    let changes = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    let review = [
        "/apis/authorization.k8s.io/",
        "/apis/authentication.k8s.io/",
    ];
    changes.contains(request.method())
        && !request.headers().contains_key(UPGRADE)
        && !review.iter().any(|prefix| uri.path().starts_with(prefix))
        && !uri
            .query()
            .is_some_and(|query| query.contains("dryRun=All"))
}

/// Sends a request on over a connection of its own and returns the reply as it streams in.
async fn forward(
    mut request: Request<Incoming>,
    upstream: &Upstream,
) -> Result<Response<Body>, Error> {
    let server = TokioIo::new(upstream.connect().await?);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(server).await?;
    tokio::spawn(connection.with_upgrades());

    let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
    *request.uri_mut() = path.parse::<Uri>()?;
    request
        .headers_mut()
        .insert(HOST, upstream.authority.clone());
    let client_side = request
        .headers()
        .contains_key(UPGRADE)
        .then(|| hyper::upgrade::on(&mut request));
    let mut response = sender.send_request(request).await?;
    if let (StatusCode::SWITCHING_PROTOCOLS, Some(client_side)) = (response.status(), client_side) {
        let server_side = hyper::upgrade::on(&mut response);
        tokio::spawn(tunnel(client_side, server_side));
    }
    Ok(response.map(|body| body.boxed_unsync()))
}

/// Carries bytes both ways until either side ends.
async fn tunnel(client: hyper::upgrade::OnUpgrade, server: hyper::upgrade::OnUpgrade) {
    if let (Ok(client), Ok(server)) = (client.await, server.await) {
        let _ = copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(server)).await;
    }
}

fn bad_gateway(error: &dyn std::error::Error) -> Response<Body> {
    let text = Bytes::from(format!("the fault proxy cannot reach its server: {error}"));
    let body = Full::new(text)
        .map_err(|never| match never {})
        .boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}
