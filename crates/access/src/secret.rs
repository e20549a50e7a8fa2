//! Text that must not be printed.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A secret. `Debug` hides it and there is no `Display`; serialisation shows it, for the store and its topic.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself: to sign with it, or to show it once to whom it belongs.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// A webhook secret as Standard Webhooks writes it: `whsec_` and 32 random bytes in base64.
    pub fn webhook() -> Self {
        use base64::Engine as _;
        Self(format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode(random_bytes())))
    }

    /// The secret of a foreign producer: `csp_` and 256 random bits in base62. The HMAC key is this whole text, as bytes.
    pub fn producer() -> Self {
        Self(format!("csp_{}", crate::api_key::base62_256(random_bytes())))
    }
}

/// 256 bits of the operating system's randomness.
pub(crate) fn random_bytes() -> [u8; 32] {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes);
    bytes
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_hides_itself() {
        assert_eq!(format!("{:?}", Secret::new("whsec_abc")), "Secret(…)");
    }

    #[test]
    fn secrets_differ_and_have_their_form() {
        assert_ne!(Secret::webhook(), Secret::webhook());
        assert_eq!(Secret::producer().expose().len(), 4 + 43);
        assert!(Secret::webhook().expose().starts_with("whsec_"));
    }
}
