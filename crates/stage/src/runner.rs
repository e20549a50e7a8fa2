//! The loop: poll, apply, commit; what to do when any of them fails.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use log::{Batch, Cause, Fault, Log, Member, Polled, Position, Record, Session, Topic};

use crate::dead_letter::{cause_of, emit_caused};
use crate::staging::Staging;
use crate::{DeadLetter, Reject, Step, StepError, Stop};

/// Bounds of one runner.
#[derive(Clone, Debug)]
pub struct RunOptions {
    pub member: Member,
    /// Where records go that can never succeed.
    pub dead: Topic,
    /// A transaction is committed at the latest after this many records...
    pub batch_records_max: usize,
    /// ...or this long after its first record, however much is still waiting.
    pub batch_time_max: Duration,
    /// What is left of a poll after so long is read again, in the next transaction. Far below the time-out of a
    /// transaction: a poll of slow records would outlast it, be aborted and be met again, for ever.
    pub batch_apply_max: Duration,
    /// How long one poll waits for records.
    pub poll_wait: Duration,
    /// So many recoveries in a row without a commit between them are fatal.
    pub recoveries_max: u32,
}

impl RunOptions {
    pub fn new(member: Member, dead: Topic) -> Self {
        Self {
            member,
            dead,
            batch_records_max: 2_000,
            batch_time_max: Duration::from_millis(20),
            batch_apply_max: Duration::from_secs(2),
            poll_wait: Duration::from_millis(200),
            recoveries_max: 20,
        }
    }
}

/// How a runner ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Asked to.
    Stopped,
}

const BACKOFF_FIRST: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// How both logs say that an output does not fit.
const TOO_LARGE: &str = "record_too_large";
/// A record that panics this often at one position is parked (R9).
const PANICS_MAX: u32 = 2;

/// Runs a step until `stop`, on the calling thread.
///
/// # Errors
/// Only `Fault::Fatal`: fenced, damaged, misconfigured, or no progress after `recoveries_max` recoveries.
pub fn run(log: &dyn Log, step: &mut dyn Step, options: &RunOptions, stop: &Stop) -> Result<Outcome, Fault> {
    let session = join(log, options, stop)?;
    let Some(session) = session else {
        return Ok(Outcome::Stopped);
    };
    let mut runner = Runner {
        step,
        options,
        stop,
        session,
        batch: Batch::default(),
        open: Open::default(),
        panics: BTreeMap::new(),
        oversized: BTreeSet::new(),
        waits: BTreeMap::new(),
        recoveries: 0,
    };
    runner.run()
}

