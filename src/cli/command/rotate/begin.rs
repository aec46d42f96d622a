//! `rotate select|plan|user|secret`: from what a person names to a run of the playbook `rotate`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use crate::cli::command::contain::{built_in, refuse_what_is_in_the_way};
use crate::cli::error::{CliError, CliResult};
use crate::cli::exit::Exit;
use crate::cli::output::clean;
use crate::cli::session::Session;
use crate::plan::call::sha256_hex;
use crate::plan::plan::{PlanFile, PlannedStep};
use crate::run::{Confirmation, Engine};

use super::go_on::carry;
use super::place::Place;
use super::voice::{Gate, Voice};
use super::{Mode, OutsideArgs, Selectors, Speak};

/// The action that looks.
const PLAN: &str = "eradicate.plan_rotation";

/// Arguments of `rotate select`.
#[derive(Debug, clap::Args)]
pub struct SelectArgs {
    #[command(flatten)]
    which: Selectors,
    #[command(flatten)]
    mode: Mode,
    #[command(flatten)]
    outside: OutsideArgs,
}

/// Arguments of `rotate plan`.
#[derive(Debug, clap::Args)]
pub struct PlanArgs {
    #[command(flatten)]
    which: Selectors,
    #[command(flatten)]
    mode: Mode,
    #[command(flatten)]
    outside: OutsideArgs,
    /// Who will run it, under `team` policy
    #[arg(long, value_name = "ID")]
    r#as: Option<String>,
}

/// Arguments of the short way.
#[derive(Debug, clap::Args)]
pub struct ShortArgs {
    /// Names
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    mode: Mode,
    #[command(flatten)]
    speak: Speak,
    #[command(flatten)]
    outside: OutsideArgs,
}

/// A rotation that is to begin.
struct Wanted<'a> {
    title: String,
    which: &'a Selectors,
    mode: &'a Mode,
    outside: &'a OutsideArgs,
    executor: Option<&'a str>,
    speak: Speak,
    /// The word of the one question; none = the run parks at its gate.
    word: Option<String>,
}

/// Shows the set, and why each is in it.
pub(super) async fn select(session: &Session, args: &SelectArgs) -> CliResult {
    let map = map(args.mode.map.as_deref())?;
    let vars = vars(&args.which, &args.mode, map.as_ref())?;
    let place = Place::of(session, &args.outside).await?;
    let plan = look(&place.planner(session)?, &vars, map.as_ref()).await?;
    let Some(step) = step(&plan) else {
        return Ok(Exit::Ok);
    };
    if session.out.json {
        session.out.document(&json!({
            "schema": "firebreak/selection/v1", "selected": step.changes, "why": step.details, "warnings": step.warnings,
            "not_possible": step.cannot, "in_the_way": plan.plan.missing,
        }))?;
    }
    session.out.answer(clean(&seen(step)));
    refuse_what_is_in_the_way(&plan)?;
    Ok(Exit::Ok)
}

/// Looks, pins the plan, parks.
pub(super) async fn plan(session: &Session, args: &PlanArgs) -> CliResult {
    let wanted = Wanted {
        title: "Rotation of credentials".into(),
        which: &args.which,
        mode: &args.mode,
        outside: &args.outside,
        executor: args.r#as.as_deref(),
        speak: Speak::default(),
        word: None,
    };
    begin(session, wanted).await
}

/// `rotate user NAME…`.
pub(super) async fn users(session: &Session, args: &ShortArgs) -> CliResult {
    let which = Selectors {
        user: args.names.clone(),
        ..refusing()
    };
    short(session, args, &which).await
}

/// `rotate secret ID…`.
pub(super) async fn secrets(session: &Session, args: &ShortArgs) -> CliResult {
    let which = Selectors {
        secret: args.names.clone(),
        ..refusing()
    };
    short(session, args, &which).await
}

fn refusing() -> Selectors {
    Selectors {
        on_unknown: "refuse".into(),
        ..Selectors::default()
    }
}

