//! Public keys as JWKs (RFC 7517, RFC 8037) and the ring of those that are trusted (docs/contracts/receipt.md section 3,
//! "Keys").

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::VerifyingKey;
use event::canonical::write_string;
use event::door::{Limits, Refusal, canonicalise};
use event::time::Timestamp;
use serde::{Deserialize, Deserializer};
use sha2::{Digest as _, Sha256};

/// Why a key or a set of keys could not be read.
#[derive(Debug, thiserror::Error)]
pub enum InvalidKey {
    /// It did not pass the JSON door.
    #[error("the key document was refused")]
    Json(#[source] Refusal),
    /// JSON, but no JWK with the members and types that we need.
    #[error("the key document has not the form of a JWK")]
    Form(#[source] serde_json::Error),
    /// Another `kty`, `crv`, `alg` or `use`.
    #[error("the key is not an Ed25519 signature key")]
    Kind,
    /// `x` (or `d`) is not 32 bytes in base64url without padding, or no point of the curve.
    #[error("the key's bytes are not an Ed25519 key")]
    Bytes,
    /// The `kid` belongs to another key.
    #[error("the kid is not the RFC 7638 thumbprint of the key")]
    Thumbprint,
    /// No private JWK. It may be one that was damaged, so nothing of it is told.
    #[error("the document is not a private JWK; what it holds is not shown")]
    NotPrivate,
    /// A private key where only public ones belong.
    #[error("the set holds a private key")]
    Private,
    /// Two keys with one `kid` and different times.
    #[error("the set holds two versions of key {0}")]
    Ambiguous(String),
}

/// A key that signatures are checked with, and when it may have signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    verifying_key: VerifyingKey,
    kid: String,
    nbf: i64,
    exp: Option<i64>,
}

/// Keys by their `kid`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRing(BTreeMap<String, PublicKey>);

/// The members of a JWK that mean something here; others are ignored (RFC 7517 section 4).
#[derive(Deserialize)]
pub(crate) struct JwkText {
    pub(crate) kty: String,
    pub(crate) crv: Option<String>,
    pub(crate) x: Option<String>,
    pub(crate) d: Option<String>,
    pub(crate) kid: Option<String>,
    #[serde(rename = "use")]
    pub(crate) usage: Option<String>,
    pub(crate) alg: Option<String>,
    pub(crate) nbf: Option<i64>,
    /// Absent, or a time: null is neither.
    #[serde(default, deserialize_with = "present")]
    pub(crate) exp: Option<i64>,
}

fn present<'de, D: Deserializer<'de>>(value: D) -> Result<Option<i64>, D::Error> {
    i64::deserialize(value).map(Some)
}

#[derive(Deserialize)]
struct JwksText {
    keys: Vec<JwkText>,
}

/// Base64url without padding to exactly 32 bytes.
pub(crate) fn decode32(text: &str) -> Result<[u8; 32], InvalidKey> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidKey::Bytes)?;
    bytes.try_into().map_err(|_| InvalidKey::Bytes)
}

/// Reads a key document through the JSON door.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(json: &[u8]) -> Result<T, InvalidKey> {
    let mut canonical = Vec::new();
    canonicalise(json, &Limits::default(), &mut canonical).map_err(InvalidKey::Json)?;
    serde_json::from_slice(&canonical).map_err(InvalidKey::Form)
}

impl JwkText {
    fn is_ed25519(&self) -> bool {
        self.kty == "OKP" && self.crv.as_deref() == Some("Ed25519")
    }

    /// The key, if it is a public one and everything that is said about it is true.
    pub(crate) fn to_public_jwk(&self) -> Result<PublicKey, InvalidKey> {
        if self.d.is_some() { Err(InvalidKey::Private) } else { self.to_public_key() }
    }

    /// The public half, if everything that is said about it is true. Only `exp` may be absent (docs/contracts/receipt.md
    /// section 3).
    pub(crate) fn to_public_key(&self) -> Result<PublicKey, InvalidKey> {
        let is_for_signing = self.usage.as_deref() == Some("sig");
        let is_eddsa = self.alg.as_deref() == Some("EdDSA");
        let (Some(x), Some(kid), Some(nbf)) = (&self.x, &self.kid, self.nbf) else { return Err(InvalidKey::Kind) };
        if !(self.is_ed25519() && is_for_signing && is_eddsa) {
            return Err(InvalidKey::Kind);
        }
        let verifying_key = VerifyingKey::from_bytes(&decode32(x)?).map_err(|_| InvalidKey::Bytes)?;
        let public_key = PublicKey::new(verifying_key, nbf, self.exp);
        if public_key.kid == *kid { Ok(public_key) } else { Err(InvalidKey::Thumbprint) }
    }
}

