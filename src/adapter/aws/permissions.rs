//! What each call of the ports needs in IAM, as data: for the least policy, and for the check before an incident. Pure.

use serde_json::{Value, json};

/// What IAM asks for one call of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallRights {
    /// The call: `Cloud::create_access_key`.
    pub call: &'static str,
    /// True when it changes something.
    pub changes: bool,
    /// IAM actions.
    pub actions: &'static [&'static str],
    /// What they are used on: the end of an ARN (`user/*`), or `*` where IAM knows no narrower one.
    pub on: &'static str,
    /// What fails without it, for people.
    pub needed_for: &'static str,
}

const fn reads(
    call: &'static str,
    actions: &'static [&'static str],
    on: &'static str,
    needed_for: &'static str,
) -> CallRights {
    CallRights {
        call,
        changes: false,
        actions,
        on,
        needed_for,
    }
}

const fn changes(
    call: &'static str,
    actions: &'static [&'static str],
    on: &'static str,
    needed_for: &'static str,
) -> CallRights {
    CallRights {
        call,
        changes: true,
        actions,
        on,
        needed_for,
    }
}

const USERS: &str = "iam::{account}:user/*";
const ROLES: &str = "iam::{account}:role/*";
const SECRETS: &str = "secretsmanager:*:{account}:secret:*";
const LEASES: &str = "s3:::{bucket}/{prefix}*";

const ALL: [CallRights; 24] = [
    reads(
        "Cloud::identity",
        &["sts:GetCallerIdentity"],
        "*",
        "knowing as whom we act",
    ),
    reads(
        "Cloud::regions",
        &["account:ListRegions"],
        "*",
        "searching the trail in every region",
    ),
    reads(
        "Cloud::list_users",
        &["iam:ListUsers"],
        "*",
        "the inventory",
    ),
    reads(
        "Cloud::user",
        &["iam:GetUser", "iam:ListGroupsForUser"],
        USERS,
        "selection by tag and group",
    ),
    reads(
        "Cloud::list_roles",
        &["iam:ListRoles"],
        "*",
        "the inventory",
    ),
    reads(
        "Cloud::access_keys",
        &["iam:ListAccessKeys"],
        USERS,
        "the inventory and every observation of a key",
    ),
    reads(
        "Cloud::key_last_used",
        &["iam:GetAccessKeyLastUsed"],
        "*",
        "the evidence before a kill and the quiet after a restart",
    ),
    reads(
        "Cloud::principal (user)",
        &[
            "iam:GetLoginProfile",
            "iam:GetUserPolicy",
            "iam:ListAttachedUserPolicies",
            "iam:ListMFADevices",
            "iam:ListUserPolicies",
        ],
        USERS,
        "the evidence before a kill",
    ),
    reads(
        "Cloud::principal (role)",
        &[
            "iam:GetRole",
            "iam:GetRolePolicy",
            "iam:ListAttachedRolePolicies",
            "iam:ListRolePolicies",
        ],
        ROLES,
        "revoking a role's sessions",
    ),
    reads(
        "Cloud::simulate",
        &["iam:SimulatePrincipalPolicy"],
        "*",
        "the guard against locking ourselves out",
    ),
    reads(
        "Cloud::trail",
        &["cloudtrail:LookupEvents"],
        "*",
        "the chain walk, orphans and stragglers",
    ),
    changes(
        "Cloud::create_access_key",
        &["iam:CreateAccessKey"],
        USERS,
        "replacing access keys",
    ),
    changes(
        "Cloud::set_access_key",
        &["iam:UpdateAccessKey"],
        USERS,
        "disabling access keys",
    ),
    changes(
        "Cloud::delete_access_key",
        &["iam:DeleteAccessKey"],
        USERS,
        "deleting the old keys",
    ),
    changes(
        "Cloud::put_inline_policy (user)",
        &["iam:PutUserPolicy"],
        USERS,
        "ending a user's sessions",
    ),
    changes(
        "Cloud::put_inline_policy (role)",
        &["iam:PutRolePolicy"],
        ROLES,
        "ending a role's sessions",
    ),
    changes(
        "Cloud::delete_inline_policy (user)",
        &["iam:DeleteUserPolicy"],
        USERS,
        "lifting a deny",
    ),
    changes(
        "Cloud::delete_inline_policy (role)",
        &["iam:DeleteRolePolicy"],
        ROLES,
        "lifting a deny",
    ),
    changes(
        "Cloud::set_trust",
        &["iam:UpdateAssumeRolePolicy"],
        ROLES,
        "closing a role to a stolen token",
    ),
    reads(
        "Vault::list",
        &["secretsmanager:ListSecrets"],
        "*",
        "the inventory",
    ),
    reads(
        "Vault::read",
        &[
            "secretsmanager:DescribeSecret",
            "secretsmanager:GetSecretValue",
        ],
        SECRETS,
        "reading escrow back after a crash",
    ),
    changes(
        "Vault::create",
        &["secretsmanager:CreateSecret", "secretsmanager:TagResource"],
        SECRETS,
        "escrow of keys that have no secret of their own",
    ),
    changes(
        "Vault::put",
        &[
            "secretsmanager:PutSecretValue",
            "secretsmanager:UpdateSecretVersionStage",
        ],
        SECRETS,
        "storing and promoting new values",
    ),
    changes(
        "Leases",
        &["s3:GetObject", "s3:PutObject"],
        LEASES,
        "one run per account",
    ),
];

