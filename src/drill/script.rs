//! The script of a drill: values for the playbook's variables and answers to its manual steps, embedded beside the playbook.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::incident::Outcome;

/// Stands for the folder of [`super::HOST_FILES`] in values of variables.
const HOST_FILES_MARK: &str = "{host_files}";

/// A script as it is read from its file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// `answers/v1`.
    pub firebreak: String,
    /// Id of the playbook that it answers.
    pub playbook: String,
    /// Variables as they would be given by `--var`.
    #[serde(default)]
    pub vars: BTreeMap<String, String>,
    /// Answers by path of the step.
    #[serde(default)]
    pub answers: BTreeMap<String, Scripted>,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scripted {
    /// What the person says.
    pub text: String,
    /// `done` (the default) or `failed`.
    #[serde(default = "done")]
    pub outcome: Outcome,
    /// Values for the step's outputs.
    #[serde(default)]
    pub values: BTreeMap<String, Value>,
}

fn done() -> Outcome {
    Outcome::Done
}

/// A script that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot use the drill's answers: {0}")]
pub struct ScriptError(pub String);

impl Script {
    /// Reads a script.
    ///
    /// # Errors
    /// When it is no `answers/v1` file.
    pub fn read(bytes: &[u8]) -> Result<Self, ScriptError> {
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! { max_anchors: 0, max_aliases: 0, max_nodes: 20_000 },
            strict_booleans: true,
        };
        let script: Script = serde_saphyr::from_slice_with_options(bytes, options)
            .map_err(|e| ScriptError(e.to_string()))?;
        if script.firebreak != "answers/v1" {
            return Err(ScriptError(format!(
                "`{}` is not `answers/v1`",
                script.firebreak
            )));
        }
        Ok(script)
    }
    /// The variables, with the place of the drill's host files filled in.
    pub fn vars(&self, host_files: &str) -> BTreeMap<String, String> {
        self.vars
            .iter()
            .map(|(name, value)| (name.clone(), value.replace(HOST_FILES_MARK, host_files)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_gives_variables_and_answers_and_refuses_what_it_does_not_know() {
        let text = "firebreak: answers/v1\nplaybook: security-breach\nvars: { ns: shop, files: \"{host_files}\" }\nanswers:\n  scope: { text: since the deploy, values: { restore: false } }\n";
        let script = Script::read(text.as_bytes()).expect("read");
        assert_eq!(script.answers["scope"].outcome, Outcome::Done);
        assert_eq!(script.answers["scope"].values["restore"], false);
        assert_eq!(
            script.vars("/x/state/drill-host")["files"],
            "/x/state/drill-host"
        );
        assert!(Script::read(text.replace("answers:", "replies:").as_bytes()).is_err());
        assert!(Script::read(text.replace("answers/v1", "answers/v2").as_bytes()).is_err());
    }
}
