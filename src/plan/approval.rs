//! Checking a signed approval: SSHSIG over the text's exact bytes, against the pinned signers, for exactly one gate.
//!
//! Every way to be refused has its code. Nothing here takes a signature for a person: only a key that the pinned `allowed_signers`
//! names for that principal, in that namespace, at that time, does.

use chrono::{DateTime, Duration, Utc};
use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey, PublicKey, SshSig};

use crate::incident::body::Decision;
use crate::incident::{Effect, IncidentId, Mode, RunId, StepPath};
use crate::playbook::model::Playbook;

use super::approval_text::{ApprovalText, Malformed, namespace};
use super::people::{Policy, Signer};
use super::policy::{Executor, Need};

/// A signature's clock may be this much ahead of the ledger's.
const AHEAD: i64 = 2;

/// Why an approval does not count. Each is recorded and ends with exit 4.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// FB0501.
    #[error("the text is no approval: {0}")]
    Malformed(#[from] Malformed),
    /// FB0502.
    #[error("the signature does not verify: {0}")]
    BadSignature(String),
    /// FB0503.
    #[error("the key is not trusted: {0}")]
    NotTrusted(String),
    /// FB0504.
    #[error("the key does not count now: {0}")]
    KeyNotValid(String),
    /// FB0505.
    #[error("{principal} holds none of the roles {roles}")]
    RoleNotHeld {
        /// Who.
        principal: String,
        /// Roles asked.
        roles: String,
    },
    /// FB0506.
    #[error("the approval counts from {issued} to {expires}, and it is {now}")]
    Expired {
        /// From.
        issued: String,
        /// Until.
        expires: String,
        /// Ledger time.
        now: String,
    },
    /// FB0507.
    #[error("the approval is for another {what}: {found}, and this is {expected}")]
    Other {
        /// Incident, run, plan, step, call or attempt.
        what: &'static str,
        /// In the text.
        found: String,
        /// Here.
        expected: String,
    },
    /// FB0508.
    #[error("the nonce {0} was used before")]
    NonceUsed(String),
    /// FB0509.
    #[error("{0}")]
    NotCounted(String),
}

impl Refusal {
    /// Its code.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::Malformed(_) => "FB0501",
            Refusal::BadSignature(_) => "FB0502",
            Refusal::NotTrusted(_) => "FB0503",
            Refusal::KeyNotValid(_) => "FB0504",
            Refusal::RoleNotHeld { .. } => "FB0505",
            Refusal::Expired { .. } => "FB0506",
            Refusal::Other { .. } => "FB0507",
            Refusal::NonceUsed(_) => "FB0508",
            Refusal::NotCounted(_) => "FB0509",
        }
    }
}

/// A gate that an approval is held against.
#[derive(Debug, Clone, PartialEq)]
pub struct GateFacts {
    /// The step.
    pub step: StepPath,
    /// Its attempt.
    pub attempt: u32,
    /// Digest of its call.
    pub call_sha256: String,
    /// Its effect.
    pub effect: Effect,
    /// What it needs.
    pub need: Need,
    /// Roles of the playbook that may decide; empty = anyone of the people file.
    pub roles: Vec<String>,
}

/// What an approval is held against.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// Incident.
    pub incident: &'a IncidentId,
    /// Live or drill.
    pub mode: Mode,
    /// Run.
    pub run: &'a RunId,
    /// Digest of its plan.
    pub plan_sha256: &'a str,
    /// Who runs it, by principal.
    pub executor: &'a str,
    /// The playbook, for its roles.
    pub playbook: &'a Playbook,
    /// Policy, people, keys.
    pub policy: &'a Policy,
    /// Gates by step.
    pub gates: &'a [GateFacts],
    /// Nonces that the ledger holds.
    pub nonces: &'a [String],
    /// Principal and key of approvals that count already, by step.
    pub counted: &'a [(StepPath, String, String)],
    /// Ledger time of the decision.
    pub now: DateTime<Utc>,
}

/// An approval that counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Accepted {
    /// The text as fields.
    pub text: ApprovalText,
    /// Role (of the playbook) in which they decided, where one was asked for.
    pub role: Option<String>,
    /// Fingerprint of the key.
    pub key: String,
}

/// Holds a signed text against the facts.
///
/// # Errors
/// With the first reason why it does not count.
pub fn check(text: &str, armour: &str, facts: &Facts<'_>) -> Result<Accepted, Refusal> {
    let approval = ApprovalText::parse(text)?;
    let key = verify(text.as_bytes(), armour, namespace(facts.mode))?;
    trusted(&key, &approval.principal, facts)?;
    in_time(&approval, facts.now)?;
    same_gate(&approval, facts)?;
    if facts.nonces.contains(&approval.nonce) {
        return Err(Refusal::NonceUsed(approval.nonce));
    }
    let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
    let role = role_held(&approval, facts)?;
    counts(&approval, &fingerprint, facts)?;
    Ok(Accepted {
        text: approval,
        role,
        key: fingerprint,
    })
}

