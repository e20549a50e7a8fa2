//! What the log holds when everything is over, read from the beginning of each topic.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use event::topic::{
    self, ADMITTED, DELIVERED, LEDGER_COMMAND, REJECTED, REQUESTED, SEALED, SETTLEMENT_PARKED, SETTLEMENT_POSTED,
    SIGNING_KEY, USAGE_RECORDED, USAGE_TOTAL,
};
use event::wire::{
    ExchangeAdmitted, ExchangeDelivered, ExchangeRejected, ExchangeSealed, LedgerCommand, SettlementParked,
    SettlementPosted, SigningKey, UsageRecorded, UsageTotal, Wire,
};
use log::{Batch, Log, Record, Topic};

const POLL_WAIT: Duration = Duration::from_millis(200);
/// No topic takes longer to read.
const READ_DEADLINE: Duration = Duration::from_secs(120);

/// Where a record lies in its topic.
pub(super) type Place = (u32, u64);

/// A record with what it follows from.
#[derive(Clone, Debug)]
pub(super) struct Caused<T> {
    pub(super) cause: Place,
    pub(super) value: T,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) requested: Vec<Place>,
    pub(super) admitted: Vec<Caused<ExchangeAdmitted>>,
    pub(super) rejected: Vec<Caused<ExchangeRejected>>,
    pub(super) sealed: Vec<ExchangeSealed>,
    pub(super) usage: Vec<UsageRecorded>,
    /// The newest by record key.
    pub(super) totals: BTreeMap<String, UsageTotal>,
    /// In the order of their partitions, each in its own order.
    pub(super) commands: Vec<LedgerCommand>,
    pub(super) posted: Vec<SettlementPosted>,
    pub(super) parked: Vec<SettlementParked>,
    pub(super) delivered: Vec<ExchangeDelivered>,
    /// Topics with dead letters and how many.
    pub(super) dead: BTreeMap<String, usize>,
    /// Public JWKs.
    pub(super) signing_keys: Vec<String>,
}

impl Found {
    pub(super) fn read(log: &dyn Log) -> Self {
        let mut dead = BTreeMap::new();
        for name in topic::STEPS.iter().map(topic::Step::dead_topic) {
            let letters = records(log, &name).len();
            if letters > 0 {
                dead.insert(name, letters);
            }
        }
        let totals = records(log, USAGE_TOTAL).into_iter().map(|record| (key(&record), value(&record)));
        Self {
            requested: records(log, REQUESTED).iter().map(|record| (record.partition, record.offset)).collect(),
            admitted: records(log, ADMITTED).iter().map(caused).collect(),
            rejected: records(log, REJECTED).iter().map(caused).collect(),
            sealed: values(log, SEALED),
            usage: values(log, USAGE_RECORDED),
            totals: totals.collect(),
            commands: values(log, LEDGER_COMMAND),
            posted: values(log, SETTLEMENT_POSTED),
            parked: values(log, SETTLEMENT_PARKED),
            delivered: values(log, DELIVERED),
            dead,
            signing_keys: values::<SigningKey>(log, SIGNING_KEY).into_iter().map(|key| key.jwk).collect(),
        }
    }
}

fn key(record: &Record) -> String {
    String::from_utf8(record.key.as_deref().unwrap_or_default().to_vec()).expect("keys are text")
}

fn value<T: Wire>(record: &Record) -> T {
    let bytes = record.value.as_deref().unwrap_or_default();
    T::decode(bytes).unwrap_or_else(|error| panic!("{}:{}:{}: {error}", record.topic, record.partition, record.offset))
}

/// Every committed record of a topic, read.
pub(crate) fn values<T: Wire>(log: &dyn Log, name: &str) -> Vec<T> {
    records(log, name).iter().map(value).collect()
}

fn caused<T: Wire>(record: &Record) -> Caused<T> {
    let text = record.header("cause").and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
    let mut parts = text.split(':').map(str::parse::<u64>);
    match (parts.next(), parts.next()) {
        (Some(Ok(partition)), Some(Ok(offset))) => {
            Caused { cause: (u32::try_from(partition).expect("a partition"), offset), value: value(record) }
        }
        _ => panic!("{}:{}:{} names no cause but {text:?}", record.topic, record.partition, record.offset),
    }
}

/// Every committed record of a topic, partition after partition.
fn records(log: &dyn Log, name: &str) -> Vec<Record> {
    let topic = Topic::new(name);
    let deadline = Instant::now() + READ_DEADLINE;
    let ends = log.ends(&topic).expect("the ends of a topic");
    let mut tail = log.tail(&log.starts(&topic).expect("its starts")).expect("a tail");
    let (mut records, mut batch) = (Vec::new(), Batch::default());
    loop {
        let at = tail.positions();
        let is_passed =
            |end: &log::Position| at.iter().any(|at| at.partition == end.partition && at.offset >= end.offset);
        if ends.iter().all(is_passed) {
            break;
        }
        assert!(Instant::now() < deadline, "{name} is not read to its end: {at:?} of {ends:?}");
        batch.records.clear();
        tail.poll(POLL_WAIT, &mut batch).expect("records");
        records.append(&mut batch.records);
    }
    records.sort_by_key(|record| (record.partition, record.offset));
    records
}
