//! What a batch of records means for the tables, folded before it is written. Pure.
//!
//! Topics are read in any relative order, so every fold commutes and may be repeated: of two values for one cell the
//! same one wins, whichever came first. A test shuffles and repeats the records and compares.

use std::collections::BTreeMap;

use event::envelope;
use event::id::{ExchangeId, IdempotencyKey, TenantId};
use event::topic;
use event::wire::{
    ExchangeAdmitted, ExchangeDelivered, ExchangeRejected, ExchangeRequested, ExchangeSealed, LedgerCommand,
    SettlementParked, SettlementPosted, SigningKey, Transfer, UsageRecorded, UsageTotal, Wire, WireError,
};
use log::Record;
use serde_json::{Value, json};
use stage::dead_letter;

use crate::db::Bind;
use crate::tables::{COMMAND, DELIVERY, ENTRY, EXCHANGE, HOP, OWED, PUBLIC_KEY, RECEIPT, Table, USAGE_TOTAL};

/// Standing of an exchange; the highest seen stays.
pub(crate) const ACCEPTED: i64 = 0;
pub(crate) const DEAD: i64 = 1;
pub(crate) const REFUSED: i64 = 2;
pub(crate) const SEALED: i64 = 3;

/// State of a command; the highest seen stays.
pub(crate) const OWED_STATE: i64 = 0;
pub(crate) const PARKED_STATE: i64 = 1;
pub(crate) const POSTED_STATE: i64 = 2;

/// `origin` of what a decision says; requests have the negated offset, so that the earliest of them wins.
const DECISION: i64 = i64::MAX;

#[derive(Clone, Debug)]
struct ExchangeRow {
    tenant: String,
    trace_id: String,
    at: i64,
    origin: i64,
    standing: i64,
    receipt: Option<String>,
    refusal: Option<String>,
    usage: Option<String>,
}

#[derive(Clone, Debug, Default)]
struct CommandRow {
    tenant: String,
    exchange_id: Option<String>,
    at: i64,
    state: i64,
    body: Option<String>,
    outcome: Option<String>,
}

#[derive(Clone, Debug)]
struct HopRow {
    exchange_id: Option<String>,
    time_ms: Option<i64>,
    cause: Option<String>,
    note: Option<String>,
    void: i64,
}

/// Topic, partition and offset.
type Place = (String, i64, i64);

/// Tenant, trace, chain and hop.
type ReceiptKey = (String, String, String, i64);
/// Exchange, receipt and offset.
type ReceiptRow = (String, String, i64);
/// Tenant, month and meter.
type TotalKey = (String, String, String);
/// Total, exchanges, latest admission and offset.
type TotalRow = (i64, i64, i64, i64);

/// What a batch adds.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    exchanges: BTreeMap<String, ExchangeRow>,
    receipts: BTreeMap<ReceiptKey, ReceiptRow>,
    deliveries: BTreeMap<(i64, i64), (String, String)>,
    totals: BTreeMap<TotalKey, TotalRow>,
    commands: BTreeMap<String, CommandRow>,
    owed: BTreeMap<(String, i64), (String, i64, Transfer)>,
    entries: BTreeMap<(i64, i64, i64), Vec<Bind>>,
    hops: BTreeMap<Place, HopRow>,
    keys: BTreeMap<String, (String, String)>,
}

/// What is said of an exchange besides its standing.
struct Said<'a> {
    exchange_id: &'a str,
    tenant: &'a str,
    trace_id: &'a str,
    at: i64,
    origin: i64,
}

impl Rows {
    /// Takes in one record.
    ///
    /// # Errors
    /// A schema that this version does not know (wait for the deploy) or damage, on topics that only we write.
    pub(crate) fn add(&mut self, record: &Record) -> Result<(), WireError> {
        let Some(value) = record.value.as_deref() else { return self.add_without_value(record) };
        match record.topic.as_str() {
            topic::REQUESTED => self.requested(record, value),
            topic::ADMITTED => self.admitted(record, &ExchangeAdmitted::decode(value)?),
            topic::REJECTED => self.rejected(record, &ExchangeRejected::decode(value)?),
            topic::SEALED => self.sealed(record, &ExchangeSealed::decode(value)?),
            topic::DELIVERED => self.delivered(record, &ExchangeDelivered::decode(value)?),
            topic::USAGE_RECORDED => self.usage(record, &UsageRecorded::decode(value)?),
            topic::USAGE_TOTAL => self.total(record, UsageTotal::decode(value)?),
            topic::LEDGER_COMMAND => self.command(record, &LedgerCommand::decode(value)?),
            topic::SETTLEMENT_POSTED => self.posted(record, &SettlementPosted::decode(value)?),
            topic::SETTLEMENT_PARKED => self.parked(record, &SettlementParked::decode(value)?),
            topic::SIGNING_KEY => {
                let key = SigningKey::decode(value)?;
                self.keys.insert(key.kid, (key.used_for, key.jwk));
            }
            _ => self.dead(record),
        }
        Ok(())
    }

