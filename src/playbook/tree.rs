//! Bytes to a tree with positions: strict YAML, and nothing that a reviewer's eye could miss.
//!
//! People approve what they see. So a byte-order mark, control characters, bidirectional overrides and invisible characters
//! are refused before parsing; anchors, aliases, merge keys, tags, second documents, duplicate keys and scalars that
//! look like something else (`yes`, `010`, `1_000`) are refused with line and column.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};

use super::finding::Finding;
use super::model::{Places, Position};

/// A file may be this large.
pub const MAX_BYTES: usize = 256 * 1024;
const MAX_NODES: usize = 20_000;
const MAX_DEPTH: usize = 32;

/// A file as a value, with positions by JSON pointer.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) value: Value,
    pub(super) places: Places,
}

/// Reads one strict YAML document.
pub(super) fn read(bytes: &[u8]) -> Result<Tree, Vec<Finding>> {
    let text = readable(bytes).map_err(|f| vec![f])?;
    let root: Spanned<Node> = serde_saphyr::from_str_with_options(text, options())
        .map_err(|e| vec![refusal(&e, text)])?;
    let mut tree = Tree {
        value: Value::Null,
        places: Places::default(),
    };
    let lines: Vec<&str> = text.split('\n').collect();
    let mut findings = Vec::new();
    let mut walk = Walk {
        lines: &lines,
        places: &mut tree.places,
        findings: &mut findings,
    };
    tree.value = walk.value(root, "");
    if findings.is_empty() {
        Ok(tree)
    } else {
        Err(findings)
    }
}

fn options() -> serde_saphyr::Options {
    let mut budget = serde_saphyr::budget::Budget::default();
    budget.max_anchors = 0;
    budget.max_aliases = 0;
    budget.max_merge_keys = 0;
    budget.max_nodes = MAX_NODES;
    budget.max_depth = MAX_DEPTH;
    budget.max_documents = 1;
    budget.flow_nesting_limit = MAX_DEPTH;
    serde_saphyr::options! {
        budget: Some(budget),
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        no_schema: true,
        reject_unsupported_tags: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        with_snippet: false,
    }
}

/// UTF-8 of bounded size in which every character shows.
fn readable(bytes: &[u8]) -> Result<&str, Finding> {
    if bytes.len() > MAX_BYTES {
        return Err(Finding::new(
            "FB0101",
            Position { line: 1, column: 1 },
            format!(
                "the file has {} bytes; a playbook has at most {MAX_BYTES}",
                bytes.len()
            ),
            "split it, or move long texts into documents that it names",
        ));
    }
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let good = std::str::from_utf8(&bytes[..e.valid_up_to()]).unwrap_or_default();
        Finding::new(
            "FB0101",
            end_of(good),
            "the file is not UTF-8",
            "save it as UTF-8",
        )
    })?;
    let lone_return = |at: usize, c: char| c == '\r' && !text[at + 1..].starts_with('\n');
    match text
        .char_indices()
        .find(|(at, c)| hidden(*c) || lone_return(*at, *c))
    {
        None => Ok(text),
        Some((at, c)) => Err(Finding::new(
            "FB0101",
            end_of(&text[..at]),
            format!(
                "the character U+{:04X} does not show as what it is",
                u32::from(c)
            ),
            "remove it: people approve what they see",
        )),
    }
}

/// Characters that a reviewer cannot see, or that change the order in which others show.
fn hidden(c: char) -> bool {
    match c {
        // A carriage return passes only as part of a line end (see `readable`); alone it would overwrite what was shown.
        '\n' | '\t' | '\r' => false,
        '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}'
        | '\u{17b5}' => true,
        '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' => true,
        '\u{2060}'..='\u{206f}'
        | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}'
        | '\u{ffa0}' => true,
        '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}' => true,
        c => c.is_control(),
    }
}

