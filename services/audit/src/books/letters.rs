//! Dead letters and their way back.

use event::wire::{ExchangeAdmitted, ExchangeSealed, LedgerCommand, Wire};
use log::Record;
use serde::{Deserialize, Serialize};
use stage::dead_letter::{ALREADY_DECIDED, AT_HEADER, REASON_HEADER, TENANT_HEADER};

use super::admission::{Requested, claimed_cell};
use super::money::Owed;
use super::{After, Books, Cell, NOBODY};
use crate::edge::Found;
use crate::gap::{Gap, GapKind};
use crate::place::{Place, text};

/// A dead letter, to be taken back when it is redone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DeadLetter {
    Canonicalise(Cell),
    Sign(Cell),
    /// It left a gap of that name.
    Gap,
}

impl Books {
    pub(super) fn dead(&mut self, record: &Record, step: &str) {
        let letter = Place::of(record);
        let Some(source) = Place::source_of(record) else { return };
        let reason = text(record, REASON_HEADER).unwrap_or("unknown").to_owned();
        let tenant = text(record, TENANT_HEADER).unwrap_or(NOBODY);
        let at = text(record, AT_HEADER).and_then(|at| at.parse().ok()).unwrap_or(record.time_ms);
        let cell = Cell::new(tenant, at);
        if step == "canonicalise" {
            self.count(&cell, |counts| counts.dead += 1);
            self.open.dead_letters.insert(letter.clone(), DeadLetter::Canonicalise(cell.clone()));
            let after = After::Dead { letter: letter.clone(), cell: Some(cell.clone()), reason };
            self.outcome(source, letter.clone(), &cell, after);
            if self.open.redone.contains(&letter) {
                self.take_back(&letter);
            }
        } else {
            self.dead_beyond_the_door(record, step, &source, reason);
        }
    }

    fn dead_beyond_the_door(&mut self, record: &Record, step: &str, source: &Place, reason: String) {
        let letter = Place::of(record);
        let read = self.was_read(source);
        let value = record.value.as_deref().unwrap_or_default();
        // Only a redo may find that it was done before: a step reads its own input once.
        let is_already = reason == ALREADY_DECIDED && source.topic.as_str() == format!("{step}.redo.v1");
        let after = if is_already {
            After::Already
        } else {
            After::Dead { letter: letter.clone(), cell: None, reason: reason.clone() }
        };
        let at = letter.clone();
        match step {
            "sign" => {
                let replay = ExchangeAdmitted::decode(value).is_ok_and(|admitted| admitted.admission.is_none());
                if !replay
                    && let Found::Source(cell, after) = self.open.admitted.successor(source.clone(), at, after, read)
                {
                    self.signed(&cell, after);
                }
            }
            "meter" => {
                let found = self.open.charged.successor(source.clone(), at.clone(), after.clone(), read);
                if let Found::Source(cell, after) = found {
                    self.paid(&cell, source, at.clone(), after);
                }
                if let Found::Source(open, after) = self.open.metered.successor(source.clone(), at.clone(), after, read)
                {
                    self.metered(&open, source, at, after);
                }
            }
            "settle" => {
                if let Found::Source(open, after) = self.open.settled.successor(source.clone(), at.clone(), after, read)
                {
                    self.settled(&open, source, at, after);
                }
            }
            "forward" => {
                if let Found::Source(cell, after) =
                    self.open.delivered.successor(source.clone(), at.clone(), after, read)
                {
                    self.paid(&cell, source, at, after);
                }
            }
            _ if is_already => {}
            _ => self.dead_gap(&Cell::new(NOBODY, record.time_ms), source, letter, &reason),
        }
    }

    /// A dead letter where R10 allows none: the books stay open until it is redone.
    pub(super) fn dead_gap(&mut self, cell: &Cell, source: &Place, letter: Place, reason: &str) {
        if self.open.redone.contains(&letter) {
            return;
        }
        let detail = format!("{source} is a dead letter ({letter}): {reason}");
        self.wrong(letter.clone(), Gap::new(GapKind::Dead, cell, source.clone(), detail));
        self.open.dead_letters.insert(letter, DeadLetter::Gap);
    }

    fn take_back(&mut self, letter: &Place) {
        match self.open.dead_letters.remove(letter) {
            Some(DeadLetter::Canonicalise(cell)) => self.count(&cell, |counts| {
                counts.requested -= 1;
                counts.dead -= 1;
            }),
            Some(DeadLetter::Sign(cell)) => self.count(&cell, |counts| counts.dead_in_sign -= 1),
            Some(DeadLetter::Gap) => {
                self.open.wrong.remove(letter);
            }
            None => {}
        }
    }

    /// A dead letter on its way back is a source again; the letter itself no longer counts.
    pub(super) fn redo(&mut self, record: &Record, step: &str) {
        let at = Place::of(record);
        let value = record.value.as_deref().unwrap_or_default();
        if let Some(letter) = Place::redo_of(record) {
            if self.open.dead_letters.contains_key(&letter) {
                self.take_back(&letter);
            } else {
                self.open.redone.insert(letter);
            }
        }
        match step {
            "canonicalise" => {
                self.open_request(at, Requested::new(claimed_cell(record)));
            }
            "sign" => {
                if let Ok(admitted) = ExchangeAdmitted::decode(value)
                    && admitted.admission.is_some()
                {
                    self.open_admission(at, Cell::new(&admitted.tenant, admitted.at));
                }
            }
            "meter" => {
                if let Ok(sealed) = ExchangeSealed::decode(value) {
                    self.open_metering(&at, &sealed, &Cell::new(&sealed.tenant, sealed.admitted_at));
                }
            }
            "settle" => {
                if let Ok(command) = LedgerCommand::decode(value) {
                    let cell = Cell::new(&command.tenant, command.at);
                    self.open_command(at, Owed { cell, transfers: command.transfers });
                }
            }
            "forward" => {
                if let Ok(sealed) = ExchangeSealed::decode(value)
                    && sealed.forward_url.is_some()
                {
                    self.open_delivery(at, Cell::new(&sealed.tenant, sealed.admitted_at));
                }
            }
            _ => {}
        }
    }
}
