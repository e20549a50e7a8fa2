//! What the cases are written in: steps, sessions driven until a condition holds, committed reads.

use std::collections::BTreeSet;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use super::{Failure, Harness};
use crate::{
    Batch, Cleanup, Fault, Group, Log, Member, Output, Polled, Position, Record, Session, Tail, Topic, TopicChange,
    TopicSpec,
};

/// One poll of a session that is driven together with others.
const TURN: Duration = Duration::from_millis(20);

macro_rules! ensure {
    ($holds:expr, $($why:tt)+) => {
        if !$holds {
            return Err($crate::conformance::Failure(format!($($why)+)));
        }
    };
}
pub(super) use ensure;

pub(super) struct World<'a> {
    pub(super) harness: &'a dyn Harness,
}

/// A step with one input, one output and a changelog, all of the same partition count.
#[derive(Clone)]
pub(super) struct Step {
    pub(super) group: String,
    pub(super) input: Topic,
    pub(super) output: Topic,
    pub(super) state: Topic,
}

pub(super) fn kept(topic: &Topic, partitions: u32) -> TopicSpec {
    TopicSpec { topic: topic.clone(), partitions, cleanup: Cleanup::Delete { retention: None }, log_append_time: true }
}

pub(super) fn output<'a>(topic: &'a Topic, partition: Option<u32>, key: &'a str, value: &'a [u8]) -> Output<'a> {
    Output { topic, partition, key: Some(key.as_bytes()), value: Some(value), headers: &[] }
}

impl<'a> World<'a> {
    pub(super) fn new(harness: &'a dyn Harness) -> Self {
        Self { harness }
    }

    pub(super) fn log(&self) -> Arc<dyn Log> {
        self.harness.log()
    }

    pub(super) fn wait(&self) -> Duration {
        self.harness.wait()
    }

    pub(super) fn topic(&self, base: &str, partitions: u32) -> Result<Topic, Failure> {
        let topic = Topic::new(&self.harness.fresh_name(base));
        let changes = self.log().apply(&[kept(&topic, partitions)], &[])?;
        ensure!(changes == [TopicChange::Created(topic.clone())], "a new topic is not created: {changes:?}");
        Ok(topic)
    }

    pub(super) fn step(&self, partitions: u32) -> Result<Step, Failure> {
        let (input, output) = (self.topic("in", partitions)?, self.topic("out", partitions)?);
        let state = Topic::new(&self.harness.fresh_name("state"));
        let group = self.harness.fresh_name("step");
        let spec = TopicSpec { cleanup: Cleanup::Compact, log_append_time: false, ..kept(&state, partitions) };
        self.log().apply(&[spec], &[Group { name: group.clone(), inputs: vec![input.clone()] }])?;
        Ok(Step { group, input, output, state })
    }

    pub(super) fn join(&self, step: &Step, slot: &str) -> Result<Driven, Failure> {
        Ok(Driven::new(self.try_join(step, slot)?, self.wait()))
    }

    pub(super) fn try_join(&self, step: &Step, slot: &str) -> Result<Box<dyn Session>, Fault> {
        let state = Some(step.state.clone());
        let inputs = vec![step.input.clone()];
        self.log().join(&Member { group: step.group.clone(), slot: slot.to_owned(), inputs, state })
    }

    /// A session that holds all of the step's partitions.
    pub(super) fn join_alone(&self, step: &Step, partitions: usize) -> Result<Driven, Failure> {
        let mut driven = self.join(step, "slot-0")?;
        driven.until("all partitions are assigned", |driven| driven.held.len() == partitions)?;
        Ok(driven)
    }

    /// Appends and waits for the acknowledgement.
    pub(super) fn append(&self, out: &Output<'_>) -> Result<Position, Failure> {
        let (done, acked) = mpsc::channel();
        let log = self.log();
        let deadline = Instant::now() + self.wait();
        loop {
            let done = done.clone();
            match log.append(out, Box::new(move |result| drop(done.send(result)))) {
                Ok(()) => break,
                Err(Fault::Retry(_)) if Instant::now() < deadline => std::thread::yield_now(),
                Err(fault) => return Err(fault.into()),
            }
        }
        let result = acked.recv_timeout(self.wait()).map_err(|_| Failure("an append is never acknowledged".into()))?;
        Ok(result?)
    }

    /// Appends `values` of one key each to a partition.
    pub(super) fn append_all(&self, topic: &Topic, partition: u32, values: &[&str]) -> Result<Vec<Position>, Failure> {
        values.iter().map(|value| self.append(&output(topic, Some(partition), value, value.as_bytes()))).collect()
    }

