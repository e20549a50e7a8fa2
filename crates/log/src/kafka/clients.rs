//! The clients that every part shares, and what they are asked: cluster, partitions, ends, committed offsets.

mod chatter;
mod ends;
mod topics;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use super::config::{self, KafkaConfig};
use super::driver::{Driver, Reads};
use super::fault::{During, fault, misconfigured};
use super::librdkafka::Librdkafka;
use super::store::Stores;
use super::watchdog::Watchdog;
use crate::{Cause, Fault, Position, Topic};

pub(super) use chatter::tell;

/// Of clients that read without a group of ours. They commit nothing, so the broker never makes a group of it.
const READER: &str = "countersign-reader";

/// What is known of the cluster and how to ask it more.
pub(super) struct Clients<D: Driver = Librdkafka> {
    pub(super) driver: D,
    pub(super) config: KafkaConfig,
    pub(super) watchdog: Watchdog,
    /// Answers ends up to the last stable offset.
    committed: D::Reader,
    /// Answers ends with open transactions (R3).
    uncommitted: D::Reader,
    /// A client can ask for the offsets of its own group alone.
    groups: Mutex<HashMap<String, Arc<D::Reader>>>,
    /// Where this process's own commits ended. Their markers land a little after the commit returns.
    own_ends: Mutex<HashMap<(Topic, u32), u64>>,
    /// Topics that some broker has told of: where another does not know one of them, it has not heard of it yet.
    seen: Mutex<HashSet<Topic>>,
    cluster: String,
}

impl Clients {
    pub(super) fn connect(config: KafkaConfig) -> Result<Self, Fault> {
        Self::over(Librdkafka, config)
    }
}

impl<D: Driver> Clients<D> {
    pub(super) fn over(driver: D, config: KafkaConfig) -> Result<Self, Fault> {
        let watchdog = driver.watchdog().map_err(|error| misconfigured("threads", error.to_string()))?;
        let committed = driver.reader(&config::consumer(&config, READER)?)?;
        let mut uncommitted = config::consumer(&config, READER)?;
        uncommitted.set("isolation.level", "read_uncommitted");
        let uncommitted = driver.reader(&uncommitted)?;
        let cluster = committed
            .cluster(config.timings.call)
            .map_err(|error| unreachable(&config.brokers, error))?
            .ok_or_else(|| misconfigured("cluster_without_id", format!("{} told no cluster id", config.brokers)))?;
        Ok(Self {
            driver,
            config,
            watchdog,
            committed,
            uncommitted,
            groups: Mutex::default(),
            own_ends: Mutex::default(),
            seen: Mutex::default(),
            cluster,
        })
    }

    pub(super) fn cluster(&self) -> &str {
        &self.cluster
    }

    pub(super) fn hang(&self) -> Duration {
        // No call may take a whole transaction longer than it is allowed to.
        self.config.timings.hang.max(self.config.timings.transaction * 2)
    }

    pub(super) fn stores(&self) -> Stores {
        Stores::new(self.config.state_dir.clone(), self.driver.disk())
    }

    pub(super) fn now(&self) -> Instant {
        self.driver.now()
    }

    fn call(&self) -> Duration {
        self.config.timings.call
    }

    /// How far a group has come; partitions without an offset are left out. Waits for commits that are under way.
    pub(super) fn progress(&self, group: &str, topic: &Topic, partitions: &[u32]) -> Result<Vec<Position>, Fault> {
        self.known_offsets(self.group_client(group)?.as_ref(), topic, partitions)
    }

    /// For questions whether a group has offsets at all. It does not wait for commits that are under way: those of a
    /// process that was killed end only when its slots are taken over, which comes later, or when they time out.
    pub(super) fn open_group_client(&self, group: &str) -> Result<D::Reader, Fault> {
        let mut client = config::consumer(&self.config, group)?;
        client.set("isolation.level", "read_uncommitted");
        self.driver.reader(&client)
    }

    /// The offsets that `client`'s group has; partitions without one are left out.
    pub(super) fn known_offsets(
        &self,
        client: &D::Reader,
        topic: &Topic,
        partitions: &[u32],
    ) -> Result<Vec<Position>, Fault> {
        let _watch = self.watchdog.watch("committed_offsets", self.hang());
        committed_offsets(client, topic, partitions, self.call())
    }

