//! Is this request one that may be admitted? Rules only: no state; what is configured comes as [`Rules`].

use event::amount::{Amount, Currency, InvalidAmount, Minor};
use event::destination::{Allowlist, Destination, allowed};
use event::digest::{Digest, digest_of};
use event::door::{self, Limits, canonicalise_at};
use event::fingerprint::{RequestParts, fingerprint, raw_fingerprint};
use event::id::{Payee, TraceId};
use event::wire::{ExchangeRequested, WireAmount};

use crate::definition::PASSTHROUGH;
use crate::payload_type::{PayloadType, Repair, RepairPolicy, TargetFault, target_refused};
use crate::refusal::Refusal;

/// How a request says that it must open its chain (schemas/exchange.requested.v1).
const FIRST_HOP: &str = "first";

/// A request with what could be read of its payload and its amount.
#[derive(Debug)]
pub struct Examined<'a> {
    request: &'a ExchangeRequested,
    canonical: Result<Vec<u8>, door::Refusal>,
    amount: Option<Result<Amount, AmountFault>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct AmountFault {
    pointer: &'static str,
    detail: String,
}

/// What is configured for the request's tenant and type.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// The request's payload type; `None` where none is known by that name. `passthrough` needs none.
    pub payload_type: Option<&'a PayloadType>,
    pub repair: RepairPolicy,
    pub allowlist: &'a [String],
    /// Of the payload, as it came and as it is mapped.
    pub limits: &'a Limits,
}

/// A request that may be admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admissible {
    /// Of the payload as it was received.
    pub request_cid: Digest,
    /// What is countersigned, and its digest.
    pub canonical: Vec<u8>,
    pub cid: Digest,
    pub target_type: String,
    /// How the canonical payload came about; `None` where nothing is mapped.
    pub mapped: Option<Mapped>,
    pub policy_reason: &'static str,
    pub policy_host: Option<String>,
}

/// What was done to a payload, and by which definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    pub definition: Digest,
    pub repairs: Vec<Repair>,
}

/// Whether the type of a request is known, and its target: the same question at the door and at admission.
///
/// # Errors
/// `unknown_payload_type`, or `invalid_request` about the target.
pub fn known_type(request: &ExchangeRequested, payload_type: Option<&PayloadType>) -> Result<(), Refusal> {
    let named = request.target_type.as_deref();
    match payload_type {
        _ if request.payload_type == PASSTHROUGH => match named {
            None | Some(PASSTHROUGH) => Ok(()),
            Some(_) => Err(target_refused(TargetFault::Unknown, PASSTHROUGH, named)),
        },
        None => {
            let detail = format!("there is no payload type {:?}", shown(&request.payload_type));
            Err(Refusal::at(422, "unknown_payload_type", "/payload_type", "unknown_payload_type", detail))
        }
        Some(known) => match known.target(named) {
            Ok(_) => Ok(()),
            Err(fault) => Err(target_refused(fault, known.name(), named)),
        },
    }
}

impl<'a> Examined<'a> {
    /// Sends the payload through the JSON door (docs/contracts/receipt.md).
    pub fn new(request: &'a ExchangeRequested, limits: &Limits) -> Self {
        let mut canonical = Vec::with_capacity(request.payload.len());
        let passed = canonicalise_at("/payload", &request.payload, limits, &mut canonical);
        Self { request, canonical: passed.map(|()| canonical), amount: request.amount.as_ref().map(amount_of) }
    }

    /// What tells one request from another under the same key (docs/contracts/http.md).
    pub fn fingerprint(&self) -> Digest {
        let valid = self.amount.as_ref().and_then(|amount| amount.as_ref().ok());
        let parts = |payload| RequestParts {
            payload_type: &self.request.payload_type,
            target_type: self.request.target_type.as_deref(),
            payload,
            amount: valid,
            forward_url: self.request.forward_url.as_deref(),
        };
        match (&self.canonical, &self.amount) {
            (Ok(canonical), None | Some(Ok(_))) => fingerprint(&parts(canonical)),
            (_, None | Some(Ok(_))) => raw_fingerprint(&parts(&self.request.payload)),
            // Only a foreign producer can send an amount that is none; its parts count as they came.
            (_, Some(Err(_))) => {
                let mut raw = format!("{:?}\0", self.request.amount).into_bytes();
                raw.extend_from_slice(&self.request.payload);
                raw_fingerprint(&parts(&raw))
            }
        }
    }

