//! The door: from headers and bytes to a request that may be written, or to the problem that says why not.
//!
//! Pure. What it lets in, canonicalise would admit but for what only configuration and state know (payload types,
//! allowlist, chain, idempotency). What it refuses does not use up the idempotency key.

// Named by their paths because `fuzz/` takes this file in by its own.
#[path = "door/envelope.rs"]
mod envelope;
#[path = "door/item.rs"]
mod item;

use access::{Code, Problem};
use admission::PASSTHROUGH;
use axum::http::{HeaderMap, HeaderName, header};
use event::amount::{Currency, Minor};
use event::destination::Destination;
use event::digest::Digest;
use event::door::{Limits, canonicalise_at};
use event::id::{ExchangeId, IdempotencyKey, Payee, TenantId, TraceId};
use event::wire::{ExchangeRequested, WireAmount};

use envelope::{Envelope, Faults, refused};

pub(crate) use envelope::{Place, items};
pub(crate) use item::{ItemRules, item};

/// How a request record says that it must open its chain.
const FIRST_HOP: &str = "first";

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const SIGNET_IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("x-signet-idempotency-key");

const MEMBERS: [&str; 7] =
    ["payload_type", "payload", "target_type", "trace_id", "expected_prev_receipt_hash", "amount", "forward_url"];

/// A request that passed the door.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Admissible {
    pub(crate) exchange_id: ExchangeId,
    /// The caller's, or the exchange's own.
    pub(crate) trace_id: TraceId,
    pub(crate) request: ExchangeRequested,
}

/// Who sends, under which key.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    pub(crate) tenant: TenantId,
    pub(crate) idempotency_key: IdempotencyKey,
}

/// The idempotency key of a request's headers.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<IdempotencyKey, Problem> {
    let missing = || {
        let detail = "Send `Idempotency-Key` with 1 to 255 characters of visible ASCII, a new one for each exchange.";
        Problem::new(Code::IdempotencyKeyMissing, detail)
    };
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter().chain(headers.get_all(SIGNET_IDEMPOTENCY_KEY));
    let first = given.next().ok_or_else(missing)?;
    if given.any(|other| other != first) {
        let detail = "More than one idempotency key was sent, and they differ.";
        return Err(Problem::new(Code::IdempotencyKeyInvalid, detail));
    }
    read_idempotency_key(&String::from_utf8_lossy(first.as_bytes()))
}

pub(crate) fn read_idempotency_key(text: &str) -> Result<IdempotencyKey, Problem> {
    let invalid = |error: event::id::InvalidId| Problem::new(Code::IdempotencyKeyInvalid, format!("{error}."));
    IdempotencyKey::parse(text).map_err(invalid)
}

/// Only plain JSON is read: another type or an encoding is refused before the body is.
pub(crate) fn media_type(headers: &HeaderMap) -> Result<(), Problem> {
    let refused = |detail: &str| Err(Problem::new(Code::UnsupportedMediaType, detail));
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return refused("Send the body with `Content-Type: application/json`.");
    }
    match headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes()) {
        None => Ok(()),
        Some(encoding) if encoding.eq_ignore_ascii_case(b"identity") => Ok(()),
        Some(_) => refused("Send the body without a content encoding."),
    }
}

