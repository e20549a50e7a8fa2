//! What is asked of a simulated pipeline.

use bytes::Bytes;
use event::envelope::{KEY_ID, REPLY, SIGNATURE, request_key};
use event::topic::REQUESTED;
use event::wire::{ExchangeRequested, TenantConfig, Wire, WireAmount};
use log::kafka::hostile::{Chance, Simulation};
use log::{Topic, partition_of};

pub(super) const TENANTS: [&str; 2] = ["acme", "globex"];
/// Answer slots in use.
pub(super) const SLOTS: u32 = 3;
/// When the simulated log's clock begins.
const EPOCH_MS: i64 = 1_767_225_600_000;
const PRODUCER: &str = "ingest-1";
const SECRET: &str = "cs-secret";
const KEYS: u64 = 5;

/// One record on the request topic.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) tenant: &'static str,
    pub(super) key: String,
    /// Which of the bodies; another one under the same key is refused.
    pub(super) body: u64,
    pub(super) trace: Option<String>,
    pub(super) nonce: String,
    pub(super) is_forged: bool,
}

impl Request {
    fn drawn(number: usize, chance: &mut Chance) -> Self {
        let tenant = if chance.happens(700) { TENANTS[0] } else { TENANTS[1] };
        Self {
            tenant,
            key: format!("k{}", chance.below(KEYS)),
            body: u64::from(chance.happens(150)),
            trace: chance.happens(700).then(|| format!("t{}", chance.below(3))),
            nonce: format!("n{number}"),
            is_forged: chance.happens(50),
        }
    }

    pub(super) fn payload(&self) -> String {
        format!("{{\"body\":{}}}", self.body)
    }

    /// Minor units; every second key has a price.
    pub(super) fn price(&self) -> Option<i64> {
        let number: i64 = self.key.strip_prefix('k').and_then(|number| number.parse().ok())?;
        (number % 2 == 1).then_some(100 * number)
    }

    fn record(&self) -> ExchangeRequested {
        ExchangeRequested {
            tenant: self.tenant.to_owned(),
            idempotency_key: self.key.clone(),
            // Spelt in another way than it is kept.
            payload: format!(" {{ \"body\" : {}.0 }} ", self.body).into_bytes(),
            payload_type: "passthrough".to_owned(),
            target_type: None,
            trace_id: self.trace.clone(),
            expected_prev_receipt_hash: None,
            amount: self.price().map(|minor| WireAmount {
                currency: "USD".to_owned(),
                minor,
                payee: "agent-7".to_owned(),
            }),
            forward_url: None,
        }
    }
}

/// Requests by partition, in the order of the log.
#[derive(Clone, Debug)]
pub(super) struct Inputs {
    pub(super) partitions: Vec<Vec<Request>>,
    count: usize,
}

impl Inputs {
    pub(super) fn new(partitions: u32) -> Self {
        Self { partitions: (0..partitions).map(|_| Vec::new()).collect(), count: 0 }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Writes a few requests, as ingest does.
    pub(super) fn load(&mut self, simulation: &Simulation, chance: &mut Chance) {
        for _ in 0..chance.index(4) {
            let request = Request::drawn(self.count, chance);
            self.count += 1;
            let key = request_key(request.tenant, &request.key);
            let value = request.record().encode().expect("a request can be encoded");
            let secret = if request.is_forged { "not-the-secret" } else { SECRET };
            let signature = event::hmac::sign(secret, REQUESTED, key.as_bytes(), &value).expect("a key of any length");
            let slot = u32::try_from(self.count).unwrap_or_default() % SLOTS;
            let headers = vec![
                (KEY_ID.to_owned(), Bytes::from_static(PRODUCER.as_bytes())),
                (SIGNATURE.to_owned(), Bytes::from(signature)),
                (REPLY.to_owned(), Bytes::from(format!("{slot}:{}", request.nonce))),
            ];
            let partitions = u32::try_from(self.partitions.len()).unwrap_or(u32::MAX);
            let partition = partition_of(key.as_bytes(), partitions);
            let now_ms = EPOCH_MS + i64::try_from(simulation.elapsed().as_millis()).unwrap_or_default();
            simulation.append_with((&Topic::new(REQUESTED), partition), (key.as_bytes(), &value), now_ms, headers);
            let at = usize::try_from(partition).unwrap_or_default();
            self.partitions.get_mut(at).expect("a partition of the topic").push(request);
        }
    }
}

/// Who may write, and for whom.
pub(super) fn tenants() -> Vec<TenantConfig> {
    let entry = |kind: &str, id: &str, tenant: &str, body: serde_json::Value| TenantConfig {
        kind: kind.to_owned(),
        id: id.to_owned(),
        tenant: tenant.to_owned(),
        body: body.to_string(),
        removed: false,
    };
    let mut entries = vec![entry("producer", PRODUCER, "*", serde_json::json!({"secret": SECRET}))];
    for tenant in TENANTS {
        let settings = serde_json::json!({"forward_allowlist": [], "webhook_secret": "whsec_AAAA"});
        entries.push(entry("tenant", tenant, tenant, settings));
    }
    entries
}
