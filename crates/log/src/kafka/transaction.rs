//! Two transactional producers in strict turn, and the throwing away of both (R7).
//!
//! A small transaction of one producer waits for the markers of the one before. The next one is begun by the other
//! producer, but only after the commit before has returned, so their order is that of one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::TopicPartitionList;
use rdkafka::error::KafkaError;
use rdkafka::message::OwnedHeaders;

use super::clients::Clients;
use super::config;
use super::driver::{Driver, Joins, Transacts};
use super::fault::{During, client_fault};
use super::librdkafka::Librdkafka;
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
    /// What the client tells topics apart by.
    handle: usize,
    at: Position,
}

/// What a producer tells beside the answers to its calls.
#[derive(Default)]
pub(super) struct Deliveries {
    delivered: Mutex<Delivered>,
    /// A connection was lost while a transaction was open: a request of it may arrive late (R7).
    disturbed: AtomicBool,
}

impl Deliveries {
    /// A record came to lie before `next`.
    pub(super) fn lies(&self, handle: usize, topic: impl FnOnce() -> Topic, partition: u32, next: u64) {
        let mut delivered = self.delivered.lock();
        match delivered.ends.iter_mut().find(|end| end.handle == handle && end.at.partition == partition) {
            Some(end) => end.at.offset = end.at.offset.max(next),
            None => {
                let at = Position { topic: topic(), partition, offset: next };
                delivered.ends.push(End { handle, at });
            }
        }
    }

    /// A record was refused, or given up on.
    pub(super) fn fail(&self, error: KafkaError) {
        self.delivered.lock().failed.get_or_insert(error);
    }

    /// A connection was lost.
    pub(super) fn disturb(&self) {
        self.disturbed.store(true, Ordering::Relaxed);
    }
}

struct Seat<D: Driver> {
    id: String,
    /// `None` between being thrown away and being made again.
    producer: Option<D::Producer>,
}

/// The pair of one slot.
pub(super) struct Transactions<D: Driver = Librdkafka> {
    clients: Arc<Clients<D>>,
    seats: [Seat<D>; 2],
    turn: usize,
    /// Since when a transaction is open.
    open: Option<Instant>,
    sent: usize,
}

