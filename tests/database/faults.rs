//! A server that is down, silent, cut off or goes down in the middle: nothing was told, or it is in doubt, and the cause says which.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::Utc;
use firebreak::adapter::postgres::PostgresServers;
use firebreak::port::{Cause, Database, Server};
use firebreak::rotation::password::scram_verifier;
use tokio::net::{TcpListener, TcpStream};

use super::support::postgres::{Postgres, Tls, wait_for};
use super::{code, consumer, database, password, role, shared, tries};

#[tokio::test]
async fn a_server_that_is_down_was_told_nothing_and_answers_again_when_it_is_back() {
    let Some(mut servers) = Postgres::start("down", Tls::On) else {
        return;
    };
    let (server, admin) = (servers.primary(), servers.admin());
    let old = role(&servers, "shop");
    servers.crash();
    let verifier = scram_verifier(&password());
    let later = Utc::now();
    let causes = [
        database().role(&server, &admin, "shop").await.map(drop),
        database()
            .set_verifier(&server, &admin, "shop", &verifier)
            .await,
        database().try_login(&server, &admin).await.map(drop),
        database()
            .sessions(&server, &admin, "shop", later)
            .await
            .map(drop),
        database()
            .end_sessions(&server, &admin, "shop", later)
            .await
            .map(drop),
    ];
    for cause in causes {
        assert_eq!(cause.expect_err("down").cause, Cause::Unreachable);
    }
    servers.start_again();
    assert_eq!(code(&tries(&server, "shop", &old).await), "accepted");
}

#[tokio::test]
async fn a_server_that_never_answers_leaves_a_change_undone_and_a_look_timed_out() {
    let Some(servers) = shared() else { return };
    // Accepts connections and says nothing.
    let silent = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback");
    let server = servers.server(silent.local_addr().expect("bound").port());
    let database = PostgresServers::with_deadline(Duration::from_millis(300));
    let admin = servers.admin();
    let e = database
        .try_login(&server, &admin)
        .await
        .expect_err("silent");
    assert_eq!(e.cause, Cause::Timeout, "{e}");
    let verifier = scram_verifier(&password());
    let e = database
        .set_verifier(&server, &admin, "shop", &verifier)
        .await;
    let e = e.expect_err("silent");
    assert_eq!(e.cause, Cause::Unreachable, "{e}");
}

/// A way to a server that can be cut.
struct Wire {
    port: u16,
    cut: tokio::sync::watch::Sender<bool>,
    open: Arc<AtomicUsize>,
}

impl Wire {
    async fn to(server: &Server) -> Wire {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback");
        let port = listener.local_addr().expect("bound").port();
        let (cut, cuts) = tokio::sync::watch::channel(false);
        let open = Arc::new(AtomicUsize::new(0));
        let (count, behind) = (open.clone(), server.port);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (mut cuts, count) = (cuts.clone(), count.clone());
                tokio::spawn(async move {
                    let far = TcpStream::connect(("127.0.0.1", behind)).await;
                    let mut far = far.expect("the server is there");
                    count.fetch_add(1, Ordering::SeqCst);
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = cuts.wait_for(|c| *c) => {}
                    }
                });
            }
        });
        Wire { port, cut, open }
    }
}

/// Holds the role's row, so that a change of it waits.
async fn holding(servers: &Postgres, role: &str) -> tokio_postgres::Client {
    let admin = servers.admin();
    let holder = consumer(&servers.primary(), &admin.role, &admin.password).await;
    let hold = format!("BEGIN; ALTER ROLE {role} CONNECTION LIMIT 7");
    holder.batch_execute(&hold).await.expect("it is held");
    holder
}

/// Waits until our change waits for the held row.
fn change_waits(servers: &Postgres) {
    wait_for("the change to wait", || {
        let ask = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'firebreak'";
        (servers.sql(ask) == "1").then_some(())
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_whose_reply_was_lost_is_in_doubt_and_may_have_happened() {
    let Some(servers) = Postgres::start("cut", Tls::On) else {
        return;
    };
    let admin = servers.admin();
    role(&servers, "shop");
    let holder = holding(&servers, "shop").await;
    let wire = Wire::to(&servers.primary()).await;
    let through = servers.server(wire.port);
    let new = password();
    let verifier = scram_verifier(&new);
    let changing = tokio::spawn(async move {
        let database = PostgresServers::new();
        database
            .set_verifier(&through, &admin, "shop", &verifier)
            .await
    });
    change_waits(&servers);
    assert_eq!(wire.open.load(Ordering::SeqCst), 1);
    wire.cut.send(true).expect("the wire is there");
    let e = changing.await.expect("no panic").expect_err("cut");
    assert_eq!(e.cause, Cause::LostReply, "{e}");
    // The holder changed the same row, so the waiting change either follows it or fails: this is what makes it a doubt.
    holder
        .batch_execute("ROLLBACK")
        .await
        .expect("it is let go");
    let server = servers.primary();
    wait_for("the change to end", || {
        let ask = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'firebreak'";
        (servers.sql(ask) == "0").then_some(())
    });
    assert_eq!(code(&tries(&server, "shop", &new).await), "accepted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ends_us_during_a_change_leaves_it_in_doubt() {
    let Some(servers) = Postgres::start("ended", Tls::On) else {
        return;
    };
    let (server, admin) = (servers.primary(), servers.admin());
    let old = role(&servers, "shop");
    let holder = holding(&servers, "shop").await;
    let changing = tokio::spawn(async move {
        let verifier = scram_verifier(&password());
        let database = PostgresServers::new();
        database
            .set_verifier(&server, &admin, "shop", &verifier)
            .await
    });
    change_waits(&servers);
    servers.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'firebreak'");
    let e = changing.await.expect("no panic").expect_err("ended");
    assert_eq!(e.cause, Cause::LostReply, "{e}");
    holder
        .batch_execute("ROLLBACK")
        .await
        .expect("it is let go");
    assert_eq!(
        code(&tries(&servers.primary(), "shop", &old).await),
        "accepted"
    );
}
