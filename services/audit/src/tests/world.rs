//! A hand-made flow of exchanges over all topics, with one fault where a test wants it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use event::topic;
use event::wire::{
    Admission, ExchangeAdmitted, ExchangeDelivered, ExchangeRejected, ExchangeRequested, ExchangeSealed, LedgerCommand,
    SettlementParked, SettlementPosted, Transfer, UsageRecorded, UsageTotal, Wire, WireAmount,
};
use log::embedded::EmbeddedLog;
use log::{Batch, Group, Log, Member, Polled, Position, Record, Topic};
use stage::testing::{self, HandMade};

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
    pub(super) topics: HandMade,
    /// Where the sealed record, command and posting of each exchange lie.
    pub(super) sealed: BTreeMap<usize, Place>,
    pub(super) commands: BTreeMap<usize, Place>,
    pub(super) postings: BTreeMap<usize, Vec<Place>>,
    pub(super) letters: Vec<Place>,
    sequence: i64,
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
        place(self.topics.put(testing::Place::of_key(topic, key, PARTITIONS, at), value, headers))
    }

    fn caused(&mut self, topic: &str, key: &str, at: i64, value: Vec<u8>, cause: &Place) -> Place {
        let to = testing::Place::of_key(topic, key, PARTITIONS, at);
        place(self.topics.put_caused(to, value, (cause.partition, cause.offset)))
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
        self.letter_of((step, "malformed_record"), source, tenant, at, value)
    }

    fn letter_of(
        &mut self,
        (step, reason): (&str, &str),
        source: &Place,
        tenant: &str,
        at: i64,
        value: Vec<u8>,
    ) -> Place {
        let cause = format!("{}:{}:0", source.partition, source.offset);
        let (source, at_text) = (source.to_string(), at.to_string());
        let headers = [
            ("cause", cause.as_str()),
            ("reason", reason),
            ("detail", "d"),
            ("source", &source),
            ("tenant", tenant),
            ("at", &at_text),
        ];
        self.put(&format!("{step}.dead.v1"), "acme:x", at, value, &headers)
    }

    pub(super) fn find(&self, place: &Place) -> Record {
        self.topics.records.iter().find(|record| Place::of(record) == *place).cloned().unwrap()
    }

    /// What lies there went to the step once more, which had decided it before.
    pub(super) fn redone_again(&mut self, step: &str, place: &Place) {
        let record = self.find(place);
        let value = record.value.unwrap().to_vec();
        let letter = format!("{step}.dead.v1:0:999");
        let redo = format!("{step}.redo.v1");
        let source = self.put(&redo, "acme:x", record.time_ms, value.clone(), &[("redo-of", &letter)]);
        self.letter_of((step, "already_decided"), &source, "acme", record.time_ms, value);
    }

    /// The step says of a record of its own input that it had decided it before.
    pub(super) fn says_already(&mut self, step: &str, place: &Place) {
        let record = self.find(place);
        self.letter_of((step, "already_decided"), place, "acme", record.time_ms, record.value.unwrap().to_vec());
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
        let right = testing::Place::of_key(topic::REQUESTED, key, PARTITIONS, at);
        let wrong = testing::Place { partition: (right.partition + 1) % PARTITIONS, ..right };
        let value = requested("moved").encode().unwrap();
        let origin = place(self.topics.put(wrong, value.clone(), &[]));
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

    pub(super) fn shuffled(&self, seed: u64) -> Vec<Record> {
        self.topics.shuffled(seed)
    }

    /// Writes what is not there yet, each record into its own partition.
    pub(super) fn write(&self, log: &dyn Log, from: usize, to: usize) {
        testing::write(log, &self.topics.records[from..to]);
    }
}

fn place(at: Position) -> Place {
    Place { topic: at.topic, partition: at.partition, offset: at.offset }
}

/// A log with every topic and group.
pub(super) fn open_log(dir: &Path) -> EmbeddedLog {
    let topics = topic::layouts().into_iter().map(|layout| (layout.name, layout.partitions.unwrap_or(PARTITIONS)));
    let groups: Vec<Group> =
        topic::STEPS.iter().map(|step| Group { name: step.name.into(), inputs: inputs(step) }).collect();
    testing::open_log(dir, topics, &groups)
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
            normalization: None,
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
        normalization: None,
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
