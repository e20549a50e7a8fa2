//! A Kafka in memory that misbehaves as a seed tells it to: for simulations only.
//!
//! Everything of this log above `driver` runs as it does in production. Below it lie partitions with open transactions,
//! last stable offsets and markers that are written one by one; a coordinator that fences by epochs and ends what has
//! timed out; requests that are late, lost, repeated, or done without an answer; a group with generations, static
//! members and pending offsets; processes that are killed or stopped. It follows `transaction.version` 1, which is what
//! librdkafka speaks. It models no call that the log does not make: no replicas, no leaders that move, no log that is
//! truncated, no compaction.
//!
//! One process runs at a time and the seed decides which, so that a schedule is repeated by its seed.

mod consumer;
mod coordinator;
pub(super) mod disk;
mod fleet;
mod group;
mod partition;
mod producer;
mod schedule;
mod weather;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use rdkafka::ClientConfig;

use super::clients::Clients;
use super::config::KafkaConfig;
use super::disk::Disk;
use super::driver::Driver;
use super::fault::misconfigured;
use super::session::KafkaSession;
use super::store::Stores;
use super::tail::KafkaTail;
use super::watchdog::Watchdog;
use crate::{AckSink, Fault, Group, Log, Member, Output, Position, Session, Tail, Topic, TopicChange, TopicSpec};
use consumer::ModelConsumer;
use disk::MemoryDisk;
use group::Seat;
use partition::{Stored, TransactionOf};
use producer::ModelProducer;
use schedule::{Killed, SUPERVISOR, Schedule};
use world::{Consumer, Producer, World};

pub use fleet::{Fleet, Start, StopRequest};
pub use schedule::{Chance, Exit};
pub use weather::{REMOVED, Removed, Weather};

/// One simulated cluster and the processes on it.
pub struct Simulation {
    schedule: Arc<Schedule>,
    removed: Option<Removed>,
}

/// The disk of one simulated machine.
#[derive(Clone, Debug, Default)]
pub struct Machine(MemoryDisk);

/// One process of a simulation. What it runs, runs on a thread of its own.
pub struct Process {
    schedule: Arc<Schedule>,
    id: usize,
    machine: Machine,
    removed: Option<Removed>,
}

/// A producer, its epoch, and which of its transactions.
pub type TransactionId = (u64, u32, u64);

fn transaction_id(by: TransactionOf) -> TransactionId {
    (by.producer.id, by.producer.epoch, by.count)
}

/// A record that was committed, and by which transaction.
#[derive(Clone, Debug)]
pub struct CommittedRecord {
    pub partition: u32,
    pub offset: u64,
    /// Unlike that of any other transaction; `None` where it was written outside any.
    pub transaction: Option<TransactionId>,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<(String, Bytes)>,
}

impl std::fmt::Debug for Simulation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulation").field("removed", &self.removed).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The first seed of `0..count` whose schedule ends badly, and how. Schedules run on `threads` threads.
pub fn first_failure(
    count: u64,
    threads: usize,
    tell: impl Fn(u64) -> Result<(), String> + Sync,
) -> Option<(u64, String)> {
    let next = AtomicU64::new(0);
    let failed = Mutex::new(None::<(u64, String)>);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    // A lower seed may still be under way elsewhere; none is begun beyond a failure.
                    if seed >= count || failed.lock().is_some() {
                        return;
                    }
                    if let Err(why) = tell(seed) {
                        let mut first = failed.lock();
                        if first.as_ref().is_none_or(|(known, _)| seed < *known) {
                            *first = Some((seed, why));
                        }
                    }
                }
            });
        }
    });
    failed.into_inner()
}

/// The caller's thread is the one process that sets the others up; only it may call what is here.
impl Simulation {
    pub fn new(seed: u64, removed: Option<Removed>) -> Self {
        let session = KafkaConfig::new("", "").timings.session;
        Self { schedule: Arc::new(Schedule::new(World::new(seed, removed, session))), removed }
    }

