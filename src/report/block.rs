//! What a page is made of: the blocks that Markdown and HTML both print. A fact that stands in one stands in the other, because
//! neither knows the document's sections: they know only blocks.

use crate::incident::Lane;

use super::document::{Cite, Written};

/// How a word is set apart. It is never told by colour alone: the word itself says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Bad,
    Open,
}

/// One value. Texts are raw: the format escapes them.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Text(String),
    /// Ids and digests, to be copied.
    Code(String),
    /// RFC 3339 in UTC.
    Time(String),
    Mark(Tone, String),
    Cites(Vec<Cite>),
    /// Several values, one below the other.
    Many(Vec<Cell>),
}

impl Cell {
    pub(super) fn text(text: impl Into<String>) -> Cell {
        Cell::Text(text.into())
    }
    pub(super) fn time(time: &Option<String>) -> Cell {
        match time {
            Some(t) => Cell::Time(t.clone()),
            None => Cell::Mark(Tone::Open, "unknown".into()),
        }
    }
    /// A value that may be missing.
    pub(super) fn or_unknown(text: &Option<String>) -> Cell {
        match text {
            Some(t) => Cell::Text(t.clone()),
            None => Cell::Mark(Tone::Open, "unknown".into()),
        }
    }
    pub(super) fn cite(cite: &Option<Cite>) -> Cell {
        Cell::Cites(cite.iter().cloned().collect())
    }
    pub(super) fn none() -> Cell {
        Cell::Text("–".into())
    }
}

/// One row; the lane is for filters.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) lane: Option<Lane>,
    pub(super) cells: Vec<Cell>,
}

impl From<Vec<Cell>> for Row {
    fn from(cells: Vec<Cell>) -> Row {
        Row { lane: None, cells }
    }
}

/// A table with a caption.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Table {
    pub(super) caption: String,
    pub(super) head: Vec<&'static str>,
    pub(super) rows: Vec<Row>,
}

/// One block.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Block {
    Heading(String),
    Para(String),
    Facts(Vec<(&'static str, Cell)>),
    Table(Table),
    Written(Written),
    Prompt(String),
    /// The picture of the timeline: HTML only, its text form is the table that follows.
    Picture,
    /// A command to type.
    Command(String),
}

/// A section with its blocks.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Chapter {
    pub(super) key: &'static str,
    pub(super) title: String,
    pub(super) blocks: Vec<Block>,
}

/// A table, or one line that says that there is nothing.
pub(super) fn table_or(
    nothing: &str,
    caption: impl Into<String>,
    head: &[&'static str],
    rows: Vec<Row>,
) -> Block {
    if rows.is_empty() {
        Block::Para(nothing.into())
    } else {
        Block::Table(Table {
            caption: caption.into(),
            head: head.to_vec(),
            rows,
        })
    }
}
