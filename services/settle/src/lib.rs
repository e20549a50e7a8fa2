//! Settle: posts what is owed, in the ledger database, and tells the log of it.
//!
//! | card | |
//! |---|---|
//! | reads | `ledger.command.v1`, `settle.redo.v1` |
//! | writes | `settlement.posted.v1`, `settlement.parked.v1` |
//! | key | of commands: the account that can refuse; of settlements: the tenant |
//! | ordering | per account that can refuse, so the volume of a tenant's month is what came before |
//! | state | the ledger database; `relay.position.v1`: how far its outbox is published |
//! | guarantee | each command is decided once and published once, without gaps per ledger partition |
//! | bad record | `settle.dead.v1`, through the outbox; what cannot be priced is parked |
//! | crash | the database says how far commands were decided, the log how far the outbox was published; both go on from there |
//! | metrics | `settle_*` |
//! | configuration | `database` (URL), tariffs (as shipped) |

mod command;
mod metrics;
mod published;
mod relay;
mod restore;
mod step;
mod writer;

use ledger::DatabaseUrl;
use log::{Fault, Log};
use stage::Stop;

pub use command::{COMMAND_KIND, Item, What, content_hash, needs, parse};
pub use step::decide;

/// Bounds of one writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most commands in one database transaction; at most `ledger::BATCH_COMMANDS_MAX`.
    pub batch_commands_max: usize,
    /// The most outbox rows of one partition in one transaction of the log.
    pub relay_rows_max: u32,
    /// How long one poll waits for records.
    pub poll_wait: std::time::Duration,
    /// So many recoveries in a row without progress between them are fatal.
    pub recoveries_max: u32,
    /// So many published rows at a time are held in memory while a restored database catches up.
    pub restore_rows_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            batch_commands_max: ledger::BATCH_COMMANDS_MAX,
            relay_rows_max: 1_000,
            poll_wait: std::time::Duration::from_millis(200),
            recoveries_max: 30,
            restore_rows_max: 100_000,
        }
    }
}

/// What a writer needs to know.
#[derive(Clone, Debug)]
pub struct SettleOptions {
    /// Stable name of this instance's place in the group.
    pub slot: String,
    pub database: DatabaseUrl,
    pub tariffs: billing::Tariffs,
    pub limits: Limits,
}

impl SettleOptions {
    /// The shipped tariffs and limits.
    pub fn new(slot: &str, database: DatabaseUrl) -> Self {
        Self { slot: slot.to_owned(), database, tariffs: billing::Tariffs::builtin(), limits: Limits::default() }
    }
}

/// Settles until `stop`, on the calling thread, which must be no thread of an async runtime.
///
/// # Errors
/// Only `Fault::Fatal`: fenced, misconfigured, a ledger that contradicts the log (`ledger_regressed`), or no progress.
pub fn run(log: &dyn Log, options: &SettleOptions, stop: &Stop) -> Result<(), Fault> {
    writer::run(log, options, stop)
}
