//! The runner: it moves records through a pure step, one transaction for each batch (R1, R2, R9).
//!
//! A [`Step`] decides; the runner reads, calls, commits, recovers, parks and counts. It knows nothing of exchanges.

pub mod dead_letter;
pub mod expiring;
pub mod redone;
mod runner;
mod staging;
mod stop;
pub mod testing;
pub mod value;

use std::fmt;

use bytes::Bytes;
use log::{Committed, Fault, Position, Record, Topic};

pub use dead_letter::DeadLetter;
pub use runner::{Outcome, RunOptions, run};
pub use staging::Cells;
pub use stop::Stop;

/// One record that a step wants written. The runner adds the header `cause` (R11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emit {
    pub topic: Topic,
    /// `None`: by murmur2 of the key.
    pub partition: Option<u32>,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<(String, Bytes)>,
}

/// A record that can never succeed: it goes to the step's dead letters with this reason, in the same transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Stable code.
    pub reason: &'static str,
    pub detail: String,
    /// The tenant it counts under: `-` for records that proved none (R10).
    pub tenant: String,
}

/// Why a step did not finish a record.
#[derive(Debug)]
pub enum StepError {
    Reject(Reject),
    /// Cannot be decided yet (a schema of a later version, R9): abort, wait, read again.
    Wait(String),
    /// The log failed while reading state.
    Fault(Fault),
}

impl From<Fault> for StepError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Reject> for StepError {
    fn from(reject: Reject) -> Self {
        Self::Reject(reject)
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reject(reject) => write!(f, "{}: {}", reject.reason, reject.detail),
            Self::Wait(why) => write!(f, "wait: {why}"),
            Self::Fault(fault) => fault.fmt(f),
        }
    }
}

/// What a step sees and does: the state of the record's own partition, and what it wants written.
pub trait Effects {
    /// Reads a cell of this partition's state, own `put`s included.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault>;
    fn put(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), Fault>;
    /// See `log::Session::forget`.
    fn forget(&mut self, prefix: &[u8]) -> Result<(), Fault>;
    fn emit(&mut self, emit: Emit) -> Result<(), Fault>;
}

/// A synchronous function from (record, state) to effects: no clock, no randomness, no network (R2).
///
/// What a step keeps in `self` between records is a cache only: `reset` drops it whenever a batch is given up.
pub trait Step: Send {
    fn apply(&mut self, record: &Record, effects: &mut dyn Effects) -> Result<(), StepError>;

    /// After the last record of a batch, once for each partition touched, before the commit.
    fn finish(&mut self, _partition: u32, _effects: &mut dyn Effects) -> Result<(), StepError> {
        Ok(())
    }

    /// The batch is committed; where the outputs ended.
    fn committed(&mut self, _committed: &Committed) {}

    /// Forget everything remembered since the last commit; these partitions (with their next offsets) are ours now.
    fn reset(&mut self, _assigned: &[Position]) {}
}