    /// Makes a topic that starts at 0 for this group.
    pub fn create_topic(&self, topic: &Topic, partitions: u32, read_by: Option<&str>) {
        self.schedule.at_once(|world| {
            world.create_topic(topic.as_str(), partitions);
            for partition in read_by.iter().flat_map(|_| 0..partitions) {
                let group = world.group(read_by.unwrap_or_default());
                group.commit((topic.as_str().to_owned(), partition), 0, "");
            }
        });
    }

    /// For so long from now, not every broker has heard of the topic.
    pub fn hear_late(&self, topic: &Topic, time: Duration) {
        self.schedule.at_once(|world| world.hear_late(topic.as_str(), time));
    }

    pub fn set_weather(&self, weather: Weather) {
        self.schedule.at_once(|world| world.weather = weather);
    }

    /// Writes a record outside any transaction.
    pub fn append(&self, at: (&Topic, u32), key: &[u8], value: &[u8]) {
        self.append_with(at, (key, value), 0, Vec::new());
    }

    /// Writes a record outside any transaction, stamped `time_ms` by the log.
    pub fn append_with(&self, at: (&Topic, u32), record: (&[u8], &[u8]), time_ms: i64, headers: Vec<(String, Bytes)>) {
        let (key, value) = record;
        let stored = Stored {
            time_ms,
            key: Some(Bytes::copy_from_slice(key)),
            value: Some(Bytes::copy_from_slice(value)),
            headers,
        };
        self.schedule.at_once(|world| {
            if let Some(partition) = world.partition_mut(at.0.as_str(), at.1) {
                partition.append(stored);
            }
        });
    }

    pub fn process(&self, machine: &Machine) -> Process {
        let (schedule, machine) = (Arc::clone(&self.schedule), machine.clone());
        Process { id: schedule.add_process(), schedule, machine, removed: self.removed }
    }

    /// Lets the other processes run for so long.
    pub fn sleep(&self, time: Duration) {
        self.schedule.sleep(SUPERVISOR, time);
    }

    /// `None` while it runs.
    pub fn exit_of(&self, process: usize) -> Option<Exit> {
        self.schedule.exit_of(process)
    }

    /// As `kill -9`: the process does nothing more; what it has sent may still arrive.
    pub fn kill(&self, process: usize) {
        self.schedule.kill(process);
    }

    /// As SIGSTOP, and SIGCONT after so long.
    pub fn freeze(&self, process: usize, time: Duration) {
        self.schedule.freeze(process, time);
    }

    /// No broker answers for so long.
    pub fn go_away(&self, time: Duration) {
        self.schedule.at_once(|world| world.go_away(time));
    }

    /// Since the simulation began.
    pub fn elapsed(&self) -> Duration {
        self.schedule.at_once(|world| world.now)
    }

    pub fn committed(&self, topic: &Topic) -> Vec<CommittedRecord> {
        self.schedule.at_once(|world| {
            let mut records = Vec::new();
            for partition in 0..world.partitions(topic.as_str()).unwrap_or_default() {
                let Some(found) = world.partition(topic.as_str(), partition) else { continue };
                records.extend(found.committed().map(|(offset, by, stored)| CommittedRecord {
                    partition,
                    offset,
                    transaction: by.map(transaction_id),
                    key: stored.key.clone(),
                    value: stored.value.clone(),
                    headers: stored.headers.clone(),
                }));
            }
            records
        })
    }

    /// The end of a partition, what is open included, and its last stable offset.
    pub fn ends(&self, topic: &Topic, partition: u32) -> (u64, u64) {
        self.schedule.at_once(|world| {
            world.partition(topic.as_str(), partition).map_or((0, 0), |found| (found.end(), found.last_stable()))
        })
    }

