//! The books: everything audit remembers, and what each record of the topics does to it. Pure.
//!
//! Topics are read in any relative order. A record counts under its own tenant and admission; beside that each edge keeps
//! the sources that have no successor yet, which is how a gap gets its name.

use std::collections::{BTreeMap, BTreeSet};

use event::topic;
use event::wire::{
    ExchangeAdmitted, ExchangeDelivered, ExchangeRejected, ExchangeRequested, ExchangeSealed, LedgerCommand,
    SettlementParked, SettlementPosted, Transfer, UsageRecorded, UsageTotal, Wire, WireError,
};
use log::{Position, Record, Topic, partition_of};
use serde::{Deserialize, Serialize};
use stage::dead_letter::{AT_HEADER, REASON_HEADER, TENANT_HEADER};

use crate::check;
use crate::counts::Counts;
use crate::edge::{Edge, Found};
use crate::gap::{Gap, GapKind};
use crate::place::{CauseOf, Place, text};

/// An hour in milliseconds; hours are half-open windows named by their start.
pub(crate) const HOUR_MS: i64 = 3_600_000;
/// The tenant of records that proved none (DESIGN R10).
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

/// A record says that it was moved from another, which is not read yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Claim {
    by: Place,
    /// Where the record that says so was counted, once it was.
    resolved: Option<Cell>,
}

/// What is owed because of a sealed record; one edge looks at one of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sealed {
    pub(crate) cell: Cell,
    usage: Option<(i64, i64)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owed {
    pub(crate) cell: Cell,
    transfers: Vec<Transfer>,
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

/// A dead letter, to be taken back when it is redone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum DeadLetter {
    Canonicalise(Cell),
    Sign(Cell),
    /// It left a gap of that name.
    Gap,
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
    /// Highest cause by written partition and source partition (DESIGN R11).
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

/// An open source: where it lies, where it counts, and which equation waits for it.
pub(crate) struct Unmatched<'a> {
    pub(crate) place: &'a Place,
    pub(crate) cell: &'a Cell,
    pub(crate) equation: usize,
    pub(crate) lacks: &'static str,
}

/// A successor without its source; without a cell it is not counted anywhere yet.
pub(crate) struct Orphan<'a> {
    pub(crate) source: &'a Place,
    pub(crate) successor: &'a Place,
    pub(crate) cell: Option<&'a Cell>,
    pub(crate) equation: usize,
}

