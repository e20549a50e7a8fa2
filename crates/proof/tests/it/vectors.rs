//! The worked example of docs/contracts/receipt.md, byte for byte.

use event::digest::digest_of;
use event::door::{Limits, canonicalise};
use event::id::{ExchangeId, IdempotencyKey, TenantId};
use proof::{BundleDraft, Code, KeyRing, Receipt, Trust};
use serde_json::Value;

use crate::fixture::{published_receipts, ring_of, signing_key, vectors, verify};

fn canonical(value: &Value) -> String {
    let mut out = Vec::new();
    canonicalise(value.to_string().as_bytes(), &Limits::default(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn exchange_ids_and_payloads_come_out_as_published() {
    let vectors = vectors();
    for row in vectors["exchange_ids"].as_array().unwrap() {
        let tenant = TenantId::parse(row["tenant"].as_str().unwrap()).unwrap();
        let idempotency_key = IdempotencyKey::parse(row["idempotency_key"].as_str().unwrap()).unwrap();
        assert_eq!(ExchangeId::derive(&tenant, &idempotency_key).as_str(), row["exchange_id"]);
    }
    for row in vectors["payloads"].as_array().unwrap() {
        let text = canonical(&row["document"]);
        let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, row["canonical_hex"]);
        assert_eq!(digest_of(text.as_bytes()).to_string(), row["cid"]);
    }
}

#[test]
fn receipts_seal_to_the_published_bytes() {
    let published = vectors()["bundle"]["receipts"].clone();
    for (receipt, expected) in published_receipts().into_iter().zip(published.as_array().unwrap()) {
        let sealed = receipt.draft.clone().seal(&signing_key()).unwrap();
        assert_eq!(sealed, receipt);
        assert_eq!(sealed.to_json(), canonical(expected));
        assert_eq!(Receipt::parse(sealed.to_json().as_bytes()).unwrap(), sealed);
    }
}

#[test]
fn the_bundle_seals_to_the_published_bytes() {
    let expected = vectors()["bundle"].clone();
    let receipts = published_receipts();
    let first = receipts[0].draft.clone();
    let draft = BundleDraft {
        tenant: first.tenant,
        trace_id: first.trace_id,
        chain: first.chain,
        exported_at: expected["exported_at"].as_str().unwrap().parse().unwrap(),
        receipts,
    };
    let bundle = draft.seal(&ring_of(&[&signing_key()]), &signing_key()).unwrap();
    assert_eq!(bundle.bundle_cid.to_string(), expected["bundle_cid"]);
    assert_eq!(bundle.to_json(), canonical(&expected));
}

#[test]
fn the_published_documents_verify_in_every_form() {
    let bundle = vectors()["bundle"].clone();
    let receipts = bundle["receipts"].as_array().unwrap();
    let lines: Vec<String> = receipts.iter().map(Value::to_string).collect();
    let forms = [
        (receipts[0].to_string(), 1),
        (receipts[1].to_string(), 1),
        (serde_json::to_string_pretty(&receipts[1]).unwrap(), 1),
        (bundle["receipts"].to_string(), 2),
        (format!("\n{}\r\n\n", lines.join(" \r\n")), 2),
        (bundle.to_string(), 2),
        (serde_json::to_string_pretty(&bundle).unwrap(), 2),
    ];
    for (document, count) in forms {
        let verdict = verify(&document);
        assert_eq!((verdict.verdict, verdict.receipts, verdict.exit_code()), (Code::Ok, count, 0), "{verdict:?}");
    }
}

#[test]
fn embedded_keys_count_only_when_told_to() {
    let bundle = vectors()["bundle"].to_string();
    let nobody = KeyRing::new();
    let untrusting = proof::verify(bundle.as_bytes(), Trust { given: &nobody, embedded: false }, &[]);
    assert_eq!((untrusting.verdict, untrusting.index, untrusting.trusted), (Code::UnknownKey, Some(0), "given"));
    let trusting = proof::verify(bundle.as_bytes(), Trust { given: &nobody, embedded: true }, &[]);
    assert_eq!((trusting.verdict, trusting.trusted), (Code::Ok, "embedded"));
    // A given key holds against the embedded one with the same thumbprint.
    let retired = ring_of(&[&signing_key().with_exp(Some(crate::fixture::NBF + 1))]);
    let contradicted = proof::verify(bundle.as_bytes(), Trust { given: &retired, embedded: true }, &[]);
    assert_eq!((contradicted.verdict, contradicted.trusted), (Code::KeyExpired, "given+embedded"));
}

#[test]
fn the_verdict_has_the_members_of_the_convention() {
    let ok = serde_json::to_string(&verify(&vectors()["bundle"].to_string())).unwrap();
    assert_eq!(ok, r#"{"verdict":"ok","index":null,"check":null,"detail":null,"receipts":2,"trusted":"given"}"#);
    let failed = serde_json::to_value(verify("[{}]")).unwrap();
    assert_eq!(failed["verdict"], "missing_member");
    assert_eq!((failed["index"].as_u64(), failed["check"].as_str()), (Some(0), Some("members")));
}

#[test]
fn the_published_jwk_is_that_of_the_signing_key() {
    let expected = canonical(&vectors()["bundle"]["keys"][0]);
    assert_eq!(signing_key().public().to_jwk(), expected);
}

#[test]
fn payloads_at_hand_are_compared() {
    let vectors = vectors();
    let ring = ring_of(&[&signing_key()]);
    let trust = Trust { given: &ring, embedded: false };
    let document = vectors["bundle"]["receipts"].to_string();
    let payloads: Vec<String> = (0..2).map(|index| vectors["payloads"][index]["document"].to_string()).collect();
    let check = |payloads: &[Option<&[u8]>]| {
        let verdict = proof::verify(document.as_bytes(), trust, payloads);
        (verdict.verdict, verdict.index)
    };
    let (first, second) = (Some(payloads[0].as_bytes()), Some(payloads[1].as_bytes()));
    assert_eq!(check(&[first, second]), (Code::Ok, None));
    assert_eq!(check(&[None, second]), (Code::Ok, None));
    assert_eq!(check(&[first, first]), (Code::CidMismatch, Some(1)));
    assert_eq!(check(&[Some(b"{"), None]), (Code::Malformed, Some(0)));
}
