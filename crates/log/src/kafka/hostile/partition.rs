//! One partition of a topic: batches of transactions, their markers, and what a committed reader may see of them.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::coordinator::{Marker, ProducerOf};

/// What lies at an offset.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    Record {
        /// `None`: written outside any transaction.
        by: Option<TransactionOf>,
        record: Stored,
    },
    Marker,
}

/// A record without its place.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) time_ms: i64,
    pub(super) key: Option<Bytes>,
    pub(super) value: Option<Bytes>,
    pub(super) headers: Vec<(String, Bytes)>,
}

/// Which transaction, as the coordinator counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TransactionOf {
    pub(super) producer: ProducerOf,
    pub(super) count: u64,
}

/// Why a leader does not take a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Fenced,
    NotOngoing,
}

#[derive(Debug, Default)]
pub(super) struct Partition {
    entries: Vec<Entry>,
    /// First offset of each producer's open transaction.
    open: BTreeMap<u64, u64>,
    epochs: BTreeMap<u64, u32>,
    /// Offset of each batch that a producer numbered, so that a repeated one is answered and not written.
    numbered: BTreeMap<(ProducerOf, u64), u64>,
    /// (producer, first, last) of transactions that were aborted.
    aborted: Vec<(u64, u64, u64)>,
}

/// A record that a transaction wants written here.
pub(super) struct Numbered {
    pub(super) by: TransactionOf,
    pub(super) number: u64,
    pub(super) record: Stored,
    /// Whether the coordinator says that this transaction is ongoing here (KIP-890, part 1).
    pub(super) is_ongoing: bool,
}

impl Partition {
    pub(super) fn end(&self) -> u64 {
        u64::try_from(self.entries.len()).unwrap_or(u64::MAX)
    }

    pub(super) fn last_stable(&self) -> u64 {
        self.open.values().copied().min().unwrap_or_else(|| self.end())
    }

    pub(super) fn append(&mut self, record: Stored) -> u64 {
        self.entries.push(Entry::Record { by: None, record });
        self.end() - 1
    }

    pub(super) fn produce(&mut self, batch: Numbered) -> Result<u64, Refused> {
        let Numbered { by, number, record, is_ongoing } = batch;
        let ProducerOf { id, epoch } = by.producer;
        if self.epochs.get(&id).is_some_and(|known| epoch < *known) {
            return Err(Refused::Fenced);
        }
        if let Some(offset) = self.numbered.get(&(by.producer, number)) {
            return Ok(*offset);
        }
        if !is_ongoing {
            return Err(Refused::NotOngoing);
        }
        let offset = self.end();
        self.epochs.insert(id, epoch);
        self.numbered.insert((by.producer, number), offset);
        self.open.entry(id).or_insert(offset);
        self.entries.push(Entry::Record { by: Some(by), record });
        Ok(offset)
    }

    pub(super) fn mark(&mut self, marker: Marker) {
        let end = self.end();
        let known = self.epochs.entry(marker.producer.id).or_default();
        *known = (*known).max(marker.producer.epoch);
        if let Some(first) = self.open.remove(&marker.producer.id)
            && !marker.is_commit
        {
            self.aborted.push((marker.producer.id, first, end));
        }
        self.entries.push(Entry::Marker);
    }

    /// The first record at or after `from` that a reader is shown below `end`, and where it stands then.
    pub(super) fn next_shown(&self, from: u64, end: u64, committed_only: bool) -> (Option<(u64, &Stored)>, u64) {
        let mut at = from;
        while at < end {
            match self.entries.get(usize::try_from(at).unwrap_or(usize::MAX)) {
                Some(Entry::Record { by, record }) if !committed_only || !self.is_aborted(*by, at) => {
                    return (Some((at, record)), at + 1);
                }
                Some(_) => at += 1,
                None => break,
            }
        }
        (None, at)
    }

    fn is_aborted(&self, by: Option<TransactionOf>, at: u64) -> bool {
        by.is_some_and(|by| {
            self.aborted.iter().any(|(id, first, last)| *id == by.producer.id && (*first..=*last).contains(&at))
        })
    }

    /// Every committed record with its offset and transaction.
    pub(super) fn committed(&self) -> impl Iterator<Item = (u64, Option<TransactionOf>, &Stored)> {
        let below = usize::try_from(self.last_stable()).unwrap_or(usize::MAX);
        (0_u64..).zip(self.entries.iter().take(below)).filter_map(|(at, entry)| match entry {
            Entry::Record { by, record } if !self.is_aborted(*by, at) => Some((at, *by, record)),
            Entry::Record { .. } | Entry::Marker => None,
        })
    }
}
