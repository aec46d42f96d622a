//! The cloud account a command rotates in, and the rule that an incident never changes its account.

use std::path::Path;
use std::sync::Arc;

use crate::adapter::aws::{self, Aws, Options, Pace, Rates, hygiene};
use crate::adapter::postgres::PostgresServers;
use crate::custody::Custody;
use crate::incident::body::{Target, TargetAdded};
use crate::incident::{Draft, History, kind};
use crate::playbook::model::{Kind, Playbook};
use crate::port::{
    BreakGlassPath, Cause, Estate, FingerprintKey, Ledger as _, PortError, Workloads,
};

use super::cluster::targets;
use super::error::CliError;
use super::exit::Exit;
use super::session::Session;

/// Which account.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct AccountArgs {
    /// AWS profile; else the configuration, then as every AWS tool finds it
    #[arg(long)]
    pub profile: Option<String>,
    /// AWS region of the secret store
    #[arg(long)]
    pub region: Option<String>,
    /// Endpoint in place of AWS itself
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
}

/// Variables that name an account for every AWS tool.
const VARIABLES: [&str; 7] = [
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_ACCESS_KEY_ID",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
];

/// Whether anything here names an account. Without it nothing is sent anywhere, not even to instance metadata.
pub fn is_configured(session: &Session, args: &AccountArgs) -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty());
    let file = |variable: &str, usual: &str| {
        let named = std::env::var_os(variable).filter(|v| !v.is_empty());
        let home = std::env::var_os("HOME").filter(|v| !v.is_empty());
        let usual = home.map(|h| Path::new(&h).join(usual));
        named.map(Into::into).or(usual).is_some_and(|p| p.is_file())
    };
    args.profile.is_some()
        || !session.config.aws_profile.value.is_empty()
        || VARIABLES.iter().any(|name| set(name))
        || file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials")
        || file("AWS_CONFIG_FILE", ".aws/config")
}

/// What a run of a playbook works on besides the cluster: the account, where the incident is bound to one or one is at hand.
///
/// # Errors
/// When the account does not answer, or is another than the incident's.
pub async fn estate_of(
    session: &Session,
    custody: &Custody,
    workloads: Option<Arc<dyn Workloads>>,
) -> Result<Option<Estate>, CliError> {
    let args = AccountArgs::default();
    let history = custody.history()?;
    let bound = targets(&history)
        .iter()
        .any(|t| matches!(t, Target::Account { .. }));
    if !bound && !is_configured(session, &args) {
        return Ok(None);
    }
    let account = reach(session, &args).await?;
    account.bind(custody)?;
    let key = custody.fingerprint_key(session.random.as_ref())?;
    Ok(Some(account.estate(key, workloads)))
}

/// Whether a playbook holds an action that works in an account.
pub fn wants_account(playbook: &Playbook) -> bool {
    playbook.all_steps().iter().any(|s| {
        let action = match &s.kind {
            Kind::Call(call) | Kind::Check { call, .. } => call.action.as_str(),
            _ => return false,
        };
        action.starts_with("eradicate.")
            || ["contain.revoke_sessions", "acquire.cloud_trail"].contains(&action)
    })
}

/// An account that answered.
pub struct Account {
    /// Its ports and who we are there.
    pub aws: Aws,
    break_glass: Vec<BreakGlassPath>,
}

/// Connects and asks who we are.
///
/// # Errors
/// Where nothing names an account, it does not answer, or secrets would be logged.
pub async fn reach(session: &Session, args: &AccountArgs) -> Result<Account, CliError> {
    hygiene::check().map_err(refused)?;
    if !is_configured(session, args) {
        return Err(CliError::new(
            Exit::Usage,
            "FB3003",
            "this needs a cloud account and none is configured",
        )
        .hint("set AWS_PROFILE, or name one with --profile; firebreak doctor shows what is seen"));
    }
    let pace = match session.config.rate_start.value.as_str() {
        "unbounded" => Pace::Unbounded,
        _ => Pace::Budgets(Rates::careful()),
    };
    let aws = aws::connect(options(session, args, pace.clone()))
        .await
        .map_err(refused)?;
    let mut break_glass = Vec::new();
    for (profile, arn) in &session.config.break_glass.value {
        let path = Options {
            profile: Some(profile.clone()),
            ..options(session, args, pace.clone())
        };
        // A path that does not answer is found by the guard only if it is there to be asked: it is refused here, by its name.
        let path = aws::connect(path).await.map_err(|e| {
            CliError::new(
                Exit::Denied,
                "FB3007",
                format!("the emergency access `{profile}` does not answer: {e}"),
            )
            .hint("nothing is rotated while no way in is known to work; correct `break_glass`")
        })?;
        break_glass.push(BreakGlassPath {
            profile: profile.clone(),
            arn: arn.clone(),
            cloud: path.cloud,
        });
    }
    Ok(Account { aws, break_glass })
}

