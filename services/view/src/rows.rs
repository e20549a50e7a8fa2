//! What a batch of records means for the tables, folded before it is written. Pure.
//!
//! Topics are read in any relative order, so every fold commutes and may be repeated: of two values for one cell the
//! same one wins, whichever came first. A test shuffles and repeats the records and compares.

mod dead;
mod exchange;
mod money;
mod tables;

use std::collections::BTreeMap;

use event::topic;
use event::wire::{
    ExchangeAdmitted, ExchangeDelivered, ExchangeRejected, ExchangeSealed, LedgerCommand, SettlementParked,
    SettlementPosted, SigningKey, Transfer, UsageRecorded, UsageTotal, Wire, WireError,
};
use log::Record;
use stage::dead_letter;

use crate::db::Bind;

/// Standing of an exchange; the highest seen stays.
pub(crate) const ACCEPTED: i64 = 0;
pub(crate) const DEAD: i64 = 1;
pub(crate) const REFUSED: i64 = 2;
pub(crate) const SEALED: i64 = 3;

/// State of a command; the highest seen stays.
pub(crate) const OWED_STATE: i64 = 0;
pub(crate) const PARKED_STATE: i64 = 1;
pub(crate) const POSTED_STATE: i64 = 2;

/// `origin` of what a decision says; requests have the negated offset, so that the earliest of them wins.
const DECISION: i64 = i64::MAX;

#[derive(Clone, Debug)]
struct ExchangeRow {
    tenant: String,
    trace_id: String,
    at: i64,
    origin: i64,
    standing: i64,
    receipt: Option<String>,
    refusal: Option<String>,
    usage: Option<String>,
}

#[derive(Clone, Debug, Default)]
struct CommandRow {
    tenant: String,
    exchange_id: Option<String>,
    at: i64,
    state: i64,
    body: Option<String>,
    outcome: Option<String>,
}

#[derive(Clone, Debug)]
struct HopRow {
    exchange_id: Option<String>,
    time_ms: Option<i64>,
    cause: Option<String>,
    note: Option<String>,
    void: i64,
}

/// Topic, partition and offset.
type Place = (String, i64, i64);

/// Tenant, trace, chain and hop.
type ReceiptKey = (String, String, String, i64);
/// Exchange, receipt and offset.
type ReceiptRow = (String, String, i64);
/// Tenant, month and meter.
type TotalKey = (String, String, String);
/// Total, exchanges, latest admission and offset.
type TotalRow = (i64, i64, i64, i64);

/// What a batch adds.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    exchanges: BTreeMap<String, ExchangeRow>,
    receipts: BTreeMap<ReceiptKey, ReceiptRow>,
    deliveries: BTreeMap<(i64, i64), (String, String)>,
    totals: BTreeMap<TotalKey, TotalRow>,
    commands: BTreeMap<String, CommandRow>,
    owed: BTreeMap<(String, i64), (String, i64, Transfer)>,
    entries: BTreeMap<(i64, i64, i64), Vec<Bind>>,
    hops: BTreeMap<Place, HopRow>,
    keys: BTreeMap<String, (String, String)>,
}

impl Rows {
    /// Takes in one record.
    ///
    /// # Errors
    /// A schema that this version does not know (wait for the deploy) or damage, on topics that only we write.
    pub(crate) fn add(&mut self, record: &Record) -> Result<(), WireError> {
        let Some(value) = record.value.as_deref() else { return self.add_without_value(record) };
        match record.topic.as_str() {
            topic::REQUESTED => self.requested(record, value),
            topic::ADMITTED => self.admitted(record, &ExchangeAdmitted::decode(value)?),
            topic::REJECTED => self.rejected(record, &ExchangeRejected::decode(value)?),
            topic::SEALED => self.sealed(record, &ExchangeSealed::decode(value)?),
            topic::DELIVERED => self.delivered(record, &ExchangeDelivered::decode(value)?),
            topic::USAGE_RECORDED => self.usage(record, &UsageRecorded::decode(value)?),
            topic::USAGE_TOTAL => self.total(record, UsageTotal::decode(value)?),
            topic::LEDGER_COMMAND => self.command(record, &LedgerCommand::decode(value)?),
            topic::SETTLEMENT_POSTED => self.posted(record, &SettlementPosted::decode(value)?),
            topic::SETTLEMENT_PARKED => self.parked(record, &SettlementParked::decode(value)?),
            topic::SIGNING_KEY => {
                let key = SigningKey::decode(value)?;
                self.keys.insert(key.kid, (key.used_for, key.jwk));
            }
            _ => self.dead(record),
        }
        Ok(())
    }

    /// A dead letter kept by reference has none; elsewhere it says nothing.
    fn add_without_value(&mut self, record: &Record) -> Result<(), WireError> {
        if record.header(dead_letter::SOURCE_HEADER).is_some() && record.topic.as_str().ends_with(".dead.v1") {
            self.dead(record);
        }
        Ok(())
    }

    fn hop(&mut self, record: &Record, exchange_id: Option<&str>, note: Option<String>) {
        let cause = text_header(record, dead_letter::CAUSE_HEADER).map(|cause| {
            match text_header(record, dead_letter::CAUSE_TOPIC_HEADER) {
                Some(topic) => format!("{topic} {cause}"),
                None => cause,
            }
        });
        let row =
            HopRow { exchange_id: exchange_id.map(str::to_owned), time_ms: Some(record.time_ms), cause, note, void: 0 };
        self.put_hop((record.topic.to_string(), i64::from(record.partition), signed(record.offset)), row);
    }

    fn put_hop(&mut self, place: Place, row: HopRow) {
        match self.hops.entry(place) {
            std::collections::btree_map::Entry::Vacant(vacant) => {
                vacant.insert(row);
            }
            std::collections::btree_map::Entry::Occupied(mut known) => {
                let known = known.get_mut();
                known.exchange_id = known.exchange_id.take().or(row.exchange_id);
                known.time_ms = known.time_ms.or(row.time_ms);
                known.cause = known.cause.take().or(row.cause);
                known.note = known.note.take().or(row.note);
                known.void = known.void.max(row.void);
            }
        }
    }
}

fn text_header(record: &Record, name: &str) -> Option<String> {
    record.header(name).and_then(|value| std::str::from_utf8(value).ok()).map(str::to_owned)
}

/// Offsets are far below 2^63.
pub(crate) fn signed(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}
