//! What the traffic told about users, keys and sessions. Everything goes through the proxy, so that it is told of everything.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::call::Call;
use crate::reply::Reply;
use crate::xml;

/// Who signs with a key.
#[derive(Clone, Debug)]
pub struct Identity {
    /// `Root`, `IAMUser`, `AssumedRole`, `FederatedUser`.
    pub kind: &'static str,
    /// ARN.
    pub arn: String,
    /// `AIDA…`, `AROA…:session`.
    pub principal: String,
    /// Account.
    pub account: String,
    /// User name, or session name.
    pub name: String,
    /// When the session was made, of a session.
    pub since: Option<DateTime<Utc>>,
    /// Source identity, of a session that carries one.
    pub source_identity: Option<String>,
}

/// The last use of a key.
#[derive(Clone, Debug)]
pub struct Use {
    /// When.
    pub at: DateTime<Utc>,
    /// Service.
    pub service: String,
    /// Region.
    pub region: String,
}

/// ARN and id of a user or role.
#[derive(Clone)]
struct Named {
    arn: String,
    id: String,
}

/// All that was heard.
#[derive(Default)]
pub struct Known {
    identities: HashMap<String, Identity>,
    users: HashMap<String, Named>,
    roles: HashMap<String, Named>,
    keys: HashMap<String, BTreeSet<String>>,
    creating: HashMap<String, usize>,
    inactive: BTreeSet<String>,
    used: HashMap<String, Vec<Use>>,
}

impl Known {
    /// Who signs with this key.
    pub fn identity(&self, key: &str) -> Option<&Identity> {
        self.identities.get(key)
    }

    /// The user that a call of keys is about: the named one, else whoever signs.
    pub fn user_of(&self, call: &Call) -> Option<String> {
        match call.parameter("UserName") {
            Some(name) => Some(name.to_owned()),
            None => self.identity(call.key.as_deref()?).map(|i| i.name.clone()),
        }
    }

    /// True when this key is known to be dead.
    pub fn is_dead(&self, key: &str) -> bool {
        self.inactive.contains(key)
    }

    /// Takes a place for a new key; false when the user has `limit` already.
    pub fn reserve(&mut self, user: &str, limit: usize) -> bool {
        let held = self.keys.get(user).map_or(0, BTreeSet::len);
        let coming = self.creating.entry(user.to_owned()).or_default();
        if limit > 0 && held + *coming >= limit {
            return false;
        }
        *coming += 1;
        true
    }

    /// Gives back what [`Known::reserve`] took, once the answer is known.
    pub fn release(&mut self, user: &str) {
        if let Some(coming) = self.creating.get_mut(user) {
            *coming = coming.saturating_sub(1);
        }
    }

    /// Notes a use. A few are kept, because what is shown may lag behind.
    pub fn used(&mut self, call: &Call, at: DateTime<Utc>) {
        let Some(key) = &call.key else { return };
        let uses = self.used.entry(key.clone()).or_default();
        uses.push(Use {
            at,
            service: call.service.clone(),
            region: call.region.clone(),
        });
        if uses.len() > 4096 {
            uses.drain(..2048);
        }
    }

    /// The last use that is no younger than `until`.
    pub fn last_use(&self, key: &str, until: DateTime<Utc>) -> Option<&Use> {
        self.used.get(key)?.iter().rev().find(|u| u.at <= until)
    }

    /// Learns from a success. `account` is for principals that nothing was heard of.
    pub fn learn(&mut self, call: &Call, reply: &Reply, account: &str, at: DateTime<Utc>) {
        let text = reply.text();
        match call.action.as_str() {
            "CreateUser" | "GetUser" | "ListUsers" => self.learn_named(text, "User"),
            "CreateRole" | "GetRole" | "ListRoles" => self.learn_named(text, "Role"),
            "CreateAccessKey" => {
                let user = xml::text(text, "UserName").or_else(|| self.user_of(call));
                if let (Some(key), Some(user)) = (xml::text(text, "AccessKeyId"), user) {
                    self.learn_key(&user, &key, account);
                }
            }
            "ListAccessKeys" => {
                for member in xml::members(text).map(|m| m.items).unwrap_or_default() {
                    if let (Some(key), Some(user)) = (
                        xml::text(member, "AccessKeyId"),
                        xml::text(member, "UserName"),
                    ) {
                        self.learn_key(&user, &key, account);
                    }
                }
            }
            "UpdateAccessKey" => self.learn_status(call),
            "DeleteAccessKey" => self.forget_key(call),
            "DeleteUser" => {
                self.keys.remove(call.parameter("UserName").unwrap_or(""));
            }
            "AssumeRole"
            | "AssumeRoleWithWebIdentity"
            | "GetSessionToken"
            | "GetFederationToken" => {
                self.learn_session(call, text, account, at);
            }
            "GetCallerIdentity" => self.learn_caller(call, text),
            _ => {}
        }
    }

    fn learn_named(&mut self, text: &str, kind: &str) {
        let one;
        let items = match xml::members(text) {
            Some(members) if text.contains(&format!("<List{kind}sResult>")) => members.items,
            _ => {
                one = text;
                vec![one]
            }
        };
        for item in items {
            let found = (
                xml::text(item, &format!("{kind}Name")),
                xml::text(item, &format!("{kind}Id")),
                xml::text(item, "Arn"),
            );
            if let (Some(name), Some(id), Some(arn)) = found {
                let place = if kind == "User" {
                    &mut self.users
                } else {
                    &mut self.roles
                };
                place.insert(name, Named { arn, id });
            }
        }
    }

