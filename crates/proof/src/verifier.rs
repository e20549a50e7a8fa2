//! Verifying many receipts with few keys: what each shows by itself, a batch at a time.
//!
//! Batches and tables only save time. Each verdict is that of checking the receipt alone and strictly: a receipt in an unusual
//! spelling, of an unusual key or with an unusual header is handed to that slower road, and the fast one decides by the same
//! equation (`multiples.rs`).

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use ed25519_dalek::Signature;
use event::digest::Digest;
use event::door::canonicalise;
use sha2::{Digest as _, Sha512};

use crate::chain::Link;
use crate::document::{LIMITS, refused};
use crate::jwk::{KeyRing, PublicKey};
use crate::jws::{Kind, decode_signature, encoded_header, write_signing_input};
use crate::multiples::{Claim, Multiples, settle};
use crate::plain::Plain;
use crate::verdict::Failure;
use crate::verify::{bad_signature, check_key_time, check_payload, check_receipt, hash_mismatch};

/// So many receipts of a key are checked one by one before its table is worth its making.
const TABLE_AFTER: usize = 96;
/// A table takes 640 KiB; further keys do without.
const TABLES_MAX: usize = 16;

/// A receipt as it was given, in any spelling, and the normalised payload where it is at hand.
#[derive(Clone, Copy, Debug)]
pub struct Claimed<'a> {
    pub receipt: &'a [u8],
    pub payload: Option<&'a [u8]>,
}

/// Checks receipts against a ring of keys. One serves many threads.
pub struct Verifier {
    ring: KeyRing,
    /// By the header of their receipts, which has one spelling.
    by_header: BTreeMap<String, Key>,
    of_base: OnceLock<Multiples>,
    tables: AtomicUsize,
}

struct Key {
    public: PublicKey,
    seen: AtomicUsize,
    /// Of the negated key; none where the key is of small order, and signs nothing.
    of_minus_key: OnceLock<Option<Multiples>>,
}

/// A receipt that hangs on its signature alone.
struct Pending<'v> {
    /// Its place in the batch.
    index: usize,
    key: &'v PublicKey,
    /// `cid` and `request_cid`.
    cids: (Digest, Digest),
}

/// What is known about a receipt before the signatures of its batch are settled.
struct Begun<'v> {
    outcome: Result<Link, Failure>,
    /// Where the outcome is right only if this claim holds.
    pending: Option<(Pending<'v>, Claim)>,
}

impl Begun<'_> {
    fn decided(outcome: Result<Link, Failure>) -> Self {
        Self { outcome, pending: None }
    }
}

/// Used again for each receipt.
#[derive(Default)]
struct Buffers {
    content: Vec<u8>,
    input: String,
}

/// A receipt in canonical bytes, with its place in the batch.
struct Subject<'a> {
    index: usize,
    canonical: &'a [u8],
    plain: Plain<'a>,
    payload: Option<&'a [u8]>,
}

impl Verifier {
    /// For the keys of this ring.
    pub fn new(ring: KeyRing) -> Self {
        let key = |public: &PublicKey| {
            let key = Key { public: public.clone(), seen: AtomicUsize::new(0), of_minus_key: OnceLock::new() };
            (encoded_header(Kind::Receipt, public.kid()), key)
        };
        let by_header = ring.keys().into_iter().map(key).collect();
        Self { ring, by_header, of_base: OnceLock::new(), tables: AtomicUsize::new(0) }
    }

    /// The keys that count.
    pub fn ring(&self) -> &KeyRing {
        &self.ring
    }

