//! A database that lost commits which were published already takes them back: the rows as they were published, never
//! decided again (R6). The chain of row hashes proves them before anything is written.

use std::collections::VecDeque;
use std::time::Duration;

use billing::Minor;
use event::topic::{LEDGER_COMMAND, SETTLEMENT_PARKED, SETTLEMENT_POSTED};
use event::wire::SettlementPosted;
use ledger::{Batch, Books, Input, Needs, Offsets, Posting, Progress, RowDraft, Source, row_hash};
use log::{Fault, Log, Position, Record, Tail, Topic};

use crate::command::{Asked, Item, What, needs, parse};
use crate::published::{Fact, Published, PublishedRows, regressed};
use crate::relay::Relayed;
use crate::step::{Defect, parked_of};

/// How long one poll of a tail waits.
const TAIL_WAIT: Duration = Duration::from_millis(200);

/// One partition that has to catch up.
pub(crate) struct Restore<'a> {
    pub(crate) log: &'a dyn Log,
    pub(crate) redo: &'a Topic,
    pub(crate) dead: &'a Topic,
    pub(crate) partition: u32,
    pub(crate) from: Progress,
    pub(crate) relayed: Relayed,
    pub(crate) rows_max: usize,
    pub(crate) batch_max: usize,
}

/// A published row with the command that it was decided from.
pub(crate) struct Restored {
    draft: RowDraft,
    fact: Restorable,
}

enum Restorable {
    Posted(Box<SettlementPosted>, Box<Asked>),
    Parked(Box<event::wire::SettlementParked>, Box<Asked>),
    Dead,
}

impl Restore<'_> {
    fn rows(&self) -> Result<PublishedRows<'_>, Fault> {
        let topics = [Topic::new(SETTLEMENT_POSTED), Topic::new(SETTLEMENT_PARKED), self.dead.clone()];
        let after = self.from.next_sequence - 1;
        PublishedRows::open(self.log, &topics, (self.partition, after, self.relayed.sequence), self.rows_max)
    }

    /// Hashes everything that was published since, and compares the end with the relay's position.
    pub(crate) fn prove(&self) -> Result<(), Fault> {
        let mut head = self.from.head;
        let mut rows = self.rows()?;
        while let Some(some) = rows.next()? {
            for (sequence, row) in some {
                head = row_hash(&head, sequence, &row.draft);
            }
        }
        if head == self.relayed.row_hash {
            return Ok(());
        }
        let (partition, sequence) = (self.partition, self.relayed.sequence);
        Err(regressed(format!("ledger partition {partition} does not lead to the published row {sequence}")))
    }

    /// Hands batches to `apply`, each with the rows that make it, in the order of their sequence.
    pub(crate) fn each_batch(
        &self,
        mut apply: impl FnMut(Batch, Vec<Restored>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut commands = Reader::open(self.log, (&Topic::new(LEDGER_COMMAND), Input::Command), self)?;
        let mut redone = Reader::open(self.log, (self.redo, Input::Redo), self)?;
        let mut at = self.from.offsets;
        let mut rows = self.rows()?;
        while let Some(some) = rows.next()? {
            let mut some: VecDeque<Published> = some.into_values().collect();
            while !some.is_empty() {
                let mut next = at;
                let mut wanted = Needs::default();
                let mut restored = Vec::new();
                for row in some.drain(..self.batch_max.min(some.len())) {
                    let reader = if row.draft.source.input == Input::Command { &mut commands } else { &mut redone };
                    restored.push(self.restorable(row, reader, (&mut next, &mut wanted))?);
                }
                let batch = Batch { partition: self.partition, expected: at, next, needs: wanted, published: 0 };
                apply(batch, restored)?;
                at = next;
            }
        }
        Ok(())
    }

    fn restorable(
        &self,
        row: Published,
        reader: &mut Reader<'_>,
        (next, wanted): (&mut Offsets, &mut Needs),
    ) -> Result<Restored, Fault> {
        let Source { input, offset } = row.draft.source;
        match input {
            Input::Command => next.command = next.command.max(offset + 1),
            Input::Redo => next.redo = next.redo.max(offset + 1),
        }
        let fact = match row.fact {
            Fact::Dead => Restorable::Dead,
            Fact::Posted(posted) => Restorable::Posted(posted, reader.asked_at(offset, wanted)?),
            Fact::Parked(parked) => Restorable::Parked(parked, reader.asked_at(offset, wanted)?),
        };
        Ok(Restored { draft: row.draft, fact })
    }
}

