//! Two transactional producers in strict turn (DESIGN section 6), and the throwing away of both (R7).
//!
//! A small transaction of one producer waits for the markers of the one before. The next one is begun by the other
//! producer, but only after the commit before has returned, so their order is that of one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, NoCustomPartitioner, Producer, ProducerContext};
use rdkafka::util::Timeout;
use rdkafka::{Message, TopicPartitionList};

use super::clients::{Clients, create, known_offset, known_partition, tell};
use super::config;
use super::fault::{During, client_fault};
use crate::{Cause, Fault, Position, Topic};

/// Events are taken from a producer once in so many records.
const SERVE_EVERY: usize = 256;
/// How long to look away while the last records of a transaction are under way.
const DRAIN_PAUSE: Duration = Duration::from_micros(100);

/// How long the end of a session waits for its open transaction to be aborted.
const ABORT_PATIENCE: Duration = Duration::from_secs(1);

/// A record on its way into the transaction.
pub(super) struct Outgoing<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: Option<i32>,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: Option<OwnedHeaders>,
}

/// Where the records of the open transaction came to lie.
#[derive(Default)]
struct Delivered {
    ends: Vec<End>,
    failed: Option<KafkaError>,
}

struct End {
    /// The address of librdkafka's topic handle: it tells topics apart at no cost and is never followed.
    handle: usize,
    at: Position,
}

#[derive(Default)]
struct Deliveries {
    delivered: Mutex<Delivered>,
    /// A connection was lost while a transaction was open: a request of it may arrive late (DESIGN R7).
    disturbed: AtomicBool,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        tell(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
        self.disturbed.store(true, Ordering::Relaxed);
    }
}

impl ProducerContext<NoCustomPartitioner> for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let mut delivered = self.delivered.lock();
        match result {
            Ok(record) => {
                let handle = record.topic_ptr().addr();
                let partition = known_partition(record.partition());
                let next = known_offset(record.offset()) + 1;
                let known = delivered.ends.iter_mut().find(|end| end.handle == handle && end.at.partition == partition);
                match known {
                    Some(end) => end.at.offset = end.at.offset.max(next),
                    None => {
                        let topic = Topic::new(record.topic());
                        delivered.ends.push(End { handle, at: Position { topic, partition, offset: next } });
                    }
                }
            }
            Err((error, _)) => {
                delivered.failed.get_or_insert_with(|| error.clone());
            }
        }
    }
}

type TransactionalProducer = BaseProducer<Deliveries>;

struct Seat {
    id: String,
    /// `None` between being thrown away and being made again.
    producer: Option<TransactionalProducer>,
}

/// The pair of one slot.
pub(super) struct Transactions {
    clients: Arc<Clients>,
    seats: [Seat; 2],
    turn: usize,
    /// Since when a transaction is open.
    open: Option<Instant>,
    sent: usize,
}

impl Transactions {
    /// Fences every earlier pair of these names and ends what they left open.
    pub(super) fn open(clients: Arc<Clients>, group: &str, slot: &str) -> Result<Self, Fault> {
        let seat = |letter: &str| Seat { id: format!("{group}-{slot}-{letter}"), producer: None };
        let mut transactions = Self { clients, seats: [seat("a"), seat("b")], turn: 0, open: None, sent: 0 };
        transactions.recycle()?;
        Ok(transactions)
    }

