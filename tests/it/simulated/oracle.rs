//! What must be true after any schedule, told from the requests alone.

use std::collections::{BTreeMap, BTreeSet};

use event::id::{ExchangeId, IdempotencyKey, TenantId};
use event::topic::{self, ADMITTED, ANSWER, LEDGER_COMMAND, REJECTED, SEALED, USAGE_RECORDED, USAGE_TOTAL};
use event::wire::{ExchangeAnswer, ExchangeRejected, ExchangeSealed, LedgerCommand, UsageRecorded, UsageTotal, Wire};
use log::Topic;
use log::kafka::hostile::{CommittedRecord, Simulation};
use proof::{Code, KeyRing, Trust};

use super::input::{Inputs, Request, TENANTS};
use super::pipeline::{STEPS, signing_key};

/// An exchange that must be sealed.
struct Original<'a> {
    request: &'a Request,
    trace: String,
}

/// What the requests lead to.
#[derive(Default)]
struct Expected<'a> {
    /// By exchange id.
    sealed: BTreeMap<String, Original<'a>>,
    /// By nonce: the exchange and whether it is the first answer; `None` where the key was used for another body.
    answers: BTreeMap<&'a str, Option<(String, bool)>>,
    /// Partition and offset of the requests that are refused, and of those that are nobody's.
    refused: BTreeSet<(u32, u64)>,
    forged: BTreeSet<(u32, u64)>,
}

fn expected(inputs: &Inputs) -> Expected<'_> {
    let mut expected = Expected::default();
    for (partition, requests) in (0_u32..).zip(&inputs.partitions) {
        for (offset, request) in (0_u64..).zip(requests) {
            if request.is_forged {
                expected.forged.insert((partition, offset));
                continue;
            }
            let id = exchange_id(request);
            let original = expected.sealed.get(&id).map(|original| original.request.body);
            let answer = match original {
                None => {
                    let trace = request.trace.clone().unwrap_or_else(|| id.clone());
                    expected.sealed.insert(id.clone(), Original { request, trace });
                    Some((id, true))
                }
                Some(body) if body == request.body => Some((id, false)),
                Some(_) => {
                    expected.refused.insert((partition, offset));
                    None
                }
            };
            expected.answers.insert(&request.nonce, answer);
        }
    }
    expected
}

fn exchange_id(request: &Request) -> String {
    let tenant = TenantId::parse(request.tenant).expect("a tenant");
    let key = IdempotencyKey::parse(request.key.as_str()).expect("a key");
    ExchangeId::derive(&tenant, &key).to_string()
}

pub(super) fn check(simulation: &Simulation, inputs: &Inputs) -> Result<(), String> {
    let expected = expected(inputs);
    check_causes(simulation)?;
    check_sealed(simulation, &expected)?;
    check_answers(simulation, &expected)?;
    check_refused(simulation, &expected)?;
    check_usage(simulation, &expected)?;
    check_money(simulation, &expected)
}

fn decoded<T: Wire>(record: &CommittedRecord) -> Result<T, String> {
    let value = record.value.as_deref().unwrap_or_default();
    T::decode(value).map_err(|error| format!("{}-{} cannot be read: {error}", record.partition, record.offset))
}

fn records<T: Wire>(simulation: &Simulation, topic: &str) -> Result<Vec<T>, String> {
    simulation.committed(&Topic::new(topic)).iter().map(decoded).collect()
}

/// The same things on both sides, each once.
fn same<T: Ord + std::fmt::Debug>(what: &str, found: Vec<T>, expected: impl Iterator<Item = T>) -> Result<(), String> {
    let mut found = found;
    let mut expected: Vec<T> = expected.collect();
    found.sort();
    expected.sort();
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?} instead of {expected:?}")) }
}

