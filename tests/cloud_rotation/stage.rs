//! Users with keys in a double, a rotation plan over them, and an incident whose ledger it runs on.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use firebreak::action::eradicate::RotateCredentials;
use firebreak::action::{Action, ActionError, Applied, Context};
use firebreak::adapter::aws::{self, Options, Pace};
use firebreak::adapter::postgres::PostgresServers;
use firebreak::adapter::store::DirStore;
use firebreak::adapter::webhook::Messages;
use firebreak::custody::{Custody, OpenRequest};
use firebreak::incident::{Actor, IncidentId, Mode, RunId, StepPath};
use firebreak::port::{
    AccessKeySeen, CURRENT, Estate, FingerprintKey, HostClock, HostRandom, Ledger, PENDING, Ports,
    RunFiles as _,
};
use firebreak::rotation::binding;
use firebreak::rotation::plan::{AccessKey, Escrow, FORMAT, Item, RotationPlan, Waits, What};
use firebreak::rotation::words::{CredentialKind, RotationMode};
use serde_json::{Value, json};

use crate::support::aws::{AwsProxy, Client, Match, Options as ProxyOptions, Signer, xml};
use crate::support::doubles::{Double, REGION, Which, double, root};
use crate::support::own_folder;

const INCIDENT: &str = "INC-20261125-TEST";
const RUN: &str = "run-aaaaaaaaaaaaaaaa";

/// One test's world.
pub struct Stage {
    _double: Arc<Double>,
    pub proxy: AwsProxy,
    client: Client,
    pub users: Vec<String>,
    /// Each user's old key, with its secret.
    old: BTreeMap<String, Signer>,
    pub custody: Arc<Custody>,
    folder: PathBuf,
    estate: Estate,
    pub digest: String,
    /// What was said as progress.
    said: Arc<Mutex<String>>,
    /// The last call of the preparations.
    pub seeded: u64,
}

impl Stage {
    /// `count` users with one key each, whose value stands in a secret of theirs.
    pub async fn begin(test: &str, mode: RotationMode, count: usize) -> Option<Stage> {
        let double = double(Which::Ministack)?;
        let proxy = AwsProxy::start(ProxyOptions::before(double.address())).expect("free ports");
        let folder = own_folder("cloud-rotation").join(test);
        let _ = std::fs::remove_dir_all(&folder);
        let estate = estate(&proxy, &folder).await;
        let mut stage = Stage {
            _double: double,
            client: Client::new(proxy.address()).region(REGION),
            proxy,
            users: (0..count).map(|n| format!("{test}-{n}")).collect(),
            old: BTreeMap::new(),
            custody: incident(&folder),
            folder,
            estate,
            digest: String::new(),
            said: Arc::default(),
            seeded: 0,
        };
        let mut items = Vec::new();
        for (n, user) in stage.users.clone().iter().enumerate() {
            items.push(stage.seed(user, n, mode).await);
        }
        let plan = plan(items);
        let bytes = plan.canonical().expect("canonical");
        stage.digest = plan.digest().expect("a digest");
        let name = format!("{}.json", stage.digest);
        stage.custody.pin(&name, &bytes).expect("pinned");
        stage.seeded = stage.proxy.log().last().map_or(0, |c| c.number);
        Some(stage)
    }