/// Joins, waiting for a log that is not ready yet.
fn join(log: &dyn Log, options: &RunOptions, stop: &Stop) -> Result<Option<Box<dyn Session>>, Fault> {
    let mut backoff = BACKOFF_FIRST;
    for _ in 0..=options.recoveries_max {
        match log.join(&options.member) {
            Ok(session) => return Ok(Some(session)),
            Err(fault @ Fault::Fatal(_)) => return Err(fault),
            Err(fault) => tracing::warn!(step = %options.member.group, %fault, "cannot join yet"),
        }
        if stop.wait(backoff) {
            return Ok(None);
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
    Err(Fault::Fatal(Cause::new("join_failed", format!("{} could not join its group", options.member.group))))
}

/// The transaction that is being filled.
#[derive(Default)]
struct Open {
    records: usize,
    since: Option<Instant>,
    /// Next offset of every partition touched.
    next: BTreeMap<(Topic, u32), u64>,
    /// The last record of each partition and how many outputs it has caused.
    last: BTreeMap<u32, (Record, u32)>,
}

/// What became of one poll.
struct Applied {
    /// Why a record must wait, if one must.
    waiting: Option<String>,
    /// Where to read on, as time was up before all of it was applied.
    left: Vec<Position>,
}

struct Runner<'a> {
    step: &'a mut dyn Step,
    options: &'a RunOptions,
    stop: &'a Stop,
    session: Box<dyn Session>,
    batch: Batch,
    open: Open,
    panics: BTreeMap<Position, u32>,
    /// Records whose outputs did not fit: parked when they come again.
    oversized: BTreeSet<Position>,
    /// Records that must wait, and how often they were looked at.
    waits: BTreeMap<Position, u32>,
    recoveries: u32,
}

impl Runner<'_> {
    fn run(&mut self) -> Result<Outcome, Fault> {
        loop {
            if self.stop.requested() {
                if self.open.records > 0 {
                    self.settle_batch(true)?;
                }
                return Ok(Outcome::Stopped);
            }
            if let Err(failure) = self.turn() {
                self.recover(failure)?;
            }
        }
    }

    /// One poll and what follows from it.
    fn turn(&mut self) -> Result<(), StepError> {
        self.batch.records.clear();
        let wait = if self.open.records > 0 { Duration::ZERO } else { self.options.poll_wait };
        match self.session.poll(wait, &mut self.batch)? {
            Polled::Records { drained } => {
                let Applied { waiting, left } = self.apply_batch()?;
                let full = self.open.records >= self.options.batch_records_max;
                let late = self.open.since.is_some_and(|since| since.elapsed() >= self.options.batch_time_max);
                if self.open.records > 0 && (drained || full || late || waiting.is_some() || !left.is_empty()) {
                    self.commit()?;
                }
                if !left.is_empty() && waiting.is_none() {
                    self.session.seek(&left)?;
                }
                // What came before it is committed: going back to the committed offsets keeps that.
                waiting.map_or(Ok(()), |why| Err(StepError::Wait(why)))?;
            }
            Polled::Assigned(positions) => {
                // What came before belongs to partitions that we still have; `reset` would drop it from the step's memory.
                if self.open.records > 0 {
                    self.commit()?;
                }
                tracing::info!(step = %self.options.member.group, partitions = positions.len(), "assigned");
                self.step.reset(&positions);
            }
            Polled::Revoke { partitions, lost } => {
                tracing::info!(step = %self.options.member.group, ?partitions, lost, "revoked");
                if lost {
                    self.drop_open();
                    self.session.recover()?;
                } else if self.open.records > 0 {
                    self.commit()?;
                }
                self.session.release()?;
                self.step.reset(&self.session.positions());
            }
        }
        Ok(())
    }

    /// Applies what was polled. Where a record must wait, nothing of its partition passes it, and every other partition
    /// goes on.
    fn apply_batch(&mut self) -> Result<Applied, StepError> {
        let records = std::mem::take(&mut self.batch.records);
        let outcome = self.apply_each(&records);
        self.batch.records = records;
        outcome
    }

    fn apply_each(&mut self, records: &[Record]) -> Result<Applied, StepError> {
        let mut waiting = None;
        let mut blocked: BTreeSet<(&Topic, u32)> = BTreeSet::new();
        for (index, record) in records.iter().enumerate() {
            if self.open.since.is_some_and(|since| since.elapsed() >= self.options.batch_apply_max) {
                return Ok(Applied { waiting, left: firsts(records.get(index..).unwrap_or_default()) });
            }
            if !blocked.is_empty() && blocked.contains(&(&record.topic, record.partition)) {
                continue;
            }
            match self.apply(record) {
                Ok(()) => {}
                Err(StepError::Wait(why)) => {
                    *self.waits.entry(position_of(record)).or_default() += 1;
                    blocked.insert((&record.topic, record.partition));
                    waiting = Some(why);
                }
                Err(other) => return Err(other),
            }
        }
        Ok(Applied { waiting, left: Vec::new() })
    }

    fn apply(&mut self, record: &Record) -> Result<(), StepError> {
        let position = position_of(record);
        let parked_for_size = self.oversized.contains(&position);
        let parked = parked_for_size || self.panics.get(&position).copied().unwrap_or(0) >= PANICS_MAX;
        let mut staging = Staging::new(self.session.as_ref(), record.partition);
        let applied = if parked {
            Err(StepError::Reject(Reject {
                reason: if parked_for_size { "output_too_large" } else { "panicked" },
                detail: if parked_for_size {
                    "what follows from this record does not fit a record of the log".to_owned()
                } else {
                    format!("the step panicked {PANICS_MAX} times at this record")
                },
                tenant: "-".to_owned(),
            }))
        } else {
            match catch_unwind(AssertUnwindSafe(|| self.step.apply(record, &mut staging))) {
                Ok(applied) => applied,
                Err(_) => {
                    *self.panics.entry(position.clone()).or_default() += 1;
                    let detail =
                        format!("the step panicked at {}:{}:{}", record.topic, record.partition, record.offset);
                    return Err(StepError::Fault(Fault::Abort(Cause::new("panicked", detail))));
                }
            }
        };
        let mut staged = staging.into_staged();
        match applied {
            Ok(()) => {}
            Err(StepError::Reject(reject)) => {
                tracing::warn!(step = %self.options.member.group, reason = reject.reason, source = %position.topic,
                    partition = position.partition, offset = position.offset, traceparent = record.traceparent(),
                    "dead letter");
                metrics::counter!("stage_dead_letters_total", "step" => self.options.member.group.clone(), "reason" => reject.reason)
                    .increment(1);
                // Whatever the step staged for this record before it refused does not happen.
                staged = crate::staging::Staged::default();
                staged.emits.push(DeadLetter { record, reject: &reject }.emit_to(&self.options.dead));
            }
            Err(other) => return Err(other),
        }
        let caused = match self.write(staged, record, 0) {
            Err(StepError::Fault(fault)) if fault.cause().code == TOO_LARGE && !parked_for_size => {
                // Part of it is staged already: the batch is given up, and next time the record is parked.
                self.oversized.insert(position);
                return Err(StepError::Fault(Fault::Abort(fault.into_cause())));
            }
            written => written?,
        };
        self.open.records += 1;
        self.open.since.get_or_insert_with(Instant::now);
        self.open.next.insert((record.topic.clone(), record.partition), record.offset + 1);
        self.open.last.insert(record.partition, (record.clone(), caused));
        Ok(())
    }

    /// Hands the effects of one record to the session; answers the index of the next output.
    fn write(&mut self, staged: crate::staging::Staged, record: &Record, first: u32) -> Result<u32, StepError> {
        for prefix in &staged.forgets {
            self.session.forget(record.partition, prefix)?;
        }
        for (key, value) in &staged.puts {
            self.session.put(record.partition, key, value.as_deref())?;
        }
        let own_input = self.options.member.inputs.first() == Some(&record.topic);
        let cause_topic = (!own_input).then_some(&record.topic);
        let mut index = first;
        for emit in &staged.emits {
            emit_caused(self.session.as_mut(), emit, &cause_of(record, index), cause_topic)?;
            index += 1;
        }
        Ok(index)
    }

    fn commit(&mut self) -> Result<(), StepError> {
        let last = std::mem::take(&mut self.open.last);
        for (partition, (record, caused)) in &last {
            let mut staging = Staging::new(self.session.as_ref(), *partition);
            self.step.finish(*partition, &mut staging)?;
            let staged = staging.into_staged();
            self.write(staged, record, *caused)?;
        }
        let next: Vec<Position> = self
            .open
            .next
            .iter()
            .map(|((topic, partition), offset)| Position {
                topic: topic.clone(),
                partition: *partition,
                offset: *offset,
            })
            .collect();
        let begun = Instant::now();
        let committed = self.session.commit(&next)?;
        let step = self.options.member.group.clone();
        metrics::histogram!("stage_commit_seconds", "step" => step.clone()).record(begun.elapsed().as_secs_f64());
        metrics::counter!("stage_records_total", "step" => step.clone()).increment(self.open.records as u64);
        metrics::counter!("stage_commits_total", "step" => step).increment(1);
        self.step.committed(&committed);
        let passed = |position: &Position| {
            next.iter().any(|done| {
                done.topic == position.topic && done.partition == position.partition && done.offset > position.offset
            })
        };
        self.panics.retain(|position, _| !passed(position));
        self.oversized.retain(|position| !passed(position));
        self.waits.retain(|position, _| !passed(position));
        self.open = Open::default();
        self.recoveries = 0;
        Ok(())
    }

    /// Commits what is open on the way out; what cannot be committed is read again by the next run.
    fn settle_batch(&mut self, stopping: bool) -> Result<(), Fault> {
        match self.commit() {
            Ok(()) => Ok(()),
            Err(StepError::Fault(fault @ Fault::Fatal(_))) => Err(fault),
            Err(failure) => {
                tracing::warn!(step = %self.options.member.group, %failure, stopping, "the last batch is left to the next run");
                Ok(())
            }
        }
    }

    fn drop_open(&mut self) {
        self.open = Open::default();
        self.batch.records.clear();
    }

    /// Drops what is staged and goes back to the committed offsets; only a fatal fault comes out.
    fn recover(&mut self, failure: StepError) -> Result<(), Fault> {
        let (fault, endless) = match failure {
            StepError::Fault(fault @ Fault::Fatal(_)) => return Err(fault),
            StepError::Fault(fault) => (fault, false),
            // Waiting for a deploy may take as long as it takes; nothing is lost meanwhile.
            StepError::Wait(why) => (Fault::Abort(Cause::new("waiting", why)), true),
            StepError::Reject(reject) => {
                return Err(Fault::Fatal(Cause::new(
                    "finish_rejected",
                    format!("{}: {}", reject.reason, reject.detail),
                )));
            }
        };
        let step = self.options.member.group.clone();
        tracing::warn!(step = %step, %fault, "recovering");
        metrics::counter!("stage_recoveries_total", "step" => step, "code" => fault.cause().code).increment(1);
        self.drop_open();
        // What waits is looked at less and less often, also while other partitions go on.
        let before = if endless { self.waits.values().copied().max().unwrap_or(0) } else { self.recoveries };
        let mut backoff = if before == 0 && !endless { Duration::ZERO } else { BACKOFF_FIRST };
        backoff = (backoff * 2_u32.saturating_pow(before.min(10))).min(BACKOFF_MAX);
        loop {
            self.recoveries += 1;
            if self.recoveries > self.options.recoveries_max && !endless {
                return Err(Fault::Fatal(fault.into_cause()));
            }
            if self.stop.wait(backoff) {
                return Ok(());
            }
            match self.session.recover() {
                Ok(()) => break,
                Err(fatal @ Fault::Fatal(_)) => return Err(fatal),
                Err(again) => {
                    tracing::warn!(step = %self.options.member.group, fault = %again, "recovery failed, trying again")
                }
            }
            backoff = (backoff.max(BACKOFF_FIRST) * 2).min(BACKOFF_MAX);
        }
        self.step.reset(&self.session.positions());
        Ok(())
    }
}

fn position_of(record: &Record) -> Position {
    Position { topic: record.topic.clone(), partition: record.partition, offset: record.offset }
}

/// The first of each partition; records of a partition come in order.
fn firsts(records: &[Record]) -> Vec<Position> {
    let mut firsts: Vec<Position> = Vec::new();
    for record in records {
        if !firsts.iter().any(|first| first.topic == record.topic && first.partition == record.partition) {
            firsts.push(position_of(record));
        }
    }
    firsts
}