impl PublicKey {
    /// A key with its thumbprint as `kid`. `nbf` and `exp` are Unix seconds, `nbf <= t < exp`.
    pub fn new(verifying_key: VerifyingKey, nbf: i64, exp: Option<i64>) -> Self {
        let kid = thumbprint(&verifying_key);
        Self { verifying_key, kid, nbf, exp }
    }

    /// Reads one JWK; a private one is refused.
    pub fn from_jwk(json: &[u8]) -> Result<Self, InvalidKey> {
        read_json::<JwkText>(json)?.to_public_jwk()
    }

    /// The RFC 7638 thumbprint.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// From when on it signs, Unix seconds.
    pub fn nbf(&self) -> i64 {
        self.nbf
    }

    /// From when on it signs no more, Unix seconds.
    pub fn exp(&self) -> Option<i64> {
        self.exp
    }

    pub(crate) fn verifying_key(&self) -> &VerifyingKey {
        &self.verifying_key
    }

    /// The same key, retired at that second.
    pub fn with_exp(self, exp: Option<i64>) -> Self {
        Self { exp, ..self }
    }

    /// Whether a signature dated so may be of this key: `nbf <= ts < exp`.
    pub fn is_valid_at(&self, ts: Timestamp) -> bool {
        self.nbf <= ts.as_seconds() && self.exp.is_none_or(|exp| ts.as_seconds() < exp)
    }

    /// Appends the JWK in canonical form.
    pub fn write_canonical(&self, out: &mut Vec<u8>) {
        self.write_with(None, out);
    }

    /// The JWK in canonical form.
    pub fn to_jwk(&self) -> String {
        let mut out = Vec::new();
        self.write_canonical(&mut out);
        into_text(out)
    }

