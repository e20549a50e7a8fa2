//! Reads the topics into the books, closes hours, publishes checkpoints.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use event::topic;
use event::wire::{AuditCheckpoint, Wire, WireError};
use log::{Batch, Fault, Log, Output, Position, Tail, Topic};
use stage::Stop;
use tokio::runtime::Runtime;

use crate::books::{Books, HOUR_MS};
use crate::cut::{Boundary, Cut};
use crate::report::Report;
use crate::store::Store;
use crate::waiting::Waiting;
use crate::{AuditError, metrics, topics};

const POLL_WAIT: Duration = Duration::from_millis(50);
/// How often `close` tells what it waits for.
const TELL_EVERY: Duration = Duration::from_secs(3);
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A snapshot may take this share of the time at most: one part in...
const SNAPSHOT_SHARE: u32 = 10;

/// How `run` works.
#[derive(Clone, Debug)]
pub struct Options {
    /// The snapshot file (`DIR/state/audit.db`).
    pub state: PathBuf,
    /// How often a snapshot is taken at most.
    pub snapshot_every: Duration,
    /// How long after its end an hour is closed at the earliest: more than the clocks of log and auditor differ.
    pub grace: Duration,
}

impl Options {
    pub fn new(state: PathBuf) -> Self {
        Self { state, snapshot_every: Duration::from_secs(1), grace: Duration::from_secs(120) }
    }
}

/// How `close` works.
#[derive(Clone, Copy, Debug)]
pub struct CloseOptions {
    /// How long to wait for the steps to pass the cut, and for outbox and deliveries to be drained.
    pub deadline: Duration,
    /// Write the checkpoints to `audit.checkpoint.v1`.
    pub publish: bool,
}

impl Default for CloseOptions {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(60), publish: true }
    }
}

/// Keeps the books until `stop`, on the calling thread. What fails is tried again.
///
/// # Errors
/// A fatal fault of the log, or a snapshot file that cannot be opened.
pub fn run(log: &dyn Log, options: &Options, stop: &Stop) -> Result<(), AuditError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(AuditError::Runtime)?;
    if let Some(parent) = options.state.parent() {
        std::fs::create_dir_all(parent).map_err(|error| AuditError::State(options.state.clone(), error))?;
    }
    let store = runtime.block_on(Store::open(&options.state, log.identity()))?;
    let mut backoff = BACKOFF_FIRST;
    while !stop.requested() {
        let kept = Keeper::open(log, &runtime, &store).and_then(|mut keeper| keeper.keep(options, stop));
        match kept {
            Ok(()) => break,
            Err(AuditError::Log(fault @ Fault::Fatal(_))) => return Err(AuditError::Log(fault)),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "audit goes back to its last snapshot");
                if stop.wait(backoff) {
                    break;
                }
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        }
    }
    runtime.block_on(store.close());
    Ok(())
}

/// Counts everything anew from the topics, waits until what was requested up to now has gone all the way, and closes.
///
/// It keeps no state and may run beside `run`, in this or another process.
///
/// # Errors
/// The log cannot be read or written; `GivenUp` after `stop`.
pub fn close(log: &dyn Log, options: &CloseOptions, stop: &Stop) -> Result<Report, AuditError> {
    close_and_tell(log, options, stop, &mut |_| {})
}

/// As [`close`], and tells every few seconds what it waits for.
///
/// # Errors
/// As [`close`].
pub fn close_and_tell(
    log: &dyn Log,
    options: &CloseOptions,
    stop: &Stop,
    tell: &mut dyn FnMut(Waiting),
) -> Result<Report, AuditError> {
    let mut told = Instant::now();
    let mut tell = |waiting: &dyn Fn() -> Waiting| {
        if told.elapsed() >= TELL_EVERY {
            tell(waiting());
            told = Instant::now();
        }
    };
    let deadline = Instant::now() + options.deadline;
    let requested = log.ends(&Topic::new(topic::REQUESTED))?;
    let cut_at: Vec<String> =
        requested.iter().map(|end| format!("{}:{}:{}", end.topic, end.partition, end.offset)).collect();
    let mut reader = Reader::begin(log, None)?;
    let mut cut = Cut::at(requested);
    // The backlog is read whatever the deadline says: half-read books say nothing.
    let mut ends = Vec::new();
    for topic in topics() {
        ends.extend(log.ends(&topic)?);
    }
    while !stop.requested() && !reader.has_read(&ends) {
        reader.turn()?;
        tell(&|| Waiting::for_backlog(&reader.books, &ends));
    }
    let mut passed = false;
    while !stop.requested() {
        passed = cut.advance(log, &reader.books)?;
        if (passed && drained(&reader.books, cut.boundary())) || Instant::now() >= deadline {
            break;
        }
        tell(&|| Waiting::for_cut(&reader.books, &cut));
        reader.turn()?;
    }
    if stop.requested() {
        return Err(AuditError::GivenUp);
    }
    let everything = Boundary::everything_read(&reader.books);
    let mut report = Report::of(&reader.books, if passed { cut.boundary() } else { &everything });
    report.cut = cut_at;
    if !passed {
        report.behind = cut.behind().to_vec();
        report.closed = false;
    }
    if options.publish {
        let publisher = Publisher::read(log)?;
        publisher.publish(log, &report, passed, i64::MAX)?;
    }
    Ok(report)
}

