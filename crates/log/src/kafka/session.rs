//! One member of a group: reads its partitions, stages, commits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use super::assignment::Seat;
use super::claim::Claim;
use super::clients::{Clients, known_offset, known_partition, raw_offset, raw_partition};
use super::driver::{Driver, Fetched, Joins, Reads};
use super::fault::{
    During, FENCED, FENCED_MEMBER, client_fault, fault, is_of_unknown_topic, is_passing, misconfigured,
};
use super::librdkafka::Librdkafka;
use super::membership::{self, equal_partitions, is_still_ours};
use super::record::headers;
use super::restore::Local;
use super::staged::Staged;
use super::store::{Progress, Stage, Stores, now_ms};
use super::tail::{POLL_BYTES_MAX, POLL_RECORDS_MAX};
use super::transaction::{Outgoing, Transactions};
use crate::{Batch, Cause, Committed, Fault, Member, Output, Polled, Position, Session};

/// A session that has had nothing to do for so long is idle.
const IDLE: Duration = Duration::from_millis(300);

pub(super) struct KafkaSession<D: Driver = Librdkafka> {
    pub(super) clients: Arc<Clients<D>>,
    pub(super) stores: Arc<Stores>,
    pub(super) member: Member,
    pub(super) partitions: u32,
    pub(super) changelog_id: String,
    pub(super) transactions: Transactions<D>,
    claim: Claim<D>,
    pub(super) consumer: D::Member,
    pub(super) seat: Seat,
    /// Next offset to read, by partition and index of the input.
    pub(super) next: BTreeMap<(u32, usize), u64>,
    /// Next offset that is committed, likewise.
    pub(super) committed: BTreeMap<(u32, usize), u64>,
    /// When there last was anything to do.
    pub(super) idle_since: Instant,
    pub(super) local: BTreeMap<u32, Local>,
    pub(super) staged: BTreeMap<u32, Staged>,
    /// A failure has voided the transaction: `recover` first.
    pub(super) is_void: bool,
    pub(super) partitions_checked: Instant,
}

impl<D: Driver> KafkaSession<D> {
    pub(super) fn join(clients: Arc<Clients<D>>, stores: Arc<Stores>, member: &Member) -> Result<Self, Fault> {
        let partitions = equal_partitions(&clients, member)?;
        let changelog_id = member.state.as_ref().map(|topic| clients.topic_id(topic)).transpose()?.unwrap_or_default();
        // First of all: what an earlier session of this slot left open is committed or gone before offsets are read.
        let transactions = Transactions::open(Arc::clone(&clients), &member.group, &member.slot)?;
        let claim = Claim::stake(Arc::clone(&clients), member)?;
        let consumer = membership::join(&clients, member)?;
        let now = clients.now();
        Ok(Self {
            clients,
            stores,
            member: member.clone(),
            partitions,
            changelog_id,
            transactions,
            claim,
            consumer,
            seat: Seat::Waiting,
            next: BTreeMap::new(),
            committed: BTreeMap::new(),
            idle_since: now,
            local: BTreeMap::new(),
            staged: BTreeMap::new(),
            is_void: false,
            partitions_checked: now,
        })
    }

    /// The group tells a member whose slot another one has taken, and librdkafka remembers it.
    fn refuse_if_fenced(&self) -> Result<(), Fault> {
        match self.consumer.fatal_error() {
            None => Ok(()),
            Some((code, reason)) => {
                let failed = KafkaError::MessageConsumptionFatal(code);
                Err(client_fault(Some((code, reason)), During::Read, failed))
            }
        }
    }

    /// Decides what it means that the group knows our slot under another id: the end, or that we join again.
    fn reclaiming<T>(&mut self, outcome: Result<T, Fault>) -> Result<T, Fault> {
        match outcome {
            Err(Fault::Fatal(cause)) if cause.code == FENCED_MEMBER => {
                if !self.claim.is_ours()? {
                    return Err(Fault::Fatal(Cause { code: FENCED, ..cause }));
                }
                self.join_again()?;
                Err(Fault::Abort(Cause { code: "partition_lost", ..cause }))
            }
            other => other,
        }
    }

