//! What must come out, from the input alone, against what did. None of the product's own code decides anything here; only
//! its verifier is asked for a second opinion on the receipts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;

use proof::{KeyRing, PublicKey, Trust};
use serde_json::Value;

use super::driver::Seen;
use super::input::{Delivery, Exchange, Plan, Price, TENANTS, digest};
use super::receiver::Calls;
use super::topics::{Found, Place};

/// Faults of one kind that are told.
const TOLD_MAX: usize = 5;

/// What must hold, and did not.
#[derive(Debug, Default)]
pub(super) struct Faults(pub(super) Vec<String>);

impl Faults {
    fn add(&mut self, fault: String) {
        self.0.push(fault);
    }

    fn equal<T: PartialEq + Debug>(&mut self, what: &str, expected: &T, came: &T) {
        if expected != came {
            self.add(format!("{what}: {expected:?} expected, {came:?} came"));
        }
    }

    /// Each name once, none else.
    fn once<'a>(&mut self, what: &str, expected: &BTreeSet<String>, came: impl IntoIterator<Item = &'a str>) {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for name in came {
            *counts.entry(name).or_default() += 1;
        }
        let lost: Vec<&String> = expected.iter().filter(|name| !counts.contains_key(name.as_str())).collect();
        let doubled: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
        let strange: Vec<_> = counts.keys().filter(|name| !expected.contains(**name)).collect();
        for (kind, count, some) in [
            ("lost", lost.len(), format!("{:?}", &lost[..lost.len().min(TOLD_MAX)])),
            ("doubled", doubled.len(), format!("{:?}", &doubled[..doubled.len().min(TOLD_MAX)])),
            ("of nobody's asking", strange.len(), format!("{:?}", &strange[..strange.len().min(TOLD_MAX)])),
        ] {
            if count > 0 {
                self.add(format!("{what}: {count} {kind}, such as {some}"));
            }
        }
    }
}

/// Everything that can be said of an exchange before it is sent.
pub(super) struct Oracle<'a> {
    by_id: HashMap<String, &'a Exchange>,
    sealed: BTreeSet<String>,
}

type Account = (String, String);
/// A receipt with its hop, read and as text.
type Hop<'r> = (u64, Value, &'r str);

impl<'a> Oracle<'a> {
    pub(super) fn new(plan: &'a Plan) -> Self {
        let by_id: HashMap<String, &Exchange> =
            plan.exchanges.iter().map(|exchange| (exchange.id(), exchange)).collect();
        assert_eq!(by_id.len(), plan.exchanges.len(), "the plan uses no key twice");
        let sealed =
            by_id.iter().filter(|(_, exchange)| exchange.refused.is_none()).map(|(id, _)| id.clone()).collect();
        Self { by_id, sealed }
    }

    pub(super) fn sealed(&self) -> usize {
        self.sealed.len()
    }

    fn ids(&self, holds: impl Fn(&Exchange) -> bool) -> BTreeSet<String> {
        self.by_id.iter().filter(|(_, exchange)| holds(exchange)).map(|(id, _)| id.clone()).collect()
    }

    /// Compares the topics with the input.
    pub(super) fn faults(&self, found: &Found) -> Vec<String> {
        let mut faults = Faults::default();
        faults.equal("dead letters", &BTreeMap::new(), &found.dead);
        self.requests(found, &mut faults);
        self.seals(found, &mut faults);
        self.chains(found, &mut faults);
        self.usage(found, &mut faults);
        self.money(found, &mut faults);
        let owed = self.ids(|exchange| exchange.delivery.is_some());
        faults.once(
            "outcomes of deliveries",
            &owed,
            found.delivered.iter().map(|outcome| outcome.exchange_id.as_str()),
        );
        for outcome in &found.delivered {
            let delivery = self.by_id.get(&outcome.exchange_id).and_then(|exchange| exchange.delivery);
            let came = (outcome.exchange_id.as_str(), outcome.delivered);
            faults.equal("an outcome", &(outcome.exchange_id.as_str(), delivery != Some(Delivery::Gone)), &came);
        }
        faults.0
    }

