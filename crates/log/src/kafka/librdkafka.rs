//! The driver of production: rdkafka, its callbacks, and the clock of the machine.

use std::thread;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, NoCustomPartitioner, Producer, ProducerContext};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::util::Timeout;

use super::clients::{known_offset, known_partition, tell};
use super::disk::Disk;
use super::driver::{Driver, Fetched, Joins, NotTaken, Reads, Transacts};
use super::fault::{ClientError, During, fault};
use super::membership::{Event, Rebalances};
use super::record;
use super::topic_id;
use super::transaction::{Deliveries, Outgoing};
use super::watchdog::Watchdog;
use crate::{Fault, Record, Topic};

#[derive(Debug)]
pub(super) struct Librdkafka;

impl Driver for Librdkafka {
    type Reader = BaseConsumer<Quiet>;
    type Member = BaseConsumer<Rebalances>;
    type Producer = BaseProducer<Deliveries>;

    fn reader(&self, config: &ClientConfig) -> Result<Self::Reader, Fault> {
        create(config, Quiet)
    }

    fn member(&self, config: &ClientConfig, inputs: &[&str]) -> Result<Self::Member, Fault> {
        let member: Self::Member = create(config, Rebalances::default())?;
        member.subscribe(inputs).map_err(|error| fault(During::Client, error))?;
        Ok(member)
    }

    fn producer(&self, config: &ClientConfig) -> Result<Self::Producer, Fault> {
        create(config, Deliveries::default())
    }

    fn disk(&self) -> Disk {
        Disk::Directory
    }

    fn watchdog(&self) -> std::io::Result<Watchdog> {
        Watchdog::start()
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep(&self, time: Duration) {
        thread::sleep(time);
    }
}

pub(super) fn create<C, T>(config: &ClientConfig, context: C) -> Result<T, Fault>
where
    C: ClientContext,
    T: FromClientConfigAndContext<C>,
{
    config.create_with_context(context).map_err(|error| fault(During::Client, error))
}

/// Sends what librdkafka has to say to our log, at levels that do not alarm for what it mends by itself.
#[derive(Debug)]
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        tell(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
    }
}

impl ConsumerContext for Quiet {}

impl<C: ConsumerContext + 'static> Reads for BaseConsumer<C> {
    type Fetched<'a> = BorrowedMessage<'a>;

    fn poll(&self, wait: Duration) -> Option<Result<BorrowedMessage<'_>, KafkaError>> {
        BaseConsumer::poll(self, wait)
    }

    fn assign(&self, places: &TopicPartitionList) -> KafkaResult<()> {
        Consumer::assign(self, places)
    }

    fn position(&self) -> KafkaResult<TopicPartitionList> {
        Consumer::position(self)
    }

    fn seek_partitions(&self, places: TopicPartitionList, patience: Duration) -> KafkaResult<TopicPartitionList> {
        Consumer::seek_partitions(self, places, patience)
    }

    fn commit(&self, offsets: &TopicPartitionList) -> KafkaResult<()> {
        Consumer::commit(self, offsets, CommitMode::Sync)
    }

    fn committed_offsets(&self, asked: TopicPartitionList, patience: Duration) -> KafkaResult<TopicPartitionList> {
        Consumer::committed_offsets(self, asked, patience)
    }

    fn offsets_for_times(&self, asked: TopicPartitionList, patience: Duration) -> KafkaResult<TopicPartitionList> {
        Consumer::offsets_for_times(self, asked, patience)
    }

    fn cluster(&self, patience: Duration) -> KafkaResult<Option<String>> {
        // Metadata first: the id comes with it, and an unreachable cluster is told apart from one without an id.
        self.fetch_metadata(Some("countersign-probe"), patience)?;
        Ok(self.client().fetch_cluster_id(patience))
    }

    fn partitions(&self, topic: &Topic, patience: Duration) -> KafkaResult<Option<u32>> {
        let metadata = self.fetch_metadata(Some(topic.as_str()), patience)?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic.as_str()) else {
            return Ok(None);
        };
        match found.error().map(RDKafkaErrorCode::from) {
            None => Ok(Some(u32::try_from(found.partitions().len()).unwrap_or(u32::MAX))),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(None),
            Some(code) => Err(KafkaError::MetadataFetch(code)),
        }
    }

    fn topic_id(&self, topic: &Topic, patience: Duration) -> Result<String, Fault> {
        topic_id::ask(self.client(), topic, patience)
    }

    fn fatal_error(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.client().fatal_error()
    }
}

