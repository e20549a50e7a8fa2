//! Topics made by hand, and the embedded log that holds them.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use bytes::Bytes;
use log::embedded::EmbeddedLog;
use log::{Batch, Cleanup, Group, Log, Output, Position, Record, Topic, TopicSpec, partition_of};

/// No test waits longer for what should happen at once.
pub const PATIENCE: Duration = Duration::from_secs(30);
const POLL_WAIT: Duration = Duration::from_millis(50);

/// A log with these topics, each with so many partitions, that keeps everything and believes the records' own times.
pub fn open_log(dir: &Path, topics: impl IntoIterator<Item = (String, u32)>, groups: &[Group]) -> EmbeddedLog {
    let log = EmbeddedLog::open(dir).unwrap();
    let spec = |(name, partitions): (String, u32)| TopicSpec {
        topic: Topic::new(&name),
        partitions,
        cleanup: Cleanup::Delete { retention: None },
        log_append_time: false,
    };
    let specs: Vec<TopicSpec> = topics.into_iter().map(spec).collect();
    log.apply(&specs, groups).unwrap();
    log
}

/// Appends one record and waits until it is durable.
pub fn append(log: &dyn Log, out: &Output<'_>) -> Position {
    let (done, durable) = channel();
    log.append(out, Box::new(move |outcome| drop(done.send(outcome)))).unwrap();
    durable.recv_timeout(PATIENCE).unwrap().unwrap()
}

/// Appends records to the partitions that they say, where they must come to lie at the offsets that they say.
pub fn write(log: &dyn Log, records: &[Record]) {
    for record in records {
        let headers: Vec<(&str, &[u8])> =
            record.headers.iter().map(|(name, value)| (name.as_str(), value.as_ref())).collect();
        let at = append(
            log,
            &Output {
                topic: &record.topic,
                partition: Some(record.partition),
                key: record.key.as_deref(),
                value: record.value.as_deref(),
                headers: &headers,
            },
        );
        assert_eq!(at.offset, record.offset, "{}", record.topic);
    }
}

/// Waits until a topic holds so many records; answers all that there are then, in order within each partition.
pub fn read(log: &dyn Log, topic: &Topic, count: usize) -> Vec<Record> {
    let mut tail = log.tail(&log.starts(topic).unwrap()).unwrap();
    let until = Instant::now() + PATIENCE;
    let mut batch = Batch::default();
    while batch.records.len() < count {
        assert!(Instant::now() < until, "{topic} holds {} records, not {count}", batch.records.len());
        tail.poll(POLL_WAIT, &mut batch).unwrap();
    }
    batch.records
}

/// Every record that a topic holds now.
pub fn read_all(log: &dyn Log, topic: &Topic) -> Vec<Record> {
    let ends = log.ends(topic).unwrap();
    let mut tail = log.tail(&log.starts(topic).unwrap()).unwrap();
    let mut batch = Batch::default();
    let is_before = |at: &Position| ends.iter().any(|end| end.partition == at.partition && at.offset < end.offset);
    while tail.positions().iter().any(is_before) {
        tail.poll(POLL_WAIT, &mut batch).unwrap();
    }
    batch.records
}

/// Where a record is put by hand.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub topic: &'a str,
    pub partition: u32,
    pub key: &'a str,
    pub time_ms: i64,
}

impl<'a> Place<'a> {
    /// Where the key belongs.
    pub fn of_key(topic: &'a str, key: &'a str, partitions: u32, time_ms: i64) -> Self {
        Self { topic, partition: partition_of(key.as_bytes(), partitions), key, time_ms }
    }
}

/// Records in the order in which they were put, each at the offset that a log would give it.
#[derive(Clone, Debug, Default)]
pub struct HandMade {
    pub records: Vec<Record>,
    next: BTreeMap<(String, u32), u64>,
}

impl HandMade {
    pub fn put(&mut self, place: Place<'_>, value: Vec<u8>, headers: &[(&str, &str)]) -> Position {
        let text = |text: &str| Bytes::from(text.to_owned());
        let Place { topic, partition, key, time_ms } = place;
        let next = self.next.entry((topic.to_owned(), partition)).or_default();
        let offset = *next;
        *next += 1;
        let topic = Topic::new(topic);
        self.records.push(Record {
            topic: topic.clone(),
            partition,
            offset,
            time_ms,
            key: Some(text(key)),
            value: Some(value.into()),
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect(),
        });
        Position { topic, partition, offset }
    }

    /// What follows from the record at `cause`, by its step's first output.
    pub fn put_caused(&mut self, place: Place<'_>, value: Vec<u8>, cause: (u32, u64)) -> Position {
        let cause = format!("{}:{}:0", cause.0, cause.1);
        self.put(place, value, &[(crate::dead_letter::CAUSE_HEADER, &cause)])
    }

    /// The records in another order between partitions; within each they keep theirs.
    pub fn shuffled(&self, seed: u64) -> Vec<Record> {
        let mut lanes: BTreeMap<(&Topic, u32), VecDeque<&Record>> = BTreeMap::new();
        for record in &self.records {
            lanes.entry((&record.topic, record.partition)).or_default().push_back(record);
        }
        let mut lanes: Vec<_> = lanes.into_values().collect();
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut out = Vec::with_capacity(self.records.len());
        while !lanes.is_empty() {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let lane = usize::try_from(state % lanes.len() as u64).expect("fewer lanes than a usize counts");
            match lanes.get_mut(lane).and_then(VecDeque::pop_front) {
                Some(record) => out.push(record.clone()),
                None => drop(lanes.swap_remove(lane)),
            }
        }
        out
    }
}
