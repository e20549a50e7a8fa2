//! The loop: sealed records become pending deliveries, calls become attempts and outcomes, each in one transaction.
//!
//! The session belongs to one OS thread. Calls run beside it on a small runtime and send back how they went; their
//! results are kept until the transaction that records them is committed, so that an aborted one costs no second call.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use event::destination::{Destination, allowed};
use event::envelope::{public_headers, trace_key};
use event::wire::{ExchangeDelivered, PendingDelivery, Wire, WireError};
use log::{Batch, Cause, Fault, Log, Member, Polled, Position, Record, Session, Topic};
use stage::dead_letter::{cause_of as cause_of_record, emit_caused};
use stage::{DeadLetter, Emit, StepError, Stop};
use tokio::runtime::Runtime;

use crate::dial::Dialer;
use crate::lanes::{CellId, LaneId, Lanes, Turn, Waiting};
use crate::metrics as names;
use crate::step::{self, Call, CallError, CallResult, Next, Owed};
use crate::{Options, webhook};

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
/// How long a delivery waits whose cell could not be read.
const UNREADABLE_WAIT_MS: i64 = 1_000;
/// On the way out, calls under way get so long to end; what has not ended is called again by the next run.
const STOP_GRACE: Duration = Duration::from_secs(3);

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

/// What happened to a delivery and is not recorded yet.
struct Finished {
    cell: CellId,
    lane: LaneId,
    /// Attempts that the delivery had before.
    attempts_before: usize,
    how: How,
}

enum How {
    Called(Call),
    GivenUp { at_ms: i64 },
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

    /// Stages what records owe. Answers why the rest of a partition must wait, where a record cannot be read yet.
    fn accept(&mut self, records: &[Record]) -> Result<Option<String>, StepError> {
        let mut waiting: Option<String> = None;
        let mut blocked: BTreeSet<(&Topic, u32)> = BTreeSet::new();
        for record in records {
            if blocked.contains(&(&record.topic, record.partition)) {
                continue;
            }
            match step::owed(record, now_ms()) {
                Ok(None) => {}
                Ok(Some(owed)) => self.stage_owed(record.partition, owed)?,
                Err(StepError::Reject(reject)) => {
                    tracing::warn!(reason = reject.reason, source = %record.topic, partition = record.partition,
                        offset = record.offset, "dead letter");
                    metrics::counter!("stage_dead_letters_total", "step" => STEP, "reason" => reject.reason)
                        .increment(1);
                    let emit = DeadLetter { record, reject: &reject }.emit_to(&dead_topic());
                    let cause_topic = (record.topic.as_str() != event::topic::SEALED).then_some(&record.topic);
                    emit_caused(self.session.as_mut(), &emit, &cause_of_record(record, 0), cause_topic)?;
                }
                Err(StepError::Wait(why)) => {
                    blocked.insert((&record.topic, record.partition));
                    waiting = Some(why);
                    continue;
                }
                Err(fault) => return Err(fault),
            }
            self.next.insert((record.partition, record.topic.clone()), record.offset + 1);
            self.open.partitions.insert(record.partition);
        }
        Ok(waiting)
    }

    fn stage_owed(&mut self, partition: u32, owed: Owed) -> Result<(), StepError> {
        let cell = CellId { partition, key: owed.cell_key.into() };
        self.stage_pending(cell, &owed.pending)
    }

    fn stage_pending(&mut self, cell: CellId, pending: &PendingDelivery) -> Result<(), StepError> {
        let value = pending.encode().map_err(|error| damaged(&cell, &error))?;
        self.session.put(cell.partition, &cell.key, Some(&value))?;
        self.open.partitions.insert(cell.partition);
        self.open.queued.push(self.waiting(cell, pending));
        Ok(())
    }

