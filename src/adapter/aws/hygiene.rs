//! Nothing that the SDK copies may be logged.
//!
//! The SDK traces requests with their bodies, new secrets among them, and redacts answers unless `LOG_SENSITIVE_BODIES` is set. firebreak
//! has no subscriber, so that nothing is written whatever `RUST_LOG` says; who adds one must pass every record by [`allowed`].

use std::ffi::OsString;

use crate::port::{Cause, PortError};

/// Makes the SDK show the secrets in answers.
const VARIABLE: &str = "LOG_SENSITIVE_BODIES";

/// How loud a record is, as logging crates order it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loud {
    /// Errors.
    Error,
    /// Warnings.
    Warn,
    /// The story.
    Info,
    /// Details.
    Debug,
    /// Everything.
    Trace,
}

/// Refuses to work where secrets would be shown. To be called before anything else; unsetting the variable is not ours to do.
///
/// # Errors
/// `Local`, when `LOG_SENSITIVE_BODIES` is set, to whatever value.
pub fn check() -> Result<(), PortError> {
    refuse(std::env::var_os(VARIABLE))
}

fn refuse(value: Option<OsString>) -> Result<(), PortError> {
    match value {
        None => Ok(()),
        Some(_) => Err(PortError::new(
            Cause::Local,
            "start with the variable",
            VARIABLE,
            format!(
                "it makes the AWS SDK log secrets in clear; run `unset {VARIABLE}` and start again"
            ),
        )),
    }
}

/// The hard cap for a logging subscriber, which no filter may lift: below it records hold secrets.
pub fn allowed(target: &str, loud: Loud) -> bool {
    let root = target.split("::").next().unwrap_or(target);
    let most = match root {
        "tokio_postgres" | "postgres_protocol" => Loud::Warn,
        "hyper" | "hyper_util" | "kube" | "kube_client" | "rustls" | "h2" | "tower" => Loud::Info,
        _ if root.starts_with("aws_") => Loud::Info,
        _ => return true,
    };
    loud <= most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn firebreak_does_not_start_where_secrets_would_be_logged() {
        assert!(refuse(None).is_ok());
        for value in ["true", "false", ""] {
            let e = refuse(Some(value.into())).expect_err("refused");
            assert!(e.to_string().contains("unset LOG_SENSITIVE_BODIES"), "{e}");
        }
    }

    #[test]
    fn records_that_hold_secrets_are_never_allowed() {
        assert!(!allowed(
            "aws_smithy_runtime::client::orchestrator",
            Loud::Trace
        ));
        assert!(!allowed(
            "aws_smithy_runtime::client::http::body",
            Loud::Debug
        ));
        assert!(allowed("aws_config", Loud::Info));
        assert!(!allowed("tokio_postgres::query", Loud::Debug));
        assert!(!allowed("tokio_postgres", Loud::Info));
        assert!(!allowed("kube_client::client", Loud::Debug));
        assert!(allowed("firebreak::run", Loud::Trace));
        assert!(allowed("aws", Loud::Trace));
    }
}