    /// The transaction that moved a group's offset past a record; `None` where none did.
    pub fn passed_by(&self, group: &str, at: (&Topic, u32), offset: u64) -> Option<TransactionId> {
        let place = (at.0.as_str().to_owned(), at.1);
        self.schedule.at_once(|world| world.known_group(group)?.passed_by(&place, offset).map(transaction_id))
    }

    /// What a group has committed.
    pub fn offset(&self, group: &str, topic: &Topic, partition: u32) -> Option<u64> {
        let at = (topic.as_str().to_owned(), partition);
        self.schedule.at_once(|world| world.known_group(group)?.offset(&at).map(|kept| kept.offset))
    }
}

impl Machine {
    /// Loses its disk.
    pub fn lose(&self) {
        self.0.lose();
    }

    /// Crashes: the last batches of every store were not synced.
    pub fn crash(&self, batches: usize) {
        self.0.roll_back(batches);
    }
}

impl Process {
    pub fn id(&self) -> usize {
        self.id
    }

    /// Runs on the calling thread until it is done or killed.
    pub fn run(&self, work: impl FnOnce(Arc<dyn Log>) -> Result<(), Fault>) {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            self.schedule.begin(self.id);
            let log = self.open()?;
            work(Arc::new(log))
        }));
        let exit = match outcome {
            Ok(Ok(())) => Exit::Done,
            Ok(Err(fault)) => Exit::Failed(fault.cause().code, fault.to_string()),
            Err(cause) if cause.is::<Killed>() => Exit::Killed,
            Err(_) => Exit::Panicked,
        };
        self.schedule.end(self.id, exit);
    }

    /// How this process waits.
    pub fn pause(&self) -> impl Fn(Duration) + Send + Sync + use<> {
        let (schedule, id) = (Arc::clone(&self.schedule), self.id);
        move |time| schedule.sleep(id, time)
    }

    /// As a process does that is started: it tries again until the brokers answer.
    fn open(&self) -> Result<HostileLog, Fault> {
        loop {
            let mut config = KafkaConfig::new("model", "");
            if self.removed == Some(Removed::Recycling) {
                config.timings.slow_commit = Duration::MAX;
            }
            let model = Model { schedule: Arc::clone(&self.schedule), process: self.id, disk: self.machine.0.clone() };
            match Clients::over(model, config) {
                Ok(clients) => {
                    let clients = Arc::new(clients);
                    return Ok(HostileLog { stores: Arc::new(clients.stores()), clients });
                }
                Err(fault @ Fault::Fatal(_)) => return Err(fault),
                Err(_) => self.schedule.sleep(self.id, Duration::from_secs(1)),
            }
        }
    }
}

/// Makes the clients of one process.
struct Model {
    schedule: Arc<Schedule>,
    process: usize,
    disk: MemoryDisk,
}

impl Model {
    fn consumer(&self, config: &ClientConfig, seat: Option<Seat>) -> ModelConsumer {
        let group = config.get("group.id").unwrap_or_default().to_owned();
        let committed_only = config.get("isolation.level") == Some("read_committed");
        let rebalances = seat.as_ref().map(|seat| Arc::clone(&seat.rebalances)).unwrap_or_default();
        let client = self.schedule.call(self.process, |world| {
            let client = world.next_client();
            let is_member = seat.is_some();
            let consumer = Consumer {
                process: self.process,
                committed_only,
                seat,
                assigned: BTreeMap::new(),
                fatal: None,
                has_told_fatal: false,
                polled_at: world.now,
            };
            world.consumers.insert(client, consumer);
            if is_member {
                world.ask_to_join(client);
            }
            client
        });
        let schedule = Arc::clone(&self.schedule);
        ModelConsumer { schedule, process: self.process, client, group, committed_only, rebalances }
    }
}

fn millis(config: &ClientConfig, name: &str) -> Duration {
    Duration::from_millis(config.get(name).and_then(|value| value.parse().ok()).unwrap_or_default())
}

