//! A look at an expression without evaluating it. The crate's own list of references counts loop variables as free, so we walk its
//! syntax tree ourselves.

use std::collections::BTreeMap;

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SourceInfo, operators};

use super::condition::{Comparison, ConditionError, Literal, MAX_ITEMS, at, count};

/// What an expression as a whole can answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// `name == 'text'` or `name != 'text'` alone.
    TextComparison,
    /// Perhaps a boolean; a bare name is one if its variable is.
    Other,
    /// Never a boolean.
    NeverBoolean,
}

/// A walk over an expression: its names, its comparisons, its limits.
#[derive(Default)]
pub(super) struct Look<'a> {
    places: Option<&'a SourceInfo>,
    source: &'a str,
    bound: Vec<String>,
    pub(super) names: BTreeMap<String, u32>,
    pub(super) comparisons: Vec<Comparison>,
    pub(super) calls: Vec<(String, String)>,
    pub(super) fields: Vec<Field>,
}

/// A field of a name: `tags.team`, `tags['team']`, `has(tags.team)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) field: String,
    /// It is asked whether it is there at all.
    pub(super) has: bool,
}

impl<'a> Look<'a> {
    pub(super) fn over(source: &'a str, places: &'a SourceInfo) -> Self {
        Look {
            places: Some(places),
            source,
            ..Look::default()
        }
    }

    fn column(&self, id: u64) -> u32 {
        let start = self
            .places
            .and_then(|p| p.offset_for(id))
            .map_or(0, |(start, _)| start as usize);
        count(start.min(self.source.chars().count()))
    }
    pub(super) fn walk(&mut self, e: &IdedExpr) -> Result<(), ConditionError> {
        match &e.expr {
            Expr::Unspecified | Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => {
                if !self.bound.contains(name) && !name.starts_with('@') {
                    let column = self.column(e.id);
                    self.names.entry(name.clone()).or_insert(column);
                }
                Ok(())
            }
            Expr::Select(select) => {
                self.field(&select.operand, &select.field, select.test);
                self.walk(&select.operand)
            }
            Expr::Call(call) => self.call(call, e.id),
            Expr::List(list) => {
                if list.elements.len() > MAX_ITEMS {
                    return Err(at(
                        self.column(e.id),
                        format!("a list has at most {MAX_ITEMS} items"),
                    ));
                }
                list.elements.iter().try_for_each(|item| self.walk(item))
            }
            Expr::Map(map) => map
                .entries
                .iter()
                .try_for_each(|entry| self.entry(&entry.expr)),
            Expr::Struct(_) => Err(at(self.column(e.id), "messages are not part of the format")),
            Expr::Comprehension(c) => {
                if !self.bound.is_empty() {
                    return Err(at(
                        self.column(e.id),
                        "`all`, `exists`, `map` and `filter` do not nest",
                    ));
                }
                self.walk(&c.iter_range)?;
                self.bound.push(c.iter_var.clone());
                self.bound.push(c.accu_var.clone());
                self.bound.extend(c.iter_var2.clone());
                let inner = [&c.accu_init, &c.loop_cond, &c.loop_step, &c.result];
                let walked = inner.into_iter().try_for_each(|part| self.walk(part));
                self.bound.clear();
                walked
            }
        }
    }
    fn entry(&mut self, entry: &EntryExpr) -> Result<(), ConditionError> {
        match entry {
            EntryExpr::MapEntry(entry) => {
                self.walk(&entry.key)?;
                self.walk(&entry.value)
            }
            EntryExpr::StructField(field) => self.walk(&field.value),
        }
    }
    fn call(&mut self, call: &CallExpr, id: u64) -> Result<(), ConditionError> {
        if call.func_name == "matches" {
            return Err(at(
                self.column(id),
                "`matches` is not part of the format; use a variable's `pattern`",
            ));
        }
        if let Some(target) = &call.target {
            self.walk(target)?;
        }
        call.args.iter().try_for_each(|arg| self.walk(arg))?;
        if let ([one], None) = (call.args.as_slice(), &call.target)
            && let Some(text) = literal_text(&one.expr)
        {
            self.calls.push((call.func_name.clone(), text));
        }
        if let [a, b] = call.args.as_slice() {
            if call.func_name == operators::INDEX
                && let Some(field) = literal_text(&b.expr)
            {
                self.field(a, &field, false);
            }
            self.compare(&call.func_name, a, b);
            self.compare(&call.func_name, b, a);
        }
        Ok(())
    }
    fn field(&mut self, of: &IdedExpr, field: &str, has: bool) {
        if let Expr::Ident(name) = &of.expr
            && !self.bound.contains(name)
        {
            self.fields.push(Field {
                name: name.clone(),
                field: field.to_owned(),
                has,
            });
        }
    }
    fn compare(&mut self, operator: &str, name: &IdedExpr, literal: &IdedExpr) {
        const COMPARING: [&str; 6] = [
            operators::EQUALS,
            operators::NOT_EQUALS,
            operators::LESS,
            operators::LESS_EQUALS,
            operators::GREATER,
            operators::GREATER_EQUALS,
        ];
        let (Expr::Ident(ident), Some(kind)) = (&name.expr, literal_of(&literal.expr)) else {
            return;
        };
        if !COMPARING.contains(&operator) || self.bound.contains(ident) {
            return;
        }
        let text = literal_text(&literal.expr);
        self.comparisons.push(Comparison {
            name: ident.clone(),
            literal: kind,
            operator: operator.to_owned(),
            text,
            column: self.column(name.id),
        });
    }
}

fn literal_text(e: &Expr) -> Option<String> {
    match e {
        Expr::Literal(LiteralValue::String(s)) => Some(s.inner().to_owned()),
        _ => None,
    }
}

fn literal_of(e: &Expr) -> Option<Literal> {
    Some(match e {
        Expr::Literal(LiteralValue::String(_)) => Literal::Text,
        Expr::Literal(LiteralValue::Int(_) | LiteralValue::UInt(_)) => Literal::Integer,
        Expr::Literal(LiteralValue::Double(_)) => Literal::Float,
        Expr::Literal(LiteralValue::Boolean(_)) => Literal::Bool,
        Expr::Literal(LiteralValue::Null) => Literal::Null,
        Expr::Literal(LiteralValue::Bytes(_)) => Literal::Bytes,
        _ => return None,
    })
}

/// What the whole can answer.
pub(super) fn shape(e: &Expr, comparisons: &[Comparison]) -> Shape {
    const NEVER: [&str; 7] = [
        operators::ADD,
        operators::SUBSTRACT,
        operators::MULTIPLY,
        operators::DIVIDE,
        operators::MODULO,
        operators::NEGATE,
        "size",
    ];
    match e {
        Expr::Literal(LiteralValue::Boolean(_)) => Shape::Other,
        Expr::Literal(_) | Expr::List(_) | Expr::Map(_) => Shape::NeverBoolean,
        Expr::Call(call) if NEVER.contains(&call.func_name.as_str()) => Shape::NeverBoolean,
        Expr::Call(call)
            if [operators::EQUALS, operators::NOT_EQUALS].contains(&call.func_name.as_str()) =>
        {
            match comparisons {
                [one] if one.literal == Literal::Text => Shape::TextComparison,
                _ => Shape::Other,
            }
        }
        _ => Shape::Other,
    }
}
