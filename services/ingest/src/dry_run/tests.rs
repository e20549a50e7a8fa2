//! Over HTTP, on a real log: what is told, and that nothing at all is left behind.

use std::collections::BTreeMap;

use access::{ApiKey, Scopes, TypeToPublish, publish_types};
use axum::body::Body;
use axum::http::Request;
use event::digest::digest_of;
use event::topic::layouts;
use http_body_util::BodyExt as _;
use log::Topic;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::config::Config;
use crate::http::tests::World;

const INVOICE: &str = "openai.tooluse.invoice.v1";
const NORMALIZED: &str =
    r#"{"Document":{"Invoice":{"Currency":"USD","Id":"INV-1","Party":{"Name":"Acme"},"TotalMinor":1250}}}"#;

fn invoice(arguments: &str) -> Value {
    let function = json!({"name": "create_invoice", "arguments": arguments});
    json!({"payload_type": INVOICE, "payload": {"tool_calls": [{"type": "function", "function": function}]}})
}

fn good() -> Value {
    invoice(r#"{"invoice_id":"INV-1","amount":12.5,"currency":"USD","customer_name":"Acme"}"#)
}

async fn world() -> (World, ApiKey) {
    let world = World::new(Config::default()).await;
    let files = admission::shipped::types().remove(INVOICE).unwrap();
    let checked = admission::files::check(INVOICE, &files).unwrap();
    let shipped = TypeToPublish { name: INVOICE.into(), definition: String::from_utf8(checked.canonical).unwrap() };
    publish_types(&world.log, &world.directory, &[shipped]).await.unwrap();
    let api_key = world.api_key(&Scopes::standard()).await;
    (world, api_key)
}

async fn post(world: &World, api_key: &ApiKey, path: &str, body: &Value, key: Option<&str>) -> (u16, Value) {
    let mut request = Request::post(path)
        .header("authorization", format!("Bearer {}", api_key.expose()))
        .header("content-type", "application/json");
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    let response = world.router.clone().oneshot(request.body(Body::from(body.to_string())).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap())
}

/// Where every partition of every topic ends.
fn ends(world: &World) -> BTreeMap<(String, u32), u64> {
    let topics = layouts().into_iter().map(|layout| Topic::new(&layout.name));
    let positions = topics.flat_map(|topic| world.log.ends(&topic).unwrap());
    positions.map(|end| ((end.topic.as_str().to_owned(), end.partition), end.offset)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_tells_what_would_be_admitted_and_leaves_nothing_behind() {
    let (world, api_key) = world().await;
    let before = ends(&world);
    let mut body = good();
    body["amount"] = json!({"currency": "USD", "minor": "9900", "payee": "agent-7"});
    let (status, told) = post(&world, &api_key, "/v1/exchanges?dry_run=true", &body, Some("k")).await;
    assert_eq!(status, 200, "{told}");
    assert_eq!(told["normalized"], serde_json::from_str::<Value>(NORMALIZED).unwrap());
    assert_eq!(told["cid"], digest_of(NORMALIZED.as_bytes()).to_string());
    assert_eq!(told["type"]["target"], "invoice.iso20022.v1");
    assert_eq!(told["policy"], json!({"allowed": true, "reason": "no_forward", "host": null}));
    let price = json!({"currency": "USD", "minor": "9900", "payee": "agent-7", "fee_minor": "305",
        "tariff_version": billing::BUILTIN_TARIFF_VERSION});
    assert_eq!((&told["price"], &told["usage"]), (&price, &json!({"vex": 1, "fu": 0})));
    assert_eq!(told["exchange_id"].as_str().unwrap().len(), 29);

    let (status, refused) = post(&world, &api_key, "/v1/exchanges?dry_run=true", &invoice("nothing"), Some("k")).await;
    assert_eq!((status, &refused["code"]), (422, &json!("mapping_failed")));
    assert_eq!(refused["errors"][0]["pointer"], "/payload/tool_calls/0/function/arguments");
    assert_eq!(ends(&world), before, "no record on any topic");
    assert_eq!(world.seen.lock().len(), 0);

    // The key is free: another body may use it, and is admitted as the first one.
    let (status, sealed) = post(&world, &api_key, "/v1/exchanges", &json!({"payload": 1}), Some("k")).await;
    assert_eq!(status, 201, "{sealed}");
    assert_eq!(sealed["exchange_id"], told["exchange_id"]);
    assert_ne!(ends(&world), before, "the check can see a record");
    world.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_needs_no_key_and_shows_repairs_and_refuses_what_the_door_refuses() {
    let (world, api_key) = world().await;
    let repaired = invoice(r#"{'invoice_id':'INV-1','amount':12.5,'currency':'USD','customer_name':'Acme',}"#);
    let (status, told) = post(&world, &api_key, "/v1/exchanges?dry_run=true", &repaired, None).await;
    assert_eq!((status, &told["exchange_id"]), (200, &Value::Null));
    assert_eq!(told["repairs"][0]["rungs"], json!(["trailing_commas", "quotes"]));
    assert_ne!(told["request_cid"], told["cid"]);
    let body = json!({"payload": 1, "amount": {"currency": "CHF", "minor": "5", "payee": "p"}});
    let (_, told) = post(&world, &api_key, "/v1/exchanges?dry_run=true", &body, None).await;
    assert_eq!((&told["price"]["fee_minor"], &told["cid"]), (&Value::Null, &told["request_cid"]));
    for (path, body, key, status, code) in [
        (
            "/v1/exchanges?dry_run=true",
            json!({"payload": 1, "payload_type": "nope.v1"}),
            None,
            422,
            "unknown_payload_type",
        ),
        ("/v1/exchanges?dry_run=true", json!({"payload": 1, "amuont": 1}), None, 422, "invalid_request"),
        ("/v1/exchanges?dry_run=true", json!({"payload": 1}), Some("a b"), 400, "idempotency_key_invalid"),
        (
            "/v1/exchanges?dry_run=true",
            json!({"payload": 1, "forward_url": "https://evil.example/"}),
            None,
            403,
            "destination_denied",
        ),
        ("/v1/exchanges?dry_run=1", json!({"payload": 1}), Some("k"), 400, "invalid_parameter"),
        ("/v1/exchanges?dry_run=true&x=1", json!({"payload": 1}), Some("k"), 400, "invalid_parameter"),
        ("/v1/exchanges?dry_run=false", json!({"payload": 1}), None, 400, "idempotency_key_missing"),
    ] {
        let (came, problem) = post(&world, &api_key, path, &body, key).await;
        assert_eq!((came, &problem["code"]), (status, &json!(code)), "{path} {body}");
    }
    world.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_that_is_not_known_does_not_use_the_key_up_also_in_a_batch() {
    let (world, api_key) = world().await;
    let unknown = json!({"payload": 1, "payload_type": "nope.v1"});
    let other_target = json!({"payload": 1, "payload_type": INVOICE, "target_type": "nope.v1"});
    for (body, code, pointer) in
        [(&unknown, "unknown_payload_type", "/payload_type"), (&other_target, "invalid_request", "/target_type")]
    {
        let (status, problem) = post(&world, &api_key, "/v1/exchanges", body, Some("k")).await;
        assert_eq!((status, &problem["code"]), (422, &json!(code)));
        assert_eq!(problem["errors"][0]["pointer"], pointer);
    }
    let batch = json!([
        {"idempotency_key": "a", "exchange": unknown},
        {"idempotency_key": "b", "exchange": good()},
    ]);
    let (_, results) = post(&world, &api_key, "/v1/exchanges/batch", &batch, None).await;
    assert_eq!(results[0]["problem"]["errors"][0]["pointer"], "/0/exchange/payload_type", "{results}");
    assert_eq!(results[1]["status"], "sealed", "{results}");
    assert_eq!(world.seen.lock().len(), 1);
    let (status, _) = post(&world, &api_key, "/v1/exchanges", &json!({"payload": 1}), Some("k")).await;
    assert_eq!(status, 201);
    world.end();
}
