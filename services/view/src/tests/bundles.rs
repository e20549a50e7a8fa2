//! Bundles while their key is replaced: the next one is listed before it signs, the old one stays, and no bundle is refused.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use event::digest::Digest;
use event::id::{ExchangeId, TenantId, TraceId};
use event::time::Timestamp;
use event::wire::{SigningKey as KeyRecord, Wire as _};
use log::{Batch, Log, Position, Topic};
use proof::{Code, KeyRing, Policy, PublicKey, SigningKey, Trust};
use serde_json::Value;
use signing::{KeyFiles, Keyring, LEAD_S_MIN, Use};

use super::world::{BEGAN, open_log};
use crate::bundle::Draft;

static NOW: AtomicI64 = AtomicI64::new(BEGAN / 1_000);

fn clock() -> i64 {
    NOW.load(Ordering::SeqCst)
}

/// One receipt, which is a chain, and the key that signed it.
fn receipt() -> (ExchangeId, String, PublicKey) {
    let signing_key = SigningKey::from_seed(&[9; 32], BEGAN / 1_000 - 100, None);
    let exchange_id = ExchangeId::parse(format!("ex_{:026}", 1)).unwrap();
    let draft = proof::Draft {
        tenant: TenantId::parse("acme").unwrap(),
        trace_id: TraceId::parse("trace-1").unwrap(),
        chain: exchange_id.clone(),
        exchange_id: exchange_id.clone(),
        hop: 1,
        ts: Timestamp::from_millis(BEGAN - 50_000).unwrap(),
        payload_type: "passthrough".to_owned(),
        target_type: "passthrough".to_owned(),
        request_cid: Digest([1; 32]),
        cid: Digest([1; 32]),
        policy: Policy { reason: "no_forward".to_owned(), host: None },
        fu: 0,
        amount: None,
        prev_receipt_hash: None,
    };
    (exchange_id, draft.seal(&signing_key).unwrap().to_json(), signing_key.public().clone())
}

/// What everybody can read: each bundle key with its newest publication.
fn listed(log: &dyn Log) -> BTreeMap<String, PublicKey> {
    let topic = Topic::new(KeyRecord::TOPIC);
    let end = log.ends(&topic).unwrap()[0].offset;
    let mut tail = log.tail(&[Position { topic, partition: 0, offset: 0 }]).unwrap();
    let (mut batch, mut seen, mut newest) = (Batch::default(), 0, BTreeMap::new());
    while seen < end {
        batch.records.clear();
        tail.poll(Duration::from_millis(100), &mut batch).unwrap();
        for record in &batch.records {
            let key = KeyRecord::decode(record.value.as_ref().unwrap()).unwrap();
            assert_eq!(key.used_for, "bundle");
            newest.insert(key.kid, PublicKey::from_jwk(key.jwk.as_bytes()).unwrap());
            seen += 1;
        }
    }
    newest
}

fn signer(bundle: &str) -> String {
    let bundle: Value = serde_json::from_str(bundle).unwrap();
    let header = bundle["jws"].as_str().unwrap().split('.').next().unwrap();
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

#[test]
fn the_key_of_bundles_is_replaced_without_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let log: Arc<dyn Log> = Arc::new(open_log(&dir.path().join("log")));
    let signing = dir.path().join("signing");
    let files = KeyFiles::new(&signing, Use::Bundles);
    let keys = Keyring::open(files.clone(), &[1; 32], Arc::clone(&log), clock).unwrap();
    let (chain, receipt, receipt_key) = receipt();
    let (receipts, receipt_keys) = ([receipt], [receipt_key.to_jwk()]);
    let draft =
        Draft { tenant: "acme", trace_id: "trace-1", chain: chain.as_str(), receipts: &receipts, keys: &receipt_keys };
    let bundle_now = || draft.seal(&keys, clock() * 1_000);

    let old = bundle_now().unwrap();
    let next = files.rotate(&[2; 32], clock(), LEAD_S_MIN + 3).unwrap();
    // Whatever is signed from now on was preceded by a look at the files, and that lists what it finds.
    NOW.fetch_add(LEAD_S_MIN + 2, Ordering::SeqCst);
    let waiting = bundle_now().unwrap();
    assert_eq!(signer(&waiting), signer(&old), "the next key waits");
    let seen = listed(log.as_ref());
    assert_eq!(seen[&signer(&old)].exp(), Some(next.nbf()));
    assert_eq!(seen[next.kid()].exp(), None, "it is listed a second before it signs");
    NOW.fetch_add(1, Ordering::SeqCst);
    let new = bundle_now().unwrap();
    assert_eq!(signer(&new), next.kid());

    // All three verify with what is listed by now, and with what was listed before the new key signed.
    let mut ring = KeyRing::new();
    for key in seen.into_values().chain([receipt_key]) {
        ring.insert(key).unwrap();
    }
    for bundle in [&old, &waiting, &new] {
        let verdict = proof::verify(bundle.as_bytes(), Trust { given: &ring, embedded: false }, &[]);
        assert_eq!(verdict.verdict, Code::Ok, "{verdict:?}");
    }

    // A next key may have been made that nobody can see: no bundle rather than one by a key that has ended.
    NOW.fetch_add(LEAD_S_MIN, Ordering::SeqCst);
    std::fs::rename(&signing, dir.path().join("elsewhere")).unwrap();
    assert!(bundle_now().is_err());
    std::fs::rename(dir.path().join("elsewhere"), &signing).unwrap();
    assert_eq!(signer(&bundle_now().unwrap()), next.kid());
}
