//! `firebreak policy init`: from `solo` to `team`, with the people and keys that may approve.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::cli::error::{CliError, CliResult};
use crate::cli::exit::Exit;
use crate::cli::session::{Session, store};
use crate::plan::people::Policy;

/// Arguments of `firebreak policy`.
#[derive(Debug, clap::Subcommand)]
pub enum PolicyCommand {
    /// Require signed approvals of a team from the next incident on
    Init {
        /// people.yaml: id, name, principal, roles
        #[arg(long)]
        people: PathBuf,
        /// OpenSSH allowed_signers: each line with namespaces, valid-after, valid-before and one principal
        #[arg(long)]
        signers: PathBuf,
        /// Public keys that are revoked, one a line
        #[arg(long)]
        revoked: Option<PathBuf>,
    },
    /// Print the policy in force
    Show,
    /// Go back to one person with typed confirmations, from the next incident on
    Solo,
}

const FOLDER: &str = "policy";
/// Names of the pinned trust files.
const FILES: [&str; 3] = ["people.yaml", "allowed_signers", "revoked_keys"];

/// Runs it.
pub fn run(session: &Session, command: &PolicyCommand) -> CliResult {
    match command {
        PolicyCommand::Init {
            people,
            signers,
            revoked,
        } => init(session, people, signers, revoked.as_ref()),
        PolicyCommand::Show => show(session),
        PolicyCommand::Solo => solo(session),
    }
}

/// The policy in force for new incidents, with its trust files.
///
/// # Errors
/// When the files are there and cannot be read.
pub fn current(session: &Session) -> Result<(String, BTreeMap<String, Vec<u8>>), CliError> {
    let folder = session.places.root.join(FOLDER);
    if !folder.join(FILES[0]).is_file() {
        return Ok(("solo".into(), BTreeMap::new()));
    }
    let mut trust = BTreeMap::new();
    for name in FILES {
        let path = folder.join(name);
        match std::fs::read(&path) {
            Ok(bytes) => _ = trust.insert(name.to_owned(), bytes),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && name == "revoked_keys" => {}
            Err(e) => {
                return Err(CliError::new(
                    Exit::Failed,
                    "FB1105",
                    format!("cannot read `{}`: {e}", path.display()),
                ));
            }
        }
    }
    Ok(("team".into(), trust))
}

fn init(
    session: &Session,
    people: &std::path::Path,
    signers: &std::path::Path,
    revoked: Option<&PathBuf>,
) -> CliResult {
    let read = |path: &std::path::Path| {
        std::fs::read(path).map_err(|e| {
            CliError::new(
                Exit::Usage,
                "FB1105",
                format!("cannot read `{}`: {e}", path.display()),
            )
        })
    };
    let (people_bytes, signer_bytes) = (read(people)?, read(signers)?);
    let revoked_bytes = revoked.map(|path| read(path)).transpose()?;
    let team = Policy::team(&people_bytes, &signer_bytes, revoked_bytes.as_deref())
        .map_err(|e| {
            CliError::new(Exit::Usage, "FB1108", e.to_string()).hint(
                "nothing was changed; a signer's line is: PRINCIPAL namespaces=\"approval@firebreak\",valid-after=\"20260101Z\",valid-before=\"20270101Z\" ssh-ed25519 KEY",
            )
        })?;
    let mut files = store(&session.places.root.join(FOLDER))?;
    let mut keep = |name: &str, bytes: &[u8]| {
        files.replace(name, bytes).map_err(|e| {
            CliError::new(
                Exit::Failed,
                "FB1104",
                format!("cannot write the policy: {e}"),
            )
        })
    };
    // people.yaml last: its presence is what makes the policy `team`.
    keep(FILES[1], &signer_bytes)?;
    if let Some(bytes) = &revoked_bytes {
        keep(FILES[2], bytes)?;
    }
    keep(FILES[0], &people_bytes)?;
    session.out.answer(format!(
        "policy team: {} people; incidents opened from now on pin these files",
        team.people.len()
    ));
    document(session)
}

fn show(session: &Session) -> CliResult {
    let (policy, trust) = current(session)?;
    session.out.answer(format!("policy {policy}"));
    if let Some(bytes) = trust.get(FILES[0])
        && let Ok(people) = crate::plan::people::read_people(bytes)
    {
        for p in people {
            session.out.answer(format!(
                "  {:<12} {:<32} {}",
                p.id,
                p.principal,
                p.roles.join(", ")
            ));
        }
    }
    document(session)
}

/// The policy in force as a document.
fn document(session: &Session) -> CliResult {
    if session.out.json {
        let (policy, trust) = current(session)?;
        let files: Vec<&String> = trust.keys().collect();
        session.out.document(
            &serde_json::json!({"schema": "firebreak/policy/v1", "policy": policy, "files": files}),
        )?;
    }
    Ok(Exit::Ok)
}

fn solo(session: &Session) -> CliResult {
    let mut files = store(&session.places.root.join(FOLDER))?;
    for name in FILES {
        files.remove(name).map_err(|e| {
            CliError::new(
                Exit::Failed,
                "FB1104",
                format!("cannot remove `{name}`: {e}"),
            )
        })?;
    }
    session.out.answer(
        "policy solo: one person, typed confirmations; incidents that are open keep theirs",
    );
    document(session)
}
