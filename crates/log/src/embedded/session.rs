//! One member of a group: reads its partitions, stages, commits.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Shared;
use super::committer::{Commit, Job, NextOffset};
use super::control::Control;
use super::fault::{fatal, read_fault};
use super::group::{Entrance, Grant, Group, Turn};
use super::keys::{CELL_PREFIX_BYTES, cell_key};
use super::signal::{Signal, deadline_after};
use super::staged::{Staged, TopicCache};
use super::store::{Budget, TopicEntry};
use super::tail::{POLL_BYTES_MAX, POLL_RECORDS_MAX};
use crate::{Batch, Cause, Committed, Fault, Member, Output, Polled, Position, Session, Topic};

pub(super) struct EmbeddedSession {
    shared: Arc<Shared>,
    group: Arc<Group>,
    slot: String,
    member: u64,
    is_fenced: Arc<AtomicBool>,
    signal: Arc<Signal>,
    inputs: Vec<Arc<TopicEntry>>,
    partitions: u32,
    /// Our partitions, with the number of the grant.
    held: BTreeMap<u32, u64>,
    /// The next offset to read of each input, by partition.
    next: BTreeMap<u32, Vec<u64>>,
    /// What the last `Polled::Revoke` named, until `release`.
    leaving: Vec<u32>,
    staged: Staged,
    topics: TopicCache,
    /// A partition was lost while something was staged, or a commit failed: `recover` first.
    is_void: bool,
    seen_changes: u64,
    look_again: Option<Instant>,
    turn: usize,
}

impl EmbeddedSession {
    pub(super) fn join(shared: Arc<Shared>, member: &Member) -> Result<Self, Fault> {
        let store = &shared.store;
        store.refuse_if_damaged()?;
        let inputs = member.inputs.iter().map(|topic| store.require_topic(topic)).collect::<Result<Vec<_>, _>>()?;
        let partitions = equal_partitions(&inputs, member)?;
        if let Some(state) = &member.state {
            let state = store.require_topic(state)?;
            if !inputs.is_empty() && state.spec.partitions != partitions {
                let detail =
                    format!("{} has {} partitions, the inputs {partitions}", state.spec.topic, state.spec.partitions);
                return Err(fatal("partitions_differ", detail));
            }
        }
        let name = member.group.clone();
        let group = shared.queue.ask(|reply| Job::Control(Control::Group { name, reply }))?;
        let group = shared.groups.get(group);
        for entry in &inputs {
            for partition in 0..partitions {
                start_offset(&shared, &group, entry, partition)?;
            }
        }
        let signal = Arc::<Signal>::default();
        let Entrance { member: id, is_fenced } = group.join(&member.slot, (&member.inputs, partitions), &signal)?;
        let (slot, group_id) = (member.slot.clone(), group.id);
        shared.queue.ask(|reply| Job::Enter { group: group_id, slot, member: id, reply })?;
        inputs.iter().for_each(|entry| entry.waiters.add(&signal));
        Ok(Self {
            group,
            slot: member.slot.clone(),
            member: id,
            is_fenced,
            signal,
            inputs,
            partitions,
            held: BTreeMap::new(),
            next: BTreeMap::new(),
            leaving: Vec::new(),
            staged: Staged::default(),
            topics: TopicCache::default(),
            is_void: false,
            seen_changes: 0,
            look_again: None,
            turn: 0,
            shared,
        })
    }

    fn refuse_if_unfit(&self) -> Result<(), Fault> {
        if self.is_fenced.load(Ordering::Acquire) {
            return Err(fatal("fenced", format!("another session has joined on slot {}", self.slot)));
        }
        self.shared.store.refuse_if_damaged()
    }

    fn refuse_if_void(&self) -> Result<(), Fault> {
        if self.is_void {
            return Err(Fault::Abort(Cause::new(
                "transaction_void",
                "a partition or a commit was lost: recover first",
            )));
        }
        Ok(())
    }

