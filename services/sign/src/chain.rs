//! The state of chains: heads by trace, decisions by exchange.

use event::wire::{ChainHead, Decided, SignState, Wire};
use stage::expiring::{self, Window};
use stage::{Effects, Reject, StepError};

const HEAD: u8 = b'c';
const DECIDED: u8 = b'x';
/// Every kind of cell that expires.
pub(crate) const CELLS: &[u8] = &[HEAD, DECIDED];

fn find(window: Window, kind: u8, name: &str, now: i64, effects: &dyn Effects) -> Result<Option<SignState>, StepError> {
    let Some(bytes) = expiring::find(window, kind, name.as_bytes(), now, effects)? else { return Ok(None) };
    SignState::decode(&bytes).map(Some).map_err(|error| StepError::Wait(error.to_string()))
}

/// The newest head of this trace, closed or not.
pub(crate) fn head(
    window: Window,
    trace_key: &str,
    now: i64,
    effects: &dyn Effects,
) -> Result<Option<ChainHead>, StepError> {
    Ok(find(window, HEAD, trace_key, now, effects)?.and_then(|state| state.head))
}

/// How this exchange was decided, if it was within the window.
pub(crate) fn decided(
    window: Window,
    exchange_id: &str,
    now: i64,
    effects: &dyn Effects,
) -> Result<Option<Decided>, StepError> {
    let found = find(window, DECIDED, exchange_id, now, effects)?.and_then(|state| state.decided);
    Ok(found.filter(|decided| window.covers(decided.at, now)))
}

pub(crate) fn put_head(
    window: Window,
    trace_key: &str,
    head: ChainHead,
    effects: &mut dyn Effects,
) -> Result<(), StepError> {
    let at = head.at;
    let bytes = encode(&SignState { head: Some(head), decided: None })?;
    Ok(expiring::put(window, HEAD, trace_key.as_bytes(), at, &bytes, effects)?)
}

pub(crate) fn put_decided(
    window: Window,
    exchange_id: &str,
    decided: Decided,
    effects: &mut dyn Effects,
) -> Result<(), StepError> {
    let at = decided.at;
    let bytes = encode(&SignState { head: None, decided: Some(decided) })?;
    Ok(expiring::put(window, DECIDED, exchange_id.as_bytes(), at, &bytes, effects)?)
}

pub(crate) fn encode<T: Wire>(value: &T) -> Result<bytes::Bytes, StepError> {
    value.encode().map(bytes::Bytes::from).map_err(|error| {
        StepError::Reject(Reject { reason: "unencodable", detail: error.to_string(), tenant: "-".to_owned() })
    })
}
