//! The model's transactional producer, with the errors and the repetitions of librdkafka.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::Headers;
use rdkafka::{Offset, TopicPartitionList};

use super::super::clients::{known_offset, known_partition};
use super::super::driver::{NotTaken, Transacts};
use super::super::fault::{ClientError, Verdict};
use super::super::transaction::{Deliveries, Outgoing};
use super::coordinator::{Declined, ProducerOf};
use super::group::{At, GroupPlace};
use super::partition::Stored;
use super::schedule::{ProcessId, Schedule};
use super::world::{Act, Answer, ClientId, Place, Refusal, Removed, Request, World};
use crate::partition_of;

const LINGER: Duration = Duration::from_millis(1);
const RETRY: Duration = Duration::from_millis(20);

/// Offsets, and who commits them.
type Apart = (GroupPlace, Vec<(At, u64)>);

pub(crate) struct ModelProducer {
    pub(super) schedule: Arc<Schedule>,
    pub(super) process: ProcessId,
    pub(super) client: ClientId,
    pub(super) id: String,
    pub(super) deliveries: Arc<Deliveries>,
    /// Offsets that are committed by themselves where that rule is removed.
    pub(super) apart: Mutex<Option<Apart>>,
}

impl Drop for ModelProducer {
    fn drop(&mut self) {
        self.schedule.at_once(|world| world.close_producer(self.client));
    }
}

fn failed(code: Code, verdict: Verdict) -> ClientError {
    ClientError { error: KafkaError::Global(code), verdict: Some(verdict) }
}

impl ModelProducer {
    fn call<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        self.schedule.call(self.process, act)
    }

    fn keeps(&self, rule: Removed) -> bool {
        self.schedule.at_once(|world| world.keeps(rule))
    }

    fn known(&self) -> Result<ProducerOf, ClientError> {
        self.schedule.at_once(|world| {
            let producer = world.producers.get(&self.client);
            match producer {
                Some(producer) if producer.fatal.is_some() => Err(failed(Code::Fatal, Verdict::Fatal)),
                Some(producer) => producer.known.ok_or_else(|| failed(Code::State, Verdict::Unclassified)),
                None => Err(failed(Code::State, Verdict::Unclassified)),
            }
        })
    }

    fn fail(&self, code: Code) -> ClientError {
        self.schedule.at_once(|world| {
            if let Some(producer) = world.producers.get_mut(&self.client) {
                producer.fatal.get_or_insert((code, "this producer is fenced or has failed".to_owned()));
            }
        });
        failed(code, Verdict::Fatal)
    }

    /// Asks until there is an answer other than "later", again over a new connection where one is lost.
    fn ask(
        &self,
        patience: Duration,
        act: impl Fn(&mut World) -> Answer + Send + Sync + 'static,
    ) -> Result<Answer, ClientError> {
        let act: Act = Arc::new(act);
        let time_out = || failed(Code::OperationTimedOut, Verdict::Retriable);
        let deadline = self.schedule.at_once(|world| world.now) + patience;
        loop {
            if std::thread::panicking() {
                return Err(time_out());
            }
            let request = self.call(|world| world.send(Arc::clone(&act)));
            let left = deadline.saturating_sub(self.schedule.at_once(|world| world.now));
            self.schedule.wait(self.process, left, move |world| world.is_settled(request));
            let outcome = self.schedule.at_once(|world| world.requests.remove(&request));
            match outcome {
                Some(Request::Answered(Err(Refusal::Transaction(Declined::Concurrent)))) => {}
                Some(Request::Answered(answer)) => return Ok(answer),
                Some(Request::Sent | Request::Broken) | None => {
                    self.schedule.at_once(|world| world.disturb(&self.deliveries));
                    if !self.keeps(Removed::UnknownOutcome) {
                        return Ok(Ok(None));
                    }
                }
            }
            if self.schedule.at_once(|world| world.now) >= deadline {
                return Err(time_out());
            }
            self.schedule.sleep(self.process, RETRY);
        }
    }

    fn settled(&self, answer: Answer) -> Result<(), ClientError> {
        match answer {
            Ok(_) => Ok(()),
            Err(Refusal::Transaction(Declined::Fenced)) => Err(self.fail(Code::ProducerFenced)),
            Err(Refusal::Transaction(_)) => Err(self.fail(Code::InvalidTransactionalState)),
            Err(Refusal::Group(code @ (Code::InvalidProducerEpoch | Code::InvalidTransactionalState))) => {
                Err(self.fail(code))
            }
            Err(Refusal::Group(code)) => Err(failed(code, Verdict::RequiresAbort)),
        }
    }

    fn end(&self, is_commit: bool, patience: Duration) -> Result<(), ClientError> {
        let known = self.known()?;
        let has_written = self
            .schedule
            .at_once(|world| world.producers.get(&self.client).is_some_and(|producer| !producer.added.is_empty()));
        if has_written {
            let id = self.id.clone();
            let answer = self.ask(patience, move |world| {
                world.end_transaction(&id, known, is_commit).map(|()| None).map_err(Refusal::Transaction)
            })?;
            self.settled(answer)?;
        }
        self.schedule.at_once(|world| {
            if let Some(producer) = world.producers.get_mut(&self.client) {
                producer.is_open = false;
                producer.added.clear();
            }
        });
        Ok(())
    }
}

