//! JWS compact serialisation with detached content (RFC 7515 appendix F), EdDSA only (RFC 8037;
//! docs/contracts/receipt.md section 3).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::Signature;

use crate::jwk::PublicKey;

/// What is signed; a signature of one kind is none of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Receipt,
    Bundle,
}

impl Kind {
    /// The header's `typ`.
    pub fn typ(self) -> &'static str {
        match self {
            Self::Receipt => "countersign-receipt+jws",
            Self::Bundle => "countersign-bundle+jws",
        }
    }
}

/// A text that is not `BASE64URL(header) ".." BASE64URL(signature)` with exactly our header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the jws is not detached, or its header is not the one that the contract gives")]
pub struct InvalidJws;

/// A JWS whose header was read. The signature's own text is judged when it is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detached {
    kid: String,
    header: String,
    signature: String,
}

/// Length of a signature in base64url.
const SIGNATURE_CHARACTERS: usize = 86;
/// What decoding as many characters may write.
const SIGNATURE_BUFFER: usize = 66;

/// The bytes of a signature, which has one spelling.
pub(crate) fn decode_signature(text: &str) -> Option<[u8; 64]> {
    let mut buffer = [0; SIGNATURE_BUFFER];
    if text.len() != SIGNATURE_CHARACTERS {
        return None;
    }
    let length = URL_SAFE_NO_PAD.decode_slice(text, &mut buffer).ok()?;
    buffer.get(..length)?.try_into().ok()
}

/// Length of a SHA-256 thumbprint in base64url.
const KID_CHARACTERS: usize = 43;

/// The protected header in base64url: three members, this order, no white space.
pub(crate) fn encoded_header(kind: Kind, kid: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"EdDSA","kid":"{kid}","typ":"{}"}}"#, kind.typ()))
}

/// What is really signed: header and content, both in base64url (RFC 7515 section 5.1).
pub(crate) fn signing_input(header: &str, content: &[u8]) -> String {
    let mut input = String::new();
    write_signing_input(header, content, &mut input);
    input
}

/// As [`signing_input`], into a buffer that is used again.
pub(crate) fn write_signing_input(header: &str, content: &[u8], input: &mut String) {
    input.clear();
    input.reserve(header.len() + 1 + content.len().div_ceil(3) * 4);
    input.push_str(header);
    input.push('.');
    URL_SAFE_NO_PAD.encode_string(content, input);
}

/// The compact form without its content.
pub(crate) fn compact(header: &str, signature: &Signature) -> String {
    format!("{header}..{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
}

impl Detached {
    /// Reads the compact form; any other header, or another spelling of this one, is refused.
    pub fn parse(text: &str, kind: Kind) -> Result<Self, InvalidJws> {
        let (header, signature) = text.split_once("..").ok_or(InvalidJws)?;
        let decoded = URL_SAFE_NO_PAD.decode(header).map_err(|_| InvalidJws)?;
        let decoded = std::str::from_utf8(&decoded).map_err(|_| InvalidJws)?;
        let kid = decoded.get(r#"{"alg":"EdDSA","kid":""#.len()..).and_then(|rest| rest.get(..KID_CHARACTERS));
        let kid = kid.ok_or(InvalidJws)?.to_owned();
        let is_base64url = kid.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        if !is_base64url || encoded_header(kind, &kid) != header {
            return Err(InvalidJws);
        }
        Ok(Self { kid, header: header.to_owned(), signature: signature.to_owned() })
    }

    /// Which key is said to have signed.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Whether this key signed this content, by the strict rules (no small-order keys, canonical encodings only).
    pub fn is_signed_by(&self, key: &PublicKey, content: &[u8]) -> bool {
        let Some(bytes) = decode_signature(&self.signature) else { return false };
        let input = signing_input(&self.header, content);
        key.verifying_key().verify_strict(input.as_bytes(), &Signature::from_bytes(&bytes)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KID: &str = "--6IM5l0OosLj9yWskISYhUA3n_3CURQkmrYMSha_ck";

    #[test]
    fn the_header_has_one_spelling() {
        let good = format!("{}..sig", encoded_header(Kind::Receipt, KID));
        assert_eq!(Detached::parse(&good, Kind::Receipt).unwrap().kid(), KID);
        assert_eq!(Detached::parse(&good, Kind::Bundle), Err(InvalidJws));
        let headers = [
            format!(r#"{{"alg":"none","kid":"{KID}","typ":"countersign-receipt+jws"}}"#),
            format!(r#"{{"alg":"EdDSA", "kid":"{KID}","typ":"countersign-receipt+jws"}}"#),
            format!(r#"{{"kid":"{KID}","alg":"EdDSA","typ":"countersign-receipt+jws"}}"#),
            format!(r#"{{"alg":"EdDSA","kid":"{KID}","typ":"countersign-receipt+jws","b64":false}}"#),
            format!(r#"{{"alg":"EdDSA","kid":"{KID}"}}"#),
            r#"{"alg":"EdDSA","kid":"","typ":"countersign-receipt+jws"}"#.to_owned(),
            format!(r#"{{"alg":"EdDSA","kid":"{}","typ":"countersign-receipt+jws"}}"#, "é".repeat(22)),
        ];
        for header in headers {
            let text = format!("{}..sig", URL_SAFE_NO_PAD.encode(&header));
            assert_eq!(Detached::parse(&text, Kind::Receipt), Err(InvalidJws), "{header}");
        }
        for text in ["", "..", "a.b.c", &good.replace("..", "."), &good.replace("..", "=..")] {
            assert_eq!(Detached::parse(text, Kind::Receipt), Err(InvalidJws), "{text}");
        }
    }
}