/// What was published so far.
///
/// # Errors
/// The log cannot be read.
pub fn report(log: &dyn Log) -> Result<Report, AuditError> {
    Ok(Report::of_checkpoints(Publisher::read(log)?.published.into_values()))
}

/// Nothing that followed from the cut waits any more.
fn drained(books: &Books, boundary: &Boundary) -> bool {
    !books.unmatched().any(|open| boundary.passed(&open.place.topic, open.place.partition, open.place.offset))
}

/// The topics, as they are read into the books.
struct Reader<'a> {
    log: &'a dyn Log,
    tail: Box<dyn Tail>,
    books: Books,
}

impl<'a> Reader<'a> {
    /// Goes on from these books, or begins at the earliest records.
    fn begin(log: &'a dyn Log, books: Option<Books>) -> Result<Self, AuditError> {
        let mut from = Vec::new();
        let mut partitions = BTreeMap::new();
        for topic in topics() {
            let starts = log.starts(&topic)?;
            partitions.insert(topic, u32::try_from(starts.len()).unwrap_or(u32::MAX));
            from.extend(starts);
        }
        let books = match books {
            Some(books) => {
                for start in &mut from {
                    let known = books.next.get(&(start.topic.clone(), start.partition)).copied();
                    start.offset = known.unwrap_or(start.offset).max(start.offset);
                }
                Books { partitions, ..books }
            }
            None => Books::begin(&from, partitions),
        };
        Ok(Self { log, tail: log.tail(&from)?, books })
    }

    fn turn(&mut self) -> Result<(), AuditError> {
        let mut batch = Batch::default();
        self.tail.poll(POLL_WAIT, &mut batch)?;
        let mut held: BTreeMap<(Topic, u32), u64> = BTreeMap::new();
        for record in &batch.records {
            let place = (record.topic.clone(), record.partition);
            if held.contains_key(&place) {
                continue;
            }
            match self.books.apply(record) {
                Ok(()) => {}
                Err(WireError::UnknownSchema(id)) => {
                    tracing::warn!(topic = %record.topic, partition = record.partition, offset = record.offset,
                        traceparent = record.traceparent(), schema = id,
                        "a record of a later version: the books wait for the deploy");
                    held.insert(place, record.offset);
                }
                Err(error) => {
                    metrics::unreadable(record.topic.as_str());
                    tracing::error!(topic = %record.topic, partition = record.partition, offset = record.offset,
                        traceparent = record.traceparent(), error = &error as &dyn std::error::Error,
                        "an unreadable record counts as missing");
                }
            }
        }
        metrics::records(batch.records.len());
        // The log's own records end a partition without being handed out: the tail knows how far it has come.
        for position in self.tail.positions() {
            let place = (position.topic, position.partition);
            if !held.contains_key(&place) {
                let next = self.books.next.entry(place).or_default();
                *next = (*next).max(position.offset);
            }
        }
        if !held.is_empty() {
            let back: Vec<Position> =
                held.into_iter().map(|((topic, partition), offset)| Position { topic, partition, offset }).collect();
            self.tail.seek(&back)?;
        }
        Ok(())
    }

    fn has_read(&self, ends: &[Position]) -> bool {
        ends.iter()
            .all(|end| self.books.next.get(&(end.topic.clone(), end.partition)).is_some_and(|next| *next >= end.offset))
    }
}

/// `run`: books with a snapshot, hours that close by themselves.
struct Keeper<'a> {
    reader: Reader<'a>,
    runtime: &'a Runtime,
    store: &'a Store,
    publisher: Publisher,
    cut: Option<(Cut, i64)>,
    /// Hours before this one have been passed by every step, up to the boundary.
    closed_until: i64,
    boundary: Boundary,
}

impl<'a> Keeper<'a> {
    fn open(log: &'a dyn Log, runtime: &'a Runtime, store: &'a Store) -> Result<Self, AuditError> {
        let books = runtime.block_on(store.load(BTreeMap::new()))?;
        Ok(Self {
            reader: Reader::begin(log, books)?,
            runtime,
            store,
            publisher: Publisher::read(log)?,
            cut: None,
            closed_until: i64::MIN,
            boundary: Boundary::default(),
        })
    }

