//! The vectors that other implementers are given (`schemas/vectors`), every verdict of them.

use std::path::{Path, PathBuf};

use event::digest::digest_of;
use event::door::{Limits, canonicalise};
use event::id::{ExchangeId, IdempotencyKey, TenantId};
use proof::{Claimed, KeyRing, Trust, Verifier};
use serde::Deserialize;
use serde_json::Value;

use crate::fixture::{draft, signing_key};

/// Enough receipts of one key that its table is made.
const WARM: usize = 200;

#[derive(Deserialize)]
struct Evidence {
    name: String,
    text: String,
    /// A JWKS, or the name of one beside the vectors.
    keys: Value,
    #[serde(default)]
    payloads: Vec<Option<String>>,
    #[serde(default)]
    trust_embedded_keys: bool,
    /// Null where the keys are of no use.
    verdict: Option<String>,
    index: Option<usize>,
    exit: u8,
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/vectors")
}

fn lines<T: for<'de> Deserialize<'de>>(file: &str) -> Vec<T> {
    let text = std::fs::read_to_string(directory().join(file)).unwrap();
    let read: Vec<T> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(read.len() > 5, "{file} holds next to nothing");
    read
}

fn keys(vector: &Evidence) -> Vec<u8> {
    match &vector.keys {
        Value::String(name) => std::fs::read(directory().join(format!("{name}.jwks.json"))).unwrap(),
        keys => keys.to_string().into_bytes(),
    }
}

#[test]
fn every_document_gets_its_verdict() {
    let mut wrong = Vec::new();
    for file in ["receipts.jsonl", "chains.jsonl", "bundles.jsonl"] {
        for vector in lines::<Evidence>(file) {
            let found = match KeyRing::from_jwks(&keys(&vector)) {
                Err(_) => (None, vector.index, 2),
                Ok(ring) => {
                    let payloads: Vec<Option<&[u8]>> =
                        vector.payloads.iter().map(|payload| payload.as_deref().map(str::as_bytes)).collect();
                    let trust = Trust { given: &ring, embedded: vector.trust_embedded_keys };
                    let verdict = proof::verify(vector.text.as_bytes(), trust, &payloads);
                    (Some(verdict.verdict.as_str().to_owned()), verdict.index, verdict.exit_code())
                }
            };
            if found != (vector.verdict.clone(), vector.index, vector.exit) {
                let expected = (&vector.verdict, vector.index, vector.exit);
                wrong.push(format!("{file}: {}: {found:?} instead of {expected:?}", vector.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// By tables, and among others.
#[test]
fn every_receipt_gets_its_verdict_in_a_batch() {
    let warm = vec![draft().seal(&signing_key()).unwrap().to_json(); WARM];
    let mut judged = 0;
    for vector in lines::<Evidence>("receipts.jsonl") {
        let Ok(ring) = KeyRing::from_jwks(&keys(&vector)) else { continue };
        let payload = vector.payloads.first().and_then(|payload| payload.as_deref()).map(str::as_bytes);
        let trust = Trust { given: &ring, embedded: false };
        let alone = proof::verify(vector.text.as_bytes(), trust, &[payload]);
        let of_chain = ["wrong_chain", "broken_link"].contains(&alone.verdict.as_str());
        if alone.index.is_none() && alone.verdict != proof::Code::Ok || of_chain {
            continue;
        }
        let verifier = Verifier::new(ring);
        let mut batch: Vec<Claimed<'_>> =
            warm.iter().map(|text| Claimed { receipt: text.as_bytes(), payload: None }).collect();
        batch.push(Claimed { receipt: vector.text.as_bytes(), payload });
        let outcome = verifier.check(&batch).pop().unwrap();
        let code = outcome.map_or_else(|failure| failure.code, |_| proof::Code::Ok);
        assert_eq!(code, alone.verdict, "{}", vector.name);
        judged += 1;
    }
    assert!(judged > 200, "{judged}");
}

#[derive(Deserialize)]
struct Json {
    name: String,
    text: Option<String>,
    base64: Option<String>,
    accept: bool,
    canonical: Option<String>,
    cid: Option<String>,
    code: Option<String>,
    pointer: Option<String>,
}

#[test]
fn every_text_has_its_canonical_form_or_its_refusal() {
    use base64::Engine as _;
    for vector in lines::<Json>("json.jsonl") {
        let text = match (&vector.text, &vector.base64) {
            (Some(text), _) => text.clone().into_bytes(),
            (None, base64) => base64::engine::general_purpose::STANDARD.decode(base64.as_ref().unwrap()).unwrap(),
        };
        let mut canonical = Vec::new();
        match canonicalise(&text, &Limits::default(), &mut canonical) {
            Ok(()) => {
                assert!(vector.accept, "{}: let in", vector.name);
                assert_eq!(Some(digest_of(&canonical).to_string()), vector.cid, "{}", vector.name);
                assert_eq!(Some(String::from_utf8(canonical).unwrap()), vector.canonical, "{}", vector.name);
            }
            Err(refusal) => {
                assert!(!vector.accept, "{}: {refusal}", vector.name);
                let found = (Some(refusal.code.as_str()), refusal.pointer.as_str());
                assert_eq!(found.0, vector.code.as_deref().or(found.0), "{}", vector.name);
                assert_eq!(found.1, vector.pointer.as_deref().unwrap_or(found.1), "{}", vector.name);
            }
        }
    }
}

#[derive(Deserialize)]
struct Named {
    tenant: String,
    idempotency_key: String,
    exchange_id: String,
}

#[test]
fn every_exchange_has_its_name() {
    for Named { tenant, idempotency_key, exchange_id } in lines::<Named>("exchange-ids.jsonl") {
        let tenant = TenantId::parse(tenant).unwrap();
        let idempotency_key = IdempotencyKey::parse(idempotency_key).unwrap();
        assert_eq!(ExchangeId::derive(&tenant, &idempotency_key).as_str(), exchange_id);
    }
}
