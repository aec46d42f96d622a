//! The PostgreSQL adapter: logins of a server, over TLS that is verified in full.
//!
//! # Flow
//! Each call opens one connection, asks, and leaves: `connect` (TLS, login, what a refusal means), `statement` (the SQL), `error` (whose
//! move it is, and whether it may have happened).
//!
//! # Guarantees
//! - No password is ever part of a statement. Only a well-formed SCRAM verifier is; anything else is refused here, because a server
//!   takes a text that is no verifier for a password in the clear and hashes it, after it stood in the log.
//! - TLS is required: certificate chain and host name are verified, there is no fallback and no way to ask for one. SCRAM is bound to
//!   the TLS channel where the server offers it.
//! - Names are quoted by the server. Functions are those of `pg_catalog` and the search path of an admin's connection holds nothing else:
//!   whoever may create functions in a schema on the admin's path would otherwise run code as the admin.
//! - The client library logs whole statements at DEBUG: the build caps the `log` facade at WARN, which no filter can lift.
//!
//! # Caveats
//! A verifier stands in the server's log with `log_statement=ddl`, and in `pg_stat_statements`. It opens nothing; a password of 40 random
//! letters cannot be found by trying against it.

mod connect;
mod error;
mod statement;

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::port::{
    Cause, Database, Login, LoginAnswer, PortError, RoleSeen, Secret, Server, Sessions,
};
use connect::{Kind, Session};
use error::{Does, Tried};

/// Longest a call may take, its login included.
const DEADLINE: Duration = Duration::from_secs(10);
/// Longest a TCP connection may take to open: less than a call, so that "never connected" and "no answer" stay apart.
const CONNECT: Duration = Duration::from_secs(5);

// Compiled out, not filtered out.
const _: () = assert!(log::STATIC_MAX_LEVEL as usize <= log::LevelFilter::Warn as usize);

/// PostgreSQL servers, reached by name. It keeps no connections.
#[derive(Debug, Clone, Copy)]
pub struct PostgresServers {
    deadline: Duration,
}

impl PostgresServers {
    /// All servers that can be reached from here; a call takes at most 10 s.
    pub const fn new() -> Self {
        Self::with_deadline(DEADLINE)
    }

    /// The same with another deadline for each call.
    pub const fn with_deadline(deadline: Duration) -> Self {
        PostgresServers { deadline }
    }

    async fn within<T>(
        self,
        tried: Tried<'_>,
        call: impl Future<Output = Result<T, PortError>> + Send,
    ) -> Result<T, PortError> {
        let timed = tokio::time::timeout(self.deadline, call).await;
        timed.unwrap_or_else(|_| Err(error::too_slow(self.deadline, tried)))
    }
}

impl Default for PostgresServers {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Database for PostgresServers {
    async fn role(
        &self,
        server: &Server,
        admin: &Login,
        role: &str,
    ) -> Result<RoleSeen, PortError> {
        let tried = Tried::new("look at the database role on", server);
        self.within(tried, async {
            let session = Session::open(server, admin, Kind::Admin, tried).await?;
            let seen = statement::role(&session, role, tried).await?;
            session.close().await;
            Ok(seen)
        })
        .await
    }

    /// A deadline that ends before the change was sent certainly changed nothing, and says so by its cause.
    async fn set_verifier(
        &self,
        server: &Server,
        admin: &Login,
        role: &str,
        verifier: &Secret,
    ) -> Result<(), PortError> {
        let tried = Tried::new("set the verifier of a role on", server);
        if !statement::is_verifier(verifier.expose_secret()) {
            let detail = "what should be sent is not a SCRAM-SHA-256 verifier";
            return Err(tried.failed(Cause::Local, detail));
        }
        let prepared = self.within(tried, async {
            let session = Session::open(server, admin, Kind::Admin, tried).await?;
            let change = statement::change(&session, role, verifier, tried).await?;
            Ok((session, change))
        });
        let (session, change) = prepared.await.map_err(error::nothing_sent)?;
        let done = self.within(tried, async {
            let done = session.client.simple_query(change.expose_secret()).await;
            done.map_err(|e| error::of(&e, Does::Write, tried))
        });
        done.await.map_err(|e| error::without(e, verifier))?;
        session.close().await;
        Ok(())
    }

    async fn try_login(&self, server: &Server, login: &Login) -> Result<LoginAnswer, PortError> {
        let tried = Tried::new("log in to", server);
        self.within(tried, async {
            match Session::try_open(server, login, Kind::Plain, tried).await? {
                Err(refused) => Ok(refused),
                Ok(session) => {
                    let server_now = statement::now(&session, tried).await?;
                    session.close().await;
                    Ok(LoginAnswer::Accepted { server_now })
                }
            }
        })
        .await
        .map_err(|e| error::without(e, &login.password))
    }

    /// Those that the admin may not end, or whose age it may not see, are counted in `out_of_reach` as well as in `matched`.
    async fn sessions(
        &self,
        server: &Server,
        admin: &Login,
        role: &str,
        before: DateTime<Utc>,
    ) -> Result<Sessions, PortError> {
        let tried = Tried::new("look at the sessions of a role on", server);
        self.within(tried, async {
            let session = Session::open(server, admin, Kind::Admin, tried).await?;
            let seen = statement::sessions(&session, role, before, tried).await?;
            session.close().await;
            Ok(seen)
        })
        .await
    }

    /// `matched` counts those that were told to end; they go a moment later, so look until none is left. Safe to repeat.
    async fn end_sessions(
        &self,
        server: &Server,
        admin: &Login,
        role: &str,
        before: DateTime<Utc>,
    ) -> Result<Sessions, PortError> {
        let tried = Tried::new("end the sessions of a role on", server);
        let opened = self.within(tried, Session::open(server, admin, Kind::Admin, tried));
        let session = opened.await.map_err(error::nothing_sent)?;
        let ended = self
            .within(
                tried,
                statement::end_sessions(&session, role, before, tried),
            )
            .await?;
        session.close().await;
        Ok(ended)
    }
}
