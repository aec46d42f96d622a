//! The PostgreSQL adapter against real servers: a primary and its replica, with TLS and `log_statement=ddl`. Needs PostgreSQL, see
//! `tests/run`.
#![cfg(feature = "adapters")]

#[path = "database/faults.rs"]
mod faults;
mod support;

use std::sync::{Arc, Mutex, Weak};

use chrono::{DateTime, Utc};
use firebreak::adapter::postgres::PostgresServers;
use firebreak::port::{Cause, Database, HostRandom, Login, LoginAnswer, PortError, Secret, Server};
use firebreak::rotation::password::{generate, scram_verifier};
use sha2::{Digest as _, Sha256};
use support::postgres::{Postgres, Tls};

/// One primary for all tests at work that only need roles of their own; the last one ends it.
fn shared() -> Option<Arc<Postgres>> {
    static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(|e| e.into_inner());
    if let Some(servers) = shared.upgrade() {
        return Some(servers);
    }
    let servers = Arc::new(Postgres::start("shared", Tls::On)?);
    *shared = Arc::downgrade(&servers);
    Some(servers)
}

fn database() -> &'static PostgresServers {
    static SERVERS: PostgresServers = PostgresServers::new();
    &SERVERS
}

/// Sets the verifier of a password.
async fn renew(
    server: &Server,
    admin: &Login,
    role: &str,
    password: &Secret,
) -> Result<(), PortError> {
    let verifier = scram_verifier(password);
    database()
        .set_verifier(server, admin, role, &verifier)
        .await
}

fn password() -> Secret {
    generate(&HostRandom).expect("the host has randomness")
}

/// As SQL has a name.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Makes a role that may log in, and answers its password. The password itself is in no statement here either.
fn role(servers: &Postgres, name: &str) -> Secret {
    let password = password();
    let verifier = scram_verifier(&password);
    servers.sql(&format!(
        "CREATE ROLE {} LOGIN PASSWORD '{}'",
        quoted(name),
        verifier.expose_secret()
    ));
    password
}

fn login(role: &str, password: &Secret) -> Login {
    Login {
        role: role.into(),
        password: password.duplicate(),
    }
}

async fn tries(server: &Server, role: &str, password: &Secret) -> LoginAnswer {
    let answer = database().try_login(server, &login(role, password)).await;
    answer.expect("the server answers")
}

fn code(answer: &LoginAnswer) -> &str {
    match answer {
        LoginAnswer::Accepted { .. } => "accepted",
        LoginAnswer::Refused { sqlstate, .. } => sqlstate,
    }
}

/// A session of the role that stays open, as a consumer's would.
async fn consumer(server: &Server, role: &str, password: &Secret) -> tokio_postgres::Client {
    let mut config = tokio_postgres::Config::new();
    config
        .host("127.0.0.1")
        .port(server.port)
        .dbname(&server.database)
        .user(role)
        .password(password.expose_secret())
        .application_name("consumer")
        .ssl_mode(tokio_postgres::config::SslMode::Disable);
    let (client, connection) = config
        .connect(tokio_postgres::NoTls)
        .await
        .expect("the consumer logs in");
    tokio::spawn(connection);
    client
}

async fn answers(client: &tokio_postgres::Client) -> bool {
    client.simple_query("SELECT 1").await.is_ok()
}

/// Looks until no session of the role is left that began before.
async fn none_left(server: &Server, admin: &Login, role: &str, before: DateTime<Utc>) {
    for _ in 0..200 {
        let left = database().sessions(server, admin, role, before).await;
        if left.expect("they are listed").matched == 0 {
            return;
        }
    }
    panic!("sessions of {role} are left");
}

#[tokio::test]
async fn a_verifier_is_accepted_and_from_then_on_only_the_new_password_opens() {
    let Some(servers) = shared() else { return };
    let (server, admin) = (servers.primary(), servers.admin());
    let old = role(&servers, "renewed");
    let before = database().role(&server, &admin, "renewed").await;
    let before = before.expect("the role is seen");
    assert!(before.exists && before.can_login && !before.superuser && !before.in_recovery);
    assert!(before.version >= 100_000, "{}", before.version);
    assert_eq!(before.password_type, "SCRAM-SHA-256");
    assert_eq!(code(&tries(&server, "renewed", &old).await), "accepted");

    let new = password();
    let verifier = scram_verifier(&new);
    for _ in 0..2 {
        let set = database().set_verifier(&server, &admin, "renewed", &verifier);
        set.await.expect("it is set, and again");
    }
    let LoginAnswer::Accepted { server_now } = tries(&server, "renewed", &new).await else {
        panic!("the new password is refused");
    };
    assert!(server_now > before.server_now);
    assert_eq!(code(&tries(&server, "renewed", &old).await), "28P01");
    let after = database().role(&server, &admin, "renewed").await;
    let after = after.expect("the role is seen");
    let digest = Sha256::digest(verifier.expose_secret().as_bytes());
    let digest: String = digest.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(after.verifier_sha256, Some(digest));
    assert_eq!(after.system_identifier, before.system_identifier);
}

