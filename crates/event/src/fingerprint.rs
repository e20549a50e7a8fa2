//! When are two requests the same? When their fingerprints are equal (docs/contracts/http.md, "same body").

use crate::amount::Amount;
use crate::canonical::write_string;
use crate::digest::{Digest, digest_of};

/// What a fingerprint is taken of; the trace and the head expected are left out on purpose.
#[derive(Clone, Copy, Debug)]
pub struct RequestParts<'a> {
    /// With the default (`passthrough`) filled in.
    pub payload_type: &'a str,
    pub target_type: Option<&'a str>,
    /// The canonical bytes for [`fingerprint`], the received ones for [`raw_fingerprint`].
    pub payload: &'a [u8],
    pub amount: Option<&'a Amount>,
    pub forward_url: Option<&'a str>,
}

/// Keeps requests without a canonical form apart from those with one: no JCS text begins with a letter of this word.
const RAW_DOMAIN: &[u8] = b"countersign/raw-request/v1\0";

/// SHA-256 of `JCS({amount, forward_url, payload, payload_type, target_type})`, absent members as null.
pub fn fingerprint(parts: &RequestParts<'_>) -> Digest {
    let mut text = Vec::with_capacity(parts.payload.len() + 256);
    write_request(parts, parts.payload, &mut text);
    digest_of(&text)
}

/// For content that could not be canonicalised: the payload counts by its raw bytes.
pub fn raw_fingerprint(parts: &RequestParts<'_>) -> Digest {
    let mut text = RAW_DOMAIN.to_vec();
    let mut payload = Vec::new();
    write_string(&digest_of(parts.payload).to_string(), &mut payload);
    write_request(parts, &payload, &mut text);
    digest_of(&text)
}

/// Members in JCS order; `payload` is JSON text already.
fn write_request(parts: &RequestParts<'_>, payload: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"amount\":");
    match parts.amount {
        Some(amount) => amount.write_canonical(out),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"forward_url\":");
    write_optional(parts.forward_url, out);
    out.extend_from_slice(b",\"payload\":");
    out.extend_from_slice(payload);
    out.extend_from_slice(b",\"payload_type\":");
    write_string(parts.payload_type, out);
    out.extend_from_slice(b",\"target_type\":");
    write_optional(parts.target_type, out);
    out.push(b'}');
}

fn write_optional(text: Option<&str>, out: &mut Vec<u8>) {
    match text {
        Some(text) => write_string(text, out),
        None => out.extend_from_slice(b"null"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amount::{Currency, Minor};
    use crate::id::Payee;

    const BARE: RequestParts<'static> = RequestParts {
        payload_type: "passthrough",
        target_type: None,
        payload: b"{\"a\":1}",
        amount: None,
        forward_url: None,
    };

    #[test]
    fn the_fingerprint_is_the_digest_of_the_canonical_request() {
        let expected =
            br#"{"amount":null,"forward_url":null,"payload":{"a":1},"payload_type":"passthrough","target_type":null}"#;
        assert_eq!(fingerprint(&BARE), digest_of(expected));
    }

    #[test]
    fn every_part_counts() {
        let amount = Amount {
            currency: Currency::parse("USD").unwrap(),
            minor: Minor::new(5).unwrap(),
            payee: Payee::parse("p").unwrap(),
        };
        let others = [
            RequestParts { payload_type: "other", ..BARE },
            RequestParts { target_type: Some("t"), ..BARE },
            RequestParts { payload: b"{\"a\":2}", ..BARE },
            RequestParts { amount: Some(&amount), ..BARE },
            RequestParts { forward_url: Some("https://a.example/\""), ..BARE },
        ];
        for other in others {
            assert_ne!(fingerprint(&other), fingerprint(&BARE));
            assert_ne!(raw_fingerprint(&other), raw_fingerprint(&BARE));
        }
        assert_ne!(fingerprint(&BARE), raw_fingerprint(&BARE));
        let text = serde_json::json!({"payload_type": "passthrough", "target_type": null, "payload": {"a": 1},
            "amount": {"currency": "USD", "minor": "5", "payee": "p"}, "forward_url": "https://a.example/\""});
        let whole = RequestParts { amount: Some(&amount), forward_url: Some("https://a.example/\""), ..BARE };
        assert_eq!(fingerprint(&whole), digest_of(&serde_json_canonicalizer::to_vec(&text).unwrap()));
    }
}
