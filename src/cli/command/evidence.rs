//! `firebreak evidence`: bags by hand, verification, and the benchmark.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::cli::error::{CliError, CliResult};
use crate::cli::exit::Exit;
use crate::cli::output::{clean_line, grouped};
use crate::cli::session::{Session, stdin_is_piped};
use crate::custody::takable;
use crate::incident::body::{BagSealed, ExhibitAcquired};
use crate::incident::{Category, Refs};
use crate::port::{Ended, ExhibitDraft, Exhibits as _, OpenBag};

use super::verify::{self, VerifyArgs};

/// Arguments of `firebreak evidence`.
#[derive(Debug, clap::Subcommand)]
pub enum EvidenceCommand {
    /// Open a bag and keep it open for `add`
    Open {
        /// What it is for, one line
        purpose: String,
    },
    /// Take files, folders or standard input (`-`) in, each as one exhibit
    Add {
        /// Files, folders, or `-`
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// Name of what comes from standard input
        #[arg(long, default_value = "stdin")]
        name: String,
        /// What it is, one line
        #[arg(long)]
        description: Option<String>,
        /// memory, network, process, logs, config, disk, database, cloud-trail or other
        #[arg(long, default_value = "other")]
        kind: String,
        /// Number of an open bag; without it the open one is taken, or a new bag is opened and sealed
        #[arg(long)]
        bag: Option<u32>,
    },
    /// Close and sign a bag
    Seal {
        /// Number of the bag; the only open one if not given
        #[arg(long)]
        bag: Option<u32>,
    },
    /// Verify a bag or an incident folder
    Verify(VerifyArgs),
    /// Measure sealing, verifying and the ledger on one file, beside sha256sum and openssl in the same run
    Bench {
        /// The file
        file: PathBuf,
    },
}

/// Runs it.
pub fn run(session: &Session, command: &EvidenceCommand) -> CliResult {
    match command {
        EvidenceCommand::Open { purpose } => open(session, purpose),
        EvidenceCommand::Add {
            paths,
            name,
            description,
            kind,
            bag,
        } => {
            let category = Category::parse(kind).ok_or_else(|| {
                let all: Vec<_> = Category::ALL.iter().map(|c| c.as_str()).collect();
                CliError::usage(format!("there is no kind `{kind}`"))
                    .hint(format!("one of {}", all.join(", ")))
            })?;
            add(session, paths, name, description.as_deref(), category, *bag)
        }
        EvidenceCommand::Seal { bag } => seal(session, *bag),
        EvidenceCommand::Verify(args) => verify::run(session, args),
        EvidenceCommand::Bench { file } => crate::cli::bench::evidence(session, file),
    }
}

fn open(session: &Session, purpose: &str) -> CliResult {
    let custody = session.incident()?;
    let bag = custody.open_bag(purpose, &Refs::default())?;
    let number = bag.number().to_owned();
    bag.leave_open()?;
    if session.out.json {
        session.out.document(&serde_json::json!({"schema": "firebreak/bag/v1", "incident": custody.id(), "bag": number, "state": "open"}))?;
    }
    session.out.answer(format!(
        "bag {number} of {0} is open\nnext: firebreak evidence add PATH… --bag {1} --incident {0}",
        custody.id(),
        number.trim_start_matches('0')
    ));
    Ok(Exit::Ok)
}

fn add(
    session: &Session,
    paths: &[PathBuf],
    name: &str,
    description: Option<&str>,
    category: Category,
    bag: Option<u32>,
) -> CliResult {
    for path in paths.iter().filter(|p| !is_stdin(p)) {
        takable(path).map_err(|e| {
            CliError::new(
                Exit::Usage,
                "FB1105",
                format!("cannot take in `{}`: {e}", clean_line(&path.display().to_string())),
            )
            .hint("nothing was taken in; correct the path or its permissions, or pipe it in: … | firebreak evidence add - --name NAME")
        })?;
    }
    if paths.iter().any(|p| is_stdin(p)) && !stdin_is_piped() {
        return Err(CliError::usage(
            "`-` reads standard input, and nothing is piped into it",
        ));
    }
    let custody = session.incident()?;
    custody.tell_late_seals()?;
    let open: Vec<u32> = custody
        .open_bags()?
        .into_iter()
        .filter(|(_, refs)| refs.run.is_none())
        .map(|(n, _)| n)
        .collect();
    let (mut filling, seal_after) = match (bag, open.as_slice()) {
        (Some(number), _) => (custody.reopen_bag(number)?, false),
        (None, [one]) => (custody.reopen_bag(*one)?, false),
        (None, []) => (custody.open_bag("added by hand", &Refs::default())?, true),
        (None, _) => {
            return Err(CliError::usage("several bags are open")
                .hint(format!("say which: --bag {}", open[0])));
        }
    };
    let mut taken = Vec::new();
    for path in paths {
        let exhibit = draft(path, name, description, category);
        let acquired = if is_stdin(path) {
            from_stdin(session, filling.as_mut(), &exhibit)?
        } else {
            from_path(session, filling.as_mut(), path, &exhibit)?
        };
        if !session.out.json {
            session.out.answer(line(&acquired));
        }
        taken.push(acquired);
    }
    // What could not be read to its end is taken in and marked; the exit code says so too.
    let exit = if taken.iter().all(|e| e.ended == "complete") {
        Exit::Ok
    } else {
        Exit::Missed
    };
    let number = filling.number().to_owned();
    let sealed = if seal_after {
        Some(filling.seal()?)
    } else {
        filling.leave_open()?;
        None
    };
    if session.out.json {
        session.out.document(&serde_json::json!({"schema": "firebreak/exhibits/v1", "incident": custody.id(), "bag": number, "exhibits": taken, "sealed": sealed}))?;
        return Ok(exit);
    }
    match sealed {
        Some(sealed) => tell_sealed(session, &custody, &sealed),
        None => session.out.answer(format!(
            "bag {number} is still open\nnext: firebreak evidence seal --bag {} --incident {}",
            number.trim_start_matches('0'),
            custody.id()
        )),
    }
    Ok(exit)
}

