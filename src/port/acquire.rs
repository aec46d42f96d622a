//! Making forensic copies from a pod, as streams of bytes.

use async_trait::async_trait;

use crate::incident::body::ObjectRef;

use super::PortError;

/// What to copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaptureKind {
    /// The whole log of a container, with timestamps; `previous` = of the instance before its last restart.
    Logs {
        /// Container.
        container: String,
        /// The instance before.
        previous: bool,
        /// Only the last lines, for the volatile tail.
        tail_lines: Option<u32>,
    },
    /// Standard output of a command of the container's own image. *Low trust*: the suspect's tools answer.
    Exec {
        /// Container.
        container: String,
        /// Words, no shell of ours.
        argv: Vec<String>,
    },
}

/// One piece of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Bytes in order.
    Bytes(Vec<u8>),
    /// The source ended: for an exec, its exit code and what it said on standard error (at most 4 KiB).
    End {
        /// Exit code of an exec.
        exit: Option<i32>,
        /// Standard error.
        stderr: String,
    },
}

/// A stream of pieces; `next` answers `End` exactly once, then `None`. Dropping it ends the transfer.
#[async_trait]
pub trait ByteStream: Send {
    /// The next piece.
    async fn next(&mut self) -> Option<Result<Piece, PortError>>;
}

/// Copies from pods.
#[async_trait]
pub trait Acquire: Send + Sync {
    /// Opens a stream of what `kind` names, from the pod with exactly this UID.
    async fn capture(
        &self,
        pod: &ObjectRef,
        kind: &CaptureKind,
    ) -> Result<Box<dyn ByteStream>, PortError>;
}