/// One exchange, which lies at this place of the request body.
pub(crate) fn exchange(sender: &Sender, body: &[u8], place: Place<'_>, limits: &Limits) -> Result<Admissible, Problem> {
    let envelope = Envelope::read(body, place, "An exchange")?;
    envelope.through_the_door_but("payload", place, limits)?;
    let mut faults = Faults::at(place.pointer);
    envelope.known_only(&MEMBERS, "", &mut faults);
    let payload_type = envelope.text("payload_type", "", &mut faults).unwrap_or_else(|| PASSTHROUGH.to_owned());
    let trace_id = envelope.text("trace_id", "", &mut faults).and_then(|text| {
        TraceId::parse(text).map_err(|error| faults.add("/trace_id", "invalid_trace_id", format!("{error}."))).ok()
    });
    let request = ExchangeRequested {
        tenant: sender.tenant.to_string(),
        idempotency_key: sender.idempotency_key.to_string(),
        payload: envelope.raw("payload").unwrap_or_default().to_vec(),
        target_type: envelope.text("target_type", "", &mut faults),
        trace_id: trace_id.as_ref().map(TraceId::to_string),
        expected_prev_receipt_hash: expected_head(&envelope, &mut faults),
        amount: amount(&envelope, &mut faults)?,
        forward_url: forward_url(&envelope, &mut faults),
        payload_type,
    };
    if envelope.raw("payload").is_none() {
        faults.add("/payload", "missing_member", "`payload` is required; it may be any JSON value.");
    }
    faults.none()?;
    let mut canonical = Vec::with_capacity(request.payload.len());
    canonicalise_at(&place.pointer_of("payload"), &request.payload, limits, &mut canonical)
        .map_err(|refusal| refused(refusal, envelope.offset_of("payload")))?;
    let exchange_id = ExchangeId::derive(&sender.tenant, &sender.idempotency_key);
    let trace_id = trace_id.unwrap_or_else(|| TraceId::of_exchange(&exchange_id));
    Ok(Admissible { exchange_id, trace_id, request })
}

/// `null` is a demand here: this must be the first hop.
fn expected_head(envelope: &Envelope<'_>, faults: &mut Faults<'_>) -> Option<String> {
    let member = "expected_prev_receipt_hash";
    if envelope.raw(member)? == b"null" {
        return Some(FIRST_HOP.to_owned());
    }
    let text = envelope.text(member, "", faults)?;
    match Digest::parse(&text) {
        Ok(_) => Some(text),
        Err(error) => {
            faults.add("/expected_prev_receipt_hash", "invalid_digest", format!("{error}."));
            None
        }
    }
}

fn forward_url(envelope: &Envelope<'_>, faults: &mut Faults<'_>) -> Option<String> {
    let url = envelope.text("forward_url", "", faults)?;
    match Destination::parse(&url) {
        Ok(_) => Some(url),
        Err(refusal) => {
            faults.add("/forward_url", refusal.code(), format!("{refusal}."));
            None
        }
    }
}

fn amount(envelope: &Envelope<'_>, faults: &mut Faults<'_>) -> Result<Option<WireAmount>, Problem> {
    const AMOUNT: [&str; 3] = ["currency", "minor", "payee"];
    let Some(raw) = envelope.raw("amount").filter(|raw| *raw != b"null") else { return Ok(None) };
    if raw.first() != Some(&b'{') {
        faults.add("/amount", "invalid_amount", "An amount is an object of `currency`, `minor` and `payee`.");
        return Ok(None);
    }
    let pointer = format!("{}/amount", faults.prefix());
    let amount = Envelope::read(raw, Place { pointer: &pointer, offset: envelope.offset_of("amount") }, "An amount")?;
    amount.known_only(&AMOUNT, "/amount", faults);
    let mut part = |member: &'static str| {
        let text = amount.text(member, "/amount", faults);
        let is_missing = amount.raw(member).is_none_or(|raw| raw == b"null");
        if is_missing {
            faults.add(&format!("/amount/{member}"), "missing_member", format!("An amount needs `{member}`."));
        }
        text
    };
    let (currency, minor, payee) = (part("currency"), part("minor"), part("payee"));
    let currency = currency.and_then(|text| faults.of_amount("/amount/currency", Currency::parse(&text)));
    let minor = minor.and_then(|text| faults.of_amount("/amount/minor", Minor::parse(&text)));
    let payee = payee.and_then(|text| faults.of_amount("/amount/payee", Payee::parse(text)));
    let (Some(currency), Some(minor), Some(payee)) = (currency, minor, payee) else { return Ok(None) };
    Ok(Some(WireAmount { currency: currency.to_string(), minor: minor.get(), payee: payee.to_string() }))
}

#[cfg(test)]
mod tests;
