//! `firebreak rotate` as a person meets it, without any server: what is refused, by which code, and that nothing is left behind.

mod support;

use firebreak::cli::exit::Exit;
use support::user::User;

/// Runs it and answers what was told, after checking the exit code.
fn told(user: &User, args: &[&str], exit: Exit) -> String {
    let (answer, story) = user.expect(args, exit);
    format!("{answer}{story}")
}

fn nothing_was_opened(user: &User) {
    let left = std::fs::read_dir(user.home.join("fb")).map_or(0, |d| {
        d.flatten()
            .filter(|e| e.file_name().to_string_lossy().starts_with("INC-"))
            .count()
    });
    assert_eq!(left, 0, "no incident is opened for what is refused");
}

#[test]
fn without_an_account_nothing_is_sent_and_the_way_to_name_one_is_told() {
    let user = User::new("rotate-none");
    let all: [&[&str]; 3] = [
        &["rotate", "user", "ci-build"],
        &["rotate", "secret", "shop/db", "--emergency"],
        &["rotate", "plan", "--user", "ci-build"],
    ];
    for args in all {
        let text = told(&user, args, Exit::Usage);
        assert!(
            text.contains("FB3003") && text.contains("AWS_PROFILE"),
            "{text}"
        );
    }
    nothing_was_opened(&user);
}

#[test]
fn a_selection_of_nothing_is_a_wrong_command() {
    let user = User::new("rotate-nothing");
    for verb in ["select", "plan"] {
        let text = told(&user, &["rotate", verb], Exit::Usage);
        assert!(text.contains("nothing is selected"), "{text}");
    }
}

#[test]
fn a_map_that_is_none_is_refused_with_the_place_of_the_fault() {
    let user = User::new("rotate-map");
    let path = user.home.join("map.yaml");
    std::fs::write(
        &path,
        "firebreak: rotation-map/v1\nentries:\n- id: a\n  colour: red\n",
    )
    .expect("written");
    let path = path.display().to_string();
    let args = ["rotate", "plan", "--user", "x", "--map", &path];
    let text = told(&user, &args, Exit::Usage);
    assert!(
        text.contains("map.yaml") && text.contains("colour"),
        "{text}"
    );
    let missing = [
        "rotate",
        "plan",
        "--user",
        "x",
        "--map",
        "/nowhere/map.yaml",
    ];
    let text = told(&user, &missing, Exit::Usage);
    assert!(text.contains("FB1105"), "{text}");
}

#[test]
fn what_was_never_planned_has_no_standing_and_says_how_to_begin() {
    let user = User::new("rotate-status");
    user.expect(
        &["incident", "open", "odd logins", "--id", "INC-TEST-1"],
        Exit::Ok,
    );
    let all: [&[&str]; 4] = [
        &["rotate", "status"],
        &["rotate", "show"],
        &["rotate", "report"],
        &["rotate", "resume"],
    ];
    for args in all {
        let text = told(&user, args, Exit::Usage);
        assert!(
            text.contains("FB3001") && text.contains("rotate plan"),
            "{args:?}: {text}"
        );
    }
}

#[test]
fn firebreak_does_not_start_where_the_sdk_would_log_secrets() {
    let user = User::new("rotate-log");
    let mut command = user.command(&["rotate", "user", "ci-build"]);
    let output = command
        .env("LOG_SENSITIVE_BODIES", "true")
        .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "nothing")
        .output()
        .expect("runs");
    let story = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{story}");
    assert!(story.contains("unset LOG_SENSITIVE_BODIES"), "{story}");
}

#[test]
fn an_account_that_cannot_be_reached_is_told_and_opens_no_incident() {
    let user = User::new("rotate-down");
    // Nobody listens on port 9 of this host.
    let args = [
        "rotate",
        "user",
        "ci-build",
        "--endpoint",
        "http://127.0.0.1:9",
        "--region",
        "eu-central-1",
    ];
    let output = user
        .command(&args)
        .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "nothing")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .output()
        .expect("runs");
    let story = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{story}");
    assert!(story.contains("FB3007"), "{story}");
    assert!(
        !story.contains("nothing\n"),
        "the secret is in no message: {story}"
    );
    nothing_was_opened(&user);
}

#[test]
fn the_least_rights_of_a_rotation_are_printed_for_both_sides() {
    let user = User::new("rotate-rights");
    let (iam, _) = user.expect(
        &[
            "permissions",
            "rotate",
            "--format",
            "iam",
            "--account",
            "123456789012",
            "--lease-bucket",
            "ops/leases",
        ],
        Exit::Ok,
    );
    let policy: serde_json::Value = serde_json::from_str(&iam).expect("JSON");
    assert_eq!(policy["Version"], "2012-10-17");
    assert!(
        iam.contains("iam:CreateAccessKey") && iam.contains("arn:aws:s3:::ops/leases*"),
        "{iam}"
    );
    let (rbac, _) = user.expect(&["permissions", "rotate"], Exit::Ok);
    assert!(rbac.contains("secrets") && rbac.contains("patch"), "{rbac}");
    let text = told(
        &user,
        &["permissions", "contain", "--format", "iam"],
        Exit::Usage,
    );
    assert!(text.contains("needs no cloud account"), "{text}");
}

#[test]
fn every_setting_of_the_account_is_printed_with_where_it_came_from() {
    let user = User::new("rotate-config");
    std::fs::create_dir_all(user.home.join(".config/firebreak")).expect("folder");
    let text = "aws_region: eu-central-1\nlease_bucket: ops/leases\nbreak_glass:\n  emergency: arn:aws:iam::123456789012:user/break-glass\n";
    std::fs::write(user.home.join(".config/firebreak/config.yaml"), text).expect("written");
    let (answer, _) = user.expect(&["config"], Exit::Ok);
    for wanted in [
        "aws_region",
        "eu-central-1",
        "ops/leases",
        "emergency = arn:aws:iam::123456789012:user/break-glass",
    ] {
        assert!(answer.contains(wanted), "{wanted}: {answer}");
    }
    std::fs::write(
        user.home.join(".config/firebreak/config.yaml"),
        "rate_start: fast\n",
    )
    .expect("written");
    let text = told(&user, &["config"], Exit::Usage);
    assert!(text.contains("rate_start"), "{text}");
}
