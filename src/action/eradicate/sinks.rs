//! Sinks: what they hold, what they held, and what a write of one needs.

use std::collections::BTreeMap;

use crate::incident::rotate::RotateIntent;
use crate::port::{Cause, PortError, Secret, SecretObject};
use crate::rotation::call::Value;
use crate::rotation::plan::{Item, Sink};

use super::carry::{Carrier, Rotation};
use super::hand;
use super::prepare::{Load, Problem};

impl Rotation {
    /// A sink's write: what is there must be the new value or the old one.
    pub(super) async fn sink(
        &self,
        at: &mut Carrier,
        index: usize,
        value: Value,
        intent: &mut RotateIntent,
    ) -> Result<Load, Problem> {
        let item = self.item(at.item).clone();
        let sink = &item.sinks[index];
        let new = self.new_values(at, sink);
        let old = self.old_values(at, sink).await?;
        let (wanted, other) = match value {
            Value::New => (new, old),
            Value::Old => (old, new),
        };
        if wanted.is_empty() {
            return Err(Problem::new(
                "not-found",
                "the value to write is not at hand",
            ));
        }
        let object = self.sink_object(sink).await?;
        let known = |key: &str, there: &Secret| {
            [&wanted, &other]
                .iter()
                .any(|v| v.get(key).is_some_and(|v| v.same_as(there)))
        };
        // Without the old value in any secret store, what is there was kept when the new one was: it is what `other` holds.
        let foreign = wanted.keys().find(|key| {
            object
                .data
                .get(*key)
                .is_some_and(|there| !known(key, there))
        });
        if let Some(key) = foreign {
            return Err(Problem::new(
                "conflict",
                format!(
                    "{} key `{key}` holds neither the old nor the new value",
                    sink.place()
                ),
            ));
        }
        if let Some(writer) = &object.written_by {
            return Err(Problem::new(
                "conflict",
                format!("{} is written by {writer}: change it there", sink.place()),
            ));
        }
        let keys: Vec<&str> = wanted.keys().map(String::as_str).collect();
        intent.params.insert("keys".into(), keys.join(","));
        intent
            .before
            .insert("resource_version".into(), object.version.clone());
        intent.fp = wanted.values().next_back().map(|v| self.fp(&item, v));
        Ok(Load::Sink(object, wanted))
    }

    pub(super) async fn sink_object(&self, sink: &Sink) -> Result<SecretObject, PortError> {
        let o = &sink.object;
        let workloads = self.workloads()?;
        let object = self
            .patiently(|| workloads.secret(&o.namespace, &o.name))
            .await?;
        if !o.uid.is_empty() && object.object.uid != o.uid {
            return Err(PortError::new(
                Cause::Conflict,
                "write the Secret",
                sink.place(),
                "it is another object than the one planned on",
            ));
        }
        Ok(object)
    }

    /// What the sink gets of the new credential.
    pub(super) fn new_values(&self, at: &Carrier, sink: &Sink) -> BTreeMap<String, Secret> {
        let new = at.hand.new.as_ref();
        new.map(|n| hand::sink_values(sink, n)).unwrap_or_default()
    }

    /// What the sink held before: of the old credential, or what the run's own secret kept.
    pub(super) async fn old_values(
        &self,
        at: &mut Carrier,
        sink: &Sink,
    ) -> Result<BTreeMap<String, Secret>, Problem> {
        if let Some(kept) = at.hand.before.get(&sink.place()) {
            let copy = |(k, v): (&String, &Secret)| (k.clone(), v.duplicate());
            return Ok(kept.iter().map(copy).collect());
        }
        let old = self.old(at).await?;
        Ok(old.map(|o| hand::sink_values(sink, o)).unwrap_or_default())
    }

    /// What the sinks hold now, kept with the new value where no other secret has the old one.
    pub(super) async fn sinks_before(&self, item: &Item) -> Result<hand::Before, Problem> {
        let mut before = BTreeMap::new();
        for sink in &item.sinks {
            let object = self.sink_object(sink).await?;
            let mut data = object.data;
            let keys = sink
                .keys
                .values()
                .filter_map(|key| data.remove(key).map(|v| (key.clone(), v)));
            before.insert(sink.place(), keys.collect());
        }
        Ok(before)
    }
}
