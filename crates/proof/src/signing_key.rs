//! The private half: a seed, its times, and the file form as a private JWK (RFC 8037 section 2). Files are the service's job.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::Signer as _;
use event::time::Timestamp;

use crate::jwk::{InvalidKey, JwkText, PublicKey, decode32, into_text, read_json};
use crate::jws::{self, Kind};

/// Why something was not sealed. Nothing was signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The key may not sign what is dated so.
    #[error("key {kid} does not sign at {ts}")]
    KeyNotValid {
        /// The thumbprint.
        kid: String,
        /// The receipt's or bundle's time.
        ts: Timestamp,
    },
    /// Hop 1 has no hop before and names its own chain; every other hop has one.
    #[error("hop, chain and prev_receipt_hash do not fit together")]
    Link,
    /// A number that JSON readers would round (docs/contracts/receipt.md section 1).
    #[error("a number is beyond 2^53-1")]
    UnsafeInteger,
    /// A bundle without receipts, or with one that is not of its chain.
    #[error("the receipts are not those of one chain in hop order")]
    Receipts,
    /// A signature whose key is not in the ring.
    #[error("the key ring lacks key {0}")]
    UnknownKey(String),
}

/// A key that seals. `Debug` shows its public half only.
#[derive(Clone)]
pub struct SigningKey {
    private: ed25519_dalek::SigningKey,
    public: PublicKey,
    receipt_header: String,
    bundle_header: String,
}

impl SigningKey {
    /// From 32 random bytes that the caller drew. `nbf` and `exp` are Unix seconds.
    pub fn from_seed(seed: &[u8; 32], nbf: i64, exp: Option<i64>) -> Self {
        let private = ed25519_dalek::SigningKey::from_bytes(seed);
        let public = PublicKey::new(private.verifying_key(), nbf, exp);
        let receipt_header = jws::encoded_header(Kind::Receipt, public.kid());
        let bundle_header = jws::encoded_header(Kind::Bundle, public.kid());
        Self { private, public, receipt_header, bundle_header }
    }

    /// Reads the private JWK; its public half and `kid` must belong to it.
    pub fn from_jwk(json: &[u8]) -> Result<Self, InvalidKey> {
        let text: JwkText = read_json(json).map_err(|_| InvalidKey::NotPrivate)?;
        let said = text.to_public_key()?;
        let seed = decode32(text.d.as_deref().ok_or(InvalidKey::Bytes)?)?;
        let signing_key = Self::from_seed(&seed, said.nbf(), said.exp());
        if signing_key.public == said { Ok(signing_key) } else { Err(InvalidKey::Bytes) }
    }

    /// The private JWK: a secret, for a file of mode 0400 and nothing else.
    pub fn to_private_jwk(&self) -> String {
        let mut out = Vec::new();
        self.public.write_with(Some(&URL_SAFE_NO_PAD.encode(self.private.as_bytes())), &mut out);
        into_text(out)
    }

    /// The half that everybody may have.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The same key, retired at that second.
    pub fn with_exp(self, exp: Option<i64>) -> Self {
        Self { public: self.public.with_exp(exp), ..self }
    }

    /// Whether it may sign what is dated so.
    pub(crate) fn check_valid_at(&self, ts: Timestamp) -> Result<(), SealError> {
        if self.public.is_valid_at(ts) {
            return Ok(());
        }
        Err(SealError::KeyNotValid { kid: self.public.kid().to_owned(), ts })
    }

    /// The detached JWS over some canonical bytes.
    pub(crate) fn sign(&self, kind: Kind, content: &[u8]) -> String {
        let header = match kind {
            Kind::Receipt => &self.receipt_header,
            Kind::Bundle => &self.bundle_header,
        };
        jws::compact(header, &self.private.sign(jws::signing_input(header, content).as_bytes()))
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("public", &self.public).field("private", &"hidden").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_jwk_comes_back_and_its_debug_hides_it() {
        let signing_key = SigningKey::from_seed(&[7; 32], 5, Some(9));
        let json = signing_key.to_private_jwk();
        let read = SigningKey::from_jwk(json.as_bytes()).unwrap();
        assert_eq!(read.public(), signing_key.public());
        assert_eq!(read.to_private_jwk(), json);
        let shown = format!("{signing_key:?}");
        assert!(
            shown.contains("hidden") && !shown.contains(&URL_SAFE_NO_PAD.encode([7; 32])) && !shown.contains("7, 7, 7")
        );
    }

    #[test]
    fn a_private_jwk_whose_halves_differ_is_refused() {
        let json = SigningKey::from_seed(&[7; 32], 5, None).to_private_jwk();
        let other = SigningKey::from_seed(&[8; 32], 5, None).to_private_jwk();
        let d = |json: &str| json.split(r#""d":""#).nth(1).unwrap()[..43].to_owned();
        assert!(SigningKey::from_jwk(json.replace(&d(&json), &d(&other)).as_bytes()).is_err());
        let without_d = json.replace(&format!(r#""d":"{}","#, d(&json)), "");
        assert!(SigningKey::from_jwk(without_d.as_bytes()).is_err());
    }
}
