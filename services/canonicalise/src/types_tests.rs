//! Payload types in the step: what is countersigned, what is refused, and what waits.

use super::tests::{Bench, T0, admitted, answer, entry, rejected, request};
use super::*;
use admission::RepairPolicy;
use event::digest::digest_of;
use event::topic::REJECTED;
use event::wire::TenantConfig;

const INVOICE: &str = "openai.tooluse.invoice.v1";
const TARGET: &str = "invoice.iso20022.v1";

fn definition() -> String {
    let files = admission::shipped::types().remove(INVOICE).unwrap();
    String::from_utf8(admission::files::check(INVOICE, &files).unwrap().canonical).unwrap()
}

fn published(name: &str, definition: String) -> TenantConfig {
    TenantConfig { body: definition, ..entry("payload_type", name, "*", serde_json::Value::Null) }
}

fn tenant(repair: RepairPolicy) -> TenantConfig {
    let settings = serde_json::json!({"webhook_secret": "whsec_AAAA", "repair": repair});
    entry("tenant", "acme", "acme", settings)
}

fn producer() -> TenantConfig {
    entry("producer", "ingest-1", "*", serde_json::json!({"secret": super::tests::SECRET}))
}

fn bench(entries: Vec<TenantConfig>) -> Bench {
    Bench::with(Arc::new(Directory::of(entries)), Box::new(|| Ok(())))
}

fn with_types(repair: RepairPolicy) -> Bench {
    bench(vec![producer(), tenant(repair), published(INVOICE, definition())])
}

fn invoice(key: &str, arguments: &str) -> ExchangeRequested {
    let payload = serde_json::json!({"tool_calls": [
        {"type": "function", "function": {"name": "create_invoice", "arguments": arguments}}
    ]});
    ExchangeRequested { payload_type: INVOICE.into(), ..request(key, &payload.to_string()) }
}

const GOOD: &str = r#"{"invoice_id":"INV-1","amount":12.5,"currency":"USD","customer_name":"Acme"}"#;
const NORMALIZED: &str =
    r#"{"Document":{"Invoice":{"Currency":"USD","Id":"INV-1","Party":{"Name":"Acme"},"TotalMinor":1250}}}"#;

#[test]
fn the_normalized_payload_is_admitted_with_both_digests_and_the_digest_of_the_definition() {
    let sent = invoice("k", GOOD);
    let admission = admitted(&with_types(RepairPolicy::Rules).send(&sent, T0)).admission.unwrap();
    assert_eq!(String::from_utf8(admission.payload).unwrap(), NORMALIZED);
    assert_eq!(admission.cid, digest_of(NORMALIZED.as_bytes()).to_string());
    let mut received = Vec::new();
    event::door::canonicalise(&sent.payload, &Limits::default(), &mut received).unwrap();
    assert_eq!(admission.request_cid, digest_of(&received).to_string());
    assert_eq!((admission.payload_type.as_str(), admission.target_type.as_str()), (INVOICE, TARGET));
    let normalization = admission.normalization.unwrap();
    assert_eq!(normalization.definition, digest_of(definition().as_bytes()).to_string());
    assert!(normalization.repairs.is_empty());
}

#[test]
fn what_was_repaired_is_in_the_record() {
    let arguments = GOOD.replace('"', "'").replace('}', ",}");
    let admission = admitted(&with_types(RepairPolicy::Rules).send(&invoice("k", &arguments), T0)).admission.unwrap();
    assert_eq!(String::from_utf8(admission.payload).unwrap(), NORMALIZED);
    let [repair] = admission.normalization.unwrap().repairs.try_into().unwrap();
    assert_eq!(repair.pointer, "/payload/tool_calls/0/function/arguments");
    assert_eq!(repair.rungs, ["trailing_commas", "quotes"]);
    assert_eq!(repair.received, digest_of(arguments.as_bytes()).to_string());
    let mut repaired = Vec::new();
    event::door::canonicalise(GOOD.as_bytes(), &Limits::default(), &mut repaired).unwrap();
    assert_eq!(repair.repaired, digest_of(&repaired).to_string());
}

#[test]
fn a_tenant_that_allows_no_repair_gets_none() {
    let arguments = GOOD.replace('}', ",}");
    let emits = with_types(RepairPolicy::Off).send(&invoice("k", &arguments), T0);
    let refused = rejected(&emits);
    assert_eq!((refused.code.as_str(), refused.status), ("mapping_failed", 422));
    assert!(refused.errors.contains("\"/payload/tool_calls/0/function/arguments\""), "{}", refused.errors);
    assert!(
        with_types(RepairPolicy::Off).send(&invoice("k", GOOD), T0).iter().all(|emit| emit.topic.as_str() != REJECTED)
    );
}

