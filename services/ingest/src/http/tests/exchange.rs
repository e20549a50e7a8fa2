//! One exchange: what its client is told, and when.

use access::Scopes;
use event::envelope::{KEY_ID, SIGNATURE, TRACEPARENT};
use event::topic::REQUESTED;
use serde_json::json;

use super::world::{BASE, World, tenant};
use crate::config::Config;

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_is_signed_written_answered_and_replayed() {
    let world = World::new(Config::default()).await;
    let api_key = world.api_key(&Scopes::standard()).await;
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let body = r#"{"payload": {"a": 1}, "trace_id": "t1"}"#;
    let headers = [("x-request-id", "mine-1"), ("traceparent", traceparent)];
    let first = world.post(&api_key, "key-0", body, &headers).await;
    assert_eq!(first.status, 201, "{first:?}");
    assert_eq!(first.header("location"), Some("/v1/exchanges/ex_a46f1z1wmbq2pds9zabtvhng7b"));
    assert_eq!(first.header("content-type"), Some("application/json"));
    assert_eq!(first.header("x-request-id"), Some("mine-1"));
    assert!(first.header("x-response-time").unwrap().ends_with("ms"));
    assert_eq!(first.header("idempotent-replayed"), None);
    assert_eq!(first.json()["status"], "sealed");

    let again = world.post(&api_key, "key-0", body, &[]).await;
    assert_eq!((again.status, &again.bytes), (201, &first.bytes));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));

    let record = world.seen.lock()[0].clone();
    assert_eq!(record.key.as_deref(), Some(b"acme:key-0".as_slice()));
    assert_eq!(record.header(TRACEPARENT), Some(traceparent.as_bytes()));
    let key_id = std::str::from_utf8(record.header(KEY_ID).unwrap()).unwrap();
    let signature = std::str::from_utf8(record.header(SIGNATURE).unwrap()).unwrap();
    let producer = world.directory.producer(key_id).expect("published before the first request");
    assert!(key_id.starts_with("ingest-") && producer.grant.covers(&tenant()));
    let value = record.value.as_ref().unwrap();
    assert!(event::hmac::verify(producer.secret.expose(), REQUESTED, b"acme:key-0", value, signature));
    assert_eq!(world.ingest.state.0.waiting.count(), 0);
    world.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_after_acceptance_is_a_problem_with_the_steps_own_members() {
    let world = World::new(Config::default()).await;
    let api_key = world.api_key(&Scopes::standard()).await;
    for replayed in [None, Some("true")] {
        let answer = world.post(&api_key, "key-0", r#"{"payload":"refuse"}"#, &[("x-request-id", "r-1")]).await;
        assert_eq!((answer.status, answer.code().as_str()), (409, "chain_conflict"));
        assert_eq!(answer.header("idempotent-replayed"), replayed);
        let document = answer.json();
        assert_eq!(document["type"], format!("{BASE}/errors/chain_conflict"));
        assert_eq!(document["instance"], "r-1");
        assert_eq!(document["head"], "sha256:00");
    }
    world.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_decided_in_time_is_accepted_and_leaves_nobody_waiting() {
    let world = World::new(Config::default()).await;
    let api_key = world.api_key(&Scopes::standard()).await;
    for prefer in ["wait=0", "respond-async", "wait=1"] {
        let answer = world.post(&api_key, "key-0", r#"{"payload":"never"}"#, &[("prefer", prefer)]).await;
        assert_eq!(answer.status, 202, "{prefer}: {answer:?}");
        assert_eq!(answer.header("location"), Some("/v1/exchanges/ex_a46f1z1wmbq2pds9zabtvhng7b"));
        let id = "ex_a46f1z1wmbq2pds9zabtvhng7b";
        assert_eq!(answer.json(), json!({"exchange_id": id, "trace_id": id, "status": "accepted"}));
    }
    assert_eq!(world.ingest.state.0.waiting.count(), 0);
    world.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_at_the_same_time_gets_one_answer() {
    let world = World::new(Config::default()).await;
    let api_key = world.api_key(&Scopes::standard()).await;
    let call = || world.post(&api_key, "key-0", r#"{"payload":7}"#, &[]);
    let (a, b, c, d) = tokio::join!(call(), call(), call(), call());
    let answers = [a, b, c, d];
    assert!(answers.iter().all(|answer| answer.status == 201 && answer.bytes == answers[0].bytes), "{answers:?}");
    let originals = answers.iter().filter(|answer| answer.header("idempotent-replayed").is_none()).count();
    assert_eq!(originals, 1);
    world.end();
}
