//! What an operator says about the cluster, and the settings that follow from it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use super::fault::misconfigured;
use crate::Fault;

/// Where the cluster is and how to speak to it.
#[derive(Clone)]
pub struct KafkaConfig {
    /// `host:port`, separated by commas.
    pub brokers: String,
    /// Local copies of state lie in `<state_dir>/<group>/<partition>`. Losing them loses nothing.
    pub state_dir: PathBuf,
    /// Of the topics that `Log::apply` creates. With three, two replicas must have a record before it counts.
    pub replication_factor: i32,
    /// librdkafka's own names, for every client: TLS, SASL and the like. What exactly-once rests on is refused here.
    pub options: BTreeMap<String, String>,
    pub timings: Timings,
}

impl KafkaConfig {
    pub fn new(brokers: &str, state_dir: impl Into<PathBuf>) -> Self {
        Self {
            brokers: brokers.to_owned(),
            state_dir: state_dir.into(),
            replication_factor: 1,
            options: BTreeMap::new(),
            timings: Timings::default(),
        }
    }
}

/// Options can hold passwords, so only their names are shown.
impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaConfig")
            .field("brokers", &self.brokers)
            .field("state_dir", &self.state_dir)
            .field("replication_factor", &self.replication_factor)
            .field("options", &self.options.keys().collect::<Vec<_>>())
            .field("timings", &self.timings)
            .finish()
    }
}

/// How long things may take. The defaults are for production; tests shorten a few.
#[derive(Clone, Debug)]
pub struct Timings {
    /// How long a record waits for company. A floor of every commit.
    pub linger: Duration,
    /// One request and its retries: metadata, offsets, topics.
    pub call: Duration,
    /// A request without an answer for so long is sent again on a new connection. Short, or a lost end of a transaction
    /// stalls everything until the transaction times out.
    pub socket: Duration,
    /// A slot that died with an open transaction hides what follows it for about this long.
    pub transaction: Duration,
    /// A member that is silent for so long loses its partitions.
    pub session: Duration,
    /// A member that does not poll for so long loses its partitions. Longer than `transaction`.
    pub poll_interval: Duration,
    /// How long the broker waits for records before it answers that there are none.
    pub fetch_wait: Duration,
    /// `append` gives up on a record after this long; whether it lies in the log is then unknown.
    pub append: Duration,
    /// A producer whose commit took longer is not used again: its retried end may still be on the way (R7).
    pub slow_commit: Duration,
    /// How often the partition counts under a session are compared with what they were.
    pub partitions_check: Duration,
    /// A local store left behind for longer is rebuilt: the changelog may have lost tombstones that it never saw.
    /// Below the topics' `delete.retention.ms`, which is a day unless an operator changed it.
    pub tombstones: Duration,
    /// A call into librdkafka that has not returned after this long never will: the process aborts.
    pub hang: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            linger: Duration::from_millis(1),
            call: Duration::from_secs(10),
            socket: Duration::from_secs(5),
            transaction: Duration::from_secs(40),
            session: Duration::from_secs(10),
            poll_interval: Duration::from_secs(60),
            fetch_wait: Duration::from_millis(50),
            append: Duration::from_secs(30),
            slow_commit: Duration::from_secs(1),
            partitions_check: Duration::from_secs(60),
            tombstones: Duration::from_secs(12 * 3_600),
            hang: Duration::from_secs(60),
        }
    }
}

impl Timings {
    /// The longest that a transaction left open by a dead member can hold the last stable offset back: its time-out,
    /// and the coordinator's look-out for such, every ten seconds by default.
    pub(super) fn stability(&self) -> Duration {
        self.transaction + Duration::from_secs(20)
    }
}

/// What exactly-once rests on; an option of that name would silently break it.
const RESERVED: &[&str] = &[
    "acks",
    "allow.auto.create.topics",
    "auto.offset.reset",
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "isolation.level",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "partitioner",
    "request.required.acks",
    "transactional.id",
];

/// Settings of any client: what we decided first, then the operator's options.
pub(super) fn client(config: &KafkaConfig) -> Result<ClientConfig, Fault> {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", &config.brokers)
        .set("client.id", "countersign")
        .set("allow.auto.create.topics", "false")
        .set("socket.timeout.ms", millis(config.timings.socket))
        .set("socket.nagle.disable", "true")
        .set("retry.backoff.ms", "10")
        .set("retry.backoff.max.ms", "200")
        .set("reconnect.backoff.ms", "20")
        .set("reconnect.backoff.max.ms", "1000")
        .set("topic.metadata.refresh.fast.interval.ms", "50")
        .set_log_level(RDKafkaLogLevel::Warning);
    for (name, value) in &config.options {
        if RESERVED.contains(&name.as_str()) {
            return Err(misconfigured("option_reserved", format!("the Kafka option {name} is decided by Countersign")));
        }
        client.set(name, value);
    }
    Ok(client)
}

/// Settings of a client that reads: committed records only, from places that are named, never from a default.
pub(super) fn consumer(config: &KafkaConfig, group: &str) -> Result<ClientConfig, Fault> {
    let mut client = client(config)?;
    client
        .set("group.id", group)
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "error")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("fetch.min.bytes", "1")
        .set("fetch.wait.max.ms", millis(config.timings.fetch_wait))
        // The default of a second stalls a client whose queue is small.
        .set("fetch.queue.backoff.ms", "10")
        .set("fetch.error.backoff.ms", "50")
        .set("queued.min.messages", "5000")
        .set("queued.max.messages.kbytes", "16384")
        .set("session.timeout.ms", millis(config.timings.session))
        .set("heartbeat.interval.ms", millis(config.timings.session / 5))
        .set("max.poll.interval.ms", millis(config.timings.poll_interval));
    Ok(client)
}

/// Settings of a client that writes: every record durable, in order, once.
pub(super) fn producer(config: &KafkaConfig) -> Result<ClientConfig, Fault> {
    let mut client = client(config)?;
    client
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("partitioner", "murmur2_random")
        .set("linger.ms", format!("{:.3}", config.timings.linger.as_secs_f64() * 1_000.0))
        .set("batch.size", "524288")
        .set("compression.type", "lz4")
        .set("max.in.flight.requests.per.connection", "5")
        .set("queue.buffering.max.messages", "100000")
        .set("queue.buffering.max.kbytes", "131072");
    Ok(client)
}

pub(super) fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_cannot_undo_exactly_once() {
        let mut config = KafkaConfig::new("localhost:9092", "/tmp/none");
        config.options.insert("isolation.level".into(), "read_uncommitted".into());
        let refused = producer(&config).unwrap_err();
        assert_eq!(refused.cause().code, "option_reserved");
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut config = KafkaConfig::new("localhost:9092", "/tmp/none");
        config.options.insert("sasl.password".into(), "hunter2".into());
        let shown = format!("{config:?}");
        assert!(shown.contains("sasl.password") && !shown.contains("hunter2"));
    }
}
