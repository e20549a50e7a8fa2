//! Sends a plan: many requests at a time, each until it is decided, whatever happens to the pipeline meanwhile.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::Client;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::input::{Expected, HEAD, Plan, Request, Rng, Script};

/// How long a request is repeated.
const PATIENCE: Duration = Duration::from_secs(300);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Before an undecided request is sent again, unless the pipeline comes back earlier.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// A script goes on so many scripts later at most.
const LATER: u64 = 2_000;

/// A decision as the client saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    status: u16,
    is_replayed: bool,
    body: String,
}

/// What the driver saw.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Requests sent, repeats counted.
    pub(super) sent: usize,
    pub(super) replayed: usize,
    /// What must not be.
    pub(super) faults: Vec<String>,
}

pub(super) struct Driver {
    client: Client,
    base: watch::Receiver<Option<String>>,
    /// API key by tenant.
    api_keys: Vec<String>,
    queue: Mutex<VecDeque<Script>>,
    rng: Mutex<Rng>,
    /// The body of each sealed exchange, by tenant and key: every answer must be the same.
    sealed: Mutex<HashMap<(usize, String), String>>,
    seen: Mutex<Seen>,
    sent: AtomicUsize,
    decided: watch::Sender<usize>,
}

impl Driver {
    pub(super) fn new(
        plan: &Plan,
        seed: u64,
        base: watch::Receiver<Option<String>>,
        api_keys: Vec<String>,
    ) -> Arc<Self> {
        let client = Client::builder().timeout(ANSWER_TIMEOUT).no_proxy().build().expect("an HTTP client");
        Arc::new(Self {
            client,
            base,
            api_keys,
            queue: Mutex::new(plan.scripts.clone()),
            rng: Mutex::new(Rng::new(seed)),
            sealed: Mutex::default(),
            seen: Mutex::default(),
            sent: AtomicUsize::new(0),
            decided: watch::Sender::new(0),
        })
    }

    /// How many requests are decided.
    pub(super) fn decided(&self) -> watch::Receiver<usize> {
        self.decided.subscribe()
    }

    pub(super) fn seen(&self) -> Seen {
        let seen = self.seen.lock().expect("not poisoned").clone();
        Seen { sent: self.sent.load(Ordering::Relaxed), ..seen }
    }

    /// Sends everything, `at_once` scripts at a time.
    pub(super) async fn run(self: Arc<Self>, at_once: usize) {
        let mut workers = JoinSet::new();
        for _ in 0..at_once {
            let driver = Arc::clone(&self);
            workers.spawn(async move {
                while let Some(script) = driver.take() {
                    driver.advance(script).await;
                }
            });
        }
        while let Some(ended) = workers.join_next().await {
            ended.expect("a worker ends when nothing is left");
        }
    }

    fn take(&self) -> Option<Script> {
        self.queue.lock().expect("not poisoned").pop_front()
    }

    /// One phase, or all of a chain; the rest goes back into the queue.
    async fn advance(self: &Arc<Self>, mut script: Script) {
        let mut head: Option<String> = None;
        while let Some(phase) = script.phases.pop_front() {
            let mut sending = JoinSet::new();
            for mut request in phase {
                if let Some(head) = head.as_deref() {
                    request.body = request.body.replace(HEAD, head);
                }
                let driver = Arc::clone(self);
                sending.spawn(async move { driver.decide(request).await });
            }
            while let Some(answered) = sending.join_next().await {
                head = answered.expect("a request ends");
            }
            if !script.is_chain && !script.phases.is_empty() {
                let mut queue = self.queue.lock().expect("not poisoned");
                let bound = LATER.min(queue.len() as u64 + 1);
                let place = usize::try_from(self.rng.lock().expect("not poisoned").below(bound)).expect("an index");
                queue.insert(place, script);
                return;
            }
        }
    }

    /// Sends a request until it is decided; answers the receipt's hash where it is sealed.
    async fn decide(&self, request: Request) -> Option<String> {
        let decision = tokio::time::timeout(PATIENCE, async {
            loop {
                if let Some(answer) = self.attempt(&request).await {
                    return answer;
                }
                let mut base = self.base.clone();
                base.mark_unchanged();
                // A client's pause, cut short when the pipeline is back.
                drop(tokio::time::timeout(RETRY_PAUSE, base.changed()).await);
            }
        });
        let head = match decision.await {
            Ok(answer) => self.judge(&request, &answer),
            Err(_) => {
                self.fault(format!("{}: not decided within {PATIENCE:?}", request.idempotency_key));
                None
            }
        };
        self.decided.send_modify(|decided| *decided += 1);
        head
    }

    /// `None`: the outcome is unknown, the same key finds out.
    async fn attempt(&self, request: &Request) -> Option<Answer> {
        let base = self.base.clone().wait_for(Option::is_some).await.expect("the pipeline outlives the driver").clone();
        self.sent.fetch_add(1, Ordering::Relaxed);
        let response = self
            .client
            .post(format!("{}/v1/exchanges", base.expect("it is there")))
            .bearer_auth(&self.api_keys[request.tenant])
            .header("content-type", "application/json")
            .header("idempotency-key", &request.idempotency_key)
            .body(request.body.clone())
            .send()
            .await
            .ok()?;
        let status = response.status().as_u16();
        let is_replayed = response.headers().contains_key("idempotent-replayed");
        let body = response.text().await.ok()?;
        let is_unknown = status == 202 || matches!(status, 408 | 429) || status >= 500;
        (!is_unknown).then_some(Answer { status, is_replayed, body })
    }

    fn judge(&self, request: &Request, answer: &Answer) -> Option<String> {
        let key = &request.idempotency_key;
        let told: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let code = told["code"].as_str().unwrap_or_default();
        let is_as_expected = match request.expected {
            Expected::Sealed => answer.status == 201 && told["status"] == "sealed",
            Expected::Refused(expected) | Expected::AtTheDoor(expected) => code == expected,
            Expected::Reused => answer.status == 422 && code == "idempotency_key_reused",
        };
        if !is_as_expected {
            self.fault(format!("{key}: {:?} expected, {} {} came", request.expected, answer.status, answer.body));
            return None;
        }
        if answer.is_replayed {
            self.seen.lock().expect("not poisoned").replayed += 1;
        }
        if request.expected != Expected::Sealed {
            return None;
        }
        let mut sealed = self.sealed.lock().expect("not poisoned");
        let first = sealed.entry((request.tenant, key.clone())).or_insert_with(|| answer.body.clone());
        if *first != answer.body {
            let (first, now) = (first.clone(), &answer.body);
            drop(sealed);
            self.fault(format!("{key}: one key, two answers: {first} and {now}"));
        }
        told["receipt"]["receipt_hash"].as_str().map(str::to_owned)
    }

    fn fault(&self, fault: String) {
        self.seen.lock().expect("not poisoned").faults.push(fault);
    }

    /// Receipt hashes that clients were given, by exchange id.
    pub(super) fn receipts_given(&self) -> HashMap<String, String> {
        let sealed = self.sealed.lock().expect("not poisoned");
        sealed
            .values()
            .map(|body| {
                let told: Value = serde_json::from_str(body).unwrap_or_default();
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                (text(&told["exchange_id"]), text(&told["receipt"]["receipt_hash"]))
            })
            .collect()
    }
}
