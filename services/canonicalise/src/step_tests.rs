use super::*;
use event::envelope::{KEY_ID, SIGNATURE};
use event::topic::{ADMITTED, ANSWER, REJECTED, REQUESTED};
use event::wire::{ExchangeAnswer, ExchangeRejected, TenantConfig, WireAmount};
use stage::Emit;
use stage::testing::{MemoryEffects, record};

const PARTITIONS: u32 = 4;
pub(super) const SECRET: &str = "cs-secret";
pub(super) const T0: i64 = 1_767_225_600_000;

pub(super) fn entry(kind: &str, id: &str, tenant: &str, body: serde_json::Value) -> TenantConfig {
    TenantConfig { kind: kind.into(), id: id.into(), tenant: tenant.into(), body: body.to_string(), removed: false }
}

fn directory() -> Arc<Directory> {
    let settings = serde_json::json!({"forward_allowlist": ["good.example"], "webhook_secret": "whsec_AAAA"});
    Arc::new(Directory::of([
        entry("tenant", "acme", "acme", settings),
        entry("producer", "ingest-1", "*", serde_json::json!({"secret": SECRET})),
        entry("producer", "own-1", "acme", serde_json::json!({"secret": SECRET})),
    ]))
}

pub(super) struct Bench {
    step: Canonicalise,
    effects: MemoryEffects,
    offset: u64,
}

impl Bench {
    fn new() -> Self {
        Self::with(directory(), Box::new(|| Ok(())))
    }

    pub(super) fn with(directory: Arc<Directory>, refresh: Refresh) -> Self {
        let settings =
            Settings { window: Window::of_days(Some(35)), limits: Limits::default(), partitions: PARTITIONS };
        let step = Canonicalise::new(settings, directory, refresh);
        Self { step, effects: MemoryEffects::default(), offset: 0 }
    }

    pub(super) fn apply(&mut self, record: &Record) -> Result<Vec<Emit>, StepError> {
        self.step.apply(record, &mut self.effects)?;
        self.step.finish(record.partition, &mut self.effects)?;
        Ok(self.effects.take())
    }

    pub(super) fn send(&mut self, request: &ExchangeRequested, at: i64) -> Vec<Emit> {
        let record = self.signed("ingest-1", request, at);
        self.apply(&record).unwrap()
    }

    /// A record as ingest or a producer of the tenant's own would write it.
    pub(super) fn signed(&mut self, producer: &str, request: &ExchangeRequested, at: i64) -> Record {
        let key = request_key(&request.tenant, &request.idempotency_key);
        let value = request.encode().unwrap();
        let partition = partition_of(key.as_bytes(), PARTITIONS);
        let mut record = record(REQUESTED, partition, self.offset, at, &key, value);
        self.offset += 1;
        let signature = event::hmac::sign(SECRET, REQUESTED, key.as_bytes(), record.value.as_ref().unwrap()).unwrap();
        record.headers.push((KEY_ID.into(), producer.to_owned().into()));
        record.headers.push((SIGNATURE.into(), signature.into()));
        record.headers.push((REPLY.into(), "7:n1".into()));
        record
    }
}

pub(super) fn request(key: &str, payload: &str) -> ExchangeRequested {
    ExchangeRequested {
        tenant: "acme".into(),
        idempotency_key: key.into(),
        payload: payload.as_bytes().to_vec(),
        payload_type: "passthrough".into(),
        target_type: None,
        trace_id: None,
        expected_prev_receipt_hash: None,
        amount: None,
        forward_url: None,
    }
}

pub(super) fn admitted(emits: &[Emit]) -> ExchangeAdmitted {
    let emit = emits.iter().find(|emit| emit.topic.as_str() == ADMITTED).expect("an admission or a replay");
    ExchangeAdmitted::decode(emit.value.as_ref().unwrap()).unwrap()
}

pub(super) fn rejected(emits: &[Emit]) -> ExchangeRejected {
    let emit = emits.iter().find(|emit| emit.topic.as_str() == REJECTED).expect("a refusal");
    ExchangeRejected::decode(emit.value.as_ref().unwrap()).unwrap()
}

pub(super) fn answer(emits: &[Emit]) -> Option<ExchangeAnswer> {
    let emit = emits.iter().find(|emit| emit.topic.as_str() == ANSWER)?;
    assert_eq!(emit.partition, Some(7));
    Some(ExchangeAnswer::decode(emit.value.as_ref().unwrap()).unwrap())
}

fn reason(outcome: Result<Vec<Emit>, StepError>) -> &'static str {
    match outcome {
        Err(StepError::Reject(reject)) => reject.reason,
        other => panic!("expected a dead letter, got {other:?}"),
    }
}

