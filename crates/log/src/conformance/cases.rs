//! The list of what every log must keep.

mod edges;
mod groups;
mod state;
mod transactions;

use super::Case;

pub fn cases() -> Vec<Case> {
    [transactions::CASES, state::CASES, groups::CASES, edges::CASES]
        .concat()
        .into_iter()
        .map(|(name, run)| Case { name, run })
        .collect()
}

/// A name that is a sentence, and what checks it.
type Entry = (&'static str, fn(&super::World<'_>) -> Result<(), super::Failure>);
