//! A load that must not notice anything: every request is answered 201.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::{Value, json};
use tokio::task::JoinSet;

const CLIENTS: usize = 8;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);
const DEADLINE: Duration = Duration::from_secs(120);

pub(super) struct Load {
    base: String,
    api_key: String,
    client: Client,
    stop: AtomicBool,
    sent: AtomicUsize,
    sealed: Mutex<Vec<Value>>,
    /// What must not be.
    faults: Mutex<Vec<String>>,
}

/// The key that signed a receipt.
pub(super) fn kid(receipt: &Value) -> String {
    use base64::Engine as _;
    let (header, _) = receipt["jws"].as_str().expect("a jws").split_once("..").expect("a detached one");
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(header).expect("base64url");
    let header: Value = serde_json::from_slice(&header).expect("JSON");
    header["kid"].as_str().expect("a kid").to_owned()
}

impl Load {
    pub(super) fn new(base: &str, api_key: &str) -> Arc<Self> {
        // An error means that a provider is installed already, which is all that is wanted.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = Client::builder().timeout(ANSWER_TIMEOUT).no_proxy().build().expect("an HTTP client");
        Arc::new(Self {
            base: base.to_owned(),
            api_key: api_key.to_owned(),
            client,
            stop: AtomicBool::new(false),
            sent: AtomicUsize::new(0),
            sealed: Mutex::default(),
            faults: Mutex::default(),
        })
    }

    /// Sends until the end is asked for; each client has a trace of its own, and so a chain.
    pub(super) async fn run(self: Arc<Self>) {
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let load = Arc::clone(&self);
            clients.spawn(async move {
                while !load.stop.load(Ordering::Relaxed) {
                    load.send(&format!("trace-{client}")).await;
                }
            });
        }
        while let Some(ended) = clients.join_next().await {
            ended.expect("no client panics");
        }
    }

    pub(super) async fn send(&self, trace_id: &str) {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        let exchange = json!({"payload": {"number": number}, "trace_id": trace_id});
        let request = self.client.post(format!("{}/v1/exchanges", self.base)).bearer_auth(&self.api_key);
        let request = request.header("Idempotency-Key", format!("{trace_id}-{number}")).header("Prefer", "wait=60");
        let answer = async {
            let response = request.json(&exchange).send().await?;
            Ok::<_, reqwest::Error>((response.status().as_u16(), response.json::<Value>().await?))
        };
        match answer.await {
            Ok((201, mut body)) => self.sealed.lock().expect("no panic").push(body["receipt"].take()),
            other => self.faults.lock().expect("no panic").push(format!("{number}: {other:?}")),
        }
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    pub(super) fn end(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Waits until so many receipts are there that were signed by this key.
    pub(super) async fn signed_by(&self, key: &str, count: usize) {
        let deadline = Instant::now() + DEADLINE;
        while self.kids().get(key).copied().unwrap_or(0) < count {
            assert!(Instant::now() < deadline, "{:?} instead of {count} by {key}; {:?}", self.kids(), self.faults());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// How many receipts each key signed.
    pub(super) fn kids(&self) -> BTreeMap<String, usize> {
        let mut kids = BTreeMap::new();
        for receipt in &*self.sealed.lock().expect("no panic") {
            *kids.entry(kid(receipt)).or_default() += 1;
        }
        kids
    }

    pub(super) fn faults(&self) -> Vec<String> {
        self.faults.lock().expect("no panic").clone()
    }

    /// Every receipt, chain by chain in the order of the hops.
    pub(super) fn receipts(&self) -> Vec<Value> {
        let mut receipts = self.sealed.lock().expect("no panic").clone();
        receipts.sort_by_key(|receipt| (receipt["chain"].to_string(), receipt["hop"].as_u64()));
        receipts
    }

    /// The JWKS, as anybody may fetch it.
    pub(super) async fn jwks(&self) -> String {
        let url = format!("{}/.well-known/jwks.json", self.base);
        self.client.get(url).send().await.expect("an answer").text().await.expect("a text")
    }
}
