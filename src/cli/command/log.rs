//! `firebreak log`: the history of what the tool did, from the ledger.

use crate::cli::error::CliResult;
use crate::cli::exit::Exit;
use crate::cli::output::clean_line;
use crate::cli::session::Session;
use crate::incident::Entry;
use crate::incident::clock_text::millis;
use crate::report::said_of_rotation;

/// Arguments of `firebreak log`.
#[derive(Debug, clap::Args)]
pub struct LogArgs {
    /// Only entries of this kind, or of kinds that begin so (`step.`)
    #[arg(long)]
    kind: Option<String>,
    /// Only entries from this number on
    #[arg(long, value_name = "SEQ")]
    from: Option<u64>,
    /// Only the last so many
    #[arg(long, short = 'n', value_name = "COUNT")]
    last: Option<usize>,
    /// Whole entries, one JSON line each
    #[arg(long)]
    jsonl: bool,
}

/// Prints entries.
pub fn run(session: &Session, args: &LogArgs) -> CliResult {
    let history = session.incident()?.history()?;
    let wanted = |e: &&Entry| {
        args.kind.as_deref().is_none_or(|k| e.kind.starts_with(k))
            && args.from.is_none_or(|f| e.seq >= f)
    };
    let mut entries: Vec<&Entry> = history.entries.iter().filter(wanted).collect();
    if let Some(last) = args.last {
        entries.drain(..entries.len().saturating_sub(last));
    }
    if session.out.json {
        let list: Vec<_> = entries.iter().map(|e| as_json(e)).collect();
        session.out.document(&serde_json::json!({"schema": "firebreak/log/v1", "incident": history.incident, "entries": list}))?;
        return Ok(Exit::Ok);
    }
    for entry in entries {
        if args.jsonl {
            session.out.answer(as_json(entry).to_string());
        } else {
            session.out.answer(clean_line(&line(entry)));
        }
    }
    Ok(Exit::Ok)
}

fn as_json(e: &Entry) -> serde_json::Value {
    serde_json::json!({
        "seq": e.seq, "time": millis(e.time), "kind": e.kind, "actor": e.actor, "target": e.target, "refs": e.refs, "body": e.body, "sha256": e.sha256,
    })
}

fn line(e: &Entry) -> String {
    let step = e.step().map(|s| format!(" [{s}]")).unwrap_or_default();
    // Which one of several: an exhibit, else a bag, a pod, a playbook …
    let which = text_of(e, &["exhibit", "bag", "pod", "playbook", "section", "how"]);
    let said = text_of(
        e,
        &[
            "summary",
            "text",
            "known",
            "why",
            "title",
            "verdict",
            "what",
            "description",
            "purpose",
            "name",
            "decision",
            "question",
        ],
    );
    let words: Vec<String> = match said_of_rotation(e) {
        Some(words) => vec![words],
        None => [which, said].into_iter().flatten().collect(),
    };
    format!(
        "{:>5}  {}  {:<22}{step} {}  ({})",
        e.seq,
        millis(e.time),
        e.kind,
        words.join(": "),
        e.actor.id
    )
}

/// The first of these fields that the entry has. A line break in it is shown, not taken out: it was said so.
fn text_of(e: &Entry, fields: &[&str]) -> Option<String> {
    let found = fields
        .iter()
        .find_map(|k| e.body.get(*k).and_then(|v| v.as_str()))?;
    Some(found.to_owned())
}
