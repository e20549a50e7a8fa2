//! Every public key that may still be needed, from `signing_key.v1` (evidence.md section 3, "Keys").

use std::collections::BTreeMap;

use event::wire::{SigningKey, Wire as _};
use log::Record;
use parking_lot::RwLock;
use serde_json::{Value, json};

use crate::follow::Reader;

/// The JWKS in memory, by `kid`.
#[derive(Debug, Default)]
pub struct KeyDirectory {
    by_kid: RwLock<BTreeMap<String, Value>>,
}

impl KeyDirectory {
    /// The JWKS document.
    pub fn document(&self) -> Value {
        let keys: Vec<Value> = self.by_kid.read().values().cloned().collect();
        json!({ "keys": keys })
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
        match serde_json::from_str::<Value>(&key.jwk) {
            // The public members only, whatever else was published by mistake.
            Ok(Value::Object(mut jwk)) => {
                jwk.remove("d");
                self.by_kid.write().insert(key.kid, Value::Object(jwk));
            }
            _ => tracing::error!(offset = record.offset, kid = key.kid, "a signing key is no JWK; it is left out"),
        }
    }

    fn flowing(&self, _flowing: bool) {}
}
