//! `rotate select|plan|user|secret`: from what a person names to a run of the playbook `rotate`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use crate::cli::command::contain::built_in;
use crate::cli::error::{CliError, CliResult};
use crate::cli::exit::Exit;
use crate::cli::explain;
use crate::cli::output::clean;
use crate::cli::session::Session;
use crate::incident::{Actor, RunId};
use crate::plan::call::sha256_hex;
use crate::plan::plan::{PlanFile, PlannedStep};
use crate::port::{LockGuard, RunFiles};
use crate::run::{Confirmation, Engine, EngineError};

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
    let plan = look(place.planner(session)?, &vars, map.as_ref()).await?;
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
            many => many.len().to_string(),
        }),
    };
    begin(session, wanted).await
}

/// One way in for all of them: look with nothing written, open the incident, start the playbook.
async fn begin(session: &Session, wanted: Wanted<'_>) -> CliResult {
    let map = map(wanted.mode.map.as_deref())?;
    let vars = vars(wanted.which, wanted.mode, map.as_ref())?;
    let place = Place::of(session, wanted.outside).await?;
    // What cannot be planned is refused before an incident is opened for it; what can is begun with the very plan that was looked at.
    let mut planner = place.planner(session)?;
    if let Some(id) = wanted.executor {
        planner.executor = Actor::person(id);
    }
    let plan = look(planner, &vars, map.as_ref()).await?;
    refuse_what_is_in_the_way(&plan)?;
    let custody = place.open(session, &wanted.title)?;
    if let Some(map) = &map {
        custody.keep(&format!("trust/{}", map.name()), &map.bytes)?;
    }
    let gate = match &wanted.word {
        Some(word) => Gate::ask(word.clone(), &wanted.speak),
        None => Gate::Leave,
    };
    let voice = Arc::new(Voice::new(session, &custody, gate, true));
    let engine = place.engine(session, &custody, voice, wanted.executor)?;
    let playbook = built_in("rotate")?;
    // Its first step only looks: nothing is confirmed yet, and the gate of the second asks with the plan itself before it.
    let run = plan.plan.run.clone();
    let started = engine.start(&plan.bytes, playbook.text.as_bytes(), Confirmation::AskEach);
    carry(session, &custody, &run, &wanted.speak, started).await
}

/// A map, with the digest of its exact bytes.
struct Map {
    bytes: Vec<u8>,
    sha256: String,
}

impl Map {
    fn name(&self) -> String {
        crate::rotation::map::pinned_name(&self.sha256)
    }
}

/// The files of an incident with the map beside them, for a look that writes nothing.
struct Beside {
    files: Arc<dyn RunFiles>,
    name: String,
    bytes: Vec<u8>,
}

impl RunFiles for Beside {
    fn pin(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        self.files.pin(name, bytes)
    }
    fn pinned(&self, name: &str) -> std::io::Result<Option<Vec<u8>>> {
        if name == self.name {
            return Ok(Some(self.bytes.clone()));
        }
        self.files.pinned(name)
    }
    fn lock_run(&self, run: &RunId) -> std::io::Result<Option<LockGuard>> {
        self.files.lock_run(run)
    }
}

/// A plan that could not be carried out is refused, by the code of the guard or rule that stands in its way.
fn refuse_what_is_in_the_way(plan: &PlanFile) -> Result<(), CliError> {
    let Some(missing) = plan.plan.missing.iter().find(|m| m.refuses) else {
        return Ok(());
    };
    let code = missing.what.split_whitespace().find_map(explain::find);
    let Some(known) = code.filter(|e| e.code.starts_with("FB30")) else {
        return Err(EngineError::InTheWay(missing.clone()).into());
    };
    let exit = match known.code {
        // Guards, policy, and what may not be read.
        "FB3021" | "FB3022" | "FB3023" | "FB3024" | "FB3025" | "FB3026" | "FB3027" | "FB3031"
        | "FB3033" => Exit::Denied,
        _ => Exit::Usage,
    };
    let why = missing.what.replacen(known.code, "", 1);
    Err(CliError::new(exit, known.code, why.trim()).hint(known.do_now))
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

/// What the playbook would do, with nothing written.
async fn look(
    mut engine: Engine,
    vars: &BTreeMap<String, String>,
    map: Option<&Map>,
) -> Result<PlanFile, CliError> {
    if let Some(map) = map {
        engine.files = Arc::new(Beside {
            files: engine.files.clone(),
            name: map.name(),
            bytes: map.bytes.clone(),
        });
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
