//! What canonicalise writes: an admission, a replay, a refusal, an answer, a record moved to where it belongs.

use admission::Refusal;
use bytes::Bytes;
use event::envelope::{Reply, TRACEPARENT, public_headers, request_key, trace_key};
use event::topic::{ADMITTED, ANSWER, REJECTED, REQUESTED};
use event::wire::{ExchangeAdmitted, ExchangeAnswer, ExchangeRejected, Wire};
use log::{Record, Topic};
use stage::{Effects, Emit, Reject, StepError};

/// Whom a decision concerns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) idempotency_key: &'a str,
    pub(crate) exchange_id: &'a str,
    pub(crate) trace_id: &'a str,
    pub(crate) at: i64,
}

/// The topics written, made once.
#[derive(Debug)]
pub(crate) struct Writer {
    admitted: Topic,
    rejected: Topic,
    answer: Topic,
    requested: Topic,
}

impl Default for Writer {
    fn default() -> Self {
        Self {
            admitted: Topic::new(ADMITTED),
            rejected: Topic::new(REJECTED),
            answer: Topic::new(ANSWER),
            requested: Topic::new(REQUESTED),
        }
    }
}

impl Writer {
    /// An admission or a replay, behind everything else of the same trace.
    pub(crate) fn admitted(
        &self,
        admitted: &ExchangeAdmitted,
        reply: Option<&Reply>,
        record: &Record,
        effects: &mut dyn Effects,
    ) -> Result<(), StepError> {
        let mut headers = Vec::with_capacity(2);
        if let Some(reply) = reply {
            headers.push((event::envelope::REPLY.to_owned(), Bytes::from(reply.to_string())));
        }
        if let Some(traceparent) = record.header(TRACEPARENT).and_then(event::envelope::traceparent) {
            headers.push((TRACEPARENT.to_owned(), Bytes::copy_from_slice(traceparent)));
        }
        effects.emit(Emit {
            topic: self.admitted.clone(),
            partition: None,
            key: Some(Bytes::from(trace_key(&admitted.tenant, &admitted.trace_id))),
            value: Some(encode(admitted)?),
            headers,
        })?;
        Ok(())
    }

    pub(crate) fn rejected(
        &self,
        subject: Subject<'_>,
        refusal: &Refusal,
        overwrites: bool,
        record: &Record,
        effects: &mut dyn Effects,
    ) -> Result<(), StepError> {
        let rejected = ExchangeRejected {
            exchange_id: subject.exchange_id.to_owned(),
            tenant: subject.tenant.to_owned(),
            idempotency_key: subject.idempotency_key.to_owned(),
            trace_id: subject.trace_id.to_owned(),
            decided_by: "canonicalise".to_owned(),
            at: subject.at,
            status: refusal.status,
            code: refusal.code.clone(),
            detail: refusal.detail.clone(),
            errors: refusal.errors_json().to_string(),
            overwrites,
        };
        effects.emit(Emit {
            topic: self.rejected.clone(),
            partition: None,
            key: Some(Bytes::from(request_key(subject.tenant, subject.idempotency_key))),
            value: Some(encode(&rejected)?),
            headers: public_headers(REJECTED, subject.tenant, subject.exchange_id, record.header(TRACEPARENT)),
        })?;
        Ok(())
    }

    /// Tells the waiting ingest slot.
    pub(crate) fn answer(
        &self,
        reply: &Reply,
        subject: Subject<'_>,
        told: (i32, &str, &str),
        replayed: bool,
        effects: &mut dyn Effects,
    ) -> Result<(), StepError> {
        let (status, code, body) = told;
        let answer = ExchangeAnswer {
            nonce: reply.nonce.clone(),
            exchange_id: subject.exchange_id.to_owned(),
            tenant: subject.tenant.to_owned(),
            status,
            replayed,
            code: Some(code.to_owned()),
            body: body.as_bytes().to_vec(),
        };
        effects.emit(Emit {
            topic: self.answer.clone(),
            partition: Some(reply.slot),
            key: Some(Bytes::from(subject.exchange_id.to_owned())),
            value: Some(encode(&answer)?),
            headers: Vec::new(),
        })?;
        Ok(())
    }

    /// The same record, in the partition of its key. Its signature goes with it.
    pub(crate) fn moved(&self, record: &Record, effects: &mut dyn Effects) -> Result<(), StepError> {
        let ours = stage::dead_letter::OWN_HEADERS;
        effects.emit(Emit {
            topic: self.requested.clone(),
            partition: None,
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.iter().filter(|(name, _)| !ours.contains(&name.as_str())).cloned().collect(),
        })?;
        Ok(())
    }
}

pub(crate) fn encode<T: Wire>(value: &T) -> Result<Bytes, StepError> {
    value.encode().map(Bytes::from).map_err(|error| {
        StepError::Reject(Reject { reason: "unencodable", detail: error.to_string(), tenant: "-".to_owned() })
    })
}
