//! The runner on the embedded log: what it does with records that are refused, that panic, or that cannot be decided yet.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use log::embedded::EmbeddedLog;
use log::{Batch, Cleanup, Group, Log, Member, Output, Position, Record, Topic, TopicSpec};
use stage::{Effects, Emit, Reject, RunOptions, Step, StepError, Stop};

const WAIT_MAX: Duration = Duration::from_secs(20);

struct World {
    log: EmbeddedLog,
    _dir: tempfile::TempDir,
}

fn topic(name: &str) -> Topic {
    Topic::new(name)
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(dir.path()).unwrap();
        let spec = |name: &str| TopicSpec {
            topic: topic(name),
            partitions: 1,
            cleanup: Cleanup::Delete { retention: None },
            log_append_time: false,
        };
        let specs = ["in", "redo", "out", "dead", "state"].map(spec);
        let group = Group { name: "step".into(), inputs: vec![topic("in"), topic("redo")] };
        log.apply(&specs, &[group]).unwrap();
        Self { log, _dir: dir }
    }

    fn append(&self, to: &str, value: &str) {
        let (done, acknowledged) = mpsc::channel();
        let to = topic(to);
        let out =
            Output { topic: &to, partition: Some(0), key: Some(b"k"), value: Some(value.as_bytes()), headers: &[] };
        self.log.append(&out, Box::new(move |outcome| done.send(outcome).unwrap())).unwrap();
        acknowledged.recv_timeout(WAIT_MAX).unwrap().unwrap();
    }

    fn options() -> RunOptions {
        let member = Member {
            group: "step".into(),
            slot: "0".into(),
            inputs: vec![topic("in"), topic("redo")],
            state: Some(topic("state")),
        };
        RunOptions::new(member, topic("dead"))
    }

    /// Runs the step until the topic holds so many records, and answers all of them.
    fn run_until(&self, step: &mut (dyn Step + Send), name: &str, count: usize) -> Vec<Record> {
        let stop = Stop::new();
        std::thread::scope(|scope| {
            let runner = scope.spawn(|| stage::run(&self.log, step, &Self::options(), &stop));
            let records = self.read(name, count);
            stop.request();
            runner.join().unwrap().unwrap();
            records
        })
    }

    fn read(&self, name: &str, count: usize) -> Vec<Record> {
        let mut tail = self.log.tail(&[Position { topic: topic(name), partition: 0, offset: 0 }]).unwrap();
        let mut batch = Batch::default();
        let deadline = Instant::now() + WAIT_MAX;
        while batch.records.len() < count {
            assert!(Instant::now() < deadline, "{name} holds {} records, not {count}", batch.records.len());
            tail.poll(Duration::from_millis(50), &mut batch).unwrap();
        }
        batch.records
    }
}

/// Copies what it reads; does what the value says.
#[derive(Default)]
struct Scripted {
    panics: Arc<AtomicU32>,
    seen: BTreeMap<String, u32>,
    waits: u32,
}

impl Step for Scripted {
    fn apply(&mut self, record: &Record, effects: &mut dyn Effects) -> Result<(), StepError> {
        let value = String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap();
        *self.seen.entry(value.clone()).or_default() += 1;
        effects.put(b"last", Some(value.as_bytes()))?;
        effects.emit(Emit {
            topic: topic("out"),
            partition: None,
            key: record.key.clone(),
            value: Some(value.clone().into()),
            headers: Vec::new(),
        })?;
        match value.as_str() {
            "refuse" => Err(Reject { reason: "refused_here", detail: "as told".into(), tenant: "acme".into() }.into()),
            "panic" => {
                self.panics.fetch_add(1, Ordering::Relaxed);
                panic!("as told");
            }
            "wait" if self.waits < 2 => {
                self.waits += 1;
                Err(StepError::Wait("not yet".into()))
            }
            _ => Ok(()),
        }
    }
}

fn text(record: &Record) -> String {
    String::from_utf8(record.value.clone().unwrap_or_default().to_vec()).unwrap()
}

fn header(record: &Record, name: &str) -> String {
    String::from_utf8(record.header(name).unwrap_or_default().to_vec()).unwrap()
}

#[test]
fn every_output_names_its_cause() {
    let world = World::new();
    world.append("in", "a");
    world.append("in", "b");
    let out = world.run_until(&mut Scripted::default(), "out", 2);
    assert_eq!(out.iter().map(|record| header(record, "cause")).collect::<Vec<_>>(), ["0:0:0", "0:1:0"]);
    assert!(out.iter().all(|record| record.header("cause-topic").is_none()));
}

#[test]
fn a_redone_record_names_the_topic_of_its_cause() {
    let world = World::new();
    world.append("redo", "again");
    let out = world.run_until(&mut Scripted::default(), "out", 1);
    assert_eq!((header(&out[0], "cause"), header(&out[0], "cause-topic")), ("0:0:0".to_owned(), "redo".to_owned()));
}

#[test]
fn a_refused_record_is_a_dead_letter_and_nothing_else_of_it_happens() {
    let world = World::new();
    for value in ["a", "refuse", "b"] {
        world.append("in", value);
    }
    let out = world.run_until(&mut Scripted::default(), "out", 2);
    assert_eq!(out.iter().map(text).collect::<Vec<_>>(), ["a", "b"]);
    let dead = world.read("dead", 1);
    assert_eq!((text(&dead[0]), header(&dead[0], "reason")), ("refuse".to_owned(), "refused_here".to_owned()));
    assert_eq!((header(&dead[0], "source"), header(&dead[0], "tenant")), ("in:0:1".to_owned(), "acme".to_owned()));
}

#[test]
fn a_record_that_panics_twice_is_parked_and_its_neighbours_are_processed_once() {
    let world = World::new();
    for value in ["a", "panic", "b"] {
        world.append("in", value);
    }
    let mut step = Scripted::default();
    let panics = Arc::clone(&step.panics);
    let out = world.run_until(&mut step, "out", 2);
    assert_eq!(out.iter().map(text).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(panics.load(Ordering::Relaxed), 2);
    assert_eq!(header(&world.read("dead", 1)[0], "reason"), "panicked");
}

#[test]
fn a_record_that_must_wait_is_read_again_and_nothing_passes_it() {
    let world = World::new();
    for value in ["wait", "b"] {
        world.append("in", value);
    }
    let mut step = Scripted::default();
    let out = world.run_until(&mut step, "out", 2);
    assert_eq!(out.iter().map(text).collect::<Vec<_>>(), ["wait", "b"]);
    assert_eq!(step.waits, 2);
}

#[test]
fn a_second_run_goes_on_where_the_first_ended() {
    let world = World::new();
    world.append("in", "a");
    world.run_until(&mut Scripted::default(), "out", 1);
    world.append("in", "b");
    let mut second = Scripted::default();
    let out = world.run_until(&mut second, "out", 2);
    assert_eq!(out.iter().map(text).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(second.seen.keys().collect::<Vec<_>>(), ["b"]);
}
