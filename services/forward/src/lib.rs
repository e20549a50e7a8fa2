//! forward: delivers the canonical bytes of sealed exchanges to the URL that their producer named.
//!
//! | | |
//! |---|---|
//! | reads | `exchange.sealed.v1`, `forward.redo.v1` |
//! | writes | `exchange.delivered.v1`, `forward.dead.v1` |
//! | key | `tenant:trace_id` |
//! | ordering | none between exchanges: each is delivered as soon as its destination lets it |
//! | state | `forward.state.v1`: a `PendingDelivery` for each exchange without an outcome, its attempts among it |
//! | guarantee | each outcome is recorded once; a call may be repeated if we die between it and its commit (R8), with the same `webhook-id` |
//! | bad record | `forward.dead.v1`; an unknown schema on the input waits for the deploy |
//! | crash | pending deliveries are read from the state, their attempts counted, and go on when they are due |
//! | metrics | `forward_attempts_total`, `forward_outcomes_total`, `forward_attempt_seconds`, `forward_pending`, `forward_in_flight` |
//! | configuration | `forward.networks_allowed`, `forward.nat64_prefixes`, `forward.ca_file`; allowlist and secret of each tenant |
//!
//! [`step`] decides (what is due, when again, what the outcome is), [`lanes`] who is called next, [`dial`] calls,
//! [`courier`] moves records and results in transactions.

mod courier;
pub mod dial;
pub mod lanes;
pub mod metrics;
pub mod step;
pub mod webhook;

use std::sync::Arc;

use event::destination::Allowlist;

pub use courier::run;
pub use dial::{DialOptions, Resolver};
pub use event::webhook::Secret as WebhookSecret;

/// What a tenant's deliveries are made with, as it is now and not as it was at admission.
#[derive(Clone, Debug)]
pub struct TenantForwardSettings {
    /// The tenant's entries and the global ones.
    pub allowlist: Allowlist,
    /// Without a secret nothing is sent: the delivery waits until there is one, or is given up.
    pub secret: Option<WebhookSecret>,
}

/// Looks a tenant up. `None`: not known (yet); the delivery waits, or is given up. Must not block.
pub type Tenants = Arc<dyn Fn(&str) -> Option<TenantForwardSettings> + Send + Sync>;

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
