//! The follower: reads the topics, folds each batch, writes it. One thread, its own runtime.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use event::topic;
use event::wire::WireError;
use log::{Batch, Fault, Log, Position, Tail, Topic};
use stage::Stop;
use tokio::runtime::Runtime;

use crate::db::Db;
use crate::rows::Rows;
use crate::store::{self, Advance};
use crate::{View, ViewError};

/// How long one poll waits where nothing comes.
const POLL_WAIT: Duration = Duration::from_millis(50);
/// A batch is written once it holds this many records, or when nothing more is waiting.
const BATCH_RECORDS_MAX: usize = 8_000;
/// How often the ends of the topics are looked up.
const LAG_EVERY: Duration = Duration::from_secs(1);
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Every topic that the read model is filled from.
pub fn topics() -> Vec<Topic> {
    let story = topic::STORY.iter().chain([&topic::SIGNING_KEY]).map(|name| Topic::new(name));
    story.chain(topic::dead_topics().map(|name| Topic::new(&name))).collect()
}

/// Follows the topics until `stop`, on the calling thread. What fails is tried again; the lag tells of it.
///
/// # Errors
/// A fatal fault of the log, or a database that cannot be opened at the start.
pub fn follow(log: &dyn Log, view: &View, stop: &Stop) -> Result<(), ViewError> {
    let mut follower = Follower::open(log, view)?;
    let outcome = follower.until(stop, |_| false);
    follower.close();
    outcome
}

/// Empties the read model and fills it again up to the ends of the topics at this moment, or until `stop`.
///
/// A follower that runs elsewhere finds itself overtaken and goes on from what is stored then.
///
/// # Errors
/// As `follow`.
pub fn rebuild(log: &dyn Log, view: &View, stop: &Stop) -> Result<(), ViewError> {
    let mut follower = Follower::open(log, view)?;
    follower.runtime.block_on(store::wipe(&follower.db))?;
    follower.load()?;
    let mut ends = Vec::new();
    for topic in &follower.topics {
        ends.extend(log.ends(topic)?);
    }
    let outcome = follower.until(stop, |at| {
        ends.iter().all(|end| at.get(&(end.topic.clone(), end.partition)).is_some_and(|offset| *offset >= end.offset))
    });
    follower.close();
    outcome
}

type Places = BTreeMap<(Topic, u32), u64>;

struct Follower<'a> {
    log: &'a dyn Log,
    view: &'a View,
    runtime: Runtime,
    db: Db,
    topics: Vec<Topic>,
    tail: Option<Box<dyn Tail>>,
    /// What the database says; `stored` tells which of them it says.
    at: Places,
    stored: Places,
    measured: Option<Instant>,
}

