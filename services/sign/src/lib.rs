//! Sign: chains, receipts, signatures, and the answer to whoever waits.
//!
//! | card | |
//! |---|---|
//! | reads | `exchange.admitted.v1`, `sign.redo.v1` |
//! | writes | `exchange.sealed.v1`, `exchange.rejected.v1` (chain), `exchange.answer.v1`; `signing_key.v1` |
//! | key | `tenant:trace_id` |
//! | ordering | per trace: a chain has one writer |
//! | state | `sign.state.v1`: the head of each chain, where each exchange was decided; a mark for each dead letter that was redone |
//! | guarantee | one receipt for each admission, in a chain without gap, exactly once |
//! | bad record | `sign.dead.v1`; what was redone before: `already_decided` |
//! | crash | the open transaction is aborted and read again; the same input gives the same bytes |
//! | metrics | `stage_*{step="sign"}` |
//! | configuration | `dedup_window_days` (a chain quiet for longer is closed); key files in `signing/`, looked at once a second |

mod answer;
mod chain;
mod lookup;
mod step;

pub use lookup::SealedLookup;
pub use step::{Settings, Sign};
