//! What is sent: made from a seed, so that a run can be had again.

use std::collections::VecDeque;
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// Who sends. The last pays enough for the volume discounts to apply.
pub(super) const TENANTS: [&str; 4] = ["alpha", "beta", "gamma", "bulk"];
const BULK: usize = 3;
const PAYEES: [&str; 5] = ["agent-1", "agent-2", "Agent.3", "relay_4", "z"];
const HOT_TRACES: u64 = 8;
/// From this volume in a month on the first discount applies; all tenants but one stay below it.
const DISCOUNT_FROM: i64 = 100_000;
const CHAIN_HOPS: usize = 6;
/// In a body: the receipt hash that the phase before was answered with.
pub(super) const HEAD: &str = "{head}";

/// SplitMix64: small, and the same everywhere.
#[derive(Clone, Debug)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn per_mille(&mut self, chance: u64) -> bool {
        self.below(1_000) < chance
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for index in (1..items.len()).rev() {
            items.swap(index, usize::try_from(self.below(index as u64 + 1)).expect("an index"));
        }
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[usize::try_from(self.below(items.len() as u64)).expect("an index")]
    }
}

/// What every answer to a request must be, once there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    Sealed,
    /// Refused for ever, with this code.
    Refused(&'static str),
    /// Another request holds the key.
    Reused,
    /// Not let in; the key stays free.
    AtTheDoor(&'static str),
}

#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) tenant: usize,
    pub(super) idempotency_key: String,
    pub(super) body: String,
    pub(super) expected: Expected,
}

/// Phases one after the other; the requests of a phase go at the same time.
#[derive(Clone, Debug)]
pub(super) struct Script {
    pub(super) phases: VecDeque<Vec<Request>>,
    /// The next phase follows at once, not some time later.
    pub(super) is_chain: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Price {
    pub(super) currency: &'static str,
    pub(super) minor: i64,
    pub(super) payee: &'static str,
}

/// How the receiver takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    Taken,
    Flaky,
    Gone,
}

/// One exchange as it must come out.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    pub(super) tenant: usize,
    pub(super) idempotency_key: String,
    pub(super) trace: Option<String>,
    /// Canonical bytes of the payload.
    pub(super) canonical: String,
    pub(super) price: Option<Price>,
    pub(super) delivery: Option<Delivery>,
    /// The code it is refused with.
    pub(super) refused: Option<&'static str>,
    /// Somebody uses its key for something else later.
    pub(super) reused: bool,
}

/// Everything that is sent, and what it means.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) scripts: VecDeque<Script>,
    pub(super) exchanges: Vec<Exchange>,
    pub(super) requests: usize,
    pub(super) duplicates: usize,
}

/// A request body before it is written.
#[derive(Clone, Debug)]
struct Draft {
    /// Names with canonical JSON.
    payload: Vec<(String, String)>,
    trace: Option<String>,
    price: Option<Price>,
    forward_url: Option<String>,
    /// JSON of `expected_prev_receipt_hash`.
    head: Option<String>,
}

impl Draft {
    fn canonical(&self) -> String {
        let mut members: Vec<&(String, String)> = self.payload.iter().collect();
        members.sort();
        object(&members.iter().map(|(name, json)| (name.as_str(), json.clone())).collect::<Vec<_>>(), "")
    }