    fn waiting(&self, cell: CellId, pending: &PendingDelivery) -> Waiting {
        let give_up_at = step::give_up_at(pending, &self.options.retries);
        Waiting { cell, lane: lane_of(pending), due_at: pending.next_at, give_up_at }
    }

    fn assigned(&mut self, positions: &[Position]) -> Result<(), StepError> {
        for position in positions {
            self.next.insert((position.partition, position.topic.clone()), position.offset);
        }
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
        self.session.scan(partition, &[], &mut |key, value| {
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

    /// Records what has ended, unless the partitions are lost, and gives them up. Calls under way end unrecorded.
    fn revoked(&mut self, partitions: &[u32], lost: bool) -> Result<(), StepError> {
        tracing::info!(?partitions, lost, "revoked");
        if lost {
            self.open = Open::default();
            self.session.recover()?;
        } else {
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

    fn take_result(&mut self, finished: Finished) {
        if let How::Called(call) = &finished.how {
            self.lanes.done(&finished.lane, call.is_healthy(), now_ms());
            metrics::counter!(names::ATTEMPTS, "result" => call.result().name()).increment(1);
            #[expect(clippy::cast_precision_loss, reason = "a call lasts seconds")]
            metrics::histogram!(names::ATTEMPT_SECONDS).record(call.duration_ms as f64 / 1_000.0);
        }
        self.unsettled.push(finished);
    }

    /// Stages what follows from every result at hand.
    fn settle(&mut self) -> Result<(), StepError> {
        while let Ok(finished) = self.results.try_recv() {
            self.take_result(finished);
        }
        let finished = std::mem::take(&mut self.unsettled);
        let staged = finished.iter().try_for_each(|finished| self.stage_result(finished));
        self.unsettled = finished;
        staged
    }

    fn stage_result(&mut self, finished: &Finished) -> Result<(), StepError> {
        let cell = &finished.cell;
        if !self.is_ours(cell.partition) {
            return Ok(());
        }
        let mut value = Vec::new();
        if !self.session.get(cell.partition, &cell.key, &mut value)? {
            return Ok(());
        }
        let pending = PendingDelivery::decode(&value).map_err(|error| damaged(cell, &error))?;
        if pending.attempts.len() != finished.attempts_before {
            // Recorded already: its commit was reported as unknown, or another instance went on.
            let waiting = self.waiting(cell.clone(), &pending);
            self.open.queued.push(waiting);
            return Ok(());
        }
        match &finished.how {
            How::GivenUp { at_ms } => self.stage_outcome(cell, &pending, &step::given_up(pending.clone(), *at_ms)),
            How::Called(call) => match step::after(pending.clone(), call, &self.options.retries) {
                Next::Again(pending) => self.stage_pending(cell.clone(), &pending),
                Next::Over(outcome) => self.stage_outcome(cell, &pending, &outcome),
            },
        }
    }

    fn stage_outcome(
        &mut self,
        cell: &CellId,
        pending: &PendingDelivery,
        outcome: &ExchangeDelivered,
    ) -> Result<(), StepError> {
        let topic = event::topic::DELIVERED;
        let traceparent = step::traceparent_of(&cell.key);
        let emit = Emit {
            topic: Topic::new(topic),
            partition: None,
            key: Some(trace_key(&outcome.tenant, &outcome.trace_id).into()),
            value: Some(outcome.encode().map_err(|error| damaged(cell, &error))?.into()),
            headers: public_headers(topic, &outcome.tenant, &outcome.exchange_id, traceparent),
        };
        let (cause, cause_topic) = step::cause_of(pending);
        emit_caused(self.session.as_mut(), &emit, &cause, cause_topic.map(Topic::new).as_ref())?;
        self.session.put(cell.partition, &cell.key, None)?;
        self.open.partitions.insert(cell.partition);
        self.open.outcomes.push(if outcome.delivered { CallResult::Delivered } else { CallResult::Failed });
        Ok(())
    }

    /// Makes everything staged durable, and only then acts on it.
    fn commit(&mut self) -> Result<(), StepError> {
        if !self.open.partitions.is_empty() {
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

    /// Starts every call whose turn it is.
    fn dispatch(&mut self) {
        for turn in self.lanes.take(now_ms()) {
            match turn {
                Turn::Call(waiting) => self.call(waiting),
                Turn::GiveUp(waiting) => self.give_up(waiting),
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        {
            metrics::gauge!(names::PENDING).set(self.lanes.waiting() as f64);
            metrics::gauge!(names::IN_FLIGHT).set(self.lanes.in_flight() as f64);
        }
    }

    /// What the state holds for a cell. One that cannot be read now waits a little; one that is gone waits no longer.
    fn read_pending(&mut self, waiting: &Waiting) -> Option<PendingDelivery> {
        let mut value = Vec::new();
        match self.session.get(waiting.cell.partition, &waiting.cell.key, &mut value) {
            Ok(true) => PendingDelivery::decode(&value).ok(),
            Ok(false) => None,
            Err(fault) => {
                tracing::warn!(%fault, "a pending delivery could not be read, trying again");
                let due_at = now_ms().saturating_add(UNREADABLE_WAIT_MS);
                self.lanes.queue(Waiting { due_at, ..waiting.clone() });
                None
            }
        }
    }

    fn give_up(&mut self, waiting: Waiting) {
        let Some(pending) = self.read_pending(&waiting) else { return };
        self.busy.insert(waiting.cell.clone());
        self.unsettled.push(Finished {
            cell: waiting.cell,
            lane: waiting.lane,
            attempts_before: pending.attempts.len(),
            how: How::GivenUp { at_ms: now_ms() },
        });
    }

    fn call(&mut self, waiting: Waiting) {
        let Some(pending) = self.read_pending(&waiting) else {
            self.lanes.done(&waiting.lane, None, now_ms());
            return;
        };
        self.busy.insert(waiting.cell.clone());
        let attempts_before = pending.attempts.len();
        let Waiting { cell, lane, .. } = waiting;
        let finished = move |call| Finished { cell, lane, attempts_before, how: How::Called(call) };
        let at_ms = now_ms();
        let (destination, headers) = match self.prepare(&pending, at_ms) {
            Ok(prepared) => prepared,
            Err(error) => return self.take_result(finished(Call::refused(at_ms, error))),
        };
        let dialer = self.dialer.clone();
        let ended = self.ended.clone();
        let body = Bytes::from(pending.payload);
        self.runtime.spawn(async move {
            let call = dialer.call(&destination, headers, body, at_ms).await;
            // Nobody listens any more when the courier has ended: the delivery is still pending then.
            drop(ended.send(finished(call)));
        });
    }

    /// Looks again whether the tenant may send there, and signs.
    fn prepare(&self, pending: &PendingDelivery, at_ms: i64) -> Result<(Destination, http::HeaderMap), CallError> {
        let settings = (self.options.tenants)(&pending.tenant).ok_or(CallError::NoSettings)?;
        let destination = Destination::parse(&pending.url)?;
        if !allowed(&destination, &settings.allowlist) {
            return Err(CallError::DestinationDenied);
        }
        let secret = settings.secret.ok_or(CallError::NoSecret)?;
        let headers = webhook::headers(&secret, &pending.exchange_id, at_ms, &pending.payload);
        Ok((destination, headers.ok_or(CallError::DestinationDenied)?))
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

    /// Waits a little for calls under way and records how they went.
    fn wind_down(&mut self) -> Result<(), Fault> {
        let until = Instant::now() + STOP_GRACE;
        while self.lanes.in_flight() > 0 {
            match self.results.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(finished) => self.take_result(finished),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
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

fn dead_topic() -> Topic {
    event::topic::step(STEP).map_or_else(|| Topic::new("forward.dead.v1"), |step| Topic::new(&step.dead_topic()))
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
