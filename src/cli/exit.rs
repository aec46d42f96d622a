//! Exit codes: one table, one type. Printed by `firebreak help exit-codes`, in the man page, and compared by a test.

use std::process::ExitCode;

/// How the command ended. Only verify commands answer 20–24, which stand in the evidence crate's verdicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Ok,
    /// It failed, nothing is left in doubt.
    Failed,
    /// The command line was wrong.
    Usage,
    /// A person is needed.
    Parked,
    /// Policy, a missing right or an approver said no.
    Denied,
    /// Done, but an objective was missed or something is overdue or not proven.
    Missed,
    /// Verification failed.
    Tampered,
    /// Something may have happened: a decision is needed.
    InDoubt,
    /// The plan no longer fits; nothing was changed.
    Stale,
    /// An undo failed: something is left.
    Stuck,
    /// The plan has changes (only with `--detailed-exit-code`).
    Changes,
    /// Our own fault.
    Internal,
    /// Try again: somebody holds a lock, or the other side is busy.
    TryAgain,
    /// Interrupted and parked; resumable.
    Interrupted,
    /// A verdict of the verifier.
    Verdict(u8),
}

/// Precedence when several apply, strongest first.
const PRECEDENCE: [Exit; 14] = [
    Exit::Usage,
    Exit::Internal,
    Exit::TryAgain,
    Exit::Stuck,
    Exit::Tampered,
    Exit::Stale,
    Exit::Denied,
    Exit::InDoubt,
    Exit::Failed,
    Exit::Parked,
    Exit::Interrupted,
    Exit::Missed,
    Exit::Changes,
    Exit::Ok,
];

impl Exit {
    /// The code.
    pub fn code(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Parked => 3,
            Exit::Denied => 4,
            Exit::Missed => 5,
            Exit::Tampered => 6,
            Exit::InDoubt => 7,
            Exit::Stale => 8,
            Exit::Stuck => 9,
            Exit::Changes => 10,
            Exit::Internal => 70,
            Exit::TryAgain => 75,
            Exit::Interrupted => 130,
            Exit::Verdict(code) => code,
        }
    }

    /// What it means, one line.
    pub fn meaning(self) -> &'static str {
        match self {
            Exit::Ok => "ok",
            Exit::Failed => "failed, nothing left in doubt",
            Exit::Usage => "usage: the command line is wrong",
            Exit::Parked => "parked: a person is needed",
            Exit::Denied => "denied by policy, a missing right or an approver",
            Exit::Missed => {
                "done, but an objective was missed, or something is overdue or not proven"
            }
            Exit::Tampered => "verification failed: tampering",
            Exit::InDoubt => "in doubt: a decision is needed",
            Exit::Stale => "the plan is stale, nothing changed",
            Exit::Stuck => "stuck: an undo failed, something is left",
            Exit::Changes => "the plan has changes (only with --detailed-exit-code)",
            Exit::Internal => "internal error",
            Exit::TryAgain => "try again: a lock is held, or the other side is busy",
            Exit::Interrupted => "interrupted and parked; resumable",
            Exit::Verdict(20) => "verify: intact, freshness not proven, and an anchor was required",
            Exit::Verdict(21) => "verify: intact, signer not trusted",
            Exit::Verdict(22) => "verify: recovered tail",
            Exit::Verdict(23) => "verify: unsealed",
            Exit::Verdict(_) => "verify: incomplete",
        }
    }

    /// Every code, in numeric order.
    pub fn all() -> Vec<Exit> {
        let mut all: Vec<Exit> = PRECEDENCE
            .into_iter()
            .chain((20..=24).map(Exit::Verdict))
            .collect();
        all.sort_by_key(|e| e.code());
        all
    }

    /// The one that counts when both apply.
    pub fn worst(self, other: Exit) -> Exit {
        let rank = |e: Exit| PRECEDENCE.iter().position(|p| *p == e).unwrap_or(0);
        if rank(other) < rank(self) {
            other
        } else {
            self
        }
    }

    /// The table as `firebreak help exit-codes` prints it.
    pub fn table() -> String {
        Exit::all()
            .iter()
            .map(|e| format!("{:>4}  {}\n", e.code(), e.meaning()))
            .collect()
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precedence_is_that_of_the_first_use_page() {
        let order: Vec<u8> = PRECEDENCE.iter().map(|e| e.code()).collect();
        assert_eq!(order, [2, 70, 75, 9, 6, 8, 4, 7, 1, 3, 130, 5, 10, 0]);
        assert_eq!(Exit::Missed.worst(Exit::Failed), Exit::Failed);
        assert_eq!(Exit::Stuck.worst(Exit::Failed), Exit::Stuck);
    }

    #[test]
    fn no_code_has_two_meanings() {
        let mut codes: Vec<u8> = Exit::all().iter().map(|e| e.code()).collect();
        codes.dedup();
        assert_eq!(codes.len(), Exit::all().len());
    }
}
