//! What tests of steps share: state and effects in memory, topics made by hand, an embedded log, and one that fails where a
//! test wants it to.

mod hooked;
mod topics;

pub use hooked::{Hook, HookedLog, Point};
pub use topics::{HandMade, PATIENCE, Place, append, open_log, read, read_all, write};

use std::collections::BTreeMap;

use bytes::Bytes;
use log::{Fault, Record, Topic};

use crate::{Effects, Emit};

/// The state of one partition and everything that was emitted.
#[derive(Clone, Debug, Default)]
pub struct MemoryEffects {
    pub cells: BTreeMap<Vec<u8>, Vec<u8>>,
    pub emitted: Vec<Emit>,
}

impl MemoryEffects {
    /// What was emitted since the last call.
    pub fn take(&mut self) -> Vec<Emit> {
        std::mem::take(&mut self.emitted)
    }
}

impl Effects for MemoryEffects {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        Ok(self.cells.get(key).cloned())
    }

    fn put(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), Fault> {
        match value {
            Some(value) => self.cells.insert(key.to_vec(), value.to_vec()),
            None => self.cells.remove(key),
        };
        Ok(())
    }

    fn forget(&mut self, prefix: &[u8]) -> Result<(), Fault> {
        self.cells.retain(|key, _| !key.starts_with(prefix));
        Ok(())
    }

    fn emit(&mut self, emit: Emit) -> Result<(), Fault> {
        self.emitted.push(emit);
        Ok(())
    }
}

/// A record as a step would see it.
pub fn record(topic: &str, partition: u32, offset: u64, time_ms: i64, key: &str, value: Vec<u8>) -> Record {
    Record {
        topic: Topic::new(topic),
        partition,
        offset,
        time_ms,
        key: Some(Bytes::from(key.to_owned())),
        value: Some(value.into()),
        headers: Vec::new(),
    }
}
