//! Where firebreak keeps things on this host (first-use: "Places").

use std::fs;
use std::path::{Path, PathBuf};

use crate::incident::IncidentId;

/// The places of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Incident folders stand in here.
    pub root: PathBuf,
    /// The configuration file, which need not exist.
    pub config: PathBuf,
}

/// Why there is no place.
#[derive(Debug, thiserror::Error)]
pub enum PlacesError {
    /// Neither `FIREBREAK_HOME` nor `HOME` is set.
    #[error("neither FIREBREAK_HOME, XDG_DATA_HOME nor HOME is set")]
    NoHome,
    /// The root could not be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// Which folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Places {
    /// The places named by the environment.
    ///
    /// # Errors
    /// When the environment names no home.
    pub fn from_env() -> Result<Self, PlacesError> {
        Self::of(|name| {
            std::env::var_os(name)
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
        })
    }

    fn of(var: impl Fn(&str) -> Option<PathBuf>) -> Result<Self, PlacesError> {
        let home = var("HOME");
        let data = var("XDG_DATA_HOME").or_else(|| home.as_ref().map(|h| h.join(".local/share")));
        let root = var("FIREBREAK_HOME")
            .or_else(|| data.map(|d| d.join("firebreak")))
            .ok_or(PlacesError::NoHome)?;
        let config = var("XDG_CONFIG_HOME").or_else(|| home.map(|h| h.join(".config")));
        // Without a home there is no user configuration: one beside the data is looked for, so that nothing else is read by accident.
        let config = config.map_or_else(
            || root.join("config.yaml"),
            |c| c.join("firebreak/config.yaml"),
        );
        Ok(Places { root, config })
    }

    /// The folder of an incident.
    pub fn incident(&self, id: &IncidentId) -> PathBuf {
        self.root.join(id.as_str())
    }

    /// Ids of all incidents that have a ledger here, sorted.
    ///
    /// # Errors
    /// When the root is there and cannot be read.
    pub fn incidents(&self) -> Result<Vec<IncidentId>, PlacesError> {
        let entries = match fs::read_dir(&self.root) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|source| PlacesError::Read {
                path: self.root.clone(),
                source,
            })?,
        };
        let has_ledger = |id: &IncidentId| {
            Path::new(&self.incident(id))
                .join("ledger/ledger.jsonl")
                .is_file()
        };
        let mut ids: Vec<_> = entries
            .filter_map(|e| IncidentId::parse(e.ok()?.file_name().to_str()?).ok())
            .filter(has_ledger)
            .collect();
        ids.sort();
        Ok(ids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_that_is_named_wins() {
        let of = |vars: &[(&str, &str)]| {
            Places::of(|n| {
                vars.iter()
                    .find(|(k, _)| *k == n)
                    .map(|(_, v)| PathBuf::from(v))
            })
            .map(|p| p.root)
        };
        assert_eq!(
            of(&[("FIREBREAK_HOME", "/f"), ("HOME", "/h")]).expect("root"),
            Path::new("/f")
        );
        assert_eq!(
            of(&[("XDG_DATA_HOME", "/d"), ("HOME", "/h")]).expect("root"),
            Path::new("/d/firebreak")
        );
        assert_eq!(
            of(&[("HOME", "/h")]).expect("root"),
            Path::new("/h/.local/share/firebreak")
        );
        assert!(of(&[]).is_err());
    }
}
