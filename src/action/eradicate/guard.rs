//! The guard before each kill (§5): never what this run acts as, never what must keep working, whatever a plan or a trail says.

use crate::port::Principal;
use crate::rotation::call::Call;

use super::carry::Rotation;
use super::prepare::Problem;

impl Rotation {
    /// Refuses a kill of our own credential, of emergency access, and of what the plan leaves alone.
    pub(super) fn guard(&self, call: &Call) -> Result<(), Problem> {
        let why = match call {
            Call::SetKey {
                key, active: false, ..
            }
            | Call::DeleteKey { key, .. } => self.protected_key(key),
            Call::DenySessions { principal } => self.protected(principal),
            Call::SetTrust { role, .. } => self.protected(&Principal::Role(role.clone())),
            _ => None,
        };
        why.map_or(Ok(()), |(code, what)| Err(Problem::new(code, what)))
    }

    fn protected_key(&self, key: &str) -> Option<(&'static str, String)> {
        if key == self.me.access_key_id {
            return Some(("self-target", format!("{key} is what this run signs with")));
        }
        self.excluded(key)
    }

    /// Why a principal is left alone, if it is.
    pub(super) fn protected(&self, principal: &Principal) -> Option<(&'static str, String)> {
        let name = principal.name();
        if names(&self.me.arn, principal) {
            return Some(("self-target", format!("{name} is what this run acts as")));
        }
        if let Some(path) = self
            .plan
            .break_glass
            .iter()
            .find(|b| names(&b.arn, principal))
        {
            return Some((
                "break-glass",
                format!("{name} is emergency access ({})", path.profile),
            ));
        }
        self.excluded(name)
    }

    fn excluded(&self, id: &str) -> Option<(&'static str, String)> {
        let named = |e: &&crate::rotation::plan::Excluded| {
            e.id == id || (e.id.starts_with("arn:") && e.id.rsplit('/').next() == Some(id))
        };
        let found = self.plan.excluded.iter().find(named)?;
        Some(("break-glass", format!("{id} is excluded: {}", found.why)))
    }
}

/// True when an ARN is this principal's, or that of a session of it.
fn names(arn: &str, principal: &Principal) -> bool {
    let Some((_, rest)) = arn.rsplit_once(':') else {
        return false;
    };
    let mut parts = rest.split('/');
    match (parts.next(), principal) {
        // A session: `assumed-role/<role>/<session name>`.
        (Some("assumed-role"), Principal::Role(name)) => parts.next() == Some(name),
        (Some("role"), Principal::Role(name)) | (Some("user"), Principal::User(name)) => {
            parts.next_back() == Some(name)
        }
        _ => false,
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn an_arn_names_its_principal_with_or_without_a_path_and_a_session_its_role() {
        let role = |n: &str| Principal::Role(n.into());
        assert!(names("arn:aws:sts::1:assumed-role/ops/alice", &role("ops")));
        assert!(!names(
            "arn:aws:sts::1:assumed-role/ops/alice",
            &role("alice")
        ));
        assert!(names("arn:aws:iam::1:role/a/b/ops", &role("ops")));
        assert!(names(
            "arn:aws:iam::1:user/a/ops",
            &Principal::User("ops".into())
        ));
        assert!(!names("arn:aws:iam::1:user/ops", &role("ops")));
    }
}
