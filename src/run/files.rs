//! `evidence.files` of a `run:` step: which files of this host a pattern means. `*` and `?` stand for characters of one name, never for
//! a slash; a value that `${x}` fills in is taken as it is, whatever characters it holds.

use std::path::{Path, PathBuf};

use regex::Regex;

use crate::playbook::fill::{FillError, Piece, fill_text, pieces};
use crate::playbook::variable::Vars;

/// Most files that one pattern may mean: a bag lists each of them.
const MOST: usize = 1000;

/// A pattern with its values.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    /// As its author wrote it.
    pub(super) text: String,
    parts: Vec<Part>,
}

/// One name of the path.
#[derive(Debug, Clone)]
enum Part {
    Exactly(String),
    Fits(Regex),
}

impl Pattern {
    /// Fills a pattern in.
    ///
    /// # Errors
    /// When a value is not known, is secret, or the pattern cannot be read.
    pub(super) fn of(text: &str, vars: &Vars) -> Result<Pattern, FillError> {
        let parts = text.split('/').map(|name| part(name, vars));
        Ok(Pattern {
            text: text.to_owned(),
            parts: parts.collect::<Result<_, _>>()?,
        })
    }

    /// Files and folders that it means now, in order of their names.
    ///
    /// # Errors
    /// When a folder on the way cannot be read, or it means more than a bag should list.
    pub(super) fn matching(&self) -> Result<Vec<PathBuf>, String> {
        let mut found = vec![PathBuf::new()];
        for (n, part) in self.parts.iter().enumerate() {
            let mut next = Vec::new();
            for base in &found {
                match part {
                    // An empty first name is the root.
                    Part::Exactly(name) if name.is_empty() && n == 0 => next.push("/".into()),
                    Part::Exactly(name) => next.push(base.join(name)),
                    Part::Fits(regex) => next.extend(within(base, regex)?),
                }
            }
            if next.len() > MOST {
                return Err(format!("`{}` fits more than {MOST} files", self.text));
            }
            found = next;
        }
        found.retain(|p| p.symlink_metadata().is_ok());
        Ok(found)
    }
}

fn part(name: &str, vars: &Vars) -> Result<Part, FillError> {
    if !name.contains(['*', '?']) {
        return fill_text(name, vars).map(Part::Exactly);
    }
    let mut regex = String::from("^");
    for piece in pieces(name)? {
        match piece {
            Piece::Text(text) => text.chars().for_each(|c| match c {
                '*' => regex.push_str(".*"),
                '?' => regex.push('.'),
                c => regex.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
            }),
            Piece::Name(name) => {
                let value = fill_text(&format!("${{{name}}}"), vars)?;
                regex.push_str(&regex::escape(&value));
            }
        }
    }
    regex.push('$');
    Regex::new(&format!("(?s){regex}"))
        .map(Part::Fits)
        .map_err(|e| FillError::Malformed(e.to_string()))
}

/// Names in a folder that fit. A hidden one fits only a pattern that begins with a dot, as in every shell.
fn within(folder: &Path, regex: &Regex) -> Result<Vec<PathBuf>, String> {
    let place = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let hidden = regex.as_str().starts_with("(?s)^\\.");
    let entries = match std::fs::read_dir(place) {
        Ok(entries) => entries,
        // What is not there, or is no folder, holds nothing that fits.
        Err(e)
            if matches!(
                e.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(Vec::new());
        }
        Err(e) => return Err(format!("cannot read the folder `{}`: {e}", place.display())),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry =
            entry.map_err(|e| format!("cannot read the folder `{}`: {e}", place.display()))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if regex.is_match(&name) && (hidden || !name.starts_with('.')) {
            found.push(folder.join(entry.file_name()));
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path, pattern: &str) -> Vec<String> {
        let text = format!("{}/{pattern}", folder.display());
        let pattern = Pattern::of(&text, &Vars::default()).expect("a pattern");
        let found = pattern.matching().expect("it can be read");
        found
            .iter()
            .map(|p| {
                p.strip_prefix(folder)
                    .expect("inside")
                    .display()
                    .to_string()
            })
            .collect()
    }

    #[test]
    fn a_pattern_means_names_of_one_folder_and_no_hidden_ones() {
        let place = std::env::temp_dir().join(format!("firebreak-files-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&place);
        let put = |name: &str| std::fs::write(place.join(name), name).expect("written");
        std::fs::create_dir_all(place.join("sub")).expect("made");
        for name in ["a.log", "b.log", "c.txt", ".d.log", "sub/e.log", "[x].log"] {
            put(name);
        }
        assert_eq!(names(&place, "*.log"), ["[x].log", "a.log", "b.log"]);
        assert_eq!(names(&place, "?.log"), ["a.log", "b.log"]);
        assert_eq!(names(&place, ".*.log"), [".d.log"]);
        assert_eq!(names(&place, "*/e.log"), ["sub/e.log"]);
        assert_eq!(names(&place, "[x].log"), ["[x].log"]);
        assert!(names(&place, "none*").is_empty() && names(&place, "none").is_empty());
        std::fs::remove_dir_all(&place).expect("removed");
    }
}
