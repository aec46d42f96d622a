//! The writes of an incident as the ledger tells them: what is still in force, what was there before, what is open.

use std::collections::BTreeMap;

use crate::incident::body::{ObjectRef, WriteIntended, WriteSeen};
use crate::incident::{Entry, History, RunId, StepPath, kind};

/// Field → value, `None` = absent.
pub(super) type Fields = BTreeMap<String, Option<String>>;

/// A write of ours that is in force or may be.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Live {
    /// `seq` of its last intent.
    pub intent: u64,
    /// The object, with its UID as soon as it was seen.
    pub object: ObjectRef,
    /// What kind of write.
    pub what: String,
    /// What was there before the *first* intent of each field.
    pub before: Fields,
    /// What its intents wrote; a later one adds its fields to those of the earlier.
    pub written: Fields,
    /// False while no look has confirmed it.
    pub seen: bool,
    /// `seq` of a reversal whose outcome is open.
    pub reversal: Option<u64>,
    /// What was in force before the last intent, while that is open: a refusal falls back to it.
    confirmed: Option<Fields>,
    run: Option<String>,
    step: Option<String>,
}

impl Live {
    /// What must be there when the last intent is sent again: what was confirmed, else what was found.
    pub fn expected(&self) -> Fields {
        let mut expected = self.before.clone();
        expected.extend(self.confirmed.iter().flatten().map(pair));
        expected
    }
    /// True when a step wrote it.
    pub fn is_of(&self, run: &RunId, step: &StepPath) -> bool {
        self.run.as_deref() == Some(run.as_str()) && self.step.as_deref() == Some(step.as_str())
    }
}

impl Live {
    /// A further intent of the same write: its fields join those in force, and what was found first stays what was found.
    fn again(&mut self, intent: u64, body: WriteIntended) {
        self.intent = intent;
        if self.seen {
            self.confirmed = Some(self.written.clone());
        }
        for (field, was) in body.before {
            self.before.entry(field).or_insert(was);
        }
        self.written.extend(body.written);
        self.seen = false;
    }
}

fn pair<'f>((field, value): (&'f String, &'f Option<String>)) -> (String, Option<String>) {
    (field.clone(), value.clone())
}

/// All writes in force, oldest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Journal {
    /// The writes.
    pub live: Vec<Live>,
}

impl Journal {
    /// Reads a history.
    pub fn of(history: &History) -> Self {
        let mut journal = Journal::default();
        for entry in &history.entries {
            if let Some(intended) = entry.body_as::<WriteIntended>(kind::WRITE_INTENDED) {
                journal.intended(entry, intended);
            } else if let Some(seen) = entry.body_as::<WriteSeen>(kind::WRITE_SEEN) {
                journal.saw(entry, seen);
            }
        }
        journal
    }

    /// The write of this kind on this object, if it is in force.
    pub fn find(&self, object: &ObjectRef, what: &str) -> Option<&Live> {
        self.live
            .iter()
            .find(|l| l.what == what && same(&l.object, object))
    }

    fn intended(&mut self, entry: &Entry, body: WriteIntended) {
        let known = self
            .live
            .iter_mut()
            .find(|l| l.what == body.what && same(&l.object, &body.object));
        match (known, body.reversal) {
            (Some(live), true) => live.reversal = Some(entry.seq),
            // A reversal of nothing in force: a look at an object that was never ours.
            (None, true) => {}
            (Some(live), false) => live.again(entry.seq, body),
            (None, false) => self.live.push(Live {
                intent: entry.seq,
                object: body.object,
                what: body.what,
                before: body.before,
                written: body.written,
                seen: false,
                reversal: None,
                confirmed: None,
                run: entry.refs.run.clone(),
                step: entry.refs.step.clone(),
            }),
        }
    }

    fn saw(&mut self, entry: &Entry, body: WriteSeen) {
        let intent = entry.refs.intent;
        let Some(at) = self.live.iter().position(|l| {
            let by_number = intent == Some(l.intent) || intent == l.reversal && intent.is_some();
            by_number && l.what == body.what
        }) else {
            return;
        };
        let happened = matches!(body.verdict.as_str(), "written" | "already");
        match (body.reversal, happened, body.verdict.as_str()) {
            (true, true, _) | (_, false, "gone") => {
                self.live.remove(at);
            }
            (true, false, _) => self.live[at].reversal = None,
            (false, true, _) => {
                self.live[at].seen = true;
                self.live[at].confirmed = None;
                self.live[at].object = body.object;
            }
            // Refused, or somebody else's value was there: what was in force before is so still, or nothing of ours came to be.
            (false, false, _) => match self.live[at].confirmed.take() {
                Some(confirmed) => {
                    self.live[at]
                        .before
                        .retain(|k, _| confirmed.contains_key(k));
                    self.live[at].written = confirmed;
                    self.live[at].seen = true;
                }
                None => {
                    self.live.remove(at);
                }
            },
        }
    }
}

/// Pods are told apart by UID; what we name ourselves by its name.
fn same(a: &ObjectRef, b: &ObjectRef) -> bool {
    let named = a.kind == b.kind && a.namespace == b.namespace && a.name == b.name;
    named && (a.kind != "Pod" || a.uid == b.uid)
}
