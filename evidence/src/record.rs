//! What a record is: one line, or one piece of at most 1 MiB (specification, part 5).

use serde::{Deserialize, Serialize};

/// No record is longer.
pub const RECORD_MAX: usize = 1_048_576;
/// No segment is longer.
pub const SEGMENT_MAX: u64 = 268_435_456;
/// A source whose first bytes, this many, hold a NUL byte is cut in pieces and not in lines.
pub const DETECT_BYTES: usize = 8 * 1024;

/// How a file is cut into records. In both modes the records concatenated are the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// A record ends with and including the next LF, or after 1,048,576 bytes.
    Line,
    /// A record is 1,048,576 bytes; the last one may be shorter.
    Chunk,
}

impl Mode {
    /// Returns the mode for a source that begins with these bytes (8 KiB of them are looked at).
    pub fn detect(beginning: &[u8]) -> Self {
        let looked_at = &beginning[..beginning.len().min(DETECT_BYTES)];
        if memchr::memchr(0, looked_at).is_some() {
            Self::Chunk
        } else {
            Self::Line
        }
    }

    /// Returns the word that `map.tsv` uses.
    pub fn word(self) -> &'static str {
        match self {
            Self::Line => "line",
            Self::Chunk => "chunk",
        }
    }

    /// Reads the word that `map.tsv` uses.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Line, Self::Chunk]
            .into_iter()
            .find(|mode| mode.word() == word)
    }

    /// Returns the ending of a segment's name.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Line => "log",
            Self::Chunk => "bin",
        }
    }
}

/// Whether more bytes of the file follow those at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum More {
    /// They may.
    Follows,
    /// These are the last ones.
    Ended,
}

/// Calls `record(start, end)` for each record that is complete in `buf` and returns where the rest begins.
///
/// `buf` begins at a record. The rest is shorter than [`RECORD_MAX`], and empty at the end of the file.
pub fn split(mode: Mode, buf: &[u8], more: More, mut record: impl FnMut(usize, usize)) -> usize {
    let mut start = 0;
    let cut_until = |start: &mut usize, end: usize, record: &mut dyn FnMut(usize, usize)| {
        while end - *start > RECORD_MAX {
            record(*start, *start + RECORD_MAX);
            *start += RECORD_MAX;
        }
    };
    if mode == Mode::Line {
        for lf in memchr::memchr_iter(b'\n', buf) {
            cut_until(&mut start, lf + 1, &mut record);
            record(start, lf + 1);
            start = lf + 1;
        }
    }
    cut_until(&mut start, buf.len(), &mut record);
    let rest = buf.len() - start;
    if rest == RECORD_MAX || (rest > 0 && more == More::Ended) {
        record(start, buf.len());
        start = buf.len();
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small deterministic generator (xorshift64*): tests must not depend on luck.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
        }
    }

    /// The definition, read literally: the slow twin of `split`.
    fn by_definition(mode: Mode, file: &[u8]) -> Vec<(usize, usize)> {
        let (mut p, mut records) = (0, Vec::new());
        while p < file.len() {
            let window = &file[p..file.len().min(p + RECORD_MAX)];
            let lf = window
                .iter()
                .position(|b| *b == b'\n')
                .filter(|_| mode == Mode::Line);
            let end = p + lf.map_or(window.len(), |at| at + 1);
            records.push((p, end));
            p = end;
        }
        records
    }

    /// Feeds the file in pieces, as a writer does.
    fn in_pieces(mode: Mode, file: &[u8], mut piece: impl FnMut() -> usize) -> Vec<(usize, usize)> {
        let (mut buf, mut base, mut at, mut records) = (Vec::new(), 0, 0, Vec::new());
        loop {
            let end = file.len().min(at + piece());
            buf.extend_from_slice(&file[at..end]);
            at = end;
            let more = if at == file.len() {
                More::Ended
            } else {
                More::Follows
            };
            let rest = split(mode, &buf, more, |a, b| records.push((base + a, base + b)));
            buf.drain(..rest);
            base += rest;
            assert!(buf.len() < RECORD_MAX);
            if at == file.len() {
                return records;
            }
        }
    }

    #[test]
    fn records_in_any_pieces_are_those_of_the_definition_around_one_mebibyte() {
        for len in [
            0,
            1,
            RECORD_MAX - 1,
            RECORD_MAX,
            RECORD_MAX + 1,
            2 * RECORD_MAX,
            2 * RECORD_MAX + 5,
        ] {
            for lf in [
                None,
                Some(0),
                Some(RECORD_MAX - 2),
                Some(RECORD_MAX - 1),
                Some(RECORD_MAX),
                Some(RECORD_MAX + 1),
            ] {
                let mut file = vec![b'x'; len];
                if let Some(at) = lf.filter(|at| *at < len) {
                    file[at] = b'\n';
                }
                for mode in [Mode::Line, Mode::Chunk] {
                    let expected = by_definition(mode, &file);
                    for size in [RECORD_MAX - 1, RECORD_MAX, RECORD_MAX + 1, 3 * RECORD_MAX] {
                        assert_eq!(
                            in_pieces(mode, &file, || size),
                            expected,
                            "{len} {lf:?} {mode:?} {size}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn records_concatenated_are_the_file_for_random_bytes_and_pieces() {
        let mut random = Random(42);
        for round in 0..20 {
            let len = (random.next() % 3_000_000) as usize;
            let rare = 1 << (round + 4);
            let file: Vec<u8> = (0..len)
                .map(|_| {
                    if random.next().is_multiple_of(rare) {
                        b'\n'
                    } else {
                        b'a'
                    }
                })
                .collect();
            for mode in [Mode::Line, Mode::Chunk] {
                let records = in_pieces(mode, &file, || (random.next() % 700_000) as usize + 1);
                assert_eq!(records, by_definition(mode, &file), "round {round}");
                let joined: Vec<u8> = records
                    .iter()
                    .flat_map(|(a, b)| file[*a..*b].to_vec())
                    .collect();
                assert!(joined == file, "round {round}");
            }
        }
    }

    #[test]
    fn a_nul_byte_in_the_first_eight_kibibytes_makes_pieces() {
        assert_eq!(Mode::detect(b"plain\n"), Mode::Line);
        assert_eq!(Mode::detect(b"\x7fELF\0"), Mode::Chunk);
        let mut late = vec![b'a'; DETECT_BYTES];
        late.push(0);
        assert_eq!(Mode::detect(&late), Mode::Line);
    }
}