#[test]
fn a_request_is_admitted_in_canonical_form_under_its_trace() {
    let mut bench = Bench::new();
    let emits =
        bench.send(&ExchangeRequested { trace_id: Some("t-1".into()), ..request("k", "{\"b\":1,\"a\":2.0}") }, T0);
    assert_eq!(emits.len(), 1);
    assert_eq!(emits[0].key.as_deref(), Some(b"acme:t-1".as_ref()));
    let admission = admitted(&emits).admission.unwrap();
    assert_eq!(admission.payload, b"{\"a\":2,\"b\":1}");
    assert_eq!((admission.policy_reason.as_str(), admission.policy_host), ("no_forward", None));
}

#[test]
fn the_same_request_again_is_a_replay_under_the_original_trace() {
    let mut bench = Bench::new();
    bench.send(&ExchangeRequested { trace_id: Some("t-1".into()), ..request("k", "{\"a\":1,\"b\":2}") }, T0);
    let again = ExchangeRequested { trace_id: Some("t-2".into()), ..request("k", " { \"b\":2.0, \"a\":1 }") };
    let emits = bench.send(&again, T0 + 1);
    let replay = admitted(&emits);
    assert_eq!((replay.trace_id.as_str(), replay.admission, replay.answered), ("t-1", None, false));
    assert!(emits[0].headers.iter().any(|(name, _)| name == REPLY));
}

#[test]
fn another_body_under_the_same_key_is_refused_with_both_digests_and_leaves_the_original() {
    let mut bench = Bench::new();
    bench.send(&request("k", "1"), T0);
    let emits = bench.send(&request("k", "2"), T0 + 1);
    let refused = rejected(&emits);
    assert_eq!((refused.code.as_str(), refused.overwrites), ("idempotency_key_reused", false));
    assert_eq!(refused.detail.matches("sha256:").count(), 2);
    assert_eq!(answer(&emits).unwrap().status, 422);
    assert!(admitted(&bench.send(&request("k", "1"), T0 + 2)).admission.is_none());
}

#[test]
fn a_price_or_a_destination_belongs_to_the_body() {
    let mut bench = Bench::new();
    let amount = WireAmount { currency: "USD".into(), minor: 5, payee: "p".into() };
    bench.send(&ExchangeRequested { amount: Some(amount.clone()), ..request("k", "1") }, T0);
    let dearer = WireAmount { minor: 6, ..amount };
    let emits = bench.send(&ExchangeRequested { amount: Some(dearer), ..request("k", "1") }, T0);
    assert_eq!(rejected(&emits).code, "idempotency_key_reused");
}

#[test]
fn a_refusal_is_the_answer_for_ever() {
    let mut bench = Bench::new();
    let denied = ExchangeRequested { forward_url: Some("https://evil.example/x".into()), ..request("k", "1") };
    let first = bench.send(&denied, T0);
    assert_eq!((rejected(&first).code.as_str(), answer(&first).unwrap().status), ("destination_denied", 403));
    let again = bench.send(&denied, T0 + 1);
    let told = answer(&again).unwrap();
    assert_eq!((told.status, told.replayed, told.body), (403, true, answer(&first).unwrap().body));
    assert!(admitted(&again).answered);
    assert!(again.iter().all(|emit| emit.topic.as_str() != REJECTED));
}

#[test]
fn an_allowlisted_destination_is_named_in_the_policy() {
    let mut bench = Bench::new();
    let emits =
        bench.send(&ExchangeRequested { forward_url: Some("https://GOOD.example/x".into()), ..request("k", "1") }, T0);
    let admission = admitted(&emits).admission.unwrap();
    assert_eq!(
        (admission.policy_reason.as_str(), admission.policy_host.as_deref()),
        ("allowlisted", Some("good.example"))
    );
}

#[test]
fn what_the_json_door_refuses_names_pointer_and_code_and_is_compared_by_its_bytes() {
    let mut bench = Bench::new();
    let emits = bench.send(&request("k", "{\"a\":[1,{\"x\":9007199254740993}]}"), T0);
    let refused = rejected(&emits);
    assert_eq!(refused.code, "not_i_json");
    assert!(
        refused.errors.contains("\"/payload/a/1/x\"") && refused.errors.contains("unsafe_integer"),
        "{}",
        refused.errors
    );
    let again = bench.send(&request("k", "{\"a\":[1,{\"x\":9007199254740993}]}"), T0);
    assert!(answer(&again).unwrap().replayed);
    let other = bench.send(&request("k", "{\"a\":[1,{\"x\":9007199254740995}]}"), T0);
    assert_eq!(rejected(&other).code, "idempotency_key_reused");
}

