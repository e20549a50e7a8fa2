//! What a commit costs. It prints; a machine that is busy with other tests decides nothing.

use std::time::{Duration, Instant};

use countersign_log::kafka::{KafkaConfig, KafkaLog, Timings};
use countersign_log::{Batch, Log, Position};

use crate::broker;
use crate::copier::{Copier, PATIENCE, append, output, values};

const TRANSACTIONS: usize = 200;

#[test]
fn commits_are_measured() {
    for records in [1_usize, 10, 100, 1_000] {
        let state_dir = tempfile::tempdir().unwrap();
        let log = broker::open(state_dir.path());
        let copier = Copier::new(&log);
        let mut session = copier.join(&log);
        let value = [b'x'; 512];
        let mut took = Vec::with_capacity(TRANSACTIONS);
        let begun = Instant::now();
        for _ in 0..TRANSACTIONS {
            // As a runner does between two transactions: a member that does not poll is given up.
            session.poll(Duration::ZERO, &mut Batch::default()).unwrap();
            for _ in 0..records {
                session.emit(&output(&copier.output, &value)).unwrap();
            }
            session.put(0, b"cell", Some(&value)).unwrap();
            let asked = Instant::now();
            session.commit(&session.positions()).unwrap();
            took.push(asked.elapsed());
        }
        let rate = (TRANSACTIONS * records) as f64 / begun.elapsed().as_secs_f64();
        took.sort();
        let at = |percent: usize| took[(took.len() - 1) * percent / 100].as_secs_f64() * 1_000.0;
        println!("{records:5} records a commit: p50 {:.2} ms, p99 {:.2} ms, {rate:.0} records/s", at(50), at(99));
    }
}

/// With every commit called slow, each is the last of its producer (R7).
#[test]
fn a_slow_commit_counts_and_its_producer_is_replaced() {
    let state_dir = tempfile::tempdir().unwrap();
    let timings = Timings { slow_commit: Duration::ZERO, ..broker::timings() };
    let config = KafkaConfig { timings, ..KafkaConfig::new(&broker::brokers(), state_dir.path()) };
    let log = KafkaLog::open(config).unwrap();
    let copier = Copier::new(&log);
    append(&log, copier.input(), 0..6);
    let mut session = copier.join(&log);
    let mut batch = Batch::default();
    let deadline = Instant::now() + PATIENCE;
    while batch.records.len() < 6 && Instant::now() < deadline {
        session.poll(Duration::from_millis(20), &mut batch).unwrap();
    }
    for record in &batch.records {
        copier.copy(session.as_mut(), std::slice::from_ref(record)).unwrap();
    }
    assert_eq!(values(&log, &copier.output), (0..6).collect::<Vec<_>>());
    assert_eq!(copier.count(session.as_ref()), 6);
    let progress = log.progress(&copier.member.group, copier.input()).unwrap();
    assert_eq!(progress, [Position { topic: copier.input().clone(), partition: 0, offset: 6 }]);
}
