//! What became of a command: posted or parked; and the balances that follow.

use event::topic;
use event::wire::{SettlementParked, SettlementPosted, Transfer};
use log::Record;
use serde::{Deserialize, Serialize};

use super::{After, Books, Cell};
use crate::check;
use crate::edge::Found;
use crate::gap::{Gap, GapKind};
use crate::place::Place;

/// What a command asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owed {
    pub(crate) cell: Cell,
    pub(super) transfers: Vec<Transfer>,
}

impl Books {
    pub(super) fn open_command(&mut self, at: Place, owed: Owed) {
        if let Some((open, place, after)) = self.open.settled.source(at.clone(), owed) {
            self.settled(&open, &at, place, after);
        }
    }

    pub(super) fn posted(&mut self, record: &Record, posted: SettlementPosted) {
        let at = Place::of(record);
        let cell = Cell::new(&posted.tenant, posted.at);
        self.count(&cell, |counts| counts.posted += 1);
        for transfer in &posted.transfers {
            self.book(&transfer.debit_account, &transfer.currency, -i128::from(transfer.minor));
            self.book(&transfer.credit_account, &transfer.currency, i128::from(transfer.minor));
        }
        let source = self.cause(record, topic::LEDGER_COMMAND, &cell);
        self.settlement(source, at, &cell, After::Posted { cell: cell.clone(), posted: Box::new(posted) });
    }

    pub(super) fn parked(&mut self, record: &Record, parked: &SettlementParked) {
        let at = Place::of(record);
        let cell = Cell::new(&parked.tenant, parked.at);
        self.count(&cell, |counts| counts.parked += 1);
        let source = self.cause(record, topic::LEDGER_COMMAND, &cell);
        self.settlement(source, at, &cell, After::Counted(cell.clone()));
    }

    fn settlement(&mut self, source: Option<Place>, at: Place, cell: &Cell, after: After) {
        let Some(source) = source.filter(|source| !self.before_us(source)) else { return };
        let read = self.was_read(&source);
        match self.open.settled.successor(source.clone(), at.clone(), after, read) {
            Found::Source(open, after) => self.settled(&open, &source, at, after),
            Found::Waits => {}
            Found::Repeat => self.repeat(at, cell, &source),
        }
    }

    pub(super) fn settled(&mut self, owed: &Owed, source: &Place, at: Place, after: After) {
        match after {
            After::Posted { cell, posted } => match check::posting_balances(&owed.transfers, &posted) {
                Ok(()) => self.same_cell(&owed.cell, &cell, source, at),
                Err(why) => {
                    let detail = format!("{at} does not balance with {source}: {why}");
                    self.wrong(at.clone(), Gap::new(GapKind::Unbalanced, &cell, at, detail));
                }
            },
            After::Counted(cell) => self.same_cell(&owed.cell, &cell, source, at),
            After::Dead { letter, reason, .. } => self.dead_gap(&owed.cell, source, letter, &reason),
            After::Already | After::Usage { .. } => {}
        }
    }

    fn book(&mut self, account: &str, currency: &str, minor: i128) {
        let key = (account.to_owned(), currency.to_owned());
        let balance = self.balances.entry(key.clone()).or_default();
        *balance = balance.saturating_add(minor);
        self.changed_balances.insert(key);
    }
}
