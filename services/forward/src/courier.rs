//! The loop: sealed records become pending deliveries, calls become attempts and outcomes, each in one transaction.
//!
//! The session belongs to one OS thread. Calls run beside it on a small runtime and send back how they went; their
//! results are kept until the transaction that records them is committed, so that an aborted one costs no second call.

mod calls;
mod intake;
mod results;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use event::destination::Destination;
use event::wire::{PendingDelivery, Wire, WireError};
use log::{Batch, Cause, Fault, Log, Member, Polled, Position, Session, Topic};
use stage::redone::Redone;
use stage::{Cells, StepError, Stop};
use tokio::runtime::Runtime;

use crate::call::CallResult;
use crate::dial::Dialer;
use crate::lanes::{CellId, LaneId, Lanes, Waiting};
use crate::metrics as names;
use crate::owed::PENDING;
use crate::settings::Settings;
use crate::{Options, step};
use results::Finished;

const STEP: &str = "forward";
const CALL_THREADS: usize = 2;
/// A poll waits at most so long; less when a delivery is due before.
const POLL_WAIT_MAX: Duration = Duration::from_millis(200);
/// While calls are under way, their results wait at most so long for the session.
const POLL_WAIT_BUSY: Duration = Duration::from_millis(10);
const BACKOFF_FIRST: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// So many recoveries in a row without a commit between them are fatal.
const RECOVERIES_MAX: u32 = 20;
/// How long reading pauses before a schema of a later version is looked at again; deliveries go on meanwhile.
const SCHEMA_WAIT: Duration = Duration::from_secs(2);
/// Who stops, or gives partitions up, waits so long for calls under way; what has not ended is called again by whoever
/// comes next.
const CALLS_GRACE: Duration = Duration::from_secs(3);

/// Delivers until `stop`, on the calling thread.
///
/// # Errors
/// Only `Fault::Fatal`: fenced, damaged, misconfigured, or no progress after many recoveries.
pub fn run(log: &dyn Log, options: Options, stop: &Stop) -> Result<(), Fault> {
    names::describe();
    let dialer = Dialer::new(&options.dial).map_err(|error| fatal("forward_setup", &error))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CALL_THREADS)
        .thread_name("forward-call")
        .enable_io()
        .enable_time()
        .build()
        .map_err(|error| fatal("forward_runtime", &error))?;
    let Some(session) = join(log, &options.slot, stop)? else { return Ok(()) };
    let (ended, results) = channel();
    let mut courier = Courier {
        lanes: Lanes::new(options.bounds),
        settings: Settings::new(options.tenants.clone()),
        options,
        stop,
        session,
        dialer: Arc::new(dialer),
        runtime,
        ended,
        results,
        next: BTreeMap::new(),
        busy: HashSet::new(),
        unsettled: Vec::new(),
        open: Open::default(),
        redone: Redone::default(),
        paused_until: None,
        recoveries: 0,
    };
    let outcome = courier.run();
    // A lookup may hang in the system's resolver; nobody waits for it.
    courier.runtime.shutdown_background();
    outcome
}

fn fatal(code: &'static str, error: &dyn std::error::Error) -> Fault {
    let mut detail = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        detail.push_str(": ");
        detail.push_str(&inner.to_string());
        source = inner.source();
    }
    Fault::Fatal(Cause::new(code, detail))
}

