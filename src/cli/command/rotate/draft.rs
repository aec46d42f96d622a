//! `rotate map`: a draft of the rotation map, from what can be seen. What no API says is marked for a person.

use std::path::PathBuf;

use serde_json::json;

use crate::action::eradicate::draft_map;
use crate::cli::error::{CliError, CliResult};
use crate::cli::exit::Exit;
use crate::cli::output::clean;
use crate::cli::session::Session;
use crate::rotation::map::TO_FILL;

use super::OutsideArgs;
use super::place::Place;

/// Arguments of `rotate map`.
#[derive(Debug, clap::Args)]
pub struct MapArgs {
    /// Where it goes; standard output if not named
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Namespace whose Secrets are looked at; all of them if none is named (may repeat)
    #[arg(long, value_name = "NAMESPACE")]
    within: Vec<String>,
    /// Canary key or secret that is never read (may repeat)
    #[arg(long, value_name = "ID")]
    canary: Vec<String>,
    #[command(flatten)]
    outside: OutsideArgs,
}

/// Drafts it.
pub(super) async fn run(session: &Session, args: &MapArgs) -> CliResult {
    let place = Place::of(session, &args.outside).await?;
    let cx = place.planner(session)?.looking()?;
    let within = args.within.iter().cloned().collect();
    let canaries = args.canary.iter().cloned().collect();
    let map = draft_map(&cx, &within, &canaries).await?;
    for line in &map.unread {
        session.out.tell(clean(&format!("not looked at: {line}")));
    }
    if session.out.json {
        session.out.document(&json!({
            "schema": "firebreak/rotation-map-draft/v1", "yaml": map.yaml, "entries": map.entries, "unread": map.unread,
        }))?;
    }
    let Some(path) = &args.out else {
        session.out.answer(clean(map.yaml.trim_end()));
        return Ok(Exit::Ok);
    };
    std::fs::write(path, &map.yaml).map_err(|e| {
        let why = format!("cannot write `{}`: {e}", path.display());
        CliError::new(Exit::Failed, "FB1104", why)
    })?;
    session.out.answer(format!(
        "{} credentials drafted in {}\nnext: fill in what says {TO_FILL}, then firebreak rotate plan --map {1}",
        map.entries,
        path.display()
    ));
    Ok(Exit::Ok)
}
