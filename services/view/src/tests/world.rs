//! Hand-made records of every topic, with real receipts, and the places to keep them.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use event::digest::digest_of;
use event::id::{ExchangeId, IdempotencyKey, TenantId, TraceId};
use event::time::Timestamp;
use event::topic;
use event::wire::{
    Admission, Attempt, ExchangeAdmitted, ExchangeDelivered, ExchangeRejected, ExchangeRequested, ExchangeSealed,
    LedgerCommand, SettlementParked, SettlementPosted, SigningKey as SigningKeyRecord, Transfer, UsageRecorded,
    UsageTotal, Wire, WireAmount,
};
use log::embedded::EmbeddedLog;
use proof::{Draft, Policy, SigningKey};
pub(super) use stage::testing::write;
use stage::testing::{self, HandMade, Place};

use crate::Database;

pub(super) const PARTITIONS: u32 = 3;
/// 2026-11-01T00:00:00Z.
pub(super) const BEGAN: i64 = 1_793_491_200_000;
pub(super) const EXCHANGES: usize = 12;

#[derive(Default)]
pub(super) struct World {
    topics: HandMade,
    sequence: i64,
}

pub(super) fn exchange_id(tenant: &str, key: &str) -> String {
    let tenant = TenantId::parse(tenant).unwrap();
    ExchangeId::derive(&tenant, &IdempotencyKey::parse(key).unwrap()).to_string()
}

type At = (u32, u64);

impl World {
    /// One trace of twelve sealed exchanges of acme (every third priced, every fourth delivered), one of globex, and
    /// what did not go through.
    pub(super) fn full() -> Self {
        let mut world = Self::default();
        let signing_key = SigningKey::from_seed(&[7; 32], 0, None);
        world.signing_key(&signing_key);
        let mut before = None;
        for number in 0..EXCHANGES {
            before = Some(world.exchange("acme", number, &signing_key, before));
        }
        world.exchange("globex", 0, &signing_key, None);
        world.total("vex", 11, 11);
        world.total("vex", 12, 12);
        world.total("fu", 36, 12);
        world.beside();
        world
    }

    pub(super) fn put(&mut self, topic: &str, key: &str, at: i64, value: Vec<u8>, headers: &[(&str, &str)]) -> At {
        let at = self.topics.put(place(topic, key, at), value, headers);
        (at.partition, at.offset)
    }

    fn caused(&mut self, topic: &str, key: &str, at: i64, value: Vec<u8>, cause: At) -> At {
        let at = self.topics.put_caused(place(topic, key, at), value, cause);
        (at.partition, at.offset)
    }

    fn signing_key(&mut self, signing_key: &SigningKey) {
        let kid = signing_key.public().kid().to_owned();
        let record =
            SigningKeyRecord { kid: kid.clone(), used_for: "receipt".into(), jwk: signing_key.public().to_jwk() };
        self.put(topic::SIGNING_KEY, &kid, BEGAN, record.encode().unwrap(), &[]);
    }

    pub(super) fn request(&mut self, tenant: &str, key: &str, trace: Option<&str>, at: i64) -> At {
        let value = requested(tenant, key, trace).encode().unwrap();
        self.put(topic::REQUESTED, &format!("{tenant}:{key}"), at, value, &[])
    }

    fn exchange(
        &mut self,
        tenant: &str,
        number: usize,
        signing_key: &SigningKey,
        before: Option<proof::Receipt>,
    ) -> proof::Receipt {
        let at = BEGAN + i64::try_from(number).unwrap() * 60_000;
        let key = format!("key-{number}");
        let exchange_id = exchange_id(tenant, &key);
        let trace_key = format!("{tenant}:trace-1");
        let source = self.request(tenant, &key, Some("trace-1"), at);
        let value = admitted(tenant, &exchange_id, at, true).encode().unwrap();
        let admission = self.caused(topic::ADMITTED, &trace_key, at, value, source);
        let receipt = receipt(tenant, &exchange_id, at, before.as_ref(), signing_key);
        let priced = number.is_multiple_of(3);
        let seal = sealed(tenant, &exchange_id, at, receipt.to_json(), priced);
        let sealed_at = self.caused(topic::SEALED, &trace_key, at, seal.encode().unwrap(), admission);
        let usage = UsageRecorded {
            exchange_id: exchange_id.clone(),
            tenant: tenant.into(),
            trace_id: "trace-1".into(),
            admitted_at: at,
            month: "2026-11".into(),
            vex: 1,
            fu: 3,
        };
        self.caused(topic::USAGE_RECORDED, tenant, at, usage.encode().unwrap(), sealed_at);
        if priced {
            self.charge(tenant, number, &exchange_id, at, sealed_at);
        }
        if number.is_multiple_of(4) {
            let value = delivered(tenant, &exchange_id, at).encode().unwrap();
            self.caused(topic::DELIVERED, &trace_key, at + 5, value, sealed_at);
        }
        receipt
    }