    async fn seed(&mut self, user: &str, n: usize, mode: RotationMode) -> Item {
        let root = Signer::root();
        let made = self.iam("CreateUser", &[("UserName", user)]).await;
        assert!(made.ok(), "{}", made.text());
        let key = Signer::of(&self.iam("CreateAccessKey", &[("UserName", user)]).await);
        let key = key.expect("a key");
        let value =
            json!({ "access_key_id": key.id, "secret_access_key": key.secret, "team": "pay" });
        let secret = format!("keys/{user}");
        let token = format!("00000000-0000-4000-b000-{n:012}");
        let body = json!({ "Name": secret, "SecretString": value.to_string(), "ClientRequestToken": token });
        let created = self
            .client
            .json(&root, "secretsmanager", "CreateSecret", &body)
            .await;
        assert!(created.expect("an answer").ok());
        let seen = self
            .estate
            .vault
            .describe(&secret)
            .await
            .expect("there")
            .value;
        let keys = self
            .estate
            .cloud
            .access_keys(user)
            .await
            .expect("listed")
            .value;
        let mut bound = binding::keys(&keys);
        bound.extend(binding::secret(&seen));
        let item = Item {
            id: format!("item-{:04}", n + 1),
            kind: CredentialKind::IamAccessKey,
            mode,
            name: user.to_owned(),
            arn: format!("arn:aws:iam::000000000000:user/{user}"),
            why: vec!["named".into()],
            binding: bound,
            what: What::AccessKey(AccessKey {
                user: user.to_owned(),
                old: key.id.clone(),
                before: vec![key.id.clone()],
                victim: None,
                escrow: Escrow {
                    current: seen.holder(CURRENT).map(str::to_owned),
                    secret,
                    exists: true,
                    fields: ("access_key_id".into(), "secret_access_key".into()),
                },
                chain: vec![],
                open_ends: vec![],
            }),
            sinks: vec![],
            workloads: vec![],
            no_return: "the old key is deleted".into(),
            needs_human: None,
        };
        self.old.insert(user.to_owned(), key);
        item
    }

    async fn iam(&self, action: &str, parameters: &[(&str, &str)]) -> crate::support::aws::Reply {
        let root = Signer::root();
        let reply = self.client.query(&root, "iam", action, parameters).await;
        reply.expect("an answer")
    }

    /// Runs the action over the incident's own ledger.
    pub async fn rotate(&self) -> Result<Applied, ActionError> {
        self.rotate_on(self.custody.ledger()).await
    }

    /// Runs the action over this ledger.
    pub async fn rotate_on(&self, ledger: Arc<dyn Ledger>) -> Result<Applied, ActionError> {
        let (keep, cancel) = tokio::sync::watch::channel(false);
        let said = self.said.clone();
        let context = Context {
            incident: IncidentId::parse(INCIDENT).expect("an id"),
            mode: Mode::Live,
            run: RunId::parse(RUN).expect("a run"),
            step: StepPath::parse("rotate").expect("a path"),
            attempt: 1,
            key: String::new(),
            ledger,
            custody: Some(self.custody.clone()),
            documents: None,
            files: self.custody.clone(),
            ports: Ports {
                cluster: None,
                estate: Some(self.estate.clone()),
                notifier: Arc::new(Messages::shown()),
                clock: Arc::new(HostClock::new()),
                random: Arc::new(HostRandom),
            },
            deadline: Duration::from_secs(600),
            cancel,
            progress: Arc::new(move |line: &str| {
                if let Ok(mut all) = said.lock() {
                    all.push_str(line);
                    all.push('\n');
                }
            }),
        };
        let args = json!({ "plan_sha256": self.digest });
        let result = RotateCredentials.apply(&context, &args).await;
        drop(keep);
        result
    }

    /// How often the double made a key for a user, beside the first one.
    pub fn creations(&self, user: &str) -> usize {
        let create = Match::action("iam", "CreateAccessKey").with("UserName", user);
        let all = self.proxy.effects(&create);
        all.iter().filter(|c| c.number > self.seeded).count()
    }

    /// A user's keys, from the double.
    pub async fn keys(&self, user: &str) -> Vec<(String, bool)> {
        let reply = self.iam("ListAccessKeys", &[("UserName", user)]).await;
        let members = xml::members(reply.text()).map(|m| m.items);
        let text = |m: &&str, name: &str| xml::text(m, name).unwrap_or_default();
        members
            .unwrap_or_default()
            .iter()
            .map(|m| (text(m, "AccessKeyId"), text(m, "Status") == "Active"))
            .collect()
    }

    /// Per user: the old key refused, one key Active and it works and is the current version's, no pending label.
    pub async fn assert_all_replaced(&self) {
        for user in &self.users {
            let old = &self.old[user];
            assert!(!self.works(old).await, "the old key of {user} is dead");
            let active: Vec<String> = self
                .keys(user)
                .await
                .into_iter()
                .filter_map(|(id, active)| active.then_some(id))
                .collect();
            assert_eq!(active.len(), 1, "one active key of {user}");
            assert_ne!(active[0], old.id);
            let secret = format!("keys/{user}");
            let seen = self
                .estate
                .vault
                .describe(&secret)
                .await
                .expect("there")
                .value;
            assert_eq!(seen.holder(PENDING), None, "no pending label on {secret}");
            let current: Vec<&Vec<String>> = seen
                .versions
                .values()
                .filter(|labels| labels.iter().any(|l| l == CURRENT))
                .collect();
            assert_eq!(current.len(), 1, "one current version of {secret}");
            let value = self.current(&secret).await;
            assert_eq!(value["access_key_id"], active[0].as_str());
            assert_eq!(value["team"], "pay", "other fields stay");
            let secret = value["secret_access_key"].as_str().expect("a secret");
            assert!(self.works(&Signer::new(&active[0], secret)).await);
        }
    }

