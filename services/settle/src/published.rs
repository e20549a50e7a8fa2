//! Reading back what the relay has published, to give it to a database that has lost it (R6).

use std::collections::BTreeMap;
use std::time::Duration;

use event::topic::{SETTLEMENT_PARKED, SETTLEMENT_POSTED};
use event::wire::{SettlementParked, SettlementPosted, Wire};
use ledger::{Input, RowDraft, Source};
use log::{Batch, Cause, Fault, Log, Position, Record, Topic};
use stage::dead_letter::{CAUSE_HEADER, CAUSE_TOPIC_HEADER};

/// On dead letters, whose value is not ours: `<ledger partition>:<sequence>`.
pub(crate) const SEQUENCE_HEADER: &str = "ledger-sequence";

/// How long one poll of a tail waits.
const TAIL_WAIT: Duration = Duration::from_millis(200);

/// What a published row says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fact {
    Posted(Box<SettlementPosted>),
    Parked(Box<SettlementParked>),
    Dead,
}

/// A row as it lies in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) fact: Fact,
    pub(crate) draft: RowDraft,
}

/// Reads the rows of one ledger partition in the order of their sequence, a bounded number at a time.
pub(crate) struct PublishedRows<'a> {
    log: &'a dyn Log,
    ledger_partition: u32,
    rows_max: u64,
    next_sequence: u64,
    through: u64,
    /// Where each partition of the topics is read on from: nothing that is wanted lies before.
    from: Vec<Position>,
    /// What was committed when the reading began.
    ends: Vec<Position>,
}

impl<'a> PublishedRows<'a> {
    /// The rows after `after` up to `through`.
    pub(crate) fn open(
        log: &'a dyn Log,
        topics: &[Topic],
        (ledger_partition, after, through): (u32, u64, u64),
        rows_max: usize,
    ) -> Result<Self, Fault> {
        let (mut from, mut ends) = (Vec::new(), Vec::new());
        for topic in topics {
            from.extend(log.starts(topic)?);
            ends.extend(log.ends(topic)?);
        }
        Ok(Self { log, ledger_partition, rows_max: rows_max as u64, next_sequence: after + 1, through, from, ends })
    }

    /// The next rows by sequence, without a gap; `None` after the last.
    pub(crate) fn next(&mut self) -> Result<Option<BTreeMap<u64, Published>>, Fault> {
        if self.next_sequence > self.through {
            return Ok(None);
        }
        let last = self.through.min(self.next_sequence.saturating_add(self.rows_max - 1));
        let mut found = BTreeMap::new();
        // Of each partition: the first row that is left for a later call.
        let mut left: BTreeMap<(Topic, u32), u64> = BTreeMap::new();
        let mut tail = self.log.tail(&self.from)?;
        let mut batch = Batch::default();
        while !reached(&tail.positions(), &self.ends) {
            batch.records.clear();
            tail.poll(TAIL_WAIT, &mut batch)?;
            for record in &batch.records {
                let Some((sequence, published)) = self.row_of(record)? else { continue };
                if sequence > last {
                    left.entry((record.topic.clone(), record.partition)).or_insert(record.offset);
                } else if sequence >= self.next_sequence {
                    found.insert(sequence, published);
                }
            }
        }
        if let Some(missing) = (self.next_sequence..=last).find(|sequence| !found.contains_key(sequence)) {
            let detail = format!("row {missing} of ledger partition {} is not in the log", self.ledger_partition);
            return Err(regressed(detail));
        }
        for position in &mut self.from {
            let end = self.ends.iter().find(|end| end.topic == position.topic && end.partition == position.partition);
            let left = left.get(&(position.topic.clone(), position.partition)).copied();
            position.offset = left.or(end.map(|end| end.offset)).unwrap_or(position.offset);
        }
        self.next_sequence = last + 1;
        Ok(Some(found))
    }

    /// The row that a record is, if it is one of this partition.
    fn row_of(&self, record: &Record) -> Result<Option<(u64, Published)>, Fault> {
        let Some((partition, sequence, fact)) = fact_of(record)? else { return Ok(None) };
        if partition != self.ledger_partition {
            return Ok(None);
        }
        let source = source_of(record)?;
        let draft = RowDraft {
            source,
            topic: record.topic.as_str().to_owned(),
            target_partition: None,
            record_key: record.key.as_ref().map(|bytes| bytes.to_vec()),
            value: record.value.as_ref().map(|bytes| bytes.to_vec()),
            headers: record.headers.iter().map(|(name, value)| (name.clone(), value.to_vec())).collect(),
        };
        Ok(Some((sequence, Published { fact, draft })))
    }
}

fn fact_of(record: &Record) -> Result<Option<(u32, u64, Fact)>, Fault> {
    let value = record.value.as_deref().unwrap_or_default();
    let place = |partition: i32, sequence: i64| Some((u32::try_from(partition).ok()?, u64::try_from(sequence).ok()?));
    match record.topic.as_str() {
        SETTLEMENT_POSTED => {
            let posted = SettlementPosted::decode(value).map_err(|error| unreadable(record, &error.to_string()))?;
            let place = place(posted.ledger_partition, posted.sequence);
            Ok(place.map(|(partition, sequence)| (partition, sequence, Fact::Posted(Box::new(posted)))))
        }
        SETTLEMENT_PARKED => {
            let parked = SettlementParked::decode(value).map_err(|error| unreadable(record, &error.to_string()))?;
            let place = place(parked.ledger_partition, parked.sequence);
            Ok(place.map(|(partition, sequence)| (partition, sequence, Fact::Parked(Box::new(parked)))))
        }
        _ => {
            let header = record.header(SEQUENCE_HEADER).and_then(|bytes| std::str::from_utf8(bytes).ok());
            let place = header.and_then(|text| text.split_once(':'));
            let place = place.and_then(|(partition, sequence)| Some((partition.parse().ok()?, sequence.parse().ok()?)));
            Ok(place.map(|(partition, sequence)| (partition, sequence, Fact::Dead)))
        }
    }
}

/// The record that a row was decided from, by its header `cause`.
fn source_of(record: &Record) -> Result<Source, Fault> {
    let text = record.header(CAUSE_HEADER).and_then(|bytes| std::str::from_utf8(bytes).ok());
    let offset = text.and_then(|text| text.split(':').nth(1)).and_then(|offset| offset.parse().ok());
    let offset = offset.ok_or_else(|| unreadable(record, "it names no cause"))?;
    let input = if record.header(CAUSE_TOPIC_HEADER).is_some() { Input::Redo } else { Input::Command };
    Ok(Source { input, offset })
}

/// Whether a tail has seen everything up to `ends`.
pub(crate) fn reached(positions: &[Position], ends: &[Position]) -> bool {
    ends.iter().all(|end| {
        let at = positions.iter().find(|at| at.topic == end.topic && at.partition == end.partition);
        at.is_some_and(|at| at.offset >= end.offset)
    })
}

pub(crate) fn regressed(detail: String) -> Fault {
    Fault::Fatal(Cause::new("ledger_regressed", detail))
}

fn unreadable(record: &Record, why: &str) -> Fault {
    regressed(format!("{}:{}:{} cannot be taken back: {why}", record.topic, record.partition, record.offset))
}
