//! What needs no exchange: readiness, keys, verification, documents.

use access::{Scopes, edge};
use axum::Router;
use axum::body::Body;
use axum::http::{Method, StatusCode};
use axum::routing::get;
use event::topic::SIGNING_KEY;
use event::wire::{SigningKey, Wire as _};
use serde_json::json;
use tower::ServiceExt as _;

use super::world::{BASE, World, eventually, post, write};
use crate::config::Config;
use crate::http::router;

#[tokio::test(flavor = "multi_thread")]
async fn readiness_names_what_is_missing_and_keys_come_from_the_topic() {
    let world = World::new(Config::default()).await;
    assert_eq!(world.get("/healthz").await.status, 200);
    let answer = world.get("/readyz").await;
    assert_eq!(answer.status, 503);
    assert!(answer.json()["missing"].to_string().contains("signing_key"));
    assert_eq!(world.get("/.well-known/jwks.json").await.json(), json!({"keys": []}));
    let public_key = proof::SigningKey::from_seed(&[7; 32], 1, None).public().clone();
    publish(&world, &public_key.to_jwk(), public_key.kid());
    publish(&world, r#"{"kty":"OKP"}"#, "damaged");
    eventually("readiness", || world.ingest.state.missing().is_empty()).await;
    assert_eq!(world.get("/readyz").await.status, 200);
    let keys = world.get("/.well-known/jwks.json").await.json();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 1);
    assert_eq!(keys["keys"][0]["kid"], public_key.kid());
    world.end();
}

fn publish(world: &World, jwk: &str, kid: &str) {
    let key = SigningKey { kid: kid.into(), used_for: "receipt".into(), jwk: jwk.into() };
    write(&*world.log, SIGNING_KEY, Some(0), &key.encode().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_are_verified_with_the_published_keys() {
    let world = World::new(Config::default()).await;
    let api_key = world.api_key(&Scopes::standard()).await;
    let key_of_page = include_str!("receipt_key.json");
    let receipt = include_str!("receipt.json");
    let unknown = world.call(post("/v1/verify", &api_key, receipt)).await.json();
    assert_eq!((&unknown["verdict"], &unknown["index"]), (&json!("unknown_key"), &json!(0)));
    let public_key = proof::PublicKey::from_jwk(key_of_page.as_bytes()).unwrap();
    publish(&world, key_of_page, public_key.kid());
    eventually("the key", || !world.ingest.state.keys().is_empty()).await;
    let good = world.call(post("/v1/verify", &api_key, receipt)).await;
    assert_eq!(good.status, 200);
    assert_eq!(
        good.json(),
        json!({"verdict": "ok", "index": null, "check": null, "detail": null, "receipts": 1, "trusted": "given"})
    );
    let changed = receipt.replace("\"hop\":1", "\"hop\":2");
    assert_eq!(world.call(post("/v1/verify", &api_key, &changed)).await.json()["verdict"], "hash_mismatch");
    assert_eq!(world.call(post("/v1/verify", &api_key, "{")).await.json()["verdict"], "malformed");
    let anonymous = axum::http::Request::post("/v1/verify").body(Body::from("{}")).unwrap();
    assert_eq!(world.call(anonymous).await.code(), "unauthenticated");
    world.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_open_documents_need_no_key() {
    let world = World::new(Config::default()).await;
    let api = world.get("/openapi.json").await.json();
    assert!(api["openapi"].as_str().unwrap().starts_with("3.1"));
    for path in
        ["/v1/exchanges", "/v1/exchanges/batch", "/v1/verify", "/.well-known/jwks.json", "/v1/idempotency", "/readyz"]
    {
        assert!(api["paths"][path].is_object(), "{path}");
    }
    assert_eq!(api["components"]["securitySchemes"]["api_key"]["scheme"], "bearer");
    let rules = world.get("/v1/idempotency").await.json();
    assert_eq!(rules["window"]["days"], 35);
    let docs = world.get("/docs").await;
    assert!(docs.header("content-type").unwrap().starts_with("text/html"));
    let page = world.get("/errors/chain_conflict").await;
    assert_eq!(page.status, 200);
    assert!(String::from_utf8(page.bytes).unwrap().contains("<h2>What to do</h2>"));
    assert_eq!(world.get("/errors/nothing").await.code(), "not_found");
    assert_eq!(world.get("/errors").await.status, 200);
    world.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_router_can_be_merged_on_the_same_paths() {
    let world = World::new(Config::default()).await;
    let view = Router::new()
        .route("/v1/exchanges", get(|| async { "list" }))
        .route("/v1/exchanges/{id}", get(|| async { "one" }));
    let merged = edge::dress(router(world.ingest.state.clone()).merge(view), BASE);
    let call = async |method: Method, path: &str| {
        let request = axum::http::Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        merged.clone().oneshot(request).await.unwrap()
    };
    assert_eq!(call(Method::GET, "/v1/exchanges").await.status(), StatusCode::OK);
    assert_eq!(call(Method::GET, "/v1/exchanges/ex_1").await.status(), StatusCode::OK);
    assert_eq!(call(Method::POST, "/v1/exchanges").await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(call(Method::DELETE, "/v1/exchanges").await.status(), StatusCode::METHOD_NOT_ALLOWED);
    world.end();
}
