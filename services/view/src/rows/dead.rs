//! What a dead letter says of the exchange that it concerns.

use event::envelope;
use event::wire::{ExchangeAdmitted, ExchangeRequested, ExchangeSealed, LedgerCommand, UsageRecorded, Wire};
use log::Record;
use stage::dead_letter;

use super::exchange::{Said, exchange_of};
use super::{DEAD, DECISION, HopRow, Rows, text_header};

impl Rows {
    /// A dead letter of any step: the exchange it concerns is read from what the letter holds.
    pub(super) fn dead(&mut self, record: &Record) {
        let Some(source) = text_header(record, dead_letter::SOURCE_HEADER) else { return };
        let reason = text_header(record, dead_letter::REASON_HEADER).unwrap_or_else(|| "dead".to_owned());
        let proven = record.header(dead_letter::TENANT_HEADER).is_some_and(|tenant| tenant != b"-");
        let value = record.value.as_deref().unwrap_or_default();
        let note = Some(format!("dead: {reason}"));
        if record.topic.as_str() == "canonicalise.dead.v1" {
            if !proven {
                return self.withdraw(&source);
            }
            let Some((exchange_id, requested)) = request_of(record) else { return };
            let tenant = requested.tenant.clone();
            let trace_id = requested.trace_id.unwrap_or_else(|| exchange_id.clone());
            let (at, origin) = (record.time_ms, i64::MIN + 1);
            self.say(&Said { exchange_id: &exchange_id, tenant: &tenant, trace_id: &trace_id, at, origin }, DEAD);
            self.hop(record, Some(&exchange_id), note);
        } else if record.topic.as_str() == "sign.dead.v1" {
            let Ok(admitted) = ExchangeAdmitted::decode(value) else { return };
            if admitted.admission.is_some() {
                let said = Said {
                    exchange_id: &admitted.exchange_id,
                    tenant: &admitted.tenant,
                    trace_id: &admitted.trace_id,
                    at: admitted.at,
                    origin: DECISION,
                };
                self.say(&said, DEAD);
            }
            self.hop(record, Some(&admitted.exchange_id), note);
        } else {
            let exchange_id = ExchangeSealed::decode(value)
                .map(|sealed| sealed.exchange_id)
                .or_else(|_| UsageRecorded::decode(value).map(|usage| usage.exchange_id))
                .ok()
                .or_else(|| LedgerCommand::decode(value).ok().and_then(|command| command.exchange_id));
            self.hop(record, exchange_id.as_deref(), note);
        }
    }

    /// The record at `source` proved no tenant: it says nothing about the exchange that it named (R10).
    fn withdraw(&mut self, source: &str) {
        let mut parts = source.rsplitn(3, ':');
        let (Some(offset), Some(partition), Some(topic)) = (parts.next(), parts.next(), parts.next()) else { return };
        let (Ok(offset), Ok(partition)) = (offset.parse(), partition.parse()) else { return };
        let row = HopRow { exchange_id: None, time_ms: None, cause: None, note: None, void: 1 };
        self.put_hop((topic.to_owned(), partition, offset), row);
    }
}

/// The request inside a dead letter of canonicalise, with the exchange it asked for.
fn request_of(record: &Record) -> Option<(String, ExchangeRequested)> {
    let requested = ExchangeRequested::decode(record.value.as_deref()?).ok()?;
    let key = envelope::request_key(&requested.tenant, &requested.idempotency_key);
    let agrees = record.key.as_deref().is_none_or(|known| known == key.as_bytes());
    let exchange_id = exchange_of(&requested)?;
    agrees.then_some((exchange_id, requested))
}
