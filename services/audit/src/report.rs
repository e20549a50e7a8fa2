//! The closed books, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;

use event::time::Timestamp;
use event::wire::AuditCheckpoint;
use serde::Serialize;

use crate::books::{Books, Cell, HOUR_MS, NOBODY};
use crate::counts::{Counts, Equation, InFlight};
use crate::cut::Boundary;
use crate::gap::{Gap, GapKind};

/// Gaps named in one checkpoint; a report names all.
const GAPS_IN_CHECKPOINT_MAX: usize = 100;

/// One tenant and hour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    pub tenant: String,
    /// start of the hour, ms since the epoch
    pub hour: i64,
    /// every equation holds, nothing is in flight, nothing is wrong
    pub closed: bool,
    #[serde(flatten)]
    pub counts: Counts,
    pub in_flight: i64,
    pub gaps: Vec<Gap>,
}

/// Money of one currency over all accounts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CurrencySum {
    pub currency: String,
    pub accounts: usize,
    /// sum of all positive balances, in minor units
    pub credit: String,
    /// sum of all balances: zero, or money was made or lost
    pub sum: String,
}

/// The books up to a cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// everything requested before the cut is accounted for, once
    pub closed: bool,
    /// where the request topic was cut: `topic:partition:next offset`; empty for published checkpoints
    pub cut: Vec<String>,
    /// steps that had not passed the cut when the deadline came
    pub behind: Vec<String>,
    pub rows: Vec<Row>,
    pub totals: Counts,
    pub equations: Vec<Equation>,
    pub gaps: Vec<Gap>,
    pub balances: Vec<CurrencySum>,
}

impl Report {
    /// What the books say, with everything before `boundary` passed by every step.
    pub(crate) fn of(books: &Books, boundary: &Boundary) -> Self {
        let mut counts: BTreeMap<Cell, Counts> = books.cells.clone();
        let mut in_flight: BTreeMap<Cell, InFlight> = BTreeMap::new();
        let mut gaps: BTreeMap<Cell, Vec<Gap>> = BTreeMap::new();
        for unmatched in books.unmatched() {
            let (place, cell) = (unmatched.place, unmatched.cell);
            let cell_counts = counts.entry(cell.clone()).or_default();
            if unmatched.equation == crate::counts::DECIDED {
                cell_counts.requested += 1;
            }
            if boundary.passed(&place.topic, place.partition, place.offset) {
                let detail = format!("{place} lacks {}", unmatched.lacks);
                let gap = Gap::new(GapKind::Missing, cell, place.clone(), detail);
                gaps.entry(cell.clone()).or_default().push(gap);
            } else {
                let counted = in_flight.entry(cell.clone()).or_default();
                if let Some(slot) = counted.0.get_mut(unmatched.equation) {
                    *slot += 1;
                }
            }
        }
        for orphan in books.orphans() {
            let (source, successor) = (orphan.source, orphan.successor);
            let cell = orphan.cell.cloned().unwrap_or_else(|| Cell::new(NOBODY, 0));
            if boundary.passed(&source.topic, source.partition, source.offset) {
                let detail = format!("{successor} follows from {source}, which owes no such record");
                let gap = Gap::new(GapKind::Orphan, &cell, successor.clone(), detail);
                gaps.entry(cell).or_default().push(gap);
            } else if orphan.cell.is_some()
                && let Some(slot) = in_flight.entry(cell).or_default().0.get_mut(orphan.equation)
            {
                // Its source is still to be read: one too many on the right until then.
                *slot -= 1;
            }
        }
        for gap in books.wrongs().cloned().chain(wrong_totals(books, in_flight.is_empty())) {
            let cell = Cell { tenant: gap.tenant.clone(), hour: gap.hour };
            gaps.entry(cell).or_default().push(gap);
        }
        for cell in gaps.keys() {
            counts.entry(cell.clone()).or_default();
        }
        let rows = counts
            .into_iter()
            .map(|(cell, counts)| {
                let flying = in_flight.get(&cell).copied().unwrap_or_default();
                row(&cell, counts, flying, gaps.remove(&cell).unwrap_or_default())
            })
            .collect();
        let all_in_flight = in_flight.values().fold(InFlight::default(), |mut sum, cell| {
            sum += *cell;
            sum
        });
        Self::from_rows(rows, all_in_flight, sums(books))
    }

    /// What was published.
    pub(crate) fn of_checkpoints(checkpoints: impl Iterator<Item = AuditCheckpoint>) -> Self {
        let rows = checkpoints.map(row_of_checkpoint).collect();
        Self::from_rows(rows, InFlight::default(), Vec::new())
    }

