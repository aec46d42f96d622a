//! A database server's logins. First PostgreSQL.
//!
//! The password itself is never sent in a statement, only its SCRAM verifier; it is used to log in, over TLS that is verified in full,
//! without fallback. Each call names the server: termination of sessions is local, primary and every replica.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PortError, Secret};

/// One server.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Host name, as the certificate has it.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Database to connect to.
    pub database: String,
    /// PEM file of the authority that signed the server's certificate; `None` = the system's.
    pub ca_file: Option<String>,
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}/{}", self.host, self.port, self.database)
    }
}

/// Who logs in.
pub struct Login {
    /// Role name.
    pub role: String,
    /// Its password.
    pub password: Secret,
}

/// How a login was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginAnswer {
    /// Accepted; the server's clock at that moment.
    Accepted {
        /// `clock_timestamp()`.
        server_now: DateTime<Utc>,
    },
    /// Refused, with the SQLSTATE: `28P01` wrong password (or no such role), `28000` may not log in.
    Refused {
        /// SQLSTATE.
        sqlstate: String,
        /// The server's words.
        text: String,
    },
}

/// A role on a server, as the admin sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleSeen {
    /// System identifier of the cluster: the same on primary and replica.
    pub system_identifier: String,
    /// True on a replica.
    pub in_recovery: bool,
    /// Server version number (`150018`).
    pub version: u32,
    /// `clock_timestamp()`.
    pub server_now: DateTime<Utc>,
    /// False when there is no such role; the fields below then say nothing.
    pub exists: bool,
    /// May log in.
    pub can_login: bool,
    /// Is a superuser: its sessions are out of reach of a lesser admin.
    pub superuser: bool,
    /// `SCRAM-SHA-256`, `md5`, `none`, or `unknown` where the admin may not see it.
    pub password_type: String,
    /// SHA-256 of the stored verifier, hex; `None` where the admin may not see it. It changes with each set.
    pub verifier_sha256: Option<String>,
}

/// Sessions that were met or ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sessions {
    /// How many matched and, for an ending, were ended.
    pub matched: u32,
    /// How many the admin may not end.
    pub out_of_reach: u32,
    /// Client addresses and application names, for the record.
    pub clients: Vec<String>,
}

/// Database servers.
#[async_trait]
pub trait Database: Send + Sync {
    /// The role as it is.
    async fn role(&self, server: &Server, admin: &Login, role: &str)
    -> Result<RoleSeen, PortError>;
    /// Sets the role's password by its SCRAM verifier. Safe to repeat with the same verifier.
    async fn set_verifier(
        &self,
        server: &Server,
        admin: &Login,
        role: &str,
        verifier: &Secret,
    ) -> Result<(), PortError>;
    /// Tries a login and leaves at once.
    async fn try_login(&self, server: &Server, login: &Login) -> Result<LoginAnswer, PortError>;
    /// Sessions of the role that began before `before`, other than our own.
    async fn sessions(
        &self,
        server: &Server,
        admin: &Login,
        role: &str,
        before: DateTime<Utc>,
    ) -> Result<Sessions, PortError>;
    /// Ends them.
    async fn end_sessions(
        &self,
        server: &Server,
        admin: &Login,
        role: &str,
        before: DateTime<Utc>,
    ) -> Result<Sessions, PortError>;
}
