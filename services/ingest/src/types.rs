//! Is the payload type of a request known? Asked at the door, so that a misspelt name does not use the key up.

use std::sync::Arc;

use access::{Code, Directory, KnownType, Problem};
use admission::{PASSTHROUGH, PayloadType, Refusal, known_type};
use event::wire::ExchangeRequested;
use serde_json::Value;

/// The type that a request names; `None` for `passthrough`.
///
/// # Errors
/// `unknown_payload_type` or `invalid_request`; `503` where a later version published a type that this one cannot use.
pub(crate) fn known(directory: &Directory, request: &ExchangeRequested) -> Result<Option<Arc<PayloadType>>, Problem> {
    let name = request.payload_type.as_str();
    let published = Some(name).filter(|name| *name != PASSTHROUGH).and_then(|name| directory.payload_type(name));
    let payload_type = match published {
        None => None,
        Some(KnownType::Usable(payload_type)) => Some(payload_type),
        Some(KnownType::Unusable(why)) => {
            tracing::warn!(name, %why, "a request names a payload type that cannot be used here");
            let detail = format!("This instance cannot use the payload type {name} yet; nothing was accepted.");
            return Err(Problem::unavailable(detail));
        }
    };
    known_type(request, payload_type.as_deref()).map_err(|refusal| problem(&refusal))?;
    Ok(payload_type)
}

/// A refusal as its client is told.
pub(crate) fn problem(refusal: &Refusal) -> Problem {
    let status = u16::try_from(refusal.status).unwrap_or(Code::InvalidRequest.status());
    let body = match serde_json::from_str(&refusal.body()) {
        Ok(Value::Object(body)) => body,
        _ => serde_json::Map::new(),
    };
    Problem::decided(status, &refusal.code, body)
}