    /// The same request, members in another order and white space elsewhere each time.
    fn body(&self, rng: &mut Rng) -> String {
        let mut payload: Vec<(&str, String)> =
            self.payload.iter().map(|(name, json)| (name.as_str(), json.clone())).collect();
        rng.shuffle(&mut payload);
        let space = *rng.pick(&["", " ", "\n "]);
        let mut members = vec![("payload", object(&payload, space))];
        if let Some(trace) = &self.trace {
            members.push(("trace_id", format!("\"{trace}\"")));
        }
        if let Some(Price { currency, minor, payee }) = &self.price {
            members.push(("amount", format!(r#"{{"currency":"{currency}","minor":"{minor}","payee":"{payee}"}}"#)));
        }
        if let Some(url) = &self.forward_url {
            members.push(("forward_url", format!("\"{url}\"")));
        }
        if let Some(head) = &self.head {
            members.push(("expected_prev_receipt_hash", head.clone()));
        }
        rng.shuffle(&mut members);
        object(&members, space)
    }
}

fn object(members: &[(&str, String)], space: &str) -> String {
    let mut text = String::from("{");
    for (index, (name, json)) in members.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        write!(text, "{comma}{space}\"{name}\":{space}{json}").expect("a string takes everything");
    }
    text + space + "}"
}

/// Makes plans.
struct Maker {
    rng: Rng,
    exchanges_wanted: usize,
    receiver_port: u16,
    volumes: [i64; TENANTS.len()],
    plan: Plan,
}

impl Plan {
    pub(super) fn make(seed: u64, exchanges_wanted: usize, receiver_port: u16) -> Self {
        let plan = Self { scripts: VecDeque::new(), exchanges: Vec::new(), requests: 0, duplicates: 0 };
        let volumes = [0; TENANTS.len()];
        let mut maker = Maker { rng: Rng::new(seed), exchanges_wanted, receiver_port, volumes, plan };
        for number in 0..exchanges_wanted / 400 {
            maker.chain(number);
        }
        while maker.plan.exchanges.len() < exchanges_wanted {
            maker.single();
        }
        let mut plan = maker.plan;
        maker.rng.shuffle(plan.scripts.make_contiguous());
        plan.requests = plan.scripts.iter().flat_map(|script| &script.phases).map(Vec::len).sum();
        plan
    }
}

impl Maker {
    fn payload(&mut self) -> Vec<(String, String)> {
        let number = self.plan.exchanges.len();
        let city = *self.rng.pick(&["Łódź", "東京", "Reykjavík", "São Paulo", "Accra 🌍"]);
        let filler = "x".repeat(usize::try_from(self.rng.below(300)).expect("small"));
        vec![
            ("order".to_owned(), number.to_string()),
            ("city".to_owned(), format!("\"{city}\"")),
            ("rate".to_owned(), format!("0.{}", 1 + self.rng.below(9))),
            (
                "lines".to_owned(),
                format!(r#"[{{"q":{},"sku":"S-{}"}},null,true]"#, self.rng.below(50), self.rng.below(900)),
            ),
            ("note".to_owned(), format!("\"{filler}\"")),
        ]
    }

    fn price(&mut self, tenant: usize) -> Option<Price> {
        if self.rng.per_mille(10) {
            return Some(Price {
                currency: "EUR",
                minor: 1 + i64::try_from(self.rng.below(500)).expect("small"),
                payee: PAYEES[0],
            });
        }
        if !self.rng.per_mille(200) {
            return None;
        }
        // Around the fee of a tiny amount, or anything up to what keeps the tenant below the discount.
        let limit =
            if tenant == BULK { 200_000 } else { (3_000_000 / self.exchanges_wanted.max(20_000)).max(30) as u64 };
        let mut minor = match self.rng.below(10) {
            0 => *self.rng.pick(&[0, 1, 27, 28, 29, 30]),
            _ => 1 + i64::try_from(self.rng.below(limit)).expect("small"),
        };
        if tenant != BULK && self.volumes[tenant] + minor >= DISCOUNT_FROM {
            minor = 0;
        }
        self.volumes[tenant] += minor;
        Some(Price { currency: "USD", minor, payee: self.rng.pick::<&'static str>(&PAYEES) })
    }

    fn trace(&mut self) -> Option<String> {
        match self.rng.below(10) {
            0..3 => None,
            3..7 => Some(format!("hot-{}", self.rng.below(HOT_TRACES))),
            _ => Some(format!("cold:{}", self.rng.below(self.exchanges_wanted as u64 / 20))),
        }
    }

    fn single(&mut self) {
        let tenant = usize::try_from(self.rng.below(TENANTS.len() as u64)).expect("an index");
        let idempotency_key = format!("order/{}#{:x}", self.plan.exchanges.len(), self.rng.below(1 << 20));
        let mut draft =
            Draft { payload: self.payload(), trace: self.trace(), price: None, forward_url: None, head: None };
        let (mut delivery, mut refused) = (None, None);
        match self.rng.below(1_000) {
            0..10 => {
                let (kind, path) = *self.rng.pick(&[
                    (Delivery::Taken, "in"),
                    (Delivery::Taken, "orders"),
                    (Delivery::Flaky, "flaky"),
                    (Delivery::Gone, "gone"),
                ]);
                delivery = Some(kind);
                draft.forward_url = Some(format!("https://localhost:{}/{path}", self.receiver_port));
            }
            10..15 => {
                refused = Some("destination_denied");
                draft.forward_url = Some("https://elsewhere.example/in".to_owned());
            }
            _ => draft.price = self.price(tenant),
        }
        let expected = refused.map_or(Expected::Sealed, Expected::Refused);
        let request =
            |body: String, expected| Request { tenant, idempotency_key: idempotency_key.clone(), body, expected };
        let mut phases = VecDeque::new();
        if self.rng.per_mille(5) {
            phases.push_back(vec![request(r#"{"payload":"#.to_owned(), Expected::AtTheDoor("malformed_json"))]);
        }
        let mut first = vec![request(draft.body(&mut self.rng), expected)];
        if self.rng.per_mille(25) {
            first.push(request(draft.body(&mut self.rng), expected));
            self.plan.duplicates += 1;
        }
        phases.push_back(first);
        if self.rng.per_mille(25) {
            // The trace of whoever came first holds.
            let again = Draft { trace: Some("another-trace".to_owned()), ..draft.clone() };
            phases.push_back(vec![request(again.body(&mut self.rng), expected)]);
            self.plan.duplicates += 1;
        }
        let reused = self.rng.per_mille(10);
        if reused {
            let mut other = draft.clone();
            other.payload.push(("more".to_owned(), "1".to_owned()));
            phases.push_back(vec![request(other.body(&mut self.rng), Expected::Reused)]);
        }
        let exchange = Exchange {
            tenant,
            idempotency_key: idempotency_key.clone(),
            trace: draft.trace.clone(),
            canonical: draft.canonical(),
            price: draft.price.clone(),
            delivery,
            refused,
            reused,
        };
        self.plan.exchanges.push(exchange);
        self.plan.scripts.push_back(Script { phases, is_chain: false });
    }

    /// A caller who names the head each time, and is behind at the end.
    fn chain(&mut self, number: usize) {
        let tenant = number % TENANTS.len();
        let trace = format!("chain.{number}");
        let mut phases = VecDeque::new();
        for hop in 0..=CHAIN_HOPS {
            let is_behind = hop == CHAIN_HOPS;
            let head = match hop {
                0 | CHAIN_HOPS => "null".to_owned(),
                _ => format!("\"{HEAD}\""),
            };
            let price = if is_behind { None } else { self.price(tenant) };
            let draft = Draft {
                payload: self.payload(),
                trace: Some(trace.clone()),
                price,
                forward_url: None,
                head: Some(head),
            };
            let idempotency_key = format!("{trace}/{hop}");
            let refused = is_behind.then_some("chain_conflict");
            let expected = refused.map_or(Expected::Sealed, Expected::Refused);
            let body = draft.body(&mut self.rng);
            phases.push_back(vec![Request { tenant, idempotency_key: idempotency_key.clone(), body, expected }]);
            self.plan.exchanges.push(Exchange {
                tenant,
                idempotency_key,
                trace: Some(trace.clone()),
                canonical: draft.canonical(),
                price: draft.price,
                delivery: None,
                refused,
                reused: false,
            });
        }
        self.plan.scripts.push_back(Script { phases, is_chain: true });
    }
}

impl Exchange {
    pub(super) fn id(&self) -> String {
        exchange_id(self.tenant(), &self.idempotency_key)
    }

    pub(super) fn trace_id(&self) -> String {
        self.trace.clone().unwrap_or_else(|| self.id())
    }

    pub(super) fn tenant(&self) -> &'static str {
        TENANTS[self.tenant]
    }
}

pub(super) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold("sha256:".to_owned(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

/// docs/contracts/receipt.md section 2, written again.
fn exchange_id(tenant: &str, idempotency_key: &str) -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let mut hash = Sha256::new();
    hash.update(b"countersign/exchange/v1\0");
    hash.update(tenant);
    hash.update(b"\0");
    hash.update(idempotency_key);
    let (mut bits, mut held, mut id) = (0_u32, 0_u32, String::from("ex_"));
    // 26 characters are 130 bits: the first 17 bytes.
    for byte in hash.finalize().into_iter().take(17) {
        bits = (bits << 8) | u32::from(byte);
        held += 8;
        while held >= 5 && id.len() < 29 {
            held -= 5;
            id.push(char::from(DIGITS[((bits >> held) & 31) as usize]));
        }
        bits &= (1 << held) - 1;
    }
    id
}

#[test]
fn ids_are_those_of_the_published_vectors() {
    assert_eq!(exchange_id("acme", "key-0"), "ex_a46f1z1wmbq2pds9zabtvhng7b");
    assert_eq!(exchange_id("zurich-7", "order/2026-11-21#0001"), "ex_8nmg8kf2wf8v6rc7g7rntbdqey");
}

#[test]
fn a_plan_is_the_same_each_time_and_holds_something_of_everything() {
    let plan = Plan::make(7, 20_000, 443);
    let again = Plan::make(7, 20_000, 443);
    assert_eq!(format!("{:?}", plan.scripts), format!("{:?}", again.scripts));
    assert!(plan.exchanges.len() >= 20_000);
    assert!((900..1_100).contains(&plan.duplicates), "{} duplicates", plan.duplicates);
    let count = |holds: fn(&Exchange) -> bool| plan.exchanges.iter().filter(|exchange| holds(exchange)).count();
    let priced = count(|exchange| exchange.price.as_ref().is_some_and(|price| price.currency == "USD"));
    assert!((3_500..4_500).contains(&priced), "{priced} priced");
    for delivery in [Delivery::Taken, Delivery::Flaky, Delivery::Gone] {
        assert!(plan.exchanges.iter().any(|exchange| exchange.delivery == Some(delivery)), "{delivery:?}");
    }
    assert!(
        count(|exchange| exchange.reused) > 100 && count(|exchange| exchange.refused == Some("chain_conflict")) >= 50
    );
}
