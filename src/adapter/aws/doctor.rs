//! The check before an incident: who we are, and which rights are missing.

use super::connect::Aws;
use super::permissions::{CallRights, permissions};
use crate::port::Cause;

/// A clock that differs by more makes the server refuse signatures at times.
const CLOCK_S: i64 = 60;

/// What is known about a right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RightSeen {
    /// The simulation allows it.
    Allowed,
    /// The simulation denies it.
    Denied,
    /// It could not be asked; why.
    Unknown(String),
}

/// One IAM action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// `iam:UpdateAccessKey`.
    pub action: &'static str,
    /// What fails without it.
    pub needed_for: &'static str,
    /// True when it changes something.
    pub changes: bool,
    /// What is known.
    pub right: RightSeen,
}

/// What the check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkup {
    /// Account, region, identity and endpoint in one line.
    pub place: String,
    /// Each action once, in the order of [`permissions`].
    pub findings: Vec<Finding>,
    /// What a person should know besides: clock, root, simulation that was not possible.
    pub notes: Vec<String>,
}

impl Aws {
    /// Asks the account which of our rights are missing, changing nothing. It may not see organisation policies.
    pub async fn checkup(&self) -> Checkup {
        let actions: Vec<String> = asked().map(|(action, _)| action.to_owned()).collect();
        let answer = self
            .cloud
            .simulate(&self.identity.arn, &actions, None)
            .await;
        let mut notes = self.notes();
        if let Err(e) = &answer {
            let why = match e.cause {
                Cause::Refused => {
                    "our rights could not be asked for, since `iam:SimulatePrincipalPolicy` is missing"
                }
                _ => "our rights could not be asked for",
            };
            notes.push(format!("{why}: {e}"));
        }
        let findings = asked().map(|(action, rights)| Finding {
            action,
            needed_for: rights.needed_for,
            changes: rights.changes,
            right: match &answer {
                Ok(denied) if denied.iter().any(|d| d == action) => RightSeen::Denied,
                Ok(_) => RightSeen::Allowed,
                Err(e) => RightSeen::Unknown(e.to_string()),
            },
        });
        Checkup {
            place: self.place(),
            findings: findings.collect(),
            notes,
        }
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        match self.offset_s {
            Some(s) if s.abs() > CLOCK_S => notes.push(format!(
                "this host's clock is {} s {} the server's; set it, or signatures will be refused",
                s.abs(),
                if s > 0 { "behind" } else { "ahead of" }
            )),
            Some(_) => {}
            None => notes.push(
                "the server does not tell its time, which cut-off times are taken from".into(),
            ),
        }
        if self.identity.arn.ends_with(":root") {
            notes.push(
                "these are the account's root credentials; use a role of the responders instead"
                    .into(),
            );
        }
        notes.push(format!("leases are kept in {}", self.leases.place()));
        notes
    }
}

/// Each action with the first call that needs it.
fn asked() -> impl Iterator<Item = (&'static str, &'static CallRights)> {
    let mut seen = std::collections::BTreeSet::new();
    permissions()
        .iter()
        .flat_map(|rights| rights.actions.iter().map(move |a| (*a, rights)))
        .filter(move |(action, _)| seen.insert(*action))
}
