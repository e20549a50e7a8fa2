//! The published vectors, and drafts and keys to make others from.

use event::digest::Digest;
use event::id::{ExchangeId, TenantId, TraceId};
use event::time::Timestamp;
use proof::{Bundle, BundleDraft, Draft, KeyRing, Policy, Receipt, SigningKey, Trust, Verdict};
use serde_json::Value;

pub(crate) const NBF: i64 = 1_767_225_600;

pub(crate) fn vectors() -> Value {
    serde_json::from_str(include_str!("../../vectors/evidence-vectors.json")).unwrap()
}

pub(crate) fn signing_key() -> SigningKey {
    SigningKey::from_seed(&[7; 32], NBF, None)
}

pub(crate) fn ring_of(signing_keys: &[&SigningKey]) -> KeyRing {
    let mut ring = KeyRing::new();
    for signing_key in signing_keys {
        ring.insert(signing_key.public().clone()).unwrap();
    }
    ring
}

pub(crate) fn verify(document: &str) -> Verdict {
    let ring = ring_of(&[&signing_key()]);
    proof::verify(document.as_bytes(), Trust { given: &ring, embedded: false }, &[])
}

pub(crate) fn published_receipts() -> Vec<Receipt> {
    let parse = |receipt: &Value| Receipt::parse(receipt.to_string().as_bytes()).unwrap();
    vectors()["bundle"]["receipts"].as_array().unwrap().iter().map(parse).collect()
}

/// Hop 1 of the published chain, not yet sealed.
pub(crate) fn draft() -> Draft {
    let exchange_id = ExchangeId::parse("ex_a46f1z1wmbq2pds9zabtvhng7b").unwrap();
    Draft {
        tenant: TenantId::parse("acme").unwrap(),
        exchange_id: exchange_id.clone(),
        trace_id: TraceId::parse("trace-1").unwrap(),
        chain: exchange_id,
        hop: 1,
        ts: Timestamp::parse("2026-11-21T10:00:00.123Z").unwrap(),
        payload_type: "passthrough".into(),
        target_type: "passthrough".into(),
        request_cid: Digest([1; 32]),
        cid: Digest([1; 32]),
        policy: Policy { reason: "no_forward".into(), host: None },
        fu: 0,
        amount: None,
        prev_receipt_hash: None,
    }
}

/// The draft of the hop after a receipt, a second later.
pub(crate) fn next_draft(before: &Receipt) -> Draft {
    let hop = before.draft.hop + 1;
    Draft {
        exchange_id: ExchangeId::parse(format!("ex_{hop:026}")).unwrap(),
        hop,
        ts: Timestamp::from_millis(before.draft.ts.as_millis() + 1_000).unwrap(),
        prev_receipt_hash: Some(before.receipt_hash),
        ..before.draft.clone()
    }
}

/// A chain of so many hops.
pub(crate) fn chain(hops: usize) -> Vec<Receipt> {
    let signing_key = signing_key();
    let mut receipts = vec![draft().seal(&signing_key).unwrap()];
    while receipts.len() < hops {
        let next = next_draft(receipts.last().unwrap()).seal(&signing_key).unwrap();
        receipts.push(next);
    }
    receipts
}

pub(crate) fn array(receipts: &[Receipt]) -> String {
    let texts: Vec<String> = receipts.iter().map(Receipt::to_json).collect();
    format!("[{}]", texts.join(","))
}

pub(crate) fn bundle(receipts: Vec<Receipt>, ring: &KeyRing, signing_key: &SigningKey) -> Bundle {
    let draft = receipts[0].draft.clone();
    let exported_at = Timestamp::parse("2026-11-21T11:00:00.000Z").unwrap();
    let (tenant, trace_id, chain) = (draft.tenant, draft.trace_id, draft.chain);
    BundleDraft { tenant, trace_id, chain, exported_at, receipts }.seal(ring, signing_key).unwrap()
}
