//! `tlog/map.tsv`: which leaves belong to which segment.

use crate::encoding::{decimal, hex, unhex};
use crate::record::Mode;

/// Where it stands in a bag.
pub const MAP: &str = "tlog/map.tsv";
const HEAD: &str = "# firebreak map v1 nonce ";

/// One segment in leaf order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapLine {
    /// Index of its first record.
    pub first_leaf: u64,
    /// How many records it has.
    pub count: u64,
    /// How it is cut.
    pub mode: Mode,
    /// Its path, below `data/`.
    pub path: String,
}

/// The whole map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    /// Random bytes: they blind the hash in the public seal.
    pub nonce: [u8; 16],
    /// Segments in leaf order.
    pub segments: Vec<MapLine>,
}

/// Why a map cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// Another version.
    #[error("the map is of an unknown version")]
    Version,
    /// A line is not in its form.
    #[error("line {0} of the map is not in its form")]
    Line(usize),
}

impl Map {
    /// Returns the bytes to store.
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEAD}{}\n", hex(&self.nonce));
        for MapLine {
            first_leaf,
            count,
            mode,
            path,
        } in &self.segments
        {
            text.push_str(&format!("{first_leaf}\t{count}\t{}\t{path}\n", mode.word()));
        }
        text
    }

    /// Reads the stored bytes. Whether the ranges join is for the verifier to say.
    pub fn parse(bytes: &[u8]) -> Result<Self, MapError> {
        let text = std::str::from_utf8(bytes)
            .ok()
            .and_then(|text| text.strip_suffix('\n'));
        let mut lines = text.ok_or(MapError::Line(0))?.split('\n');
        let head = lines
            .next()
            .and_then(|line| line.strip_prefix(HEAD))
            .ok_or(MapError::Version)?;
        let nonce = unhex(head).ok_or(MapError::Line(1))?;
        let segments = lines
            .enumerate()
            .map(|(i, line)| parse_line(line).ok_or(MapError::Line(i + 2)));
        Ok(Self {
            nonce,
            segments: segments.collect::<Result<_, _>>()?,
        })
    }
}

fn parse_line(line: &str) -> Option<MapLine> {
    let mut fields = line.split('\t');
    let mut next = || fields.next();
    let (first_leaf, count) = (decimal(next()?)?, decimal(next()?)?);
    let (mode, path) = (Mode::from_word(next()?)?, next()?.to_owned());
    let good = next().is_none() && path.starts_with("data/") && crate::path::check(&path).is_ok();
    good.then_some(MapLine {
        first_leaf,
        count,
        mode,
        path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_reads_back_and_other_forms_do_not() {
        let segments = vec![MapLine {
            first_leaf: 0,
            count: 3,
            mode: Mode::Line,
            path: "data/a/00000.log".to_owned(),
        }];
        let map = Map {
            nonce: [1; 16],
            segments,
        };
        let text = map.to_text();
        assert_eq!(Map::parse(text.as_bytes()), Ok(map));
        for bad in [
            text.replace("0\t3", "00\t3"),
            text.replace("data/", "dato/"),
            text.replace("line", "LINE"),
            text.replace("\n0", "\n\n0"),
            text.trim_end().to_owned(),
            format!("{text}x\n"),
            text.replace("v1", "v2"),
        ] {
            assert!(Map::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
