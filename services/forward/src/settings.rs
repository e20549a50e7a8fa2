//! What a tenant's deliveries are made with: as it is now, and never older than what the exchange was admitted under.
//!
//! Admission may have read the tenants' configuration on another host and further than this one has. A delivery that
//! went by older settings would be denied for an allowlist that names its host, or signed with a secret that its receiver
//! does not know any more.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use event::destination::Allowlist;
use event::webhook::Secret as WebhookSecret;
use log::Fault;
use tokio::runtime::Runtime;

/// What a tenant's deliveries are made with.
#[derive(Clone, Debug)]
pub struct TenantForwardSettings {
    /// The tenant's entries and the global ones.
    pub allowlist: Allowlist,
    /// Without a secret nothing is sent: the delivery waits until there is one, or is given up.
    pub secret: Option<WebhookSecret>,
    /// The secret before it, during a rotation.
    pub retiring: Option<RetiringSecret>,
}

/// A secret that was replaced: it signs beside the new one, so that a receiver may know either.
#[derive(Clone, Debug)]
pub struct RetiringSecret {
    pub secret: WebhookSecret,
    /// Milliseconds since the Unix epoch. From then on it signs nothing.
    pub until_ms: i64,
}

impl TenantForwardSettings {
    /// The secrets that sign an attempt of that time, the newest first; none without a secret.
    pub(crate) fn secrets_at(&self, at_ms: i64) -> Vec<&WebhookSecret> {
        let Some(secret) = &self.secret else { return Vec::new() };
        let retiring = self.retiring.iter().filter(|retiring| at_ms < retiring.until_ms);
        std::iter::once(secret).chain(retiring.map(|retiring| &retiring.secret)).collect()
    }
}

/// Looks a tenant up. `None`: there is none. Must not block.
pub type Lookup = Arc<dyn Fn(&str) -> Option<TenantForwardSettings> + Send + Sync>;
/// How far the configuration is known, in the numbers of `ExchangeSealed::config_version`. Must not block.
pub type Version = Arc<dyn Fn() -> i64 + Send + Sync>;
/// Reads the configuration up to now. May block.
pub type CatchUp = Arc<dyn Fn() -> Result<(), Fault> + Send + Sync>;

/// The tenants as this process knows them.
#[derive(Clone)]
pub struct Tenants {
    pub lookup: Lookup,
    pub version: Version,
    pub catch_up: CatchUp,
}

impl fmt::Debug for Tenants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenants").field("version", &(self.version)()).finish_non_exhaustive()
    }
}

/// The settings are not known as far as a delivery needs them; they are being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Behind;

/// Looks tenants up, and has the configuration read where it is too old.
pub(crate) struct Settings {
    tenants: Tenants,
    /// What was asked for when the configuration was last read to its end. Where the topic was made anew it ends before
    /// the versions of older exchanges: then there is nothing newer to wait for.
    read_for: Arc<AtomicI64>,
    is_reading: Arc<AtomicBool>,
}

impl Settings {
    pub(crate) fn new(tenants: Tenants) -> Self {
        Self { tenants, read_for: Arc::new(AtomicI64::new(i64::MIN)), is_reading: Arc::default() }
    }

    /// The tenant's settings, at least as new as `version`. Where they are older, they are read on the runtime's own
    /// threads; ask again a little later.
    pub(crate) fn of(
        &self,
        tenant: &str,
        version: i64,
        runtime: &Runtime,
    ) -> Result<Option<TenantForwardSettings>, Behind> {
        let known = (self.tenants.version)().max(self.read_for.load(Ordering::Acquire));
        if known >= version {
            return Ok((self.tenants.lookup)(tenant));
        }
        if !self.is_reading.swap(true, Ordering::AcqRel) {
            let (catch_up, read_for) = (Arc::clone(&self.tenants.catch_up), Arc::clone(&self.read_for));
            let reading = Reading(Arc::clone(&self.is_reading));
            runtime.spawn_blocking(move || {
                match catch_up() {
                    Ok(()) => drop(read_for.fetch_max(version, Ordering::AcqRel)),
                    Err(fault) => tracing::warn!(%fault, "deliveries wait for the tenants' configuration"),
                }
                drop(reading);
            });
        }
        Err(Behind)
    }
}

/// One reading at a time. It ends also where it panics, or is never begun.
struct Reading(Arc<AtomicBool>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
