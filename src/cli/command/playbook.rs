//! `firebreak playbook`: list, show, lint, schema, plan, apply, approve, undo.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use crate::adapter::kube::Connected;
use crate::cli::cloud::{estate_of, wants_account};
use crate::cli::cluster::{ClusterArgs, bind, reach, reach_bound, targets};
use crate::cli::compose::{Outside, actions, engine};
use crate::cli::error::{CliError, CliResult};
use crate::cli::exit::Exit;
use crate::cli::operator::{Given, Terminal};
use crate::cli::output::{clean, clean_line};
use crate::cli::session::Session;
use crate::custody::Custody;
use crate::incident::body::{RunCreated, Target};
use crate::incident::{History, RunId, StepPath, kind};
use crate::plan::plan::PlanFile;
use crate::playbook::model::Playbook;
use crate::playbook::{self, Severity, embedded};
use crate::run::{Confirmation, Confirmed};

use super::run::{finish, tokio_run};
use super::run_choice::{RunArg, choose};

/// Arguments of `firebreak playbook`.
#[derive(Debug, clap::Subcommand)]
pub enum PlaybookCommand {
    /// List the playbooks that are built in
    List,
    /// Show a playbook as text for people
    Show {
        /// A file (with a slash or .yaml), or the name of a built-in one
        playbook: String,
        /// Print its exact bytes
        #[arg(long)]
        raw: bool,
    },
    /// Check playbooks: codes, lines, and how to correct them
    Lint {
        /// Files or names
        #[arg(required = true)]
        playbooks: Vec<String>,
    },
    /// Print the JSON Schema that editors complete by
    Schema,
    /// Look, and make a plan; nothing changes
    Plan {
        /// A file or a name
        playbook: String,
        /// A variable: name=value (may repeat)
        #[arg(long, value_name = "NAME=VALUE")]
        var: Vec<String>,
        /// Where the plan goes
        #[arg(short, long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Who will run it, under `team` policy
        #[arg(long, value_name = "ID")]
        r#as: Option<String>,
        /// Exit 10 when the plan would change something
        #[arg(long)]
        detailed_exit_code: bool,
        /// Which cluster
        #[command(flatten)]
        cluster: ClusterArgs,
    },
    /// Carry out a plan, or plan, show and ask
    Apply {
        /// A plan (.json, or the run id that `plan` printed), a playbook file, or a name
        plan: String,
        /// A variable: name=value (may repeat)
        #[arg(long, value_name = "NAME=VALUE")]
        var: Vec<String>,
        /// Who runs it, under `team` policy
        #[arg(long, value_name = "ID")]
        r#as: Option<String>,
        /// First 12 digits of the plan's digest, typed, where there is no terminal
        #[arg(long, value_name = "DIGEST")]
        confirm: Option<String>,
        /// Which cluster
        #[command(flatten)]
        cluster: ClusterArgs,
    },
    /// Decide about steps of a plan, with your SSH key
    Approve(super::approve::ApproveArgs),
    /// Take steps of a run back, newest first, each with its own approval
    Undo {
        /// Paths of the steps
        #[arg(required = true)]
        steps: Vec<String>,
        /// The incident's id, typed, where there is no terminal
        #[arg(long, value_name = "ID")]
        confirm: Option<String>,
        /// Which run
        #[command(flatten)]
        run: RunArg,
        /// Which cluster
        #[command(flatten)]
        cluster: ClusterArgs,
    },
}

/// Runs it.
pub fn run(session: &Session, command: &PlaybookCommand) -> CliResult {
    match command {
        PlaybookCommand::List => list(session),
        PlaybookCommand::Show { playbook, raw } => show(session, playbook, *raw),
        PlaybookCommand::Lint { playbooks } => lint(session, playbooks),
        PlaybookCommand::Schema => {
            session
                .out
                .document(&playbook::schema(&actions().registry()))?;
            Ok(Exit::Ok)
        }
        PlaybookCommand::Plan {
            playbook,
            var,
            out,
            r#as,
            detailed_exit_code,
            cluster,
        } => tokio_run(plan(
            session,
            playbook,
            var,
            out.as_deref(),
            r#as.as_deref(),
            *detailed_exit_code,
            cluster,
        )),
        PlaybookCommand::Apply {
            plan,
            var,
            r#as,
            confirm,
            cluster,
        } => tokio_run(apply(
            session,
            plan,
            var,
            r#as.as_deref(),
            confirm.as_deref(),
            cluster,
        )),
        PlaybookCommand::Approve(args) => tokio_run(super::approve::run(session, args)),
        PlaybookCommand::Undo {
            steps,
            confirm,
            run,
            cluster,
        } => tokio_run(undo(session, steps, confirm.as_deref(), run, cluster)),
    }
}