fn end_of(before: &str) -> Position {
    let line = before.matches('\n').count();
    let column = before.rsplit('\n').next().unwrap_or("").chars().count();
    Position {
        line: count(line + 1),
        column: count(column + 1),
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn position(at: serde_saphyr::Location) -> Position {
    let clamp = |n: u64| u32::try_from(n.max(1)).unwrap_or(u32::MAX);
    Position {
        line: clamp(at.line()),
        column: clamp(at.column()),
    }
}

/// The parser's refusal in our words.
fn refusal(error: &serde_saphyr::Error, text: &str) -> Finding {
    use serde_saphyr::Error as E;
    let error = error.without_snippet();
    let at = error
        .location()
        .map_or(Position { line: 1, column: 1 }, position);
    if let Some(place) = unquoted_variable(text) {
        return Finding::new(
            "FB0307",
            place,
            "`${…}` stands unquoted inside `{ }` or `[ ]`, where YAML reads its brace as another mapping",
            "put it in double quotes: \"${name}\"",
        );
    }
    let (message, fix) = match error {
        E::DuplicateMappingKey { key, .. } => (
            format!("the key `{}` stands twice", key.as_deref().unwrap_or("?")),
            "keep one of the two",
        ),
        E::MultipleDocuments { .. } => (
            "the file holds a second document".to_owned(),
            "one playbook per file: remove what follows `---`",
        ),
        E::Budget { breach, .. } => (
            format!(
                "the file goes beyond what a playbook may hold: {}",
                budget_words(breach)
            ),
            "no anchors, aliases or merge keys; at most 20 000 nodes, 32 levels deep",
        ),
        E::MergeKeyNotAllowed { .. } => (
            "merge keys (`<<`) are refused".to_owned(),
            "write the keys out",
        ),
        E::QuotingRequired { .. } => (
            "a key looks like a number or a boolean".to_owned(),
            "keys are words of the format",
        ),
        other => (
            format!("YAML: {}", first_line(&other.to_string())),
            "see the place named; `firebreak playbook schema` helps an editor to complete and check",
        ),
    };
    Finding::new("FB0101", at, message, fix)
}

fn budget_words(breach: &serde_saphyr::budget::BudgetBreach) -> String {
    use serde_saphyr::budget::BudgetBreach as B;
    match breach {
        B::Anchors { .. } => "anchors (`&name`) are refused".to_owned(),
        B::Aliases { .. } => "aliases (`*name`) are refused".to_owned(),
        B::MergeKeys { .. } => "merge keys (`<<`) are refused".to_owned(),
        B::Depth { .. } => "it is too deep".to_owned(),
        B::Nodes { .. } | B::Events { .. } => "it has too many nodes".to_owned(),
        B::Documents { .. } => "a second document".to_owned(),
        other => format!("{other:?}"),
    }
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    // The place is in the finding already.
    let line = line.split(" at line ").next().unwrap_or(line);
    line.chars().take(200).collect()
}

/// The first `${` that stands in a flow collection and outside quotes. Only asked after the parser refused the file.
fn unquoted_variable(text: &str) -> Option<Position> {
    let mut depth = 0_u32;
    for (n, line) in text.split('\n').enumerate() {
        let chars: Vec<char> = line.chars().collect();
        let mut quote = None;
        let mut i = 0;
        while i < chars.len() {
            let c = chars[i];
            let before = i.checked_sub(1).map(|p| chars[p]);
            match (quote, c) {
                (Some('"'), '\\') => i += 1,
                (Some(open), c) if c == open => quote = None,
                (Some(_), _) => {}
                (None, '#') if before.is_none_or(char::is_whitespace) => break,
                (None, '"' | '\'') if before.is_none_or(|b| " \t[{,:".contains(b)) => {
                    quote = Some(c);
                }
                (None, '$') if depth > 0 && chars.get(i + 1) == Some(&'{') => {
                    return Some(Position {
                        line: count(n + 1),
                        column: count(i + 1),
                    });
                }
                // A variable in a plain scalar outside flow is no mapping.
                (None, '{') if before == Some('$') => {
                    while i < chars.len() && chars[i] != '}' {
                        i += 1;
                    }
                }
                (None, '{' | '[') if depth > 0 || before.is_none_or(|b| " \t-:".contains(b)) => {
                    depth += 1;
                }
                (None, '}' | ']') => depth = depth.saturating_sub(1),
                _ => {}
            }
            i += 1;
        }
    }
    None
}

/// A YAML node before we look at it.
#[derive(Debug)]
enum Node {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Spanned<Node>>),
    Map(Vec<(Spanned<String>, Spanned<Node>)>),
}

struct Walk<'a> {
    lines: &'a [&'a str],
    places: &'a mut Places,
    findings: &'a mut Vec<Finding>,
}

