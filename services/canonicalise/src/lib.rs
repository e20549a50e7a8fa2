//! Canonicalise: admits an exchange once, or refuses it with a reason.
//!
//! | card | |
//! |---|---|
//! | reads | `exchange.requested.v1`, `canonicalise.redo.v1` |
//! | writes | `exchange.admitted.v1`, `exchange.rejected.v1`, `exchange.answer.v1` (refusals), `exchange.requested.v1` (records that lay in the wrong partition) |
//! | key | `tenant:idempotency_key` in, `tenant:trace_id` out |
//! | ordering | per idempotency key |
//! | state | `canonicalise.state.v1`: keys used within the window, and the last admission time |
//! | guarantee | one admission or one refusal for each (tenant, key) within the window, exactly once |
//! | bad record | `canonicalise.dead.v1`; what proves no tenant counts under `-` |
//! | crash | the open transaction is aborted and read again |
//! | metrics | `stage_*{step="canonicalise"}` |
//! | configuration | `dedup_window_days`; tenants and payload types by `tenant.config.v1` |

mod authenticity;
mod dedup;
mod outcome;
mod step;

pub use step::{Canonicalise, Refresh, Settings};
