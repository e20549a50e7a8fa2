//! A process that is killed in the middle of a transaction, and the one that follows it on the same slot.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use countersign_log::{Batch, Group, Log, Member, Polled, Topic};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::broker;
use crate::copier::{Copier, PATIENCE, append, output, values};

const CHILD: &str = "COUNTERSIGN_TEST_CHILD";
const READY: &str = "staged and not committed";

/// The child: stages a transaction and waits to be killed. Without its variable this is no test.
#[test]
fn child_that_is_killed() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let [group, input, result, state, directory] = &told.split(' ').collect::<Vec<_>>()[..] else { panic!("{told}") };
    let log = broker::open(directory.as_ref());
    let member = Member {
        group: (*group).to_owned(),
        slot: "slot-0".into(),
        inputs: vec![Topic::new(input)],
        state: Some(Topic::new(state)),
    };
    let copier = Copier { member, output: Topic::new(result) };
    let mut session = copier.join(&log);
    let mut batch = Batch::default();
    while batch.records.is_empty() {
        session.poll(Duration::from_millis(50), &mut batch).unwrap();
    }
    session.put(0, b"count", Some(&99_u64.to_be_bytes())).unwrap();
    session.emit(&output(&copier.output, b"99")).unwrap();
    println!("\n{READY}");
    loop {
        std::thread::park();
    }
}

#[test]
fn a_killed_process_is_followed_quickly_and_leaves_nothing_behind() {
    let (state_dir, child_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = broker::open(state_dir.path());
    let copier = Copier::new(&log);
    append(&log, copier.input(), 0..3);
    let directory = child_dir.path().to_str().unwrap();
    let told =
        [&copier.member.group, copier.input().as_str(), copier.output.as_str(), copier.state().as_str(), directory];
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child_that_is_killed", "--nocapture"])
        .env(CHILD, told.join(" "))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains(READY)), "the child ended by itself");
    child.kill().unwrap();
    child.wait().unwrap();

    let killed = Instant::now();
    let mut session = log.join(&copier.member).unwrap();
    let mut batch = Batch::default();
    while batch.records.is_empty() {
        assert!(killed.elapsed() < PATIENCE, "nothing is read after the kill");
        let polled = session.poll(Duration::from_millis(10), &mut batch).unwrap();
        assert!(!matches!(polled, Polled::Revoke { .. }), "{polled:?}");
    }
    println!("from the kill to the first record again: {} ms", killed.elapsed().as_millis());
    assert_eq!(copier.count(session.as_ref()), 0, "the cell of the killed process is there");
    while batch.records.len() < 3 {
        session.poll(Duration::from_millis(10), &mut batch).unwrap();
    }
    copier.copy(session.as_mut(), &batch.records).unwrap();
    assert_eq!(values(&log, &copier.output), [0, 1, 2]);
    assert_eq!(copier.count(session.as_ref()), 3);
}

/// A process that died between `send_offsets_to_transaction` and its commit leaves offsets pending until its slot is taken
/// over. Applying the topics comes before that, at every start, and must not wait for it.
#[test]
fn topics_are_applied_while_the_offsets_of_a_dead_process_are_pending() {
    let state_dir = tempfile::tempdir().unwrap();
    let log = broker::open(state_dir.path());
    let copier = Copier::new(&log);
    append(&log, copier.input(), 0..3);
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", broker::brokers()).set("group.id", &copier.member.group);
    let member: BaseConsumer = client.create().unwrap();
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", broker::brokers()).set("transactional.id", broker::fresh_name("dead"));
    let dead: BaseProducer = client.create().unwrap();
    dead.init_transactions(PATIENCE).unwrap();
    dead.begin_transaction().unwrap();
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(copier.input().as_str(), 0, Offset::Offset(2)).unwrap();
    dead.send_offsets_to_transaction(&offsets, &member.group_metadata().unwrap(), PATIENCE).unwrap();

    let group = Group { name: copier.member.group.clone(), inputs: copier.member.inputs.clone() };
    log.apply(&[], &[group]).unwrap();
    dead.abort_transaction(PATIENCE).unwrap();
    let progress = log.progress(&copier.member.group, copier.input()).unwrap();
    assert_eq!(progress.iter().map(|at| at.offset).collect::<Vec<_>>(), [0], "the first offset has been touched");
}
