//! State comes back with the last transaction that was committed, however late its markers land (KAFKA-10167).

use std::sync::mpsc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::broker;
use crate::copier::{Copier, PATIENCE};

/// An open transaction in the changelog is what a commit looks like whose marker has not landed yet.
#[test]
fn restoring_waits_for_what_lies_before_the_uncommitted_end() {
    let state_dir = tempfile::tempdir().unwrap();
    let log = broker::open(state_dir.path());
    let copier = Copier::new(&log);
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", broker::brokers()).set("transactional.id", broker::fresh_name("late"));
    let late: BaseProducer = client.create().unwrap();
    late.init_transactions(PATIENCE).unwrap();
    late.begin_transaction().unwrap();
    let count = 7_u64.to_be_bytes();
    late.send(BaseRecord::to(copier.state().as_str()).partition(0).key(b"count").payload(&count)).unwrap();
    while late.in_flight_count() > 0 {
        late.poll(Duration::from_millis(5));
    }

    std::thread::scope(|scope| {
        let (tell, told) = mpsc::channel();
        scope.spawn({
            let (log, copier) = (&log, &copier);
            move || {
                let session = copier.join(log);
                tell.send(copier.count(session.as_ref())).unwrap();
            }
        });
        let early = told.recv_timeout(Duration::from_secs(2));
        assert!(early.is_err(), "restored to {early:?} while the last transaction was still to land");
        late.commit_transaction(PATIENCE).unwrap();
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), 7, "the last transaction is missing from the state");
    });
}

/// An abort leaves records that are never shown; they must not hold the restore up, nor be restored.
#[test]
fn an_aborted_tail_of_the_changelog_is_passed_over() {
    let state_dir = tempfile::tempdir().unwrap();
    let log = broker::open(state_dir.path());
    let copier = Copier::new(&log);
    let mut session = copier.join(&log);
    session.put(0, b"count", Some(&3_u64.to_be_bytes())).unwrap();
    session.commit(&session.positions()).unwrap();
    drop(session);
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", broker::brokers()).set("transactional.id", broker::fresh_name("aborted"));
    let aborted: BaseProducer = client.create().unwrap();
    aborted.init_transactions(PATIENCE).unwrap();
    aborted.begin_transaction().unwrap();
    let count = 9_u64.to_be_bytes();
    aborted.send(BaseRecord::to(copier.state().as_str()).partition(0).key(b"count").payload(&count)).unwrap();
    while aborted.in_flight_count() > 0 {
        aborted.poll(Duration::from_millis(5));
    }
    aborted.abort_transaction(PATIENCE).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    for place in [state_dir.path(), elsewhere.path()] {
        let log = broker::open(&place.join("again"));
        assert_eq!(copier.count(copier.join(&log).as_ref()), 3);
    }
}