#[tokio::test]
async fn old_sessions_survive_the_new_password_and_are_ended_on_primary_and_replica() {
    let Some(servers) = Postgres::start_with_replica("sessions") else {
        return;
    };
    let (primary, replica, admin) = (servers.primary(), servers.replica(), servers.admin());
    let old = role(&servers, "shop");
    servers.replicate();
    let held = [
        (primary.clone(), consumer(&primary, "shop", &old).await),
        (replica.clone(), consumer(&replica, "shop", &old).await),
    ];
    let new = password();
    let set = renew(&primary, &admin, "shop", &new);
    set.await.expect("it is set");
    servers.replicate();
    let seen = database().role(&replica, &admin, "shop").await;
    let seen = seen.expect("the replica answers");
    let on_primary = database().role(&primary, &admin, "shop").await;
    let on_primary = on_primary.expect("the primary answers");
    assert!(seen.in_recovery && !on_primary.in_recovery);
    assert_eq!(seen.system_identifier, on_primary.system_identifier);
    assert_eq!(seen.verifier_sha256, on_primary.verifier_sha256);

    for (server, client) in &held {
        assert!(answers(client).await, "an open session survives");
        let t_set = database().role(server, &admin, "shop").await;
        let t_set = t_set.expect("it is seen").server_now;
        let fresh = consumer(server, "shop", &new).await;
        let seen = database().sessions(server, &admin, "shop", t_set).await;
        let seen = seen.expect("they are listed");
        assert_eq!((seen.matched, seen.out_of_reach), (1, 0));
        assert_eq!(seen.clients, ["127.0.0.1 consumer"]);
        let ended = database().end_sessions(server, &admin, "shop", t_set).await;
        assert_eq!(ended.expect("they are ended").matched, 1);
        none_left(server, &admin, "shop", t_set).await;
        assert!(!answers(client).await, "the old session is gone");
        assert!(answers(&fresh).await, "the new one is not");
        let again = database().end_sessions(server, &admin, "shop", t_set).await;
        assert_eq!(again.expect("none is left").matched, 0);
        assert_eq!(code(&tries(server, "shop", &old).await), "28P01");
        assert_eq!(code(&tries(server, "shop", &new).await), "accepted");
    }
    let on_replica = renew(&replica, &admin, "shop", &new);
    let e = on_replica.await.expect_err("a replica takes no change");
    assert_eq!(e.cause, Cause::Rejected, "{e}");
}

#[tokio::test]
async fn our_own_session_is_never_among_those_that_are_ended() {
    let Some(servers) = shared() else { return };
    let (server, admin) = (servers.primary(), servers.admin());
    let later = Utc::now() + chrono::TimeDelta::days(1);
    let seen = database().role(&server, &admin, "admin").await;
    assert!(seen.expect("it is seen").superuser);
    // The admin's own role, any time: other tests' admin connections are there as well, so only looking is fair.
    let own = database().sessions(&server, &admin, "admin", later).await;
    let own = own.expect("they are listed").clients;
    assert!(own.iter().all(|c| !c.contains("consumer")), "{own:?}");
    let old = role(&servers, "self-ending");
    servers.sql("GRANT pg_signal_backend, pg_read_all_stats TO \"self-ending\"");
    let me = login("self-ending", &old);
    let ended = database().end_sessions(&server, &me, "self-ending", later);
    assert_eq!(ended.await.expect("it survives itself").matched, 0);
}

#[tokio::test]
async fn a_refused_login_says_by_its_code_what_was_refused() {
    let Some(servers) = shared() else { return };
    let server = servers.primary();
    let right = role(&servers, "closed");
    servers.sql("ALTER ROLE closed NOLOGIN");
    assert_eq!(code(&tries(&server, "closed", &right).await), "28000");
    assert_eq!(code(&tries(&server, "closed", &password()).await), "28P01");
    assert_eq!(code(&tries(&server, "nobody", &right).await), "28P01");
    let seen = database().role(&server, &servers.admin(), "closed").await;
    assert!(!seen.expect("it is seen").can_login);
    let seen = database().role(&server, &servers.admin(), "nobody").await;
    assert!(!seen.expect("the server answers").exists);
}

