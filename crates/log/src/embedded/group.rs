//! Who works on which partition of a group, inside one process.
//!
//! Partitions go in ranges to the members in the order of their slots. A member keeps a partition that is to move until
//! it has released it, or until `revoke_wait` has passed: then the partition is lost to it, and the committer refuses
//! what it still tries to write, because every grant has its own number.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::fault::fatal;
use super::signal::Signal;
use crate::{Fault, Topic};

/// A partition, and the number of the grant under which it is held.
pub(super) type Grant = (u32, u64);

pub(super) struct Group {
    pub(super) id: u32,
    revoke_wait: Duration,
    /// Moves with every change, so that a poll that finds it unmoved need not look further.
    changes: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    inputs: Vec<Topic>,
    members: BTreeMap<String, Member>,
    holders: Vec<Holder>,
    last_member: u64,
}

struct Member {
    id: u64,
    signal: Arc<Signal>,
    is_fenced: Arc<AtomicBool>,
}

#[derive(Clone, Default)]
struct Holder {
    member: Option<u64>,
    grant: u64,
    /// Since when another member should have it.
    wanted_since: Option<Instant>,
}

/// What a member has to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Nothing { look_again: Option<Instant> },
    Take(Vec<Grant>),
    Give { partitions: Vec<u32>, lost: bool },
}

/// A new member of a group.
pub(super) struct Entrance {
    pub(super) member: u64,
    pub(super) is_fenced: Arc<AtomicBool>,
}

impl Group {
    pub(super) fn new(id: u32, revoke_wait: Duration) -> Self {
        Self { id, revoke_wait, changes: AtomicU64::new(1), inner: Mutex::default() }
    }

    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Joins on a slot; an older session there is fenced and holds nothing any more.
    pub(super) fn join(&self, slot: &str, inputs: (&[Topic], u32), signal: &Arc<Signal>) -> Result<Entrance, Fault> {
        let (topics, partitions) = inputs;
        let mut inner = self.inner.lock();
        let is_first = inner.members.is_empty();
        let partitions = usize::try_from(partitions).unwrap_or(usize::MAX);
        if is_first {
            inner.inputs = topics.to_vec();
            // Holders are never shortened: the numbers of their grants must not begin again.
            let count = inner.holders.len().max(partitions);
            inner.holders.resize(count, Holder::default());
        } else if inner.inputs != topics {
            return Err(fatal("group_differs", format!("the group reads {:?}, not {topics:?}", inner.inputs)));
        }
        inner.last_member += 1;
        let member = inner.last_member;
        let is_fenced = Arc::<AtomicBool>::default();
        let entered = Member { id: member, signal: Arc::clone(signal), is_fenced: Arc::clone(&is_fenced) };
        if let Some(older) = inner.members.insert(slot.to_owned(), entered) {
            older.is_fenced.store(true, Ordering::Release);
            older.signal.ring();
            inner.free(older.id);
        }
        self.rebalance(&mut inner, partitions);
        Ok(Entrance { member, is_fenced })
    }

    /// Leaves; what the member held is free. A member that was fenced leaves nothing behind.
    pub(super) fn leave(&self, slot: &str, member: u64, partitions: u32) {
        let mut inner = self.inner.lock();
        if inner.members.get(slot).is_some_and(|known| known.id == member) {
            inner.members.remove(slot);
            inner.free(member);
            self.rebalance(&mut inner, usize::try_from(partitions).unwrap_or(usize::MAX));
        }
    }

    pub(super) fn release(&self, member: u64, released: &[u32], partitions: u32) {
        let mut inner = self.inner.lock();
        for partition in released {
            if let Some(holder) = inner.holder(*partition).filter(|holder| holder.member == Some(member)) {
                holder.member = None;
            }
        }
        self.rebalance(&mut inner, usize::try_from(partitions).unwrap_or(usize::MAX));
    }

    /// What a member that works under these grants has to do now. `Take` has already been granted.
    pub(super) fn turn(&self, member: u64, held: &BTreeMap<u32, u64>, partitions: u32) -> Turn {
        let mut inner = self.inner.lock();
        let is_ours =
            |holder: Option<&Holder>, grant: u64| holder.is_some_and(|h| h.member == Some(member) && h.grant == grant);
        let lost = held.iter().filter(|(partition, grant)| !is_ours(inner.holder(**partition).as_deref(), **grant));
        let lost = lost.map(|(partition, _)| *partition).collect::<Vec<_>>();
        if !lost.is_empty() {
            return Turn::Give { partitions: lost, lost: true };
        }
        let targets = inner.targets(usize::try_from(partitions).unwrap_or(usize::MAX));
        let (ours, others): (Vec<_>, Vec<_>) = (0_u32..).zip(targets).partition(|(_, target)| *target == Some(member));
        let leaving =
            others.into_iter().map(|(partition, _)| partition).filter(|partition| held.contains_key(partition));
        let leaving = leaving.collect::<Vec<_>>();
        if !leaving.is_empty() {
            return Turn::Give { partitions: leaving, lost: false };
        }
        self.take(&mut inner, member, ours.into_iter().map(|(partition, _)| partition))
    }

