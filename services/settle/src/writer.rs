//! The loop: read, decide in the database, publish; and how to go on after any of it has failed.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use event::topic::{LEDGER_COMMAND, RELAY_POSITION};
use ledger::{Disposition, Input, Ledger, LedgerError, Offsets, OutboxRow, Progress};
use log::{Cause, Fault, Log, Member, Polled, Position, Record, Session, Topic};
use stage::Stop;
use tokio::runtime::Runtime;

use crate::command::{Item, What, needs, panicked, parse};
use crate::published::regressed;
use crate::relay::{Relayed, relayed, stage_rows};
use crate::restore::{Restore, put_back};
use crate::step::decide;
use crate::{SettleOptions, metrics};

const STEP: &str = "settle";
const REDO: &str = "settle.redo.v1";
const DEAD: &str = "settle.dead.v1";
const BACKOFF_FIRST: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Why a turn came to nothing.
enum Failure {
    Fault(Fault),
    /// A record of a later schema is next: wait for the deploy, however long it takes.
    Waiting(String),
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// A partition that is ours: how far the database has decided it and the log has published it.
#[derive(Clone, Copy, Debug)]
struct Held {
    progress: Progress,
    relayed: Relayed,
    /// How far the group may say that it has come: everything before these offsets is decided and published.
    told: Offsets,
}

impl Held {
    /// Whether rows of the outbox wait to be published.
    fn is_behind(&self) -> bool {
        self.relayed.sequence + 1 < self.progress.next_sequence
    }

    /// These rows are in the log, up to `relayed`.
    fn has_published(&mut self, partition: u32, relayed: Relayed, rows: &[OutboxRow]) -> Result<(), Fault> {
        if relayed == self.relayed {
            let detail = format!("partition {partition} has no row after {}", relayed.sequence);
            return Err(Fault::Fatal(Cause::new("outbox_gap", detail)));
        }
        self.relayed = relayed;
        if !self.is_behind() {
            self.told = self.progress.offsets;
            return Ok(());
        }
        for row in rows {
            let told = match row.draft.source.input {
                Input::Command => &mut self.told.command,
                Input::Redo => &mut self.told.redo,
            };
            *told = (*told).max(row.draft.source.offset + 1);
        }
        Ok(())
    }
}

struct Writer<'a> {
    log: &'a dyn Log,
    options: &'a SettleOptions,
    stop: &'a Stop,
    runtime: Runtime,
    command: Topic,
    redo: Topic,
    dead: Topic,
    session: Box<dyn Session>,
    ledger: Ledger,
    held: BTreeMap<u32, Held>,
    /// Whether `held` must be read anew before anything else.
    is_stale: bool,
    /// Failures in a row.
    recoveries: u32,
}

pub(crate) fn run(log: &dyn Log, options: &SettleOptions, stop: &Stop) -> Result<(), Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Fault::Fatal(Cause::new("runtime", "cannot start the runtime").caused_by(error)))?;
    let Some((ledger, session)) = start(log, options, (&runtime, stop))? else { return Ok(()) };
    let mut writer = Writer {
        log,
        options,
        stop,
        runtime,
        command: Topic::new(LEDGER_COMMAND),
        redo: Topic::new(REDO),
        dead: Topic::new(DEAD),
        session,
        ledger,
        held: BTreeMap::new(),
        is_stale: false,
        recoveries: 0,
    };
    while !stop.requested() {
        if let Err(failure) = writer.turn() {
            writer.recover(failure)?;
        }
    }
    Ok(())
}

/// What a writer works on.
type Ready = (Ledger, Box<dyn Session>);

