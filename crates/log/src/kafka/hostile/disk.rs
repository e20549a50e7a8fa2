//! Local stores in memory: what a process had written stays when it is killed; what a machine had not synced may go.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::super::disk::{Change, Part};

/// How many batches a crash of the machine can take back.
const UNSYNCED_MAX: usize = 8;

type Content = BTreeMap<(Part, Vec<u8>), Vec<u8>>;

/// The disk of one machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryDisk {
    stores: Arc<Mutex<BTreeMap<PathBuf, Arc<Mutex<Stored>>>>>,
}

#[derive(Debug, Default)]
struct Stored {
    content: Content,
    /// What it was before the last batches, the oldest first.
    before: VecDeque<Content>,
    /// The process that has it open.
    holder: Weak<()>,
}

/// One store that is open.
pub(crate) struct MemoryFiles {
    stored: Arc<Mutex<Stored>>,
    /// The lock on the store.
    _held: Arc<()>,
}

impl MemoryDisk {
    pub(crate) fn open(&self, path: &Path) -> Result<MemoryFiles, fjall::Error> {
        let stored = Arc::clone(self.stores.lock().entry(path.to_owned()).or_default());
        let held = Arc::new(());
        let mut taken = stored.lock();
        if taken.holder.upgrade().is_some() {
            return Err(fjall::Error::Locked);
        }
        taken.holder = Arc::downgrade(&held);
        drop(taken);
        Ok(MemoryFiles { stored, _held: held })
    }

    pub(crate) fn remove(&self, path: &Path) {
        self.stores.lock().remove(path);
    }

    /// Every store is lost.
    pub(super) fn lose(&self) {
        self.stores.lock().clear();
    }

    /// Takes back up to `batches` of every store, as a crash of the machine does.
    pub(super) fn roll_back(&self, batches: usize) {
        for stored in self.stores.lock().values_mut() {
            let mut taken = stored.lock();
            for _ in 0..batches {
                if let Some(before) = taken.before.pop_back() {
                    taken.content = before;
                }
            }
        }
    }
}

impl Stored {
    fn change(&mut self, change: impl FnOnce(&mut Content)) {
        self.before.push_back(self.content.clone());
        if self.before.len() > UNSYNCED_MAX {
            self.before.pop_front();
        }
        change(&mut self.content);
    }
}

impl MemoryFiles {
    pub(crate) fn get(&self, part: Part, key: &[u8]) -> Option<Vec<u8>> {
        self.stored.lock().content.get(&(part, key.to_vec())).cloned()
    }

    pub(crate) fn head_keys(&self, prefix: u8) -> Vec<Vec<u8>> {
        let stored = self.stored.lock();
        let keys = stored.content.keys().filter(|(part, key)| *part == Part::Head && key.first() == Some(&prefix));
        keys.map(|(_, key)| key.clone()).collect()
    }

    pub(crate) fn write<'a>(&self, changes: impl Iterator<Item = Change<'a>>) {
        self.stored.lock().change(|content| {
            for Change { part, key, value } in changes {
                match value {
                    Some(value) => content.insert((part, key.to_vec()), value.to_vec()),
                    None => content.remove(&(part, key.to_vec())),
                };
            }
        });
    }

    pub(crate) fn clear_cells(&self) {
        self.stored.lock().change(|content| content.retain(|(part, _), _| *part != Part::Cells));
    }

    pub(crate) fn scan(&self, from: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) {
        // A copy: `visit` may ask the store again.
        let from = Bound::Included((Part::Cells, from.to_vec()));
        let below = Bound::Excluded((Part::Head, Vec::new()));
        let stored = self.stored.lock();
        let cells = stored.content.range((from, below)).map(|(at, value)| (at.1.clone(), value.clone()));
        let cells = cells.collect::<Vec<_>>();
        drop(stored);
        for (key, value) in cells {
            if !visit(&key, &value) {
                return;
            }
        }
    }
}
