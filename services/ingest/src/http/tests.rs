//! The routes on a real embedded log, with a stand-in for canonicalise and sign that answers what the payload asks for.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use access::{ApiKey, Directory, Scope, Scopes, Store, edge};
use axum::body::Body;
use axum::http::{HeaderMap, Method};
use event::envelope::{KEY_ID, REPLY, Reply, SIGNATURE, TRACEPARENT};
use event::id::{ExchangeId, IdempotencyKey, TenantId};
use event::topic::{ANSWER, REQUESTED, SIGNING_KEY};
use event::wire::{ExchangeAnswer, ExchangeRequested, SigningKey, Wire as _};
use http_body_util::BodyExt as _;
use log::embedded::EmbeddedLog;
use log::{Batch, Cleanup, Log, Output, Record, Topic, TopicSpec};
use parking_lot::Mutex;
use stage::Stop;
use tower::ServiceExt as _;

use super::*;
use crate::config::Config;
use crate::start::{Ingest, start};

const BASE: &str = "https://countersign.example";

/// A whole ingest beside its log.
pub(crate) struct World {
    pub(crate) router: Router,
    pub(crate) ingest: Ingest,
    pub(crate) store: Store,
    pub(crate) directory: Arc<Directory>,
    pub(crate) log: Arc<dyn Log>,
    /// Every request record that the stand-in saw.
    pub(crate) seen: Arc<Mutex<Vec<Record>>>,
    stop: Stop,
    threads: Vec<JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

impl World {
    pub(crate) async fn new(config: Config) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log: Arc<dyn Log> = Arc::new(EmbeddedLog::open(&dir.path().join("log")).unwrap());
        log.apply(&specs(), &[]).unwrap();
        let store = Store::open(&dir.path().join("access.db")).await.unwrap();
        let (directory, stop) = (Arc::new(Directory::new()), Stop::new());
        let seen = Arc::default();
        let threads = vec![follow_directory(&log, &directory, &stop), answer_all(&log, &seen, &stop)];
        let access = (store.clone(), Arc::clone(&directory));
        let ingest = start(config, Arc::clone(&log), access, Vec::new(), &stop).await.unwrap();
        let router = edge::dress(router(ingest.state.clone()), BASE);
        Self { router, ingest, store, directory, log, seen, stop, threads, _dir: dir }
    }

    pub(crate) async fn api_key(&self, scopes: &Scopes) -> ApiKey {
        let api_key = self.store.create_api_key(&tenant(), scopes).await.unwrap();
        let mut changes = self.directory.changes();
        let known = changes.wait_for(|_| self.directory.api_key(&api_key).is_some());
        tokio::time::timeout(Duration::from_secs(20), known).await.unwrap().unwrap();
        api_key
    }

