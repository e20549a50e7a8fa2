//! The books: everything audit remembers, and what each record of the topics does to it. Pure.
//!
//! Topics are read in any relative order. A record counts under its own tenant and admission; beside that each edge keeps
//! the sources that have no successor yet, which is how a gap gets its name.

mod admission;
mod left;
mod letters;
mod money;
mod sealed;

use std::collections::{BTreeMap, BTreeSet};

use event::topic;
use event::wire::{
    ExchangeAdmitted, ExchangeDelivered, ExchangeRejected, ExchangeSealed, LedgerCommand, SettlementParked,
    SettlementPosted, UsageRecorded, UsageTotal, Wire, WireError,
};
use log::{Position, Record, Topic};
use serde::{Deserialize, Serialize};

use admission::{Claim, Requested};
use letters::DeadLetter;
use money::Owed;
use sealed::{MonthOfUsage, Sealed};

use crate::counts::Counts;
use crate::edge::Edge;
use crate::gap::{Gap, GapKind};
use crate::place::{CauseOf, Place};

/// An hour in milliseconds; hours are half-open windows named by their start.
pub(crate) const HOUR_MS: i64 = 3_600_000;
/// The tenant of records that proved none (R10).
pub(crate) const NOBODY: &str = "-";

/// One tenant, one hour of admission.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) tenant: String,
    pub(crate) hour: i64,
}

impl Cell {
    pub(crate) fn new(tenant: &str, at: i64) -> Self {
        Self { tenant: tenant.to_owned(), hour: at.div_euclid(HOUR_MS).saturating_mul(HOUR_MS) }
    }
}

/// What a successor of a decision edge is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum After {
    /// Its own record counts under this cell already.
    Counted(Cell),
    /// A dead letter, which has no admission of its own.
    Dead {
        letter: Place,
        cell: Option<Cell>,
        reason: String,
    },
    /// It was redone although what it asks for was decided before: that counts already, and nothing more is owed.
    Already,
    Usage {
        cell: Cell,
        vex: i64,
        fu: i64,
    },
    Posted {
        cell: Cell,
        posted: Box<SettlementPosted>,
    },
}

/// Everything but the counters by cell and the balances, which are stored row by row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Open {
    requested: Edge<Requested, After>,
    admitted: Edge<Cell, After>,
    metered: Edge<Sealed, After>,
    charged: Edge<Cell, After>,
    settled: Edge<Owed, After>,
    delivered: Edge<Cell, After>,
    claims: BTreeMap<Place, Claim>,
    dead_letters: BTreeMap<Place, DeadLetter>,
    /// Dead letters that were redone before they could be taken back: they never count.
    redone: BTreeSet<Place>,
    /// Highest cause by written partition and source partition (R11).
    highest: BTreeMap<String, (u64, u32)>,
    /// What is wrong for good, by the record that shows it.
    wrong: BTreeMap<Place, Gap>,
    floor: BTreeMap<String, u64>,
    last: BTreeMap<String, u64>,
    pub(crate) usage: BTreeMap<String, MonthOfUsage>,
}

/// The books. Counters and balances keep track of what changed since the last snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Books {
    pub(crate) next: BTreeMap<(Topic, u32), u64>,
    pub(crate) partitions: BTreeMap<Topic, u32>,
    pub(crate) cells: BTreeMap<Cell, Counts>,
    /// Credits less debits, by account and currency.
    pub(crate) balances: BTreeMap<(String, String), i128>,
    pub(crate) open: Open,
    pub(crate) changed_cells: BTreeSet<Cell>,
    pub(crate) changed_balances: BTreeSet<(String, String)>,
}

impl After {
    fn cell(&self) -> Option<&Cell> {
        match self {
            Self::Counted(cell) | Self::Usage { cell, .. } | Self::Posted { cell, .. } => Some(cell),
            Self::Dead { cell, .. } => cell.as_ref(),
            Self::Already => None,
        }
    }
}

fn key(topic: &Topic, partition: u32) -> String {
    format!("{topic}:{partition}")
}

impl Books {
    /// Books that have read nothing yet and begin at these positions.
    pub(crate) fn begin(from: &[Position], partitions: BTreeMap<Topic, u32>) -> Self {
        let mut books = Self { partitions, ..Self::default() };
        for position in from {
            books.next.insert((position.topic.clone(), position.partition), position.offset);
            books.open.floor.insert(key(&position.topic, position.partition), position.offset);
        }
        books
    }