    fn take(&self, inner: &mut Inner, member: u64, ours: impl Iterator<Item = u32>) -> Turn {
        let now = Instant::now();
        let (mut taken, mut look_again, mut is_forced) = (Vec::new(), None::<Instant>, false);
        for partition in ours {
            let Some(holder) = inner.holder(partition) else { continue };
            if holder.member == Some(member) {
                continue;
            }
            let due = holder.wanted_since.map(|since| since + self.revoke_wait);
            if holder.member.is_none() || due.is_some_and(|due| due <= now) {
                is_forced |= holder.member.is_some();
                *holder = Holder { member: Some(member), grant: holder.grant + 1, wanted_since: None };
                taken.push((partition, holder.grant));
            } else {
                look_again = look_again.into_iter().chain(due).min();
            }
        }
        if is_forced {
            self.tell(inner);
        }
        if taken.is_empty() { Turn::Nothing { look_again } } else { Turn::Take(taken) }
    }

    fn rebalance(&self, inner: &mut Inner, partitions: usize) {
        let targets = inner.targets(partitions);
        for (holder, target) in inner.holders.iter_mut().zip(targets) {
            let moves = holder.member.is_some() && holder.member != target;
            holder.wanted_since = if moves { holder.wanted_since.or_else(|| Some(Instant::now())) } else { None };
        }
        self.tell(inner);
    }

    fn tell(&self, inner: &Inner) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        inner.members.values().for_each(|member| member.signal.ring());
    }
}

impl Inner {
    fn holder(&mut self, partition: u32) -> Option<&mut Holder> {
        self.holders.get_mut(usize::try_from(partition).ok()?)
    }

    fn free(&mut self, member: u64) {
        for holder in self.holders.iter_mut().filter(|holder| holder.member == Some(member)) {
            holder.member = None;
        }
    }

    /// The member that should have each partition: ranges in the order of the slots, the first ones larger by one.
    fn targets(&self, partitions: usize) -> Vec<Option<u64>> {
        let mut targets = Vec::with_capacity(partitions);
        let count = self.members.len().max(1);
        let (share, larger) = (partitions / count, partitions % count);
        for (index, member) in self.members.values().enumerate() {
            let size = share + usize::from(index < larger);
            targets.extend(std::iter::repeat_n(Some(member.id), size));
        }
        targets.resize(partitions, None);
        targets
    }
}

/// All groups of this process.
pub(super) struct Groups {
    revoke_wait: Duration,
    known: Mutex<HashMap<u32, Arc<Group>>>,
}

impl Groups {
    pub(super) fn new(revoke_wait: Duration) -> Self {
        Self { revoke_wait, known: Mutex::default() }
    }

    pub(super) fn get(&self, id: u32) -> Arc<Group> {
        let mut known = self.known.lock();
        Arc::clone(known.entry(id).or_insert_with(|| Arc::new(Group::new(id, self.revoke_wait))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Client {
        slot: &'static str,
        entrance: Entrance,
        held: BTreeMap<u32, u64>,
    }

    const PARTITIONS: u32 = 4;

    fn join(group: &Group, slot: &'static str) -> Client {
        let inputs = [Topic::new("in")];
        let entrance = group.join(slot, (&inputs, PARTITIONS), &Arc::default()).unwrap();
        Client { slot, entrance, held: BTreeMap::new() }
    }

    fn turn(group: &Group, client: &mut Client) -> Turn {
        let turn = group.turn(client.entrance.member, &client.held, PARTITIONS);
        match &turn {
            Turn::Take(grants) => client.held.extend(grants.iter().copied()),
            Turn::Give { partitions, lost } => {
                client.held.retain(|partition, _| !partitions.contains(partition));
                if !lost {
                    group.release(client.entrance.member, partitions, PARTITIONS);
                }
            }
            Turn::Nothing { .. } => {}
        }
        turn
    }

    fn held(client: &Client) -> Vec<u32> {
        client.held.keys().copied().collect()
    }

    #[test]
    fn partitions_move_to_a_newcomer_once_released_and_back_when_it_leaves() {
        let group = Group::new(1, Duration::from_secs(3600));
        let mut b = join(&group, "b");
        turn(&group, &mut b);
        assert_eq!(held(&b), [0, 1, 2, 3]);
        let mut a = join(&group, "a");
        assert!(matches!(turn(&group, &mut a), Turn::Nothing { look_again: Some(_) }));
        assert_eq!(turn(&group, &mut b), Turn::Give { partitions: vec![0, 1], lost: false });
        turn(&group, &mut a);
        assert_eq!((held(&a), held(&b)), (vec![0, 1], vec![2, 3]));
        group.leave(a.slot, a.entrance.member, PARTITIONS);
        turn(&group, &mut b);
        assert_eq!(held(&b), [0, 1, 2, 3]);
    }

    #[test]
    fn a_member_that_does_not_answer_loses_its_partitions_under_a_newer_grant() {
        let group = Group::new(1, Duration::ZERO);
        let mut a = join(&group, "a");
        turn(&group, &mut a);
        let old_grants = a.held.clone();
        let mut b = join(&group, "b");
        turn(&group, &mut b);
        assert_eq!(held(&b), [2, 3]);
        assert!(b.held.iter().all(|(partition, grant)| old_grants[partition] < *grant));
        assert_eq!(turn(&group, &mut a), Turn::Give { partitions: vec![2, 3], lost: true });
    }

    #[test]
    fn the_same_slot_joined_again_fences_the_first() {
        let group = Group::new(1, Duration::from_secs(3600));
        let mut first = join(&group, "a");
        turn(&group, &mut first);
        let mut second = join(&group, "a");
        turn(&group, &mut second);
        assert!(first.entrance.is_fenced.load(Ordering::Acquire) && !second.entrance.is_fenced.load(Ordering::Acquire));
        assert_eq!(held(&second), [0, 1, 2, 3]);
        group.leave(first.slot, first.entrance.member, PARTITIONS);
        assert_eq!(turn(&group, &mut second), Turn::Nothing { look_again: None });
    }
}
