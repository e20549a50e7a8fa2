//! Deliveries whose turn it is are called, beside the loop.

use bytes::Bytes;
use event::destination::{Destination, allowed};
use event::wire::{PendingDelivery, Wire};
use http::HeaderMap;

use super::results::{Finished, How};
use super::{Courier, now_ms};
use crate::call::{Call, CallError};
use crate::lanes::{Turn, Waiting};
use crate::settings::TenantForwardSettings;
use crate::{metrics as names, webhook};

/// How long a delivery waits whose cell could not be read.
const UNREADABLE_WAIT_MS: i64 = 1_000;
/// How long a delivery waits before it is looked again whether the tenants' configuration is known far enough.
const SETTINGS_WAIT_MS: i64 = 100;

impl Courier<'_> {
    /// Starts every call whose turn it is.
    pub(super) fn dispatch(&mut self) {
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
        let Ok(settings) = self.settings.of(&pending.tenant, pending.config_version, &self.runtime) else {
            // No attempt: nobody was asked. It waits no longer than for its receiver.
            self.lanes.done(&waiting.lane, None, now_ms());
            let due_at = now_ms().saturating_add(SETTINGS_WAIT_MS);
            return self.lanes.queue(Waiting { due_at, ..waiting });
        };
        self.busy.insert(waiting.cell.clone());
        let attempts_before = pending.attempts.len();
        let Waiting { cell, lane, .. } = waiting;
        let finished = move |call| Finished { cell, lane, attempts_before, how: How::Called(call) };
        let at_ms = now_ms();
        let (destination, headers) = match prepare(settings, &pending, at_ms) {
            Ok(prepared) => prepared,
            Err(error) => return self.take_result(finished(Call::refused(at_ms, error))),
        };
        let dialer = self.dialer.clone();
        let ended = self.ended.clone();
        let body = Bytes::from(pending.payload);
        let calling = self.runtime.spawn(async move { dialer.call(&destination, headers, body, at_ms).await });
        self.runtime.spawn(async move {
            // A call that panicked has an end too, or its delivery would wait for it until the next start.
            let call = calling.await.unwrap_or_else(|_| Call::refused(at_ms, CallError::Panicked));
            // Nobody listens any more when the courier has ended: the delivery is still pending then.
            drop(ended.send(finished(call)));
        });
    }
}

/// Looks again whether the tenant may send there, and signs with what is in force at this attempt.
fn prepare(
    settings: Option<TenantForwardSettings>,
    pending: &PendingDelivery,
    at_ms: i64,
) -> Result<(Destination, HeaderMap), CallError> {
    let settings = settings.ok_or(CallError::NoSettings)?;
    let destination = Destination::parse(&pending.url)?;
    if !allowed(&destination, &settings.allowlist) {
        return Err(CallError::DestinationDenied);
    }
    let secrets = settings.secrets_at(at_ms);
    if secrets.is_empty() {
        return Err(CallError::NoSecret);
    }
    let headers = webhook::headers(&secrets, &pending.exchange_id, at_ms, &pending.payload);
    Ok((destination, headers.ok_or(CallError::DestinationDenied)?))
}
