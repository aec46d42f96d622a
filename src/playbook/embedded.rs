//! The playbooks that travel inside the program. A path names a file, a bare name one of these.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::incident::body::Answer;
use crate::incident::{Outcome, StepPath};

use super::finding::Finding;
use super::tree;

/// One embedded playbook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Embedded {
    /// Its id, which is the bare name.
    pub name: &'static str,
    /// Its exact bytes.
    pub text: &'static str,
    /// Answers of a drill's personas, where it asks people.
    pub answers: Option<&'static str>,
}

/// All of them, by name.
pub const ALL: &[Embedded] = &[
    Embedded {
        name: "contain-pod",
        text: include_str!("../../playbooks/contain-pod.yaml"),
        answers: None,
    },
    Embedded {
        name: "release-pod",
        text: include_str!("../../playbooks/release-pod.yaml"),
        answers: None,
    },
    Embedded {
        name: "rotate",
        text: include_str!("../../playbooks/rotate.yaml"),
        answers: None,
    },
    Embedded {
        name: "security-breach",
        text: include_str!("../../playbooks/security-breach.yaml"),
        answers: Some(include_str!("../../playbooks/answers/security-breach.yaml")),
    },
];

/// Finds one by its bare name.
pub fn find(name: &str) -> Option<&'static Embedded> {
    ALL.iter().find(|e| e.name == name)
}

impl Embedded {
    /// The answers of a drill by step; empty where it asks nobody.
    ///
    /// # Errors
    /// Where the file of answers is wrong.
    pub fn answers(&self) -> Result<BTreeMap<StepPath, Answer>, Vec<Finding>> {
        self.answers
            .map_or_else(|| Ok(BTreeMap::new()), |text| answers(text.as_bytes()))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAnswer {
    text: String,
    #[serde(default = "done")]
    outcome: Outcome,
    #[serde(default)]
    values: BTreeMap<String, Value>,
}

fn done() -> Outcome {
    Outcome::Done
}

/// Reads a file of answers by the strict reader: step path → `text`, `outcome` (done or failed), `values`.
///
/// # Errors
/// With the place of what is wrong.
pub fn answers(bytes: &[u8]) -> Result<BTreeMap<StepPath, Answer>, Vec<Finding>> {
    let tree = tree::read(bytes)?;
    let wrong = |pointer: &str, message: String| {
        Finding::new(
            "FB0101",
            tree.places.value(pointer),
            message,
            "step path: { text: …, outcome: done, values: { … } }",
        )
    };
    let Some(map) = tree.value.as_object() else {
        return Err(vec![wrong(
            "",
            "answers are a mapping of step paths".into(),
        )]);
    };
    let mut found = BTreeMap::new();
    let mut findings = Vec::new();
    for (path, value) in map {
        let pointer = format!("/{}", tree::escape(path));
        let read = StepPath::parse(path)
            .map_err(|e| e.to_string())
            .and_then(|p| Ok((p, RawAnswer::deserialize(value).map_err(|e| e.to_string())?)));
        match read {
            Ok((path, a)) if matches!(a.outcome, Outcome::Done | Outcome::Failed) => {
                let answer = Answer {
                    text: a.text,
                    outcome: a.outcome,
                    values: a.values,
                };
                found.insert(path, answer);
            }
            Ok(_) => findings.push(wrong(&pointer, "a person answers done or failed".into())),
            Err(e) => findings.push(wrong(&pointer, e)),
        }
    }
    if findings.is_empty() {
        Ok(found)
    } else {
        Err(findings)
    }
}