#[test]
fn admission_time_never_runs_backwards() {
    let mut bench = Bench::new();
    let first = admitted(&bench.send(&request("k1", "1"), T0));
    // The same partition, a clock that was set back.
    let mut record = bench.signed("ingest-1", &request("k1", "1"), T0 - 60_000);
    record.offset += 1;
    assert_eq!(admitted(&bench.apply(&record).unwrap()).at, first.at);
}

#[test]
fn nobody_writes_unsigned_or_for_another_tenant() {
    let mut bench = Bench::new();
    let mut unsigned = bench.signed("own-1", &request("k", "1"), T0);
    unsigned.headers.clear();
    assert_eq!(reason(bench.apply(&unsigned)), "unauthenticated");
    let mut altered = bench.signed("own-1", &request("k", "1"), T0);
    altered.value = Some(request("k", "2").encode().unwrap().into());
    assert_eq!(reason(bench.apply(&altered)), "unauthenticated");
    let foreign = ExchangeRequested { tenant: "other".into(), ..request("k", "1") };
    let record = bench.signed("own-1", &foreign, T0);
    assert_eq!(reason(bench.apply(&record)), "unauthenticated");
    let unknown = bench.signed("nobody", &request("k", "1"), T0);
    assert_eq!(reason(bench.apply(&unknown)), "unauthenticated");
}

#[test]
fn a_foreign_record_is_admitted_but_its_reply_header_is_not_believed() {
    let mut bench = Bench::new();
    let record = bench.signed("own-1", &request("k", "1"), T0);
    let emits = bench.apply(&record).unwrap();
    assert!(admitted(&emits).admission.is_some());
    assert!(emits[0].headers.iter().all(|(name, _)| name != REPLY));
}

#[test]
fn a_record_in_the_wrong_partition_is_moved_with_its_signature() {
    let mut bench = Bench::new();
    let mut record = bench.signed("own-1", &request("k", "1"), T0);
    record.partition = (record.partition + 1) % PARTITIONS;
    let emits = bench.apply(&record).unwrap();
    assert_eq!((emits.len(), emits[0].topic.as_str(), emits[0].partition), (1, REQUESTED, None));
    assert_eq!((&emits[0].key, &emits[0].value), (&record.key, &record.value));
    assert!(emits[0].headers.iter().any(|(name, _)| name == SIGNATURE));
}

#[test]
fn a_wrong_record_key_an_unknown_schema_and_a_bad_idempotency_key_are_dead_letters() {
    let mut bench = Bench::new();
    let sign_again = |record: &mut Record| {
        let key = record.key.clone().unwrap_or_default();
        let signature = event::hmac::sign(SECRET, REQUESTED, &key, record.value.as_ref().unwrap()).unwrap();
        record.headers.retain(|(name, _)| name != SIGNATURE);
        record.headers.push((SIGNATURE.into(), signature.into()));
    };
    let mut wrong_key = bench.signed("own-1", &request("k", "1"), T0);
    wrong_key.key = Some("acme:other".into());
    sign_again(&mut wrong_key);
    assert_eq!(reason(bench.apply(&wrong_key)), "record_key_mismatch");
    let mut unknown = bench.signed("own-1", &request("k", "1"), T0);
    unknown.value = Some(vec![0, 0, 0, 9, 9, 1].into());
    sign_again(&mut unknown);
    assert_eq!(reason(bench.apply(&unknown)), "unknown_schema");
    let spaced = bench.signed("own-1", &request("k k", "1"), T0);
    assert_eq!(reason(bench.apply(&spaced)), "idempotency_key_invalid");
}

#[test]
fn bad_members_of_a_foreign_record_are_refused_with_their_pointer() {
    for (bad, pointer) in [
        (ExchangeRequested { trace_id: Some("a b".into()), ..request("k", "1") }, "/trace_id"),
        (ExchangeRequested { payload_type: "nope".into(), ..request("k", "1") }, "/payload_type"),
        (
            ExchangeRequested {
                amount: Some(WireAmount { currency: "USD".into(), minor: -1, payee: "p".into() }),
                ..request("k", "1")
            },
            "/amount/minor",
        ),
        (
            ExchangeRequested { expected_prev_receipt_hash: Some("x".into()), ..request("k", "1") },
            "/expected_prev_receipt_hash",
        ),
        (ExchangeRequested { forward_url: Some("http://good.example/".into()), ..request("k", "1") }, "/forward_url"),
    ] {
        let emits = Bench::new().send(&bad, T0);
        let refused = rejected(&emits);
        assert_eq!(refused.status, 422, "{pointer}");
        assert!(refused.errors.contains(&format!("\"{pointer}\"")), "{pointer}: {}", refused.errors);
    }
}
