//! What we rely on in doubles of AWS, each fact by the double that is right about it and through our own adapter where it has the call; and
//! where a double is known to be wrong, so that an upgrade that changes it is noticed.
#![cfg(feature = "adapters")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_sdk_iam::error::ProvideErrorMetadata as _;
use chrono::{DateTime, TimeDelta, Utc};
use firebreak::adapter::aws::{Aws, connect};
use firebreak::port::{
    CURRENT, Cause, Claim, LeaseTerms, PENDING, PREVIOUS, Principal, ProbeAnswer, ProbeCall,
    Secret, Signer, TrailBy, TrailQuery, VersionRef,
};
use support::doubles::{Double, Which, double, root};

const ALLOW_ALL: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;
const DENY_ALL: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}"#;
const REVOKE: &str = "AWSRevokeOlderSessions";

/// The time-based deny of rotation.
fn older_than(t: DateTime<Utc>) -> String {
    let t = t.format("%Y-%m-%dT%H:%M:%SZ");
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Deny","Action":"*","Resource":"*","Condition":{{"DateLessThan":{{"aws:TokenIssueTime":"{t}"}}}}}}]}}"#
    )
}

/// One user of one test, with everything allowed, and one key.
struct Scene {
    double: Arc<Double>,
    aws: Aws,
    user: String,
    key: Signer,
}

impl Scene {
    async fn of(which: Which, user: &str) -> Option<Scene> {
        let double = double(which)?;
        let aws = double.aws().await;
        let iam = aws_sdk_iam::Client::new(&double.sdk(&root()).await);
        iam.create_user()
            .user_name(user)
            .send()
            .await
            .expect("a user");
        aws.cloud
            .put_inline_policy(&Principal::User(user.into()), "all", ALLOW_ALL)
            .await
            .expect("a policy");
        let key = new_key(&aws, user).await;
        Some(Scene {
            double,
            aws,
            user: user.into(),
            key,
        })
    }
    async fn ministack(user: &str) -> Option<Scene> {
        Scene::of(Which::Ministack, user).await
    }
    fn principal(&self) -> Principal {
        Principal::User(self.user.clone())
    }
    /// The code that a probe is refused with; `None` = it works.
    async fn code(&self, signer: &Signer, call: ProbeCall) -> Option<String> {
        let answer = self.aws.cloud.probe(signer, &call).await.expect("answered");
        code_of(answer.value)
    }
    async fn identity_code(&self, signer: &Signer) -> Option<String> {
        self.code(signer, ProbeCall::CallerIdentity { region: None })
            .await
    }
    async fn read_code(&self, signer: &Signer) -> Option<String> {
        self.code(signer, ProbeCall::ListAccountAliases).await
    }
    async fn code_without_secret(&self) -> Option<String> {
        let answer = self
            .aws
            .cloud
            .probe_without_secret(&self.key.id, None)
            .await;
        code_of(answer.expect("answered").value)
    }
    /// `GetSessionToken` with the user's key.
    async fn session(&self) -> Signer {
        let sts = aws_sdk_sts::Client::new(&self.double.sdk(&self.key).await);
        let given = sts.get_session_token().send().await.expect("a session");
        let given = given.credentials.expect("credentials");
        Signer {
            id: given.access_key_id,
            secret: Secret::new(given.secret_access_key),
            token: Some(Secret::new(given.session_token)),
        }
    }
}

fn code_of(answer: ProbeAnswer) -> Option<String> {
    match answer {
        ProbeAnswer::Works(_) => None,
        ProbeAnswer::Refused { code, .. } => Some(code),
    }
}

async fn new_key(aws: &Aws, user: &str) -> Signer {
    let made = aws
        .cloud
        .create_access_key(user)
        .await
        .expect("a key")
        .value;
    Signer {
        id: made.id,
        secret: made.secret,
        token: None,
    }
}

fn code(code: &str) -> Option<String> {
    Some(code.to_owned())
}

