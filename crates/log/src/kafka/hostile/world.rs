//! What the model consists of.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::super::transaction::Deliveries;
use super::coordinator::{Coordinator, Declined, ProducerOf};
use super::group::{At, Group, Seat};
use super::partition::{Numbered, Partition, Refused, Stored, TransactionOf};
use super::schedule::{Agenda, Chance, ProcessId};
use crate::Topic;

pub(super) use super::weather::{Removed, Weather};

/// One client of one process.
pub(super) type ClientId = u64;

/// Where a transaction writes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Partition(String, u32),
    Offsets(String),
}

/// What a request comes back with.
pub(super) type Answer = Result<Option<ProducerOf>, Refusal>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Transaction(Declined),
    Group(Code),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Request {
    Sent,
    Answered(Answer),
    /// The connection is gone, and with it the answer.
    Broken,
}

/// What is asked of a broker; a copy of it may be done later once more.
pub(super) type Act = Arc<dyn Fn(&mut World) -> Answer + Send + Sync>;

pub(super) struct Consumer {
    pub(super) process: ProcessId,
    pub(super) committed_only: bool,
    pub(super) seat: Option<Seat>,
    /// Where it reads on, and whether that is told yet.
    pub(super) assigned: BTreeMap<At, Spot>,
    pub(super) fatal: Option<(Code, String)>,
    pub(super) has_told_fatal: bool,
    pub(super) polled_at: Duration,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    pub(super) next: u64,
    pub(super) is_told: bool,
}

pub(super) struct Producer {
    pub(super) process: ProcessId,
    pub(super) id: String,
    pub(super) time_out: Duration,
    pub(super) known: Option<ProducerOf>,
    pub(super) fatal: Option<(Code, String)>,
    pub(super) deliveries: Arc<Deliveries>,
    pub(super) in_flight: i32,
    pub(super) outbox: BTreeMap<At, VecDeque<(u64, Stored)>>,
    pub(super) sending: BTreeSet<At>,
    pub(super) numbers: BTreeMap<At, u64>,
    pub(super) added: BTreeSet<Place>,
    /// What the next poll tells.
    pub(super) reports: Vec<Report>,
    pub(super) is_open: bool,
}

pub(super) enum Report {
    Lies { at: At, offset: u64 },
    Failed(Code),
}

pub(super) struct World {
    pub(super) now: Duration,
    pub(super) agenda: Agenda,
    pub(super) chance: Chance,
    pub(super) weather: Weather,
    removed: Option<Removed>,
    pub(super) session: Duration,
    topics: BTreeMap<String, Vec<Partition>>,
    /// Until when some brokers do not know a topic.
    unheard: BTreeMap<String, Duration>,
    groups: BTreeMap<String, Group>,
    pub(super) coordinator: Coordinator,
    clients: ClientId,
    pub(super) consumers: BTreeMap<ClientId, Consumer>,
    pub(super) producers: BTreeMap<ClientId, Producer>,
    pub(super) requests: BTreeMap<u64, Request>,
    request_count: u64,
    away_until: Duration,
    frozen: BTreeMap<ProcessId, Duration>,
}

impl World {
    pub(super) fn new(seed: u64, removed: Option<Removed>, session: Duration) -> Self {
        let mut world = Self {
            now: Duration::ZERO,
            agenda: Agenda::default(),
            chance: Chance::new(seed),
            weather: Weather::calm(),
            removed,
            session,
            topics: BTreeMap::new(),
            unheard: BTreeMap::new(),
            groups: BTreeMap::new(),
            coordinator: Coordinator::default(),
            clients: 0,
            consumers: BTreeMap::new(),
            producers: BTreeMap::new(),
            requests: BTreeMap::new(),
            request_count: 0,
            away_until: Duration::ZERO,
            frozen: BTreeMap::new(),
        };
        world.tick(0);
        world
    }

    /// Heartbeats and time-outs, for as long as the world stands.
    fn tick(&mut self, count: u64) {
        self.beat();
        if count.is_multiple_of(5) {
            self.end_overdue();
        }
        let next = self.now + Duration::from_secs(2);
        self.agenda.add(next, Box::new(move |world| world.tick(count + 1)));
    }

