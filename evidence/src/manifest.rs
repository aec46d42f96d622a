//! BagIt manifests and tag files (RFC 8493), in the one form that `sha256sum -c` reads without escaping.

use crate::encoding::{Hash, hex, unhex};

/// Hashes of everything below `data/`.
pub const MANIFEST: &str = "manifest-sha256.txt";
/// Hashes of everything outside `data/ seal/ custody/ forms/`, except itself.
pub const TAG_MANIFEST: &str = "tagmanifest-sha256.txt";
/// The declaration that a folder is a bag.
pub const BAGIT: &str = "bagit.txt";
/// Facts about the bag.
pub const BAG_INFO: &str = "bag-info.txt";
/// What [`BAGIT`] says, exactly.
pub const BAGIT_TEXT: &str = "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n";
/// The version of this format.
pub const PROFILE: &str = "v1";

/// One line of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestLine {
    /// SHA-256 of the file.
    pub hash: Hash,
    /// Its path in the bag.
    pub path: String,
}

/// Returns the manifest: sorted by path bytes.
pub fn to_text(mut lines: Vec<ManifestLine>) -> String {
    lines.sort_by(|a, b| a.path.cmp(&b.path));
    lines
        .iter()
        .map(|line| format!("{}  {}\n", hex(&line.hash), line.path))
        .collect()
}

/// Reads a manifest. A line that is not in its form is returned by its number, counted from 1.
pub fn parse(bytes: &[u8]) -> (Vec<ManifestLine>, Vec<usize>) {
    let (mut lines, mut bad) = (Vec::new(), Vec::new());
    let ends = bytes.is_empty() || bytes.ends_with(b"\n");
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    for (i, line) in body
        .split(|b| *b == b'\n')
        .enumerate()
        .filter(|_| !bytes.is_empty())
    {
        match parse_line(line) {
            Some(line) => lines.push(line),
            None => bad.push(i + 1),
        }
    }
    if !ends {
        bad.push(lines.len() + bad.len());
    }
    (lines, bad)
}

fn parse_line(line: &[u8]) -> Option<ManifestLine> {
    let (hash, path) = std::str::from_utf8(line).ok()?.split_once("  ")?;
    crate::path::check(path).ok()?;
    Some(ManifestLine {
        hash: unhex(hash)?,
        path: path.to_owned(),
    })
}

/// What `bag-info.txt` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BagInfo {
    /// Day of sealing, by the host's claim.
    pub bagging_date: String,
    /// Incident and number, as in `INC-2031_0007`.
    pub external_identifier: String,
    /// The incident.
    pub group: String,
    /// Payload bytes.
    pub bytes: u64,
    /// Payload files.
    pub files: u64,
    /// Version of this format.
    pub profile: String,
}

impl BagInfo {
    /// Returns the bytes to store.
    pub fn to_text(&self) -> String {
        let Self {
            bagging_date,
            external_identifier,
            group,
            bytes,
            files,
            profile,
        } = self;
        format!(
            "Bagging-Date: {bagging_date}\nExternal-Identifier: {external_identifier}\nBag-Group-Identifier: {group}\n\
             Payload-Oxum: {bytes}.{files}\nFirebreak-Profile: {profile}\n"
        )
    }

    /// Reads the stored bytes; only the exact order and spelling is accepted.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut lines = std::str::from_utf8(bytes).ok()?.split('\n');
        let mut field = |name: &str| {
            lines
                .next()?
                .strip_prefix(name)?
                .strip_prefix(": ")
                .map(str::to_owned)
        };
        let (bagging_date, external_identifier, group) = (
            field("Bagging-Date")?,
            field("External-Identifier")?,
            field("Bag-Group-Identifier")?,
        );
        let oxum = field("Payload-Oxum")?;
        let (bytes_, files) = oxum.split_once('.')?;
        let profile = field("Firebreak-Profile")?;
        let (bytes_, files) = (
            crate::encoding::decimal(bytes_)?,
            crate::encoding::decimal(files)?,
        );
        let end = lines.next() == Some("") && lines.next().is_none();
        end.then_some(Self {
            bagging_date,
            external_identifier,
            group,
            bytes: bytes_,
            files,
            profile,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_are_sorted_and_read_back() {
        let line = |path: &str| ManifestLine {
            hash: [7; 32],
            path: path.to_owned(),
        };
        let text = to_text(vec![line("data/b"), line("data/a")]);
        assert_eq!(
            parse(text.as_bytes()),
            (vec![line("data/a"), line("data/b")], vec![])
        );
        for bad in [
            text.replace("07", "0A"),
            text.replace("  ", " "),
            text.replace("data/a", "data/../a"),
            text.replace('\n', "\r\n"),
        ] {
            assert!(!parse(bad.as_bytes()).1.is_empty(), "{bad}");
        }
        assert!(
            !parse(text.trim_end().as_bytes()).1.is_empty(),
            "a manifest ends in LF"
        );
    }

    #[test]
    fn bag_info_has_one_spelling() {
        let info = BagInfo {
            bagging_date: "2026-08-22".to_owned(),
            external_identifier: "INC-2031_0007".to_owned(),
            group: "INC-2031".to_owned(),
            bytes: 16,
            files: 1,
            profile: PROFILE.to_owned(),
        };
        let text = info.to_text();
        assert_eq!(BagInfo::parse(text.as_bytes()), Some(info));
        assert_eq!(BagInfo::parse(format!("{text}More: 1\n").as_bytes()), None);
        assert_eq!(
            BagInfo::parse(text.replace("16.1", "016.1").as_bytes()),
            None
        );
    }
}
