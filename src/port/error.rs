//! One error for all ports: what was tried, on what, whose move it is, and whether it may have happened all the same.

/// Why a call to the outside failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The caller lacks a right (401, 403).
    Refused,
    /// The object is not there (404).
    NotFound,
    /// A precondition failed: somebody changed it (409, a JSON Patch `test`).
    Conflict,
    /// An admission controller, quota or schema rejected it (422, 400, admission 403).
    Rejected,
    /// Too many requests (429).
    Throttled,
    /// The server could not be reached or answered 5xx *before* it can have acted.
    Unreachable,
    /// The request was sent and no answer came: it may have happened.
    LostReply,
    /// It took longer than its deadline: it may have happened.
    Timeout,
    /// The other side cannot do this at all (no such feature, no shell in the image).
    Unsupported,
    /// An answer that we cannot read.
    Unreadable,
    /// The local disk or host failed.
    Local,
}

impl Cause {
    /// True when the effect may have happened although the call failed.
    pub fn may_have_happened(self) -> bool {
        matches!(self, Cause::LostReply | Cause::Timeout | Cause::Unreadable)
    }
    /// True when the same call may succeed later, unchanged, and certainly did not happen.
    pub fn is_transient(self) -> bool {
        matches!(self, Cause::Throttled | Cause::Unreachable)
    }
    /// One word for entries and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Refused => "refused",
            Cause::NotFound => "not-found",
            Cause::Conflict => "conflict",
            Cause::Rejected => "rejected",
            Cause::Throttled => "throttled",
            Cause::Unreachable => "unreachable",
            Cause::LostReply => "lost-reply",
            Cause::Timeout => "timeout",
            Cause::Unsupported => "unsupported",
            Cause::Unreadable => "unreadable",
            Cause::Local => "local",
        }
    }
}

/// A failed call to the outside.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {tried} `{on}`: {detail}")]
pub struct PortError {
    /// Verb phrase: `patch the labels of pod`.
    pub tried: String,
    /// What it was tried on: `shop/web-7d9`.
    pub on: String,
    /// Why.
    pub cause: Cause,
    /// The other side's words, cleaned of secrets and control characters.
    pub detail: String,
}

impl PortError {
    /// A new error.
    pub fn new(
        cause: Cause,
        tried: impl Into<String>,
        on: impl Into<String>,
        detail: impl Into<String>,
    ) -> Self {
        PortError {
            tried: tried.into(),
            on: on.into(),
            cause,
            detail: detail.into(),
        }
    }
}
