//! A hand-made flow of exchanges over all topics, with one fault where a test wants it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use event::topic::{self, Keep};
use event::wire::{
    Admission, ExchangeAdmitted, ExchangeDelivered, ExchangeRejected, ExchangeRequested, ExchangeSealed, LedgerCommand,
    SettlementParked, SettlementPosted, Transfer, UsageRecorded, UsageTotal, Wire, WireAmount,
};
use log::embedded::EmbeddedLog;
use log::{Batch, Cleanup, Group, Log, Member, Output, Polled, Record, Topic, TopicSpec, partition_of};

use crate::place::Place;

pub(super) const PARTITIONS: u32 = 4;
/// 2026-11-01T09:30:00Z: long over.
const BEGAN: i64 = 1_793_525_400_000;
const MINUTE: i64 = 60_000;
/// Every fourth exchange is priced, every third delivered; their numbers are chosen by the tests.
pub(super) const EXCHANGES: usize = 24;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Fault {
    #[default]
    None,
    UsageMissing(usize),
    UsageWrong(usize),
    UsageTwice(usize),
    PostingTwice(usize),
    PostingUnbalanced(usize),
    DeliveryMissing(usize),
    SealMissing(usize),
    TotalWrong,
    /// Meter gave up on this one.
    DeadInMeter(usize),
}

#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) records: Vec<Record>,
    next: BTreeMap<(String, u32), u64>,
    /// Where the sealed record, command and posting of each exchange lie.
    pub(super) sealed: BTreeMap<usize, Place>,
    pub(super) commands: BTreeMap<usize, Place>,
    pub(super) postings: BTreeMap<usize, Vec<Place>>,
    pub(super) letters: Vec<Place>,
    sequence: i64,
}

fn text(text: &str) -> Bytes {
    Bytes::from(text.to_owned())
}

impl World {
    /// Exchanges, duplicates, refusals, a moved record and dead letters.
    pub(super) fn with(fault: Fault) -> Self {
        let mut world = Self::default();
        let mut usage = Vec::new();
        for number in 0..EXCHANGES {
            if let Some(metered) = world.exchange(number, fault) {
                usage.push(metered);
            }
        }
        world.beside();
        world.totals(&usage, fault);
        world
    }

    pub(super) fn put(&mut self, topic: &str, key: &str, at: i64, value: Vec<u8>, headers: &[(&str, &str)]) -> Place {
        let partition = partition_of(key.as_bytes(), PARTITIONS);
        self.put_at(topic, partition, key, at, value, headers)
    }

    fn put_at(
        &mut self,
        topic: &str,
        partition: u32,
        key: &str,
        at: i64,
        value: Vec<u8>,
        headers: &[(&str, &str)],
    ) -> Place {
        let next = self.next.entry((topic.to_owned(), partition)).or_default();
        let offset = *next;
        *next += 1;
        self.records.push(Record {
            topic: Topic::new(topic),
            partition,
            offset,
            time_ms: at,
            key: Some(text(key)),
            value: Some(value.into()),
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect(),
        });
        Place { topic: Topic::new(topic), partition, offset }
    }

    fn caused(&mut self, topic: &str, key: &str, at: i64, value: Vec<u8>, cause: &Place) -> Place {
        let cause = format!("{}:{}:0", cause.partition, cause.offset);
        self.put(topic, key, at, value, &[("cause", &cause)])
    }

    fn request(&mut self, key: &str, at: i64) -> Place {
        let value = requested(key).encode().unwrap();
        self.put(topic::REQUESTED, &format!("acme:{key}"), at, value, &[])
    }

    fn exchange(&mut self, number: usize, fault: Fault) -> Option<(Place, UsageRecorded)> {
        let at = BEGAN + i64::try_from(number).unwrap() * 5 * MINUTE;
        let source = self.request(&format!("key-{number}"), at);
        let admitted = self.admit(number, at, &source);
        if fault == Fault::SealMissing(number) {
            return None;
        }
        let seal = sealed(number, at);
        let trace_key = format!("acme:trace-{}", number % 5);
        let sealed_at = self.caused(topic::SEALED, &trace_key, at, seal.encode().unwrap(), &admitted);
        self.sealed.insert(number, sealed_at.clone());
        if seal.amount.is_some() && fault != Fault::DeadInMeter(number) {
            self.charge(number, at, &sealed_at, fault);
        }
        if seal.forward_url.is_some() && fault != Fault::DeliveryMissing(number) {
            let value = delivered(number, at).encode().unwrap();
            self.caused(topic::DELIVERED, &trace_key, at, value, &sealed_at);
        }
        if fault == Fault::UsageMissing(number) {
            return None;
        }
        if fault == Fault::DeadInMeter(number) {
            let letter = self.letter("meter", &sealed_at, "acme", at, seal.encode().unwrap());
            self.letters.push(letter);
            return None;
        }
        let mut usage = usage(number, at);
        if fault == Fault::UsageWrong(number) {
            usage.fu += 1;
        }
        let place = self.caused(topic::USAGE_RECORDED, "acme", at, usage.encode().unwrap(), &sealed_at);
        if fault == Fault::UsageTwice(number) {
            self.caused(topic::USAGE_RECORDED, "acme", at, usage.encode().unwrap(), &sealed_at);
        }
        Some((place, usage))
    }

