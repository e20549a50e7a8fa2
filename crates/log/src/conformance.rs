//! What every log must keep, as cases that run on any of them through a [`Harness`], and the proof that the cases find
//! what they are for ([`planted`]).
//!
//! A case makes its own topics and groups, so that one broker or one directory serves them all, and waits for
//! conditions, never for time. It assumes no more than the seam says: offsets rise, but need not be dense.

mod cases;
pub mod planted;
mod world;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::{Fault, Log};
use world::World;

pub use cases::cases;

/// What a log needs to be put through the cases.
pub trait Harness {
    /// The log under test. Cases ask anew each time and keep nothing of it across `reopen`.
    fn log(&self) -> Arc<dyn Log>;

    /// Ends the log as a process does that is stopped, and opens it again.
    fn reopen(&self) -> Result<(), Failure>;

    /// A name for a topic or a group that nobody has used.
    fn fresh_name(&self, base: &str) -> String;

    /// Keeps a copy of the group's local state as it is now. False: this log keeps no state apart from its records.
    fn keep_state(&self, group: &str) -> Result<bool, Failure>;

    /// Damages the local state of a group that nobody has joined. False as above.
    fn damage_state(&self, group: &str, damage: Damage) -> Result<bool, Failure>;

    /// Takes the group's committed offsets away, as expiry or a mistake does.
    fn lose_offsets(&self, group: &str) -> Result<(), Failure>;

    /// The longest that anything may take, a member's loss of its partitions included.
    fn wait(&self) -> Duration;
}

/// What happens to local state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Its directory is deleted.
    Lost,
    /// The copy made by `keep_state` is put back.
    Stale,
    /// It says that it belongs to another log.
    Foreign,
}

/// Why a case failed.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure(pub String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self(format!("unexpected fault: {fault}"))
    }
}

/// One thing that a log must keep. The name is a sentence.
pub struct Case {
    pub name: &'static str,
    run: fn(&World<'_>) -> Result<(), Failure>,
}

impl Case {
    pub fn run(&self, harness: &dyn Harness) -> Result<(), Failure> {
        (self.run)(&World::new(harness))
    }
}

/// Runs all cases and answers those that failed, as text for the test that asked.
pub fn failures(harness: &dyn Harness) -> Vec<String> {
    let failed = |case: &Case| case.run(harness).err().map(|failure| format!("{}: {failure}", case.name));
    cases().iter().filter_map(failed).collect()
}
