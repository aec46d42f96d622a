//! Carrying out one started step, and looking whether a doubtful one happened. The intent is durable before anything here runs.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::action::{Action, Applied, Class, Observed};
use crate::incident::body::{Notice, StepFinished};
use crate::incident::{Category, Draft, Effect, Mode, Outcome, kind};
use crate::plan::call::FilledCall;
use crate::plan::seen::Probed;
use crate::plan::values;
use crate::playbook::condition::Answer;
use crate::playbook::model::{Kind, Step};
use crate::playbook::variable::Vars;
use crate::port::{LedgerError, Message, RunEvent};

use super::child::{self, ChildSpec, How};
use super::definition::PinnedDefinition;
use super::engine::Engine;
use super::files::Pattern;
use super::gates::step_refs;
use super::machine::StepAt;
use super::outcome::{End, Source, done, done_with, failed, of_error, short};
use super::survey::ProbeCall;
use super::walk::fill_code;

/// How much longer than its own deadline an action may take to come back before it is cut.
const GRACE: Duration = Duration::from_secs(5);

/// What a step did: its end, and entries to be written beside it.
pub(super) struct Acted {
    pub(super) end: End,
    pub(super) beside: Vec<Draft>,
}

/// The ledger failed inside a step: the run stops.
pub(super) type ActResult = Result<Acted, LedgerError>;

/// What one step works with.
#[derive(Clone)]
pub(super) struct Job {
    pub(super) engine: Arc<Engine>,
    pub(super) definition: Arc<PinnedDefinition>,
    pub(super) vars: Vars,
    pub(super) at: StepAt,
    pub(super) limit: Duration,
}

impl Job {
    pub(super) fn step(&self) -> Option<&Step> {
        self.definition.playbook.find(&self.at.path)
    }
    pub(super) fn context(&self) -> crate::action::Context {
        self.engine.context(
            &self.definition.run,
            &self.at.path,
            self.at.attempt,
            self.limit,
        )
    }
    fn probe(&self, call: &crate::playbook::model::Call) -> Result<ProbeCall, String> {
        ProbeCall::of(&self.engine, call, &self.vars)
    }

    /// Probes `require` and `done_if`, right before the step. An end is one that needs no act.
    pub(super) async fn prepare(&self) -> Option<StepFinished> {
        let step = self.step()?;
        if let Some(call) = &step.require {
            let answer = match self.probe(call) {
                Ok(probe) => probe.ask(&self.context()).await,
                Err(why) => Probed::Failed(why),
            };
            let why = match answer {
                Probed::True => None,
                Probed::False => Some(format!("its requirement `{}` does not hold", call.action)),
                Probed::Failed(why) => Some(format!(
                    "its requirement `{}` cannot be probed: {why}",
                    call.action
                )),
            };
            if let Some(why) = why {
                return Some(failed("blocked", "FB0402", why));
            }
        }
        if let Some(call) = &step.done_if
            && let Ok(probe) = self.probe(call)
            && probe.ask(&self.context()).await == Probed::True
        {
            return Some(done_with(
                "probe",
                "it was so already: nothing to do",
                step,
                &self.definition.playbook,
                &Source::default(),
            ));
        }
        None
    }

    /// Does it.
    pub(super) async fn act(&self, call: &FilledCall) -> ActResult {
        let began = self.engine.ports.clock.monotonic();
        let mut acted = self.by_kind(call).await?;
        if let End::Finished(body) = &mut acted.end {
            let elapsed = self.engine.ports.clock.monotonic().saturating_sub(began);
            body.elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        }
        Ok(acted)
    }

    async fn by_kind(&self, call: &FilledCall) -> ActResult {
        let Some(step) = self.step() else {
            return Ok(only(End::Finished(failed(
                "internal",
                "FB1100",
                "the step is not in the definition",
            ))));
        };
        match &step.kind {
            Kind::Call(_) => self.call(step, call).await.map(only),
            Kind::Check { expect, .. } => self.check(step, call, expect).await.map(only),
            Kind::Run { .. } => self.child(step, call).await.map(only),
            Kind::Notify(n) => Ok(self.notify(call, &n.to).await),
            _ => Ok(only(End::Finished(done("result", "recorded")))),
        }
    }

