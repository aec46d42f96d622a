//! The relabel solver: which labels of a pod to keep, remove or replace by a value that occurs nowhere, so that no Service, no
//! controller and no allow rule selects it any more.
//!
//! - *remove* defeats matchLabels, `In` and `Exists`; it activates `NotIn` and `DoesNotExist`.
//! - *fresh* defeats matchLabels and `In`; it keeps `Exists` true and satisfies `NotIn`. On an absent key it defeats
//!   `DoesNotExist`.
//!
//! *Hard*: nothing that did not select the pod before selects it afterwards (this is what keeps a looser ReplicaSet from adopting
//! it, and what makes the move monotone); no controller, allow rule or Service selects it. *Soft*: fewest changes, and labels that
//! people read stay. Where the hard part cannot be had, the smallest conflicting set is named and its least important member given
//! up, never the first sentence.

use std::collections::{BTreeMap, BTreeSet};

use super::cluster::{
    ClusterSnapshot, Direction, Labels, NetworkPolicy, Operator, Pod, PolicyPeer, Selector,
};
use super::policy::{has_direction, rules};
use super::solver_search::{Key, Problem, search};
use super::words::{requirement_text, selector_text};

/// What a selector that can see the pod is for. The order is how readily an escape is given up: the first goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// A PodDisruptionBudget: leaving it is said, never needed.
    Budget,
    /// The subject of a policy that allows nothing: leaving it is never needed.
    Denies,
    /// A peer of an allow rule.
    Peer,
    /// A Service.
    Service,
    /// The subject of a policy that allows something.
    Allows,
    /// A controller: a pod that matches one without being its own is adopted, and may be deleted as one too many.
    Controller,
}

impl Role {
    fn must_escape(self) -> bool {
        !matches!(self, Role::Budget | Role::Denies)
    }
}

/// A selector that can see the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What it is for.
    pub role: Role,
    /// Whose it is: `Service shop/web`, `policy shop/allow-web`.
    pub name: String,
    /// The selector itself.
    pub selector: Selector,
}

/// What the solver chose.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Solution {
    /// Label → new value, `None` = removed. Labels that stay are not in it.
    pub set: BTreeMap<String, Option<String>>,
    /// Whose selector lets go, and the requirement of it that now fails.
    pub escaped: Vec<Escape>,
    /// Whose selector still matches although it should not, and why.
    pub remaining: Vec<Remains>,
    /// The smallest sets of selectors that cannot be escaped together.
    pub conflicts: Vec<Vec<String>>,
    /// False when the search was cut off: the choice holds, a cheaper one may exist.
    pub exact: bool,
}

/// A selector that lets go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Escape {
    /// What it is for.
    pub role: Role,
    /// Whose it is.
    pub name: String,
    /// The requirement that now fails.
    pub fails: String,
}

/// A selector that still matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remains {
    /// What it is for.
    pub role: Role,
    /// Whose it is.
    pub name: String,
    /// Why it cannot be escaped.
    pub why: String,
}

impl Solution {
    /// The labels after the choice.
    pub fn apply(&self, labels: &Labels) -> Labels {
        let mut after = labels.clone();
        for (key, value) in &self.set {
            match value {
                Some(value) => after.insert(key.clone(), value.clone()),
                None => after.remove(key),
            };
        }
        after
    }
    /// The controllers that would still match: moving out would then let one of them adopt the pod.
    pub fn adopters(&self) -> impl Iterator<Item = &Remains> {
        self.remaining.iter().filter(|r| r.role == Role::Controller)
    }
}

/// Every selector of the snapshot that can see a pod of this namespace.
pub fn selectors_that_see(world: &ClusterSnapshot, pod: &Pod) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut add = |role, name: String, selector: Selector| {
        seen.push(Seen {
            role,
            name,
            selector,
        });
    };
    for policy in &world.policies {
        if policy.namespace == pod.namespace {
            let role = if allows_something(policy) {
                Role::Allows
            } else {
                Role::Denies
            };
            let name = format!("policy {}/{}", policy.namespace, policy.name);
            add(role, name, policy.pod_selector.clone());
        }
        for (name, selector) in peer_selectors(world, policy, pod) {
            add(Role::Peer, name, selector);
        }
    }
    for service in world
        .services
        .iter()
        .filter(|s| s.namespace == pod.namespace)
    {
        if let Some(labels) = &service.selector {
            let name = format!("Service {}/{}", service.namespace, service.name);
            add(Role::Service, name, Selector::labels(labels.clone()));
        }
    }
    for c in world
        .controllers
        .iter()
        .filter(|c| c.namespace == pod.namespace)
    {
        let name = format!("{} {}/{}", c.kind, c.namespace, c.name);
        add(Role::Controller, name, c.selector.clone());
    }
    for b in world
        .disruption_budgets
        .iter()
        .filter(|b| b.namespace == pod.namespace)
    {
        if let Some(selector) = &b.selector {
            let name = format!("PodDisruptionBudget {}/{}", b.namespace, b.name);
            add(Role::Budget, name, selector.clone());
        }
    }
    seen
}

