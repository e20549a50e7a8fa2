//! Who may do what: API keys, scopes, producers, tenants' settings, and how a refusal is told (problem+json).
//!
//! Two halves. [`store`] is the operator's truth: `access.db`, written by `countersign keys|tenants|producers` while the
//! pipeline runs. [`directory`] is what every service reads: the same facts, carried by the topic `tenant.config.v1`,
//! because services share no files. [`publish`] is the road from the one to the other. Payload types take the same topic.
//!
//! Not in it: rate limits, JWT, roles.
#![forbid(unsafe_code)]

mod api_key;
pub mod auth;
pub mod directory;
pub mod edge;
pub mod problem;
pub mod publish;
mod publish_types;
mod scope;
mod secret;
mod settings;
pub mod store;

pub use api_key::{ApiKey, ApiKeyError, KeyDigest};
pub use auth::{Authenticator, Principal};
pub use directory::{Directory, KnownType};
pub use edge::RequestId;
pub use problem::{Code, FieldError, Problem};
pub use publish::Publisher;
pub use publish_types::{TypeToPublish, TypesError, publish_types};
pub use scope::{Scope, Scopes, UnknownScope};
pub use secret::Secret;
pub use settings::{ProducerGrant, RetiringSecret, StillRetiring, TenantSettings};
pub use store::{Store, StoreError};