/// Joins, waiting for a log that is not ready yet.
fn join(log: &dyn Log, slot: &str, stop: &Stop) -> Result<Option<Box<dyn Session>>, Fault> {
    let Some(step) = event::topic::step(STEP) else {
        return Err(Fault::Fatal(Cause::new("no_step", "the table of topics does not know forward")));
    };
    let member = Member {
        group: STEP.to_owned(),
        slot: slot.to_owned(),
        inputs: vec![Topic::new(step.input), Topic::new(&step.redo_topic())],
        state: step.state.map(Topic::new),
    };
    let mut backoff = BACKOFF_FIRST;
    for _ in 0..=RECOVERIES_MAX {
        match log.join(&member) {
            Ok(session) => return Ok(Some(session)),
            Err(fault @ Fault::Fatal(_)) => return Err(fault),
            Err(fault) => tracing::warn!(%fault, "could not join, trying again"),
        }
        if stop.wait(backoff) {
            return Ok(None);
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
    Err(Fault::Fatal(Cause::new("join_failed", "forward could not join its group")))
}

/// What the open transaction holds beside its records.
#[derive(Default)]
struct Open {
    partitions: BTreeSet<u32>,
    /// Joins the lanes when it is durable.
    queued: Vec<Waiting>,
    outcomes: Vec<CallResult>,
}

struct Courier<'a> {
    options: Options,
    stop: &'a Stop,
    session: Box<dyn Session>,
    dialer: Arc<Dialer>,
    settings: Settings,
    runtime: Runtime,
    ended: Sender<Finished>,
    results: Receiver<Finished>,
    lanes: Lanes,
    /// Next offset of every input partition that is ours.
    next: BTreeMap<(u32, Topic), u64>,
    /// Cells with a call under way, or a result that is not committed.
    busy: HashSet<CellId>,
    unsettled: Vec<Finished>,
    open: Open,
    redone: Redone,
    paused_until: Option<Instant>,
    recoveries: u32,
}

impl Courier<'_> {
    fn run(&mut self) -> Result<(), Fault> {
        while !self.stop.requested() {
            if let Err(failure) = self.turn() {
                self.recover(failure)?;
            }
        }
        self.wind_down()
    }

    /// One poll, one transaction, and the calls that may be made after it.
    fn turn(&mut self) -> Result<(), StepError> {
        let mut batch = Batch::default();
        let mut wait_for_deploy = None;
        let wait = self.poll_wait();
        if self.paused_until.is_some_and(|until| Instant::now() < until) {
            self.stop.wait(wait);
        } else {
            self.paused_until = None;
            match self.session.poll(wait, &mut batch) {
                Ok(Polled::Records { .. }) => wait_for_deploy = self.accept(&batch.records)?,
                Ok(Polled::Assigned(positions)) => self.assigned(&positions)?,
                Ok(Polled::Revoke { partitions, lost }) => self.revoked(&partitions, lost)?,
                Err(Fault::Retry(cause)) => {
                    tracing::warn!(%cause, "polling again");
                    self.stop.wait(BACKOFF_FIRST);
                }
                Err(fault) => return Err(fault.into()),
            }
        }
        self.settle()?;
        self.commit()?;
        self.dispatch();
        // What came before the record that must wait is committed; going back to the committed offsets keeps it.
        wait_for_deploy.map_or(Ok(()), |why| Err(StepError::Wait(why)))
    }

    fn poll_wait(&self) -> Duration {
        if self.lanes.in_flight() > 0 || !self.unsettled.is_empty() {
            return POLL_WAIT_BUSY;
        }
        let until_due = self.lanes.next_at().map_or(i64::MAX, |at| at.saturating_sub(now_ms()).max(0));
        POLL_WAIT_MAX.min(Duration::from_millis(u64::try_from(until_due).unwrap_or(0)))
    }

    fn assigned(&mut self, positions: &[Position]) -> Result<(), StepError> {
        for position in positions {
            self.next.insert((position.partition, position.topic.clone()), position.offset);
        }
        // What was seen of them before, another instance may have changed.
        self.redone.clear();
        let partitions: BTreeSet<u32> = positions.iter().map(|position| position.partition).collect();
        for partition in partitions {
            self.load(partition)?;
        }
        Ok(())
    }

    /// Lines up what the state holds, save what a call is under way for.
    fn load(&mut self, partition: u32) -> Result<(), StepError> {
        let mut found = Vec::new();
        let mut failure = None;
        self.session.scan(partition, &[PENDING], &mut |key, value| {
            if !key.starts_with(&[PENDING]) {
                return false;
            }
            let cell = CellId { partition, key: key.into() };
            match PendingDelivery::decode(value) {
                Ok(pending) => found.push((
                    cell,
                    pending.next_at,
                    step::give_up_at(&pending, &self.options.retries),
                    lane_of(&pending),
                )),
                Err(error) => failure = Some(damaged(&cell, &error)),
            }
            failure.is_none()
        })?;
        if let Some(failure) = failure {
            return Err(failure);
        }
        tracing::info!(partition, pending = found.len(), "deliveries without an outcome");
        for (cell, due_at, give_up_at, lane) in found {
            if !self.busy.contains(&cell) {
                self.lanes.queue(Waiting { cell, lane, due_at, give_up_at });
            }
        }
        Ok(())
    }

    /// Records what has ended, unless the partitions are lost, and gives them up. Calls still under way end unrecorded.
    fn revoked(&mut self, partitions: &[u32], lost: bool) -> Result<(), StepError> {
        tracing::info!(?partitions, lost, "revoked");
        if lost {
            self.open = Open::default();
            self.redone.clear();
            self.session.recover()?;
        } else {
            let ending: BTreeSet<u32> = partitions.iter().copied().collect();
            self.await_calls(Some(&ending));
            self.settle()?;
            self.commit()?;
        }
        self.session.release()?;
        self.next.retain(|(partition, _), _| !partitions.contains(partition));
        self.lanes.forget(partitions);
        Ok(())
    }

    fn is_ours(&self, partition: u32) -> bool {
        self.next.keys().any(|(ours, _)| *ours == partition)
    }

    /// Makes everything staged durable, and only then acts on it.
    fn commit(&mut self) -> Result<(), StepError> {
        if !self.open.partitions.is_empty() {
            for partition in &self.open.partitions {
                self.redone.finish(*partition, &mut Cells::new(self.session.as_mut(), *partition))?;
            }
            let next: Vec<Position> = self
                .next
                .iter()
                .filter(|((partition, _), _)| self.open.partitions.contains(partition))
                .map(|((partition, topic), offset)| Position {
                    topic: topic.clone(),
                    partition: *partition,
                    offset: *offset,
                })
                .collect();
            self.session.commit(&next)?;
            self.recoveries = 0;
        }
        for finished in self.unsettled.drain(..) {
            self.busy.remove(&finished.cell);
        }
        let open = std::mem::take(&mut self.open);
        for outcome in open.outcomes {
            metrics::counter!(names::OUTCOMES, "outcome" => outcome.name()).increment(1);
        }
        for waiting in open.queued {
            if !self.busy.contains(&waiting.cell) {
                self.lanes.queue(waiting);
            }
        }
        Ok(())
    }

    /// Drops what is staged, goes back to the committed offsets and reads the state anew. Results are kept.
    fn recover(&mut self, failure: StepError) -> Result<(), Fault> {
        let fault = match failure {
            StepError::Fault(fault @ Fault::Fatal(_)) => return Err(fault),
            StepError::Fault(fault) => fault,
            StepError::Wait(why) => {
                // Waiting for a deploy may take as long as it takes, and deliveries go on meanwhile.
                self.paused_until = Some(Instant::now() + SCHEMA_WAIT);
                self.recoveries = 0;
                Fault::Abort(Cause::new("waiting", why))
            }
            StepError::Reject(reject) => {
                return Err(Fault::Fatal(Cause::new("rejected", format!("{}: {}", reject.reason, reject.detail))));
            }
        };
        tracing::warn!(%fault, "recovering");
        metrics::counter!("stage_recoveries_total", "step" => STEP, "code" => fault.cause().code).increment(1);
        self.open = Open::default();
        self.redone.clear();
        let mut backoff = if self.recoveries == 0 { Duration::ZERO } else { BACKOFF_FIRST };
        backoff = (backoff * 2_u32.saturating_pow(self.recoveries.min(10))).min(BACKOFF_MAX);
        loop {
            self.recoveries += 1;
            if self.recoveries > RECOVERIES_MAX {
                return Err(Fault::Fatal(fault.into_cause()));
            }
            if self.stop.wait(backoff) {
                return Ok(());
            }
            match self.restart() {
                Ok(()) => return Ok(()),
                Err(StepError::Fault(fatal @ Fault::Fatal(_))) => return Err(fatal),
                Err(again) => tracing::warn!(failure = %again, "recovery failed, trying again"),
            }
            backoff = (backoff.max(BACKOFF_FIRST) * 2).min(BACKOFF_MAX);
        }
    }

    fn restart(&mut self) -> Result<(), StepError> {
        self.session.recover()?;
        let before: Vec<u32> = self.next.keys().map(|(partition, _)| *partition).collect();
        self.lanes.forget(&before);
        self.next.clear();
        let positions = self.session.positions();
        self.assigned(&positions)
    }

    /// Waits a little for the calls under way of these partitions, or for all.
    fn await_calls(&mut self, of: Option<&BTreeSet<u32>>) {
        let until = Instant::now() + CALLS_GRACE;
        let concerns = |cell: &&CellId| of.is_none_or(|of| of.contains(&cell.partition));
        loop {
            let busy = self.busy.iter().filter(concerns).count();
            let ended = self.unsettled.iter().map(|finished| &finished.cell).filter(concerns).count();
            if busy <= ended {
                return;
            }
            match self.results.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(finished) => self.take_result(finished),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Waits a little for calls under way and records how they went.
    fn wind_down(&mut self) -> Result<(), Fault> {
        self.await_calls(None);
        match self.settle().and_then(|()| self.commit()) {
            Ok(()) => Ok(()),
            Err(StepError::Fault(fault @ Fault::Fatal(_))) => Err(fault),
            Err(failure) => {
                tracing::warn!(%failure, "the last results are lost, their calls are repeated by the next run");
                Ok(())
            }
        }
    }
}

fn damaged(cell: &CellId, error: &WireError) -> StepError {
    let key = String::from_utf8_lossy(&cell.key);
    let detail = format!("the pending delivery {key} of partition {}: {error}", cell.partition);
    StepError::Fault(Fault::Fatal(Cause::new("state_damaged", detail)))
}

/// Deliveries of one tenant to one host and port share a lane. What is no destination has a lane of its own.
fn lane_of(pending: &PendingDelivery) -> LaneId {
    match Destination::parse(&pending.url) {
        Ok(url) => format!("{} {}:{}", pending.tenant, url.host(), url.port()).into(),
        Err(_) => format!("{} -", pending.tenant).into(),
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