/// What every call of the ports needs.
///
/// `Cloud::assume_role` is not among them: which roles a run may enter is its own decision and part of their trust policies. A secret
/// under a key of its own needs `kms:Decrypt` and `kms:GenerateDataKey` on that key besides.
pub fn permissions() -> &'static [CallRights] {
    &ALL
}

/// Where a policy is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFor {
    /// `aws`, `aws-cn`, `aws-us-gov`.
    pub partition: String,
    /// Account id; `*` for any.
    pub account: String,
    /// Bucket of the leases and what its keys begin with; `None` leaves that statement out.
    pub lease_bucket: Option<(String, String)>,
}

/// The least policy for these calls: one statement per resource for looking and one for changing.
pub fn policy_document(calls: &[CallRights], place: &PolicyFor) -> Value {
    let mut statements: Vec<(String, String, Vec<&str>)> = Vec::new();
    for rights in calls {
        let Some(resource) = resource(rights.on, place) else {
            continue;
        };
        let sid = sid(rights);
        match statements.iter_mut().find(|(s, _, _)| *s == sid) {
            Some((_, _, actions)) => actions.extend(rights.actions),
            None => statements.push((sid, resource, rights.actions.to_vec())),
        }
    }
    let statements = statements.into_iter().map(|(sid, resource, mut actions)| {
        actions.sort_unstable();
        actions.dedup();
        json!({"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resource})
    });
    json!({"Version": "2012-10-17", "Statement": statements.collect::<Vec<_>>()})
}

fn sid(rights: &CallRights) -> String {
    let on = match rights.on {
        USERS => "Users",
        ROLES => "Roles",
        SECRETS => "Secrets",
        LEASES => "Leases",
        _ => "Account",
    };
    format!("{}{on}", if rights.changes { "Change" } else { "Look" })
}

fn resource(on: &str, place: &PolicyFor) -> Option<String> {
    if on == "*" {
        return Some("*".into());
    }
    let (bucket, prefix) = match &place.lease_bucket {
        Some((bucket, prefix)) => (bucket.as_str(), prefix.as_str()),
        None if on == LEASES => return None,
        None => ("", ""),
    };
    let end = on
        .replace("{account}", &place.account)
        .replace("{bucket}", bucket)
        .replace("{prefix}", prefix);
    Some(format!("arn:{}:{end}", place.partition))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(bucket: bool) -> PolicyFor {
        PolicyFor {
            partition: "aws".into(),
            account: "123456789012".into(),
            lease_bucket: bucket.then(|| ("ops".to_owned(), "leases/".to_owned())),
        }
    }

    #[test]
    fn a_policy_holds_exactly_what_was_declared() {
        let calls: Vec<CallRights> = permissions()
            .iter()
            .filter(|r| r.call.starts_with("Cloud::set_access_key") || r.call == "Leases")
            .copied()
            .collect();
        assert_eq!(
            policy_document(&calls, &place(true)),
            json!({"Version": "2012-10-17", "Statement": [
                {"Sid": "ChangeUsers", "Effect": "Allow", "Action": ["iam:UpdateAccessKey"],
                 "Resource": "arn:aws:iam::123456789012:user/*"},
                {"Sid": "ChangeLeases", "Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"],
                 "Resource": "arn:aws:s3:::ops/leases/*"},
            ]})
        );
        let without = policy_document(&calls, &place(false));
        assert_eq!(without["Statement"].as_array().map(Vec::len), Some(1));
    }

    #[test]
    fn looking_never_needs_a_right_that_changes_something() {
        for rights in permissions().iter().filter(|r| !r.changes) {
            for action in rights.actions {
                let verb = action.split(':').nth(1).unwrap_or_default();
                let looks = ["Get", "List", "Describe", "Simulate", "Lookup"];
                assert!(looks.iter().any(|l| verb.starts_with(l)), "{action}");
            }
        }
    }

    #[test]
    fn no_policy_is_longer_than_a_managed_policy_may_be() {
        let text = policy_document(permissions(), &place(true)).to_string();
        assert!(text.len() < 6_144, "{}", text.len());
    }
}
