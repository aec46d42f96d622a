//! The picture of the timeline: five lanes, one mark per entry, one line per milestone. Its text form is the table below it.
//!
//! Drawn with integers, so that no rounding differs between machines.

use chrono::{DateTime, Utc};

use crate::incident::Lane;

use super::document::{IncidentDocument, Line};
use super::escape::html;
use super::times::moment;

const LEFT: i64 = 92;
const WIDTH: i64 = 880;
const LANE_HEIGHT: i64 = 34;
const LEVELS: usize = 6;
const TOP: i64 = 130;

/// The picture as one `svg` element.
pub(super) fn timeline(doc: &IncidentDocument) -> String {
    let times: Vec<(DateTime<Utc>, &Line)> = doc
        .timeline
        .iter()
        .filter_map(|l| Some((moment(&l.recorded)?, l)))
        .collect();
    let marks: Vec<(DateTime<Utc>, String)> = doc
        .key_times
        .iter()
        .filter_map(|k| {
            let tier = k.tier.map(|t| format!(" (tier {t})")).unwrap_or_default();
            Some((k.moment()?, format!("{}{tier}", k.milestone)))
        })
        .collect();
    let all = || times.iter().map(|t| t.0).chain(marks.iter().map(|m| m.0));
    let (Some(first), Some(last)) = (all().min(), all().max()) else {
        return String::new();
    };
    let scale = Scale { first, last };
    let bottom = TOP + LANE_HEIGHT * count(Lane::ALL);
    let mut svg = format!(
        "<svg class=\"lanes\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"Timeline in five lanes; its text form is the table below\">",
        LEFT + WIDTH + 28,
        bottom + 34
    );
    for (i, lane) in Lane::ALL.iter().enumerate() {
        let y = TOP + LANE_HEIGHT * i64::try_from(i).unwrap_or(0);
        svg.push_str(&lane_row(*lane, y));
        svg.push_str(&dots(*lane, y + LANE_HEIGHT / 2, &times, &scale));
    }
    svg.push_str(&milestones(&marks, &scale, bottom));
    svg.push_str(&format!(
        "<text class=\"axis\" x=\"{LEFT}\" y=\"{y}\">{}</text><text class=\"axis\" x=\"{}\" y=\"{y}\" text-anchor=\"end\">{}</text></svg>",
        first.format("%Y-%m-%d %H:%M:%S UTC"),
        LEFT + WIDTH,
        last.format("%Y-%m-%d %H:%M:%S UTC"),
        y = bottom + 22,
    ));
    svg
}

fn count<T>(items: &[T]) -> i64 {
    i64::try_from(items.len()).unwrap_or(0)
}

struct Scale {
    first: DateTime<Utc>,
    last: DateTime<Utc>,
}

impl Scale {
    /// Where an instant stands.
    fn x(&self, at: DateTime<Utc>) -> i64 {
        let whole = (self.last - self.first).num_milliseconds().max(1);
        let part = (at - self.first).num_milliseconds();
        let x = i128::from(part) * i128::from(WIDTH) / i128::from(whole);
        LEFT + i64::try_from(x).unwrap_or(0)
    }
}

fn lane_row(lane: Lane, y: i64) -> String {
    format!(
        "<rect class=\"lane\" x=\"{LEFT}\" y=\"{}\" width=\"{WIDTH}\" height=\"{}\"/><text class=\"name\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{lane}</text>",
        y + 3,
        LANE_HEIGHT - 6,
        LEFT - 12,
        y + LANE_HEIGHT / 2 + 4
    )
}

/// Entries at the same place become one mark with their number, so that hundreds of entries stay small.
fn dots(lane: Lane, y: i64, times: &[(DateTime<Utc>, &Line)], scale: &Scale) -> String {
    let mut places: Vec<(i64, Vec<&Line>)> = Vec::new();
    let mut sorted: Vec<_> = times.iter().filter(|(_, l)| l.lane == lane).collect();
    sorted.sort_by_key(|(at, l)| (*at, l.cite.seq));
    for (at, line) in sorted {
        let x = scale.x(*at);
        match places.last_mut() {
            Some((place, lines)) if x - *place < 7 => lines.push(line),
            _ => places.push((x, vec![line])),
        }
    }
    let mut out = String::new();
    for (x, lines) in places {
        let r = match lines.len() {
            1 => 3,
            2..=9 => 4,
            10..=49 => 6,
            _ => 8,
        };
        let first = lines[0];
        let title = if lines.len() == 1 {
            short(&first.what)
        } else {
            format!("{} entries from: {}", lines.len(), short(&first.what))
        };
        out.push_str(&format!(
            "<a href=\"#e-{}\"><circle class=\"l-{lane}\" cx=\"{x}\" cy=\"{y}\" r=\"{r}\"><title>{}</title></circle></a>",
            first.cite.seq,
            html(&title)
        ));
    }
    out
}

fn short(text: &str) -> String {
    let cut: String = text.chars().take(120).collect();
    if cut.len() < text.len() {
        format!("{cut}…")
    } else {
        cut
    }
}

/// Names are set on several levels, so that neighbours do not cover each other.
fn milestones(marks: &[(DateTime<Utc>, String)], scale: &Scale, bottom: i64) -> String {
    let mut sorted: Vec<&(DateTime<Utc>, String)> = marks.iter().collect();
    sorted.sort_by_key(|m| m.0);
    // Milestones at one place share a line and a label.
    let mut groups: Vec<(i64, String)> = Vec::new();
    for (at, name) in sorted {
        let x = scale.x(*at);
        match groups.last_mut() {
            Some((place, names)) if x - *place < 3 => {
                names.push_str(", ");
                names.push_str(name);
            }
            _ => groups.push((x, name.clone())),
        }
    }
    let mut taken: [Vec<(i64, i64)>; LEVELS] = Default::default();
    let mut out = String::new();
    for (x, name) in groups {
        let width = 7 * i64::try_from(name.chars().count()).unwrap_or(0) + 10;
        let right = x + width > LEFT + WIDTH + 20;
        let begin = if right { x - width } else { x };
        let end = begin + width;
        let free = |spans: &Vec<(i64, i64)>| spans.iter().all(|(b, e)| end <= *b || *e <= begin);
        let level = taken.iter().position(free).unwrap_or(LEVELS - 1);
        taken[level].push((begin, end));
        let y = 20 + 19 * i64::try_from(level).unwrap_or(0);
        let (anchor, dx) = if right { ("end", -4) } else { ("start", 4) };
        out.push_str(&format!(
            "<line class=\"stone\" x1=\"{x}\" y1=\"{}\" x2=\"{x}\" y2=\"{bottom}\"/><text class=\"stone\" x=\"{}\" y=\"{y}\" text-anchor=\"{anchor}\">{}</text>",
            y - 12,
            x + dx,
            html(&name)
        ));
    }
    out
}