#[tokio::test]
async fn an_inactive_key_is_refused_with_the_code_of_each_protocol() {
    let Some(s) = Scene::ministack("inactive").await else {
        return;
    };
    assert_eq!(s.identity_code(&s.key).await, None);
    assert_eq!(s.read_code(&s.key).await, None);
    assert_eq!(s.code_without_secret().await, code("SignatureDoesNotMatch"));
    s.aws
        .cloud
        .set_access_key(&s.user, &s.key.id, false)
        .await
        .expect("set");
    let keys = s
        .aws
        .cloud
        .access_keys(&s.user)
        .await
        .expect("listed")
        .value;
    assert!(keys.len() == 1 && !keys[0].active && keys[0].created.is_some());
    assert_eq!(s.identity_code(&s.key).await, code("InvalidClientTokenId"));
    assert_eq!(s.read_code(&s.key).await, code("InvalidClientTokenId"));
    let describe = ProbeCall::DescribeSecret("none".into());
    assert_eq!(
        s.code(&s.key, describe).await,
        code("UnrecognizedClientException")
    );
    let s3 = aws_sdk_s3::Client::new(&s.double.sdk(&s.key).await);
    let refused = s3.list_buckets().send().await.expect_err("refused");
    assert_eq!(refused.code(), Some("InvalidAccessKeyId"));
    assert_eq!(s.code_without_secret().await, code("InvalidClientTokenId"));
}

#[tokio::test]
async fn a_deleted_key_is_refused_and_deleting_it_again_is_success() {
    let Some(s) = Scene::ministack("deleted").await else {
        return;
    };
    let delete = || s.aws.cloud.delete_access_key(&s.user, &s.key.id);
    assert!(delete().await.expect("deleted").value);
    let again = delete().await.expect("gone is fine");
    assert!(!again.value && again.server_date.is_some());
    assert_eq!(s.code_without_secret().await, code("InvalidClientTokenId"));
    let set = s.aws.cloud.set_access_key(&s.user, &s.key.id, false).await;
    assert_eq!(set.expect_err("gone").cause, Cause::NotFound);
}

#[tokio::test]
async fn a_wrong_secret_is_told_from_a_dead_key() {
    let Some(s) = Scene::ministack("wrong-secret").await else {
        return;
    };
    let wrong = Signer {
        secret: Secret::new("x".repeat(40)),
        id: s.key.id.clone(),
        token: None,
    };
    assert_eq!(s.identity_code(&wrong).await, code("SignatureDoesNotMatch"));
    let temporary = s.aws.cloud.probe_without_secret("ASIAEXAMPLE", None).await;
    assert_eq!(
        temporary.expect_err("proves nothing").cause,
        Cause::Unsupported
    );
}

#[tokio::test]
async fn an_unknown_key_does_not_connect_and_is_told_what_that_may_mean() {
    let Some(double) = double(Which::Ministack) else {
        return;
    };
    let mut options = double.options("run-1");
    options.signer = Some(Signer {
        id: "AKIAUNKNOWN".into(),
        ..root()
    });
    let e = connect(options).await.err().expect("refused");
    assert_eq!(e.cause, Cause::Refused);
    assert!(e.detail.starts_with("InvalidClientTokenId: "), "{e}");
    assert!(e.detail.contains("inactive, deleted"), "{e}");
}

#[tokio::test]
async fn caller_identity_answers_under_deny_all_and_other_calls_do_not() {
    let Some(s) = Scene::ministack("denied").await else {
        return;
    };
    s.aws
        .cloud
        .put_inline_policy(&s.principal(), "deny", DENY_ALL)
        .await
        .expect("put");
    assert_eq!(s.identity_code(&s.key).await, None);
    assert_eq!(s.read_code(&s.key).await, code("AccessDenied"));
    let describe = ProbeCall::DescribeSecret("none".into());
    assert_eq!(
        s.code(&s.key, describe).await,
        code("AccessDeniedException")
    );
    let user = s.principal();
    let gone = s.aws.cloud.delete_inline_policy(&user, "deny");
    assert!(gone.await.expect("removed").value);
    let gone = s.aws.cloud.delete_inline_policy(&user, "deny");
    assert!(!gone.await.expect("gone is fine").value);
    assert_eq!(s.read_code(&s.key).await, None);
}

