//! Meter: what was used and what is owed.
//!
//! | card | |
//! |---|---|
//! | reads | `exchange.sealed.v1` (record), `usage.recorded.v1` (tally); their redo topics |
//! | writes | `usage.recorded.v1`, `ledger.command.v1`; `usage.total.v1` |
//! | key | usage by tenant, commands by the account that can refuse, totals by `tenant:meter:month` |
//! | ordering | per trace (record), per tenant (tally) |
//! | state | record: none; tally: a total by tenant, meter and month |
//! | guarantee | one usage record for each sealed exchange, one command for each priced one, exactly once |
//! | bad record | `meter.dead.v1`, `meter.tally.dead.v1` |
//! | crash | the open transaction is aborted and read again |
//! | metrics | `stage_*{step="meter"}`, `stage_*{step="meter.tally"}` |
//! | configuration | none |

mod record;
mod tally;

pub use record::Record;
pub use tally::Tally;

use event::wire::{Wire, WireError};
use stage::StepError;
use stage::value::{UnknownSchema, read};

/// A redo topic is fed by operators, so what this version cannot read goes back to the dead letters (DESIGN R9).
fn decode<T: Wire>(record: &log::Record, own_input: &str) -> Result<T, StepError> {
    let unknown = if record.topic.as_str() == own_input { UnknownSchema::Wait } else { UnknownSchema::Reject };
    read(record, T::decode, WireError::is_unknown_schema, unknown)
}
