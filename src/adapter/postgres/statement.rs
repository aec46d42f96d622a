//! What is asked of a server, and how its answers read. Every function is named with its schema.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat, Utc};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Row, SimpleQueryMessage};

use super::connect::Session;
use super::error::{self, Does, Tried};
use crate::adapter::kube::clean;
use crate::port::{Cause, PortError, RoleSeen, Secret, Sessions};

/// The server's clock as RFC 3339, whatever its time zone and date style. Without an operator: those could be somebody else's.
const NOW: &str = r#"pg_catalog.to_char(pg_catalog.timezone('UTC', pg_catalog.clock_timestamp()), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"#;

/// Sessions of role `$1` that began before `$2`, and whether we may end each. Where the age is hidden from us it counts as old: it cannot
/// be shown to be new.
///
/// The rule is the server's own: a superuser's sessions are for superusers, others' for whoever is in the role or in
/// `pg_signal_backend`.
const SESSIONS: &str = "
    SELECT s.pid,
           coalesce(pg_catalog.host(s.client_addr), 'local or hidden') AS client,
           coalesce(s.application_name, '') AS application,
           (me.rolsuper OR (NOT r.rolsuper AND (
               pg_catalog.pg_has_role(me.oid, r.oid, 'USAGE')
               OR pg_catalog.pg_has_role(me.oid, 'pg_signal_backend', 'USAGE')))) AS reach
      FROM pg_catalog.pg_stat_activity s
      JOIN pg_catalog.pg_roles r ON r.oid = s.usesysid
      JOIN pg_catalog.pg_roles me ON me.rolname = current_user
     WHERE r.rolname = $1
       AND (s.backend_start IS NULL OR s.backend_start < $2::text::timestamptz)
       AND s.pid <> pg_catalog.pg_backend_pid()";

/// True for `SCRAM-SHA-256$4096:<salt>$<stored key>:<server key>` and nothing else: with this, and only with this, a server stores the
/// text as it is.
pub(super) fn is_verifier(text: &str) -> bool {
    let parts = || {
        let (iterations, rest) = text.strip_prefix("SCRAM-SHA-256$")?.split_once(':')?;
        let (salt, keys) = rest.split_once('$')?;
        let (stored, server) = keys.split_once(':')?;
        let bytes = |part: &str| STANDARD.decode(part).ok().map(|b| b.len());
        let counts = iterations.parse::<u32>().ok()? >= 4096
            && iterations.bytes().all(|b| b.is_ascii_digit());
        Some(counts && bytes(salt)? >= 16 && bytes(stored)? == 32 && bytes(server)? == 32)
    };
    parts() == Some(true)
}

/// The server's clock.
pub(super) async fn now(session: &Session, tried: Tried<'_>) -> Result<DateTime<Utc>, PortError> {
    // The simple protocol: a pooler need not know of prepared statements.
    let answer = session.client.simple_query(&format!("SELECT {NOW}")).await;
    let answer = answer.map_err(|e| error::of(&e, Does::Read, tried))?;
    let text = answer.iter().find_map(|m| match m {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    moment(text.unwrap_or_default(), tried)
}

fn moment(text: &str, tried: Tried<'_>) -> Result<DateTime<Utc>, PortError> {
    let read = DateTime::parse_from_rfc3339(text).map(|t| t.with_timezone(&Utc));
    read.map_err(|_| tried.failed(Cause::Unreadable, &format!("no time of day: `{text}`")))
}

async fn rows(
    session: &Session,
    sql: &str,
    values: &[&(dyn ToSql + Sync)],
    does: Does,
    tried: Tried<'_>,
) -> Result<Vec<Row>, PortError> {
    let typed: Vec<(&(dyn ToSql + Sync), Type)> = values.iter().map(|v| (*v, Type::TEXT)).collect();
    let found = session.client.query_typed(sql, &typed).await;
    found.map_err(|e| error::of(&e, does, tried))
}

/// A column of a row, by its place.
fn column<'r, T: tokio_postgres::types::FromSql<'r>>(
    row: &'r Row,
    at: usize,
    tried: Tried<'_>,
) -> Result<T, PortError> {
    row.try_get(at).map_err(|e| {
        let detail = format!("column {at} of the server's answer cannot be read: {e}");
        tried.failed(Cause::Unreadable, &detail)
    })
}

async fn one(
    session: &Session,
    sql: &str,
    values: &[&(dyn ToSql + Sync)],
    tried: Tried<'_>,
) -> Result<Row, PortError> {
    let mut found = rows(session, sql, values, Does::Read, tried).await?;
    match (found.pop(), found.is_empty()) {
        (Some(row), true) => Ok(row),
        _ => Err(tried.failed(Cause::Unreadable, "the server did not answer one row")),
    }
}

/// The change as the server writes it: name and value quoted by its own rules.
pub(super) async fn change(
    session: &Session,
    role: &str,
    verifier: &Secret,
    tried: Tried<'_>,
) -> Result<Secret, PortError> {
    let sql = "SELECT pg_catalog.format('ALTER ROLE %I PASSWORD %L', $1, $2)";
    let row = one(session, sql, &[&role, &verifier.expose_secret()], tried)
        .await
        .map_err(|e| error::without(e, verifier))?;
    Ok(Secret::new(column(&row, 0, tried)?))
}

/// The role as it is, and which server answers.
pub(super) async fn role(
    session: &Session,
    role: &str,
    tried: Tried<'_>,
) -> Result<RoleSeen, PortError> {
    let sql = format!(
        "SELECT (SELECT system_identifier::text FROM pg_catalog.pg_control_system()),
                pg_catalog.pg_is_in_recovery(),
                pg_catalog.current_setting('server_version_num'),
                {NOW},
                r.rolcanlogin, r.rolsuper,
                pg_catalog.has_column_privilege('pg_catalog.pg_authid', 'rolpassword', 'SELECT')
           FROM (SELECT 1) one LEFT JOIN pg_catalog.pg_roles r ON r.rolname = $1"
    );
    let row = one(session, &sql, &[&role], tried).await?;
    let version: String = column(&row, 2, tried)?;
    let can_login: Option<bool> = column(&row, 4, tried)?;
    let superuser: Option<bool> = column(&row, 5, tried)?;
    let (password_type, verifier_sha256) = match (can_login, column(&row, 6, tried)?) {
        (Some(_), true) => password(session, role, tried).await?,
        _ => ("unknown".to_owned(), None),
    };
    Ok(RoleSeen {
        system_identifier: column(&row, 0, tried)?,
        in_recovery: column(&row, 1, tried)?,
        version: version.parse().map_err(|_| {
            tried.failed(
                Cause::Unreadable,
                &format!("no version number: `{version}`"),
            )
        })?,
        server_now: moment(column(&row, 3, tried)?, tried)?,
        exists: can_login.is_some(),
        can_login: can_login == Some(true),
        superuser: superuser == Some(true),
        password_type,
        verifier_sha256,
    })
}

/// Type and digest of what is stored; the verifier itself stays where it is.
async fn password(
    session: &Session,
    role: &str,
    tried: Tried<'_>,
) -> Result<(String, Option<String>), PortError> {
    let sql = "SELECT CASE WHEN rolpassword IS NULL THEN 'none'
                           WHEN rolpassword LIKE 'SCRAM-SHA-256$%' THEN 'SCRAM-SHA-256'
                           WHEN rolpassword LIKE 'md5%' THEN 'md5'
                           ELSE 'unknown' END,
                      pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(rolpassword, 'UTF8')), 'hex')
                 FROM pg_catalog.pg_authid WHERE rolname = $1";
    let row = one(session, sql, &[&role], tried).await?;
    Ok((column(&row, 0, tried)?, column(&row, 1, tried)?))
}

