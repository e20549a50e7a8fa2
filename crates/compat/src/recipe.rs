//! Which members each recipe takes, in which form, and where it cuts the hash.

use std::fmt;
use std::str::FromStr;

use event::digest::{Digest, digest_of};
use event::door;

use crate::amount::two_decimals;
use crate::python::{Separators, Value};
use crate::receipt;

/// A way of hashing, by its id in the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Recipe {
    /// `{deal_id, action}` and every member of `params` as a text.
    IdempotencyKey,
    /// seven members of an event; its amount is not among them.
    Event,
    /// what a deal was agreed on.
    ScopeLock,
    /// a list of predicates.
    Policy,
    /// a verification receipt.
    Receipt,
    /// a verification.
    Verification,
    /// a ledger entry, amounts with two decimals.
    LedgerEntry,
    /// a proof bundle, without spaces.
    Bundle,
    /// S-43: the older receipt whose `canon` is the payload itself.
    OlderReceipt,
}

/// What a recipe makes of its input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hashed {
    /// As the older system shows it: cut, and with its prefix.
    pub hash: String,
    /// What was hashed, as UTF-8.
    pub preimage: String,
    /// S-43 alone: the digest of the receipt's `canon`.
    pub cid: Option<Digest>,
}

/// An input that has no hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not JSON, or not JSON that may enter.
    #[error("the input is refused")]
    Document(#[source] door::Refusal),
    /// A member that the recipe needs is missing or of the wrong kind.
    #[error("at \"{pointer}\": {detail}")]
    Input { pointer: String, detail: String },
}

/// An id that names no recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a recipe is one of A-26 to A-33, or S-43")]
pub struct UnknownRecipe;

/// Hex digits of the shorter hashes.
const SHORT: usize = 24;
const MIDDLE: usize = 32;
const WHOLE: usize = 64;

const EVENT: [&str; 7] = ["event_id", "event_type", "deal_id", "actor_id", "timestamp", "payload", "prev_hash"];
const SCOPE_LOCK: [&str; 6] = ["vertical", "sku_id", "scope_summary", "estimated_price", "policy_hash", "proof_hash"];
const RECEIPT: [&str; 5] = ["deal_id", "proof_hash", "provider", "verified", "confidence"];
const VERIFICATION: [&str; 4] = ["deal_id", "proof_hash", "provider_name", "verified"];
const BUNDLE: [&str; 5] = ["spec_version", "deal_id", "proofs", "events", "merkle_inclusion"];

impl Recipe {
    /// Every recipe, in the order of their ids.
    pub const ALL: [Self; 9] = [
        Self::IdempotencyKey,
        Self::Event,
        Self::ScopeLock,
        Self::Policy,
        Self::Receipt,
        Self::Verification,
        Self::LedgerEntry,
        Self::Bundle,
        Self::OlderReceipt,
    ];

    /// The id.
    pub fn id(self) -> &'static str {
        match self {
            Self::IdempotencyKey => "A-26",
            Self::Event => "A-27",
            Self::ScopeLock => "A-28",
            Self::Policy => "A-29",
            Self::Receipt => "A-30",
            Self::Verification => "A-31",
            Self::LedgerEntry => "A-32",
            Self::Bundle => "A-33",
            Self::OlderReceipt => "S-43",
        }
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

impl FromStr for Recipe {
    type Err = UnknownRecipe;

    fn from_str(id: &str) -> Result<Self, UnknownRecipe> {
        Self::ALL.into_iter().find(|recipe| recipe.id() == id).ok_or(UnknownRecipe)
    }
}

impl Refusal {
    pub(crate) fn input(pointer: &str, detail: &str) -> Self {
        Self::Input { pointer: pointer.to_owned(), detail: detail.to_owned() }
    }
}

/// Hashes an input, given as JSON: `100` and `100.0` are different texts in these recipes.
///
/// Members that a recipe does not take are passed over, as the older systems do; one that it needs is never made up.
///
/// # Errors
/// What is not JSON that may enter (numbers and noncharacters apart, S-43 excepted), and what lacks a member.
pub fn hash(recipe: Recipe, input: &[u8]) -> Result<Hashed, Refusal> {
    let read = || Value::read(input);
    let (preimage, prefix, digits) = match recipe {
        Recipe::OlderReceipt => return receipt::hash(input),
        Recipe::IdempotencyKey => (idempotency_key(&read()?)?, "idem_", SHORT),
        Recipe::Event => (only(&read()?, &EVENT)?.to_json(Separators::Spaced), "", WHOLE),
        Recipe::ScopeLock => (joined(&read()?, &SCOPE_LOCK)?, "", MIDDLE),
        Recipe::Policy => (policy(&read()?)?, "", SHORT),
        Recipe::Receipt => (joined(&read()?, &RECEIPT)?, "", SHORT),
        Recipe::Verification => (joined(&read()?, &VERIFICATION)?, "", SHORT),
        Recipe::LedgerEntry => (ledger_entry(&read()?)?.to_json(Separators::Spaced), "", SHORT),
        Recipe::Bundle => (only(&read()?, &BUNDLE)?.to_json(Separators::Compact), "", WHOLE),
    };
    let digest: String = digest_of(preimage.as_bytes()).as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let cut: String = digest.chars().take(digits).collect();
    Ok(Hashed { hash: format!("{prefix}{cut}"), preimage, cid: None })
}

/// The members of an object, which an input of most recipes is.
fn members(value: &Value) -> Result<&[(String, Value)], Refusal> {
    match value {
        Value::Dict(members) => Ok(members),
        _ => Err(Refusal::input("", "the input of this recipe is an object")),
    }
}

fn find<'v>(members: &'v [(String, Value)], name: &str) -> Option<&'v Value> {
    members.iter().find(|(known, _)| known == name).map(|(_, value)| value)
}

