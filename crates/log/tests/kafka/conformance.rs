//! The suite on Kafka.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use countersign_log::conformance::{Damage, Failure, Harness, cases};
use countersign_log::kafka::KafkaLog;
use countersign_log::{
    AckSink, Fault, Group, Log, Member, Output, Position, Session, Tail, Topic, TopicChange, TopicSpec,
};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;

use crate::broker;

struct Kafka {
    log: Mutex<Option<Arc<KafkaLog>>>,
    state: tempfile::TempDir,
    kept: tempfile::TempDir,
}

impl Kafka {
    fn new() -> Self {
        let (state, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let log = Mutex::new(Some(Arc::new(broker::open(state.path()))));
        Self { log, state, kept }
    }

    fn of(&self, group: &str) -> PathBuf {
        self.state.path().join(group)
    }
}

impl Harness for Kafka {
    fn log(&self) -> Arc<dyn Log> {
        Arc::new(Shared(Arc::clone(self.log.lock().unwrap().as_ref().unwrap())))
    }

    fn reopen(&self) -> Result<(), Failure> {
        let mut log = self.log.lock().unwrap();
        drop(log.take());
        *log = Some(Arc::new(KafkaLog::open(broker::config(self.state.path()))?));
        Ok(())
    }

    fn fresh_name(&self, base: &str) -> String {
        broker::fresh_name(base)
    }

    fn keep_state(&self, group: &str) -> Result<bool, Failure> {
        copy(&self.of(group), &self.kept.path().join(group));
        Ok(true)
    }

    fn damage_state(&self, group: &str, damage: Damage) -> Result<bool, Failure> {
        match damage {
            Damage::Lost => std::fs::remove_dir_all(self.of(group)).unwrap(),
            Damage::Stale => {
                std::fs::remove_dir_all(self.of(group)).unwrap();
                copy(&self.kept.path().join(group), &self.of(group));
            }
            Damage::Foreign => {
                for partition in std::fs::read_dir(self.of(group)).unwrap() {
                    make_foreign(&partition.unwrap().path());
                }
            }
        }
        Ok(true)
    }

    /// Waits until the members are gone: the broker keeps the offsets of a group that has any.
    fn lose_offsets(&self, group: &str) -> Result<(), Failure> {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", broker::brokers());
        let admin: AdminClient<DefaultClientContext> = client.create().unwrap();
        let deadline = Instant::now() + self.wait();
        loop {
            let deleted = broker::wait(admin.delete_groups(&[group], &AdminOptions::new())).unwrap();
            match deleted.into_iter().next().unwrap() {
                Ok(_) => return Ok(()),
                Err((_, code)) if Instant::now() >= deadline => {
                    return Err(Failure(format!("the offsets of {group} cannot be taken away: {code}")));
                }
                Err(_) => std::thread::yield_now(),
            }
        }
    }

    fn wait(&self) -> Duration {
        Duration::from_secs(60)
    }
}

/// The trait is implemented for the log, and cases want to own one.
struct Shared(Arc<KafkaLog>);

impl Log for Shared {
    fn identity(&self) -> &str {
        self.0.identity()
    }

    fn apply(&self, topics: &[TopicSpec], groups: &[Group]) -> Result<Vec<TopicChange>, Fault> {
        self.0.apply(topics, groups)
    }

    fn partitions(&self, topic: &Topic) -> Result<Option<u32>, Fault> {
        self.0.partitions(topic)
    }

    fn ends(&self, topic: &Topic) -> Result<Vec<Position>, Fault> {
        self.0.ends(topic)
    }

    fn starts(&self, topic: &Topic) -> Result<Vec<Position>, Fault> {
        self.0.starts(topic)
    }

    fn progress(&self, group: &str, topic: &Topic) -> Result<Vec<Position>, Fault> {
        self.0.progress(group, topic)
    }

    fn join(&self, member: &Member) -> Result<Box<dyn Session>, Fault> {
        self.0.join(member)
    }

    fn append(&self, out: &Output<'_>, done: AckSink) -> Result<(), Fault> {
        self.0.append(out, done)
    }

    fn tail(&self, from: &[Position]) -> Result<Box<dyn Tail>, Fault> {
        self.0.tail(from)
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// Writes another cluster's id into the store's header.
fn make_foreign(store: &Path) {
    let database = fjall::Database::builder(store).open().unwrap();
    let head = database.keyspace("head", fjall::KeyspaceCreateOptions::default).unwrap();
    let header = head.get("header").unwrap().unwrap();
    let mut header: serde_json::Value = serde_json::from_slice(&header).unwrap();
    header["cluster"] = "another".into();
    head.insert("header", serde_json::to_vec(&header).unwrap()).unwrap();
}

/// One line for each case, so that a slow one is seen; all run before the first failure is told.
#[test]
fn kafka_keeps_what_every_log_must() {
    let harness = Kafka::new();
    let filter = std::env::var("COUNTERSIGN_TEST_CASE").unwrap_or_default();
    let mut failures = Vec::new();
    for case in cases().iter().filter(|case| case.name.contains(&filter)) {
        let begun = Instant::now();
        let outcome = case.run(&harness);
        println!("{:6.2} s  {}", begun.elapsed().as_secs_f64(), case.name);
        failures.extend(outcome.err().map(|failure| format!("{}: {failure}", case.name)));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
