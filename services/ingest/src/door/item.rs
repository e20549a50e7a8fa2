//! One item of a batch: the exchange, and the idempotency key that a single request has in its header.

use access::{Code, Problem};
use event::door::Limits;
use event::id::TenantId;

use super::envelope::{Envelope, Faults};
use super::{Admissible, Place, Sender, exchange, read_idempotency_key};

const MEMBERS: [&str; 2] = ["idempotency_key", "exchange"];

/// What holds for every item.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ItemRules<'a> {
    pub(crate) tenant: &'a TenantId,
    /// Bytes of one exchange.
    pub(crate) body_bytes_max: usize,
    pub(crate) limits: &'a Limits,
}

/// Reads one item. Its idempotency key comes back beside, as it was sent, whatever else is wrong with it.
pub(crate) fn item(
    bytes: &[u8],
    place: Place<'_>,
    rules: ItemRules<'_>,
) -> (Option<String>, Result<Admissible, Problem>) {
    let envelope = match Envelope::read(bytes, place, "An item of a batch") {
        Ok(envelope) => envelope,
        Err(problem) => return (None, Err(problem)),
    };
    let named = envelope.raw("idempotency_key").and_then(|raw| serde_json::from_slice::<String>(raw).ok());
    let read = read(&envelope, named.as_deref(), place, rules);
    (named, read)
}

fn read(
    envelope: &Envelope<'_>,
    named: Option<&str>,
    place: Place<'_>,
    rules: ItemRules<'_>,
) -> Result<Admissible, Problem> {
    envelope.through_the_door_but("exchange", place, rules.limits)?;
    let pointer = place.pointer_of("idempotency_key");
    let Some(named) = named else {
        let is_missing = envelope.raw("idempotency_key").is_none_or(|raw| raw == b"null");
        let (code, fault, detail) = if is_missing {
            (Code::IdempotencyKeyMissing, "missing_member", "An item needs `idempotency_key`.")
        } else {
            (Code::IdempotencyKeyInvalid, "not_a_string", "`idempotency_key` must be a string.")
        };
        return Err(Problem::new(code, detail).error(pointer, fault, detail));
    };
    let idempotency_key = read_idempotency_key(named).map_err(|problem| {
        let detail = problem.detail().to_owned();
        problem.error(pointer, "invalid_idempotency_key", detail)
    })?;
    let mut faults = Faults::at(place.pointer);
    envelope.known_only(&MEMBERS, "", &mut faults);
    let body = envelope.raw("exchange");
    if body.is_none() {
        faults.add("/exchange", "missing_member", "An item needs `exchange`.");
    }
    faults.none()?;
    let body = body.unwrap_or_default();
    let pointer = place.pointer_of("exchange");
    if body.len() > rules.body_bytes_max {
        let detail = format!("One exchange may have at most {} bytes.", rules.body_bytes_max);
        return Err(Problem::new(Code::PayloadTooLarge, detail.clone()).error(pointer, "too_large", detail));
    }
    let sender = Sender { tenant: rules.tenant.clone(), idempotency_key };
    let place = Place { pointer: &pointer, offset: envelope.offset_of("exchange") };
    exchange(&sender, body, place, rules.limits)
}