#[tokio::test]
async fn what_comes_after_an_accepted_password_is_no_refusal_of_it() {
    let Some(servers) = shared() else { return };
    let mut server = servers.primary();
    let right = login("crowded", &role(&servers, "crowded"));
    servers.sql("ALTER ROLE crowded CONNECTION LIMIT 0");
    let e = database()
        .try_login(&server, &right)
        .await
        .expect_err("full");
    assert_eq!(e.cause, Cause::Throttled, "{e}");
    servers.sql("ALTER ROLE crowded CONNECTION LIMIT -1");
    server.database = "nowhere".into();
    let e = database()
        .try_login(&server, &right)
        .await
        .expect_err("none");
    assert_eq!(e.cause, Cause::NotFound, "{e}");
}

#[tokio::test]
async fn a_server_that_cannot_prove_itself_is_told_nothing() {
    let Some(servers) = shared() else { return };
    let Some(plain) = Postgres::start("plain", Tls::Off) else {
        return;
    };
    let admin = servers.admin();
    let wrong_name = Server {
        host: "127.0.0.1".into(),
        ..servers.primary()
    };
    // The other cluster's authority has the same name and another key.
    let wrong_authority = Server {
        ca_file: plain.primary().ca_file,
        ..servers.primary()
    };
    let unknown_authority = Server {
        ca_file: None,
        ..servers.primary()
    };
    for server in [wrong_name, wrong_authority, unknown_authority] {
        let e = database().try_login(&server, &admin).await.expect_err("no");
        assert_eq!(e.cause, Cause::Rejected, "{e}");
        assert!(e.detail.contains("certificate"), "{e}");
    }
    let e = database().try_login(&plain.primary(), &admin).await;
    let e = e.expect_err("no TLS");
    assert_eq!(e.cause, Cause::Unsupported, "{e}");
    assert!(!plain.log().contains("authenticat"), "{}", plain.log());
}

#[tokio::test]
async fn a_planted_password_is_in_no_log_of_the_server_and_in_no_statistics() {
    let Some(servers) = Postgres::start_with_replica("planted") else {
        return;
    };
    let (server, admin) = (servers.primary(), servers.admin());
    let old = role(&servers, "planted");
    let new = Secret::new("PlantedPassword4NoLogToHold2345678".into());
    let verifier = scram_verifier(&new);
    let set = database().set_verifier(&server, &admin, "planted", &verifier);
    set.await.expect("it is set");
    // Also where the server refuses, and where a password is given for a verifier.
    let e = database()
        .set_verifier(&server, &admin, "planted", &new)
        .await;
    let e = e.expect_err("a password is no verifier");
    assert_eq!(e.cause, Cause::Local);
    let none = database().set_verifier(&server, &admin, "no such role", &verifier);
    let missing = none.await.expect_err("no role");
    assert_eq!(missing.cause, Cause::NotFound, "{missing}");
    tries(&server, "planted", &new).await;
    tries(&server, "planted", &old).await;
    tries(&server, "planted\n", &new).await;
    servers.replicate();
    tries(&servers.replica(), "planted", &new).await;

    let log = servers.log();
    let kept = servers.statements().unwrap_or_default();
    assert!(
        log.contains(verifier.expose_secret()),
        "the log that is searched holds the statement"
    );
    for secret in [&new, &old] {
        for form in forms(secret.expose_secret()) {
            for (place, text) in [("log", &log), ("statistics", &kept)] {
                assert!(!text.contains(&form), "{form} is in the {place}");
            }
            assert!(!format!("{e} {missing}").contains(&form), "{e} {missing}");
        }
    }
}

/// A logger that takes all it can get.
struct Heard(Mutex<String>);

static HEARD: Heard = Heard(Mutex::new(String::new()));

impl log::Log for Heard {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} {}\n", record.target(), record.args());
        self.0.lock().expect("no panic").push_str(&line);
    }
    fn flush(&self) {}
}

#[tokio::test]
async fn no_logger_of_ours_hears_a_statement_whatever_its_filter_says() {
    let Some(servers) = shared() else { return };
    log::set_logger(&HEARD).expect("it is the only one");
    log::set_max_level(log::LevelFilter::Trace);
    role(&servers, "heard");
    let new = password();
    let (server, admin) = (servers.primary(), servers.admin());
    let set = renew(&server, &admin, "heard", &new);
    set.await.expect("it is set");
    tries(&server, "heard", &new).await;
    log::error!("the logger hears");
    let heard = HEARD.0.lock().expect("no panic").clone();
    assert!(heard.contains("the logger hears"), "{heard}");
    assert!(
        !heard.contains("ALTER ROLE") && !heard.contains("SCRAM"),
        "{heard}"
    );
}

/// A secret as it may be found: raw, base64, hex.
fn forms(secret: &str) -> [String; 4] {
    use base64::Engine as _;
    let hex: String = secret.bytes().map(|b| format!("{b:02x}")).collect();
    let base64 = base64::engine::general_purpose::STANDARD.encode(secret);
    let upper = hex.to_uppercase();
    [
        secret.to_owned(),
        base64.trim_end_matches('=').to_owned(),
        hex,
        upper,
    ]
}