    fn keep(&mut self, options: &Options, stop: &Stop) -> Result<(), AuditError> {
        let mut saved = Instant::now();
        let mut every = options.snapshot_every;
        let mut saved_at = self.reader.books.positions();
        while !stop.requested() {
            self.reader.turn()?;
            self.close_hours(options)?;
            if saved.elapsed() >= every {
                let positions = self.reader.books.positions();
                if positions != saved_at {
                    let begun = Instant::now();
                    self.save()?;
                    saved_at = positions;
                    every = options.snapshot_every.max(begun.elapsed() * SNAPSHOT_SHARE);
                    // What came late changes hours that were closed before.
                    self.publish()?;
                }
                saved = Instant::now();
            }
        }
        self.save()
    }

    fn save(&mut self) -> Result<(), AuditError> {
        self.runtime.block_on(self.store.save(&mut self.reader.books))
    }

    /// An hour is over once the log's own clock stamps nothing with it any more; then what the request topic holds is cut.
    fn close_hours(&mut self, options: &Options) -> Result<(), AuditError> {
        let log = self.reader.log;
        let grace = i64::try_from(options.grace.as_millis()).unwrap_or(i64::MAX);
        let over = now_ms().saturating_sub(grace).div_euclid(HOUR_MS).saturating_mul(HOUR_MS);
        if self.cut.is_none() && over > self.closed_until {
            self.cut = Some((Cut::at(log.ends(&Topic::new(topic::REQUESTED))?), over));
        }
        let Some((cut, hour)) = &mut self.cut else { return Ok(()) };
        if cut.advance(log, &self.reader.books)? {
            self.boundary = cut.boundary().clone();
            self.closed_until = *hour;
            self.cut = None;
            self.publish()?;
        }
        Ok(())
    }

    fn publish(&mut self) -> Result<(), AuditError> {
        if self.closed_until == i64::MIN {
            return Ok(());
        }
        let report = Report::of(&self.reader.books, &self.boundary);
        metrics::gaps(report.gaps.len());
        self.publisher.publish(self.reader.log, &report, true, self.closed_until)
    }
}

/// The checkpoints as the topic has them.
struct Publisher {
    published: BTreeMap<(String, i64), AuditCheckpoint>,
    sent: Mutex<BTreeMap<(String, i64), AuditCheckpoint>>,
}

impl Publisher {
    fn read(log: &dyn Log) -> Result<Self, AuditError> {
        let topic = Topic::new(topic::AUDIT_CHECKPOINT);
        let ends = log.ends(&topic)?;
        let mut tail = log.tail(&log.starts(&topic)?)?;
        let mut published = BTreeMap::new();
        let behind = |tail: &dyn Tail| {
            let at = tail.positions();
            ends.iter().any(|end| at.iter().any(|at| at.partition == end.partition && at.offset < end.offset))
        };
        while behind(tail.as_ref()) {
            let mut batch = Batch::default();
            tail.poll(POLL_WAIT, &mut batch)?;
            for record in &batch.records {
                if let Some(Ok(checkpoint)) = record.value.as_deref().map(AuditCheckpoint::decode) {
                    published.insert((checkpoint.tenant.clone(), checkpoint.hour), checkpoint);
                }
            }
        }
        Ok(Self { published, sent: Mutex::default() })
    }

    /// Publishes every row of hours before `until` that says something new, and waits until it is durable.
    fn publish(&self, log: &dyn Log, report: &Report, passed: bool, until: i64) -> Result<(), AuditError> {
        let topic = Topic::new(topic::AUDIT_CHECKPOINT);
        let outcome: Arc<Mutex<Option<Fault>>> = Arc::default();
        let (done, finished) = std::sync::mpsc::channel::<()>();
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        for row in report.rows.iter().filter(|row| row.hour < until) {
            let checkpoint = row.checkpoint(passed);
            let name = (checkpoint.tenant.clone(), checkpoint.hour);
            if sent.get(&name).or_else(|| self.published.get(&name)) == Some(&checkpoint) {
                continue;
            }
            let key = format!("{}:{}", checkpoint.tenant, checkpoint.hour);
            let value = checkpoint.encode().map_err(AuditError::Encode)?;
            let (outcome, done) = (outcome.clone(), done.clone());
            log.append(
                &Output {
                    topic: &topic,
                    partition: None,
                    key: Some(key.as_bytes()),
                    value: Some(&value),
                    headers: &[],
                },
                Box::new(move |acknowledged| {
                    if let Err(fault) = acknowledged {
                        outcome.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fault);
                    }
                    drop(done);
                }),
            )?;
            metrics::checkpoint(checkpoint.closed);
            sent.insert(name, checkpoint);
        }
        drop(done);
        // Every acknowledgement holds a sender: this ends when the last has come.
        let _ended = finished.recv();
        match outcome.lock().unwrap_or_else(PoisonError::into_inner).take() {
            None => Ok(()),
            Some(fault) => {
                sent.clear();
                Err(AuditError::Log(fault))
            }
        }
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
