//! A member whose slot the group knows under another id: one that a lost answer made, or that of a second process.

use std::time::{Duration, Instant};

use countersign_log::{Batch, Polled};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::broker;
use crate::copier::{Copier, PATIENCE, append, values};

const RECORDS: u64 = 6;

/// Joins as our member does, but claims nothing: what a join is whose answer was lost.
fn ghost_of(copier: &Copier) -> BaseConsumer {
    let member = &copier.member;
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", broker::brokers())
        .set("group.id", &member.group)
        .set("group.instance.id", format!("{}-{}", member.group, member.slot))
        .set("group.protocol", "classic")
        .set("partition.assignment.strategy", "range")
        .set("session.timeout.ms", "6000")
        .set("enable.auto.commit", "false");
    let ghost: BaseConsumer = config.create().unwrap();
    ghost.subscribe(&[copier.input().as_str()]).unwrap();
    ghost
}

/// Without the claim (`Claim::is_ours`) the session takes its own ghost for a second process and ends.
#[test]
fn a_session_outlives_its_own_ghost_and_copies_everything_once() {
    let state_dir = tempfile::tempdir().unwrap();
    let log = broker::open(state_dir.path());
    let copier = Copier::new(&log);
    append(&log, copier.input(), 0..RECORDS);
    let mut session = copier.join(&log);
    let deadline = Instant::now() + PATIENCE;
    let mut batch = Batch::default();
    while batch.records.is_empty() {
        session.poll(Duration::from_millis(20), &mut batch).unwrap();
        assert!(Instant::now() < deadline, "nothing is read");
    }
    copier.copy(session.as_mut(), &batch.records[..1]).unwrap();

    let ghost = ghost_of(&copier);
    while ghost.assignment().unwrap().count() == 0 {
        let _ = ghost.poll(Duration::from_millis(20));
        assert!(Instant::now() < deadline, "the ghost never takes the place");
    }

    let (mut lost, mut copied) = (false, 1);
    while copied < RECORDS {
        assert!(Instant::now() < deadline, "{copied} copied, lost: {lost}");
        let mut batch = Batch::default();
        match session.poll(Duration::from_millis(20), &mut batch) {
            Ok(Polled::Revoke { lost: is_lost, .. }) => {
                lost |= is_lost;
                session.recover().unwrap();
                session.release().unwrap();
            }
            Ok(Polled::Assigned(_)) => {}
            Ok(Polled::Records { .. }) if batch.records.is_empty() => {}
            Ok(Polled::Records { .. }) => match copier.copy(session.as_mut(), &batch.records) {
                Ok(()) => copied += batch.records.len() as u64,
                Err(fault) => {
                    assert!(!matches!(fault, countersign_log::Fault::Fatal(_)), "{fault}");
                    session.recover().unwrap();
                }
            },
            Err(countersign_log::Fault::Fatal(cause)) => panic!("{cause}"),
            Err(_) => session.recover().unwrap(),
        }
    }
    assert!(lost, "the ghost never stood in the way");
    assert_eq!(values(&log, &copier.output), (0..RECORDS).collect::<Vec<_>>());
    assert_eq!(copier.count(session.as_ref()), RECORDS);
}