    pub(super) fn keeps(&self, rule: Removed) -> bool {
        self.removed != Some(rule)
    }

    pub(super) fn create_topic(&mut self, name: &str, partitions: u32) {
        self.topics.insert(name.to_owned(), (0..partitions).map(|_| Partition::default()).collect());
    }

    pub(super) fn hear_late(&mut self, topic: &str, time: Duration) {
        self.unheard.insert(topic.to_owned(), self.now + time);
    }

    /// Whether the broker that happens to be asked does not know the topic yet.
    pub(super) fn is_unheard(&mut self, topic: &str) -> bool {
        self.unheard.get(topic).is_some_and(|until| self.now < *until) && self.chance.happens(500)
    }

    pub(super) fn partitions(&self, topic: &str) -> Option<u32> {
        self.topics.get(topic).map(|partitions| u32::try_from(partitions.len()).unwrap_or(u32::MAX))
    }

    pub(super) fn partition(&self, topic: &str, partition: u32) -> Option<&Partition> {
        self.topics.get(topic)?.get(usize::try_from(partition).ok()?)
    }

    pub(super) fn partition_mut(&mut self, topic: &str, partition: u32) -> Option<&mut Partition> {
        self.topics.get_mut(topic)?.get_mut(usize::try_from(partition).ok()?)
    }

    pub(super) fn group(&mut self, name: &str) -> &mut Group {
        self.groups.entry(name.to_owned()).or_default()
    }

    pub(super) fn known_group(&self, name: &str) -> Option<&Group> {
        self.groups.get(name)
    }

    pub(super) fn group_names(&self) -> Vec<String> {
        self.groups.keys().cloned().collect()
    }

    pub(super) fn next_client(&mut self) -> ClientId {
        self.clients += 1;
        self.clients
    }

    pub(super) fn seat(&mut self, client: ClientId) -> Option<&mut Seat> {
        self.consumers.get_mut(&client)?.seat.as_mut()
    }

    pub(super) fn seated(&self) -> Vec<ClientId> {
        self.consumers.iter().filter(|(_, consumer)| consumer.seat.is_some()).map(|(client, _)| *client).collect()
    }

    pub(super) fn polled_at(&self, client: ClientId) -> Option<Duration> {
        self.consumers.get(&client).filter(|consumer| consumer.fatal.is_none()).map(|consumer| consumer.polled_at)
    }

    pub(super) fn is_frozen(&self, client: ClientId) -> bool {
        let process = self.consumers.get(&client).map(|consumer| consumer.process);
        process.is_some_and(|process| self.frozen.get(&process).is_some_and(|until| *until > self.now))
    }

    pub(super) fn freeze(&mut self, process: ProcessId, until: Duration) {
        self.frozen.insert(process, until);
    }

    pub(super) fn fail(&mut self, client: ClientId, code: Code, why: &str) {
        if let Some(consumer) = self.consumers.get_mut(&client) {
            consumer.fatal.get_or_insert((code, why.to_owned()));
        }
    }

    /// No broker answers for so long.
    pub(super) fn go_away(&mut self, time: Duration) {
        self.away_until = self.away_until.max(self.now + time);
    }

    pub(super) fn is_away(&self) -> bool {
        self.now < self.away_until
    }

    /// Its clients are gone. What they had sent may still arrive.
    pub(super) fn process_ended(&mut self, process: ProcessId) {
        let closed = self.consumers.iter().filter(|(_, consumer)| consumer.process == process).map(|(id, _)| *id);
        for client in closed.collect::<Vec<_>>() {
            self.close_consumer(client);
        }
        let closed = self.producers.iter().filter(|(_, producer)| producer.process == process).map(|(id, _)| *id);
        for client in closed.collect::<Vec<_>>() {
            self.close_producer(client);
        }
    }

    pub(super) fn close_consumer(&mut self, client: ClientId) {
        if self.consumers.remove(&client).is_some_and(|consumer| consumer.seat.is_some()) {
            self.forget_holder(client);
        }
    }

