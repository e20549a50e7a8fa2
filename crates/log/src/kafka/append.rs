//! Records that the edges write outside any transaction: durable, in order per key, acknowledged one by one.

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use rdkafka::Message;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseRecord, DeliveryResult, NoCustomPartitioner, Producer, ProducerContext, ThreadedProducer};

use super::clients::{Clients, position, raw_partition, tell};
use super::config;
use super::fault::{During, fault, misconfigured};
use super::librdkafka::create;
use super::record::headers;
use crate::{AckSink, Fault, Output, Topic};

/// Travels with a record through librdkafka, which wants it `Sync`.
type Pending = Box<Mutex<Option<AckSink>>>;

struct Acks;

impl ClientContext for Acks {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        tell(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
    }
}

impl ProducerContext<NoCustomPartitioner> for Acks {
    type DeliveryOpaque = Pending;

    fn delivery(&self, delivered: &DeliveryResult<'_>, pending: Pending) {
        let Some(done) = pending.into_inner() else { return };
        done(match delivered {
            Ok(record) => Ok(position(&Topic::new(record.topic()), record.partition(), record.offset())),
            Err((error, _)) => Err(fault(During::Append, error.clone())),
        });
    }
}

type EdgeProducer = ThreadedProducer<Acks>;

/// One producer for all edges of this process.
pub(super) struct Appender {
    clients: Arc<Clients>,
    producer: RwLock<Arc<EdgeProducer>>,
}

impl Appender {
    pub(super) fn open(clients: Arc<Clients>) -> Result<Self, Fault> {
        let producer = RwLock::new(Arc::new(make(&clients)?));
        Ok(Self { clients, producer })
    }

    pub(super) fn append(&self, out: &Output<'_>, done: AckSink) -> Result<(), Fault> {
        if out.partition.is_none() && out.key.is_none() {
            return Err(misconfigured("record_without_key", format!("a record for {} names no place", out.topic)));
        }
        let producer = Arc::clone(&self.producer.read());
        let pending: Pending = Box::new(Mutex::new(Some(done)));
        let record = BaseRecord::<[u8], [u8], Pending> {
            topic: out.topic.as_str(),
            partition: out.partition.map(raw_partition),
            payload: out.value,
            key: out.key,
            timestamp: None,
            headers: headers(out),
            delivery_opaque: pending,
        };
        producer.send(record).map_err(|(error, _)| {
            if producer.client().fatal_error().is_some() {
                self.replace(&producer);
            }
            match fault(During::Append, error) {
                // It was not taken, so nothing happened.
                Fault::Unknown(cause) => Fault::Retry(cause),
                other => other,
            }
        })
    }

    /// An idempotent producer that lost count of its records takes no more. Those it still has are told as unknown.
    fn replace(&self, failed: &Arc<EdgeProducer>) {
        let mut producer = self.producer.write();
        if !Arc::ptr_eq(&producer, failed) {
            return;
        }
        match make(&self.clients) {
            Ok(made) => *producer = Arc::new(made),
            Err(error) => tracing::error!(%error, "cannot replace the producer of the edges"),
        }
    }
}

fn make(clients: &Clients) -> Result<EdgeProducer, Fault> {
    let mut config = config::producer(&clients.config)?;
    config.set("delivery.timeout.ms", config::millis(clients.config.timings.append));
    create(&config, Acks)
}
