//! Which keys are used up, and for how long.

use event::id::ExchangeId;
use event::wire::{DedupEntry, Wire};
use stage::expiring::{self, Window};
use stage::{Effects, StepError};

/// The kind of cell that holds a used key.
pub(crate) const CELL: u8 = b'd';

/// 26 characters say it all: the prefix is the same in every id.
fn name(exchange_id: &ExchangeId) -> &[u8] {
    exchange_id.as_str().trim_start_matches("ex_").as_bytes()
}

/// The entry of this key, if it is still within the window.
pub(crate) fn find(
    window: Window,
    exchange_id: &ExchangeId,
    now: i64,
    effects: &dyn Effects,
) -> Result<Option<DedupEntry>, StepError> {
    let Some(bytes) = expiring::find(window, CELL, name(exchange_id), now, effects)? else { return Ok(None) };
    let entry = DedupEntry::decode(&bytes).map_err(|error| StepError::Wait(error.to_string()))?;
    Ok(window.covers(entry.at, now).then_some(entry))
}

/// Uses the key up.
pub(crate) fn mark(
    window: Window,
    exchange_id: &ExchangeId,
    entry: &DedupEntry,
    effects: &mut dyn Effects,
) -> Result<(), StepError> {
    let bytes = crate::outcome::encode(entry)?;
    expiring::put(window, CELL, name(exchange_id), entry.at, &bytes, effects)?;
    Ok(())
}
