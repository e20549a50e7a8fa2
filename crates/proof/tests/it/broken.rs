//! Every way in which evidence can be broken, with the verdict it must get.

use event::digest::{Digest, digest_of};
use event::id::{ExchangeId, TenantId, TraceId};
use event::time::Timestamp;
use proof::{Code, Draft, Receipt, SealError, SigningKey, Trust};

use crate::fixture::{NBF, array, bundle, chain, draft, next_draft, ring_of, signing_key, verify};

/// A receipt's text, changed.
fn changed(from: &str, to: &str) -> String {
    let text = draft().seal(&signing_key()).unwrap().to_json();
    assert!(text.contains(from), "{from} is not in {text}");
    text.replacen(from, to, 1)
}

#[test]
fn broken_receipts_get_their_verdict() {
    let hash = draft().seal(&signing_key()).unwrap().receipt_hash.to_string();
    let signature_start = {
        let jws = draft().seal(&signing_key()).unwrap().jws;
        jws[jws.len() - 86..jws.len() - 80].to_owned()
    };
    let other = Digest([9; 32]).to_string();
    let rows = [
        (changed(r#""hop":1"#, r#""hop":1,"note":"x""#), Code::UnknownMember, "members"),
        (changed(r#""fu":0,"#, r#""fu":0,"ru":0,"#), Code::UnknownMember, "members"),
        (changed(r#""host":null,"#, ""), Code::MissingMember, "members"),
        (changed(r#""amount":null,"#, ""), Code::MissingMember, "members"),
        (changed(r#""prev_receipt_hash":null,"#, ""), Code::MissingMember, "members"),
        (changed(r#""hop":1"#, r#""hop":1,"hop":1"#), Code::Malformed, "door"),
        (changed(r#""hop":1"#, r#""hop":9007199254740993"#), Code::Malformed, "door"),
        (changed(r#""hop":1"#, r#""hop":0"#), Code::Malformed, "members"),
        (changed(r#""hop":1"#, r#""hop":"1""#), Code::Malformed, "members"),
        (changed(r#""v":1"#, r#""v":2"#), Code::Malformed, "members"),
        (changed("RFC8785", "RFC8784"), Code::Malformed, "members"),
        (changed(r#""algo":"sha256""#, r#""algo":"sha512""#), Code::Malformed, "members"),
        (changed(r#""allowed":true"#, r#""allowed":false"#), Code::Malformed, "members"),
        (changed(r#""vex":1"#, r#""vex":2"#), Code::Malformed, "members"),
        (changed(".123Z", ".1234Z"), Code::Malformed, "members"),
        (changed("acme", "Acme"), Code::Malformed, "members"),
        (changed(r#""amount":null"#, r#""amount":[]"#), Code::Malformed, "members"),
        (
            changed(r#""amount":null"#, r#""amount":{"currency":"USD","minor":"01","payee":"a"}"#),
            Code::Malformed,
            "members",
        ),
        (changed(&hash, &hash.to_uppercase()), Code::Malformed, "members"),
        (changed("..", "."), Code::Malformed, "members"),
        (changed(r#""jws":"eyJ"#, r#""jws":"fyJ"#), Code::Malformed, "members"),
        (changed("acme", "acmf"), Code::HashMismatch, "receipt_hash"),
        (changed(r#""fu":0"#, r#""fu":1"#), Code::HashMismatch, "receipt_hash"),
        (changed(&hash, &other), Code::HashMismatch, "receipt_hash"),
        (changed(&signature_start, "AAAAAA"), Code::BadSignature, "signature"),
        (changed(&signature_start, "!"), Code::BadSignature, "signature"),
    ];
    for (document, code, check) in rows {
        let verdict = verify(&document);
        assert_eq!((verdict.verdict, verdict.index, verdict.check), (code, Some(0), Some(check)), "{document}");
        assert_eq!(verdict.exit_code(), 1);
        assert_eq!((verify(&format!("[{document}]")).verdict, verify(&format!("[{document}]")).index), (code, Some(0)));
    }
}

#[test]
fn input_that_is_no_evidence_at_all_is_unusable() {
    for document in ["", "{", "nonsense", "[]", "1", "null", "\"text\"", "[1,", "\u{feff}{}"] {
        let verdict = verify(document);
        assert_eq!((verdict.verdict, verdict.index, verdict.exit_code()), (Code::Malformed, None, 2), "{document}");
    }
    assert_eq!(verify("{}").verdict, Code::MissingMember);
    assert_eq!((verify("[1]").verdict, verify("[1]").index), (Code::Malformed, Some(0)));
}

#[test]
fn a_receipt_of_another_key_or_time_does_not_verify() {
    let stranger = SigningKey::from_seed(&[8; 32], NBF, None);
    let foreign = draft().seal(&stranger).unwrap().to_json();
    assert_eq!((verify(&foreign).verdict, verify(&foreign).check), (Code::UnknownKey, Some("signature")));
    let document = draft().seal(&signing_key()).unwrap().to_json();
    let second = draft().ts.as_seconds();
    for (nbf, exp, code) in [
        (second, None, Code::Ok),
        (second + 1, None, Code::KeyExpired),
        (NBF, Some(second), Code::KeyExpired),
        (NBF, Some(second + 1), Code::Ok),
    ] {
        let ring = ring_of(&[&SigningKey::from_seed(&[7; 32], nbf, exp)]);
        let verdict = proof::verify(document.as_bytes(), Trust { given: &ring, embedded: false }, &[]);
        assert_eq!(verdict.verdict, code, "{nbf} {exp:?}");
    }
}

/// The third of four hops, sealed otherwise; the fourth follows it properly.
fn chain_with(change: impl Fn(&mut Draft)) -> String {
    let mut receipts = chain(2);
    let mut third = next_draft(&receipts[1]);
    change(&mut third);
    // Sealing refuses what is inconsistent by itself; these are consistent, but do not fit their place.
    receipts.push(third.seal(&signing_key()).unwrap());
    let last = Draft { tenant: receipts[0].draft.tenant.clone(), ..next_draft(&receipts[2]) };
    receipts.push(last.seal(&signing_key()).unwrap());
    array(&receipts)
}

#[test]
fn broken_chains_get_their_verdict_at_the_first_wrong_receipt() {
    let other_exchange = ExchangeId::parse("ex_00000000000000000000000009").unwrap();
    let whole = chain(4);
    let pick = |indices: &[usize]| array(&indices.iter().map(|&index| whole[index].clone()).collect::<Vec<Receipt>>());
    let rows = [
        ("unbroken", chain_with(|_| ()), Code::Ok, None),
        ("tenant", chain_with(|d| d.tenant = TenantId::parse("other").unwrap()), Code::WrongTenant, Some(2)),
        ("trace", chain_with(|d| d.trace_id = TraceId::parse("other").unwrap()), Code::WrongTrace, Some(2)),
        ("chain", chain_with(|d| d.chain = other_exchange.clone()), Code::WrongChain, Some(2)),
        ("hop", chain_with(|d| d.hop = 4), Code::HopGap, Some(2)),
        ("link", chain_with(|d| d.prev_receipt_hash = Some(Digest([5; 32]))), Code::BrokenLink, Some(2)),
        ("time", chain_with(|d| d.ts = draft().ts), Code::TimeReversed, Some(2)),
        ("same time", chain_with(|d| d.ts = Timestamp::from_millis(d.ts.as_millis() - 1_000).unwrap()), Code::Ok, None),
        ("first missing", pick(&[1, 2, 3]), Code::HopGap, Some(0)),
        ("middle missing", pick(&[0, 1, 3]), Code::HopGap, Some(2)),
        ("repeated", pick(&[0, 1, 1, 2]), Code::HopGap, Some(2)),
        ("swapped", pick(&[0, 2, 1, 3]), Code::HopGap, Some(1)),
        ("last missing", pick(&[0, 1, 2]), Code::Ok, None),
    ];
    for (name, document, code, index) in rows {
        let verdict = verify(&document);
        assert_eq!((verdict.verdict, verdict.index), (code, index), "{name}: {verdict:?}");
    }
}

#[test]
fn the_first_failing_receipt_decides_not_the_order_of_the_checks() {
    let mut receipts = chain(4);
    receipts[3].jws = receipts[2].jws.clone();
    receipts[1].draft.fu = 7;
    let verdict = verify(&array(&receipts));
    assert_eq!((verdict.verdict, verdict.index, verdict.receipts), (Code::HashMismatch, Some(1), 4));
    let lines: Vec<String> = receipts.iter().map(Receipt::to_json).collect();
    assert_eq!(verify(&lines.join("\n")), verdict);
    let doubled = lines[2].replace(r#""hop":3"#, r#""hop":3,"hop":3"#);
    // A line is a document of its own: one that is no JSON is told after a receipt before it that fails.
    let refused = verify(&format!("{}\n{}\n{doubled}", lines[0], lines[2]));
    assert_eq!((refused.verdict, refused.index, refused.check), (Code::HopGap, Some(1), Some("hop")));
    let refused = verify(&format!("{}\n{doubled}\n{}", lines[0], lines[2]));
    assert_eq!((refused.verdict, refused.index, refused.check), (Code::Malformed, Some(1), Some("door")));
    let refused = verify(&format!("[{},{doubled}]", lines[0]));
    assert_eq!((refused.verdict, refused.index, refused.check), (Code::Malformed, Some(1), Some("door")));
    let refused = verify(&format!("{{\"receipts\":[{},{doubled}]}}", lines[0]));
    assert_eq!((refused.verdict, refused.index, refused.check), (Code::Malformed, Some(1), Some("door")));
}

/// The receipts of a chain of that name, of `acme`'s trace of the same name.
fn named_chain(name: u64, hops: usize) -> Vec<String> {
    let exchange_id = ExchangeId::parse(format!("ex_{name:026}")).unwrap();
    let trace_id = TraceId::parse(format!("trace-{name}")).unwrap();
    let first = Draft { chain: exchange_id.clone(), exchange_id, trace_id, ..draft() };
    let mut receipts = vec![first.seal(&signing_key()).unwrap()];
    while receipts.len() < hops {
        receipts.push(next_draft(receipts.last().unwrap()).seal(&signing_key()).unwrap());
    }
    receipts.iter().map(Receipt::to_json).collect()
}

#[test]
fn lines_may_be_of_several_chains_each_whole_and_in_order() {
    let (one, two) = (named_chain(1_001, 3), named_chain(1_002, 2));
    let joined = |lines: &[&String]| verify(&lines.iter().map(|line| line.as_str()).collect::<Vec<_>>().join("\n"));
    let rows = [
        (joined(&[&one[0], &two[0], &one[1], &two[1], &one[2]]), Code::Ok, None),
        (joined(&[&one[0], &two[0], &one[2]]), Code::HopGap, Some(2)),
        (joined(&[&one[0], &two[1]]), Code::HopGap, Some(1)),
        (joined(&[&one[0], &two[0], &one[0]]), Code::HopGap, Some(2)),
    ];
    for (number, (verdict, code, index)) in rows.into_iter().enumerate() {
        assert_eq!((verdict.verdict, verdict.index), (code, index), "row {number}: {verdict:?}");
    }
    // As one chain, and as a document, they are not.
    assert_eq!(verify(&format!("[{},{}]", one[0], two[0])).verdict, Code::WrongTrace);
    // A stream's chain keeps its tenant and trace.
    let mut moved = next_draft(&Receipt::parse(one[0].as_bytes()).unwrap());
    moved.trace_id = TraceId::parse("other").unwrap();
    let moved = moved.seal(&signing_key()).unwrap().to_json();
    assert_eq!(joined(&[&one[0], &moved]).verdict, Code::WrongTrace);
}

#[test]
fn a_long_chain_fails_at_the_receipt_that_is_wrong() {
    let receipts = chain(700);
    for (index, code) in
        [(0, Code::HashMismatch), (255, Code::HashMismatch), (256, Code::BadSignature), (699, Code::BadSignature)]
    {
        let mut broken = receipts.clone();
        if code == Code::HashMismatch {
            broken[index].draft.fu = 9;
        } else {
            broken[index].jws = receipts[index - 1].jws.clone();
        }
        for text in [array(&broken), broken.iter().map(Receipt::to_json).collect::<Vec<_>>().join("\n")] {
            let verdict = verify(&text);
            assert_eq!((verdict.verdict, verdict.index, verdict.receipts), (code, Some(index), 700));
        }
    }
    assert_eq!(verify(&array(&receipts)).verdict, Code::Ok);
}

#[test]
fn broken_bundles_get_their_verdict() {
    let text = bundle(chain(3), &ring_of(&[&signing_key()]), &signing_key()).to_json();
    assert_eq!(verify(&text).verdict, Code::Ok);
    let receipts = chain(3);
    let (_, signature) = text.split_once("..").unwrap();
    let signature = signature[..6].to_owned();
    let cut = format!(",{}", receipts[2].to_json());
    let rows = [
        (text.replacen(r#""hop":1"#, r#""hop":1,"note":0"#, 1), Code::UnknownMember, Some(0)),
        (text.replace("exported_at", "exported"), Code::UnknownMember, None),
        (text.replace(r#""exported_at":"2026-11-21T11:00:00.000Z","#, ""), Code::MissingMember, None),
        (text.replace("11:00:00.000Z", "11:00:00.001Z"), Code::HashMismatch, None),
        (text.replace("11:00:00.000Z", "11:00:00Z"), Code::Malformed, None),
        (text.replace(&cut, ""), Code::HashMismatch, None),
        (text.replace(r#""hop":2"#, r#""hop":3"#), Code::HashMismatch, Some(1)),
        (text.replace(r#""nbf":1767225600"#, r#""nbf":1767225601"#), Code::HashMismatch, None),
        (text.replace(r#""nbf":1767225600"#, r#""nbf":"x""#), Code::Malformed, None),
        (text.replace(&signature, "AAAAAA"), Code::BadSignature, None),
        (text.replace("eyJhbGciOiJFZERTQSIsImtpZCI6Ii0tNk", "e30"), Code::Malformed, None),
    ];
    for (number, (document, code, index)) in rows.iter().enumerate() {
        let verdict = verify(document);
        assert_eq!((verdict.verdict, verdict.index), (*code, *index), "row {number}: {verdict:?}");
    }
}

#[test]
fn a_bundle_about_another_chain_is_told_at_its_first_receipt() {
    let text = bundle(chain(2), &ring_of(&[&signing_key()]), &signing_key()).to_json();
    let (head, tail) = text.rsplit_once(r#""tenant":"acme""#).unwrap();
    let verdict = verify(&format!(r#"{head}"tenant":"other"{tail}"#));
    assert_eq!((verdict.verdict, verdict.index), (Code::WrongTenant, Some(0)));
}

#[test]
fn a_bundle_signed_by_view_carries_both_keys() {
    let view_key = SigningKey::from_seed(&[8; 32], NBF, None);
    let sealed = bundle(chain(2), &ring_of(&[&signing_key()]), &view_key);
    assert_eq!(sealed.keys, [signing_key().public().clone(), view_key.public().clone()]);
    let text = sealed.to_json();
    // The receipts' key alone is not enough, and it is the bundle that lacks one.
    assert_eq!((verify(&text).verdict, verify(&text).index), (Code::UnknownKey, None));
    let both = ring_of(&[&signing_key(), &view_key]);
    assert_eq!(proof::verify(text.as_bytes(), Trust { given: &both, embedded: false }, &[]).verdict, Code::Ok);
    let stale = ring_of(&[&signing_key(), &view_key.with_exp(Some(NBF + 1))]);
    let verdict = proof::verify(text.as_bytes(), Trust { given: &stale, embedded: false }, &[]);
    assert_eq!((verdict.verdict, verdict.index), (Code::KeyExpired, None));
}

#[test]
fn sealing_refuses_what_could_not_verify() {
    let signing_key = signing_key();
    let linked = Some(digest_of(b""));
    let other = ExchangeId::parse("ex_00000000000000000000000009").unwrap();
    let refused = |draft: Draft| draft.seal(&signing_key).unwrap_err();
    assert_eq!(refused(Draft { hop: 0, ..draft() }), SealError::Link);
    assert_eq!(refused(Draft { hop: 2, ..draft() }), SealError::Link);
    assert_eq!(refused(Draft { prev_receipt_hash: linked, ..draft() }), SealError::Link);
    assert_eq!(refused(Draft { chain: other, ..draft() }), SealError::Link);
    assert_eq!(refused(Draft { fu: 1 << 53, ..draft() }), SealError::UnsafeInteger);
    let early = Timestamp::from_millis((NBF - 1) * 1_000).unwrap();
    assert!(matches!(refused(Draft { ts: early, ..draft() }), SealError::KeyNotValid { .. }));
    let ring = ring_of(&[&signing_key]);
    let mut receipts = chain(2);
    receipts.remove(0);
    let first = draft();
    let gap = proof::BundleDraft {
        tenant: first.tenant,
        trace_id: first.trace_id,
        chain: first.chain,
        exported_at: first.ts,
        receipts,
    };
    assert_eq!(gap.clone().seal(&ring, &signing_key).unwrap_err(), SealError::Receipts);
    let empty = proof::BundleDraft { receipts: vec![], ..gap.clone() };
    assert_eq!(empty.seal(&ring, &signing_key).unwrap_err(), SealError::Receipts);
    let unknown = proof::BundleDraft { receipts: chain(1), ..gap };
    assert!(matches!(unknown.seal(&proof::KeyRing::new(), &signing_key), Err(SealError::UnknownKey(_))));
}
