//! The cluster a command talks to, and the rule that an incident never changes its cluster.

use crate::adapter::kube::{ConnectOptions, Connected, connect};
use crate::custody::Custody;
use crate::incident::body::{Target, TargetAdded};
use crate::incident::{Draft, History, kind};
use crate::port::{Cause, ClusterIdentity, Ledger as _, PortError};

use super::error::CliError;
use super::exit::Exit;
use super::session::Session;

/// Which cluster.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ClusterArgs {
    /// Kubeconfig file
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<std::path::PathBuf>,
    /// Context of the kubeconfig
    #[arg(long)]
    pub context: Option<String>,
    /// Namespace for names without one
    #[arg(long, short)]
    pub namespace: Option<String>,
}

/// A cluster that answered.
pub struct Answered {
    /// Its ports.
    pub connected: Connected,
    /// Who and where it is.
    pub identity: ClusterIdentity,
}

/// Connects and asks who it is.
///
/// # Errors
/// When there is no configuration, no answer, or no right to look.
pub async fn reach(session: &Session, args: &ClusterArgs) -> Result<Answered, CliError> {
    let set = |value: &str| Some(value.to_owned()).filter(|v| !v.is_empty());
    let options = ConnectOptions {
        kubeconfig: args
            .kubeconfig
            .clone()
            .or_else(|| set(&session.config.kubeconfig.value).map(Into::into)),
        context: args
            .context
            .clone()
            .or_else(|| set(&session.config.context.value)),
        namespace: args.namespace.clone(),
    };
    let connected = connect(&options).await.map_err(|e| {
        let error = CliError::from(e);
        CliError {
            code: "FB1208",
            exit: Exit::Usage,
            ..error
        }
        .hint("name a file with --kubeconfig and a context with --context")
    })?;
    let identity = connected
        .cluster
        .view
        .identity()
        .await
        .map_err(unanswered)?;
    Ok(Answered {
        connected,
        identity,
    })
}

/// Asking changes nothing: a reply that was lost on the way leaves nothing in doubt, the server was not reached.
fn unanswered(e: PortError) -> CliError {
    let cause = match e.cause {
        Cause::LostReply | Cause::Timeout => Cause::Unreachable,
        other => other,
    };
    CliError::from(PortError { cause, ..e })
}

/// Connects to the cluster that an incident is bound to: taken from its ledger, never from the current context.
///
/// # Errors
/// As [`reach`]; another cluster behind the same name is refused.
pub async fn reach_bound(
    session: &Session,
    history: &History,
    args: &ClusterArgs,
) -> Result<Option<Answered>, CliError> {
    let Some(Target::Cluster { context, .. }) = targets(history)
        .into_iter()
        .find(|t| matches!(t, Target::Cluster { .. }))
    else {
        return Ok(None);
    };
    let bound = ClusterArgs {
        context: Some(context).filter(|c| c != "in-cluster"),
        ..args.clone()
    };
    let answered = reach(session, &bound).await?;
    check(history, &answered.identity)?;
    Ok(Some(answered))
}

/// Every target of an incident, in order.
pub fn targets(history: &History) -> Vec<Target> {
    let opened = history
        .bodies::<crate::incident::body::LedgerOpened>(kind::LEDGER_OPENED)
        .flat_map(|(_, b)| b.targets);
    let added = history
        .bodies::<TargetAdded>(kind::TARGET_ADDED)
        .map(|(_, b)| b.target);
    opened.chain(added).collect()
}

/// Refuses another cluster than the incident's; says whether the incident knows this one. Nothing is written.
///
/// # Errors
/// When the context leads to another cluster now.
pub fn check(history: &History, identity: &ClusterIdentity) -> Result<bool, CliError> {
    let mut known = false;
    for target in targets(history) {
        let Target::Cluster {
            context,
            server,
            uid,
        } = target
        else {
            continue;
        };
        if uid == identity.uid {
            known = true;
        } else if context == identity.context {
            return Err(CliError::new(
                Exit::Stale,
                "FB1209",
                format!("context `{context}` leads to another cluster now: {} (kube-system {}), while {} is bound to {server} (kube-system {uid}); nothing was changed", identity.server, identity.uid, history.incident),
            )
            .hint(format!("point the context at {server} again, or open another incident: firebreak incident open TITLE")));
        }
    }
    Ok(known)
}

/// Binds an incident to a cluster, once.
///
/// # Errors
/// When another cluster answers behind the same context, or the ledger refuses.
pub fn bind(custody: &Custody, identity: &ClusterIdentity) -> Result<(), CliError> {
    if !check(&custody.history()?, identity)? {
        let target = Target::Cluster {
            context: identity.context.clone(),
            server: identity.server.clone(),
            uid: identity.uid.clone(),
        };
        custody.ledger().append(vec![Draft::new(
            kind::TARGET_ADDED,
            &TargetAdded { target },
        )])?;
    }
    Ok(())
}