    /// Looks at the group if anything there has changed since.
    fn take_turn(&mut self) -> Result<Option<Polled>, Fault> {
        let changes = self.group.changes();
        let is_due = self.look_again.is_some_and(|due| due <= Instant::now());
        if changes == self.seen_changes && !is_due && self.leaving.is_empty() {
            return Ok(None);
        }
        match self.group.turn(self.member, &self.held, self.partitions) {
            Turn::Nothing { look_again } => {
                self.seen_changes = changes;
                self.look_again = look_again;
                self.leaving.clear();
                Ok(None)
            }
            Turn::Give { partitions, lost } => {
                self.is_void |= lost && !self.staged.is_empty();
                self.leaving.clone_from(&partitions);
                Ok(Some(Polled::Revoke { partitions, lost }))
            }
            Turn::Take(grants) => self.enter(&grants).map(Some),
        }
    }

    /// The claim goes through the committer: what the last owner still committed before it is in the offsets read after.
    fn enter(&mut self, grants: &[Grant]) -> Result<Polled, Fault> {
        self.leaving.clear();
        let (group, claimed) = (self.group.id, grants.to_vec());
        self.shared.queue.ask(|reply| Job::Claim { group, grants: claimed, reply })?;
        let mut positions = Vec::with_capacity(grants.len() * self.inputs.len());
        for (partition, grant) in grants {
            let next = self.committed(*partition)?;
            positions.extend(self.inputs.iter().zip(&next).map(|(entry, offset)| entry.position(*partition, *offset)));
            self.held.insert(*partition, *grant);
            self.next.insert(*partition, next);
        }
        Ok(Polled::Assigned(positions))
    }

    fn committed(&self, partition: u32) -> Result<Vec<u64>, Fault> {
        self.inputs.iter().map(|entry| start_offset(&self.shared, &self.group, entry, partition)).collect()
    }

    fn fill(&mut self, into: &mut Batch) -> Result<(), Fault> {
        let mut budget = Budget::new(POLL_RECORDS_MAX, POLL_BYTES_MAX);
        let order = self.next.keys().copied().cycle().skip(self.turn).take(self.next.len()).collect::<Vec<_>>();
        for partition in order {
            let Some(next) = self.next.get_mut(&partition) else { continue };
            for (entry, next_offset) in self.inputs.iter().zip(next) {
                *next_offset = self.shared.store.read_entry(entry, (partition, *next_offset), &mut budget, into)?;
            }
        }
        self.turn = (self.turn + 1) % self.next.len().max(1);
        Ok(())
    }

    fn is_drained(&self) -> bool {
        self.next
            .iter()
            .all(|(partition, next)| self.inputs.iter().zip(next).all(|(entry, at)| *at >= entry.end(*partition)))
    }

    fn refuse_if_not_ours(&self, partition: u32) -> Result<(), Fault> {
        if self.held.contains_key(&partition) {
            return Ok(());
        }
        Err(Fault::Abort(Cause::new("partition_lost", format!("partition {partition} is not ours"))))
    }

    /// Everything that is to be committed, and the grants it was worked under.
    fn offsets(&self, next: &[Position]) -> Result<(Vec<NextOffset>, Vec<Grant>), Fault> {
        if next.is_empty() && !self.staged.outputs.is_empty() {
            let detail = "outputs are staged, but the commit names no offset: nothing would fence it";
            return Err(fatal("offsets_incomplete", detail));
        }
        let mut offsets = Vec::with_capacity(next.len());
        let mut grants = BTreeMap::new();
        for position in next {
            let Some(entry) = self.inputs.iter().find(|entry| entry.spec.topic == position.topic) else {
                return Err(fatal("offset_of_no_input", format!("{} is not an input of this step", position.topic)));
            };
            self.refuse_if_not_ours(position.partition)?;
            if position.offset > entry.end(position.partition) {
                return Err(fatal("offset_out_of_range", format!("{position:?} is past the end")));
            }
            offsets.push(NextOffset { topic: entry.id, partition: position.partition, offset: position.offset });
            grants.extend(self.held.get(&position.partition).map(|grant| (position.partition, *grant)));
        }
        for key in self.staged.cell_keys() {
            let partition = partition_of_cell(key);
            if !grants.contains_key(&partition) {
                let detail = format!("state of partition {partition} changed, but the commit does not name its offset");
                return Err(fatal("offsets_incomplete", detail));
            }
        }
        Ok((offsets, grants.into_iter().collect()))
    }
}