/// True when some rule of the policy allows something in a direction it speaks about.
pub fn allows_something(policy: &NetworkPolicy) -> bool {
    [Direction::Ingress, Direction::Egress]
        .into_iter()
        .any(|d| has_direction(policy, d) && !rules(policy, d).is_empty())
}

/// Pod selectors of a policy's peers whose namespace part holds for the pod's namespace.
fn peer_selectors(
    world: &ClusterSnapshot,
    policy: &NetworkPolicy,
    pod: &Pod,
) -> Vec<(String, Selector)> {
    let mut found = Vec::new();
    for direction in [Direction::Ingress, Direction::Egress] {
        for (n, rule) in rules(policy, direction).iter().enumerate() {
            for peer in &rule.peers {
                let PolicyPeer::Pods { namespaces, pods } = peer else {
                    continue;
                };
                let place = match namespaces {
                    None => policy.namespace == pod.namespace,
                    Some(s) => world
                        .namespaces
                        .get(&pod.namespace)
                        .is_some_and(|labels| s.matches(labels)),
                };
                if place {
                    let name = format!(
                        "a peer of policy {}/{} {} rule {}",
                        policy.namespace,
                        policy.name,
                        super::words::direction_text(direction),
                        n + 1
                    );
                    found.push((name, pods.clone().unwrap_or_default()));
                }
            }
        }
    }
    found
}

/// Chooses the label changes. `fresh` is a label value that is made distinct from every value that a selector names.
pub fn solve(labels: &Labels, seen: &[Seen], fresh: &str) -> Solution {
    let matching: Vec<&Seen> = seen.iter().filter(|s| s.selector.matches(labels)).collect();
    let never: Vec<&Selector> = distinct(
        seen.iter()
            .filter(|s| !s.selector.matches(labels))
            .map(|s| &s.selector),
    );
    let mut wanted: Vec<&Seen> = matching
        .iter()
        .copied()
        .filter(|s| s.role.must_escape())
        .collect();
    wanted.sort_by(|a, b| (a.role, &a.name).cmp(&(b.role, &b.name)));
    let fresh = distinct_value(fresh, seen);
    let mut solution = Solution {
        exact: true,
        ..Solution::default()
    };
    let attempt = |chosen: &[&Seen]| {
        let problem = problem(labels, chosen, &never, &fresh);
        search(&problem)
    };
    // Alone impossible: an empty selector, or one whose escape would make another one match.
    wanted.retain(|s| {
        let possible = attempt(&[*s]).best.is_some();
        if !possible {
            solution.remaining.push(Remains {
                role: s.role,
                name: s.name.clone(),
                why: why_never(s, labels),
            });
        }
        possible
    });
    loop {
        let found = attempt(&wanted);
        solution.exact &= found.exact;
        if let Some(set) = found.best {
            solution.set = set;
            break;
        }
        let conflict = smallest_conflict(&wanted, &attempt);
        let Some(dropped) = conflict.first().copied() else {
            break;
        };
        solution
            .conflicts
            .push(conflict.iter().map(|s| s.name.clone()).collect());
        solution.remaining.push(Remains {
            role: dropped.role,
            name: dropped.name.clone(),
            why: format!(
                "cannot be escaped together with {}",
                conflict[1..]
                    .iter()
                    .map(|s| s.name.as_str())
                    .collect::<Vec<_>>()
                    .join(" and ")
            ),
        });
        wanted.retain(|s| !std::ptr::eq(*s, dropped));
    }
    let after = solution.apply(labels);
    solution.escaped = matching
        .iter()
        .filter_map(|s| {
            failing(&s.selector, &after).map(|fails| Escape {
                role: s.role,
                name: s.name.clone(),
                fails,
            })
        })
        .collect();
    solution.remaining.retain(|r| {
        seen.iter()
            .any(|s| s.name == r.name && s.selector.matches(&after))
    });
    solution
}