    /// A dead letter kept by reference has none; elsewhere it says nothing.
    fn add_without_value(&mut self, record: &Record) -> Result<(), WireError> {
        if record.header(dead_letter::SOURCE_HEADER).is_some() && record.topic.as_str().ends_with(".dead.v1") {
            self.dead(record);
        }
        Ok(())
    }

    fn say(&mut self, said: &Said<'_>, standing: i64) -> &mut ExchangeRow {
        let row = self.exchanges.entry(said.exchange_id.to_owned()).or_insert_with(|| ExchangeRow {
            tenant: said.tenant.to_owned(),
            trace_id: said.trace_id.to_owned(),
            at: said.at,
            origin: said.origin,
            standing,
            receipt: None,
            refusal: None,
            usage: None,
        });
        if said.origin > row.origin {
            row.trace_id = said.trace_id.to_owned();
            row.at = said.at;
            row.origin = said.origin;
        }
        row.standing = row.standing.max(standing);
        row
    }

    fn hop(&mut self, record: &Record, exchange_id: Option<&str>, note: Option<String>) {
        let cause = text_header(record, dead_letter::CAUSE_HEADER).map(|cause| {
            match text_header(record, dead_letter::CAUSE_TOPIC_HEADER) {
                Some(topic) => format!("{topic} {cause}"),
                None => cause,
            }
        });
        let row =
            HopRow { exchange_id: exchange_id.map(str::to_owned), time_ms: Some(record.time_ms), cause, note, void: 0 };
        self.put_hop((record.topic.to_string(), i64::from(record.partition), signed(record.offset)), row);
    }

    fn put_hop(&mut self, place: Place, row: HopRow) {
        match self.hops.entry(place) {
            std::collections::btree_map::Entry::Vacant(vacant) => {
                vacant.insert(row);
            }
            std::collections::btree_map::Entry::Occupied(mut known) => {
                let known = known.get_mut();
                known.exchange_id = known.exchange_id.take().or(row.exchange_id);
                known.time_ms = known.time_ms.or(row.time_ms);
                known.cause = known.cause.take().or(row.cause);
                known.note = known.note.take().or(row.note);
                known.void = known.void.max(row.void);
            }
        }
    }

    /// A request that cannot be read is canonicalise's to refuse: its dead letter tells of it.
    fn requested(&mut self, record: &Record, value: &[u8]) {
        let Ok(requested) = ExchangeRequested::decode(value) else { return };
        let Some(exchange_id) = exchange_of(&requested) else { return };
        let trace_id = requested.trace_id.as_deref().unwrap_or(&exchange_id);
        let said = Said {
            exchange_id: &exchange_id,
            tenant: &requested.tenant,
            trace_id,
            at: record.time_ms,
            origin: -signed(record.offset),
        };
        self.say(&said, ACCEPTED);
        self.hop(record, Some(&exchange_id), None);
    }

    fn admitted(&mut self, record: &Record, admitted: &ExchangeAdmitted) {
        let note = match &admitted.admission {
            Some(_) => {
                let said = Said {
                    exchange_id: &admitted.exchange_id,
                    tenant: &admitted.tenant,
                    trace_id: &admitted.trace_id,
                    at: admitted.at,
                    origin: DECISION,
                };
                self.say(&said, ACCEPTED);
                "admitted"
            }
            None => "replay",
        };
        self.hop(record, Some(&admitted.exchange_id), Some(note.to_owned()));
    }

    fn rejected(&mut self, record: &Record, rejected: &ExchangeRejected) {
        self.hop(record, Some(&rejected.exchange_id), Some(rejected.code.clone()));
        // Another request with this key holds the exchange: nothing of it changes.
        if !rejected.overwrites {
            return;
        }
        let said = Said {
            exchange_id: &rejected.exchange_id,
            tenant: &rejected.tenant,
            trace_id: &rejected.trace_id,
            at: rejected.at,
            origin: DECISION,
        };
        let errors: Value = serde_json::from_str(&rejected.errors).unwrap_or_else(|_| json!([]));
        let refusal = json!({
            "status": rejected.status, "code": rejected.code, "detail": rejected.detail,
            "errors": errors, "decided_by": rejected.decided_by,
        });
        self.say(&said, REFUSED).refusal = Some(refusal.to_string());
    }

