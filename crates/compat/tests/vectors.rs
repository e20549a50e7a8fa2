//! The exported vectors, which CPython worked out, and the published receipts.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code fails by panicking")]
use compat::{Recipe, Refusal, hash};
use event::door::DoorCode;
use serde_json::Value;

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap()
}

#[test]
fn every_exported_vector_comes_out() {
    let mut seen = std::collections::BTreeMap::new();
    for line in include_str!("../../../schemas/vectors/compat/vectors.jsonl").lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let hashed = hash(text(&row, "recipe").parse().unwrap(), text(&row, "input").as_bytes()).unwrap();
        assert_eq!(hashed.preimage, text(&row, "preimage"), "{}", row["id"]);
        assert_eq!(hashed.hash, text(&row, "hash"), "{}", row["id"]);
        assert_eq!(hashed.cid.map(|cid| cid.to_string()).as_deref(), row["cid"].as_str(), "{}", row["id"]);
        *seen.entry(text(&row, "recipe").to_owned()).or_insert(0) += 1;
    }
    let recipes: Vec<&str> = seen.keys().map(String::as_str).collect();
    assert_eq!(recipes, Recipe::ALL.map(Recipe::id));
    assert!(seen.values().all(|count| *count >= 3), "{seen:?}");
}

#[test]
fn the_worked_values_of_the_reference_come_out() {
    let event = |payload: &str| {
        format!(
            r#"{{"event_id":"evt_1","event_type":"SETTLED","deal_id":"deal_123","actor_id":"agent_A","timestamp":"2026-01-01T00:00:00Z","payload":{payload},"prev_hash":""}}"#
        )
    };
    let receipt = |confidence: &str| {
        format!(
            r#"{{"deal_id":"deal_123","proof_hash":"abc123","provider":"ci_cd","verified":true,"confidence":{confidence}}}"#
        )
    };
    let entry = r#"{"entry_type":"payout","ref":"entity:agent_A","debit":"0.00","credit":"96.92","deal_id":"deal_123","currency":"USD","counterparty":"agent_B","event_id":"evt_1"}"#;
    let cases = [
        ("A-26", r#"{"deal_id":"deal_0123456789ab","action":"settle","params":{"amount":100.0}}"#.to_owned(), "idem_bd4974f25bd1b7d459b615d0"),
        ("A-26", r#"{"deal_id":"deal_0123456789ab","action":"settle","params":{"amount":100}}"#.to_owned(), "idem_6a22653807d69be3b49db469"),
        ("A-26", r#"{"deal_id":"deal_0123456789ab","action":"go"}"#.to_owned(), "idem_2f821daae6ab00b6983f1474"),
        ("A-27", event(r#"{"amount":100}"#), "48eb62341a23519066bef32fd017213437ffebb2de13724808b1119446be2d4d"),
        ("A-27", event(r#"{"amount":99.5,"note":"café"}"#), "e86df92930aaaa99cd1f14a2a492649e10bafea1d2f0bb598c4b1330a7ef53f5"),
        ("A-28", r#"{"vertical":"marketing","sku_id":"social_media","scope_summary":"Five posts","estimated_price":99.0,"policy_hash":"p0","proof_hash":"h0"}"#.to_owned(), "b69a4d0d94291f8cccc07d5da9f4c9e6"),
        ("A-29", r#"[{"field":"ocs_min","op":">=","value":50}]"#.to_owned(), "8d1dd28fbe8504550c117acf"),
        ("A-30", receipt("0.85"), "10df775ded651b74330c939d"),
        ("A-30", receipt("1.0"), "070f45abeb8190549aff965a"),
        ("A-31", r#"{"deal_id":"deal_123","proof_hash":"abc123","provider_name":"ci_cd","verified":true}"#.to_owned(), "70e3cd26853ea20c20729ea1"),
        ("A-32", entry.to_owned(), "5dbdd2f103d20548af5f7625"),
        ("A-33", r#"{"spec_version":"2.0.0","deal_id":"deal_123","proofs":[],"events":[],"merkle_inclusion":null}"#.to_owned(), "ab3b80b20351390e2a966d5a8b151068eb1837ef36e9733473caab6b9c7b321a"),
    ];
    for (recipe, input, expected) in cases {
        assert_eq!(hash(recipe.parse().unwrap(), input.as_bytes()).unwrap().hash, expected, "{recipe} {input}");
    }
}

#[test]
fn the_published_receipts_have_the_hashes_they_say() {
    let Some(folder) = std::env::var_os("COUNTERSIGN_TEST_DATA") else {
        println!("COUNTERSIGN_TEST_DATA is not set: the published receipts were not tried");
        assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "COUNTERSIGN_TEST_DATA must be set in CI");
        return;
    };
    let read = |name: &str| -> Value {
        let path = std::path::Path::new(&folder).join("signet").join(name);
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    };
    let mut receipts = vec![read("basic-receipt.json")];
    receipts.extend(read("simple-chain.json").as_array().unwrap().iter().cloned());
    assert_eq!(receipts.len(), 3);
    for receipt in receipts {
        let mut without = receipt.clone();
        without.as_object_mut().unwrap().remove("receipt_hash");
        for input in [&receipt, &without] {
            let hashed = hash(Recipe::OlderReceipt, input.to_string().as_bytes()).unwrap();
            assert_eq!(hashed.hash, text(&receipt, "receipt_hash"));
            assert_eq!(hashed.cid.unwrap().to_string(), text(&receipt, "cid"));
        }
    }
}

#[test]
fn what_has_no_hash_is_refused_with_its_place() {
    let pointer = |recipe: Recipe, input: &str| match hash(recipe, input.as_bytes()).unwrap_err() {
        Refusal::Input { pointer, .. } => pointer,
        Refusal::Document(refusal) => panic!("{refusal}"),
    };
    for recipe in Recipe::ALL {
        assert_eq!(hash(recipe, b"{").map_err(code), Err(Some(DoorCode::Malformed)));
        assert_eq!(hash(recipe, b"{\"a\":1,\"a\":2}").map_err(code), Err(Some(DoorCode::DuplicateName)));
        assert!(matches!(hash(recipe, b"1").unwrap_err(), Refusal::Input { .. }), "{recipe}");
        assert!(matches!(hash(recipe, b"{}").unwrap_err(), Refusal::Input { .. }), "{recipe}");
    }
    assert_eq!(pointer(Recipe::IdempotencyKey, r#"{"deal_id":"d"}"#), "/action");
    assert_eq!(pointer(Recipe::IdempotencyKey, r#"{"deal_id":"d","action":"a","amount":1}"#), "/amount");
    assert_eq!(
        pointer(Recipe::IdempotencyKey, r#"{"deal_id":"d","action":"a","params":{"action":1}}"#),
        "/params/action"
    );
    assert_eq!(pointer(Recipe::IdempotencyKey, r#"{"deal_id":"d","action":"a","params":[]}"#), "/params");
    assert_eq!(
        pointer(Recipe::LedgerEntry, r#"{"entry_type":"a","ref":"b","debit":"x","credit":"0","meta":{}}"#),
        "/debit"
    );
    assert_eq!(
        pointer(Recipe::LedgerEntry, r#"{"entry_type":"a","ref":"b","debit":"0","credit":"0","meta":1}"#),
        "/meta"
    );
    assert_eq!(pointer(Recipe::OlderReceipt, r#"{"canon":{}}"#), "/canon");
}

fn code(refusal: Refusal) -> Option<DoorCode> {
    match refusal {
        Refusal::Document(refusal) => Some(refusal.code),
        Refusal::Input { .. } => None,
    }
}

#[test]
fn recipes_are_named_by_their_ids() {
    for recipe in Recipe::ALL {
        assert_eq!(recipe.id().parse(), Ok(recipe));
    }
    for id in ["", "A-25", "A-34", "a-26", "S-42"] {
        assert!(id.parse::<Recipe>().is_err(), "{id}");
    }
}