    /// Throws both producers away and makes new ones of the same names: whatever the old ones had under way is then
    /// either committed or gone, and nothing of theirs can arrive any more.
    pub(super) fn recycle(&mut self) -> Result<(), Fault> {
        self.open = None;
        for seat in &mut self.seats {
            let _watch = self.clients.watchdog.watch("drop_producer", self.clients.hang());
            seat.producer = None;
        }
        for seat in &mut self.seats {
            seat.producer = Some(initialised(&self.clients, &seat.id)?);
        }
        Ok(())
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    fn producer(&self) -> Result<&TransactionalProducer, Fault> {
        self.seats
            .get(self.turn)
            .and_then(|seat| seat.producer.as_ref())
            .ok_or_else(|| Fault::Abort(Cause::new("transaction_void", "the producers are gone: recover first")))
    }

    pub(super) fn begin(&mut self) -> Result<(), Fault> {
        if self.is_open() {
            return Ok(());
        }
        if let Some(seat) = self.seats.get_mut(self.turn)
            && seat.producer.is_none()
        {
            seat.producer = Some(initialised(&self.clients, &seat.id)?);
        }
        let producer = self.producer()?;
        // What happened while the producer was idle concerns no transaction.
        while producer.in_flight_count() > 0 {
            producer.poll(Duration::ZERO);
        }
        *producer.context().delivered.lock() = Delivered::default();
        producer.context().disturbed.store(false, Ordering::Relaxed);
        producer.begin_transaction().map_err(|error| client_fault(producer.client(), During::Transaction, error))?;
        self.open = Some(Instant::now());
        self.sent = 0;
        Ok(())
    }

    /// Puts a record into the open transaction. Waits while the queue is full, for no longer than a transaction may last.
    pub(super) fn send(&mut self, outgoing: Outgoing<'_>) -> Result<(), Fault> {
        self.sent += 1;
        let is_due = self.sent.is_multiple_of(SERVE_EVERY);
        let producer = self.producer()?;
        if is_due {
            producer.poll(Duration::ZERO);
            refuse_failed(producer)?;
        }
        let mut record = BaseRecord::<[u8], [u8], ()> {
            topic: outgoing.topic,
            partition: outgoing.partition,
            payload: outgoing.value,
            key: outgoing.key,
            timestamp: None,
            headers: outgoing.headers,
            delivery_opaque: (),
        };
        loop {
            match producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), given_back)) => {
                    self.refuse_overdue()?;
                    producer.poll(Duration::from_millis(1));
                    refuse_failed(producer)?;
                    record = given_back;
                }
                Err((error, _)) => return Err(client_fault(producer.client(), During::Transaction, error)),
            }
        }
    }

    /// Commits outputs and offsets together; answers where the outputs ended. `Unknown` only once the end was asked for.
    pub(super) fn commit(
        &mut self,
        offsets: &TopicPartitionList,
        member: &ConsumerGroupMetadata,
    ) -> Result<Vec<Position>, Fault> {
        let producer = self.producer()?;
        if offsets.count() > 0 {
            // Before the records are waited for, so that both ways are travelled at once.
            let _watch = self.clients.watchdog.watch("send_offsets_to_transaction", self.clients.hang());
            producer
                .send_offsets_to_transaction(offsets, member, Timeout::After(self.clients.config.timings.transaction))
                .map_err(|error| client_fault(producer.client(), During::Transaction, error))?;
        }
        self.drain(producer)?;
        let asked = Instant::now();
        {
            let _watch = self.clients.watchdog.watch("commit_transaction", self.clients.hang());
            // Bounded by us: without a time-out librdkafka asks for ever while connections fail. That it could be asked
            // again is of no use, as these producers are thrown away then.
            producer
                .commit_transaction(Timeout::After(self.clients.config.timings.transaction))
                .map_err(|error| client_fault(producer.client(), During::Commit, error))?;
        }
        let is_slow = asked.elapsed() > self.clients.config.timings.slow_commit;
        let is_disturbed = producer.context().disturbed.load(Ordering::Relaxed);
        let ends =
            std::mem::take(&mut producer.context().delivered.lock().ends).into_iter().map(|end| end.at).collect();
        self.open = None;
        if is_slow || is_disturbed {
            // The outcome is known, but a repeated request may still be on the way and would end the transaction after
            // the next: this producer has none.
            let _watch = self.clients.watchdog.watch("drop_producer", self.clients.hang());
            if let Some(seat) = self.seats.get_mut(self.turn) {
                tracing::info!(id = seat.id, took_ms = asked.elapsed().as_millis(), is_disturbed, "producer replaced");
                seat.producer = None;
            }
        }
        self.turn = (self.turn + 1) % self.seats.len();
        Ok(ends)
    }

    /// Waits until every record is acknowledged. rdkafka's own flush inside the commit waits in steps of 100 ms.
    fn drain(&self, producer: &TransactionalProducer) -> Result<(), Fault> {
        loop {
            let before = producer.in_flight_count();
            if before == 0 {
                return refuse_failed(producer);
            }
            producer.poll(Duration::ZERO);
            refuse_failed(producer)?;
            if producer.in_flight_count() == before {
                self.refuse_overdue()?;
                thread::sleep(DRAIN_PAUSE);
            }
        }
    }

    /// Nothing of a transaction is committed before its end is asked for, so being late leaves no doubt.
    fn refuse_overdue(&self) -> Result<(), Fault> {
        if self.open.is_some_and(|since| since.elapsed() > self.clients.config.timings.transaction) {
            return Err(Fault::Abort(Cause::new("transaction_late", "the records were not acknowledged in time")));
        }
        Ok(())
    }
}

