//! Telling people.

use async_trait::async_trait;
use serde::Serialize;

use super::PortError;

/// A message for one audience.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Incident id.
    pub incident: String,
    /// True in a drill; the text then begins with EXERCISE.
    pub drill: bool,
    /// Roles it is for.
    pub to: Vec<String>,
    /// The text.
    pub text: String,
}

/// Sends messages.
#[async_trait]
pub trait Notifier: Send + Sync {
    /// Sends over each configured channel; answers the channels used (`print`, `webhook`).
    ///
    /// # Errors
    /// When a channel failed; the text was still shown.
    async fn send(&self, message: &Message) -> Result<Vec<String>, PortError>;
}