impl<D: Driver> Transactions<D> {
    /// Fences every earlier pair of these names and ends what they left open.
    pub(super) fn open(clients: Arc<Clients<D>>, group: &str, slot: &str) -> Result<Self, Fault> {
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

    fn producer(&self) -> Result<&D::Producer, Fault> {
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
        *producer.deliveries().delivered.lock() = Delivered::default();
        producer.deliveries().disturbed.store(false, Ordering::Relaxed);
        producer
            .begin_transaction()
            .map_err(|error| client_fault(producer.fatal_error(), During::Transaction, error))?;
        self.open = Some(self.clients.now());
        self.sent = 0;
        Ok(())
    }

    /// Puts a record into the open transaction. Waits while the queue is full, for no longer than a transaction may last.
    pub(super) fn send(&mut self, mut outgoing: Outgoing<'_>) -> Result<(), Fault> {
        self.sent += 1;
        let is_due = self.sent.is_multiple_of(SERVE_EVERY);
        let producer = self.producer()?;
        if is_due {
            producer.poll(Duration::ZERO);
            refuse_failed(producer)?;
        }
        loop {
            let Err(not_taken) = producer.send(outgoing) else { return Ok(()) };
            if !not_taken.error.is_queue_full() {
                return Err(client_fault(producer.fatal_error(), During::Transaction, not_taken.error));
            }
            self.refuse_overdue()?;
            producer.poll(Duration::from_millis(1));
            refuse_failed(producer)?;
            outgoing = not_taken.record;
        }
    }

    /// Commits outputs and offsets together; answers where the outputs ended. `Unknown` only once the end was asked for.
    pub(super) fn commit(
        &mut self,
        offsets: &TopicPartitionList,
        member: &<D::Member as Joins>::Place,
    ) -> Result<Vec<Position>, Fault> {
        let producer = self.producer()?;
        if offsets.count() > 0 {
            // Before the records are waited for, so that both ways are travelled at once.
            let _watch = self.clients.watchdog.watch("send_offsets_to_transaction", self.clients.hang());
            producer
                .send_offsets_to_transaction(offsets, member, self.clients.config.timings.transaction)
                .map_err(|error| client_fault(producer.fatal_error(), During::Transaction, error))?;
        }
        self.drain(producer)?;
        let asked = self.clients.now();
        {
            let _watch = self.clients.watchdog.watch("commit_transaction", self.clients.hang());
            // Bounded by us: without a time-out librdkafka asks for ever while connections fail. That it could be asked
            // again is of no use, as these producers are thrown away then.
            producer
                .commit_transaction(self.clients.config.timings.transaction)
                .map_err(|error| client_fault(producer.fatal_error(), During::Commit, error))?;
        }
        let took = self.clients.now().saturating_duration_since(asked);
        let is_slow = took > self.clients.config.timings.slow_commit;
        let is_disturbed = producer.deliveries().disturbed.load(Ordering::Relaxed);
        let ends =
            std::mem::take(&mut producer.deliveries().delivered.lock().ends).into_iter().map(|end| end.at).collect();
        self.open = None;
        if is_slow || is_disturbed {
            // The outcome is known, but a repeated request may still be on the way and would end the transaction after
            // the next: this producer has none.
            let _watch = self.clients.watchdog.watch("drop_producer", self.clients.hang());
            if let Some(seat) = self.seats.get_mut(self.turn) {
                tracing::info!(id = seat.id, took_ms = took.as_millis(), is_disturbed, "producer replaced");
                seat.producer = None;
            }
        }
        self.turn = (self.turn + 1) % self.seats.len();
        Ok(ends)
    }

    /// Waits until every record is acknowledged. rdkafka's own flush inside the commit waits in steps of 100 ms.
    fn drain(&self, producer: &D::Producer) -> Result<(), Fault> {
        loop {
            let before = producer.in_flight_count();
            if before == 0 {
                return refuse_failed(producer);
            }
            producer.poll(Duration::ZERO);
            refuse_failed(producer)?;
            if producer.in_flight_count() == before {
                self.refuse_overdue()?;
                self.clients.driver.sleep(DRAIN_PAUSE);
            }
        }
    }

    /// Nothing of a transaction is committed before its end is asked for, so being late leaves no doubt.
    fn refuse_overdue(&self) -> Result<(), Fault> {
        let lasts = |since| self.clients.now().saturating_duration_since(since);
        if self.open.is_some_and(|since| lasts(since) > self.clients.config.timings.transaction) {
            return Err(Fault::Abort(Cause::new("transaction_late", "the records were not acknowledged in time")));
        }
        Ok(())
    }
}

impl<D: Driver> Drop for Transactions<D> {
    /// Ends an open transaction, as far as that is quick, so that readers need not wait for its time-out.
    fn drop(&mut self) {
        if let Some(producer) = self.open.take().and_then(|_| self.producer().ok())
            && let Err(error) = producer.abort_transaction(ABORT_PATIENCE)
        {
            tracing::debug!(error = %error.error, "a transaction is left to its time-out");
        }
    }
}

fn refuse_failed(producer: &impl Transacts) -> Result<(), Fault> {
    match producer.deliveries().delivered.lock().failed.take() {
        None => Ok(()),
        Some(error) => Err(client_fault(producer.fatal_error(), During::Transaction, error)),
    }
}

fn initialised<D: Driver>(clients: &Clients<D>, id: &str) -> Result<D::Producer, Fault> {
    let timings = &clients.config.timings;
    let mut config = config::producer(&clients.config)?;
    config.set("transactional.id", id).set("transaction.timeout.ms", config::millis(timings.transaction));
    let producer = clients.driver.producer(&config)?;
    let deadline = clients.now() + timings.stability();
    loop {
        let asked = {
            let _watch = clients.watchdog.watch("init_transactions", clients.hang());
            producer.init_transactions(timings.call)
        };
        match asked {
            Ok(()) => return Ok(producer),
            Err(error) if error.is_retriable() && clients.now() < deadline => {
                tracing::debug!(id, error = %error.error, "init_transactions is asked again");
            }
            Err(error) => return Err(client_fault(producer.fatal_error(), During::Init, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;
    use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
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

    /// As a broker answers that has only just started. librdkafka takes it for a transaction that must be aborted; whether it
    /// was committed, only the offsets tell.
    #[test]
    fn an_end_answered_with_an_unknown_error_ends_the_transaction_and_not_the_session() {
        let mut stand = Stand::new();
        stand.cluster.request_errors(RDKafkaApiKey::EndTxn, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN]);
        let failed = stand.transact().unwrap_err();
        assert!(matches!(&failed, Fault::Abort(_) | Fault::Unknown(_)), "{failed}");
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