#[tokio::test]
async fn a_time_based_deny_ends_older_sessions_and_leaves_the_key_alone() {
    let Some(s) = Scene::ministack("sessions").await else {
        return;
    };
    let session = s.session().await;
    // Sessions survive that their key is set Inactive.
    s.aws
        .cloud
        .set_access_key(&s.user, &s.key.id, false)
        .await
        .expect("set");
    assert_eq!(s.read_code(&session).await, None);
    s.aws
        .cloud
        .set_access_key(&s.user, &s.key.id, true)
        .await
        .expect("set");
    let now = s.aws.cloud.identity().await.expect("answered").server_date;
    let now = now.expect("the server tells its time");
    for (t, expected) in [
        (now - TimeDelta::hours(1), None),
        (now + TimeDelta::hours(1), code("AccessDenied")),
    ] {
        s.aws
            .cloud
            .put_inline_policy(&s.principal(), REVOKE, &older_than(t))
            .await
            .expect("put");
        assert_eq!(s.read_code(&session).await, expected);
        assert_eq!(s.read_code(&s.key).await, None);
    }
}

#[tokio::test]
async fn a_roles_sessions_are_revoked_and_its_trust_is_closed() {
    let Some(s) = Scene::ministack("role-user").await else {
        return;
    };
    let trust = |effect: &str| {
        format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"{effect}","Principal":{{"AWS":"*"}},"Action":"sts:AssumeRole"}}]}}"#
        )
    };
    let iam = aws_sdk_iam::Client::new(&s.double.sdk(&root()).await);
    let made = iam.create_role().role_name("worker");
    let made = made
        .assume_role_policy_document(trust("Allow"))
        .send()
        .await;
    let arn = made.expect("a role").role.expect("told").arn;
    let role = Principal::Role("worker".into());
    let cloud = &s.aws.cloud;
    cloud
        .put_inline_policy(&role, "all", ALLOW_ALL)
        .await
        .expect("put");
    let session = cloud
        .assume_role(&arn, "s1")
        .await
        .expect("a session")
        .value;
    assert!(
        session.arn.contains("assumed-role/worker/s1"),
        "{}",
        session.arn
    );
    assert!(session.expires.is_some());
    assert_eq!(s.read_code(&session.signer).await, None);
    let later = Utc::now() + TimeDelta::hours(1);
    cloud
        .put_inline_policy(&role, REVOKE, &older_than(later))
        .await
        .expect("put");
    assert_eq!(s.read_code(&session.signer).await, code("AccessDenied"));
    let assume = ProbeCall::AssumeRole(arn);
    assert_eq!(s.code(&s.key, assume.clone()).await, None);
    cloud
        .set_trust("worker", &trust("Deny"))
        .await
        .expect("set");
    assert_eq!(s.code(&s.key, assume).await, code("AccessDenied"));
    let seen = cloud.principal(&role).await.expect("looked").value;
    assert!(seen.inline[REVOKE].contains("aws:TokenIssueTime"));
    assert!(seen.trust.expect("a trust policy").contains(r#""Deny""#));
}

#[tokio::test]
async fn a_principal_is_seen_whole() {
    let Some(s) = Scene::ministack("seen").await else {
        return;
    };
    let iam = aws_sdk_iam::Client::new(&s.double.sdk(&root()).await);
    let tag = aws_sdk_iam::types::Tag::builder()
        .key("team")
        .value("pay")
        .build();
    let tagged = iam.tag_user().user_name("seen").tags(tag.expect("a tag"));
    tagged.send().await.expect("tagged");
    iam.create_group()
        .group_name("ops")
        .send()
        .await
        .expect("a group");
    let joined = iam.add_user_to_group().user_name("seen").group_name("ops");
    joined.send().await.expect("joined");
    let user = s.aws.cloud.user("seen").await.expect("looked");
    assert_eq!(user.groups, Some(vec!["ops".to_owned()]));
    assert_eq!(user.tags.expect("read")["team"], "pay");
    let seen = s.aws.cloud.principal(&s.principal()).await.expect("looked");
    assert_eq!(seen.value.inline["all"], ALLOW_ALL);
    assert_eq!(seen.value.console_password_created, None);
    assert!(seen.server_date.is_some() && seen.value.path == "/");
    let profile = iam
        .create_login_profile()
        .user_name("seen")
        .password("Xy-123456789-zW");
    profile.send().await.expect("a password");
    let seen = s.aws.cloud.principal(&s.principal()).await.expect("looked");
    assert!(seen.value.console_password_created.is_some());
    let users = s.aws.cloud.list_users(None).await.expect("listed");
    assert!(
        users
            .items
            .iter()
            .any(|u| u.name == "seen" && u.tags.is_none())
    );
}

#[tokio::test]
async fn a_simulation_sees_a_deny_in_place() {
    let Some(s) = Scene::ministack("simulated").await else {
        return;
    };
    let arn = s.aws.cloud.user("simulated").await.expect("looked").arn;
    let actions = ["iam:UpdateAccessKey".to_owned()];
    let simulate = |extra| s.aws.cloud.simulate(&arn, &actions, extra);
    assert_eq!(simulate(None).await.expect("simulated"), [""; 0]);
    // AWS sees a planned deny as well; ministack does not look at it.
    assert_eq!(simulate(Some(DENY_ALL)).await.expect("simulated"), [""; 0]);
    s.aws
        .cloud
        .put_inline_policy(&s.principal(), "deny", DENY_ALL)
        .await
        .expect("put");
    assert_eq!(simulate(None).await.expect("simulated"), actions);
}

#[tokio::test]
async fn the_trail_is_read_by_key_and_the_regions_are_listed() {
    let Some(s) = Scene::ministack("trailed").await else {
        return;
    };
    assert_eq!(s.read_code(&s.key).await, None);
    let now = Utc::now();
    let query = TrailQuery {
        region: support::doubles::REGION.into(),
        by: Some(TrailBy::AccessKey(s.key.id.clone())),
        from: now - TimeDelta::hours(1),
        to: now + TimeDelta::hours(1),
        page: None,
    };
    let page = s.aws.cloud.trail(&query).await.expect("read");
    assert!(
        page.items
            .iter()
            .all(|e| e.access_key.as_deref() == Some(s.key.id.as_str())),
        "{page:?}"
    );
    let regions = s.aws.cloud.regions().await.expect("listed");
    assert_eq!(regions[0], support::doubles::REGION);
    assert!(regions.len() > 10 && regions.iter().filter(|r| *r == &regions[0]).count() == 1);
}

const TOKENS: [&str; 4] = [
    "11111111-0000-0000-0000-000000000001",
    "22222222-0000-0000-0000-000000000002",
    "33333333-0000-0000-0000-000000000003",
    "44444444-0000-0000-0000-000000000004",
];

/// The path of a secret through a rotation, which both doubles carry.
async fn a_secret_is_promoted_by_compare_and_swap(which: Which) {
    let Some(double) = double(which) else { return };
    let vault = double.aws().await.vault;
    let value = |text: &str| Secret::new(text.to_owned());
    let tags = BTreeMap::from([("run".to_owned(), "run-1".to_owned())]);
    let name = "shop/db";
    let none = vault.describe(name).await.expect_err("none yet");
    assert_eq!(none.cause, Cause::NotFound);
    let created = vault.create(name, TOKENS[0], &value("old"), &tags).await;
    assert_eq!(created.expect("made").value, TOKENS[0]);
    let taken = vault.create(name, TOKENS[3], &value("x"), &tags).await;
    assert_eq!(taken.expect_err("taken").cause, Cause::Conflict);
    let seen = vault.describe(name).await.expect("seen").value;
    let arn = seen.arn.clone();
    assert_eq!(seen.holder(CURRENT), Some(TOKENS[0]));
    assert_eq!(seen.tags, Some(tags));
    let put = vault.put(&arn, TOKENS[1], &value("new"), &[PENDING]).await;
    assert_eq!(put.expect("put").value, TOKENS[1]);
    let again = vault.put(&arn, TOKENS[1], &value("new"), &[PENDING]).await;
    assert_eq!(again.expect("a repeat is a no-op").value, TOKENS[1]);
    let short = vault.put(&arn, "short", &value("new"), &[PENDING]).await;
    assert_eq!(short.expect_err("too short").cause, Cause::Rejected);
    // A stale `from` loses.
    let stale = vault
        .move_label(&arn, CURRENT, Some(TOKENS[1]), Some(TOKENS[1]))
        .await;
    assert_eq!(stale.expect_err("not the holder").cause, Cause::Conflict);
    vault
        .move_label(&arn, CURRENT, Some(TOKENS[0]), Some(TOKENS[1]))
        .await
        .expect("promoted");
    let seen = vault.describe(&arn).await.expect("seen").value;
    assert_eq!(seen.holder(CURRENT), Some(TOKENS[1]));
    assert_eq!(seen.holder(PREVIOUS), Some(TOKENS[0]));
    let holders = seen
        .versions
        .values()
        .filter(|l| l.iter().any(|l| l == CURRENT));
    assert_eq!(holders.count(), 1);
    for (version, expected) in [
        (VersionRef::Label(CURRENT.into()), "new"),
        (VersionRef::Id(TOKENS[0].into()), "old"),
    ] {
        let read = vault.read(&arn, &version).await.expect("read");
        assert!(read.value.same_as(&value(expected)), "{version:?}");
    }
    let absent = vault.read(&arn, &VersionRef::Id(TOKENS[2].into())).await;
    assert_eq!(absent.err().expect("absent").cause, Cause::NotFound);
    // Removing a label, as cleaning does.
    vault
        .move_label(&arn, PREVIOUS, Some(TOKENS[0]), None)
        .await
        .expect("cleaned");
    let unlabelled = vault.read(&arn, &VersionRef::Id(TOKENS[0].into())).await;
    assert!(
        unlabelled.is_ok(),
        "a version without labels is still read by its id"
    );
    let listed = vault.list(None).await.expect("listed");
    assert!(listed.items.iter().any(|s| s.arn == arn && s.name == name));
}

#[tokio::test]
async fn a_secret_is_promoted_by_compare_and_swap_on_ministack() {
    a_secret_is_promoted_by_compare_and_swap(Which::Ministack).await;
}

#[tokio::test]
async fn a_secret_is_promoted_by_compare_and_swap_on_moto() {
    a_secret_is_promoted_by_compare_and_swap(Which::Moto).await;
}

/// Of twenty who claim at once one wins; an expired lease changes hands once.
async fn one_of_twenty_wins_the_lease(which: Which) {
    let Some(double) = double(which) else { return };
    let sdk = double.sdk(&root()).await;
    let s3 = aws_sdk_s3::config::Builder::from(&sdk)
        .force_path_style(true)
        .build();
    let place = aws_sdk_s3::types::CreateBucketConfiguration::builder()
        .location_constraint(aws_sdk_s3::types::BucketLocationConstraint::EuWest1)
        .build();
    let bucket = aws_sdk_s3::Client::from_conf(s3).create_bucket();
    let bucket = bucket.bucket("leases").create_bucket_configuration(place);
    bucket.send().await.expect("a bucket");
    let mut options = double.options("run-1");
    options.lease_bucket = Some(("leases".into(), "firebreak".into()));
    let leases = connect(options).await.expect("connected").leases;
    assert_eq!(leases.place(), "s3://leases/firebreak");
    let now = Utc::now();
    let terms = |run: &str, minutes| LeaseTerms {
        what: "account/000000000000".into(),
        owner: "ana@desk".into(),
        run: run.into(),
        epoch: 1,
        expires: now + TimeDelta::minutes(minutes),
    };
    let mut last = None;
    for round in 0..2_i64 {
        let at = now + TimeDelta::minutes(10 * round);
        let asked: Vec<LeaseTerms> = (0..20)
            .map(|n| terms(&format!("{round}-{n}"), 10 * round + 5))
            .collect();
        let claims = futures::future::join_all(asked.iter().map(|t| leases.claim(t, at))).await;
        let mut winners = claims
            .into_iter()
            .filter_map(|c| match c.expect("answered") {
                Claim::Ours(held) => Some(held),
                Claim::Theirs(_) => None,
            });
        let winner = winners.next().expect("a winner");
        assert!(winners.next().is_none(), "two hold the lease");
        assert_eq!(winner.terms.epoch, 1 + round as u64);
        if let Some(before) = last.replace(winner) {
            let lost = leases.renew(&before, at + TimeDelta::minutes(9)).await;
            assert_eq!(lost.expect_err("taken over").cause, Cause::Conflict);
            leases.release(&before).await.expect("nothing to give back");
        }
    }
    let held = last.expect("a winner");
    // A renewal whose reply was lost leaves us with an old tag, and the lease is ours all the same.
    for minutes in [25, 30] {
        let renewed = leases.renew(&held, now + TimeDelta::minutes(minutes)).await;
        renewed.expect("renewed");
    }
    let held = leases
        .renew(&held, now + TimeDelta::minutes(30))
        .await
        .expect("renewed");
    let other = terms("other", 60);
    let at = now + TimeDelta::minutes(20);
    assert_eq!(
        leases.claim(&other, at).await.expect("answered"),
        Claim::Theirs(held.terms.clone())
    );
    leases.release(&held).await.expect("given back");
    assert!(matches!(
        leases.claim(&other, at).await.expect("answered"),
        Claim::Ours(_)
    ));
}

#[tokio::test]
async fn one_of_twenty_wins_the_lease_on_ministack() {
    one_of_twenty_wins_the_lease(Which::Ministack).await;
}

#[tokio::test]
async fn one_of_twenty_wins_the_lease_on_moto() {
    one_of_twenty_wins_the_lease(Which::Moto).await;
}

#[tokio::test]
async fn a_user_has_two_key_slots_and_only_deletion_frees_one() {
    let Some(s) = Scene::of(Which::Moto, "slots").await else {
        return;
    };
    let nobody = s.aws.cloud.access_keys("nobody").await;
    let nobody = nobody.expect_err("no such user");
    assert_eq!(nobody.cause, Cause::NotFound);
    assert!(nobody.detail.starts_with("NoSuchEntity"), "{nobody}");
    let second = new_key(&s.aws, "slots").await;
    let third = || s.aws.cloud.create_access_key("slots");
    for _ in 0..2 {
        let full = third().await.err().expect("no slot");
        assert_eq!(full.cause, Cause::Rejected);
        assert!(full.detail.starts_with("LimitExceeded"), "{full}");
        // Inactive ones count.
        let off = s.aws.cloud.set_access_key("slots", &second.id, false);
        off.await.expect("set");
    }
    let deleted = s.aws.cloud.delete_access_key("slots", &second.id);
    assert!(deleted.await.expect("deleted").value);
    assert!(third().await.is_ok());
}

#[tokio::test]
async fn a_signed_call_advances_the_last_use_of_its_key() {
    let Some(s) = Scene::of(Which::Moto, "used").await else {
        return;
    };
    let unused = s.aws.cloud.key_last_used(&s.key.id).await.expect("told");
    assert_eq!((unused.at, unused.service), (None, None));
    assert_eq!(s.read_code(&s.key).await, None);
    let used = s.aws.cloud.key_last_used(&s.key.id).await.expect("told");
    assert!(
        used.at.is_some() && used.service.as_deref() == Some("iam"),
        "{used:?}"
    );
}

#[tokio::test]
async fn what_moto_cannot_do_is_an_error_and_no_empty_answer() {
    let Some(double) = double(Which::Moto) else {
        return;
    };
    let cloud = double.aws().await.cloud;
    let regions = cloud.regions().await.expect_err("moto has no such call");
    assert!(regions.detail.contains("account:ListRegions"), "{regions}");
    let now = Utc::now();
    let query = TrailQuery {
        region: support::doubles::REGION.into(),
        by: None,
        from: now - TimeDelta::hours(1),
        to: now,
        page: None,
    };
    assert!(cloud.trail(&query).await.is_err());
}

#[tokio::test]
async fn where_ministack_is_wrong_it_is_still_wrong() {
    let Some(s) = Scene::ministack("wrong").await else {
        return;
    };
    for _ in 0..2 {
        new_key(&s.aws, "wrong").await;
    }
    assert_eq!(s.read_code(&s.key).await, None);
    let used = s.aws.cloud.key_last_used(&s.key.id).await.expect("told");
    assert_eq!(used.at, None, "it advances the last use now");
    let nobody = s.aws.cloud.access_keys("nobody").await.expect("listed");
    assert_eq!(
        nobody.value,
        [],
        "it knows by now that there is no such user"
    );
    // It gives a new secret's first version an id of its own, and takes another value under the same token.
    let secrets = aws_sdk_secretsmanager::Client::new(&s.double.sdk(&root()).await);
    let made = secrets.create_secret().name("wrong").secret_string("a");
    let made = made
        .client_request_token(TOKENS[0])
        .send()
        .await
        .expect("made");
    assert_ne!(made.version_id.as_deref(), Some(TOKENS[0]));
    let put = |text: &'static str| {
        let vault = Arc::clone(&s.aws.vault);
        async move {
            vault
                .put("wrong", TOKENS[1], &Secret::new(text.into()), &[PENDING])
                .await
        }
    };
    assert!(put("b").await.is_ok() && put("c").await.is_ok());
}