    pub(super) fn close_producer(&mut self, client: ClientId) {
        let Some(mut producer) = self.producers.remove(&client) else { return };
        // Some of what it had to send is on its way already.
        let Some(known) = producer.known else { return };
        for (at, outbox) in std::mem::take(&mut producer.outbox) {
            let sent = self.chance.index(outbox.len() + 1);
            let arrives = self.now + self.latency();
            let id = producer.id.clone();
            let batch = outbox.into_iter().take(sent).collect::<Vec<_>>();
            self.agenda.add(
                arrives,
                Box::new(move |world| {
                    for (number, record) in batch {
                        // Nobody hears of the outcome.
                        let _ = world.produce(&id, known, &at, (number, record));
                    }
                }),
            );
        }
    }

    pub(super) fn call_takes(&mut self) -> Duration {
        self.chance.between(Duration::from_micros(5), Duration::from_micros(150))
    }

    pub(super) fn is_interrupted(&mut self) -> bool {
        self.chance.happens(self.weather.interrupted)
    }

    pub(super) fn latency(&mut self) -> Duration {
        if self.chance.happens(self.weather.slow) {
            self.chance.between(Duration::from_millis(2), Duration::from_millis(1_500))
        } else {
            self.chance.between(Duration::from_micros(100), Duration::from_micros(1_500))
        }
    }

    /// How long after it was given up a request still arrives.
    fn lateness(&mut self) -> Duration {
        let most = if self.chance.happens(700) { Duration::from_millis(60) } else { Duration::from_secs(8) };
        self.chance.between(Duration::from_micros(500), most)
    }

    pub(super) fn marker_takes(&mut self) -> Duration {
        if self.chance.happens(self.weather.late_markers) {
            self.chance.between(Duration::from_millis(5), Duration::from_secs(4))
        } else {
            self.chance.between(Duration::from_micros(100), Duration::from_millis(2))
        }
    }

    /// Sends a request, and decides what becomes of it.
    pub(super) fn send(&mut self, act: Act) -> u64 {
        self.request_count += 1;
        let request = self.request_count;
        self.requests.insert(request, Request::Sent);
        let there = self.latency();
        // A connection is reset at once, or given up when its time is over.
        let most = if self.chance.happens(500) { Duration::from_millis(20) } else { Duration::from_secs(5) };
        let gives_up = self.chance.between(Duration::from_millis(1), most);
        if self.is_away() || self.chance.happens(self.weather.requests_lost) {
            self.breaks(request, gives_up);
        } else if self.chance.happens(self.weather.stuck) {
            let late = gives_up + self.lateness();
            self.agenda.add(self.now + late, Box::new(move |world| _ = act(world)));
            self.breaks(request, gives_up);
        } else if self.chance.happens(self.weather.answers_lost) {
            self.agenda.add(self.now + there, Box::new(move |world| _ = act(world)));
            self.breaks(request, there + gives_up);
        } else {
            let back = self.latency();
            self.agenda.add(
                self.now + there,
                Box::new(move |world| {
                    let answer = act(world);
                    let arrives = world.now + back;
                    world.agenda.add(arrives, Box::new(move |world| world.settle(request, Request::Answered(answer))));
                }),
            );
        }
        request
    }

    fn breaks(&mut self, request: u64, after: Duration) {
        self.agenda.add(self.now + after, Box::new(move |world| world.settle(request, Request::Broken)));
    }

    fn settle(&mut self, request: u64, outcome: Request) {
        if let Some(known) = self.requests.get_mut(&request) {
            *known = outcome;
        }
    }

    pub(super) fn is_settled(&self, request: u64) -> bool {
        !matches!(self.requests.get(&request), Some(Request::Sent))
    }

    /// One record of a transaction arrives at its partition.
    fn produce(
        &mut self,
        id: &str,
        producer: ProducerOf,
        at: &At,
        (number, record): (u64, Stored),
    ) -> Result<u64, Refused> {
        let place = Place::Partition(at.0.clone(), at.1);
        let ongoing = self.coordinator.ongoing(id, producer, &place);
        let by = TransactionOf { producer, count: ongoing.unwrap_or_default() };
        let batch = Numbered { by, number, record, is_ongoing: ongoing.is_some() };
        self.partition_mut(&at.0, at.1).map_or(Err(Refused::NotOngoing), |partition| partition.produce(batch))
    }