/// Least important first, so that its first member is the one to give up.
fn smallest_conflict<'s>(
    wanted: &[&'s Seen],
    attempt: &impl Fn(&[&Seen]) -> super::solver_search::Found,
) -> Vec<&'s Seen> {
    for (i, a) in wanted.iter().enumerate() {
        for b in &wanted[i + 1..] {
            if attempt(&[*a, *b]).best.is_none() {
                return vec![*a, *b];
            }
        }
    }
    // More than two: take away one at a time while it stays impossible; what is left is minimal.
    let mut core: Vec<&Seen> = wanted.to_vec();
    let mut i = core.len();
    while i > 0 {
        i -= 1;
        let mut without = core.clone();
        without.remove(i);
        if attempt(&without).best.is_none() {
            core = without;
        }
    }
    core
}

fn problem<'s>(
    labels: &'s Labels,
    chosen: &[&'s Seen],
    never: &[&'s Selector],
    fresh: &str,
) -> Problem<'s> {
    let escape = distinct(chosen.iter().map(|s| &s.selector));
    let mut named: BTreeMap<&str, usize> = BTreeMap::new();
    for selector in &escape {
        for key in keys_of(selector) {
            *named.entry(key).or_default() += 1;
        }
    }
    let mut keys: Vec<(usize, Key)> = named
        .into_iter()
        .map(|(name, uses)| (uses, Key::new(name, labels.get(name), fresh)))
        .collect();
    // The key that most selectors name is decided first: that is where a branch dies soonest.
    keys.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.name.cmp(&b.1.name)));
    Problem {
        labels,
        keys: keys.into_iter().map(|(_, k)| k).collect(),
        must_fail: escape.into_iter().chain(never.iter().copied()).collect(),
    }
}

fn distinct<'s>(selectors: impl Iterator<Item = &'s Selector>) -> Vec<&'s Selector> {
    let mut all: Vec<&Selector> = Vec::new();
    let mut texts = BTreeSet::new();
    for s in selectors {
        if texts.insert(selector_text(s)) {
            all.push(s);
        }
    }
    all
}

/// Keys that a selector names.
pub fn keys_of(selector: &Selector) -> BTreeSet<&str> {
    let equal = selector.match_labels.keys().map(String::as_str);
    let expressions = selector.expressions.iter().map(|r| r.key.as_str());
    equal.chain(expressions).collect()
}

fn distinct_value(wish: &str, seen: &[Seen]) -> String {
    let values: BTreeSet<&str> = seen
        .iter()
        .flat_map(|s| {
            let equal = s.selector.match_labels.values();
            equal.chain(s.selector.expressions.iter().flat_map(|r| &r.values))
        })
        .map(String::as_str)
        .collect();
    let mut value = wish.to_owned();
    let mut n = 0;
    while values.contains(value.as_str()) {
        n += 1;
        value = format!("{wish}-{n}");
    }
    value
}

/// The first requirement of a selector that fails for these labels; `None` when it matches.
pub fn failing(selector: &Selector, labels: &Labels) -> Option<String> {
    let equal = selector
        .match_labels
        .iter()
        .find(|(k, v)| labels.get(*k) != Some(*v))
        .map(|(k, v)| format!("{k}={v}"));
    equal.or_else(|| {
        selector
            .expressions
            .iter()
            .find(|r| !r.holds(labels))
            .map(requirement_text)
    })
}

fn why_never(seen: &Seen, labels: &Labels) -> String {
    let s = &seen.selector;
    if *s == Selector::default() {
        return "its selector is empty and selects every pod".to_owned();
    }
    let only_absent = s.match_labels.is_empty()
        && s.expressions.iter().all(|r| {
            matches!(r.operator, Operator::NotIn | Operator::DoesNotExist)
                && !labels.contains_key(&r.key)
        });
    if only_absent {
        return format!(
            "`{}` holds because the pod does not carry the label",
            selector_text(s)
        );
    }
    format!(
        "leaving `{}` would make another selector match",
        selector_text(s)
    )
}
