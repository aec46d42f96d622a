//! `firebreak contain`: the first minute. One confirmation; capture, isolate, probe, seal, report.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::cli::cluster::{Answered, ClusterArgs, bind, check, reach, reach_bound};
use crate::cli::compose::{engine, planner};
use crate::cli::error::{CliError, CliResult};
use crate::cli::exit::Exit;
use crate::cli::operator::{Given, Terminal};
use crate::cli::output::{clean, clean_line};
use crate::cli::session::{NewIncident, Session, read_line};
use crate::cli::unopened::Unopened;
use crate::custody::Custody;
use crate::incident::{IncidentId, Mode, Severity, clock_text};
use crate::plan::plan::{PlanFile, PlannedStep};
use crate::plan::verdict::Verdict;
use crate::playbook::embedded::{self, Embedded};
use crate::port::Cluster;
use crate::run::{Confirmation, Confirmed, Engine, EngineError, RunEnd};

use super::incident::checked;
use super::run::tokio_run;

mod ending;

pub use ending::finish;

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
    /// What is contained, typed, where there is no terminal: NS/POD, or NS/SELECTOR for many
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
    /// The same for people: how many pods a selector names now.
    fn words(&self, plan: &PlanFile) -> String {
        let Some(selector) = &self.selector else {
            return self.full();
        };
        let isolate = |s: &&PlannedStep| s.action.as_deref() == Some("contain.isolate_workload");
        let pods = plan.plan.steps.iter().find(isolate).map_or(0, |step| {
            let is_pod = |key: &&String| key.starts_with("pod ");
            step.binding.keys().filter(is_pod).count()
        });
        format!("{pods} pod(s) of {} by `{selector}`", self.namespace)
    }
    /// What is typed, at a terminal and after `--confirm` alike: NS/POD. At the terminal, where the namespace has just been shown, the
    /// pod's name alone will do.
    fn confirm(&self, session: &Session, given: Option<&str>) -> Result<(), CliError> {
        let short = self.pod.as_deref();
        session.ask_to_type_or((&self.full(), short), "contain it", given, "--confirm")
    }
    fn vars(&self, session: &Session, args: &PodArgs) -> BTreeMap<String, String> {
        let mut vars = BTreeMap::from([
            ("ns".to_owned(), self.namespace.clone()),
            ("isolate_first".to_owned(), args.isolate_first.to_string()),
            ("capture".to_owned(), (!args.no_capture).to_string()),
        ]);
        if let Some(pod) = &self.pod {
            vars.insert("pod".into(), pod.clone());
        }
        if let Some(selector) = &self.selector {
            vars.insert("selector".into(), selector.clone());
        }
        let image = &session.config.probe_image.value;
        if !image.is_empty() {
            vars.insert("probe_image".into(), image.clone());
        }
        vars
    }
}

async fn pod(session: &Session, args: &PodArgs) -> CliResult {
    let began = session.clock.now();
    let answered = reach(session, &args.cluster).await?;
    let aim = aim(args, &answered)?;
    let holder = Holder::of(session, &answered)?;
    let cluster = || Some(answered.connected.cluster.clone());
    let playbook = built_in("contain-pod")?;
    let vars = aim.vars(session, args);
    let planner = holder.planner(session, cluster())?;
    let plan = planner
        .plan("contain-pod.yaml", playbook.text.as_bytes(), &vars)
        .await?;
    let shown = preview(&answered, &aim, &plan, &holder);
    session.out.tell(clean(&shown));
    refuse_what_is_in_the_way(&plan)?;
    aim.confirm(session, args.confirm.as_deref())?;
    // Only what is confirmed opens an incident: a refusal leaves nothing behind.
    let custody = holder.open(session, &answered, &aim, began)?;
    bind(&custody, &answered.identity)?;
    let end = carry_out(
        session,
        &custody,
        cluster(),
        (&plan, playbook),
        (shown, args.reason.clone()),
    )
    .await?;
    finish(session, &custody, &end)
}

pub(super) fn built_in(name: &str) -> Result<&'static Embedded, CliError> {
    embedded::find(name).ok_or_else(|| {
        let what = format!("the playbook {name} is not built in");
        CliError::new(Exit::Internal, "FB1100", what)
    })
}

/// A plan that could not be carried out is refused before anybody is asked anything.
fn refuse_what_is_in_the_way(plan: &PlanFile) -> Result<(), CliError> {
    match plan.plan.missing.iter().find(|m| m.refuses) {
        Some(missing) => Err(EngineError::InTheWay(missing.clone()).into()),
        None => Ok(()),
    }
}

