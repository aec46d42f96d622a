//! Conditions: CEL over the playbook's variables (and, in `expect`, over a result's fields).
//!
//! Three-valued: a name without a value makes the answer *unknown*, never false, unless the other side of `&&` or `||` decides.
//! Any other error, and any answer that is no boolean, is an error (FB0207). Measured hazards of the crate are bounded here: at most
//! 1 KiB of text, lists of at most 256, comprehensions do not nest, and everything runs on a thread with a 64 MiB stack.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use cel::common::ast::{Expr, IdedExpr, SourceInfo, operators};
use cel::objects::{Key, Map};
use cel::parser::Parser;
use cel::{Context, ExecutionError, Value as CelValue};
use chrono::TimeDelta;
use serde_json::Value;

use super::expression::{Field, Look, Shape, shape};

/// An expression may have this many bytes.
pub const MAX_BYTES: usize = 1024;
/// A list may have this many items.
pub const MAX_ITEMS: usize = 256;
const STACK: usize = 64 * 1024 * 1024;

/// A condition that parses and keeps within the limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    text: String,
    names: BTreeMap<String, u32>,
    comparisons: Vec<Comparison>,
    calls: Vec<(String, String)>,
    fields: Vec<Field>,
    shape: Shape,
}

/// A value as an expression sees it.
#[derive(Debug, Clone, PartialEq)]
pub enum Given {
    /// Text, number, boolean, list, map; `null` = it is known that there is none.
    Json(Value),
    /// A span of time, compared with `duration('24h')`.
    Span(TimeDelta),
}

/// Sets that were computed before an expression is asked: (function, its one argument) → members. `None` = it could not be computed.
pub type Sets = BTreeMap<(String, String), Option<Vec<String>>>;

/// A name compared with a literal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// The name.
    pub name: String,
    /// Type of the literal.
    pub literal: Literal,
    /// The operator as CEL names it.
    pub operator: String,
    /// The text, where the literal is one: it must be one of the variable's enum.
    pub text: Option<String>,
    /// Column of the name, from 0.
    pub column: u32,
}

/// The type of a literal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Literal {
    /// Text.
    Text,
    /// Whole number.
    Integer,
    /// Number.
    Float,
    /// True or false.
    Bool,
    /// `null`, which no variable ever is.
    Null,
    /// Bytes, which no variable ever is.
    Bytes,
}

/// Why a text is no condition (FB0206).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConditionError {
    /// Column, from 0, in characters.
    pub column: u32,
    /// What is wrong.
    pub message: String,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// True.
    True,
    /// False.
    False,
    /// It rests on this name, which has no value.
    Unknown(String),
    /// It cannot be answered at all, or the answer is no boolean.
    Error(String),
}

