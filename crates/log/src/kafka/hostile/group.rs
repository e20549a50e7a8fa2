//! The group coordinator: members by the classic protocol with static names, and offsets, pending ones included.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode as Code;

use super::super::membership::{Event, Rebalances};
use super::coordinator::{Marker, ProducerOf};
use super::partition::TransactionOf;
use super::world::{ClientId, Removed, World};

/// A partition of a topic.
pub(super) type At = (String, u32);

type MemberId = u64;

#[derive(Clone, Debug)]
pub(super) struct KeptOffset {
    pub(super) offset: u64,
    pub(super) metadata: String,
    /// Where it lies in the group's own log: the later one counts, whenever its marker came.
    written: u64,
    by: Option<TransactionOf>,
}

#[derive(Debug)]
struct Member {
    /// `None`: an id whose answer nobody has got.
    client: Option<ClientId>,
    has_joined: bool,
    heard_at: Duration,
    partitions: Vec<At>,
}

#[derive(Debug, Default)]
pub(super) struct Group {
    offsets: BTreeMap<At, KeptOffset>,
    pending: BTreeMap<u64, BTreeMap<At, KeptOffset>>,
    epochs: BTreeMap<u64, u32>,
    written: u64,
    /// Every offset that a transaction has committed.
    history: Vec<(At, KeptOffset)>,
    generation: u32,
    members: BTreeMap<MemberId, Member>,
    instances: BTreeMap<String, MemberId>,
    ids: u64,
    is_rebalancing: bool,
    /// What its members read.
    inputs: BTreeMap<String, u32>,
}

/// What a transaction names beside its offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupPlace {
    pub(super) group: String,
    pub(super) instance: String,
    pub(super) member: MemberId,
    pub(super) generation: u32,
}

/// The side of a member that its client keeps.
pub(super) struct Seat {
    pub(super) group: String,
    pub(super) instance: String,
    pub(super) inputs: Vec<String>,
    pub(super) rebalances: Arc<Rebalances>,
    pub(super) poll_interval: Duration,
    member: Option<MemberId>,
    generation: u32,
    /// What the group has decided and the next poll tells.
    pub(super) news: VecDeque<Event>,
    /// An assignment was told and not yet taken up, or a revocation not yet answered.
    awaits: Option<Awaited>,
    is_lost: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    Assign,
    Unassign,
}

impl Seat {
    pub(super) fn new(group: String, instance: String, inputs: Vec<String>, poll_interval: Duration) -> Self {
        Self {
            group,
            instance,
            inputs,
            rebalances: Arc::default(),
            poll_interval,
            member: None,
            generation: 0,
            news: VecDeque::new(),
            awaits: None,
            is_lost: false,
        }
    }

    pub(super) fn place(&self) -> Option<GroupPlace> {
        let (group, instance) = (self.group.clone(), self.instance.clone());
        self.member.map(|member| GroupPlace { group, instance, member, generation: self.generation })
    }

    pub(super) fn taken_up(&mut self) {
        if self.awaits == Some(Awaited::Assign) {
            self.awaits = None;
        }
    }

    /// True when the group waits for us to join again.
    pub(super) fn given_up(&mut self) -> bool {
        let is_answer = self.awaits == Some(Awaited::Unassign);
        self.awaits = None;
        is_answer
    }

    fn told(&mut self, event: Event) {
        self.awaits = Some(match &event {
            Event::Assign(_) => Awaited::Assign,
            Event::Revoke { .. } => Awaited::Unassign,
        });
        self.news.push_back(event);
    }
}

impl Group {
    pub(super) fn has_pending(&self, at: &At) -> bool {
        self.pending.values().any(|offsets| offsets.contains_key(at))
    }

    /// By which transaction the offset first went beyond `offset`.
    pub(super) fn passed_by(&self, at: &At, offset: u64) -> Option<TransactionOf> {
        let passed = self.history.iter().filter(|(known, kept)| known == at && kept.offset > offset);
        passed.min_by_key(|(_, kept)| kept.written).and_then(|(_, kept)| kept.by)
    }

    pub(super) fn offset(&self, at: &At) -> Option<&KeptOffset> {
        self.offsets.get(at)
    }

    /// OffsetCommit of a client that is no member.
    pub(super) fn commit(&mut self, at: At, offset: u64, metadata: &str) {
        self.written += 1;
        let kept = KeptOffset { offset, metadata: metadata.to_owned(), written: self.written, by: None };
        self.offsets.insert(at, kept);
    }

    pub(super) fn mark(&mut self, marker: Marker) {
        let known = self.epochs.entry(marker.producer.id).or_default();
        *known = (*known).max(marker.producer.epoch);
        let pending = self.pending.remove(&marker.producer.id).unwrap_or_default();
        for (at, kept) in pending.into_iter().filter(|_| marker.is_commit) {
            self.history.push((at.clone(), kept.clone()));
            if self.offsets.get(&at).is_none_or(|known| known.written < kept.written) {
                self.offsets.insert(at, kept);
            }
        }
    }

