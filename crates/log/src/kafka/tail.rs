//! Committed reads without a group.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::Offset;

use super::clients::{Clients, known_offset, known_partition, places, wait_let_go};
use super::driver::{Driver, Fetched, Reads};
use super::fault::{During, fault, is_of_unknown_topic, is_passing, misconfigured};
use super::librdkafka::Librdkafka;
use crate::{Batch, Fault, Position, Tail, Topic};

/// Bounds of one poll.
pub(super) const POLL_RECORDS_MAX: usize = 1_000;
pub(super) const POLL_BYTES_MAX: usize = 4 << 20;
/// What librdkafka may fetch ahead of a slow reader.
const AHEAD_KBYTES: u32 = 8_192;
/// Ends that were asked for so recently are still good to say that a reader has reached them.
const ENDS_GOOD_FOR: Duration = Duration::from_millis(10);

pub(super) struct KafkaTail<D: Driver = Librdkafka> {
    clients: Arc<Clients<D>>,
    reader: D::Reader,
    topics: Vec<Topic>,
    next: BTreeMap<(Topic, u32), u64>,
    ends: BTreeMap<(Topic, u32), u64>,
    ends_asked: Option<Instant>,
    /// An error that came while there were records to hand out; librdkafka tells it only once.
    failed: Option<Fault>,
}

impl<D: Driver> KafkaTail<D> {
    pub(super) fn open(clients: Arc<Clients<D>>, from: &[Position]) -> Result<Self, Fault> {
        let next: BTreeMap<_, _> = from.iter().map(|at| ((at.topic.clone(), at.partition), at.offset)).collect();
        let mut topics: Vec<Topic> = from.iter().map(|at| at.topic.clone()).collect();
        topics.sort();
        topics.dedup();
        for topic in &topics {
            let partitions = clients.require_partitions(topic)?;
            if let Some(at) = from.iter().find(|at| at.topic == *topic && at.partition >= partitions) {
                return Err(misconfigured("partition_missing", format!("{topic} has no partition {}", at.partition)));
            }
        }
        let reader = clients.reader(AHEAD_KBYTES)?;
        let tail = Self { clients, reader, topics, next, ends: BTreeMap::new(), ends_asked: None, failed: None };
        tail.assign()?;
        Ok(tail)
    }

    fn assign(&self) -> Result<(), Fault> {
        let list = places(self.next.iter().map(|((topic, partition), offset)| (topic.as_str(), *partition, *offset)))?;
        let _watch = self.clients.watchdog.watch("assign", self.clients.hang());
        self.reader.assign(&list).map_err(|error| fault(During::Read, error))?;
        wait_let_go(&self.clients, &self.reader)
    }

    /// Within a running reader; false where it is not running yet.
    fn seek_running(&self, at: &[Position]) -> Result<bool, Fault> {
        let list = places(at.iter().map(|at| (at.topic.as_str(), at.partition, at.offset)))?;
        let _watch = self.clients.watchdog.watch("seek_partitions", self.clients.hang());
        let sought = self.reader.seek_partitions(list, self.clients.config.timings.call);
        Ok(sought.is_ok_and(|sought| sought.elements().iter().all(|element| element.error().is_ok())))
    }

    /// Moves on over what is no record: markers and aborted transactions, which librdkafka reads but does not show.
    fn skip_unseen(&mut self) -> Result<(), Fault> {
        let _watch = self.clients.watchdog.watch("position", self.clients.hang());
        let reached = self.reader.position().map_err(|error| fault(During::Read, error))?;
        for element in reached.elements() {
            let Offset::Offset(offset) = element.offset() else { continue };
            let Some(topic) = self.topics.iter().find(|topic| topic.as_str() == element.topic()) else { continue };
            if let Some(next) = self.next.get_mut(&(topic.clone(), known_partition(element.partition()))) {
                *next = (*next).max(known_offset(offset));
            }
        }
        Ok(())
    }