#[tokio::test]
async fn the_checkup_tells_allowed_from_denied_and_unknown() {
    use firebreak::adapter::aws::RightSeen;
    let Some(s) = Scene::ministack("checked").await else {
        return;
    };
    let mut options = s.double.options("run-1");
    options.signer = Some(Signer {
        id: s.key.id.clone(),
        secret: s.key.secret.duplicate(),
        token: None,
    });
    let responder = connect(options).await.expect("connected");
    assert_eq!(responder.identity.access_key_id, s.key.id);
    assert!(responder.place().contains("user/checked") && responder.place().contains("127.0.0.1"));
    let found = responder.checkup().await.findings;
    assert!(
        found.iter().all(|f| f.right == RightSeen::Allowed),
        "{found:?}"
    );
    let partly = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"iam:DeleteAccessKey","Resource":"*"}]}"#;
    let user = s.principal();
    let deny = |document| s.aws.cloud.put_inline_policy(&user, "deny", document);
    deny(partly).await.expect("put");
    let found = responder.checkup().await.findings;
    let denied: Vec<&str> = found
        .iter()
        .filter(|f| f.right == RightSeen::Denied)
        .map(|f| f.action)
        .collect();
    assert_eq!(denied, ["iam:DeleteAccessKey"]);
    deny(DENY_ALL).await.expect("put");
    let checkup = responder.checkup().await;
    assert!(
        checkup
            .findings
            .iter()
            .all(|f| matches!(f.right, RightSeen::Unknown(_)))
    );
    assert!(
        checkup
            .notes
            .iter()
            .any(|n| n.contains("iam:SimulatePrincipalPolicy"))
    );
}
