//! Apache Kafka by rdkafka: one consumer, two transactional producers and local stores for each session.
//!
//! What must hold is written in R1 (offsets in every transaction), R3 (state and its changelog) and R7 (unknown
//! outcomes). A table of contents: `session` reads, stages and commits,
//! `membership` and `assignment` say of what, `claim` whose the slot is; `transaction` owns the producers; `restore` and
//! `store` the local state; `append` and `tail` serve the edges; `admin` makes topics; `fault` says what errors mean;
//! `driver` is the line between all of it and rdkafka.
//!
//! Not here: retries of steps, batching, dead letters (`stage`).

mod admin;
mod append;
mod assignment;
mod claim;
mod clients;
mod config;
mod disk;
mod driver;
mod fault;
mod forget;
#[cfg(feature = "hostile")]
pub mod hostile;
mod librdkafka;
mod membership;
mod record;
mod restore;
mod session;
mod staged;
mod store;
mod tail;
mod topic_id;
mod transaction;
mod watchdog;

use std::sync::Arc;

pub use config::{KafkaConfig, Timings};

use crate::{AckSink, Fault, Group, Log, Member, Output, Position, Session, Tail, Topic, TopicChange, TopicSpec};

/// A Kafka cluster as a log. One of them serves a whole process.
pub struct KafkaLog {
    clients: Arc<clients::Clients>,
    stores: Arc<store::Stores>,
    appender: append::Appender,
}

impl std::fmt::Debug for KafkaLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaLog")
            .field("cluster", &self.clients.cluster())
            .field("config", &self.clients.config)
            .finish()
    }
}

impl KafkaLog {
    /// Connects and learns the id of the cluster.
    ///
    /// # Errors
    /// `Retry` while no broker answers; `Fatal` where the options are wrong.
    pub fn open(config: KafkaConfig) -> Result<Self, Fault> {
        let clients = Arc::new(clients::Clients::connect(config)?);
        let stores = Arc::new(clients.stores());
        let appender = append::Appender::open(Arc::clone(&clients))?;
        Ok(Self { clients, stores, appender })
    }

    fn all_partitions(&self, topic: &Topic) -> Result<Vec<u32>, Fault> {
        Ok((0..self.clients.require_partitions(topic)?).collect())
    }
}

impl Log for KafkaLog {
    fn identity(&self) -> &str {
        self.clients.cluster()
    }

    fn apply(&self, topics: &[TopicSpec], groups: &[Group]) -> Result<Vec<TopicChange>, Fault> {
        admin::apply(&self.clients, topics, groups)
    }

    fn partitions(&self, topic: &Topic) -> Result<Option<u32>, Fault> {
        self.clients.partitions(topic)
    }

    fn ends(&self, topic: &Topic) -> Result<Vec<Position>, Fault> {
        self.clients.own_and_other_ends(topic, &self.all_partitions(topic)?)
    }

    fn starts(&self, topic: &Topic) -> Result<Vec<Position>, Fault> {
        self.clients.starts(topic, &self.all_partitions(topic)?)
    }

    fn progress(&self, group: &str, topic: &Topic) -> Result<Vec<Position>, Fault> {
        self.clients.progress(group, topic, &self.all_partitions(topic)?)
    }

    fn join(&self, member: &Member) -> Result<Box<dyn Session>, Fault> {
        let session = session::KafkaSession::join(Arc::clone(&self.clients), Arc::clone(&self.stores), member)?;
        Ok(Box::new(session))
    }

    fn append(&self, out: &Output<'_>, done: AckSink) -> Result<(), Fault> {
        self.appender.append(out, done)
    }

    fn tail(&self, from: &[Position]) -> Result<Box<dyn Tail>, Fault> {
        Ok(Box::new(tail::KafkaTail::open(Arc::clone(&self.clients), from)?))
    }
}
