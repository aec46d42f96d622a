//! `firebreak doctor`: cluster, context, rights, network plugin, clock, disk, and the cloud account where one is configured. It never changes
//! anything.

use serde_json::json;

use crate::action::registry::RightSpec;
use crate::adapter::aws::RightSeen;
use crate::cli::cloud::{self, AccountArgs};
use crate::cli::cluster::{ClusterArgs, reach};
use crate::cli::compose::actions;
use crate::cli::error::CliResult;
use crate::cli::exit::Exit;
use crate::cli::output::clean;
use crate::cli::session::Session;
use crate::port::{Right, RightAnswer};

/// Less free space than this is a warning: a bag of long logs needs room.
const ROOM: u64 = 1024 * 1024 * 1024;

/// A clock that differs by more makes the account refuse signatures at times.
const CLOCK_S: i64 = 60;

/// Arguments of `firebreak doctor`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    account: AccountArgs,
}

/// One line of the answer.
struct Line {
    what: &'static str,
    state: &'static str,
    text: String,
}

/// Looks at everything a containment rests on.
pub async fn run(session: &Session, args: &DoctorArgs) -> CliResult {
    let (account, args) = (&args.account, &args.cluster);
    let mut lines = vec![place(session)];
    let mut exit = Exit::Ok;
    match reach(session, args).await {
        Err(e) => {
            lines.push(Line {
                what: "cluster",
                state: "FAIL",
                text: e.message.clone(),
            });
            if let Some(hint) = e.hint {
                lines.push(Line {
                    what: "",
                    state: "",
                    text: format!("hint: {hint}"),
                });
            }
            exit = exit.worst(Exit::Failed);
        }
        Ok(answered) => {
            let id = &answered.identity;
            lines.push(Line {
                what: "context",
                state: "ok",
                text: format!(
                    "{} (namespace {})",
                    id.context, answered.connected.namespace
                ),
            });
            lines.push(Line {
                what: "cluster",
                state: "ok",
                text: format!("{} {}, kube-system {}", id.server, id.version, id.uid),
            });
            lines.push(Line {
                what: "user",
                state: "ok",
                text: id
                    .user
                    .clone()
                    .unwrap_or_else(|| "the server does not tell".into()),
            });
            let view = &answered.connected.cluster.view;
            match view.may(&rights(&answered.connected.namespace)).await {
                Err(e) => lines.push(Line {
                    what: "rights",
                    state: "?",
                    text: e.to_string(),
                }),
                Ok(answers) => {
                    let (line, missing) = rights_line(&answers);
                    lines.push(line);
                    for right in &missing {
                        let holders = view.roles_with(right).await.unwrap_or_default();
                        let by = if holders.is_empty() {
                            String::new()
                        } else {
                            format!(" (held by {})", holders.join(", "))
                        };
                        lines.push(Line {
                            what: "",
                            state: "",
                            text: format!("missing: {right}{by}"),
                        });
                    }
                    if !missing.is_empty() {
                        exit = exit.worst(Exit::Denied);
                    }
                }
            }
            match view.enforcement().await {
                Err(e) => lines.push(Line {
                    what: "policies",
                    state: "?",
                    text: e.to_string(),
                }),
                Ok(seen) => {
                    let (state, says) = match seen.enforces {
                        Some(true) => ("ok", "is known to enforce NetworkPolicy"),
                        Some(false) => (
                            "WARN",
                            "does not enforce NetworkPolicy: isolation by policy will not hold here",
                        ),
                        None => (
                            "?",
                            "is not known to enforce NetworkPolicy; a canary shows it",
                        ),
                    };
                    let name = seen.plugin.unwrap_or_else(|| "the network plugin".into());
                    lines.push(Line {
                        what: "policies",
                        state,
                        text: format!("{name} {says} ({})", seen.basis),
                    });
                    if seen.enforces == Some(false) {
                        exit = exit.worst(Exit::Missed);
                    }
                }
            }
        }
    }
    // Without anything that names an account there is nothing to say, and nothing is asked.
    if cloud::is_configured(session, account) {
        exit = exit.worst(of_account(session, account, &mut lines).await);
    }
    lines.push(clock(session));
    lines.push(signer());
    if session.out.json {
        let list: Vec<_> = lines
            .iter()
            .map(|l| json!({"what": l.what, "state": l.state, "text": l.text}))
            .collect();
        session.out.document(
            &json!({"schema": "firebreak/doctor/v1", "lines": list, "exit": exit.code()}),
        )?;
    }
    for l in &lines {
        session
            .out
            .answer(clean(&format!("{:<9} {:<5} {}", l.what, l.state, l.text)));
    }
    session.out.answer(if exit == Exit::Ok {
        "next: firebreak contain pod NS/NAME"
    } else {
        "correct what is named above, then: firebreak doctor"
    });
    Ok(exit)
}

