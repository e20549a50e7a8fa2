//! What is acknowledged is on the disk: after kill -9 at any moment, and when everything that was not synced is lost.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, reason = "helpers of tests are tests")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use countersign_log::embedded::EmbeddedLog;
use countersign_log::{Batch, Cleanup, Fault, Group, Log, Member, Output, Polled, Position, Session, Topic, TopicSpec};

const WAIT: Duration = Duration::from_secs(30);
const CHILD_DIR: &str = "COUNTERSIGN_LOG_TEST_CHILD_DIR";
const FULL_DISK_DIR: &str = "COUNTERSIGN_LOG_TEST_FULL_DISK_DIR";
const CHILD_TEST: &str = "child_appends_and_commits_until_it_is_killed";

fn prepare(log: &EmbeddedLog) {
    let kept = Cleanup::Delete { retention: None };
    let spec = |name| TopicSpec { topic: Topic::new(name), partitions: 1, cleanup: kept, log_append_time: true };
    let group = Group { name: "step".into(), inputs: vec![Topic::new("in")] };
    log.apply(&[spec("in"), spec("out"), spec("state")], &[group]).unwrap();
}

fn append(log: &EmbeddedLog, value: &[u8]) -> Position {
    let (done, acked) = std::sync::mpsc::channel();
    let topic = Topic::new("in");
    let out = Output { topic: &topic, partition: Some(0), key: None, value: Some(value), headers: &[] };
    log.append(&out, Box::new(move |result| done.send(result).unwrap())).unwrap();
    acked.recv_timeout(WAIT).unwrap().unwrap()
}

fn join(log: &EmbeddedLog) -> Box<dyn Session> {
    let inputs = vec![Topic::new("in")];
    let member = Member { group: "step".into(), slot: "0".into(), inputs, state: Some(Topic::new("state")) };
    let mut session = log.join(&member).unwrap();
    assert!(matches!(session.poll(WAIT, &mut Batch::default()).unwrap(), Polled::Assigned(_)));
    session
}

fn count_of(session: &dyn Session) -> u64 {
    let mut cell = Vec::new();
    if !session.get(0, b"count", &mut cell).unwrap() {
        return 0;
    }
    u64::from_be_bytes(cell.try_into().unwrap())
}

/// One transaction: each record read is copied to the output and counted in the state. Answers the count.
fn step(session: &mut dyn Session) -> u64 {
    let mut batch = Batch::default();
    session.poll(WAIT, &mut batch).unwrap();
    let out = Topic::new("out");
    let mut count = count_of(session);
    for record in &batch.records {
        count += 1;
        let value = record.value.as_deref();
        session.emit(&Output { topic: &out, partition: Some(0), key: None, value, headers: &[] }).unwrap();
        session.put(0, b"count", Some(&count.to_be_bytes())).unwrap();
    }
    session.commit(&session.positions()).unwrap();
    count
}

fn read_all(log: &EmbeddedLog, topic: &str) -> Vec<countersign_log::Record> {
    let mut tail = log.tail(&log.starts(&Topic::new(topic)).unwrap()).unwrap();
    let mut batch = Batch::default();
    while !tail.poll(Duration::ZERO, &mut batch).unwrap() {}
    batch.records
}

/// Outputs, state and offsets agree, and the output is the input as far as it was read.
fn assert_whole(log: &EmbeddedLog) -> u64 {
    let (input, output) = (read_all(log, "in"), read_all(log, "out"));
    let session = join(log);
    let count = count_of(session.as_ref());
    assert_eq!(output.len() as u64, count, "outputs and state are one");
    assert_eq!(session.positions()[0].offset, count, "offsets and state are one");
    for (read, written) in input.iter().zip(&output) {
        assert_eq!((read.offset, &read.value), (written.offset, &written.value));
    }
    assert!(input.len() as u64 >= count);
    count
}

fn value_at(offset: u64) -> Vec<u8> {
    let mut value = offset.to_be_bytes().to_vec();
    value.resize(100 + usize::try_from(offset % 7).unwrap() * 300, 7);
    value
}

/// Not a test by itself: what `kill_9_loses_nothing_that_was_acknowledged` starts and kills.
#[test]
fn child_appends_and_commits_until_it_is_killed() {
    let Ok(dir) = std::env::var(CHILD_DIR) else { return };
    let log = EmbeddedLog::open(Path::new(&dir)).unwrap();
    prepare(&log);
    let stepping = log.clone();
    std::thread::spawn(move || {
        let mut session = join(&stepping);
        loop {
            println!("\ncommitted {}", step(session.as_mut()));
        }
    });
    let mut next = log.ends(&Topic::new("in")).unwrap()[0].offset;
    loop {
        assert_eq!(append(&log, &value_at(next)).offset, next);
        println!("\nappended {next}");
        next += 1;
    }
}

#[test]
fn kill_9_loses_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let seed = std::collections::hash_map::RandomState::new();
    for round in 0_u64..8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", CHILD_TEST, "--nocapture"])
            .env(CHILD_DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let random = std::hash::BuildHasher::hash_one(&seed, round);
        let (mut lines_left, mut appended, mut committed) = (random % 200, None, 0_u64);
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let Some((what, number)) = line.split_once(' ') else { continue };
            match (what, number.parse::<u64>()) {
                ("appended", Ok(offset)) => appended = appended.max(Some(offset)),
                ("committed", Ok(count)) => committed = committed.max(count),
                _ => continue,
            }
            if lines_left == 0 && committed > 0 {
                // Somewhere within the next commits rather than right after a line.
                let until = Instant::now() + Duration::from_micros(random % 5000);
                while Instant::now() < until {
                    std::hint::spin_loop();
                }
                let _ = child.kill();
            }
            lines_left = lines_left.saturating_sub(1);
        }
        assert!(!child.wait().unwrap().success(), "the child is killed, it does not end");
        let log = EmbeddedLog::open(dir.path()).unwrap();
        let input = read_all(&log, "in");
        assert!(input.last().map(|record| record.offset) >= appended, "round {round}: appended up to {appended:?}");
        for (offset, record) in (0..).zip(&input) {
            assert_eq!(
                (record.offset, record.value.as_deref()),
                (offset, Some(&value_at(offset)[..])),
                "round {round}"
            );
        }
        assert!(assert_whole(&log) >= committed, "round {round}: {committed} were committed");
    }
}

