//! `firebreak-verify PATH`: verifies a bag or an incident folder and says what it could not check.

use firebreak_evidence::encoding::{Hash, decimal, unbase64_hash, unhex};
use firebreak_evidence::note::Fingerprint;
use firebreak_evidence::source::{BagSource, DirSource};
use firebreak_evidence::verify::{Anchor, AtLeast, Given, Policy, escape, verify};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
usage: firebreak-verify PATH [options]

PATH is a bag, or the folder of an incident (its ledger and all its bags).

  --fingerprint HEX       a key that you trust, from paper; may repeat. Spaces, colons and case do not matter
  --expect-seal HEX       the SHA-256 of the seal that you noted
  --at-least SIZE:ROOT    a head that you noted (ROOT in base64 or hex): of the ledger where there is one, else of the bag
  --ledger PATH           the ledger or incident folder, for a bag on its own
  --require-anchor        exit 20 where nothing outside pins the evidence in time
  --json                  the same facts as JSON

exit: 0 intact · 6 tampered · 20 freshness not proven · 21 signer not trusted · 22 recovered tail · 23 unsealed
      24 incomplete · 2 usage · 70 internal error, or an answer that could not be written
";

const EXIT_USAGE: u8 = 2;
const EXIT_INCOMPLETE: u8 = 24;
const EXIT_INTERNAL: u8 = 70;

fn main() -> ExitCode {
    std::panic::catch_unwind(|| run(std::env::args().skip(1).collect()))
        .unwrap_or(EXIT_INTERNAL)
        .into()
}

#[derive(Default)]
struct Arguments {
    path: Option<PathBuf>,
    fingerprints: Vec<Fingerprint>,
    expect_seal: Option<Hash>,
    at_least: Option<AtLeast>,
    ledger: Option<PathBuf>,
    anchor: Anchor,
    json: bool,
    help: bool,
}

fn run(words: Vec<String>) -> u8 {
    let arguments = match parse(words) {
        Ok(arguments) if arguments.help => return say(USAGE, 0),
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    let Some(path) = &arguments.path else {
        return usage("no PATH was given");
    };
    if path.is_file() {
        let name = escape(&path.to_string_lossy());
        eprintln!(
            "INCOMPLETE: unsupported copy: {name} is a file. Unpack a tar first; this version reads folders."
        );
        return EXIT_INCOMPLETE;
    }
    let source = match open(path) {
        Ok(source) => source,
        Err(error) => return usage(&error),
    };
    let ledger = match arguments.ledger.as_deref().map(open).transpose() {
        Ok(ledger) => ledger,
        Err(error) => return usage(&error),
    };
    let given = Given {
        fingerprints: arguments.fingerprints,
        expect_seal: arguments.expect_seal,
        at_least: arguments.at_least,
        ledger: ledger.as_ref().map(|ledger| ledger as &dyn BagSource),
    };
    let report = verify(
        &source,
        &Policy {
            anchor: arguments.anchor,
        },
        &given,
    );
    let text = if arguments.json {
        serde_json::to_string_pretty(&report).map(|text| text + "\n")
    } else {
        Ok(report.to_string())
    };
    match text {
        Ok(text) => say(&text, report.exit),
        Err(_) => EXIT_INTERNAL,
    }
}

/// Writes the answer. A reader that went away does not change the verdict; one that was never written is no success.
fn say(text: &str, exit: u8) -> u8 {
    let mut out = std::io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("Error: the answer could not be written: {error}");
            if exit == 0 { EXIT_INTERNAL } else { exit }
        }
        _ => exit,
    }
}

fn usage(error: &str) -> u8 {
    eprintln!("Error: {}\n\n{USAGE}", escape(error));
    EXIT_USAGE
}

fn open(path: impl AsRef<Path>) -> Result<DirSource, String> {
    let path = path.as_ref();
    DirSource::open(path).map_err(|error| format!("cannot open {}: {error}", path.display()))
}

fn parse(words: Vec<String>) -> Result<Arguments, String> {
    let mut arguments = Arguments::default();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let (name, inline) = match word.split_once('=') {
            Some((name, value)) if name.starts_with("--") => {
                (name.to_owned(), Some(value.to_owned()))
            }
            _ => (word, None),
        };
        let mut value = || {
            inline
                .clone()
                .or_else(|| words.next())
                .ok_or(format!("{name} needs a value"))
        };
        match name.as_str() {
            "--fingerprint" => arguments
                .fingerprints
                .push(Fingerprint::parse(&value()?).map_err(|error| error.to_string())?),
            "--expect-seal" => {
                arguments.expect_seal = Some(
                    Fingerprint::parse(&value()?)
                        .map_err(|error| format!("--expect-seal: {error}"))?
                        .0,
                )
            }
            "--at-least" => arguments.at_least = Some(at_least(&value()?)?),
            "--ledger" => arguments.ledger = Some(value()?.into()),
            "--require-anchor" => arguments.anchor = Anchor::Required,
            "--json" => arguments.json = true,
            "-h" | "--help" => arguments.help = true,
            other if other.starts_with('-') => return Err(format!("unknown option {other}")),
            _ if arguments.path.is_some() => return Err("more than one PATH".to_owned()),
            _ => arguments.path = Some(name.into()),
        }
    }
    Ok(arguments)
}

fn at_least(text: &str) -> Result<AtLeast, String> {
    let head = text.split_once(':').and_then(|(size, root)| {
        let root = unbase64_hash(root).or_else(|| unhex(&root.to_ascii_lowercase()))?;
        Some(AtLeast {
            size: decimal(size)?,
            root,
        })
    });
    head.ok_or_else(|| "--at-least needs SIZE:ROOT, the root in base64 or hex".to_owned())
}
