//! The drill's shop, its cloud side: what the pod with the intruder inside could read, and what he did with it in the last hour.
//!
//! - `payment-api-token`, mounted by `web`: the access key of user `shop-payments`, kept in the store as `shop/payments/key`. The intruder
//!   has used it.
//! - `web-session-key`, in `web`'s environment: the password of the database role `web_sessions`, kept as `shop/db/web-sessions`. The
//!   intruder has a session open.
//! - The ServiceAccount `web` with the role `shop-web`: the intruder has a session of it, its token, and went on to `shop-reports`.
//! - Beside it: `db-credentials` of `api`, three CI users, a user with two keys in use, a break-glass user, a secret that RDS owns and one
//!   that a function rotates.

use chrono::{DateTime, Duration, Utc};
use serde_json::json;

use super::super::shop::NAMESPACE;
use super::super::world::World;
use super::attacker::{StolenLogin, StolenToken};
use super::consumer::{AccountKept, Deployment, KubeSecret, Mount, ROLE_ANNOTATION, Reader, Use};
use super::database::DatabaseCluster;
use super::key::{Hand, trust_service_account};
use super::trail::Told;
use super::world::{ALLOW_ALL, EstateWorld, Kept, trust_account};

/// The shop's account, as in the role annotations of the shop's cluster.
pub const ACCOUNT: &str = "111122223333";
/// Its region.
pub const REGION: &str = "eu-central-1";
/// Its primary, database `shop`, port 5432.
pub const DB_PRIMARY: &str = "db.shop.example";
/// Its replica.
pub const DB_REPLICA: &str = "db-replica.shop.example";
/// The role that alters roles; its password stands in the secret `shop/db/admin`.
pub const DB_ADMIN: &str = "rotation_admin";
/// Its password: a drill's, worth nothing outside.
pub const DB_ADMIN_PASSWORD: &str = "drill-admin-7Qm2Zx9Kp4Rt8Wv6Ny3Bc5Hd";

/// What users of the shop may do: their work, and as so often their own keys.
const WORK: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:*","sts:AssumeRole","iam:ListUsers","iam:CreateAccessKey","iam:UpdateAccessKey","iam:DeleteUserPolicy"],"Resource":"*"}]}"#;
/// What roles of the shop may do.
const SERVE: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["secretsmanager:DescribeSecret","sts:AssumeRole","iam:ListAccountAliases","iam:DeleteRolePolicy"],"Resource":"*"}]}"#;

/// The estate of the shop in this cluster, at `now`. The intruder is asleep until a drill wakes him (`attacker.rounds`).
pub fn estate_shop(now: DateTime<Utc>, cluster: &World) -> EstateWorld {
    let seed = format!("estate/{}", cluster.identity.uid);
    let began = now - Duration::hours(6);
    let mut world = EstateWorld::empty(ACCOUNT, REGION, began, &seed);
    // Waits are skipped in a drill and calls take no time: without this a cut-off of the next whole second would hit what is minted later.
    world.time.per_call_ms = 250;
    // Our own session is as fresh as the drill.
    world.operator.key = world.open_session("role/firebreak-response", "operator", now, 43_200, "");
    let mut shop = Builder {
        world,
        now,
        cluster,
    };
    shop.people();
    shop.roles();
    shop.database();
    shop.consumers();
    shop.intrusion();
    shop.world
}

struct Builder<'c> {
    world: EstateWorld,
    now: DateTime<Utc>,
    cluster: &'c World,
}