fn options(session: &Session, args: &AccountArgs, pace: Pace) -> Options {
    let config = &session.config;
    let pick = |flag: &Option<String>, set: &str| {
        flag.clone()
            .or_else(|| Some(set.to_owned()).filter(|v| !v.is_empty()))
    };
    let mut run = [0u8; 6];
    // Only a mark in the user agent, to tell our calls from others: without randomness it is the same for all.
    _ = session.random.fill(&mut run);
    let run: String = run.iter().map(|b| format!("{b:02x}")).collect();
    Options {
        profile: pick(&args.profile, &config.aws_profile.value),
        region: pick(&args.region, &config.aws_region.value),
        endpoint: pick(&args.endpoint, &config.aws_endpoint.value),
        pace,
        lease_bucket: lease_bucket(&config.lease_bucket.value),
        ..Options::of_run(&run, session.places.root.join("leases"))
    }
}

/// `BUCKET` or `BUCKET/PREFIX`.
pub fn lease_bucket(text: &str) -> Option<(String, String)> {
    let text = text.strip_prefix("s3://").unwrap_or(text);
    let (bucket, prefix) = text.split_once('/').unwrap_or((text, ""));
    (!bucket.is_empty()).then(|| (bucket.to_owned(), prefix.to_owned()))
}

fn refused(e: PortError) -> CliError {
    let exit = match e.cause {
        Cause::Refused => Exit::Denied,
        Cause::Throttled => Exit::TryAgain,
        Cause::Local => Exit::Usage,
        _ => Exit::Failed,
    };
    CliError::new(exit, "FB3007", e.to_string())
        .hint("firebreak doctor shows what it sees of the account; --profile, --region and --endpoint name another")
}

impl Account {
    /// What rotation works on, for an incident with this fingerprint key.
    pub fn estate(
        &self,
        fingerprint: FingerprintKey,
        workloads: Option<Arc<dyn Workloads>>,
    ) -> Estate {
        Estate {
            cloud: self.aws.cloud.clone(),
            vault: self.aws.vault.clone(),
            database: Arc::new(PostgresServers::new()),
            workloads,
            leases: self.aws.leases.clone(),
            fingerprint: Arc::new(fingerprint),
            break_glass: self.break_glass.clone(),
            loopback: is_loopback(&self.aws.endpoint),
        }
    }

    /// The account as an incident's target.
    pub fn target(&self) -> Target {
        Target::Account {
            account: self.aws.identity.account.clone(),
            region: self.aws.region.clone(),
            endpoint: self.aws.endpoint.clone(),
        }
    }

    /// Refuses another account than the incident's; says whether the incident knows this one. Nothing is written.
    ///
    /// # Errors
    /// When the incident is bound to another account.
    pub fn check(&self, history: &History) -> Result<bool, CliError> {
        let here = &self.aws.identity.account;
        let mut known = false;
        for target in targets(history) {
            let Target::Account { account, .. } = target else {
                continue;
            };
            if account != *here {
                return Err(CliError::new(
                    Exit::Stale,
                    "FB3006",
                    format!(
                        "{} answers, while {} is bound to account {account}; nothing was changed",
                        self.aws.place(),
                        history.incident
                    ),
                )
                .hint("choose that account with --profile, or open another incident: firebreak incident open TITLE"));
            }
            known = true;
        }
        Ok(known)
    }

    /// Binds an incident to the account, once.
    ///
    /// # Errors
    /// When it is bound to another, or the ledger refuses.
    pub fn bind(&self, custody: &Custody) -> Result<(), CliError> {
        if !self.check(&custody.history()?)? {
            let target = self.target();
            custody.ledger().append(vec![Draft::new(
                kind::TARGET_ADDED,
                &TargetAdded { target },
            )])?;
        }
        Ok(())
    }
}

/// True for an endpoint of this host.
fn is_loopback(endpoint: &str) -> bool {
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, r)| r);
    let host = rest.split('/').next().unwrap_or(rest);
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(v6),
        None => host.rsplit_once(':').map_or(host, |(h, _)| h),
    };
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_host_is_loopback() {
        for here in [
            "http://127.0.0.1:4566",
            "http://localhost:1/x",
            "https://[::1]:2",
        ] {
            assert!(is_loopback(here), "{here}");
        }
        for there in [
            "https://sts.eu-central-1.amazonaws.com/",
            "http://127.0.0.1.example.com:80",
            "http://10.0.0.1",
            "",
        ] {
            assert!(!is_loopback(there), "{there}");
        }
    }

    #[test]
    fn a_bucket_may_have_a_prefix() {
        assert_eq!(
            lease_bucket("s3://ops/leases/x"),
            Some(("ops".into(), "leases/x".into()))
        );
        assert_eq!(lease_bucket("ops"), Some(("ops".into(), String::new())));
        assert_eq!(lease_bucket(""), None);
    }
}
