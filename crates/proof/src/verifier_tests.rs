use std::fmt::Write as _;

use event::id::{ExchangeId, TenantId, TraceId};
use event::time::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::receipt::{Draft, Policy, Receipt};
use crate::signing_key::SigningKey;
use crate::verdict::Code;

const NBF: i64 = 1_767_225_600;

fn signing_key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32], NBF, None)
}

fn ring(seeds: impl IntoIterator<Item = u8>) -> KeyRing {
    let mut ring = KeyRing::new();
    seeds.into_iter().for_each(|seed| ring.insert(signing_key(seed).public().clone()).unwrap());
    ring
}

fn receipt(number: u64, key: &SigningKey) -> Receipt {
    let exchange_id = ExchangeId::parse(format!("ex_{number:026}")).unwrap();
    let draft = Draft {
        tenant: TenantId::parse("acme").unwrap(),
        trace_id: TraceId::of_exchange(&exchange_id),
        chain: exchange_id.clone(),
        exchange_id,
        hop: 1,
        ts: Timestamp::from_millis(NBF * 1_000 + 1_000).unwrap(),
        payload_type: "passthrough".into(),
        target_type: "passthrough".into(),
        request_cid: Digest([1; 32]),
        cid: event::digest::digest_of(b"{}"),
        policy: Policy { reason: "no_forward".into(), host: None },
        fu: 0,
        amount: None,
        prev_receipt_hash: None,
    };
    draft.seal(key).unwrap()
}

/// A verifier whose tables are made, as after a long stream.
fn seasoned(ring: KeyRing) -> Verifier {
    let verifier = Verifier::new(ring);
    for key in verifier.by_header.values() {
        key.seen.store(TABLE_AFTER, Ordering::Relaxed);
    }
    verifier
}

fn alone(text: &str, verifier: &Verifier, payload: Option<&[u8]>) -> Result<Link, Failure> {
    let mut canonical = Vec::new();
    canonicalise(text.trim().as_bytes(), &LIMITS, &mut canonical).map_err(|refusal| refused(&refusal))?;
    verifier.one(&canonical, payload)
}

fn claimed<'a>(texts: &'a [String], payload: Option<&'a [u8]>) -> Vec<Claimed<'a>> {
    texts.iter().map(|text| Claimed { receipt: text.as_bytes(), payload }).collect()
}

