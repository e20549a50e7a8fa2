//! The model's consumer: what librdkafka would answer, of a world that misbehaves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::{Offset, TopicPartitionList};

use super::super::clients::{known_offset, known_partition, raw_offset, raw_partition};
use super::super::driver::{Fetched, Joins, Reads};
use super::super::fault::{During, TOPIC_MISSING, fault, misconfigured};
use super::super::membership::{Event, Rebalances};
use super::group::{At, GroupPlace};
use super::partition::Stored;
use super::schedule::{ProcessId, Schedule};
use super::world::{ClientId, Removed, Spot, World};
use crate::{Fault, Record, Topic};

/// A reader, or a member of a group.
pub(crate) struct ModelConsumer {
    pub(super) schedule: Arc<Schedule>,
    pub(super) process: ProcessId,
    pub(super) client: ClientId,
    pub(super) group: String,
    pub(super) committed_only: bool,
    pub(super) rebalances: Arc<Rebalances>,
}

/// A record on its way to the log.
pub(crate) struct ModelRecord {
    at: At,
    offset: u64,
    stored: Stored,
}

enum Polled {
    Nothing,
    News(Event),
    Record(ModelRecord),
    Failed(KafkaError),
}

impl Drop for ModelConsumer {
    fn drop(&mut self) {
        self.schedule.at_once(|world| world.close_consumer(self.client));
    }
}

impl ModelConsumer {
    fn call<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        self.schedule.call(self.process, act)
    }

    /// One question to the brokers: it may go without an answer.
    fn ask(&self, patience: Duration) -> KafkaResult<()> {
        if self.call(|world| world.is_away()) {
            self.schedule.wait(self.process, patience, |world| !world.is_away());
        }
        let is_answered = self.schedule.at_once(|world| {
            let unanswered = world.weather.unanswered;
            !world.is_away() && !world.chance.happens(unanswered)
        });
        if is_answered {
            return Ok(());
        }
        self.schedule.sleep(self.process, patience);
        Err(KafkaError::MetadataFetch(Code::OperationTimedOut))
    }

    fn poll_once(&self, world: &mut World) -> Option<Result<ModelRecord, KafkaError>> {
        match world.poll(self.client) {
            Polled::Nothing => None,
            Polled::Record(record) => Some(Ok(record)),
            Polled::Failed(error) => Some(Err(error)),
            Polled::News(_) if self.rebalances.is_closing() => {
                world.unassign(self.client);
                None
            }
            Polled::News(event) => {
                self.rebalances.tell(event);
                None
            }
        }
    }
}

impl Reads for ModelConsumer {
    type Fetched<'a> = ModelRecord;

    fn poll(&self, wait: Duration) -> Option<Result<ModelRecord, KafkaError>> {
        let polled = self.call(|world| self.poll_once(world));
        if polled.is_some() || wait.is_zero() || !self.rebalances.is_empty() {
            return polled;
        }
        let client = self.client;
        self.schedule.wait(self.process, wait, move |world| world.has_for(client));
        self.schedule.at_once(|world| self.poll_once(world))
    }

    fn assign(&self, places: &TopicPartitionList) -> KafkaResult<()> {
        let places = places.elements();
        let spots = places.iter().filter_map(|place| match place.offset() {
            Offset::Offset(offset) => {
                let at = (place.topic().to_owned(), known_partition(place.partition()));
                Some((at, Spot { next: known_offset(offset), is_told: false }))
            }
            _ => None,
        });
        let spots = spots.collect::<BTreeMap<_, _>>();
        self.call(|world| world.assign(self.client, spots));
        Ok(())
    }

    fn position(&self) -> KafkaResult<TopicPartitionList> {
        let spots = self.schedule.at_once(|world| world.spots(self.client));
        let mut list = TopicPartitionList::with_capacity(spots.len());
        for ((topic, partition), spot) in spots {
            let offset = if spot.is_told { Offset::Offset(raw_offset(spot.next)) } else { Offset::Invalid };
            list.add_partition_offset(&topic, raw_partition(partition), offset)?;
        }
        Ok(list)
    }

    fn seek_partitions(&self, places: TopicPartitionList, _: Duration) -> KafkaResult<TopicPartitionList> {
        for place in places.elements() {
            if let Offset::Offset(offset) = place.offset() {
                let at = (place.topic().to_owned(), known_partition(place.partition()));
                let spot = Spot { next: known_offset(offset), is_told: false };
                self.call(|world| world.move_to(self.client, at, spot));
            }
        }
        Ok(places)
    }

