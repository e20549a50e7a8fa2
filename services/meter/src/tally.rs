//! The second step: running totals by tenant, meter and month, written once a batch.

use std::collections::BTreeMap;

use bytes::Bytes;
use event::topic::{USAGE_RECORDED, USAGE_TOTAL};
use event::wire::{Tally as Cell, UsageRecorded, UsageTotal, Wire};
use log::Topic;
use stage::redone::Redone;
use stage::{Effects, Emit, Reject, Step, StepError};

use crate::record::encode;
use crate::{Sealing, claim};

/// Adds usage up.
#[derive(Debug)]
pub struct Tally {
    total: Topic,
    /// What this batch has changed, by partition.
    changed: BTreeMap<(u32, Account), Cell>,
    redone: Redone,
}

/// What a total is kept for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Account {
    tenant: String,
    meter: &'static str,
    month: String,
}

impl Account {
    /// Record key of the total, and its cell.
    fn key(&self) -> String {
        format!("{}:{}:{}", self.tenant, self.meter, self.month)
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self { total: Topic::new(USAGE_TOTAL), changed: BTreeMap::new(), redone: Redone::default() }
    }
}

impl Tally {
    /// The cell after this much more; nothing is changed yet.
    fn after(&self, slot: &(u32, Account), quantity: i64, at: i64, effects: &dyn Effects) -> Result<Cell, StepError> {
        let cell = match self.changed.get(slot) {
            Some(cell) => cell.clone(),
            None => match effects.get(slot.1.key().as_bytes())? {
                Some(bytes) => Cell::decode(&bytes).map_err(|error| StepError::Wait(error.to_string()))?,
                None => Cell { total: 0, exchanges: 0, as_of: 0 },
            },
        };
        let overflow = || {
            StepError::Reject(Reject {
                reason: "usage_overflow",
                detail: format!("the total of {} would pass 2^63-1", slot.1.key()),
                tenant: slot.1.tenant.clone(),
            })
        };
        let total = cell.total.checked_add(quantity).ok_or_else(overflow)?;
        let exchanges = cell.exchanges.checked_add(1).ok_or_else(overflow)?;
        Ok(Cell { total, exchanges, as_of: cell.as_of.max(at) })
    }
}

impl Step for Tally {
    fn apply(&mut self, record: &log::Record, effects: &mut dyn Effects) -> Result<(), StepError> {
        let usage: UsageRecorded = crate::decode(record, USAGE_RECORDED)?;
        let (exchange_id, tenant) = (usage.exchange_id.as_str(), usage.tenant.as_str());
        let sealing = Sealing { exchange_id, tenant, admitted_at: usage.admitted_at };
        claim(&mut self.redone, record, USAGE_RECORDED, &sealing, effects)?;
        let account = |meter| Account { tenant: usage.tenant.clone(), meter, month: usage.month.clone() };
        let vex = (record.partition, account("vex"));
        let fu = (record.partition, account("fu"));
        // Both meters or none: the second may overflow.
        let vex_cell = self.after(&vex, usage.vex, usage.admitted_at, effects)?;
        let fu_cell = self.after(&fu, usage.fu, usage.admitted_at, effects)?;
        self.changed.insert(vex, vex_cell);
        self.changed.insert(fu, fu_cell);
        Ok(())
    }

    fn finish(&mut self, partition: u32, effects: &mut dyn Effects) -> Result<(), StepError> {
        for ((_, account), cell) in self.changed.iter().filter(|((owner, _), _)| *owner == partition) {
            let key = account.key();
            effects.put(key.as_bytes(), Some(&encode(cell)?))?;
            let total = UsageTotal {
                tenant: account.tenant.clone(),
                meter: account.meter.to_owned(),
                month: account.month.clone(),
                total: cell.total,
                exchanges: cell.exchanges,
                as_of: cell.as_of,
            };
            effects.emit(Emit {
                topic: self.total.clone(),
                partition: None,
                key: Some(Bytes::from(key)),
                value: Some(encode(&total)?),
                headers: Vec::new(),
            })?;
        }
        Ok(self.redone.finish(partition, effects)?)
    }

    fn committed(&mut self, _committed: &log::Committed) {
        self.changed.clear();
    }