    fn sealed(&mut self, record: &Record, sealed: &ExchangeSealed) {
        let said = Said {
            exchange_id: &sealed.exchange_id,
            tenant: &sealed.tenant,
            trace_id: &sealed.trace_id,
            at: sealed.admitted_at,
            origin: DECISION,
        };
        self.say(&said, SEALED).receipt = Some(sealed.receipt.clone());
        self.hop(record, Some(&sealed.exchange_id), Some("sealed".to_owned()));
        let receipt: Value = serde_json::from_str(&sealed.receipt).unwrap_or_default();
        let chain = receipt.get("chain").and_then(Value::as_str);
        let (Some(chain), Some(hop)) = (chain, receipt.get("hop").and_then(Value::as_i64)) else { return };
        let row = (sealed.exchange_id.clone(), sealed.receipt.clone(), signed(record.offset));
        let known = self
            .receipts
            .entry((sealed.tenant.clone(), sealed.trace_id.clone(), chain.to_owned(), hop))
            .or_insert_with(|| row.clone());
        if row.2 < known.2 {
            *known = row;
        }
    }

    fn delivered(&mut self, record: &Record, delivered: &ExchangeDelivered) {
        let note = if delivered.delivered { "delivered" } else { "given_up" };
        self.hop(record, Some(&delivered.exchange_id), Some(note.to_owned()));
        let attempts: Vec<Value> = delivered
            .attempts
            .iter()
            .map(|attempt| {
                json!({
                    "attempt": attempt.attempt, "at": crate::shape::time(attempt.at), "status": attempt.status,
                    "address": attempt.address, "response_bytes": attempt.response_bytes,
                    "duration_ms": attempt.duration_ms, "error": attempt.error,
                })
            })
            .collect();
        let body = json!({
            "delivered": delivered.delivered, "host": delivered.host, "cid": delivered.cid,
            "decided_at": crate::shape::time(delivered.decided_at), "attempts": attempts,
        });
        self.deliveries.insert(
            (i64::from(record.partition), signed(record.offset)),
            (delivered.exchange_id.clone(), body.to_string()),
        );
    }

    fn usage(&mut self, record: &Record, usage: &UsageRecorded) {
        let said = Said {
            exchange_id: &usage.exchange_id,
            tenant: &usage.tenant,
            trace_id: &usage.trace_id,
            at: usage.admitted_at,
            origin: DECISION,
        };
        let body = json!({"vex": usage.vex, "fu": usage.fu, "month": usage.month});
        self.say(&said, ACCEPTED).usage = Some(body.to_string());
        self.hop(record, Some(&usage.exchange_id), Some("metered".to_owned()));
    }

    fn total(&mut self, record: &Record, total: UsageTotal) {
        let row = (total.total, total.exchanges, total.as_of, signed(record.offset));
        let known = self.totals.entry((total.tenant, total.month, total.meter)).or_insert(row);
        if row.3 > known.3 {
            *known = row;
        }
    }

    fn command(&mut self, record: &Record, command: &LedgerCommand) {
        self.hop(record, command.exchange_id.as_deref(), Some("owed".to_owned()));
        let body = json!({
            "command_id": command.command_id, "kind": command.kind, "decided_in": command.decided_in,
            "transfers": crate::shape::transfers(&command.transfers), "tariff_version": command.tariff_version,
            "config_version": command.config_version,
        });
        let row = self.command_row(&command.command_id, &command.tenant, command.exchange_id.as_ref(), command.at);
        row.body = Some(body.to_string());
        for (line, transfer) in command.transfers.iter().enumerate() {
            self.owed.insert(
                (command.command_id.clone(), count(line)),
                (command.tenant.clone(), command.at, transfer.clone()),
            );
        }
    }

