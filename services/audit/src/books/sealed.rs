//! What a sealed exchange owes: its usage, a command where it has a price, an outcome where it is to be delivered.

use std::collections::BTreeMap;

use event::topic;
use event::wire::{ExchangeDelivered, ExchangeSealed, LedgerCommand, UsageRecorded, UsageTotal};
use log::Record;
use serde::{Deserialize, Serialize};

use super::money::Owed;
use super::{After, Books, Cell};
use crate::check;
use crate::edge::Found;
use crate::gap::{Gap, GapKind};
use crate::place::{CauseOf, Place};

/// What is owed because of a sealed record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sealed {
    pub(crate) cell: Cell,
    usage: Option<(i64, i64)>,
}

/// Usage of a tenant and month: by our own sum, and as the tally last said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MonthOfUsage {
    pub(crate) vex: i64,
    pub(crate) fu: i64,
    pub(crate) exchanges: i64,
    /// meter -> total, exchanges, place
    pub(crate) told: BTreeMap<String, (i64, i64, Place)>,
}

impl Books {
    pub(super) fn sealed(&mut self, record: &Record, sealed: &ExchangeSealed) {
        let at = Place::of(record);
        let cell = Cell::new(&sealed.tenant, sealed.admitted_at);
        let priced = is_priced(sealed);
        let to_deliver = sealed.forward_url.is_some();
        self.count(&cell, |counts| {
            counts.sealed += 1;
            counts.priced += i64::from(priced);
            counts.deliveries_owed += i64::from(to_deliver);
        });
        if let Some(source) = self.cause(record, topic::ADMITTED, &cell) {
            self.after_admission(source, at.clone(), &cell, After::Counted(cell.clone()));
        }
        self.open_metering(&at, sealed, &cell);
        if to_deliver {
            self.open_delivery(at, cell);
        } else if let Some((place, After::Counted(_))) = self.open.delivered.forget_early(&at) {
            self.repeat(place, &cell, &at);
        }
    }

    pub(super) fn open_metering(&mut self, at: &Place, sealed: &ExchangeSealed, cell: &Cell) {
        let usage = check::usage_of(&sealed.receipt).map(|usage| (usage.vex, usage.fu));
        if let Some((open, place, after)) = self.open.metered.source(at.clone(), Sealed { cell: cell.clone(), usage }) {
            self.metered(&open, at, place, after);
        }
        if is_priced(sealed) {
            if let Some((open, place, after)) = self.open.charged.source(at.clone(), cell.clone()) {
                self.paid(&open, at, place, after);
            }
        } else {
            self.unowed_charge(at, cell);
        }
    }

    /// A command that was read before its sealed record, which turns out to owe nothing.
    fn unowed_charge(&mut self, at: &Place, cell: &Cell) {
        if let Some((place, After::Counted(_))) = self.open.charged.forget_early(at) {
            self.repeat(place, cell, at);
        }
    }

    pub(super) fn open_delivery(&mut self, at: Place, cell: Cell) {
        if let Some((open, place, after)) = self.open.delivered.source(at.clone(), cell) {
            self.paid(&open, &at, place, after);
        }
    }

    pub(super) fn usage(&mut self, record: &Record, usage: &UsageRecorded) {
        let at = Place::of(record);
        let cell = Cell::new(&usage.tenant, usage.admitted_at);
        self.count(&cell, |counts| counts.metered += 1);
        let month = self.open.usage.entry(format!("{}:{}", usage.tenant, usage.month)).or_default();
        month.vex += usage.vex;
        month.fu += usage.fu;
        month.exchanges += 1;
        let Some(source) = self.cause(record, topic::SEALED, &cell) else { return };
        if self.before_us(&source) {
            return;
        }
        let read = self.was_read(&source);
        let after = After::Usage { cell: cell.clone(), vex: usage.vex, fu: usage.fu };
        match self.open.metered.successor(source.clone(), at.clone(), after, read) {
            Found::Source(open, after) => self.metered(&open, &source, at, after),
            Found::Waits => {}
            Found::Repeat => self.repeat(at, &cell, &source),
        }
    }