    fn learn_key(&mut self, user: &str, key: &str, account: &str) {
        self.keys
            .entry(user.to_owned())
            .or_default()
            .insert(key.to_owned());
        let named = self.users.get(user).cloned().unwrap_or(Named {
            arn: format!("arn:aws:iam::{account}:user/{user}"),
            id: format!("AIDA{}", user.to_uppercase()),
        });
        let identity = Identity {
            kind: "IAMUser",
            account: account_of(&named.arn, account),
            arn: named.arn,
            principal: named.id,
            name: user.to_owned(),
            since: None,
            source_identity: None,
        };
        self.identities.insert(key.to_owned(), identity);
    }

    fn learn_status(&mut self, call: &Call) {
        let key = call.parameter("AccessKeyId").unwrap_or("").to_owned();
        match call.parameter("Status") {
            Some("Inactive") => self.inactive.insert(key),
            _ => self.inactive.remove(&key),
        };
    }

    fn forget_key(&mut self, call: &Call) {
        let key = call.parameter("AccessKeyId").unwrap_or("");
        for keys in self.keys.values_mut() {
            keys.remove(key);
        }
        self.inactive.insert(key.to_owned());
    }

    fn learn_session(&mut self, call: &Call, text: &str, account: &str, at: DateTime<Utc>) {
        let Some(key) = xml::text(text, "AccessKeyId") else {
            return;
        };
        let source_identity = call.parameter("SourceIdentity").map(str::to_owned);
        let told = xml::text(text, "Arn");
        let identity = match (call.action.as_str(), told) {
            ("GetSessionToken", _) => call
                .key
                .as_ref()
                .and_then(|k| self.identities.get(k))
                .cloned(),
            (action, Some(arn)) => {
                let federated = action == "GetFederationToken";
                let id = if federated {
                    "FederatedUserId"
                } else {
                    "AssumedRoleId"
                };
                Some(Identity {
                    kind: if federated {
                        "FederatedUser"
                    } else {
                        "AssumedRole"
                    },
                    account: account_of(&arn, account),
                    principal: xml::text(text, id).unwrap_or_default(),
                    name: last_part(&arn),
                    arn,
                    since: None,
                    source_identity: None,
                })
            }
            _ => None,
        };
        if let Some(identity) = identity {
            let source_identity = source_identity.or_else(|| {
                // A chained session carries on what the first one said.
                self.identities
                    .get(call.key.as_deref()?)?
                    .source_identity
                    .clone()
            });
            let session = Identity {
                since: Some(at),
                source_identity,
                ..identity
            };
            self.identities.insert(key, session);
        }
    }

    fn learn_caller(&mut self, call: &Call, text: &str) {
        let (Some(key), Some(arn)) = (&call.key, xml::text(text, "Arn")) else {
            return;
        };
        let kind = match &arn {
            root if root.ends_with(":root") => "Root",
            role if role.contains(":assumed-role/") => "AssumedRole",
            federated if federated.contains(":federated-user/") => "FederatedUser",
            _ => "IAMUser",
        };
        let identity = Identity {
            kind,
            account: xml::text(text, "Account").unwrap_or_default(),
            principal: xml::text(text, "UserId").unwrap_or_default(),
            name: if kind == "Root" {
                "root".to_owned()
            } else {
                last_part(&arn)
            },
            arn,
            since: None,
            source_identity: None,
        };
        self.identities.entry(key.clone()).or_insert(identity);
    }

    /// `userIdentity` of an event by this key.
    pub fn user_identity(&self, key: Option<&str>, account: &str) -> Value {
        let Some(key) = key else {
            return json!({ "type": "WebIdentityUser" });
        };
        let Some(identity) = self.identity(key) else {
            // The double's own root key is the only one that nobody made.
            let arn = format!("arn:aws:iam::{account}:root");
            return json!({ "type": "Root", "principalId": account, "arn": arn, "accountId": account, "accessKeyId": key });
        };
        let mut value = json!({
            "type": identity.kind, "principalId": identity.principal, "arn": identity.arn,
            "accountId": identity.account, "accessKeyId": key,
        });
        if identity.kind == "IAMUser" {
            value["userName"] = json!(identity.name);
        }
        if let Some(since) = identity.since {
            value["sessionContext"] = self.session_context(identity, since);
        }
        value
    }

    fn session_context(&self, identity: &Identity, since: DateTime<Utc>) -> Value {
        let mut context = json!({ "attributes": { "creationDate": seconds(since), "mfaAuthenticated": "false" } });
        if identity.kind == "AssumedRole" {
            // arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION
            let role = identity.arn.split('/').nth(1).unwrap_or("");
            let named = self.roles.get(role).cloned().unwrap_or(Named {
                arn: format!("arn:aws:iam::{}:role/{role}", identity.account),
                id: identity
                    .principal
                    .split(':')
                    .next()
                    .unwrap_or("")
                    .to_owned(),
            });
            context["sessionIssuer"] = json!({
                "type": "Role", "principalId": named.id, "arn": named.arn,
                "accountId": identity.account, "userName": role,
            });
        }
        if let Some(source) = &identity.source_identity {
            context["sourceIdentity"] = json!(source);
        }
        context
    }
}

/// A time as services write it, to the second.
pub fn seconds(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn last_part(arn: &str) -> String {
    arn.rsplit('/').next().unwrap_or(arn).to_owned()
}

fn account_of(arn: &str, otherwise: &str) -> String {
    match arn.split(':').nth(4) {
        Some(account) if !account.is_empty() => account.to_owned(),
        _ => otherwise.to_owned(),
    }
}
