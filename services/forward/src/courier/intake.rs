//! Records become pending deliveries, or dead letters.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use event::wire::PendingDelivery;
use log::{Record, Topic};
use stage::dead_letter::{cause_of, emit_caused};
use stage::redone::Asked;
use stage::{Cells, DeadLetter, Reject, StepError};

use super::{Courier, STEP, now_ms};
use crate::owed::{self, is_input};

impl Courier<'_> {
    /// Stages what records owe. Answers why the rest of a partition must wait, where a record cannot be read yet.
    pub(super) fn accept(&mut self, records: &[Record]) -> Result<Option<String>, StepError> {
        let mut waiting: Option<String> = None;
        let mut blocked: BTreeSet<(&Topic, u32)> = BTreeSet::new();
        for record in records {
            if blocked.contains(&(&record.topic, record.partition)) {
                continue;
            }
            let staged = read(record).and_then(|owed| owed.map_or(Ok(()), |pending| self.stage_owed(record, &pending)));
            match staged {
                Ok(()) => {}
                Err(StepError::Reject(reject)) => self.stage_letter(record, &reject)?,
                Err(StepError::Wait(why)) => {
                    blocked.insert((&record.topic, record.partition));
                    waiting = Some(why);
                    continue;
                }
                Err(fault) => return Err(fault),
            }
            self.next.insert((record.partition, record.topic.clone()), record.offset + 1);
            self.open.partitions.insert(record.partition);
        }
        Ok(waiting)
    }

    /// A dead letter is redone once: its exchange has an outcome, or is on its way to one.
    fn stage_owed(&mut self, record: &Record, pending: &PendingDelivery) -> Result<(), StepError> {
        if !is_input(record) {
            let name = format!("{}:{}", pending.exchange_id, pending.admitted_at);
            let asked = Asked { record, name: &name, tenant: &pending.tenant };
            self.redone.claim(asked, &mut Cells::new(self.session.as_mut(), record.partition))?;
        }
        self.stage_pending(record.partition, pending)
    }

    fn stage_letter(&mut self, record: &Record, reject: &Reject) -> Result<(), StepError> {
        tracing::warn!(reason = reject.reason, source = %record.topic, partition = record.partition,
            offset = record.offset, "dead letter");
        metrics::counter!("stage_dead_letters_total", "step" => STEP, "reason" => reject.reason).increment(1);
        let emit = DeadLetter { record, reject }.emit_to(&dead_topic());
        let cause_topic = (!is_input(record)).then_some(&record.topic);
        Ok(emit_caused(self.session.as_mut(), &emit, &cause_of(record, 0), cause_topic)?)
    }
}

/// Reads a record; one that panics twice is a dead letter (R9).
fn read(record: &Record) -> Result<Option<PendingDelivery>, StepError> {
    let once = || catch_unwind(AssertUnwindSafe(|| owed::owed(record, now_ms())));
    once().or_else(|_| once()).unwrap_or_else(|_| {
        Err(StepError::Reject(Reject {
            reason: "panicked",
            detail: "reading the record panicked twice".to_owned(),
            tenant: owed::tenant_of(record),
        }))
    })
}

fn dead_topic() -> Topic {
    event::topic::step(STEP).map_or_else(|| Topic::new("forward.dead.v1"), |step| Topic::new(&step.dead_topic()))
}
