//! How keys and small values are written. What is written once is in somebody's log: a change is a new format.

use std::time::Duration;

use super::codec::{Malformed, Reader};
use crate::{Cleanup, Topic, TopicSpec};

/// Keys of `meta`: one letter, then names or big-endian numbers.
pub(super) mod meta_key {
    pub(in super::super) const HEADER: &[u8] = b"h";

    pub(in super::super) fn topic(name: &str) -> Vec<u8> {
        [b"t", name.as_bytes()].concat()
    }

    pub(in super::super) fn group(name: &str) -> Vec<u8> {
        [b"g", name.as_bytes()].concat()
    }

    pub(in super::super) fn end(topic: u32, partition: u32) -> Vec<u8> {
        [&b"e"[..], &topic.to_be_bytes(), &partition.to_be_bytes()].concat()
    }

    pub(in super::super) fn start(topic: u32, partition: u32) -> Vec<u8> {
        [&b"s"[..], &topic.to_be_bytes(), &partition.to_be_bytes()].concat()
    }

    pub(in super::super) fn offset(group: u32, topic: u32, partition: u32) -> Vec<u8> {
        [&b"o"[..], &group.to_be_bytes(), &topic.to_be_bytes(), &partition.to_be_bytes()].concat()
    }

    pub(in super::super) fn forgotten(cell_prefix: &[u8]) -> Vec<u8> {
        [b"f", cell_prefix].concat()
    }
}

pub(super) fn record_key(topic: u32, partition: u32, last_offset: u64) -> Vec<u8> {
    [&topic.to_be_bytes()[..], &partition.to_be_bytes(), &last_offset.to_be_bytes()].concat()
}

pub(super) fn cell_key(group: u32, partition: u32, key: &[u8]) -> Vec<u8> {
    [&group.to_be_bytes()[..], &partition.to_be_bytes(), key].concat()
}

/// Bytes of `cell_key` before the cell's own key.
pub(super) const CELL_PREFIX_BYTES: usize = 8;

pub(super) fn last_offset_of(record_key: &[u8]) -> Result<u64, Malformed> {
    let mut reader = Reader::new(record_key);
    reader.take(8)?;
    reader.array().map(u64::from_be_bytes)
}

pub(super) fn encode_end(end: u64, time_ms: i64) -> Vec<u8> {
    [end.to_be_bytes(), time_ms.to_be_bytes()].concat()
}

pub(super) fn decode_end(bytes: &[u8]) -> Result<(u64, i64), Malformed> {
    let mut reader = Reader::new(bytes);
    Ok((u64::from_be_bytes(reader.array()?), i64::from_be_bytes(reader.array()?)))
}

pub(super) fn encode_topic(id: u32, spec: &TopicSpec) -> Vec<u8> {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let (cleanup, retention_ms) = match spec.cleanup {
        Cleanup::Delete { retention: None } => (0_u8, 0),
        Cleanup::Delete { retention: Some(retention) } => (1, millis(retention)),
        Cleanup::Compact => (2, 0),
        Cleanup::CompactDelete { retention } => (3, millis(retention)),
    };
    let flags = [cleanup, u8::from(spec.log_append_time)];
    [&id.to_be_bytes()[..], &spec.partitions.to_be_bytes(), &flags, &retention_ms.to_be_bytes()].concat()
}

pub(super) fn decode_topic(key: &[u8], value: &[u8]) -> Result<(u32, TopicSpec), Malformed> {
    let mut reader = Reader::new(value);
    let id = u32::from_be_bytes(reader.array()?);
    let partitions = u32::from_be_bytes(reader.array()?);
    let [cleanup, log_append_time] = reader.array()?;
    let retention = Duration::from_millis(u64::from_be_bytes(reader.array()?));
    let cleanup = match cleanup {
        0 => Cleanup::Delete { retention: None },
        1 => Cleanup::Delete { retention: Some(retention) },
        2 => Cleanup::Compact,
        3 => Cleanup::CompactDelete { retention },
        _ => return Err(Malformed("cleanup of a topic")),
    };
    let topic = Topic::new(name_of(key)?);
    Ok((id, TopicSpec { topic, partitions, cleanup, log_append_time: log_append_time != 0 }))
}

pub(super) fn name_of(key: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(key.get(1..).unwrap_or_default()).map_err(|_| Malformed("name in a key"))
}
