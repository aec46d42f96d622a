//! Reaching a cluster: which kubeconfig, which context, and who answers there.

use std::path::PathBuf;
use std::sync::Arc;

use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use super::KubeCluster;
use super::error::clean;
use super::wire::{CONNECT, Wire};
use crate::port::{Cause, Cluster, PortError, Workloads};

const TRIED: &str = "connect to the cluster of context";

/// Which cluster is meant. Everything that is not given comes from the kubeconfig.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectOptions {
    /// File; else `$KUBECONFIG`, else `~/.kube/config`, else the account of the pod that we run in.
    pub kubeconfig: Option<PathBuf>,
    /// Context; else the current one.
    pub context: Option<String>,
    /// Namespace; else the context's.
    pub namespace: Option<String>,
}

/// A cluster that can be talked to. Nothing was sent yet: [`identity`](crate::port::ClusterView::identity) is the first
/// question to ask.
#[derive(Clone)]
pub struct Connected {
    /// Its four ports.
    pub cluster: Cluster,
    /// Its workloads and the Secrets that they read from.
    pub workloads: Arc<dyn Workloads>,
    /// Context name; `in-cluster` for a pod's own account.
    pub context: String,
    /// API server URL.
    pub server: String,
    /// Namespace for names that have none.
    pub namespace: String,
}

/// Reads the configuration and prepares a client. Must be called inside a tokio runtime.
///
/// # Errors
/// `Local` where there is no kubeconfig, it cannot be read, or has no such context (the message names those that there are).
pub async fn connect(options: &ConnectOptions) -> Result<Connected, PortError> {
    let (mut config, context) = match kubeconfig(options)? {
        Some(file) => of_file(file, options).await?,
        None => (in_cluster()?, "in-cluster".to_owned()),
    };
    proxy(&mut config);
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = None;
    config.write_timeout = None;
    // Up to 15 repeats on 429, 503 and 504 otherwise, and a 504 may come after the effect.
    config.default_retry = false;
    let server = config.cluster_url.to_string();
    let namespace = options
        .namespace
        .clone()
        .unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config).map_err(|e| failed(&context, &e.to_string()))?;
    let cluster = KubeCluster {
        wire: Wire::new(client),
        context: context.clone(),
        server: server.clone(),
    };
    let (cluster, workloads) = cluster.into_ports();
    Ok(Connected {
        cluster,
        workloads,
        context,
        server,
        namespace,
    })
}

/// `HTTPS_PROXY` counts only where the kubeconfig names no proxy, and not for what `NO_PROXY` or loopback keeps away from it. The
/// library compares `NO_PROXY` with the proxy's own host, not with the server's, so that is decided here.
fn proxy(config: &mut Config) {
    let from_environment = ["HTTPS_PROXY", "https_proxy"]
        .iter()
        .filter_map(|name| std::env::var(name).ok())
        .find(|value| !value.is_empty())
        .and_then(|value| value.parse::<hyper::Uri>().ok());
    let Some(proxy) = from_environment else {
        return;
    };
    // A kubeconfig that names the same proxy as the environment means the same thing.
    if config.proxy_url.as_ref().is_some_and(|used| *used != proxy) {
        return;
    }
    let without = ["NO_PROXY", "no_proxy"]
        .iter()
        .filter_map(|name| std::env::var(name).ok());
    let list = without.collect::<Vec<_>>().join(",");
    let host = config.cluster_url.host().unwrap_or_default();
    config.proxy_url = (!is_direct(host, &list)).then_some(proxy);
}

/// True for loopback and for a host that a `NO_PROXY` list names: by name, by a domain above it, by address or by CIDR.
fn is_direct(host: &str, list: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let address = host.parse::<std::net::IpAddr>().ok();
    if host == "localhost" || address.is_some_and(|a| a.is_loopback()) {
        return true;
    }
    list.split(',')
        .map(str::trim)
        .filter(|e| !e.is_empty())
        .any(|entry| {
            if let (Some(address), Some((net, bits))) = (address, entry.split_once('/')) {
                return in_block(address, net, bits);
            }
            let domain = entry.trim_start_matches("*.").trim_start_matches('.');
            entry == "*"
                || host == domain
                || host
                    .strip_suffix(domain)
                    .is_some_and(|rest| rest.ends_with('.'))
        })
}

fn in_block(address: std::net::IpAddr, net: &str, bits: &str) -> bool {
    use std::net::IpAddr::{V4, V6};
    let (Ok(net), Ok(bits)) = (net.parse(), bits.parse::<u32>()) else {
        return false;
    };
    let (a, b, width) = match (address, net) {
        (V4(a), V4(b)) => (u128::from(a.to_bits()), u128::from(b.to_bits()), 32),
        (V6(a), V6(b)) => (a.to_bits(), b.to_bits(), 128),
        _ => return false,
    };
    bits <= width && (bits == 0 || (a ^ b) >> (width - bits) == 0)
}

