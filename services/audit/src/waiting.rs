//! What the closing of the books still waits for.

use std::collections::BTreeMap;

use log::Position;
use serde::{Deserialize, Serialize};

use crate::books::Books;
use crate::counts::{Counts, InFlight};
use crate::cut::{Boundary, Cut};
use crate::place::Place;

/// Records named for each equation.
const NAMED_MAX: usize = 5;

/// Told while [`crate::close_and_tell`] waits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// records of the backlog that are not read yet
    pub unread: u64,
    /// steps that have not passed the cut
    pub behind: Vec<String>,
    /// equations that are not whole yet
    pub open: Vec<OpenEquation>,
}

/// Records before the cut that lack what follows from them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenEquation {
    pub equation: String,
    /// what they lack
    pub lacks: String,
    pub count: u64,
    /// the first of them
    pub records: Vec<Place>,
}

impl Waiting {
    /// While the backlog is read.
    pub(crate) fn for_backlog(books: &Books, ends: &[Position]) -> Self {
        let left = |end: &Position| {
            let next = books.next.get(&(end.topic.clone(), end.partition)).copied().unwrap_or(0);
            end.offset.saturating_sub(next)
        };
        Self { unread: ends.iter().map(left).sum(), ..Self::default() }
    }

    /// While the steps pass the cut, and what follows from it is drained.
    pub(crate) fn for_cut(books: &Books, cut: &Cut) -> Self {
        Self { unread: 0, behind: cut.behind().to_vec(), open: open(books, cut.boundary()) }
    }

    /// Nothing is waited for.
    pub fn is_over(&self) -> bool {
        *self == Self::default()
    }
}

fn open(books: &Books, boundary: &Boundary) -> Vec<OpenEquation> {
    let equations = Counts::default().equations(&InFlight::default());
    let mut open: BTreeMap<usize, OpenEquation> = BTreeMap::new();
    for unmatched in books.unmatched() {
        let place = unmatched.place;
        if !boundary.passed(&place.topic, place.partition, place.offset) {
            continue;
        }
        let of_equation = open.entry(unmatched.equation).or_insert_with(|| OpenEquation {
            equation: equations.get(unmatched.equation).map_or("", |equation| equation.name).to_owned(),
            lacks: unmatched.lacks.to_owned(),
            count: 0,
            records: Vec::new(),
        });
        of_equation.count += 1;
        if of_equation.records.len() < NAMED_MAX {
            of_equation.records.push(place.clone());
        }
    }
    open.into_values().collect()
}
