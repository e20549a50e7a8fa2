//! The runner on the embedded log: what it does with records that are refused, that panic, or that cannot be decided yet.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use log::embedded::EmbeddedLog;
use log::{Cause, Fault, Group, Log, Member, Output, Position, Record, Topic};
use stage::redone::{Asked, Redone};
use stage::testing::{Hook, HookedLog, Point, append, open_log, read};
use stage::{Effects, Emit, Reject, RunOptions, Step, StepError, Stop};

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
        let topics = ["in", "redo", "out", "dead", "state"].map(|name| (name.to_owned(), 1));
        let group = Group { name: "step".into(), inputs: vec![topic("in"), topic("redo")] };
        Self { log: open_log(dir.path(), topics, &[group]), _dir: dir }
    }

    fn append(&self, to: &str, value: &str) {
        let value = Some(value.as_bytes());
        append(&self.log, &Output { topic: &topic(to), partition: Some(0), key: Some(b"k"), value, headers: &[] });
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
        self.run_on(&self.log, step, name, count)
    }

    fn run_on(&self, log: &dyn Log, step: &mut (dyn Step + Send), name: &str, count: usize) -> Vec<Record> {
        self.run_with(&Self::options(), log, step, name, count)
    }

    fn run_with(
        &self,
        options: &RunOptions,
        log: &dyn Log,
        step: &mut (dyn Step + Send),
        name: &str,
        count: usize,
    ) -> Vec<Record> {
        let stop = Stop::new();
        std::thread::scope(|scope| {
            let runner = scope.spawn(|| stage::run(log, step, options, &stop));
            let records = self.read(name, count);
            stop.request();
            runner.join().unwrap().unwrap();
            records
        })
    }

    fn read(&self, name: &str, count: usize) -> Vec<Record> {
        read(&self.log, &topic(name), count)
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
            "endless" => Err(StepError::Wait("as told".into())),
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

/// Copies what it reads; a redo once.
#[derive(Default)]
struct Once(Redone);

impl Step for Once {
    fn apply(&mut self, record: &Record, effects: &mut dyn Effects) -> Result<(), StepError> {
        if record.topic == topic("redo") {
            self.0.claim(Asked { record, name: &text(record), tenant: "acme" }, effects)?;
        }
        effects.emit(Emit {
            topic: topic("out"),
            partition: None,
            key: record.key.clone(),
            value: record.value.clone(),
            headers: Vec::new(),
        })?;
        Ok(())
    }

    fn finish(&mut self, partition: u32, effects: &mut dyn Effects) -> Result<(), StepError> {
        Ok(self.0.finish(partition, effects)?)
    }

    fn reset(&mut self, _assigned: &[Position]) {
        self.0.clear();
    }
}

#[test]
fn a_redo_that_is_repeated_happens_once_whatever_becomes_of_its_commit() {
    type Made = fn(Cause) -> Fault;
    for (aborted, unknown) in [(0, 0), (1, 0), (0, 1), (2, 1)] {
        let world = World::new();
        for value in ["a", "a", "b"] {
            world.append("redo", value);
        }
        let left = (AtomicU32::new(aborted), AtomicU32::new(unknown));
        let hook: Hook = Arc::new(move |point| {
            let (left, made): (_, Made) = match point {
                Point::BeforeCommit => (&left.0, Fault::Abort),
                Point::AfterCommit => (&left.1, Fault::Unknown),
                Point::Polled(_) | Point::BeforeEmit(_) => return None,
            };
            let fails = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
            fails.then(|| made(Cause::new("planted", "by the test")))
        });
        let log = HookedLog { log: world.log.clone(), hook };
        let out = world.run_on(&log, &mut Once::default(), "out", 2);
        // Once more, by another run.
        world.append("redo", "b");
        world.run_until(&mut Once::default(), "dead", 2);
        assert_eq!(out.iter().map(text).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(world.read("out", 2).len(), 2);
        let dead = world.read("dead", 2);
        assert!(dead.iter().all(|letter| header(letter, "reason") == "already_decided"));
        assert_eq!(dead.iter().map(text).collect::<Vec<_>>(), ["a", "b"]);
    }
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

/// A record at which the step panics would end every process that reads it, for ever (R9). At the second time it is parked, and
/// its neighbours are processed once. Remove `*self.panics.entry(position.clone()).or_default() += 1;` in
/// `crates/stage/src/runner.rs` to see it fail.
#[test]
fn hole_a_record_that_panics_the_step_twice() {
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
fn a_record_that_must_wait_holds_up_its_own_partition_only() {
    let world = World::new();
    for value in ["before", "endless", "after"] {
        world.append("in", value);
    }
    world.append("redo", "beside");
    let out = world.run_until(&mut Scripted::default(), "out", 2);
    let mut copied: Vec<String> = out.iter().map(text).collect();
    copied.sort();
    assert_eq!(copied, ["before", "beside"], "committed although the record between them waits");
    let progress = world.log.progress("step", &topic("in")).unwrap();
    assert_eq!(progress[0].offset, 1, "the record is still to be read");
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

/// Records so slow that a poll of them would outlast a transaction are committed in parts, and none twice.
#[test]
fn what_is_left_of_a_slow_poll_comes_in_the_next_transaction() {
    let world = World::new();
    let values = ["a", "b", "c", "d", "e"];
    for value in values {
        world.append("in", value);
    }
    let mut step = Counted::default();
    let options = RunOptions { batch_apply_max: std::time::Duration::ZERO, ..World::options() };
    let out = world.run_with(&options, &world.log, &mut step, "out", values.len());
    assert_eq!(out.iter().map(text).collect::<Vec<_>>(), values);
    assert_eq!(
        (step.applied, step.commits),
        (values.len(), values.len()),
        "each is applied once, in its own transaction"
    );
}

/// Copies what it reads and counts its transactions.
#[derive(Default)]
struct Counted {
    copy: Once,
    applied: usize,
    commits: usize,
}

impl Step for Counted {
    fn apply(&mut self, record: &Record, effects: &mut dyn Effects) -> Result<(), StepError> {
        self.applied += 1;
        self.copy.apply(record, effects)
    }

    fn committed(&mut self, _committed: &log::Committed) {
        self.commits += 1;
    }
}
