//! `rotate map`: a draft of the rotation map, from what the newest plan of the incident saw. What no API says is marked for a person.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::cli::error::{CliError, CliResult};
use crate::cli::exit::Exit;
use crate::cli::output::clean;
use crate::cli::session::Session;
use crate::rotation::map::{
    Entry, FORMAT, JsonKeys, MapSink, RotationMap, SecretPlace, Servers, TO_FILL,
};
use crate::rotation::plan::{Item, RotationPlan, Sink, What};

use super::show;

/// Arguments of `rotate map`.
#[derive(Debug, clap::Args)]
pub struct MapArgs {
    /// Beginning of the digest of the plan that it is drafted from; the newest if not named
    #[arg(long)]
    plan: Option<String>,
    /// Where it goes; standard output if not named
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Drafts it.
pub(super) fn run(session: &Session, args: &MapArgs) -> CliResult {
    let custody = session.incident()?;
    let (plan, _) = show::found(&custody, args.plan.as_deref())?;
    let map = draft(&plan);
    let text = written(&map)?;
    if session.out.json {
        session.out.document(&map)?;
    }
    let Some(path) = &args.out else {
        session.out.answer(clean(text.trim_end()));
        return Ok(Exit::Ok);
    };
    std::fs::write(path, &text).map_err(|e| {
        let why = format!("cannot write `{}`: {e}", path.display());
        CliError::new(Exit::Failed, "FB1104", why)
    })?;
    session.out.answer(format!(
        "map written to {}\nnext: fill in what says {TO_FILL}, then firebreak rotate plan --map {0}",
        path.display()
    ));
    Ok(Exit::Ok)
}

fn written(map: &RotationMap) -> Result<String, CliError> {
    // JSON is YAML: one writer less to trust, and the strict reader takes it.
    let text = serde_json::to_string_pretty(map)
        .map_err(|e| CliError::new(Exit::Internal, "FB1100", e.to_string()))?;
    Ok(format!("{text}\n"))
}

fn draft(plan: &RotationPlan) -> RotationMap {
    RotationMap {
        firebreak: FORMAT.into(),
        entries: plan.items.iter().filter_map(|i| entry(plan, i)).collect(),
        exclude: plan
            .excluded
            .iter()
            .map(|e| (e.id.clone(), e.why.clone()))
            .collect(),
        canaries: BTreeSet::new(),
    }
}

fn entry(plan: &RotationPlan, item: &Item) -> Option<Entry> {
    let by_hand = item.workloads.iter().filter_map(|w| plan.workloads.get(*w));
    let by_hand = by_hand.filter(|w| !w.rollable).map(|w| w.place());
    let (principal, escrow, servers, admin) = match &item.what {
        What::AccessKey(key) => (&key.user, &key.escrow, None, None),
        What::DatabasePassword(password) => (
            &password.role,
            &password.escrow,
            Some(Servers {
                primary: password.primary.clone(),
                replicas: password.replicas.clone(),
            }),
            Some(filled(&password.admin)),
        ),
        // Sessions have no secret and no sink: a map has nothing to say of them.
        What::RoleSessions(_) => return None,
    };
    let secret = if escrow.exists {
        SecretPlace {
            id: escrow.secret.clone(),
            json_keys: Some(JsonKeys {
                id: escrow.fields.0.clone(),
                secret: escrow.fields.1.clone(),
            }),
        }
    } else {
        // The run would make one of its own: whether consumers have another is for a person to say.
        SecretPlace {
            id: TO_FILL.into(),
            json_keys: None,
        }
    };
    let sinks = if item.sinks.is_empty() {
        vec![unknown_sink()]
    } else {
        item.sinks.iter().map(sink).collect()
    };
    Some(Entry {
        id: item.name.clone(),
        kind: item.kind,
        principal: Some(principal.clone()),
        users: Vec::new(),
        secret: Some(secret),
        servers,
        admin,
        sinks,
        consumers: by_hand.collect(),
    })
}

fn filled(text: &str) -> String {
    if text.is_empty() { TO_FILL } else { text }.to_owned()
}

fn sink(sink: &Sink) -> MapSink {
    MapSink {
        cluster: String::new(),
        namespace: sink.object.namespace.clone(),
        secret: sink.object.name.clone(),
        keys: sink.keys.clone(),
    }
}

/// Nobody was seen to read it: a person says who does, or takes this away.
fn unknown_sink() -> MapSink {
    MapSink {
        cluster: String::new(),
        namespace: TO_FILL.into(),
        secret: TO_FILL.into(),
        keys: BTreeMap::new(),
    }
}
