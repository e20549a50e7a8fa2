//! The bundle: one chain with the keys that it needs, signed as a whole (docs/contracts/receipt.md section 5).

use event::canonical::write_string;
use event::digest::{Digest, digest_of};
use event::id::{ExchangeId, TenantId, TraceId};
use event::time::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::chain::{self, Head, Identity, Link};
use crate::exact::Exact;
use crate::jwk::{JwkText, KeyRing, PublicKey, into_text};
use crate::jws::{Detached, Kind};
use crate::receipt::Receipt;
use crate::signing_key::{SealError, SigningKey};
use crate::verdict::Failure;

const MEMBERS: &[&str] = &["v", "tenant", "trace_id", "chain", "exported_at", "receipts", "keys", "bundle_cid", "jws"];

/// A bundle before it is sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleDraft {
    pub tenant: TenantId,
    pub trace_id: TraceId,
    pub chain: ExchangeId,
    pub exported_at: Timestamp,
    /// In hop order, from hop 1, at least one.
    pub receipts: Vec<Receipt>,
}

/// A sealed bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    pub draft: BundleDraft,
    /// The keys of the receipts and of the bundle, in order of first use.
    pub keys: Vec<PublicKey>,
    /// Digest of everything but itself and `jws`.
    pub bundle_cid: Digest,
    /// Detached, over everything but itself.
    pub jws: String,
}

impl BundleDraft {
    /// Takes the keys that were used from the ring and seals. The same draft, ring and key give the same bytes.
    pub fn seal(self, ring: &KeyRing, signing_key: &SigningKey) -> Result<Bundle, SealError> {
        self.check_chain()?;
        signing_key.check_valid_at(self.exported_at)?;
        let keys = self.used_keys(ring, signing_key)?;
        let mut content = Vec::new();
        self.write(&keys, None, None, &mut content);
        let bundle_cid = digest_of(&content);
        content.clear();
        self.write(&keys, Some(&bundle_cid), None, &mut content);
        let jws = signing_key.sign(Kind::Bundle, &content);
        Ok(Bundle { draft: self, keys, bundle_cid, jws })
    }

    fn check_chain(&self) -> Result<(), SealError> {
        let identity = Identity { tenant: &self.tenant, trace_id: &self.trace_id, chain: &self.chain };
        let mut before = None;
        for receipt in &self.receipts {
            let link = Link::of(receipt);
            chain::check_next(identity, before, &link).map_err(|_| SealError::Receipts)?;
            before = Some(Head::of(&link));
        }
        before.map(|_| ()).ok_or(SealError::Receipts)
    }

    fn used_keys(&self, ring: &KeyRing, signing_key: &SigningKey) -> Result<Vec<PublicKey>, SealError> {
        let mut keys: Vec<PublicKey> = Vec::new();
        for receipt in &self.receipts {
            let jws = Detached::parse(&receipt.jws, Kind::Receipt).map_err(|_| SealError::Receipts)?;
            if !keys.iter().any(|key| key.kid() == jws.kid()) {
                keys.push(ring.get(jws.kid()).ok_or_else(|| SealError::UnknownKey(jws.kid().to_owned()))?.clone());
            }
        }
        if !keys.iter().any(|key| key.kid() == signing_key.public().kid()) {
            keys.push(signing_key.public().clone());
        }
        Ok(keys)
    }

    /// Members in JCS order.
    fn write(&self, keys: &[PublicKey], bundle_cid: Option<&Digest>, jws: Option<&str>, out: &mut Vec<u8>) {
        out.push(b'{');
        if let Some(bundle_cid) = bundle_cid {
            out.extend_from_slice(format!(r#""bundle_cid":"{bundle_cid}","#).as_bytes());
        }
        out.extend_from_slice(format!(r#""chain":"{}","exported_at":"{}""#, self.chain, self.exported_at).as_bytes());
        if let Some(jws) = jws {
            out.extend_from_slice(br#","jws":"#);
            write_string(jws, out);
        }
        out.extend_from_slice(br#","keys":["#);
        write_list(keys, PublicKey::write_canonical, out);
        out.extend_from_slice(br#"],"receipts":["#);
        write_list(&self.receipts, Receipt::write_canonical, out);
        // The alphabets of tenants and traces need no escapes.
        out.extend_from_slice(
            format!(r#"],"tenant":"{}","trace_id":"{}","v":1}}"#, self.tenant, self.trace_id).as_bytes(),
        );
    }
}

impl Bundle {
    /// The canonical form as text.
    pub fn to_json(&self) -> String {
        let mut out = Vec::new();
        self.draft.write(&self.keys, Some(&self.bundle_cid), Some(&self.jws), &mut out);
        into_text(out)
    }
}

fn write_list<T>(items: &[T], write: fn(&T, &mut Vec<u8>), out: &mut Vec<u8>) {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(item, out);
    }
}

/// A bundle as it was received, but for its receipts.
#[derive(Deserialize)]
pub(crate) struct BundleText {
    v: u64,
    pub(crate) tenant: TenantId,
    pub(crate) trace_id: TraceId,
    pub(crate) chain: ExchangeId,
    pub(crate) exported_at: Timestamp,
    #[serde(rename = "receipts")]
    _receipts: Vec<IgnoredAny>,
    keys: Vec<JwkText>,
    pub(crate) bundle_cid: Digest,
    jws: String,
}

impl BundleText {
    /// Reads canonical text: members exactly as docs/contracts/receipt.md section 5 has them.
    pub(crate) fn from_canonical(canonical: &[u8]) -> Result<(Self, Exact<'_>), Failure> {
        let exact = Exact::read(canonical, "the bundle", MEMBERS)?;
        let text: Self =
            serde_json::from_slice(canonical).map_err(|error| Failure::malformed(format!("the bundle: {error}")))?;
        if text.v == 1 { Ok((text, exact)) } else { Err(Failure::malformed("v is not 1")) }
    }

    /// The keys that the bundle brings along; all of them must be well formed.
    pub(crate) fn key_ring(&self) -> Result<KeyRing, Failure> {
        let mut ring = KeyRing::new();
        for key in &self.keys {
            let inserted = key.to_public_jwk().and_then(|key| ring.insert(key));
            inserted.map_err(|error| Failure::malformed(format!("keys: {error}")))?;
        }
        Ok(ring)
    }

    pub(crate) fn jws(&self) -> Result<Detached, Failure> {
        Detached::parse(&self.jws, Kind::Bundle).map_err(|error| Failure::malformed(error.to_string()))
    }
}