    /// Members in JCS order; `d` only for the private form.
    pub(crate) fn write_with(&self, d: Option<&str>, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"alg":"EdDSA","crv":"Ed25519""#);
        if let Some(d) = d {
            out.extend_from_slice(br#","d":"#);
            write_string(d, out);
        }
        if let Some(exp) = self.exp {
            out.extend_from_slice(format!(r#","exp":{exp}"#).as_bytes());
        }
        out.extend_from_slice(br#","kid":"#);
        write_string(&self.kid, out);
        out.extend_from_slice(format!(r#","kty":"OKP","nbf":{},"use":"sig","x":"#, self.nbf).as_bytes());
        write_string(&URL_SAFE_NO_PAD.encode(self.verifying_key.as_bytes()), out);
        out.push(b'}');
    }
}

impl KeyRing {
    /// An empty ring, which trusts nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a JWKS (RFC 7517 section 5). Keys of other kinds are passed over; one of ours that is wrong is an error.
    pub fn from_jwks(json: &[u8]) -> Result<Self, InvalidKey> {
        let text: JwksText = read_json(json)?;
        let mut ring = Self::new();
        for key in text.keys.iter().filter(|key| key.is_ed25519()) {
            ring.insert(key.to_public_jwk()?)?;
        }
        Ok(ring)
    }

    /// Adds a key; refused where the ring holds it with other times.
    pub fn insert(&mut self, key: PublicKey) -> Result<(), InvalidKey> {
        match self.0.get(&key.kid) {
            Some(held) if *held != key => Err(InvalidKey::Ambiguous(key.kid)),
            _ => {
                self.0.insert(key.kid.clone(), key);
                Ok(())
            }
        }
    }

    /// Adds the keys that this ring does not have; those that it has stay as they are.
    pub(crate) fn add_missing(&mut self, other: Self) {
        for (kid, key) in other.0 {
            self.0.entry(kid).or_insert(key);
        }
    }

    /// Whether it trusts nobody.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key with that thumbprint.
    pub fn get(&self, kid: &str) -> Option<&PublicKey> {
        self.0.get(kid)
    }

    /// Every key, the oldest first.
    pub fn keys(&self) -> Vec<&PublicKey> {
        let mut keys: Vec<&PublicKey> = self.0.values().collect();
        keys.sort_by_key(|key| key.nbf);
        keys
    }

    /// The JWKS document, the oldest key first.
    pub fn to_jwks(&self) -> String {
        let mut out = br#"{"keys":["#.to_vec();
        for (index, key) in self.keys().into_iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            key.write_canonical(&mut out);
        }
        out.extend_from_slice(b"]}");
        into_text(out)
    }
}

/// RFC 7638 over the members that RFC 8037 section 2 requires.
fn thumbprint(verifying_key: &VerifyingKey) -> String {
    let x = URL_SAFE_NO_PAD.encode(verifying_key.as_bytes());
    URL_SAFE_NO_PAD.encode(Sha256::digest(format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#)))
}

/// Canonical bytes are UTF-8 by construction.
pub(crate) fn into_text(canonical: Vec<u8>) -> String {
    String::from_utf8_lossy(&canonical).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of RFC 8037 appendix A.2, with its thumbprint of A.3.
    const RFC_8037_X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    const RFC_8037_KID: &str = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";

    fn jwk(extra: &str) -> String {
        let said = r#""use":"sig","alg":"EdDSA","nbf":10"#;
        format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{RFC_8037_X}","kid":"{RFC_8037_KID}",{said}{extra}}}"#)
    }

    #[test]
    fn the_thumbprint_is_that_of_rfc_8037() {
        let key = PublicKey::from_jwk(jwk(r#","exp":20,"other":[1]"#).as_bytes()).unwrap();
        assert_eq!(key.kid(), RFC_8037_KID);
        assert_eq!(PublicKey::from_jwk(key.to_jwk().as_bytes()).unwrap(), key);
    }

    #[test]
    fn a_key_is_valid_from_nbf_until_just_before_exp() {
        let key = PublicKey::from_jwk(jwk(r#","exp":20"#).as_bytes()).unwrap();
        let at = |millis| key.is_valid_at(Timestamp::from_millis(millis).unwrap());
        assert_eq!([9_999, 10_000, 19_999, 20_000].map(at), [false, true, true, false]);
    }

    #[test]
    fn what_is_not_our_kind_of_key_is_refused() {
        let wrong = [
            jwk("").replace("OKP", "EC"),
            jwk("").replace("Ed25519", "X25519"),
            jwk("").replace("sig", "enc"),
            jwk("").replace(r#""use":"sig","#, ""),
            jwk("").replace("EdDSA", "ES256"),
            jwk("").replace(r#""alg":"EdDSA","#, ""),
            jwk(r#","nbf":11"#),
            jwk(r#","exp":null"#),
            jwk(r#","exp":"20""#),
            jwk("").replace(r#","nbf":10"#, ""),
            jwk("").replace(RFC_8037_KID, "other"),
            jwk("").replace("URo\"", "URp\""),
            jwk("").replace("URo\"", "URo=\""),
            jwk("").replace("11qY", ""),
            jwk(r#","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A""#),
            "[]".to_owned(),
        ];
        for text in wrong {
            assert!(PublicKey::from_jwk(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_set_passes_over_other_kinds_and_refuses_contradictions() {
        let other = r#"{"kty":"RSA","n":"AQAB","e":"AQAB","kid":"r"}"#;
        let ring = KeyRing::from_jwks(format!(r#"{{"keys":[{other},{},{}]}}"#, jwk(""), jwk("")).as_bytes()).unwrap();
        assert_eq!(ring.keys().len(), 1);
        assert!(ring.get(RFC_8037_KID).is_some());
        assert_eq!(KeyRing::from_jwks(ring.to_jwks().as_bytes()).unwrap(), ring);
        let two = format!(r#"{{"keys":[{},{}]}}"#, jwk(""), jwk(r#","exp":20"#));
        assert!(matches!(KeyRing::from_jwks(two.as_bytes()), Err(InvalidKey::Ambiguous(_))));
        let private = format!(r#"{{"keys":[{}]}}"#, jwk(r#","d":"x""#));
        assert!(matches!(KeyRing::from_jwks(private.as_bytes()), Err(InvalidKey::Private)));
    }
}
