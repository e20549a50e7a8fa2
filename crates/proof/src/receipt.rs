//! The receipt, version 1: its members, its canonical form, and sealing (docs/contracts/receipt.md section 3).

use event::amount::Amount;
use event::canonical::write_string;
use event::digest::{Digest, digest_of};
use event::door::{Limits, canonicalise};
use event::id::{ExchangeId, TenantId, TraceId};
use event::time::Timestamp;
use serde::Deserialize;

use crate::exact::Exact;
use crate::jwk::into_text;
use crate::jws::Kind;
use crate::signing_key::{SealError, SigningKey};
use crate::verdict::Failure;

/// The largest integer that every JSON reader keeps.
pub(crate) const SAFE_INTEGER_MAX: u64 = (1 << 53) - 1;

/// Most receipts fit, so that their text is written without growing.
const WRITTEN_BYTES: usize = 1_280;

const MEMBERS: &[&str] = &[
    "v",
    "tenant",
    "exchange_id",
    "trace_id",
    "chain",
    "hop",
    "ts",
    "type",
    "request_cid",
    "cid",
    "canon",
    "algo",
    "policy",
    "usage",
    "amount",
    "prev_receipt_hash",
    "receipt_hash",
    "jws",
];

/// Where the exchange was allowed to go. A receipt exists only for what was allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// `no_forward` or `allowlisted`.
    pub reason: String,
    /// Lower-case ASCII, without port.
    pub host: Option<String>,
}

/// Everything that a receipt says, before it is sealed. What version 1 fixes (`v`, `canon`, `algo`, `vex`) is not here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    pub tenant: TenantId,
    pub exchange_id: ExchangeId,
    pub trace_id: TraceId,
    /// The `exchange_id` of the chain's first receipt.
    pub chain: ExchangeId,
    /// From 1.
    pub hop: u64,
    /// When the exchange was admitted, or the hop before where that is later.
    pub ts: Timestamp,
    pub payload_type: String,
    pub target_type: String,
    pub request_cid: Digest,
    pub cid: Digest,
    pub policy: Policy,
    /// Forwarding units.
    pub fu: u64,
    pub amount: Option<Amount>,
    /// None at hop 1.
    pub prev_receipt_hash: Option<Digest>,
}

/// A sealed receipt, or one that was read and not yet verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub draft: Draft,
    /// Digest of everything but itself and `jws`.
    pub receipt_hash: Digest,
    /// Detached, over everything but itself.
    pub jws: String,
}

impl Draft {
    /// Seals: the same draft and key give the same bytes, on every replica and replay.
    pub fn seal(self, signing_key: &SigningKey) -> Result<Receipt, SealError> {
        if self.hop > SAFE_INTEGER_MAX || self.fu > SAFE_INTEGER_MAX {
            return Err(SealError::UnsafeInteger);
        }
        let is_first = self.hop == 1;
        if self.hop == 0 || is_first != self.prev_receipt_hash.is_none() || (is_first && self.chain != self.exchange_id)
        {
            return Err(SealError::Link);
        }
        signing_key.check_valid_at(self.ts)?;
        let mut content = Vec::with_capacity(WRITTEN_BYTES);
        let places = self.write(&mut content);
        let receipt_hash = digest_of(&content);
        places.insert_receipt_hash(&receipt_hash, &mut content);
        let jws = signing_key.sign(Kind::Receipt, &content);
        Ok(Receipt { draft: self, receipt_hash, jws })
    }

