//! forward: delivers the canonical bytes of sealed exchanges to the URL that their producer named.
//!
//! | | |
//! |---|---|
//! | reads | `exchange.sealed.v1`, `forward.redo.v1` |
//! | writes | `exchange.delivered.v1`, `forward.dead.v1` |
//! | key | `tenant:trace_id` |
//! | ordering | none between exchanges: each is delivered as soon as its destination lets it |
//! | state | `forward.state.v1`: a `PendingDelivery` for each exchange without an outcome, its attempts among it; a mark for each dead letter that was redone |
//! | guarantee | each outcome is recorded once; a call may be repeated if we die between it and its commit (R8), with the same `webhook-id` |
//! | bad record | `forward.dead.v1`; an unknown schema on the input waits for the deploy; what was redone before: `already_decided` |
//! | crash | pending deliveries are read from the state, their attempts counted, and go on when they are due |
//! | metrics | `forward_attempts_total`, `forward_outcomes_total`, `forward_attempt_seconds`, `forward_pending`, `forward_in_flight` |
//! | configuration | `forward.networks_allowed`, `forward.nat64_prefixes`, `forward.ca_file`; allowlist and secrets of each tenant, never older than at admission |
//!
//! [`owed`] says what a record owes, [`step`] what follows from an attempt, [`lanes`] who is called next; [`dial`] calls,
//! [`courier`] moves records and results in transactions.

pub mod call;
mod courier;
pub mod dial;
pub mod lanes;
pub mod metrics;
pub mod owed;
mod settings;
pub mod step;
pub mod webhook;

pub use courier::run;
pub use dial::{DialOptions, Resolver};
pub use event::webhook::Secret as WebhookSecret;
pub use settings::{CatchUp, Lookup, RetiringSecret, TenantForwardSettings, Tenants, Version};

/// What one courier runs with.
#[derive(Clone)]
pub struct Options {
    /// This instance's place in the group (`log::Member::slot`).
    pub slot: String,
    pub tenants: Tenants,
    pub dial: DialOptions,
    pub retries: step::Retries,
    pub bounds: lanes::Bounds,
}

impl Options {
    /// The defaults for everything that is not the instance's or the tenants' own.
    pub fn new(slot: impl Into<String>, tenants: Tenants) -> Self {
        Self {
            slot: slot.into(),
            tenants,
            dial: DialOptions::default(),
            retries: step::Retries::default(),
            bounds: lanes::Bounds::default(),
        }
    }
}
