//! Which probes are made, and what each says. Pure.
//!
//! Every cell has its positive control: an unaffected pod to the same destination (egress), or the same source to an unaffected pod's
//! port (ingress), at the same moment. Destinations are the cluster's own: never the suspect's peers, a probe must not warn anybody.

use crate::incident::body::ProofCell;
use crate::port::{ProbeTarget, Tried};
use crate::reach::cluster::Pod;

/// The word for a probe that was not made.
pub(super) const NOT_TRIED: &str = "not-tried";

/// One cell before it is tried.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    /// `ingress` or `egress`.
    pub direction: &'static str,
    /// Where the probe starts.
    pub from: Pod,
    /// Where it goes.
    pub to: ProbeTarget,
    /// For people.
    pub to_name: String,
    /// Where the control starts and goes; none where nobody can be asked.
    pub control: Option<(Pod, ProbeTarget)>,
    /// What stands there is the target's own node: the standard lets that through.
    pub own_node: bool,
    /// What it rests on.
    pub basis: String,
}

/// A destination in a table.
pub(super) fn to_text(name: &str, to: &ProbeTarget) -> String {
    format!("{name} ({to}/TCP)")
}

/// The cell as the proof table holds it, before its verdict.
pub(super) fn row(
    cell: &Cell,
    before: &str,
    after: Option<Tried>,
    control: Option<Tried>,
) -> ProofCell {
    let word = |t: Option<Tried>| t.map_or(NOT_TRIED, Tried::as_str).to_owned();
    let (after, control) = (word(after), word(control));
    let verdict = match judge(before, &after, &control) {
        "bypass" if cell.own_node => "spec-exception",
        said => said,
    };
    ProofCell {
        direction: cell.direction.into(),
        from: format!("pod {}", cell.from.id()),
        to: to_text(&cell.to_name, &cell.to),
        before: before.to_owned(),
        verdict: verdict.into(),
        after,
        control,
        basis: cell.basis.clone(),
    }
}

/// What a cell says. Only *was open, is blocked, still open for others* proves a deny.
pub(super) fn judge(before: &str, after: &str, control: &str) -> &'static str {
    match (before, after, control) {
        (_, "open", _) => "bypass",
        (_, NOT_TRIED, _) => NOT_TRIED,
        ("open", "refused" | "silent", "open") => "match",
        ("open", "refused" | "silent", _) => "no-control",
        _ => "unreachable",
    }
}

/// The verdict over a table, with what is missing. `still_allowed` is what the policies say.
pub(super) fn verdict(
    cells: &[ProofCell],
    still_allowed: &[String],
) -> (&'static str, Vec<String>) {
    let mut why: Vec<String> = cells
        .iter()
        .filter(|c| c.verdict == "bypass")
        .map(|c| format!("{} from {} to {} got through", c.direction, c.from, c.to))
        .collect();
    let bypassed = !why.is_empty();
    why.extend(
        still_allowed
            .iter()
            .map(|line| format!("still allowed: {line}")),
    );
    if bypassed && still_allowed.is_empty() {
        why.push(
            "the policies deny it, so the network plugin does not enforce them here (yet)".into(),
        );
    }
    if bypassed || !still_allowed.is_empty() {
        return ("not-contained", why);
    }
    for direction in ["egress", "ingress"] {
        let of = |v: &str| {
            cells
                .iter()
                .filter(|c| c.direction == direction && c.verdict == v)
                .count()
        };
        if of("match") > 0 {
            continue;
        }
        why.push(if of("no-control") > 0 {
            format!("{direction}: blocked, but no unaffected pod got through at that moment either, or none could be asked")
        } else if of("unreachable") > 0 {
            format!("{direction}: blocked, but it was not seen open before isolation")
        } else if of("spec-exception") > 0 {
            format!("{direction}: only the pod's own node could be tried, and that always gets through")
        } else {
            format!("{direction}: no probe could be made")
        });
    }
    if why.is_empty() {
        ("isolated", why)
    } else {
        ("not-proven", why)
    }
}

/// What open connections mean, and what ends them. Printed, never run: the node is not ours.
pub(super) fn open_words(pod: &str, open: usize, node: &str, addresses: &[String]) -> String {
    let commands: Vec<String> = addresses
        .iter()
        .flat_map(|a| {
            let family = if a.contains(':') { " -f ipv6" } else { "" };
            ["-s", "-d"].map(|end| format!("`conntrack -D{family} {end} {a}`"))
        })
        .collect();
    format!(
        "denied for new flows only: {open} connection(s) that were open stay open; to end them: on node {node} {}, then prove again with \
         `firebreak contain pod {pod}` (a connection that says nothing looks open until it tries to), or delete the pod after its bag verifies",
        commands.join(" and ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(direction: &str, before: &str, after: &str, control: &str) -> ProofCell {
        ProofCell {
            direction: direction.into(),
            from: "pod a".into(),
            to: "pod b".into(),
            before: before.into(),
            after: after.into(),
            control: control.into(),
            verdict: judge(before, after, control).into(),
            basis: String::new(),
        }
    }

    #[test]
    fn only_was_open_is_blocked_and_open_for_others_is_a_match() {
        for (before, after, control, verdict) in [
            ("open", "silent", "open", "match"),
            ("open", "refused", "open", "match"),
            ("not-tried", "refused", "open", "unreachable"),
            ("not-tried", "silent", "open", "unreachable"),
            ("silent", "silent", "open", "unreachable"),
            ("open", "silent", "silent", "no-control"),
            ("open", "silent", "not-tried", "no-control"),
            ("open", "open", "open", "bypass"),
            ("not-tried", "open", "not-tried", "bypass"),
            ("open", "not-tried", "open", "not-tried"),
        ] {
            assert_eq!(
                judge(before, after, control),
                verdict,
                "{before} {after} {control}"
            );
        }
    }

    #[test]
    fn isolated_needs_a_match_in_both_directions() {
        let out = cell("egress", "open", "silent", "open");
        let into = cell("ingress", "open", "refused", "open");
        assert_eq!(verdict(&[out.clone(), into.clone()], &[]).0, "isolated");
        assert_eq!(verdict(std::slice::from_ref(&out), &[]).0, "not-proven");
        assert_eq!(verdict(&[], &[]).0, "not-proven");
        let through = cell("egress", "open", "open", "open");
        assert_eq!(verdict(&[out, into, through], &[]).0, "not-contained");
    }

    #[test]
    fn what_ends_open_connections_and_proves_again_can_be_typed() {
        let said = open_words("shop/web-0", 1, "node-1", &["10.0.0.7".into()]);
        assert!(
            said.contains("`conntrack -D -s 10.0.0.7`")
                && said.contains("`firebreak contain pod shop/web-0`"),
            "{said}"
        );
    }

    #[test]
    fn what_policies_still_allow_is_never_contained() {
        let out = cell("egress", "open", "silent", "open");
        let into = cell("ingress", "open", "silent", "open");
        let (word, why) = verdict(&[out, into], &["egress to everybody".into()]);
        assert_eq!(word, "not-contained");
        assert!(why[0].contains("egress to everybody"));
    }
}