    fn check(&self, place: &GroupPlace) -> Result<(), Code> {
        if !self.members.contains_key(&place.member) {
            let is_replaced = self.instances.get(&place.instance).is_some_and(|member| *member != place.member);
            return Err(if is_replaced { Code::FencedInstanceId } else { Code::UnknownMemberId });
        }
        if self.generation == place.generation { Ok(()) } else { Err(Code::IllegalGeneration) }
    }

    /// Range assignment over topics of equal partition counts, in the order of the static names.
    fn assign(&mut self) {
        let count = u32::try_from(self.instances.len()).unwrap_or(u32::MAX).max(1);
        for (index, member) in (0_u32..).zip(self.instances.values()) {
            let Some(member) = self.members.get_mut(member) else { continue };
            member.partitions.clear();
            for (topic, partitions) in &self.inputs {
                let (each, more) = (partitions / count, partitions % count);
                let first = index * each + index.min(more);
                let length = each + u32::from(index < more);
                member.partitions.extend((first..first + length).map(|partition| (topic.clone(), partition)));
            }
        }
    }
}

impl World {
    /// TxnOffsetCommit.
    pub(super) fn commit_in_transaction(
        &mut self,
        (id, producer): (&str, ProducerOf),
        place: &GroupPlace,
        offsets: &[(At, u64)],
    ) -> Result<(), Code> {
        let checks_members = self.keeps(Removed::GenerationInTheTransaction);
        let at = super::world::Place::Offsets(place.group.clone());
        let ongoing = self.coordinator.ongoing(id, producer, &at);
        let group = self.group(&place.group);
        if checks_members {
            group.check(place)?;
        }
        if group.epochs.get(&producer.id).is_some_and(|known| producer.epoch < *known) {
            return Err(Code::InvalidProducerEpoch);
        }
        let Some(count) = ongoing else { return Err(Code::InvalidTransactionalState) };
        let by = Some(TransactionOf { producer, count });
        group.epochs.insert(producer.id, producer.epoch);
        for (at, offset) in offsets {
            group.written += 1;
            let kept = KeptOffset { offset: *offset, metadata: String::new(), written: group.written, by };
            group.pending.entry(producer.id).or_default().insert(at.clone(), kept);
        }
        Ok(())
    }

    /// Sends a JoinGroup; rarely, an older copy of it overtakes it and gets the answer that nobody waits for.
    pub(super) fn ask_to_join(&mut self, client: ClientId) {
        let arrives = self.now + self.latency();
        self.agenda.add(arrives, Box::new(move |world| world.join_group(client, false)));
        if self.chance.happens(self.weather.ghosts) {
            let later = arrives + self.chance.between(Duration::from_millis(1), Duration::from_secs(6));
            self.agenda.add(later, Box::new(move |world| world.join_group(client, true)));
        }
    }

    fn join_group(&mut self, client: ClientId, is_ghost: bool) {
        if self.is_away() {
            let later = self.now + Duration::from_millis(200);
            self.agenda.add(later, Box::new(move |world| world.join_group(client, is_ghost)));
            return;
        }
        let now = self.now;
        let Some(seat) = self.seat(client) else { return };
        let (name, instance, own, read) = (seat.group.clone(), seat.instance.clone(), seat.member, seat.inputs.clone());
        let inputs = read.into_iter().filter_map(|topic| self.partitions(&topic).map(|count| (topic, count)));
        let inputs = inputs.collect::<Vec<_>>();
        let group = self.group(&name);
        group.inputs.extend(inputs);
        let holder = if is_ghost { None } else { Some(client) };
        let known = group.instances.get(&instance).copied().filter(|known| group.members.contains_key(known));
        let is_same = known.is_some() && known == own && !is_ghost;
        let member = if let (true, Some(known)) = (is_same, known) {
            known
        } else {
            group.ids += 1;
            group.ids
        };
        let replaced = known.and_then(|known| group.members.remove(&known));
        let is_new = replaced.is_none();
        let partitions = replaced.map(|replaced| replaced.partitions).unwrap_or_default();
        group.instances.insert(instance, member);
        group.members.insert(member, Member { client: holder, has_joined: true, heard_at: now, partitions });
        if !is_ghost && let Some(seat) = self.seat(client) {
            seat.member = Some(member);
            seat.is_lost = false;
        }
        if is_new {
            self.rebalance(&name, Some(member));
        } else if !self.group(&name).is_rebalancing {
            // A static member that comes back finds its place as it was (KIP-345).
            self.answer_join(&name, member);
        }
        self.complete_if_all_have_joined(&name);
    }

