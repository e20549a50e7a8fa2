//! Taking partitions up and giving them up: offsets, then state, then reading.

use std::collections::{BTreeMap, BTreeSet};

use super::clients::{committed_offsets, places, wait_let_go};
use super::driver::{Driver, Joins, Reads};
use super::fault::{During, fault, misconfigured};
use super::membership::{Event, equal_partitions, is_still_ours, whole_partitions};
use super::restore::Restorer;
use super::session::KafkaSession;
use crate::{Cause, Fault, Polled, Session};

pub(super) enum Seat {
    /// The group has not decided yet.
    Waiting,
    /// Partitions that are ours but whose state is not restored yet.
    Offered(Vec<u32>),
    Held,
    /// The caller has been asked to give its partitions up.
    Leaving {
        lost: bool,
    },
}

impl<D: Driver> KafkaSession<D> {
    /// Acts on what the group has decided; answers what the caller must hear of it.
    pub(super) fn take_turn(&mut self) -> Result<Option<Polled>, Fault> {
        if let Seat::Leaving { lost } = self.seat {
            return Ok(Some(self.revocation(lost)));
        }
        loop {
            match self.consumer.rebalances().next() {
                None => break,
                Some(Event::Revoke { lost }) => {
                    if matches!(self.seat, Seat::Held) && !self.next.is_empty() {
                        self.seat = Seat::Leaving { lost };
                        self.is_void |= lost && (self.transactions.is_open() || !self.staged.is_empty());
                        return Ok(Some(self.revocation(lost)));
                    }
                    self.leave()?;
                }
                Some(Event::Assign(places)) => self.seat = Seat::Offered(whole_partitions(&self.member, &places)?),
            }
        }
        self.refuse_if_void()?;
        if let Seat::Offered(partitions) = &self.seat {
            let partitions = partitions.clone();
            self.enter(&partitions)?;
            if !partitions.is_empty() {
                return Ok(Some(Polled::Assigned(self.positions())));
            }
        }
        Ok(None)
    }

    fn revocation(&self, lost: bool) -> Polled {
        let partitions = self.next.keys().map(|(partition, _)| *partition).collect::<BTreeSet<_>>();
        Polled::Revoke { partitions: partitions.into_iter().collect(), lost }
    }

    /// Committed offsets, then state, then reading: in this order (R3).
    pub(super) fn enter(&mut self, partitions: &[u32]) -> Result<(), Fault> {
        self.staged.clear();
        self.check_partitions()?;
        let committed = self.ask_committed(partitions)?;
        let committed_ref = &committed;
        let by_topic = |partition: u32| {
            let of = self.member.inputs.iter().enumerate();
            of.map(move |(index, topic)| {
                (topic.as_str().to_owned(), committed_ref.get(&(partition, index)).copied().unwrap_or(0))
            })
        };
        let mut local = BTreeMap::new();
        if let Some(changelog) = &self.member.state {
            let restorer = Restorer {
                clients: &self.clients,
                stores: &self.stores,
                group: &self.member.group,
                changelog,
                changelog_id: &self.changelog_id,
                partitions: self.partitions,
            };
            let inputs = partitions.iter().map(|partition| (*partition, by_topic(*partition).collect())).collect();
            local = restorer.restore(inputs, &mut || match is_still_ours(&self.consumer)? {
                true => Ok(()),
                false => {
                    Err(Fault::Retry(Cause::new("rebalanced", "the partitions were given away during the restore")))
                }
            })?;
        }
        self.local = local;
        self.committed.clone_from(&committed);
        self.read_from(committed)?;
        self.seat = Seat::Held;
        Ok(())
    }

    fn ask_committed(&self, partitions: &[u32]) -> Result<BTreeMap<(u32, usize), u64>, Fault> {
        let mut committed = BTreeMap::new();
        for (index, topic) in self.member.inputs.iter().enumerate() {
            let _watch = self.clients.watchdog.watch("committed_offsets", self.clients.hang());
            let known = committed_offsets(&self.consumer, topic, partitions, self.clients.config.timings.call)?;
            let missing: Vec<u32> = partitions
                .iter()
                .copied()
                .filter(|partition| !known.iter().any(|at| at.partition == *partition))
                .collect();
            committed.extend(known.iter().map(|at| ((at.partition, index), at.offset)));
            // Where nothing was ever written, the beginning is no rewind.
            for end in self.clients.open_ends(topic, &missing)? {
                if end.offset > 0 {
                    let detail = format!(
                        "group {} has no offset on {topic}-{}, which was written to; apply the topics before the first record, \
                         or set the offset with Kafka's own tools",
                        self.member.group, end.partition
                    );
                    return Err(misconfigured("offsets_missing", detail));
                }
                committed.insert((end.partition, index), 0);
            }
        }
        Ok(committed)
    }

    /// Reads on from these places and no others; what was fetched from elsewhere is dropped.
    pub(super) fn read_from(&mut self, next: BTreeMap<(u32, usize), u64>) -> Result<(), Fault> {
        let named = next.iter().filter_map(|((partition, index), offset)| {
            self.member.inputs.get(*index).map(|topic| (topic.as_str(), *partition, *offset))
        });
        let list = places(named)?;
        let _watch = self.clients.watchdog.watch("assign", self.clients.hang());
        self.consumer.assign(&list).map_err(|error| fault(During::Read, error))?;
        self.consumer.rebalances().answered();
        wait_let_go(&self.clients, &self.consumer)?;
        self.next = next;
        self.idle_since = self.clients.now();
        Ok(())
    }

    pub(super) fn leave(&mut self) -> Result<(), Fault> {
        self.next.clear();
        self.committed.clear();
        self.local.clear();
        self.staged.clear();
        self.seat = Seat::Waiting;
        let _watch = self.clients.watchdog.watch("unassign", self.clients.hang());
        self.consumer.unassign().map_err(|error| fault(During::Read, error))?;
        self.consumer.rebalances().answered();
        Ok(())
    }

    /// Partition counts never change under a store: keys would move to where their state is not.
    fn check_partitions(&mut self) -> Result<(), Fault> {
        self.partitions_checked = self.clients.now();
        let found = equal_partitions(&self.clients, &self.member)?;
        if found == self.partitions {
            return Ok(());
        }
        let detail = format!("the topics of {} went from {} partitions to {found}", self.member.group, self.partitions);
        Err(misconfigured("partitions_changed", detail))
    }

    pub(super) fn check_partitions_now_and_then(&mut self) -> Result<(), Fault> {
        let checked = self.clients.now().saturating_duration_since(self.partitions_checked);
        if checked < self.clients.config.timings.partitions_check {
            return Ok(());
        }
        match self.check_partitions() {
            Err(Fault::Retry(cause)) => {
                tracing::debug!(%cause, "the partition counts are checked later");
                Ok(())
            }
            checked => checked,
        }
    }
}
