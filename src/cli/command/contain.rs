//! `firebreak contain`: the first minute. One confirmation; capture, isolate, probe, seal, report.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use crate::cli::cluster::{Answered, ClusterArgs, bind, reach, reach_bound};
use crate::cli::compose::{engine, exit_of};
use crate::cli::error::{CliError, CliResult};
use crate::cli::exit::Exit;
use crate::cli::operator::{Given, Terminal};
use crate::cli::output::{clean, grouped};
use crate::cli::session::{NewIncident, Session, read_line};
use crate::custody::Custody;
use crate::incident::body::{BagSealed, Credentials, MilestoneReached, Proof};
use crate::incident::{Draft, Milestone, Mode, Severity, kind};
use crate::plan::plan::PlanFile;
use crate::playbook::embedded;
use crate::port::Ledger as _;
use crate::run::{Confirmation, Confirmed, Ending, RunEnd};

use super::board::proofs;
use super::incident::checked;
use super::run::tokio_run;

/// Arguments of `firebreak contain`.
#[derive(Debug, clap::Subcommand)]
pub enum ContainCommand {
    /// Capture, isolate, prove, preserve and document one pod, or all that a selector names
    Pod(PodArgs),
    /// Give a contained pod back as it was found, or keep it isolated and end watch and probes
    Release(ReleaseArgs),
}

