//! What changes the shape of the log rather than its content: topics, groups, starts, compacted chunks. Rare, worked
//! by the committer between two rounds.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use crossbeam_channel::Sender;
use fjall::OwnedWriteBatch;

use super::fault::fatal;
use super::keys::{encode_topic, meta_key, record_key};
use super::store::{Store, TopicEntry};
use crate::{Fault, Group, Topic, TopicChange, TopicSpec};

/// As in Kafka.
const NAME_BYTES_MAX: usize = 249;

pub(super) enum Control {
    Apply {
        topics: Vec<TopicSpec>,
        groups: Vec<Group>,
        reply: Sender<Result<Vec<TopicChange>, Fault>>,
    },
    /// A group that joins without having been applied gets its id.
    Group {
        name: String,
        reply: Sender<Result<u32, Fault>>,
    },
    /// Retention: the partition starts here now.
    Trim {
        entry: Arc<TopicEntry>,
        partition: u32,
        start: u64,
        reply: Sender<Result<(), Fault>>,
    },
    /// Compaction: chunks by their last offset; `None` removes.
    Rewrite {
        entry: Arc<TopicEntry>,
        partition: u32,
        chunks: Vec<(u64, Option<Bytes>)>,
        reply: Sender<Result<(), Fault>>,
    },
    #[cfg(feature = "conformance")]
    DropOffsets {
        group: String,
        reply: Sender<Result<(), Fault>>,
    },
}

impl Control {
    pub(super) fn work(self, store: &Store) {
        match self {
            Self::Apply { topics, groups, reply } => drop(reply.send(apply(store, &topics, &groups))),
            Self::Group { name, reply } => drop(reply.send(group_id(store, &name))),
            Self::Trim { entry, partition, start, reply } => drop(reply.send(trim(store, &entry, partition, start))),
            Self::Rewrite { entry, partition, chunks, reply } => {
                let mut batch = store.db.batch();
                for (last_offset, chunk) in chunks {
                    let key = record_key(entry.id, partition, last_offset);
                    match chunk {
                        Some(chunk) => batch.insert(&store.records, key, chunk),
                        None => batch.remove(&store.records, key),
                    }
                }
                drop(reply.send(store.write(batch)));
            }
            #[cfg(feature = "conformance")]
            Self::DropOffsets { group, reply } => drop(reply.send(drop_offsets(store, &group))),
        }
    }
}

fn apply(store: &Store, topics: &[TopicSpec], groups: &[Group]) -> Result<Vec<TopicChange>, Fault> {
    store.refuse_if_damaged()?;
    let changes = create_topics(store, topics)?;
    for group in groups {
        first_offsets(store, group)?;
    }
    Ok(changes)
}

fn create_topics(store: &Store, topics: &[TopicSpec]) -> Result<Vec<TopicChange>, Fault> {
    let mut changes = Vec::with_capacity(topics.len());
    let mut created = Vec::<(u32, &TopicSpec)>::new();
    let mut batch = store.db.batch();
    for (id, spec) in (store.next_topic_id()..).zip(topics) {
        let topic = spec.topic.clone();
        if spec.partitions == 0 || topic.as_str().is_empty() || topic.as_str().len() > NAME_BYTES_MAX {
            return Err(fatal("topic_invalid", format!("topic {topic:?} with {} partitions", spec.partitions)));
        }
        let known = store.topic(&topic).map(|entry| entry.spec.clone());
        let known = known.or_else(|| created.iter().find(|(_, of)| of.topic == topic).map(|(_, of)| (*of).clone()));
        changes.push(match known {
            Some(known) if known == *spec => TopicChange::Kept(topic),
            Some(known) => TopicChange::Differs(topic, differences(&known, spec)),
            None => {
                batch.insert(&store.meta, meta_key::topic(topic.as_str()), encode_topic(id, spec));
                created.push((id, spec));
                TopicChange::Created(topic)
            }
        });
    }
    write_unless_empty(store, batch)?;
    for (id, spec) in created {
        store.add_topic(id, spec.clone());
    }
    Ok(changes)
}

fn differences(is: &TopicSpec, wanted: &TopicSpec) -> String {
    let mut found = Vec::new();
    if is.partitions != wanted.partitions {
        found.push(format!("has {} partitions, not {}", is.partitions, wanted.partitions));
    }
    if is.cleanup != wanted.cleanup {
        found.push(format!("cleanup is {:?}, not {:?}", is.cleanup, wanted.cleanup));
    }
    if is.log_append_time != wanted.log_append_time {
        found.push(format!("log_append_time is {}, not {}", is.log_append_time, wanted.log_append_time));
    }
    found.join("; ")
}

/// Offset 0 where nothing was ever written: a group that lacks an offset elsewhere has lost it, and must hear so.
fn first_offsets(store: &Store, group: &Group) -> Result<(), Fault> {
    let id = group_id(store, &group.name)?;
    let mut batch = store.db.batch();
    for input in &group.inputs {
        let entry = input_of(store, &group.name, input)?;
        for partition in 0..entry.spec.partitions {
            if entry.end(partition) == 0 && store.offset(id, entry.id, partition)?.is_none() {
                batch.insert(&store.meta, meta_key::offset(id, entry.id, partition), 0_u64.to_be_bytes().to_vec());
            }
        }
    }
    write_unless_empty(store, batch)
}

fn input_of(store: &Store, group: &str, input: &Topic) -> Result<Arc<TopicEntry>, Fault> {
    store
        .topic(input)
        .ok_or_else(|| fatal("topic_missing", format!("group {group} reads {input}, which does not exist")))
}

fn group_id(store: &Store, name: &str) -> Result<u32, Fault> {
    if let Some(group) = store.group(name) {
        return Ok(group.id);
    }
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(fatal(
            "group_invalid",
            format!("a group's name has 1 to {NAME_BYTES_MAX} bytes, not {}", name.len()),
        ));
    }
    let id = store.next_group_id();
    let mut batch = store.db.batch();
    batch.insert(&store.meta, meta_key::group(name), id.to_be_bytes().to_vec());
    store.write(batch)?;
    store.add_group(name, id);
    Ok(id)
}

fn trim(store: &Store, entry: &TopicEntry, partition: u32, start: u64) -> Result<(), Fault> {
    let Some(extent) = entry.extent(partition) else { return Ok(()) };
    if start <= extent.start.load(Ordering::Acquire) {
        return Ok(());
    }
    let mut batch = store.db.batch();
    batch.insert(&store.meta, meta_key::start(entry.id, partition), start.to_be_bytes().to_vec());
    store.write(batch)?;
    extent.start.store(start, Ordering::Release);
    store.expired.trim(entry.id, partition, start);
    Ok(())
}

fn write_unless_empty(store: &Store, batch: OwnedWriteBatch) -> Result<(), Fault> {
    if batch.is_empty() { Ok(()) } else { store.write(batch) }
}

#[cfg(feature = "conformance")]
fn drop_offsets(store: &Store, group: &str) -> Result<(), Fault> {
    let Some(group) = store.group(group) else { return Ok(()) };
    let mut batch = store.db.batch();
    for guard in store.meta.prefix([&b"o"[..], &group.id.to_be_bytes()].concat()) {
        batch.remove(&store.meta, guard.key().map_err(super::fault::read_fault)?);
    }
    write_unless_empty(store, batch)
}