    /// Every request has one outcome, and every refusal is one that was asked for.
    fn requests(&self, found: &Found, faults: &mut Faults) {
        let named = |(partition, offset): &Place| format!("{partition}:{offset}");
        let requested: BTreeSet<String> = found.requested.iter().map(named).collect();
        let first_step = found.rejected.iter().filter(|refusal| refusal.value.decided_by == "canonicalise");
        let outcomes: Vec<String> =
            found.admitted.iter().map(|one| named(&one.cause)).chain(first_step.map(|one| named(&one.cause))).collect();
        faults.once("outcomes of requests", &requested, outcomes.iter().map(String::as_str));

        let admissions = found.admitted.iter().filter(|one| one.value.admission.is_some());
        let admitted = self.ids(|exchange| exchange.refused != Some("destination_denied"));
        faults.once("admissions", &admitted, admissions.map(|one| one.value.exchange_id.as_str()));
        for code in ["destination_denied", "chain_conflict"] {
            let refused = self.ids(|exchange| exchange.refused == Some(code));
            let came = found.rejected.iter().filter(|one| one.value.code == code);
            faults.once(code, &refused, came.map(|one| one.value.exchange_id.as_str()));
        }
        // A retry of another body is refused again: once or more for each, for nobody else.
        let reused = self.ids(|exchange| exchange.reused);
        let came = found.rejected.iter().filter(|one| one.value.code == "idempotency_key_reused");
        let came: BTreeSet<&str> = came.map(|one| one.value.exchange_id.as_str()).collect();
        faults.once("keys used again", &reused, came);
        let known = ["destination_denied", "chain_conflict", "idempotency_key_reused"];
        let strange = found.rejected.iter().filter(|one| !known.contains(&one.value.code.as_str())).count();
        faults.equal("refusals with another code", &0, &strange);
    }

    fn seals(&self, found: &Found, faults: &mut Faults) {
        faults.once("sealed", &self.sealed, found.sealed.iter().map(|sealed| sealed.exchange_id.as_str()));
        for sealed in &found.sealed {
            let Some(exchange) = self.by_id.get(&sealed.exchange_id) else { continue };
            let what = &sealed.exchange_id;
            faults.equal(what, &exchange.canonical.as_bytes(), &sealed.payload.as_slice());
            let price = exchange.price.as_ref().map(|price| (price.currency, price.minor, price.payee));
            let trace_id = exchange.trace_id();
            let expected = (exchange.tenant(), exchange.idempotency_key.as_str(), trace_id.as_str(), price);
            let price =
                sealed.amount.as_ref().map(|amount| (amount.currency.as_str(), amount.minor, amount.payee.as_str()));
            let came = (sealed.tenant.as_str(), sealed.idempotency_key.as_str(), sealed.trace_id.as_str(), price);
            faults.equal(what, &expected, &came);
        }
    }

    /// Receipts: of each trace one chain, without gap, each naming the one before.
    fn chains(&self, found: &Found, faults: &mut Faults) {
        let mut lengths: BTreeMap<(String, String), usize> = BTreeMap::new();
        for id in &self.sealed {
            let exchange = self.by_id[id];
            *lengths.entry((exchange.tenant().to_owned(), exchange.trace_id())).or_default() += 1;
        }
        let mut chains = chains_of(found);
        let came = chains.iter().map(|(place, hops)| (place.clone(), hops.len())).collect();
        if lengths != came {
            let differing = lengths.iter().filter(|(place, length)| came.get(*place) != Some(length)).take(TOLD_MAX);
            faults.add(format!("lengths of chains: expected {:?}", differing.collect::<Vec<_>>()));
        }
        for ((tenant, trace), hops) in &mut chains {
            hops.sort_by_key(|(hop, _, _)| *hop);
            if let Some(broken) = broken_link(tenant, trace, hops, &self.by_id) {
                faults.add(format!("the chain of {tenant} {trace}: {broken}"));
            }
        }
    }

    fn usage(&self, found: &Found, faults: &mut Faults) {
        faults.once("usage", &self.sealed, found.usage.iter().map(|usage| usage.exchange_id.as_str()));
        let units: Vec<_> = found.usage.iter().filter(|usage| (usage.vex, usage.fu) != (1, 0)).take(TOLD_MAX).collect();
        faults.equal("usage that is not one exchange", &Vec::new(), &units);
        for tenant in TENANTS {
            let expected = self.sealed.iter().filter(|id| self.by_id[*id].tenant() == tenant).count();
            let months = found.totals.values().filter(|total| total.tenant == tenant);
            let vex: i64 = months.clone().filter(|total| total.meter == "vex").map(|total| total.total).sum();
            let exchanges: i64 = months.filter(|total| total.meter == "vex").map(|total| total.exchanges).sum();
            let expected = i64::try_from(expected).expect("a count");
            faults.equal(&format!("usage of {tenant}"), &(expected, expected), &(vex, exchanges));
        }
    }

