//! audit: the books of R10, by another road than the steps took.
//!
//! | | |
//! |---|---|
//! | reads | every topic of the pipeline, dead letters and redo included, with `Log::tail`; no other service, none of their stores |
//! | writes | `audit.checkpoint.v1`: the books of one tenant and hour, whenever they changed |
//! | key | `tenant:hour` |
//! | ordering | none needed between topics: sources and successors meet in either order |
//! | state | counters, balances and what is open, snapshotted with the positions in `DIR/state/audit.db` about once a second |
//! | guarantee | every record of the topics counts once; a gap is named by topic, partition and offset |
//! | bad record | a later schema: wait for the deploy; damage: counted, and what it should have been is missing |
//! | crash | the next start goes on from the last snapshot; without one it counts anew |
//! | metrics | `audit_records_total`, `audit_checkpoints_total{closed}`, `audit_gaps`, `audit_unreadable_total{topic}` |
//! | configuration | [`Options`], [`CloseOptions`] |
#![forbid(unsafe_code)]

mod auditor;
mod books;
mod check;
mod counts;
mod cut;
mod edge;
mod gap;
mod metrics;
mod place;
mod report;
mod store;
#[cfg(test)]
mod tests;
mod waiting;

use std::path::PathBuf;

use event::topic;
use log::{Fault, Topic};

pub use auditor::{CloseOptions, Options, close, close_and_tell, report, run};
pub use counts::{Counts, Equation};
pub use gap::{Gap, GapKind};
pub use place::{InvalidPlace, Place};
pub use report::{CurrencySum, Report, Row};
pub use waiting::{OpenEquation, Waiting};

/// Why the books cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error("the log failed")]
    Log(#[from] Fault),
    #[error("the snapshot of the books failed")]
    Snapshot(#[from] sqlx::Error),
    #[error("the snapshot of the books is damaged: delete it, and they are counted anew")]
    Damaged(#[source] serde_json::Error),
    #[error("the directory of {} cannot be made", .0.display())]
    State(PathBuf, #[source] std::io::Error),
    #[error("a checkpoint cannot be encoded")]
    Encode(#[source] event::wire::WireError),
    #[error("the thread of the books could not start its runtime")]
    Runtime(#[source] std::io::Error),
    #[error("closing the books was given up before everything had passed the cut; nothing was published")]
    GivenUp,
}

/// Every topic that the books are kept from.
pub fn topics() -> Vec<Topic> {
    let story = topic::STORY.iter().map(|name| Topic::new(name));
    story.chain(topic::dead_topics().chain(topic::redo_topics()).map(|name| Topic::new(&name))).collect()
}
