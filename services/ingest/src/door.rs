//! The door: from headers and bytes to a request that may be written, or to the problem that says why not.
//!
//! Pure. What it lets in, canonicalise would admit but for what only configuration and state know (allowlist, chain,
//! idempotency). What it refuses does not use up the idempotency key.

use std::ops::Range;

use access::{Code, FieldError, Problem};
use axum::http::{HeaderMap, HeaderName, header};
use event::amount::{Currency, Minor};
use event::destination::Destination;
use event::digest::Digest;
use event::door::{Limits, Refusal, canonicalise_at, members};
use event::id::{ExchangeId, IdempotencyKey, Payee, TenantId, TraceId};
use event::wire::{ExchangeRequested, WireAmount};

/// The only payload type without a mapping.
const PASSTHROUGH: &str = "passthrough";
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

/// One exchange. `prefix` is the JSON pointer of `body` in the request body: empty but for batches.
pub(crate) fn exchange(sender: &Sender, body: &[u8], prefix: &str, limits: &Limits) -> Result<Admissible, Problem> {
    let envelope = Envelope::read(body, prefix)?;
    envelope.through_the_door(prefix, limits)?;
    let mut faults = Faults { prefix, errors: Vec::new() };
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
    known_type(&request, prefix)?;
    let mut canonical = Vec::with_capacity(request.payload.len());
    canonicalise_at(&format!("{prefix}/payload"), &request.payload, limits, &mut canonical).map_err(refused)?;
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
    let amount = Envelope::read(raw, &format!("{}/amount", faults.prefix))?;
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

fn known_type(request: &ExchangeRequested, prefix: &str) -> Result<(), Problem> {
    if request.payload_type != PASSTHROUGH {
        let detail = format!("There is no payload type {:?}.", request.payload_type);
        return Err(Problem::new(Code::UnknownPayloadType, detail.clone()).error(
            format!("{prefix}/payload_type"),
            "unknown_payload_type",
            detail,
        ));
    }
    match request.target_type.as_deref() {
        None | Some(PASSTHROUGH) => Ok(()),
        Some(target) => {
            let detail = format!("passthrough has no target type {target:?}.");
            let problem = Problem::new(Code::InvalidRequest, detail.clone());
            Err(problem.error(format!("{prefix}/target_type"), "unknown_target_type", detail))
        }
    }
}

/// What the JSON door refused, as a problem.
fn refused(refusal: Refusal) -> Problem {
    let code = Code::parse(refusal.code.problem_code()).unwrap_or(Code::InvalidRequest);
    let detail = match code {
        Code::MalformedJson => format!("{} (byte {}).", sentence(&refusal.detail), refusal.offset),
        _ => format!("{}.", sentence(&refusal.detail)),
    };
    Problem::new(code, detail).error(refusal.pointer, refusal.code.as_str(), refusal.detail)
}

fn sentence(text: &str) -> &str {
    text.trim_end_matches('.')
}

/// Faults of an envelope: all of them are told at once.
struct Faults<'a> {
    prefix: &'a str,
    errors: Vec<FieldError>,
}

impl Faults<'_> {
    fn add(&mut self, pointer: &str, code: &'static str, detail: impl Into<String>) {
        let pointer = format!("{}{pointer}", self.prefix);
        self.errors.push(FieldError { pointer, code: code.into(), detail: detail.into() });
    }

    fn of_amount<T, E: std::fmt::Display>(&mut self, pointer: &str, read: Result<T, E>) -> Option<T> {
        read.map_err(|error| self.add(pointer, "invalid_amount", format!("{error}."))).ok()
    }

    fn none(self) -> Result<(), Problem> {
        let Some(first) = self.errors.first() else { return Ok(()) };
        let problem = Problem::new(Code::InvalidRequest, first.detail.clone());
        Err(self
            .errors
            .into_iter()
            .fold(problem, |problem, error| problem.error(error.pointer, error.code, error.detail)))
    }
}

/// The members of an object, not yet read.
struct Envelope<'a> {
    bytes: &'a [u8],
    members: Vec<(String, Range<usize>)>,
}

impl<'a> Envelope<'a> {
    fn read(bytes: &'a [u8], prefix: &str) -> Result<Self, Problem> {
        let first = bytes.iter().find(|byte| !b" \t\r\n".contains(byte));
        if first.is_some_and(|first| *first != b'{') && serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok() {
            let detail = "An exchange is a JSON object.";
            return Err(Problem::new(Code::InvalidRequest, detail).error(prefix, "not_an_object", detail));
        }
        let members = members(bytes).map_err(|refusal| {
            let pointer = format!("{prefix}{}", refusal.pointer);
            refused(Refusal { pointer, ..refusal })
        })?;
        Ok(Self { bytes, members })
    }

    /// Every member but the payload, which has a limit of its own and goes last, passes the same door: syntax, duplicate
    /// names and I-JSON hold for the whole body.
    fn through_the_door(&self, prefix: &str, limits: &Limits) -> Result<(), Problem> {
        let mut scratch = Vec::new();
        for (name, range) in self.members.iter().filter(|(name, _)| name != "payload") {
            let escaped = name.replace('~', "~0").replace('/', "~1");
            let raw = self.bytes.get(range.clone()).unwrap_or_default();
            scratch.clear();
            canonicalise_at(&format!("{prefix}/{escaped}"), raw, limits, &mut scratch).map_err(refused)?;
        }
        Ok(())
    }

    fn raw(&self, name: &str) -> Option<&'a [u8]> {
        let (_, range) = self.members.iter().find(|(known, _)| known == name)?;
        self.bytes.get(range.clone())
    }

    /// A member that is a string; null is the same as absent.
    fn text(&self, name: &str, at: &str, faults: &mut Faults<'_>) -> Option<String> {
        let raw = self.raw(name).filter(|raw| *raw != b"null")?;
        let read = serde_json::from_slice(raw);
        read.map_err(|_| faults.add(&format!("{at}/{name}"), "not_a_string", format!("`{name}` must be a string.")))
            .ok()
    }

    fn known_only(&self, known: &[&str], at: &str, faults: &mut Faults<'_>) {
        for (name, _) in self.members.iter().filter(|(name, _)| !known.contains(&name.as_str())) {
            let escaped = name.replace('~', "~0").replace('/', "~1");
            faults.add(&format!("{at}/{escaped}"), "unknown_member", format!("{name:?} is not a member here."));
        }
    }
}

#[cfg(test)]
mod tests;