impl After {
    fn cell(&self) -> Option<&Cell> {
        match self {
            Self::Counted(cell) | Self::Usage { cell, .. } | Self::Posted { cell, .. } => Some(cell),
            Self::Dead { cell, .. } => cell.as_ref(),
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

    /// The cause of a record that must have one, checked to be higher than the one before it (DESIGN R11).
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

    // -- requested: one outcome each ------------------------------------------------------------------------------

    fn requested(&mut self, record: &Record) {
        let at = Place::of(record);
        let cell = claimed_cell(record);
        let partitions = self.partitions.get(&record.topic).copied().unwrap_or(1).max(1);
        let misplaced = record.key.as_deref().is_some_and(|key| partition_of(key, partitions) != record.partition);
        let mut open = Requested { cell, misplaced, moved: 0, claims: None };
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

    fn open_request(&mut self, at: Place, open: Requested) {
        if let Some((open, _, after)) = self.open.requested.source(at, open) {
            self.decided(&open, after);
        }
    }

    fn outcome(&mut self, source: Place, at: Place, cell: &Cell, after: After) {
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

    fn admitted(&mut self, record: &Record, admitted: &ExchangeAdmitted) {
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

    fn rejected(&mut self, record: &Record, rejected: &ExchangeRejected) {
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

    // -- admitted: sealed, refused or dead -------------------------------------------------------------------------

    fn open_admission(&mut self, at: Place, cell: Cell) {
        if let Some((cell, _, after)) = self.open.admitted.source(at, cell) {
            self.signed(&cell, after);
        }
    }

    fn after_admission(&mut self, source: Place, at: Place, cell: &Cell, after: After) {
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

    fn signed(&mut self, admission: &Cell, after: After) {
        if let After::Dead { letter, .. } = after
            && !self.open.redone.contains(&letter)
        {
            self.count(admission, |counts| counts.dead_in_sign += 1);
            self.open.dead_letters.insert(letter, DeadLetter::Sign(admission.clone()));
        }
    }

    // -- sealed: metered, charged, delivered -----------------------------------------------------------------------

    fn sealed(&mut self, record: &Record, sealed: &ExchangeSealed) {
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
        }
    }

    fn open_metering(&mut self, at: &Place, sealed: &ExchangeSealed, cell: &Cell) {
        let usage = check::usage_of(&sealed.receipt).map(|usage| (usage.vex, usage.fu));
        if let Some((open, place, after)) = self.open.metered.source(at.clone(), Sealed { cell: cell.clone(), usage }) {
            self.metered(&open, at, place, after);
        }
        if is_priced(sealed) {
            if let Some((open, place, after)) = self.open.charged.source(at.clone(), cell.clone()) {
                self.charged(&open, at, place, after);
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

    fn open_delivery(&mut self, at: Place, cell: Cell) {
        if let Some((open, place, after)) = self.open.delivered.source(at.clone(), cell) {
            self.delivery_done(&open, &at, place, after);
        }
    }

    fn usage(&mut self, record: &Record, usage: &UsageRecorded) {
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

    fn metered(&mut self, sealed: &Sealed, source: &Place, at: Place, after: After) {
        match after {
            After::Usage { cell, vex, fu } if sealed.usage != Some((vex, fu)) => {
                let said =
                    sealed.usage.map_or("nothing readable".to_owned(), |(vex, fu)| format!("vex {vex}, fu {fu}"));
                let detail = format!("{at} has vex {vex}, fu {fu}; the receipt of {source} says {said}");
                self.wrong(at.clone(), Gap::new(GapKind::UsageDiffers, &cell, at, detail));
            }
            After::Usage { cell, .. } => self.same_cell(&sealed.cell, &cell, source, at),
            After::Dead { letter, reason, .. } => self.dead_gap(&sealed.cell, source, letter, &reason),
            After::Counted(_) | After::Posted { .. } => {}
        }
    }

    fn command(&mut self, record: &Record, command: LedgerCommand) {
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
            Found::Source(open, after) => self.charged(&open, &source, at, after),
            Found::Waits => {}
            Found::Repeat => self.repeat(at, &cell, &source),
        }
    }

    fn charged(&mut self, sealed: &Cell, source: &Place, at: Place, after: After) {
        match after {
            After::Counted(cell) => self.same_cell(sealed, &cell, source, at),
            After::Dead { letter, reason, .. } => self.dead_gap(sealed, source, letter, &reason),
            After::Usage { .. } | After::Posted { .. } => {}
        }
    }

    fn delivered(&mut self, record: &Record, delivered: &ExchangeDelivered) {
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
            Found::Source(open, after) => self.delivery_done(&open, &source, at, after),
            Found::Waits => {}
            Found::Repeat => self.repeat(at, &cell, &source),
        }
    }

    fn delivery_done(&mut self, sealed: &Cell, source: &Place, at: Place, after: After) {
        match after {
            After::Counted(cell) => self.same_cell(sealed, &cell, source, at),
            After::Dead { letter, reason, .. } => self.dead_gap(sealed, source, letter, &reason),
            After::Usage { .. } | After::Posted { .. } => {}
        }
    }

    // -- commands: posted or parked --------------------------------------------------------------------------------

    fn open_command(&mut self, at: Place, owed: Owed) {
        if let Some((open, place, after)) = self.open.settled.source(at.clone(), owed) {
            self.settled(&open, &at, place, after);
        }
    }

    fn posted(&mut self, record: &Record, posted: SettlementPosted) {
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

    fn parked(&mut self, record: &Record, parked: &SettlementParked) {
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

    fn settled(&mut self, owed: &Owed, source: &Place, at: Place, after: After) {
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
            After::Usage { .. } => {}
        }
    }

    fn book(&mut self, account: &str, currency: &str, minor: i128) {
        let key = (account.to_owned(), currency.to_owned());
        let balance = self.balances.entry(key.clone()).or_default();
        *balance = balance.saturating_add(minor);
        self.changed_balances.insert(key);
    }

    fn total(&mut self, record: &Record, total: UsageTotal) {
        let at = Place::of(record);
        let cell = Cell::new(&total.tenant, total.as_of);
        let month = self.open.usage.entry(format!("{}:{}", total.tenant, total.month)).or_default();
        month.told.insert(total.meter, (total.total, total.exchanges, at));
        self.cause(record, topic::USAGE_RECORDED, &cell);
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

    // -- dead letters and redo -------------------------------------------------------------------------------------

    fn dead(&mut self, record: &Record, step: &str) {
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
        let after = After::Dead { letter: letter.clone(), cell: None, reason: reason.clone() };
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
                    self.charged(&cell, source, at.clone(), after);
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
                    self.delivery_done(&cell, source, at, after);
                }
            }
            _ => self.dead_gap(&Cell::new(NOBODY, record.time_ms), source, letter, &reason),
        }
    }

    /// A dead letter where R10 allows none: the books stay open until it is redone.
    fn dead_gap(&mut self, cell: &Cell, source: &Place, letter: Place, reason: &str) {
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
    fn redo(&mut self, record: &Record, step: &str) {
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
                let open = Requested { cell: claimed_cell(record), misplaced: false, moved: 0, claims: None };
                self.open_request(at, open);
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
                if let Ok(sealed) = ExchangeSealed::decode(value) {
                    self.open_delivery(at, Cell::new(&sealed.tenant, sealed.admitted_at));
                }
            }
            _ => {}
        }
    }

    // -- what is left ----------------------------------------------------------------------------------------------

    /// Every source without its successor.
    pub(crate) fn unmatched(&self) -> impl Iterator<Item = Unmatched<'_>> {
        use crate::counts::{CHARGED, DECIDED, DELIVERED, METERED, SETTLED, SIGNED};
        let open = &self.open;
        let of = |equation, lacks| move |(place, cell)| Unmatched { place, cell, equation, lacks };
        let requested = open.requested.open().iter().map(|(place, open)| (place, &open.cell));
        let admitted = open.admitted.open().iter();
        let metered = open.metered.open().iter().map(|(place, open)| (place, &open.cell));
        let settled = open.settled.open().iter().map(|(place, open)| (place, &open.cell));
        requested
            .map(of(DECIDED, "an admission, refusal, replay or dead letter"))
            .chain(admitted.map(of(SIGNED, "a seal, refusal or dead letter")))
            .chain(metered.map(of(METERED, topic::USAGE_RECORDED)))
            .chain(open.charged.open().iter().map(of(CHARGED, topic::LEDGER_COMMAND)))
            .chain(settled.map(of(SETTLED, "a posting or a parked settlement")))
            .chain(open.delivered.open().iter().map(of(DELIVERED, topic::DELIVERED)))
    }

    /// Every successor whose source is not read.
    pub(crate) fn orphans(&self) -> impl Iterator<Item = Orphan<'_>> {
        use crate::counts::{CHARGED, DECIDED, DELIVERED, METERED, SETTLED, SIGNED};
        let open = &self.open;
        let edges = [
            (DECIDED, open.requested.early()),
            (SIGNED, open.admitted.early()),
            (METERED, open.metered.early()),
            (CHARGED, open.charged.early()),
            (SETTLED, open.settled.early()),
            (DELIVERED, open.delivered.early()),
        ];
        edges.into_iter().flat_map(|(equation, early)| {
            early.iter().map(move |(source, (successor, after))| Orphan {
                source,
                successor,
                cell: after.cell(),
                equation,
            })
        })
    }

    pub(crate) fn wrongs(&self) -> impl Iterator<Item = &Gap> {
        self.open.wrong.values()
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

fn is_priced(sealed: &ExchangeSealed) -> bool {
    sealed.amount.as_ref().is_some_and(|amount| amount.minor > 0)
}

/// Where a request counts while nobody has decided it: under the tenant it names only where it needs no proof, as ingest's
/// own do not (DESIGN R10).
fn claimed_cell(record: &Record) -> Cell {
    let signed = record.header(event::envelope::KEY_ID).is_some();
    let requested = record.value.as_deref().filter(|_| !signed).and_then(|value| ExchangeRequested::decode(value).ok());
    match requested {
        Some(requested) => Cell::new(&requested.tenant, record.time_ms),
        None => Cell::new(NOBODY, record.time_ms),
    }
}
