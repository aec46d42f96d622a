//! `contain.list_credentials`: what a pod could use, names only, handed to rotation.
//!
//! *Effect*: reads; one entry a pod in the ledger. No secret value is read, no right on secrets is needed.
//! *Undo*: none is needed.
//! *What it disturbs*: nothing.
//! *Permissions*: pods and serviceaccounts get/list.
//! *Cost and time*: one snapshot.
//! *Source*: <https://kubernetes.io/docs/concepts/configuration/secret/>

use std::collections::BTreeMap;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::action::registry::{ActionSpec, RightSpec, Sample, UndoSpec, Use, check_as};
use crate::action::{Action, ActionError, Applied, Context, Observed, Preview};
use crate::incident::body::Credentials;
use crate::incident::{Draft, Effect, Phase, kind};
use crate::reach::cluster::{ClusterSnapshot, Pod};

use super::isolate_workload::LOOK_RIGHTS;
use super::naming::{args, pod_ref};
use super::preview::{account, bind_cluster, cloud_role};
use super::targets::{Named, find, snapshot};

/// Arguments of `contain.list_credentials`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialsArgs {
    /// Namespace of the pods.
    pub namespace: String,
    /// Name of the pod.
    #[serde(default)]
    pub pod: Option<String>,
    /// Label selector, instead of a name.
    #[serde(default)]
    pub selector: Option<String>,
}

static RIGHTS: [RightSpec; 12] = LOOK_RIGHTS;

static SPEC: ActionSpec = ActionSpec {
    name: "contain.list_credentials",
    about: "Lists the service account, cloud role and secrets that a pod could use, by name, for rotation.",
    effect: Effect::Read,
    phase: Phase::Containment,
    uses: &[Use::Call, Use::Check],
    args_schema: || schemars::schema_for!(CredentialsArgs),
    check_args: check_as::<CredentialsArgs>,
    undo: UndoSpec::None("it only reads"),
    result: &[
        ("service_accounts", Sample::Texts),
        ("role_arns", Sample::Texts),
        ("secrets", Sample::Texts),
    ],
    rights: &RIGHTS,
    exhibit: None,
    volatility: None,
    disturbs: 0,
    timeout_s: 30,
};

/// Lists credentials.
pub struct ListCredentials;

#[async_trait]
impl Action for ListCredentials {
    fn spec(&self) -> &'static ActionSpec {
        &SPEC
    }

    async fn preview(&self, cx: &Context, value: &Value) -> Result<Preview, ActionError> {
        let args: CredentialsArgs = args(value)?;
        let mut preview = Preview {
            undo: "it only reads".into(),
            cannot: vec![
                "what RBAC lets the account read elsewhere, and tokens already issued, are not listed".into(),
            ],
            ..Preview::default()
        };
        let cluster = cx.cluster()?;
        bind_cluster(cluster, &mut preview).await?;
        for pod in find(cluster, &named(&args)).await? {
            preview
                .binding
                .insert(format!("pod {}", pod.id()), pod.uid.clone());
        }
        Ok(preview)
    }

    async fn apply(&self, cx: &Context, value: &Value) -> Result<Applied, ActionError> {
        let args: CredentialsArgs = args(value)?;
        let cluster = cx.cluster()?;
        let recorded = of_step(cx)?;
        if !recorded.is_empty() {
            return Ok(answer(&recorded));
        }
        let pods = find(cluster, &named(&args)).await?;
        let world = snapshot(cluster).await?;
        let listed: Vec<Credentials> = pods.iter().map(|p| credentials(&world, p)).collect();
        let drafts = listed
            .iter()
            .map(|c| Draft::new(kind::CREDENTIALS_LISTED, c).about(cx.refs()))
            .collect();
        cx.ledger.append(drafts)?;
        Ok(answer(&listed))
    }

    async fn observe(&self, cx: &Context, _: &Value) -> Result<Observed, ActionError> {
        let listed = of_step(cx)?;
        Ok(if listed.is_empty() {
            Observed::NotDone
        } else {
            Observed::Done(answer(&listed))
        })
    }
}

fn named(args: &CredentialsArgs) -> Named {
    Named {
        namespace: args.namespace.clone(),
        pod: args.pod.clone(),
        selector: args.selector.clone(),
        uid: None,
    }
}

/// What this attempt of the step listed already.
fn of_step(cx: &Context) -> Result<Vec<Credentials>, ActionError> {
    let history = cx.ledger.history()?;
    let mine = history
        .bodies::<Credentials>(kind::CREDENTIALS_LISTED)
        .filter(|(e, _)| e.refs == cx.refs())
        .map(|(_, c)| c)
        .collect();
    Ok(mine)
}

fn credentials(world: &ClusterSnapshot, pod: &Pod) -> Credentials {
    let account = account(world, &pod.namespace, &pod.service_account);
    let mut secrets: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for secret in &pod.secrets {
        let how = secrets.entry(secret.name.clone()).or_default();
        if !how.contains(&secret.how) {
            how.push(secret.how.clone());
        }
    }
    for name in account.iter().flat_map(|a| &a.image_pull_secrets) {
        let how = secrets.entry(name.clone()).or_default();
        how.push("imagePullSecret of the account".into());
    }
    Credentials {
        pod: pod_ref(pod),
        service_account: pod.service_account.clone(),
        role_arn: account.and_then(cloud_role),
        secrets,
    }
}

fn answer(listed: &[Credentials]) -> Applied {
    let mut accounts: Vec<&str> = listed.iter().map(|c| c.service_account.as_str()).collect();
    let mut roles: Vec<&str> = listed
        .iter()
        .filter_map(|c| c.role_arn.as_deref())
        .collect();
    let mut secrets: Vec<&str> = listed
        .iter()
        .flat_map(|c| c.secrets.keys())
        .map(String::as_str)
        .collect();
    for list in [&mut accounts, &mut roles, &mut secrets] {
        list.sort_unstable();
        list.dedup();
    }
    Applied {
        summary: format!(
            "{} service account(s), {} cloud role(s), {} secret(s) to rotate",
            accounts.len(),
            roles.len(),
            secrets.len()
        ),
        result: json!({"service_accounts": accounts, "role_arns": roles, "secrets": secrets, "pods": listed}),
    }
}