/// Verifies an armoured SSHSIG strictly; answers the key that made it.
///
/// # Errors
/// `BadSignature` or, for another namespace or key type, `NotTrusted`.
pub fn verify(message: &[u8], armour: &str, namespace: &str) -> Result<PublicKey, Refusal> {
    let bad = |what: &str| Refusal::BadSignature(what.to_owned());
    let signature = SshSig::from_pem(armour).map_err(|e| match e {
        ssh_key::Error::AlgorithmUnknown | ssh_key::Error::AlgorithmUnsupported { .. } => {
            Refusal::NotTrusted("its key type is not checked yet; ssh-ed25519 is".into())
        }
        other => Refusal::BadSignature(other.to_string()),
    })?;
    let written = signature.to_pem(LineEnding::LF).unwrap_or_default();
    if written != armour {
        return Err(bad(
            "the armour holds more than one signature, or does not encode to the same bytes",
        ));
    }
    if signature.version() != SshSig::VERSION || !signature.reserved().is_empty() {
        return Err(bad("its version or reserved field is not known"));
    }
    if signature.namespace() != namespace {
        return Err(Refusal::NotTrusted(format!(
            "it was made in namespace `{}`, wanted is `{namespace}`",
            signature.namespace()
        )));
    }
    let ed25519 = signature
        .public_key()
        .ed25519()
        .filter(|_| signature.algorithm() == Algorithm::Ed25519)
        .ok_or_else(|| {
            Refusal::NotTrusted(format!(
                "key type {} is not checked yet; ssh-ed25519 is",
                signature.public_key().algorithm()
            ))
        })?;
    let signed = SshSig::signed_data(namespace, signature.hash_alg(), message)
        .map_err(|e| bad(&e.to_string()))?;
    let bytes: [u8; 64] = signature
        .signature_bytes()
        .try_into()
        .map_err(|_| bad("it has not 64 bytes"))?;
    ed25519_dalek::VerifyingKey::from_bytes(&ed25519.0)
        .and_then(|k| k.verify_strict(&signed, &ed25519_dalek::Signature::from_bytes(&bytes)))
        .map_err(|_| bad("it was not made by this key over this text"))?;
    Ok(PublicKey::from(signature.public_key().clone()))
}

fn trusted<'f>(
    key: &PublicKey,
    principal: &str,
    facts: &'f Facts<'_>,
) -> Result<&'f Signer, Refusal> {
    let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
    let mine: Vec<&Signer> = facts
        .policy
        .signers
        .iter()
        .filter(|s| s.principal == principal)
        .filter(|s| {
            s.key
                .as_ref()
                .is_some_and(|k| k.key_data() == key.key_data())
        })
        .collect();
    if mine.is_empty() {
        return Err(Refusal::NotTrusted(format!(
            "{fingerprint} is not a key of {principal} in the pinned allowed_signers"
        )));
    }
    let wanted = namespace(facts.mode);
    let named: Vec<&Signer> = mine
        .into_iter()
        .filter(|s| s.namespaces.iter().any(|n| n == wanted))
        .collect();
    if named.is_empty() {
        return Err(Refusal::NotTrusted(format!(
            "the pinned allowed_signers does not allow {fingerprint} in namespace `{wanted}`"
        )));
    }
    if facts.policy.revoked.contains(&fingerprint) {
        return Err(Refusal::KeyNotValid(format!("{fingerprint} is revoked")));
    }
    named
        .into_iter()
        .find(|s| s.valid_after <= facts.now && facts.now < s.valid_before)
        .ok_or_else(|| Refusal::KeyNotValid(format!("{fingerprint} is outside its validity dates")))
}

fn in_time(approval: &ApprovalText, now: DateTime<Utc>) -> Result<(), Refusal> {
    if approval.issued - Duration::minutes(AHEAD) <= now && now < approval.expires {
        return Ok(());
    }
    Err(Refusal::Expired {
        issued: approval.issued.to_rfc3339(),
        expires: approval.expires.to_rfc3339(),
        now: now.to_rfc3339(),
    })
}

