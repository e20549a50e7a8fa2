//! What only the embedded log promises: its directory, its retention, its ends after kill -9.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests are tests")]

use std::path::Path;
use std::time::Duration;

use countersign_log::embedded::EmbeddedLog;
use countersign_log::{Batch, Cleanup, Group, Log, Member, Output, Polled, Position, Session, Topic, TopicSpec};

const WAIT: Duration = Duration::from_secs(10);

fn topic(name: &str, partitions: u32, cleanup: Cleanup) -> TopicSpec {
    TopicSpec { topic: Topic::new(name), partitions, cleanup, log_append_time: true }
}

const KEPT: Cleanup = Cleanup::Delete { retention: None };

fn open(dir: &Path) -> EmbeddedLog {
    let log = EmbeddedLog::open(dir).unwrap();
    let topics = [topic("in", 4, KEPT), topic("out", 4, KEPT), topic("state", 4, Cleanup::Compact)];
    log.apply(&topics, &[Group { name: "step".into(), inputs: vec![Topic::new("in")] }]).unwrap();
    log
}

fn append(log: &EmbeddedLog, topic: &str, key: &str, value: Option<&str>) -> Position {
    let (done, acked) = std::sync::mpsc::channel();
    let topic = Topic::new(topic);
    let out = Output {
        topic: &topic,
        partition: None,
        key: Some(key.as_bytes()),
        value: value.map(str::as_bytes),
        headers: &[],
    };
    log.append(&out, Box::new(move |result| done.send(result).unwrap())).unwrap();
    acked.recv_timeout(WAIT).unwrap().unwrap()
}

fn join(log: &EmbeddedLog, slot: &str) -> Box<dyn Session> {
    let inputs = vec![Topic::new("in")];
    log.join(&Member { group: "step".into(), slot: slot.into(), inputs, state: Some(Topic::new("state")) }).unwrap()
}

fn read_all(log: &EmbeddedLog, topic: &str) -> Batch {
    let topic = Topic::new(topic);
    let mut tail = log.tail(&log.starts(&topic).unwrap()).unwrap();
    let mut batch = Batch::default();
    while !tail.poll(Duration::ZERO, &mut batch).unwrap() {}
    batch
}

#[test]
fn a_step_goes_on_after_a_reopening_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let partition = append(&log, "in", "k", Some("v")).partition;
    let mut session = join(&log, "a");
    let mut batch = Batch::default();
    assert!(matches!(session.poll(WAIT, &mut batch).unwrap(), Polled::Assigned(positions) if positions.len() == 4));
    assert_eq!(session.poll(WAIT, &mut batch).unwrap(), Polled::Records { drained: true });
    let out = Topic::new("out");
    session
        .emit(&Output { topic: &out, partition: None, key: Some(b"k"), value: Some(b"w"), headers: &[("h", b"1")] })
        .unwrap();
    session.put(partition, b"cell", Some(b"1")).unwrap();
    let committed = session.commit(&session.positions()).unwrap();
    assert_eq!(committed.ends, [Position { topic: out, partition, offset: 1 }]);
    drop((session, log));

    let log = open(dir.path());
    let mut session = join(&log, "a");
    assert!(matches!(session.poll(WAIT, &mut batch).unwrap(), Polled::Assigned(_)));
    assert!(session.positions().contains(&Position { topic: Topic::new("in"), partition, offset: 1 }));
    let mut cell = Vec::new();
    assert!(session.get(partition, b"cell", &mut cell).unwrap());
    assert_eq!(cell, b"1");
    assert_eq!(read_all(&log, "out").records[0].value.as_deref(), Some(&b"w"[..]));
}

#[test]
fn a_directory_in_use_names_its_holder() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let fault = EmbeddedLog::open(dir.path()).err().unwrap();
    assert_eq!(fault.cause().code, "log_locked");
    assert!(fault.cause().detail.contains(&std::process::id().to_string()), "{fault}");
    drop(log);
    EmbeddedLog::open(dir.path()).unwrap();
}

#[test]
fn a_foreign_or_newer_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let identity = open(dir.path()).identity().to_owned();
    assert_eq!(open(dir.path()).identity(), identity);
    for (header, code) in [
        ("countersign-log 2 0123", "log_format"),
        ("countersign-log 1 0123", "log_foreign"),
        ("something else", "log_foreign"),
    ] {
        std::fs::write(dir.path().join("format"), header).unwrap();
        assert_eq!(EmbeddedLog::open(dir.path()).err().unwrap().cause().code, code, "{header}");
    }
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("photo.jpg"), b"").unwrap();
    assert_eq!(EmbeddedLog::open(other.path()).err().unwrap().cause().code, "log_foreign");
}

