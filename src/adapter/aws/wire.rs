//! One call on its way: budget, deadline, what was seen of request and answer, and the repeats of reads.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_types::request_id::RequestId as _;
use chrono::{DateTime, Utc};

use super::classify::{self, Failure};
use super::rate::{Kind, Rates, Service, Turn};
use crate::adapter::kube::clean;
use crate::port::{Answer, Cause, PortError};

/// A read is made at most this often where it got no answer, and so often where it was throttled.
const READS: u32 = 4;
const THROTTLED_READS: u32 = 10;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    /// Looks; may be repeated.
    Read,
    /// Looks with somebody's credentials; made once.
    Probe,
    /// Makes something or opens something; made once.
    Issue,
    /// Makes a credential useless; made once, before others.
    Kill,
}

impl Does {
    /// True when it changes something.
    pub(super) fn changes(self) -> bool {
        matches!(self, Does::Issue | Does::Kill)
    }
    fn kind(self) -> Kind {
        if self.changes() {
            Kind::Write
        } else {
            Kind::Read
        }
    }
    fn turn(self) -> Turn {
        if self == Does::Kill {
            Turn::Kill
        } else {
            Turn::Rest
        }
    }
}

/// What is called, for the budget and for an error's words.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) service: Service,
    pub(super) does: Does,
    /// Region, where it is not the configured one.
    pub(super) region: Option<&'a str>,
    /// Verb phrase: `delete the access key`.
    pub(super) tried: &'static str,
    pub(super) on: &'a str,
}

impl<'a> Call<'a> {
    pub(super) fn new(service: Service, does: Does, tried: &'static str, on: &'a str) -> Self {
        Call {
            service,
            does,
            region: None,
            tried,
            on,
        }
    }
    pub(super) fn in_region(self, region: Option<&'a str>) -> Self {
        Call { region, ..self }
    }
}

tokio::task_local! {
    static LOOK: Arc<Look>;
}

/// What was seen of one request and its answer.
#[derive(Debug, Default)]
pub(super) struct Look {
    sent: AtomicBool,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    refusal: Option<String>,
    endpoint: Option<String>,
    access_key: Option<String>,
    request_id: Option<String>,
    server_date: Option<DateTime<Utc>>,
}

impl Look {
    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(|e| e.into_inner())
    }
    /// True once the request was handed to the connection: from then on it may have arrived.
    pub(super) fn was_sent(&self) -> bool {
        self.sent.load(Ordering::SeqCst)
    }
    /// Why we ourselves would not send it.
    pub(super) fn refusal(&self) -> Option<String> {
        self.seen().refusal.clone()
    }
    pub(super) fn server_date(&self) -> Option<DateTime<Utc>> {
        self.seen().server_date
    }
    /// `https://sts.eu-west-1.amazonaws.com`
    pub(super) fn endpoint(&self) -> Option<String> {
        self.seen().endpoint.clone()
    }
    /// The access key id that the request was signed with.
    pub(super) fn access_key(&self) -> Option<String> {
        self.seen().access_key.clone()
    }
}

/// Notes what passes into the task's [`Look`]; holds back what must stay on this host.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watch {
    pub(super) loopback_only: bool,
}

#[dyn_dispatch_hint]
impl Intercept for Watch {
    fn name(&self) -> &'static str {
        "firebreak::Watch"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request();
        let endpoint = origin(request.uri());
        let held = self.loopback_only && !is_loopback(&endpoint);
        let refusal = held.then(|| {
            format!("`rate.start: unbounded` is for servers on this host, and `{endpoint}` is not one; use a bounded rate")
        });
        _ = LOOK.try_with(|look| {
            let mut seen = look.seen();
            seen.access_key = request.headers().get("authorization").and_then(signer);
            seen.endpoint = Some(endpoint);
            seen.refusal = refusal.clone();
            look.sent.store(refusal.is_none(), Ordering::SeqCst);
        });
        refusal.map_or(Ok(()), |why| Err(why.into()))
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let headers = context.response().headers();
        _ = LOOK.try_with(|look| {
            let mut seen = look.seen();
            seen.request_id = headers.request_id().map(str::to_owned);
            seen.server_date = headers.get("date").and_then(http_date);
        });
        Ok(())
    }
}

fn http_date(text: &str) -> Option<DateTime<Utc>> {
    let at = DateTime::parse_from_rfc2822(text).ok()?;
    Some(at.with_timezone(&Utc))
}

/// Scheme, host and port of a URL.
fn origin(url: &str) -> String {
    let scheme = url.find("://").map_or(0, |at| at + 3);
    let end = url[scheme..]
        .find(['/', '?'])
        .map_or(url.len(), |at| scheme + at);
    url[..end].to_owned()
}

/// True for a URL whose host is this host.
pub(super) fn is_loopback(url: &str) -> bool {
    let Ok(url) = url.parse::<hyper::Uri>() else {
        return false;
    };
    let host = url.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host.ends_with(".localhost")
        || bare
            .parse::<std::net::IpAddr>()
            .is_ok_and(|a| a.is_loopback())
}

/// The access key id of an `Authorization: AWS4-HMAC-SHA256 Credential=AKIA…/date/…` header.
fn signer(header: &str) -> Option<String> {
    let rest = header.split_once("Credential=")?.1;
    Some(rest.split('/').next()?.to_owned())
}

