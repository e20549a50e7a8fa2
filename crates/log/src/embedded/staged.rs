//! What a transaction has gathered and nobody else sees: outputs as finished frames, cells, forgotten prefixes.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use super::codec::{Piece, RECORD_BYTES_MAX};
use super::committer::StagedOutput;
use super::fault::fatal;
use super::store::{Store, TopicEntry};
use crate::{Fault, Output, Topic, partition_of};

/// All that one transaction may stage. The runner commits long before.
const TRANSACTION_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Cells by whole key; `None` removes.
pub(super) type Cells = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

const CELL_KEY_BYTES_MAX: usize = 32 * 1024;

#[derive(Default)]
pub(super) struct Staged {
    pub(super) outputs: Vec<StagedOutput>,
    places: HashMap<(u32, u32), usize>,
    pub(super) cells: Cells,
    pub(super) forgotten: Vec<Vec<u8>>,
    byte_count: usize,
}

impl Staged {
    pub(super) fn is_empty(&self) -> bool {
        self.outputs.is_empty() && self.cells.is_empty() && self.forgotten.is_empty()
    }

    pub(super) fn emit(&mut self, entry: &Arc<TopicEntry>, out: &Output<'_>) -> Result<(), Fault> {
        let partition = partition_for(entry, out)?;
        let outputs = &mut self.outputs;
        let index = *self.places.entry((entry.id, partition)).or_insert_with(|| {
            outputs.push(StagedOutput { entry: Arc::clone(entry), partition, pieces: vec![Piece::default()] });
            outputs.len() - 1
        });
        let Some(output) = self.outputs.get_mut(index) else { return Ok(()) };
        if output.pieces.last().is_none_or(Piece::is_full) {
            output.pieces.push(Piece::default());
        }
        let Some(piece) = output.pieces.last_mut() else { return Ok(()) };
        let before = piece.byte_count();
        if !piece.push(out) {
            return Err(too_large(out.topic));
        }
        let added = piece.byte_count() - before;
        self.grow(added)
    }

    pub(super) fn put(&mut self, cell_key: Vec<u8>, value: Option<&[u8]>) -> Result<(), Fault> {
        refuse_long_key(&cell_key)?;
        let added = cell_key.len() + value.map_or(0, <[u8]>::len);
        self.cells.insert(cell_key, value.map(<[u8]>::to_vec));
        self.grow(added)
    }

    pub(super) fn forget(&mut self, cell_prefix: Vec<u8>) -> Result<(), Fault> {
        refuse_long_key(&cell_prefix)?;
        self.cells.retain(|key, _| !key.starts_with(&cell_prefix));
        let added = cell_prefix.len();
        self.forgotten.push(cell_prefix);
        self.grow(added)
    }

    pub(super) fn has_forgotten(&self, cell_key: &[u8]) -> bool {
        self.forgotten.iter().any(|prefix| cell_key.starts_with(prefix))
    }

    /// `Some` if this transaction has put or removed the cell.
    pub(super) fn cell(&self, cell_key: &[u8]) -> Option<Option<&[u8]>> {
        self.cells.get(cell_key).map(Option::as_deref)
    }

    /// The staged cells within a range of whole cell keys.
    pub(super) fn cells(&self, from: &[u8], to: Bound<&[u8]>) -> impl Iterator<Item = (&Vec<u8>, &Option<Vec<u8>>)> {
        self.cells.range::<[u8], _>((Bound::Included(from), to))
    }

    pub(super) fn cell_keys(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.cells.keys().chain(&self.forgotten)
    }

    fn grow(&mut self, added: usize) -> Result<(), Fault> {
        self.byte_count += added;
        if self.byte_count > TRANSACTION_BYTES_MAX {
            let detail = format!("a transaction holds at most {TRANSACTION_BYTES_MAX} bytes: commit more often");
            return Err(fatal("transaction_too_large", detail));
        }
        Ok(())
    }
}

/// The database writes the length of a key in 16 bits and does not look whether it fits.
fn refuse_long_key(cell_key: &[u8]) -> Result<(), Fault> {
    if cell_key.len() > CELL_KEY_BYTES_MAX {
        return Err(fatal("cell_key_too_long", format!("{} bytes; at most {CELL_KEY_BYTES_MAX}", cell_key.len())));
    }
    Ok(())
}

/// Where a record goes: as asked, or where its key belongs.
pub(super) fn partition_for(entry: &TopicEntry, out: &Output<'_>) -> Result<u32, Fault> {
    let partition = match (out.partition, out.key) {
        (Some(partition), _) => partition,
        (None, Some(key)) => partition_of(key, entry.spec.partitions),
        (None, None) => {
            return Err(fatal(
                "record_without_key",
                format!("a record for {} has neither key nor partition", out.topic),
            ));
        }
    };
    if partition >= entry.spec.partitions {
        return Err(fatal("partition_missing", format!("{}-{partition} does not exist", out.topic)));
    }
    Ok(partition)
}

pub(super) fn too_large(topic: &Topic) -> Fault {
    fatal("record_too_large", format!("a record for {topic} has more than {RECORD_BYTES_MAX} bytes"))
}

/// Topics by name without the store's lock: a session asks for the same few with every record.
#[derive(Default)]
pub(super) struct TopicCache(HashMap<Topic, Arc<TopicEntry>>);

impl TopicCache {
    pub(super) fn get(&mut self, store: &Store, topic: &Topic) -> Result<Arc<TopicEntry>, Fault> {
        if let Some(entry) = self.0.get(topic) {
            return Ok(Arc::clone(entry));
        }
        let entry = store.require_topic(topic)?;
        self.0.insert(topic.clone(), Arc::clone(&entry));
        Ok(entry)
    }
}
