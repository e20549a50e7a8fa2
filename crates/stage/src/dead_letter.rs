//! Records that can never succeed (R9): kept whole, with the reason and where they lay.

use bytes::Bytes;
use log::{Fault, Output, Record, Session, Topic};

use crate::{Emit, Reject};

/// Stable code of why.
pub const REASON_HEADER: &str = "reason";
/// What a person reads.
pub const DETAIL_HEADER: &str = "detail";
/// `topic:partition:offset` of the record that was refused.
pub const SOURCE_HEADER: &str = "source";
/// The tenant it counts under, `-` where none was proven.
pub const TENANT_HEADER: &str = "tenant";
/// The record's own time, ms since the epoch.
pub const AT_HEADER: &str = "at";
/// Present where the value was too large to be kept twice: read it at `source`.
pub const BY_REFERENCE_HEADER: &str = "by-reference";
/// On a redo topic: `topic:partition:offset` of the dead letter that it answers.
pub const REDO_OF_HEADER: &str = "redo-of";
/// R11: `partition:offset:index` of the record that caused this one.
pub const CAUSE_HEADER: &str = "cause";
/// The topic of `cause`, where it is not the step's own input (a redo topic).
pub const CAUSE_TOPIC_HEADER: &str = "cause-topic";

/// The reason of a letter that was redone although what it asks for was decided before: nothing is missing.
pub const ALREADY_DECIDED: &str = "already_decided";

/// A record is kept whole in its dead letter up to this size of key, value and headers, so that the letter fits a record of
/// 1,000,000 bytes together with its own headers.
pub const BYTES_MAX: usize = 900 * 1024;
/// A longer key is no key of ours; the letter goes without.
const KEY_BYTES_MAX: usize = 4 * 1024;
const DETAIL_BYTES_MAX: usize = 2_000;

/// Headers that a dead letter adds; a redo takes them off again.
pub const OWN_HEADERS: &[&str] = &[
    REASON_HEADER,
    DETAIL_HEADER,
    SOURCE_HEADER,
    TENANT_HEADER,
    AT_HEADER,
    BY_REFERENCE_HEADER,
    CAUSE_HEADER,
    CAUSE_TOPIC_HEADER,
    REDO_OF_HEADER,
];

/// A refused record and why.
#[derive(Clone, Copy, Debug)]
pub struct DeadLetter<'a> {
    pub record: &'a Record,
    pub reject: &'a Reject,
}

impl DeadLetter<'_> {
    /// The record for the dead-letter topic: same key, same partition number, value and headers kept.
    pub fn emit_to(&self, dead: &Topic) -> Emit {
        let record = self.record;
        let key_bytes = record.key.as_ref().map_or(0, Bytes::len);
        let header_bytes: usize = record.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        let by_reference = record.value.as_ref().map_or(0, Bytes::len) + key_bytes + header_bytes > BYTES_MAX;
        let mut detail = self.reject.detail.clone();
        if detail.len() > DETAIL_BYTES_MAX {
            let end = (0..=DETAIL_BYTES_MAX).rev().find(|end| detail.is_char_boundary(*end)).unwrap_or(0);
            detail.truncate(end);
        }
        // What is kept by reference is kept at its source alone: any part of it may be the one that is too large.
        let kept = record.headers.iter().filter(|(name, _)| !by_reference && !OWN_HEADERS.contains(&name.as_str()));
        let mut headers: Vec<(String, Bytes)> = kept.cloned().collect();
        let source = format!("{}:{}:{}", record.topic, record.partition, record.offset);
        headers.push((REASON_HEADER.into(), Bytes::from_static(self.reject.reason.as_bytes())));
        headers.push((DETAIL_HEADER.into(), detail.into()));
        headers.push((SOURCE_HEADER.into(), source.into()));
        headers.push((TENANT_HEADER.into(), self.reject.tenant.clone().into()));
        headers.push((AT_HEADER.into(), record.time_ms.to_string().into()));
        if by_reference {
            headers.push((BY_REFERENCE_HEADER.into(), Bytes::from_static(b"true")));
        }
        Emit {
            topic: dead.clone(),
            partition: Some(record.partition),
            key: record.key.clone().filter(|key| key.len() <= KEY_BYTES_MAX),
            value: if by_reference { None } else { record.value.clone() },
            headers,
        }
    }
}

/// The value of the header `cause` for the `index`th output of a record.
pub fn cause_of(record: &Record, index: u32) -> String {
    format!("{}:{}:{index}", record.partition, record.offset)
}

/// Stages one output in a session with its `cause` header. `input` is the topic that causes are counted on.
pub fn emit_caused(
    session: &mut dyn Session,
    emit: &Emit,
    cause: &str,
    cause_topic: Option<&Topic>,
) -> Result<(), Fault> {
    let mut headers: Vec<(&str, &[u8])> = Vec::with_capacity(emit.headers.len() + 2);
    headers.push((CAUSE_HEADER, cause.as_bytes()));
    if let Some(topic) = cause_topic {
        headers.push((CAUSE_TOPIC_HEADER, topic.as_str().as_bytes()));
    }
    headers.extend(emit.headers.iter().map(|(name, value)| (name.as_str(), value.as_ref())));
    session.emit(&Output {
        topic: &emit.topic,
        partition: emit.partition,
        key: emit.key.as_deref(),
        value: emit.value.as_deref(),
        headers: &headers,
    })
}
