//! What a failed call means: whose move it is, and whether it may have happened.
//!
//! The protocol's own code is kept in the error's detail (`Throttling: Rate exceeded (request 1b2c…)`). A service that counts a quota as
//! throttling is not believed: `LimitExceeded` is final.

use std::error::Error as StdError;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_types::request_id::RequestId as _;
use chrono::{DateTime, Utc};

use super::wire::{Call, Does, Look};
use crate::adapter::kube::clean;
use crate::port::{Cause, PortError};

/// A failed call, with what the server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// For the caller.
    pub(super) error: PortError,
    /// The protocol's own code, where there was an answer with one.
    pub(super) code: Option<String>,
    /// The server's words.
    pub(super) text: String,
    /// Request id.
    pub(super) request_id: Option<String>,
    /// The server's clock.
    pub(super) server_date: Option<DateTime<Utc>>,
}

impl Failure {
    /// True when the server refused these credentials for this call, whatever the protocol calls it.
    pub(super) fn is_refusal(&self) -> bool {
        self.error.cause == Cause::Refused && self.code.is_some()
    }
    /// True when the server refuses because the clocks differ: says nothing about the credential.
    pub(super) fn is_clock(&self) -> bool {
        self.code
            .as_deref()
            .is_some_and(|code| is_clock(code, &self.text))
    }
}