impl Walk<'_> {
    fn value(&mut self, node: Spanned<Node>, pointer: &str) -> Value {
        let at = position(node.referenced);
        self.places.values.insert(pointer.to_owned(), at);
        match node.value {
            Node::Null => {
                self.refuse(
                    at,
                    "a key or list item has no value".to_owned(),
                    "give it one, or leave the key out",
                );
                Value::Null
            }
            Node::Bool(b) => Value::Bool(b),
            Node::Number(n) => {
                self.plain_number(at, &n);
                Value::Number(n)
            }
            Node::Text(text) => {
                self.plain_text(at, &text);
                if self.opens_with(at, &['"', '\'']) {
                    self.places.quoted.insert(pointer.to_owned());
                }
                Value::String(text)
            }
            Node::List(items) => Value::Array(
                items
                    .into_iter()
                    .enumerate()
                    .map(|(i, item)| self.value(item, &format!("{pointer}/{i}")))
                    .collect(),
            ),
            Node::Map(entries) => {
                let mut map = Map::new();
                for (key, value) in entries {
                    let inner = format!("{pointer}/{}", escape(&key.value));
                    self.places
                        .keys
                        .insert(inner.clone(), position(key.referenced));
                    let value = self.value(value, &inner);
                    map.insert(key.value, value);
                }
                Value::Object(map)
            }
        }
    }
    fn opens_with(&self, at: Position, marks: &[char]) -> bool {
        self.raw(at).is_some_and(|raw| raw.starts_with(marks))
    }
    fn raw(&self, at: Position) -> Option<&str> {
        let line = self.lines.get(at.line as usize - 1)?;
        let (start, _) = line.char_indices().nth(at.column as usize - 1)?;
        Some(&line[start..])
    }
    /// A number must be written the way it is read by everybody.
    fn plain_number(&mut self, at: Position, number: &Number) {
        let Some(raw) = self.raw(at) else { return };
        let word: String = raw
            .chars()
            .take_while(|c| !c.is_whitespace() && !",]}".contains(*c))
            .collect();
        if number.is_f64() || word == number.to_string() {
            return;
        }
        self.refuse(
            at,
            format!("`{word}` is read as the number {number}"),
            "write the number in decimal, or quote the text",
        );
    }
    /// Text without quotes must not look like something else to another reader.
    fn plain_text(&mut self, at: Position, text: &str) {
        let looks_like = match text.to_ascii_lowercase().as_str() {
            "yes" | "no" | "on" | "off" | "y" | "n" => "a boolean",
            "true" | "false" | "null" | "~" => "a boolean or nothing",
            t if t.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c))
                && t.chars()
                    .all(|c| c.is_ascii_hexdigit() || "+-_.xo".contains(c))
                && t.chars().any(|c| c.is_ascii_digit())
                && !t.contains("..")
                && (t.starts_with(['0', '+', '.', '-']) || t.contains('_'))
                && t.parse::<std::net::IpAddr>().is_err() =>
            {
                "a number"
            }
            _ => return,
        };
        if self.opens_with(at, &['"', '\'', '|', '>']) {
            return;
        }
        self.refuse(
            at,
            format!("`{text}` without quotes looks like {looks_like} to some readers"),
            "put it in quotes if it is text",
        );
    }
    fn refuse(&mut self, at: Position, message: String, fix: &str) {
        self.findings.push(Finding::new("FB0101", at, message, fix));
    }
}

