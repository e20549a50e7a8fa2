//! Sessions with a defect.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::tail::{spoil, wait_for};
use super::{Defect, append_now, misplaced};
use crate::{Batch, Cause, Committed, Fault, Log, Member, Output, Polled, Position, Session, Tail, Topic};

/// An output that outlives the call, for defects that write late.
struct Kept {
    topic: Topic,
    partition: Option<u32>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
}

pub(super) struct PlantedSession {
    inner: Box<dyn Session>,
    defect: Defect,
    /// Hides the cells that another session put.
    forgets: bool,
    log: Arc<dyn Log>,
    member: Member,
    emitted: Vec<Kept>,
    held_back: BTreeMap<(u32, Vec<u8>), Option<Vec<u8>>>,
    own_cells: BTreeSet<(u32, Vec<u8>)>,
}

impl PlantedSession {
    pub(super) fn new(
        inner: Box<dyn Session>,
        (defect, forgets): (Defect, bool),
        log: Arc<dyn Log>,
        member: Member,
    ) -> Self {
        let (emitted, held_back, own_cells) = (Vec::new(), BTreeMap::new(), BTreeSet::new());
        Self { inner, defect, forgets, log, member, emitted, held_back, own_cells }
    }

    fn partition(&self, partition: u32) -> u32 {
        if self.defect == Defect::PartitionsShareCells { 0 } else { partition }
    }

    fn is_hidden(&self, partition: u32, key: &[u8]) -> bool {
        self.forgets && !self.own_cells.contains(&(partition, key.to_vec()))
    }

    fn progress(&self) -> Result<Vec<Position>, Fault> {
        let mut progress = Vec::new();
        for input in &self.member.inputs {
            progress.extend(self.log.progress(&self.member.group, input)?);
        }
        Ok(progress)
    }

    fn twisted_offsets(&self, next: &[Position]) -> Result<Vec<Position>, Fault> {
        let progress = self.progress()?;
        let same_place = |a: &Position, b: &Position| (&a.topic, a.partition) == (&b.topic, b.partition);
        Ok(match self.defect {
            Defect::OffsetsDropped => {
                let named = |at: &Position| next.iter().any(|named| same_place(named, at));
                progress.into_iter().filter(named).collect()
            }
            Defect::UnmovedOffsetsDropped => next.iter().filter(|at| !progress.contains(at)).cloned().collect(),
            Defect::UnnamedOffsetsAdded => {
                let unnamed = |at: &Position| !next.iter().any(|named| same_place(named, at));
                next.iter().cloned().chain(self.inner.positions().into_iter().filter(unnamed)).collect()
            }
            _ => next.to_vec(),
        })
    }
}

impl Session for PlantedSession {
    fn poll(&mut self, wait: Duration, into: &mut Batch) -> Result<Polled, Fault> {
        let before = into.records.len();
        let mut polled = self.inner.poll(wait_for(self.defect, wait), into)?;
        while self.defect == Defect::Unbounded && polled == (Polled::Records { drained: false }) {
            polled = self.inner.poll(wait, into)?;
        }
        spoil(self.defect, into, before);
        match (self.defect, polled) {
            (Defect::HandedOverRewound, Polled::Assigned(positions)) => {
                let rewound = positions.into_iter().map(|at| Position { offset: 0, ..at }).collect::<Vec<_>>();
                self.inner.seek(&rewound)?;
                Ok(Polled::Assigned(rewound))
            }
            (Defect::ReleasedUnasked, Polled::Revoke { .. }) => {
                self.inner.release()?;
                Ok(Polled::Records { drained: true })
            }
            (_, polled) => Ok(polled),
        }
    }

    fn positions(&self) -> Vec<Position> {
        self.inner.positions()
    }

    fn get(&self, partition: u32, key: &[u8], out: &mut Vec<u8>) -> Result<bool, Fault> {
        if self.is_hidden(partition, key) {
            return Ok(false);
        }
        self.inner.get(self.partition(partition), key, out)
    }

    fn scan(&self, partition: u32, from: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), Fault> {
        let from = if self.defect == Defect::ScanFromIgnored { b"" } else { from };
        self.inner.scan(self.partition(partition), from, &mut |key, value| {
            self.is_hidden(partition, key) || visit(key, value) || self.defect == Defect::ScanNeverEnds
        })
    }

    fn put(&mut self, partition: u32, key: &[u8], value: Option<&[u8]>) -> Result<(), Fault> {
        self.own_cells.insert((partition, key.to_vec()));
        match self.defect {
            Defect::StateDropped => Ok(()),
            Defect::PutsUnseen => {
                self.held_back.insert((partition, key.to_vec()), value.map(<[u8]>::to_vec));
                Ok(())
            }
            _ => self.inner.put(self.partition(partition), key, value),
        }
    }

