//! `firebreak verify`: ledger and bags, by the same code as `firebreak-verify`.

use std::path::PathBuf;

use firebreak_evidence::encoding::unhex;
use firebreak_evidence::note::Fingerprint;
use firebreak_evidence::source::DirSource;
use firebreak_evidence::verify::{Anchor, Given, Policy, Report, verify};

use crate::cli::error::{CliError, CliResult};
use crate::cli::exit::Exit;
use crate::cli::output::{clean, clean_line, grouped};
use crate::cli::session::Session;
use crate::custody::Custody;
use crate::incident::body::ExhibitChecked;
use crate::incident::{Draft, History, IncidentId, kind};
use crate::port::Ledger as _;

/// Arguments of `firebreak verify`.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// A bag or an incident folder
    path: Option<PathBuf>,
    /// The newest incident: its ledger and all its bags
    #[arg(long, conflicts_with = "path")]
    last: bool,
    /// Key fingerprint that you kept on paper (may repeat)
    #[arg(long, value_name = "HEX")]
    fingerprint: Vec<String>,
    /// SHA-256 of the seal that you noted
    #[arg(long, value_name = "HEX")]
    expect_seal: Option<String>,
    /// Accept only what something outside pins in time
    #[arg(long)]
    require_anchor: bool,
}

/// Verifies and prints the verdict, every finding and what was not checked.
pub fn run(session: &Session, args: &VerifyArgs) -> CliResult {
    let mut fingerprints = Vec::new();
    for text in &args.fingerprint {
        fingerprints.push(Fingerprint::parse(text).map_err(|e| CliError::usage(e.to_string()))?);
    }
    let expect_seal = match &args.expect_seal {
        None => None,
        Some(text) => {
            Some(unhex(text).ok_or_else(|| CliError::usage("--expect-seal wants 64 hex digits"))?)
        }
    };
    let Place {
        path,
        custody,
        unopened,
    } = place(session, args)?;
    if let Some(e) = &unopened {
        session.out.tell(format!(
            "error[{}]: {}; its folder is verified as any folder, without what this host knows of it",
            e.code,
            clean_line(&e.message)
        ));
    }
    let mut from_state = false;
    if fingerprints.is_empty()
        && let Some(custody) = &custody
    {
        // The key that this host made for the incident. It proves that nothing was changed since by somebody without that key; a
        // stranger pins the fingerprint from paper instead.
        fingerprints.extend(Fingerprint::parse(&custody.opened().fingerprint).ok());
        from_state = true;
    }
    let source = DirSource::open(&path).map_err(|e| {
        CliError::new(
            Exit::Usage,
            "FB1111",
            format!("cannot read `{}`: {e}", path.display()),
        )
    })?;
    let policy = Policy {
        anchor: if args.require_anchor {
            Anchor::Required
        } else {
            Anchor::Optional
        },
    };
    let given = Given {
        fingerprints: fingerprints.clone(),
        expect_seal,
        ..Given::default()
    };
    let report = verify(&source, &policy, &given);
    if session.out.json {
        let pinned: Vec<String> = fingerprints.iter().map(Fingerprint::hex).collect();
        let not_opened = unopened
            .as_ref()
            .map(|e| serde_json::json!({"code": e.code, "message": e.message}));
        let value = serde_json::json!({"schema": "firebreak/verify/v1", "path": path, "fingerprints": pinned, "fingerprint_from_this_host": from_state, "not_opened": not_opened, "report": report});
        session.out.document(&value)?;
    }
    session.out.answer(clean(report.to_string().trim_end()));
    if report.exit == 23
        && let Some(custody) = &custody
    {
        session.out.answer(format!(
            "next: firebreak evidence seal --bag N --incident {0}, or firebreak resume {0} where a run opened it",
            custody.id()
        ));
    }
    if from_state && let Some(f) = fingerprints.first() {
        session.out.answer(format!("\nPinned: {}\n        (from this host's own incident; a stranger pins it from paper with --fingerprint)", grouped(&f.hex())));
    }
    if let Some(custody) = custody
        && let Err(e) = record(&custody, &report)
    {
        // A full disk, a read-only copy or a lost key takes nothing from what was found: the verdict is the answer.
        session.out.tell(format!(
            "the ledger was not told of this check: {}",
            e.message
        ));
    }
    // What this host remembers and the folder does not reproduce is tampering, whatever the folder says of itself.
    match unopened {
        Some(e) if e.exit == Exit::Tampered => Ok(Exit::Tampered),
        _ => Ok(verdict(report.exit)),
    }
}

