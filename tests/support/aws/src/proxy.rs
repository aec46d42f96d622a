//! The server: takes a call, does to it what was ordered, and passes it on.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::Response;
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, HeaderMap};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use crate::attacker::{self, Attacker, Spoils};
use crate::call::Call;
use crate::control;
use crate::forward::{Forwarder, Request, unreachable};
use crate::log::{Effect, Entry};
use crate::reply::Reply;
use crate::script::{Fault, Match, Order, Settings};
use crate::state::{Late, Plan, State};
use crate::tls::Tls;

/// Errors that end a connection.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;
/// Bodies that may end in the middle.
pub(crate) type Body = UnsyncBoxBody<Bytes, Error>;

/// Where it stands.
#[derive(Clone, Debug)]
pub struct Options {
    /// The double.
    pub upstream: SocketAddr,
    /// Another double for some services, by service.
    pub services: BTreeMap<String, SocketAddr>,
    /// Where clients come; port 0 = a free one.
    pub listen: SocketAddr,
    /// Where clients come too, with TLS.
    pub tls: Option<Tls>,
    /// Where orders come; port 0 = a free one.
    pub control: SocketAddr,
    /// A file for the log too, one JSON object a line, written when a call has ended.
    pub log: Option<PathBuf>,
}

impl Options {
    /// Before this double, on free ports of loopback.
    pub fn before(upstream: SocketAddr) -> Options {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Options {
            upstream,
            services: BTreeMap::new(),
            listen: free,
            tls: None,
            control: free,
            log: None,
        }
    }
}

/// A running proxy; it ends when it is dropped.
pub struct AwsProxy {
    address: SocketAddr,
    control: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

/// What the tasks share.
pub struct Shared {
    state: Mutex<State>,
    condition: Condvar,
    forwarder: Forwarder,
    options: Options,
    log: Mutex<Option<std::fs::File>>,
}

impl AwsProxy {
    /// Starts it.
    pub fn start(options: Options) -> std::io::Result<AwsProxy> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let (clients, address) = listener(&runtime, options.listen)?;
        let (orders, control) = listener(&runtime, options.control)?;
        let log = match &options.log {
            Some(path) => Some(
                std::fs::File::options()
                    .create(true)
                    .append(true)
                    .open(path)?,
            ),
            None => None,
        };
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            condition: Condvar::new(),
            forwarder: Forwarder::new(None),
            options,
            log: Mutex::new(log),
        });
        runtime.spawn(accept(clients, None, shared.clone()));
        if let Some(tls) = &shared.options.tls {
            let (clients, _) = listener(&runtime, tls.listen)?;
            runtime.spawn(accept(clients, Some(tls.acceptor()?), shared.clone()));
        }
        runtime.spawn(control::accept(orders, shared.clone(), address));
        runtime.spawn(perform_in_time(shared.clone()));
        Ok(AwsProxy {
            address,
            control,
            shared,
            runtime: Some(runtime),
        })
    }

    /// Where clients come.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The endpoint for `AWS_ENDPOINT_URL`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where orders come.
    pub fn control(&self) -> SocketAddr {
        self.control
    }

    /// Orders a fault.
    pub fn order(&self, order: Order) {
        order.check().expect("an order that makes sense");
        self.shared.lock().orders.push(order);
    }

    /// Takes all orders back.
    pub fn clear_orders(&self) {
        self.shared.lock().orders.clear();
    }

    /// Changes settings.
    pub fn set(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.shared.lock().settings);
    }

    /// What came through since the start or the last [`AwsProxy::forget`].
    pub fn log(&self) -> Vec<Entry> {
        self.log_after(0)
    }

    /// What came through after this number.
    pub fn log_after(&self, number: u64) -> Vec<Entry> {
        self.shared.lock().log.after(number).to_vec()
    }

    /// The calls that changed something at the double.
    pub fn effects(&self, calls: &Match) -> Vec<Entry> {
        let done = |entry: &Entry| entry.effect == Effect::Done && calls.fits(&entry.call);
        self.log().into_iter().filter(done).collect()
    }

    /// Waits until a call after this number is as it is wanted; `None` when the time is over.
    pub fn wait(
        &self,
        after: u64,
        wanted: impl Fn(&Entry) -> bool,
        patience: Duration,
    ) -> Option<Entry> {
        self.shared.wait(after, wanted, patience)
    }

    /// Moves the proxy's clock ahead, by which lags and late effects go.
    pub fn advance(&self, by: Duration) {
        self.shared.lock().advance(by.as_secs_f64());
    }

    /// Lets everything that is held back happen now.
    pub fn settle(&self) {
        self.shared.lock().settle();
    }

    /// Counts from nothing again; what exists at the double stays known.
    pub fn forget(&self) {
        self.shared.lock().forget();
    }

    /// Lets an attacker loose.
    pub fn attack(&self, attacker: Attacker) {
        let runtime = self.runtime.as_ref().expect("it ends with us");
        runtime.spawn(attacker::run(attacker, self.address, self.shared.clone()));
    }

    /// What attackers got so far.
    pub fn spoils(&self) -> Vec<Spoils> {
        self.shared.lock().spoils.clone()
    }

    /// Waits until attackers got so much.
    pub fn wait_for_spoils(&self, count: usize, patience: Duration) -> Vec<Spoils> {
        let guard = self.shared.lock();
        let fewer = |state: &mut State| state.spoils.len() < count;
        let waited = self
            .shared
            .condition
            .wait_timeout_while(guard, patience, fewer);
        waited.expect("no holder panics").0.spoils.clone()
    }
}