    fn from_rows(rows: Vec<Row>, in_flight: InFlight, balances: Vec<CurrencySum>) -> Self {
        let mut totals = Counts::default();
        let mut gaps = Vec::new();
        for row in &rows {
            totals += row.counts;
            gaps.extend(row.gaps.iter().cloned());
        }
        gaps.sort();
        let zero = balances.iter().all(|sum| sum.sum == "0");
        Self {
            closed: zero && rows.iter().all(|row| row.closed),
            cut: Vec::new(),
            behind: Vec::new(),
            rows,
            totals,
            equations: totals.equations(&in_flight).to_vec(),
            gaps,
            balances,
        }
    }
}

impl Row {
    /// The record that is published.
    pub(crate) fn checkpoint(&self, passed: bool) -> AuditCheckpoint {
        let counts = self.counts;
        AuditCheckpoint {
            tenant: self.tenant.clone(),
            hour: self.hour,
            closed: passed && self.closed,
            requested: counts.requested,
            moved: counts.moved,
            admitted: counts.admitted,
            rejected: counts.rejected,
            replayed: counts.replayed,
            dead: counts.dead,
            sealed: counts.sealed,
            refused: counts.refused,
            metered: counts.metered,
            owed: counts.owed,
            posted: counts.posted,
            parked: counts.parked,
            deliveries_owed: counts.deliveries_owed,
            deliveries_recorded: counts.deliveries_recorded,
            gaps: self.gaps.iter().take(GAPS_IN_CHECKPOINT_MAX).map(ToString::to_string).collect(),
        }
    }
}

fn row(cell: &Cell, counts: Counts, in_flight: InFlight, mut gaps: Vec<Gap>) -> Row {
    gaps.sort();
    let holds = counts.equations(&in_flight).iter().all(|equation| equation.holds);
    let flying: i64 = in_flight.0.iter().map(|one| one.abs()).sum();
    Row {
        tenant: cell.tenant.clone(),
        hour: cell.hour,
        closed: holds && flying == 0 && gaps.is_empty(),
        counts,
        in_flight: flying,
        gaps,
    }
}

/// A checkpoint keeps one number of dead letters, those of canonicalise; sign's are what its equation leaves.
fn row_of_checkpoint(checkpoint: AuditCheckpoint) -> Row {
    let counts = Counts {
        requested: checkpoint.requested,
        moved: checkpoint.moved,
        admitted: checkpoint.admitted,
        rejected: checkpoint.rejected,
        replayed: checkpoint.replayed,
        dead: checkpoint.dead,
        sealed: checkpoint.sealed,
        refused: checkpoint.refused,
        dead_in_sign: if checkpoint.closed { checkpoint.admitted - checkpoint.sealed - checkpoint.refused } else { 0 },
        metered: checkpoint.metered,
        priced: checkpoint.owed,
        owed: checkpoint.owed,
        posted: checkpoint.posted,
        parked: checkpoint.parked,
        deliveries_owed: checkpoint.deliveries_owed,
        deliveries_recorded: checkpoint.deliveries_recorded,
    };
    let cell = Cell { tenant: checkpoint.tenant, hour: checkpoint.hour };
    let gaps = checkpoint.gaps.into_iter().map(|detail| published_gap(&cell, detail)).collect();
    Row { tenant: cell.tenant.clone(), hour: cell.hour, closed: checkpoint.closed, counts, in_flight: 0, gaps }
}

/// A published gap is a sentence: `kind: record ...`.
fn published_gap(cell: &Cell, text: String) -> Gap {
    const KINDS: [GapKind; 8] = [
        GapKind::Missing,
        GapKind::Orphan,
        GapKind::Repeat,
        GapKind::Dead,
        GapKind::UsageDiffers,
        GapKind::TotalDiffers,
        GapKind::Unbalanced,
        GapKind::Misplaced,
    ];
    let (kind, detail) = text.split_once(": ").unwrap_or(("missing", text.as_str()));
    let kind = KINDS.into_iter().find(|known| known.as_str() == kind).unwrap_or(GapKind::Missing);
    let at = detail.split(' ').next().and_then(|place| place.parse().ok());
    let nowhere = || crate::place::Place { topic: event::topic::AUDIT_CHECKPOINT.into(), partition: 0, offset: 0 };
    Gap::new(kind, cell, at.unwrap_or_else(nowhere), detail.to_owned())
}