    /// Every charge once, and every balance.
    fn money(&self, found: &Found, faults: &mut Faults) {
        let charged = |currency: &'static str| {
            move |exchange: &Exchange| {
                let is_charged = |price: &Price| price.currency == currency && price.minor > 0;
                exchange.refused.is_none() && exchange.price.as_ref().is_some_and(is_charged)
            }
        };
        let (posted, parked) = (self.ids(charged("USD")), self.ids(charged("EUR")));
        let owed = posted.union(&parked).cloned().collect();
        let name = |exchange_id: &Option<String>| exchange_id.clone().unwrap_or_default();
        let commands: Vec<String> = found.commands.iter().map(|command| name(&command.exchange_id)).collect();
        let posts: Vec<String> = found.posted.iter().map(|one| name(&one.exchange_id)).collect();
        let parks: Vec<String> = found.parked.iter().map(|one| name(&one.exchange_id)).collect();
        faults.once("commands", &owed, commands.iter().map(String::as_str));
        faults.once("posted", &posted, posts.iter().map(String::as_str));
        faults.once("parked", &parked, parks.iter().map(String::as_str));

        let mut sequences: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
        let numbered = found.posted.iter().map(|one| (one.ledger_partition, one.sequence));
        for (partition, sequence) in numbered.chain(found.parked.iter().map(|one| (one.ledger_partition, one.sequence)))
        {
            sequences.entry(partition).or_default().push(sequence);
        }
        for (partition, mut sequence) in sequences {
            sequence.sort_unstable();
            let whole = (1..).zip(&sequence).all(|(expected, came)| expected == *came);
            faults.equal(&format!("gapless outbox of ledger partition {partition}"), &true, &whole);
        }

        let mut balances: BTreeMap<Account, i128> = BTreeMap::new();
        for transfer in found.posted.iter().flat_map(|one| &one.transfers) {
            let mut book = |account: &str, minor| {
                *balances.entry((transfer.currency.clone(), account.to_owned())).or_default() += minor;
            };
            book(&transfer.debit_account, -i128::from(transfer.minor));
            book(&transfer.credit_account, i128::from(transfer.minor));
        }
        let expected = self.balances(found);
        for account in expected.keys().chain(balances.keys()).collect::<BTreeSet<_>>() {
            let of = |books: &BTreeMap<Account, i128>| books.get(account).copied().unwrap_or_default();
            faults.equal(&format!("balance of {account:?}"), &of(&expected), &of(&balances));
        }
        faults.equal("the sum of all balances", &0, &balances.values().sum());
    }

    /// Every balance, by the rule of the fee: 2.8 % and 28, times the discount of the volume before, never above the gross.
    /// The order in which a tenant's exchanges are charged is the pipeline's choice, so it is taken from the commands;
    /// only the tenant with discounts depends on it.
    fn balances(&self, found: &Found) -> BTreeMap<Account, i128> {
        let mut volumes: HashMap<&str, i128> = HashMap::new();
        let mut balances: BTreeMap<Account, i128> = BTreeMap::new();
        let mut charged = BTreeSet::new();
        for id in found.commands.iter().filter_map(|command| command.exchange_id.as_ref()) {
            // From the input: who pays what to whom. A second command for one exchange must not move money.
            let Some(exchange) = self.by_id.get(id).filter(|_| charged.insert(id)) else { continue };
            let Some(price) = exchange.price.as_ref().filter(|price| price.currency == "USD") else { continue };
            let (tenant, gross) = (exchange.tenant(), i128::from(price.minor));
            let volume = volumes.entry(tenant).or_default();
            let per_mille = match *volume {
                ..100_000 => 1_000,
                100_000..1_000_000 => 950,
                1_000_000..5_000_000 => 900,
                _ => 850,
            };
            *volume += gross;
            let (exact, whole) = ((gross * 28 + 28 * 1_000) * per_mille, 1_000 * 1_000);
            let fee = ((2 * exact + whole) / (2 * whole)).min(gross);
            for (account, minor) in [
                (format!("{tenant}:main"), -gross),
                (format!("{tenant}:{}", price.payee), gross - fee),
                ("countersign:fees".to_owned(), fee),
            ] {
                *balances.entry(("USD".to_owned(), account)).or_default() += minor;
            }
        }
        balances
    }

    /// What clients were told, and what the receiver got.
    pub(super) fn seen_outside(
        &self,
        found: &Found,
        seen: &Seen,
        given: &HashMap<String, String>,
        calls: &BTreeMap<String, Calls>,
    ) -> Vec<String> {
        let mut faults = Faults(seen.faults.clone());
        faults.once("answers", &self.sealed, given.keys().map(String::as_str));
        for sealed in &found.sealed {
            let receipt: Value = serde_json::from_str(&sealed.receipt).unwrap_or_default();
            let hash = receipt["receipt_hash"].as_str().unwrap_or_default();
            if given.get(&sealed.exchange_id).is_some_and(|given| given != hash) {
                faults.add(format!("{}: the receipt given is not the one in the log", sealed.exchange_id));
            }
        }
        let owed = self.ids(|exchange| exchange.delivery.is_some());
        faults.once("exchanges called out", &owed, calls.keys().map(String::as_str));
        for (id, came) in calls {
            let Some(exchange) = self.by_id.get(id) else { continue };
            let cids = BTreeSet::from([digest(exchange.canonical.as_bytes())]);
            faults.equal(id, &(&cids, exchange.delivery != Some(Delivery::Gone)), &(&came.cids, came.is_taken));
        }
        faults.0
    }
}