/// Opens the database and joins the group, waiting for either that is not ready yet. `None`: stopped meanwhile.
fn start(log: &dyn Log, options: &SettleOptions, (runtime, stop): (&Runtime, &Stop)) -> Result<Option<Ready>, Fault> {
    let command = Topic::new(LEDGER_COMMAND);
    let member = Member {
        group: STEP.to_owned(),
        slot: options.slot.clone(),
        inputs: vec![command.clone(), Topic::new(REDO)],
        state: Some(Topic::new(RELAY_POSITION)),
    };
    let ready = || -> Result<Ready, Fault> {
        let missing = || Fault::Retry(Cause::new("topic_missing", format!("{command} does not exist")));
        let partitions = log.partitions(&command)?.ok_or_else(missing)?;
        let ledger = runtime.block_on(async {
            let mut ledger = Ledger::open(options.database.clone()).await?;
            ledger.bind(log.identity(), partitions).await?;
            Ok(ledger)
        });
        Ok((ledger.map_err(fault_of)?, log.join(&member)?))
    };
    let mut backoff = BACKOFF_FIRST;
    for attempt in 0.. {
        match ready() {
            Ok(both) => return Ok(Some(both)),
            Err(fault @ Fault::Fatal(_)) => return Err(fault),
            Err(fault) if attempt >= options.limits.recoveries_max => return Err(Fault::Fatal(fault.into_cause())),
            Err(fault) => tracing::warn!(step = STEP, %fault, "cannot start yet"),
        }
        if stop.wait(backoff) {
            break;
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
    Ok(None)
}

fn fault_of(error: LedgerError) -> Fault {
    let disposition = error.disposition();
    let code = error.code();
    let cause = Cause::new(code, error.to_string()).caused_by(error);
    match disposition {
        Disposition::Retry => Fault::Retry(cause),
        Disposition::Reread => Fault::Abort(cause),
        Disposition::Fatal => Fault::Fatal(cause),
    }
}

impl Writer<'_> {
    /// Runs a database call to its end.
    fn wait<T>(runtime: &Runtime, call: impl Future<Output = Result<T, LedgerError>>) -> Result<T, Fault> {
        runtime.block_on(call).map_err(fault_of)
    }

    /// One poll and what follows from it.
    fn turn(&mut self) -> Result<(), Failure> {
        if self.is_stale {
            let ours: BTreeSet<u32> = self.session.positions().iter().map(|position| position.partition).collect();
            self.held.clear();
            ours.into_iter().try_for_each(|partition| self.open(partition))?;
            self.is_stale = false;
        }
        // What was decided before a crash is published without waiting for another command.
        self.relay(&BTreeSet::new())?;
        let mut batch = log::Batch::default();
        match self.session.poll(self.options.limits.poll_wait, &mut batch)? {
            Polled::Records { .. } => self.records(batch.records)?,
            Polled::Assigned(positions) => {
                let ours: BTreeSet<u32> = positions.iter().map(|position| position.partition).collect();
                tracing::info!(step = STEP, partitions = ours.len(), "assigned");
                // If opening fails half way, the next turn opens them all.
                self.is_stale = true;
                ours.into_iter().try_for_each(|partition| self.open(partition))?;
                self.is_stale = false;
            }
            Polled::Revoke { partitions, lost } => {
                tracing::info!(step = STEP, ?partitions, lost, "revoked");
                if lost {
                    self.session.recover()?;
                }
                // Nothing is staged between turns, so there is nothing to finish.
                self.session.release()?;
                self.held.retain(|partition, _| !partitions.contains(partition));
                self.is_stale = lost;
            }
        }
        self.recoveries = 0;
        Ok(())
    }

    /// Finds out where a partition is: the database knows what was decided, the log what was published.
    fn open(&mut self, partition: u32) -> Result<(), Fault> {
        let start =
            Offsets { command: self.start_of(&self.command, partition)?, redo: self.start_of(&self.redo, partition)? };
        let relayed = relayed(self.session.as_ref(), partition)?;
        let mut progress = Self::wait(&self.runtime, self.ledger.progress(partition, start))?;
        if relayed.sequence >= progress.next_sequence {
            progress = self.restore(partition, progress, relayed)?;
        }
        self.refuse_if_regressed(partition, progress, relayed)?;
        let told = if relayed.sequence + 1 == progress.next_sequence {
            progress.offsets
        } else {
            self.committed_of(partition, progress.offsets)
        };
        self.session.seek(&self.positions_of(partition, progress.offsets))?;
        self.held.insert(partition, Held { progress, relayed, told });
        Ok(())
    }

    fn start_of(&self, topic: &Topic, partition: u32) -> Result<u64, Fault> {
        let starts = self.log.starts(topic)?;
        Ok(starts.iter().find(|start| start.partition == partition).map_or(0, |start| start.offset))
    }

    /// What the group has committed, but never more than what the database has decided.
    fn committed_of(&self, partition: u32, decided: Offsets) -> Offsets {
        let positions = self.session.positions();
        let of = |topic: &Topic| {
            let at = positions.iter().find(|at| at.partition == partition && at.topic == *topic);
            at.map_or(0, |at| at.offset)
        };
        Offsets { command: decided.command.min(of(&self.command)), redo: decided.redo.min(of(&self.redo)) }
    }

    fn positions_of(&self, partition: u32, offsets: Offsets) -> [Position; 2] {
        [
            Position { topic: self.command.clone(), partition, offset: offsets.command },
            Position { topic: self.redo.clone(), partition, offset: offsets.redo },
        ]
    }

    /// The published row must be a row of this database, and the log must hold what was read from it.
    fn refuse_if_regressed(&mut self, partition: u32, progress: Progress, relayed: Relayed) -> Result<(), Fault> {
        let of_table = if relayed.sequence + 1 == progress.next_sequence {
            Some(progress.head)
        } else if relayed.sequence == 0 {
            Some(relayed.row_hash)
        } else {
            Self::wait(&self.runtime, self.ledger.outbox_hash(partition, relayed.sequence))?
        };
        if of_table != Some(relayed.row_hash) {
            let sequence = relayed.sequence;
            return Err(regressed(format!("row {sequence} of ledger partition {partition} is not the one published")));
        }
        for position in self.positions_of(partition, progress.offsets) {
            let ends = self.log.ends(&position.topic)?;
            let end = ends.iter().find(|end| end.partition == partition).map_or(0, |end| end.offset);
            if position.offset > end {
                let detail = format!(
                    "the ledger has read {}:{partition} up to {}, but it ends at {end}",
                    position.topic, position.offset
                );
                return Err(Fault::Fatal(Cause::new("log_regressed", detail)));
            }
        }
        Ok(())
    }

    /// The relay is ahead: takes back what was published and is not in the table.
    fn restore(&mut self, partition: u32, from: Progress, relayed: Relayed) -> Result<Progress, Fault> {
        tracing::warn!(
            step = STEP,
            partition,
            from = from.next_sequence,
            through = relayed.sequence,
            "the ledger is behind what was published: taking it back"
        );
        let (log, limits) = (self.log, self.options.limits);
        let restore = Restore {
            log,
            redo: &self.redo,
            dead: &self.dead,
            partition,
            from,
            relayed,
            rows_max: limits.restore_rows_max,
            batch_max: limits.batch_commands_max,
        };
        restore.prove()?;
        let (ledger, runtime) = (&mut self.ledger, &self.runtime);
        let mut progress = from;
        restore.each_batch(|batch, rows| {
            let count = rows.len();
            let applied = Self::wait(runtime, ledger.apply(&batch, |books| put_back(rows, books)))?;
            metrics::restored(count);
            progress = applied.progress;
            Ok(())
        })?;
        Ok(progress)
    }

    fn records(&mut self, records: Vec<Record>) -> Result<(), Failure> {
        let mut by_partition: BTreeMap<u32, Vec<Record>> = BTreeMap::new();
        for record in records {
            by_partition.entry(record.partition).or_default().push(record);
        }
        let mut waiting = None;
        for (partition, records) in &by_partition {
            for some in records.chunks(self.options.limits.batch_commands_max) {
                if let Some(why) = self.settle(*partition, some)? {
                    waiting = Some(why);
                    break;
                }
            }
        }
        self.relay(&by_partition.into_keys().collect())?;
        waiting.map_or(Ok(()), |why| Err(Failure::Waiting(why)))
    }

    /// Decides records of one partition in one database transaction. Answers why it stopped before their end, if it did.
    fn settle(&mut self, partition: u32, records: &[Record]) -> Result<Option<String>, Fault> {
        let Some(held) = self.held.get(&partition).copied() else {
            let detail = format!("a record of partition {partition}, which is not open");
            return Err(Fault::Abort(Cause::new("partition_not_open", detail)));
        };
        let expected = held.progress.offsets;
        let (mut next, mut items, mut waiting) = (expected, Vec::with_capacity(records.len()), None);
        for record in records {
            let (input, at) = if record.topic == self.command {
                (Input::Command, &mut next.command)
            } else {
                (Input::Redo, &mut next.redo)
            };
            // Offsets rise within an input, so what lies below is decided already.
            if record.offset < *at {
                continue;
            }
            match read(record, input, &self.dead) {
                Ok(item) => items.push(item),
                Err(why) => {
                    waiting = Some(why);
                    break;
                }
            }
            *at = record.offset + 1;
        }
        if next == expected {
            return Ok(waiting);
        }
        let batch = ledger::Batch { partition, expected, next, needs: needs(&items), published: held.relayed.sequence };
        let begun = Instant::now();
        let tariffs = &self.options.tariffs;
        let applied = self.ledger.apply(&batch, |books| decide(&items, tariffs, books));
        let applied = Self::wait(&self.runtime, applied)?;
        metrics::applied(applied.rows, begun.elapsed());
        // Without a row there is nothing to publish first.
        let told = if applied.rows == 0 && !held.is_behind() { next } else { held.told };
        self.held.insert(partition, Held { progress: applied.progress, told, ..held });
        Ok(waiting)
    }

    /// Publishes everything that is decided and not yet published, and moves the group's offsets along with it.
    fn relay(&mut self, touched: &BTreeSet<u32>) -> Result<(), Fault> {
        let mut touched = touched.clone();
        loop {
            touched.extend(self.held.iter().filter(|(_, held)| held.is_behind()).map(|(partition, _)| *partition));
            if touched.is_empty() {
                return Ok(());
            }
            let (mut next, mut moved, mut emitted) = (Vec::new(), Vec::new(), Vec::new());
            for partition in std::mem::take(&mut touched) {
                let Some(mut held) = self.held.get(&partition).copied() else { continue };
                if held.is_behind() {
                    let limit = self.options.limits.relay_rows_max;
                    let rows = self.ledger.outbox_after(partition, held.relayed.sequence, limit);
                    let rows = Self::wait(&self.runtime, rows)?;
                    let relayed = stage_rows(self.session.as_mut(), partition, held.relayed, &rows)?;
                    held.has_published(partition, relayed, &rows)?;
                    emitted.extend(rows);
                    moved.push((partition, held));
                }
                next.extend(self.positions_of(partition, held.told));
            }
            self.session.commit(&next)?;
            metrics::published(&emitted);
            self.held.extend(moved);
        }
    }

    /// Drops what is staged and reads everything anew; only a fatal fault comes out.
    fn recover(&mut self, failure: Failure) -> Result<(), Fault> {
        let (mut fault, endless) = match failure {
            Failure::Fault(fault) => (fault, false),
            Failure::Waiting(why) => (Fault::Abort(Cause::new("waiting", why)), true),
        };
        self.is_stale = true;
        loop {
            if let fatal @ Fault::Fatal(_) = fault {
                return Err(fatal);
            }
            tracing::warn!(step = STEP, %fault, "recovering");
            metrics::recovered(fault.cause().code);
            self.recoveries = self.recoveries.saturating_add(1);
            if !endless && self.recoveries > self.options.limits.recoveries_max {
                return Err(Fault::Fatal(fault.into_cause()));
            }
            let backoff = BACKOFF_FIRST.saturating_mul(2_u32.saturating_pow(self.recoveries.min(16)));
            if self.stop.wait(backoff.min(BACKOFF_MAX)) {
                return Ok(());
            }
            match self.session.recover() {
                Ok(()) => return Ok(()),
                Err(again) => fault = again,
            }
        }
    }
}

/// Reads a record; one that panics twice is a dead letter (R9).
fn read(record: &Record, input: Input, dead: &Topic) -> Result<Item, String> {
    let once = || catch_unwind(AssertUnwindSafe(|| parse(record, input, dead)));
    let item = match once().or_else(|_| once()) {
        Ok(item) => item?,
        Err(_) => panicked(record, input, dead),
    };
    if let What::Dead { reason, .. } = &item.what {
        tracing::warn!(step = STEP, reason, source = %record.topic, partition = record.partition,
            offset = record.offset, "dead letter");
    }
    Ok(item)
}
