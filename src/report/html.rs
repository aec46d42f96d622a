//! One HTML file that needs no network: style and script are inside and named by their hashes in the Content-Security-Policy.
//!
//! It says what it is a view of and how to verify that, and never that it is genuine. With scripts off everything is there; the
//! script only changes the zone that times are shown in. `style` attributes would need a looser policy, so there are none.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::incident::clock_text::millis;
use crate::incident::{Entry, History, Lane, Milestone};

use super::block::{Block, Cell, Chapter, Row, Table, Tone};
use super::document::{Cite, IncidentDocument, Written};
use super::escape::{css_string, html as esc, json_in_html, visible};
use super::json::Canonical;
use super::{svg, view};

const STYLE: &str = include_str!("style.css");
/// Bytes that a page should not exceed.
const BUDGET: usize = 1_000_000;
const SCRIPT: &str = include_str!("script.js");

/// `incident.html`.
pub fn incident(doc: &IncidentDocument, canonical: &Canonical, history: &History) -> String {
    let chapters = view::incident(doc);
    let style = format!("{STYLE}{}", page_style(doc, &canonical.sha256));
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data:; base-uri 'none'; form-action 'none'",
        hash(SCRIPT),
        hash(&style)
    );
    let mut out = String::with_capacity(256 * 1024);
    out.push_str(&format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n<title>{} — {}</title>\n<style>{style}</style>\n</head>\n<body>\n",
        esc(&doc.control.incident),
        if doc.is_drill() { "DRILL" } else { "incident document" },
    ));
    out.push_str(&head(doc, &canonical.sha256, &chapters));
    out.push_str("<main>\n");
    for c in &chapters {
        out.push_str(&format!(
            "<section id=\"{}\" aria-labelledby=\"h-{}\">\n<h2 id=\"h-{}\">{}</h2>\n",
            c.key,
            c.key,
            c.key,
            esc(&c.title)
        ));
        for b in &c.blocks {
            out.push_str(&block(b, doc, c.key));
        }
        out.push_str("</section>\n");
    }
    out.push_str("</main>\n");
    let document = json_in_html(&String::from_utf8_lossy(&canonical.bytes));
    let room = BUDGET.saturating_sub(out.len() + document.len() + 8192);
    let entries = embedded(doc, history, room);
    out.push_str(&foot(doc, canonical, &document, &entries));
    out
}

/// The entries in the page: all while there is room, else those that are cited outside the timeline. Answers JSON and a sentence.
fn embedded(doc: &IncidentDocument, history: &History, room: usize) -> (String, String) {
    let all: Vec<_> = history.entries.iter().map(entry).collect();
    let json = json_in_html(&json!(all).to_string());
    if json.len() <= room {
        return (json, format!("All {} entries are embedded.", all.len()));
    }
    let bare = IncidentDocument {
        timeline: vec![],
        ..doc.clone()
    };
    let mut cited = BTreeSet::new();
    cites(&json!(bare), &mut cited);
    let some: Vec<_> = history
        .entries
        .iter()
        .filter(|e| cited.contains(&e.seq))
        .map(entry)
        .collect();
    let said = format!(
        "{} of {} entries are embedded: those cited outside the timeline.",
        some.len(),
        all.len()
    );
    (json_in_html(&json!(some).to_string()), said)
}

/// Every entry number that a value cites.
fn cites(value: &Value, found: &mut BTreeSet<u64>) {
    match value {
        Value::Array(items) => items.iter().for_each(|v| cites(v, found)),
        Value::Object(fields) => {
            found.extend(fields.get("seq").and_then(Value::as_u64));
            fields.values().for_each(|v| cites(v, found));
        }
        _ => {}
    }
}

fn hash(text: &str) -> String {
    STANDARD.encode(Sha256::digest(text.as_bytes()))
}

/// What stands on every printed page: incident, state and marking above, the digest and the page number below.
fn page_style(doc: &IncidentDocument, sha256: &str) -> String {
    let c = &doc.control;
    let mode = if doc.is_drill() { "DRILL" } else { "LIVE" };
    let tlp = css_string(c.tlp.as_deref().unwrap_or("TLP unknown"));
    format!(
        "@page {{ size: A4; margin: 18mm 14mm 18mm; @top-left {{ content: \"{} {mode}\"; font: 8pt sans-serif; }} \
         @top-center {{ content: \"{}\"; font: bold 9pt sans-serif; }} @top-right {{ content: \"{tlp}\"; font: 8pt sans-serif; }} \
         @bottom-left {{ content: \"SHA-256 {sha256}\"; font: 6.5pt monospace; }} \
         @bottom-right {{ content: \"page \" counter(page) \" of \" counter(pages); font: 8pt sans-serif; }} }}\n",
        css_string(&c.incident),
        css_string(&c.status.to_uppercase()),
    )
}

