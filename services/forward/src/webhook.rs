//! Standard Webhooks: the headers by which a receiver knows that a delivery is ours and which one it is.

use event::webhook::{Message, Secret};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const AGENT: &str = concat!("countersign/", env!("CARGO_PKG_VERSION"));

/// The headers of one attempt. The id is the same on every attempt, the timestamp the attempt's own; each secret signs, so
/// that during a rotation a receiver may know either.
///
/// `None` if the exchange id cannot be a header, which no id of ours is.
pub fn headers(secrets: &[&Secret], exchange_id: &str, at_ms: i64, body: &[u8]) -> Option<HeaderMap> {
    let timestamp = at_ms.div_euclid(1_000).to_string();
    let message = Message { id: exchange_id, timestamp: &timestamp, body };
    let signatures: Vec<String> = secrets.iter().map(|secret| secret.sign(&message)).collect();
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    headers.insert(ID, HeaderValue::from_str(exchange_id).ok()?);
    headers.insert(TIMESTAMP, HeaderValue::from_str(&timestamp).ok()?);
    headers.insert(SIGNATURE, HeaderValue::from_str(&signatures.join(" ")).ok()?);
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
            let secret = Secret::parse(text("secret")).unwrap();
            let at_ms = text("webhook_timestamp").parse::<i64>().unwrap() * 1_000 + 999;
            let headers = headers(&[&secret], text("webhook_id"), at_ms, text("body").as_bytes()).unwrap();
            assert_eq!(headers[SIGNATURE], example["expected"]["v1"].as_str().unwrap(), "{example}");
            assert_eq!(headers[ID], text("webhook_id"));
            assert_eq!(headers[TIMESTAMP], text("webhook_timestamp"));
            seen += 1;
        }
        assert_eq!(seen, 5);
    }

    #[test]
    fn an_id_that_would_add_a_header_makes_none() {
        let secret = Secret::parse("whsec_DW5AeeNnA+vTfAByL1iR0osOKBHcEUsS").unwrap();
        assert_eq!(headers(&[&secret], "ex_1\r\nx: y", 0, b""), None);
    }
}
