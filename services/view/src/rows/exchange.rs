//! What records say of an exchange: that it was asked for, what was decided, what it used, where it was delivered.

use event::id::{ExchangeId, IdempotencyKey, TenantId};
use event::wire::{
    ExchangeAdmitted, ExchangeDelivered, ExchangeRejected, ExchangeRequested, ExchangeSealed, UsageRecorded, Wire,
};
use log::Record;
use serde_json::{Value, json};

use super::{ACCEPTED, DECISION, ExchangeRow, REFUSED, Rows, SEALED, signed};

/// What is said of an exchange besides its standing.
pub(super) struct Said<'a> {
    pub(super) exchange_id: &'a str,
    pub(super) tenant: &'a str,
    pub(super) trace_id: &'a str,
    pub(super) at: i64,
    pub(super) origin: i64,
}

impl Rows {
    pub(super) fn say(&mut self, said: &Said<'_>, standing: i64) -> &mut ExchangeRow {
        let row = self.exchanges.entry(said.exchange_id.to_owned()).or_insert_with(|| ExchangeRow {
            tenant: said.tenant.to_owned(),
            trace_id: said.trace_id.to_owned(),
            at: said.at,
            origin: said.origin,
            standing,
            receipt: None,
            refusal: None,
            usage: None,
        });
        if said.origin > row.origin {
            row.trace_id = said.trace_id.to_owned();
            row.at = said.at;
            row.origin = said.origin;
        }
        row.standing = row.standing.max(standing);
        row
    }

    /// A request that cannot be read is canonicalise's to refuse: its dead letter tells of it.
    pub(super) fn requested(&mut self, record: &Record, value: &[u8]) {
        let Ok(requested) = ExchangeRequested::decode(value) else { return };
        let Some(exchange_id) = exchange_of(&requested) else { return };
        let trace_id = requested.trace_id.as_deref().unwrap_or(&exchange_id);
        let said = Said {
            exchange_id: &exchange_id,
            tenant: &requested.tenant,
            trace_id,
            at: record.time_ms,
            origin: -signed(record.offset),
        };
        self.say(&said, ACCEPTED);
        self.hop(record, Some(&exchange_id), None);
    }

    pub(super) fn admitted(&mut self, record: &Record, admitted: &ExchangeAdmitted) {
        let note = match &admitted.admission {
            Some(_) => {
                let said = Said {
                    exchange_id: &admitted.exchange_id,
                    tenant: &admitted.tenant,
                    trace_id: &admitted.trace_id,
                    at: admitted.at,
                    origin: DECISION,
                };
                self.say(&said, ACCEPTED);
                "admitted"
            }
            None => "replay",
        };
        self.hop(record, Some(&admitted.exchange_id), Some(note.to_owned()));
    }

    pub(super) fn rejected(&mut self, record: &Record, rejected: &ExchangeRejected) {
        self.hop(record, Some(&rejected.exchange_id), Some(rejected.code.clone()));
        // Another request with this key holds the exchange: nothing of it changes.
        if !rejected.overwrites {
            return;
        }
        let said = Said {
            exchange_id: &rejected.exchange_id,
            tenant: &rejected.tenant,
            trace_id: &rejected.trace_id,
            at: rejected.at,
            origin: DECISION,
        };
        let errors: Value = serde_json::from_str(&rejected.errors).unwrap_or_else(|_| json!([]));
        let refusal = json!({
            "status": rejected.status, "code": rejected.code, "detail": rejected.detail,
            "errors": errors, "decided_by": rejected.decided_by,
        });
        self.say(&said, REFUSED).refusal = Some(refusal.to_string());
    }

    pub(super) fn sealed(&mut self, record: &Record, sealed: &ExchangeSealed) {
        let said = Said {
            exchange_id: &sealed.exchange_id,
            tenant: &sealed.tenant,
            trace_id: &sealed.trace_id,
            at: sealed.admitted_at,
            origin: DECISION,
        };
        self.say(&said, SEALED).receipt = Some(sealed.receipt.clone());
        self.hop(record, Some(&sealed.exchange_id), Some("sealed".to_owned()));
        let receipt: Value = serde_json::from_str(&sealed.receipt).unwrap_or_default();
        let chain = receipt.get("chain").and_then(Value::as_str);
        let (Some(chain), Some(hop)) = (chain, receipt.get("hop").and_then(Value::as_i64)) else { return };
        let row = (sealed.exchange_id.clone(), sealed.receipt.clone(), signed(record.offset));
        let known = self
            .receipts
            .entry((sealed.tenant.clone(), sealed.trace_id.clone(), chain.to_owned(), hop))
            .or_insert_with(|| row.clone());
        if row.2 < known.2 {
            *known = row;
        }
    }

    pub(super) fn delivered(&mut self, record: &Record, delivered: &ExchangeDelivered) {
        let note = if delivered.delivered { "delivered" } else { "given_up" };
        self.hop(record, Some(&delivered.exchange_id), Some(note.to_owned()));
        let attempts: Vec<Value> = delivered
            .attempts
            .iter()
            .map(|attempt| {
                json!({
                    "attempt": attempt.attempt, "at": crate::shape::time(attempt.at), "status": attempt.status,
                    "address": attempt.address, "response_bytes": attempt.response_bytes,
                    "duration_ms": attempt.duration_ms, "error": attempt.error,
                })
            })
            .collect();
        let body = json!({
            "delivered": delivered.delivered, "host": delivered.host, "cid": delivered.cid,
            "decided_at": crate::shape::time(delivered.decided_at), "attempts": attempts,
        });
        self.deliveries.insert(
            (i64::from(record.partition), signed(record.offset)),
            (delivered.exchange_id.clone(), body.to_string()),
        );
    }

    pub(super) fn usage(&mut self, record: &Record, usage: &UsageRecorded) {
        let said = Said {
            exchange_id: &usage.exchange_id,
            tenant: &usage.tenant,
            trace_id: &usage.trace_id,
            at: usage.admitted_at,
            origin: DECISION,
        };
        let body = json!({"vex": usage.vex, "fu": usage.fu, "month": usage.month});
        self.say(&said, ACCEPTED).usage = Some(body.to_string());
        self.hop(record, Some(&usage.exchange_id), Some("metered".to_owned()));
    }
}

/// The exchange that a request asks for; `None` where its names are not well formed, which canonicalise refuses.
pub(super) fn exchange_of(requested: &ExchangeRequested) -> Option<String> {
    let tenant = TenantId::parse(requested.tenant.as_str()).ok()?;
    let idempotency_key = IdempotencyKey::parse(requested.idempotency_key.as_str()).ok()?;
    Some(ExchangeId::derive(&tenant, &idempotency_key).to_string())
}