fn head(doc: &IncidentDocument, sha256: &str, chapters: &[Chapter]) -> String {
    let c = &doc.control;
    let mut out = String::from("<header>\n");
    if doc.is_drill() {
        out.push_str("<p class=\"drill\" role=\"note\">DRILL — this is an exercise — DRILL</p>\n");
    }
    out.push_str(&format!("<h1>Incident {}</h1>\n", esc(&c.incident)));
    if let Some(title) = &c.title {
        out.push_str(&format!("<p class=\"subtitle\">{}</p>\n", esc(title)));
    }
    let unknown = "unknown".to_owned();
    let severity = doc.classification.severity.as_ref().unwrap_or(&unknown);
    out.push_str(&format!(
        "<ul class=\"status\"><li><b class=\"mark open\">{}</b> not reviewed, version {}</li><li><b>{}</b></li><li><b>{}</b></li>\
         <li>severity <b>{}</b></li><li>as of {}</li><li>{} open points or contradictions</li></ul>\n",
        esc(&c.status.to_uppercase()),
        c.version,
        if doc.is_drill() { "DRILL" } else { "LIVE" },
        esc(c.tlp.as_ref().unwrap_or(&unknown)),
        esc(severity),
        time(&c.as_of),
        doc.findings.len(),
    ));
    out.push_str("<ol class=\"keybar\">");
    for m in [
        Milestone::Detected,
        Milestone::Declared,
        Milestone::Contained,
        Milestone::Restored,
        Milestone::Closed,
    ] {
        let at = doc.key_time(m).and_then(|k| k.at.as_deref());
        out.push_str(&format!(
            "<li><span>{m}</span>{}</li>",
            at.map_or_else(|| "unknown".to_owned(), time)
        ));
    }
    out.push_str(&format!(
        "</ol>\n<p>Document SHA-256 <code>{}</code></p>\n<p><button id=\"zone\" type=\"button\" aria-pressed=\"false\" hidden>Show times in my zone</button></p>\n",
        esc(sha256)
    ));
    out.push_str("<nav aria-label=\"Sections\"><ol>");
    for c in chapters {
        out.push_str(&format!(
            "<li><a href=\"#{}\">{}</a></li>",
            c.key,
            esc(&c.title)
        ));
    }
    out.push_str("</ol></nav>\n</header>\n");
    out
}

fn foot(
    doc: &IncidentDocument,
    canonical: &Canonical,
    document: &str,
    (entries, embedded): &(String, String),
) -> String {
    let c = &doc.control;
    let drill = if doc.is_drill() {
        "<p class=\"drill\">DRILL — this is an exercise — DRILL</p>\n"
    } else {
        ""
    };
    format!(
        "<footer>\n{drill}<p>{} · {} · document SHA-256 <code>{}</code> · built by {}. This page does not prove itself: section 17 says \
         how to verify. {}</p>\n</footer>\n<script type=\"application/json\" id=\"incident-json\">{}</script>\n\
         <script type=\"application/json\" id=\"entries-json\">{}</script>\n<script>{SCRIPT}</script>\n</body>\n</html>\n",
        esc(&c.incident),
        esc(&c.status),
        esc(&canonical.sha256),
        esc(&c.tool),
        esc(embedded),
        document,
        entries,
    )
}

/// An entry as it was read. The exact bytes that its digest covers stand in the ledger.
fn entry(e: &Entry) -> serde_json::Value {
    json!({
        "seq": e.seq, "time": millis(e.time), "kind": e.kind, "actor": e.actor, "target": e.target, "refs": e.refs,
        "body": e.body, "sha256": e.sha256, "writer": e.writer, "clock_back_ms": e.clock_back_ms,
    })
}

fn block(b: &Block, doc: &IncidentDocument, chapter: &str) -> String {
    match b {
        Block::Heading(text) => format!("<h3>{}</h3>\n", esc(text)),
        Block::Para(text) => format!("<p>{}</p>\n", esc(text)),
        Block::Facts(facts) => {
            let rows: String = facts
                .iter()
                .map(|(label, value)| format!("<dt>{}</dt><dd>{}</dd>", esc(label), cell(value)))
                .collect();
            format!("<dl class=\"facts\">{rows}</dl>\n")
        }
        Block::Table(t) => table(t, chapter == "timeline"),
        Block::Written(w) => written(w),
        Block::Prompt(text) => format!("<p class=\"prompt\">⟦to be written: {}⟧</p>\n", esc(text)),
        Block::Picture => svg::timeline(doc),
        Block::Command(text) => format!("<pre><code>{}</code></pre>\n", esc(text)),
    }
}