#[test]
fn retention_moves_the_start_and_never_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    log.apply(&[topic("short", 1, Cleanup::Delete { retention: Some(Duration::ZERO) })], &[]).unwrap();
    let first = append(&log, "short", "a", Some("1"));
    // Time has to pass, not to be waited for: the log's clock is in milliseconds.
    while append(&log, "in", "x", Some("1")).offset < 1_000_000 && log.starts(&first.topic).unwrap()[0].offset == 0 {
        log.tidy().unwrap();
    }
    assert_eq!(log.starts(&first.topic).unwrap(), log.ends(&first.topic).unwrap());
    drop(log);
    let log = open(dir.path());
    assert_eq!(log.starts(&first.topic).unwrap()[0].offset, 1);
    assert_eq!(append(&log, "short", "a", Some("2")).offset, 1);
    let mut tail = log.tail(&[Position { offset: 0, ..first }]).unwrap();
    assert_eq!(tail.poll(WAIT, &mut Batch::default()).unwrap_err().cause().code, "offset_out_of_range");
}

#[test]
fn a_compacted_topic_keeps_the_newest_of_each_key_at_its_offset() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    log.apply(&[topic("latest", 1, Cleanup::Compact)], &[]).unwrap();
    for (key, value) in [("a", Some("1")), ("b", Some("2")), ("a", Some("3")), ("b", None), ("c", Some("4"))] {
        append(&log, "latest", key, value);
    }
    log.tidy().unwrap();
    let kept = read_all(&log, "latest").records;
    let kept = kept.iter().map(|r| (r.offset, r.value.as_deref())).collect::<Vec<_>>();
    assert_eq!(kept, [(2, Some(&b"3"[..])), (3, None), (4, Some(&b"4"[..]))]);
    assert_eq!(append(&log, "latest", "a", Some("5")).offset, 5);
}

/// Changes one byte of a record's value in the journal, where a page that was never written would leave zeros.
fn damage(dir: &Path, value: &str) {
    let journal = std::fs::read_dir(dir.join("db")).unwrap().map(|entry| entry.unwrap().path());
    let journal =
        journal.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "jnl")).unwrap();
    let mut bytes = std::fs::read(&journal).unwrap();
    let at = bytes.windows(value.len()).position(|window| window == value.as_bytes()).unwrap();
    bytes[at] = 0;
    std::fs::write(journal, bytes).unwrap();
}

/// The power went while the last batch was written: its frame is there, its bytes are not (R1). Nobody was told of it, so it
/// goes, and the log opens with all that came before. Remove `file.set_len(start)?;` in
/// `crates/log/src/embedded/torn.rs` to see it fail.
#[test]
fn hole_a_torn_last_write_of_the_embedded_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    for value in ["value one", "value two", "value three"] {
        append(&log, "in", "k", Some(value));
    }
    drop(log);
    damage(dir.path(), "value three");
    let log = open(dir.path());
    let values = read_all(&log, "in").records.into_iter().map(|record| record.value.unwrap()).collect::<Vec<_>>();
    assert_eq!(values, ["value one", "value two"]);
    assert_eq!(append(&log, "in", "k", Some("value four")).offset, 2);
    drop(log);
    assert_eq!(read_all(&open(dir.path()), "in").records.len(), 3);
}

#[test]
fn damage_further_in_is_refused_and_nothing_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    for value in ["value one", "value two", "value three"] {
        append(&log, "in", "k", Some(value));
    }
    drop(log);
    damage(dir.path(), "value two");
    for _ in 0..2 {
        assert_eq!(EmbeddedLog::open(dir.path()).err().unwrap().cause().code, "log_open_failed");
    }
}

#[test]
fn forgotten_cells_stay_forgotten_and_are_not_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let mut session = join(&log, "a");
    session.poll(WAIT, &mut Batch::default()).unwrap();
    for key in ["1a", "1b", "2a"] {
        session.put(0, key.as_bytes(), Some(b"x")).unwrap();
    }
    session.commit(&session.positions()).unwrap();
    session.forget(0, b"1").unwrap();
    session.commit(&session.positions()).unwrap();
    drop((session, log));
    let log = open(dir.path());
    let mut session = join(&log, "a");
    session.poll(WAIT, &mut Batch::default()).unwrap();
    let mut keys = Vec::new();
    session
        .scan(0, b"", &mut |key, _| {
            keys.push(key.to_vec());
            true
        })
        .unwrap();
    assert_eq!(keys, [b"2a"]);
    assert_eq!(session.put(0, b"1c", Some(b"x")).unwrap_err().cause().code, "cell_forgotten");
    assert_eq!(session.put(0, &[0; 70_000], None).unwrap_err().cause().code, "cell_key_too_long");
}
