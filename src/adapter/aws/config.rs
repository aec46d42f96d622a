//! Which account, as whom, where and how fast: everything AWS users expect of a tool, and a few things of our own.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{self, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::http::{
    HttpConnectorSettings, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use super::rate::Rates;
use crate::adapter::kube::clean;
use crate::port::{Cause, PortError, Signer};

/// A call without an answer is given up after this.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);
const CONNECT: Duration = Duration::from_secs(5);
const TRIED: &str = "prepare a connection to";
/// Name of a session: at most this long.
const SESSION_MAX: usize = 64;

/// A role to go through, with the credentials of the step before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hop {
    /// ARN of the role.
    pub role: String,
    /// External id, where its trust policy asks for one.
    pub external_id: Option<String>,
}

/// How fast to call.
#[derive(Debug, Clone)]
pub enum Pace {
    /// With these budgets. Give the same to every connection of the process.
    Budgets(Arc<Rates>),
    /// As fast as it goes: only for servers on this host.
    Unbounded,
}

/// What to connect to. What is not given is found as every AWS tool finds it: `AWS_*` variables, the profile, single sign-on, the role of
/// the instance or pod; `AWS_ENDPOINT_URL` and those of single services; `AWS_CA_BUNDLE`; `HTTPS_PROXY`.
pub struct Options {
    /// Profile.
    pub profile: Option<String>,
    /// Region; else `AWS_REGION` or the profile's.
    pub region: Option<String>,
    /// One endpoint for all services.
    pub endpoint: Option<String>,
    /// Credentials that were handed over, in place of all that could be found.
    pub signer: Option<Signer>,
    /// Roles to go through, the last of them in the account that is meant.
    pub hops: Vec<Hop>,
    /// Id of the run: in the user agent and in session names, so that the trail tells our calls from others.
    pub run: String,
    /// How fast.
    pub pace: Pace,
    /// How long a call may take.
    pub deadline: Duration,
    /// Regions to work in, where they may not be asked for.
    pub regions: Vec<String>,
    /// Certificates (PEM) to trust in place of the system's; else `AWS_CA_BUNDLE`.
    pub ca_file: Option<PathBuf>,
    /// Bucket, and what its keys begin with, that keeps the leases. `None` = `lease_folder`.
    pub lease_bucket: Option<(String, String)>,
    /// Folder of this host that keeps leases when there is no bucket.
    pub lease_folder: PathBuf,
}

impl Options {
    /// Everything as it is found, with leases in this folder.
    pub fn of_run(run: &str, lease_folder: PathBuf) -> Self {
        Options {
            profile: None,
            region: None,
            endpoint: None,
            signer: None,
            hops: Vec::new(),
            run: run.to_owned(),
            pace: Pace::Budgets(Rates::careful()),
            deadline: DEADLINE,
            regions: Vec::new(),
            ca_file: None,
            lease_bucket: None,
            lease_folder,
        }
    }
    /// What people call it: the profile, or `the environment`.
    pub(super) fn name(&self) -> String {
        let named = self.profile.clone().or_else(|| variable("AWS_PROFILE"));
        named.map_or_else(
            || "the environment's account".into(),
            |p| format!("profile {p}"),
        )
    }
    fn failed(&self, detail: &str) -> PortError {
        PortError::new(Cause::Local, TRIED, clean(&self.name()), clean(detail))
    }
}

/// A variable of the environment that is not empty.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

/// Reads files and environment. Nothing is sent, except where a role or single sign-on must be asked for the region.
///
/// The credentials' own sources keep the SDK's retries: they only ask. Clients switch theirs off.
pub(super) async fn load(options: &Options) -> Result<SdkConfig, PortError> {
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT).build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http_client(options)?)
        .app_name(app_name(&options.run))
        .timeout_config(timeouts);
    if let Some(profile) = &options.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(region) = &options.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(endpoint) = &options.endpoint {
        loader = loader.endpoint_url(checked(endpoint).map_err(|e| options.failed(&e))?);
    }
    if let Some(signer) = &options.signer {
        loader = loader.credentials_provider(credentials(signer));
    }
    let config = loader.load().await;
    if config.region().is_none() {
        return Err(options.failed(
            "no region is set; set AWS_REGION, give the profile a `region`, or name one here",
        ));
    }
    through(options, config).await
}

/// Goes through the roles, one after the other.
async fn through(options: &Options, mut config: SdkConfig) -> Result<SdkConfig, PortError> {
    for hop in &options.hops {
        let provider = config
            .credentials_provider()
            .ok_or_else(|| options.failed("there are no credentials to assume a role with"))?;
        let mut role = AssumeRoleProvider::builder(&hop.role)
            .session_name(session_name(&options.run))
            .configure(&config);
        if let Some(id) = &hop.external_id {
            role = role.external_id(id);
        }
        let provider = SharedCredentialsProvider::new(role.build_from_provider(provider).await);
        config = config.to_builder().credentials_provider(provider).build();
    }
    Ok(config)
}

/// An endpoint must be a URL with a host: a typing error would otherwise be told as a lost connection.
fn checked(endpoint: &str) -> Result<String, String> {
    let url: hyper::Uri = endpoint
        .parse()
        .map_err(|_| format!("the endpoint `{endpoint}` is not a URL"))?;
    if url.host().is_none() || !matches!(url.scheme_str(), Some("http" | "https")) {
        return Err(format!(
            "the endpoint `{endpoint}` must begin with https:// or http://"
        ));
    }
    if url.scheme_str() == Some("http") && !super::wire::is_loopback(endpoint) {
        return Err(format!(
            "the endpoint `{endpoint}` is not encrypted, and new secrets would cross the network in clear; use https://"
        ));
    }
    Ok(endpoint.to_owned())
}