/// Bytes that do not compress.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed + 1;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(1024 * 1024).collect()
}

/// Not a test by itself: what `a_full_disk_is_a_fault_and_nothing_half_seen` starts under a limit of file size.
#[test]
fn child_writes_until_the_disk_is_full() {
    let Ok(dir) = std::env::var(FULL_DISK_DIR) else { return };
    let log = EmbeddedLog::open(Path::new(&dir)).unwrap();
    prepare(&log);
    (0..60).for_each(|seed| drop(append(&log, &noise(seed))));
    let mut session = join(&log);
    let (mut batch, out) = (Batch::default(), Topic::new("out"));
    while batch.records.len() < 60 {
        session.poll(WAIT, &mut batch).unwrap();
    }
    for record in &batch.records {
        let value = record.value.as_deref();
        session.emit(&Output { topic: &out, partition: Some(0), key: None, value, headers: &[] }).unwrap();
    }
    session.put(0, b"count", Some(&60_u64.to_be_bytes())).unwrap();
    assert!(matches!(session.commit(&session.positions()).unwrap_err(), Fault::Unknown(_)));
    // From here on nothing is written and everything that was acknowledged is still read.
    let refused =
        log.append(&Output { topic: &out, partition: Some(0), key: None, value: None, headers: &[] }, Box::new(drop));
    assert_eq!(refused.unwrap_err().cause().code, "log_damaged");
    assert_eq!(session.recover().unwrap_err().cause().code, "log_damaged");
    assert_eq!(log.ends(&out).unwrap()[0].offset, 0);
    assert_eq!(count_of(session.as_ref()), 0);
    assert_eq!(read_all(&log, "in").len(), 60);
    println!("\nrefused 1");
}

#[test]
fn a_full_disk_is_a_fault_and_nothing_half_seen() {
    let dir = tempfile::tempdir().unwrap();
    // The journal is 64 MiB before anything is written to it; 66 MiB is where the second 60 do not fit.
    let limited = "trap '' XFSZ; ulimit -f 135168; exec \"$0\" \"$@\"";
    let output = Command::new("sh")
        .args(["-c", limited])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child_writes_until_the_disk_is_full", "--nocapture"])
        .env(FULL_DISK_DIR, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("refused 1"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let log = EmbeddedLog::open(dir.path()).unwrap();
    assert_eq!(read_all(&log, "in").len(), 60);
    let count = assert_whole(&log);
    assert!(count == 0 || count == 60, "a batch of which {count} records came through");
    assert_eq!(append(&log, b"goes on").offset, 60);
}

#[cfg(feature = "conformance")]
mod lost_power {
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use countersign_log::embedded::{Options, Probe};

    use super::*;

    fn copy_all(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy_all(&entry.path(), &target);
            } else {
                std::fs::copy(entry.path(), target).unwrap();
            }
        }
    }

    /// Works in a directory of which only what was synced survives; from the fourth record on perhaps without syncing.
    /// Answers what was acknowledged, and the log as it comes back.
    fn acknowledged_and_found(skips_sync: bool) -> ((u64, u64), (u64, u64)) {
        let temporary = tempfile::tempdir().unwrap();
        let (dir, disk) = (temporary.path().join("log"), temporary.path().join("disk"));
        let (from, to): (PathBuf, PathBuf) = (dir.clone(), disk.clone());
        let after_sync = move || {
            let _ = std::fs::remove_dir_all(&to);
            copy_all(&from, &to);
        };
        let skips = Arc::new(AtomicBool::new(false));
        let probe = Probe { after_sync: Some(Arc::new(after_sync)), skips_sync: Arc::clone(&skips) };
        let log = EmbeddedLog::open_with(&dir, Options { probe, ..Options::default() }).unwrap();
        prepare(&log);
        let mut session = join(&log);
        let (mut appended, mut committed) = (0, 0);
        for offset in 0..8 {
            skips.store(skips_sync && offset >= 3, Ordering::Release);
            appended = append(&log, &value_at(offset)).offset + 1;
            committed = step(session.as_mut());
        }
        // The power goes: nothing of `dir` that was not synced is ever seen again.
        let found = EmbeddedLog::open(&disk).unwrap();
        let input = read_all(&found, "in");
        ((appended, committed), (input.len() as u64, assert_whole(&found)))
    }

    #[test]
    fn what_was_acknowledged_survives_the_loss_of_everything_not_synced() {
        let (acknowledged, found) = acknowledged_and_found(false);
        assert_eq!(acknowledged, (8, 8));
        assert_eq!(found, (8, 8));
    }

    #[test]
    fn a_log_that_does_not_sync_is_caught_by_the_same_test() {
        let (acknowledged, found) = acknowledged_and_found(true);
        assert_eq!(acknowledged, (8, 8));
        assert_eq!(found, (3, 3), "whole batches are lost, never parts");
    }
}
