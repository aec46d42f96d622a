//! Errors at the edge: what was tried, on what, why, and what to type next. Lower rooms say what happened; here it gets its hint.

use crate::action::{ActionError, Class};
use crate::adapter::store::PlacesError;
use crate::custody::OpeningError;
use crate::port::{Cause, CustodyError, LedgerError, PortError};

use super::exit::Exit;

/// An error as a person sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CliError {
    /// Stable code, see `firebreak explain`.
    pub code: &'static str,
    /// What was tried, on what, why it failed.
    pub message: String,
    /// What to type or do next.
    pub hint: Option<String>,
    /// How the command ends.
    pub exit: Exit,
}

/// What commands answer.
pub type CliResult = Result<Exit, CliError>;

impl CliError {
    /// A new one.
    pub fn new(exit: Exit, code: &'static str, message: impl Into<String>) -> Self {
        CliError {
            code,
            message: message.into(),
            hint: None,
            exit,
        }
    }
    /// A wrong command line.
    pub fn usage(message: impl Into<String>) -> Self {
        CliError::new(Exit::Usage, "FB1101", message)
    }
    /// Says what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<OpeningError> for CliError {
    fn from(e: OpeningError) -> Self {
        let text = e.to_string();
        match e {
            OpeningError::Exists(id) => CliError::new(Exit::Usage, "FB1102", text).hint(format!(
                "use it with --incident {id}, or choose another --id"
            )),
            OpeningError::Missing(_) => CliError::new(Exit::Usage, "FB1103", text)
                .hint("firebreak incident status lists the incidents that there are"),
            OpeningError::Write { .. } => CliError::new(Exit::Failed, "FB1104", text)
                .hint("free space or fix permissions, then type the same command again"),
            OpeningError::Read { .. } => CliError::new(Exit::Failed, "FB1105", text),
            OpeningError::Damaged { .. } => CliError::new(Exit::Tampered, "FB0604", text)
                .hint("firebreak verify PATH says what is left"),
            OpeningError::Ledger(e) => e.into(),
            OpeningError::Host(_) => CliError::new(Exit::Failed, "FB1106", text),
        }
    }
}

impl From<LedgerError> for CliError {
    fn from(e: LedgerError) -> Self {
        let text = e.to_string();
        match e {
            LedgerError::Write { .. } => CliError::new(Exit::Failed, "FB0601", text).hint("nothing was done without its entry; free space or fix permissions, then type the same command again"),
            LedgerError::Read { .. } => CliError::new(Exit::Failed, "FB1105", text),
            LedgerError::Tampered { .. } => CliError::new(Exit::Tampered, "FB0604", text).hint("firebreak verify PATH says what is left; nothing goes on from a ledger that fails"),
            LedgerError::Busy { .. } => CliError::new(Exit::TryAgain, "FB0603", text).hint("type the same command again when it is done"),
        }
    }
}

impl From<CustodyError> for CliError {
    fn from(e: CustodyError) -> Self {
        let text = e.to_string();
        match e {
            CustodyError::Ledger(e) => e.into(),
            CustodyError::Write { .. } => CliError::new(Exit::Failed, "FB1204", text).hint(
                "free space or fix permissions; the bag stays open and the next resume recovers it",
            ),
            CustodyError::Read { .. } => CliError::new(Exit::Failed, "FB1105", text),
            CustodyError::Changed { .. } | CustodyError::Tampered { .. } => {
                CliError::new(Exit::Tampered, "FB0604", text).hint(
                    "firebreak verify PATH says what is left; keep a copy of the folder as it is",
                )
            }
            CustodyError::Empty { .. } => CliError::new(Exit::Usage, "FB1205", text)
                .hint("add something: firebreak evidence add PATH… --bag N"),
            CustodyError::Busy { .. } => CliError::new(Exit::TryAgain, "FB0603", text)
                .hint("type the same command again when it is done"),
            CustodyError::Host(_) => CliError::new(Exit::Failed, "FB1106", text),
        }
    }
}

impl From<PlacesError> for CliError {
    fn from(e: PlacesError) -> Self {
        let text = match std::error::Error::source(&e) {
            Some(cause) => format!("{e}: {cause}"),
            None => e.to_string(),
        };
        CliError::new(Exit::Usage, "FB1107", text)
            .hint("set FIREBREAK_HOME to a folder of your own")
    }
}

impl From<PortError> for CliError {
    fn from(e: PortError) -> Self {
        let (exit, code, hint) = match e.cause {
            Cause::Refused => (
                Exit::Denied,
                "FB0405",
                Some(
                    "firebreak permissions contain prints the least role; have it bound, then type the same command again",
                ),
            ),
            Cause::NotFound => (
                Exit::Usage,
                "FB1206",
                Some("check namespace and name, and that --context names the right cluster"),
            ),
            Cause::Conflict => (
                Exit::Stale,
                "FB0401",
                Some("somebody changed it meanwhile; look again: type the same command again"),
            ),
            Cause::Throttled => (
                Exit::TryAgain,
                "FB1202",
                Some("type the same command again"),
            ),
            Cause::Unreachable => (
                Exit::Failed,
                "FB1207",
                Some(
                    "check the server, the network and --context, then type the same command again",
                ),
            ),
            Cause::LostReply | Cause::Timeout | Cause::Unreadable => (
                Exit::InDoubt,
                "FB0602",
                Some("firebreak resume looks before it acts"),
            ),
            Cause::Rejected | Cause::Unsupported | Cause::Local => (
                Exit::Failed,
                "FB1203",
                Some("correct what is named, then type the same command again"),
            ),
        };
        let error = CliError::new(exit, code, e.to_string());
        match hint {
            Some(h) => error.hint(h),
            None => error,
        }
    }
}

impl From<ActionError> for CliError {
    fn from(e: ActionError) -> Self {
        let exit = match e.class {
            Class::Refused | Class::Failed | Class::Transient | Class::Timeout => Exit::Failed,
            Class::Waiting => Exit::Parked,
            Class::Denied => Exit::Denied,
            Class::Conflict => Exit::Stale,
            Class::InDoubt => Exit::InDoubt,
            Class::Ledger if e.code == "FB0604" => Exit::Tampered,
            Class::Ledger => Exit::Failed,
            Class::Internal => Exit::Internal,
        };
        CliError {
            code: e.code,
            message: e.message,
            hint: e.hint,
            exit,
        }
    }
}