    fn commit(&self, offsets: &TopicPartitionList) -> KafkaResult<()> {
        self.ask(PLAIN_COMMIT)?;
        for place in offsets.elements() {
            if let Offset::Offset(offset) = place.offset() {
                let at = (place.topic().to_owned(), known_partition(place.partition()));
                let metadata = place.metadata().to_owned();
                self.schedule.at_once(|world| world.group(&self.group).commit(at, known_offset(offset), &metadata));
            }
        }
        Ok(())
    }

    fn committed_offsets(&self, asked: TopicPartitionList, patience: Duration) -> KafkaResult<TopicPartitionList> {
        self.ask(patience)?;
        let elements = asked.elements();
        let all = elements.iter().map(|place| (place.topic().to_owned(), known_partition(place.partition())));
        let all = all.collect::<Vec<_>>();
        let (group, committed_only) = (self.group.clone(), self.committed_only);
        let places = all.clone();
        let is_stable = move |world: &World| {
            let waits = committed_only && world.keeps(Removed::StableOffsets);
            !waits || !world.known_group(&group).is_some_and(|group| places.iter().any(|at| group.has_pending(at)))
        };
        self.schedule.wait(self.process, patience, is_stable.clone());
        if !self.schedule.at_once(|world| is_stable(world)) {
            return Err(KafkaError::OffsetFetch(Code::OperationTimedOut));
        }
        for at in &all {
            let kept = self.schedule.at_once(|world| world.group(&self.group).offset(at).cloned());
            let Some(mut place) = asked.find_partition(&at.0, raw_partition(at.1)) else { continue };
            match kept {
                Some(kept) => {
                    place.set_offset(Offset::Offset(raw_offset(kept.offset)))?;
                    place.set_metadata(&kept.metadata);
                }
                None => place.set_offset(Offset::Invalid)?,
            }
        }
        Ok(asked)
    }

    fn offsets_for_times(&self, mut asked: TopicPartitionList, patience: Duration) -> KafkaResult<TopicPartitionList> {
        self.ask(patience)?;
        let elements = asked.elements();
        let all = elements.iter().map(|at| (at.topic().to_owned(), at.partition(), at.offset())).collect::<Vec<_>>();
        for (topic, partition, which) in all {
            let offset = self.schedule.at_once(|world| {
                let committed_only = self.committed_only || !world.keeps(Removed::OpenEnd);
                let found = world.partition(&topic, known_partition(partition));
                found.map(|found| match which {
                    Offset::Beginning => 0,
                    _ if committed_only => found.last_stable(),
                    _ => found.end(),
                })
            });
            let offset = offset.map_or(Offset::Invalid, |offset| Offset::Offset(raw_offset(offset)));
            asked.set_partition_offset(&topic, partition, offset)?;
        }
        Ok(asked)
    }

    fn cluster(&self, patience: Duration) -> KafkaResult<Option<String>> {
        self.ask(patience)?;
        Ok(Some(CLUSTER.to_owned()))
    }

    fn partitions(&self, topic: &Topic, patience: Duration) -> KafkaResult<Option<u32>> {
        self.ask(patience)?;
        Ok(self.schedule.at_once(|world| {
            let is_unheard = world.is_unheard(topic.as_str());
            world.partitions(topic.as_str()).filter(|_| !is_unheard)
        }))
    }

    fn topic_id(&self, topic: &Topic, patience: Duration) -> Result<String, Fault> {
        self.ask(patience).map_err(|error| fault(During::Ask, error))?;
        if self.schedule.at_once(|world| world.is_unheard(topic.as_str())) {
            return Err(misconfigured(TOPIC_MISSING, format!("DescribeTopics: {topic}")));
        }
        Ok(format!("id of {topic}"))
    }

    fn fatal_error(&self) -> Option<(Code, String)> {
        self.schedule.at_once(|world| world.consumers.get(&self.client)?.fatal.clone())
    }
}

impl Joins for ModelConsumer {
    type Place = GroupPlace;

    fn unassign(&self) -> KafkaResult<()> {
        self.call(|world| world.unassign(self.client));
        Ok(())
    }

    fn place(&self) -> Option<GroupPlace> {
        self.schedule.at_once(|world| world.seat(self.client).and_then(|seat| seat.place()))
    }

    fn rebalances(&self) -> &Rebalances {
        &self.rebalances
    }
}

