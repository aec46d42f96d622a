//! Access keys and temporary credentials: who a signature stands for, and what it may do.

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use crate::port::Signer;

use super::policy::{Asked, Verdict, judge, trusts};
use super::world::{EstateWorld, Kept, whole_seconds};

/// Whose doing something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hand {
    /// It was there before.
    Shop,
    /// Ours, through the ports.
    Ours,
    /// The intruder's.
    Attacker,
}

/// An access key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// User's name.
    pub user: String,
    /// Its secret.
    pub secret: Kept,
    /// Active or Inactive.
    pub active: bool,
    /// When it was made.
    pub created: DateTime<Utc>,
    /// By whom.
    pub by: Hand,
    /// When it was last used.
    pub used: Option<DateTime<Utc>>,
    /// Service it was last used at.
    pub used_at: Option<String>,
    /// Calls of ours until lists show it.
    pub unlisted_for: u32,
    /// Calls of ours until it authenticates.
    pub unusable_for: u32,
    /// When somebody last signed for it with a wrong secret.
    pub wrong_secret: Option<DateTime<Utc>>,
}

/// Temporary credentials, of a role or of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// Member it acts as.
    pub member: String,
    /// Session name.
    pub name: String,
    /// Secret.
    pub secret: Kept,
    /// Token.
    pub token: Kept,
    /// Issue time, whole seconds.
    pub issued: DateTime<Utc>,
    /// Until when.
    pub expires: DateTime<Utc>,
    /// Id of the credentials it was asked for with; empty where none were needed.
    pub from: String,
}

/// Who a signature stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Member.
    pub member: String,
    /// Key or session id.
    pub key: String,
    /// Session name, of a role's session.
    pub session: Option<String>,
    /// Issue time, of a session.
    pub issued: Option<DateTime<Utc>>,
}

/// A refusal: code and words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct No {
    /// The protocol's code.
    pub code: &'static str,
    /// Words.
    pub text: String,
}

impl No {
    pub(super) fn new(code: &'static str, text: impl Into<String>) -> Self {
        No {
            code,
            text: text.into(),
        }
    }
}

/// How long a wrong signature makes the token service refuse the right one.
const CONFUSED_S: i64 = 5;