    fn posted(&mut self, record: &Record, posted: &SettlementPosted) {
        self.hop(record, posted.exchange_id.as_deref(), Some("posted".to_owned()));
        let outcome = json!({
            "transfers": crate::shape::transfers(&posted.transfers), "fee_minor": posted.fee_minor.to_string(),
            "tariff_version": posted.tariff_version, "sequence": posted.sequence,
            "ledger_partition": posted.ledger_partition,
        });
        let row = self.command_row(&posted.command_id, &posted.tenant, posted.exchange_id.as_ref(), posted.at);
        row.state = POSTED_STATE;
        row.outcome = Some(outcome.to_string());
        let place = (i64::from(record.partition), signed(record.offset));
        for (line, transfer) in posted.transfers.iter().enumerate() {
            let line = count(line);
            self.entries.insert(
                (place.0, place.1, line),
                vec![
                    place.0.into(),
                    place.1.into(),
                    line.into(),
                    i64::from(posted.ledger_partition).into(),
                    posted.sequence.into(),
                    posted.tenant.clone().into(),
                    posted.exchange_id.clone().into(),
                    posted.command_id.clone().into(),
                    posted.kind.clone().into(),
                    posted.at.into(),
                    transfer.debit_account.clone().into(),
                    transfer.credit_account.clone().into(),
                    transfer.currency.clone().into(),
                    transfer.minor.into(),
                ],
            );
        }
    }

    fn parked(&mut self, record: &Record, parked: &SettlementParked) {
        self.hop(record, parked.exchange_id.as_deref(), Some(parked.reason.clone()));
        let outcome = json!({
            "reason": parked.reason, "detail": parked.detail,
            "sequence": parked.sequence, "ledger_partition": parked.ledger_partition,
        });
        let row = self.command_row(&parked.command_id, &parked.tenant, parked.exchange_id.as_ref(), parked.at);
        // Posted stays posted: of two outcomes the further one is shown.
        if row.state < PARKED_STATE {
            row.state = PARKED_STATE;
            row.outcome = Some(outcome.to_string());
        }
    }

    fn command_row(
        &mut self,
        command_id: &str,
        tenant: &str,
        exchange_id: Option<&String>,
        at: i64,
    ) -> &mut CommandRow {
        let row = self.commands.entry(command_id.to_owned()).or_default();
        row.tenant = tenant.to_owned();
        row.exchange_id = exchange_id.cloned();
        row.at = at;
        row
    }

    /// A dead letter of any step: the exchange it concerns is read from what the letter holds.
    fn dead(&mut self, record: &Record) {
        let Some(source) = text_header(record, dead_letter::SOURCE_HEADER) else { return };
        let reason = text_header(record, dead_letter::REASON_HEADER).unwrap_or_else(|| "dead".to_owned());
        let proven = record.header(dead_letter::TENANT_HEADER).is_some_and(|tenant| tenant != b"-");
        let value = record.value.as_deref().unwrap_or_default();
        let note = Some(format!("dead: {reason}"));
        if record.topic.as_str() == "canonicalise.dead.v1" {
            if !proven {
                return self.withdraw(&source);
            }
            let Some((exchange_id, requested)) = request_of(record) else { return };
            let tenant = requested.tenant.clone();
            let trace_id = requested.trace_id.unwrap_or_else(|| exchange_id.clone());
            let (at, origin) = (record.time_ms, i64::MIN + 1);
            self.say(&Said { exchange_id: &exchange_id, tenant: &tenant, trace_id: &trace_id, at, origin }, DEAD);
            self.hop(record, Some(&exchange_id), note);
        } else if record.topic.as_str() == "sign.dead.v1" {
            let Ok(admitted) = ExchangeAdmitted::decode(value) else { return };
            if admitted.admission.is_some() {
                let said = Said {
                    exchange_id: &admitted.exchange_id,
                    tenant: &admitted.tenant,
                    trace_id: &admitted.trace_id,
                    at: admitted.at,
                    origin: DECISION,
                };
                self.say(&said, DEAD);
            }
            self.hop(record, Some(&admitted.exchange_id), note);
        } else {
            let exchange_id = ExchangeSealed::decode(value)
                .map(|sealed| sealed.exchange_id)
                .or_else(|_| UsageRecorded::decode(value).map(|usage| usage.exchange_id))
                .ok()
                .or_else(|| LedgerCommand::decode(value).ok().and_then(|command| command.exchange_id));
            self.hop(record, exchange_id.as_deref(), note);
        }
    }