/// A path names a file, a bare name an embedded playbook.
fn source(name: &str) -> Result<(String, Vec<u8>), CliError> {
    if name.contains('/') || name.ends_with(".yaml") || name.ends_with(".yml") {
        let bytes = std::fs::read(name).map_err(|e| {
            CliError::new(Exit::Usage, "FB1105", format!("cannot read `{name}`: {e}"))
        })?;
        let file = Path::new(name)
            .file_name()
            .map_or_else(|| name.to_owned(), |n| n.to_string_lossy().into_owned());
        return Ok((file, bytes));
    }
    let text = embedded::find(name).ok_or_else(|| {
        let all: Vec<_> = embedded::ALL.iter().map(|e| e.name).collect();
        CliError::usage(format!("there is no playbook `{name}`")).hint(format!(
            "built in are {}; a file is named by its path",
            all.join(", ")
        ))
    })?;
    Ok((format!("{name}.yaml"), text.text.as_bytes().to_vec()))
}

fn list(session: &Session) -> CliResult {
    let mut rows = Vec::new();
    for embedded::Embedded { name, text, .. } in embedded::ALL {
        let title = playbook::read(text.as_bytes(), None)
            .map(|p| p.name)
            .unwrap_or_default();
        rows.push(json!({"id": name, "name": title}));
        session.out.answer(format!("{name:<18} {title}"));
    }
    if session.out.json {
        session
            .out
            .document(&json!({"schema": "firebreak/playbooks/v1", "playbooks": rows}))?;
    }
    Ok(Exit::Ok)
}

fn show(session: &Session, name: &str, raw: bool) -> CliResult {
    let (file, bytes) = source(name)?;
    if raw {
        session
            .out
            .answer(String::from_utf8_lossy(&bytes).trim_end());
        return Ok(Exit::Ok);
    }
    let registry = actions().registry();
    let Ok(book) = playbook::read(&bytes, Some(&file)) else {
        return Err(
            CliError::new(Exit::Usage, "FB0101", format!("`{file}` cannot be read"))
                .hint(format!("firebreak playbook lint {name}")),
        );
    };
    session
        .out
        .answer(clean(&playbook::explain(&book, &registry)));
    Ok(Exit::Ok)
}

fn lint(session: &Session, names: &[String]) -> CliResult {
    let registry = actions().registry();
    let mut all = Vec::new();
    let mut errors = 0;
    for name in names {
        let (file, bytes) = source(name)?;
        let (_, findings) = playbook::check(&bytes, Some(&file), &registry);
        errors += findings
            .iter()
            .filter(|f| f.severity == Severity::Error)
            .count();
        for f in &findings {
            session
                .out
                .answer(clean(&format!("{name}:{f}\n  fix: {}", f.fix)));
        }
        if findings.is_empty() {
            session.out.answer(format!("{name}: clean"));
        }
        all.extend(
            findings
                .into_iter()
                .map(|f| json!({"file": name, "finding": f})),
        );
    }
    if session.out.json {
        session
            .out
            .document(&json!({"schema": "firebreak/lint/v1", "findings": all}))?;
    }
    Ok(if errors > 0 { Exit::Failed } else { Exit::Ok })
}

fn variables(pairs: &[String]) -> Result<BTreeMap<String, String>, CliError> {
    pairs
        .iter()
        .map(|p| {
            p.split_once('=')
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .ok_or_else(|| CliError::usage(format!("`{p}` is not name=value")))
        })
        .collect()
}

/// Variable of a playbook that can do with an account and without one.
const CLOUD: &str = "cloud";

/// The incident, and what a plan is for: the incident's own cluster once it has one, and the account where the playbook wants one.
/// `vars` says afterwards whether there is one, where the playbook asks and nobody said.
async fn surroundings(
    session: &Session,
    cluster: &ClusterArgs,
    name: &str,
    vars: &mut BTreeMap<String, String>,
) -> Result<(Arc<Custody>, Outside), CliError> {
    let custody = Arc::new(session.incident()?);
    let connected = cluster_of(session, &custody, cluster).await?;
    let mut outside = Outside::from(connected.as_ref().map(|c| c.cluster.clone()));
    let book = book_of(&custody, name)?;
    let Some(book) = book.filter(wants_account) else {
        return Ok((custody, outside));
    };
    let optional = book.vars.contains_key(CLOUD);
    let asked = vars.get(CLOUD).map(String::as_str);
    if !optional || asked != Some("false") {
        let workloads = connected.map(|c| c.workloads);
        outside.estate = match estate_of(session, &custody, workloads).await {
            // People do by hand what an account that does not answer cannot be asked for; a playbook that cannot do without says so.
            Err(e) if optional && asked.is_none() && e.code == "FB3007" => {
                session.out.tell(format!(
                    "no cloud account: {}; people do by hand what it would take",
                    e.message
                ));
                None
            }
            answered => answered?,
        };
    }
    if optional && asked.is_none() {
        vars.insert(CLOUD.to_owned(), outside.estate.is_some().to_string());
    }
    Ok((custody, outside))
}

