//! Every public key that may still be needed, from `signing_key.v1` (docs/contracts/receipt.md section 3, "Keys").

use std::collections::BTreeMap;

use event::wire::{SigningKey, Wire as _};
use log::Record;
use parking_lot::RwLock;
use proof::{KeyRing, PublicKey};

use crate::follow::Reader;

/// The public keys in memory, the newest publication of each.
#[derive(Debug, Default)]
pub struct KeyDirectory {
    by_kid: RwLock<BTreeMap<String, PublicKey>>,
}

impl KeyDirectory {
    /// The keys, to verify with or to publish as a JWKS.
    pub fn ring(&self) -> KeyRing {
        let mut ring = KeyRing::new();
        for key in self.by_kid.read().values() {
            // One key per kid: nothing here can contradict.
            let _ = ring.insert(key.clone());
        }
        ring
    }

    pub fn is_empty(&self) -> bool {
        self.by_kid.read().is_empty()
    }
}

impl Reader for KeyDirectory {
    fn read(&self, record: &Record) {
        // A tombstone takes nothing away: a key that signed once is needed for ever.
        let Some(value) = &record.value else { return };
        let key = match SigningKey::decode(value) {
            Ok(key) => key,
            Err(error) => {
                tracing::error!(offset = record.offset, %error, "a signing key cannot be read; it is left out");
                return;
            }
        };
        match PublicKey::from_jwk(key.jwk.as_bytes()) {
            Ok(public_key) => {
                self.by_kid.write().insert(key.kid, public_key);
            }
            Err(error) => {
                tracing::error!(offset = record.offset, kid = key.kid, %error, "a signing key is left out");
            }
        }
    }

    fn flowing(&self, _flowing: bool) {}
}