impl Builder<'_> {
    fn days(&self, days: i64) -> DateTime<Utc> {
        self.now - Duration::days(days)
    }

    /// A user with one key that stands in the store.
    fn user_with_key(
        &mut self,
        name: &str,
        path: &str,
        team: &str,
        secret: &str,
        age: i64,
    ) -> String {
        let at = self.days(age);
        self.world.add_user(name, path, &[("team", team)], WORK);
        let id = self.world.add_key(name, at, Hand::Shop);
        let value = key_value(&self.world, &id);
        self.world.add_secret(secret, &value, at);
        self.world
            .mark_used(&id, "s3", self.now - Duration::minutes(10));
        id
    }

    fn people(&mut self) {
        self.user_with_key("shop-payments", "/shop/", "pay", "shop/payments/key", 210);
        for (name, age) in [("ci-build", 120), ("ci-deploy", 95), ("ci-release", 400)] {
            let secret = format!("ci/{}/key", name.trim_start_matches("ci-"));
            self.user_with_key(name, "/ci/", "pay", &secret, age);
            self.world.readers.push(Reader {
                name: format!("job/{name}"),
                secret,
                uses: Use::AccessKey {
                    secret: String::new(),
                    id: "access_key_id".into(),
                    key: "secret_access_key".into(),
                },
            });
        }
        // A second key that nobody has used for a year: a slot that may be freed.
        let old = self.world.add_key("ci-release", self.days(800), Hand::Shop);
        self.world.mark_used(&old, "s3", self.days(370));
        // Two keys in use: which of them may go is for a person to say.
        self.user_with_key("legacy-batch", "/legacy/", "ops", "legacy/batch/key", 900);
        let second = self
            .world
            .add_key("legacy-batch", self.days(700), Hand::Shop);
        self.world
            .mark_used(&second, "s3", self.now - Duration::minutes(5));
        // The way in that must keep working.
        self.world.add_user(
            "break-glass",
            "/emergency/",
            &[("break-glass", "true")],
            ALLOW_ALL,
        );
        self.world.add_key("break-glass", self.days(30), Hand::Shop);
    }

    fn roles(&mut self) {
        for name in ["web", "api", "db"] {
            let trust = trust_service_account(ACCOUNT, NAMESPACE, name);
            self.world
                .add_role(&format!("shop-{name}"), "/", SERVE, &trust);
            let arn = format!("arn:aws:iam::{ACCOUNT}:role/shop-{name}");
            let account = AccountKept {
                uid: self.world.mint_uid(),
                annotations: [(ROLE_ANNOTATION.to_owned(), arn)].into(),
            };
            self.world
                .accounts
                .insert(format!("{NAMESPACE}/{name}"), account);
        }
        let web = format!("arn:aws:iam::{ACCOUNT}:role/shop-web");
        let trust = trust_account(ACCOUNT).replace(&format!("arn:aws:iam::{ACCOUNT}:root"), &web);
        self.world.add_role("shop-reports", "/", SERVE, &trust);
    }

    fn database(&mut self) {
        let hosts = [DB_PRIMARY, DB_REPLICA];
        let mut cluster = DatabaseCluster::new("7412365489012345678", &hosts, "shop");
        cluster.add_role(DB_ADMIN, DB_ADMIN_PASSWORD, true);
        for (role, secret) in [
            ("web_sessions", "shop/db/web-sessions"),
            ("shop_api", "shop/db/api"),
        ] {
            let password = self.world.mint_secret().0.replace(['+', '/'], "x");
            cluster.add_role(role, &password, false);
            self.world
                .add_secret(secret, &login_value(role, &password), self.days(180));
        }
        self.world.databases.push(cluster);
        let admin = login_value(DB_ADMIN, DB_ADMIN_PASSWORD);
        self.world
            .add_secret("shop/db/admin", &admin, self.days(60));
        let owned = self.world.mint_secret().0;
        let secret = self.world.add_secret(
            "rds!cluster-reports",
            &login_value("postgres", &owned),
            self.now,
        );
        secret.owning_service = Some("rds".into());
        let turned = self.world.mint_secret().0;
        let secret =
            self.world
                .add_secret("shop/mail/smtp", &login_value("mailer", &turned), self.now);
        secret.rotation_function = Some(format!(
            "arn:aws:lambda:{REGION}:{ACCOUNT}:function:rotate-smtp"
        ));
        secret.rotation_enabled = true;
    }

    fn consumers(&mut self) {
        let payments = self.stored("shop/payments/key");
        self.secret(
            "payment-api-token",
            &[
                ("AWS_ACCESS_KEY_ID", text(&payments, "access_key_id")),
                (
                    "AWS_SECRET_ACCESS_KEY",
                    text(&payments, "secret_access_key"),
                ),
            ],
        );
        let sessions = self.stored("shop/db/web-sessions");
        let session_key = self.world.mint_secret().0;
        self.secret(
            "web-session-key",
            &[
                ("SESSION_KEY", session_key),
                ("DB_USER", text(&sessions, "username")),
                ("DB_PASSWORD", text(&sessions, "password")),
            ],
        );
        let api = self.stored("shop/db/api");
        self.secret(
            "db-credentials",
            &[
                ("DB_USER", text(&api, "username")),
                ("DB_PASSWORD", text(&api, "password")),
            ],
        );
        let web = [
            login("web-session-key"),
            Use::AccessKey {
                secret: "payment-api-token".into(),
                id: "AWS_ACCESS_KEY_ID".into(),
                key: "AWS_SECRET_ACCESS_KEY".into(),
            },
            Use::Role {
                describes: "shop/payments/key".into(),
            },
        ];
        let mounts = [("web-session-key", "env"), ("payment-api-token", "volume")];
        self.deployment("web", 2, &mounts, &web);
        let api = [login("db-credentials")];
        self.deployment("api", 2, &[("db-credentials", "envFrom")], &api);
    }

    fn stored(&self, secret: &str) -> serde_json::Value {
        let current = self.world.secrets.get(secret).and_then(|s| s.current());
        serde_json::from_str(current.unwrap_or("{}")).unwrap_or_default()
    }

    fn secret(&mut self, name: &str, data: &[(&str, String)]) {
        let mut secret = KubeSecret {
            uid: self.world.mint_uid(),
            ..KubeSecret::default()
        };
        for (key, value) in data {
            secret.set(key, value, "kubectl-client-side-apply");
        }
        self.world
            .kube_secrets
            .insert(format!("{NAMESPACE}/{name}"), secret);
    }

    /// A Deployment with the UID that the shop's cluster gave it.
    fn deployment(&mut self, name: &str, replicas: u32, mounts: &[(&str, &str)], uses: &[Use]) {
        let owners = self
            .cluster
            .cluster
            .controllers
            .iter()
            .filter_map(|c| c.owner.as_ref());
        let known = owners
            .filter(|o| o.kind == "Deployment" && o.name == name)
            .map(|o| o.uid.clone())
            .next();
        let uid = match known {
            Some(uid) => uid,
            None => self.world.mint_uid(),
        };
        self.world.deployments.push(Deployment {
            kind: "Deployment".into(),
            namespace: NAMESPACE.into(),
            name: name.into(),
            uid,
            replicas,
            restarted_by: None,
            service_account: name.into(),
            mounts: mounts
                .iter()
                .map(|(secret, how)| Mount {
                    secret: (*secret).into(),
                    how: (*how).into(),
                })
                .collect(),
            uses: uses.to_vec(),
            reloader: false,
            observed: true,
            rollouts: 0,
            pods: Vec::new(),
        });
    }

    /// What the intruder took, and what the trail has of it.
    fn intrusion(&mut self) {
        let start = self.now - Duration::minutes(50);
        let key = self
            .world
            .keys
            .iter()
            .find(|(_, k)| k.user == "shop-payments")
            .map(|(id, _)| id.clone())
            .unwrap_or_default();
        self.deed(&key, "sts:GetCallerIdentity", start);
        self.deed(&key, "iam:ListUsers", start + Duration::minutes(1));
        self.world
            .mark_used(&key, "iam", start + Duration::minutes(1));
        let (web, reports) = (role("shop-web"), role("shop-reports"));
        let subject = format!("system:serviceaccount:{NAMESPACE}:web");
        let at = start + Duration::minutes(4);
        let session = self.world.open_session("role/shop-web", "x", at, 3_600, "");
        let request = [
            ("roleArn", web.as_str()),
            ("roleSessionName", "x"),
            ("subject", subject.as_str()),
        ];
        self.event(
            None,
            "sts:AssumeRoleWithWebIdentity",
            &request,
            Some(&session),
            at,
        );
        let at = at + Duration::minutes(2);
        let next = self
            .world
            .open_session("role/shop-reports", "x", at, 3_600, &session);
        let request = [("roleArn", reports.as_str()), ("roleSessionName", "x")];
        self.event(Some(&session), "sts:AssumeRole", &request, Some(&next), at);
        self.deed(
            &next,
            "secretsmanager:ListSecrets",
            at + Duration::minutes(1),
        );
        let password = text(&self.stored("shop/db/web-sessions"), "password");
        let _ = self.world.open_database(
            (DB_PRIMARY, 5432),
            "web_sessions",
            &password,
            (super::attacker::FROM, "psql"),
            at,
        );
        let attacker = &mut self.world.attacker;
        attacker.holds = vec![key, session, next];
        attacker.keys_left = 1;
        attacker.wakes_left = 1;
        attacker.logins.push(StolenLogin {
            host: DB_PRIMARY.into(),
            port: 5432,
            role: "web_sessions".into(),
            password: Kept(password),
        });
        attacker.tokens.push(StolenToken {
            subject,
            role: web,
            expires: self.now + Duration::hours(23),
        });
        self.world.trail.lag_s = 0;
    }

    fn deed(&mut self, key: &str, action: &str, at: DateTime<Utc>) {
        self.event(Some(key), action, &[], None, at);
    }

    fn event(
        &mut self,
        key: Option<&str>,
        action: &str,
        request: &[(&str, &str)],
        made: Option<&str>,
        at: DateTime<Utc>,
    ) {
        let signed = key.and_then(|k| self.world.by_id(k, at).ok());
        let told = Told {
            action,
            request,
            made,
            error: None,
            hand: Hand::Attacker,
        };
        self.world.record(signed.as_ref(), &told, at);
    }
}

fn login(secret: &str) -> Use {
    Use::Database {
        secret: secret.into(),
        user: "DB_USER".into(),
        password: "DB_PASSWORD".into(),
        host: DB_PRIMARY.into(),
        port: 5432,
    }
}

fn role(name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:role/{name}")
}

fn text(value: &serde_json::Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

fn key_value(world: &EstateWorld, id: &str) -> String {
    let secret = world.keys.get(id).map_or("", |k| k.secret.0.as_str());
    json!({"access_key_id": id, "secret_access_key": secret}).to_string()
}

fn login_value(role: &str, password: &str) -> String {
    json!({
        "engine": "postgres", "host": DB_PRIMARY, "port": 5432, "dbname": "shop",
        "username": role, "password": password,
    })
    .to_string()
}
