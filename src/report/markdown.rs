//! CommonMark with tables, that reads well in a terminal. Every text goes through [`super::escape`].

use super::block::{Block, Cell, Chapter, Table};
use super::document::{Cite, IncidentDocument, Written};
use super::escape::{line, markdown as esc, markdown_after as after, visible};
use super::{view, view_response};

/// `incident.md`.
pub fn incident(doc: &IncidentDocument, sha256: &str) -> String {
    let title = format!("Incident {}", doc.control.incident);
    page(doc, sha256, &title, &view::incident(doc))
}

/// `lessons.md`.
pub fn lessons(doc: &IncidentDocument, sha256: &str) -> String {
    let title = format!("Lessons learned from {}", doc.control.incident);
    page(doc, sha256, &title, &view_response::lessons(doc))
}

fn page(doc: &IncidentDocument, sha256: &str, title: &str, chapters: &[Chapter]) -> String {
    let c = &doc.control;
    let mut out = String::new();
    if doc.is_drill() {
        out.push_str("**DRILL — this is an exercise — DRILL**\n\n");
    }
    out.push_str(&format!("# {}\n\n", esc(title)));
    if let Some(name) = &c.title {
        out.push_str(&format!("**{}**\n\n", esc(name)));
    }
    let tlp = c.tlp.as_deref().unwrap_or("TLP unknown");
    out.push_str(&format!(
        "{} · {} · {} · as of {}\n\nDocument SHA-256 `{sha256}`\n",
        c.status.to_uppercase(),
        if doc.is_drill() { "DRILL" } else { "LIVE" },
        esc(tlp),
        c.as_of
    ));
    for chapter in chapters {
        out.push_str(&format!("\n## {}\n", after(&chapter.title)));
        for block in &chapter.blocks {
            out.push('\n');
            print(&mut out, block);
        }
    }
    out.push_str(&format!(
        "\n---\n\n{} · {} · document SHA-256 `{sha256}` · built by {}\n",
        c.incident, c.status, c.tool
    ));
    if doc.is_drill() {
        out.push_str("\n**DRILL — this is an exercise — DRILL**\n");
    }
    out
}

fn print(out: &mut String, block: &Block) {
    match block {
        Block::Heading(text) => out.push_str(&format!("### {}\n", after(text))),
        Block::Para(text) => out.push_str(&format!("{}\n", esc(text))),
        Block::Facts(facts) => {
            for (label, value) in facts {
                out.push_str(&format!("- {}: {}\n", esc(label), cell(value)));
            }
        }
        Block::Table(table) => print_table(out, table),
        Block::Written(written) => print_written(out, written),
        Block::Prompt(guidance) => {
            out.push_str(&format!("⟦to be written: {}⟧\n", esc(guidance)));
        }
        Block::Picture => {
            // Nothing but a blank line would stand here.
            out.pop();
        }
        Block::Command(text) => out.push_str(&format!("    {}\n", line(text))),
    }
}

fn print_table(out: &mut String, table: &Table) {
    out.push_str(&format!("*{}*\n\n", esc(&table.caption)));
    let row = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    out.push_str(&row(table.head.iter().map(|h| esc(h)).collect()));
    out.push_str(&row(table.head.iter().map(|_| "---".into()).collect()));
    for r in &table.rows {
        out.push_str(&row(r.cells.iter().map(cell).collect()));
    }
}

fn cell(value: &Cell) -> String {
    match value {
        Cell::Text(text) => esc(text),
        Cell::Code(text) => code(text),
        Cell::Time(text) => esc(text).replace("\\:", ":"),
        Cell::Mark(_, text) => format!("**{}**", esc(text)),
        Cell::Cites(cites) if cites.is_empty() => "–".into(),
        Cell::Cites(cites) => cites.iter().map(cite).collect::<Vec<_>>().join(", "),
        Cell::Many(cells) => cells.iter().map(cell).collect::<Vec<_>>().join("; "),
    }
}

/// A code span holds no escapes: what could end it or its table cell is replaced by a look-alike mark.
fn code(text: &str) -> String {
    let text = line(text).replace('`', "⟦U+0060⟧").replace('|', "⟦U+007C⟧");
    if text.trim().is_empty() {
        "–".into()
    } else {
        format!("`{text}`")
    }
}

/// `#12 sha256:0123456789abcdef`: sixteen digits find the entry, the JSON holds all of them.
fn cite(cite: &Cite) -> String {
    let short: String = cite.sha256.chars().take(16).collect();
    format!("#{} `{short}`", cite.seq)
}

/// A person's text: paragraphs and list items stay, everything else is plain text.
fn print_written(out: &mut String, written: &Written) {
    match &written.text {
        Some(text) => {
            for line in visible(text).lines() {
                let trimmed = line.trim();
                match trimmed.strip_prefix("- ") {
                    Some(item) => out.push_str(&format!("> - {}\n", esc(item))),
                    None if trimmed.is_empty() => out.push_str(">\n"),
                    None => out.push_str(&format!("> {}\n", esc(trimmed))),
                }
            }
        }
        None => out.push_str("> **the text with this digest is not there**\n"),
    }
    out.push_str(&format!(
        "\n— {}, {}, SHA-256 `{}`, entry {}\n",
        esc(&written.author),
        written.time,
        line(&written.sha256),
        cite(&written.cite)
    ));
}