impl Driver for Model {
    type Reader = ModelConsumer;
    type Member = ModelConsumer;
    type Producer = ModelProducer;

    fn reader(&self, config: &ClientConfig) -> Result<ModelConsumer, Fault> {
        Ok(self.consumer(config, None))
    }

    fn member(&self, config: &ClientConfig, inputs: &[&str]) -> Result<ModelConsumer, Fault> {
        let group = config.get("group.id").unwrap_or_default().to_owned();
        let Some(instance) = config.get("group.instance.id") else {
            return Err(misconfigured("refused", "the model knows static members alone"));
        };
        let inputs = inputs.iter().map(|&topic| topic.to_owned()).collect();
        let poll_interval = millis(config, "max.poll.interval.ms");
        Ok(self.consumer(config, Some(Seat::new(group, instance.to_owned(), inputs, poll_interval))))
    }

    fn producer(&self, config: &ClientConfig) -> Result<ModelProducer, Fault> {
        let id = config.get("transactional.id").unwrap_or_default().to_owned();
        let deliveries = Arc::default();
        let client = self.schedule.call(self.process, |world| {
            let client = world.next_client();
            let producer = Producer {
                process: self.process,
                id: id.clone(),
                time_out: millis(config, "transaction.timeout.ms"),
                known: None,
                fatal: None,
                deliveries: Arc::clone(&deliveries),
                in_flight: 0,
                outbox: BTreeMap::new(),
                sending: Default::default(),
                numbers: BTreeMap::new(),
                added: Default::default(),
                reports: Vec::new(),
                is_open: false,
            };
            world.producers.insert(client, producer);
            client
        });
        let schedule = Arc::clone(&self.schedule);
        Ok(ModelProducer { schedule, process: self.process, client, id, deliveries, apart: Default::default() })
    }

    fn disk(&self) -> Disk {
        Disk::Memory(self.disk.clone())
    }

    fn watchdog(&self) -> std::io::Result<Watchdog> {
        Ok(Watchdog::blind())
    }

    fn now(&self) -> Instant {
        self.schedule.now()
    }

    /// May last longer than asked, as everywhere.
    fn sleep(&self, time: Duration) {
        self.schedule.sleep(self.process, time.max(Duration::from_millis(1)));
    }
}

/// The log as one process of a simulation has it.
struct HostileLog {
    clients: Arc<Clients<Model>>,
    stores: Arc<Stores>,
}

impl HostileLog {
    fn all_partitions(&self, topic: &Topic) -> Result<Vec<u32>, Fault> {
        Ok((0..self.clients.require_partitions(topic)?).collect())
    }
}

impl Log for HostileLog {
    fn identity(&self) -> &str {
        self.clients.cluster()
    }

    /// Topics are made by the simulation; here they are only looked for.
    fn apply(&self, topics: &[TopicSpec], _: &[Group]) -> Result<Vec<TopicChange>, Fault> {
        let compare = |spec: &TopicSpec| {
            let found = self.clients.require_partitions(&spec.topic)?;
            Ok(if found == spec.partitions {
                TopicChange::Kept(spec.topic.clone())
            } else {
                TopicChange::Differs(spec.topic.clone(), format!("{found} partitions"))
            })
        };
        topics.iter().map(compare).collect()
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
        let session = KafkaSession::join(Arc::clone(&self.clients), Arc::clone(&self.stores), member)?;
        Ok(Box::new(session))
    }

    /// The edges have no transactions, and are not what is simulated.
    fn append(&self, out: &Output<'_>, _: AckSink) -> Result<(), Fault> {
        Err(misconfigured(
            "refused",
            format!("a simulated process appends nothing to {} outside transactions", out.topic),
        ))
    }

    fn tail(&self, from: &[Position]) -> Result<Box<dyn Tail>, Fault> {
        Ok(Box::new(KafkaTail::open(Arc::clone(&self.clients), from)?))
    }
}