    /// True when all that was committed a moment ago has been read.
    fn has_reached_ends(&mut self) -> Result<bool, Fault> {
        if !self.is_past_known_ends() {
            self.skip_unseen()?;
        }
        let now = self.clients.now();
        let is_recent = |asked| now.saturating_duration_since(asked) < ENDS_GOOD_FOR;
        if self.ends_asked.is_some_and(is_recent) || !self.is_past_known_ends() {
            return Ok(self.is_past_known_ends());
        }
        for topic in &self.topics {
            let partitions = self.next.keys().filter(|(name, _)| name == topic).map(|(_, partition)| *partition);
            for end in self.clients.ends(topic, &partitions.collect::<Vec<_>>())? {
                self.ends.insert((end.topic, end.partition), end.offset);
            }
        }
        self.ends_asked = Some(self.clients.now());
        if !self.is_past_known_ends() {
            self.skip_unseen()?;
        }
        Ok(self.is_past_known_ends())
    }

    fn is_past_known_ends(&self) -> bool {
        self.ends.iter().all(|(place, end)| self.next.get(place).is_some_and(|next| next >= end))
    }

    fn take(&mut self, wait: Duration, into: &mut Batch) -> Result<Taken, Fault> {
        match self.reader.poll(wait) {
            None => Ok(Taken::Nothing),
            Some(Ok(message)) => {
                let Some(topic) = self.topics.iter().find(|topic| topic.as_str() == message.topic()) else {
                    return Ok(Taken::Event);
                };
                let taken = message.record(topic);
                let bytes = message.bytes();
                self.next.insert((taken.topic.clone(), taken.partition), taken.offset + 1);
                into.records.push(taken);
                Ok(Taken::Record { bytes })
            }
            Some(Err(error)) if is_passing(&error) => {
                tracing::debug!(%error, "a tail waits for the log");
                Ok(Taken::Event)
            }
            Some(Err(error)) if is_of_unknown_topic(&error) => {
                self.clients.refuse_missing(&self.topics)?;
                Ok(Taken::Event)
            }
            Some(Err(error)) => Err(fault(During::Read, error)),
        }
    }
}

enum Taken {
    Nothing,
    Event,
    Record { bytes: usize },
}

impl<D: Driver> Tail for KafkaTail<D> {
    fn poll(&mut self, wait: Duration, into: &mut Batch) -> Result<bool, Fault> {
        if let Some(failed) = self.failed.take() {
            return Err(failed);
        }
        let deadline = self.clients.now() + wait;
        let before = into.records.len();
        let mut bytes_taken = 0;
        loop {
            let has_some = into.records.len() > before;
            let patience =
                if has_some { Duration::ZERO } else { deadline.saturating_duration_since(self.clients.now()) };
            match self.take(patience, into) {
                Ok(Taken::Record { bytes }) => bytes_taken += bytes,
                Ok(Taken::Event) => {}
                Ok(Taken::Nothing) => break,
                Err(error) if has_some => {
                    self.failed = Some(error);
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
            if into.records.len() - before >= POLL_RECORDS_MAX || bytes_taken >= POLL_BYTES_MAX {
                return Ok(false);
            }
        }
        match self.has_reached_ends() {
            Ok(reached) => Ok(reached),
            Err(error @ Fault::Fatal(_)) => Err(error),
            Err(error) => {
                tracing::debug!(%error, "a tail cannot ask for the ends");
                Ok(false)
            }
        }
    }

    fn positions(&self) -> Vec<Position> {
        self.next
            .iter()
            .map(|((topic, partition), offset)| Position {
                topic: topic.clone(),
                partition: *partition,
                offset: *offset,
            })
            .collect()
    }

    fn seek(&mut self, at: &[Position]) -> Result<(), Fault> {
        for position in at {
            let next = self.next.get_mut(&(position.topic.clone(), position.partition)).ok_or_else(|| {
                misconfigured(
                    "partition_missing",
                    format!("{}-{} is not read here", position.topic, position.partition),
                )
            })?;
            *next = position.offset;
        }
        self.ends_asked = None;
        self.failed = None;
        if self.seek_running(at)? { Ok(()) } else { self.assign() }
    }
}
