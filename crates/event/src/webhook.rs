//! Standard Webhooks, version v1: HMAC-SHA256 over `id.timestamp.body` (standardwebhooks.com).
//!
//! The reading half is open to other schemes, so that `proof` can add Ed25519 (v1a) without a second parser.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

const SECRET_PREFIX: &str = "whsec_";
const SCHEME: &str = "v1";
/// Signatures looked at in one header; a rotation needs two.
const SIGNATURES_MAX: usize = 32;

/// A shared secret, `whsec_` and base64. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

/// A text that is no secret. It does not repeat the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a webhook secret is whsec_ and base64 with padding")]
pub struct InvalidSecret;

/// The parts that a signature covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// `webhook-id`: the exchange_id, on every attempt.
    pub id: &'a str,
    /// `webhook-timestamp`: Unix seconds as a plain integer.
    pub timestamp: &'a str,
    pub body: &'a [u8],
}

/// When the message is judged, and how far its timestamp may lie off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Unix seconds.
    pub now: i64,
    pub tolerance_seconds: u64,
}

/// Why a message is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Invalid {
    /// Empty, or with a dot: the signed text could be cut in two ways.
    #[error("the webhook-id is empty or holds a dot")]
    Id,
    #[error("the webhook-timestamp is not a plain decimal integer")]
    Timestamp,
    #[error("the message is too old")]
    TooOld,
    #[error("the message is from the future")]
    TooNew,
    #[error("no signature in the header is one of ours")]
    NoSignatureMatches,
}

impl Invalid {
    /// A stable code.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Id => "invalid_id",
            Self::Timestamp => "invalid_timestamp",
            Self::TooOld => "too_old",
            Self::TooNew => "too_new",
            Self::NoSignatureMatches => "no_signature_matches",
        }
    }
}

impl Secret {
    /// Reads the text form.
    pub fn parse(text: &str) -> Result<Self, InvalidSecret> {
        let encoded = text.strip_prefix(SECRET_PREFIX).ok_or(InvalidSecret)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| InvalidSecret)?;
        if bytes.is_empty() { Err(InvalidSecret) } else { Ok(Self(bytes)) }
    }

    /// From random bytes that the caller drew.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(bytes.to_vec())
    }

    /// The text form: a secret, shown to the receiver once.
    pub fn reveal(&self) -> String {
        format!("{SECRET_PREFIX}{}", STANDARD.encode(&self.0))
    }

    /// One entry of `webhook-signature`: `v1,<base64>`.
    pub fn sign(&self, message: &Message<'_>) -> String {
        format!("{SCHEME},{}", STANDARD.encode(self.mac(&message.signed_content()).finalize().into_bytes()))
    }

    /// Whether this is the v1 signature of the content, in constant time.
    pub fn is_signature(&self, content: &[u8], claimed: &[u8]) -> bool {
        self.mac(content).verify_slice(claimed).is_ok()
    }

    #[expect(clippy::expect_used, reason = "HMAC takes keys of every length (RFC 2104 section 2)")]
    fn mac(&self, content: &[u8]) -> Hmac<Sha256> {
        let mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of every length");
        mac.chain_update(content)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

impl Message<'_> {
    /// `id.timestamp.body`.
    pub fn signed_content(&self) -> Vec<u8> {
        [self.id.as_bytes(), b".", self.timestamp.as_bytes(), b".", self.body].concat()
    }

    /// Checks the form of what is signed beside the body, and gives the timestamp in Unix seconds.
    ///
    /// # Errors
    /// `Id` or `Timestamp`: a signature over such a message could belong to another one.
    pub fn sent_at(&self) -> Result<i64, Invalid> {
        if self.id.is_empty() || self.id.contains('.') {
            return Err(Invalid::Id);
        }
        let is_plain = self.timestamp.bytes().all(|byte| byte.is_ascii_digit());
        let is_padded = self.timestamp.len() > 1 && self.timestamp.starts_with('0');
        let timestamp = self.timestamp.parse::<i64>().ok().filter(|_| is_plain && !is_padded);
        timestamp.ok_or(Invalid::Timestamp)
    }

    fn check(&self, clock: Clock) -> Result<(), Invalid> {
        let timestamp = self.sent_at()?;
        if timestamp.abs_diff(clock.now) <= clock.tolerance_seconds {
            return Ok(());
        }
        Err(if timestamp < clock.now { Invalid::TooOld } else { Invalid::TooNew })
    }
}