fn failed(context: &str, detail: &str) -> PortError {
    PortError::new(Cause::Local, TRIED, clean(context), clean(detail))
}

/// The kubeconfig that was named or is found; `None` = use the pod's own account.
fn kubeconfig(options: &ConnectOptions) -> Result<Option<Kubeconfig>, PortError> {
    let wanted = options.context.as_deref().unwrap_or("(current)");
    if let Some(path) = &options.kubeconfig {
        return Kubeconfig::read_from(path)
            .map(Some)
            .map_err(|e| failed(wanted, &e.to_string()));
    }
    match Kubeconfig::read() {
        Ok(found) => Ok(Some(found)),
        Err(KubeconfigError::FindPath) => Ok(None),
        Err(KubeconfigError::ReadConfig(e, path)) if e.kind() == std::io::ErrorKind::NotFound => {
            if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
                return Ok(None);
            }
            let detail = format!(
                "there is no kubeconfig at `{}`; name one with --kubeconfig or KUBECONFIG",
                path.display()
            );
            Err(failed(wanted, &detail))
        }
        Err(e) => Err(failed(wanted, &e.to_string())),
    }
}

fn in_cluster() -> Result<Config, PortError> {
    Config::incluster().map_err(|e| {
        let detail = format!("there is no kubeconfig, and no account of a pod either: {e}");
        failed("in-cluster", &detail)
    })
}

async fn of_file(
    file: Kubeconfig,
    options: &ConnectOptions,
) -> Result<(Config, String), PortError> {
    let context = options.context.clone().or(file.current_context.clone());
    let there: Vec<String> = file.contexts.iter().map(|c| c.name.clone()).collect();
    let known = known_contexts(&there);
    let Some(context) = context.filter(|c| !c.is_empty()) else {
        let detail = format!("the kubeconfig has no current context; {known}");
        return Err(failed("(current)", &detail));
    };
    if !there.contains(&context) {
        return Err(failed(
            &context,
            &format!("the kubeconfig has no such context; {known}"),
        ));
    }
    let choice = KubeConfigOptions {
        context: Some(context.clone()),
        ..KubeConfigOptions::default()
    };
    let config = Config::from_custom_kubeconfig(file, &choice)
        .await
        .map_err(|e| failed(&context, &e.to_string()))?;
    Ok((config, context))
}

fn known_contexts(names: &[String]) -> String {
    match names {
        [] => "it has none at all".to_owned(),
        names => format!("there are: {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Kubeconfig {
        Kubeconfig::from_yaml(text).expect("a kubeconfig")
    }

    const TWO: &str = "
apiVersion: v1
kind: Config
current-context: a
clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]
users: [{name: u, user: {}}]
contexts:
- {name: a, context: {cluster: c, user: u, namespace: shop}}
- {name: b, context: {cluster: c, user: u}}
";

    #[tokio::test]
    async fn an_unknown_context_names_those_that_there_are() {
        let options = ConnectOptions {
            context: Some("prod".into()),
            ..ConnectOptions::default()
        };
        let e = of_file(file(TWO), &options).await.expect_err("unknown");
        assert!(
            e.to_string().contains("`prod`") && e.detail.contains("there are: a, b"),
            "{e}"
        );
    }

    #[tokio::test]
    async fn a_plain_http_server_and_the_contexts_namespace_are_taken() {
        let (config, context) = of_file(file(TWO), &ConnectOptions::default())
            .await
            .expect("known");
        assert_eq!(
            (context.as_str(), config.default_namespace.as_str()),
            ("a", "shop")
        );
        assert_eq!(config.cluster_url.to_string(), "http://127.0.0.1:1/");
    }

    #[test]
    fn a_proxy_of_the_environment_is_not_used_for_what_is_kept_away_from_it() {
        for (host, list, direct) in [
            ("127.0.0.1", "", true),
            ("[::1]", "", true),
            ("api.corp.example", "example.org, corp.example", true),
            ("api.corp.example", ".corp.example", true),
            ("notcorp.example", "corp.example", false),
            ("10.1.2.3", "10.0.0.0/8", true),
            ("11.1.2.3", "10.0.0.0/8", false),
            ("11.1.2.3", "*", true),
            ("api.example", "", false),
        ] {
            assert_eq!(is_direct(host, list), direct, "{host} {list}");
        }
    }

    #[tokio::test]
    async fn a_missing_file_is_named() {
        let options = ConnectOptions {
            kubeconfig: Some("/nonexistent/kubeconfig".into()),
            ..ConnectOptions::default()
        };
        let e = connect(&options).await.err().expect("missing");
        assert!(
            e.cause == Cause::Local && e.detail.contains("/nonexistent/kubeconfig"),
            "{e}"
        );
    }
}
