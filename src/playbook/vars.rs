//! The values of a run: what was given at the start, what its steps have set since. Secrets are kept apart, as references; they never
//! enter a text, an argv word, a plan or the ledger.

use std::collections::BTreeMap;

use serde_json::Value;

use super::variable::{Declaration, Type, VarError};

/// The values of a run, secrets apart.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Vars {
    pub(super) values: BTreeMap<String, Value>,
    pub(super) secrets: BTreeMap<String, String>,
}

/// An output may have at most this many bytes.
pub const MAX_OUTPUT: usize = 64 * 1024;

impl Vars {
    /// The values at the start of a run: what was given by `--var`, else the declared values. All are checked at once.
    ///
    /// # Errors
    /// Every variable that is wrong: unknown (FB0204), constant or not external (FB0205), of another type (FB0202), or
    /// external and missing (FB0201).
    pub fn start(
        declared: &BTreeMap<String, Declaration>,
        given: &BTreeMap<String, String>,
    ) -> Result<Vars, Vec<VarError>> {
        let mut vars = Vars::default();
        let mut errors: Vec<VarError> = given
            .keys()
            .filter(|name| !declared.contains_key(*name))
            .map(|name| VarError::new("FB0204", name, "the playbook declares no such variable"))
            .collect();
        for (name, declaration) in declared {
            if let Err(e) = vars.begin(name, declaration, given.get(name)) {
                errors.push(e);
            }
        }
        if errors.is_empty() {
            Ok(vars)
        } else {
            Err(errors)
        }
    }
    fn begin(
        &mut self,
        name: &str,
        declaration: &Declaration,
        given: Option<&String>,
    ) -> Result<(), VarError> {
        if declaration.kind == Type::Secret {
            let missing = || VarError::new("FB0201", name, "a secret needs `from`");
            if given.is_some() {
                return Err(VarError::new(
                    "FB0202",
                    name,
                    "a secret is never given on a command line; it comes from its `from`",
                ));
            }
            let from = declaration.from.clone().ok_or_else(missing)?;
            self.secrets.insert(name.to_owned(), from);
            return Ok(());
        }
        let value = match given {
            Some(_) if !declaration.external || declaration.constant => {
                return Err(VarError::new(
                    "FB0205",
                    name,
                    "it is not given from outside (`external: true`)",
                ));
            }
            Some(text) => Some(declaration.kind.from_text(text).ok_or_else(|| {
                VarError::new(
                    "FB0202",
                    name,
                    format!("what was given is no {}", declaration.kind.word()),
                )
            })?),
            None => declaration.value.clone(),
        };
        match value {
            Some(value) => {
                self.values
                    .insert(name.to_owned(), declaration.check(name, &value)?);
                Ok(())
            }
            None if declaration.external => Err(VarError::new(
                "FB0201",
                name,
                format!("no value was given; add --var {name}=…"),
            )),
            None => Ok(()),
        }
    }
    /// Sets an output (checked against its declaration, at most 64 KiB, never a constant or a secret).
    pub fn set(
        &mut self,
        declared: &BTreeMap<String, Declaration>,
        name: &str,
        value: &Value,
    ) -> Result<(), VarError> {
        let declaration = declared.get(name).ok_or_else(|| {
            VarError::new("FB0204", name, "the playbook declares no such variable")
        })?;
        if declaration.constant {
            return Err(VarError::new(
                "FB0205",
                name,
                "a constant is never assigned",
            ));
        }
        if value.to_string().len() > MAX_OUTPUT {
            return Err(VarError::new(
                "FB0202",
                name,
                "an output has at most 64 KiB",
            ));
        }
        let kept = declaration.check(name, value)?;
        self.values.insert(name.to_owned(), kept);
        Ok(())
    }
    /// The values by name, without secrets: what conditions see and plans record.
    pub fn values(&self) -> &BTreeMap<String, Value> {
        &self.values
    }
    /// No values, and these secrets by name, each with where it comes from.
    pub fn of_secrets(secrets: impl IntoIterator<Item = (String, String)>) -> Self {
        Vars {
            secrets: secrets.into_iter().collect(),
            ..Vars::default()
        }
    }
    /// Where each secret comes from.
    pub fn secrets(&self) -> &BTreeMap<String, String> {
        &self.secrets
    }
    /// Restores values that were checked before (from a plan or the ledger), over what is there.
    pub fn restore(&mut self, values: impl IntoIterator<Item = (String, Value)>) {
        self.values.extend(values);
    }
}

#[cfg(test)]
mod tests {
    use super::super::variable::tests::declared;
    use super::*;
    use serde_json::json;

    #[test]
    fn a_run_starts_only_with_variables_that_fit() {
        let mut constant = declared("string");
        (constant.external, constant.constant, constant.value) = (false, true, Some(json!("c")));
        let mut secret = declared("secret");
        secret.from = Some("fd:3".into());
        let all = BTreeMap::from([
            ("a".to_owned(), declared("string")),
            ("b".to_owned(), declared("integer")),
            ("c".to_owned(), constant),
            ("s".to_owned(), secret),
        ]);
        let given = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect::<BTreeMap<_, _>>()
        };
        let mut good = Vars::start(&all, &given(&[("a", "x"), ("b", "4")])).expect("starts");
        assert_eq!(good.values()["b"], 4);
        assert!(
            !good.values().contains_key("s"),
            "no secret among the values"
        );
        assert_eq!(
            good.set(&all, "c", &json!("d")).expect_err("constant").code,
            "FB0205"
        );
        assert_eq!(
            good.set(&all, "zzz", &json!("d"))
                .expect_err("unknown")
                .code,
            "FB0204"
        );
        assert_eq!(
            good.set(&all, "s", &json!("d")).expect_err("secret").code,
            "FB0202"
        );
        let long = json!("x".repeat(MAX_OUTPUT));
        assert_eq!(good.set(&all, "a", &long).expect_err("long").code, "FB0202");
        let codes = |pairs: &[(&str, &str)]| {
            let mut codes: Vec<_> = Vars::start(&all, &given(pairs))
                .expect_err("refused")
                .iter()
                .map(|e| e.code)
                .collect();
            codes.sort_unstable();
            codes
        };
        assert_eq!(codes(&[("a", "x")]), ["FB0201"]);
        assert_eq!(
            codes(&[("a", "x"), ("b", "four"), ("c", "d"), ("q", "1")]),
            ["FB0202", "FB0204", "FB0205"]
        );
        assert_eq!(
            codes(&[("a", "x"), ("b", "4"), ("s", "hunter2")]),
            ["FB0202"]
        );
    }
}
