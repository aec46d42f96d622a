//! `firebreak playbook approve`: deciding about steps, typed under `solo` and signed under `team`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use crate::cli::compose::engine;
use crate::cli::error::{CliError, CliResult};
use crate::cli::exit::Exit;
use crate::cli::operator::{Given, Terminal};
use crate::cli::output::{clean, clean_line};
use crate::cli::session::Session;
use crate::custody::Custody;
use crate::incident::body::Decision;
use crate::incident::{RunId, StepPath};
use crate::run::{About, Engine};

use super::playbook::paths;
use super::run_choice::{RunArg, choose, has_several_open, with_run};

/// Arguments of `playbook approve`.
#[derive(Debug, clap::Args)]
pub struct ApproveArgs {
    /// Which run
    #[command(flatten)]
    run: RunArg,
    /// Decide about taking the steps back, not about carrying them out
    #[arg(long)]
    undo: bool,
    /// Steps; all that wait for a decision if none is named
    #[arg(long, value_name = "PATH")]
    step: Vec<String>,
    /// Your principal, as in allowed_signers
    #[arg(long)]
    principal: Option<String>,
    /// Your private key, or the public one of a key in your agent; ssh-keygen signs, we never read it
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// approve, refuse or break-glass
    #[arg(long, default_value = "approve")]
    decision: String,
    /// Why
    #[arg(long)]
    reason: Option<String>,
    /// Write the text to sign, and stop: sign it elsewhere with ssh-keygen -Y sign
    #[arg(long, value_name = "FILE")]
    request: Option<PathBuf>,
    /// Bring a signed text back: FILE and FILE.sig
    #[arg(long, value_name = "FILE")]
    import: Option<PathBuf>,
    /// Under `solo`: the incident's id, typed, where there is no terminal
    #[arg(long, value_name = "ID")]
    confirm: Option<String>,
}

/// Decides, or writes the text to sign.
///
/// # Errors
/// When nothing waits, the text or signature is refused, or the ledger cannot be written.
pub async fn run(session: &Session, args: &ApproveArgs) -> CliResult {
    let custody = Arc::new(session.incident()?);
    let engine = engine(
        session,
        &custody,
        None,
        Arc::new(Terminal::new(session.out, Given::Nothing)),
        None,
    )?;
    let run = run_of(&engine, &custody, args)?;
    if args.undo && custody.opened().policy == "solo" {
        return Err(CliError::usage(
            "under policy `solo` an undo takes no signature: it is confirmed when it is asked for",
        )
        .hint("firebreak playbook undo STEP"));
    }
    if custody.opened().policy == "solo" && args.import.is_none() {
        return typed(session, &custody, &engine, &run, args);
    }
    let signed = if let Some(path) = &args.import {
        let sig = path.with_file_name(format!(
            "{}.sig",
            path.file_name().unwrap_or_default().to_string_lossy()
        ));
        Some((text_of(path)?, text_of(&sig)?))
    } else {
        request(session, &engine, &run, args).await?
    };
    let Some((text, signature)) = signed else {
        return Ok(Exit::Ok);
    };
    let accepted = engine.approve(&run, &text, &signature)?;
    let steps: Vec<String> = accepted
        .text
        .steps
        .iter()
        .map(|(path, _)| path.to_string())
        .collect();
    session.out.answer(clean_line(&format!(
        "{} by {} for {}",
        args.decision,
        accepted.text.principal,
        steps.join(", ")
    )));
    let next = after(&engine, &custody, &run, args)?;
    session.out.answer(format!("next: {next}"));
    let decided = Decided {
        principal: &accepted.text.principal,
        decision: accepted.text.decision,
        steps,
        next,
    };
    decided.tell(session, &custody, &run)
}

/// A decision as a document.
struct Decided<'a> {
    principal: &'a str,
    decision: Decision,
    steps: Vec<String>,
    next: String,
}

impl Decided<'_> {
    fn tell(&self, session: &Session, custody: &Custody, run: &RunId) -> CliResult {
        if session.out.json {
            session.out.document(&json!({
                "schema": "firebreak/decided/v1", "incident": custody.id(), "run": run, "decision": self.decision, "principal": self.principal, "steps": self.steps, "next": self.next,
            }))?;
        }
        Ok(Exit::Ok)
    }
}

/// What comes after a decision: a planned run begins, another goes on, an undo is carried out.
fn after(
    engine: &Engine,
    custody: &Custody,
    run: &RunId,
    args: &ApproveArgs,
) -> Result<String, CliError> {
    let id = custody.id();
    Ok(if args.undo {
        let steps = args.step.join(" ");
        format!("firebreak playbook undo {steps} --run {run} --incident {id}")
    } else if engine.planned_runs()?.contains(run) {
        format!("firebreak playbook apply {run} --incident {id}")
    } else {
        let next = format!("firebreak resume {id}");
        if has_several_open(&custody.history()?) {
            with_run(&next, run)
        } else {
            next
        }
    })
}

/// The run that is named, else the only one in which all of these steps can be decided about. One that has begun and waits goes before
/// plans, of which older ones may still lie there.
fn run_of(engine: &Engine, custody: &Custody, args: &ApproveArgs) -> Result<RunId, CliError> {
    let steps = paths(&args.step)?;
    let begun = if args.undo {
        engine.runs()?
    } else {
        engine.open_runs()?
    };
    let can = |run: &RunId| {
        engine.gates_of(run, about(args)).is_ok_and(|gates| {
            !gates.is_empty() && steps.iter().all(|s| gates.iter().any(|g| g.step == *s))
        })
    };
    let all = if begun.iter().any(can) {
        begun
    } else {
        let mut all = engine.planned_runs()?;
        all.extend(begun);
        all
    };
    choose(
        custody.id(),
        &args.run,
        &all,
        "waits for this decision",
        can,
    )
}