impl Fetched for BorrowedMessage<'_> {
    fn topic(&self) -> &str {
        Message::topic(self)
    }

    fn partition(&self) -> u32 {
        known_partition(Message::partition(self))
    }

    fn offset(&self) -> u64 {
        known_offset(Message::offset(self))
    }

    fn key(&self) -> Option<&[u8]> {
        Message::key(self)
    }

    fn value(&self) -> Option<&[u8]> {
        Message::payload(self)
    }

    fn record(&self, topic: &Topic) -> Record {
        record::record(topic, self)
    }
}

impl Joins for BaseConsumer<Rebalances> {
    type Place = ConsumerGroupMetadata;

    fn unassign(&self) -> KafkaResult<()> {
        Consumer::unassign(self)
    }

    fn place(&self) -> Option<ConsumerGroupMetadata> {
        self.group_metadata()
    }

    fn rebalances(&self) -> &Rebalances {
        self.context()
    }
}

impl ClientContext for Rebalances {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        tell(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
    }
}

impl ConsumerContext for Rebalances {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, event: RDKafkaRespErr, list: &mut TopicPartitionList) {
        if self.is_closing() {
            // The end of the consumer waits for this answer.
            if let Err(error) = Consumer::unassign(consumer) {
                tracing::debug!(%error, "cannot give partitions up at the end");
            }
            return;
        }
        self.tell(if event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            let places = list.elements();
            Event::Assign(places.iter().map(|at| (at.topic().to_owned(), known_partition(at.partition()))).collect())
        } else {
            Event::Revoke { lost: consumer.assignment_lost() }
        });
    }
}

impl Transacts for BaseProducer<Deliveries> {
    type Place = ConsumerGroupMetadata;

    fn init_transactions(&self, patience: Duration) -> Result<(), ClientError> {
        Ok(Producer::init_transactions(self, patience)?)
    }

    fn begin_transaction(&self) -> Result<(), ClientError> {
        Ok(Producer::begin_transaction(self)?)
    }

    fn send<'a>(&self, outgoing: Outgoing<'a>) -> Result<(), Box<NotTaken<'a>>> {
        let record = BaseRecord::<[u8], [u8], ()> {
            topic: outgoing.topic,
            partition: outgoing.partition,
            payload: outgoing.value,
            key: outgoing.key,
            timestamp: None,
            headers: outgoing.headers,
            delivery_opaque: (),
        };
        BaseProducer::send(self, record).map_err(|(error, given_back)| {
            let BaseRecord { topic, partition, payload, key, headers, .. } = given_back;
            let record = Outgoing { topic, partition, key, value: payload, headers };
            Box::new(NotTaken { error: error.into(), record })
        })
    }

    fn poll(&self, wait: Duration) {
        BaseProducer::poll(self, wait);
    }

    fn in_flight_count(&self) -> i32 {
        Producer::in_flight_count(self)
    }

    fn send_offsets_to_transaction(
        &self,
        offsets: &TopicPartitionList,
        place: &ConsumerGroupMetadata,
        patience: Duration,
    ) -> Result<(), ClientError> {
        Ok(Producer::send_offsets_to_transaction(self, offsets, place, Timeout::After(patience))?)
    }

    fn commit_transaction(&self, patience: Duration) -> Result<(), ClientError> {
        Ok(Producer::commit_transaction(self, Timeout::After(patience))?)
    }

    fn abort_transaction(&self, patience: Duration) -> Result<(), ClientError> {
        Ok(Producer::abort_transaction(self, Timeout::After(patience))?)
    }

    fn fatal_error(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.client().fatal_error()
    }

    fn deliveries(&self) -> &Deliveries {
        self.context()
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        tell(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
        self.disturb();
    }
}

impl ProducerContext<NoCustomPartitioner> for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(record) => {
                let next = Fetched::offset(record) + 1;
                let topic = || Topic::new(Fetched::topic(record));
                // The address of librdkafka's topic handle: it tells topics apart at no cost and is never followed.
                self.lies(record.topic_ptr().addr(), topic, Fetched::partition(record), next);
            }
            Err((error, _)) => self.fail(error.clone()),
        }
    }
}