/// What all calls of one connection share.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) rates: Arc<Rates>,
    pub(super) region: String,
    pub(super) deadline: Duration,
    /// Known after the first question.
    pub(super) account: OnceLock<String>,
}

impl Wire {
    /// Makes a call: a read again where that can help, anything else once.
    pub(super) async fn call<T, E, F, Fut>(
        &self,
        call: Call<'_>,
        make: F,
    ) -> Result<Answer<T>, PortError>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        Ok(self.try_call(call, make).await?)
    }

    /// As [`Wire::call`], for those who need the server's own code.
    pub(super) async fn try_call<T, E, F, Fut>(
        &self,
        call: Call<'_>,
        make: F,
    ) -> Result<Answer<T>, Failure>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        Ok(self.seen(call, make).await?.0)
    }

    /// As [`Wire::try_call`], and shows what was seen of the request.
    pub(super) async fn seen<T, E, F, Fut>(
        &self,
        call: Call<'_>,
        make: F,
    ) -> Result<(Answer<T>, Arc<Look>), Failure>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let mut made = 0;
        loop {
            made += 1;
            let failure = match self.once(&call, &make).await {
                Ok(answered) => return Ok(answered),
                Err(failure) => failure,
            };
            let most = match failure.error.cause {
                _ if call.does != Does::Read => 1,
                Cause::Throttled => THROTTLED_READS,
                Cause::Unreachable | Cause::LostReply | Cause::Timeout => READS,
                _ => 1,
            };
            if made >= most {
                return Err(failure);
            }
            tokio::time::sleep(pause(made)).await;
        }
    }

    /// Makes a call once.
    async fn once<T, E, F, Fut>(
        &self,
        call: &Call<'_>,
        make: &F,
    ) -> Result<(Answer<T>, Arc<Look>), Failure>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let account = self.account.get().map_or("", String::as_str);
        let region = call.region.unwrap_or(&self.region);
        let budget = self
            .rates
            .of(account, call.service, region, call.does.kind());
        budget.pass(call.does.turn()).await;
        let look = Arc::new(Look::default());
        let answered =
            tokio::time::timeout(self.deadline, LOOK.scope(Arc::clone(&look), make())).await;
        let failure = match answered {
            Ok(Ok(value)) => {
                let seen = look.seen();
                let answer = Answer {
                    value,
                    request_id: seen.request_id.clone(),
                    server_date: seen.server_date,
                };
                drop(seen);
                return Ok((answer, look));
            }
            Ok(Err(e)) => classify::failure(&e, call, &look),
            Err(_) => self.too_slow(call, &look),
        };
        if failure.error.cause == Cause::Throttled {
            budget.throttled();
        }
        Err(failure)
    }

    fn too_slow(&self, call: &Call<'_>, look: &Look) -> Failure {
        let within = self.deadline.as_secs_f32().ceil();
        let (cause, text) = if look.was_sent() {
            (Cause::Timeout, format!("no answer within {within} s"))
        } else {
            let text = format!("nothing was sent: no credentials within {within} s");
            (Cause::Unreachable, text)
        };
        Failure {
            error: PortError::new(cause, call.tried, clean(call.on), text.clone()),
            code: None,
            text,
            request_id: None,
            server_date: None,
        }
    }
}

/// How long before the next try: twice as long each time, half of it by chance, so that many do not come back together.
fn pause(made: u32) -> Duration {
    let full = FIRST_PAUSE
        .saturating_mul(1 << made.min(10).saturating_sub(1))
        .min(LONGEST_PAUSE);
    let chance = getrandom::u32().unwrap_or(u32::MAX / 2);
    full / 2 + (full / 2).mul_f64(f64::from(chance) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_host_is_loopback() {
        for url in [
            "http://127.0.0.1:4566",
            "http://localhost",
            "http://[::1]:9/x",
            "https://b.localhost:1",
        ] {
            assert!(is_loopback(url), "{url}");
        }
        for url in [
            "https://sts.eu-west-1.amazonaws.com",
            "http://127.0.0.1.example.com",
            "http://10.0.0.1",
            "localhost.example.com",
            "not a url",
        ] {
            assert!(!is_loopback(url), "{url}");
        }
    }

    #[test]
    fn a_request_tells_its_origin_and_its_signer() {
        assert_eq!(origin("http://h:1/?Action=x"), "http://h:1");
        assert_eq!(origin("https://h"), "https://h");
        let header = "AWS4-HMAC-SHA256 Credential=AKIAX/20261125/eu-west-1/sts/aws4_request, SignedHeaders=host";
        assert_eq!(signer(header).as_deref(), Some("AKIAX"));
        assert_eq!(
            http_date("Wed, 25 Nov 2026 03:27:02 GMT").map(|d| d.timestamp()),
            Some(1_795_577_222)
        );
    }

    #[test]
    fn pauses_grow_and_are_bounded() {
        assert!(pause(1) <= FIRST_PAUSE && pause(1) >= FIRST_PAUSE / 2);
        assert!(pause(60) <= LONGEST_PAUSE && pause(60) >= LONGEST_PAUSE / 2);
    }
}
