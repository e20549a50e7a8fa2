//! What the log asks of a Kafka client, call for call, and no other.
//!
//! In production `librdkafka` answers. Beneath a simulation the model of `hostile` does, so that everything that is decided
//! above this line (fencing, offsets, state, unknown outcomes) meets a Kafka that misbehaves as it is told to.

use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{ClientConfig, TopicPartitionList};

use super::disk::Disk;
use super::fault::ClientError;
use super::membership::Rebalances;
use super::transaction::{Deliveries, Outgoing};
use super::watchdog::Watchdog;
use crate::{Fault, Record, Topic};

/// Makes clients, and tells the time that they live by.
pub(super) trait Driver: Send + Sync + Sized + 'static {
    type Reader: Reads;
    type Member: Joins;
    type Producer: Transacts<Place = <Self::Member as Joins>::Place>;

    fn reader(&self, config: &ClientConfig) -> Result<Self::Reader, Fault>;

    /// A member of a group that reads these topics.
    fn member(&self, config: &ClientConfig, inputs: &[&str]) -> Result<Self::Member, Fault>;

    fn producer(&self, config: &ClientConfig) -> Result<Self::Producer, Fault>;

    /// Where local copies of state lie.
    fn disk(&self) -> Disk;

    fn watchdog(&self) -> std::io::Result<Watchdog>;

    fn now(&self) -> Instant;

    fn sleep(&self, time: Duration);
}

/// A consumer, and the questions that any client can ask.
pub(super) trait Reads: Send + Sync {
    type Fetched<'a>: Fetched
    where
        Self: 'a;

    fn poll(&self, wait: Duration) -> Option<Result<Self::Fetched<'_>, KafkaError>>;
    fn assign(&self, places: &TopicPartitionList) -> KafkaResult<()>;
    fn position(&self) -> KafkaResult<TopicPartitionList>;
    fn seek_partitions(&self, places: TopicPartitionList, patience: Duration) -> KafkaResult<TopicPartitionList>;

    fn commit(&self, offsets: &TopicPartitionList) -> KafkaResult<()>;
    fn committed_offsets(&self, asked: TopicPartitionList, patience: Duration) -> KafkaResult<TopicPartitionList>;
    fn offsets_for_times(&self, asked: TopicPartitionList, patience: Duration) -> KafkaResult<TopicPartitionList>;

    /// The id of the cluster; `None` where it tells none.
    fn cluster(&self, patience: Duration) -> KafkaResult<Option<String>>;
    /// How many partitions a topic has; `None` if it does not exist.
    fn partitions(&self, topic: &Topic, patience: Duration) -> KafkaResult<Option<u32>>;
    /// Tells a topic from one of the same name that was made after it was deleted.
    fn topic_id(&self, topic: &Topic, patience: Duration) -> Result<String, Fault>;

    /// Why the client has failed for good.
    fn fatal_error(&self) -> Option<(RDKafkaErrorCode, String)>;
}

/// A record as a client hands it out.
pub(super) trait Fetched {
    fn topic(&self) -> &str;
    fn partition(&self) -> u32;
    fn offset(&self) -> u64;
    fn key(&self) -> Option<&[u8]>;
    fn value(&self) -> Option<&[u8]>;
    /// `topic` is the record's own, as a name that is cheap to clone.
    fn record(&self, topic: &Topic) -> Record;

    fn bytes(&self) -> usize {
        self.key().map_or(0, <[u8]>::len) + self.value().map_or(0, <[u8]>::len)
    }
}

/// A consumer that is a member of a group.
pub(super) trait Joins: Reads {
    /// Member and generation, as a transaction names them.
    type Place;

    fn unassign(&self) -> KafkaResult<()>;
    fn place(&self) -> Option<Self::Place>;
    fn rebalances(&self) -> &Rebalances;
}

/// A record that a producer has given back, and why.
pub(super) struct NotTaken<'a> {
    pub(super) error: ClientError,
    pub(super) record: Outgoing<'a>,
}

/// A transactional producer.
pub(super) trait Transacts: Send + Sync {
    type Place;

    fn init_transactions(&self, patience: Duration) -> Result<(), ClientError>;
    fn begin_transaction(&self) -> Result<(), ClientError>;
    /// Gives the record back where it is not taken.
    fn send<'a>(&self, record: Outgoing<'a>) -> Result<(), Box<NotTaken<'a>>>;
    fn poll(&self, wait: Duration);
    fn in_flight_count(&self) -> i32;
    fn send_offsets_to_transaction(
        &self,
        offsets: &TopicPartitionList,
        place: &Self::Place,
        patience: Duration,
    ) -> Result<(), ClientError>;
    fn commit_transaction(&self, patience: Duration) -> Result<(), ClientError>;
    fn abort_transaction(&self, patience: Duration) -> Result<(), ClientError>;

    fn fatal_error(&self) -> Option<(RDKafkaErrorCode, String)>;
    fn deliveries(&self) -> &Deliveries;
}