/// The playbook that a command names: a file, a name, or that of a plan. `None` where it cannot be read: who uses it says why.
fn book_of(custody: &Custody, name: &str) -> Result<Option<Playbook>, CliError> {
    let bytes = if name.ends_with(".json") {
        let plan = std::fs::read(name)
            .ok()
            .and_then(|b| PlanFile::read(&b).ok());
        match plan {
            Some(plan) => custody.load(&format!("trust/{}.yaml", plan.plan.playbook_sha256))?,
            None => None,
        }
    } else {
        source(name).ok().map(|(_, bytes)| bytes)
    };
    Ok(bytes.and_then(|b| playbook::read(&b, None).ok()))
}

async fn cluster_of(
    session: &Session,
    custody: &Custody,
    cluster: &ClusterArgs,
) -> Result<Option<Connected>, CliError> {
    let history = custody.history()?;
    let bound = targets(&history)
        .iter()
        .any(|t| matches!(t, Target::Cluster { .. }));
    if bound && cluster.context.is_none() {
        let answered = reach_bound(session, &history, cluster).await?;
        return Ok(answered.map(|a| a.connected));
    }
    match reach(session, cluster).await {
        Ok(answered) => {
            bind(custody, &answered.identity)?;
            Ok(Some(answered.connected))
        }
        // A playbook without a cluster step needs none; one that has says so itself.
        Err(e)
            if e.code == "FB1208" && cluster.context.is_none() && cluster.kubeconfig.is_none() =>
        {
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

async fn plan(
    session: &Session,
    name: &str,
    var: &[String],
    out: Option<&Path>,
    executor: Option<&str>,
    detailed: bool,
    cluster: &ClusterArgs,
) -> CliResult {
    let (file, bytes) = source(name)?;
    let mut vars = variables(var)?;
    let (custody, ports) = surroundings(session, cluster, name, &mut vars).await?;
    let engine = engine(
        session,
        &custody,
        ports,
        Arc::new(Terminal::new(session.out, Given::Nothing)),
        executor,
    )?;
    let made = engine.plan(&file, &bytes, &vars).await?;
    // Kept before anybody is asked: people can decide about its run from now on, and `apply` pins exactly these bytes.
    engine.keep_plan(&made, &bytes)?;
    let text = crate::plan::render::text(&made.plan, &made.digest);
    if let Some(path) = out {
        write_plan(path, &made)?;
    }
    if session.out.json {
        session.out.document(&json!({"schema": "firebreak/planned/v1", "digest": made.digest, "plan": made.plan, "file": out}))?;
    }
    session.out.answer(clean(&text));
    let run = &made.plan.run;
    if let Some(path) = out {
        session
            .out
            .answer(clean_line(&format!("plan written to {}", path.display())));
    }
    let id = custody.id();
    session.out.answer(format!(
        "run {run}: people can decide before it begins, firebreak playbook approve --run {run} --incident {id}"
    ));
    session.out.answer(clean_line(&format!(
        "next: firebreak playbook apply {} --incident {id}",
        out.map_or_else(|| run.to_string(), |p| p.display().to_string())
    )));
    if made.plan.missing.iter().any(|m| m.refuses) {
        let denied = made
            .plan
            .missing
            .iter()
            .any(|m| m.refuses && matches!(m.code.as_str(), "FB0405" | "FB0403"));
        return Ok(if denied { Exit::Denied } else { Exit::Failed });
    }
    Ok(if detailed && !made.plan.empty {
        Exit::Changes
    } else {
        Exit::Ok
    })
}

fn write_plan(path: &Path, plan: &PlanFile) -> Result<(), CliError> {
    std::fs::write(path, &plan.bytes).map_err(|e| {
        CliError::new(
            Exit::Failed,
            "FB1104",
            format!("cannot write `{}`: {e}", path.display()),
        )
    })
}

async fn apply(
    session: &Session,
    name: &str,
    var: &[String],
    executor: Option<&str>,
    confirm: Option<&str>,
    cluster: &ClusterArgs,
) -> CliResult {
    let mut vars = variables(var)?;
    let (custody, ports) = surroundings(session, cluster, name, &mut vars).await?;
    let planner = engine(
        session,
        &custody,
        ports.clone(),
        Arc::new(Terminal::new(session.out, Given::Nothing)),
        executor,
    )?;
    let (plan, playbook) = if let Ok(run) = RunId::parse(name) {
        planner.kept_plan(&run)?
    } else if name.ends_with(".json") {
        let bytes = std::fs::read(name).map_err(|e| {
            CliError::new(Exit::Usage, "FB1105", format!("cannot read `{name}`: {e}"))
        })?;
        let file = PlanFile::read(&bytes).map_err(crate::run::EngineError::from)?;
        let playbook = custody.load(&format!("trust/{}.yaml", file.plan.playbook_sha256))?;
        let playbook = playbook.ok_or_else(|| {
            CliError::new(
                Exit::Stale,
                "FB0401",
                "the plan's playbook is not in this incident",
            )
            .hint("name the plan's incident with --incident")
        })?;
        (file, playbook)
    } else {
        let (file, bytes) = source(name)?;
        let made = planner.plan(&file, &bytes, &vars).await?;
        (made, bytes)
    };
    let shown = crate::plan::render::text(&plan.plan, &plan.digest);
    session.out.tell(clean(&shown));
    // Nobody is asked about a plan that would be refused afterwards.
    planner.still_fits(&plan, &playbook).await?;
    let word = &plan.digest[..12];
    session.ask_to_type(word, "carry out this plan", confirm, "--confirm")?;
    let shown_sha256 = crate::plan::call::sha256_hex(shown.as_bytes());
    let given = Given::Confirmed {
        shown_sha256: shown_sha256.clone(),
        reason: None,
    };
    let runner = engine(
        session,
        &custody,
        ports,
        Arc::new(Terminal::new(session.out, given)),
        executor,
    )?;
    let end = runner
        .start(
            &plan.bytes,
            &playbook,
            Confirmation::Given(Confirmed {
                shown_sha256,
                reason: None,
            }),
        )
        .await?;
    finish(session, &custody, &end)
}

/// Paths of steps as they were typed.
///
/// # Errors
/// When one is no path.
pub fn paths(steps: &[String]) -> Result<Vec<StepPath>, CliError> {
    steps
        .iter()
        .map(|s| StepPath::parse(s))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| CliError::usage(e.to_string()))
}

async fn undo(
    session: &Session,
    steps: &[String],
    confirm: Option<&str>,
    named: &RunArg,
    cluster: &ClusterArgs,
) -> CliResult {
    let custody = Arc::new(session.incident()?);
    let history = custody.history()?;
    let answered = reach_bound(session, &history, cluster).await?;
    let steps = paths(steps)?;
    let engine = engine(
        session,
        &custody,
        answered.map(|a| a.connected.cluster),
        Arc::new(Terminal::new(session.out, Given::Nothing)),
        None,
    )?;
    let can = |run: &RunId| engine.undo_plan(run, &steps).is_ok_and(|p| !p.is_empty());
    let all = all_runs(&history)?;
    let run = choose(custody.id(), named, &all, "can take all of these back", can)?;
    let plan = engine.undo_plan(&run, &steps)?;
    let mut shown = String::new();
    for undo in &plan {
        shown.push_str(&format!(
            "undo {}: {}, {}\n",
            undo.path,
            undo.call.label(),
            undo.call.effect
        ));
    }
    session.out.tell(clean(shown.trim_end()));
    session.ask_to_type(
        custody.id().as_str(),
        "take these steps back",
        confirm,
        "--confirm",
    )?;
    let confirmed = Confirmed {
        shown_sha256: crate::plan::call::sha256_hex(shown.as_bytes()),
        reason: Some("undo on request".into()),
    };
    let end = engine
        .undo(&run, &steps, &Confirmation::Given(confirmed))
        .await?;
    finish(session, &custody, &end)
}

/// Every run, ended or not, oldest first: what it did can still be taken back.
fn all_runs(history: &History) -> Result<Vec<RunId>, CliError> {
    let all: Vec<RunId> = history
        .bodies::<RunCreated>(kind::RUN_CREATED)
        .filter_map(|(_, r)| RunId::parse(&r.run).ok())
        .collect();
    if all.is_empty() {
        return Err(CliError::new(
            Exit::Usage,
            "FB0610",
            format!("{} has no run", history.incident),
        )
        .hint("firebreak incident status shows where each run stands"));
    }
    Ok(all)
}
