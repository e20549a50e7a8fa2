//! A step whose outputs tell on any state that is lost, doubled or stale: it counts, and knows what it has seen.

use std::collections::BTreeMap;

use bytes::Bytes;
use countersign_log::{Committed, Fault, Position, Record, Topic};
use stage::{Effects, Emit, Step, StepError};

pub(crate) const COUNT: &[u8] = b"count";

/// The topics of one simulated step.
#[derive(Clone)]
pub(crate) struct Topics {
    pub(crate) input: Topic,
    /// By key: an input's output lies in any partition.
    pub(crate) spread: Topic,
    /// In the partition of the input.
    pub(crate) beside: Topic,
    pub(crate) state: Topic,
    pub(crate) dead: Topic,
}

impl Topics {
    pub(crate) fn new() -> Self {
        let [input, spread, beside, state, dead] = ["in", "spread", "beside", "state", "dead"].map(Topic::new);
        Self { input, spread, beside, state, dead }
    }
}

/// What follows from the `count`th record of a partition.
pub(crate) fn output(partition: u32, count: u64, value: &str, is_repeated: bool) -> String {
    let kind = if is_repeated { "again" } else { "new" };
    format!("{partition}:{count}:{value}:{kind}")
}

pub(crate) fn seen(record_key: &[u8]) -> Vec<u8> {
    [b"seen:", record_key].concat()
}

/// Keeps the count of a batch in memory until its end, as the steps that add up do.
pub(crate) struct Counter {
    topics: Topics,
    counts: BTreeMap<u32, u64>,
}

impl Counter {
    pub(crate) fn new(topics: Topics) -> Self {
        Self { topics, counts: BTreeMap::new() }
    }

    fn counted(&self, partition: u32, effects: &dyn Effects) -> Result<u64, Fault> {
        match self.counts.get(&partition) {
            Some(count) => Ok(*count),
            None => Ok(effects.get(COUNT)?.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes)),
        }
    }
}

impl Step for Counter {
    fn apply(&mut self, record: &Record, effects: &mut dyn Effects) -> Result<(), StepError> {
        let count = self.counted(record.partition, effects)? + 1;
        let cell = seen(record.key.as_deref().unwrap_or_default());
        let is_repeated = effects.get(&cell)?.is_some();
        effects.put(&cell, Some(b"1"))?;
        let value = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned();
        let value = Bytes::from(output(record.partition, count, &value, is_repeated));
        for (topic, partition) in [(&self.topics.spread, None), (&self.topics.beside, Some(record.partition))] {
            effects.emit(Emit {
                topic: topic.clone(),
                partition,
                key: record.key.clone(),
                value: Some(value.clone()),
                headers: Vec::new(),
            })?;
        }
        self.counts.insert(record.partition, count);
        Ok(())
    }

    fn finish(&mut self, partition: u32, effects: &mut dyn Effects) -> Result<(), StepError> {
        if let Some(count) = self.counts.get(&partition) {
            effects.put(COUNT, Some(&count.to_be_bytes()))?;
        }
        Ok(())
    }

    fn committed(&mut self, _: &Committed) {
        self.counts.clear();
    }

    fn reset(&mut self, _: &[Position]) {
        self.counts.clear();
    }
}