    /// Members in JCS order, written directly: sealing is the hot path. What comes with the seal has its place in it.
    fn write(&self, out: &mut Vec<u8>) -> Places {
        out.extend_from_slice(br#"{"algo":"sha256","amount":"#);
        match &self.amount {
            Some(amount) => amount.write_canonical(out),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(br#","canon":"RFC8785""#);
        write_text("chain", self.chain.as_str(), out);
        write_digest("cid", &self.cid, out);
        write_text("exchange_id", self.exchange_id.as_str(), out);
        write_raw("hop", &self.hop.to_string(), out);
        let jws = out.len();
        out.extend_from_slice(br#","policy":{"allowed":true"#);
        match &self.policy.host {
            Some(host) => write_text("host", host, out),
            None => write_raw("host", "null", out),
        }
        write_text("reason", &self.policy.reason, out);
        out.push(b'}');
        match &self.prev_receipt_hash {
            Some(hash) => write_digest("prev_receipt_hash", hash, out),
            None => write_raw("prev_receipt_hash", "null", out),
        }
        let receipt_hash = out.len();
        write_digest("request_cid", &self.request_cid, out);
        write_text("tenant", self.tenant.as_str(), out);
        write_text("trace_id", self.trace_id.as_str(), out);
        write_text("ts", &self.ts.to_string(), out);
        out.extend_from_slice(br#","type":{"payload":"#);
        write_string(&self.payload_type, out);
        write_text("target", &self.target_type, out);
        out.extend_from_slice(br#"},"usage":{"fu":"#);
        out.extend_from_slice(self.fu.to_string().as_bytes());
        out.extend_from_slice(br#","vex":1},"v":1}"#);
        Places { jws, receipt_hash }
    }
}

/// Where the members belong that come with the seal: the offsets before them in what [`Draft::write`] wrote.
#[derive(Clone, Copy)]
struct Places {
    jws: usize,
    receipt_hash: usize,
}

impl Places {
    fn insert_receipt_hash(self, receipt_hash: &Digest, out: &mut Vec<u8>) {
        let mut member = Vec::new();
        write_digest("receipt_hash", receipt_hash, &mut member);
        out.splice(self.receipt_hash..self.receipt_hash, member);
    }

    /// After the receipt's hash, which stands behind it.
    fn insert_jws(self, jws: &str, out: &mut Vec<u8>) {
        let mut member = Vec::new();
        write_text("jws", jws, &mut member);
        out.splice(self.jws..self.jws, member);
    }
}

impl Receipt {
    /// Appends the canonical form.
    pub fn write_canonical(&self, out: &mut Vec<u8>) {
        let places = self.draft.write(out);
        places.insert_receipt_hash(&self.receipt_hash, out);
        places.insert_jws(&self.jws, out);
    }

    /// The canonical form as text: what records hold and answers give.
    pub fn to_json(&self) -> String {
        let mut out = Vec::with_capacity(WRITTEN_BYTES);
        self.write_canonical(&mut out);
        into_text(out)
    }

    /// Reads a receipt in any spelling that the JSON door lets in. Nothing is verified but its form.
    pub fn parse(json: &[u8]) -> Result<Self, Failure> {
        let mut canonical = Vec::new();
        canonicalise(json, &Limits::default(), &mut canonical)
            .map_err(|refusal| Failure::malformed(refusal.to_string()))?;
        Self::from_canonical(&canonical).map(|(receipt, _)| receipt)
    }

    /// Reads canonical text: members exactly as docs/contracts/receipt.md section 3 has them.
    pub(crate) fn from_canonical(canonical: &[u8]) -> Result<(Self, Exact<'_>), Failure> {
        let exact = Exact::read(canonical, "the receipt", MEMBERS)?;
        Exact::read(exact.value("type"), "type", &["payload", "target"])?;
        Exact::read(exact.value("policy"), "policy", &["allowed", "reason", "host"])?;
        Exact::read(exact.value("usage"), "usage", &["vex", "fu"])?;
        if exact.value("amount") != b"null" {
            Exact::read(exact.value("amount"), "amount", &["currency", "minor", "payee"])?;
        }
        let text: ReceiptText =
            serde_json::from_slice(canonical).map_err(|error| Failure::malformed(format!("the receipt: {error}")))?;
        Ok((text.into_receipt()?, exact))
    }
}

fn write_name(name: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn write_raw(name: &str, json: &str, out: &mut Vec<u8>) {
    write_name(name, out);
    out.extend_from_slice(json.as_bytes());
}

fn write_text(name: &str, text: &str, out: &mut Vec<u8>) {
    write_name(name, out);
    write_string(text, out);
}

fn write_digest(name: &str, digest: &Digest, out: &mut Vec<u8>) {
    write_name(name, out);
    out.extend_from_slice(b"\"sha256:");
    let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    for byte in digest.as_bytes() {
        out.extend_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
    out.push(b'"');
}

#[derive(Deserialize)]
struct ReceiptText {
    v: u64,
    tenant: TenantId,
    exchange_id: ExchangeId,
    trace_id: TraceId,
    chain: ExchangeId,
    hop: u64,
    ts: Timestamp,
    #[serde(rename = "type")]
    types: TypeText,
    request_cid: Digest,
    cid: Digest,
    canon: String,
    algo: String,
    policy: PolicyText,
    usage: UsageText,
    amount: Option<Amount>,
    prev_receipt_hash: Option<Digest>,
    receipt_hash: Digest,
    jws: String,
}

#[derive(Deserialize)]
struct TypeText {
    payload: String,
    target: String,
}

#[derive(Deserialize)]
struct PolicyText {
    allowed: bool,
    reason: String,
    host: Option<String>,
}

#[derive(Deserialize)]
struct UsageText {
    vex: u64,
    fu: u64,
}

impl ReceiptText {
    fn into_receipt(self) -> Result<Receipt, Failure> {
        let fixed = [
            (self.v == 1, "v is not 1"),
            (self.canon == "RFC8785", "canon is not RFC8785"),
            (self.algo == "sha256", "algo is not sha256"),
            (self.hop > 0, "hop is 0"),
            (self.policy.allowed, "policy.allowed is not true"),
            (self.usage.vex == 1, "usage.vex is not 1"),
        ];
        if let Some((_, detail)) = fixed.iter().find(|(holds, _)| !holds) {
            return Err(Failure::malformed(*detail));
        }
        let draft = Draft {
            tenant: self.tenant,
            exchange_id: self.exchange_id,
            trace_id: self.trace_id,
            chain: self.chain,
            hop: self.hop,
            ts: self.ts,
            payload_type: self.types.payload,
            target_type: self.types.target,
            request_cid: self.request_cid,
            cid: self.cid,
            policy: Policy { reason: self.policy.reason, host: self.policy.host },
            fu: self.usage.fu,
            amount: self.amount,
            prev_receipt_hash: self.prev_receipt_hash,
        };
        Ok(Receipt { draft, receipt_hash: self.receipt_hash, jws: self.jws })
    }
}
