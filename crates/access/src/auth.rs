//! Who is asking: the bearer key of a request, looked up in the directory.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRef, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use event::id::TenantId;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::directory::KeyHolder;
use crate::{ApiKey, Code, Directory, Problem, Scope, Scopes};

/// How long an unknown key waits for a change of the configuration: longer than a change takes to arrive.
const UNKNOWN_KEY_WAIT: Duration = Duration::from_millis(600);
/// How many may wait at a time; above that an unknown key is refused at once.
const UNKNOWN_KEYS_WAITING_MAX: usize = 1_024;

/// The caller of an authenticated request. As an axum extractor it refuses with `401 unauthenticated`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    pub tenant: TenantId,
    pub scopes: Scopes,
}

impl Principal {
    /// # Errors
    /// `403 missing_scope`, naming it.
    pub fn require(&self, scope: Scope) -> Result<(), Problem> {
        if self.scopes.contains(scope) {
            return Ok(());
        }
        let detail = format!("This needs the scope `{scope}`, which the API key does not have.");
        Err(Problem::new(Code::MissingScope, detail).with("scope", scope.as_str()))
    }
}

/// Turns a presented key into a principal.
#[derive(Clone, Debug)]
pub struct Authenticator {
    directory: Arc<Directory>,
    waiting: Arc<Semaphore>,
}

impl Authenticator {
    pub fn new(directory: Arc<Directory>) -> Self {
        Self { directory, waiting: Arc::new(Semaphore::new(UNKNOWN_KEYS_WAITING_MAX)) }
    }

    /// # Errors
    /// `401 unauthenticated`; the detail says what is wrong with the header, never what was in it.
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<Principal, Problem> {
        let presented = bearer(headers)?;
        let holder = match self.directory.api_key(&presented) {
            Some(holder) => Some(holder),
            None => self.awaited(&presented).await,
        };
        let holder = holder.ok_or_else(|| unauthenticated("The API key is unknown or revoked."))?;
        Ok(Principal { tenant: holder.tenant, scopes: holder.scopes })
    }

    /// A well-formed key that is unknown may have been created a moment ago: `keys create` and the first request are
    /// often two lines of one script, and the configuration takes a moment to arrive.
    async fn awaited(&self, presented: &ApiKey) -> Option<KeyHolder> {
        let _permit = self.waiting.try_acquire().ok()?;
        let mut changes = self.directory.changes();
        let found = timeout(UNKNOWN_KEY_WAIT, async {
            loop {
                changes.mark_unchanged();
                if let Some(holder) = self.directory.api_key(presented) {
                    return Some(holder);
                }
                changes.changed().await.ok()?;
            }
        });
        found.await.ok().flatten()
    }
}

impl<S> FromRequestParts<S> for Principal
where
    S: Send + Sync,
    Authenticator: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        Authenticator::from_ref(state).authenticate(&parts.headers).await
    }
}

fn bearer(headers: &HeaderMap) -> Result<ApiKey, Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or_else(|| unauthenticated("Send `Authorization: Bearer csk_...`."))?;
    if values.next().is_some() {
        return Err(unauthenticated("There is more than one Authorization header."));
    }
    let value = value.to_str().unwrap_or_default();
    let (scheme, credential) = value.split_once(' ').unwrap_or((value, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(unauthenticated("The Authorization header must be `Bearer` followed by an API key."));
    }
    ApiKey::parse(credential.trim()).map_err(|error| unauthenticated(format!("Not an API key: {error}.")))
}

fn unauthenticated(detail: impl Into<String>) -> Problem {
    Problem::new(Code::Unauthenticated, detail)
}