    fn rebalance(&mut self, name: &str, except: Option<MemberId>) {
        let now = self.now;
        let group = self.group(name);
        if group.is_rebalancing {
            return;
        }
        group.is_rebalancing = true;
        let generation = group.generation;
        let mut others = Vec::new();
        for (id, member) in &mut group.members {
            member.has_joined = Some(*id) == except;
            others.extend(member.client.filter(|_| Some(*id) != except));
        }
        for client in others {
            let hears = now + self.chance.between(Duration::from_millis(1), Duration::from_secs(2));
            self.agenda.add(hears, Box::new(move |world| world.heartbeat(client)));
        }
        let (deadline, name) = (now + Duration::from_secs(60), name.to_owned());
        self.agenda.add(
            deadline,
            Box::new(move |world| {
                let group = world.group(&name);
                if group.is_rebalancing && group.generation == generation {
                    world.complete_rebalance(&name);
                }
            }),
        );
    }

    fn complete_if_all_have_joined(&mut self, name: &str) {
        let group = self.group(name);
        if group.is_rebalancing && group.members.values().all(|member| member.has_joined) {
            self.complete_rebalance(name);
        }
    }

    fn complete_rebalance(&mut self, name: &str) {
        let group = self.group(name);
        group.is_rebalancing = false;
        group.generation += 1;
        group.assign();
        let joined = group.members.iter().filter(|(_, member)| member.has_joined).map(|(id, _)| *id);
        for member in joined.collect::<Vec<_>>() {
            self.answer_join(name, member);
        }
    }

    /// Both answers, JoinGroup's and SyncGroup's.
    fn answer_join(&mut self, name: &str, id: MemberId) {
        let now = self.now;
        let group = self.group(name);
        let generation = group.generation;
        let Some(member) = group.members.get_mut(&id) else { return };
        member.heard_at = now;
        let (client, partitions) = (member.client, member.partitions.clone());
        let Some(client) = client else { return };
        let arrives = now + self.latency();
        self.agenda.add(
            arrives,
            Box::new(move |world| {
                if let Some(seat) = world.seat(client)
                    && seat.member == Some(id)
                    && seat.awaits.is_none()
                {
                    seat.generation = generation;
                    seat.told(Event::Assign(partitions));
                }
            }),
        );
    }

    /// One heartbeat of a client, and what it hears.
    pub(super) fn heartbeat(&mut self, client: ClientId) {
        let now = self.now;
        let Some(polled_at) = self.polled_at(client) else { return };
        let is_frozen = self.is_frozen(client);
        if is_frozen || self.is_away() {
            return;
        }
        let Some(seat) = self.seat(client) else { return };
        let is_free = seat.awaits.is_none();
        let Some(place) = seat.place() else { return };
        if now > polled_at + seat.poll_interval {
            // The client itself gives its place up.
            if is_free && !seat.is_lost {
                seat.is_lost = true;
                seat.told(Event::Revoke { lost: true });
            }
            return;
        }
        let group = self.group(&place.group);
        let is_ours = group.instances.get(&place.instance) == Some(&place.member);
        let must_join = group.is_rebalancing && group.members.get(&place.member).is_some_and(|own| !own.has_joined);
        let (is_known, generation) = (group.members.contains_key(&place.member), group.generation);
        if is_known && let Some(member) = group.members.get_mut(&place.member) {
            member.heard_at = now;
        }
        if !is_ours && group.instances.contains_key(&place.instance) {
            self.fail(client, Code::FencedInstanceId, "static member fenced by another instance of its name");
            return;
        }
        let Some(seat) = self.seat(client).filter(|_| is_free) else { return };
        if !is_known {
            seat.member = None;
            seat.told(Event::Revoke { lost: true });
        } else if must_join {
            seat.told(Event::Revoke { lost: false });
        } else if generation != place.generation {
            seat.told(Event::Revoke { lost: true });
        }
    }

    /// Every client that beats, and members that have not for too long.
    pub(super) fn beat(&mut self) {
        for client in self.seated() {
            let at = self.now + self.chance.between(Duration::ZERO, Duration::from_secs(2));
            self.agenda.add(at, Box::new(move |world| world.heartbeat(client)));
        }
        let now = self.now;
        let session = self.session;
        for name in self.group_names() {
            let group = self.group(&name);
            let is_gone = |member: &Member| {
                now > member.heard_at + session
                    && !(group.is_rebalancing && member.has_joined && member.client.is_some())
            };
            let gone = group.members.iter().filter(|(_, member)| is_gone(member)).map(|(id, _)| *id);
            let gone = gone.collect::<BTreeSet<_>>();
            if gone.is_empty() {
                continue;
            }
            group.members.retain(|id, _| !gone.contains(id));
            group.instances.retain(|_, id| !gone.contains(id));
            if group.members.is_empty() {
                group.generation += 1;
                group.is_rebalancing = false;
            } else {
                self.rebalance(&name, None);
                self.complete_if_all_have_joined(&name);
            }
        }
    }

    /// A consumer that is closed by its process.
    pub(super) fn forget_holder(&mut self, client: ClientId) {
        for name in self.group_names() {
            for member in self.group(&name).members.values_mut().filter(|member| member.client == Some(client)) {
                member.client = None;
            }
        }
    }
}
