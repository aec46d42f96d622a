//! A small company in a double: users with keys, roles, secrets. Made through the proxy, so that it knows them.

use std::net::SocketAddr;

use serde::Serialize;
use serde_json::json;

use crate::attacker::USER_AGENT;
use crate::client::{Client, Signer};
use crate::reply::Reply;

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Users `ci-01`, …
    pub users: usize,
    /// Of these, every so manieth has two keys; 0 = none.
    pub two_keys_every: usize,
}

/// A seeded user.
#[derive(Clone, Debug, Serialize)]
pub struct User {
    /// Name.
    pub name: String,
    /// Keys with their secrets, oldest first.
    pub keys: Vec<(String, String)>,
    /// The secret that holds the first key.
    pub secret: String,
}

/// What was made.
#[derive(Clone, Debug, Serialize)]
pub struct Seeded {
    /// The responder's key: an administrator.
    pub responder: (String, String),
    /// The way in when all else fails: another administrator.
    pub break_glass: (String, String),
    /// Users.
    pub users: Vec<User>,
    /// ARNs of roles: `shop-web` may assume `shop-deploy`, which may assume `shop-admin`.
    pub roles: Vec<String>,
    /// Id of the key that an intruder went on with, from role to role to the last.
    pub stolen: Option<String>,
}

const ANYTHING: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;
const TEAMS: [&str; 3] = ["pay", "shop", "search"];

/// Makes it at the proxy at this address, as the double's root.
pub async fn seed(at: SocketAddr, size: Size) -> Result<Seeded, String> {
    let company = Company {
        client: Client::new(at).called("seed", None),
        root: Signer::root(),
    };
    let responder = company.administrator("responder").await?;
    let break_glass = company.administrator("break-glass").await?;
    let mut users = Vec::with_capacity(size.users);
    for number in 1..=size.users {
        let two = size.two_keys_every > 0 && number % size.two_keys_every == 0;
        users.push(company.ci_user(number, if two { 2 } else { 1 }).await?);
    }
    let roles = company.roles().await?;
    company.work(&users).await?;
    let stolen = users.first().and_then(|user| user.keys.first());
    if let Some((id, secret)) = stolen {
        company.intrude(Signer::new(id, secret), &roles).await?;
    }
    let stolen = stolen.map(|(id, _)| id.clone());
    Ok(Seeded {
        responder,
        break_glass,
        users,
        roles,
        stolen,
    })
}

struct Company {
    client: Client,
    root: Signer,
}

impl Company {
    async fn iam(&self, action: &str, parameters: &[(&str, &str)]) -> Result<Reply, String> {
        accepted(
            action,
            self.client
                .query(&self.root, "iam", action, parameters)
                .await?,
        )
    }

    async fn key(&self, user: &str) -> Result<(String, String), String> {
        let reply = self.iam("CreateAccessKey", &[("UserName", user)]).await?;
        let signer = Signer::of(&reply).ok_or("a key without an id")?;
        Ok((signer.id, signer.secret))
    }

    async fn administrator(&self, name: &str) -> Result<(String, String), String> {
        self.iam("CreateUser", &[("UserName", name), ("Path", "/people/")])
            .await?;
        let policy = [
            ("UserName", name),
            ("PolicyName", "administrator"),
            ("PolicyDocument", ANYTHING),
        ];
        self.iam("PutUserPolicy", &policy).await?;
        self.key(name).await
    }

