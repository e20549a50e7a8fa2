//! Who holds a slot: the session that claimed it last.
//!
//! A broker tells a static member that it is fenced when another has joined under its name (KIP-345). That other may be
//! the member itself: a join that is sent again after a lost connection can overtake the first one, and the group then
//! knows an id that nobody holds. The claim tells such a ghost from a second process on the same slot. It is the metadata
//! of an offset that is committed, before joining, for a group that never has members; so it lies where the group does.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use rdkafka::{Offset, TopicPartitionList};

use super::clients::Clients;
use super::config;
use super::driver::{Driver, Reads};
use super::fault::{During, fault, misconfigured};
use crate::{Fault, Member};

/// The claim of one session.
pub(super) struct Claim<D: Driver> {
    clients: Arc<Clients<D>>,
    group: String,
    topic: String,
    token: String,
}

impl<D: Driver> Claim<D> {
    /// Claims the slot. Whoever held it is told apart from us from now on.
    pub(super) fn stake(clients: Arc<Clients<D>>, member: &Member) -> Result<Self, Fault> {
        let topic = member
            .inputs
            .first()
            .map(ToString::to_string)
            .ok_or_else(|| misconfigured("no_inputs", format!("{} has no inputs", member.group)))?;
        let group = format!("{}-{}-claim", member.group, member.slot);
        let claim = Self { clients, group, topic, token: token() };
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(&claim.topic, 0, Offset::Offset(0)).map_err(|error| fault(During::Ask, error))?;
        if let Some(mut place) = list.find_partition(&claim.topic, 0) {
            place.set_metadata(&claim.token);
        }
        claim.write(&list)?;
        Ok(claim)
    }

    fn write(&self, list: &TopicPartitionList) -> Result<(), Fault> {
        let client = self.client()?;
        let _watch = self.clients.watchdog.watch("commit_offsets", self.clients.hang());
        client.commit(list).map_err(|error| fault(During::Ask, error))
    }

    /// Whether nobody has claimed the slot since. A claim that the broker has let go for its age counts as ours: a
    /// second holder would have written its own.
    pub(super) fn is_ours(&self) -> Result<bool, Fault> {
        let mut asked = TopicPartitionList::with_capacity(1);
        asked.add_partition(&self.topic, 0);
        let client = self.client()?;
        let _watch = self.clients.watchdog.watch("committed_offsets", self.clients.hang());
        let told = client
            .committed_offsets(asked, self.clients.config.timings.call)
            .map_err(|error| fault(During::Ask, error))?;
        let Some(place) = told.find_partition(&self.topic, 0) else { return Ok(true) };
        place.error().map_err(|error| fault(During::Ask, error))?;
        Ok(place.offset() == Offset::Invalid || place.metadata() == self.token)
    }

    /// Made for each question: they are rare, and a client costs threads and a connection.
    fn client(&self) -> Result<D::Reader, Fault> {
        self.clients.driver.reader(&config::consumer(&self.clients.config, &self.group)?)
    }
}

/// Unlike any other session's, on any machine.
fn token() -> String {
    let random = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}-{}", random(), random(), std::process::id())
}