/// A second opinion: the product's own verifier on every chain, with nothing but the public keys.
pub(super) fn verifier_faults(found: &Found) -> Vec<String> {
    let mut ring = KeyRing::new();
    for jwk in &found.signing_keys {
        if let Ok(key) = PublicKey::from_jwk(jwk.as_bytes()) {
            // Listed again at every start.
            drop(ring.insert(key));
        }
    }
    let mut faults = Vec::new();
    for ((tenant, trace), mut hops) in chains_of(found) {
        hops.sort_by_key(|(hop, _, _)| *hop);
        let texts: Vec<&str> = hops.iter().map(|(_, _, text)| *text).collect();
        let trust = Trust { given: &ring, embedded: false };
        let verdict = proof::verify(format!("[{}]", texts.join(",")).as_bytes(), trust, &[]);
        if verdict.verdict != proof::Code::Ok {
            faults.push(format!("the chain of {tenant} {trace} is {:?} at {:?}", verdict.verdict, verdict.index));
        }
    }
    faults
}

/// Receipts by tenant and trace.
fn chains_of(found: &Found) -> BTreeMap<(String, String), Vec<Hop<'_>>> {
    let mut chains: BTreeMap<(String, String), Vec<Hop<'_>>> = BTreeMap::new();
    for sealed in &found.sealed {
        let receipt: Value = serde_json::from_str(&sealed.receipt).unwrap_or_default();
        let hop = receipt["hop"].as_u64().unwrap_or_default();
        let place = (sealed.tenant.clone(), sealed.trace_id.clone());
        chains.entry(place).or_default().push((hop, receipt, &sealed.receipt));
    }
    chains
}

/// What is wrong with a chain, looked at by its hops alone.
fn broken_link(tenant: &str, trace: &str, hops: &[Hop<'_>], by_id: &HashMap<String, &Exchange>) -> Option<String> {
    let chain = hops.first()?.1["exchange_id"].clone();
    let mut before = Value::Null;
    for ((hop, receipt, _), expected) in hops.iter().zip(1_u64..) {
        if *hop != expected {
            return Some(format!("hop {expected} expected, {hop} came"));
        }
        if receipt["prev_receipt_hash"] != before {
            return Some(format!("hop {hop} does not follow the one before"));
        }
        if receipt["chain"] != chain || receipt["tenant"] != tenant || receipt["trace_id"] != trace {
            return Some(format!("hop {hop} is of another chain"));
        }
        let mut content = receipt.as_object()?.clone();
        content.remove("jws");
        content.remove("receipt_hash");
        let hash = digest(canonical(&Value::Object(content)).as_bytes());
        if receipt["receipt_hash"] != hash {
            return Some(format!("hop {hop} hashes to {hash}"));
        }
        let exchange = by_id.get(receipt["exchange_id"].as_str()?);
        if exchange.is_some_and(|exchange| receipt["cid"] != digest(exchange.canonical.as_bytes())) {
            return Some(format!("hop {hop} is of another payload"));
        }
        before = receipt["receipt_hash"].clone();
    }
    None
}

/// RFC 8785, as far as receipts go: ASCII names, safe integers.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let mut names: Vec<&String> = members.keys().collect();
            names.sort();
            let written: Vec<String> = names
                .into_iter()
                .map(|name| format!("{}:{}", Value::from(name.as_str()), canonical(&members[name])))
                .collect();
            format!("{{{}}}", written.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}