    /// Every rule: payload, type, members, mapping, destination.
    ///
    /// # Errors
    /// Why the request is refused.
    pub fn admissible(&self, rules: Rules<'_>) -> Result<Admissible, Refusal> {
        let request = self.request;
        let received = self.canonical.as_ref().map_err(|refused| of_door(refused.clone()))?;
        known_type(request, rules.payload_type)?;
        if let Some(Err(error)) = request.trace_id.as_deref().map(TraceId::parse) {
            return Err(invalid("/trace_id", "invalid_trace_id", error.to_string()));
        }
        if let Some(expected) = request.expected_prev_receipt_hash.as_deref()
            && expected != FIRST_HOP
            && let Err(error) = Digest::parse(expected)
        {
            return Err(invalid("/expected_prev_receipt_hash", "invalid_digest", error.to_string()));
        }
        if let Some(Err(fault)) = &self.amount {
            return Err(invalid(fault.pointer, "invalid_amount", fault.detail.clone()));
        }
        let request_cid = digest_of(received);
        let payload_type = rules.payload_type.filter(|_| request.payload_type != PASSTHROUGH);
        let (target_type, canonical, mapped) = match payload_type {
            None => (PASSTHROUGH.to_owned(), received.clone(), None),
            Some(known) => {
                let target = request.target_type.as_deref();
                let normalized = known.normalize(received, target, rules.repair, rules.limits)?;
                let mapped = Mapped { definition: known.digest(), repairs: normalized.repairs };
                (normalized.target, normalized.canonical, Some(mapped))
            }
        };
        let (policy_reason, policy_host) = policy(request.forward_url.as_deref(), rules.allowlist)?;
        let cid = digest_of(&canonical);
        Ok(Admissible { request_cid, canonical, cid, target_type, mapped, policy_reason, policy_host })
    }
}

/// A name as a refusal repeats it: a foreign producer's may be of any length.
fn shown(name: &str) -> String {
    const CHARS_MAX: usize = 80;
    name.chars().take(CHARS_MAX).collect()
}

fn invalid(pointer: &str, fault: &str, detail: String) -> Refusal {
    Refusal::at(422, "invalid_request", pointer, fault, detail)
}

/// The statuses of docs/contracts/http.md for what the door refuses.
fn of_door(refused: door::Refusal) -> Refusal {
    let code = refused.code.problem_code();
    let status = match code {
        "malformed_json" => 400,
        "payload_too_large" => 413,
        _ => 422,
    };
    Refusal::at(status, code, &refused.pointer, refused.code.as_str(), refused.detail)
}

fn amount_of(wire: &WireAmount) -> Result<Amount, AmountFault> {
    let fault = |pointer, error: InvalidAmount| AmountFault { pointer, detail: error.to_string() };
    Ok(Amount {
        currency: Currency::parse(&wire.currency).map_err(|error| fault("/amount/currency", error))?,
        minor: Minor::new(wire.minor).map_err(|error| fault("/amount/minor", error))?,
        payee: Payee::parse(wire.payee.as_str())
            .map_err(|error| AmountFault { pointer: "/amount/payee", detail: error.to_string() })?,
    })
}

/// Where the payload may go. What the name resolves to is judged when it is dialled.
fn policy(forward_url: Option<&str>, allowlist: &[String]) -> Result<(&'static str, Option<String>), Refusal> {
    let Some(url) = forward_url else { return Ok(("no_forward", None)) };
    let destination =
        Destination::parse(url).map_err(|error| invalid("/forward_url", error.code(), error.to_string()))?;
    let host = destination.host().to_string();
    if !allowed(&destination, &Allowlist::lenient(allowlist)) {
        let detail = format!("the tenant's allowlist does not name {host}");
        return Err(Refusal::at(403, "destination_denied", "/forward_url", "not_allowlisted", detail));
    }
    Ok(("allowlisted", Some(host)))
}