    /// The first is posted, the second parked, the third owed; then posted again.
    fn charge(&mut self, tenant: &str, number: usize, exchange_id: &str, at: i64, sealed: At) {
        let command = LedgerCommand {
            command_id: format!("cmd-{tenant}-{number}"),
            tenant: tenant.into(),
            idempotency_key: exchange_id.into(),
            kind: "exchange_charge".into(),
            decided_in: format!("exchange.sealed.v1:{}:{}", sealed.0, sealed.1),
            at,
            transfers: vec![transfer(tenant, "main", "bob", 1000)],
            exchange_id: Some(exchange_id.into()),
            tariff_version: "t1".into(),
            config_version: 1,
        };
        let place =
            self.caused(topic::LEDGER_COMMAND, &format!("{tenant}:main"), at, command.encode().unwrap(), sealed);
        self.sequence += 1;
        if number == 3 {
            let parked = SettlementParked {
                command_id: command.command_id,
                tenant: tenant.into(),
                exchange_id: Some(exchange_id.into()),
                kind: command.kind,
                at,
                reason: "no_tariff".into(),
                detail: "There is no tariff.".into(),
                transfers: command.transfers,
                sequence: self.sequence,
                ledger_partition: 0,
            };
            self.caused(topic::SETTLEMENT_PARKED, tenant, at, parked.encode().unwrap(), place);
        } else if number != 6 {
            let mut fee = transfer(tenant, "main", "bob", 25);
            fee.credit_account = "countersign:fees".into();
            let posted = SettlementPosted {
                command_id: command.command_id,
                tenant: tenant.into(),
                exchange_id: Some(exchange_id.into()),
                kind: command.kind,
                at,
                transfers: vec![transfer(tenant, "main", "bob", 975), fee],
                fee_minor: 25,
                tariff_version: "t1".into(),
                sequence: self.sequence,
                ledger_partition: 0,
            };
            self.caused(topic::SETTLEMENT_POSTED, tenant, at, posted.encode().unwrap(), place);
        }
    }

    fn total(&mut self, meter: &str, total: i64, exchanges: i64) {
        let record = UsageTotal {
            tenant: "acme".into(),
            meter: meter.into(),
            month: "2026-11".into(),
            total,
            exchanges,
            as_of: BEGAN,
        };
        self.put(topic::USAGE_TOTAL, &format!("acme:{meter}:2026-11"), BEGAN, record.encode().unwrap(), &[]);
    }

    fn beside(&mut self) {
        let at = BEGAN + 3_600_000;
        // A duplicate under another trace, and another request with a used key.
        let source = self.request("acme", "key-0", Some("trace-2"), at);
        let value = admitted("acme", &exchange_id("acme", "key-0"), at, false).encode().unwrap();
        self.caused(topic::ADMITTED, "acme:trace-1", at, value, source);
        let source = self.request("acme", "key-1", None, at);
        let value = rejected("key-1", "idempotency_key_reused", at, false).encode().unwrap();
        self.caused(topic::REJECTED, "acme:key-1", at, value, source);
        // Refused, dead, waiting, and one that proved no tenant.
        let source = self.request("acme", "refused", Some("trace-9"), at + 1);
        let value = rejected("refused", "schema_violation", at + 1, true).encode().unwrap();
        self.caused(topic::REJECTED, "acme:refused", at + 1, value, source);
        let source = self.request("acme", "dead", Some("trace-9"), at + 2);
        self.letter("acme", "dead", source, at + 2);
        self.request("acme", "waiting", Some("trace-9"), at + 3);
        let source = self.request("acme", "forged", Some("trace-9"), at + 4);
        self.letter("-", "forged", source, at + 4);
    }

    fn letter(&mut self, tenant: &str, key: &str, source: At, at: i64) {
        let (cause, place) =
            (format!("{}:{}:0", source.0, source.1), format!("exchange.requested.v1:{}:{}", source.0, source.1));
        let at_text = at.to_string();
        let headers = [
            ("cause", cause.as_str()),
            ("reason", "malformed_record"),
            ("detail", "d"),
            ("source", &place),
            ("tenant", tenant),
            ("at", &at_text),
        ];
        let value = requested("acme", key, Some("trace-9")).encode().unwrap();
        self.put("canonicalise.dead.v1", &format!("acme:{key}"), at, value, &headers);
    }
}

impl std::ops::Deref for World {
    type Target = HandMade;

    fn deref(&self) -> &HandMade {
        &self.topics
    }
}

/// Where the key belongs, in as many partitions as the topic has.
fn place<'a>(topic: &'a str, key: &'a str, at: i64) -> Place<'a> {
    let fixed = topic::layouts().into_iter().find(|layout| layout.name == topic).and_then(|layout| layout.partitions);
    Place::of_key(topic, key, fixed.unwrap_or(PARTITIONS), at)
}

pub(super) fn open_log(dir: &Path) -> EmbeddedLog {
    let topics = topic::layouts().into_iter().map(|layout| (layout.name, layout.partitions.unwrap_or(PARTITIONS)));
    testing::open_log(dir, topics, &[])
}

pub(super) fn sqlite(dir: &Path) -> Database {
    Database::Sqlite { file: dir.join("view.db") }
}