fn about(args: &ApproveArgs) -> About {
    if args.undo { About::Undo } else { About::Start }
}

/// One person decides by typing: what `solo` policy has instead of signatures.
fn typed(
    session: &Session,
    custody: &Custody,
    engine: &Engine,
    run: &RunId,
    args: &ApproveArgs,
) -> CliResult {
    let decision: Decision = decision(&args.decision)?;
    let waiting = engine.gates(run)?;
    let steps: Vec<StepPath> = if args.step.is_empty() {
        waiting.iter().map(|g| g.step.clone()).collect()
    } else {
        paths(&args.step)?
    };
    if steps.is_empty() {
        return Err(
            CliError::new(Exit::Usage, "FB0610", "nothing waits for a decision")
                .hint("firebreak incident status shows where each run stands"),
        );
    }
    let mut shown = String::new();
    for gate in waiting.iter().filter(|g| steps.contains(&g.step)) {
        shown.push_str(&format!(
            "{} {}: {}, call sha256:{}\n",
            args.decision, gate.step, gate.effect, gate.call_sha256
        ));
    }
    session.out.tell(clean(shown.trim_end()));
    session.ask_to_type(
        custody.id().as_str(),
        "decide so",
        args.confirm.as_deref(),
        "--confirm",
    )?;
    let shown_sha256 = crate::plan::call::sha256_hex(shown.as_bytes());
    for step in &steps {
        engine.approve_typed(
            run,
            step,
            &session.actor,
            decision,
            args.reason.as_deref(),
            &shown_sha256,
        )?;
    }
    let next = after(engine, custody, run, args)?;
    session.out.answer(format!("decided; next: {next}"));
    let decided = Decided {
        principal: &session.actor.id,
        decision,
        steps: steps.iter().map(ToString::to_string).collect(),
        next,
    };
    decided.tell(session, custody, run)
}

fn decision(word: &str) -> Result<Decision, CliError> {
    serde_json::from_value(json!(word)).map_err(|_| {
        CliError::usage(format!("`{word}` is no decision")).hint("approve, refuse or break-glass")
    })
}

fn text_of(path: &Path) -> Result<String, CliError> {
    let bytes = std::fs::read(path).map_err(|e| {
        CliError::new(
            Exit::Usage,
            "FB1105",
            format!("cannot read `{}`: {e}", path.display()),
        )
    })?;
    String::from_utf8(bytes).map_err(|_| {
        CliError::new(
            Exit::Denied,
            "FB0501",
            format!("`{}` is not ASCII text", path.display()),
        )
    })
}

/// Writes the text to sign, and signs it here where a key is named. `None` when it is signed elsewhere.
async fn request(
    session: &Session,
    engine: &Engine,
    run: &RunId,
    args: &ApproveArgs,
) -> Result<Option<(String, String)>, CliError> {
    let principal = args.principal.as_ref().ok_or_else(|| {
        CliError::usage("name your principal with --principal, or a signed text with --import")
    })?;
    let decision = decision(&args.decision)?;
    let steps = paths(&args.step)?;
    let text = engine
        .approval_text(
            run,
            (about(args), &steps),
            principal,
            decision,
            args.reason.as_deref(),
        )?
        .write();
    session.out.tell(clean(&text));
    let namespace = crate::plan::approval_text::namespace(engine.mode);
    if let Some(path) = &args.request {
        std::fs::write(path, &text).map_err(|e| {
            CliError::new(
                Exit::Failed,
                "FB1104",
                format!("cannot write `{}`: {e}", path.display()),
            )
        })?;
        let path = path.display();
        session.out.answer(clean_line(&format!(
            "sign it: ssh-keygen -Y sign -f KEY -n {namespace} {path}"
        )));
        session.out.answer(clean_line(&format!(
            "then:    firebreak playbook approve --import {path} --incident {}",
            engine.incident
        )));
        return Ok(None);
    }
    let key = args.key.as_ref().ok_or_else(|| {
        CliError::usage(
            "name your key with --key, or write the text with --request and sign it elsewhere",
        )
    })?;
    let signature = ssh_sign(&text, key, namespace).await?;
    Ok(Some((text, signature)))
}

/// Signs by running ssh-keygen: agents and hardware keys work, and no private key is ever read by us.
async fn ssh_sign(text: &str, key: &Path, namespace: &str) -> Result<String, CliError> {
    use tokio::io::AsyncWriteExt as _;
    let failed = |why: String| {
        CliError::new(
            Exit::Denied,
            "FB0502",
            format!("ssh-keygen did not sign: {why}"),
        )
        .hint("sign it elsewhere: --request FILE, then --import FILE")
    };
    let mut child = tokio::process::Command::new("ssh-keygen")
        .args(["-Y", "sign", "-n", namespace, "-f"])
        .arg(key)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .map_err(|e| failed(e.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(text.as_bytes())
            .await
            .map_err(|e| failed(e.to_string()))?;
    }
    let done = child
        .wait_with_output()
        .await
        .map_err(|e| failed(e.to_string()))?;
    if !done.status.success() {
        return Err(failed(
            String::from_utf8_lossy(&done.stderr).trim().to_owned(),
        ));
    }
    String::from_utf8(done.stdout).map_err(|_| failed("its answer is not text".into()))
}
