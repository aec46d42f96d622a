//! `firebreak config`: the values in force and where each came from.

use crate::cli::error::CliResult;
use crate::cli::exit::Exit;
use crate::cli::session::Session;

/// Prints the configuration.
pub fn run(session: &Session) -> CliResult {
    let rows = session.config.rows();
    if session.out.json {
        let keys: serde_json::Map<_, _> = rows
            .iter()
            .map(|(key, value, origin)| {
                (
                    (*key).to_owned(),
                    serde_json::json!({"value": value, "from": origin}),
                )
            })
            .collect();
        session.out.document(&serde_json::json!({
            "schema": "firebreak/config/v1", "root": session.places.root, "file": session.places.config, "keys": keys,
        }))?;
        return Ok(Exit::Ok);
    }
    session
        .out
        .answer(format!("root          {}", session.places.root.display()));
    session
        .out
        .answer(format!("file          {}", session.places.config.display()));
    for (key, value, origin) in rows {
        let value = if value.is_empty() { "-" } else { &value };
        session.out.answer(format!("{key:<13} {value}  ({origin})"));
    }
    Ok(Exit::Ok)
}
