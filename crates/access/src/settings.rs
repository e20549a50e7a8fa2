//! What is configured for a tenant and for a producer: the bodies of `tenant.config.v1`.

use std::str::FromStr;

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
}
