//! The shop's estate and plans for it, made by hand.

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, Utc};

use super::world::World;
use crate::adapter::sim::estate::{
    ACCOUNT, DB_PRIMARY, DB_REPLICA, EstateWorld, Hand, REGION, SimClock, SimEstate, estate_shop,
    trust_account, trust_service_account,
};
use crate::adapter::sim::{NAMESPACE, world_shop};
use crate::incident::body::ObjectRef;
use crate::port::{Cloud, Database, Login, Principal, Secret, Server, Vault};
use crate::rotation::binding;
use crate::rotation::plan::{
    AccessKey, AccountMove, DatabasePassword, Escrow, FORMAT, Item, RoleSessions, RotationPlan,
    Sink, Waits, What, Workload,
};
use crate::rotation::words::{CredentialKind, RotationMode};

/// What is rotated, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The key of `shop-payments`, whose value stands in the store and in a Secret.
    Key,
    /// The same without a secret in the store: the run makes one.
    KeyWithoutEscrow,
    /// The key of `ci-release`, which has a second one that nobody uses.
    KeyWithVictim,
    /// Sessions of `shop-web`, with the move to another service account.
    Role,
    /// The password of `web_sessions`.
    Password,
}

pub(super) use Kind::{Key, KeyWithVictim, KeyWithoutEscrow, Password, Role};
pub(super) use RotationMode::{Emergency, Graceful};

/// Workload `web`, as places name it.
pub(super) const WEB: &str = "Deployment/shop/web";
/// A role that the payment key may assume.
pub(super) const CHAINED: &str = "shop-batch";
/// The service account that `web` moves to.
pub(super) const NEW_ACCOUNT: &str = "web-inc-7k2q";
/// Name of the secret that a run makes.
pub(super) const OWN_ESCROW: &str = "firebreak/INC-20261124-7K2Q/item-0001";

pub(super) fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000, 0).expect("time")
}

/// The shop: time goes on with each call, and there is one more role, which the payment key opens. Our own role is nobody's to assume.
pub(super) fn shop() -> EstateWorld {
    static SHOP: std::sync::OnceLock<EstateWorld> = std::sync::OnceLock::new();
    SHOP.get_or_init(make_shop).clone()
}

fn make_shop() -> EstateWorld {
    let mut w = estate_shop(now(), &world_shop(now(), [7; 16]));
    w.time.per_call_ms = 400;
    let serve =
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;
    let key = w.arn("user/shop-payments");
    let root = format!("arn:aws:iam::{ACCOUNT}:root");
    let trust = trust_account(ACCOUNT);
    w.add_role(CHAINED, "/", serve, &trust.replace(&root, &key));
    let ours = w.members.get_mut("role/firebreak-response").expect("ours");
    ours.trust = Some(trust.replace(&root, &key.replace("shop-payments", "nobody")));
    w
}

pub(super) fn key_of(w: &EstateWorld, user: &str) -> String {
    let mut keys: Vec<_> = w.keys.iter().filter(|(_, k)| k.user == user).collect();
    keys.sort_by_key(|(_, k)| k.created);
    keys.last().expect("it has a key").0.clone()
}

fn sink(w: &EstateWorld, name: &str, keys: [(&str, &str); 2]) -> Sink {
    Sink {
        object: ObjectRef {
            kind: "Secret".into(),
            namespace: NAMESPACE.into(),
            name: name.into(),
            uid: w.kube_secrets[&format!("{NAMESPACE}/{name}")].uid.clone(),
        },
        keys: keys
            .iter()
            .map(|(f, k)| ((*f).into(), (*k).into()))
            .collect(),
    }
}

fn web(w: &EstateWorld) -> Workload {
    let d = w.deployments.iter().find(|d| d.name == "web").expect("web");
    Workload {
        object: ObjectRef {
            kind: d.kind.clone(),
            namespace: d.namespace.clone(),
            name: d.name.clone(),
            uid: d.uid.clone(),
        },
        how: vec!["payment-api-token as volume".into()],
        rollable: true,
    }
}

