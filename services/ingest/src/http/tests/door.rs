//! Who is turned away, and that nothing is written for them.

use access::{ApiKey, Scope, Scopes};
use event::topic::REQUESTED;
use log::Topic;

use super::world::{Answer, BASE, World, eventually, post, tenant};
use crate::config::Config;

#[tokio::test(flavor = "multi_thread")]
async fn the_door_refuses_before_anything_is_written() {
    let config = Config { body_bytes_max: 1_000, ..Config::default() };
    let world = World::new(config).await;
    let api_key = world.api_key(&Scopes::standard()).await;
    let reader = world.api_key(&[Scope::ExchangeRead].into_iter().collect()).await;
    let good = r#"{"payload":1}"#;
    let long = format!(r#"{{"payload":"{}"}}"#, "a".repeat(1_000));
    let table: Vec<(&str, u16, Answer)> = vec![
        ("missing_scope", 403, world.post(&reader, "k", good, &[]).await),
        ("unauthenticated", 401, world.post(&api_key, "k", good, &[("authorization", "Bearer csk_no")]).await),
        ("unauthenticated", 401, world.post(&api_key, "k", good, &[("authorization", "Basic YTpi")]).await),
        ("unauthenticated", 401, world.post(&ApiKey::generate(), "k", good, &[]).await),
        ("unsupported_media_type", 415, world.post(&api_key, "k", good, &[("content-type", "text/plain")]).await),
        ("idempotency_key_missing", 400, world.call(post("/v1/exchanges", &api_key, good)).await),
        ("idempotency_key_invalid", 400, world.post(&api_key, "a b", good, &[]).await),
        ("invalid_parameter", 400, world.call(post("/v1/exchanges?dry=true", &api_key, good)).await),
        ("payload_too_large", 413, world.post(&api_key, "k", &long, &[]).await),
        ("payload_too_large", 413, world.post(&api_key, "k", good, &[("content-length", "99999999")]).await),
        ("malformed_json", 400, world.post(&api_key, "k", "{", &[]).await),
        ("invalid_request", 422, world.post(&api_key, "k", r#"{"payload":1,"amuont":{}}"#, &[]).await),
        ("not_i_json", 422, world.post(&api_key, "k", r#"{"payload":{"a":1,"a":2}}"#, &[]).await),
        ("unknown_payload_type", 422, world.post(&api_key, "k", r#"{"payload":1,"payload_type":"x"}"#, &[]).await),
        ("not_found", 404, world.get("/v1/nothing").await),
        ("method_not_allowed", 405, world.get("/v1/exchanges").await),
    ];
    for (code, status, answer) in &table {
        assert_eq!((answer.code().as_str(), answer.status), (*code, *status), "{answer:?}");
        assert_eq!(answer.json()["type"], format!("{BASE}/errors/{code}"));
        assert!(answer.json()["instance"].as_str().unwrap().starts_with("req_"));
    }
    assert_eq!(table[0].2.json()["scope"], "exchange:write");
    assert_eq!(table[1].2.header("www-authenticate"), Some("Bearer"));
    assert_eq!(table[11].2.json()["errors"][0]["pointer"], "/amuont");
    assert_eq!(table[15].2.header("allow"), Some("POST"));
    assert!(world.seen.lock().is_empty());
    assert!(world.log.ends(&Topic::new(REQUESTED)).unwrap().iter().all(|end| end.offset == 0));
    world.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_stops_working() {
    let world = World::new(Config::default()).await;
    let api_key = world.api_key(&Scopes::standard()).await;
    world.store.revoke_api_key(&api_key.digest().to_string()).await.unwrap();
    eventually("the revocation", || world.directory.api_key(&api_key).is_none()).await;
    assert_eq!(world.post(&api_key, "k", r#"{"payload":1}"#, &[]).await.code(), "unauthenticated");
    world.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_made_a_moment_ago_works_at_once() {
    let world = World::new(Config::default()).await;
    let api_key = world.store.create_api_key(&tenant(), &Scopes::standard()).await.unwrap();
    // The publisher's next look at the store is at most 200 ms away, and the request waits for it.
    let mut answer = world.post(&api_key, "k", r#"{"payload":1}"#, &[]).await;
    if answer.status == 401 {
        // A machine so busy that 600 ms did not do; the promise is one second.
        eventually("the key", || world.directory.api_key(&api_key).is_some()).await;
        answer = world.post(&api_key, "k", r#"{"payload":1}"#, &[]).await;
    }
    assert_eq!(answer.status, 201);
    world.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_under_way_is_refused_early() {
    let world = World::new(Config { in_flight_max: 1, ..Config::default() }).await;
    let api_key = world.api_key(&Scopes::standard()).await;
    let held = world.post(&api_key, "k1", r#"{"payload":"never"}"#, &[("prefer", "wait=60")]);
    let refused = async {
        eventually("the first waits", || world.ingest.state.0.waiting.count() == 1).await;
        world.post(&api_key, "k2", r#"{"payload":1}"#, &[]).await
    };
    let answer = tokio::select! { _ = held => panic!("nobody answers that"), answer = refused => answer };
    assert_eq!((answer.status, answer.code().as_str()), (503, "unavailable"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(world.ingest.state.0.waiting.count(), 0, "the client that went away left nothing");
    world.end();
}
