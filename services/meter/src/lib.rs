//! Meter: what was used and what is owed.
//!
//! | card | |
//! |---|---|
//! | reads | `exchange.sealed.v1` (record), `usage.recorded.v1` (tally); their redo topics |
//! | writes | `usage.recorded.v1`, `ledger.command.v1`; `usage.total.v1` |
//! | key | usage by tenant, commands by the account that can refuse, totals by `tenant:meter:month` |
//! | ordering | per trace (record), per tenant (tally) |
//! | state | `meter.state.v1`, `meter.tally.state.v1`: tally: a total by tenant, meter and month; both: a mark for each dead letter that was redone |
//! | guarantee | one usage record for each sealed exchange, one command for each priced one, exactly once, however often a dead letter is redone |
//! | bad record | `meter.dead.v1`, `meter.tally.dead.v1`; what was redone before: `already_decided` |
//! | crash | the open transaction is aborted and read again |
//! | metrics | `stage_*{step="meter"}`, `stage_*{step="meter.tally"}` |
//! | configuration | none |

mod record;
mod tally;

pub use record::Record;
pub use tally::Tally;

use event::wire::{Wire, WireError};
use stage::redone::{Asked, Redone};
use stage::value::{UnknownSchema, read};
use stage::{Effects, StepError};

/// A redo topic is fed by operators, so what this version cannot read goes back to the dead letters (R9).
fn decode<T: Wire>(record: &log::Record, own_input: &str) -> Result<T, StepError> {
    let unknown = if record.topic.as_str() == own_input { UnknownSchema::Wait } else { UnknownSchema::Reject };
    read(record, T::decode, WireError::is_unknown_schema, unknown)
}

/// One sealing of an exchange: after the dedup window the same id may be sealed again, at a later time.
struct Sealing<'a> {
    exchange_id: &'a str,
    tenant: &'a str,
    admitted_at: i64,
}

/// A dead letter is redone once: refuses a record of a redo topic whose exchange was done by one before.
fn claim(
    redone: &mut Redone,
    record: &log::Record,
    own_input: &str,
    sealing: &Sealing<'_>,
    effects: &mut dyn Effects,
) -> Result<(), StepError> {
    if record.topic.as_str() == own_input {
        return Ok(());
    }
    let name = format!("{}:{}", sealing.exchange_id, sealing.admitted_at);
    redone.claim(Asked { record, name: &name, tenant: sealing.tenant }, effects)
}