    fn reset(&mut self, _assigned: &[log::Position]) {
        self.changed.clear();
        self.redone.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stage::testing::{MemoryEffects, record};

    fn usage(tenant: &str, fu: i64, at: i64) -> Vec<u8> {
        UsageRecorded {
            exchange_id: "ex".into(),
            tenant: tenant.into(),
            trace_id: "t".into(),
            admitted_at: at,
            month: "2026-11".into(),
            vex: 1,
            fu,
        }
        .encode()
        .unwrap()
    }

    #[test]
    fn totals_are_written_once_a_batch_and_go_on_from_the_last() {
        let mut tally = Tally::default();
        let mut effects = MemoryEffects::default();
        for (offset, fu) in [(0, 2), (1, 3)] {
            tally.apply(&record(USAGE_RECORDED, 0, offset, 0, "acme", usage("acme", fu, 10)), &mut effects).unwrap();
        }
        tally.finish(0, &mut effects).unwrap();
        tally.committed(&log::Committed::default());
        let totals: Vec<UsageTotal> =
            effects.take().iter().map(|emit| UsageTotal::decode(emit.value.as_ref().unwrap()).unwrap()).collect();
        assert_eq!(
            totals.iter().map(|total| (total.meter.as_str(), total.total)).collect::<Vec<_>>(),
            [("fu", 5), ("vex", 2)]
        );

        tally.apply(&record(USAGE_RECORDED, 0, 2, 0, "acme", usage("acme", 1, 20)), &mut effects).unwrap();
        tally.finish(0, &mut effects).unwrap();
        let total = UsageTotal::decode(effects.take()[0].value.as_ref().unwrap()).unwrap();
        assert_eq!((total.total, total.exchanges, total.as_of), (6, 3, 20));
    }

    #[test]
    fn a_batch_that_is_given_up_counts_nothing() {
        let mut tally = Tally::default();
        let mut effects = MemoryEffects::default();
        tally.apply(&record(USAGE_RECORDED, 0, 0, 0, "acme", usage("acme", 2, 10)), &mut effects).unwrap();
        tally.reset(&[]);
        tally.finish(0, &mut effects).unwrap();
        assert!(effects.take().is_empty());
    }

    #[test]
    fn a_dead_letter_that_is_redone_twice_is_counted_once() {
        let mut tally = Tally::default();
        let mut effects = MemoryEffects::default();
        let redo = |offset| record("meter.tally.redo.v1", 0, offset, 7, "acme", usage("acme", 2, 10));
        tally.apply(&redo(0), &mut effects).unwrap();
        let again = tally.apply(&redo(1), &mut effects);
        assert!(matches!(again, Err(StepError::Reject(reject)) if reject.reason == "already_decided"));
        tally.finish(0, &mut effects).unwrap();
        let total = UsageTotal::decode(effects.take()[0].value.as_ref().unwrap()).unwrap();
        assert_eq!((total.total, total.exchanges), (2, 1));
        assert!(Tally::default().apply(&redo(2), &mut effects).is_err(), "also after a restart");
    }

    #[test]
    fn a_redo_that_is_refused_may_be_redone() {
        let mut tally = Tally::default();
        let mut effects = MemoryEffects::default();
        tally.apply(&record(USAGE_RECORDED, 0, 0, 0, "acme", usage("acme", i64::MAX, 10)), &mut effects).unwrap();
        tally.finish(0, &mut effects).unwrap();
        tally.committed(&log::Committed::default());
        for offset in 0..2 {
            // As the runner does it: what was staged for a record that is refused does not happen.
            let mut staged = effects.clone();
            let redo = record("meter.tally.redo.v1", 0, offset, 7, "acme", usage("acme", 1, 10));
            let refused = tally.apply(&redo, &mut staged);
            assert!(matches!(refused, Err(StepError::Reject(reject)) if reject.reason == "usage_overflow"));
        }
    }

    #[test]
    fn a_total_that_would_overflow_is_refused_whole() {
        let mut tally = Tally::default();
        let mut effects = MemoryEffects::default();
        tally.apply(&record(USAGE_RECORDED, 0, 0, 0, "acme", usage("acme", i64::MAX, 10)), &mut effects).unwrap();
        let refused = tally.apply(&record(USAGE_RECORDED, 0, 1, 0, "acme", usage("acme", 1, 10)), &mut effects);
        assert!(matches!(refused, Err(StepError::Reject(reject)) if reject.reason == "usage_overflow"));
        tally.finish(0, &mut effects).unwrap();
        let vex = UsageTotal::decode(effects.take()[1].value.as_ref().unwrap()).unwrap();
        assert_eq!((vex.meter.as_str(), vex.total), ("vex", 1));
    }
}
