//! The remote changes and looks that a machine may ask for.

use std::collections::BTreeMap;

use crate::port::{Principal, Server};

/// One remote change: intent, call, outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// State that it leads to, as §9 of the machines' page names it.
    pub step: &'static str,
    /// Which of several of that step; empty when there is one.
    pub target: String,
    /// The call.
    pub call: Call,
    /// It takes an earlier change back.
    pub reversal: bool,
}

impl Change {
    /// A change without a target of its own.
    pub fn new(step: &'static str, call: Call) -> Self {
        Change {
            step,
            target: String::new(),
            call,
            reversal: false,
        }
    }
    /// The same, for one of several.
    #[must_use]
    pub fn on(mut self, target: impl Into<String>) -> Self {
        self.target = target.into();
        self
    }
    /// The same, as taking back.
    #[must_use]
    pub fn back(mut self) -> Self {
        self.reversal = true;
        self
    }
}

/// Which value a sink or a server gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// The new one.
    New,
    /// The old one, on the way back.
    Old,
}

/// A call. What it carries of secrets is not in here: the driver has the value or reads it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Set an access key Active or Inactive.
    SetKey {
        /// User.
        user: String,
        /// Key id.
        key: String,
        /// Active.
        active: bool,
    },
    /// Delete an access key.
    DeleteKey {
        /// User.
        user: String,
        /// Key id.
        key: String,
    },
    /// Make an access key.
    CreateKey {
        /// User.
        user: String,
    },
    /// Put the deny of sessions older than T on a principal; the driver reads the T in place and takes the later one.
    DenySessions {
        /// Principal.
        principal: Principal,
    },
    /// Deny a user everything, whatever it signs with: for one who wakes one key with another. It blocks a new key too.
    DenyAll {
        /// User.
        user: String,
    },
    /// Replace a role's trust policy.
    SetTrust {
        /// Role.
        role: String,
        /// The policy as it shall be.
        document: String,
        /// The policy that must be there.
        expect: String,
    },
    /// Make the secret that keeps the new value.
    CreateSecret {
        /// Name.
        name: String,
        /// Token, which becomes the version id.
        token: String,
    },
    /// Store the new value as a version: pending, or in use where the secret is the run's own.
    PutVersion {
        /// Secret.
        secret: String,
        /// Token, which becomes the version id.
        token: String,
        /// Label.
        label: &'static str,
    },
    /// Move a label from one version to another.
    MoveLabel {
        /// Secret.
        secret: String,
        /// Label.
        label: &'static str,
        /// Version that must hold it.
        from: Option<String>,
        /// Version that gets it.
        to: Option<String>,
    },
    /// Set the password on the server by its verifier.
    SetVerifier {
        /// Server.
        server: Server,
        /// Role.
        role: String,
        /// Which.
        value: Value,
    },
    /// End the role's sessions that began before the set.
    EndSessions {
        /// Server.
        server: Server,
        /// Role.
        role: String,
    },
    /// Write a sink.
    WriteSink {
        /// Index into the item's sinks.
        sink: usize,
        /// Which.
        value: Value,
    },
    /// Make a service account.
    PutAccount {
        /// Index into the role's moves.
        r#move: usize,
    },
    /// Move a workload to another service account, which restarts it.
    MoveAccount {
        /// Index into the plan's workloads.
        workload: usize,
        /// From.
        from: String,
        /// To.
        to: String,
    },
    /// Restart a workload by its template's annotation.
    Restart {
        /// Index into the plan's workloads.
        workload: usize,
    },
    /// Take that annotation off again.
    UndoRestart {
        /// Index into the plan's workloads.
        workload: usize,
    },
}

