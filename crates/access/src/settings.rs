//! What is configured for a tenant and for a producer: the bodies of `tenant.config.v1`.

use std::str::FromStr;

use admission::RepairPolicy;
use event::id::{InvalidId, TenantId};
use serde::{Deserialize, Serialize};

use crate::{Scopes, Secret};

/// What holds for all of a tenant's exchanges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantSettings {
    /// Destinations that deliveries may go to: `host` or `host:port`. Empty: no deliveries.
    #[serde(default)]
    pub forward_allowlist: Vec<String>,
    /// Signs the tenant's deliveries; made with the tenant, there is no default.
    pub webhook_secret: Secret,
    /// The secret before it, while receivers are told of the new one. Records from before there was such a thing have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_secret_retiring: Option<RetiringSecret>,
    /// Whether strings that a payload type reads as JSON may be repaired.
    #[serde(default, skip_serializing_if = "is_default")]
    pub repair: RepairPolicy,
}

/// What nobody set is written as it was before it could be.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A secret that was replaced and still signs, beside the new one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetiringSecret {
    pub secret: Secret,
    /// Milliseconds since the Unix epoch. From then on it signs nothing.
    pub until_ms: i64,
}

/// Another secret retires still: a receiver may know only that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the secret before signs until {until_ms} (milliseconds since 1970): receivers may know no other")]
pub struct StillRetiring {
    pub until_ms: i64,
}

impl TenantSettings {
    /// What a new tenant has.
    pub fn fresh() -> Self {
        Self {
            forward_allowlist: Vec::new(),
            webhook_secret: Secret::webhook(),
            webhook_secret_retiring: None,
            repair: RepairPolicy::default(),
        }
    }

    /// Signs with a new secret from now on, and with the one before for `overlap_ms` more; without an overlap every older
    /// secret is gone at once.
    ///
    /// # Errors
    /// If the secret before is still within its own overlap, and is to stay.
    pub fn rotate_webhook_secret(&mut self, to: Secret, now_ms: i64, overlap_ms: i64) -> Result<(), StillRetiring> {
        if overlap_ms > 0
            && let Some(retiring) = self.webhook_secret_retiring.as_ref().filter(|retiring| retiring.until_ms > now_ms)
        {
            return Err(StillRetiring { until_ms: retiring.until_ms });
        }
        let before = std::mem::replace(&mut self.webhook_secret, to);
        let retiring = RetiringSecret { secret: before, until_ms: now_ms.saturating_add(overlap_ms) };
        self.webhook_secret_retiring = (overlap_ms > 0).then_some(retiring);
        Ok(())
    }
}

/// Whom a producer may write for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProducerGrant {
    Tenant(TenantId),
    /// Ingest's own: it has authenticated the caller itself. Written `*`.
    Any,
}

impl ProducerGrant {
    pub fn covers(&self, tenant: &TenantId) -> bool {
        match self {
            Self::Tenant(granted) => granted == tenant,
            Self::Any => true,
        }
    }

    pub fn as_str(&self) -> &str {
        match self {
            Self::Tenant(tenant) => tenant.as_str(),
            Self::Any => "*",
        }
    }
}

impl FromStr for ProducerGrant {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "*" { Ok(Self::Any) } else { TenantId::parse(text).map(Self::Tenant) }
    }
}

/// Body of an `api_key` entry.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ApiKeyBody {
    pub(crate) scopes: Scopes,
}

/// Body of a `producer` entry.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ProducerBody {
    pub(crate) secret: Secret,
}

/// The kinds of entries.
pub(crate) mod kind {
    pub(crate) const TENANT: &str = "tenant";
    pub(crate) const API_KEY: &str = "api_key";
    pub(crate) const PRODUCER: &str = "producer";
    pub(crate) const PAYLOAD_TYPE: &str = "payload_type";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_from_before_there_were_rotations_are_read_and_read_by_their_time() {
        let old = r#"{"forward_allowlist":["good.example"],"webhook_secret":"whsec_AAAA"}"#;
        let read: TenantSettings = serde_json::from_str(old).unwrap();
        assert_eq!(read.webhook_secret_retiring, None);
        assert_eq!(serde_json::to_string(&read).unwrap(), old, "what does not rotate is written as ever");

        let mut rotated = read.clone();
        rotated.rotate_webhook_secret(Secret::new("whsec_BBBB"), 1_000, 500).unwrap();
        let text = serde_json::to_string(&rotated).unwrap();
        assert_eq!(serde_json::from_str::<TenantSettings>(&text).unwrap(), rotated);
        /// As a release knew them that could not rotate.
        #[derive(Deserialize)]
        struct Before {
            forward_allowlist: Vec<String>,
            webhook_secret: Secret,
        }
        let seen: Before = serde_json::from_str(&text).unwrap();
        assert_eq!((seen.forward_allowlist, seen.webhook_secret.expose()), (read.forward_allowlist, "whsec_BBBB"));
    }

    #[test]
    fn one_secret_retires_at_a_time_unless_all_are_to_go() {
        let mut settings = TenantSettings::fresh();
        let first = settings.webhook_secret.clone();
        settings.rotate_webhook_secret(Secret::new("whsec_2222"), 1_000, 500).unwrap();
        assert_eq!(settings.webhook_secret_retiring, Some(RetiringSecret { secret: first, until_ms: 1_500 }));
        let before = settings.clone();
        let refused = settings.rotate_webhook_secret(Secret::new("whsec_3333"), 1_499, 500);
        assert_eq!((refused, &settings), (Err(StillRetiring { until_ms: 1_500 }), &before));
        settings.rotate_webhook_secret(Secret::new("whsec_3333"), 1_500, 500).unwrap();
        assert_eq!(settings.webhook_secret_retiring.as_ref().unwrap().secret.expose(), "whsec_2222");
        settings.rotate_webhook_secret(Secret::new("whsec_4444"), 1_501, 0).unwrap();
        assert_eq!((settings.webhook_secret.expose(), settings.webhook_secret_retiring), ("whsec_4444", None));
    }
}