async fn short(session: &Session, args: &ShortArgs, which: &Selectors) -> CliResult {
    let wanted = Wanted {
        title: format!("Rotation of {}", args.names.join(", ")),
        which,
        mode: &args.mode,
        outside: &args.outside,
        executor: None,
        speak: args.speak.clone(),
        // One thing by its name; many by how many they are, so that nobody confirms more than they think.
        word: Some(match args.names.as_slice() {
            [one] => one.clone(),
            many => format!("{} of them", many.len()),
        }),
    };
    begin(session, wanted).await
}

/// One way in for all of them: look with nothing written, open the incident, start the playbook.
async fn begin(session: &Session, wanted: Wanted<'_>) -> CliResult {
    let map = map(wanted.mode.map.as_deref())?;
    let vars = vars(wanted.which, wanted.mode, map.as_ref())?;
    let place = Place::of(session, wanted.outside).await?;
    // What could not be planned is refused before an incident is opened for it.
    if map.is_none() {
        let first = look(&place.planner(session)?, &vars, None).await?;
        refuse_what_is_in_the_way(&first)?;
    }
    let custody = place.open(session, &wanted.title)?;
    if let Some(map) = &map {
        custody.keep(&format!("trust/{}.yaml", map.sha256), &map.bytes)?;
    }
    let gate = match &wanted.word {
        Some(word) => Gate::ask(word.clone(), &wanted.speak),
        None => Gate::Leave,
    };
    let voice = Arc::new(Voice::new(session, &custody, gate, true));
    let engine = place.engine(session, &custody, voice, wanted.executor)?;
    let plan = look(&engine, &vars, map.as_ref()).await?;
    refuse_what_is_in_the_way(&plan)?;
    session.out.tell(format!("rotation in incident {}", place.id()));
    let playbook = built_in("rotate")?;
    // Its first step only looks: nothing is confirmed yet, and the gate of the second asks with the plan itself before it.
    let run = plan.plan.run.clone();
    let started = engine.start(
        &plan.bytes,
        playbook.text.as_bytes(),
        Confirmation::AskEach,
    );
    carry(session, &custody, &run, &wanted.speak, started).await
}

/// A map, with the digest of its exact bytes.
struct Map {
    bytes: Vec<u8>,
    sha256: String,
}

fn map(path: Option<&Path>) -> Result<Option<Map>, CliError> {
    let Some(path) = path else {
        return Ok(None);
    };
    let bytes = std::fs::read(path).map_err(|e| {
        CliError::new(
            Exit::Usage,
            "FB1105",
            format!("cannot read the map `{}`: {e}", path.display()),
        )
    })?;
    crate::rotation::map::RotationMap::read(&bytes)
        .map_err(|e| CliError::usage(format!("`{}`: {e}", path.display())))?;
    let sha256 = sha256_hex(&bytes);
    Ok(Some(Map { bytes, sha256 }))
}

fn vars(
    which: &Selectors,
    mode: &Mode,
    map: Option<&Map>,
) -> Result<BTreeMap<String, String>, CliError> {
    let mut vars = which.vars()?;
    vars.extend(mode.vars(map.map(|m| m.sha256.as_str())));
    Ok(vars)
}

async fn look(
    engine: &Engine,
    vars: &BTreeMap<String, String>,
    map: Option<&Map>,
) -> Result<PlanFile, CliError> {
    if let Some(map) = map {
        // An incident that is not open keeps nothing: then the preview says that the map is not there.
        _ = engine.files.pin(&format!("{}.yaml", map.sha256), &map.bytes);
    }
    let playbook = built_in("rotate")?;
    Ok(engine
        .plan("rotate.yaml", playbook.text.as_bytes(), vars)
        .await?)
}

fn step(plan: &PlanFile) -> Option<&PlannedStep> {
    plan.plan
        .steps
        .iter()
        .find(|s| s.action.as_deref() == Some(PLAN))
}

fn seen(step: &PlannedStep) -> String {
    let mut lines = step.changes.clone();
    let mut section = |heading: &str, list: &[String]| {
        if !list.is_empty() {
            lines.push(heading.to_owned());
            lines.extend(list.iter().map(|l| format!("  {l}")));
        }
    };
    for (heading, list) in &step.details {
        section(heading, list);
    }
    section("restarts", &step.blast_radius);
    section("warnings", &step.warnings);
    section("cannot be done here", &step.cannot);
    lines.join("\n")
}
