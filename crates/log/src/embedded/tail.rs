//! Committed reads without a group.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Shared;
use super::fault::fatal;
use super::signal::{Signal, deadline_after};
use super::store::{Budget, TopicEntry};
use crate::{Batch, Fault, Position, Tail, Topic};

/// What one poll answers at most (and one chunk more).
pub(super) const POLL_RECORDS_MAX: usize = 4096;
pub(super) const POLL_BYTES_MAX: usize = 4 * 1024 * 1024;

pub(super) struct EmbeddedTail {
    shared: Arc<Shared>,
    signal: Arc<Signal>,
    cursors: Vec<Cursor>,
    index: BTreeMap<(Topic, u32), usize>,
    /// Where the next poll begins, so that no partition starves another.
    turn: usize,
}

struct Cursor {
    entry: Arc<TopicEntry>,
    partition: u32,
    next_offset: u64,
}

impl EmbeddedTail {
    pub(super) fn new(shared: Arc<Shared>, from: &[Position]) -> Result<Self, Fault> {
        let mut tail = Self {
            shared,
            signal: Arc::default(),
            cursors: Vec::with_capacity(from.len()),
            index: BTreeMap::new(),
            turn: 0,
        };
        for position in from {
            let entry = tail.shared.store.require_topic(&position.topic)?;
            if entry.extent(position.partition).is_none() {
                return Err(fatal(
                    "partition_missing",
                    format!("{}-{} does not exist", position.topic, position.partition),
                ));
            }
            if tail.index.insert((position.topic.clone(), position.partition), tail.cursors.len()).is_some() {
                return Err(fatal(
                    "partition_twice",
                    format!("{}-{} is named twice", position.topic, position.partition),
                ));
            }
            if !tail.cursors.iter().any(|cursor| cursor.entry.id == entry.id) {
                entry.waiters.add(&tail.signal);
            }
            tail.cursors.push(Cursor { entry, partition: position.partition, next_offset: position.offset });
        }
        Ok(tail)
    }

    fn fill(&mut self, into: &mut Batch) -> Result<(), Fault> {
        let mut budget = Budget::new(POLL_RECORDS_MAX, POLL_BYTES_MAX);
        let count = self.cursors.len();
        let (later, first) = self.cursors.split_at_mut(self.turn.min(count));
        for cursor in first.iter_mut().chain(later) {
            let from = (cursor.partition, cursor.next_offset);
            cursor.next_offset = self.shared.store.read_entry(&cursor.entry, from, &mut budget, into)?;
        }
        self.turn = (self.turn + 1) % count.max(1);
        Ok(())
    }

    fn is_drained(&self) -> bool {
        self.cursors.iter().all(|cursor| cursor.next_offset >= cursor.entry.end(cursor.partition))
    }
}

impl Tail for EmbeddedTail {
    fn poll(&mut self, wait: Duration, into: &mut Batch) -> Result<bool, Fault> {
        let deadline = deadline_after(wait);
        let before = into.records.len();
        loop {
            self.signal.reset();
            self.fill(into)?;
            let is_done = into.records.len() > before || Instant::now() >= deadline;
            if is_done {
                return Ok(self.is_drained());
            }
            // A partition that yielded nothing but moved on (compacted away) must not wait.
            if self.is_drained() {
                self.signal.wait_until(deadline);
            }
        }
    }

    fn positions(&self) -> Vec<Position> {
        self.cursors.iter().map(|cursor| cursor.entry.position(cursor.partition, cursor.next_offset)).collect()
    }

    fn seek(&mut self, at: &[Position]) -> Result<(), Fault> {
        for position in at {
            let found = self.index.get(&(position.topic.clone(), position.partition)).copied();
            let Some(cursor) = found.and_then(|index| self.cursors.get_mut(index)) else {
                return Err(fatal(
                    "partition_missing",
                    format!("{}-{} is not read", position.topic, position.partition),
                ));
            };
            cursor.next_offset = position.offset;
        }
        Ok(())
    }
}
