//! Standard Webhooks, both schemes.

use event::webhook::{Clock, Invalid, Message, Secret};
use proof::webhook::{WebhookPrivateKey, WebhookPublicKey};
use serde_json::{Map, Value, json};

use super::request::{Members, Outcome};

/// `webhook_id`, `webhook_timestamp`, `body`, `secret` and/or `private_key` -> `v1`, `v1a`.
pub(super) fn sign(request: &Members<'_>) -> Outcome {
    request.only(&["webhook_id", "webhook_timestamp", "body", "secret", "private_key"])?;
    let message = Message {
        id: request.text("webhook_id")?,
        timestamp: request.text("webhook_timestamp")?,
        body: request.text("body")?.as_bytes(),
    };
    message.sent_at().map_err(|error| {
        let name = if error == Invalid::Id { "webhook_id" } else { "webhook_timestamp" };
        request.refuse_for(name, &error)
    })?;
    let mut answer = Map::new();
    if let Some(secret) = request.optional_text("secret")? {
        let secret = Secret::parse(secret).map_err(|error| request.refuse_for("secret", &error))?;
        answer.insert("v1".to_owned(), secret.sign(&message).into());
    }
    if let Some(private_key) = request.optional_text("private_key")? {
        let private_key =
            WebhookPrivateKey::parse(private_key).map_err(|error| request.refuse_for("private_key", &error))?;
        answer.insert("v1a".to_owned(), private_key.sign(&message).into());
    }
    if answer.is_empty() {
        return Err(request.refuse("secret", "a secret or a private_key is needed"));
    }
    Ok(Value::Object(answer))
}

/// `headers`, `body`, `secrets`, `public_keys`, `now`, `tolerance_seconds` -> `verdict`, `reason`.
///
/// A key that is none verifies nothing, so that the verdict says it; what is wrong with it is not told.
pub(super) fn verify(request: &Members<'_>) -> Outcome {
    request.only(&["headers", "body", "secrets", "public_keys", "now", "tolerance_seconds"])?;
    let headers = request.object("headers")?.each_text()?;
    let body = request.text("body")?.as_bytes();
    let secrets: Vec<Secret> = request.texts("secrets")?.iter().filter_map(|text| Secret::parse(text).ok()).collect();
    let public_keys = request.texts("public_keys")?;
    let public_keys: Vec<WebhookPublicKey> =
        public_keys.iter().filter_map(|text| WebhookPublicKey::parse(text).ok()).collect();
    let clock = Clock { now: request.integer("now")?, tolerance_seconds: request.count("tolerance_seconds")? };
    let verdict = (|| {
        let header = |name| one_header(&headers, name);
        let message = Message { id: header("webhook-id")?, timestamp: header("webhook-timestamp")?, body };
        let keys = (secrets.as_slice(), public_keys.as_slice());
        proof::webhook::verify(&message, header("webhook-signature")?, clock, keys).map_err(Invalid::as_str)
    })();
    Ok(match verdict {
        Ok(()) => json!({"verdict": "valid", "reason": "signature_matches"}),
        Err(reason) => json!({"verdict": "invalid", "reason": reason}),
    })
}

/// A header by its name in any case. One that is given twice could be read in two ways.
fn one_header<'h>(headers: &[(&str, &'h str)], name: &str) -> Result<&'h str, &'static str> {
    let mut found = headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
    match (found.next(), found.next()) {
        (Some((_, value)), None) => Ok(value),
        (None, _) => Err("missing_header"),
        (Some(_), Some(_)) => Err("repeated_header"),
    }
}