    /// What each of these receipts shows by itself, in the order of docs/contracts/receipt.md section 4; its place among
    /// others is left to
    /// [`crate::Chains`]. Some hundreds at a time are enough.
    pub fn check(&self, batch: &[Claimed<'_>]) -> Vec<Result<Link, Failure>> {
        let mut outcomes = Vec::with_capacity(batch.len());
        let (mut pending, mut claims) = (Vec::new(), Vec::new());
        let mut buffers = Buffers::default();
        for (index, claimed) in batch.iter().enumerate() {
            let begun = self.begin(index, claimed, &mut buffers);
            outcomes.push(begun.outcome);
            if let Some((waiting, claim)) = begun.pending {
                pending.push(waiting);
                claims.push(claim);
            }
        }
        for (Pending { index, key, cids }, holds) in pending.into_iter().zip(settle(&claims)) {
            let (Some(outcome), Some(claimed)) = (outcomes.get_mut(index), batch.get(index)) else { continue };
            let checked = match outcome {
                Ok(link) if holds => check_after_signature(key, link, cids, claimed.payload),
                _ => Err(bad_signature()),
            };
            if let Err(failure) = checked {
                *outcome = Err(failure);
            }
        }
        outcomes
    }

    fn begin<'v>(&'v self, index: usize, claimed: &Claimed<'_>, buffers: &mut Buffers) -> Begun<'v> {
        let (text, payload) = (claimed.receipt.trim_ascii(), claimed.payload);
        if let Some(plain) = Plain::read(text) {
            return self.weigh(Subject { index, canonical: text, plain, payload }, buffers);
        }
        let mut canonical = Vec::new();
        if let Err(refusal) = canonicalise(text, &LIMITS, &mut canonical) {
            return Begun::decided(Err(refused(&refusal)));
        }
        match Plain::read(&canonical) {
            Some(plain) => self.weigh(Subject { index, canonical: &canonical, plain, payload }, buffers),
            None => Begun::decided(self.one(&canonical, payload)),
        }
    }

    fn weigh<'v>(&'v self, subject: Subject<'_>, buffers: &mut Buffers) -> Begun<'v> {
        let Subject { index, canonical, plain, payload } = subject;
        let known = plain.jws.split_once("..").and_then(|(header, signature)| {
            let (header, key) = self.by_header.get_key_value(header)?;
            Some((header, signature, key))
        });
        let Some((header, signature, key)) = known else { return Begun::decided(self.one(canonical, payload)) };
        if plain.digest() != plain.link.receipt_hash {
            return Begun::decided(Err(hash_mismatch()));
        }
        let Some(signature) = decode_signature(signature) else { return Begun::decided(Err(bad_signature())) };
        let Buffers { content, input } = buffers;
        content.clear();
        plain.write_content(content);
        write_signing_input(header, content, input);
        let (link, cids) = (plain.link, (plain.cid, plain.request_cid));
        let Some(of_minus_key) = self.of_minus(key) else {
            let verifying_key = key.public.verifying_key();
            let signed = verifying_key.verify_strict(input.as_bytes(), &Signature::from_bytes(&signature));
            let checked = signed
                .map_err(|_| bad_signature())
                .and_then(|()| check_after_signature(&key.public, &link, cids, payload));
            return Begun::decided(checked.map(|()| link));
        };
        let of_base = self.of_base.get_or_init(Multiples::of_base);
        match Claim::new(of_base, of_minus_key, &signature, &challenge(&signature, &key.public, input)) {
            Some(claim) => {
                Begun { outcome: Ok(link), pending: Some((Pending { index, key: &key.public, cids }, claim)) }
            }
            None => Begun::decided(Err(bad_signature())),
        }
    }

    /// The road that every receipt could take, and that those take which are written in an unusual way.
    fn one(&self, canonical: &[u8], payload: Option<&[u8]>) -> Result<Link, Failure> {
        check_receipt(canonical, &self.ring, payload).map(|receipt| Link::of(&receipt))
    }

    /// The key's table, where it is worth its making.
    fn of_minus<'v>(&self, key: &'v Key) -> Option<&'v Multiples> {
        if let Some(made) = key.of_minus_key.get() {
            return made.as_ref();
        }
        if key.seen.fetch_add(1, Ordering::Relaxed) < TABLE_AFTER {
            return None;
        }
        let make = || {
            let point = key.public.verifying_key().to_edwards();
            let may = !point.is_small_order() && self.tables.fetch_add(1, Ordering::Relaxed) < TABLES_MAX;
            may.then(|| Multiples::of(-point))
        };
        key.of_minus_key.get_or_init(make).as_ref()
    }
}

/// RFC 8032 section 5.1.7: the hash of R, the key and the message.
fn challenge(signature: &[u8; 64], key: &PublicKey, input: &str) -> [u8; 64] {
    let (r, _) = signature.split_at(32);
    let mut hasher = Sha512::new();
    hasher.update(r);
    hasher.update(key.verifying_key().as_bytes());
    hasher.update(input.as_bytes());
    hasher.finalize().into()
}

fn check_after_signature(
    key: &PublicKey,
    link: &Link,
    cids: (Digest, Digest),
    payload: Option<&[u8]>,
) -> Result<(), Failure> {
    check_key_time(key, link.ts)?;
    payload.map_or(Ok(()), |payload| check_payload(cids, payload))
}

#[cfg(test)]
#[path = "verifier_tests.rs"]
mod tests;
