//! Receipts in the bytes that sealing writes: read in place, in one pass, without taking anything apart.
//!
//! Whatever is spelt otherwise is not judged here but read by the JSON door; a text that this module does read is its own
//! canonical form, and the door would let it in with the same meaning.

use event::amount::{Currency, Minor};
use event::digest::Digest;
use event::id::{ExchangeId, Payee, TenantId, TraceId};
use event::time::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::chain::Link;
use crate::receipt::SAFE_INTEGER_MAX;

/// A receipt whose members are all well formed; nothing about it is verified.
pub(crate) struct Plain<'a> {
    pub(crate) link: Link,
    pub(crate) cid: Digest,
    pub(crate) request_cid: Digest,
    pub(crate) jws: &'a str,
    /// Before `jws`, between it and `receipt_hash`, and what follows.
    head: &'a [u8],
    middle: &'a [u8],
    receipt_hash: &'a [u8],
    tail: &'a [u8],
}

impl<'a> Plain<'a> {
    /// None: it is written in another way, or it is no receipt.
    pub(crate) fn read(text: &'a [u8]) -> Option<Self> {
        let mut at = Cursor { text, next: 0 };
        at.literal(br#"{"algo":"sha256","amount":"#)?;
        at.amount()?;
        at.literal(br#","canon":"RFC8785","chain":"#)?;
        let chain = ExchangeId::parse(at.string()?).ok()?;
        at.literal(br#","cid":"#)?;
        let cid = at.digest()?;
        at.literal(br#","exchange_id":"#)?;
        let exchange_id = ExchangeId::parse(at.string()?).ok()?;
        at.literal(br#","hop":"#)?;
        let hop = at.integer().filter(|hop| *hop > 0)?;
        let head_end = at.next;
        at.literal(br#","jws":"#)?;
        let jws = at.string()?;
        let middle_start = at.next;
        at.literal(br#","policy":{"allowed":true,"host":"#)?;
        at.null_or(Cursor::string)?;
        at.literal(br#","reason":"#)?;
        at.string()?;
        at.literal(br#"},"prev_receipt_hash":"#)?;
        let prev_receipt_hash = at.null_or(Cursor::digest)?;
        let middle_end = at.next;
        at.literal(br#","receipt_hash":"#)?;
        let receipt_hash = at.digest()?;
        let tail_start = at.next;
        at.literal(br#","request_cid":"#)?;
        let request_cid = at.digest()?;
        at.literal(br#","tenant":"#)?;
        let tenant = TenantId::parse(at.string()?).ok()?;
        at.literal(br#","trace_id":"#)?;
        let trace_id = TraceId::parse(at.string()?).ok()?;
        at.literal(br#","ts":"#)?;
        let ts = Timestamp::parse(at.string()?).ok()?;
        at.literal(br#","type":{"payload":"#)?;
        at.string()?;
        at.literal(br#","target":"#)?;
        at.string()?;
        at.literal(br#"},"usage":{"fu":"#)?;
        at.integer()?;
        at.literal(br#","vex":1},"v":1}"#)?;
        if at.next != text.len() {
            return None;
        }
        Some(Self {
            link: Link { tenant, trace_id, chain, exchange_id, hop, ts, prev_receipt_hash, receipt_hash },
            cid,
            request_cid,
            jws,
            head: text.get(..head_end)?,
            middle: text.get(middle_start..middle_end)?,
            receipt_hash: text.get(middle_end..tail_start)?,
            tail: text.get(tail_start..)?,
        })
    }

    /// The digest of everything but `receipt_hash` and `jws`.
    pub(crate) fn digest(&self) -> Digest {
        let mut hasher = Sha256::new();
        hasher.update(self.head);
        hasher.update(self.middle);
        hasher.update(self.tail);
        Digest(hasher.finalize().into())
    }

    /// Appends everything but `jws`: what is signed.
    pub(crate) fn write_content(&self, out: &mut Vec<u8>) {
        for part in [self.head, self.middle, self.receipt_hash, self.tail] {
            out.extend_from_slice(part);
        }
    }
}

struct Cursor<'a> {
    text: &'a [u8],
    next: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a [u8] {
        self.text.get(self.next..).unwrap_or(&[])
    }

    fn literal(&mut self, expected: &[u8]) -> Option<()> {
        self.rest().starts_with(expected).then(|| self.next += expected.len())
    }

    /// A string of printable ASCII that needs no escape, so that it has one spelling.
    fn string(&mut self) -> Option<&'a str> {
        self.literal(b"\"")?;
        let rest = self.rest();
        let length = rest.iter().position(|byte| !matches!(byte, b' '..=b'~') || matches!(byte, b'"' | b'\\'))?;
        let text = std::str::from_utf8(rest.get(..length)?).ok()?;
        self.next += length;
        self.literal(b"\"")?;
        Some(text)
    }

    fn null_or<T>(&mut self, read: impl Fn(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.literal(b"null").is_some() { Some(None) } else { read(self).map(Some) }
    }

    fn digest(&mut self) -> Option<Digest> {
        Digest::parse(self.string()?).ok()
    }

    /// An integer that every reader keeps, in its canonical spelling.
    fn integer(&mut self) -> Option<u64> {
        let rest = self.rest();
        let length = rest.iter().position(|byte| !byte.is_ascii_digit())?;
        let digits = std::str::from_utf8(rest.get(..length)?).ok()?;
        if length > 1 && digits.starts_with('0') {
            return None;
        }
        self.next += length;
        digits.parse().ok().filter(|value| *value <= SAFE_INTEGER_MAX)
    }

    fn amount(&mut self) -> Option<()> {
        if self.literal(b"null").is_some() {
            return Some(());
        }
        self.literal(br#"{"currency":"#)?;
        Currency::parse(self.string()?).ok()?;
        self.literal(br#","minor":"#)?;
        Minor::parse(self.string()?).ok()?;
        self.literal(br#","payee":"#)?;
        Payee::parse(self.string()?).ok()?;
        self.literal(b"}")
    }
}
