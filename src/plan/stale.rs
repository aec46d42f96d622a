//! Whether a plan still holds: definition, trust, binding facts, age. The first fact that changed is named (FB0401).

use chrono::{DateTime, Duration, Utc};

use super::plan::Plan;

/// A plan is good for this long.
pub const GOOD_FOR_MIN: i64 = 30;

/// Why a plan no longer holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the plan is stale: {fact} was {planned}, and is {now}")]
pub struct Stale {
    /// The fact, with its step where it belongs to one.
    pub fact: String,
    /// In the plan.
    pub planned: String,
    /// Now.
    pub now: String,
}

/// Holds a plan against one made anew from what is seen now.
///
/// # Errors
/// With the first fact that differs.
pub fn check(plan: &Plan, fresh: &Plan, now: DateTime<Utc>) -> Result<(), Stale> {
    age(plan, now)?;
    same(
        "the playbook",
        &plan.playbook_sha256,
        &fresh.playbook_sha256,
    )?;
    same(
        "the trust (policy, people, keys)",
        &plan.trust_sha256,
        &fresh.trust_sha256,
    )?;
    same("the policy", &plan.policy, &fresh.policy)?;
    same("the executor", &plan.executor, &fresh.executor)?;
    for (name, value) in &plan.vars {
        let now = fresh
            .vars
            .get(name)
            .map_or("absent".into(), |v| v.to_string());
        same(&format!("variable `{name}`"), &value.to_string(), &now)?;
    }
    facts("", &plan.binding, &fresh.binding)?;
    for step in &plan.steps {
        let Some(now) = fresh.steps.iter().find(|s| s.path == step.path) else {
            return same(&format!("step `{}`", step.path), "there", "gone");
        };
        facts(
            &format!(" of step `{}`", step.path),
            &step.binding,
            &now.binding,
        )?;
    }
    Ok(())
}

fn age(plan: &Plan, now: DateTime<Utc>) -> Result<(), Stale> {
    let made = DateTime::parse_from_rfc3339(&plan.made).map(|t| t.with_timezone(&Utc));
    match made {
        Ok(made)
            if now - made <= Duration::minutes(GOOD_FOR_MIN)
                && made - now <= Duration::minutes(2) =>
        {
            Ok(())
        }
        _ => Err(Stale {
            fact: "its time".into(),
            planned: plan.made.clone(),
            now: format!(
                "{} (a plan is good for {GOOD_FOR_MIN} min)",
                now.to_rfc3339()
            ),
        }),
    }
}

fn facts(
    of: &str,
    planned: &std::collections::BTreeMap<String, String>,
    now: &std::collections::BTreeMap<String, String>,
) -> Result<(), Stale> {
    for name in planned.keys().chain(now.keys()) {
        let value = |map: &std::collections::BTreeMap<String, String>| {
            map.get(name).cloned().unwrap_or_else(|| "absent".into())
        };
        same(&format!("{name}{of}"), &value(planned), &value(now))?;
    }
    Ok(())
}

fn same(fact: &str, planned: &str, now: &str) -> Result<(), Stale> {
    if planned == now {
        return Ok(());
    }
    Err(Stale {
        fact: fact.to_owned(),
        planned: planned.to_owned(),
        now: now.to_owned(),
    })
}