impl Transacts for ModelProducer {
    type Place = GroupPlace;

    fn init_transactions(&self, patience: Duration) -> Result<(), ClientError> {
        let time_out = self.call(|world| world.producers.get(&self.client).map(|producer| producer.time_out));
        let (id, time_out) = (self.id.clone(), time_out.unwrap_or_default());
        let answer = self
            .ask(patience, move |world| world.init_producer(&id, time_out).map(Some).map_err(Refusal::Transaction))?;
        if let Ok(Some(known)) = answer {
            self.schedule.at_once(|world| {
                if let Some(producer) = world.producers.get_mut(&self.client) {
                    producer.known = Some(known);
                }
            });
        }
        self.settled(answer)
    }

    fn begin_transaction(&self) -> Result<(), ClientError> {
        self.known()?;
        self.call(|world| {
            if let Some(producer) = world.producers.get_mut(&self.client) {
                producer.is_open = true;
                producer.added.clear();
            }
        });
        Ok(())
    }

    fn send<'a>(&self, record: Outgoing<'a>) -> Result<(), Box<NotTaken<'a>>> {
        if let Err(error) = self.known() {
            return Err(Box::new(NotTaken { error, record }));
        }
        let headers = record.headers.iter().flat_map(|headers| headers.iter());
        let headers =
            headers.map(|header| (header.key.to_owned(), Bytes::copy_from_slice(header.value.unwrap_or_default())));
        let stored = Stored {
            time_ms: 0,
            key: record.key.map(Bytes::copy_from_slice),
            value: record.value.map(Bytes::copy_from_slice),
            headers: headers.collect(),
        };
        self.call(|world| world.enqueue(self.client, (record.topic, record.partition), stored));
        Ok(())
    }

    fn poll(&self, _: Duration) {
        self.call(|world| world.report(self.client));
    }

    fn in_flight_count(&self) -> i32 {
        self.schedule.at_once(|world| world.producers.get(&self.client).map_or(0, |producer| producer.in_flight))
    }

    fn send_offsets_to_transaction(
        &self,
        offsets: &TopicPartitionList,
        place: &GroupPlace,
        patience: Duration,
    ) -> Result<(), ClientError> {
        let known = self.known()?;
        let elements = offsets.elements();
        let named = elements.iter().filter_map(|at| match at.offset() {
            Offset::Offset(offset) => {
                Some(((at.topic().to_owned(), known_partition(at.partition())), known_offset(offset)))
            }
            _ => None,
        });
        let named = named.collect::<Vec<_>>();
        if !self.keeps(Removed::OffsetsInTheTransaction) {
            *self.apart.lock() = Some((place.clone(), named));
            return Ok(());
        }
        let at = Place::Offsets(place.group.clone());
        let (id, to) = (self.id.clone(), at.clone());
        let answer = self.ask(patience, move |world| {
            let now = world.now;
            world.coordinator.add(&id, known, to.clone(), now).map(|()| None).map_err(Refusal::Transaction)
        })?;
        self.settled(answer)?;
        self.schedule.at_once(|world| {
            if let Some(producer) = world.producers.get_mut(&self.client) {
                producer.added.insert(at);
            }
        });
        let (id, place) = (self.id.clone(), place.clone());
        let answer = self.ask(patience, move |world| {
            world.commit_in_transaction((&id, known), &place, &named).map(|()| None).map_err(Refusal::Group)
        })?;
        self.settled(answer)
    }

    fn commit_transaction(&self, patience: Duration) -> Result<(), ClientError> {
        self.end(true, patience)?;
        let apart = self.apart.lock().take();
        if let Some((place, offsets)) = apart {
            self.call(|world| {
                for (at, offset) in offsets {
                    world.group(&place.group).commit(at, offset, "");
                }
            });
        }
        Ok(())
    }

    fn abort_transaction(&self, patience: Duration) -> Result<(), ClientError> {
        self.end(false, patience)
    }

    fn fatal_error(&self) -> Option<(Code, String)> {
        self.schedule.at_once(|world| world.producers.get(&self.client)?.fatal.clone())
    }

    fn deliveries(&self) -> &Deliveries {
        &self.deliveries
    }
}

impl World {
    fn enqueue(&mut self, client: ClientId, (topic, partition): (&str, Option<i32>), stored: Stored) {
        let partitions = self.partitions(topic).unwrap_or(1);
        let by_key = || partition_of(stored.key.as_deref().unwrap_or_default(), partitions);
        let at = (topic.to_owned(), partition.map_or_else(by_key, known_partition));
        let Some(producer) = self.producers.get_mut(&client) else { return };
        producer.in_flight += 1;
        // Unlike those of any other client, so that a repetition is told from a new record.
        let number = producer.numbers.entry(at.clone()).or_insert(client << 32);
        *number += 1;
        let number = *number;
        producer.outbox.entry(at.clone()).or_default().push_back((number, stored));
        if producer.sending.insert(at.clone()) {
            self.deliver_after(client, &at, LINGER);
        }
    }
}