fn escrow(w: &EstateWorld, secret: &str, fields: (&str, &str)) -> Escrow {
    Escrow {
        secret: secret.into(),
        exists: true,
        fields: (fields.0.into(), fields.1.into()),
        current: w.secrets[secret].holder("AWSCURRENT").map(str::to_owned),
    }
}

fn payment_sink(w: &EstateWorld) -> Sink {
    sink(
        w,
        "payment-api-token",
        [
            ("access_key_id", "AWS_ACCESS_KEY_ID"),
            ("secret_access_key", "AWS_SECRET_ACCESS_KEY"),
        ],
    )
}

fn key(w: &EstateWorld, kind: Kind, mode: RotationMode) -> Item {
    let (user, secret) = match kind {
        KeyWithVictim => ("ci-release", "ci/release/key"),
        _ => ("shop-payments", "shop/payments/key"),
    };
    let fields = ("access_key_id", "secret_access_key");
    let mut escrow = escrow(w, secret, fields);
    if kind == KeyWithoutEscrow {
        escrow = Escrow {
            secret: OWN_ESCROW.into(),
            exists: false,
            current: None,
            ..escrow
        };
    }
    let before: Vec<String> = w
        .keys
        .iter()
        .filter(|(_, k)| k.user == user)
        .map(|(id, _)| id.clone())
        .collect();
    let old = key_of(w, user);
    let victim = before.iter().find(|id| **id != old).cloned();
    let chain = match (mode, kind) {
        (Emergency, KeyWithVictim) | (Graceful, _) => vec![],
        _ => vec![CHAINED.to_owned()],
    };
    let feeds = kind != KeyWithVictim;
    Item {
        id: "item-0001".into(),
        kind: CredentialKind::IamAccessKey,
        mode,
        name: user.into(),
        arn: w.arn(&format!("user/{user}")),
        why: vec!["it leaked".into()],
        binding: BTreeMap::new(),
        what: What::AccessKey(AccessKey {
            user: user.into(),
            old,
            before,
            victim,
            escrow,
            chain,
            open_ends: vec![],
        }),
        sinks: if feeds { vec![payment_sink(w)] } else { vec![] },
        workloads: if feeds { vec![0] } else { vec![] },
        no_return: "OldDeleted".into(),
        needs_human: None,
    }
}

fn role(w: &EstateWorld, mode: RotationMode) -> Item {
    let arn = w.arn("role/shop-web");
    let member = &w.members["role/shop-web"];
    Item {
        id: "item-0002".into(),
        kind: CredentialKind::IamRoleSessions,
        mode,
        name: "shop-web".into(),
        arn: arn.clone(),
        why: vec!["the pod was breached".into()],
        binding: BTreeMap::new(),
        what: What::RoleSessions(RoleSessions {
            role: "shop-web".into(),
            max_session_s: 43_200,
            trust_before: member.trust.clone().expect("trust"),
            trust_after: Some(trust_service_account(ACCOUNT, NAMESPACE, NEW_ACCOUNT)),
            moves: vec![AccountMove {
                workload: 0,
                namespace: NAMESPACE.into(),
                from: "web".into(),
                to: NEW_ACCOUNT.into(),
                annotations: BTreeMap::from([("eks.amazonaws.com/role-arn".into(), arn)]),
            }],
            open_ends: vec![],
        }),
        sinks: vec![],
        workloads: vec![0],
        no_return: "none".into(),
        needs_human: None,
    }
}

pub(super) fn server(host: &str) -> Server {
    Server {
        host: host.into(),
        port: 5432,
        database: "shop".into(),
        ca_file: None,
    }
}

fn password(w: &EstateWorld, mode: RotationMode) -> Item {
    Item {
        id: "item-0003".into(),
        kind: CredentialKind::PgPassword,
        mode,
        name: "web_sessions".into(),
        arn: w.secrets["shop/db/web-sessions"].arn.clone(),
        why: vec!["it leaked".into()],
        binding: BTreeMap::new(),
        what: What::DatabasePassword(DatabasePassword {
            escrow: escrow(w, "shop/db/web-sessions", ("username", "password")),
            role: "web_sessions".into(),
            primary: server(DB_PRIMARY),
            replicas: vec![server(DB_REPLICA)],
            admin: "shop/db/admin".into(),
            system_identifier: w.databases[0].system_identifier.clone(),
        }),
        sinks: vec![sink(
            w,
            "web-session-key",
            [("username", "DB_USER"), ("password", "DB_PASSWORD")],
        )],
        workloads: vec![0],
        no_return: "OldSessionsTerminated".into(),
        needs_human: None,
    }
}

