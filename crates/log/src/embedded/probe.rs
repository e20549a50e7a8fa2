//! A window for the tests of durability; without the feature `conformance` it is closed and empty.

use fjall::PersistMode;

/// What durability costs us: `fdatasync` of the journal, once a round.
const DURABLE: PersistMode = PersistMode::SyncData;

/// Watches every write, and can leave out the sync: the planted defect that the durability test must catch.
#[derive(Clone, Default)]
#[cfg_attr(not(feature = "conformance"), expect(unreachable_pub, reason = "public with the feature only"))]
pub struct Probe {
    /// Called after each write that was synced, before anybody hears of it.
    #[cfg(feature = "conformance")]
    pub after_sync: Option<std::sync::Arc<dyn Fn() + Send + Sync>>,
    #[cfg(feature = "conformance")]
    pub skips_sync: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl Probe {
    #[cfg_attr(not(feature = "conformance"), expect(clippy::unused_self, reason = "the probe is closed"))]
    pub(super) fn persist_mode(&self) -> Option<PersistMode> {
        #[cfg(feature = "conformance")]
        if self.skips_sync.load(std::sync::atomic::Ordering::Acquire) {
            return None;
        }
        Some(DURABLE)
    }

    #[cfg_attr(not(feature = "conformance"), expect(clippy::unused_self, reason = "the probe is closed"))]
    pub(super) fn written(&self, mode: Option<PersistMode>) {
        #[cfg(feature = "conformance")]
        if let (Some(after_sync), Some(_)) = (&self.after_sync, mode) {
            after_sync();
        }
        #[cfg(not(feature = "conformance"))]
        let _ = mode;
    }
}
