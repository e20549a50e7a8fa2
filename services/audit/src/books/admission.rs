//! What became of a request: admitted, rejected, replayed, moved or dead; and of an admission: sealed, refused or dead.

use event::topic;
use event::wire::{ExchangeAdmitted, ExchangeRejected, ExchangeRequested, Wire};
use log::{Record, partition_of};
use serde::{Deserialize, Serialize};

use super::letters::DeadLetter;
use super::{After, Books, Cell, NOBODY};
use crate::edge::Found;
use crate::place::{CauseOf, Place};

/// A request that nobody has decided yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Requested {
    /// Where it counts while it is undecided; afterwards its outcome says.
    pub(crate) cell: Cell,
    /// It lies where its key does not belong: canonicalise moves it.
    misplaced: bool,
    /// How many records were moved and became this one.
    moved: i64,
    /// The record that this one says it was moved from.
    claims: Option<Place>,
}

impl Requested {
    pub(super) fn new(cell: Cell) -> Self {
        Self { cell, misplaced: false, moved: 0, claims: None }
    }
}

/// A record says that it was moved from another, which is not read yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    by: Place,
    /// Where the record that says so was counted, once it was.
    resolved: Option<Cell>,
}

impl Books {
    pub(super) fn requested(&mut self, record: &Record) {
        let at = Place::of(record);
        let cell = claimed_cell(record);
        let partitions = self.partitions.get(&record.topic).copied().unwrap_or(1).max(1);
        let misplaced = record.key.as_deref().is_some_and(|key| partition_of(key, partitions) != record.partition);
        let mut open = Requested { misplaced, ..Requested::new(cell) };
        // Only what lies where its key belongs can have been moved there; who else writes a `cause` is not believed.
        let claimed = CauseOf::read(record, topic::REQUESTED).filter(|_| !misplaced).map(|cause| cause.place);
        if let Some(origin) = claimed.filter(|origin| origin.topic == record.topic && *origin != at) {
            if self.open.requested.open_mut(&origin).is_some_and(|origin| origin.misplaced) {
                self.open.requested.take_open(&origin);
                open.moved = 1;
            } else if !self.was_read(&origin) && !self.open.claims.contains_key(&origin) {
                self.open.claims.insert(origin.clone(), Claim { by: at.clone(), resolved: None });
                open.claims = Some(origin);
            }
        }
        if misplaced && let Some(claim) = self.open.claims.remove(&at) {
            // It was moved before it was read here: counted where the record that it became is.
            if let Some(heir) = self.open.requested.open_mut(&claim.by) {
                heir.moved += 1;
                heir.claims = None;
            } else if let Some(cell) = claim.resolved {
                self.count(&cell, |counts| {
                    counts.requested += 1;
                    counts.moved += 1;
                });
            }
            return;
        }
        self.open.claims.remove(&at);
        self.open_request(at, open);
    }

    pub(super) fn open_request(&mut self, at: Place, open: Requested) {
        if let Some((open, _, after)) = self.open.requested.source(at, open) {
            self.decided(&open, after);
        }
    }

    pub(super) fn outcome(&mut self, source: Place, at: Place, cell: &Cell, after: After) {
        if self.before_us(&source) {
            return self.count(cell, |counts| counts.requested += 1);
        }
        let read = self.was_read(&source);
        match self.open.requested.successor(source.clone(), at.clone(), after, read) {
            Found::Source(open, after) => self.decided(&open, after),
            Found::Waits => {}
            Found::Repeat => self.repeat(at, cell, &source),
        }
    }

    /// A request has met its outcome and counts where the outcome does.
    fn decided(&mut self, open: &Requested, after: After) {
        let (After::Counted(cell) | After::Dead { cell: Some(cell), .. }) = after else { return };
        self.count(&cell, |counts| {
            counts.requested += 1 + open.moved;
            counts.moved += open.moved;
        });
        if let Some(origin) = &open.claims
            && let Some(claim) = self.open.claims.get_mut(origin)
        {
            claim.resolved = Some(cell);
        }
    }

    pub(super) fn admitted(&mut self, record: &Record, admitted: &ExchangeAdmitted) {
        let at = Place::of(record);
        let cell = Cell::new(&admitted.tenant, admitted.at);
        if admitted.admission.is_some() {
            self.count(&cell, |counts| counts.admitted += 1);
            self.open_admission(at.clone(), cell.clone());
        } else {
            self.count(&cell, |counts| counts.replayed += 1);
            // A replay is owed an answer only; a dead letter of it is no loss of an exchange.
            self.open.admitted.forget_early(&at);
        }
        if let Some(source) = self.cause(record, topic::REQUESTED, &cell) {
            self.outcome(source, at, &cell, After::Counted(cell.clone()));
        }
    }

    pub(super) fn rejected(&mut self, record: &Record, rejected: &ExchangeRejected) {
        let at = Place::of(record);
        let cell = Cell::new(&rejected.tenant, rejected.at);
        if rejected.decided_by == "sign" {
            self.count(&cell, |counts| counts.refused += 1);
            if let Some(source) = self.cause(record, topic::ADMITTED, &cell) {
                self.after_admission(source, at, &cell, After::Counted(cell.clone()));
            }
        } else {
            self.count(&cell, |counts| counts.rejected += 1);
            if let Some(source) = self.cause(record, topic::REQUESTED, &cell) {
                self.outcome(source, at, &cell, After::Counted(cell.clone()));
            }
        }
    }

    pub(super) fn open_admission(&mut self, at: Place, cell: Cell) {
        if let Some((cell, _, after)) = self.open.admitted.source(at, cell) {
            self.signed(&cell, after);
        }
    }

    pub(super) fn after_admission(&mut self, source: Place, at: Place, cell: &Cell, after: After) {
        if self.before_us(&source) {
            return self.count(cell, |counts| counts.admitted += 1);
        }
        let read = self.was_read(&source);
        match self.open.admitted.successor(source.clone(), at.clone(), after, read) {
            Found::Source(open, after) => self.signed(&open, after),
            Found::Waits => {}
            Found::Repeat => self.repeat(at, cell, &source),
        }
    }

    pub(super) fn signed(&mut self, admission: &Cell, after: After) {
        if let After::Dead { letter, .. } = after
            && !self.open.redone.contains(&letter)
        {
            self.count(admission, |counts| counts.dead_in_sign += 1);
            self.open.dead_letters.insert(letter, DeadLetter::Sign(admission.clone()));
        }
    }
}

/// Where a request counts while nobody has decided it: under the tenant it names only where it needs no proof, as ingest's
/// own do not (R10).
pub(super) fn claimed_cell(record: &Record) -> Cell {
    let signed = record.header(event::envelope::KEY_ID).is_some();
    let requested = record.value.as_deref().filter(|_| !signed).and_then(|value| ExchangeRequested::decode(value).ok());
    match requested {
        Some(requested) => Cell::new(&requested.tenant, record.time_ms),
        None => Cell::new(NOBODY, record.time_ms),
    }
}