#[tokio::test]
async fn no_name_of_a_role_is_ever_more_than_a_name() {
    let Some(servers) = shared() else { return };
    let (server, admin) = (servers.primary(), servers.admin());
    let spared = role(&servers, "spared");
    for name in [
        "x\"; drop role spared; --",
        "o'brien",
        "back\\slash $$ $1 %I",
        "Ünïcode 角色",
    ] {
        let old = role(&servers, name);
        let new = password();
        let set = renew(&server, &admin, name, &new);
        set.await.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(
            code(&tries(&server, name, &new).await),
            "accepted",
            "{name}"
        );
        assert_eq!(code(&tries(&server, name, &old).await), "28P01", "{name}");
        let held = consumer(&server, name, &new).await;
        let later = Utc::now() + chrono::TimeDelta::days(1);
        let seen = database().sessions(&server, &admin, name, later).await;
        assert_eq!(seen.expect("listed").matched, 1, "{name}");
        assert!(answers(&held).await);
    }
    assert_eq!(code(&tries(&server, "spared", &spared).await), "accepted");
}

#[tokio::test]
async fn a_function_that_an_intruder_put_on_the_admins_path_is_not_called() {
    let Some(servers) = Postgres::start("path", Tls::On) else {
        return;
    };
    let (server, admin) = (servers.primary(), servers.admin());
    role(&servers, "shop");
    servers.sql(
        "CREATE TABLE public.stolen (what text);
         CREATE FUNCTION public.format(text, text, text) RETURNS text LANGUAGE plpgsql AS
           $$ BEGIN INSERT INTO public.stolen VALUES ($3); RETURN 'SELECT 1'; END $$;
         CREATE FUNCTION public.nameeq(name, text) RETURNS bool LANGUAGE plpgsql AS
           $$ BEGIN INSERT INTO public.stolen VALUES ($2); RETURN true; END $$;
         CREATE OPERATOR public.= (LEFTARG = name, RIGHTARG = text, FUNCTION = public.nameeq);
         ALTER ROLE admin SET search_path = public, pg_catalog",
    );
    let new = password();
    let set = renew(&server, &admin, "shop", &new);
    set.await.expect("it is set");
    assert_eq!(code(&tries(&server, "shop", &new).await), "accepted");
    database()
        .role(&server, &admin, "shop")
        .await
        .expect("seen");
    let ended = database().end_sessions(&server, &admin, "shop", Utc::now());
    assert_eq!(ended.await.expect("listed").matched, 0);
    assert_eq!(servers.sql("SELECT count(*) FROM public.stolen"), "0");
}

#[tokio::test]
async fn an_admin_of_few_rights_learns_what_it_may_not_see_and_not_end() {
    let Some(servers) = shared() else { return };
    let server = servers.primary();
    let own = role(&servers, "lesser");
    servers.sql("ALTER ROLE lesser CREATEROLE");
    let admin = login("lesser", &own);
    let old = role(&servers, "stranger");
    let seen = database().role(&server, &admin, "stranger").await;
    let seen = seen.expect("the role is seen");
    assert_eq!(
        (seen.password_type.as_str(), seen.verifier_sha256),
        ("unknown", None)
    );
    assert!(seen.exists && !seen.system_identifier.is_empty());

    let held = consumer(&server, "stranger", &old).await;
    let later = Utc::now() + chrono::TimeDelta::days(1);
    let seen = database()
        .sessions(&server, &admin, "stranger", later)
        .await;
    let seen = seen.expect("listed");
    assert_eq!((seen.matched, seen.out_of_reach), (1, 1));
    let ended = database().end_sessions(&server, &admin, "stranger", later);
    let ended = ended.await.expect("answered");
    assert_eq!((ended.matched, ended.out_of_reach), (0, 1));
    assert!(answers(&held).await);
    // A superuser's sessions stay out of reach of everybody who is none.
    servers
        .sql("GRANT pg_signal_backend, pg_read_all_stats TO lesser; ALTER ROLE stranger SUPERUSER");
    let ended = database().end_sessions(&server, &admin, "stranger", later);
    assert_eq!(ended.await.expect("answered").out_of_reach, 1);
    let e = renew(&server, &admin, "stranger", &old);
    let e = e.await.expect_err("a superuser's password is not for it");
    assert_eq!(e.cause, Cause::Refused, "{e}");
    servers.sql("ALTER ROLE stranger NOSUPERUSER");
    let ended = database().end_sessions(&server, &admin, "stranger", later);
    assert_eq!(ended.await.expect("answered").matched, 1);
    none_left(&server, &admin, "stranger", later).await;
}