impl Drop for AwsProxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Not the runtime's own drop: it waits, and panics inside of another runtime.
            runtime.shutdown_background();
        }
    }
}

fn listener(runtime: &Runtime, at: SocketAddr) -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = std::net::TcpListener::bind(at)?;
    let address = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let _entered = runtime.enter();
    Ok((TcpListener::from_std(listener)?, address))
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    while let Ok((client, peer)) = listener.accept().await {
        let _ = client.set_nodelay(true);
        let (tls, shared) = (tls.clone(), shared.clone());
        tokio::spawn(async move {
            match tls {
                None => connection(client, shared, peer).await,
                // One that does not trust us goes away; that is its test's affair.
                Some(tls) => {
                    if let Ok(client) = tls.accept(client).await {
                        connection(client, shared, peer).await;
                    }
                }
            }
        });
    }
}

async fn connection(
    client: impl AsyncRead + AsyncWrite + Unpin,
    shared: Arc<Shared>,
    peer: SocketAddr,
) {
    let serve = service_fn(move |request| serve(request, shared.clone(), peer));
    let http = hyper::server::conn::http1::Builder::new();
    // An error is a connection that ended, most of all one that we ended on purpose.
    let _ = http.serve_connection(TokioIo::new(client), serve).await;
}

/// Late effects whose time has come, also when nobody calls.
async fn perform_in_time(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    loop {
        tick.tick().await;
        shared.perform(false).await;
    }
}

/// How a call ends for its client.
enum End {
    Answer(Reply),
    /// Half of the answer, then the connection's end.
    Half(Reply),
    /// The connection's end.
    Nothing,
    /// Nothing, for as long as the client waits.
    Silence,
}

async fn serve(
    request: hyper::Request<Incoming>,
    shared: Arc<Shared>,
    peer: SocketAddr,
) -> Result<Response<Body>, Error> {
    let (parts, body) = request.into_parts();
    let request = Request {
        method: parts.method,
        uri: parts.uri,
        headers: parts.headers,
        body: body.collect().await?.to_bytes(),
    };
    let call = Call::read(
        &request.method,
        &request.uri,
        &request.headers,
        &request.body,
    );
    let end = match call {
        // A task of its own: a client that goes away in the middle must not take the call, or its place in the log, with it.
        Some(call) => {
            tokio::spawn(async move { shared.handle(call, request, peer.ip().to_string()).await })
                .await?
        }
        None => End::Answer(shared.pass(None, request).await),
    };
    match end {
        End::Answer(reply) => Ok(whole(reply)),
        End::Half(reply) => Ok(half(reply)),
        End::Nothing => Err("ended on purpose".into()),
        End::Silence => std::future::pending().await,
    }
}

impl Shared {
    /// The state. Never held across a wait.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// Wakes those who wait for the log.
    pub fn changed(&self) {
        self.condition.notify_all();
    }

