//! Verifying what a stranger was given: a receipt, a chain (array or lines) or a bundle (evidence.md section 4).
//!
//! It recomputes from the document's own canonical bytes, by another road than sealing, and never repairs.

use event::digest::digest_of;
use event::door::{Limits, canonicalise};
use event::time::Timestamp;

use crate::chain::{self, Identity};
use crate::document::{Document, Place};
use crate::jwk::KeyRing;
use crate::jws::{Detached, Kind};
use crate::receipt::Receipt;
use crate::verdict::{Code, Failure, Verdict, check};

/// Which keys count.
#[derive(Clone, Copy, Debug)]
pub struct Trust<'a> {
    /// Those that the user named.
    pub given: &'a KeyRing,
    /// Whether a bundle's own keys count too; where both have a key, the given one holds.
    pub embedded: bool,
}

/// A failed check and the receipt it concerns.
type Failed = (Option<usize>, Failure);

/// Verifies a document. `payloads`: the normalised payload of each receipt, as far as they are at hand.
///
/// Receipts are checked in order, each completely before the next; what concerns the bundle as a whole comes last.
pub fn verify(document: &[u8], trust: Trust<'_>, payloads: &[Option<&[u8]>]) -> Verdict {
    let (receipts, outcome, has_embedded) = match Document::read(document) {
        Ok(document) => {
            let outcome = check_document(&document, trust, payloads);
            (document.receipts.len(), outcome, document.bundle.is_some())
        }
        Err(failed) => (0, Err(failed), false),
    };
    let trusted = match trust.embedded && has_embedded {
        false => "given",
        true if trust.given.is_empty() => "embedded",
        true => "given+embedded",
    };
    match outcome {
        Ok(()) => Verdict { verdict: Code::Ok, index: None, check: None, detail: None, receipts, trusted },
        Err((index, Failure { code, check, detail })) => {
            Verdict { verdict: code, index, check: Some(check), detail: Some(detail), receipts, trusted }
        }
    }
}

fn check_document(document: &Document, trust: Trust<'_>, payloads: &[Option<&[u8]>]) -> Result<(), Failed> {
    let of_bundle = |failure| (None, failure);
    let bundle = document.read_bundle().map_err(of_bundle)?;
    let mut ring = trust.given.clone();
    if let Some((text, _, _)) = &bundle {
        let embedded = text.key_ring().map_err(of_bundle)?;
        if trust.embedded {
            ring.add_missing(embedded);
        }
    }
    let mut first: Option<Receipt> = None;
    let mut before: Option<Receipt> = None;
    for (index, canonical) in document.receipt_texts().enumerate() {
        let of_receipt = |failure| (Some(index), failure);
        let payload = payloads.get(index).copied().flatten();
        let receipt = check_receipt(canonical, &ring, payload).map_err(of_receipt)?;
        if document.place == Place::Alone {
            chain::check_alone(&receipt.draft).map_err(of_receipt)?;
        } else {
            let identity = match &bundle {
                Some((text, _, _)) => Identity { tenant: &text.tenant, trace_id: &text.trace_id, chain: &text.chain },
                None => Identity::of(&first.get_or_insert_with(|| receipt.clone()).draft),
            };
            chain::check_next(identity, before.as_ref(), &receipt.draft).map_err(of_receipt)?;
        }
        before = Some(receipt);
    }
    if let Some((text, exact, jws)) = &bundle {
        if digest_of(&exact.without(&["bundle_cid", "jws"])) != text.bundle_cid {
            let detail = "bundle_cid is not the digest of the bundle";
            return Err((None, Failure::new(Code::HashMismatch, check::BUNDLE_CID, detail)));
        }
        check_signature(jws, &ring, &exact.without(&["jws"]), text.exported_at).map_err(of_bundle)?;
    }
    Ok(())
}

/// Everything that one receipt shows by itself, in the order of evidence.md section 4.
fn check_receipt(canonical: &[u8], ring: &KeyRing, payload: Option<&[u8]>) -> Result<Receipt, Failure> {
    let (receipt, exact) = Receipt::from_canonical(canonical)?;
    let jws = Detached::parse(&receipt.jws, Kind::Receipt).map_err(|error| Failure::malformed(error.to_string()))?;
    if digest_of(&exact.without(&["receipt_hash", "jws"])) != receipt.receipt_hash {
        let detail = "receipt_hash is not the digest of the receipt";
        return Err(Failure::new(Code::HashMismatch, check::RECEIPT_HASH, detail));
    }
    check_signature(&jws, ring, &exact.without(&["jws"]), receipt.draft.ts)?;
    if let Some(payload) = payload {
        check_payload(&receipt, payload)?;
    }
    Ok(receipt)
}

fn check_signature(jws: &Detached, ring: &KeyRing, content: &[u8], ts: Timestamp) -> Result<(), Failure> {
    let Some(key) = ring.get(jws.kid()) else {
        let detail = format!("key {} is not among the trusted ones", jws.kid());
        return Err(Failure::new(Code::UnknownKey, check::SIGNATURE, detail));
    };
    if !jws.is_signed_by(key, content) {
        return Err(Failure::new(Code::BadSignature, check::SIGNATURE, "the signature is not of this content and key"));
    }
    if !key.is_valid_at(ts) {
        let detail = format!("{ts} lies outside the time in which key {} signs", jws.kid());
        return Err(Failure::new(Code::KeyExpired, check::KEY_TIME, detail));
    }
    Ok(())
}

fn check_payload(receipt: &Receipt, payload: &[u8]) -> Result<(), Failure> {
    let limits = Limits { canonical_bytes_max: usize::MAX, ..Limits::default() };
    let mut canonical = Vec::new();
    canonicalise(payload, &limits, &mut canonical)
        .map_err(|refusal| Failure::new(Code::Malformed, check::PAYLOAD, format!("the payload: {refusal}")))?;
    let cid = digest_of(&canonical);
    if cid == receipt.draft.cid {
        return Ok(());
    }
    let hint = if cid == receipt.draft.request_cid { "; it is the request, before it was mapped" } else { "" };
    Err(Failure::new(Code::CidMismatch, check::PAYLOAD, format!("the payload's digest is {cid}{hint}")))
}