/// Writes restored rows into the books exactly as they were.
pub(crate) fn put_back(restored: Vec<Restored>, books: &mut Books) -> Result<(), Defect> {
    for row in restored {
        match row.fact {
            Restorable::Dead => {}
            Restorable::Posted(posted, asked) => {
                books.remember(asked.key(), asked.content);
                books.post(&posting(*posted, &asked)?)?;
            }
            Restorable::Parked(parked, asked) => {
                // A key that was used by another command belongs to that one.
                if books.content_of(&asked.key()).is_none() {
                    books.remember(asked.key(), asked.content);
                }
                books.park(parked_of(*parked));
            }
        }
        books.publish(row.draft);
    }
    Ok(())
}

fn posting(posted: SettlementPosted, asked: &Asked) -> Result<Posting, Defect> {
    let mut gross = Minor::ZERO;
    let mut transfers = Vec::with_capacity(posted.transfers.len());
    for transfer in posted.transfers {
        gross = gross.plus(Minor::new(transfer.minor))?;
        transfers.push(billing::Transfer {
            debit_account: transfer.debit_account,
            credit_account: transfer.credit_account,
            currency: transfer.currency,
            amount: Minor::new(transfer.minor),
        });
    }
    Ok(Posting {
        command_id: posted.command_id,
        exchange_id: posted.exchange_id,
        at: posted.at,
        transfers,
        gross,
        volume: asked.volume.clone(),
    })
}

/// Reads one input of one partition forward.
struct Reader<'a> {
    tail: Box<dyn Tail>,
    input: Input,
    dead: &'a Topic,
    end: Position,
    waiting: VecDeque<Record>,
}

impl<'a> Reader<'a> {
    fn open(log: &dyn Log, (topic, input): (&Topic, Input), restore: &Restore<'a>) -> Result<Self, Fault> {
        let partition = restore.partition;
        let offsets = restore.from.offsets;
        let offset = if input == Input::Command { offsets.command } else { offsets.redo };
        let ends = log.ends(topic)?;
        let end = ends.into_iter().find(|end| end.partition == partition);
        let end = end.ok_or_else(|| regressed(format!("{topic} has no partition {partition}")))?;
        let tail = log.tail(&[Position { topic: topic.clone(), partition, offset }])?;
        Ok(Self { tail, input, dead: restore.dead, end, waiting: VecDeque::new() })
    }

    /// The command at this offset; offsets must rise from call to call.
    fn asked_at(&mut self, offset: u64, wanted: &mut Needs) -> Result<Box<Asked>, Fault> {
        let (topic, partition) = (&self.end.topic, self.end.partition);
        let gone = || regressed(format!("{topic}:{partition}:{offset}, which was settled, is no longer in the log"));
        loop {
            while let Some(record) = self.waiting.pop_front() {
                if record.offset < offset {
                    continue;
                }
                let item = (record.offset == offset).then(|| parse(&record, self.input, self.dead));
                let item: Item = item.ok_or_else(gone)?.map_err(regressed)?;
                wanted.extend(needs([&item]));
                return match item.what {
                    What::Charge(asked) => Ok(asked),
                    What::Dead { .. } => Err(regressed(format!("{topic}:{partition}:{offset} is no command"))),
                };
            }
            if self.tail.positions().iter().all(|at| at.offset >= self.end.offset) {
                return Err(gone());
            }
            let mut batch = log::Batch::default();
            self.tail.poll(TAIL_WAIT, &mut batch)?;
            self.waiting.extend(batch.records);
        }
    }
}
