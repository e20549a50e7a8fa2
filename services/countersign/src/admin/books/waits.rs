//! What the closing of the books waits for, for people, with the exchanges concerned.

use std::collections::BTreeMap;
use std::time::Instant;

use audit::{Place, Waiting};
use event::id::{ExchangeId, IdempotencyKey, TenantId};
use event::wire::{
    ExchangeAdmitted, ExchangeRequested, ExchangeSealed, LedgerCommand, UsageRecorded, Wire as _, split,
};
use log::{Log, Position};
use serde::{Deserialize, Serialize};

use super::CutRequest;
use crate::admin::reading::one;

/// How far the closing has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WaitsFor {
    elapsed_s: u64,
    deadline_s: u64,
    #[serde(flatten)]
    waiting: Waiting,
    /// the exchanges of the named records, where the log still tells them
    exchanges: BTreeMap<String, String>,
}

impl WaitsFor {
    /// For people; every line ends.
    pub(crate) fn told(&self) -> String {
        let Waiting { unread, behind, open } = &self.waiting;
        let mut text = format!("closing the books: {} s of at most {} s", self.elapsed_s, self.deadline_s);
        if *unread > 0 {
            text.push_str(&format!("; {unread} records are still to be read"));
        }
        if !behind.is_empty() {
            text.push_str(&format!("; not past the cut yet: {}", behind.join(", ")));
        }
        text.push('\n');
        for equation in open {
            let count = equation.count;
            text.push_str(&format!("  {}: {count} open, for want of {}\n", equation.equation, equation.lacks));
            for place in &equation.records {
                let place = place.to_string();
                let exchange_id = self.exchanges.get(&place).map(String::as_str).unwrap_or_default();
                text.push_str(format!("    {place}  {exchange_id}").trim_end());
                text.push('\n');
            }
            let unnamed = count.saturating_sub(u64::try_from(equation.records.len()).unwrap_or(u64::MAX));
            if unnamed > 0 {
                text.push_str(&format!("    and {unnamed} more\n"));
            }
        }
        text
    }
}

/// Adds to what audit tells what it does not keep.
pub(super) struct Watch<'a> {
    log: &'a dyn Log,
    begun: Instant,
    deadline_s: u64,
    known: BTreeMap<Place, Option<String>>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(log: &'a dyn Log, request: &CutRequest) -> Self {
        Self { log, begun: Instant::now(), deadline_s: request.deadline_s, known: BTreeMap::new() }
    }

    pub(super) fn look(&mut self, waiting: Waiting) -> WaitsFor {
        let mut exchanges = BTreeMap::new();
        for place in waiting.open.iter().flat_map(|equation| &equation.records) {
            let log = self.log;
            let exchange_id = self.known.entry(place.clone()).or_insert_with(|| exchange_at(log, place));
            if let Some(exchange_id) = exchange_id {
                exchanges.insert(place.to_string(), exchange_id.clone());
            }
        }
        let elapsed_s = self.begun.elapsed().as_secs();
        WaitsFor { elapsed_s, deadline_s: self.deadline_s, waiting, exchanges }
    }
}

/// The exchange that a record is about; `None` where it is about none, or cannot be read.
fn exchange_at(log: &dyn Log, place: &Place) -> Option<String> {
    let at = Position { topic: place.topic.clone(), partition: place.partition, offset: place.offset };
    let record = one(log, &at).ok().flatten()?;
    exchange_of(record.value.as_deref()?)
}

fn exchange_of(value: &[u8]) -> Option<String> {
    match split(value).ok()?.0 {
        id if ExchangeRequested::reads(id) => {
            let requested = ExchangeRequested::decode(value).ok()?;
            let tenant = TenantId::parse(requested.tenant.as_str()).ok()?;
            let idempotency_key = IdempotencyKey::parse(requested.idempotency_key.as_str()).ok()?;
            Some(ExchangeId::derive(&tenant, &idempotency_key).to_string())
        }
        id if ExchangeAdmitted::reads(id) => Some(ExchangeAdmitted::decode(value).ok()?.exchange_id),
        id if ExchangeSealed::reads(id) => Some(ExchangeSealed::decode(value).ok()?.exchange_id),
        id if UsageRecorded::reads(id) => Some(UsageRecorded::decode(value).ok()?.exchange_id),
        id if LedgerCommand::reads(id) => LedgerCommand::decode(value).ok()?.exchange_id,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use audit::OpenEquation;

    #[test]
    fn records_of_every_version_name_their_exchange() {
        let samples = [
            include_str!("../../../../../schemas/exchange.admitted.v1/1.golden.hex"),
            include_str!("../../../../../schemas/exchange.admitted.v1/2.golden.hex"),
            include_str!("../../../../../schemas/exchange.sealed.v1/1.golden.hex"),
            include_str!("../../../../../schemas/exchange.sealed.v1/2.golden.hex"),
        ];
        for sample in samples {
            let hex: String = sample.split_whitespace().collect();
            let bytes: Vec<u8> =
                (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
            let exchange_id = exchange_of(&bytes).expect("an exchange");
            assert!(exchange_id.starts_with("ex_"), "{exchange_id}");
        }
    }

    #[test]
    fn it_says_which_equation_lacks_what_and_for_which_exchanges() {
        let place: Place = "exchange.sealed.v1:3:17".parse().unwrap();
        let open = OpenEquation {
            equation: "deliveries owed = recorded".into(),
            lacks: "exchange.delivered.v1".into(),
            count: 3,
            records: vec![place.clone()],
        };
        let waits = WaitsFor {
            elapsed_s: 9,
            deadline_s: 60,
            waiting: Waiting { unread: 0, behind: vec!["forward".into()], open: vec![open] },
            exchanges: BTreeMap::from([(place.to_string(), "ex_1".into())]),
        };
        let expected = "closing the books: 9 s of at most 60 s; not past the cut yet: forward\n  \
            deliveries owed = recorded: 3 open, for want of exchange.delivered.v1\n    \
            exchange.sealed.v1:3:17  ex_1\n    and 2 more\n";
        assert_eq!(waits.told(), expected);
        let again: WaitsFor = serde_json::from_slice(&serde_json::to_vec(&waits).unwrap()).unwrap();
        assert_eq!(again, waits);
    }

    #[test]
    fn the_exchange_of_a_request_is_the_one_that_it_will_be() {
        let requested = ExchangeRequested {
            tenant: "acme".into(),
            idempotency_key: "key-0".into(),
            payload: b"1".to_vec(),
            payload_type: "passthrough".into(),
            target_type: None,
            trace_id: None,
            expected_prev_receipt_hash: None,
            amount: None,
            forward_url: None,
        };
        let found = exchange_of(&requested.encode().unwrap());
        assert_eq!(found.as_deref(), Some("ex_a46f1z1wmbq2pds9zabtvhng7b"));
        assert_eq!(exchange_of(b"\x00damaged"), None);
    }
}
