//! A log that asks a hook before and after every effect: where a process can die, or lose its log.

use std::sync::Arc;
use std::time::Duration;

use log::embedded::EmbeddedLog;
use log::{
    AckSink, Batch, Committed, Fault, Group, Log, Member, Output, Polled, Position, Record, Session, Tail, Topic,
    TopicChange, TopicSpec,
};

/// Where a session is.
#[derive(Debug)]
pub enum Point<'a> {
    Polled(&'a [Record]),
    BeforeEmit(&'a Topic),
    BeforeCommit,
    AfterCommit,
}

/// Answers the fault that happens here, if one does.
pub type Hook = Arc<dyn Fn(Point<'_>) -> Option<Fault> + Send + Sync>;

/// The embedded log, with the hook at every session.
pub struct HookedLog {
    pub log: EmbeddedLog,
    pub hook: Hook,
}

struct HookedSession {
    session: Box<dyn Session>,
    hook: Hook,
}

impl HookedSession {
    fn at(&self, point: Point<'_>) -> Result<(), Fault> {
        (self.hook)(point).map_or(Ok(()), Err)
    }
}

impl Log for HookedLog {
    fn identity(&self) -> &str {
        self.log.identity()
    }

    fn apply(&self, topics: &[TopicSpec], groups: &[Group]) -> Result<Vec<TopicChange>, Fault> {
        self.log.apply(topics, groups)
    }

    fn partitions(&self, topic: &Topic) -> Result<Option<u32>, Fault> {
        self.log.partitions(topic)
    }

    fn ends(&self, topic: &Topic) -> Result<Vec<Position>, Fault> {
        self.log.ends(topic)
    }

    fn starts(&self, topic: &Topic) -> Result<Vec<Position>, Fault> {
        self.log.starts(topic)
    }

    fn progress(&self, group: &str, topic: &Topic) -> Result<Vec<Position>, Fault> {
        self.log.progress(group, topic)
    }

    fn join(&self, member: &Member) -> Result<Box<dyn Session>, Fault> {
        Ok(Box::new(HookedSession { session: self.log.join(member)?, hook: Arc::clone(&self.hook) }))
    }

    fn append(&self, out: &Output<'_>, done: AckSink) -> Result<(), Fault> {
        self.log.append(out, done)
    }

    fn tail(&self, from: &[Position]) -> Result<Box<dyn Tail>, Fault> {
        self.log.tail(from)
    }
}

impl Session for HookedSession {
    fn poll(&mut self, wait: Duration, into: &mut Batch) -> Result<Polled, Fault> {
        let polled = self.session.poll(wait, into)?;
        self.at(Point::Polled(&into.records))?;
        Ok(polled)
    }

    fn positions(&self) -> Vec<Position> {
        self.session.positions()
    }

    fn get(&self, partition: u32, key: &[u8], out: &mut Vec<u8>) -> Result<bool, Fault> {
        self.session.get(partition, key, out)
    }

    fn scan(&self, partition: u32, from: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), Fault> {
        self.session.scan(partition, from, visit)
    }

    fn put(&mut self, partition: u32, key: &[u8], value: Option<&[u8]>) -> Result<(), Fault> {
        self.session.put(partition, key, value)
    }

    fn forget(&mut self, partition: u32, prefix: &[u8]) -> Result<(), Fault> {
        self.session.forget(partition, prefix)
    }

    fn emit(&mut self, out: &Output<'_>) -> Result<(), Fault> {
        self.at(Point::BeforeEmit(out.topic))?;
        self.session.emit(out)
    }

    fn commit(&mut self, next: &[Position]) -> Result<Committed, Fault> {
        self.at(Point::BeforeCommit)?;
        let committed = self.session.commit(next)?;
        self.at(Point::AfterCommit)?;
        Ok(committed)
    }

    fn recover(&mut self) -> Result<(), Fault> {
        self.session.recover()
    }

    fn seek(&mut self, at: &[Position]) -> Result<(), Fault> {
        self.session.seek(at)
    }

    fn release(&mut self) -> Result<(), Fault> {
        self.session.release()
    }
}