/// Microseconds, as the server counts. What is finer is cut off, which may only spare a session of the same microsecond.
fn instant(before: DateTime<Utc>) -> String {
    before.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// Sessions that match.
pub(super) async fn sessions(
    session: &Session,
    role: &str,
    before: DateTime<Utc>,
    tried: Tried<'_>,
) -> Result<Sessions, PortError> {
    let before = instant(before);
    let found = rows(session, SESSIONS, &[&role, &before], Does::Read, tried).await?;
    let mut seen = Sessions::default();
    for row in &found {
        seen.matched += 1;
        if !column::<bool>(row, 3, tried)? {
            seen.out_of_reach += 1;
        }
        seen.clients.push(client(row, tried)?);
    }
    Ok(seen)
}

/// Ends those in reach, in one statement. One that went by itself meanwhile is ended as well.
pub(super) async fn end_sessions(
    session: &Session,
    role: &str,
    before: DateTime<Utc>,
    tried: Tried<'_>,
) -> Result<Sessions, PortError> {
    let before = instant(before);
    // CASE keeps the server from trying what it would refuse, which would undo nothing but hide the rest.
    let sql = format!(
        "SELECT m.pid, m.client, m.application, m.reach,
                CASE WHEN m.reach THEN pg_catalog.pg_terminate_backend(m.pid) END
           FROM ({SESSIONS}) m"
    );
    let found = rows(session, &sql, &[&role, &before], Does::Write, tried).await?;
    let mut ended = Sessions::default();
    for row in &found {
        match column::<bool>(row, 3, tried)? {
            true => ended.matched += 1,
            false => ended.out_of_reach += 1,
        }
        ended.clients.push(client(row, tried)?);
    }
    Ok(ended)
}

fn client(row: &Row, tried: Tried<'_>) -> Result<String, PortError> {
    let (address, application): (String, String) = (column(row, 1, tried)?, column(row, 2, tried)?);
    Ok(clean(format!("{address} {application}").trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_a_whole_verifier_may_be_sent() {
        let good = "SCRAM-SHA-256$4096:MTIzNDU2Nzg5MDEyMzQ1Ng==$MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
        assert!(is_verifier(good));
        for bad in [
            "",
            "hunter2",
            "md5a8a2c2f3a5f6d7e8a8a2c2f3a5f6d7e8",
            "SCRAM-SHA-256$4096:MTIz",
            &good.replace("4096", "1"),
            &good.replace("4096", "+4096"),
            &good.replace("$MDEy", "$MDE'"),
            &good[..good.len() - 4],
            &format!("{good} VALID UNTIL 'infinity'"),
            &format!(" {good}"),
        ] {
            assert!(!is_verifier(bad), "{bad}");
        }
    }
}