    fn admit(&mut self, number: usize, at: i64, source: &Place) -> Place {
        let value = admitted(number, at, true).encode().unwrap();
        self.caused(topic::ADMITTED, &format!("acme:trace-{}", number % 5), at, value, source)
    }

    fn charge(&mut self, number: usize, at: i64, sealed: &Place, fault: Fault) {
        let command = command(number, at, sealed);
        let place = self.caused(topic::LEDGER_COMMAND, "acme:main", at, command.encode().unwrap(), sealed);
        self.commands.insert(number, place.clone());
        self.sequence += 1;
        if number == 8 {
            let value = parked(&command, self.sequence).encode().unwrap();
            self.caused(topic::SETTLEMENT_PARKED, "acme", at, value, &place);
            return;
        }
        let mut posted = posted(&command, self.sequence);
        if fault == Fault::PostingUnbalanced(number) {
            posted.transfers[0].minor += 1;
        }
        let copies = if fault == Fault::PostingTwice(number) { 2 } else { 1 };
        for _ in 0..copies {
            let value = posted.encode().unwrap();
            let at_place = self.caused(topic::SETTLEMENT_POSTED, "acme", at, value, &place);
            self.postings.entry(number).or_default().push(at_place);
        }
    }

    pub(super) fn letter(&mut self, step: &str, source: &Place, tenant: &str, at: i64, value: Vec<u8>) -> Place {
        let cause = format!("{}:{}:0", source.partition, source.offset);
        let (source, at_text) = (source.to_string(), at.to_string());
        let headers = [
            ("cause", cause.as_str()),
            ("reason", "malformed_record"),
            ("detail", "d"),
            ("source", &source),
            ("tenant", tenant),
            ("at", &at_text),
        ];
        self.put(&format!("{step}.dead.v1"), "acme:x", at, value, &headers)
    }

    /// What does not go straight through.
    fn beside(&mut self) {
        let at = BEGAN + MINUTE;
        // A duplicate, a reused key, a refusal of sign, one by canonicalise, a record nobody proved.
        let source = self.request("key-0", at);
        let replay = admitted(0, at, false).encode().unwrap();
        self.caused(topic::ADMITTED, "acme:trace-0", at, replay, &source);
        let source = self.request("key-1", at);
        let refusal = rejected("key-1", at, "canonicalise").encode().unwrap();
        self.caused(topic::REJECTED, "acme:key-1", at, refusal, &source);
        let source = self.request("chain", at);
        let admission = self.admit(3, at, &source);
        let refusal = rejected("chain", at, "sign").encode().unwrap();
        self.caused(topic::REJECTED, "acme:trace-3", at, refusal, &admission);
        let source = self.request("forged", at);
        let letter = self.letter("canonicalise", &source, "-", at, requested("forged").encode().unwrap());
        self.letters.push(letter);
        // Sign gave up on one.
        let source = self.request("sign-dead", at);
        let admission = self.admit(4, at, &source);
        let value = admitted(4, at, true).encode().unwrap();
        self.letter("sign", &admission, "acme", at, value);
        // One lay in the wrong partition, and was refused where it belongs.
        let key = "acme:moved";
        let right = partition_of(key.as_bytes(), PARTITIONS);
        let value = requested("moved").encode().unwrap();
        let origin = self.put_at(topic::REQUESTED, (right + 1) % PARTITIONS, key, at, value.clone(), &[]);
        let moved = self.caused(topic::REQUESTED, key, at, value, &origin);
        let refusal = rejected("moved", at, "canonicalise").encode().unwrap();
        self.caused(topic::REJECTED, key, at, refusal, &moved);
    }