    /// Everything that is committed in a topic at this moment, in order per partition.
    pub(super) fn committed(&self, topic: &Topic) -> Result<Vec<Record>, Failure> {
        let log = self.log();
        let mut tail = log.tail(&log.starts(topic)?)?;
        read_to(tail.as_mut(), &log.ends(topic)?, self.wait())
    }

    /// The committed values of a topic, sorted.
    pub(super) fn values(&self, topic: &Topic) -> Result<Vec<String>, Failure> {
        let mut values = self.committed(topic)?.iter().map(value_of).collect::<Vec<_>>();
        values.sort();
        Ok(values)
    }
}

/// Reads until the tail stands at these ends.
pub(super) fn read_to(tail: &mut dyn Tail, ends: &[Position], wait: Duration) -> Result<Vec<Record>, Failure> {
    let deadline = Instant::now() + wait;
    let mut batch = Batch::default();
    loop {
        let positions = tail.positions();
        let reached = |end: &Position| {
            positions
                .iter()
                .any(|at| (&at.topic, at.partition) == (&end.topic, end.partition) && at.offset >= end.offset)
        };
        if ends.iter().all(reached) {
            return Ok(batch.records);
        }
        ensure!(Instant::now() < deadline, "a tail does not reach the ends: it stands at {positions:?}, not {ends:?}");
        tail.poll(TURN, &mut batch)?;
    }
}

pub(super) fn value_of(record: &Record) -> String {
    record.value.as_ref().map_or_else(|| "-".to_owned(), |value| String::from_utf8_lossy(value).into_owned())
}

/// The offsets to commit after these records.
pub(super) fn after(records: &[Record]) -> Vec<Position> {
    let mut next = Vec::<Position>::new();
    for record in records {
        let at = Position { topic: record.topic.clone(), partition: record.partition, offset: record.offset + 1 };
        match next.iter_mut().find(|known| (&known.topic, known.partition) == (&at.topic, at.partition)) {
            Some(known) => known.offset = known.offset.max(at.offset),
            None => next.push(at),
        }
    }
    next
}

/// A session, what it holds and what it has read.
pub(super) struct Driven {
    pub(super) session: Box<dyn Session>,
    pub(super) held: BTreeSet<u32>,
    pub(super) batch: Batch,
    wait: Duration,
}

impl Driven {
    fn new(session: Box<dyn Session>, wait: Duration) -> Self {
        Self { session, held: BTreeSet::new(), batch: Batch::default(), wait }
    }

    /// One poll; gives up what it must, without a commit.
    pub(super) fn turn(&mut self) -> Result<(), Fault> {
        match self.session.poll(TURN, &mut self.batch)? {
            Polled::Records { .. } => {}
            Polled::Assigned(positions) => self.held.extend(positions.iter().map(|position| position.partition)),
            Polled::Revoke { partitions, .. } => {
                self.session.recover()?;
                self.session.release()?;
                self.held.retain(|partition| !partitions.contains(partition));
                self.batch.records.clear();
            }
        }
        Ok(())
    }

    pub(super) fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) -> Result<(), Failure> {
        let deadline = Instant::now() + self.wait;
        while !is_so(self) {
            ensure!(Instant::now() < deadline, "it never comes to this: {what}");
            self.turn()?;
        }
        Ok(())
    }

    /// Polls until that many records have come, and takes them.
    pub(super) fn read(&mut self, count: usize) -> Result<Vec<Record>, Failure> {
        self.until(&format!("{count} records are read"), |driven| driven.batch.records.len() >= count)?;
        let records = std::mem::take(&mut self.batch.records);
        ensure!(records.len() == count, "{} records instead of {count}", records.len());
        Ok(records)
    }

    pub(super) fn cell(&self, partition: u32, key: &str) -> Result<Option<String>, Failure> {
        let mut out = b"left over".to_vec();
        let is_there = self.session.get(partition, key.as_bytes(), &mut out)?;
        Ok(is_there.then(|| String::from_utf8_lossy(&out).into_owned()))
    }

    /// All cells from a key on.
    pub(super) fn cells(&self, partition: u32, from: &str) -> Result<Vec<(String, String)>, Failure> {
        let mut cells = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.session.scan(partition, from.as_bytes(), &mut |key, value| {
            cells.push((text(key), text(value)));
            true
        })?;
        Ok(cells)
    }

    pub(super) fn put_all(&mut self, partition: u32, cells: &[(&str, Option<&str>)]) -> Result<(), Failure> {
        for (key, value) in cells {
            self.session.put(partition, key.as_bytes(), value.map(str::as_bytes))?;
        }
        Ok(())
    }
}