fn seal(session: &Session, bag: Option<u32>) -> CliResult {
    let custody = session.incident()?;
    for late in custody.tell_late_seals()? {
        session.out.tell(format!(
            "bag {} was sealed before a crash; its entry is written now",
            late.bag
        ));
        if bag.is_none_or(|asked| late.bag.parse() == Ok(asked)) {
            tell_sealed(session, &custody, &late);
            return Ok(Exit::Ok);
        }
    }
    let open: Vec<u32> = custody
        .open_bags()?
        .into_iter()
        .filter(|(_, refs)| refs.run.is_none())
        .map(|(n, _)| n)
        .collect();
    let number = match (bag, open.as_slice()) {
        (Some(n), _) => n,
        (None, [one]) => *one,
        (None, []) => {
            return Err(CliError::usage("no bag is open").hint("firebreak evidence open PURPOSE"));
        }
        (None, _) => {
            return Err(CliError::usage("several bags are open")
                .hint(format!("say which: --bag {}", open[0])));
        }
    };
    let sealed = custody.reopen_bag(number)?.seal()?;
    if session.out.json {
        session.out.document(&serde_json::json!({"schema": "firebreak/bag/v1", "incident": custody.id(), "bag": sealed.bag, "state": "sealed", "sealed": sealed}))?;
    }
    tell_sealed(session, &custody, &sealed);
    Ok(Exit::Ok)
}

fn tell_sealed(session: &Session, custody: &crate::custody::Custody, sealed: &BagSealed) {
    let path = custody
        .place()
        .join("bags")
        .join(format!("{}_{}", custody.id(), sealed.bag));
    session
        .out
        .answer(clean_line(&format!("bag         {}", path.display())));
    session
        .out
        .answer(format!("seal        {}", grouped(&sealed.seal_sha256)));
    session.out.answer(format!(
        "fingerprint {}",
        grouped(&custody.opened().fingerprint)
    ));
    session
        .out
        .answer("keep seal and fingerprint on paper; next: firebreak verify --last");
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

fn draft(
    path: &Path,
    stdin_name: &str,
    description: Option<&str>,
    category: Category,
) -> ExhibitDraft {
    let stdin = is_stdin(path);
    let name = if stdin {
        stdin_name.to_owned()
    } else {
        let full = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        full.file_name()
            .map_or_else(|| "root".to_owned(), |n| n.to_string_lossy().into_owned())
    };
    let shown = if stdin {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    };
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    ExhibitDraft {
        description: description.map_or_else(|| shown.clone(), str::to_owned),
        category,
        system: BTreeMap::from([("host".to_owned(), host), ("path".to_owned(), shown)]),
        method: if stdin {
            "read from standard input".into()
        } else {
            "read".into()
        },
        command: None,
        trust: None,
        volatility: 5,
        name,
    }
}

fn from_path(
    session: &Session,
    bag: &mut dyn OpenBag,
    path: &Path,
    exhibit: &ExhibitDraft,
) -> Result<ExhibitAcquired, CliError> {
    let out = session.out;
    let mut last = 0;
    let shown = clean_line(&path.display().to_string());
    let acquired = bag.add_path(path, exhibit, &mut |bytes| {
        if bytes - last >= 8 * 1024 * 1024 {
            last = bytes;
            out.progress(format!("{shown}: {} MiB", bytes / (1024 * 1024)));
        }
    });
    out.progress_end();
    Ok(acquired?)
}

fn from_stdin(
    session: &Session,
    bag: &mut dyn OpenBag,
    exhibit: &ExhibitDraft,
) -> Result<ExhibitAcquired, CliError> {
    bag.begin(exhibit)?;
    let mut block = vec![0; 1024 * 1024];
    let mut taken = 0u64;
    let mut input = std::io::stdin().lock();
    let ended = loop {
        match input.read(&mut block) {
            Ok(0) => break Ended::Complete,
            Ok(n) => {
                bag.write(&block[..n])?;
                taken += n as u64;
                if taken % (64 * 1024 * 1024) < n as u64 {
                    session
                        .out
                        .progress(format!("standard input: {} MiB", taken / (1024 * 1024)));
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => break Ended::Error(e.to_string()),
        }
    };
    session.out.progress_end();
    Ok(bag.finish(ended)?)
}

fn line(e: &ExhibitAcquired) -> String {
    let ended = if e.ended == "complete" {
        String::new()
    } else {
        format!("  [{}: {}]", e.ended, e.why.as_deref().unwrap_or("-"))
    };
    clean_line(&format!(
        "{}  {} bytes  {}{ended}",
        e.exhibit, e.bytes, e.description
    ))
}
