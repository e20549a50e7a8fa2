//! How a producer on the request topic proves its tenant (docs/contracts/topics.md, Headers).
//!
//! HMAC-SHA256 over topic, record key and value, each after its length as 4 bytes big-endian, so that no part can be
//! moved into its neighbour. The header says `v1,<base64>`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const VERSION: &str = "v1,";

fn mac(secret: &[u8], topic: &str, record_key: &[u8], value: &[u8]) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
    for part in [topic.as_bytes(), record_key, value] {
        // Records are far below 4 GiB; one that were not has no signature.
        mac.update(&u32::try_from(part.len()).ok()?.to_be_bytes());
        mac.update(part);
    }
    Some(mac)
}

/// The header's value. `secret` is the text as `countersign producers create` shows it, used as its bytes.
///
/// `None` only where a part is 4 GiB or longer.
pub fn sign(secret: &str, topic: &str, record_key: &[u8], value: &[u8]) -> Option<String> {
    let mac = mac(secret.as_bytes(), topic, record_key, value)?;
    Some(format!("{VERSION}{}", STANDARD.encode(mac.finalize().into_bytes())))
}

/// Whether the header belongs to the record. Compares in constant time.
pub fn verify(secret: &str, topic: &str, record_key: &[u8], value: &[u8], signature: &str) -> bool {
    let Some(encoded) = signature.strip_prefix(VERSION) else { return false };
    let Ok(claimed) = STANDARD.decode(encoded) else { return false };
    mac(secret.as_bytes(), topic, record_key, value).is_some_and(|mac| mac.verify_slice(&claimed).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_own_record_only() {
        let header = sign("s", "t", b"key", b"value").unwrap();
        assert!(verify("s", "t", b"key", b"value", &header));
        for (secret, topic, key, value) in [
            ("x", "t", "key", "value"),
            ("s", "u", "key", "value"),
            ("s", "t", "keyv", "alue"),
            ("s", "t", "key", "values"),
        ] {
            assert!(
                !verify(secret, topic, key.as_bytes(), value.as_bytes(), &header),
                "{secret} {topic} {key} {value}"
            );
        }
        for header in ["", "v1,", "v1,!", "v2,AAAA"] {
            assert!(!verify("s", "t", b"key", b"value", header), "{header}");
        }
    }

    /// Computed with Python's hmac module over the framing of docs/contracts/topics.md.
    #[test]
    fn agrees_with_another_language() {
        let header = sign("secret", "exchange.requested.v1", b"acme:k", b"\x00\x01").unwrap();
        assert_eq!(header, "v1,AwsXwGoXmnIpuEQc0JyYiTBewv73TESj+DOV77qdZHc=");
    }
}