impl<'a> Follower<'a> {
    fn open(log: &'a dyn Log, view: &'a View) -> Result<Self, ViewError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ViewError::Runtime)?;
        let db = runtime.block_on(Db::writer(&view.database))?;
        let topics = topics();
        let mut follower = Self {
            log,
            view,
            runtime,
            db,
            topics,
            tail: None,
            at: Places::new(),
            stored: Places::new(),
            measured: None,
        };
        follower.load()?;
        Ok(follower)
    }

    fn close(self) {
        self.runtime.block_on(self.db.close());
    }

    /// Takes the stored positions as the truth and reads from there; partitions without one from their start.
    fn load(&mut self) -> Result<(), ViewError> {
        let stored = self.runtime.block_on(store::positions(&self.db))?;
        self.stored = stored.iter().map(|p| ((p.topic.clone(), p.partition), p.offset)).collect();
        let mut from = Vec::new();
        for topic in &self.topics {
            for start in self.log.starts(topic)? {
                let known = self.stored.get(&(topic.clone(), start.partition)).copied();
                // What retention has taken away since is not there to be read.
                from.push(Position { offset: known.unwrap_or(start.offset).max(start.offset), ..start });
            }
        }
        self.at = from.iter().map(|p| ((p.topic.clone(), p.partition), p.offset)).collect();
        self.tail = Some(self.log.tail(&from)?);
        self.view.progress.forget();
        self.view.progress.passed(&from);
        Ok(())
    }

    fn until(&mut self, stop: &Stop, done: impl Fn(&Places) -> bool) -> Result<(), ViewError> {
        let mut backoff = BACKOFF_FIRST;
        while !stop.requested() && !done(&self.at) {
            match self.turn() {
                Ok(()) => backoff = BACKOFF_FIRST,
                Err(ViewError::Log(fault @ Fault::Fatal(_))) => return Err(ViewError::Log(fault)),
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the read model waits and tries again");
                    if stop.wait(backoff) {
                        break;
                    }
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                    // The batch may or may not be stored: only the database knows (R5).
                    match self.load() {
                        Err(ViewError::Log(fault @ Fault::Fatal(_))) => return Err(ViewError::Log(fault)),
                        Err(error) => {
                            tracing::warn!(
                                error = &error as &dyn std::error::Error,
                                "the read model cannot start over yet"
                            );
                        }
                        Ok(()) => {}
                    }
                }
            }
        }
        Ok(())
    }

    /// One batch: read, fold, write.
    fn turn(&mut self) -> Result<(), ViewError> {
        let Some(tail) = self.tail.as_mut() else { return self.load() };
        let mut batch = Batch::default();
        let mut drained = tail.poll(POLL_WAIT, &mut batch)?;
        while !drained && batch.records.len() < BATCH_RECORDS_MAX {
            drained = tail.poll(Duration::ZERO, &mut batch)?;
        }
        let next = tail.positions();
        let begun = Instant::now();
        let mut rows = Rows::default();
        // Everything of a partition from here on waits for a version that can read it (R9).
        let mut held: Places = Places::new();
        for record in &batch.records {
            let place = (record.topic.clone(), record.partition);
            if held.contains_key(&place) {
                continue;
            }
            match rows.add(record) {
                Ok(()) => {}
                Err(WireError::UnknownSchema(id)) => {
                    tracing::warn!(topic = %record.topic, partition = record.partition, offset = record.offset,
                        traceparent = record.traceparent(), schema = id,
                        "a record of a later version: the read model waits for the deploy");
                    held.insert(place, record.offset);
                }
                Err(error) => {
                    metrics::unreadable(record.topic.as_str());
                    tracing::error!(topic = %record.topic, partition = record.partition, offset = record.offset,
                        traceparent = record.traceparent(), error = &error as &dyn std::error::Error,
                        "an unreadable record is passed over");
                }
            }
        }
        let advances = self.advances(&next, &held);
        if !advances.is_empty() {
            self.runtime.block_on(store::apply(&self.db, rows, &advances))?;
            metrics::batch(batch.records.len(), begun.elapsed());
            self.advanced(&advances);
        }
        if !held.is_empty() {
            let back: Vec<Position> =
                held.into_iter().map(|((topic, partition), offset)| Position { topic, partition, offset }).collect();
            if let Some(tail) = self.tail.as_mut() {
                tail.seek(&back)?;
            }
        }
        self.measure(drained)
    }

    fn advances(&self, next: &[Position], held: &Places) -> Vec<Advance> {
        let mut advances = Vec::new();
        for position in next {
            let place = (position.topic.clone(), position.partition);
            let offset = held.get(&place).copied().unwrap_or(position.offset);
            if self.at.get(&place) == Some(&offset) {
                continue;
            }
            let from = self.stored.get(&place).map(|offset| Position { offset: *offset, ..position.clone() });
            advances.push(Advance { from, to: Position { offset, ..position.clone() } });
        }
        advances
    }

    fn advanced(&mut self, advances: &[Advance]) {
        let mut passed = Vec::with_capacity(advances.len());
        for advance in advances {
            let to = &advance.to;
            self.at.insert((to.topic.clone(), to.partition), to.offset);
            self.stored.insert((to.topic.clone(), to.partition), to.offset);
            passed.push(to.clone());
        }
        self.view.progress.passed(&passed);
    }

    fn measure(&mut self, drained: bool) -> Result<(), ViewError> {
        let due = self.measured.is_none_or(|at| at.elapsed() >= LAG_EVERY);
        // The first look waits until the backlog is known to be read or a second has passed.
        if !due || (self.measured.is_none() && !drained && self.at.is_empty()) {
            return Ok(());
        }
        let mut ends = Vec::new();
        for topic in &self.topics {
            ends.extend(self.log.ends(topic)?);
        }
        self.view.progress.measure(&ends);
        self.measured = Some(Instant::now());
        Ok(())
    }
}

pub(crate) mod metrics {
    //! Names, units and help of what the follower counts.

    use std::time::Duration;

    pub(crate) fn batch(records: usize, took: Duration) {
        metrics::counter!("view_records_total").increment(records as u64);
        metrics::counter!("view_batches_total").increment(1);
        metrics::histogram!("view_apply_seconds").record(took.as_secs_f64());
    }

    pub(crate) fn unreadable(topic: &str) {
        metrics::counter!("view_unreadable_total", "topic" => topic.to_owned()).increment(1);
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float; a lag of 2^53 records is not measured exactly")]
    pub(crate) fn lag(topic: &str, behind: u64) {
        metrics::gauge!("view_lag_records", "topic" => topic.to_owned()).set(behind as f64);
    }
}