/// Arguments of `contain pod`.
#[derive(Debug, clap::Args)]
pub struct PodArgs {
    /// NAMESPACE/NAME, or NAME with -n
    #[arg(value_name = "NS/NAME", required_unless_present = "selector")]
    pod: Option<String>,
    /// Label selector instead of a name: all pods that it selects in the namespace
    #[arg(long, conflicts_with = "pod")]
    selector: Option<String>,
    /// Why, for the document
    #[arg(long)]
    reason: Option<String>,
    /// Isolate before the volatile capture
    #[arg(long)]
    isolate_first: bool,
    /// Capture nothing
    #[arg(long)]
    no_capture: bool,
    /// The pod, typed, where there is no terminal: NS/POD (or NS/SELECTOR)
    #[arg(long, value_name = "NS/POD")]
    confirm: Option<String>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Arguments of `contain release`.
#[derive(Debug, clap::Args)]
pub struct ReleaseArgs {
    /// NAMESPACE/NAME
    #[arg(value_name = "NS/NAME")]
    pod: String,
    /// Leave the pod isolated; only end watch and probes
    #[arg(long)]
    keep: bool,
    /// Why, for the document
    #[arg(long)]
    reason: Option<String>,
    /// The incident's id, typed, where there is no terminal
    #[arg(long, value_name = "ID")]
    confirm: Option<String>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Runs it.
pub fn run(session: &Session, command: &ContainCommand) -> CliResult {
    match command {
        ContainCommand::Pod(args) => tokio_run(pod(session, args)),
        ContainCommand::Release(args) => tokio_run(release(session, args)),
    }
}

/// What is contained, as the confirmation names it.
struct Aim {
    namespace: String,
    pod: Option<String>,
    selector: Option<String>,
}

impl Aim {
    fn name(&self) -> &str {
        self.pod
            .as_deref()
            .or(self.selector.as_deref())
            .unwrap_or_default()
    }
    fn full(&self) -> String {
        format!("{}/{}", self.namespace, self.name())
    }
}

async fn pod(session: &Session, args: &PodArgs) -> CliResult {
    let answered = reach(session, &args.cluster).await?;
    let aim = aim(args, &answered)?;
    let custody = Arc::new(incident_for(session, &answered, &aim)?);
    bind(&custody, &answered.identity)?;
    let mut vars = BTreeMap::from([
        ("ns".to_owned(), aim.namespace.clone()),
        ("isolate_first".to_owned(), args.isolate_first.to_string()),
        ("capture".to_owned(), (!args.no_capture).to_string()),
    ]);
    if let Some(pod) = &aim.pod {
        vars.insert("pod".into(), pod.clone());
    }
    if let Some(selector) = &aim.selector {
        vars.insert("selector".into(), selector.clone());
    }
    if !session.config.probe_image.value.is_empty() {
        vars.insert(
            "probe_image".into(),
            session.config.probe_image.value.clone(),
        );
    }
    let playbook = embedded::find("contain-pod").ok_or_else(|| {
        CliError::new(
            Exit::Internal,
            "FB1100",
            "the playbook contain-pod is not built in",
        )
    })?;
    let planner = engine(
        session,
        &custody,
        Some(answered.connected.cluster.clone()),
        Arc::new(Terminal::new(session.out, Given::Nothing)),
        None,
    )?;
    let plan = planner
        .plan("contain-pod.yaml", playbook.text.as_bytes(), &vars)
        .await?;
    let shown = preview(&answered, &aim, &plan, &custody);
    session.out.tell(clean(&shown));
    if let Some(missing) = plan.plan.missing.iter().find(|m| m.refuses) {
        return Err(crate::run::EngineError::InTheWay(missing.clone()).into());
    }
    let confirm = args
        .confirm
        .as_deref()
        .map(|c| if c == aim.full() { aim.name() } else { c });
    session
        .ask_to_type(aim.name(), "contain it", confirm, "--confirm")
        .map_err(|e| {
            let e = CliError {
                hint: Some(format!(
                    "type {} when asked, or give --confirm {}",
                    aim.name(),
                    aim.full()
                )),
                ..e
            };
            CliError {
                message: format!("{}; {} stays open", e.message, custody.id()),
                ..e
            }
        })?;
    let shown_sha256 = crate::plan::call::sha256_hex(shown.as_bytes());
    let given = Given::Confirmed {
        shown_sha256: shown_sha256.clone(),
        reason: args.reason.clone(),
    };
    let runner = engine(
        session,
        &custody,
        Some(answered.connected.cluster),
        Arc::new(Terminal::new(session.out, given)),
        None,
    )?;
    let confirmation = Confirmation::Given(Confirmed {
        shown_sha256,
        reason: args.reason.clone(),
    });
    let end = runner
        .start(&plan.bytes, playbook.text.as_bytes(), confirmation)
        .await?;
    finish(session, &custody, &end)
}

fn aim(args: &PodArgs, answered: &Answered) -> Result<Aim, CliError> {
    let here = answered.connected.namespace.clone();
    let Some(pod) = &args.pod else {
        return Ok(Aim {
            namespace: here,
            pod: None,
            selector: args.selector.clone(),
        });
    };
    let (namespace, name) = split(pod, &here);
    if let Some(n) = &args.cluster.namespace
        && *n != namespace
    {
        return Err(CliError::usage(format!(
            "`{pod}` names another namespace than -n {n}"
        )));
    }
    Ok(Aim {
        namespace,
        pod: Some(name),
        selector: None,
    })
}

fn split(pod: &str, here: &str) -> (String, String) {
    match pod.split_once('/') {
        Some((ns, name)) => (ns.to_owned(), name.to_owned()),
        None => (here.to_owned(), pod.to_owned()),
    }
}

/// The open incident, else a new one: with none open `contain` opens one.
fn incident_for(session: &Session, answered: &Answered, aim: &Aim) -> Result<Custody, CliError> {
    if let Some(id) = session.chosen()?
        && (session.asked.is_some() || !id.as_str().starts_with("DRILL-"))
    {
        let custody = session.open(&id)?;
        if custody.opened().mode == Mode::Drill {
            return Err(CliError::new(
                Exit::Usage,
                "FB0406",
                format!("{id} is a drill: nothing live is contained in it"),
            )
            .hint("name a live incident with --incident, or leave it out"));
        }
        session.out.tell(format!("incident {id} is open and taken"));
        return Ok(custody);
    }
    let target = crate::incident::body::Target::Cluster {
        context: answered.identity.context.clone(),
        server: answered.identity.server.clone(),
        uid: answered.identity.uid.clone(),
    };
    let custody = session.create(NewIncident {
        id: None,
        mode: Mode::Live,
        title: format!("Containment of {}", aim.full()),
        severity: Severity::Sev2,
        source: None,
        targets: vec![target],
        policy: None,
    })?;
    let declared = MilestoneReached {
        name: Milestone::Declared,
        tier: None,
        at: None,
        confidence: None,
        by: "statement".into(),
    };
    custody.ledger().append(vec![
        Draft::new(kind::MILESTONE, &declared).by(&session.actor),
    ])?;
    session.out.tell(format!(
        "incident {} opened in {}",
        custody.id(),
        custody.place().display()
    ));
    Ok(custody)
}

/// What is printed before the one question.
fn preview(answered: &Answered, aim: &Aim, plan: &PlanFile, custody: &Custody) -> String {
    let id = &answered.identity;
    let mut text = format!(
        "\nContain {} for {}\n  context      {}\n  server       {} ({})\n  cluster id   {}\n",
        aim.full(),
        custody.id(),
        id.context,
        id.server,
        id.version,
        id.uid
    );
    for step in &plan.plan.steps {
        let interesting = step
            .action
            .as_deref()
            .is_some_and(|a| a.starts_with("contain."));
        if !interesting {
            continue;
        }
        for (heading, lines) in &step.details {
            text.push_str(&format!("  {heading}\n"));
            lines
                .iter()
                .for_each(|l| text.push_str(&format!("    {l}\n")));
        }
        if step.action.as_deref() == Some("contain.isolate_workload") {
            section(&mut text, "would do", &step.changes);
            section(&mut text, "reaches beyond the pod", &step.blast_radius);
            text.push_str(&format!("  undo: {}\n", step.undo));
        }
        section(&mut text, "cannot be proven or done here", &step.cannot);
        section(&mut text, "warnings", &step.warnings);
    }
    for missing in &plan.plan.missing {
        text.push_str(&format!(
            "  {} {}: {}\n",
            if missing.refuses {
                "in the way:"
            } else {
                "warning:"
            },
            missing.step,
            missing.what
        ));
    }
    text
}

fn section(text: &mut String, heading: &str, lines: &[String]) {
    if !lines.is_empty() {
        text.push_str(&format!("  {heading}\n"));
        lines
            .iter()
            .for_each(|l| text.push_str(&format!("    {l}\n")));
    }
}

/// How a containment ended: verdict first, then where everything is and what to type next.
///
/// # Errors
/// When the ledger cannot be read.
pub fn finish(session: &Session, custody: &Custody, end: &RunEnd) -> CliResult {
    let history = custody.history()?;
    let of_run = |e: &crate::incident::Entry| e.run() == Some(end.run.as_str());
    let pods: Vec<String> = history
        .bodies::<crate::incident::body::ContainmentPlanned>(kind::CONTAINMENT_PLANNED)
        .filter(|(e, _)| of_run(e))
        .map(|(_, p)| format!("{}/{}", p.pod.namespace, p.pod.name))
        .collect();
    // Proofs of this run alone: what an earlier run proved says nothing of now.
    let proofs: Vec<Proof> = proofs(&history, of_run);
    let unproven = pods.iter().any(|p| !proofs.iter().any(|q| q.pod == *p));
    let isolated = end
        .steps
        .get("isolate")
        .is_some_and(|s| s.outcome == crate::incident::Outcome::Done);
    let mut exit = exit_of(end);
    let left_alone = end
        .values
        .get("left_alone")
        .and_then(serde_json::Value::as_u64)
        .unwrap_or(0)
        > 0;
    let said = verdict(&proofs, isolated, unproven, left_alone);
    exit = exit.worst(said.1);
    // Capture and report may fail without the containment being worse for it; an isolation that holds is then exit 5, not 1.
    let only_beside = !end.failed.is_empty() && end.failed.iter().all(|p| !p.contains("isolate"));
    if exit == Exit::Failed
        && only_beside
        && said.1 != Exit::Failed
        && matches!(end.ending, Ending::Completed)
    {
        exit = Exit::Missed;
    }
    let bags: Vec<BagSealed> = history
        .bodies::<BagSealed>(kind::BAG_SEALED)
        .filter(|(e, _)| of_run(e))
        .map(|(_, b)| b)
        .collect();
    let path = |bag: &str| {
        custody
            .place()
            .join("bags")
            .join(format!("{}_{bag}", custody.id()))
    };
    let credentials: Vec<Credentials> = history
        .bodies::<Credentials>(kind::CREDENTIALS_LISTED)
        .filter(|(e, _)| of_run(e))
        .map(|(_, c)| c)
        .collect();
    let undo: Vec<String> = pods
        .iter()
        .map(|p| format!("firebreak contain release {p} --incident {}", custody.id()))
        .collect();
    if session.out.json {
        let bags: Vec<_> = bags.iter().map(|b| json!({"path": path(&b.bag), "seal_sha256": b.seal_sha256, "records": b.records, "bytes": b.bytes})).collect();
        session.out.document(&json!({
            "schema": "firebreak/contain/v1", "incident": custody.id(), "incident_dir": custody.place(), "run": end.run, "verdict": said.0, "proofs": proofs,
            "bags": bags, "fingerprint": custody.opened().fingerprint, "credentials": credentials, "failed": end.failed, "in_doubt": end.in_doubt,
            "undo": undo, "next": "firebreak verify --last", "exit": exit.code(),
        }))?;
        return Ok(exit);
    }
    session.out.answer(format!(
        "\n{}",
        session.out.strong(&clean(&said.0.to_uppercase()))
    ));
    for proof in &proofs {
        let why = if proof.why.is_empty() {
            String::new()
        } else {
            format!(": {}", proof.why.join("; "))
        };
        session
            .out
            .answer(clean(&format!("  {} {}{why}", proof.pod, proof.verdict)));
        proof
            .open_connections
            .iter()
            .for_each(|c| session.out.answer(clean(&format!("    still open: {c}"))));
    }
    for step in end.failed.iter().chain(&end.in_doubt) {
        session.out.answer(clean(&format!(
            "  not done: {step}: {}",
            end.steps.get(step).map_or("", |s| &s.summary)
        )));
    }
    for c in &credentials {
        let arn = c
            .role_arn
            .as_deref()
            .map(|a| format!(", role {a}"))
            .unwrap_or_default();
        let secrets: Vec<&str> = c.secrets.keys().map(String::as_str).collect();
        session.out.answer(clean(&format!(
            "  rotate: service account {}{arn}; secrets {}",
            c.service_account,
            if secrets.is_empty() {
                "none".into()
            } else {
                secrets.join(", ")
            }
        )));
    }
    for bag in &bags {
        session.out.answer(format!(
            "bag         {}\nseal        {}",
            path(&bag.bag).display(),
            grouped(&bag.seal_sha256)
        ));
    }
    session.out.answer(format!(
        "fingerprint {}",
        grouped(&custody.opened().fingerprint)
    ));
    session.out.answer(format!(
        "report      {}",
        custody.place().join("report/incident.html").display()
    ));
    undo.iter()
        .for_each(|u| session.out.answer(format!("undo        {u}")));
    session.out.answer(match &end.ending {
        Ending::Parked(h) | Ending::InDoubt(h) => format!("next        {}", h.hint),
        _ => "next        firebreak verify --last".to_owned(),
    });
    Ok(exit)
}

/// The verdict over all pods: a bypass anywhere is first. `unproven`: a pod of this run has no proof at all. `left_alone`: a pod that was
/// named could not be isolated.
fn verdict(
    proofs: &[Proof],
    isolated: bool,
    unproven: bool,
    left_alone: bool,
) -> (&'static str, Exit) {
    let any = |v: &str| proofs.iter().any(|p| p.verdict == v);
    if any("not-contained") {
        ("not contained", Exit::Failed)
    } else if !isolated {
        ("not isolated", Exit::Failed)
    } else if left_alone {
        ("not contained: a pod was left alone", Exit::Failed)
    } else if unproven || proofs.is_empty() || any("not-proven") {
        ("isolated, not proven", Exit::Missed)
    } else {
        ("contained: isolation is proven", Exit::Ok)
    }
}

async fn release(session: &Session, args: &ReleaseArgs) -> CliResult {
    let custody = Arc::new(session.incident()?);
    let history = custody.history()?;
    let answered = reach_bound(session, &history, &args.cluster)
        .await?
        .ok_or_else(|| {
            CliError::new(
                Exit::Usage,
                "FB0610",
                format!(
                    "{} is bound to no cluster: nothing was contained in it",
                    custody.id()
                ),
            )
        })?;
    let (namespace, name) = split(&args.pod, &answered.connected.namespace);
    // The playbook of a direct verb has one step: the same engine, nothing beside it.
    let playbook = embedded::find("release-pod").ok_or_else(|| {
        CliError::new(
            Exit::Internal,
            "FB1100",
            "the playbook release-pod is not built in",
        )
    })?;
    let vars = BTreeMap::from([
        ("ns".to_owned(), namespace.clone()),
        ("pod".to_owned(), name.clone()),
        ("keep".to_owned(), args.keep.to_string()),
    ]);
    let planner = engine(
        session,
        &custody,
        Some(answered.connected.cluster.clone()),
        Arc::new(Terminal::new(session.out, Given::Nothing)),
        None,
    )?;
    let plan = planner
        .plan("release-pod.yaml", playbook.text.as_bytes(), &vars)
        .await?;
    let shown = crate::plan::render::text(&plan.plan, &plan.digest);
    session.out.tell(clean(&shown));
    session.ask_to_type(
        custody.id().as_str(),
        &format!("release {namespace}/{name}"),
        args.confirm.as_deref(),
        "--confirm",
    )?;
    let reason = match (&args.reason, session.out.can_ask) {
        (Some(reason), _) => reason.clone(),
        (None, true) => read_line("Reason (it stands in the document): ")?,
        (None, false) => {
            return Err(CliError::usage("releasing a pod wants a reason").hint("--reason TEXT"));
        }
    };
    let reason = Some(checked(&reason)?);
    let shown_sha256 = crate::plan::call::sha256_hex(shown.as_bytes());
    let given = Given::Confirmed {
        shown_sha256: shown_sha256.clone(),
        reason: reason.clone(),
    };
    let runner = engine(
        session,
        &custody,
        Some(answered.connected.cluster),
        Arc::new(Terminal::new(session.out, given)),
        None,
    )?;
    let end = runner
        .start(
            &plan.bytes,
            playbook.text.as_bytes(),
            Confirmation::Given(Confirmed {
                shown_sha256,
                reason,
            }),
        )
        .await?;
    super::run::finish(session, &custody, &end)
}
