//! How deliveries went becomes their next attempt, or their outcome: recorded once, however often it is staged.

use event::envelope::{public_headers, trace_key};
use event::topic::DELIVERED;
use event::wire::{ExchangeDelivered, PendingDelivery, Wire};
use log::Topic;
use stage::dead_letter::emit_caused;
use stage::{Emit, StepError};

use super::{Courier, damaged, lane_of, now_ms};
use crate::call::{Call, CallResult};
use crate::lanes::{CellId, LaneId, Waiting};
use crate::metrics as names;
use crate::owed::{cause_of, cell_key};
use crate::step::{self, Next};

/// What happened to a delivery and is not recorded yet.
pub(super) struct Finished {
    pub(super) cell: CellId,
    pub(super) lane: LaneId,
    /// Attempts that the delivery had before.
    pub(super) attempts_before: usize,
    pub(super) how: How,
}

pub(super) enum How {
    Called(Call),
    GivenUp { at_ms: i64 },
}

impl Courier<'_> {
    pub(super) fn take_result(&mut self, finished: Finished) {
        if let How::Called(call) = &finished.how {
            self.lanes.done(&finished.lane, call.is_healthy(), now_ms());
            metrics::counter!(names::ATTEMPTS, "result" => call.result().name()).increment(1);
            #[expect(clippy::cast_precision_loss, reason = "a call lasts seconds")]
            metrics::histogram!(names::ATTEMPT_SECONDS).record(call.duration_ms as f64 / 1_000.0);
        }
        self.unsettled.push(finished);
    }

    /// Stages what follows from every result at hand.
    pub(super) fn settle(&mut self) -> Result<(), StepError> {
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
                Next::Again(pending) => self.stage_pending(cell.partition, &pending),
                Next::Over(outcome) => self.stage_outcome(cell, &pending, &outcome),
            },
        }
    }

    pub(super) fn stage_pending(&mut self, partition: u32, pending: &PendingDelivery) -> Result<(), StepError> {
        let cell = CellId { partition, key: cell_key(pending).into() };
        let value = pending.encode().map_err(|error| damaged(&cell, &error))?;
        self.session.put(partition, &cell.key, Some(&value))?;
        self.open.partitions.insert(partition);
        self.open.queued.push(self.waiting(cell, pending));
        Ok(())
    }

    fn waiting(&self, cell: CellId, pending: &PendingDelivery) -> Waiting {
        let give_up_at = step::give_up_at(pending, &self.options.retries);
        Waiting { cell, lane: lane_of(pending), due_at: pending.next_at, give_up_at }
    }

    fn stage_outcome(
        &mut self,
        cell: &CellId,
        pending: &PendingDelivery,
        outcome: &ExchangeDelivered,
    ) -> Result<(), StepError> {
        let traceparent = pending.traceparent.as_deref().map(str::as_bytes);
        let emit = Emit {
            topic: Topic::new(DELIVERED),
            partition: None,
            key: Some(trace_key(&outcome.tenant, &outcome.trace_id).into()),
            value: Some(outcome.encode().map_err(|error| damaged(cell, &error))?.into()),
            headers: public_headers(DELIVERED, &outcome.tenant, &outcome.exchange_id, traceparent),
        };
        let (cause, cause_topic) = cause_of(pending);
        emit_caused(self.session.as_mut(), &emit, &cause, cause_topic.map(Topic::new).as_ref())?;
        self.session.put(cell.partition, &cell.key, None)?;
        self.open.partitions.insert(cell.partition);
        self.open.outcomes.push(if outcome.delivered { CallResult::Delivered } else { CallResult::Failed });
        Ok(())
    }
}
