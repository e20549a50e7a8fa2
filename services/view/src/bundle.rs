//! Bundles: one chain with the keys that it needs, signed by keys of view's own (docs/contracts/receipt.md section 5).

use event::id::{ExchangeId, TenantId, TraceId};
use event::time::Timestamp;
use proof::{BundleDraft, KeyRing, PublicKey, Receipt, SealError};
use signing::{KeyFileError, Keyring};

/// Why a bundle cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BundleError {
    #[error("the bundle keys cannot be read")]
    Keys(#[from] KeyFileError),
    #[error("no bundle key is valid at {0}")]
    NoKey(Timestamp),
    #[error("a stored receipt or key of trace {0} is damaged")]
    Stored(String),
    #[error("the bundle cannot be sealed")]
    Seal(#[from] SealError),
}

/// What goes into a bundle, as the read model has it.
pub(crate) struct Draft<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) trace_id: &'a str,
    pub(crate) chain: &'a str,
    /// JSON texts in hop order.
    pub(crate) receipts: &'a [String],
    /// JSON texts of the public keys that sign receipts.
    pub(crate) keys: &'a [String],
}

impl Draft<'_> {
    /// The sealed bundle as JSON text, signed with the key of that time. Blocks while key files are read.
    pub(crate) fn seal(&self, bundle_keys: &Keyring, now_ms: i64) -> Result<String, BundleError> {
        let damaged = || BundleError::Stored(self.trace_id.to_owned());
        let mut ring = KeyRing::new();
        for key in self.keys {
            let key = PublicKey::from_jwk(key.as_bytes()).map_err(|_| damaged())?;
            ring.insert(key).map_err(|_| damaged())?;
        }
        let receipts = self.receipts.iter().map(|receipt| Receipt::parse(receipt.as_bytes()));
        let exported_at = Timestamp::from_millis(now_ms).map_err(|_| damaged())?;
        let bundle = BundleDraft {
            tenant: TenantId::parse(self.tenant).map_err(|_| damaged())?,
            trace_id: TraceId::parse(self.trace_id).map_err(|_| damaged())?,
            chain: ExchangeId::parse(self.chain).map_err(|_| damaged())?,
            exported_at,
            receipts: receipts.collect::<Result<_, _>>().map_err(|_| damaged())?,
        };
        let keys = bundle_keys.for_time(exported_at)?;
        let signing_key = keys.at(exported_at).ok_or(BundleError::NoKey(exported_at))?;
        Ok(bundle.seal(&ring, signing_key)?.to_json())
    }
}
