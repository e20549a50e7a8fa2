use std::sync::Arc;

use super::*;
use event::topic::{ANSWER, REJECTED, SEALED};
use event::wire::ExchangeAnswer;
use log::embedded::EmbeddedLog;
use signing::SigningKeys;
use stage::Emit;
use stage::testing::{MemoryEffects, record};

const T0: i64 = 1_767_225_600_000;
const DAY: i64 = 86_400_000;

struct Bench {
    step: Sign,
    effects: MemoryEffects,
    keys: proof::KeyRing,
    offset: u64,
    /// Read only by replays of what an earlier batch sealed.
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log: Arc<dyn log::Log> = Arc::new(EmbeddedLog::open(dir.path()).unwrap());
        let key = proof::SigningKey::from_seed(&[7; 32], 0, None);
        let mut keys = proof::KeyRing::new();
        keys.insert(key.public().clone()).unwrap();
        let settings =
            Settings { window: Window::of_days(Some(35)), keys: Keyring::fixed(SigningKeys::new(vec![key])) };
        Self {
            step: Sign::new(settings, SealedLookup::new(log)),
            effects: MemoryEffects::default(),
            keys,
            offset: 0,
            _dir: dir,
        }
    }

    fn send(&mut self, admitted: &ExchangeAdmitted) -> Result<Vec<Emit>, StepError> {
        self.send_by(ADMITTED, admitted.at, admitted)
    }

    /// A dead letter that comes back at `time_ms`.
    fn redo(&mut self, time_ms: i64, admitted: &ExchangeAdmitted) -> Result<Vec<Emit>, StepError> {
        self.send_by("sign.redo.v1", time_ms, admitted)
    }

    fn send_by(&mut self, topic: &str, time_ms: i64, admitted: &ExchangeAdmitted) -> Result<Vec<Emit>, StepError> {
        let key = trace_key(&admitted.tenant, &admitted.trace_id);
        let mut record = record(topic, 0, self.offset, time_ms, &key, admitted.encode().unwrap());
        self.offset += 1;
        record.headers.push((event::envelope::REPLY.into(), "3:n".into()));
        self.step.apply(&record, &mut self.effects)?;
        self.step.finish(0, &mut self.effects)?;
        Ok(self.effects.take())
    }

    fn seal(&mut self, admitted: &ExchangeAdmitted) -> ExchangeSealed {
        let emits = self.send(admitted).unwrap();
        let emit = emits.iter().find(|emit| emit.topic.as_str() == SEALED).expect("a sealed record");
        ExchangeSealed::decode(emit.value.as_ref().unwrap()).unwrap()
    }

    fn verify(&self, receipts: &[&str]) -> proof::Verdict {
        let chain = format!("[{}]", receipts.join(","));
        proof::verify(chain.as_bytes(), proof::Trust { given: &self.keys, embedded: false }, &[])
    }
}

fn id(n: u32) -> String {
    let key = event::id::IdempotencyKey::parse(format!("k{n}")).unwrap();
    ExchangeId::derive(&TenantId::parse("acme").unwrap(), &key).to_string()
}

fn admitted(n: u32, at: i64) -> ExchangeAdmitted {
    let cid = event::digest::digest_of(b"{}").to_string();
    ExchangeAdmitted {
        exchange_id: id(n),
        tenant: "acme".into(),
        trace_id: "t".into(),
        at,
        answered: false,
        admission: Some(Admission {
            idempotency_key: format!("k{n}"),
            fingerprint: vec![0; 32],
            payload_type: "passthrough".into(),
            target_type: "passthrough".into(),
            request_cid: cid.clone(),
            cid,
            payload: b"{}".to_vec(),
            payload_key_id: None,
            policy_reason: "no_forward".into(),
            policy_host: None,
            fu: 0,
            amount: None,
            forward_url: None,
            expected_prev_receipt_hash: None,
            config_version: 1,
            normalization: None,
        }),
    }
}

fn expecting(n: u32, at: i64, expected: &str) -> ExchangeAdmitted {
    let mut admitted = admitted(n, at);
    admitted.admission.as_mut().unwrap().expected_prev_receipt_hash = Some(expected.to_owned());
    admitted
}

fn hash_of(sealed: &ExchangeSealed) -> String {
    let receipt: serde_json::Value = serde_json::from_str(&sealed.receipt).unwrap();
    receipt["receipt_hash"].as_str().unwrap().to_owned()
}

fn answer(emits: &[Emit]) -> ExchangeAnswer {
    let emit = emits.iter().find(|emit| emit.topic.as_str() == ANSWER).expect("an answer");
    assert_eq!(emit.partition, Some(3));
    ExchangeAnswer::decode(emit.value.as_ref().unwrap()).unwrap()
}

#[test]
fn the_hops_of_a_trace_verify_as_one_chain() {
    let mut bench = Bench::new();
    let sealed: Vec<ExchangeSealed> = (0..3).map(|n| bench.seal(&admitted(n, T0 + i64::from(n)))).collect();
    let receipts: Vec<&str> = sealed.iter().map(|sealed| sealed.receipt.as_str()).collect();
    assert_eq!(bench.verify(&receipts).verdict, proof::Code::Ok);
}