impl From<Failure> for PortError {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

/// Codes of a server that does not accept the credentials, or that does not allow this with them.
const REFUSED: [&str; 17] = [
    "AccessDenied",
    "AccessDeniedException",
    "AuthFailure",
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "InvalidToken",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "NotAuthorized",
    "OptInRequired",
    "SignatureDoesNotMatch",
    "UnauthorizedOperation",
    "UnrecognizedClientException",
];
const CLOCK: [&str; 3] = [
    "RequestExpired",
    "RequestTimeTooSkewed",
    "RequestInTheFuture",
];
const THROTTLED: [&str; 10] = [
    "EC2ThrottledException",
    "PriorRequestNotComplete",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
];
/// Quotas: final, whatever status they come with (IAM: 409) and whatever the SDK makes of them (throttling).
const FINAL: [&str; 3] = [
    "LimitExceeded",
    "LimitExceededException",
    "ServiceQuotaExceededException",
];
const NOT_FOUND: [&str; 5] = [
    "NoSuchBucket",
    "NoSuchEntity",
    "NoSuchKey",
    "NotFound",
    "ResourceNotFoundException",
];
const CONFLICT: [&str; 8] = [
    "ConcurrentModification",
    "ConcurrentModificationException",
    "ConditionalRequestConflict",
    "DeleteConflict",
    "EntityAlreadyExists",
    "EntityTemporarilyUnmodifiable",
    "PreconditionFailed",
    "ResourceExistsException",
];

/// What an answer with an error means.
///
/// A 5xx may come after the effect, 503 too: only the codes that say so are throttling. Any other 4xx was not performed.
pub(super) fn cause_of(code: Option<&str>, status: u16, does: Does) -> Cause {
    if let Some(code) = code {
        let among = |list: &[&str]| list.contains(&code);
        if among(&FINAL) {
            return Cause::Rejected;
        }
        if among(&THROTTLED) {
            return Cause::Throttled;
        }
        if among(&REFUSED) || among(&CLOCK) {
            return Cause::Refused;
        }
        if among(&NOT_FOUND) {
            return Cause::NotFound;
        }
        if among(&CONFLICT) {
            return Cause::Conflict;
        }
    }
    match status {
        401 | 403 => Cause::Refused,
        404 => Cause::NotFound,
        408 => Cause::Timeout,
        409 | 412 => Cause::Conflict,
        429 => Cause::Throttled,
        501 => Cause::Unsupported,
        300..=499 => Cause::Rejected,
        500..=599 if does.changes() => Cause::LostReply,
        500..=599 => Cause::Unreachable,
        _ => Cause::Unreadable,
    }
}

/// Sorts a failed call.
pub(super) fn failure<E>(e: &SdkError<E, HttpResponse>, call: &Call<'_>, look: &Look) -> Failure
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    let (cause, code, text) = match e {
        SdkError::ServiceError(answer) => {
            let code = answer.err().code().map(str::to_owned);
            let status = answer.raw().status().as_u16();
            let text = answer.err().message().unwrap_or_default().to_owned();
            (cause_of(code.as_deref(), status, call.does), code, text)
        }
        SdkError::ResponseError(answer) => {
            let status = answer.raw().status().as_u16();
            let cause = cause_of(None, status, call.does);
            (
                cause,
                None,
                format!("the answer ({status}) cannot be read: {}", chain(e)),
            )
        }
        _ => no_answer(e, look),
    };
    let request_id = e.request_id().map(str::to_owned);
    let server_date = look.server_date();
    let detail = detail(code.as_deref(), &text, request_id.as_deref(), server_date);
    Failure {
        error: PortError::new(cause, call.tried, clean(call.on), detail),
        code,
        text: clean(&text),
        request_id,
        server_date,
    }
}

/// No answer: it was never sent, or nobody knows.
fn no_answer<E>(e: &SdkError<E, HttpResponse>, look: &Look) -> (Cause, Option<String>, String)
where
    E: StdError + 'static,
{
    let said = chain(e);
    if let Some(refusal) = look.refusal() {
        return (Cause::Local, None, refusal);
    }
    if !look.was_sent() {
        return before_sending(e, said);
    }
    if never_connected(e) {
        let text = format!("the server cannot be reached: {said}");
        return (Cause::Unreachable, None, text);
    }
    let cause = match e {
        SdkError::TimeoutError(_) => Cause::Timeout,
        SdkError::DispatchFailure(d) if d.is_timeout() => Cause::Timeout,
        SdkError::DispatchFailure(d) if d.is_user() => Cause::Local,
        _ => Cause::LostReply,
    };
    (cause, None, format!("sent, no answer: {said}"))
}

/// The call never left this host: no credentials, no region, an endpoint that is no URL.
fn before_sending<E>(e: &SdkError<E, HttpResponse>, said: String) -> (Cause, Option<String>, String)
where
    E: StdError + 'static,
{
    use aws_credential_types::provider::error::CredentialsError as C;
    let lower = said.to_ascii_lowercase();
    let expired = lower.contains("expired") || lower.contains("invalidgrant");
    let sso = lower.contains("sso");
    let (cause, hint) = match find::<C>(e) {
        Some(_) if sso && expired => (
            Cause::Refused,
            "the single sign-on session has expired; sign in again with `aws sso login` and the same profile",
        ),
        Some(C::CredentialsNotLoaded(_)) => (
            Cause::Refused,
            "no credentials were found; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or sign in with `aws sso login`",
        ),
        Some(C::ProviderTimedOut(_)) => (
            Cause::Unreachable,
            "the source of the credentials did not answer",
        ),
        Some(C::InvalidConfiguration(_)) => (
            Cause::Local,
            "the credentials in the profile or the environment are not complete",
        ),
        Some(_) if expired => (
            Cause::Refused,
            "the credentials have expired; sign in again",
        ),
        Some(_) => (
            Cause::Refused,
            "the source of the credentials refused to give any",
        ),
        None => (Cause::Local, "the call could not be made"),
    };
    (cause, None, format!("{hint}: {said}"))
}

fn is_clock(code: &str, text: &str) -> bool {
    CLOCK.contains(&code)
        || text.contains("Signature expired")
        || text.contains("Signature not yet current")
}

/// The server's code and words, what to do where that is known, and the request id.
fn detail(
    code: Option<&str>,
    text: &str,
    request_id: Option<&str>,
    server_date: Option<DateTime<Utc>>,
) -> String {
    let mut detail = match code {
        Some(code) if text.is_empty() => code.to_owned(),
        Some(code) => format!("{code}: {text}"),
        None => text.to_owned(),
    };
    if let Some(hint) = code.and_then(|code| hint(code, text, server_date)) {
        detail.push_str(&format!("; {hint}"));
    }
    let mut detail = clean(&detail);
    if let Some(id) = request_id {
        detail.push_str(&format!(" (request {})", clean(id)));
    }
    detail
}

fn hint(code: &str, text: &str, server_date: Option<DateTime<Utc>>) -> Option<String> {
    if is_clock(code, text) {
        let off = server_date.map(|at| (Utc::now() - at).num_seconds());
        return Some(match off {
            Some(s) if s != 0 => {
                format!("this host's clock differs from the server's by {s} s; set it")
            }
            _ => "this host's clock differs from the server's; set it".to_owned(),
        });
    }
    match code {
        "ExpiredToken" | "ExpiredTokenException" => {
            Some("the session has expired; sign in again (`aws sso login`, or assume the role anew)".into())
        }
        "InvalidClientTokenId" | "UnrecognizedClientException" | "InvalidAccessKeyId" => Some(
            "this key id is not known here: it is inactive, deleted, of another partition, or the region is not enabled in the account".into(),
        ),
        "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" => {
            Some("the bucket is in another region; name that region".into())
        }
        _ => None,
    }
}

/// True when the connection itself failed, so that nothing can have been sent.
fn never_connected(e: &(dyn StdError + 'static)) -> bool {
    find::<hyper_util::client::legacy::Error>(e).is_some_and(|e| e.is_connect())
}

/// The first error of this type among an error and its sources.
fn find<'a, T: StdError + 'static>(e: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(e);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// An error with all its sources, each said once.
fn chain(e: &(dyn StdError + 'static)) -> String {
    let mut text = e.to_string();
    let mut next = e.source();
    while let Some(error) = next {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_final_and_throttling_is_not() {
        for code in ["LimitExceeded", "LimitExceededException"] {
            for status in [400, 409, 429] {
                assert_eq!(cause_of(Some(code), status, Does::Issue), Cause::Rejected);
            }
        }
        for code in ["Throttling", "ThrottlingException", "SlowDown"] {
            assert_eq!(cause_of(Some(code), 503, Does::Kill), Cause::Throttled);
        }
    }

    #[test]
    fn a_server_error_leaves_a_change_in_doubt_and_a_read_not() {
        for status in [500, 502, 503, 504] {
            assert!(cause_of(Some("InternalFailure"), status, Does::Issue).may_have_happened());
            assert!(!cause_of(None, status, Does::Read).may_have_happened());
        }
        assert!(!cause_of(Some("ValidationError"), 400, Does::Issue).may_have_happened());
    }

    #[test]
    fn every_protocols_word_for_a_dead_or_denied_credential_is_a_refusal() {
        for code in [
            "InvalidClientTokenId",
            "InvalidAccessKeyId",
            "UnrecognizedClientException",
            "SignatureDoesNotMatch",
            "InvalidSignatureException",
            "AccessDenied",
            "AccessDeniedException",
            "ExpiredToken",
            "ExpiredTokenException",
        ] {
            assert_eq!(
                cause_of(Some(code), 400, Does::Probe),
                Cause::Refused,
                "{code}"
            );
        }
    }

    #[test]
    fn a_wrong_clock_is_said_and_a_bad_signature_is_no_clock() {
        assert!(is_clock(
            "SignatureDoesNotMatch",
            "Signature expired: 2026… is now earlier than"
        ));
        assert!(!is_clock(
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match"
        ));
        let said = detail(
            Some("RequestTimeTooSkewed"),
            "The difference is too large.",
            Some("r-1"),
            None,
        );
        assert!(
            said.contains("clock") && said.ends_with("(request r-1)"),
            "{said}"
        );
    }
}
