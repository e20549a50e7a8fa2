//! Where everything lies: one fjall database in one directory, held by one process.
//!
//! Three keyspaces: `records` (chunks by topic, partition and last offset), `state` (cells by group, partition and key)
//! and `meta` (everything else, below). One write batch reaches all three or none. What a reader may see is bounded by
//! the ends kept in memory here, which the committer moves only after the sync.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch};
use parking_lot::RwLock;

use super::codec::{Chunk, FORMAT, Reader};
use super::directory::{
    DATABASE_FOLDER, lock, new_identity, open_database, parse_header, read_header, refuse_other_files, write_header,
};
use super::expired::Expired;
use super::fault::{fatal, io_fault, malformed_fault, newer_format, open_fault, read_fault};
use super::keys::{decode_end, decode_topic, last_offset_of, meta_key, name_of, record_key};
use super::probe::Probe;
use super::signal::Waiters;
use crate::{Batch, Cause, Fault, Position, Topic, TopicSpec};

const MEMTABLE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// A topic and how far its partitions have come.
pub(super) struct TopicEntry {
    pub(super) id: u32,
    pub(super) spec: TopicSpec,
    pub(super) partitions: Vec<Extent>,
    pub(super) waiters: Waiters,
}

/// What a partition holds. Written by the committer only, after the sync.
#[derive(Debug, Default)]
pub(super) struct Extent {
    pub(super) start: AtomicU64,
    pub(super) end: AtomicU64,
    pub(super) last_time_ms: AtomicI64,
}

impl TopicEntry {
    fn new(id: u32, spec: TopicSpec) -> Self {
        let partitions = (0..spec.partitions).map(|_| Extent::default()).collect();
        Self { id, spec, partitions, waiters: Waiters::default() }
    }

    pub(super) fn extent(&self, partition: u32) -> Option<&Extent> {
        self.partitions.get(usize::try_from(partition).ok()?)
    }

    pub(super) fn end(&self, partition: u32) -> u64 {
        self.extent(partition).map_or(0, |extent| extent.end.load(Ordering::Acquire))
    }

    pub(super) fn start(&self, partition: u32) -> u64 {
        self.extent(partition).map_or(0, |extent| extent.start.load(Ordering::Acquire))
    }

    pub(super) fn position(&self, partition: u32, offset: u64) -> Position {
        Position { topic: self.spec.topic.clone(), partition, offset }
    }
}

/// A group's name in keys.
#[derive(Debug)]
pub(super) struct GroupEntry {
    pub(super) id: u32,
}

pub(super) struct Store {
    pub(super) db: Database,
    pub(super) records: Keyspace,
    pub(super) state: Keyspace,
    pub(super) meta: Keyspace,
    pub(super) identity: String,
    topics: RwLock<HashMap<Topic, Arc<TopicEntry>>>,
    groups: RwLock<HashMap<String, Arc<GroupEntry>>>,
    pub(super) expired: Arc<Expired>,
    damage: OnceLock<String>,
    probe: Probe,
    /// Dropped last: the directory stays ours until the database is closed.
    _lock: File,
}