/// A schema of the test's own.
pub(super) fn postgres() -> Database {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let url = std::env::var("COUNTERSIGN_TEST_POSTGRES")
        .expect("COUNTERSIGN_TEST_POSTGRES is not set: run the tests by scripts/test, which starts PostgreSQL");
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    Database::Postgres { url, schema: format!("view_{}_{number}_{:08x}", std::process::id(), rand::random::<u32>()) }
}

fn requested(tenant: &str, key: &str, trace: Option<&str>) -> ExchangeRequested {
    ExchangeRequested {
        tenant: tenant.into(),
        idempotency_key: key.into(),
        payload: b"{}".to_vec(),
        payload_type: "passthrough".into(),
        target_type: None,
        trace_id: trace.map(str::to_owned),
        expected_prev_receipt_hash: None,
        amount: None,
        forward_url: None,
    }
}

fn admitted(tenant: &str, exchange_id: &str, at: i64, admission: bool) -> ExchangeAdmitted {
    ExchangeAdmitted {
        exchange_id: exchange_id.into(),
        tenant: tenant.into(),
        trace_id: "trace-1".into(),
        at,
        answered: false,
        admission: admission.then(|| Admission {
            idempotency_key: "k".into(),
            fingerprint: vec![0; 32],
            payload_type: "passthrough".into(),
            target_type: "passthrough".into(),
            request_cid: digest_of(b"{}").to_string(),
            cid: digest_of(b"{}").to_string(),
            payload: b"{}".to_vec(),
            payload_key_id: None,
            policy_reason: "no_forward".into(),
            policy_host: None,
            fu: 3,
            amount: None,
            forward_url: None,
            expected_prev_receipt_hash: None,
            config_version: 1,
            normalization: None,
        }),
    }
}

fn rejected(key: &str, code: &str, at: i64, overwrites: bool) -> ExchangeRejected {
    ExchangeRejected {
        exchange_id: exchange_id("acme", key),
        tenant: "acme".into(),
        idempotency_key: key.into(),
        trace_id: "trace-9".into(),
        decided_by: "canonicalise".into(),
        at,
        status: 422,
        code: code.into(),
        detail: "It is not right.".into(),
        errors: r#"[{"pointer":"/payload/a","code":"type","detail":"d"}]"#.into(),
        overwrites,
    }
}

fn receipt(
    tenant: &str,
    exchange_id: &str,
    at: i64,
    before: Option<&proof::Receipt>,
    signing_key: &SigningKey,
) -> proof::Receipt {
    let exchange_id = ExchangeId::parse(exchange_id).unwrap();
    Draft {
        tenant: TenantId::parse(tenant).unwrap(),
        chain: before.map_or_else(|| exchange_id.clone(), |before| before.draft.chain.clone()),
        exchange_id,
        trace_id: TraceId::parse("trace-1").unwrap(),
        hop: before.map_or(1, |before| before.draft.hop + 1),
        ts: Timestamp::from_millis(at).unwrap(),
        payload_type: "passthrough".into(),
        target_type: "passthrough".into(),
        request_cid: digest_of(b"{}"),
        cid: digest_of(b"{}"),
        policy: Policy { reason: "no_forward".into(), host: None },
        fu: 3,
        amount: None,
        prev_receipt_hash: before.map(|before| before.receipt_hash),
    }
    .seal(signing_key)
    .unwrap()
}

fn sealed(tenant: &str, exchange_id: &str, at: i64, receipt: String, priced: bool) -> ExchangeSealed {
    ExchangeSealed {
        exchange_id: exchange_id.into(),
        tenant: tenant.into(),
        trace_id: "trace-1".into(),
        idempotency_key: "k".into(),
        admitted_at: at,
        receipt,
        payload: b"{}".to_vec(),
        payload_key_id: None,
        payload_type: "passthrough".into(),
        target_type: "passthrough".into(),
        vex: 1,
        fu: 3,
        amount: priced.then(|| WireAmount { currency: "USD".into(), minor: 1000, payee: "bob".into() }),
        forward_url: None,
        config_version: 1,
        normalization: None,
    }
}

fn delivered(tenant: &str, exchange_id: &str, at: i64) -> ExchangeDelivered {
    let attempt = |attempt, status, error: Option<&str>| Attempt {
        attempt,
        at: at + i64::from(attempt),
        status,
        address: Some("192.0.2.1:443".into()),
        response_bytes: 2,
        duration_ms: 12,
        error: error.map(str::to_owned),
    };
    ExchangeDelivered {
        exchange_id: exchange_id.into(),
        tenant: tenant.into(),
        trace_id: "trace-1".into(),
        admitted_at: at,
        delivered: true,
        host: "a.example".into(),
        cid: digest_of(b"{}").to_string(),
        decided_at: at + 2,
        attempts: vec![attempt(1, Some(500), Some("status")), attempt(2, Some(200), None)],
    }
}

fn transfer(tenant: &str, debit: &str, credit: &str, minor: i64) -> Transfer {
    Transfer {
        debit_account: format!("{tenant}:{debit}"),
        credit_account: format!("{tenant}:{credit}"),
        currency: "USD".into(),
        minor,
    }
}
