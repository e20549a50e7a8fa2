//! Standard Webhooks: the headers by which a receiver knows that a delivery is ours and which one it is.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use sha2::Sha256;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const SECRET_PREFIX: &str = "whsec_";
const AGENT: &str = concat!("countersign/", env!("CARGO_PKG_VERSION"));

/// A tenant's secret; its `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(Vec<u8>);

/// Not `whsec_` and base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a webhook secret is `whsec_` followed by base64")]
pub struct BadSecret;

impl WebhookSecret {
    /// Reads the text that `countersign webhooks secret` shows.
    ///
    /// # Errors
    /// If it is none, or holds no bytes.
    pub fn parse(text: &str) -> Result<Self, BadSecret> {
        let encoded = text.strip_prefix(SECRET_PREFIX).ok_or(BadSecret)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| BadSecret)?;
        if bytes.is_empty() { Err(BadSecret) } else { Ok(Self(bytes)) }
    }

    /// `v1,<base64>` of the HMAC-SHA256 over `id.timestamp.body`.
    pub fn sign(&self, webhook_id: &str, timestamp: i64, body: &[u8]) -> String {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else {
            unreachable!("HMAC takes secrets of every length")
        };
        mac.update(webhook_id.as_bytes());
        mac.update(format!(".{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(hidden)")
    }
}

/// The headers of one attempt. The id is the same on every attempt, the timestamp the attempt's own.
///
/// `None` if the exchange id cannot be a header, which no id of ours is.
pub fn headers(secret: &WebhookSecret, exchange_id: &str, at_ms: i64, body: &[u8]) -> Option<HeaderMap> {
    let timestamp = at_ms.div_euclid(1_000);
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    headers.insert(ID, HeaderValue::from_str(exchange_id).ok()?);
    headers.insert(TIMESTAMP, HeaderValue::from(timestamp));
    headers.insert(SIGNATURE, HeaderValue::from_str(&secret.sign(exchange_id, timestamp, body)).ok()?);
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_examples_come_out_as_published() {
        let mut seen = 0;
        for line in include_str!("../vectors/webhook-sign.jsonl").lines() {
            let example: serde_json::Value = serde_json::from_str(line).unwrap();
            let text = |name: &str| example["request"][name].as_str().unwrap();
            let secret = WebhookSecret::parse(text("secret")).unwrap();
            let timestamp = text("webhook_timestamp").parse().unwrap();
            let signature = secret.sign(text("webhook_id"), timestamp, text("body").as_bytes());
            assert_eq!(signature, example["expected"]["v1"], "{example}");
            seen += 1;
        }
        assert_eq!(seen, 5);
    }

    #[test]
    fn a_secret_is_checked_when_it_is_read_and_never_shown() {
        for bad in ["", "whsec_", "whsec_!", "DW5AeeNnA+vTfAByL1iR0osOKBHcEUsS"] {
            assert_eq!(WebhookSecret::parse(bad), Err(BadSecret), "{bad}");
        }
        let secret = WebhookSecret::parse("whsec_DW5AeeNnA+vTfAByL1iR0osOKBHcEUsS").unwrap();
        assert_eq!(format!("{secret:?}"), "WebhookSecret(hidden)");
    }
}