    async fn call(&self, request: axum::http::Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status.as_u16(), headers: parts.headers, bytes: bytes.to_vec() }
    }

    /// `POST /v1/exchanges` with more headers than the necessary ones.
    async fn post(&self, api_key: &ApiKey, name: &str, body: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = post("/v1/exchanges", api_key, body);
        request.headers_mut().insert("idempotency-key", name.parse().unwrap());
        for (header, value) in headers {
            let header: axum::http::HeaderName = header.parse().unwrap();
            request.headers_mut().insert(header, value.parse().unwrap());
        }
        self.call(request).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.call(axum::http::Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub(crate) fn end(self) {
        self.stop.request();
        self.ingest.join();
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    bytes: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    fn code(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        self.json()["code"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn tenant() -> TenantId {
    TenantId::parse("acme").unwrap()
}

fn post(path: &str, api_key: &ApiKey, body: &str) -> axum::http::Request<Body> {
    axum::http::Request::post(path)
        .header("authorization", format!("Bearer {}", api_key.expose()))
        .header("content-type", "application/json")
        .body(Body::from(body.to_owned()))
        .unwrap()
}

fn specs() -> Vec<TopicSpec> {
    let spec = |layout: event::topic::Layout| TopicSpec {
        topic: Topic::new(&layout.name),
        partitions: layout.partitions.unwrap_or(4),
        cleanup: Cleanup::Delete { retention: None },
        log_append_time: layout.log_append_time,
    };
    event::topic::layouts().into_iter().map(spec).collect()
}

fn follow_directory(log: &Arc<dyn Log>, directory: &Arc<Directory>, stop: &Stop) -> JoinHandle<()> {
    let (log, directory, stop) = (Arc::clone(log), Arc::clone(directory), stop.clone());
    std::thread::spawn(move || directory.follow(&*log, &|| stop.requested()))
}

/// Answers every request record: `"never"` not at all, `"refuse"` with a refusal, everything else with a seal. A key
/// seen before gets what it got, marked as a replay.
fn answer_all(log: &Arc<dyn Log>, seen: &Arc<Mutex<Vec<Record>>>, stop: &Stop) -> JoinHandle<()> {
    let (log, seen, stop) = (Arc::clone(log), Arc::clone(seen), stop.clone());
    std::thread::spawn(move || {
        let mut tail = log.tail(&log.starts(&Topic::new(REQUESTED)).unwrap()).unwrap();
        let mut decided: HashMap<String, ExchangeAnswer> = HashMap::new();
        let mut batch = Batch::default();
        while !stop.requested() {
            batch.records.clear();
            tail.poll(Duration::from_millis(50), &mut batch).unwrap();
            for record in batch.records.drain(..) {
                let request = ExchangeRequested::decode(record.value.as_ref().unwrap()).unwrap();
                let reply = Reply::parse(record.header(REPLY).unwrap()).unwrap();
                seen.lock().push(record);
                if request.payload == b"\"never\"" {
                    continue;
                }
                let known = decided.get(&request.idempotency_key).cloned();
                let mut answer = known.clone().unwrap_or_else(|| decide(&request));
                decided.insert(request.idempotency_key.clone(), answer.clone());
                answer.replayed = known.is_some();
                answer.nonce = reply.nonce;
                write(&*log, ANSWER, Some(reply.slot), &answer.encode().unwrap());
            }
        }
    })
}

fn decide(request: &ExchangeRequested) -> ExchangeAnswer {
    let name = IdempotencyKey::parse(request.idempotency_key.as_str()).unwrap();
    let exchange_id = ExchangeId::derive(&tenant(), &name).to_string();
    let payload: Value = serde_json::from_slice(&request.payload).unwrap();
    let (status, code, body) = if payload == json!("refuse") {
        let body = json!({"detail": "The head is another.", "errors": [], "head": "sha256:00"});
        (409, Some("chain_conflict".to_owned()), body)
    } else {
        let trace_id = request.trace_id.clone().unwrap_or_else(|| exchange_id.clone());
        let body = json!({"exchange_id": exchange_id, "trace_id": trace_id, "status": "sealed", "normalized": payload, "receipt": {"v": 1}});
        (201, None, body)
    };
    ExchangeAnswer {
        nonce: String::new(),
        exchange_id,
        tenant: request.tenant.clone(),
        status,
        replayed: false,
        code,
        body: body.to_string().into_bytes(),
    }
}

fn write(log: &dyn Log, topic: &str, partition: Option<u32>, value: &[u8]) {
    let (done, durable) = std::sync::mpsc::channel();
    let topic = Topic::new(topic);
    let output = Output { topic: &topic, partition, key: Some(b"k"), value: Some(value), headers: &[] };
    log.append(&output, Box::new(move |outcome| done.send(outcome).unwrap())).unwrap();
    durable.recv().unwrap().unwrap();
}

/// Waits until it holds; a condition that never comes is a failed test.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap_or_else(|_| panic!("never came: {what}"));
}

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
        ("invalid_parameter", 400, world.call(post("/v1/exchanges?dry_run=true", &api_key, good)).await),
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
        {"idempotency_key":"a","exchange":{"payload":{"n":1}}}
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
    ];
    assert_eq!(told, expected);
    assert_eq!(results[2]["problem"]["errors"][0]["pointer"], "/2/exchange/payload/n");
    assert_eq!(results[0]["receipt"], results[6]["receipt"]);
    assert_eq!((&results[0]["replayed"], &results[6]["replayed"]), (&json!(false), &json!(true)));
    assert_eq!(results[0]["idempotency_key"], "a");
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
    let key_of_page = include_str!("tests/receipt_key.json");
    let receipt = include_str!("tests/receipt.json");
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