pub(super) fn item(w: &EstateWorld, kind: Kind, mode: RotationMode) -> Item {
    match kind {
        Role => role(w, mode),
        Password => password(w, mode),
        _ => key(w, kind, mode),
    }
}

/// A plan of these items, bound to the estate as it is.
pub(super) async fn plan(w: &EstateWorld, items: &[(Kind, RotationMode)]) -> RotationPlan {
    let mut items: Vec<Item> = items.iter().map(|(k, m)| item(w, *k, *m)).collect();
    let look = SimEstate::in_memory(w.clone(), std::sync::Arc::new(SimClock::new(now())));
    for item in &mut items {
        bind(&look, item).await;
    }
    RotationPlan {
        format: FORMAT.into(),
        incident: super::world::INCIDENT.into(),
        created: now().to_rfc3339(),
        expires: (now() + Duration::days(1)).to_rfc3339(),
        t0: Some((now() - Duration::hours(1)).to_rfc3339()),
        account: ACCOUNT.into(),
        region: REGION.into(),
        caller: w.arn("role/firebreak-response"),
        selector: "true".into(),
        on_unknown: "refuse".into(),
        on_stale: "skip".into(),
        map_sha256: None,
        deletions: true,
        items,
        workloads: vec![web(w)],
        excluded: vec![],
        break_glass: vec![],
        guards: vec![],
        residual: vec![],
        warnings: vec![],
        waits: Waits::default(),
        concurrency: 8,
    }
}

async fn bind(look: &SimEstate, item: &mut Item) {
    match &item.what {
        What::AccessKey(key) => {
            let keys = look.access_keys(&key.user).await.expect("listed").value;
            item.binding.extend(binding::keys(&keys));
            if key.escrow.exists {
                let secret = look.describe(&key.escrow.secret).await.expect("there");
                item.binding.extend(binding::secret(&secret.value));
            }
        }
        What::RoleSessions(role) => {
            let principal = Principal::Role(role.role.clone());
            let seen = look.principal(&principal).await.expect("there").value;
            item.binding.extend(binding::role(&seen));
        }
        What::DatabasePassword(p) => {
            let secret = look.describe(&p.escrow.secret).await.expect("there");
            item.binding.extend(binding::secret(&secret.value));
            let admin = Login {
                role: crate::adapter::sim::estate::DB_ADMIN.into(),
                password: Secret::new(crate::adapter::sim::estate::DB_ADMIN_PASSWORD.into()),
            };
            let seen = Database::role(look, &p.primary, &admin, &p.role).await;
            item.binding
                .extend(binding::database(&seen.expect("there")));
        }
    }
}

/// The shop with a plan for one item.
pub(super) async fn one(kind: Kind, mode: RotationMode) -> World {
    many(&[(kind, mode)]).await
}

/// The shop with a plan for several.
pub(super) async fn many(items: &[(Kind, RotationMode)]) -> World {
    let estate = shop();
    let plan = plan(&estate, items).await;
    World::new(estate, plan, now())
}

/// Ids of the intruder's keys.
pub(super) fn intruders(w: &EstateWorld) -> Vec<String> {
    let his = |(_, k): &(&String, &crate::adapter::sim::estate::Key)| k.by == Hand::Attacker;
    w.keys
        .iter()
        .filter(his)
        .map(|(id, _)| id.clone())
        .collect()
}

/// Consumers without a role, whose sessions would run out where hours pass.
pub(super) fn without_roles(world: &World) {
    world.meddle(|w| {
        for d in &mut w.deployments {
            let role = |u: &crate::adapter::sim::estate::Use| {
                matches!(u, crate::adapter::sim::estate::Use::Role { .. })
            };
            d.uses.retain(|u| !role(u));
        }
    });
}