#[test]
fn time_in_a_chain_does_not_run_backwards() {
    let mut bench = Bench::new();
    let first = bench.seal(&admitted(0, T0 + 500));
    let second = bench.seal(&admitted(1, T0));
    assert_eq!(bench.verify(&[&first.receipt, &second.receipt]).verdict, proof::Code::Ok);
    assert_eq!(second.admitted_at, T0);
}

#[test]
fn a_wrong_expectation_is_a_conflict_that_names_the_head() {
    let mut bench = Bench::new();
    let head = hash_of(&bench.seal(&admitted(0, T0)));
    for (n, expected) in [(1, "first".to_owned()), (2, format!("sha256:{}", "0".repeat(64)))] {
        let emits = bench.send(&expecting(n, T0 + 1, &expected)).unwrap();
        let told = answer(&emits);
        assert_eq!((told.status, told.code.as_deref()), (409, Some("chain_conflict")));
        assert!(String::from_utf8(told.body).unwrap().contains(&head), "{expected}");
        assert!(emits.iter().any(|emit| emit.topic.as_str() == REJECTED));
        assert!(emits.iter().all(|emit| emit.topic.as_str() != SEALED));
    }
    bench.seal(&expecting(3, T0 + 2, &head));
}

#[test]
fn a_chain_that_was_quiet_for_the_window_is_closed_and_a_new_one_opens() {
    let mut bench = Bench::new();
    let head = hash_of(&bench.seal(&admitted(0, T0)));
    let told = answer(&bench.send(&expecting(1, T0 + 36 * DAY, &head)).unwrap());
    assert_eq!((told.status, told.code.as_deref()), (409, Some("head_expired")));
    let opened = bench.seal(&expecting(2, T0 + 36 * DAY, "first"));
    assert_eq!(bench.verify(&[&opened.receipt]).verdict, proof::Code::Ok);
}

#[test]
fn a_replay_gets_the_answer_of_the_original() {
    let mut bench = Bench::new();
    let first = answer(&bench.send(&admitted(0, T0)).unwrap());
    let replay = ExchangeAdmitted { admission: None, ..admitted(0, T0 + 1) };
    let again = answer(&bench.send(&replay).unwrap());
    assert_eq!((first.status, first.replayed, again.status, again.replayed), (201, false, 201, true));
    assert_eq!(first.body, again.body);
}

#[test]
fn a_refusal_of_the_chain_is_replayed_too() {
    let mut bench = Bench::new();
    bench.seal(&admitted(0, T0));
    let first = answer(&bench.send(&expecting(1, T0, "first")).unwrap());
    let again = answer(&bench.send(&ExchangeAdmitted { admission: None, ..admitted(1, T0 + 1) }).unwrap());
    assert_eq!((again.status, again.replayed, &again.body), (409, true, &first.body));
}

#[test]
fn an_exchange_is_never_sealed_twice_and_a_replay_needs_an_original() {
    let mut bench = Bench::new();
    bench.seal(&admitted(0, T0));
    assert!(
        matches!(bench.send(&admitted(0, T0)), Err(StepError::Reject(reject)) if reject.reason == "already_decided")
    );
    let orphan = ExchangeAdmitted { admission: None, ..admitted(9, T0) };
    assert!(
        matches!(bench.send(&orphan), Err(StepError::Reject(reject)) if reject.reason == "replay_without_original")
    );
}

#[test]
fn without_a_valid_key_nothing_is_refused() {
    let mut bench = Bench::new();
    bench.step.settings.keys = Keyring::fixed(SigningKeys::new(Vec::new()));
    assert!(matches!(bench.send(&admitted(0, T0)), Err(StepError::Wait(_))));
}

#[test]
fn a_chain_does_not_fork_where_admission_times_cross_a_generation() {
    let mut bench = Bench::new();
    let boundary = 35 * DAY * 600;
    let times = [boundary + 1, boundary - 1, boundary + 2, boundary - 2];
    let sealed: Vec<ExchangeSealed> = (0..4).zip(times).map(|(n, at)| bench.seal(&admitted(n, at))).collect();
    let receipts: Vec<&str> = sealed.iter().map(|sealed| sealed.receipt.as_str()).collect();
    assert_eq!(bench.verify(&receipts).verdict, proof::Code::Ok);
}

#[test]
fn an_admission_older_than_every_living_generation_is_sealed_and_does_not_stop_the_step() {
    let mut bench = Bench::new();
    bench.seal(&admitted(0, T0));
    bench.seal(&admitted(1, T0 + 100 * DAY));
    let old = bench.seal(&ExchangeAdmitted { trace_id: "old".into(), ..admitted(2, T0 + 1) });
    assert_eq!(old.admitted_at, T0 + 1);
    assert!(matches!(
        bench.send(&ExchangeAdmitted { trace_id: "old".into(), ..admitted(2, T0 + 1) }),
        Err(StepError::Reject(_))
    ));
}

#[test]
fn a_dead_letter_that_is_redone_twice_is_sealed_once_also_after_the_window() {
    let mut bench = Bench::new();
    assert!(!bench.redo(T0 + DAY, &admitted(1, T0)).unwrap().is_empty());
    // The trace goes on, and the window of the first decision ends.
    bench.seal(&admitted(2, T0 + 40 * DAY));
    let again = bench.redo(T0 + 41 * DAY, &admitted(1, T0));
    assert!(matches!(again, Err(StepError::Reject(reject)) if reject.reason == "already_decided"));
}