impl Condition {
    /// Reads a condition.
    ///
    /// # Errors
    /// With the column where it is not understood, or the limit that it exceeds.
    pub fn parse(text: &str) -> Result<Condition, ConditionError> {
        within_limits(text)?;
        let source = text.to_owned();
        on_deep_stack(move || {
            let (expression, places) = compile(&source)?;
            let mut look = Look::over(&source, &places);
            look.walk(&expression)?;
            let Look {
                names,
                comparisons,
                calls,
                fields,
                ..
            } = look;
            Ok(Condition {
                calls,
                fields,
                shape: shape(&expression.expr, &comparisons),
                names,
                comparisons,
                text: source,
            })
        })
        .unwrap_or_else(|| Err(at(0, "the expression could not be read")))
    }
    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }
    /// The names it reads, loop variables apart, each with the column of its first place (from 0).
    pub fn names(&self) -> &BTreeMap<String, u32> {
        &self.names
    }
    /// Names that it compares with literals.
    pub fn comparisons(&self) -> &[Comparison] {
        &self.comparisons
    }
    /// Calls of functions with one literal text, such as `chain('AKIA…')`: name and argument.
    pub fn calls(&self) -> &[(String, String)] {
        &self.calls
    }
    /// True where it can never answer a boolean (FB0207).
    pub fn never_boolean(&self) -> bool {
        self.shape == Shape::NeverBoolean
    }
    /// True for `name == 'text'` and `name != 'text'`, all that today's CACAO runners carry.
    pub fn is_text_comparison(&self) -> bool {
        self.shape == Shape::TextComparison
    }
    /// The name, where it is a bare one.
    pub fn bare_name(&self) -> Option<&str> {
        let name = self.text.trim();
        self.names.contains_key(name).then_some(name)
    }
    /// Answers it for these values.
    pub fn eval(&self, values: &BTreeMap<String, Value>) -> Answer {
        let text = self.text.clone();
        let names: BTreeMap<String, Value> = self
            .names
            .keys()
            .filter_map(|n| Some((n.clone(), values.get(n)?.clone())))
            .collect();
        on_deep_stack(move || {
            let Ok((expression, _)) = compile(&text) else {
                return Answer::Error("the expression does not parse".into());
            };
            let mut context = Context::default();
            for (name, value) in &names {
                context.add_variable_from_value(name.as_str(), to_cel(value));
            }
            answer(&expression, &context)
        })
        .unwrap_or_else(|| Answer::Error("the expression could not be answered".into()))
    }
    /// Answers it for each row of values, in order, with these sets. A field of a map that was read and does not have it is `null`, unless
    /// the expression asks with `has()`: what is known to be absent is no reason not to know.
    pub fn eval_rows(&self, rows: Vec<BTreeMap<String, Given>>, sets: Sets) -> Vec<Answer> {
        let count = rows.len();
        let (text, fields) = (self.text.clone(), self.fields.clone());
        let functions: BTreeSet<String> = self.calls.iter().map(|(f, _)| f.clone()).collect();
        let sets = Arc::new(sets);
        on_deep_stack(move || {
            let Ok((expression, _)) = compile(&text) else {
                return Vec::new();
            };
            let asked = rows.into_iter().map(|row| {
                let mut context = Context::default();
                for function in functions
                    .iter()
                    .filter(|f| sets.keys().any(|(n, _)| n == *f))
                {
                    lend(&mut context, function, &sets);
                }
                for (name, given) in with_absent_fields(row, &fields) {
                    context.add_variable_from_value(name.as_str(), given_to_cel(&given));
                }
                answer(&expression, &context)
            });
            asked.collect()
        })
        .filter(|answers: &Vec<Answer>| answers.len() == count)
        .unwrap_or_else(|| {
            vec![Answer::Error("the expression could not be answered".into()); count]
        })
    }
}

fn given_to_cel(given: &Given) -> CelValue {
    match given {
        Given::Json(value) => to_cel(value),
        Given::Span(span) => CelValue::Duration(*span),
    }
}

fn with_absent_fields(
    mut row: BTreeMap<String, Given>,
    fields: &[Field],
) -> BTreeMap<String, Given> {
    for f in fields {
        let asks = fields
            .iter()
            .any(|o| o.has && o.name == f.name && o.field == f.field);
        if let (Some(Given::Json(Value::Object(map))), false) = (row.get_mut(&f.name), asks) {
            map.entry(f.field.clone()).or_insert(Value::Null);
        }
    }
    row
}

/// Makes a set readable as a function of one text. One that could not be computed is a name without a value.
fn lend(context: &mut Context<'_, '_>, function: &str, sets: &Arc<Sets>) {
    let (name, sets) = (function.to_owned(), Arc::clone(sets));
    let find = move |of: Arc<String>| -> Result<CelValue, ExecutionError> {
        let missing = || ExecutionError::UndeclaredReference(Arc::new(format!("{name}('{of}')")));
        match sets.get(&(name.clone(), of.to_string())) {
            Some(Some(members)) => {
                let text = |m: &String| CelValue::String(Arc::new(m.clone()));
                Ok(CelValue::List(Arc::new(members.iter().map(text).collect())))
            }
            _ => Err(missing()),
        }
    };
    // A standard function keeps its meaning: then the set is not lent, and the answer an error.
    let _ = context.add_function(function, find);
}