/// A key as a segment of a JSON pointer.
pub(super) fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }
    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Node, E> {
        Number::from_f64(value)
            .map(Node::Number)
            .ok_or_else(|| E::custom("not a finite number"))
    }
    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }
    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::Text(value))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Node::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Finding {
        let mut found = read(text.as_bytes()).expect_err(text);
        found.remove(0)
    }

    fn place(f: &Finding) -> (u32, u32) {
        (f.line, f.column)
    }

    #[test]
    fn positions_name_keys_and_values() {
        let tree = read(b"a: 1\nsteps:\n  - b: \"x\"\n    with: { c: [1, two] }\n").expect("reads");
        assert_eq!(tree.value["steps"][0]["with"]["c"][1], "two");
        let p = |line, column| Position { line, column };
        assert_eq!(tree.places.value("/steps/0/with/c/1"), p(4, 20));
        assert_eq!(tree.places.key("/steps/0/with"), p(4, 5));
        assert_eq!(tree.places.key("/steps/0/b"), p(3, 5));
        assert_eq!(tree.places.value("/steps/0/b"), p(3, 8));
        assert!(tree.places.quoted.contains("/steps/0/b"));
        assert_eq!(tree.places.value("/steps/0/with/none"), p(4, 11));
    }

    #[test]
    fn what_a_reviewer_cannot_see_is_refused() {
        for (text, at) in [
            ("\u{feff}a: 1\n", (1, 1)),
            ("a: 1\nb: x\u{202e}y\n", (2, 5)),
            ("a: x\u{200b}y\n", (1, 5)),
            ("a: \u{0007}\n", (1, 4)),
            ("a: \u{1b}[31m\n", (1, 4)),
            ("a: good\rb\n", (1, 8)),
        ] {
            let f = refused(text);
            assert_eq!((f.code, place(&f)), ("FB0101", at), "{text:?} {f}");
        }
        assert_eq!(read(b"a: \xff").expect_err("no UTF-8")[0].code, "FB0101");
    }

    #[test]
    fn anchors_aliases_merges_tags_documents_and_duplicates_are_refused_with_their_place() {
        for (text, line) in [
            ("a: &x 1\n", 1),
            ("a: 1\nb: *x\n", 2),
            ("a: 1\n<<: { b: 1 }\n", 2),
            ("a: !thing 1\n", 1),
            ("a: !!binary aGVsbG8=\nb: !!python/name:x y\n", 1),
            ("a: 1\n---\nb: 2\n", 2),
            ("a: 1\nb: 2\na: 3\n", 3),
            ("a: 1\nwith: { c: 1, c: 2 }\n", 2),
            ("a: [1, 2\n", 1),
            ("1: x\n", 1),
        ] {
            let f = refused(text);
            assert_eq!(f.code, "FB0101", "{text:?}: {f}");
            assert!(f.line >= line, "{text:?}: {f}");
        }
    }

    #[test]
    fn scalars_that_look_like_something_else_are_refused_and_quoted_ones_are_text() {
        for scalar in [
            "yes", "No", "on", "OFF", "y", "010", "0x1F", "0o17", "1_000", "+5", "~", "", ".nan",
            ".inf", "0X1F",
        ] {
            let f = refused(&format!("a: {scalar}\n"));
            assert_eq!(f.code, "FB0101", "{scalar}: {f}");
        }
        for scalar in ["yes", "010", "1_000", ""] {
            let tree = read(format!("a: \"{scalar}\"\n").as_bytes()).expect(scalar);
            assert_eq!(tree.value["a"], scalar);
        }
        for plain in [
            "10.0.0.1",
            "5m",
            "1h30m",
            "2026-01-01",
            "web-7d9",
            "3.1.4",
            "-x",
        ] {
            let tree = read(format!("a: {plain}\n").as_bytes()).expect(plain);
            assert_eq!(tree.value["a"], plain);
        }
        assert_eq!(read(b"a: 1.5\nb: -3\n").expect("reads").value["b"], -3);
    }

    #[test]
    fn an_unquoted_variable_in_a_flow_collection_gets_the_quoted_form() {
        for (text, at) in [
            ("with: { pod: ${pod} }\n", (1, 14)),
            ("a: 1\nrun: [echo, ${pod}]\n", (2, 13)),
            ("a: \"{ ${x} }\"\nb: [ '${y}', ${z} ]\n", (2, 14)),
        ] {
            let f = refused(text);
            assert_eq!((f.code, place(&f)), ("FB0307", at), "{text:?}: {f}");
        }
        assert!(read(b"a: ${pod}\nb: x ${pod} y\n").is_ok());
    }

    #[test]
    fn bombs_are_refused_quickly() {
        let deep = format!("a: {}{}\n", "[".repeat(200), "]".repeat(200));
        assert_eq!(refused(&deep).code, "FB0101");
        let wide = format!("a: [{}]\n", "1,".repeat(30_000));
        assert_eq!(refused(&wide).code, "FB0101");
        assert_eq!(refused(&"#".repeat(MAX_BYTES + 1)).code, "FB0101");
    }
}