    fn action(&self, call: &FilledCall) -> Option<Arc<dyn Action>> {
        self.engine.actions.find(call.what.as_str()?).cloned()
    }

    /// Applies, then looks: an answer alone is not taken for an effect that nothing shows.
    async fn call(&self, step: &Step, call: &FilledCall) -> Result<End, LedgerError> {
        let reads = step.effect() == Effect::Read;
        let applied = match self.apply(call, reads).await? {
            Ok(applied) => applied,
            Err(end) => return Ok(end),
        };
        if !reads && let Some(why) = self.unseen(call).await? {
            let said = &applied.summary;
            return Ok(End::InDoubt(format!("it answered `{said}`, and {why}")));
        }
        Ok(End::Finished(self.of(step, "result", &applied)))
    }

    /// Why an effect that was answered is not taken for one; `None` when it is there. A look that fails or takes too long shows
    /// nothing, and then nothing is known.
    async fn unseen(&self, call: &FilledCall) -> Result<Option<String>, LedgerError> {
        Ok(match self.look(call).await {
            Some(Ok(Observed::Done(_))) => None,
            Some(Ok(Observed::NotDone)) => Some("nothing of it can be seen".into()),
            Some(Ok(Observed::Unknown(why))) => Some(format!("it cannot be told: {why}")),
            Some(Err(e)) if e.class == Class::Ledger => return Err(ledger_error(&e)),
            Some(Err(e)) => Some(format!("the look at it failed: {e}")),
            None => Some("the look at it took too long".into()),
        })
    }

    async fn apply(
        &self,
        call: &FilledCall,
        reads: bool,
    ) -> Result<Result<Applied, End>, LedgerError> {
        let Some(action) = self.action(call) else {
            let why = format!("there is no action `{}`", call.what);
            return Ok(Err(End::Finished(failed("internal", "FB1100", why))));
        };
        let cx = self.context();
        let args = values::action_args(call);
        if let Err(e) = (action.spec().check_args)(args) {
            return Ok(Err(End::Finished(failed(
                "refused",
                "FB1201",
                e.to_string(),
            ))));
        }
        match tokio::time::timeout(self.limit + GRACE, action.apply(&cx, args)).await {
            Ok(Ok(applied)) => Ok(Ok(applied)),
            Ok(Err(e)) if e.class == Class::Ledger => Err(ledger_error(&e)),
            Ok(Err(e)) => Ok(Err(of_error(&e, reads))),
            Err(_) if reads => Ok(Err(End::Finished(failed(
                "timeout",
                "FB0606",
                format!("it took longer than {} s", self.limit.as_secs()),
            )))),
            Err(_) => Ok(Err(End::InDoubt(format!(
                "no answer within {} s",
                self.limit.as_secs()
            )))),
        }
    }

    async fn look(
        &self,
        call: &FilledCall,
    ) -> Option<Result<Observed, crate::action::ActionError>> {
        let action = self.action(call)?;
        let cx = self.context();
        let limit = Duration::from_secs(30);
        tokio::time::timeout(limit, action.observe(&cx, values::action_args(call)))
            .await
            .ok()
    }

    fn of(&self, step: &Step, by: &str, applied: &Applied) -> StepFinished {
        let source = Source {
            result: Some(applied.result.clone()),
            ..Source::default()
        };
        done_with(
            by,
            &applied.summary,
            step,
            &self.definition.playbook,
            &source,
        )
    }