    /// A member of the same slot with a new id. The partitions are lost: the group may have given them to others meanwhile.
    fn join_again(&mut self) -> Result<(), Fault> {
        tracing::warn!(
            group = self.member.group,
            slot = self.member.slot,
            "joins again: the group knew it under an id of a lost answer"
        );
        let consumer = membership::join(&self.clients, &self.member)?;
        give_up(&self.consumer);
        {
            let _watch = self.clients.watchdog.watch("drop_consumer", self.clients.hang());
            self.consumer = consumer;
        }
        self.is_void = true;
        if matches!(self.seat, Seat::Held) && !self.next.is_empty() {
            self.seat = Seat::Leaving { lost: true };
            return Ok(());
        }
        self.leave()
    }

    pub(super) fn refuse_if_void(&self) -> Result<(), Fault> {
        if self.is_void {
            return Err(Fault::Abort(Cause::new(
                "transaction_void",
                "a partition or a commit was lost: recover first",
            )));
        }
        Ok(())
    }

    fn refuse_if_not_ours(&self, partition: u32) -> Result<(), Fault> {
        if self.next.contains_key(&(partition, 0)) {
            return Ok(());
        }
        Err(Fault::Abort(Cause::new("partition_lost", format!("partition {partition} is not ours"))))
    }

    fn local(&self, partition: u32) -> Result<&Local, Fault> {
        self.refuse_if_not_ours(partition)?;
        self.local.get(&partition).ok_or_else(|| {
            misconfigured("state_missing", format!("{} was joined without a state topic", self.member.group))
        })
    }

    fn voiding<T>(&mut self, outcome: Result<T, Fault>) -> Result<T, Fault> {
        self.is_void |= outcome.is_err();
        outcome
    }

    /// Hands out what is there; ends early when the group has something to say.
    fn fill(&mut self, deadline: Instant, into: &mut Batch) -> Result<bool, Fault> {
        let before = into.records.len();
        let mut bytes = 0;
        loop {
            let has_some = into.records.len() > before;
            let patience =
                if has_some { Duration::ZERO } else { deadline.saturating_duration_since(self.clients.now()) };
            let failed = match self.consumer.poll(patience) {
                None => return Ok(true),
                Some(Ok(message)) => {
                    let inputs = self.member.inputs.iter().enumerate();
                    let Some((index, topic)) = inputs.clone().find(|(_, topic)| topic.as_str() == message.topic())
                    else {
                        continue;
                    };
                    let place = (message.partition(), index);
                    let offset = message.offset();
                    // What is not ours, or was fetched before we went elsewhere.
                    let Some(next) = self.next.get_mut(&place).filter(|next| offset >= **next) else { continue };
                    *next = offset + 1;
                    bytes += message.bytes();
                    into.records.push(message.record(topic));
                    None
                }
                Some(Err(error)) if is_passing(&error) => {
                    tracing::debug!(%error, "a session waits for the log");
                    None
                }
                Some(Err(error)) if is_of_unknown_topic(&error) => {
                    tracing::debug!(%error, "a session waits for the log");
                    self.clients.refuse_missing(&self.member.inputs).err()
                }
                Some(Err(error)) => Some(client_fault(self.consumer.fatal_error(), During::Read, error)),
            };
            if let Some(fault) = failed {
                // Told once only: what was read before it is read again after `recover`.
                return self.voiding(Err(fault));
            }
            if into.records.len() - before >= POLL_RECORDS_MAX || bytes >= POLL_BYTES_MAX {
                return Ok(false);
            }
        }
    }

