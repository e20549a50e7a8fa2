//! Is this request one that may be admitted? Rules only: no state, no configuration but the tenant's allowlist.

use event::amount::{Amount, Currency, InvalidAmount, Minor};
use event::destination::{Allowlist, Destination, allowed};
use event::digest::{Digest, digest_of};
use event::door::{self, Limits, canonicalise_at};
use event::fingerprint::{RequestParts, fingerprint, raw_fingerprint};
use event::id::{Payee, TraceId};
use event::wire::{ExchangeRequested, WireAmount};

use crate::outcome::Refusal;

/// The only payload type without a mapping; others come as files.
const PASSTHROUGH: &str = "passthrough";
/// How a request says that it must open its chain (schemas/exchange.requested.v1).
const FIRST_HOP: &str = "first";

/// A request with what could be read of its payload and its amount.
#[derive(Debug)]
pub(crate) struct Examined<'a> {
    request: &'a ExchangeRequested,
    canonical: Result<Vec<u8>, door::Refusal>,
    amount: Option<Result<Amount, AmountFault>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct AmountFault {
    pointer: &'static str,
    detail: String,
}

/// A request that may be admitted.
#[derive(Debug)]
pub(crate) struct Admissible {
    pub(crate) canonical: Vec<u8>,
    pub(crate) cid: Digest,
    pub(crate) policy_reason: &'static str,
    pub(crate) policy_host: Option<String>,
}

impl<'a> Examined<'a> {
    /// Sends the payload through the JSON door (docs/contracts/receipt.md section 1).
    pub(crate) fn new(request: &'a ExchangeRequested, limits: &Limits) -> Self {
        let mut canonical = Vec::with_capacity(request.payload.len());
        let passed = canonicalise_at("/payload", &request.payload, limits, &mut canonical);
        Self { request, canonical: passed.map(|()| canonical), amount: request.amount.as_ref().map(amount_of) }
    }

    /// What tells one request from another under the same key (docs/contracts/http.md).
    pub(crate) fn fingerprint(&self) -> Digest {
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

    /// Every rule: payload, type, members, destination.
    pub(crate) fn admissible(self, allowlist: &[String]) -> Result<Admissible, Refusal> {
        let request = self.request;
        let canonical = self.canonical.map_err(of_door)?;
        if request.payload_type != PASSTHROUGH {
            let detail = format!("there is no payload type {:?}", shown(&request.payload_type));
            return Err(Refusal::at(422, "unknown_payload_type", "/payload_type", "unknown_payload_type", detail));
        }
        if let Some(target) = request.target_type.as_deref().filter(|target| *target != PASSTHROUGH) {
            let detail = format!("passthrough has no target type {:?}", shown(target));
            return Err(invalid("/target_type", "unknown_target_type", detail));
        }
        if let Some(Err(error)) = request.trace_id.as_deref().map(TraceId::parse) {
            return Err(invalid("/trace_id", "invalid_trace_id", error.to_string()));
        }
        if let Some(expected) = request.expected_prev_receipt_hash.as_deref()
            && expected != FIRST_HOP
            && let Err(error) = Digest::parse(expected)
        {
            return Err(invalid("/expected_prev_receipt_hash", "invalid_digest", error.to_string()));
        }
        if let Some(Err(fault)) = self.amount {
            return Err(invalid(fault.pointer, "invalid_amount", fault.detail));
        }
        let (policy_reason, policy_host) = policy(request.forward_url.as_deref(), allowlist)?;
        let cid = digest_of(&canonical);
        Ok(Admissible { canonical, cid, policy_reason, policy_host })
    }
}

/// A name as a refusal repeats it: a foreign producer's may be of any length.
fn shown(name: &str) -> String {
    const CHARS_MAX: usize = 80;
    name.chars().take(CHARS_MAX).collect()
}

/// Whether the tenant's configuration, as it is known, refuses the destination: it may be known too little of.
pub(crate) fn is_denied(request: &ExchangeRequested, allowlist: &[String]) -> bool {
    policy(request.forward_url.as_deref(), allowlist).is_err_and(|refusal| refusal.code == "destination_denied")
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
