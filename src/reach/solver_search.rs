//! Branch and bound over the choices of the relabel solver. Deterministic: it is bounded by nodes, never by time.

use std::collections::BTreeMap;

use super::cluster::{Labels, Selector};
use super::solver::keys_of;

/// Nodes after which the best choice so far is taken. Twelve keys of three choices (3¹²) fit without pruning.
const MOST_NODES: u32 = 600_000;

/// What a change costs; a label that people read costs one more.
const CHANGE: u32 = 10;

/// Labels that people read first; changing them is the last thing to do.
const READ_BY_PEOPLE: [&str; 6] = [
    "app",
    "name",
    "k8s-app",
    "component",
    "app.kubernetes.io/name",
    "app.kubernetes.io/component",
];

/// A label key that may be changed.
pub(super) struct Key {
    /// Its name.
    pub name: String,
    /// Choices, cheapest first: the value afterwards and what it costs.
    choices: Vec<(Option<String>, u32)>,
}

impl Key {
    /// Keep, remove or fresh for a present key; keep absent or fresh for an absent one.
    pub fn new(name: &str, now: Option<&String>, fresh: &str) -> Self {
        let read = u32::from(READ_BY_PEOPLE.contains(&name));
        let mut choices = vec![(now.cloned(), 0)];
        if now.is_some() {
            choices.push((None, CHANGE + read));
        }
        choices.push((Some(fresh.to_owned()), CHANGE + 1 + read));
        Key {
            name: name.to_owned(),
            choices,
        }
    }
}

/// Labels, the keys that may change, and selectors that must not match afterwards.
pub(super) struct Problem<'s> {
    /// Labels now.
    pub labels: &'s Labels,
    /// Keys in the order in which they are decided.
    pub keys: Vec<Key>,
    /// None of these may match.
    pub must_fail: Vec<&'s Selector>,
}

/// The best choice.
pub(super) struct Found {
    /// Changed labels; `None` when there is no choice.
    pub best: Option<BTreeMap<String, Option<String>>>,
    /// False when the search was cut off.
    pub exact: bool,
}

/// Finds the cheapest choice.
pub(super) fn search(problem: &Problem<'_>) -> Found {
    // A selector is judged as soon as the last of its keys is decided.
    let mut ripe: Vec<Vec<&Selector>> = vec![Vec::new(); problem.keys.len() + 1];
    for selector in &problem.must_fail {
        let named = keys_of(selector);
        let last = problem
            .keys
            .iter()
            .rposition(|k| named.contains(k.name.as_str()));
        ripe[last.map_or(0, |n| n + 1)].push(selector);
    }
    let mut walk = Walk {
        problem,
        ripe,
        labels: problem.labels.clone(),
        nodes: 0,
        best: None,
    };
    if walk.holds(0) {
        walk.down(0, 0);
    }
    let exact = walk.nodes < MOST_NODES;
    let changed = |labels: Labels| {
        problem
            .keys
            .iter()
            .filter(|k| labels.get(&k.name) != problem.labels.get(&k.name))
            .map(|k| (k.name.clone(), labels.get(&k.name).cloned()))
            .collect()
    };
    Found {
        best: walk.best.map(|(_, labels)| changed(labels)),
        exact,
    }
}

struct Walk<'p, 's> {
    problem: &'p Problem<'s>,
    ripe: Vec<Vec<&'s Selector>>,
    labels: Labels,
    nodes: u32,
    best: Option<(u32, Labels)>,
}

impl Walk<'_, '_> {
    fn holds(&self, depth: usize) -> bool {
        !self.ripe[depth].iter().any(|s| s.matches(&self.labels))
    }

    fn down(&mut self, depth: usize, cost: u32) {
        self.nodes += 1;
        if self.nodes >= MOST_NODES || self.best.as_ref().is_some_and(|(least, _)| cost >= *least) {
            return;
        }
        let Some(key) = self.problem.keys.get(depth) else {
            self.best = Some((cost, self.labels.clone()));
            return;
        };
        let before = self.labels.get(&key.name).cloned();
        for (value, price) in &key.choices {
            put(&mut self.labels, &key.name, value.clone());
            if self.holds(depth + 1) {
                self.down(depth + 1, cost + price);
            }
        }
        put(&mut self.labels, &key.name, before);
    }
}

fn put(labels: &mut Labels, key: &str, value: Option<String>) {
    match value {
        Some(value) => labels.insert(key.to_owned(), value),
        None => labels.remove(key),
    };
}