    async fn current(&self, secret: &str) -> Value {
        let body = json!({ "SecretId": secret, "VersionStage": CURRENT });
        let root = Signer::root();
        let reply = self
            .client
            .json(&root, "secretsmanager", "GetSecretValue", &body)
            .await;
        let reply: Value = serde_json::from_slice(&reply.expect("an answer").body).expect("JSON");
        let text = reply["SecretString"].as_str().expect("a value");
        serde_json::from_str(text).expect("JSON")
    }

    async fn works(&self, signer: &Signer) -> bool {
        let reply = self
            .client
            .query(signer, "sts", "GetCallerIdentity", &[])
            .await;
        reply.expect("an answer").ok()
    }

    /// No secret, old or new, in ledger or progress, in whatever spelling.
    pub fn assert_no_secret_is_told(&self) {
        let ledger = std::fs::read_to_string(self.folder.join("incident/ledger/ledger.jsonl"));
        let told = ledger.expect("a ledger") + &self.said.lock().expect("said");
        for key in self.old.values() {
            assert!(!told.contains(&key.secret), "an old secret was told");
        }
        for entry in told.split('"').filter(|word| word.len() == 40) {
            assert!(
                !entry.chars().any(|c| c == '+' || c == '/'),
                "this looks like a secret access key: {entry}"
            );
        }
    }

    /// The keys as the port sees them.
    pub async fn seen(&self, user: &str) -> Vec<AccessKeySeen> {
        self.estate
            .cloud
            .access_keys(user)
            .await
            .expect("listed")
            .value
    }
}

async fn estate(proxy: &AwsProxy, folder: &std::path::Path) -> Estate {
    let mut options = Options::of_run(RUN, folder.join("leases"));
    options.endpoint = Some(proxy.url());
    options.region = Some(REGION.into());
    options.signer = Some(root());
    options.pace = Pace::Unbounded;
    let aws = aws::connect(options).await.expect("the double answers");
    Estate {
        cloud: aws.cloud,
        vault: aws.vault,
        database: Arc::new(PostgresServers::new()),
        workloads: None,
        leases: aws.leases,
        fingerprint: Arc::new(FingerprintKey::new([7; 32])),
        break_glass: vec![],
        loopback: true,
    }
}

fn incident(folder: &std::path::Path) -> Arc<Custody> {
    let request = OpenRequest {
        id: IncidentId::parse(INCIDENT).expect("an id"),
        mode: Mode::Live,
        org: "unregistered.invalid".into(),
        targets: Vec::new(),
        policy: "solo".into(),
        trust: BTreeMap::new(),
        actor: Actor::person("test@lab"),
    };
    let store = DirStore::open(&folder.join("incident")).expect("a folder");
    let (clock, random) = (Arc::new(HostClock::new()), Arc::new(HostRandom));
    Arc::new(Custody::create(Box::new(store), request, clock, random).expect("an incident"))
}

fn plan(items: Vec<Item>) -> RotationPlan {
    RotationPlan {
        format: FORMAT.into(),
        incident: INCIDENT.into(),
        created: "2026-11-25T00:00:00Z".into(),
        expires: "2999-01-01T00:00:00Z".into(),
        t0: None,
        account: "000000000000".into(),
        region: REGION.into(),
        caller: "arn:aws:iam::000000000000:root".into(),
        selector: "kind == 'iam-access-key'".into(),
        on_unknown: "refuse".into(),
        on_stale: "refuse".into(),
        map_sha256: None,
        deletions: true,
        items,
        workloads: vec![],
        excluded: vec![],
        break_glass: vec![],
        guards: vec![],
        residual: vec![],
        warnings: vec![],
        waits: Waits::none(),
        concurrency: 4,
    }
}