    fn totals(&mut self, usage: &[(Place, UsageRecorded)], fault: Fault) {
        let Some((last, _)) = usage.last() else { return };
        for (index, meter) in ["vex", "fu"].iter().enumerate() {
            let sum: i64 = usage.iter().map(|(_, usage)| if *meter == "vex" { usage.vex } else { usage.fu }).sum();
            let total = UsageTotal {
                tenant: "acme".into(),
                meter: (*meter).into(),
                month: "2026-11".into(),
                total: sum + i64::from(fault == Fault::TotalWrong),
                exchanges: i64::try_from(usage.len() + usize::from(matches!(fault, Fault::UsageTwice(_)))).unwrap(),
                as_of: BEGAN,
            };
            let cause = format!("{}:{}:{index}", last.partition, last.offset);
            let value = total.encode().unwrap();
            self.put(topic::USAGE_TOTAL, &format!("acme:{meter}:2026-11"), BEGAN, value, &[("cause", &cause)]);
        }
    }

    /// The records in another order between partitions; within each they keep theirs.
    pub(super) fn shuffled(&self, seed: u64) -> Vec<Record> {
        let mut lanes: BTreeMap<(Topic, u32), std::collections::VecDeque<Record>> = BTreeMap::new();
        for record in &self.records {
            lanes.entry((record.topic.clone(), record.partition)).or_default().push_back(record.clone());
        }
        let mut lanes: Vec<_> = lanes.into_values().collect();
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut out = Vec::with_capacity(self.records.len());
        while !lanes.is_empty() {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let lane = usize::try_from(state % u64::try_from(lanes.len()).unwrap()).unwrap();
            match lanes[lane].pop_front() {
                Some(record) => out.push(record),
                None => drop(lanes.swap_remove(lane)),
            }
        }
        out
    }

    /// Writes what is not there yet, each record into its own partition.
    pub(super) fn write(&self, log: &dyn Log, from: usize, to: usize) {
        for record in &self.records[from..to] {
            let headers: Vec<(&str, &[u8])> =
                record.headers.iter().map(|(name, value)| (name.as_str(), value.as_ref())).collect();
            let (done, durable) = mpsc::channel();
            log.append(
                &Output {
                    topic: &record.topic,
                    partition: Some(record.partition),
                    key: record.key.as_deref(),
                    value: record.value.as_deref(),
                    headers: &headers,
                },
                Box::new(move |outcome| done.send(outcome).unwrap()),
            )
            .unwrap();
            assert_eq!(durable.recv().unwrap().unwrap().offset, record.offset, "{}", record.topic);
        }
    }
}

/// A log with every topic and group.
pub(super) fn open_log(dir: &Path) -> EmbeddedLog {
    let log = EmbeddedLog::open(dir).unwrap();
    let specs: Vec<TopicSpec> = topic::layouts()
        .into_iter()
        .map(|layout| TopicSpec {
            topic: Topic::new(&layout.name),
            partitions: layout.partitions.unwrap_or(PARTITIONS),
            cleanup: match layout.keep {
                Keep::Newest | Keep::NewestWithinWindow => Cleanup::Compact,
                _ => Cleanup::Delete { retention: None },
            },
            log_append_time: layout.log_append_time,
        })
        .collect();
    let groups: Vec<Group> =
        topic::STEPS.iter().map(|step| Group { name: step.name.into(), inputs: inputs(step) }).collect();
    log.apply(&specs, &groups).unwrap();
    log
}

fn inputs(step: &topic::Step) -> Vec<Topic> {
    vec![Topic::new(step.input), Topic::new(&step.redo_topic())]
}

/// Every step has read everything that is there.
pub(super) fn pass_every_step(log: &dyn Log) {
    for step in topic::STEPS {
        let member = Member {
            group: step.name.into(),
            slot: "t".into(),
            inputs: inputs(step),
            state: step.state.map(Topic::new),
        };
        let mut session = log.join(&member).unwrap();
        let mut batch = Batch::default();
        while !matches!(session.poll(Duration::from_millis(100), &mut batch).unwrap(), Polled::Assigned(_)) {}
        let ends = inputs(step).iter().flat_map(|topic| log.ends(topic).unwrap()).collect::<Vec<_>>();
        loop {
            let mut batch = Batch::default();
            session.poll(Duration::from_millis(10), &mut batch).unwrap();
            session.commit(&ends).unwrap();
            let at: Vec<_> = inputs(step).iter().flat_map(|topic| log.progress(step.name, topic).unwrap()).collect();
            if ends.iter().all(|end| at.contains(end)) {
                break;
            }
        }
    }
}

fn exchange_id(number: usize) -> String {
    format!("ex_{number:026}")
}

pub(super) fn requested(key: &str) -> ExchangeRequested {
    ExchangeRequested {
        tenant: "acme".into(),
        idempotency_key: key.into(),
        payload: b"{}".to_vec(),
        payload_type: "passthrough".into(),
        target_type: None,
        trace_id: None,
        expected_prev_receipt_hash: None,
        amount: None,
        forward_url: None,
    }
}