    /// The offsets to commit: past markers and aborted records that follow the last record handed out, so that a group
    /// that has read everything is seen to have.
    fn offsets(&mut self, next: &[Position]) -> Result<TopicPartitionList, Fault> {
        if next.is_empty() && self.transactions.is_open() {
            let detail = "outputs are staged, but the commit names no offset: nothing would fence it";
            return Err(misconfigured("offsets_incomplete", detail));
        }
        let reached = self.consumer.position().map_err(|error| fault(During::Transaction, error))?;
        let mut offsets = TopicPartitionList::with_capacity(next.len());
        for at in next {
            let Some(index) = self.member.inputs.iter().position(|topic| *topic == at.topic) else {
                let detail = format!("{} is not an input of {}", at.topic, self.member.group);
                return Err(misconfigured("offset_of_no_input", detail));
            };
            self.refuse_if_not_ours(at.partition)?;
            let place = (at.partition, index);
            let seen = reached.find_partition(at.topic.as_str(), raw_partition(at.partition));
            let offset = match (seen.map(|seen| seen.offset()), self.next.get_mut(&place)) {
                (Some(Offset::Offset(seen)), Some(next)) if *next == at.offset => {
                    *next = known_offset(seen).max(at.offset);
                    *next
                }
                _ => at.offset,
            };
            let offset = Offset::Offset(raw_offset(offset));
            offsets
                .add_partition_offset(at.topic.as_str(), raw_partition(at.partition), offset)
                .map_err(|error| fault(During::Transaction, error))?;
        }
        for (partition, staged) in &self.staged {
            if !staged.is_empty() && !next.iter().any(|at| at.partition == *partition) {
                let detail = format!("state of partition {partition} changed, but the commit does not name its offset");
                return Err(misconfigured("offsets_incomplete", detail));
            }
        }
        Ok(offsets)
    }

    /// Behind the last record there may be markers and aborted records that no commit of a batch has passed. A group
    /// with nothing to do passes them, so that whoever compares its progress with the ends sees that it is done.
    fn pass_unseen(&mut self) -> Result<(), Fault> {
        let is_busy = self.transactions.is_open() || self.staged.values().any(|staged| !staged.is_empty());
        let now = self.clients.now();
        if is_busy || now.saturating_duration_since(self.idle_since) < IDLE {
            return Ok(());
        }
        self.idle_since = now;
        let reached = self.consumer.position().map_err(|error| fault(During::Read, error))?;
        let is_behind = |at: &Position| {
            let seen = reached.find_partition(at.topic.as_str(), raw_partition(at.partition)).map(|seen| seen.offset());
            let index = self.member.inputs.iter().position(|topic| *topic == at.topic);
            let committed = index.and_then(|index| self.committed.get(&(at.partition, index)));
            committed == Some(&at.offset)
                && matches!(seen, Some(Offset::Offset(seen)) if known_offset(seen) > at.offset)
        };
        let behind = self.positions().into_iter().filter(is_behind).collect::<Vec<_>>();
        if behind.is_empty() {
            return Ok(());
        }
        let passed = self.commit_staged(&behind).map(drop);
        self.voiding(passed)
    }

    fn commit_staged(&mut self, next: &[Position]) -> Result<Committed, Fault> {
        let offsets = self.offsets(next)?;
        self.transactions.begin()?;
        if let Some(changelog) = &self.member.state {
            for (partition, staged) in &self.staged {
                for (key, value) in staged.cells() {
                    self.transactions.send(Outgoing {
                        topic: changelog.as_str(),
                        partition: Some(raw_partition(*partition)),
                        key: Some(key),
                        value,
                        headers: None,
                    })?;
                }
            }
        }
        let member = {
            let _watch = self.clients.watchdog.watch("group_metadata", self.clients.hang());
            self.consumer.place()
        };
        let member = member.ok_or_else(|| Fault::Abort(Cause::new("partition_lost", "the consumer has no group")))?;
        let ends = self.transactions.commit(&offsets, &member)?;
        self.clients.remember_own(&ends);
        // It is committed. Whatever goes wrong from here on, `recover` finds the store behind and replays.
        self.apply(&offsets, &ends).map_err(|fault| match fault {
            Fault::Fatal(cause) => Fault::Fatal(cause),
            other => Fault::Unknown(other.into_cause()),
        })?;
        self.staged.clear();
        self.idle_since = self.clients.now();
        for at in offsets.elements() {
            let index = self.member.inputs.iter().position(|topic| topic.as_str() == at.topic());
            let (Some(index), Offset::Offset(offset)) = (index, at.offset()) else { continue };
            self.committed.insert((known_partition(at.partition()), index), known_offset(offset));
        }
        let is_output = |end: &Position| self.member.state.as_ref() != Some(&end.topic);
        Ok(Committed { ends: ends.into_iter().filter(is_output).collect() })
    }