    /// A machine's user: it reads its own secret and assumes the shop's role.
    async fn ci_user(&self, number: usize, keys: usize) -> Result<User, String> {
        let name = format!("ci-{number:02}");
        let tags = [
            ("UserName", name.as_str()),
            ("Path", "/ci/"),
            ("Tags.member.1.Key", "team"),
            ("Tags.member.1.Value", TEAMS[number % TEAMS.len()]),
        ];
        self.iam("CreateUser", &tags).await?;
        let secret = format!("ci/{name}");
        let policy = json!({ "Version": "2012-10-17", "Statement": [
            { "Effect": "Allow", "Action": "secretsmanager:*", "Resource": format!("arn:aws:secretsmanager:*:*:secret:{secret}-*") },
            { "Effect": "Allow", "Action": ["sts:AssumeRole", "iam:ListAccountAliases"], "Resource": "*" },
        ] });
        let policy = [
            ("UserName", name.as_str()),
            ("PolicyName", "work"),
            ("PolicyDocument", &policy.to_string()),
        ];
        self.iam("PutUserPolicy", &policy).await?;
        let mut made = Vec::with_capacity(keys);
        for _ in 0..keys {
            made.push(self.key(&name).await?);
        }
        let (id, value) = made.first().ok_or("a user without a key")?;
        let held = json!({ "AWS_ACCESS_KEY_ID": id, "AWS_SECRET_ACCESS_KEY": value }).to_string();
        // The version's id is the client's to give, and 32 characters at least.
        let body = json!({ "Name": secret, "SecretString": held, "ClientRequestToken": format!("00000000-0000-4000-a000-{number:012}") });
        let reply = self
            .client
            .json(&self.root, "secretsmanager", "CreateSecret", &body)
            .await?;
        accepted("CreateSecret", reply)?;
        Ok(User {
            name,
            keys: made,
            secret,
        })
    }

    /// Two of three users have used their first key; nobody ever used a second one.
    async fn work(&self, users: &[User]) -> Result<(), String> {
        for user in users
            .iter()
            .enumerate()
            .filter(|(n, _)| n % 3 != 2)
            .map(|(_, user)| user)
        {
            if let Some((id, secret)) = user.keys.first() {
                let signer = Signer::new(id, secret);
                let reply = self
                    .client
                    .query(&signer, "sts", "GetCallerIdentity", &[])
                    .await?;
                accepted("GetCallerIdentity", reply)?;
            }
        }
        Ok(())
    }

    /// What the trail will tell of an intruder: each role assumed with the session of the one before.
    async fn intrude(&self, stolen: Signer, roles: &[String]) -> Result<(), String> {
        let client = self.client.clone().called(USER_AGENT, None);
        let mut with = stolen;
        for role in roles {
            let ask = [("RoleArn", role.as_str()), ("RoleSessionName", "intruder")];
            let reply = client.query(&with, "sts", "AssumeRole", &ask).await?;
            with = Signer::of(&accepted("AssumeRole", reply)?)
                .ok_or("a session without credentials")?;
        }
        accepted(
            "ListUsers",
            client.query(&with, "iam", "ListUsers", &[]).await?,
        )?;
        Ok(())
    }

    async fn roles(&self) -> Result<Vec<String>, String> {
        let mut arns: Vec<String> = Vec::new();
        for name in ["shop-web", "shop-deploy", "shop-admin"] {
            let who = arns
                .last()
                .map_or("arn:aws:iam::000000000000:root", String::as_str);
            let trust = json!({ "Version": "2012-10-17", "Statement": [
                { "Effect": "Allow", "Principal": { "AWS": who }, "Action": "sts:AssumeRole" } ] });
            let role = [
                ("RoleName", name),
                ("AssumeRolePolicyDocument", &trust.to_string()),
            ];
            let reply = self.iam("CreateRole", &role).await?;
            let arn = crate::xml::text(reply.text(), "Arn").ok_or("a role without an ARN")?;
            self.iam(
                "PutRolePolicy",
                &[
                    ("RoleName", name),
                    ("PolicyName", "work"),
                    ("PolicyDocument", ANYTHING),
                ],
            )
            .await?;
            arns.push(arn);
        }
        Ok(arns)
    }
}

fn accepted(what: &str, reply: Reply) -> Result<Reply, String> {
    if reply.ok() {
        Ok(reply)
    } else {
        Err(format!("{what}: {} {}", reply.status, reply.text()))
    }
}