fn table(t: &Table, filtered: bool) -> String {
    let mut out = String::new();
    if filtered {
        out.push_str("<p class=\"legend\">Lanes shown:</p>\n");
        for lane in Lane::ALL {
            out.push_str(&format!(
                "<input class=\"filter\" type=\"checkbox\" id=\"f-{lane}\" checked><label for=\"f-{lane}\">{lane}</label>\n"
            ));
        }
    }
    let head: String = t
        .head
        .iter()
        .map(|h| format!("<th scope=\"col\">{}</th>", esc(h)))
        .collect();
    out.push_str(&format!(
        "<div class=\"scroll\" role=\"region\" aria-label=\"{0}\" tabindex=\"0\"><table><caption>{0}</caption><thead><tr>{head}</tr></thead><tbody>\n",
        esc(&t.caption)
    ));
    for r in &t.rows {
        out.push_str(&row(r));
    }
    out.push_str("</tbody></table></div>\n");
    out
}

fn row(r: &Row) -> String {
    let mut cells: String = r
        .cells
        .iter()
        .map(|c| format!("<td>{}</td>", cell(c)))
        .collect();
    let mut own = String::new();
    // A line of the timeline is where every proof link leads: it holds the whole digest.
    if let (Some(lane), Some(Cell::Cites(cites))) = (r.lane, r.cells.last())
        && let [proof] = cites.as_slice()
    {
        own = format!(" id=\"e-{}\" data-lane=\"{lane}\"", proof.seq);
        let link = format!("<td>{}</td>", cell(&Cell::Cites(cites.clone())));
        cells.truncate(cells.len() - link.len());
        cells.push_str(&format!(
            "<td class=\"proof\">#{} <code>{}</code></td>",
            proof.seq,
            esc(&proof.sha256)
        ));
    }
    format!("<tr{own}>{cells}</tr>\n")
}

fn cell(c: &Cell) -> String {
    match c {
        Cell::Text(text) => esc(text),
        Cell::Code(text) => format!("<code>{}</code>", esc(text)),
        Cell::Time(text) => time(text),
        Cell::Mark(tone, text) => {
            let class = match tone {
                Tone::Good => "good",
                Tone::Bad => "bad",
                Tone::Open => "open",
            };
            format!("<span class=\"mark {class}\">{}</span>", esc(text))
        }
        Cell::Cites(cites) if cites.is_empty() => "–".into(),
        Cell::Cites(cites) => cites.iter().map(cite).collect::<Vec<_>>().join(", "),
        Cell::Many(cells) => cells
            .iter()
            .map(|c| format!("<div>{}</div>", cell(c)))
            .collect(),
    }
}

/// A link to the line of the timeline, where the whole digest stands.
fn cite(c: &Cite) -> String {
    let short: String = c.sha256.chars().take(16).collect();
    format!(
        "<a href=\"#e-{0}\">#{0} <code>{1}</code></a>",
        c.seq,
        esc(&short)
    )
}

fn time(text: &str) -> String {
    let shown = text.replacen('T', " ", 1).replace('Z', " UTC");
    format!("<time datetime=\"{}\">{}</time>", esc(text), esc(&shown))
}

/// A person's text: paragraphs and list items stay, everything else is plain text.
fn written(w: &Written) -> String {
    let mut out = String::from("<blockquote>\n");
    let mut in_list = false;
    let text = w.text.as_deref().map(visible);
    for line in text.iter().flat_map(|t| t.lines()).map(str::trim) {
        let item = line.strip_prefix("- ");
        if item.is_some() != in_list {
            out.push_str(if in_list { "</ul>\n" } else { "<ul>\n" });
            in_list = !in_list;
        }
        match item {
            Some(item) => out.push_str(&format!("<li>{}</li>\n", esc(item))),
            None if line.is_empty() => {}
            None => out.push_str(&format!("<p>{}</p>\n", esc(line))),
        }
    }
    if in_list {
        out.push_str("</ul>\n");
    }
    if text.is_none() {
        out.push_str(
            "<p><span class=\"mark bad\">the text with this digest is not there</span></p>\n",
        );
    }
    out.push_str(&format!(
        "</blockquote>\n<p class=\"by\">— {}, {}, SHA-256 <code>{}</code>, entry {}</p>\n",
        esc(&w.author),
        time(&w.time),
        esc(&w.sha256),
        cite(&w.cite)
    ));
    out
}