    fn read(&mut self, wait: Duration, into: &mut Batch) -> Result<Polled, Fault> {
        let deadline = self.clients.now() + wait;
        let before = into.records.len();
        self.refuse_if_fenced()?;
        loop {
            if let Some(polled) = self.take_turn()? {
                return Ok(polled);
            }
            self.check_partitions_now_and_then()?;
            let drained = self.fill(deadline, into)?;
            let is_called = !self.consumer.rebalances().is_empty();
            if into.records.len() > before {
                self.idle_since = self.clients.now();
            } else if !is_called {
                self.pass_unseen()?;
            }
            if into.records.len() > before || (!is_called && self.clients.now() >= deadline) {
                return Ok(Polled::Records { drained: drained && !is_called });
            }
        }
    }

    fn commit_unless_fenced(&mut self, next: &[Position]) -> Result<Committed, Fault> {
        self.refuse_if_fenced()?;
        self.refuse_if_void()?;
        if let Seat::Leaving { lost: true } = self.seat {
            return Err(Fault::Abort(Cause::new("partition_lost", "the partitions belong to another member now")));
        }
        if next.is_empty() && self.staged.values().all(Staged::is_empty) && !self.transactions.is_open() {
            return Ok(Committed::default());
        }
        let committed = self.commit_staged(next);
        self.voiding(committed)
    }

    /// New producers, then offsets and state as they are committed.
    fn begin_anew(&mut self) -> Result<(), Fault> {
        // A member that was away too long hears of it now, before it takes producers or stores from whoever came after.
        let is_ours = is_still_ours(&self.consumer)?;
        self.refuse_if_fenced()?;
        self.transactions.recycle()?;
        if is_ours && matches!(self.seat, Seat::Held) && !self.next.is_empty() {
            let partitions = self.next.keys().map(|(partition, _)| *partition).collect::<BTreeSet<_>>();
            self.enter(&partitions.into_iter().collect::<Vec<_>>())?;
        }
        self.is_void = false;
        Ok(())
    }

    fn apply(&mut self, offsets: &TopicPartitionList, ends: &[Position]) -> Result<(), Fault> {
        let Some(changelog) = &self.member.state else { return Ok(()) };
        for (partition, local) in &mut self.local {
            let of_partition = offsets.elements();
            let mut touched = of_partition.iter().filter(|at| known_partition(at.partition()) == *partition).peekable();
            if touched.peek().is_none() {
                continue;
            }
            let mut inputs = local.progress.inputs.clone();
            for at in touched {
                if let Offset::Offset(offset) = at.offset() {
                    inputs.insert(at.topic().to_owned(), known_offset(offset));
                }
            }
            let end = ends.iter().find(|end| end.topic == *changelog && end.partition == *partition);
            let changelog = end.map_or(local.progress.changelog, |end| end.offset);
            let progress = Progress { stage: Stage::Complete, inputs, changelog, written_ms: now_ms() };
            let empty = Staged::default();
            let staged = self.staged.get(partition).unwrap_or(&empty);
            local.store.apply(staged.cells(), staged.forgotten(), &progress)?;
            local.progress = progress;
        }
        Ok(())
    }
}

impl<D: Driver> Session for KafkaSession<D> {
    fn poll(&mut self, wait: Duration, into: &mut Batch) -> Result<Polled, Fault> {
        let polled = self.read(wait, into);
        self.reclaiming(polled)
    }

    fn positions(&self) -> Vec<Position> {
        let held = self.next.iter().filter_map(|((partition, index), offset)| {
            let topic = self.member.inputs.get(*index)?.clone();
            Some(Position { topic, partition: *partition, offset: *offset })
        });
        held.collect()
    }

