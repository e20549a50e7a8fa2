//! Many exchanges in one request.

use access::Scopes;
use serde_json::{Value, json};

use super::world::{World, post};
use crate::config::Config;

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_item_of_a_batch_fails_alone() {
    let world = World::new(Config::default()).await;
    let api_key = world.api_key(&Scopes::standard()).await;
    let body = r#"[
        {"idempotency_key":"a","exchange":{"payload":{"n":1}}},
        {"idempotency_key":"a b","exchange":{"payload":1}},
        {"idempotency_key":"b","exchange":{"payload":{"n":9007199254740993}}},
        {"idempotency_key":"c","exchange":{"payload":"refuse"}},
        {"idempotency_key":"d","exchange":{"payload":"never"}},
        {"idempotency_key":"e"},
        {"idempotency_key":"a","exchange":{"payload":{"n":1}}},
        {"idempotency_key":"f","exchange":{"payload":"deny"}},
        {"idempotency_key":"f","exchange":{"payload":"deny"}}
    ]"#;
    let mut request = post("/v1/exchanges/batch", &api_key, body);
    request.headers_mut().insert("prefer", "wait=2".parse().unwrap());
    let answer = world.call(request).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let results = answer.json();
    let told: Vec<_> =
        results.as_array().unwrap().iter().map(|it| (it["status"].clone(), it["problem"]["code"].clone())).collect();
    let expected = [
        (json!("sealed"), Value::Null),
        (json!("refused"), json!("idempotency_key_invalid")),
        (json!("refused"), json!("not_i_json")),
        (json!("refused"), json!("chain_conflict")),
        (json!("accepted"), Value::Null),
        (json!("refused"), json!("invalid_request")),
        (json!("sealed"), Value::Null),
        (json!("refused"), json!("destination_denied")),
        (json!("refused"), json!("destination_denied")),
    ];
    assert_eq!(told, expected);
    assert_eq!(results[2]["problem"]["errors"][0]["pointer"], "/2/exchange/payload/n");
    assert_eq!(results[0]["receipt"], results[6]["receipt"]);
    assert_eq!((&results[0]["replayed"], &results[6]["replayed"]), (&json!(false), &json!(true)));
    let names: Vec<_> = results.as_array().unwrap().iter().map(|it| it["idempotency_key"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "a b", "b", "c", "d", "e", "a", "f", "f"]);
    // Wherever it was refused, a pointer leads into this body.
    for (index, pointer) in
        [(1, "/1/idempotency_key"), (5, "/5/exchange"), (7, "/7/exchange/forward_url"), (8, "/8/exchange/forward_url")]
    {
        assert_eq!(results[index]["problem"]["errors"][0]["pointer"], pointer);
    }
    assert_eq!((&results[7]["replayed"], &results[8]["replayed"]), (&json!(false), &json!(true)));
    world.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_bounded_and_must_be_an_array() {
    let world = World::new(Config { batch_items_max: 2, ..Config::default() }).await;
    let api_key = world.api_key(&Scopes::standard()).await;
    let item = r#"{"idempotency_key":"a","exchange":{"payload":1}}"#;
    for (body, code) in [
        (format!("[{item},{item},{item}]"), "invalid_request"),
        ("{}".to_owned(), "invalid_request"),
        ("[".to_owned(), "malformed_json"),
        ("[] x".to_owned(), "malformed_json"),
    ] {
        assert_eq!(world.call(post("/v1/exchanges/batch", &api_key, &body)).await.code(), code, "{body}");
    }
    assert_eq!(world.call(post("/v1/exchanges/batch", &api_key, "[]")).await.json(), json!([]));
    world.end();
}