    fn forget(&mut self, partition: u32, prefix: &[u8]) -> Result<(), Fault> {
        match self.defect {
            Defect::ForgetsNothing => Ok(()),
            Defect::ForgetsEverything => self.inner.forget(partition, b""),
            _ => self.inner.forget(partition, prefix),
        }
    }

    fn emit(&mut self, out: &Output<'_>) -> Result<(), Fault> {
        match self.defect {
            Defect::OutputsDropped => Ok(()),
            Defect::HeadersDropped => self.inner.emit(&Output { headers: &[], ..*out }),
            Defect::NullsFilled => {
                let fill = |part: Option<_>| part.or(Some(&b""[..]));
                self.inner.emit(&Output { key: fill(out.key), value: fill(out.value), ..*out })
            }
            Defect::EmittedAtOnce => append_now(self.log.as_ref(), out),
            Defect::PartitionerWrong => {
                let partition = misplaced(out, self.log.partitions(out.topic)?.unwrap_or(1));
                self.inner.emit(&Output { partition, ..*out })
            }
            _ => {
                let (key, value) = (out.key.map(<[u8]>::to_vec), out.value.map(<[u8]>::to_vec));
                self.emitted.push(Kept { topic: out.topic.clone(), partition: out.partition, key, value });
                self.inner.emit(out)
            }
        }
    }

    fn commit(&mut self, next: &[Position]) -> Result<Committed, Fault> {
        for ((partition, key), value) in std::mem::take(&mut self.held_back) {
            self.inner.put(partition, &key, value.as_deref())?;
        }
        let next = self.twisted_offsets(next)?;
        let emitted = std::mem::take(&mut self.emitted);
        match (self.defect, self.inner.commit(&next)) {
            (Defect::ZombieCommits, Err(_)) => {
                for out in &emitted {
                    let (key, value) = (out.key.as_deref(), out.value.as_deref());
                    let out = Output { topic: &out.topic, partition: out.partition, key, value, headers: &[] };
                    append_now(self.log.as_ref(), &out)?;
                }
                Ok(Committed::default())
            }
            (Defect::EndsNotAnswered, Ok(_)) => Ok(Committed::default()),
            (_, committed) => committed,
        }
    }

    fn recover(&mut self) -> Result<(), Fault> {
        self.emitted.clear();
        let ahead = self.inner.positions();
        match self.defect {
            Defect::RecoverKeepsStaged => Ok(()),
            Defect::RecoverStaysAhead => self.inner.recover().and_then(|()| self.inner.seek(&ahead)),
            _ => self.inner.recover(),
        }
    }

    fn seek(&mut self, at: &[Position]) -> Result<(), Fault> {
        if self.defect == Defect::SessionSeekIgnored { Ok(()) } else { self.inner.seek(at) }
    }

    fn release(&mut self) -> Result<(), Fault> {
        self.inner.release()
    }
}

/// A session that takes missing offsets for the start: it reads, and can do nothing else.
pub(super) struct Rewound {
    tail: Box<dyn Tail>,
    is_assigned: bool,
}

impl Rewound {
    pub(super) fn new(log: &dyn Log, member: &Member) -> Result<Self, Fault> {
        let mut starts = Vec::new();
        for input in &member.inputs {
            starts.extend(log.starts(input)?);
        }
        Ok(Self { tail: log.tail(&starts)?, is_assigned: false })
    }
}

fn only_reads() -> Fault {
    Fault::Retry(Cause::new("only_reads", "a rewound session is planted to read"))
}

impl Session for Rewound {
    fn poll(&mut self, wait: Duration, into: &mut Batch) -> Result<Polled, Fault> {
        if !std::mem::replace(&mut self.is_assigned, true) {
            return Ok(Polled::Assigned(self.tail.positions()));
        }
        Ok(Polled::Records { drained: self.tail.poll(wait, into)? })
    }

    fn positions(&self) -> Vec<Position> {
        self.tail.positions()
    }

    fn get(&self, _: u32, _: &[u8], _: &mut Vec<u8>) -> Result<bool, Fault> {
        Err(only_reads())
    }

    fn scan(&self, _: u32, _: &[u8], _: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), Fault> {
        Err(only_reads())
    }

    fn put(&mut self, _: u32, _: &[u8], _: Option<&[u8]>) -> Result<(), Fault> {
        Err(only_reads())
    }

    fn forget(&mut self, _: u32, _: &[u8]) -> Result<(), Fault> {
        Err(only_reads())
    }

    fn emit(&mut self, _: &Output<'_>) -> Result<(), Fault> {
        Err(only_reads())
    }

    fn commit(&mut self, _: &[Position]) -> Result<Committed, Fault> {
        Err(only_reads())
    }

    fn recover(&mut self) -> Result<(), Fault> {
        Err(only_reads())
    }

    fn seek(&mut self, _: &[Position]) -> Result<(), Fault> {
        Err(only_reads())
    }

    fn release(&mut self) -> Result<(), Fault> {
        Err(only_reads())
    }
}