    /// Takes in one record; one that was taken in before is passed over.
    ///
    /// # Errors
    /// The record is not readable by this version: nothing was changed.
    pub(crate) fn apply(&mut self, record: &Record) -> Result<(), WireError> {
        let next = self.next.entry((record.topic.clone(), record.partition)).or_default();
        if record.offset < *next {
            return Ok(());
        }
        let read = self.dispatch(record);
        if !matches!(read, Err(WireError::UnknownSchema(_))) {
            self.next.insert((record.topic.clone(), record.partition), record.offset + 1);
            self.open.last.insert(key(&record.topic, record.partition), record.offset);
        }
        read
    }

    fn dispatch(&mut self, record: &Record) -> Result<(), WireError> {
        let name = record.topic.as_str();
        if let Some(step) = name.strip_suffix(".dead.v1") {
            self.dead(record, step);
            return Ok(());
        }
        if let Some(step) = name.strip_suffix(".redo.v1") {
            self.redo(record, step);
            return Ok(());
        }
        let value = record.value.as_deref().unwrap_or_default();
        match name {
            topic::REQUESTED => self.requested(record),
            topic::ADMITTED => self.admitted(record, &ExchangeAdmitted::decode(value)?),
            topic::REJECTED => self.rejected(record, &ExchangeRejected::decode(value)?),
            topic::SEALED => self.sealed(record, &ExchangeSealed::decode(value)?),
            topic::DELIVERED => self.delivered(record, &ExchangeDelivered::decode(value)?),
            topic::USAGE_RECORDED => self.usage(record, &UsageRecorded::decode(value)?),
            topic::USAGE_TOTAL => self.total(record, UsageTotal::decode(value)?),
            topic::LEDGER_COMMAND => self.command(record, LedgerCommand::decode(value)?),
            topic::SETTLEMENT_POSTED => self.posted(record, SettlementPosted::decode(value)?),
            topic::SETTLEMENT_PARKED => self.parked(record, &SettlementParked::decode(value)?),
            _ => {}
        }
        Ok(())
    }

    fn count(&mut self, cell: &Cell, change: impl FnOnce(&mut Counts)) {
        change(self.cells.entry(cell.clone()).or_default());
        if !self.changed_cells.contains(cell) {
            self.changed_cells.insert(cell.clone());
        }
    }

    fn was_read(&self, place: &Place) -> bool {
        self.next.get(&(place.topic.clone(), place.partition)).is_some_and(|next| *next > place.offset)
    }

    /// Before the earliest record that was there when these books began.
    fn before_us(&self, place: &Place) -> bool {
        self.open.floor.get(&key(&place.topic, place.partition)).is_some_and(|floor| place.offset < *floor)
    }

    /// Offset of the last record read of a partition.
    pub(crate) fn last(&self, topic: &Topic, partition: u32) -> Option<u64> {
        self.open.last.get(&key(topic, partition)).copied()
    }

    fn wrong(&mut self, at: Place, gap: Gap) {
        self.open.wrong.entry(at).or_insert(gap);
    }

    fn repeat(&mut self, at: Place, cell: &Cell, cause: &Place) {
        let detail = format!("{at} repeats what followed from {cause}");
        self.wrong(at.clone(), Gap::new(GapKind::Repeat, cell, at, detail));
    }

    /// The cause of a record that must have one, checked to be higher than the one before it (R11).
    fn cause(&mut self, record: &Record, input: &str, cell: &Cell) -> Option<Place> {
        let at = Place::of(record);
        let Some(CauseOf { place, index }) = CauseOf::read(record, input) else {
            let detail = format!("{at} names no cause");
            self.wrong(at.clone(), Gap::new(GapKind::Orphan, cell, at, detail));
            return None;
        };
        let edge = format!("{}:{}<{}:{}", record.topic, record.partition, place.topic, place.partition);
        let known = self.open.highest.get(&edge).copied();
        if known.is_some_and(|known| (place.offset, index) <= known) {
            self.repeat(at, cell, &place);
            return Some(place);
        }
        self.open.highest.insert(edge, (place.offset, index));
        Some(place)
    }

    /// What follows from a record belongs to the same tenant and hour.
    fn same_cell(&mut self, source_cell: &Cell, cell: &Cell, source: &Place, at: Place) {
        if source_cell != cell {
            let detail = format!(
                "{at} counts under {} and hour {}, its cause {source} under {} and hour {}",
                cell.tenant, cell.hour, source_cell.tenant, source_cell.hour
            );
            self.wrong(at.clone(), Gap::new(GapKind::Misplaced, cell, at, detail));
        }
    }

    pub(crate) fn positions(&self) -> Vec<Position> {
        self.next
            .iter()
            .map(|((topic, partition), offset)| Position {
                topic: topic.clone(),
                partition: *partition,
                offset: *offset,
            })
            .collect()
    }
}
