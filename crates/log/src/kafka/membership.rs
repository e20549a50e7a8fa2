//! Membership of a group by the classic protocol: who we are there, and what the group decides about us.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::clients::Clients;
use super::config;
use super::driver::{Driver, Joins};
use super::fault::{During, client_fault, is_of_unknown_topic, is_passing, misconfigured};
use super::tail::POLL_RECORDS_MAX;
use crate::{Fault, Member, Topic};

/// How long to listen for what the group has to say.
const LISTEN: Duration = Duration::from_millis(2);

/// What the group has decided about us, in order. librdkafka tells it inside `poll`; we act on it afterwards.
#[derive(Default)]
pub(super) struct Rebalances {
    events: Mutex<VecDeque<Event>>,
    /// The group waits for us to take partitions or to give them up.
    is_awaited: AtomicBool,
    is_closing: AtomicBool,
}

#[derive(Debug)]
pub(super) enum Event {
    Assign(Vec<(String, u32)>),
    Revoke { lost: bool },
}

impl Rebalances {
    pub(super) fn tell(&self, event: Event) {
        self.is_awaited.store(true, Ordering::Release);
        self.events.lock().push_back(event);
    }

    /// The consumer was assigned something, or nothing: that is the answer.
    pub(super) fn answered(&self) {
        self.is_awaited.store(false, Ordering::Release);
    }

    pub(super) fn is_awaited(&self) -> bool {
        self.is_awaited.load(Ordering::Acquire)
    }

    pub(super) fn next(&self) -> Option<Event> {
        self.events.lock().pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.lock().is_empty()
    }

    /// From now on partitions are given up as soon as they are asked for: nobody polls for it any more.
    pub(super) fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }

    pub(super) fn has_revoked(&self) -> bool {
        self.events.lock().iter().any(|event| matches!(event, Event::Revoke { .. }))
    }
}

/// Joins as a member that keeps its place over a restart.
pub(super) fn join<D: Driver>(clients: &Clients<D>, member: &Member) -> Result<D::Member, Fault> {
    let mut config = config::consumer(&clients.config, &member.group)?;
    config
        .set("group.instance.id", format!("{}-{}", member.group, member.slot))
        .set("group.protocol", "classic")
        .set("partition.assignment.strategy", "range");
    let inputs = member.inputs.iter().map(Topic::as_str).collect::<Vec<_>>();
    clients.driver.member(&config, &inputs)
}

/// Polls, so that the group does not give us up and we hear if it has. Records that come now are read again.
pub(super) fn is_still_ours(consumer: &impl Joins) -> Result<bool, Fault> {
    for _ in 0..POLL_RECORDS_MAX {
        // Without any wait, one log line of librdkafka's would pass for an empty queue.
        match consumer.poll(LISTEN) {
            None => break,
            Some(Ok(_)) => {}
            // Whoever reads next asks whether the topic is there.
            Some(Err(error)) if is_passing(&error) || is_of_unknown_topic(&error) => {}
            Some(Err(error)) => return Err(client_fault(consumer.fatal_error(), During::Read, error)),
        }
    }
    Ok(!consumer.rebalances().has_revoked())
}

/// Partition n of every input belongs together (range assignment of equal topics gives no other).
pub(super) fn whole_partitions(member: &Member, places: &[(String, u32)]) -> Result<Vec<u32>, Fault> {
    let partitions = places.iter().map(|(_, partition)| *partition).collect::<BTreeSet<_>>();
    for partition in &partitions {
        for input in &member.inputs {
            if !places.iter().any(|(topic, place)| topic == input.as_str() && place == partition) {
                let detail = format!("partition {partition} of {input} went to another member than its siblings");
                return Err(misconfigured("partitions_differ", detail));
            }
        }
    }
    Ok(partitions.into_iter().collect())
}

/// How many partitions the step has; its inputs and its changelog must agree.
pub(super) fn equal_partitions<D: Driver>(clients: &Clients<D>, member: &Member) -> Result<u32, Fault> {
    let mut agreed: Option<(&Topic, u32)> = None;
    for topic in member.inputs.iter().chain(&member.state) {
        let partitions = clients.require_partitions(topic)?;
        match agreed {
            Some((first, expected)) if expected != partitions => {
                let detail = format!("{first} has {expected} partitions, but {topic} has {partitions}");
                return Err(misconfigured("partitions_differ", detail));
            }
            _ => agreed = agreed.or(Some((topic, partitions))),
        }
    }
    agreed
        .map(|(_, partitions)| partitions)
        .ok_or_else(|| misconfigured("no_inputs", format!("{} has no inputs", member.group)))
}
