//! Verifying what a stranger was given: a receipt, a chain (an array), a bundle (docs/contracts/receipt.md section 4),
//! or lines of receipts.
//!
//! It recomputes from the document's own canonical bytes, by another road than sealing, and never repairs. Lines may be of
//! several chains; each chain then stands there from its first hop on, in its order.

use event::digest::{Digest, digest_of};
use event::door::{Limits, canonicalise};
use event::time::Timestamp;

use crate::chain::{self, Chains, Head, Identity, Link};
use crate::document::{Document, Place};
use crate::jwk::{KeyRing, PublicKey};
use crate::jws::{Detached, Kind};
use crate::receipt::Receipt;
use crate::verdict::{Code, Failure, Verdict, check};
use crate::verifier::{Claimed, Verifier};

pub use crate::document::is_line;

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
    verdict(document, trust, payloads, Labour { at_once: BATCH, check: &|verifier, batch| verifier.check(batch) })
}

/// As [`verify`], where the caller has the receipts of the document checked: thousands at a time, on as many threads as it
/// likes, in batches of some hundreds. `check` answers for each receipt what [`Verifier::check`] does.
pub fn verify_by(document: &[u8], trust: Trust<'_>, payloads: &[Option<&[u8]>], check: &Check<'_>) -> Verdict {
    verdict(document, trust, payloads, Labour { at_once: WAVE, check })
}

/// Checks each of some receipts by itself.
pub type Check<'a> = dyn Fn(&Verifier, &[Claimed<'_>]) -> Vec<Result<Link, Failure>> + 'a;

/// Who checks receipts by themselves, and how many at a time: after each time it may be over.
#[derive(Clone, Copy)]
struct Labour<'a> {
    at_once: usize,
    check: &'a Check<'a>,
}

fn verdict(document: &[u8], trust: Trust<'_>, payloads: &[Option<&[u8]>], labour: Labour<'_>) -> Verdict {
    let (receipts, outcome, has_embedded) = match Document::read(document) {
        Ok(document) => {
            let outcome = check_document(&document, trust, payloads, labour);
            (document.receipts.len(), outcome, document.bundle.is_some())
        }
        Err(failed) => (0, Err(failed), false),
    };
    let trusted = match trust.embedded && has_embedded {
        false => "given",
        true if trust.given.is_empty() => "embedded",
        true => "given+embedded",
    };
    Verdict::new(outcome, receipts, trusted)
}

/// Receipts that are checked together.
const BATCH: usize = 256;
/// Receipts that are given away together: enough for many threads, and few beside what the document takes itself.
const WAVE: usize = 16_384;

fn check_document(
    document: &Document,
    trust: Trust<'_>,
    payloads: &[Option<&[u8]>],
    labour: Labour<'_>,
) -> Result<(), Failed> {
    let of_bundle = |failure| (None, failure);
    let bundle = document.read_bundle().map_err(of_bundle)?;
    let mut ring = trust.given.clone();
    if let Some((text, _, _)) = &bundle {
        let embedded = text.key_ring().map_err(of_bundle)?;
        if trust.embedded {
            ring.add_missing(embedded);
        }
    }
    let verifier = Verifier::new(ring);
    let identity = bundle.as_ref().map(|(text, _, _)| Identity {
        tenant: &text.tenant,
        trace_id: &text.trace_id,
        chain: &text.chain,
    });
    let mut order = Order { place: document.place, identity, first: None, before: None, chains: Chains::new() };
    let receipts: Vec<&[u8]> = document.receipt_texts().collect();
    for (number, texts) in receipts.chunks(labour.at_once).enumerate() {
        let start = number * labour.at_once;
        let payload_of = |index: usize| payloads.get(start + index).copied().flatten();
        let claimed = texts.iter().enumerate().map(|(index, receipt)| Claimed { receipt, payload: payload_of(index) });
        let batch: Vec<Claimed<'_>> = claimed.collect();
        for (index, outcome) in (labour.check)(&verifier, &batch).into_iter().enumerate() {
            outcome.and_then(|link| order.next(link)).map_err(|failure| (Some(start + index), failure))?;
        }
    }
    if let Some((text, exact, jws)) = &bundle {
        if digest_of(&exact.without(&["bundle_cid", "jws"])) != text.bundle_cid {
            let detail = "bundle_cid is not the digest of the bundle";
            return Err((None, Failure::new(Code::HashMismatch, check::BUNDLE_CID, detail)));
        }
        check_signature(jws, verifier.ring(), &exact.without(&["jws"]), text.exported_at).map_err(of_bundle)?;
    }
    Ok(())
}