    /// Sends what a producer has waiting for a partition: first that it is part of the transaction, then the records.
    pub(super) fn deliver(&mut self, client: ClientId, at: &At) {
        let Some(producer) = self.producers.get(&client) else { return };
        let place = Place::Partition(at.0.clone(), at.1);
        let (id, known) = (producer.id.clone(), producer.known);
        let (is_added, deliveries) = (producer.added.contains(&place), Arc::clone(&producer.deliveries));
        let Some(known) = known else { return };
        let is_lost = self.chance.happens(self.weather.requests_lost);
        if self.is_away() || is_lost {
            self.disturb(&deliveries);
            let later = self.chance.between(Duration::from_millis(5), Duration::from_millis(500));
            self.deliver_after(client, at, later);
            return;
        }
        if !is_added {
            let now = self.now;
            match self.coordinator.add(&id, known, place.clone(), now) {
                Ok(()) => {
                    if self.chance.happens(self.weather.stuck) {
                        self.disturb(&deliveries);
                        let late = now + self.lateness();
                        let place = place.clone();
                        let again = move |world: &mut Self| {
                            let now = world.now;
                            let _ = world.coordinator.add(&id, known, place, now);
                        };
                        self.agenda.add(late, Box::new(again));
                    }
                    if let Some(producer) = self.producers.get_mut(&client) {
                        producer.added.insert(place);
                    }
                    let next = self.latency();
                    self.deliver_after(client, at, next);
                }
                Err(Declined::Concurrent) => self.deliver_after(client, at, Duration::from_millis(20)),
                Err(Declined::Fenced | Declined::InvalidState) => self.give_up(client, at, Code::ProducerFenced),
            }
            return;
        }
        let Some(producer) = self.producers.get_mut(&client) else { return };
        let outbox = producer.outbox.remove(at).unwrap_or_default();
        producer.sending.remove(at);
        for (number, record) in outbox {
            let report = match self.produce(&id, known, at, (number, record)) {
                Ok(offset) => Report::Lies { at: at.clone(), offset },
                Err(Refused::Fenced) => Report::Failed(Code::InvalidProducerEpoch),
                Err(Refused::NotOngoing) => Report::Failed(Code::InvalidTransactionalState),
            };
            // The answer may be lost; the record is then sent again, under the same number.
            let is_lost = self.chance.happens(self.weather.answers_lost);
            let mut arrives = self.now + self.latency();
            if is_lost {
                self.disturb(&deliveries);
                arrives += self.chance.between(Duration::from_millis(1), Duration::from_secs(5));
            }
            let tell = move |world: &mut Self| {
                if let Some(producer) = world.producers.get_mut(&client) {
                    producer.reports.push(report);
                }
            };
            self.agenda.add(arrives, Box::new(tell));
        }
    }

    pub(super) fn deliver_after(&mut self, client: ClientId, at: &At, time: Duration) {
        let at = at.clone();
        self.agenda.add(self.now + time, Box::new(move |world| world.deliver(client, &at)));
    }

    fn give_up(&mut self, client: ClientId, at: &At, code: Code) {
        if let Some(producer) = self.producers.get_mut(&client) {
            producer.sending.remove(at);
            let count = producer.outbox.remove(at).unwrap_or_default().len();
            producer.reports.extend((0..count).map(|_| Report::Failed(code)));
            producer.fatal.get_or_insert((code, "fenced by a newer producer of its name".to_owned()));
        }
    }

    /// A client hears that a connection was lost.
    pub(super) fn disturb(&self, deliveries: &Deliveries) {
        if self.keeps(Removed::Recycling) {
            deliveries.disturb();
        }
    }

    /// Tells a producer's records as its poll does.
    pub(super) fn report(&mut self, client: ClientId) {
        let names = self.topics.keys().cloned().collect::<Vec<_>>();
        let Some(producer) = self.producers.get_mut(&client) else { return };
        for report in std::mem::take(&mut producer.reports) {
            producer.in_flight -= 1;
            match report {
                Report::Lies { at: (topic, partition), offset } => {
                    let handle = names.iter().position(|name| *name == topic).unwrap_or_default();
                    producer.deliveries.lies(handle, || Topic::new(&topic), partition, offset + 1);
                }
                Report::Failed(code) => producer.deliveries.fail(KafkaError::MessageProduction(code)),
            }
        }
    }
}
