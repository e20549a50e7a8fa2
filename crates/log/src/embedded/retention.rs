//! What the log gives back by itself: records past their retention, and on compacted topics those that a newer one of the
//! same key has replaced.
//!
//! Retention moves the start of a partition (one small write); whole tables below it are dropped at once and the rest when
//! they are next compacted. Compaction rewrites the chunks that hold replaced records.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fjall::AbstractTree;

use super::codec::{Chunk, Piece};
use super::committer::{Job, Queue};
use super::control::Control;
use super::fault::{malformed_fault, read_fault};
use super::keys::{last_offset_of, record_key};
use super::store::{Store, TopicEntry};
use crate::{Cleanup, Fault};

/// How often the log tidies up.
pub(super) const TIDY_EVERY: Duration = Duration::from_secs(60);
/// How long a removal (a record without value) stays on a compacted topic, for readers that are behind.
const REMOVAL_KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// Chunks that one write replaces, at most.
const REWRITTEN_CHUNKS_MAX: usize = 64;

/// Remembers between two rounds what has already been compacted.
#[derive(Default)]
pub(super) struct Tidier {
    compacted_to: HashMap<(u32, u32), u64>,
}

impl Tidier {
    pub(super) fn tidy(&mut self, store: &Store, queue: &Queue, now_ms: i64) -> Result<(), Fault> {
        for entry in store.topics() {
            for partition in 0..entry.spec.partitions {
                match entry.spec.cleanup {
                    Cleanup::Delete { retention: None } => {}
                    Cleanup::Delete { retention: Some(retention) } => {
                        trim(store, queue, (&entry, partition), before(now_ms, retention))?;
                    }
                    Cleanup::Compact => self.compact(store, queue, (&entry, partition), now_ms)?,
                    Cleanup::CompactDelete { retention } => {
                        trim(store, queue, (&entry, partition), before(now_ms, retention))?;
                        self.compact(store, queue, (&entry, partition), now_ms)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Compacts when at least half of what the partition holds is newer than the last time.
    fn compact(
        &mut self,
        store: &Store,
        queue: &Queue,
        place: (&Arc<TopicEntry>, u32),
        now_ms: i64,
    ) -> Result<(), Fault> {
        let (entry, partition) = place;
        let (start, end) = (entry.start(partition), entry.end(partition));
        let compacted_to = self.compacted_to.entry((entry.id, partition)).or_insert(start);
        if end.saturating_sub(*compacted_to) <= compacted_to.saturating_sub(start) {
            return Ok(());
        }
        let newest = newest_of_each_key(store, place)?;
        let removal_limit_ms = before(now_ms, REMOVAL_KEPT);
        let mut rewritten = Vec::new();
        for guard in store.records.range(record_key(entry.id, partition, start)..record_key(entry.id, partition, end)) {
            let (key, value) = guard.into_inner().map_err(read_fault)?;
            let last_offset = last_offset_of(&key).map_err(malformed_fault)?;
            let chunk = Chunk::parse(Bytes::from(value)).map_err(malformed_fault)?;
            if let Some(kept) = without_replaced(&chunk, &newest, removal_limit_ms)? {
                rewritten.push((last_offset, kept));
            }
            if rewritten.len() >= REWRITTEN_CHUNKS_MAX {
                rewrite(queue, place, std::mem::take(&mut rewritten))?;
            }
        }
        rewrite(queue, place, rewritten)?;
        *compacted_to = end;
        Ok(())
    }
}

type Replacement = (u64, Option<Bytes>);

fn rewrite(queue: &Queue, (entry, partition): (&Arc<TopicEntry>, u32), chunks: Vec<Replacement>) -> Result<(), Fault> {
    if chunks.is_empty() {
        return Ok(());
    }
    queue.ask(|reply| Job::Control(Control::Rewrite { entry: Arc::clone(entry), partition, chunks, reply }))
}

fn newest_of_each_key(
    store: &Store,
    (entry, partition): (&Arc<TopicEntry>, u32),
) -> Result<HashMap<Vec<u8>, u64>, Fault> {
    let bounds =
        record_key(entry.id, partition, entry.start(partition))..record_key(entry.id, partition, entry.end(partition));
    let mut newest = HashMap::new();
    for guard in store.records.range(bounds) {
        let chunk = Chunk::parse(Bytes::from(guard.value().map_err(read_fault)?)).map_err(malformed_fault)?;
        let read = chunk.frames(|offset, frame| {
            if let (Some(key), _) = frame.key()? {
                newest.insert(key.to_vec(), offset);
            }
            Ok(true)
        });
        read.map_err(malformed_fault)?;
    }
    Ok(newest)
}

/// `None`: the chunk stays as it is; `Some(None)`: nothing of it stays.
fn without_replaced(
    chunk: &Chunk,
    newest: &HashMap<Vec<u8>, u64>,
    removal_limit_ms: i64,
) -> Result<Option<Option<Bytes>>, Fault> {
    let (mut kept, mut deltas) = (Piece::default(), Vec::new());
    let read = chunk.frames(|offset, frame| {
        let (key, has_value) = frame.key()?;
        let is_newest = key.is_none_or(|key| newest.get(key).is_none_or(|newest| *newest <= offset));
        let is_old_removal = !has_value && key.is_some() && chunk.time_ms < removal_limit_ms;
        if is_newest && !is_old_removal {
            kept.push_frame(frame.bytes());
            deltas.extend(u32::try_from(offset - chunk.base));
        }
        Ok(true)
    });
    read.map_err(malformed_fault)?;
    if kept.count == chunk.count {
        return Ok(None);
    }
    Ok(Some((kept.count > 0).then(|| kept.into_sparse_chunk(chunk.base, chunk.time_ms, &deltas))))
}

/// Moves the start to the first chunk that is younger than the limit, and drops the tables that lie wholly below.
fn trim(store: &Store, queue: &Queue, (entry, partition): (&Arc<TopicEntry>, u32), limit_ms: i64) -> Result<(), Fault> {
    let (start, end) = (entry.start(partition), entry.end(partition));
    if start == end {
        return Ok(());
    }
    let mut new_start = end;
    for guard in store.records.range(record_key(entry.id, partition, start)..record_key(entry.id, partition, end)) {
        let chunk = Chunk::parse(Bytes::from(guard.value().map_err(read_fault)?)).map_err(malformed_fault)?;
        if chunk.time_ms >= limit_ms {
            new_start = chunk.base.max(start);
            break;
        }
    }
    if new_start == start {
        return Ok(());
    }
    let entry_moved = Arc::clone(entry);
    queue.ask(|reply| Job::Control(Control::Trim { entry: entry_moved, partition, start: new_start, reply }))?;
    let dropped = record_key(entry.id, partition, 0)..record_key(entry.id, partition, new_start);
    store.records.tree.drop_range(dropped).map_err(|error| read_fault(error.into()))
}

fn before(now_ms: i64, duration: Duration) -> i64 {
    now_ms.saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}