/// What a probe or a test signs with.
pub(super) fn credentials(signer: &Signer) -> Credentials {
    Credentials::new(
        &signer.id,
        signer.secret.expose_secret(),
        signer.token.as_ref().map(|t| t.expose_secret().to_owned()),
        None,
        "firebreak",
    )
}

/// `firebreak-<run>` with what a user agent may not hold left out.
fn app_name(run: &str) -> AppName {
    let name: String = format!("firebreak-{run}")
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "-._+".contains(*c))
        .take(50)
        .collect();
    AppName::new(name).expect("letters, digits and -._+ only")
}

/// `firebreak-<run>`, as a session name may be.
pub(super) fn session_name(run: &str) -> String {
    format!("firebreak-{run}")
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "-._=,@+".contains(*c))
        .take(SESSION_MAX)
        .collect()
}

/// No repeats by the SDK: it would mint a second access key after a timeout.
pub(super) fn no_retries() -> RetryConfig {
    RetryConfig::disabled()
}

type Connectors = Mutex<Vec<((Option<Duration>, Option<Duration>), SharedHttpConnector)>>;

/// One HTTP client for all services and probes: rustls with ring, the system's roots or the named ones, the proxy of the environment.
fn http_client(options: &Options) -> Result<SharedHttpClient, PortError> {
    let context = TlsContext::builder()
        .with_trust_store(trust(options)?)
        .build()
        .map_err(|e| options.failed(&e.to_string()))?;
    let proxy = proxy().map_err(|e| options.failed(&e))?;
    // Each service asks for a connector; they share one, and so its connections. Those who ask instance metadata have shorter timeouts.
    let made: Connectors = Mutex::new(Vec::new());
    Ok(http_client_fn(move |settings, _| {
        let key = (settings.connect_timeout(), settings.read_timeout());
        let mut made = made.lock().unwrap_or_else(|e| e.into_inner());
        if let Some((_, connector)) = made.iter().find(|(k, _)| *k == key) {
            return connector.clone();
        }
        let connector = connector(settings, &context, &proxy);
        made.push((key, connector.clone()));
        connector
    }))
}

fn connector(
    settings: &HttpConnectorSettings,
    context: &TlsContext,
    proxy: &ProxyConfig,
) -> SharedHttpConnector {
    let ring = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
    let connector = Connector::builder()
        .connector_settings(settings.clone())
        .proxy_config(proxy.clone())
        .tls_provider(ring)
        .tls_context(context.clone())
        .build();
    SharedHttpConnector::new(connector)
}

/// As AWS tools read it: a bundle replaces the system's roots. It is parsed here, since the client would panic on a bad one.
fn trust(options: &Options) -> Result<TrustStore, PortError> {
    let file = options
        .ca_file
        .clone()
        .or_else(|| variable("AWS_CA_BUNDLE").map(PathBuf::from));
    let Some(path) = file else {
        return Ok(TrustStore::default());
    };
    let pem = bundle(&path).map_err(|e| {
        options.failed(&format!(
            "cannot read certificates from `{}`: {e}",
            path.display()
        ))
    })?;
    Ok(TrustStore::empty().with_pem_certificate(pem))
}

fn bundle(path: &Path) -> Result<Vec<u8>, String> {
    let pem = std::fs::read(path).map_err(|e| e.to_string())?;
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        certificate.map_err(|e| e.to_string())?;
        count += 1;
    }
    if count == 0 {
        return Err("there is none in it".into());
    }
    Ok(pem)
}

/// `HTTPS_PROXY`, never for this host and never for instance metadata, which is asked in clear.
fn proxy() -> Result<ProxyConfig, String> {
    let Some(url) = variable("HTTPS_PROXY").or_else(|| variable("https_proxy")) else {
        return Ok(ProxyConfig::disabled());
    };
    let without = variable("NO_PROXY").or_else(|| variable("no_proxy"));
    let rules = format!("localhost,127.0.0.1,::1,{}", without.unwrap_or_default());
    let proxy = ProxyConfig::https(url).map_err(|_| "HTTPS_PROXY is not a URL".to_owned())?;
    Ok(proxy.no_proxy(rules))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_off_this_host_must_be_encrypted() {
        assert!(checked("http://127.0.0.1:4566").is_ok());
        assert!(checked("https://sts.example.com").is_ok());
        for wrong in [
            "http://sts.example.com",
            "sts.example.com",
            "ftp://x",
            "https://",
        ] {
            assert!(checked(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_run_is_in_the_user_agent_and_in_session_names() {
        assert_eq!(app_name("run-1/ü").to_string(), "firebreak-run-1");
        let name = session_name(&"r".repeat(200));
        assert!(name.starts_with("firebreak-rrr") && name.len() == SESSION_MAX);
    }

    #[test]
    fn a_bundle_without_certificates_is_refused_and_named() {
        let mut options = Options::of_run("r", PathBuf::new());
        options.ca_file = Some(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml").into());
        let e = trust(&options).expect_err("no certificate");
        assert!(e.to_string().contains("Cargo.toml"), "{e}");
    }
}
