//! Nothing that the SDK copies may be logged.
//!
//! Below INFO the SDK traces whole requests and answers, and shows secrets in answers when `LOG_SENSITIVE_BODIES` is set; which bodies of
//! requests it shows depends on its settings. So the build caps `tracing` at INFO (and `log` at WARN, for the database client): such records
//! are not compiled in, whatever a subscriber or `RUST_LOG` asks for. What is left is to refuse the variable.

use std::ffi::OsString;

use crate::port::{Cause, PortError};

/// Makes the SDK show the secrets in answers.
const VARIABLE: &str = "LOG_SENSITIVE_BODIES";

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
    fn the_build_leaves_no_record_below_info() {
        let most = tracing::level_filters::STATIC_MAX_LEVEL;
        assert_eq!(most, tracing::level_filters::LevelFilter::INFO);
    }
}
