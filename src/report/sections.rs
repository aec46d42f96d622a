//! The document's sections: keys that never change, titles, who fills them, and one line of guidance where a person writes.

/// How a section's facts come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// From entries (and rules over them) alone.
    Facts,
    /// A person writes, with the facts beside it.
    Prompt,
}

/// One section of the incident document or of the lessons learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    /// Key, as `report.text` names it. Never renamed.
    pub key: &'static str,
    /// Number in the incident document; `None` for the lessons learned.
    pub number: Option<u8>,
    /// Title.
    pub title: &'static str,
    /// Who fills it.
    pub fill: Fill,
    /// One line of guidance where a person writes, else empty.
    pub guidance: &'static str,
}

const fn facts(number: u8, key: &'static str, title: &'static str) -> Section {
    Section {
        key,
        number: Some(number),
        title,
        fill: Fill::Facts,
        guidance: "",
    }
}

const fn prompt(
    number: u8,
    key: &'static str,
    title: &'static str,
    guidance: &'static str,
) -> Section {
    Section {
        key,
        number: Some(number),
        title,
        fill: Fill::Prompt,
        guidance,
    }
}

const fn lesson(key: &'static str, title: &'static str, guidance: &'static str) -> Section {
    Section {
        key,
        number: None,
        title,
        fill: Fill::Prompt,
        guidance,
    }
}

const ALL: &[Section] = &[
    facts(0, "document-control", "Document control"),
    prompt(
        1,
        "executive-summary",
        "Executive summary",
        "five sentences: what happened, when, its effect, the state now, what comes next",
    ),
    prompt(
        2,
        "classification",
        "Classification",
        "category; the actor, action, asset and attribute concerned; ATT&CK ids; whether it is material, decided by whom",
    ),
    facts(3, "key-times", "Key times"),
    facts(4, "metrics", "Metrics and objectives"),
    prompt(
        5,
        "detection",
        "Detection",
        "the first signal and who saw it; signals that were missed; how would you halve the time to detect",
    ),
    facts(6, "timeline", "Timeline"),
    prompt(
        7,
        "impact",
        "Impact",
        "users and records concerned, number and share; confidentiality, integrity, availability; countries; third parties; costs",
    ),
    prompt(
        8,
        "technical-narrative",
        "Technical narrative",
        "first access, actions, lateral movement, data touched, indicators; cite exhibits by their number",
    ),
    facts(9, "response", "Response"),
    facts(10, "exhibits", "Exhibit register"),
    facts(11, "recovery", "Recovery"),
    facts(12, "communications", "Communications"),
    prompt(
        13,
        "root-cause",
        "Root cause and contributing factors",
        "the method used; the trigger; latent conditions; controls that failed and controls that held",
    ),
    prompt(
        14,
        "residual-risk",
        "Residual risk and what is still unknown",
        "each risk or open question with an owner and a date; start from the lists of section 9",
    ),
    prompt(
        15,
        "recurrence",
        "Recurrence",
        "earlier incidents with the same cause, or that there are none and how that was checked",
    ),
    facts(16, "actions", "Actions"),
    facts(17, "annexes", "Annexes"),
    lesson(
        "lessons-difference",
        "What happened, and what should have",
        "what happened, what should have happened, and how the difference came about",
    ),
    lesson(
        "lessons-went-well",
        "What went well",
        "what worked and should be kept, with the fact that shows it",
    ),
    lesson(
        "lessons-went-wrong",
        "What went wrong",
        "what hindered or delayed; ask how and what, never who",
    ),
    lesson(
        "lessons-got-lucky",
        "Where we got lucky",
        "what would have made it worse and did not happen by chance",
    ),
    lesson(
        "lessons-procedures",
        "Procedures",
        "were they followed and adequate; what was needed sooner; did a step hinder recovery; which indicators to watch",
    ),
    lesson(
        "lessons-start-stop-continue",
        "Start, stop, continue",
        "one line each: what to start, what to stop, what to continue",
    ),
    lesson(
        "lessons-effect-check",
        "Check of effect",
        "the date on which somebody checks that the actions worked, and by which measure",
    ),
];

/// Every section, in the order of the document, then those of the lessons learned.
pub fn sections() -> &'static [Section] {
    ALL
}

/// Finds a section by its key.
pub fn section(key: &str) -> Option<&'static Section> {
    ALL.iter().find(|s| s.key == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_unique_and_numbers_run_from_0_to_17() {
        let numbers: Vec<u8> = ALL.iter().filter_map(|s| s.number).collect();
        assert_eq!(numbers, (0..=17).collect::<Vec<_>>());
        let mut keys: Vec<&str> = ALL.iter().map(|s| s.key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), ALL.len());
        assert!(
            ALL.iter()
                .all(|s| (s.fill == Fill::Prompt) != s.guidance.is_empty())
        );
    }
}
