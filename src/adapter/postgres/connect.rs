//! Opening one connection: TLS, login, and what a refused login says.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::task::JoinHandle;
use tokio_postgres::config::{ChannelBinding, SslMode, TargetSessionAttrs};
use tokio_postgres::{Client, Config, Error};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::CONNECT;
use super::error::{self, Does, Tried};
use crate::port::{Cause, Login, LoginAnswer, PortError, Server};

/// Settings of an admin's connection, which win over those of the role and the database: nothing but the server's own functions is
/// found, nothing waits longer than we do, and no half-open transaction stays behind.
const ADMIN: &str = "-c search_path=pg_catalog -c statement_timeout=8s -c lock_timeout=5s -c idle_in_transaction_session_timeout=10s";

/// How long a server may take to hang up.
const GOODBYE: Duration = Duration::from_secs(1);

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The admin's, to a server itself.
    Admin,
    /// A login that is tried, perhaps through a pooler, which refuses settings of ours.
    Plain,
}

/// One open connection.
pub(super) struct Session {
    pub(super) client: Client,
    driver: JoinHandle<Result<(), Error>>,
}

impl Session {
    /// Logs in; a refused login is an error.
    pub(super) async fn open(
        server: &Server,
        login: &Login,
        kind: Kind,
        tried: Tried<'_>,
    ) -> Result<Session, PortError> {
        let opened = Session::try_open(server, login, kind, tried).await;
        match opened.map_err(|e| error::without(e, &login.password))? {
            Ok(session) => Ok(session),
            Err(LoginAnswer::Refused { sqlstate, text }) => {
                let detail = format!("the server does not let us in ({sqlstate}): {text}");
                Err(tried.failed(Cause::Refused, &detail))
            }
            Err(LoginAnswer::Accepted { .. }) => {
                Err(tried.failed(Cause::Unreadable, "a login that is none"))
            }
        }
    }

    /// Logs in; a refused login is an answer.
    pub(super) async fn try_open(
        server: &Server,
        login: &Login,
        kind: Kind,
        tried: Tried<'_>,
    ) -> Result<Result<Session, LoginAnswer>, PortError> {
        let tls = MakeRustlsConnect::new(tls(server, tried)?);
        let config = config(server, login, kind, tried)?;
        match config.connect(tls).await {
            Ok((client, connection)) => Ok(Ok(Session {
                client,
                driver: tokio::spawn(connection),
            })),
            Err(e) => match error::refused_login(&e) {
                Some(answer) => Ok(Err(answer)),
                None => Err(error::of(&e, Does::Connect, tried)),
            },
        }
    }

    /// Says good-bye, so that the server's log holds no broken connection of ours.
    pub(super) async fn close(self) {
        drop(self.client);
        // How it ends concerns nobody any more: each answer was read already. A server that does not hang up is left alone.
        let _ = tokio::time::timeout(GOODBYE, self.driver).await;
    }
}

fn config(
    server: &Server,
    login: &Login,
    kind: Kind,
    tried: Tried<'_>,
) -> Result<Config, PortError> {
    // The library takes a path for a folder of sockets, which have no certificate.
    if server.host.is_empty() || server.host.starts_with(['/', '@']) {
        let detail = "a server needs a host name: a local socket proves no identity";
        return Err(tried.failed(Cause::Local, detail));
    }
    let mut config = Config::new();
    config
        .host(&server.host)
        .port(server.port)
        .dbname(&server.database)
        .user(&login.role)
        .password(login.password.expose_secret())
        .application_name("firebreak")
        .ssl_mode(SslMode::Require)
        .channel_binding(ChannelBinding::Prefer)
        .target_session_attrs(TargetSessionAttrs::Any)
        .connect_timeout(CONNECT);
    if kind == Kind::Admin {
        config.options(ADMIN);
    }
    Ok(config)
}

fn tls(server: &Server, tried: Tried<'_>) -> Result<ClientConfig, PortError> {
    let roots = match &server.ca_file {
        Some(path) => of_file(path).map_err(|e| {
            let detail = format!("the authorities in `{path}` cannot be read: {e}");
            tried.failed(Cause::Local, &detail)
        })?,
        None => of_system(),
    };
    if roots.is_empty() {
        let detail = match &server.ca_file {
            Some(path) => format!("`{path}` holds no certificate"),
            None => "the system trusts no authority; name the server's with `ca_file`".to_owned(),
        };
        return Err(tried.failed(Cause::Local, &detail));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| tried.failed(Cause::Local, &e.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn of_file(path: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let found = CertificateDer::pem_file_iter(path).map_err(|e| e.to_string())?;
    for certificate in found {
        let certificate = certificate.map_err(|e| e.to_string())?;
        roots.add(certificate).map_err(|e| e.to_string())?;
    }
    Ok(roots)
}

/// Read once: it takes some ten milliseconds.
fn of_system() -> RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots
    });
    roots.clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::Secret;

    fn server(host: &str, ca_file: Option<&str>) -> Server {
        Server {
            host: host.into(),
            port: 5432,
            database: "shop".into(),
            ca_file: ca_file.map(str::to_owned),
        }
    }

    fn login() -> Login {
        Login {
            role: "shop".into(),
            password: Secret::new("Planted4Password".into()),
        }
    }

    #[test]
    fn every_connection_demands_tls_and_a_host_that_can_have_a_certificate() {
        let here = server("db.internal", None);
        let tried = Tried::new("log in to", &here);
        for kind in [Kind::Admin, Kind::Plain] {
            let config = config(&here, &login(), kind, tried).expect("a host");
            assert_eq!(config.get_ssl_mode(), SslMode::Require);
            assert_ne!(config.get_channel_binding(), ChannelBinding::Disable);
            assert_eq!(config.get_options().is_some(), kind == Kind::Admin);
        }
        for host in ["", "/run/postgresql", "@socket"] {
            let e = config(&server(host, None), &login(), Kind::Plain, tried).expect_err("refused");
            assert_eq!(e.cause, Cause::Local, "{host}");
        }
    }

    #[test]
    fn an_authority_that_cannot_be_read_is_named() {
        let here = server("db.internal", Some("/nonexistent/ca.pem"));
        let e = tls(&here, Tried::new("log in to", &here)).expect_err("missing");
        assert!(
            e.cause == Cause::Local && e.detail.contains("/nonexistent/ca.pem"),
            "{e}"
        );
    }
}