/// Turns the verifier's exit code into ours.
pub fn verdict(code: u8) -> Exit {
    match code {
        0 => Exit::Ok,
        2 => Exit::Usage,
        6 => Exit::Tampered,
        70 => Exit::Internal,
        other => Exit::Verdict(other),
    }
}

/// What is verified.
struct Place {
    path: PathBuf,
    /// The incident, where it is one of this host and opens.
    custody: Option<Custody>,
    /// Why it does not open.
    unopened: Option<CliError>,
}

fn place(session: &Session, args: &VerifyArgs) -> Result<Place, CliError> {
    if let Some(path) = &args.path {
        return Ok(Place {
            path: path.clone(),
            custody: None,
            unopened: None,
        });
    }
    let id = match session.chosen() {
        _ if args.last && session.asked.is_none() => newest(session)?,
        Ok(Some(id)) => id,
        Ok(None) => return session.incident().map(Place::of),
        Err(e) => return Err(e),
    };
    if !session.has_ledger(&id) {
        return session.open(&id).map(Place::of);
    }
    Ok(match session.open(&id) {
        Ok(custody) => Place::of(custody),
        Err(e) => Place {
            path: session.places.incident(&id),
            custody: None,
            unopened: Some(e),
        },
    })
}

impl Place {
    fn of(custody: Custody) -> Self {
        Place {
            path: custody.place().to_owned(),
            custody: Some(custody),
            unopened: None,
        }
    }
}

/// The incident whose ledger was written last.
fn newest(session: &Session) -> Result<IncidentId, CliError> {
    let mut newest = None;
    for id in session.places.incidents()? {
        let ledger = session.places.incident(&id).join("ledger/ledger.jsonl");
        let Ok(at) = ledger.metadata().and_then(|m| m.modified()) else {
            continue;
        };
        if newest.as_ref().is_none_or(|(t, _)| at > *t) {
            newest = Some((at, id));
        }
    }
    newest.map(|(_, id)| id).ok_or_else(|| {
        CliError::new(
            Exit::Usage,
            "FB1111",
            format!(
                "there is no incident in `{}`",
                session.places.root.display()
            ),
        )
        .hint("firebreak verify PATH")
    })
}

/// Tells the ledger of an open incident what was found, once per bag and verdict.
fn record(custody: &Custody, report: &Report) -> Result<(), CliError> {
    let history = custody.history()?;
    if history.of(kind::INCIDENT_CLOSED).next().is_some() {
        return Ok(());
    }
    let drafts: Vec<Draft> = report
        .bags
        .iter()
        .filter_map(|bag| {
            let number = bag.name.rsplit_once('_').map(|(_, n)| n.to_owned())?;
            let checked = ExhibitChecked {
                bag: number,
                verdict: bag.verdict.clone(),
                exit: bag.exit,
            };
            (!told(&history, &checked)).then(|| Draft::new(kind::EXHIBIT_CHECKED, &checked))
        })
        .collect();
    // A ledger that fails cannot be written; the verdict that was printed is what counts then.
    if report.exit != 6 && !drafts.is_empty() {
        custody.ledger().append(drafts)?;
        custody.ledger().checkpoint()?;
    }
    Ok(())
}

fn told(history: &History, checked: &ExhibitChecked) -> bool {
    history
        .bodies::<ExhibitChecked>(kind::EXHIBIT_CHECKED)
        .filter(|(_, c)| c.bag == checked.bag)
        .last()
        .is_some_and(|(_, c)| c == *checked)
}
