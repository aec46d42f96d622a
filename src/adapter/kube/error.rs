//! What a failed request means: whose move it is, and whether it may have happened.

use std::error::Error as _;

use kube::core::Status;

use crate::port::{Cause, PortError};

/// Longest text of the other side that an error carries.
const LONGEST: usize = 600;

/// Whether a request could have changed something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    /// Only looks: an unclear end leaves nothing in doubt, but nobody knows what is there either.
    Read,
    /// Changes something.
    Write,
}

/// An answer of the server with an error code.
///
/// 503 is what an API server says that has not taken the request up. 504, 502 and a plain 500 (etcd timed out) may come after the
/// effect; a 500 of an admission webhook never does.
pub(super) fn of_status(status: &Status, does: Does, tried: &str, on: &str) -> PortError {
    let message = status.message.as_str();
    let cause = match status.code {
        401 => Cause::Refused,
        403 if is_rbac(message) => Cause::Refused,
        403 => Cause::Rejected,
        404 => Cause::NotFound,
        409 => Cause::Conflict,
        400 | 405 | 406 | 413 | 415 | 422 => Cause::Rejected,
        408 => Cause::Timeout,
        429 => Cause::Throttled,
        410 => Cause::Unreadable,
        503 => Cause::Unreachable,
        500 if message.contains("webhook") => Cause::Rejected,
        500..=599 if does == Does::Write => Cause::LostReply,
        500..=599 => Cause::Unreachable,
        _ => Cause::Unreadable,
    };
    let detail = match status.code {
        401 => format!("the server does not accept these credentials (expired?): {message}"),
        _ if message.is_empty() => format!("the server answered {} {}", status.code, status.reason),
        _ => message.to_owned(),
    };
    PortError::new(cause, tried, clean(on), clean(&detail))
}

/// The authorizer's refusal, not an admission controller's: `User "x" cannot get resource …`.
fn is_rbac(message: &str) -> bool {
    message.contains("cannot ") && (message.contains("User \"") || message.contains("user "))
}

/// A request that got no answer of the server.
pub(super) fn of_transport(e: &kube::Error, does: Does, tried: &str, on: &str) -> PortError {
    let said = chain(e);
    let cause = match e {
        kube::Error::Api(status) => return of_status(status, does, tried, on),
        kube::Error::Auth(_) => Cause::Refused,
        kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => Cause::Unreadable,
        kube::Error::UpgradeConnection(_) => Cause::Unsupported,
        _ if never_connected(e) => Cause::Unreachable,
        _ => Cause::LostReply,
    };
    let detail = if said.contains("certificate expired") || said.contains("CertificateExpired") {
        format!("a certificate has expired, the server's or yours: {said}")
    } else if said.contains("UnknownIssuer") || said.contains("invalid peer certificate") {
        format!("the server's certificate is not the one that the kubeconfig trusts: {said}")
    } else if cause == Cause::Refused {
        format!("no valid credentials: {said}")
    } else if cause == Cause::Unreachable {
        format!("the server cannot be reached: {said}")
    } else {
        said
    };
    PortError::new(cause, tried, clean(on), clean(&detail))
}

/// True when the connection itself failed, so that nothing can have been sent.
fn never_connected(e: &kube::Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(e);
    while let Some(error) = next {
        if let Some(client) = error.downcast_ref::<hyper_util::client::legacy::Error>() {
            return client.is_connect();
        }
        next = error.source();
    }
    false
}

/// An error with all its sources, each said once.
fn chain(e: &kube::Error) -> String {
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

/// A request that took longer than its deadline.
pub(super) fn too_slow(deadline: std::time::Duration, tried: &str, on: &str) -> PortError {
    let detail = format!("no answer within {} s", deadline.as_secs_f32().ceil());
    PortError::new(Cause::Timeout, tried, clean(on), detail)
}

/// Makes a text of the other side fit for a terminal and a ledger: control and direction-changing characters become spaces, tokens
/// and passwords in URLs are replaced, and it is cut at 600 characters.
pub fn clean(text: &str) -> String {
    let visible: String = text
        .chars()
        .map(|c| if is_hidden(c) { ' ' } else { c })
        .collect();
    let words: Vec<String> = visible.split_whitespace().map(without_secret).collect();
    let mut out = String::new();
    let mut after_scheme = false;
    for word in &words {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(if after_scheme { "[secret]" } else { word });
        after_scheme = ["bearer", "basic"].contains(&word.to_ascii_lowercase().as_str());
    }
    if out.chars().count() > LONGEST {
        out = out.chars().take(LONGEST).collect();
        out.push('…');
    }
    out
}

fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// A word without a JSON Web Token, the userinfo of a URL or the value of a parameter that names a secret.
fn without_secret(word: &str) -> String {
    let mut word = word.to_owned();
    if let Some(at) = word.find("eyJ")
        && word[at..].len() > 20
    {
        let end = word[at..]
            .find(|c: char| !(c.is_ascii_alphanumeric() || "-_.=".contains(c)))
            .map_or(word.len(), |n| at + n);
        word.replace_range(at..end, "[secret]");
    }
    if let Some(scheme) = word.find("://") {
        let rest = scheme + 3;
        let host_end = word[rest..].find('/').map_or(word.len(), |n| rest + n);
        if let Some(at) = word[rest..host_end].rfind('@') {
            word.replace_range(rest..rest + at, "[secret]");
        }
    }
    for name in [
        "token=",
        "password=",
        "secret=",
        "client_secret=",
        "access_key=",
    ] {
        if let Some(at) = word.to_ascii_lowercase().find(name) {
            let start = at + name.len();
            let end = word[start..].find('&').map_or(word.len(), |n| start + n);
            word.replace_range(start..end, "[secret]");
        }
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, message: &str) -> Status {
        Status::failure(message, "x").with_code(code)
    }

    #[test]
    fn a_missing_right_and_an_admission_refusal_are_told_apart() {
        let cause = |code, message: &str| {
            of_status(&status(code, message), Does::Write, "patch", "shop/web").cause
        };
        assert_eq!(
            cause(
                403,
                r#"pods "web" is forbidden: User "u" cannot patch resource "pods""#
            ),
            Cause::Refused
        );
        assert_eq!(
            cause(403, r#"pods "web" is forbidden: violates PodSecurity"#),
            Cause::Rejected
        );
        assert_eq!(
            cause(
                500,
                r#"failed calling webhook "w": connect: connection refused"#
            ),
            Cause::Rejected
        );
    }

    #[test]
    fn an_error_after_which_a_write_may_have_happened_says_so() {
        for (code, may) in [
            (500, true),
            (502, true),
            (504, true),
            (503, false),
            (429, false),
        ] {
            let e = of_status(
                &status(code, "etcdserver: request timed out"),
                Does::Write,
                "patch",
                "x",
            );
            assert_eq!(e.cause.may_have_happened(), may, "{code}");
        }
    }

    #[test]
    fn texts_lose_escapes_and_tokens_but_keep_their_sense() {
        let said = clean(
            "bad\u{1b}[31m name\n\u{202e}x Bearer abc.def eyJhbGciOiJSUzI1NiIsImtpZCI6Ij.eyJz.c2ln https://u:p@host/x?token=s3cret&a=1",
        );
        assert_eq!(
            said,
            "bad [31m name x Bearer [secret] [secret] https://[secret]@host/x?token=[secret]&a=1"
        );
        assert!(clean(&"x".repeat(5000)).chars().count() <= LONGEST + 1);
    }
}
