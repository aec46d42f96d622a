//! What a failed call means: whose move it is, and whether it may have happened.

use std::error::Error as _;
use std::time::Duration;

use tokio_postgres::Error;

use crate::adapter::kube::clean;
use crate::port::{Cause, LoginAnswer, PortError, Secret, Server};

/// What is tried, and on which server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tried<'a> {
    what: &'a str,
    on: &'a Server,
}

impl<'a> Tried<'a> {
    pub(super) fn new(what: &'a str, on: &'a Server) -> Self {
        Tried { what, on }
    }

    pub(super) fn failed(self, cause: Cause, detail: &str) -> PortError {
        PortError::new(cause, self.what, clean(&self.on.to_string()), clean(detail))
    }
}

/// What a call could have done when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    /// Opens a connection: nothing was asked yet.
    Connect,
    /// Only looks.
    Read,
    /// Changes something.
    Write,
}

/// A login that the server itself refused: class 28 (`28P01` wrong password or no such role, `28000` may not log in), and `08P01`, which
/// is what a pooler says. Anything else is no verdict on the password: `3D000` and `53300` come after it was accepted.
pub(super) fn refused_login(e: &Error) -> Option<LoginAnswer> {
    let said = e.as_db_error()?;
    let sqlstate = said.code().code();
    (sqlstate.starts_with("28") || sqlstate == "08P01").then(|| LoginAnswer::Refused {
        sqlstate: sqlstate.to_owned(),
        text: clean(said.message()),
    })
}

/// A call that failed.
pub(super) fn of(e: &Error, does: Does, tried: Tried<'_>) -> PortError {
    if let Some(said) = e.as_db_error() {
        let sqlstate = said.code().code();
        let detail = format!("the server answered {sqlstate}: {}", said.message());
        // Two changes of one role at once; it comes as an internal error, and the later one certainly did not happen.
        let cause = match said.message() {
            "tuple concurrently updated" => Cause::Conflict,
            _ => of_sqlstate(sqlstate, does),
        };
        return tried.failed(cause, &detail);
    }
    let text = chain(e);
    if text.contains("server does not support TLS") {
        let detail = "the server does not speak TLS, and nothing is sent without it";
        return tried.failed(Cause::Unsupported, detail);
    }
    if let Some(fault) = tls_fault(e) {
        return tried.failed(Cause::Rejected, &fault);
    }
    let cause = match does {
        Does::Connect | Does::Read => Cause::Unreachable,
        Does::Write => Cause::LostReply,
    };
    let detail = match does {
        Does::Connect => format!("the server cannot be reached: {text}"),
        Does::Read | Does::Write => format!("the connection was lost: {text}"),
    };
    tried.failed(cause, &detail)
}

/// The cause that an SQLSTATE stands for. A server that goes down (57P01, 57P02) or breaks (58, XX) while it changes something may have
/// committed it.
fn of_sqlstate(sqlstate: &str, does: Does) -> Cause {
    match sqlstate {
        "42501" => Cause::Refused,
        "3D000" | "42704" => Cause::NotFound,
        "53300" | "53400" => Cause::Throttled,
        "57014" | "55P03" => Cause::Timeout,
        _ if sqlstate.starts_with("28") => Cause::Refused,
        _ if sqlstate.starts_with("40") => Cause::Conflict,
        "57P03" => Cause::Unreachable,
        _ if goes_down(sqlstate) && does == Does::Write => Cause::LostReply,
        _ if goes_down(sqlstate) => Cause::Unreachable,
        // 25006, a change on a replica, among them.
        _ => Cause::Rejected,
    }
}

fn goes_down(sqlstate: &str) -> bool {
    ["08", "53", "57P", "58", "XX"]
        .iter()
        .any(|class| sqlstate.starts_with(class))
}

/// What is wrong with the server's certificate, in words that say what to do.
fn tls_fault(e: &Error) -> Option<String> {
    let mut next = e.source();
    while let Some(error) = next {
        let io = error.downcast_ref::<std::io::Error>();
        let inner = io.and_then(std::io::Error::get_ref);
        let fault = inner
            .and_then(|i| i.downcast_ref::<rustls::Error>())
            .or_else(|| error.downcast_ref::<rustls::Error>());
        if let Some(fault) = fault {
            return Some(match fault {
                rustls::Error::InvalidCertificate(_) => format!(
                    "the server's certificate is not one that we trust for this host name, so nothing was sent: {fault}; name its authority with `ca_file`"
                ),
                other => format!("no TLS with this server, so nothing was sent: {other}"),
            });
        }
        next = error.source();
    }
    None
}

/// An error with all its sources, each said once.
fn chain(e: &Error) -> String {
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

/// A call that took longer than its deadline.
pub(super) fn too_slow(deadline: Duration, tried: Tried<'_>) -> PortError {
    let detail = format!("no answer within {} s", deadline.as_secs());
    tried.failed(Cause::Timeout, &detail)
}

/// The error of a step before the change was sent: it certainly did not happen.
pub(super) fn nothing_sent(e: PortError) -> PortError {
    match e.cause {
        cause if cause.may_have_happened() => PortError {
            cause: Cause::Unreachable,
            detail: format!("{} (nothing was sent yet)", e.detail),
            ..e
        },
        _ => e,
    }
}

/// The error without a secret that the other side put into its words.
pub(super) fn without(e: PortError, secret: &Secret) -> PortError {
    let text = secret.expose_secret();
    if text.is_empty() || !e.detail.contains(text) {
        return e;
    }
    PortError {
        detail: e.detail.replace(text, "[secret]"),
        ..e
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_goes_down_may_have_committed_a_change_and_lost_nothing_of_a_look() {
        for (sqlstate, look, change) in [
            ("57P01", Cause::Unreachable, Cause::LostReply),
            ("XX000", Cause::Unreachable, Cause::LostReply),
            ("08006", Cause::Unreachable, Cause::LostReply),
            ("57P03", Cause::Unreachable, Cause::Unreachable),
            ("53300", Cause::Throttled, Cause::Throttled),
            ("42501", Cause::Refused, Cause::Refused),
            ("42704", Cause::NotFound, Cause::NotFound),
            ("25006", Cause::Rejected, Cause::Rejected),
            ("40001", Cause::Conflict, Cause::Conflict),
            ("57014", Cause::Timeout, Cause::Timeout),
        ] {
            assert_eq!(of_sqlstate(sqlstate, Does::Read), look, "{sqlstate}");
            assert_eq!(of_sqlstate(sqlstate, Does::Write), change, "{sqlstate}");
        }
    }

    #[test]
    fn a_step_before_the_change_leaves_nothing_in_doubt() {
        let slow = PortError::new(Cause::Timeout, "set", "db", "no answer within 10 s");
        let e = nothing_sent(slow);
        assert!(!e.cause.may_have_happened(), "{e}");
        let refused = PortError::new(Cause::Refused, "set", "db", "no");
        assert_eq!(nothing_sent(refused.clone()), refused);
    }

    #[test]
    fn a_secret_in_the_servers_words_is_taken_out() {
        let said = PortError::new(Cause::Rejected, "set", "db", "bad value `Planted4Password`");
        let e = without(said, &Secret::new("Planted4Password".into()));
        assert_eq!(e.detail, "bad value `[secret]`");
    }
}