/// Runs a confirmed plan: `shown` is what the person read, and why they want it.
async fn carry_out(
    session: &Session,
    custody: &Arc<Custody>,
    cluster: Option<Cluster>,
    (plan, playbook): (&PlanFile, &Embedded),
    (shown, reason): (String, Option<String>),
) -> Result<RunEnd, CliError> {
    let shown_sha256 = crate::plan::call::sha256_hex(shown.as_bytes());
    let given = Given::Confirmed {
        shown_sha256: shown_sha256.clone(),
        reason: reason.clone(),
    };
    let operator = Arc::new(Terminal::new(session.out, given));
    let runner = engine(session, custody, cluster, operator, None)?;
    let confirmation = Confirmation::Given(Confirmed {
        shown_sha256,
        reason,
    });
    Ok(runner
        .start(&plan.bytes, playbook.text.as_bytes(), confirmation)
        .await?)
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

/// Who holds the incident that a containment belongs to: the open one, or one that is opened once the plan is confirmed.
enum Holder {
    Taken(Arc<Custody>),
    New(Arc<Unopened>),
}

impl Holder {
    /// The open incident, else a new one: with none open `contain` opens one.
    fn of(session: &Session, answered: &Answered) -> Result<Self, CliError> {
        let Some(id) = session
            .chosen()?
            .filter(|id| session.asked.is_some() || !id.as_str().starts_with("DRILL-"))
        else {
            return Ok(Holder::New(Arc::new(Unopened {
                id: session.fresh_id(Mode::Live)?,
                mode: Mode::Live,
            })));
        };
        let custody = session.open(&id)?;
        if custody.opened().mode == Mode::Drill {
            return Err(CliError::new(
                Exit::Usage,
                "FB0406",
                format!("{id} is a drill: nothing live is contained in it"),
            )
            .hint("name a live incident with --incident, or leave it out"));
        }
        check(&custody.history()?, &answered.identity)?;
        session.out.tell(format!("incident {id} is open and taken"));
        Ok(Holder::Taken(Arc::new(custody)))
    }

    fn id(&self) -> &IncidentId {
        match self {
            Holder::Taken(custody) => custody.id(),
            Holder::New(unopened) => &unopened.id,
        }
    }

    fn planner(&self, session: &Session, cluster: Option<Cluster>) -> Result<Engine, CliError> {
        let operator = Arc::new(Terminal::new(session.out, Given::Nothing));
        match self {
            Holder::Taken(custody) => engine(session, custody, cluster, operator, None),
            Holder::New(unopened) => planner(session, unopened, cluster, operator),
        }
    }

    /// The incident, opened now if it was not yet. It was declared when the command was typed.
    fn open(
        self,
        session: &Session,
        answered: &Answered,
        aim: &Aim,
        began: DateTime<Utc>,
    ) -> Result<Arc<Custody>, CliError> {
        let target = crate::incident::body::Target::Cluster {
            context: answered.identity.context.clone(),
            server: answered.identity.server.clone(),
            uid: answered.identity.uid.clone(),
        };
        let request = NewIncident {
            id: Some(self.id().clone()),
            mode: Mode::Live,
            title: format!("Containment of {}", aim.full()),
            severity: Severity::Sev2,
            source: None,
            targets: vec![target],
            policy: None,
            declared: Some(clock_text::seconds(began)),
        };
        if let Holder::Taken(custody) = self {
            // One whose opening was cut off after its first entry is declared now.
            session.finish_opening(&custody, &request)?;
            return Ok(custody);
        }
        let custody = session.create(request)?;
        session.out.tell(clean_line(&format!(
            "incident {} opened in {}",
            custody.id(),
            custody.place().display()
        )));
        Ok(Arc::new(custody))
    }
}

/// What is printed before the one question.
fn preview(answered: &Answered, aim: &Aim, plan: &PlanFile, holder: &Holder) -> String {
    let id = &answered.identity;
    let mut text = format!(
        "\nContain {} for {}\n  context      {}\n  server       {} ({})\n  cluster id   {}\n",
        aim.words(plan),
        holder.id(),
        id.context,
        id.server,
        id.version,
        id.uid
    );
    let (mut cannot, mut warnings) = (Vec::new(), Vec::new());
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
        // Several steps say the same; a person reads it once.
        let new = |known: &[String], more: &[String]| -> Vec<String> {
            let more = more.iter().filter(|l| !known.contains(l));
            more.cloned().collect()
        };
        cannot.extend(new(&cannot, &step.cannot));
        warnings.extend(new(&warnings, &step.warnings));
    }
    section(&mut text, "cannot be proven or done here", &cannot);
    section(&mut text, "warnings", &warnings);
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
    let playbook = built_in("release-pod")?;
    let vars = BTreeMap::from([
        ("ns".to_owned(), namespace.clone()),
        ("pod".to_owned(), name.clone()),
        ("keep".to_owned(), args.keep.to_string()),
    ]);
    let cluster = || Some(answered.connected.cluster.clone());
    let operator = Arc::new(Terminal::new(session.out, Given::Nothing));
    let planner = engine(session, &custody, cluster(), operator, None)?;
    let plan = planner
        .plan("release-pod.yaml", playbook.text.as_bytes(), &vars)
        .await?;
    refuse_what_is_in_the_way(&plan)?;
    if plan.plan.steps.iter().all(|s| s.verdict == Verdict::Skip) {
        return Err(CliError::new(
            Exit::Usage,
            "FB0610",
            format!(
                "nothing of {namespace}/{name} is contained by {}: there is nothing to release",
                custody.id()
            ),
        )
        .hint(format!(
            "firebreak incident status {} shows which pods are",
            custody.id()
        )));
    }
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
    let end = carry_out(
        session,
        &custody,
        cluster(),
        (&plan, playbook),
        (shown, reason),
    )
    .await?;
    super::run::finish(session, &custody, &end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aim(pod: Option<&str>, selector: Option<&str>) -> Aim {
        Aim {
            namespace: "shop".into(),
            pod: pod.map(str::to_owned),
            selector: selector.map(str::to_owned),
        }
    }

    #[test]
    fn what_is_contained_is_confirmed_with_its_namespace() {
        assert_eq!(aim(Some("web-7d9"), None).full(), "shop/web-7d9");
        assert_eq!(aim(None, Some("app=web")).full(), "shop/app=web");
    }
}
