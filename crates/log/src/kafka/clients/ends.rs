//! Where partitions begin and end, for committed readers and for all.

use std::time::Duration;

use rdkafka::{Offset, TopicPartitionList};

use super::super::driver::{Driver, Reads};
use super::super::fault::{During, fault};
use super::{Clients, position, raw_partition};
use crate::{Cause, Fault, Position, Topic};

impl<D: Driver> Clients<D> {
    /// Ends that a committed reader can reach.
    pub(in super::super) fn ends(&self, topic: &Topic, partitions: &[u32]) -> Result<Vec<Position>, Fault> {
        self.offsets(&self.committed, topic, partitions, Offset::End)
    }

    /// Ends behind all that this process has committed: its markers are waited for.
    pub(in super::super) fn own_and_other_ends(
        &self,
        topic: &Topic,
        partitions: &[u32],
    ) -> Result<Vec<Position>, Fault> {
        let own = {
            let known = self.own_ends.lock();
            let of = |partition: &u32| known.get(&(topic.clone(), *partition)).map(|offset| (*partition, *offset));
            partitions.iter().filter_map(of).collect::<Vec<_>>()
        };
        let own = own.into_iter().map(|(partition, offset)| Position { topic: topic.clone(), partition, offset });
        self.wait_stable(topic, &own.collect::<Vec<_>>(), &mut || Ok(()))?;
        self.ends(topic, partitions)
    }

    pub(in super::super) fn remember_own(&self, ends: &[Position]) {
        let mut known = self.own_ends.lock();
        known.extend(ends.iter().map(|end| ((end.topic.clone(), end.partition), end.offset)));
    }

    /// Ends with what open transactions have written.
    pub(in super::super) fn open_ends(&self, topic: &Topic, partitions: &[u32]) -> Result<Vec<Position>, Fault> {
        self.offsets(&self.uncommitted, topic, partitions, Offset::End)
    }

    pub(in super::super) fn starts(&self, topic: &Topic, partitions: &[u32]) -> Result<Vec<Position>, Fault> {
        self.offsets(&self.committed, topic, partitions, Offset::Beginning)
    }

    /// One request a broker, however many partitions: the "time" of a lookup may also be the end or the beginning.
    fn offsets(
        &self,
        reader: &D::Reader,
        topic: &Topic,
        partitions: &[u32],
        at: Offset,
    ) -> Result<Vec<Position>, Fault> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let mut asked = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            asked
                .add_partition_offset(topic.as_str(), raw_partition(*partition), at)
                .map_err(|error| fault(During::Ask, error))?;
        }
        match self.told_offsets(reader, topic, asked.clone()) {
            // librdkafka keeps "no leader" as the answer and does not ask again on a client that has subscribed to
            // nothing: after an election it would go on for ever.
            Err(Fault::Retry(_)) => {
                {
                    let _watch = self.watchdog.watch("fetch_metadata", self.hang());
                    reader.partitions(topic, self.call()).map_err(|error| fault(During::Ask, error))?;
                }
                self.told_offsets(reader, topic, asked)
            }
            told => told,
        }
    }

    fn told_offsets(
        &self,
        reader: &D::Reader,
        topic: &Topic,
        asked: TopicPartitionList,
    ) -> Result<Vec<Position>, Fault> {
        let _watch = self.watchdog.watch("offsets_for_times", self.hang());
        let answered = reader.offsets_for_times(asked, self.call()).map_err(|error| fault(During::Ask, error))?;
        answered
            .elements()
            .iter()
            .map(|element| {
                element.error().map_err(|error| fault(During::Ask, error))?;
                match element.offset() {
                    Offset::Offset(offset) => Ok(position(topic, element.partition(), offset)),
                    other => Err(Fault::Retry(Cause::new("unavailable", format!("{topic} answered {other:?}")))),
                }
            })
            .collect()
    }

    /// Waits until committed readers can see all that lay in the log when `upto` was asked for (KAFKA-10167).
    /// `meanwhile` is called often.
    pub(in super::super) fn wait_stable(
        &self,
        topic: &Topic,
        upto: &[Position],
        meanwhile: &mut dyn FnMut() -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let partitions = upto.iter().map(|end| end.partition).collect::<Vec<_>>();
        if partitions.is_empty() {
            return Ok(());
        }
        let deadline = self.now() + self.config.timings.stability();
        loop {
            let stable = self.ends(topic, &partitions)?;
            let waits_for = upto
                .iter()
                .find(|end| !stable.iter().any(|seen| seen.partition == end.partition && seen.offset >= end.offset));
            let Some(unstable) = waits_for else { return Ok(()) };
            if self.now() >= deadline {
                let detail = format!("an open transaction holds {topic}-{} back", unstable.partition);
                return Err(Fault::Retry(Cause::new("unstable", detail)));
            }
            meanwhile()?;
            self.driver.sleep(Duration::from_millis(5));
        }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;

    use super::*;
    use crate::kafka::{KafkaConfig, Timings};

    /// Fails without the question for the topic in between: the client goes on saying that there is no leader.
    #[test]
    fn ends_are_told_again_when_a_partition_has_a_leader_again() {
        let cluster = MockCluster::new(2).unwrap();
        cluster.create_topic("in", 1, 2).unwrap();
        cluster.partition_leader("in", 0, None).unwrap();
        let timings = Timings { call: Duration::from_millis(500), ..Timings::default() };
        let config = KafkaConfig { timings, ..KafkaConfig::new(&cluster.bootstrap_servers(), "unused") };
        let clients = Clients::connect(config).unwrap();
        let topic = Topic::new("in");
        let leaderless = clients.ends(&topic, &[0]).unwrap_err();
        assert!(matches!(leaderless, Fault::Retry(_)), "{leaderless}");
        for leader in [2, 1] {
            cluster.partition_leader("in", 0, Some(leader)).unwrap();
            assert_eq!(clients.ends(&topic, &[0]).unwrap(), [position(&topic, 0, 0)], "led by {leader}");
        }
    }
}
