//! The transaction coordinator with `transaction.version` 1, which is what librdkafka speaks: an epoch belongs to a
//! producer and not to a transaction, so that a late request of one transaction can act on the next.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::world::{Place, Removed, World};

/// A producer as brokers know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ProducerOf {
    pub(super) id: u64,
    pub(super) epoch: u32,
}

/// The end of a transaction as it is written to one partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marker {
    pub(super) producer: ProducerOf,
    pub(super) is_commit: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Empty,
    Ongoing,
    /// Decided; the markers are being written.
    Ending {
        is_commit: bool,
    },
    Ended {
        was_commit: bool,
    },
}

/// Why the coordinator does not do what it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Declined {
    /// Markers are still being written: ask again.
    Concurrent,
    Fenced,
    InvalidState,
}

#[derive(Debug)]
struct Transaction {
    producer: ProducerOf,
    status: Status,
    /// Where it has written, and where its marker has still to be.
    places: BTreeSet<Place>,
    since: Duration,
    time_out: Duration,
    /// How many transactions this producer has had.
    count: u64,
}

/// All transactional ids.
#[derive(Debug, Default)]
pub(super) struct Coordinator {
    transactions: BTreeMap<String, Transaction>,
    producers: u64,
}

impl Coordinator {
    fn check(&mut self, id: &str, producer: ProducerOf) -> Result<&mut Transaction, Declined> {
        match self.transactions.get_mut(id) {
            Some(known) if known.producer == producer => Ok(known),
            _ => Err(Declined::Fenced),
        }
    }

    /// The number of the transaction that is ongoing at this place.
    pub(super) fn ongoing(&self, id: &str, producer: ProducerOf, place: &Place) -> Option<u64> {
        let known = self.transactions.get(id)?;
        let is_so = known.producer == producer && known.status == Status::Ongoing && known.places.contains(place);
        is_so.then_some(known.count)
    }

    /// AddPartitionsToTxn and AddOffsetsToTxn.
    pub(super) fn add(&mut self, id: &str, producer: ProducerOf, place: Place, now: Duration) -> Result<(), Declined> {
        let known = self.check(id, producer)?;
        match known.status {
            Status::Ending { .. } => return Err(Declined::Concurrent),
            Status::Ongoing => {}
            Status::Empty | Status::Ended { .. } => {
                known.status = Status::Ongoing;
                known.since = now;
                known.count += 1;
                known.places.clear();
            }
        }
        known.places.insert(place);
        Ok(())
    }
}

impl World {
    /// InitProducerId: ends what is open under this name, and fences whoever wrote it.
    pub(super) fn init_producer(&mut self, id: &str, time_out: Duration) -> Result<ProducerOf, Declined> {
        let fences = self.keeps(Removed::FencingByInit);
        let coordinator = &mut self.coordinator;
        let Some(known) = coordinator.transactions.get_mut(id) else {
            coordinator.producers += 1;
            let producer = ProducerOf { id: coordinator.producers, epoch: 0 };
            let places = BTreeSet::new();
            let made =
                Transaction { producer, status: Status::Empty, places, since: Duration::ZERO, time_out, count: 0 };
            coordinator.transactions.insert(id.to_owned(), made);
            return Ok(producer);
        };
        if !fences {
            return Ok(known.producer);
        }
        match known.status {
            Status::Ongoing => {
                known.producer.epoch += 1;
                self.end_ongoing(id, false);
                Err(Declined::Concurrent)
            }
            Status::Ending { .. } => Err(Declined::Concurrent),
            Status::Empty | Status::Ended { .. } => {
                known.producer.epoch += 1;
                known.status = Status::Empty;
                known.time_out = time_out;
                Ok(known.producer)
            }
        }
    }

    /// EndTxn. The answer comes when the decision is written; the markers follow.
    pub(super) fn end_transaction(&mut self, id: &str, producer: ProducerOf, is_commit: bool) -> Result<(), Declined> {
        match self.coordinator.check(id, producer)?.status {
            Status::Ongoing => {
                self.end_ongoing(id, is_commit);
                Ok(())
            }
            Status::Ending { is_commit: decided } if decided == is_commit => Err(Declined::Concurrent),
            // Asked again, it was done.
            Status::Ended { was_commit } if was_commit == is_commit => Ok(()),
            Status::Empty | Status::Ending { .. } | Status::Ended { .. } => Err(Declined::InvalidState),
        }
    }

    fn end_ongoing(&mut self, id: &str, is_commit: bool) {
        let Some(known) = self.coordinator.transactions.get_mut(id) else { return };
        known.status = Status::Ending { is_commit };
        let marker = Marker { producer: known.producer, is_commit };
        let places = known.places.clone();
        for place in places {
            let at = self.now + self.marker_takes();
            let id = id.to_owned();
            self.agenda.add(at, Box::new(move |world| world.write_marker(&id, &place, marker)));
        }
    }

    fn write_marker(&mut self, id: &str, place: &Place, marker: Marker) {
        match place {
            Place::Partition(topic, partition) => {
                if let Some(partition) = self.partition_mut(topic, *partition) {
                    partition.mark(marker);
                }
            }
            Place::Offsets(group) => self.group(group).mark(marker),
        }
        if let Some(known) = self.coordinator.transactions.get_mut(id) {
            known.places.remove(place);
            if known.places.is_empty() {
                known.status = Status::Ended { was_commit: marker.is_commit };
            }
        }
    }

    /// The coordinator aborts what has been open for too long, and fences whoever left it so.
    pub(super) fn end_overdue(&mut self) {
        let now = self.now;
        let is_overdue = |known: &Transaction| known.status == Status::Ongoing && now > known.since + known.time_out;
        let overdue = self.coordinator.transactions.iter().filter(|(_, known)| is_overdue(known));
        for id in overdue.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            if let Some(known) = self.coordinator.transactions.get_mut(&id) {
                known.producer.epoch += 1;
            }
            self.end_ongoing(&id, false);
        }
    }
}
