//! Reads with a defect.

use std::time::Duration;

use super::Defect;
use crate::{Batch, Fault, Position, Tail};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

pub(super) struct PlantedTail {
    pub(super) inner: Box<dyn Tail>,
    pub(super) defect: Defect,
}

/// What a defect does to the records that a poll has added behind the first `before`.
pub(super) fn spoil(defect: Defect, batch: &mut Batch, before: usize) {
    let Some(added) = batch.records.get_mut(before..) else { return };
    match defect {
        Defect::TimeWrong => added.iter_mut().for_each(|record| record.time_ms -= DAY_MS),
        Defect::OrderReversed => added.reverse(),
        _ => {}
    }
}

pub(super) fn wait_for(defect: Defect, wait: Duration) -> Duration {
    if defect == Defect::NeverWaits { Duration::ZERO } else { wait }
}

impl Tail for PlantedTail {
    fn poll(&mut self, wait: Duration, into: &mut Batch) -> Result<bool, Fault> {
        let before = into.records.len();
        let mut is_drained = self.inner.poll(wait_for(self.defect, wait), into)?;
        while self.defect == Defect::Unbounded && !is_drained {
            is_drained = self.inner.poll(wait, into)?;
        }
        spoil(self.defect, into, before);
        Ok(is_drained || self.defect == Defect::AlwaysDrained)
    }

    fn positions(&self) -> Vec<Position> {
        self.inner.positions()
    }

    fn seek(&mut self, at: &[Position]) -> Result<(), Fault> {
        if self.defect == Defect::TailSeekIgnored { Ok(()) } else { self.inner.seek(at) }
    }
}
