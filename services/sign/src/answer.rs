//! What sign writes beside the sealed record: refusals of the chain, and answers.

use bytes::Bytes;
use event::envelope::{REPLY, Reply, TRACEPARENT, public_headers, trace_key};
use event::topic::{ANSWER, REJECTED, SEALED};
use event::wire::{ExchangeAnswer, ExchangeRejected, ExchangeSealed};
use log::{Record, Topic};
use serde_json::value::RawValue;
use stage::{Effects, Emit, Reject, StepError};

use crate::chain::encode;

/// Why a chain refuses an exchange (docs/contracts/http.md, 409).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: &'static str,
    pub(crate) detail: String,
    /// `receipt_hash` of the open head; `None` where there is none.
    pub(crate) head: Option<String>,
}

impl Refusal {
    pub(crate) const STATUS: i32 = 409;
    const POINTER: &'static str = "/expected_prev_receipt_hash";

    fn errors(&self) -> serde_json::Value {
        serde_json::json!([{"pointer": Self::POINTER, "code": self.code, "detail": self.detail}])
    }

    pub(crate) fn errors_json(&self) -> String {
        self.errors().to_string()
    }

    pub(crate) fn body(&self) -> String {
        serde_json::json!({"detail": self.detail, "head": self.head, "errors": self.errors()}).to_string()
    }
}

/// The topics written, made once.
#[derive(Debug)]
pub(crate) struct Writer {
    sealed: Topic,
    rejected: Topic,
    answer: Topic,
}

impl Default for Writer {
    fn default() -> Self {
        Self { sealed: Topic::new(SEALED), rejected: Topic::new(REJECTED), answer: Topic::new(ANSWER) }
    }
}

impl Writer {
    pub(crate) fn sealed(
        &self,
        sealed: &ExchangeSealed,
        record: &Record,
        effects: &mut dyn Effects,
    ) -> Result<(), StepError> {
        effects.emit(Emit {
            topic: self.sealed.clone(),
            partition: None,
            key: Some(Bytes::from(trace_key(&sealed.tenant, &sealed.trace_id))),
            value: Some(encode(sealed)?),
            headers: public_headers(SEALED, &sealed.tenant, &sealed.exchange_id, record.header(TRACEPARENT)),
        })?;
        Ok(())
    }

    pub(crate) fn rejected(
        &self,
        rejected: &ExchangeRejected,
        record: &Record,
        effects: &mut dyn Effects,
    ) -> Result<(), StepError> {
        effects.emit(Emit {
            topic: self.rejected.clone(),
            partition: None,
            key: Some(Bytes::from(trace_key(&rejected.tenant, &rejected.trace_id))),
            value: Some(encode(rejected)?),
            headers: public_headers(REJECTED, &rejected.tenant, &rejected.exchange_id, record.header(TRACEPARENT)),
        })?;
        Ok(())
    }

    /// Tells the waiting ingest slot, if there is one.
    pub(crate) fn answer(&self, reply: &Reply, told: Told<'_>, effects: &mut dyn Effects) -> Result<(), StepError> {
        let answer = ExchangeAnswer {
            nonce: reply.nonce.clone(),
            exchange_id: told.exchange_id.to_owned(),
            tenant: told.tenant.to_owned(),
            status: told.status,
            replayed: told.replayed,
            code: told.code.map(str::to_owned),
            body: told.body,
        };
        effects.emit(Emit {
            topic: self.answer.clone(),
            partition: Some(reply.slot),
            key: Some(Bytes::from(told.exchange_id.to_owned())),
            value: Some(encode(&answer)?),
            headers: Vec::new(),
        })?;
        Ok(())
    }
}

/// An answer, all but whom it goes to.
#[derive(Debug)]
pub(crate) struct Told<'a> {
    pub(crate) exchange_id: &'a str,
    pub(crate) tenant: &'a str,
    pub(crate) status: i32,
    pub(crate) code: Option<&'a str>,
    pub(crate) body: Vec<u8>,
    pub(crate) replayed: bool,
}

/// Who waits for this record's decision.
pub(crate) fn reply_of(record: &Record) -> Option<Reply> {
    record.header(REPLY).and_then(Reply::parse)
}

/// The body of a 201 (docs/contracts/http.md): payload and receipt go in as the bytes they are.
pub(crate) fn created(sealed: &ExchangeSealed) -> Result<Vec<u8>, StepError> {
    #[derive(serde::Serialize)]
    struct Created<'a> {
        exchange_id: &'a str,
        trace_id: &'a str,
        status: &'static str,
        normalized: &'a RawValue,
        receipt: &'a RawValue,
    }
    let unreadable = |error: &dyn std::fmt::Display| {
        StepError::Reject(Reject {
            reason: "malformed_record",
            detail: format!("payload or receipt is not JSON: {error}"),
            tenant: sealed.tenant.clone(),
        })
    };
    let payload = std::str::from_utf8(&sealed.payload).map_err(|error| unreadable(&error))?;
    let normalized: &RawValue = serde_json::from_str(payload).map_err(|error| unreadable(&error))?;
    let receipt: &RawValue = serde_json::from_str(&sealed.receipt).map_err(|error| unreadable(&error))?;
    serde_json::to_vec(&Created {
        exchange_id: &sealed.exchange_id,
        trace_id: &sealed.trace_id,
        status: "sealed",
        normalized,
        receipt,
    })
    .map_err(|error| unreadable(&error))
}
