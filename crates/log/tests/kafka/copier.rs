//! A step as small as can be: copies its input to its output and counts in its state.

use std::time::{Duration, Instant};

use countersign_log::kafka::KafkaLog;
use countersign_log::{
    Batch, Cleanup, Fault, Group, Log, Member, Output, Polled, Position, Record, Session, Topic, TopicSpec,
};

use crate::broker;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Copier {
    pub(crate) member: Member,
    pub(crate) output: Topic,
}

impl Copier {
    /// Makes its topics, of one partition.
    pub(crate) fn new(log: &KafkaLog) -> Self {
        let topic = |base: &str| Topic::new(&broker::fresh_name(base));
        let (input, output, state) = (topic("in"), topic("out"), topic("state"));
        let kept =
            |topic: &Topic, cleanup| TopicSpec { topic: topic.clone(), partitions: 1, cleanup, log_append_time: false };
        let deleted = Cleanup::Delete { retention: None };
        let group = broker::fresh_name("copier");
        let topics = [kept(&input, deleted), kept(&output, deleted), kept(&state, Cleanup::Compact)];
        log.apply(&topics, &[Group { name: group.clone(), inputs: vec![input.clone()] }]).unwrap();
        Self { member: Member { group, slot: "slot-0".into(), inputs: vec![input], state: Some(state) }, output }
    }

    pub(crate) fn input(&self) -> &Topic {
        &self.member.inputs[0]
    }

    pub(crate) fn state(&self) -> &Topic {
        self.member.state.as_ref().unwrap()
    }

    /// Joins and polls until the partition is there.
    pub(crate) fn join(&self, log: &KafkaLog) -> Box<dyn Session> {
        let deadline = Instant::now() + PATIENCE;
        let in_time =
            |what: &dyn std::fmt::Debug| assert!(Instant::now() < deadline, "no partition is assigned: {what:?}");
        let mut session = loop {
            match log.join(&self.member) {
                Ok(session) => break session,
                // A broker that is just coming back: the seam says that the same call may be made again.
                Err(Fault::Retry(cause)) => in_time(&cause),
                Err(fault) => panic!("{fault}"),
            }
        };
        loop {
            match session.poll(Duration::from_millis(50), &mut Batch::default()) {
                Ok(Polled::Assigned(_)) => return session,
                Ok(polled) => in_time(&polled),
                Err(Fault::Retry(cause)) => in_time(&cause),
                Err(Fault::Fatal(cause)) => panic!("{cause}"),
                Err(fault) => {
                    in_time(&fault);
                    if let Err(again) = session.recover() {
                        in_time(&again);
                    }
                }
            }
        }
    }

    /// Copies these records in one transaction.
    pub(crate) fn copy(&self, session: &mut dyn Session, records: &[Record]) -> Result<(), Fault> {
        let mut count = Vec::new();
        session.get(0, b"count", &mut count)?;
        let counted = count.try_into().map_or(0, u64::from_be_bytes) + records.len() as u64;
        session.put(0, b"count", Some(&counted.to_be_bytes()))?;
        for record in records {
            session.emit(&output(&self.output, record.value.as_deref().unwrap_or_default()))?;
        }
        let next = records.iter().map(|record| record.offset + 1).max().unwrap_or_default();
        session.commit(&[Position { topic: self.input().clone(), partition: 0, offset: next }]).map(drop)
    }

    pub(crate) fn count(&self, session: &dyn Session) -> u64 {
        let mut count = Vec::new();
        session.get(0, b"count", &mut count).unwrap();
        count.try_into().map_or(0, u64::from_be_bytes)
    }
}

pub(crate) fn output<'a>(topic: &'a Topic, value: &'a [u8]) -> Output<'a> {
    Output { topic, partition: Some(0), key: Some(value), value: Some(value), headers: &[] }
}

/// Appends values without waiting for each; waits for all.
pub(crate) fn append(log: &KafkaLog, topic: &Topic, values: std::ops::Range<u64>) {
    let (done, acked) = std::sync::mpsc::channel();
    let count = values.end - values.start;
    for value in values {
        let value = value.to_string();
        let done = done.clone();
        log.append(&output(topic, value.as_bytes()), Box::new(move |result| drop(done.send(result)))).unwrap();
    }
    for _ in 0..count {
        acked.recv_timeout(PATIENCE).unwrap().unwrap();
    }
}

/// All committed values, in order.
pub(crate) fn values(log: &KafkaLog, topic: &Topic) -> Vec<u64> {
    let ends = log.ends(topic).unwrap();
    let mut tail = log.tail(&log.starts(topic).unwrap()).unwrap();
    let mut batch = Batch::default();
    let deadline = Instant::now() + PATIENCE;
    while !tail.positions().iter().zip(&ends).all(|(at, end)| at.offset >= end.offset) {
        assert!(Instant::now() < deadline, "a tail stands at {:?}, not {ends:?}", tail.positions());
        tail.poll(Duration::from_millis(50), &mut batch).unwrap();
    }
    let text = |record: &Record| String::from_utf8(record.value.as_ref().unwrap().to_vec()).unwrap();
    batch.records.iter().map(|record| text(record).parse().unwrap()).collect()
}