#[test]
fn a_batch_gets_the_verdicts_of_its_receipts_one_by_one() {
    let texts: Vec<String> = (0..400)
        .map(|number| {
            let text = receipt(number, &signing_key(u8::try_from(number % 5).unwrap())).to_json();
            match number % 11 {
                3 => text.replacen("..", "..AAAAAA", 1),
                4 => text.replace(r#""fu":0"#, r#""fu":1"#),
                5 => text.replace(r#""v":1"#, r#""v":1.0"#),
                6 => text.replace(r#""v":1"#, r#""v":2"#),
                7 => {
                    let at = text.find("..").unwrap() + 2;
                    let other = if &text[at..=at] == "A" { "B" } else { "A" };
                    format!("{}{other}{}", &text[..at], &text[at + 1..])
                }
                8 => serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(&text).unwrap()).unwrap(),
                _ => text,
            }
        })
        .collect();
    // The fifth key is unknown, the second retired.
    let mut known = ring([0, 2, 3]);
    known.insert(signing_key(1).public().clone().with_exp(Some(NBF + 1))).unwrap();
    let (fresh, seasoned) = (Verifier::new(known.clone()), seasoned(known));
    for payload in [None, Some(&b"{}"[..]), Some(b"[]"), Some(b"[")] {
        let expected: Vec<_> = texts.iter().map(|text| alone(text, &fresh, payload)).collect();
        assert_eq!(fresh.check(&claimed(&texts, payload)), expected);
        assert_eq!(seasoned.check(&claimed(&texts, payload)), expected);
        let codes: std::collections::HashSet<Code> =
            expected.iter().filter_map(|outcome| outcome.as_ref().err().map(|failure| failure.code)).collect();
        assert!(codes.len() >= 4, "{codes:?}");
    }
}

#[test]
fn tables_are_made_for_busy_keys_and_only_for_so_many() {
    let few = Verifier::new(ring([1]));
    let texts = vec![receipt(1, &signing_key(1)).to_json(); TABLE_AFTER];
    assert!(few.check(&claimed(&texts, None)).iter().all(Result::is_ok));
    let made = |verifier: &Verifier| {
        verifier.by_header.values().filter(|key| key.of_minus_key.get().is_some_and(Option::is_some)).count()
    };
    assert_eq!(made(&few), 0);
    assert!(few.check(&claimed(&texts[..1], None))[0].is_ok());
    assert_eq!(made(&few), 1);
    let seeds = 0..u8::try_from(TABLES_MAX + 3).unwrap();
    let many = seasoned(ring(seeds.clone()));
    let texts: Vec<String> = seeds.map(|seed| receipt(1, &signing_key(seed)).to_json()).collect();
    assert!(many.check(&claimed(&texts, None)).iter().all(Result::is_ok));
    assert_eq!(made(&many), TABLES_MAX);
}

#[test]
fn what_sealing_writes_is_read_in_place() {
    let sealed = receipt(7, &signing_key(1));
    let text = sealed.to_json();
    let plain = Plain::read(text.as_bytes()).unwrap();
    assert_eq!(plain.link, Link::of(&sealed));
    assert_eq!(plain.digest(), sealed.receipt_hash);
    let mut with_more = String::new();
    write!(with_more, "{text} ").unwrap();
    assert!(Plain::read(with_more.as_bytes()).is_none());
}

/// Texts near to a receipt: what is read in place must be what the door would read, and nothing else.
fn near() -> impl Strategy<Value = String> {
    let base = receipt(7, &signing_key(1)).to_json();
    let amount = r#""amount":{"currency":"EUR","minor":"12","payee":"p"}"#;
    let bases =
        [base.replace(r#""amount":null"#, amount), base.replace(r#""host":null"#, r#""host":"a.example""#), base];
    let piece = prop_oneof![
        "[ -~]{0,3}",
        Just("\\u0041".to_owned()),
        Just("é".to_owned()),
        Just("\u{7f}".to_owned()),
        Just("null".to_owned()),
        Just("0".to_owned()),
        Just("9007199254740992".to_owned()),
        Just("\"".to_owned()),
    ];
    (prop::sample::select(bases.to_vec()), any::<prop::sample::Index>(), 0..4_usize, piece).prop_map(
        |(text, at, cut, piece)| {
            let at = at.index(text.len());
            let end = (at + cut).min(text.len());
            format!("{}{piece}{}", &text[..at], &text[end..])
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn whatever_is_read_in_place_the_door_reads_alike(text in near()) {
        if let Some(plain) = Plain::read(text.as_bytes()) {
            let mut canonical = Vec::new();
            canonicalise(text.as_bytes(), &LIMITS, &mut canonical).unwrap();
            prop_assert_eq!(std::str::from_utf8(&canonical).unwrap(), text.as_str());
            let (receipt, exact) = Receipt::from_canonical(&canonical).unwrap();
            prop_assert_eq!(&plain.link, &Link::of(&receipt));
            prop_assert_eq!((plain.cid, plain.request_cid), (receipt.draft.cid, receipt.draft.request_cid));
            prop_assert_eq!(plain.jws, receipt.jws.as_str());
            prop_assert_eq!(plain.digest(), event::digest::digest_of(&exact.without(&["receipt_hash", "jws"])));
            let mut content = Vec::new();
            plain.write_content(&mut content);
            prop_assert_eq!(content, exact.without(&["jws"]));
        }
    }

    #[test]
    fn near_receipts_get_the_same_verdict_in_a_batch(text in near()) {
        let verifier = seasoned(ring([1]));
        let texts = [text];
        let expected = alone(&texts[0], &verifier, None);
        prop_assert_eq!(&verifier.check(&claimed(&texts, None))[0], &expected);
    }
}
