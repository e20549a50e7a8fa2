//! What a local store lies on: a fjall database in a directory, or the memory of a simulation.

use std::path::Path;
use std::sync::Arc;

use fjall::{Database, Keyspace, KeyspaceCreateOptions};

use super::forget::Forgotten;
#[cfg(feature = "hostile")]
use super::hostile::disk::{MemoryDisk, MemoryFiles};

/// Small databases, many of them: one for each partition of each step with state.
const CACHE_BYTES: u64 = 16 << 20;
const MEMTABLE_BYTES: u64 = 16 << 20;

/// Where stores are opened.
#[derive(Clone, Debug)]
pub(super) enum Disk {
    Directory,
    #[cfg(feature = "hostile")]
    Memory(MemoryDisk),
}

/// What one store has open.
pub(super) enum Files {
    Directory {
        database: Database,
        cells: Keyspace,
        head: Keyspace,
    },
    #[cfg(feature = "hostile")]
    Memory(MemoryFiles),
}

/// Which part of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Cells,
    Head,
}

/// One key of a batch; `None` removes it.
pub(super) struct Change<'a> {
    pub(super) part: Part,
    pub(super) key: &'a [u8],
    pub(super) value: Option<&'a [u8]>,
}

impl Disk {
    /// Opens what lies at `path`, or makes it. `forgotten` hides cells that compaction may then give back.
    pub(super) fn open(&self, path: &Path, forgotten: &Forgotten) -> Result<Files, fjall::Error> {
        match self {
            Self::Directory => open(path, forgotten),
            #[cfg(feature = "hostile")]
            Self::Memory(disk) => disk.open(path).map(Files::Memory),
        }
    }

    pub(super) fn remove(&self, path: &Path) -> std::io::Result<()> {
        match self {
            Self::Directory => std::fs::remove_dir_all(path),
            #[cfg(feature = "hostile")]
            Self::Memory(disk) => {
                disk.remove(path);
                Ok(())
            }
        }
    }
}

fn open(path: &Path, forgotten: &Forgotten) -> Result<Files, fjall::Error> {
    std::fs::create_dir_all(path)?;
    let for_filter = forgotten.clone();
    let database = Database::builder(path)
        .worker_threads(1)
        .cache_size(CACHE_BYTES)
        .with_compaction_filter_factories(Arc::new(move |keyspace| (keyspace == "cells").then(|| for_filter.filter())))
        .open()?;
    let cells = database.keyspace("cells", || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES))?;
    let head = database.keyspace("head", KeyspaceCreateOptions::default)?;
    Ok(Files::Directory { database, cells, head })
}

impl Files {
    pub(super) fn head(&self, key: &[u8]) -> Result<Option<Vec<u8>>, fjall::Error> {
        match self {
            Self::Directory { head, .. } => Ok(head.get(key)?.map(|value| value.to_vec())),
            #[cfg(feature = "hostile")]
            Self::Memory(files) => Ok(files.get(Part::Head, key)),
        }
    }

    /// The keys of the head that begin so.
    pub(super) fn head_keys(&self, prefix: u8) -> Result<Vec<Vec<u8>>, fjall::Error> {
        match self {
            Self::Directory { head, .. } => {
                head.prefix([prefix]).map(|entry| entry.into_inner().map(|(key, _)| key.to_vec())).collect()
            }
            #[cfg(feature = "hostile")]
            Self::Memory(files) => Ok(files.head_keys(prefix)),
        }
    }

    /// Writes all of it or nothing.
    pub(super) fn write<'a>(&self, changes: impl Iterator<Item = Change<'a>>) -> Result<(), fjall::Error> {
        match self {
            Self::Directory { database, cells, head } => {
                let mut batch = database.batch();
                for change in changes {
                    let keyspace = match change.part {
                        Part::Cells => cells,
                        Part::Head => head,
                    };
                    match change.value {
                        Some(value) => batch.insert(keyspace, change.key, value),
                        None => batch.remove(keyspace, change.key),
                    }
                }
                batch.commit()
            }
            #[cfg(feature = "hostile")]
            Self::Memory(files) => {
                files.write(changes);
                Ok(())
            }
        }
    }

    pub(super) fn clear_cells(&self) -> Result<(), fjall::Error> {
        match self {
            Self::Directory { cells, .. } => cells.clear(),
            #[cfg(feature = "hostile")]
            Self::Memory(files) => {
                files.clear_cells();
                Ok(())
            }
        }
    }

    /// Adds the value of a cell to `out`; false where there is none.
    pub(super) fn get(&self, key: &[u8], out: &mut Vec<u8>) -> Result<bool, fjall::Error> {
        match self {
            Self::Directory { cells, .. } => {
                let found = cells.get(key)?;
                out.extend_from_slice(found.as_deref().unwrap_or_default());
                Ok(found.is_some())
            }
            #[cfg(feature = "hostile")]
            Self::Memory(files) => {
                let found = files.get(Part::Cells, key);
                out.extend_from_slice(found.as_deref().unwrap_or_default());
                Ok(found.is_some())
            }
        }
    }

    /// Cells from `from` on in order of their bytes, until `visit` answers false.
    pub(super) fn scan(&self, from: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), fjall::Error> {
        match self {
            Self::Directory { cells, .. } => {
                for entry in cells.range(from..) {
                    let (key, value) = entry.into_inner()?;
                    if !visit(&key, &value) {
                        break;
                    }
                }
            }
            #[cfg(feature = "hostile")]
            Self::Memory(files) => files.scan(from, visit),
        }
        Ok(())
    }
}
