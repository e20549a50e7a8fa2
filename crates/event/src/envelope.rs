//! What surrounds a record's value: its key, and the headers that other programs read (docs/contracts/topics.md).

use bytes::Bytes;

/// W3C trace context, carried from the request to everything that follows from it.
pub const TRACEPARENT: &str = "traceparent";
/// CloudEvents in binary mode: the exchange id.
pub const CE_ID: &str = "ce_id";
/// CloudEvents: the topic.
pub const CE_TYPE: &str = "ce_type";
/// CloudEvents: `countersign/<tenant>`.
pub const CE_SOURCE: &str = "ce_source";
/// On requests from ingest: `<slot>:<nonce>`, where the answer is awaited.
pub const REPLY: &str = "reply";
/// On requests: the id of the producer's secret.
pub const KEY_ID: &str = "countersign-key-id";
/// On requests: `v1,<base64>` of the HMAC-SHA256 over topic, record key and value.
pub const SIGNATURE: &str = "countersign-signature";

/// Record key of requests and refusals.
pub fn request_key(tenant: &str, idempotency_key: &str) -> String {
    format!("{tenant}:{idempotency_key}")
}

/// Record key of everything that belongs to a chain.
pub fn trace_key(tenant: &str, trace_id: &str) -> String {
    format!("{tenant}:{trace_id}")
}

/// A W3C traceparent as it may be passed on: version, trace id, parent id and flags in lower-case hex. A foreign producer's
/// header is not covered by its signature and could be anything.
pub fn traceparent(header: &[u8]) -> Option<&[u8]> {
    const BYTES: usize = 55;
    const DASHES: [usize; 3] = [2, 35, 52];
    let fits = header.len() == BYTES
        && header.iter().enumerate().all(|(index, byte)| match DASHES.contains(&index) {
            true => *byte == b'-',
            false => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        });
    fits.then_some(header)
}

/// The headers of a record on a public topic, the exchange's own `traceparent` among them.
pub fn public_headers(
    topic: &str,
    tenant: &str,
    exchange_id: &str,
    header_traceparent: Option<&[u8]>,
) -> Vec<(String, Bytes)> {
    let mut headers = vec![
        (CE_ID.to_owned(), Bytes::from(exchange_id.to_owned())),
        (CE_TYPE.to_owned(), Bytes::from(topic.to_owned())),
        (CE_SOURCE.to_owned(), Bytes::from(format!("countersign/{tenant}"))),
    ];
    if let Some(traceparent) = header_traceparent.and_then(traceparent) {
        headers.push((TRACEPARENT.to_owned(), Bytes::copy_from_slice(traceparent)));
    }
    headers
}

/// A place to answer to: the slot is the partition of the answer topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub slot: u32,
    pub nonce: String,
}

impl Reply {
    const NONCE_BYTES_MAX: usize = 64;

    /// Reads the header; `None` where it is not one of ours.
    pub fn parse(header: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(header).ok()?;
        let (slot, nonce) = text.split_once(':')?;
        let slot: u32 = slot.parse().ok()?;
        let usable = slot < crate::topic::ANSWER_SLOTS && !nonce.is_empty() && nonce.len() <= Self::NONCE_BYTES_MAX;
        usable.then(|| Self { slot, nonce: nonce.to_owned() })
    }
}

impl std::fmt::Display for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.slot, self.nonce)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_traceparent_is_passed_on() {
        let good = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(traceparent(good), Some(good.as_slice()));
        for bad in [&b""[..], &good[1..], b"00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", &[b'0'; 55]] {
            assert_eq!(traceparent(bad), None);
        }
    }

    #[test]
    fn a_reply_header_comes_back_and_nonsense_does_not() {
        let reply = Reply { slot: 3, nonce: "n1".into() };
        assert_eq!(Reply::parse(reply.to_string().as_bytes()), Some(reply));
        for bad in ["", "3", "64:n", "x:n", "3:", "-1:n"] {
            assert_eq!(Reply::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
