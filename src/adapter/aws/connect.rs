//! Reaching an account: who we are there, and its ports.

use std::sync::{Arc, OnceLock};

use aws_config::SdkConfig;

use super::cloud::AwsCloud;
use super::config::{self, Options, Pace};
use super::hygiene;
use super::lease::BucketLeases;
use super::rate::Rates;
use super::sts::Spacing;
use super::vault::AwsVault;
use super::wire::{Watch, Wire};
use crate::adapter::store::FolderLeases;
use crate::port::{CallerIdentity, Cloud, Leases, PortError, Vault};

/// What all ports of one connection share.
pub(super) struct Inner {
    pub(super) wire: Wire,
    pub(super) iam: aws_sdk_iam::Client,
    pub(super) sts: aws_sdk_sts::Client,
    pub(super) secrets: aws_sdk_secretsmanager::Client,
    pub(super) trail: aws_sdk_cloudtrail::Client,
    pub(super) account: aws_sdk_account::Client,
    pub(super) s3: aws_sdk_s3::Client,
    /// What probes build their own clients of.
    pub(super) sdk: SdkConfig,
    pub(super) watch: Watch,
    pub(super) spacing: Spacing,
    pub(super) run: String,
    pub(super) regions: Vec<String>,
}

/// An account that answered.
pub struct Aws {
    /// Users, keys, policies, sessions, the trail.
    pub cloud: Arc<dyn Cloud>,
    /// Its secrets in the configured region.
    pub vault: Arc<dyn Vault>,
    /// Who else rotates here.
    pub leases: Arc<dyn Leases>,
    /// Who we are.
    pub identity: CallerIdentity,
    /// Where the account answered, for people.
    pub endpoint: String,
    /// The configured region.
    pub region: String,
    /// Budgets and counters.
    pub rates: Arc<Rates>,
    /// The server's clock minus ours, in seconds.
    pub offset_s: Option<i64>,
}

impl Aws {
    /// `account 123456789012 in eu-west-1, as arn:…, at https://…`
    pub fn place(&self) -> String {
        format!(
            "account {} in {}, as {}, at {}",
            self.identity.account, self.region, self.identity.arn, self.endpoint
        )
    }
}

/// Prepares the clients and asks who we are.
///
/// # Errors
/// `Local` where the configuration is not complete or secrets would be logged; `Refused` without valid credentials; `Unreachable`. Each says
/// what to do.
pub async fn connect(options: Options) -> Result<Aws, PortError> {
    hygiene::check()?;
    let sdk = config::load(&options).await?;
    let region = sdk.region().map(ToString::to_string).unwrap_or_default();
    let rates = match &options.pace {
        Pace::Budgets(rates) => Arc::clone(rates),
        Pace::Unbounded => Rates::unbounded(),
    };
    let watch = Watch {
        loopback_only: rates.is_unbounded(),
    };
    let wire = Wire {
        rates: Arc::clone(&rates),
        region: region.clone(),
        deadline: options.deadline,
        account: OnceLock::new(),
    };
    let inner = Arc::new(clients(sdk, wire, watch, &options));
    let (answer, look) = inner.who().await?;
    let offset_s = answer
        .server_date
        .map(|at| (at - chrono::Utc::now()).num_seconds());
    _ = inner.wire.account.set(answer.value.account.clone());
    let leases: Arc<dyn Leases> = match options.lease_bucket {
        Some((bucket, prefix)) => Arc::new(BucketLeases::new(Arc::clone(&inner), bucket, prefix)),
        None => Arc::new(FolderLeases::new(options.lease_folder)),
    };
    Ok(Aws {
        cloud: Arc::new(AwsCloud(Arc::clone(&inner))),
        vault: Arc::new(AwsVault(Arc::clone(&inner))),
        leases,
        identity: answer.value,
        endpoint: look.endpoint().unwrap_or_default(),
        region,
        rates,
        offset_s,
    })
}

/// Clients without retries that note what passes.
fn clients(sdk: SdkConfig, wire: Wire, watch: Watch, options: &Options) -> Inner {
    macro_rules! client {
        ($service:ident) => {
            $service::Client::from_conf(
                $service::config::Builder::from(&sdk)
                    .retry_config(config::no_retries())
                    .interceptor(watch)
                    .build(),
            )
        };
    }
    // A server of one's own has no name for each bucket.
    let own_server =
        sdk.endpoint_url().is_some() || config::variable("AWS_ENDPOINT_URL_S3").is_some();
    let s3 = aws_sdk_s3::config::Builder::from(&sdk)
        .retry_config(config::no_retries())
        .force_path_style(own_server)
        .interceptor(watch)
        .build();
    Inner {
        wire,
        iam: client!(aws_sdk_iam),
        sts: client!(aws_sdk_sts),
        secrets: client!(aws_sdk_secretsmanager),
        trail: client!(aws_sdk_cloudtrail),
        account: client!(aws_sdk_account),
        s3: aws_sdk_s3::Client::from_conf(s3),
        watch,
        spacing: Spacing::default(),
        run: options.run.clone(),
        regions: options.regions.clone(),
        sdk,
    }
}
