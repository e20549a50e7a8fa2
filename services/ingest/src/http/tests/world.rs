//! A whole ingest beside a real embedded log, with a stand-in for canonicalise and sign.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use access::{ApiKey, Directory, Scopes, Store, edge};
use axum::Router;
use axum::body::Body;
use axum::http::HeaderMap;
use event::envelope::{REPLY, Reply};
use event::id::{ExchangeId, IdempotencyKey, TenantId};
use event::topic::{ANSWER, REQUESTED};
use event::wire::{ExchangeAnswer, ExchangeRequested, Wire as _};
use http_body_util::BodyExt as _;
use log::embedded::EmbeddedLog;
use log::{Batch, Cleanup, Log, Output, Record, Topic, TopicSpec};
use parking_lot::Mutex;
use serde_json::{Value, json};
use stage::Stop;
use tower::ServiceExt as _;

use crate::config::Config;
use crate::http::router;
use crate::start::{Ingest, start};

pub(super) const BASE: &str = "https://countersign.example";

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

    pub(super) async fn call(&self, request: axum::http::Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status.as_u16(), headers: parts.headers, bytes: bytes.to_vec() }
    }

    /// `POST /v1/exchanges` with more headers than the necessary ones.
    pub(super) async fn post(&self, api_key: &ApiKey, name: &str, body: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = post("/v1/exchanges", api_key, body);
        request.headers_mut().insert("idempotency-key", name.parse().unwrap());
        for (header, value) in headers {
            let header: axum::http::HeaderName = header.parse().unwrap();
            request.headers_mut().insert(header, value.parse().unwrap());
        }
        self.call(request).await
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
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
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) bytes: Vec<u8>,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(super) fn code(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        self.json()["code"].as_str().unwrap().to_owned()
    }
}

pub(super) fn tenant() -> TenantId {
    TenantId::parse("acme").unwrap()
}

pub(super) fn post(path: &str, api_key: &ApiKey, body: &str) -> axum::http::Request<Body> {
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

/// Answers every request record: `"never"` not at all, `"refuse"` and `"deny"` with refusals, everything else with a seal.
/// A key seen before gets what it got, marked as a replay.
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
    } else if payload == json!("deny") {
        let error = json!({"pointer": "/forward_url", "code": "not_allowlisted", "detail": "No."});
        (403, Some("destination_denied".to_owned()), json!({"detail": "No.", "errors": [error]}))
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

pub(super) fn write(log: &dyn Log, topic: &str, partition: Option<u32>, value: &[u8]) {
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