impl Store {
    pub(super) fn open(dir: &Path, probe: Probe) -> Result<Self, Fault> {
        fs::create_dir_all(dir).map_err(|error| io_fault("log_open_failed", dir, error))?;
        let lock = lock(dir)?;
        let header = read_header(dir)?;
        let database = dir.join(DATABASE_FOLDER);
        let is_new = !database.exists();
        if is_new && header.is_some() {
            return Err(fatal("log_foreign", format!("{} has a header but no database", dir.display())));
        }
        if is_new {
            refuse_other_files(dir)?;
        }
        let expired = Arc::new(Expired::default());
        let db = open_database(&database, &expired).map_err(|error| open_fault(dir, error))?;
        let keyspace = |name| {
            db.keyspace(name, || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES_MAX))
                .map_err(|error| open_fault(dir, error))
        };
        let mut store = Self {
            meta: keyspace("meta")?,
            records: keyspace("records")?,
            state: keyspace("state")?,
            db,
            identity: String::new(),
            topics: RwLock::default(),
            groups: RwLock::default(),
            expired,
            damage: OnceLock::new(),
            probe,
            _lock: lock,
        };
        store.identity = store.identify(dir, header)?;
        store.load()?;
        Ok(store)
    }

    pub(super) fn topic(&self, topic: &Topic) -> Option<Arc<TopicEntry>> {
        self.topics.read().get(topic).cloned()
    }

    pub(super) fn require_topic(&self, topic: &Topic) -> Result<Arc<TopicEntry>, Fault> {
        self.topic(topic)
            .ok_or_else(|| fatal("topic_missing", format!("topic {topic} does not exist: apply the topics")))
    }

    pub(super) fn topics(&self) -> Vec<Arc<TopicEntry>> {
        let mut entries = self.topics.read().values().cloned().collect::<Vec<_>>();
        entries.sort_by_key(|entry| entry.id);
        entries
    }

    pub(super) fn group(&self, name: &str) -> Option<Arc<GroupEntry>> {
        self.groups.read().get(name).cloned()
    }

    pub(super) fn next_topic_id(&self) -> u32 {
        self.topics.read().values().map(|entry| entry.id + 1).max().unwrap_or(1)
    }

    pub(super) fn next_group_id(&self) -> u32 {
        self.groups.read().values().map(|entry| entry.id + 1).max().unwrap_or(1)
    }

    /// Makes known what has become durable.
    pub(super) fn add_topic(&self, id: u32, spec: TopicSpec) -> Arc<TopicEntry> {
        let entry = Arc::new(TopicEntry::new(id, spec));
        self.topics.write().insert(entry.spec.topic.clone(), Arc::clone(&entry));
        entry
    }

    pub(super) fn add_group(&self, name: &str, id: u32) -> Arc<GroupEntry> {
        let entry = Arc::new(GroupEntry { id });
        self.groups.write().insert(name.to_owned(), Arc::clone(&entry));
        entry
    }

    /// The committed offset of a group on a partition.
    pub(super) fn offset(&self, group: u32, topic: u32, partition: u32) -> Result<Option<u64>, Fault> {
        let found = self.meta.get(meta_key::offset(group, topic, partition)).map_err(read_fault)?;
        found.map(|bytes| Reader::new(&bytes).array().map(u64::from_be_bytes)).transpose().map_err(malformed_fault)
    }

    /// One atomic batch, on the disk when this returns. After a failure nothing more is ever written: what the disk holds
    /// is not known until it is read again (a failed fsync drops the pages that it could not write).
    pub(super) fn write(&self, batch: OwnedWriteBatch) -> Result<(), Fault> {
        self.refuse_if_damaged()?;
        let mode = self.probe.persist_mode();
        match batch.durability(mode).commit() {
            Ok(()) => {
                self.probe.written(mode);
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, "the log could not be written; it refuses every write from now on");
                let _ = self.damage.set(error.to_string());
                Err(Fault::Unknown(
                    Cause::new("log_write_failed", "the batch may or may not be on the disk").caused_by(error),
                ))
            }
        }
    }

    pub(super) fn refuse_if_damaged(&self) -> Result<(), Fault> {
        match self.damage.get() {
            None => Ok(()),
            Some(why) => Err(fatal(
                "log_damaged",
                format!("an earlier write failed ({why}); check the disk, then start again to see what was kept"),
            )),
        }
    }

    /// Adds the committed records from an offset on, chunk by chunk until `budget` is spent. Answers the next offset.
    pub(super) fn read_entry(
        &self,
        entry: &TopicEntry,
        (partition, from): (u32, u64),
        budget: &mut Budget,
        into: &mut Batch,
    ) -> Result<u64, Fault> {
        let end = entry.end(partition);
        if from == end || budget.is_spent() {
            return Ok(from);
        }
        let start = entry.start(partition);
        if from < start || from > end {
            let place = entry.position(partition, from);
            return Err(fatal("offset_out_of_range", format!("{place:?} is not within {start}..{end}")));
        }
        let bounds = record_key(entry.id, partition, from)..=record_key(entry.id, partition, end - 1);
        let mut next = from;
        for guard in self.records.range(bounds) {
            let (key, value) = guard.into_inner().map_err(read_fault)?;
            let last_offset = last_offset_of(&key).map_err(malformed_fault)?;
            let chunk = Chunk::parse(Bytes::from(value)).map_err(malformed_fault)?;
            let before = into.records.len();
            let byte_count = chunk.read((&entry.spec.topic, partition), next, into).map_err(malformed_fault)?;
            next = last_offset + 1;
            if budget.spend(into.records.len() - before, byte_count) {
                return Ok(next);
            }
        }
        // What lies between the last chunk and the end was compacted away.
        Ok(end)
    }

    fn identify(&self, dir: &Path, header: Option<String>) -> Result<String, Fault> {
        let stored = match self.meta.get(meta_key::HEADER).map_err(read_fault)? {
            Some(bytes) => Some(parse_header(&bytes).map_err(malformed_fault)?),
            None => None,
        };
        match (stored, header) {
            (Some((format, _)), _) if format > FORMAT => Err(newer_format(dir, format)),
            (Some((_, identity)), Some(header)) if identity != header => Err(fatal(
                "log_foreign",
                format!("the database in {} belongs to log {identity}, its header says {header}", dir.display()),
            )),
            (Some((_, identity)), header) => {
                if header.is_none() {
                    write_header(dir, &identity)?;
                }
                Ok(identity)
            }
            (None, None) if self.is_blank()? => {
                let identity = new_identity();
                let mut batch = self.db.batch();
                batch.insert(&self.meta, meta_key::HEADER, [&FORMAT.to_be_bytes()[..], identity.as_bytes()].concat());
                self.write(batch)?;
                write_header(dir, &identity)?;
                Ok(identity)
            }
            (None, _) => {
                Err(fatal("log_foreign", format!("the database in {} was not made by this log", dir.display())))
            }
        }
    }

    fn is_blank(&self) -> Result<bool, Fault> {
        let ours = [&self.meta, &self.records, &self.state];
        for keyspace in ours {
            if !keyspace.is_empty().map_err(read_fault)? {
                return Ok(false);
            }
        }
        Ok(self.db.keyspace_count() == ours.len())
    }

    fn load(&self) -> Result<(), Fault> {
        for guard in self.meta.prefix(b"t") {
            let (key, value) = guard.into_inner().map_err(read_fault)?;
            let (id, spec) = decode_topic(&key, &value).map_err(malformed_fault)?;
            let entry = self.add_topic(id, spec);
            for partition in 0..entry.spec.partitions {
                self.load_extent(&entry, partition)?;
            }
        }
        for guard in self.meta.prefix(b"g") {
            let (key, value) = guard.into_inner().map_err(read_fault)?;
            let name = name_of(&key).map_err(malformed_fault)?;
            let id = u32::from_be_bytes(Reader::new(&value).array().map_err(malformed_fault)?);
            self.add_group(name, id);
        }
        for guard in self.meta.prefix(b"f") {
            let key = guard.key().map_err(read_fault)?;
            self.expired.forget(key.get(1..).unwrap_or_default().to_vec());
        }
        Ok(())
    }

    fn load_extent(&self, entry: &TopicEntry, partition: u32) -> Result<(), Fault> {
        let Some(extent) = entry.extent(partition) else { return Ok(()) };
        if let Some(bytes) = self.meta.get(meta_key::start(entry.id, partition)).map_err(read_fault)? {
            let start = u64::from_be_bytes(Reader::new(&bytes).array().map_err(malformed_fault)?);
            extent.start.store(start, Ordering::Release);
            self.expired.trim(entry.id, partition, start);
        }
        if let Some(bytes) = self.meta.get(meta_key::end(entry.id, partition)).map_err(read_fault)? {
            let (end, time_ms) = decode_end(&bytes).map_err(malformed_fault)?;
            extent.end.store(end, Ordering::Release);
            extent.last_time_ms.store(time_ms, Ordering::Release);
        }
        let bounds = record_key(entry.id, partition, extent.end.load(Ordering::Acquire))
            ..=record_key(entry.id, partition, u64::MAX);
        match self.records.range(bounds).next() {
            None => Ok(()),
            Some(_) => {
                Err(fatal("log_damaged", format!("{}-{partition} holds records past its end", entry.spec.topic)))
            }
        }
    }
}

/// What one call may read: so many records and bytes, and at most one chunk more.
#[derive(Debug)]
pub(super) struct Budget {
    records: usize,
    bytes: usize,
}

impl Budget {
    pub(super) fn new(records: usize, bytes: usize) -> Self {
        Self { records, bytes }
    }

    pub(super) fn is_spent(&self) -> bool {
        self.records == 0 || self.bytes == 0
    }

    /// True if nothing is left.
    fn spend(&mut self, records: usize, bytes: usize) -> bool {
        self.records = self.records.saturating_sub(records);
        self.bytes = self.bytes.saturating_sub(bytes);
        self.is_spent()
    }
}
