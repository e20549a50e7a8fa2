//! What nobody reads any more, and the compaction filters that give its space back without a tombstone for each entry.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use fjall::compaction::filter::{CompactionFilter, CompactionFilterResult, Context, Factory, ItemAccessor, Verdict};
use parking_lot::RwLock;

use super::codec::Reader;
use super::keys::last_offset_of;

/// Starts of partitions that retention has moved, and prefixes of cells that were forgotten.
#[derive(Debug, Default)]
pub(super) struct Expired {
    starts: RwLock<HashMap<(u32, u32), u64>>,
    /// Of whole cell keys. No prefix lies inside another, so that one look decides.
    prefixes: RwLock<BTreeSet<Vec<u8>>>,
}

impl Expired {
    pub(super) fn trim(&self, topic: u32, partition: u32, start: u64) {
        self.starts.write().insert((topic, partition), start);
    }

    pub(super) fn forget(&self, cell_prefix: Vec<u8>) {
        let mut prefixes = self.prefixes.write();
        if !covers(&prefixes, &cell_prefix) {
            prefixes.retain(|known| !known.starts_with(&cell_prefix));
            prefixes.insert(cell_prefix);
        }
    }

    pub(super) fn has_forgotten(&self, cell_key: &[u8]) -> bool {
        covers(&self.prefixes.read(), cell_key)
    }

    fn is_trimmed(&self, record_key: &[u8]) -> bool {
        let mut reader = Reader::new(record_key);
        let (Ok(topic), Ok(partition)) = (reader.array(), reader.array()) else { return false };
        let Ok(last_offset) = last_offset_of(record_key) else { return false };
        let place = (u32::from_be_bytes(topic), u32::from_be_bytes(partition));
        self.starts.read().get(&place).is_some_and(|start| last_offset < *start)
    }
}

/// Only the greatest prefix up to the key can begin it, as none lies inside another.
fn covers(prefixes: &BTreeSet<Vec<u8>>, key: &[u8]) -> bool {
    let upto = (Bound::Unbounded, Bound::Included(key));
    prefixes.range::<[u8], _>(upto).next_back().is_some_and(|prefix| key.starts_with(prefix))
}

type Assigner = Arc<dyn Fn(&str) -> Option<Arc<dyn Factory>> + Send + Sync>;

pub(super) fn filters(expired: &Arc<Expired>) -> Assigner {
    let expired = Arc::clone(expired);
    Arc::new(move |keyspace| {
        let is_expired: fn(&Expired, &[u8]) -> bool = match keyspace {
            "records" => Expired::is_trimmed,
            "state" => Expired::has_forgotten,
            _ => return None,
        };
        Some(Arc::new(Filters { expired: AssertUnwindSafe(Arc::clone(&expired)), is_expired }))
    })
}

struct Filters {
    /// Its locks are parking_lot's, which do not poison: a panic elsewhere leaves them usable.
    expired: AssertUnwindSafe<Arc<Expired>>,
    is_expired: fn(&Expired, &[u8]) -> bool,
}

impl Factory for Filters {
    fn name(&self) -> &str {
        "expired"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        Box::new(Filter { expired: Arc::clone(&self.expired), is_expired: self.is_expired })
    }
}

struct Filter {
    expired: Arc<Expired>,
    is_expired: fn(&Expired, &[u8]) -> bool,
}

impl CompactionFilter for Filter {
    /// `Destroy` leaves no tombstone, so that an older version may show again: nobody reads it.
    fn filter_item(&mut self, item: ItemAccessor<'_>, _: &Context) -> CompactionFilterResult {
        let is_expired = (self.is_expired)(&self.expired, item.key());
        Ok(if is_expired { Verdict::Destroy } else { Verdict::Keep })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_look_finds_the_prefix_that_covers_a_key() {
        let expired = Expired::default();
        for prefix in ["ab", "a", "b1", "b15", "c"] {
            expired.forget(prefix.as_bytes().to_vec());
        }
        for (key, forgotten) in [
            ("a", true),
            ("abz", true),
            ("ac", true),
            ("b", false),
            ("b1", true),
            ("b159", true),
            ("b2", false),
            ("d", false),
        ] {
            assert_eq!(expired.has_forgotten(key.as_bytes()), forgotten, "{key}");
        }
        assert_eq!(expired.prefixes.read().len(), 3);
    }
}