    /// The record at `source` proved no tenant: it says nothing about the exchange that it named (DESIGN R10).
    fn withdraw(&mut self, source: &str) {
        let mut parts = source.rsplitn(3, ':');
        let (Some(offset), Some(partition), Some(topic)) = (parts.next(), parts.next(), parts.next()) else { return };
        let (Ok(offset), Ok(partition)) = (offset.parse(), partition.parse()) else { return };
        let row = HopRow { exchange_id: None, time_ms: None, cause: None, note: None, void: 1 };
        self.put_hop((topic.to_owned(), partition, offset), row);
    }

    /// Every table with its rows, in the order of `Table::columns`.
    pub(crate) fn into_tables(self) -> Vec<(&'static Table, Vec<Vec<Bind>>)> {
        let exchanges = self.exchanges.into_iter().map(|(exchange_id, row)| {
            vec![
                exchange_id.into(),
                row.tenant.into(),
                row.trace_id.into(),
                row.at.into(),
                row.origin.into(),
                row.standing.into(),
                row.receipt.into(),
                row.refusal.into(),
                row.usage.into(),
            ]
        });
        let receipts =
            self.receipts.into_iter().map(|((tenant, trace_id, chain, hop), (exchange_id, receipt, offset))| {
                vec![
                    tenant.into(),
                    trace_id.into(),
                    chain.into(),
                    hop.into(),
                    exchange_id.into(),
                    receipt.into(),
                    offset.into(),
                ]
            });
        let deliveries = self.deliveries.into_iter().map(|((partition, offset), (exchange_id, body))| {
            vec![partition.into(), offset.into(), exchange_id.into(), body.into()]
        });
        let totals = self.totals.into_iter().map(|((tenant, month, meter), (total, exchanges, as_of, offset))| {
            vec![tenant.into(), month.into(), meter.into(), total.into(), exchanges.into(), as_of.into(), offset.into()]
        });
        let commands = self.commands.into_iter().map(|(command_id, row)| {
            vec![
                command_id.into(),
                row.tenant.into(),
                row.exchange_id.into(),
                row.at.into(),
                row.state.into(),
                row.body.into(),
                row.outcome.into(),
            ]
        });
        let owed = self.owed.into_iter().map(|((command_id, line), (tenant, at, transfer))| {
            vec![
                command_id.into(),
                line.into(),
                tenant.into(),
                at.into(),
                transfer.debit_account.into(),
                transfer.credit_account.into(),
                transfer.currency.into(),
                transfer.minor.into(),
            ]
        });
        let hops = self.hops.into_iter().map(|((topic, partition, offset), row)| {
            vec![
                topic.into(),
                partition.into(),
                offset.into(),
                row.exchange_id.into(),
                row.time_ms.into(),
                row.cause.into(),
                row.note.into(),
                row.void.into(),
            ]
        });
        let keys = self.keys.into_iter().map(|(kid, (used_for, jwk))| vec![kid.into(), used_for.into(), jwk.into()]);
        vec![
            (&EXCHANGE, exchanges.collect()),
            (&RECEIPT, receipts.collect()),
            (&DELIVERY, deliveries.collect()),
            (&USAGE_TOTAL, totals.collect()),
            (&COMMAND, commands.collect()),
            (&OWED, owed.collect()),
            (&ENTRY, self.entries.into_values().collect()),
            (&HOP, hops.collect()),
            (&PUBLIC_KEY, keys.collect()),
        ]
    }
}

/// The request inside a dead letter of canonicalise, with the exchange it asked for.
fn request_of(record: &Record) -> Option<(String, ExchangeRequested)> {
    let requested = ExchangeRequested::decode(record.value.as_deref()?).ok()?;
    let key = envelope::request_key(&requested.tenant, &requested.idempotency_key);
    let agrees = record.key.as_deref().is_none_or(|known| known == key.as_bytes());
    let exchange_id = exchange_of(&requested)?;
    agrees.then_some((exchange_id, requested))
}

/// The exchange that a request asks for; `None` where its names are not well formed, which canonicalise refuses.
fn exchange_of(requested: &ExchangeRequested) -> Option<String> {
    let tenant = TenantId::parse(requested.tenant.as_str()).ok()?;
    let idempotency_key = IdempotencyKey::parse(requested.idempotency_key.as_str()).ok()?;
    Some(ExchangeId::derive(&tenant, &idempotency_key).to_string())
}

fn text_header(record: &Record, name: &str) -> Option<String> {
    record.header(name).and_then(|value| std::str::from_utf8(value).ok()).map(str::to_owned)
}

/// Offsets are far below 2^63.
pub(crate) fn signed(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}

fn count(line: usize) -> i64 {
    i64::try_from(line).unwrap_or(i64::MAX)
}