impl EstateWorld {
    /// Adds an access key of a user and answers its id.
    pub fn add_key(&mut self, user: &str, created: DateTime<Utc>, by: Hand) -> String {
        let id = self.mint("AKIA", 16);
        let key = Key {
            user: user.to_owned(),
            secret: self.mint_secret(),
            active: true,
            created: whole_seconds(created),
            by,
            used: None,
            used_at: None,
            unlisted_for: 0,
            unusable_for: 0,
            wrong_secret: None,
        };
        self.keys.insert(id.clone(), key);
        id
    }
    /// Opens a session for a member and answers its id. It checks nothing.
    pub fn open_session(
        &mut self,
        member: &str,
        name: &str,
        now: DateTime<Utc>,
        seconds: i64,
        from: &str,
    ) -> String {
        let id = self.mint("ASIA", 16);
        let (secret, token) = (self.mint_secret(), self.mint_secret());
        let session = Session {
            member: member.to_owned(),
            name: name.to_owned(),
            secret,
            token,
            issued: whole_seconds(now),
            expires: whole_seconds(now) + Duration::seconds(seconds),
            from: from.to_owned(),
        };
        self.sessions.insert(id.clone(), session);
        id
    }
    /// What its holder signs with.
    pub fn signer(&self, id: &str) -> Option<Signer> {
        let secret = |kept: &Kept| crate::port::Secret::new(kept.0.clone());
        if let Some(key) = self.keys.get(id) {
            return Some(Signer {
                id: id.to_owned(),
                secret: secret(&key.secret),
                token: None,
            });
        }
        self.sessions.get(id).map(|s| Signer {
            id: id.to_owned(),
            secret: secret(&s.secret),
            token: Some(secret(&s.token)),
        })
    }
    /// Whom the signature of these credentials stands for. An inactive, deleted or unknown key is refused before its secret is looked at.
    ///
    /// # Errors
    /// The code that the token service answers with.
    pub fn authenticate(&mut self, signer: &Signer, now: DateTime<Utc>) -> Result<Signed, No> {
        let given = signer.secret.expose_secret();
        if let Some(session) = self.sessions.get(&signer.id) {
            let token = signer.token.as_ref().map(|t| t.expose_secret());
            if token != Some(session.token.0.as_str()) {
                return Err(No::new(
                    "InvalidClientTokenId",
                    "the security token is invalid",
                ));
            }
            if session.secret.0 != given {
                return Err(mismatch());
            }
            return self.by_id(&signer.id, now);
        }
        let signed = self.by_id(&signer.id, now)?;
        let Some(key) = self.keys.get_mut(&signer.id) else {
            return Err(unknown());
        };
        if key.secret.0 != given {
            key.wrong_secret = Some(now);
            return Err(mismatch());
        }
        let confused = key
            .wrong_secret
            .is_some_and(|at| now - at < Duration::seconds(CONFUSED_S));
        if confused {
            return Err(mismatch());
        }
        Ok(signed)
    }
    /// The same for who certainly holds the secret.
    ///
    /// # Errors
    /// The code that the token service answers with.
    pub fn by_id(&self, id: &str, now: DateTime<Utc>) -> Result<Signed, No> {
        if let Some(session) = self.sessions.get(id) {
            if session.expires <= now {
                return Err(No::new("ExpiredToken", "the security token is expired"));
            }
            let of_role = session.member.starts_with("role/");
            return Ok(Signed {
                member: session.member.clone(),
                key: id.to_owned(),
                session: of_role.then(|| session.name.clone()),
                issued: Some(session.issued),
            });
        }
        match self.keys.get(id) {
            Some(key) if key.active && key.unusable_for == 0 => Ok(Signed {
                member: format!("user/{}", key.user),
                key: id.to_owned(),
                session: None,
                issued: None,
            }),
            _ => Err(unknown()),
        }
    }
    /// ARN of who signed: a user's, or a role session's.
    pub fn signed_arn(&self, signed: &Signed) -> String {
        let name = signed.member.split_once('/').map_or("", |(_, n)| n);
        match &signed.session {
            Some(session) => format!(
                "arn:aws:sts::{}:assumed-role/{name}/{session}",
                self.account
            ),
            None => self.arn(&signed.member),
        }
    }
    fn context(&self, signed: &Signed, now: DateTime<Utc>) -> BTreeMap<String, String> {
        let text = |t: DateTime<Utc>| t.to_rfc3339_opts(SecondsFormat::Secs, true);
        let mut context = BTreeMap::from([
            ("aws:PrincipalArn".to_owned(), self.arn(&signed.member)),
            ("aws:CurrentTime".to_owned(), text(now)),
        ]);
        if let Some(issued) = signed.issued {
            context.insert("aws:TokenIssueTime".to_owned(), text(issued));
        }
        if let Some(member) = self.members.get(&signed.member) {
            context.extend(
                member
                    .tags
                    .iter()
                    .map(|(k, v)| (format!("aws:PrincipalTag/{k}"), v.clone())),
            );
        }
        context
    }
    /// Inline and attached policies of a member.
    pub(super) fn documents(&self, member: &str) -> Vec<&str> {
        let Some(member) = self.members.get(member) else {
            return Vec::new();
        };
        let attached = member.attached.iter().filter_map(|a| self.managed.get(a));
        member
            .inline
            .values()
            .chain(attached)
            .map(String::as_str)
            .collect()
    }
    /// Judges an action of who signed, by its own policies and the organisation's.
    pub fn judge(
        &self,
        signed: &Signed,
        action: &str,
        resource: &str,
        now: DateTime<Utc>,
    ) -> Verdict {
        let asked = Asked {
            action,
            resource,
            context: self.context(signed, now),
        };
        let organisation = self.organisation.iter().map(String::as_str);
        if judge(organisation, &asked) == Verdict::Denied {
            return Verdict::Denied;
        }
        judge(self.documents(&signed.member), &asked)
    }
    /// Lets an action of who signed pass or refuses it.
    ///
    /// # Errors
    /// `AccessDenied`. `GetCallerIdentity` is answered whatever a policy says.
    pub fn authorize(
        &self,
        signed: &Signed,
        action: &str,
        resource: &str,
        now: DateTime<Utc>,
    ) -> Result<(), No> {
        if action == "sts:GetCallerIdentity" {
            return Ok(());
        }
        let why = match self.judge(signed, action, resource, now) {
            Verdict::Allowed => return Ok(()),
            Verdict::NotAllowed => "because no identity-based policy allows the action",
            Verdict::Denied => "with an explicit deny in a policy",
        };
        let who = self.signed_arn(signed);
        let text = format!("{who} is not authorized to perform: {action} on {resource} {why}");
        Err(No::new("AccessDenied", text))
    }
    /// Assumes a role: the caller's policies, then the role's trust. Answers the session's id.
    ///
    /// # Errors
    /// `AccessDenied`.
    pub fn assume(
        &mut self,
        signed: &Signed,
        arn: &str,
        name: &str,
        now: DateTime<Utc>,
    ) -> Result<String, No> {
        self.authorize(signed, "sts:AssumeRole", arn, now)?;
        let asked = Asked {
            action: "sts:AssumeRole",
            resource: arn,
            context: self.context(signed, now),
        };
        let callers = [
            self.signed_arn(signed),
            self.arn(&signed.member),
            format!("arn:aws:iam::{}:root", self.account),
        ];
        let member = self.trusted_role(arn, &callers, &asked)?;
        // A role's session that assumes a role gets an hour at most.
        let seconds = if signed.session.is_some() {
            3600
        } else {
            12 * 3600
        };
        Ok(self.open_session(&member, name, now, seconds, &signed.key))
    }
    /// Assumes a role with a service account's token: only the trust policy is asked.
    ///
    /// # Errors
    /// `AccessDenied`.
    pub fn assume_with_token(
        &mut self,
        subject: &str,
        arn: &str,
        name: &str,
        now: DateTime<Utc>,
    ) -> Result<String, No> {
        let asked = Asked {
            action: "sts:AssumeRoleWithWebIdentity",
            resource: arn,
            context: BTreeMap::from([
                (format!("{OIDC}:sub"), subject.to_owned()),
                (format!("{OIDC}:aud"), "sts.amazonaws.com".to_owned()),
            ]),
        };
        let provider = format!("arn:aws:iam::{}:oidc-provider/{OIDC}", self.account);
        let member = self.trusted_role(arn, &[provider], &asked)?;
        Ok(self.open_session(&member, name, now, 3600, ""))
    }
    fn trusted_role(&self, arn: &str, callers: &[String], asked: &Asked<'_>) -> Result<String, No> {
        let member = self.member_of_arn(arn).filter(|m| m.starts_with("role/"));
        let trusted = member.filter(|m| {
            self.members
                .get(m)
                .and_then(|m| m.trust.as_deref())
                .is_some_and(|t| trusts(t, callers, asked))
        });
        trusted.ok_or_else(|| {
            let text = format!("not authorized to perform: {} on {arn}", asked.action);
            No::new("AccessDenied", text)
        })
    }
    /// Notes that a key was used.
    pub(super) fn mark_used(&mut self, id: &str, service: &str, now: DateTime<Utc>) {
        if let Some(key) = self.keys.get_mut(id) {
            key.used = Some(whole_seconds(now));
            key.used_at = Some(service.to_owned());
        }
    }
}

/// Issuer of the cluster's service account tokens, as the account knows it.
pub const OIDC: &str = "oidc.cluster.shop.example";

/// A trust policy for one service account of the cluster.
pub fn trust_service_account(account: &str, namespace: &str, name: &str) -> String {
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"Federated":"arn:aws:iam::{account}:oidc-provider/{OIDC}"}},"Action":"sts:AssumeRoleWithWebIdentity","Condition":{{"StringEquals":{{"{OIDC}:sub":"system:serviceaccount:{namespace}:{name}","{OIDC}:aud":"sts.amazonaws.com"}}}}}}]}}"#
    )
}

fn unknown() -> No {
    No::new(
        "InvalidClientTokenId",
        "the security token included in the request is invalid",
    )
}

fn mismatch() -> No {
    No::new(
        "SignatureDoesNotMatch",
        "the request signature does not match the one that was calculated",
    )
}