/// Checks a message against v1 secrets; during a rotation there are two.
pub fn verify(message: &Message<'_>, signatures: &str, clock: Clock, secrets: &[Secret]) -> Result<(), Invalid> {
    verify_with(message, signatures, clock, |scheme, content, claimed| {
        scheme == SCHEME && secrets.iter().any(|secret| secret.is_signature(content, claimed))
    })
}

/// As [`verify`], where the caller decides about each entry: its scheme, the signed content, the claimed signature.
///
/// Entries stand apart by spaces; those of unknown schemes and those that are not base64 are passed over.
pub fn verify_with(
    message: &Message<'_>,
    signatures: &str,
    clock: Clock,
    is_signature: impl Fn(&str, &[u8], &[u8]) -> bool,
) -> Result<(), Invalid> {
    message.check(clock)?;
    let content = message.signed_content();
    let matches = |entry: &str| {
        let Some((scheme, encoded)) = entry.split_once(',') else { return false };
        STANDARD.decode(encoded).is_ok_and(|claimed| is_signature(scheme, &content, &claimed))
    };
    let mut entries = signatures.split(' ').filter(|entry| !entry.is_empty()).take(SIGNATURES_MAX);
    if entries.any(matches) { Ok(()) } else { Err(Invalid::NoSignatureMatches) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Clock = Clock { now: 1_614_265_330, tolerance_seconds: 300 };
    const MESSAGE: Message<'static> =
        Message { id: "msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp: "1614265330", body: b"{\"test\": 2432232314}" };

    fn secret() -> Secret {
        Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap()
    }

    #[test]
    fn the_example_of_the_standard_is_signed_and_verified() {
        let signature = secret().sign(&MESSAGE);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(verify(&MESSAGE, &signature, NOW, &[secret()]), Ok(()));
    }

    #[test]
    fn during_a_rotation_either_secret_will_do() {
        let new = Secret::from_bytes(&[1; 32]);
        let header = format!("v9,xxxx {}  {}", secret().sign(&MESSAGE), new.sign(&MESSAGE));
        assert_eq!(verify(&MESSAGE, &header, NOW, &[secret()]), Ok(()));
        assert_eq!(verify(&MESSAGE, &header, NOW, std::slice::from_ref(&new)), Ok(()));
        let old_only = secret().sign(&MESSAGE);
        assert_eq!(verify(&MESSAGE, &old_only, NOW, &[new.clone(), secret()]), Ok(()));
        assert_eq!(verify(&MESSAGE, &old_only, NOW, &[new]), Err(Invalid::NoSignatureMatches));
    }

    #[test]
    fn the_timestamp_is_a_plain_integer_within_the_tolerance() {
        let signed_at = |timestamp: &'static str| {
            let message = Message { timestamp, ..MESSAGE };
            verify(&message, &secret().sign(&message), NOW, &[secret()])
        };
        assert_eq!([signed_at("1614265030"), signed_at("1614265630")], [Ok(()), Ok(())]);
        assert_eq!(signed_at("1614265029"), Err(Invalid::TooOld));
        assert_eq!(signed_at("1614265631"), Err(Invalid::TooNew));
        for bad in ["", "01614265330", "+1614265330", "1614265330.0", " 1614265330", "16142653300000000000000", "-1"] {
            assert_eq!(signed_at(bad), Err(Invalid::Timestamp), "{bad}");
        }
    }

    #[test]
    fn an_id_with_a_dot_could_be_cut_elsewhere_and_is_refused() {
        let shifted = Message { id: "msg.1614265330", timestamp: "1614265330", body: b"x" };
        assert_eq!(verify(&shifted, &secret().sign(&shifted), NOW, &[secret()]), Err(Invalid::Id));
        assert_eq!(verify(&Message { id: "", ..MESSAGE }, "", NOW, &[secret()]), Err(Invalid::Id));
    }

    #[test]
    fn malformed_entries_and_secrets_match_nothing() {
        let good = secret().sign(&MESSAGE);
        for header in
            ["", " ", "v1", "v1,", &good[3..], &good.replace("v1", "v1a"), good.trim_end_matches('='), &good[..20]]
        {
            assert_eq!(verify(&MESSAGE, header, NOW, &[secret()]), Err(Invalid::NoSignatureMatches), "{header}");
        }
        for text in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_!", "whsec_QQ"] {
            assert_eq!(Secret::parse(text), Err(InvalidSecret), "{text}");
        }
        assert_eq!(Secret::parse(&secret().reveal()), Ok(secret()));
        assert_eq!(format!("{:?}", secret()), "Secret(hidden)");
    }
}