    async fn check(
        &self,
        step: &Step,
        call: &FilledCall,
        expect: &str,
    ) -> Result<End, LedgerError> {
        let applied = match self.apply(call, true).await? {
            Ok(applied) => applied,
            Err(end) => return Ok(end),
        };
        let mut names = self.vars.values().clone();
        if let Value::Object(fields) = &applied.result {
            names.extend(fields.clone());
        }
        let mut body = self.of(step, "result", &applied);
        let (class, code, why) = match values::holds(expect, &names) {
            Answer::True => return Ok(End::Finished(body)),
            Answer::False => (
                "check",
                "FB0611",
                format!("`{expect}` does not hold: {}", applied.summary),
            ),
            Answer::Unknown(name) => (
                "check",
                "FB0605",
                format!("`{expect}` cannot be decided: `{name}` is not set"),
            ),
            Answer::Error(e) => (
                "check",
                "FB0207",
                format!("`{expect}` cannot be evaluated: {e}"),
            ),
        };
        body.outcome = Outcome::Failed;
        body.class = Some(class.into());
        body.code = Some(code.into());
        body.summary = short(&why);
        Ok(End::Finished(body))
    }

    async fn child(&self, step: &Step, call: &FilledCall) -> Result<End, LedgerError> {
        let argv: Vec<String> = call
            .what
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|w| w.as_str().map(str::to_owned))
            .collect();
        if argv.is_empty() {
            return Ok(End::Finished(failed(
                "refused",
                "FB1201",
                "it names no program",
            )));
        }
        let patterns = step.evidence.iter().flat_map(|e| &e.files);
        let files = match patterns.map(|p| Pattern::of(p, &self.vars)).collect() {
            Ok(files) => files,
            Err(e) => {
                let why = format!("its files cannot be named: {e}");
                return Ok(End::Finished(failed("refused", fill_code(&e), why)));
            }
        };
        let names = &self.definition.playbook.env;
        let spec = ChildSpec {
            env: names
                .iter()
                .filter_map(|n| Some((n.clone(), std::env::var_os(n)?)))
                .collect(),
            step: self.at.path.to_string(),
            kind: step.evidence.as_ref().map_or(Category::Other, |e| e.kind),
            refs: step_refs(&self.definition.run, &self.at.path, self.at.attempt),
            limit: self.limit,
            files,
            argv,
        };
        let program = spec.argv[0].clone();
        let ended = child::run(
            spec,
            Arc::clone(&self.engine.exhibits),
            self.engine.cancel.clone(),
        )
        .await;
        let end = match ended {
            Ok(end) => end,
            Err(crate::port::CustodyError::Ledger(e)) => return Err(e),
            Err(e) if step.effect() == Effect::Read => {
                return Ok(End::Finished(failed("failed", "FB1204", e.to_string())));
            }
            Err(e) => return Ok(End::InDoubt(format!("its output could not be kept: {e}"))),
        };
        let source = Source {
            exit: match &end.how {
                How::Exited(status) => status.code().map(i64::from),
                _ => None,
            },
            stdout: Some(end.stdout),
            stderr: Some(end.stderr),
            ..Source::default()
        };
        let mut kept = end
            .bag
            .map_or(String::new(), |b| format!("; output in bag {b}"));
        end.missing
            .iter()
            .for_each(|m| kept.push_str(&format!("; {m}")));
        if end.unread && matches!(end.how, How::Exited(_)) {
            let why = format!("`{program}`{kept}");
            return Ok(if step.effect() == Effect::Read {
                End::Finished(failed("failed", "FB1204", why))
            } else {
                End::InDoubt(why)
            });
        }
        Ok(match end.how {
            How::NotStarted(why) => End::Finished(failed(
                "failed",
                "FB1203",
                format!("`{program}` could not be started: {why}"),
            )),
            How::Killed(why) if step.effect() == Effect::Read => {
                let (class, code) = if why.starts_with("its time") {
                    ("timeout", "FB0606")
                } else {
                    ("interrupted", "FB1203")
                };
                End::Finished(failed(class, code, format!("`{program}`: {why}{kept}")))
            }
            How::Killed(why) => End::InDoubt(format!("`{program}`: {why}{kept}")),
            How::Exited(status) if status.success() => End::Finished(done_with(
                "result",
                &format!("`{program}` ended well{kept}"),
                step,
                &self.definition.playbook,
                &source,
            )),
            How::Exited(status) => {
                let part = if step.effect() == Effect::Read {
                    ""
                } else {
                    "; look what it has done in part"
                };
                let why = format!("`{program}` ended with {status}{kept}{part}");
                End::Finished(failed("failed", "FB1203", why))
            }
        })
    }

    async fn notify(&self, call: &FilledCall, to: &[String]) -> Acted {
        let drill = self.engine.mode == Mode::Drill;
        let words = call.what.as_str().unwrap_or_default();
        let text = if drill {
            format!("EXERCISE {words}")
        } else {
            words.to_owned()
        };
        let message = Message {
            incident: self.engine.incident.to_string(),
            drill,
            to: to.to_vec(),
            text: text.clone(),
        };
        let sent =
            tokio::time::timeout(self.limit, self.engine.ports.notifier.send(&message)).await;
        let refs = step_refs(&self.definition.run, &self.at.path, self.at.attempt);
        let entry = |kind: &str, channel: &str, error: Option<String>| {
            let body = Notice {
                to: to.to_vec(),
                channel: channel.into(),
                text: text.clone(),
                error,
            };
            Draft::new(kind, &body).about(refs.clone())
        };
        let (end, beside, how) = match sent {
            Ok(Ok(channels)) => (
                done("result", format!("sent by {}", channels.join(", "))),
                channels
                    .iter()
                    .map(|c| entry(kind::NOTICE_SENT, c, None))
                    .collect(),
                channels.join(", "),
            ),
            Ok(Err(e)) => (
                failed(
                    if e.cause.is_transient() {
                        "transient"
                    } else {
                        "failed"
                    },
                    "FB0612",
                    e.to_string(),
                ),
                vec![entry(kind::NOTICE_FAILED, "webhook", Some(e.to_string()))],
                "failed".to_owned(),
            ),
            Err(_) => (
                failed("timeout", "FB0606", "no channel answered in time"),
                vec![entry(
                    kind::NOTICE_FAILED,
                    "webhook",
                    Some("no answer in time".into()),
                )],
                "failed".to_owned(),
            ),
        };
        self.engine.operator.event(&RunEvent::Notice {
            to: to.to_vec(),
            text,
            channel: how,
        });
        Acted {
            end: End::Finished(end),
            beside,
        }
    }

    /// Looks whether a doubtful step happened: by `done_if` where it has one, else by the action's own `observe`.
    pub(super) async fn observe(&self, call: &FilledCall) -> Seen {
        let Some(step) = self.step() else {
            return Seen::Unknown("the step is not in the definition".into());
        };
        if let Some(probe) = &step.done_if {
            return match self.probe(probe) {
                Err(why) => Seen::Unknown(why),
                Ok(probe) => match probe.ask(&self.context()).await {
                    Probed::True => Seen::Ran(done("probe", "the probe says that it happened")),
                    Probed::False => Seen::DidNot,
                    Probed::Failed(why) => Seen::Unknown(why),
                },
            };
        }
        if !matches!(step.kind, Kind::Call(_)) {
            return Seen::Unknown("nothing can look whether it happened".into());
        }
        match self.look(call).await {
            None => Seen::Unknown("the look took too long".into()),
            Some(Err(e)) => Seen::Unknown(format!("the look failed: {e}")),
            Some(Ok(Observed::Unknown(why))) => Seen::Unknown(why),
            Some(Ok(Observed::NotDone)) => Seen::DidNot,
            Some(Ok(Observed::Done(applied))) => Seen::Ran(self.of(step, "probe", &applied)),
        }
    }
}

/// What a look at a doubtful step showed.
pub(super) enum Seen {
    /// It happened.
    Ran(StepFinished),
    /// It did not.
    DidNot,
    /// It cannot be told.
    Unknown(String),
}

fn only(end: End) -> Acted {
    Acted {
        end,
        beside: Vec::new(),
    }
}

/// An action answers its ledger's failure as text; the run stops for it all the same.
fn ledger_error(error: &crate::action::ActionError) -> LedgerError {
    let (path, detail) = ("ledger".to_owned(), error.to_string());
    if error.code == "FB0604" {
        LedgerError::Tampered { path, detail }
    } else {
        LedgerError::Write { path, detail }
    }
}
