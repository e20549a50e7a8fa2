//! Prefixes of cells that were forgotten: hidden at once, and given back by compaction without a tombstone for each.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use fjall::compaction::filter::{CompactionFilter, CompactionFilterResult, Context, Factory, ItemAccessor, Verdict};
use parking_lot::RwLock;

/// No prefix lies inside another, so that one look decides.
#[derive(Clone, Debug, Default)]
pub(super) struct Forgotten(Arc<RwLock<BTreeSet<Vec<u8>>>>);

impl Forgotten {
    pub(super) fn add(&self, prefix: &[u8]) {
        let mut prefixes = self.0.write();
        if !covers(&prefixes, prefix) {
            prefixes.retain(|known| !known.starts_with(prefix));
            prefixes.insert(prefix.to_vec());
        }
    }

    pub(super) fn covers(&self, cell_key: &[u8]) -> bool {
        covers(&self.0.read(), cell_key)
    }

    pub(super) fn clear(&self) {
        self.0.write().clear();
    }

    pub(super) fn filter(&self) -> Arc<dyn Factory> {
        Arc::new(Filters(AssertUnwindSafe(self.clone())))
    }
}

/// Only the greatest prefix up to the key can begin it, as none lies inside another.
fn covers(prefixes: &BTreeSet<Vec<u8>>, key: &[u8]) -> bool {
    let upto = (Bound::Unbounded, Bound::Included(key));
    prefixes.range::<[u8], _>(upto).next_back().is_some_and(|prefix| key.starts_with(prefix))
}

/// Its lock is parking_lot's, which does not poison: a panic elsewhere leaves it usable.
struct Filters(AssertUnwindSafe<Forgotten>);

impl Factory for Filters {
    fn name(&self) -> &str {
        "forgotten"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        Box::new(Filter(self.0.0.clone()))
    }
}

struct Filter(Forgotten);

impl CompactionFilter for Filter {
    /// `Destroy` leaves no tombstone, so that an older version may show again: it is hidden as well.
    fn filter_item(&mut self, item: ItemAccessor<'_>, _: &Context) -> CompactionFilterResult {
        Ok(if self.0.covers(item.key()) { Verdict::Destroy } else { Verdict::Keep })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_look_finds_the_prefix_that_covers_a_key() {
        let forgotten = Forgotten::default();
        for prefix in ["ab", "a", "b1", "b15", "c"] {
            forgotten.add(prefix.as_bytes());
        }
        for (key, covered) in [("a", true), ("abz", true), ("b", false), ("b1", true), ("b159", true), ("b2", false)] {
            assert_eq!(forgotten.covers(key.as_bytes()), covered, "{key}");
        }
        assert_eq!(forgotten.0.read().len(), 3);
    }
}