/// How the receipts of a document must follow each other.
struct Order<'a> {
    place: Place,
    /// What a bundle says about its chain; elsewhere the first receipt does.
    identity: Option<Identity<'a>>,
    first: Option<Link>,
    before: Option<Head>,
    chains: Chains,
}

impl Order<'_> {
    fn next(&mut self, link: Link) -> Result<(), Failure> {
        match self.place {
            Place::Alone => chain::check_alone(&link),
            Place::InStream => self.chains.follow(link),
            Place::InChain => {
                let identity = match self.identity {
                    Some(identity) => identity,
                    None => Identity::of(self.first.get_or_insert_with(|| link.clone())),
                };
                chain::check_next(identity, self.before, &link)?;
                self.before = Some(Head::of(&link));
                Ok(())
            }
        }
    }
}

/// Everything that one receipt shows by itself, in the order of docs/contracts/receipt.md section 4.
pub(crate) fn check_receipt(canonical: &[u8], ring: &KeyRing, payload: Option<&[u8]>) -> Result<Receipt, Failure> {
    let (receipt, exact) = Receipt::from_canonical(canonical)?;
    let jws = Detached::parse(&receipt.jws, Kind::Receipt).map_err(|error| Failure::malformed(error.to_string()))?;
    if digest_of(&exact.without(&["receipt_hash", "jws"])) != receipt.receipt_hash {
        return Err(hash_mismatch());
    }
    check_signature(&jws, ring, &exact.without(&["jws"]), receipt.draft.ts)?;
    if let Some(payload) = payload {
        check_payload((receipt.draft.cid, receipt.draft.request_cid), payload)?;
    }
    Ok(receipt)
}

fn check_signature(jws: &Detached, ring: &KeyRing, content: &[u8], ts: Timestamp) -> Result<(), Failure> {
    let Some(key) = ring.get(jws.kid()) else {
        let detail = format!("key {} is not among the trusted ones", jws.kid());
        return Err(Failure::new(Code::UnknownKey, check::SIGNATURE, detail));
    };
    if !jws.is_signed_by(key, content) {
        return Err(bad_signature());
    }
    check_key_time(key, ts)
}

pub(crate) fn hash_mismatch() -> Failure {
    Failure::new(Code::HashMismatch, check::RECEIPT_HASH, "receipt_hash is not the digest of the receipt")
}

pub(crate) fn bad_signature() -> Failure {
    Failure::new(Code::BadSignature, check::SIGNATURE, "the signature is not of this content and key")
}

pub(crate) fn check_key_time(key: &PublicKey, ts: Timestamp) -> Result<(), Failure> {
    if key.is_valid_at(ts) {
        return Ok(());
    }
    let detail = format!("{ts} lies outside the time in which key {} signs", key.kid());
    Err(Failure::new(Code::KeyExpired, check::KEY_TIME, detail))
}

/// Compares a payload with `cid`; where it is the one of `request_cid`, the detail says so.
pub(crate) fn check_payload((cid, request_cid): (Digest, Digest), payload: &[u8]) -> Result<(), Failure> {
    let limits = Limits { canonical_bytes_max: usize::MAX, ..Limits::default() };
    let mut canonical = Vec::new();
    canonicalise(payload, &limits, &mut canonical)
        .map_err(|refusal| Failure::new(Code::Malformed, check::PAYLOAD, format!("the payload: {refusal}")))?;
    let found = digest_of(&canonical);
    if found == cid {
        return Ok(());
    }
    let hint = if found == request_cid { "; it is the request, before it was mapped" } else { "" };
    Err(Failure::new(Code::CidMismatch, check::PAYLOAD, format!("the payload's digest is {found}{hint}")))
}