/// Totals that are not the sums. A total of fewer exchanges is late while something is in flight.
fn wrong_totals(books: &Books, nothing_in_flight: bool) -> Vec<Gap> {
    let mut gaps = Vec::new();
    for (tenant_month, usage) in &books.open.usage {
        for (meter, (total, exchanges, place)) in &usage.told {
            let ours = if meter == "vex" { usage.vex } else { usage.fu };
            let late = *exchanges < usage.exchanges && !nothing_in_flight;
            if late || (*exchanges == usage.exchanges && *total == ours) {
                continue;
            }
            let (tenant, month) = tenant_month.split_once(':').unwrap_or((tenant_month, ""));
            let detail = format!(
                "{place} says {meter} of {month} is {total} over {exchanges} exchanges; {} exchanges recorded {ours}",
                usage.exchanges
            );
            let at = event::time::Month::parse(month).map_or(0, |month| month.start().as_millis());
            gaps.push(Gap::new(GapKind::TotalDiffers, &Cell::new(tenant, at), place.clone(), detail));
        }
    }
    gaps
}

fn sums(books: &Books) -> Vec<CurrencySum> {
    let mut sums: BTreeMap<&str, (usize, i128, i128)> = BTreeMap::new();
    for ((_, currency), minor) in &books.balances {
        let (accounts, credit, sum) = sums.entry(currency).or_default();
        *accounts += 1;
        *credit = credit.saturating_add((*minor).max(0));
        *sum = sum.saturating_add(*minor);
    }
    sums.into_iter()
        .map(|(currency, (accounts, credit, sum))| CurrencySum {
            currency: currency.to_owned(),
            accounts,
            credit: credit.to_string(),
            sum: sum.to_string(),
        })
        .collect()
}

fn hour_text(hour: i64) -> String {
    let time = Timestamp::from_millis(hour.div_euclid(HOUR_MS).saturating_mul(HOUR_MS));
    time.map_or_else(|_| hour.to_string(), |time| time.to_string().get(..13).unwrap_or_default().replace('T', " "))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headings = [
            "tenant",
            "hour (UTC)",
            "requested",
            "admitted",
            "rejected",
            "replayed",
            "dead",
            "sealed",
            "refused",
            "metered",
            "posted",
            "parked",
            "delivered",
            "books",
        ];
        let mut lines: Vec<Vec<String>> = vec![headings.iter().map(|heading| (*heading).to_owned()).collect()];
        let line = |tenant: &str, hour: String, counts: &Counts, books: String| {
            let numbers = [
                counts.requested,
                counts.admitted,
                counts.rejected,
                counts.replayed,
                counts.dead + counts.dead_in_sign,
                counts.sealed,
                counts.refused,
                counts.metered,
                counts.posted,
                counts.parked,
                counts.deliveries_recorded,
            ];
            let mut cells = vec![tenant.to_owned(), hour];
            cells.extend(numbers.iter().map(ToString::to_string));
            cells.push(books);
            cells
        };
        for row in &self.rows {
            let books = match (row.closed, row.in_flight) {
                (true, _) => "closed".to_owned(),
                (false, 0) => "OPEN".to_owned(),
                (false, flying) => format!("open, {flying} on the way"),
            };
            lines.push(line(&row.tenant, hour_text(row.hour), &row.counts, books));
        }
        let verdict = if self.closed { "closed" } else { "OPEN" };
        lines.push(line("all", String::new(), &self.totals, verdict.to_owned()));
        table(f, &lines)?;
        writeln!(f)?;
        for equation in &self.equations {
            let flying =
                if equation.in_flight == 0 { String::new() } else { format!(" + {} on the way", equation.in_flight) };
            let mark = if equation.holds { "holds" } else { "BROKEN" };
            writeln!(f, "{mark:>6}  {}: {} = {}{flying}", equation.name, equation.left, equation.right)?;
        }
        for sum in &self.balances {
            let mark = if sum.sum == "0" { "holds" } else { "BROKEN" };
            writeln!(
                f,
                "{mark:>6}  all balances sum to zero: {} over {} accounts of {} (credit {})",
                sum.sum, sum.accounts, sum.currency, sum.credit
            )?;
        }
        for step in &self.behind {
            writeln!(f, "{step} had not passed the cut when the deadline came")?;
        }
        for gap in &self.gaps {
            writeln!(f, "gap: {gap}")?;
        }
        Ok(())
    }
}

/// Columns as wide as their widest text: names to the left, numbers to the right.
fn table(f: &mut fmt::Formatter<'_>, lines: &[Vec<String>]) -> fmt::Result {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|text| text.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    for line in lines {
        let mut text = String::new();
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            if column > 0 {
                text.push_str("  ");
            }
            let named = column < 2 || column + 1 == columns;
            text.push_str(&if named { format!("{cell:<width$}") } else { format!("{cell:>width$}") });
        }
        writeln!(f, "{}", text.trim_end())?;
    }
    Ok(())
}