    pub(super) fn metered(&mut self, sealed: &Sealed, source: &Place, at: Place, after: After) {
        match after {
            After::Usage { cell, vex, fu } if sealed.usage != Some((vex, fu)) => {
                let said =
                    sealed.usage.map_or("nothing readable".to_owned(), |(vex, fu)| format!("vex {vex}, fu {fu}"));
                let detail = format!("{at} has vex {vex}, fu {fu}; the receipt of {source} says {said}");
                self.wrong(at.clone(), Gap::new(GapKind::UsageDiffers, &cell, at, detail));
            }
            After::Usage { cell, .. } => self.same_cell(&sealed.cell, &cell, source, at),
            After::Dead { letter, reason, .. } => self.dead_gap(&sealed.cell, source, letter, &reason),
            After::Already | After::Counted(_) | After::Posted { .. } => {}
        }
    }

    pub(super) fn command(&mut self, record: &Record, command: LedgerCommand) {
        let at = Place::of(record);
        let cell = Cell::new(&command.tenant, command.at);
        self.count(&cell, |counts| counts.owed += 1);
        self.open_command(at.clone(), Owed { cell: cell.clone(), transfers: command.transfers });
        if command.kind != "exchange_charge" {
            return;
        }
        let Some(source) = self.cause(record, topic::SEALED, &cell) else { return };
        if self.before_us(&source) {
            return;
        }
        let read = self.was_read(&source);
        match self.open.charged.successor(source.clone(), at.clone(), After::Counted(cell.clone()), read) {
            Found::Source(open, after) => self.paid(&open, &source, at, after),
            Found::Waits => {}
            Found::Repeat => self.repeat(at, &cell, &source),
        }
    }

    /// What a sealed record owed beside its usage is there, or never comes.
    pub(super) fn paid(&mut self, sealed: &Cell, source: &Place, at: Place, after: After) {
        match after {
            After::Counted(cell) => self.same_cell(sealed, &cell, source, at),
            After::Dead { letter, reason, .. } => self.dead_gap(sealed, source, letter, &reason),
            After::Already | After::Usage { .. } | After::Posted { .. } => {}
        }
    }

    pub(super) fn delivered(&mut self, record: &Record, delivered: &ExchangeDelivered) {
        let at = Place::of(record);
        let cell = Cell::new(&delivered.tenant, delivered.admitted_at);
        self.count(&cell, |counts| counts.deliveries_recorded += 1);
        // Deliveries end in any order, so their causes do not rise: each is looked up.
        let Some(CauseOf { place: source, .. }) = CauseOf::read(record, topic::SEALED) else {
            let detail = format!("{at} names no cause");
            return self.wrong(at.clone(), Gap::new(GapKind::Orphan, &cell, at, detail));
        };
        if self.before_us(&source) {
            return;
        }
        let read = self.was_read(&source);
        match self.open.delivered.successor(source.clone(), at.clone(), After::Counted(cell.clone()), read) {
            Found::Source(open, after) => self.paid(&open, &source, at, after),
            Found::Waits => {}
            Found::Repeat => self.repeat(at, &cell, &source),
        }
    }

    pub(super) fn total(&mut self, record: &Record, total: UsageTotal) {
        let at = Place::of(record);
        let cell = Cell::new(&total.tenant, total.as_of);
        let month = self.open.usage.entry(format!("{}:{}", total.tenant, total.month)).or_default();
        month.told.insert(total.meter, (total.total, total.exchanges, at));
        self.cause(record, topic::USAGE_RECORDED, &cell);
    }
}

fn is_priced(sealed: &ExchangeSealed) -> bool {
    sealed.amount.as_ref().is_some_and(|amount| amount.minor > 0)
}