impl Drop for Transactions {
    /// Ends an open transaction, as far as that is quick, so that readers need not wait for its time-out.
    fn drop(&mut self) {
        if let Some(producer) = self.open.take().and_then(|_| self.producer().ok())
            && let Err(error) = producer.abort_transaction(ABORT_PATIENCE)
        {
            tracing::debug!(%error, "a transaction is left to its time-out");
        }
    }
}

fn refuse_failed(producer: &TransactionalProducer) -> Result<(), Fault> {
    match producer.context().delivered.lock().failed.take() {
        None => Ok(()),
        Some(error) => Err(client_fault(producer.client(), During::Transaction, error)),
    }
}

fn initialised(clients: &Clients, id: &str) -> Result<TransactionalProducer, Fault> {
    let timings = &clients.config.timings;
    let mut config = config::producer(&clients.config)?;
    config.set("transactional.id", id).set("transaction.timeout.ms", config::millis(timings.transaction));
    let producer: TransactionalProducer = create(&config, Deliveries::default())?;
    let deadline = Instant::now() + timings.stability();
    loop {
        let asked = {
            let _watch = clients.watchdog.watch("init_transactions", clients.hang());
            producer.init_transactions(timings.call)
        };
        match asked {
            Ok(()) => return Ok(producer),
            Err(KafkaError::Transaction(error)) if error.is_retriable() && Instant::now() < deadline => {
                tracing::debug!(id, %error, "init_transactions is asked again");
            }
            Err(error) => return Err(client_fault(producer.client(), During::Init, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;
    use rdkafka::consumer::{BaseConsumer, Consumer};
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::DefaultProducerContext;
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

    use super::*;
    use crate::kafka::{KafkaConfig, Timings};

    /// librdkafka's own stand-in for a broker, which fails where it is told to.
    struct Stand<'a> {
        cluster: MockCluster<'a, DefaultProducerContext>,
        transactions: Transactions,
        member: ConsumerGroupMetadata,
    }

    impl Stand<'_> {
        fn new() -> Self {
            let cluster = MockCluster::new(1).unwrap();
            cluster.create_topic("out", 1, 1).unwrap();
            let timings = Timings {
                socket: Duration::from_millis(500),
                transaction: Duration::from_secs(1),
                call: Duration::from_secs(5),
                ..Timings::default()
            };
            let config = KafkaConfig { timings, ..KafkaConfig::new(&cluster.bootstrap_servers(), "unused") };
            let clients = Arc::new(Clients::connect(config).unwrap());
            let transactions = Transactions::open(clients, "step", "slot").unwrap();
            let mut consumer = ClientConfig::new();
            consumer.set("bootstrap.servers", cluster.bootstrap_servers()).set("group.id", "step");
            let consumer: BaseConsumer = consumer.create().unwrap();
            Self { member: consumer.group_metadata().unwrap(), cluster, transactions }
        }

        fn transact(&mut self) -> Result<Vec<Position>, Fault> {
            self.transactions.begin()?;
            let value = Some(&b"v"[..]);
            self.transactions.send(Outgoing { topic: "out", partition: Some(0), key: None, value, headers: None })?;
            self.transactions.commit(&TopicPartitionList::new(), &self.member)
        }
    }

    #[test]
    fn an_end_without_an_answer_is_unknown_and_new_producers_go_on() {
        let mut stand = Stand::new();
        assert_eq!(stand.transact().unwrap().first().map(|end| end.offset), Some(1));
        let lost = [RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT; 1_000];
        stand.cluster.request_errors(RDKafkaApiKey::EndTxn, &lost);
        let unknown = stand.transact().unwrap_err();
        assert!(matches!(&unknown, Fault::Unknown(cause) if cause.code == "commit_unknown"), "{unknown}");
        stand.cluster.clear_request_errors(RDKafkaApiKey::EndTxn);
        stand.transactions.recycle().unwrap();
        stand.transact().unwrap();
        stand.transact().unwrap();
    }

    #[test]
    fn a_fenced_end_is_fatal() {
        let mut stand = Stand::new();
        stand
            .cluster
            .request_errors(RDKafkaApiKey::EndTxn, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH]);
        let fenced = stand.transact().unwrap_err();
        assert!(matches!(&fenced, Fault::Fatal(cause) if cause.code == "fenced"), "{fenced}");
    }

    #[test]
    fn a_record_that_is_refused_voids_the_transaction_before_its_end_is_asked_for() {
        let mut stand = Stand::new();
        stand.cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_RECORD; 10]);
        let void = stand.transact().unwrap_err();
        assert!(matches!(&void, Fault::Abort(_)), "{void}");
        stand.cluster.clear_request_errors(RDKafkaApiKey::Produce);
        stand.transactions.recycle().unwrap();
        stand.transact().unwrap();
    }
}
