//! What the files of the embedded log know of the seam, as `crates/log/src/lib.rs` has it: that crate itself would bring a
//! Kafka client along.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Topic(Arc<str>);

impl Topic {
    pub(crate) fn new(name: &str) -> Self {
        Self(Arc::from(name))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) topic: Topic,
    pub(crate) partition: u32,
    pub(crate) offset: u64,
    pub(crate) time_ms: i64,
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: Vec<(String, Bytes)>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Output<'a> {
    pub(crate) topic: &'a Topic,
    pub(crate) partition: Option<u32>,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: &'a [(&'a str, &'a [u8])],
}

#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) records: Vec<Record>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicSpec {
    pub(crate) topic: Topic,
    pub(crate) partitions: u32,
    pub(crate) cleanup: Cleanup,
    pub(crate) log_append_time: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cleanup {
    Delete { retention: Option<Duration> },
    Compact,
    CompactDelete { retention: Duration },
}