/// A synchronous commit waits as long as a request of librdkafka does.
const PLAIN_COMMIT: Duration = Duration::from_secs(60);
const CLUSTER: &str = "model";

impl Fetched for ModelRecord {
    fn topic(&self) -> &str {
        &self.at.0
    }

    fn partition(&self) -> u32 {
        self.at.1
    }

    fn offset(&self) -> u64 {
        self.offset
    }

    fn key(&self) -> Option<&[u8]> {
        self.stored.key.as_deref()
    }

    fn value(&self) -> Option<&[u8]> {
        self.stored.value.as_deref()
    }

    fn record(&self, topic: &Topic) -> Record {
        let Stored { time_ms, key, value, headers } = self.stored.clone();
        Record { topic: topic.clone(), partition: self.at.1, offset: self.offset, time_ms, key, value, headers }
    }
}

impl World {
    fn poll(&mut self, client: ClientId) -> Polled {
        let now = self.now;
        let Some(consumer) = self.consumers.get_mut(&client) else { return Polled::Nothing };
        consumer.polled_at = now;
        if let Some((code, _)) = &consumer.fatal {
            if std::mem::replace(&mut consumer.has_told_fatal, true) {
                return Polled::Nothing;
            }
            return Polled::Failed(KafkaError::MessageConsumptionFatal(*code));
        }
        if let Some(event) = consumer.seat.as_mut().and_then(|seat| seat.news.pop_front()) {
            return Polled::News(event);
        }
        let is_still_fetching = self.chance.happens(self.weather.fetching);
        if self.is_away() || is_still_fetching {
            return Polled::Nothing;
        }
        self.fetch(client).map_or(Polled::Nothing, Polled::Record)
    }

    /// The next record of any partition that has one; passes over what is not shown.
    fn fetch(&mut self, client: ClientId) -> Option<ModelRecord> {
        let consumer = self.consumers.get(&client)?;
        let shows_all = !consumer.committed_only || !self.keeps(Removed::CommittedReads);
        let spots = consumer.assigned.iter().map(|(at, spot)| (at.clone(), *spot)).collect::<Vec<_>>();
        let first = self.chance.index(spots.len());
        for (at, spot) in spots.iter().cycle().skip(first).take(spots.len()) {
            let Some(partition) = self.partition(&at.0, at.1) else { continue };
            let end = if shows_all { partition.end() } else { partition.last_stable() };
            if spot.next >= end {
                continue;
            }
            let (shown, next) = partition.next_shown(spot.next, end, !shows_all);
            let shown = shown.map(|(offset, stored)| ModelRecord { at: at.clone(), offset, stored: stored.clone() });
            self.move_to(client, at.clone(), Spot { next, is_told: true });
            if shown.is_some() {
                return shown;
            }
        }
        None
    }

    /// Whether a poll would find anything.
    fn has_for(&self, client: ClientId) -> bool {
        let Some(consumer) = self.consumers.get(&client) else { return true };
        let has_news = consumer.seat.as_ref().is_some_and(|seat| !seat.news.is_empty());
        let has_failed = consumer.fatal.is_some() && !consumer.has_told_fatal;
        let has_record = || {
            consumer.assigned.iter().any(|(at, spot)| {
                self.partition(&at.0, at.1).is_some_and(|partition| {
                    let end = if consumer.committed_only { partition.last_stable() } else { partition.end() };
                    spot.next < end
                })
            })
        };
        has_news || has_failed || (!self.is_away() && has_record())
    }

    fn assign(&mut self, client: ClientId, spots: BTreeMap<At, Spot>) {
        if let Some(consumer) = self.consumers.get_mut(&client) {
            consumer.assigned = spots;
            if let Some(seat) = &mut consumer.seat {
                seat.taken_up();
            }
        }
    }

    fn unassign(&mut self, client: ClientId) {
        let Some(consumer) = self.consumers.get_mut(&client) else { return };
        consumer.assigned.clear();
        if consumer.seat.as_mut().is_some_and(|seat| seat.given_up()) && consumer.fatal.is_none() {
            self.ask_to_join(client);
        }
    }

    fn spots(&self, client: ClientId) -> BTreeMap<At, Spot> {
        self.consumers.get(&client).map(|consumer| consumer.assigned.clone()).unwrap_or_default()
    }

    fn move_to(&mut self, client: ClientId, at: At, to: Spot) {
        if let Some(spot) = self.consumers.get_mut(&client).and_then(|consumer| consumer.assigned.get_mut(&at)) {
            *spot = to;
        }
    }
}