impl Session for EmbeddedSession {
    fn poll(&mut self, wait: Duration, into: &mut Batch) -> Result<Polled, Fault> {
        let deadline = deadline_after(wait);
        let before = into.records.len();
        loop {
            self.signal.reset();
            self.refuse_if_unfit()?;
            if let Some(polled) = self.take_turn()? {
                return Ok(polled);
            }
            self.refuse_if_void()?;
            self.fill(into)?;
            if into.records.len() > before || Instant::now() >= deadline {
                return Ok(Polled::Records { drained: self.is_drained() });
            }
            if self.is_drained() {
                self.signal.wait_until(self.look_again.map_or(deadline, |due| due.min(deadline)));
            }
        }
    }

    fn positions(&self) -> Vec<Position> {
        let each = self.next.iter().flat_map(|(partition, next)| {
            self.inputs.iter().zip(next).map(|(entry, offset)| entry.position(*partition, *offset))
        });
        each.collect()
    }

    fn get(&self, partition: u32, key: &[u8], out: &mut Vec<u8>) -> Result<bool, Fault> {
        out.clear();
        self.refuse_if_not_ours(partition)?;
        let key = cell_key(self.group.id, partition, key);
        if let Some(staged) = self.staged.cell(&key) {
            out.extend_from_slice(staged.unwrap_or_default());
            return Ok(staged.is_some());
        }
        let store = &self.shared.store;
        if self.staged.has_forgotten(&key) || store.expired.has_forgotten(&key) {
            return Ok(false);
        }
        let found = store.state.get(&key).map_err(read_fault)?;
        out.extend_from_slice(found.as_deref().unwrap_or_default());
        Ok(found.is_some())
    }