/// Identity, region, endpoint, the server's clock, and which rights of a rotation are missing by simulation.
async fn of_account(session: &Session, args: &AccountArgs, lines: &mut Vec<Line>) -> Exit {
    let answered = match cloud::reach(session, args).await {
        Ok(answered) => answered,
        Err(e) => {
            lines.push(Line {
                what: "account",
                state: "FAIL",
                text: e.message,
            });
            return Exit::Failed;
        }
    };
    let checkup = answered.aws.checkup().await;
    lines.push(Line {
        what: "account",
        state: "ok",
        text: checkup.place,
    });
    let offset = answered.aws.offset_s;
    lines.push(Line {
        what: "time",
        state: match offset {
            Some(s) if s.abs() <= CLOCK_S => "ok",
            Some(_) => "WARN",
            None => "?",
        },
        text: offset.map_or_else(
            || "the account does not tell its time".to_owned(),
            |s| format!("the account's clock is {s:+} s from this host's"),
        ),
    });
    let missing: Vec<_> = checkup
        .findings
        .iter()
        .filter(|f| f.right == RightSeen::Denied)
        .collect();
    let unknown = checkup
        .findings
        .iter()
        .filter(|f| matches!(f.right, RightSeen::Unknown(_)))
        .count();
    let all = checkup.findings.len();
    lines.push(Line {
        what: "rotation",
        state: match (missing.len(), unknown) {
            (0, 0) => "ok",
            (0, _) => "?",
            _ => "WARN",
        },
        text: format!(
            "{} of {all} rights of `rotate` are held by simulation, {} missing, {unknown} unknown",
            all - missing.len() - unknown,
            missing.len()
        ),
    });
    for finding in &missing {
        lines.push(Line {
            what: "",
            state: "",
            text: format!("missing: {} (for {})", finding.action, finding.needed_for),
        });
    }
    for note in checkup.notes {
        lines.push(Line {
            what: "",
            state: "",
            text: note,
        });
    }
    if missing.is_empty() {
        Exit::Ok
    } else {
        Exit::Denied
    }
}

/// Everything that `contain pod` needs, in the namespace at hand.
fn rights(namespace: &str) -> Vec<Right> {
    let mut all: Vec<RightSpec> = actions()
        .all()
        .filter(|a| needed(a.spec().name))
        .flat_map(|a| a.spec().rights.to_vec())
        .collect();
    all.sort();
    all.dedup();
    all.iter()
        .map(|r| {
            let right = Right::new(r.group, r.resource, r.verb);
            if r.cluster_wide {
                right
            } else {
                right.within(namespace)
            }
        })
        .collect()
}

/// The actions of the first minute.
fn needed(action: &str) -> bool {
    matches!(
        action,
        "acquire.volatile"
            | "acquire.manifests"
            | "acquire.logs"
            | "contain.isolate_workload"
            | "contain.probe_isolation"
            | "contain.list_credentials"
    )
}

fn rights_line(answers: &[RightAnswer]) -> (Line, Vec<Right>) {
    let missing: Vec<Right> = answers
        .iter()
        .filter(|a| a.allowed == Some(false))
        .map(|a| a.right.clone())
        .collect();
    let unknown = answers.iter().filter(|a| a.allowed.is_none()).count();
    let text = format!(
        "{} of {} rights of `contain pod` are held, {} missing, {unknown} unknown",
        answers.len() - missing.len() - unknown,
        answers.len(),
        missing.len()
    );
    let state = if !missing.is_empty() {
        "FAIL"
    } else if unknown > 0 {
        "?"
    } else {
        "ok"
    };
    (
        Line {
            what: "rights",
            state,
            text,
        },
        missing,
    )
}

fn place(session: &Session) -> Line {
    let root = &session.places.root;
    let mut existing = root.clone();
    while !existing.exists() && existing.pop() {}
    let free = rustix::fs::statvfs(&existing).map(|s| s.f_bavail.saturating_mul(s.f_frsize));
    match free {
        Err(e) => Line {
            what: "folder",
            state: "FAIL",
            text: format!("{}: {e}", root.display()),
        },
        Ok(free) => Line {
            what: "folder",
            state: if free < ROOM { "WARN" } else { "ok" },
            text: format!("{} ({} MiB free)", root.display(), free / (1024 * 1024)),
        },
    }
}

fn clock(session: &Session) -> Line {
    let now = crate::incident::clock_text::millis(session.clock.now());
    Line {
        what: "clock",
        state: "ok",
        text: format!("{now} by this host; compare it with a reference, every entry rests on it"),
    }
}

fn signer() -> Line {
    let found = std::env::var_os("PATH")
        .is_some_and(|p| std::env::split_paths(&p).any(|d| d.join("ssh-keygen").is_file()));
    if found {
        Line {
            what: "signing",
            state: "ok",
            text: "ssh-keygen is here: team approvals can be signed".into(),
        }
    } else {
        Line { what: "signing", state: "WARN", text: "no ssh-keygen on the PATH: under `team` policy approvals cannot be signed on this host".into() }
    }
}