pub(super) fn at(column: u32, message: impl Into<String>) -> ConditionError {
    ConditionError {
        column,
        message: message.into(),
    }
}

fn within_limits(text: &str) -> Result<(), ConditionError> {
    if text.len() > MAX_BYTES {
        return Err(at(
            0,
            format!("an expression has at most {MAX_BYTES} bytes"),
        ));
    }
    if text.trim().is_empty() {
        return Err(at(0, "an expression is empty"));
    }
    if let Some(start) = text.find("${") {
        let column = count(text[..start].chars().count());
        return Err(at(column, "expressions use bare names: `x`, not `${x}`"));
    }
    Ok(())
}

/// Runs on a thread of its own: the parser and the evaluator recurse. None if it panicked or could not start.
fn on_deep_stack<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    std::thread::Builder::new()
        .name("condition".into())
        .stack_size(STACK)
        .spawn(work)
        .ok()?
        .join()
        .ok()
}

fn compile(text: &str) -> Result<(IdedExpr, SourceInfo), ConditionError> {
    Parser::new()
        .parse_with_source_info(text)
        .map_err(|errors| {
            let first = errors
                .errors
                .iter()
                .min_by_key(|e| e.pos)
                .map(|e| (e.pos, e.msg.clone()));
            let ((line, column), message) = first.unwrap_or(((1, 1), "not understood".into()));
            let before: usize = text
                .split_inclusive('\n')
                .take(usize::try_from(line - 1).unwrap_or(0))
                .map(|l| l.chars().count())
                .sum();
            let column = usize::try_from(column - 1).unwrap_or(0) + before;
            at(count(column), message.lines().next().unwrap_or_default())
        })
}

pub(super) fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// JSON to CEL; whole numbers are signed, as CEL literals are.
fn to_cel(value: &Value) -> CelValue {
    match value {
        Value::Null => CelValue::Null,
        Value::Bool(b) => CelValue::Bool(*b),
        Value::Number(n) => n.as_i64().map_or_else(
            || CelValue::Float(n.as_f64().unwrap_or(f64::NAN)),
            CelValue::Int,
        ),
        Value::String(s) => CelValue::String(Arc::new(s.clone())),
        Value::Array(items) => CelValue::List(Arc::new(items.iter().map(to_cel).collect())),
        Value::Object(map) => {
            let entries: HashMap<Key, CelValue> = map
                .iter()
                .map(|(k, v)| (Key::String(Arc::new(k.clone())), to_cel(v)))
                .collect();
            CelValue::Map(Map {
                map: Arc::new(entries),
            })
        }
    }
}

/// `&&`, `||`, `!` and `?:` by our own three-valued table; all else by the crate.
fn answer(e: &IdedExpr, context: &Context) -> Answer {
    if let Expr::Call(call) = &e.expr {
        let part = |i: usize| answer(&call.args[i], context);
        match (call.func_name.as_str(), call.args.len()) {
            (operators::LOGICAL_AND, 2) => return both(part(0), part(1)),
            (operators::LOGICAL_OR, 2) => return not(both(not(part(0)), not(part(1)))),
            (operators::LOGICAL_NOT, 1) => return not(part(0)),
            (operators::CONDITIONAL, 3) => {
                return match part(0) {
                    Answer::True => part(1),
                    Answer::False => part(2),
                    open => open,
                };
            }
            _ => {}
        }
    }
    match context.resolve(e) {
        Ok(CelValue::Bool(true)) => Answer::True,
        Ok(CelValue::Bool(false)) => Answer::False,
        Ok(_) => Answer::Error("the answer is neither true nor false".into()),
        Err(ExecutionError::UndeclaredReference(name) | ExecutionError::NoSuchKey(name)) => {
            Answer::Unknown(name.to_string())
        }
        Err(other) => Answer::Error(other.to_string()),
    }
}