/// Partition, offset and index of the record that this one follows from.
fn cause(record: &CommittedRecord) -> Option<(u32, u64, u64)> {
    let (_, cause) = record.headers.iter().rev().find(|(name, _)| name == "cause")?;
    let mut parts = std::str::from_utf8(cause).ok()?.split(':');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// No cause is named twice, causes rise within a partition, and what follows from a record is in the transaction that
/// moved the step past it.
fn check_causes(simulation: &Simulation) -> Result<(), String> {
    let of_step = [
        ("canonicalise", ADMITTED),
        ("canonicalise", REJECTED),
        ("canonicalise", "canonicalise.dead.v1"),
        ("sign", SEALED),
        ("meter", USAGE_RECORDED),
        ("meter", LEDGER_COMMAND),
        ("meter.tally", USAGE_TOTAL),
    ];
    for (step, output) in of_step {
        let input = Topic::new(topic::step(step).expect("a step").input);
        let (mut known, mut last) = (BTreeSet::new(), BTreeMap::new());
        for record in simulation.committed(&Topic::new(output)) {
            let at = format!("{output}-{}:{}", record.partition, record.offset);
            let cause = cause(&record).ok_or_else(|| format!("{at} names no cause"))?;
            let (partition, offset, _) = cause;
            if !known.insert(cause) {
                return Err(format!("{at} is the second that names {cause:?}"));
            }
            if last.insert((record.partition, partition), cause).is_some_and(|before| before > cause) {
                return Err(format!("{at} comes after what follows from a later record"));
            }
            let moved = simulation.passed_by(step, (&input, partition), offset);
            // A step that has a record behind it in one call for several is past it all the same.
            if record.transaction.is_none() || record.transaction != moved {
                return Err(format!("{at} is of {:?}, and its input was passed by {moved:?}", record.transaction));
            }
        }
    }
    for step in STEPS.iter().filter(|step| **step != "canonicalise") {
        let dead = format!("{step}.dead.v1");
        if !simulation.committed(&Topic::new(&dead)).is_empty() {
            return Err(format!("there are records on {dead}"));
        }
    }
    Ok(())
}

/// Each admitted exchange once, as it was asked for; each trace one chain in the order of the log.
fn check_sealed(simulation: &Simulation, expected: &Expected<'_>) -> Result<(), String> {
    let mut found = Vec::new();
    let mut chains: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for sealed in records::<ExchangeSealed>(simulation, SEALED)? {
        let Some(original) = expected.sealed.get(&sealed.exchange_id) else {
            return Err(format!("{} is sealed, and nobody asked for it", sealed.exchange_id));
        };
        let asked = (original.request.tenant, original.trace.as_str(), original.request.payload().into_bytes());
        if (sealed.tenant.as_str(), sealed.trace_id.as_str(), sealed.payload) != asked {
            return Err(format!("{} is not sealed as it was asked for", sealed.exchange_id));
        }
        chains.entry((sealed.tenant, sealed.trace_id)).or_default().push(sealed.receipt);
        found.push(sealed.exchange_id);
    }
    same("sealed", found, expected.sealed.keys().cloned())?;
    let mut keys = KeyRing::new();
    keys.insert(signing_key().public().clone()).map_err(|error| error.to_string())?;
    for ((tenant, trace), receipts) in chains {
        let chain = format!("[{}]", receipts.join(","));
        let verdict = proof::verify(chain.as_bytes(), Trust { given: &keys, embedded: false }, &[]);
        if verdict.verdict != Code::Ok {
            return Err(format!("the chain {tenant}:{trace} does not verify: {verdict:?}"));
        }
    }
    Ok(())
}

/// Everybody who waits is told once, and all who asked for the same thing are told the same.
fn check_answers(simulation: &Simulation, expected: &Expected<'_>) -> Result<(), String> {
    let answers = records::<ExchangeAnswer>(simulation, ANSWER)?;
    let nonces = answers.iter().map(|answer| answer.nonce.as_str()).collect();
    same("answers", nonces, expected.answers.keys().copied())?;
    let mut bodies: BTreeMap<&str, &[u8]> = BTreeMap::new();
    for answer in &answers {
        let told = (answer.status, answer.replayed);
        match expected.answers.get(answer.nonce.as_str()) {
            Some(Some((id, is_first))) => {
                if answer.exchange_id != *id || told != (201, !is_first) {
                    return Err(format!("{} is told {told:?} of {}", answer.nonce, answer.exchange_id));
                }
                if bodies.insert(&answer.exchange_id, &answer.body).is_some_and(|known| known != answer.body) {
                    return Err(format!("{} is told of in two ways", answer.exchange_id));
                }
            }
            _ if answer.status == 422 && answer.code.as_deref() == Some("idempotency_key_reused") => {}
            _ => return Err(format!("{} is told {told:?} {:?}", answer.nonce, answer.code)),
        }
    }
    Ok(())
}

fn check_refused(simulation: &Simulation, expected: &Expected<'_>) -> Result<(), String> {
    let place = |record: &CommittedRecord| cause(record).map(|(partition, offset, _)| (partition, offset));
    let refused = simulation.committed(&Topic::new(REJECTED));
    for record in &refused {
        let rejected: ExchangeRejected = decoded(record)?;
        if rejected.code != "idempotency_key_reused" || rejected.overwrites {
            return Err(format!("{} is refused with {}", rejected.exchange_id, rejected.code));
        }
    }
    same("refused", refused.iter().filter_map(place).collect(), expected.refused.iter().copied())?;
    let dead = simulation.committed(&Topic::new("canonicalise.dead.v1"));
    same("forged", dead.iter().filter_map(place).collect(), expected.forged.iter().copied())
}

fn check_usage(simulation: &Simulation, expected: &Expected<'_>) -> Result<(), String> {
    let usage = records::<UsageRecorded>(simulation, USAGE_RECORDED)?;
    same("metered", usage.into_iter().map(|usage| usage.exchange_id).collect(), expected.sealed.keys().cloned())?;
    let mut totals = BTreeMap::new();
    for total in records::<UsageTotal>(simulation, USAGE_TOTAL)?.into_iter().filter(|total| total.meter == "vex") {
        let last = totals.insert(total.tenant.clone(), total.exchanges);
        if last.is_some_and(|last| last >= total.exchanges) {
            return Err(format!("a total of {} does not rise", total.tenant));
        }
    }
    for tenant in TENANTS {
        let of_tenant = expected.sealed.values().filter(|original| original.request.tenant == tenant).count();
        let total = totals.get(tenant).copied().unwrap_or_default();
        if usize::try_from(total) != Ok(of_tenant) {
            return Err(format!("{tenant} has a total of {total} of {of_tenant} exchanges"));
        }
    }
    Ok(())
}

/// Each price is owed once.
fn check_money(simulation: &Simulation, expected: &Expected<'_>) -> Result<(), String> {
    let mut owed = Vec::new();
    for command in records::<LedgerCommand>(simulation, LEDGER_COMMAND)? {
        let id = command.exchange_id.ok_or("a command without an exchange")?;
        owed.extend(command.transfers.into_iter().map(|transfer| (id.clone(), transfer.minor)));
    }
    let prices = expected.sealed.iter().filter_map(|(id, original)| Some((id.clone(), original.request.price()?)));
    same("owed", owed, prices)
}