fn admitted(number: usize, at: i64, admission: bool) -> ExchangeAdmitted {
    ExchangeAdmitted {
        exchange_id: exchange_id(number),
        tenant: "acme".into(),
        trace_id: format!("trace-{}", number % 5),
        at,
        answered: false,
        admission: admission.then(|| Admission {
            idempotency_key: format!("key-{number}"),
            fingerprint: vec![0; 32],
            payload_type: "passthrough".into(),
            target_type: "passthrough".into(),
            request_cid: "sha256:0".into(),
            cid: "sha256:0".into(),
            payload: b"{}".to_vec(),
            payload_key_id: None,
            policy_reason: "no_forward".into(),
            policy_host: None,
            fu: 3,
            amount: None,
            forward_url: None,
            expected_prev_receipt_hash: None,
            config_version: 1,
        }),
    }
}

fn rejected(key: &str, at: i64, decided_by: &str) -> ExchangeRejected {
    ExchangeRejected {
        exchange_id: exchange_id(99),
        tenant: "acme".into(),
        idempotency_key: key.into(),
        trace_id: "trace-9".into(),
        decided_by: decided_by.into(),
        at,
        status: 422,
        code: "idempotency_key_reused".into(),
        detail: "d".into(),
        errors: "[]".into(),
        overwrites: false,
    }
}

fn fu(number: usize) -> i64 {
    i64::try_from(number % 3 + 1).unwrap()
}

fn sealed(number: usize, at: i64) -> ExchangeSealed {
    let minor = if number == 12 { 0 } else { 1000 };
    ExchangeSealed {
        exchange_id: exchange_id(number),
        tenant: "acme".into(),
        trace_id: format!("trace-{}", number % 5),
        idempotency_key: format!("key-{number}"),
        admitted_at: at,
        receipt: format!(r#"{{"v":1,"usage":{{"vex":1,"fu":{}}}}}"#, fu(number)),
        payload: b"{}".to_vec(),
        payload_key_id: None,
        payload_type: "passthrough".into(),
        target_type: "passthrough".into(),
        vex: 1,
        fu: fu(number),
        amount: (number.is_multiple_of(4) && minor > 0).then(|| WireAmount {
            currency: "USD".into(),
            minor,
            payee: "bob".into(),
        }),
        forward_url: number.is_multiple_of(3).then(|| "https://a.example/".into()),
        config_version: 1,
    }
}

fn usage(number: usize, at: i64) -> UsageRecorded {
    UsageRecorded {
        exchange_id: exchange_id(number),
        tenant: "acme".into(),
        trace_id: format!("trace-{}", number % 5),
        admitted_at: at,
        month: "2026-11".into(),
        vex: 1,
        fu: fu(number),
    }
}

fn delivered(number: usize, at: i64) -> ExchangeDelivered {
    ExchangeDelivered {
        exchange_id: exchange_id(number),
        tenant: "acme".into(),
        trace_id: format!("trace-{}", number % 5),
        admitted_at: at,
        delivered: true,
        host: "a.example".into(),
        cid: "sha256:0".into(),
        decided_at: at,
        attempts: Vec::new(),
    }
}

fn transfer(debit: &str, credit: &str, minor: i64) -> Transfer {
    Transfer { debit_account: debit.into(), credit_account: credit.into(), currency: "USD".into(), minor }
}

fn command(number: usize, at: i64, sealed: &Place) -> LedgerCommand {
    LedgerCommand {
        command_id: format!("c-{number}"),
        tenant: "acme".into(),
        idempotency_key: exchange_id(number),
        kind: "exchange_charge".into(),
        decided_in: sealed.to_string(),
        at,
        transfers: vec![transfer("acme:main", "acme:bob", 1000)],
        exchange_id: Some(exchange_id(number)),
        tariff_version: "t1".into(),
        config_version: 1,
    }
}

fn posted(command: &LedgerCommand, sequence: i64) -> SettlementPosted {
    SettlementPosted {
        command_id: command.command_id.clone(),
        tenant: "acme".into(),
        exchange_id: command.exchange_id.clone(),
        kind: command.kind.clone(),
        at: command.at,
        transfers: vec![transfer("acme:main", "acme:bob", 975), transfer("acme:main", "countersign:fees", 25)],
        fee_minor: 25,
        tariff_version: "t1".into(),
        sequence,
        ledger_partition: 0,
    }
}

fn parked(command: &LedgerCommand, sequence: i64) -> SettlementParked {
    SettlementParked {
        command_id: command.command_id.clone(),
        tenant: "acme".into(),
        exchange_id: command.exchange_id.clone(),
        kind: command.kind.clone(),
        at: command.at,
        reason: "no_tariff".into(),
        detail: "d".into(),
        transfers: command.transfers.clone(),
        sequence,
        ledger_partition: 0,
    }
}
