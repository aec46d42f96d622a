//! Names inside a bag: plain enough for every file system, `sha256sum -c` and RFC 8493 without escaping.

/// No path part is longer.
pub const PART_MAX: usize = 64;

/// No source name is longer: `acquisition/<source>.json` must fit a part too.
pub const SOURCE_MAX: usize = PART_MAX - ".json".len();

/// Why a path may not stand in a bag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A part is empty, too long, or has a byte that is not allowed.
    #[error("a part of the name is not of the allowed form")]
    Form,
    /// A part ends in a dot, which Windows drops.
    #[error("a part of the name ends in a dot")]
    TrailingDot,
    /// A part is a device on Windows.
    #[error("a part of the name is a Windows device")]
    Device,
}

/// Checks a path of a bag: parts of `data/` are lower case, others may be upper case.
pub fn check(path: &str) -> Result<(), PathError> {
    let in_data = path.starts_with("data/");
    path.split('/')
        .try_for_each(|part| check_part(part, in_data))
}

fn check_part(part: &str, in_data: bool) -> Result<(), PathError> {
    let letter = |b: u8| {
        b.is_ascii_lowercase() || b.is_ascii_digit() || (!in_data && b.is_ascii_uppercase())
    };
    let bytes = part.as_bytes();
    let form = bytes.len() <= PART_MAX
        && bytes.first().is_some_and(|b| letter(*b))
        && bytes
            .iter()
            .all(|b| letter(*b) || matches!(b, b'.' | b'_' | b'-'));
    match form {
        false => Err(PathError::Form),
        true if part.ends_with('.') => Err(PathError::TrailingDot),
        true if is_device(part) => Err(PathError::Device),
        true => Ok(()),
    }
}

/// Whether Windows takes the name for a device, with any ending.
fn is_device(part: &str) -> bool {
    let stem = part.split('.').next().unwrap_or(part).to_ascii_lowercase();
    let numbered = |prefix| {
        stem.strip_prefix(prefix)
            .is_some_and(|n: &str| n.len() == 1 && n != "0" && n.as_bytes()[0].is_ascii_digit())
    };
    matches!(stem.as_str(), "con" | "prn" | "aux" | "nul") || numbered("com") || numbered("lpt")
}

/// Returns the folder name for a source: its base name in lower case, other bytes than `[a-z0-9._-]` as `-`.
///
/// The real name belongs in the acquisition record.
pub fn source_name(raw: impl AsRef<[u8]>) -> String {
    let raw = raw.as_ref();
    let trimmed = raw.strip_suffix(b"/").unwrap_or(raw);
    let base = trimmed.rsplit(|b| *b == b'/').next().unwrap_or(trimmed);
    let mut name: String = base.iter().map(|b| char::from(plain(*b))).collect();
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || is_device(&name) {
        name.insert(0, 'x');
    }
    name.truncate(SOURCE_MAX);
    if name.ends_with('.') {
        name.pop();
        name.push('-');
    }
    name
}

fn plain(byte: u8) -> u8 {
    match byte.to_ascii_lowercase() {
        b @ (b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-') => b,
        _ => b'-',
    }
}

/// Returns `name`, or `name-2`, `name-3` … where it is taken.
pub fn free_name(name: &str, taken: impl Fn(&str) -> bool) -> String {
    if !taken(name) {
        return name.to_owned();
    }
    let numbered = (2u64..).map(|n| {
        let ending = format!("-{n}");
        format!(
            "{}{ending}",
            &name[..name.len().min(SOURCE_MAX - ending.len())]
        )
    });
    numbered
        .into_iter()
        .find(|name| !taken(name))
        .unwrap_or_else(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_plain() {
        for (raw, name) in [
            ("/var/log/auth.log", "auth.log"),
            ("Über Log", "--ber-log"),
            ("..", "x.-"),
            ("/etc/", "etc"),
            ("", "x"),
            ("CON", "xcon"),
            ("nul.txt", "xnul.txt"),
            ("com", "com"),
        ] {
            let expected = if raw == "Über Log" {
                "x--ber-log"
            } else {
                name
            };
            assert_eq!(source_name(raw), expected);
            assert_eq!(
                check(&format!("data/{}", source_name(raw))),
                Ok(()),
                "{raw}"
            );
        }
        assert_eq!(source_name("a".repeat(100)).len(), SOURCE_MAX);
    }

    #[test]
    fn a_clash_is_numbered_within_the_length() {
        let long = "a".repeat(SOURCE_MAX);
        let second = free_name(&long, |name| name == long);
        assert!(second.ends_with("a-2") && second.len() == SOURCE_MAX);
        assert_eq!(free_name("b", |name| ["b", "b-2"].contains(&name)), "b-3");
    }

    #[test]
    fn names_that_some_system_would_change_are_refused() {
        for bad in [
            "data/A",
            "data/a.",
            "data/con",
            "data/lpt1.log",
            "data/../x",
            "data//x",
            "data/-x",
            "data/a b",
            "",
            "/a",
            "x/a\n",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
        for good in [
            "data/auth.log/00000.log",
            "VERIFY.sh",
            "keys/log.pem",
            "data/com/lpt10",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }
}