    /// See [`AwsProxy::wait`].
    pub fn wait(
        &self,
        after: u64,
        wanted: impl Fn(&Entry) -> bool,
        patience: Duration,
    ) -> Option<Entry> {
        let deadline = Instant::now() + patience;
        let mut state = self.lock();
        loop {
            if let Some(entry) = state.log.after(after).iter().find(|entry| wanted(entry)) {
                return Some(entry.clone());
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            state = self
                .condition
                .wait_timeout(state, left)
                .expect("no holder panics")
                .0;
        }
    }

    async fn handle(&self, call: Call, request: Request, source: String) -> End {
        self.perform(true).await;
        let plan = self.lock().admit(&call, &source);
        self.changed();
        if plan.latency_ms > 0 {
            tokio::time::sleep(Duration::from_millis(plan.latency_ms)).await;
        }
        let end = self.carry_out(&plan, call, request, source).await;
        let reply = match &end {
            End::Answer(reply) | End::Half(reply) => Some(reply),
            End::Nothing | End::Silence => None,
        };
        self.lock().ended(plan.number, reply);
        self.write_log(plan.number);
        self.changed();
        end
    }

    async fn carry_out(&self, plan: &Plan, call: Call, request: Request, source: String) -> End {
        for fault in &plan.faults {
            match fault {
                Fault::LoseRequest => return self.abandon(plan, End::Nothing),
                Fault::HangRequest => return self.abandon(plan, End::Silence),
                _ => {}
            }
        }
        if let Some(refusal) = &plan.refusal {
            return End::Answer(refusal.clone());
        }
        for fault in &plan.faults {
            if let Fault::Late(delay) = fault {
                let answer = Reply::done(&call, plan.number);
                self.lock().postpone(plan, call, request, source, *delay);
                return End::Answer(answer);
            }
        }
        let again = plan.faults.contains(&Fault::Twice).then(|| request.clone());
        let mut reply = self.pass(Some(&call), request).await;
        self.lock().answered(plan.number, &call, &source, &reply);
        if let Some(again) = again {
            let second = self.pass(Some(&call), again).await;
            self.lock().answered(plan.number, &call, &source, &second);
        }
        {
            let mut state = self.lock();
            state.created(plan, &reply);
            state.complete(plan.number, &call, &mut reply);
        }
        let ordered = |fault: &Fault| plan.faults.contains(fault);
        match reply {
            _ if ordered(&Fault::LoseReply) => End::Nothing,
            _ if ordered(&Fault::HangReply) => End::Silence,
            reply if ordered(&Fault::CutReply) => End::Half(reply),
            reply => End::Answer(reply),
        }
    }

    /// A call that the double never hears of gives its place back.
    fn abandon(&self, plan: &Plan, end: End) -> End {
        self.lock().abandoned(plan);
        end
    }

    /// Late effects that are due.
    async fn perform(&self, arrival: bool) {
        let due = self.lock().due(arrival);
        for Late {
            number,
            call,
            request,
            source,
            ..
        } in due
        {
            let reply = self.pass(Some(&call), request).await;
            self.lock().answered(number, &call, &source, &reply);
            self.changed();
        }
    }

    async fn pass(&self, call: Option<&Call>, request: Request) -> Reply {
        let own = call.and_then(|call| self.options.services.get(&call.service));
        let to = own.copied().unwrap_or(self.options.upstream);
        match self.forwarder.send(to, request).await {
            Ok(reply) => reply,
            // The double itself cannot be reached: the client hears it in words, and the test in its failure.
            Err(error) => unreachable(&error),
        }
    }

    fn write_log(&self, number: u64) {
        let mut file = self.log.lock().expect("no holder panics");
        let Some(file) = file.as_mut() else { return };
        let line = self
            .lock()
            .log
            .after(number - 1)
            .first()
            .map(serde_json::to_string);
        if let Some(Ok(line)) = line {
            // A log that cannot be written is no reason to fail the call.
            let _ = writeln!(file, "{line}");
        }
    }
}

fn response(reply: &Reply, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = reply.status;
    let headers: &mut HeaderMap = response.headers_mut();
    headers.clone_from(&reply.headers);
    // Ours to decide for this connection, not the double's for its own.
    headers.remove("connection");
    headers.remove("keep-alive");
    response
}

/// A whole answer.
pub(crate) fn whole(reply: Reply) -> Response<Body> {
    let body = Full::new(reply.body.clone())
        .map_err(|never| match never {})
        .boxed_unsync();
    response(&reply, body)
}

/// An answer that promises more than comes.
fn half(reply: Reply) -> Response<Body> {
    let part = reply.body.slice(..reply.body.len() / 2);
    let mut response = response(&reply, Half(Some(part)).boxed_unsync());
    response
        .headers_mut()
        .insert(CONTENT_LENGTH, reply.body.len().into());
    response
}

/// So many bytes and then an error, which ends the connection.
struct Half(Option<Bytes>);

impl hyper::body::Body for Half {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Poll::Ready(Some(match self.0.take() {
            Some(part) => Ok(Frame::data(part)),
            None => Err("cut on purpose".into()),
        }))
    }
}
