//! Keys change while the pipeline runs under load: nothing is refused, and every receipt verifies with the JWKS.

mod load;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proof::{Code, KeyRing, Trust};
use serde_json::Value;

use crate::exactly_once::alone;
use crate::exactly_once::parts::Parts;
use crate::process::{Process, run, verify};
use load::{Load, kid};

/// How long before it signs a new key is made: short, for the test waits for it.
const LEAD: &str = "6";
/// Receipts that each key must sign.
const EACH: usize = 100;

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_secs()).expect("seconds")
}

/// The kids in a JWKS, each with its `exp`.
fn listed(jwks: &str) -> Vec<(String, Option<i64>)> {
    let jwks: Value = serde_json::from_str(jwks).expect("JSON");
    let keys = jwks["keys"].as_array().expect("keys");
    keys.iter().map(|key| (key["kid"].as_str().expect("a kid").to_owned(), key["exp"].as_i64())).collect()
}

/// Makes a new key in this directory and sees it listed before anything is signed with it. Answers its kid and `nbf`.
async fn rotate(data: &Path, load: &Load) -> (String, i64) {
    let made: Value =
        serde_json::from_str(&run(data, &["signing-keys", "rotate", "--in", LEAD, "--json"])).expect("JSON");
    let (made, nbf) = (made["kid"].as_str().expect("a kid").to_owned(), made["nbf"].as_i64().expect("its nbf"));
    while !listed(&load.jwks().await).iter().any(|(listed, _)| *listed == made) {
        assert!(now() < nbf, "{made} is not listed when it is to sign");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(now() < nbf && !load.kids().contains_key(&made), "{made} signed before it was listed");
    (made, nbf)
}

/// Whatever was sealed verifies with the keys that anybody may fetch, each receipt and each chain.
async fn everything_verifies(load: &Load) {
    let faults = load.faults();
    assert!(faults.is_empty(), "{} requests were not answered 201: {:?}", faults.len(), &faults[..faults.len().min(5)]);
    let receipts = load.receipts();
    let ring = KeyRing::from_jwks(load.jwks().await.as_bytes()).expect("a JWKS");
    let trust = Trust { given: &ring, embedded: false };
    for receipt in &receipts {
        let verdict = proof::verify(receipt.to_string().as_bytes(), trust, &[]);
        assert_eq!(verdict.verdict, Code::Ok, "{verdict:?}: {receipt}");
    }
    for chain in receipts.chunk_by(|a, b| a["chain"] == b["chain"]) {
        let verdict = proof::verify(Value::from(chain.to_vec()).to_string().as_bytes(), trust, &[]);
        assert_eq!(verdict.verdict, Code::Ok, "{verdict:?}");
    }
    let keys: BTreeSet<String> = receipts.iter().map(kid).collect();
    println!("rotation: {} receipts in chains by {} keys, nothing refused", receipts.len(), keys.len());
}

#[test]
fn a_new_key_takes_over_under_load() {
    let _alone = alone();
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path();
    let process = Process::start(data, "up");
    let api_key = run(data, &["keys", "create", "--tenant", "acme"]);
    let load = Load::new(&process.base, api_key.trim());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let running = tokio::spawn(Arc::clone(&load).run());
        while load.kids().is_empty() {
            assert!(load.faults().is_empty(), "{:?}", load.faults());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let first = load.kids().into_keys().next().expect("a key signed");
        let (second, second_nbf) = rotate(data, &load).await;
        load.signed_by(&second, EACH).await;
        let (third, third_nbf) = rotate(data, &load).await;
        load.signed_by(&third, EACH).await;
        load.end();
        running.await.expect("the load ends");

        assert_eq!(
            load.kids().into_keys().collect::<BTreeSet<_>>(),
            BTreeSet::from([&first, &second, &third].map(Clone::clone))
        );
        everything_verifies(&load).await;
        let keys = listed(&load.jwks().await);
        for expected in [(first, Some(second_nbf)), (second, Some(third_nbf)), (third.clone(), None)] {
            assert!(keys.contains(&expected), "{expected:?} is not in {keys:?}");
        }
        // The same through the command, a stream of chains against the URL; and it can fail.
        let mut lines: Vec<String> = load.receipts().iter().map(Value::to_string).collect();
        let url = format!("{}/.well-known/jwks.json", load.base());
        let done = verify(&["-", "--json", "--keys", &url], &lines.join("\n"));
        let verdict: Value = serde_json::from_slice(&done.stdout).expect("a verdict");
        assert_eq!((verdict["verdict"].as_str(), verdict["receipts"].as_u64()), (Some("ok"), Some(lines.len() as u64)));
        assert_eq!(done.status.code(), Some(0));
        let last = lines.len() - 1;
        lines[last] = lines[last].replacen(r#""fu":0"#, r#""fu":1"#, 1);
        let done = verify(&["-", "--json", "--keys", &url], &lines.join("\n"));
        let verdict: Value = serde_json::from_slice(&done.stdout).expect("a verdict");
        assert_eq!(
            (verdict["verdict"].as_str(), verdict["index"].as_u64()),
            (Some("hash_mismatch"), Some(last as u64))
        );
        assert_eq!(done.status.code(), Some(1));
    });
    // A process that starts anew lists what the old one signed with.
    let keys = listed(&runtime.block_on(load.jwks()));
    process.stop("up");
    let process = Process::start(data, "up");
    let load = Load::new(&process.base, api_key.trim());
    runtime.block_on(async {
        let deadline = Instant::now() + Duration::from_secs(30);
        while listed(&load.jwks().await) != keys {
            assert!(Instant::now() < deadline, "{:?} instead of {keys:?}", listed(&load.jwks().await));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        load.send("trace-after").await;
        assert!(load.faults().is_empty(), "{:?}", load.faults());
        let newest = keys.iter().filter(|(kid, exp)| exp.is_none() && load.kids().contains_key(kid)).count();
        assert_eq!(newest, 1, "the newest key signs: {:?} of {keys:?}", load.kids());
    });
    let told = process.said("up");
    let secrets: Vec<String> = std::fs::read_dir(data.join("signing"))
        .expect("the key files")
        .map(|entry| std::fs::read_to_string(entry.expect("a file").path()).expect("a private JWK"))
        .map(|jwk| serde_json::from_str::<Value>(&jwk).expect("JSON")["d"].as_str().expect("a secret").to_owned())
        .collect();
    assert_eq!(secrets.len(), 4, "three for receipts, one for bundles");
    assert!(secrets.iter().all(|secret| !told.contains(secret)), "a secret is in what the process says");
}

#[test]
fn signers_on_hosts_of_their_own_rotate_and_are_replaced_under_load() {
    let _alone = alone();
    let directory = tempfile::Builder::new().prefix("countersign-parts-").tempdir().expect("a directory");
    let parts = Parts::start(directory.path());
    let host = |name: &str, slot: &str| {
        let data = directory.path().join(name);
        std::fs::create_dir(&data).expect("a data directory");
        let (brokers, database) = (parts.brokers(), parts.database());
        let text = format!(
            "profile = 'cluster'\n[log]\nbrokers = '{brokers}'\nslot = '{slot}'\n[database]\nurl = '{database}'\n"
        );
        std::fs::write(data.join("countersign.toml"), text).expect("a configuration");
        data
    };
    let (door, middle, one, two) = (host("door", "0"), host("middle", "0"), host("one", "0"), host("two", "1"));
    let first_signer = Process::start(&one, "sign");
    let _canonicalise = Process::start(&middle, "canonicalise");
    let ingest = Process::start(&door, "ingest");
    let api_key = run(&door, &["keys", "create", "--tenant", "acme"]);
    let load = Load::new(&ingest.base, api_key.trim());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let running = runtime.spawn(Arc::clone(&load).run());
    runtime.block_on(async {
        let (rotated, _) = rotate(&one, &load).await;
        load.signed_by(&rotated, EACH).await;
    });
    let before: BTreeSet<String> = load.kids().into_keys().collect();
    assert_eq!(before.len(), 2, "the first key and the one after it: {before:?}");

    // Another signer, with a key that nobody here has seen, takes the place of the first.
    let _second_signer = Process::start(&two, "sign");
    first_signer.stop("sign");
    runtime.block_on(async {
        let listed_now = listed(&load.jwks().await);
        let (third, _) = listed_now.into_iter().find(|(kid, _)| !before.contains(kid)).expect("its key is listed");
        load.signed_by(&third, EACH).await;
        load.end();
        running.await.expect("the load ends");
        everything_verifies(&load).await;
        assert_eq!(load.kids().len(), 3);
    });
}
