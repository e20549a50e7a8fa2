//! From an admissible request to what its client is told.
//!
//! The request is written first and awaited second: a 201 or a refusal comes from the log, a 202 says that the log holds
//! the request, and everything else is "unknown", which the same key resolves.

use std::time::{Duration, Instant};

use access::{Problem, Secret};
use event::envelope::{KEY_ID, REPLY, SIGNATURE, TRACEPARENT, request_key};
use event::id::{ExchangeId, TraceId};
use event::topic::REQUESTED;
use event::wire::{ExchangeAnswer, ExchangeRequested, Wire as _};
use log::{Fault, Output, Position, Topic};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::timeout_at;

use crate::door::Admissible;
use crate::metrics;
use crate::state::Shared;
use crate::waiting::Ticket;

/// Signs every request record, so that an unsigned one is refused whoever wrote it.
#[derive(Debug)]
pub(crate) struct Signer {
    pub(crate) key_id: String,
    pub(crate) secret: Secret,
}

/// What became of an exchange, as far as its client is concerned.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The receipt is committed; `body` is the whole answer.
    Sealed {
        exchange_id: String,
        replayed: bool,
        body: Vec<u8>,
    },
    Refused {
        replayed: bool,
        problem: Problem,
    },
    /// Held by the log, not decided yet.
    Accepted {
        exchange_id: ExchangeId,
        trace_id: TraceId,
    },
}

/// A request on its way into the log, and the ticket for its answer.
pub(crate) struct Submitted {
    exchange_id: ExchangeId,
    trace_id: TraceId,
    tenant: String,
    ticket: Ticket,
    acknowledged: oneshot::Receiver<Result<Position, Fault>>,
    begun: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Shared {
    /// Hands a request to the log.
    ///
    /// # Errors
    /// `503 unavailable`: too much is under way, or the log does not take it. Nothing was accepted.
    pub(crate) fn submit(&self, admissible: Admissible, traceparent: Option<&str>) -> Result<Submitted, Problem> {
        let Ok(permit) = self.in_flight.clone().try_acquire_owned() else {
            return Err(Problem::unavailable("Too many exchanges are under way; nothing was accepted."));
        };
        let Admissible { exchange_id, trace_id, request } = admissible;
        let ticket = self.waiting.register();
        let (done, acknowledged) = oneshot::channel();
        self.append(&request, &ticket, traceparent, done).map_err(|reason| {
            tracing::warn!(%exchange_id, reason, "a request could not be handed to the log");
            Problem::unavailable("The log does not take requests now; nothing was accepted.")
        })?;
        let tenant = request.tenant;
        Ok(Submitted { exchange_id, trace_id, tenant, ticket, acknowledged, begun: Instant::now(), _permit: permit })
    }

    fn append(
        &self,
        request: &ExchangeRequested,
        ticket: &Ticket,
        traceparent: Option<&str>,
        done: oneshot::Sender<Result<Position, Fault>>,
    ) -> Result<(), String> {
        let topic = Topic::new(REQUESTED);
        let record_key = request_key(&request.tenant, &request.idempotency_key);
        let value = request.encode().map_err(|error| error.to_string())?;
        let signature = event::hmac::sign(self.signer.secret.expose(), REQUESTED, record_key.as_bytes(), &value)
            .ok_or("the record cannot be signed")?;
        let reply = ticket.reply().to_string();
        let mut headers: Vec<(&str, &[u8])> =
            vec![(KEY_ID, self.signer.key_id.as_bytes()), (SIGNATURE, signature.as_bytes()), (REPLY, reply.as_bytes())];
        headers.extend(traceparent.map(|traceparent| (TRACEPARENT, traceparent.as_bytes())));
        let output = Output {
            topic: &topic,
            partition: None,
            key: Some(record_key.as_bytes()),
            value: Some(&value),
            headers: &headers,
        };
        let sink = Box::new(move |outcome| {
            // The client may have gone meanwhile.
            let _ = done.send(outcome);
        });
        self.log.append(&output, sink).map_err(|fault| fault.to_string())
    }

    /// Waits until the log holds the request, then at most `wait` for its answer.
    ///
    /// # Errors
    /// `503 unavailable`: whether the request was accepted is unknown.
    pub(crate) async fn outcome(&self, submitted: Submitted, wait: Duration) -> Result<Outcome, Problem> {
        let outcome = self.decided(submitted, wait).await;
        let (label, replayed) = match &outcome {
            Ok(Outcome::Sealed { replayed, .. }) => ("sealed", *replayed),
            Ok(Outcome::Refused { replayed, .. }) => ("refused", *replayed),
            Ok(Outcome::Accepted { .. }) => ("accepted", false),
            Err(_) => ("unavailable", false),
        };
        ::metrics::counter!(metrics::EXCHANGES, "outcome" => label).increment(1);
        if replayed {
            ::metrics::counter!(metrics::REPLAYS).increment(1);
        }
        ::metrics::gauge!(metrics::WAITING).set(u32::try_from(self.waiting.count()).unwrap_or(u32::MAX));
        outcome
    }

    async fn decided(&self, mut submitted: Submitted, wait: Duration) -> Result<Outcome, Problem> {
        let deadline = submitted.begun + wait;
        let unknown =
            || Problem::unavailable("Whether the exchange was accepted is unknown; send it again with the same key.");
        // Counted from the append, not from here: a batch awaits its items one after the other.
        let acknowledged_by = submitted.begun + self.config.acknowledge_timeout;
        match timeout_at(acknowledged_by.into(), &mut submitted.acknowledged).await {
            Ok(Ok(Ok(_))) => ::metrics::histogram!(metrics::APPEND_SECONDS).record(submitted.begun.elapsed()),
            Ok(Ok(Err(fault))) => {
                tracing::warn!(exchange_id = %submitted.exchange_id, %fault, "the log did not acknowledge a request");
                return Err(unknown());
            }
            Ok(Err(_)) | Err(_) => return Err(unknown()),
        }
        match timeout_at(deadline.into(), submitted.ticket.answer()).await {
            Ok(Some(answer)) => Ok(submitted.told(answer)),
            Ok(None) | Err(_) => Ok(Outcome::Accepted {
                exchange_id: submitted.exchange_id.clone(),
                trace_id: submitted.trace_id.clone(),
            }),
        }
    }
}

impl Submitted {
    fn told(&self, answer: ExchangeAnswer) -> Outcome {
        // A nonce is never used twice, so this cannot be; a receipt must not reach the wrong tenant if it is.
        if answer.tenant != self.tenant || answer.exchange_id != self.exchange_id.as_str() {
            tracing::error!(exchange_id = %self.exchange_id, other = answer.exchange_id, "an answer for another exchange");
            return Outcome::Accepted { exchange_id: self.exchange_id.clone(), trace_id: self.trace_id.clone() };
        }
        match answer.code {
            None => Outcome::Sealed { exchange_id: answer.exchange_id, replayed: answer.replayed, body: answer.body },
            Some(code) => {
                let body = match serde_json::from_slice(&answer.body) {
                    Ok(Value::Object(body)) => body,
                    _ => serde_json::Map::new(),
                };
                let problem = Problem::decided(u16::try_from(answer.status).unwrap_or(422), &code, body);
                Outcome::Refused { replayed: answer.replayed, problem }
            }
        }
    }
}