#[test]
fn each_stage_refuses_with_its_code_for_ever() {
    for (payload, code, pointer) in [
        (r#"{"tool_calls":[{"type":"function"}]}"#.to_owned(), "schema_violation", "/payload/tool_calls/0"),
        (invoice_payload(r#"{"invoice_id":"a"}"#), "schema_violation", "/payload/tool_calls/0/function/arguments"),
        (invoice_payload("nothing"), "mapping_failed", "/payload/tool_calls/0/function/arguments"),
        (invoice_payload(r#"{"a":1,"a":2}"#), "not_i_json", "/payload/tool_calls/0/function/arguments"),
        (invoice_payload(&GOOD.replace("12.5", "12.345")), "mapping_failed", "/payload"),
        (invoice_payload(&GOOD.replace("USD", "usd")), "mapping_failed", "/payload"),
        (
            invoice_payload(&GOOD.replace("INV-1", "INV-\\x31")),
            "invariant_broken",
            "/payload/tool_calls/0/function/arguments",
        ),
    ] {
        let mut bench = with_types(RepairPolicy::Rules);
        let sent = ExchangeRequested { payload_type: INVOICE.into(), ..request("k", &payload) };
        let first = bench.send(&sent, T0);
        let refused = rejected(&first);
        assert_eq!((refused.code.as_str(), refused.status), (code, 422), "{payload}: {}", refused.detail);
        assert!(refused.errors.contains(&format!("\"{pointer}\"")), "{payload}: {}", refused.errors);
        let again = answer(&bench.send(&sent, T0 + 1)).unwrap();
        assert_eq!((again.replayed, again.body), (true, answer(&first).unwrap().body));
    }
}

fn invoice_payload(arguments: &str) -> String {
    String::from_utf8(invoice("k", arguments).payload).unwrap()
}

#[test]
fn an_unknown_type_or_target_is_refused_with_its_place() {
    for (sent, code, pointer) in [
        (
            ExchangeRequested { payload_type: "nope.v1".into(), ..invoice("k", GOOD) },
            "unknown_payload_type",
            "/payload_type",
        ),
        (
            ExchangeRequested { target_type: Some("nope.v1".into()), ..invoice("k", GOOD) },
            "invalid_request",
            "/target_type",
        ),
    ] {
        let refused = rejected(&with_types(RepairPolicy::Rules).send(&sent, T0));
        assert_eq!(refused.code, code);
        assert!(refused.errors.contains(&format!("\"{pointer}\"")), "{}", refused.errors);
    }
}

#[test]
fn a_type_that_was_published_a_moment_ago_is_not_unknown() {
    let directory = Arc::new(Directory::of([producer(), tenant(RepairPolicy::Rules)]));
    let late = Arc::clone(&directory);
    let refresh = move || {
        let value = published(INVOICE, definition()).encode().unwrap();
        late.apply(&stage::testing::record(TenantConfig::TOPIC, 0, 2, T0, "payload_type", value));
        Ok(())
    };
    let mut bench = Bench::with(directory, Box::new(refresh));
    assert!(admitted(&bench.send(&invoice("k", GOOD), T0)).admission.is_some());
}

#[test]
fn a_type_of_a_later_version_waits_for_the_deploy_and_holds_nobody_else_up_but_its_partition() {
    let later = published(INVOICE, r#"{"format":2}"#.to_owned());
    let mut bench = bench(vec![producer(), tenant(RepairPolicy::Rules), later]);
    let record = bench.signed("ingest-1", &invoice("k", GOOD), T0);
    assert!(matches!(bench.apply(&record), Err(StepError::Wait(why)) if why.contains(INVOICE)));
    assert!(admitted(&bench.send(&request("k2", "1"), T0)).admission.is_some());
}

#[test]
fn two_roles_decide_by_the_same_definition_or_say_that_they_did_not() {
    let other = definition().replace("\"repair\":true", "\"repair\":false");
    let definition_of = |definition: String| {
        let mut bench = bench(vec![producer(), tenant(RepairPolicy::Rules), published(INVOICE, definition)]);
        admitted(&bench.send(&invoice("k", GOOD), T0)).admission.unwrap().normalization.unwrap().definition
    };
    assert_ne!(definition_of(definition()), definition_of(other));
}