impl Call {
    /// Its name in entries.
    pub fn name(&self) -> &'static str {
        match self {
            Call::SetKey { .. } => "iam:UpdateAccessKey",
            Call::DeleteKey { .. } => "iam:DeleteAccessKey",
            Call::CreateKey { .. } => "iam:CreateAccessKey",
            Call::DenySessions {
                principal: Principal::User(_),
            }
            | Call::DenyAll { .. } => "iam:PutUserPolicy",
            Call::DenySessions { .. } => "iam:PutRolePolicy",
            Call::SetTrust { .. } => "iam:UpdateAssumeRolePolicy",
            Call::CreateSecret { .. } => "secretsmanager:CreateSecret",
            Call::PutVersion { .. } => "secretsmanager:PutSecretValue",
            Call::MoveLabel { .. } => "secretsmanager:UpdateSecretVersionStage",
            Call::SetVerifier { .. } => "postgres:SetVerifier",
            Call::EndSessions { .. } => "postgres:TerminateSessions",
            Call::WriteSink { .. } => "kubernetes:PatchSecret",
            Call::PutAccount { .. } => "kubernetes:CreateServiceAccount",
            Call::MoveAccount { .. } => "kubernetes:PatchWorkload",
            Call::Restart { .. } | Call::UndoRestart { .. } => "kubernetes:RestartWorkload",
        }
    }
    /// What of its parameters may be written down: an allow-list.
    pub fn params(&self) -> BTreeMap<String, String> {
        let pairs: Vec<(&str, String)> = match self {
            Call::SetKey { user, key, active } => {
                let status = if *active { "Active" } else { "Inactive" };
                vec![
                    ("user", user.clone()),
                    ("key_id", key.clone()),
                    ("status", status.into()),
                ]
            }
            Call::DeleteKey { user, key } => {
                vec![("user", user.clone()), ("key_id", key.clone())]
            }
            Call::CreateKey { user } => vec![("user", user.clone())],
            Call::DenySessions { principal } => vec![("principal", principal.name().into())],
            Call::DenyAll { user } => vec![("principal", user.clone())],
            Call::SetTrust { role, .. } => vec![("role", role.clone())],
            Call::CreateSecret { name, token } => {
                vec![("secret", name.clone()), ("version_id", token.clone())]
            }
            Call::PutVersion {
                secret,
                token,
                label,
            } => vec![
                ("secret", secret.clone()),
                ("version_id", token.clone()),
                ("label", (*label).into()),
            ],
            Call::MoveLabel {
                secret,
                label,
                from,
                to,
            } => {
                let mut pairs = vec![("secret", secret.clone()), ("label", (*label).into())];
                pairs.extend(from.clone().map(|v| ("from", v)));
                pairs.extend(to.clone().map(|v| ("to", v)));
                pairs
            }
            Call::SetVerifier { server, role, .. } | Call::EndSessions { server, role } => {
                vec![("server", server.to_string()), ("role", role.clone())]
            }
            Call::PutAccount { r#move } => vec![("move", r#move.to_string())],
            Call::MoveAccount { from, to, .. } => {
                vec![("from", from.clone()), ("to", to.clone())]
            }
            Call::WriteSink { .. } | Call::Restart { .. } | Call::UndoRestart { .. } => Vec::new(),
        };
        pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
    }
    /// True when it brings a new credential into being: in an emergency all kills of the fleet come before the first of these.
    pub fn issues(&self) -> bool {
        matches!(
            self,
            Call::CreateKey { .. } | Call::CreateSecret { .. } | Call::PutVersion { .. }
        )
    }
    /// True when it takes a credential's power away.
    pub fn kills(&self) -> bool {
        matches!(
            self,
            Call::SetKey { active: false, .. }
                | Call::DeleteKey { .. }
                | Call::DenySessions { .. }
                | Call::DenyAll { .. }
                | Call::SetTrust { .. }
                | Call::EndSessions { .. }
        )
    }
    /// True when sending it again after an unclear answer changes nothing more.
    pub fn repeatable(&self) -> bool {
        !matches!(self, Call::CreateKey { .. })
    }
}

/// Something to look at; the answer is an entry, with `holds`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// The new access key answers at each endpoint so many times in a row.
    NewKeyWorks {
        /// Key id.
        key: String,
    },
    /// Nobody has used the old key since the consumers restarted, for the period plus the trail's lag.
    OldKeyQuiet {
        /// Key id.
        key: String,
    },
    /// Nothing of the intruder has appeared: keys, a console password, a deny taken off; twice, apart.
    ScanClean {
        /// User.
        user: String,
    },
    /// The deny of everything is not there any more: a person took it off.
    DenyLifted {
        /// User.
        user: String,
    },
    /// Once the trail has caught up: no role was assumed from the compromised keys that is not revoked since.
    ChainClean,
    /// The old access key is refused.
    OldKeyDead {
        /// User.
        user: String,
        /// Key id.
        key: String,
    },
    /// Who made a key that appeared, and whether it was used. Facts: `who` = `ours`, `foreign`, `unknown`; `used` = `yes`, `no`.
    WhoCreated {
        /// User.
        user: String,
        /// Key id.
        key: String,
    },
    /// The changed trust policy has taken hold. Facts: `t`.
    TrustEffective {
        /// Role.
        role: String,
    },
    /// A session issued before T is denied what worked, and a fresh one is allowed it.
    SessionsDenied {
        /// Role.
        role: String,
    },
    /// The new password works on every server.
    NewPasswordWorks,
    /// The old password is refused on every server while the new one is accepted at the same moment.
    OldPasswordDead,
    /// No session of the role that began before the set is left, twice, on every server.
    SessionsGone,
    /// The secret's replicas hold the new version.
    ReplicasInSync {
        /// Secret.
        secret: String,
    },
    /// The workload's rollout is complete.
    RolloutDone {
        /// Index into the plan's workloads.
        workload: usize,
    },
}