fn needed<'v>(value: &'v Value, name: &str) -> Result<&'v Value, Refusal> {
    find(members(value)?, name).ok_or_else(|| Refusal::input(&format!("/{name}"), "the member is missing"))
}

/// An object of these members alone.
fn only(value: &Value, taken: &[&str]) -> Result<Value, Refusal> {
    let taken = taken.iter().map(|name| Ok(((*name).to_owned(), needed(value, name)?.clone())));
    Ok(Value::Dict(taken.collect::<Result<_, Refusal>>()?))
}

/// The members as texts, joined by bars.
fn joined(value: &Value, taken: &[&str]) -> Result<String, Refusal> {
    let texts = taken.iter().map(|name| needed(value, name).map(Value::to_text));
    Ok(texts.collect::<Result<Vec<_>, Refusal>>()?.join("|"))
}

fn policy(value: &Value) -> Result<String, Refusal> {
    match value {
        Value::List(_) => Ok(value.to_json(Separators::Spaced)),
        _ => Err(Refusal::input("", "a policy is a list of predicates")),
    }
}

fn idempotency_key(value: &Value) -> Result<String, Refusal> {
    let mut taken = vec![
        ("deal_id".to_owned(), needed(value, "deal_id")?.clone()),
        ("action".to_owned(), needed(value, "action")?.clone()),
    ];
    // Everything given is part of the key, so that a member which would not be is refused.
    let known = ["deal_id", "action", "params"];
    if let Some((name, _)) = members(value)?.iter().find(|(name, _)| !known.contains(&name.as_str())) {
        let mut pointer = String::new();
        door::push_pointer(&mut pointer, name);
        return Err(Refusal::input(&pointer, "not a member of this recipe; parameters stand in params"));
    }
    match find(members(value)?, "params") {
        None => {}
        Some(Value::Dict(params)) => {
            for (name, param) in params {
                if taken.iter().any(|(known, _)| known == name) {
                    return Err(Refusal::input(&format!("/params/{name}"), "a parameter cannot have this name"));
                }
                taken.push((name.clone(), Value::Str(param.to_text())));
            }
        }
        Some(_) => return Err(Refusal::input("/params", "parameters are an object")),
    }
    Ok(Value::Dict(taken).to_json(Separators::Spaced))
}

/// An entry says who and why in `meta`; where there is none, in itself.
fn ledger_entry(value: &Value) -> Result<Value, Refusal> {
    let meta = match find(members(value)?, "meta") {
        None => members(value)?,
        Some(Value::None) => &[],
        Some(Value::Dict(meta)) => meta,
        Some(_) => return Err(Refusal::input("/meta", "meta is an object")),
    };
    let empty = || Value::Str(String::new());
    let first_of = |names: &[&str]| names.iter().filter_map(|name| find(meta, name)).find(|value| value.is_truthy());
    let amount = |name: &str| {
        let text = two_decimals(needed(value, name)?);
        text.map(Value::Str).ok_or_else(|| Refusal::input(&format!("/{name}"), "not an amount of at most 28 digits"))
    };
    let counterparty = first_of(&["from", "to"]).or_else(|| find(meta, "counterparty"));
    let members = [
        ("deal_id", find(meta, "deal_id").cloned().unwrap_or_else(empty)),
        ("entry_type", needed(value, "entry_type")?.clone()),
        ("ref", needed(value, "ref")?.clone()),
        ("debit", amount("debit")?),
        ("credit", amount("credit")?),
        ("currency", find(meta, "currency").cloned().unwrap_or_else(|| Value::Str("USD".to_owned()))),
        ("counterparty", counterparty.cloned().unwrap_or_else(empty)),
        ("event_id", first_of(&["event_id", "tx_id"]).cloned().unwrap_or_else(empty)),
    ];
    Ok(Value::Dict(members.map(|(name, value)| (name.to_owned(), value)).to_vec()))
}