    fn scan(&self, partition: u32, from: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), Fault> {
        self.refuse_if_not_ours(partition)?;
        let store = &self.shared.store;
        let first = cell_key(self.group.id, partition, from);
        let end = cells_end(self.group.id, partition);
        let to = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut staged = self.staged.cells(&first, to).peekable();
        let mut show = |key: &[u8], value: &[u8]| visit(key.get(CELL_PREFIX_BYTES..).unwrap_or_default(), value);
        for guard in store.state.range::<&[u8], _>((Bound::Included(&first[..]), to)) {
            let (key, value) = guard.into_inner().map_err(read_fault)?;
            while let Some((own, own_value)) = staged.next_if(|(own, _)| own[..] < key[..]) {
                if own_value.as_ref().is_some_and(|value| !show(own, value)) {
                    return Ok(());
                }
            }
            let goes_on = match staged.next_if(|(own, _)| own[..] == key[..]) {
                Some((own, own_value)) => own_value.as_ref().is_none_or(|value| show(own, value)),
                None if self.staged.has_forgotten(&key) || store.expired.has_forgotten(&key) => true,
                None => show(&key, &value),
            };
            if !goes_on {
                return Ok(());
            }
        }
        for (own, own_value) in staged {
            if own_value.as_ref().is_some_and(|value| !show(own, value)) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn put(&mut self, partition: u32, key: &[u8], value: Option<&[u8]>) -> Result<(), Fault> {
        self.refuse_if_void()?;
        self.refuse_if_not_ours(partition)?;
        let cell = cell_key(self.group.id, partition, key);
        if self.staged.has_forgotten(&cell) || self.shared.store.expired.has_forgotten(&cell) {
            return Err(fatal(
                "cell_forgotten",
                format!("partition {partition} has forgotten the cells that begin so"),
            ));
        }
        self.staged.put(cell, value)
    }

    fn forget(&mut self, partition: u32, prefix: &[u8]) -> Result<(), Fault> {
        self.refuse_if_void()?;
        self.refuse_if_not_ours(partition)?;
        self.staged.forget(cell_key(self.group.id, partition, prefix))
    }

    fn emit(&mut self, out: &Output<'_>) -> Result<(), Fault> {
        self.refuse_if_void()?;
        let entry = self.topics.get(&self.shared.store, out.topic)?;
        self.staged.emit(&entry, out)
    }

    fn commit(&mut self, next: &[Position]) -> Result<Committed, Fault> {
        self.refuse_if_unfit()?;
        self.refuse_if_void()?;
        let (offsets, grants) = self.offsets(next)?;
        if self.staged.is_empty() && offsets.is_empty() {
            return Ok(Committed::default());
        }
        let staged = std::mem::take(&mut self.staged);
        let (group, slot, member) = (self.group.id, self.slot.clone(), self.member);
        let done = self
            .shared
            .queue
            .ask(|reply| Job::Commit(Box::new(Commit { group, slot, member, grants, staged, offsets, reply })));
        // What was staged is gone either way; after a failure it must be read again before anything else is committed.
        self.is_void |= done.is_err();
        done
    }

    fn recover(&mut self) -> Result<(), Fault> {
        self.staged = Staged::default();
        self.refuse_if_unfit()?;
        self.is_void = false;
        for partition in self.held.keys().copied().collect::<Vec<_>>() {
            let next = self.committed(partition)?;
            self.next.insert(partition, next);
        }
        Ok(())
    }

    fn seek(&mut self, at: &[Position]) -> Result<(), Fault> {
        if !self.staged.is_empty() {
            return Err(Fault::Abort(Cause::new("transaction_open", "seek while records are staged")));
        }
        for position in at {
            let input = self.inputs.iter().position(|entry| entry.spec.topic == position.topic);
            let next = self.next.get_mut(&position.partition).zip(input).and_then(|(next, input)| next.get_mut(input));
            let Some(next) = next else {
                let detail = format!("partition {} of {} is not ours", position.partition, position.topic);
                return Err(Fault::Abort(Cause::new("partition_lost", detail)));
            };
            *next = position.offset;
        }
        Ok(())
    }

    fn release(&mut self) -> Result<(), Fault> {
        let leaving = std::mem::take(&mut self.leaving);
        for partition in &leaving {
            self.held.remove(partition);
            self.next.remove(partition);
        }
        self.group.release(self.member, &leaving, self.partitions);
        if self.is_void || !self.staged.is_empty() { self.recover() } else { Ok(()) }
    }
}

impl Drop for EmbeddedSession {
    fn drop(&mut self) {
        self.group.leave(&self.slot, self.member, self.partitions);
    }
}

fn equal_partitions(inputs: &[Arc<TopicEntry>], member: &Member) -> Result<u32, Fault> {
    let partitions = inputs.first().map_or(0, |entry| entry.spec.partitions);
    if let Some(other) = inputs.iter().find(|entry| entry.spec.partitions != partitions) {
        let detail = format!(
            "the inputs of {} differ: {} has {} partitions, not {partitions}",
            member.group, other.spec.topic, other.spec.partitions
        );
        return Err(fatal("partitions_differ", detail));
    }
    Ok(partitions)
}

/// Where a group goes on. A partition that was never written to begins at 0; elsewhere a missing offset was lost.
fn start_offset(shared: &Shared, group: &Group, entry: &TopicEntry, partition: u32) -> Result<u64, Fault> {
    match shared.store.offset(group.id, entry.id, partition)? {
        Some(offset) => Ok(offset),
        None if entry.end(partition) == 0 => Ok(0),
        None => {
            let topic: &Topic = &entry.spec.topic;
            Err(fatal(
                "offsets_missing",
                format!("the group has no offset on {topic}-{partition}, which was written to"),
            ))
        }
    }
}

fn partition_of_cell(cell_key: &[u8]) -> u32 {
    cell_key.get(4..CELL_PREFIX_BYTES).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes)
}

/// The first key behind the cells of a partition.
fn cells_end(group: u32, partition: u32) -> Option<Vec<u8>> {
    match partition.checked_add(1) {
        Some(partition) => Some(cell_key(group, partition, b"")),
        None => group.checked_add(1).map(|group| cell_key(group, 0, b"")),
    }
}
