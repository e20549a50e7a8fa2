//! Standard Webhooks, version v1a: Ed25519 beside the HMAC of [`event::webhook`].

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, VerifyingKey};
use event::webhook::{Clock, Invalid, Message, Secret, verify_with};

const SCHEME: &str = "v1a";
const PRIVATE_PREFIX: &str = "whsk_";
const PUBLIC_PREFIX: &str = "whpk_";

/// A text that is no webhook key. It does not repeat the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a webhook key is whsk_ (64 bytes: seed and public key) or whpk_ (32 bytes) and base64 with padding")]
pub struct InvalidWebhookKey;

/// The sender's key. `Debug` shows its public half only.
#[derive(Clone)]
pub struct WebhookPrivateKey(ed25519_dalek::SigningKey);

/// What a receiver checks with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebhookPublicKey(VerifyingKey);

impl WebhookPrivateKey {
    /// Reads `whsk_…`; both halves must belong together.
    pub fn parse(text: &str) -> Result<Self, InvalidWebhookKey> {
        let bytes: [u8; 64] = decode(text, PRIVATE_PREFIX)?;
        ed25519_dalek::SigningKey::from_keypair_bytes(&bytes).map(Self).map_err(|_| InvalidWebhookKey)
    }

    /// The half for receivers.
    pub fn public(&self) -> WebhookPublicKey {
        WebhookPublicKey(self.0.verifying_key())
    }

    /// One entry of `webhook-signature`: `v1a,<base64>`.
    pub fn sign(&self, message: &Message<'_>) -> String {
        format!("{SCHEME},{}", STANDARD.encode(self.0.sign(&message.signed_content()).to_bytes()))
    }
}

impl std::fmt::Debug for WebhookPrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WebhookPrivateKey({})", self.public())
    }
}

impl WebhookPublicKey {
    /// Reads `whpk_…`.
    pub fn parse(text: &str) -> Result<Self, InvalidWebhookKey> {
        VerifyingKey::from_bytes(&decode(text, PUBLIC_PREFIX)?).map(Self).map_err(|_| InvalidWebhookKey)
    }

    /// Whether this is the v1a signature of the content, by the strict rules.
    fn is_signature(&self, content: &[u8], claimed: &[u8]) -> bool {
        Signature::from_slice(claimed).is_ok_and(|signature| self.0.verify_strict(content, &signature).is_ok())
    }
}

impl std::fmt::Display for WebhookPublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{PUBLIC_PREFIX}{}", STANDARD.encode(self.0.as_bytes()))
    }
}

/// Checks a message against secrets (v1) and public keys (v1a); each scheme is tried with its own kind only.
pub fn verify(
    message: &Message<'_>,
    signatures: &str,
    clock: Clock,
    (secrets, public_keys): (&[Secret], &[WebhookPublicKey]),
) -> Result<(), Invalid> {
    verify_with(message, signatures, clock, |scheme, content, claimed| match scheme {
        "v1" => secrets.iter().any(|secret| secret.is_signature(content, claimed)),
        SCHEME => public_keys.iter().any(|public_key| public_key.is_signature(content, claimed)),
        _ => false,
    })
}

fn decode<const N: usize>(text: &str, prefix: &str) -> Result<[u8; N], InvalidWebhookKey> {
    let encoded = text.strip_prefix(prefix).ok_or(InvalidWebhookKey)?;
    let bytes = STANDARD.decode(encoded).map_err(|_| InvalidWebhookKey)?;
    bytes.try_into().map_err(|_| InvalidWebhookKey)
}