    fn get(&self, partition: u32, key: &[u8], out: &mut Vec<u8>) -> Result<bool, Fault> {
        out.clear();
        let local = self.local(partition)?;
        if let Some(staged) = self.staged.get(&partition) {
            if let Some(value) = staged.get(key) {
                out.extend_from_slice(value.unwrap_or_default());
                return Ok(value.is_some());
            }
            if staged.has_forgotten(key) {
                return Ok(false);
            }
        }
        local.store.get(key, out)
    }

    fn scan(&self, partition: u32, from: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), Fault> {
        let local = self.local(partition)?;
        match self.staged.get(&partition) {
            None => local.store.scan(from, visit),
            Some(staged) => staged.scan_over(&local.store, from, visit),
        }
    }

    fn put(&mut self, partition: u32, key: &[u8], value: Option<&[u8]>) -> Result<(), Fault> {
        self.refuse_if_void()?;
        let is_forgotten = self.local(partition)?.store.has_forgotten(key);
        let staged = self.staged.entry(partition).or_default();
        if is_forgotten || staged.has_forgotten(key) {
            let detail = format!("partition {partition} has forgotten the cells that begin so");
            return Err(misconfigured("cell_forgotten", detail));
        }
        staged.put(key, value);
        Ok(())
    }

    fn forget(&mut self, partition: u32, prefix: &[u8]) -> Result<(), Fault> {
        self.refuse_if_void()?;
        self.local(partition)?;
        self.staged.entry(partition).or_default().forget(prefix);
        Ok(())
    }

    fn emit(&mut self, out: &Output<'_>) -> Result<(), Fault> {
        self.refuse_if_void()?;
        if out.partition.is_none() && out.key.is_none() {
            return Err(misconfigured("record_without_key", format!("a record for {} names no place", out.topic)));
        }
        let outgoing = Outgoing {
            topic: out.topic.as_str(),
            partition: out.partition.map(raw_partition),
            key: out.key,
            value: out.value,
            headers: headers(out),
        };
        let sent = match self.transactions.begin() {
            Ok(()) => self.transactions.send(outgoing),
            Err(fault) => Err(fault),
        };
        self.voiding(sent)
    }

    fn commit(&mut self, next: &[Position]) -> Result<Committed, Fault> {
        let committed = self.commit_unless_fenced(next);
        self.reclaiming(committed)
    }

    fn recover(&mut self) -> Result<(), Fault> {
        self.is_void = true;
        self.staged.clear();
        let recovered = self.begin_anew();
        self.reclaiming(recovered)
    }

    fn seek(&mut self, at: &[Position]) -> Result<(), Fault> {
        if self.transactions.is_open() || !self.staged.is_empty() {
            return Err(Fault::Abort(Cause::new("transaction_open", "seek while records are staged")));
        }
        let mut next = self.next.clone();
        for position in at {
            let index = self.member.inputs.iter().position(|topic| *topic == position.topic);
            let place = index.and_then(|index| next.get_mut(&(position.partition, index)));
            let Some(place) = place else {
                let detail = format!("{}-{} is not ours", position.topic, position.partition);
                return Err(Fault::Abort(Cause::new("partition_lost", detail)));
            };
            *place = position.offset;
        }
        self.read_from(next)
    }

    fn release(&mut self) -> Result<(), Fault> {
        if !matches!(self.seat, Seat::Leaving { .. }) {
            return Ok(());
        }
        if self.transactions.is_open() {
            self.transactions.recycle()?;
        }
        self.is_void = false;
        self.leave()
    }
}

impl<D: Driver> Drop for KafkaSession<D> {
    fn drop(&mut self) {
        give_up(&self.consumer);
    }
}

/// A consumer closes by asking for its partitions back, which is answered as soon as it is heard. What was heard before is
/// answered here; and nothing else: librdkafka would take it for the answer to a question that still lies in the queue, end,
/// and never return from the answer to that.
fn give_up(consumer: &impl Joins) {
    consumer.rebalances().close();
    if consumer.rebalances().is_awaited()
        && let Err(error) = consumer.unassign()
    {
        tracing::debug!(%error, "cannot give partitions up at the end");
    }
}
