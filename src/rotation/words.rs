//! The closed vocabularies of rotation.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::incident::word;

word!(
    /// Kinds of credentials.
    CredentialKind { /// An IAM user's access key: the cloud makes the secret, once, in one answer.
        IamAccessKey = "iam-access-key", /// Sessions of an IAM role: they can only be revoked.
        IamRoleSessions = "iam-role-sessions", /// A PostgreSQL password in the secret store: we make it, the server must accept it.
        PgPassword = "pg-password", /// A secret in the secret store of which we do not know what it opens.
        SmSecret = "sm-secret", /// A Kubernetes Secret: a sink; the credential inside must die.
        K8sSecret = "k8s-secret", /// A token of a Kubernetes service account.
        K8sSaToken = "k8s-sa-token", /// A console password.
        IamConsolePassword = "iam-console-password" }
);

impl CredentialKind {
    /// True when this version rotates it; others are listed as residual.
    pub fn rotates(self) -> bool {
        matches!(
            self,
            CredentialKind::IamAccessKey
                | CredentialKind::IamRoleSessions
                | CredentialKind::PgPassword
        )
    }
}

word!(
    /// How an item is replaced.
    RotationMode { /// The new one works before the old one dies.
        Graceful = "graceful", /// The old one dies first; the outage is accepted.
        Emergency = "emergency" }
);

word!(
    /// How an item ended.
    Terminal { /// Replaced, and the old one proven dead.
        Done = "done", /// Taken back: the old one is alive. Not a success.
        Undone = "undone", /// Taking back failed: something is left.
        Stuck = "stuck", /// A person must decide or do something.
        NeedsHuman = "needs-human" }
);

word!(
    /// Why a person is needed.
    Reason { /// The credential is our own.
        SelfTarget = "self_target", /// It is the emergency access.
        BreakGlass = "break_glass", /// Both keys of the user were used since the compromise began.
        TwoKeysUsed = "two_keys_used", /// A key appeared that is not ours: treated as the attacker's.
        ForeignKey = "foreign_key", /// Another version holds the pending label.
        ForeignPending = "foreign_pending", /// The new credential could not be shown to work.
        NewNotVerified = "new_not_verified", /// The old credential could not be shown to be dead.
        OldNotDead = "old_not_dead", /// The old credential was used within the grace period, or the period is not over.
        OldNotQuiet = "old_not_quiet", /// A consumer did not come up with the new credential.
        ConsumerFailed = "consumer_failed", /// Something changed since the plan.
        Stale = "stale", /// The account cannot be entered.
        AccountUnreachable = "account_unreachable", /// No policy can limit this principal.
        NotRevocable = "not_revocable", /// A right is missing.
        Permission = "permission", /// Throttled past the deadline.
        ThrottledOut = "throttled_out", /// It may have happened and cannot be told.
        InDoubt = "in_doubt", /// Somebody else writes this secret.
        ForeignOwner = "foreign_owner", /// Deleting needs a second person.
        DeletionHeld = "deletion_held", /// The intruder is still active.
        AttackerActive = "attacker_active", /// A person gave it up.
        Abandoned = "abandoned" }
);

word!(
    /// How good the proof is that the old credential is dead, best first.
    Grade { /// Refused with the expected code when it was used.
        Probed = "probed", /// Refused with the expected code when its id was used with a random secret.
        ProbedWithoutSecret = "probed-without-secret", /// The service says that it is gone or inactive.
        State = "state", /// Nobody has used it for the period.
        Quiet = "quiet" }
);