fn both(a: Answer, b: Answer) -> Answer {
    match (a, b) {
        (Answer::False, _) | (_, Answer::False) => Answer::False,
        (Answer::True, Answer::True) => Answer::True,
        (Answer::Error(e), _) | (_, Answer::Error(e)) => Answer::Error(e),
        (Answer::Unknown(n), _) | (_, Answer::Unknown(n)) => Answer::Unknown(n),
    }
}

fn not(a: Answer) -> Answer {
    match a {
        Answer::True => Answer::False,
        Answer::False => Answer::True,
        open => open,
    }
}

/// The names that none of `known` holds, each with its column.
pub fn strangers<'c>(
    condition: &'c Condition,
    known: &BTreeSet<String>,
) -> impl Iterator<Item = (&'c str, u32)> {
    let known = known.clone();
    condition
        .names
        .iter()
        .filter(move |(name, _)| !known.contains(*name))
        .map(|(name, column)| (name.as_str(), *column))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn values() -> BTreeMap<String, Value> {
        [
            ("isolation", json!("isolated")),
            ("n", json!(3)),
            ("yes", json!(true)),
            ("pods", json!(["a", "b"])),
            ("result", json!({"cells": [{"open": false}], "count": 2})),
            ("half", json!(0.5)),
        ]
        .into_iter()
        .map(|(k, v)| (k.to_owned(), v))
        .collect()
    }

    fn eval(text: &str) -> Answer {
        Condition::parse(text).expect(text).eval(&values())
    }

    #[test]
    fn conditions_answer_over_json_values() {
        for (text, truth) in [
            ("isolation == 'isolated'", true),
            ("isolation != \"isolated\"", false),
            ("n + 1 == 4", true),
            ("n > 2 && half < 1.0", true),
            ("yes", true),
            ("!yes", false),
            ("pods.exists(p, p == 'b')", true),
            ("pods.all(p, p == 'b')", false),
            ("'a' in pods", true),
            ("size(pods) == 2", true),
            ("result.cells[0].open == false && result.count == 2", true),
            ("yes ? n == 3 : gone", true),
            ("duration('90s') > duration('1m')", true),
        ] {
            let wanted = if truth { Answer::True } else { Answer::False };
            assert_eq!(eval(text), wanted, "{text}");
        }
    }

    #[test]
    fn a_missing_value_is_unknown_unless_the_other_side_decides() {
        for (text, wanted) in [
            ("gone == 'x'", Answer::Unknown("gone".into())),
            ("gone", Answer::Unknown("gone".into())),
            ("!gone", Answer::Unknown("gone".into())),
            ("gone && false", Answer::False),
            ("false && gone", Answer::False),
            ("gone == 1 && n == 4", Answer::False),
            ("gone && true", Answer::Unknown("gone".into())),
            ("gone || true", Answer::True),
            ("n == 3 || gone == 1", Answer::True),
            ("gone || false", Answer::Unknown("gone".into())),
            ("result.nothing == 1", Answer::Unknown("nothing".into())),
            ("gone ? true : false", Answer::Unknown("gone".into())),
        ] {
            assert_eq!(eval(text), wanted, "{text}");
        }
    }

    #[test]
    fn rows_are_judged_with_spans_sets_and_absent_fields() {
        let row = BTreeMap::from([
            ("tags".to_owned(), Given::Json(json!({"team": "pay"}))),
            ("age".to_owned(), Given::Span(TimeDelta::days(100))),
            ("last_used".to_owned(), Given::Json(Value::Null)),
            ("arn".to_owned(), Given::Json(json!("a"))),
        ]);
        let sets = Sets::from([
            (("chain".into(), "K".into()), Some(vec!["a".into()])),
            (("chain".into(), "L".into()), None),
        ]);
        for (text, wanted) in [
            (
                "tags.team == 'pay' && age > duration('2160h')",
                Answer::True,
            ),
            ("tags.owner == 'pay'", Answer::False),
            ("tags['owner'] != 'pay'", Answer::True),
            ("has(tags.owner)", Answer::False),
            ("!has(tags.owner) && tags.team == 'pay'", Answer::True),
            ("last_used == null", Answer::True),
            ("arn in chain('K')", Answer::True),
            ("arn in chain('L')", Answer::Unknown("chain('L')".into())),
            (
                "groups.exists(g, g == 'x')",
                Answer::Unknown("groups".into()),
            ),
        ] {
            let condition = Condition::parse(text).expect(text);
            let answers = condition.eval_rows(vec![row.clone()], sets.clone());
            assert_eq!(answers, [wanted], "{text}");
        }
        let never = Condition::parse("last_used > duration('1h')").expect("parses");
        let answers = never.eval_rows(vec![row], Sets::new());
        assert!(matches!(answers[..], [Answer::Error(_)]), "{answers:?}");
    }

    #[test]
    fn what_is_no_boolean_is_an_error_and_never_false() {
        for text in [
            "n",
            "isolation",
            "n + 1",
            "1 / 0 == 1",
            "isolation < 3",
            "pods[7] == 'x'",
            "yes ? n : n",
        ] {
            assert!(
                matches!(eval(text), Answer::Error(_)),
                "{text}: {:?}",
                eval(text)
            );
        }
        assert_eq!(eval("n && false"), Answer::False);
        assert!(Condition::parse("n + 1").expect("parses").never_boolean());
        assert!(!Condition::parse("yes").expect("parses").never_boolean());
    }

    #[test]
    fn syntax_errors_name_their_column() {
        for (text, column) in [
            ("n == ", 5),
            ("n === 3", 4),
            ("(n == 3", 7),
            ("n == ${x}", 5),
            ("a b", 2),
        ] {
            let e = Condition::parse(text).expect_err(text);
            assert_eq!(e.column, column, "{text}: {e}");
        }
    }

    #[test]
    fn names_are_found_without_loop_variables() {
        let c = Condition::parse("pods.exists(p, p == other) && result.count > 2").expect("parses");
        let names: Vec<_> = c.names().keys().map(String::as_str).collect();
        assert_eq!(names, ["other", "pods", "result"]);
        assert_eq!(c.names()["other"], 20);
        let known = BTreeSet::from(["pods".to_owned(), "result".to_owned()]);
        assert_eq!(strangers(&c, &known).collect::<Vec<_>>(), [("other", 20)]);
    }

    #[test]
    fn comparisons_with_literals_are_found() {
        let c = Condition::parse("n == 'x' && 3 < isolation").expect("parses");
        let found: Vec<_> = c
            .comparisons()
            .iter()
            .map(|c| (c.name.as_str(), c.literal))
            .collect();
        assert_eq!(
            found,
            [("n", Literal::Text), ("isolation", Literal::Integer)]
        );
        assert!(
            Condition::parse("a == 'x'")
                .expect("parses")
                .is_text_comparison()
        );
        assert!(
            !Condition::parse("a == 'x' || b == 'y'")
                .expect("parses")
                .is_text_comparison()
        );
        assert!(
            !Condition::parse("a == 3")
                .expect("parses")
                .is_text_comparison()
        );
    }

    #[test]
    fn limits_are_held_and_nothing_overflows_a_stack() {
        assert!(Condition::parse(&format!("n == {}", "1".repeat(MAX_BYTES))).is_err());
        assert!(Condition::parse("pods.all(p, pods.all(q, q == p))").is_err());
        assert!(Condition::parse("pods.map(p, [p]).exists(l, l.exists(x, x == 'a'))").is_err());
        let list = format!("n in [{}]", vec!["1"; 257].join(","));
        assert!(Condition::parse(&list).is_err());
        assert!(Condition::parse("pods[0].matches('(a+)+')").is_err());
        for deep in [
            format!("{}n{}", "(".repeat(500), ")".repeat(500)),
            format!("{}n{} == 1", "[".repeat(300), "]".repeat(300)),
            "!".repeat(1000) + "n",
            "-".repeat(1000) + "1 == 1",
        ] {
            if let Ok(c) = Condition::parse(&deep) {
                c.eval(&values());
            }
        }
    }
}