fn same_gate(approval: &ApprovalText, facts: &Facts<'_>) -> Result<(), Refusal> {
    same(
        "incident",
        approval.incident.as_str(),
        facts.incident.as_str(),
    )?;
    same("run", approval.run.as_str(), facts.run.as_str())?;
    same("plan", &approval.plan_sha256, facts.plan_sha256)?;
    for (path, digest) in &approval.steps {
        let gate = facts
            .gates
            .iter()
            .find(|g| g.step == *path)
            .ok_or_else(|| Refusal::Other {
                what: "step",
                found: path.to_string(),
                expected: "a step of this run whose call is known".into(),
            })?;
        same("call", digest, &gate.call_sha256)?;
        same(
            "attempt",
            &approval.attempt.to_string(),
            &gate.attempt.to_string(),
        )?;
        if approval.effect < gate.effect {
            return Err(Refusal::Other {
                what: "effect",
                found: approval.effect.to_string(),
                expected: gate.effect.to_string(),
            });
        }
    }
    Ok(())
}

fn same(what: &'static str, found: &str, expected: &str) -> Result<(), Refusal> {
    if found == expected {
        return Ok(());
    }
    Err(Refusal::Other {
        what,
        found: found.to_owned(),
        expected: expected.to_owned(),
    })
}

fn gates<'f>(
    approval: &'f ApprovalText,
    facts: &'f Facts<'_>,
) -> impl Iterator<Item = &'f GateFacts> {
    facts
        .gates
        .iter()
        .filter(|g| approval.steps.iter().any(|(p, _)| *p == g.step))
}

/// The signer must hold one of the roles of every gate that asks for roles.
fn role_held(approval: &ApprovalText, facts: &Facts<'_>) -> Result<Option<String>, Refusal> {
    let refusal = |roles: &[String]| Refusal::RoleNotHeld {
        principal: approval.principal.clone(),
        roles: roles.join(", "),
    };
    if facts.policy.person(&approval.principal).is_none() {
        return Err(refusal(&["of people.yaml".to_owned()]));
    }
    let mut held = None;
    for gate in gates(approval, facts).filter(|g| !g.roles.is_empty()) {
        let role = gate.roles.iter().find(|role| {
            facts
                .policy
                .holders(facts.playbook, role)
                .iter()
                .any(|p| p.principal == approval.principal)
        });
        held = Some(role.ok_or_else(|| refusal(&gate.roles))?.clone());
    }
    Ok(held)
}

fn counts(approval: &ApprovalText, key: &str, facts: &Facts<'_>) -> Result<(), Refusal> {
    if approval.decision == Decision::Refuse {
        return Ok(());
    }
    for gate in gates(approval, facts) {
        let Need::Signed {
            executor,
            break_glass,
            ..
        } = gate.need
        else {
            continue;
        };
        if executor == Executor::NeverCounts && approval.principal == facts.executor {
            return Err(Refusal::NotCounted(format!(
                "{} runs the plan, and for `{}` that person does not count",
                approval.principal, gate.step
            )));
        }
        if approval.decision == Decision::BreakGlass && (!break_glass || approval.reason.is_none())
        {
            return Err(Refusal::NotCounted(format!(
                "`{}` cannot be opened by break-glass, or no reason was given",
                gate.step
            )));
        }
        let again = facts
            .counted
            .iter()
            .any(|(p, who, with)| *p == gate.step && (*who == approval.principal || with == key));
        if again {
            return Err(Refusal::NotCounted(format!(
                "{} has decided about `{}` before, or with the same key",
                approval.principal, gate.step
            )));
        }
    }
    Ok(())
}

/// A throw-away key of a drill's persona. Keys of people are never read: `ssh-keygen` signs for them.
pub struct PersonaKey(PrivateKey);

impl PersonaKey {
    /// From 32 bytes of randomness.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        PersonaKey(PrivateKey::from(Ed25519Keypair::from_seed(seed)))
    }
    /// Its line for `allowed_signers`, without principal and options: `ssh-ed25519 AAAA…`.
    ///
    /// # Panics
    /// Never: an Ed25519 key always encodes.
    pub fn public_line(&self) -> String {
        let line = self.0.public_key().to_openssh();
        line.expect("an Ed25519 key always encodes")
    }
    /// Signs an approval text in the drill namespace. There is no way to sign a live one here.
    ///
    /// # Panics
    /// Never: Ed25519 always signs, and a signature always encodes.
    pub fn sign(&self, text: &str) -> String {
        debug_assert!(matches!(self.0.key_data(), KeypairData::Ed25519(_)));
        SshSig::sign(
            &self.0,
            namespace(Mode::Drill),
            HashAlg::Sha512,
            text.as_bytes(),
        )
        .and_then(|s| s.to_pem(LineEnding::LF))
        .expect("Ed25519 always signs, and a signature always encodes")
    }
}