    /// Commits first offsets for a group that nobody is a member of.
    pub(super) fn set_first_offsets(&self, client: &D::Reader, topic: &Topic, partitions: &[u32]) -> Result<(), Fault> {
        let mut offsets = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            offsets
                .add_partition_offset(topic.as_str(), raw_partition(*partition), Offset::Offset(0))
                .map_err(|error| fault(During::Ask, error))?;
        }
        let _watch = self.watchdog.watch("commit_offsets", self.hang());
        client.commit(&offsets).map_err(|error| fault(During::Ask, error))
    }

    fn group_client(&self, group: &str) -> Result<Arc<D::Reader>, Fault> {
        if let Some(known) = self.groups.lock().get(group) {
            return Ok(Arc::clone(known));
        }
        let made = Arc::new(self.driver.reader(&config::consumer(&self.config, group)?)?);
        Ok(Arc::clone(self.groups.lock().entry(group.to_owned()).or_insert(made)))
    }

    /// A consumer that is assigned its partitions and belongs to no group.
    pub(super) fn reader(&self, cache_kbytes: u32) -> Result<D::Reader, Fault> {
        let mut client = config::consumer(&self.config, READER)?;
        client.set("queued.max.messages.kbytes", cache_kbytes.to_string());
        self.driver.reader(&client)
    }
}

/// Asks with any client of the group. The client reads committed, so offsets of open transactions are waited for.
pub(super) fn committed_offsets(
    client: &impl Reads,
    topic: &Topic,
    partitions: &[u32],
    patience: Duration,
) -> Result<Vec<Position>, Fault> {
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let mut asked = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        asked.add_partition(topic.as_str(), raw_partition(*partition));
    }
    let answered = client.committed_offsets(asked, patience).map_err(|error| match fault(During::Ask, error) {
        Fault::Retry(Cause { detail, source, .. }) => {
            let detail = format!(
                "{detail}; if it stays so, an open transaction holds the group's offsets back \
                 (Kafka's own tool for transactions finds and aborts one that hangs)"
            );
            Fault::Retry(Cause { code: "offsets_unavailable", detail, source })
        }
        other => other,
    })?;
    let mut known = Vec::with_capacity(partitions.len());
    for element in answered.elements() {
        element.error().map_err(|error| fault(During::Ask, error))?;
        if let Offset::Offset(offset) = element.offset() {
            known.push(position(topic, element.partition(), offset));
        }
    }
    Ok(known)
}

/// Until a consumer that was assigned anew has let go of where it was before: it stops the old fetchers in the
/// background, and meanwhile would tell their places as those of the new ones. Nothing may be polled in between.
pub(super) fn wait_let_go<D: Driver>(clients: &Clients<D>, consumer: &impl Reads) -> Result<(), Fault> {
    let deadline = clients.now() + clients.call();
    loop {
        let reached = consumer.position().map_err(|error| fault(During::Read, error))?;
        if reached.elements().iter().all(|element| !matches!(element.offset(), Offset::Offset(_))) {
            return Ok(());
        }
        if clients.now() >= deadline {
            return Err(Fault::Retry(Cause::new("unavailable", "a consumer did not leave its old place")));
        }
        clients.driver.sleep(Duration::from_millis(1));
    }
}

fn unreachable(brokers: &str, error: KafkaError) -> Fault {
    match fault(During::Ask, error) {
        Fault::Retry(cause) => {
            let detail = format!("no answer from Kafka at {brokers} ({})", cause.detail);
            Fault::Retry(Cause { code: "unavailable", detail, source: cause.source })
        }
        other => other,
    }
}

pub(super) fn position(topic: &Topic, partition: i32, offset: i64) -> Position {
    Position { topic: topic.clone(), partition: known_partition(partition), offset: known_offset(offset) }
}

/// The protocol counts partitions from 0; -1 stands for none, which no caller passes on.
pub(super) fn known_partition(partition: i32) -> u32 {
    u32::try_from(partition).unwrap_or_default()
}

pub(super) fn known_offset(offset: i64) -> u64 {
    u64::try_from(offset).unwrap_or_default()
}

pub(super) fn raw_partition(partition: u32) -> i32 {
    i32::try_from(partition).unwrap_or(i32::MAX)
}

pub(super) fn raw_offset(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}

/// A list for `assign`, with a place for each.
pub(super) fn places<'a>(at: impl Iterator<Item = (&'a str, u32, u64)>) -> Result<TopicPartitionList, Fault> {
    let mut list = TopicPartitionList::new();
    for (topic, partition, offset) in at {
        list.add_partition_offset(topic, raw_partition(partition), Offset::Offset(raw_offset(offset)))
            .map_err(|error| fault(During::Ask, error))?;
    }
    Ok(list)
}
