//! GET: every answer comes from the read model; nothing here writes.
//!
//! A client that was just answered finds what it was told of: before saying "not found" or "accepted" a handler waits, for
//! a bounded time, until the read model has passed what lay in the log when the question came.

mod evidence;
mod exchanges;
mod ledger;
mod parameters;

use std::sync::Arc;
use std::time::Duration;

use access::{Authenticator, Problem};
use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRef, Path, Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use log::{Log, Topic};
use signing::Keyring;
use utoipa::OpenApi;

use crate::{View, ViewError};

const LAG_HEADER: HeaderName = HeaderName::from_static("countersign-view-lag");
/// How long a GET waits for an id that is not there yet.
const MISSING_WAIT: Duration = Duration::from_secs(2);
/// How long it waits for a status to become final that may be so already.
const FRESH_WAIT: Duration = Duration::from_millis(250);

/// What the handlers share.
#[derive(Clone)]
pub struct ViewState {
    pub view: View,
    pub log: Arc<dyn Log>,
    pub authenticator: Authenticator,
    /// Of the bundles; whoever opened them also has them followed.
    pub bundle_keys: Keyring,
}

impl FromRef<ViewState> for Authenticator {
    fn from_ref(state: &ViewState) -> Self {
        state.authenticator.clone()
    }
}

/// The OpenAPI of these routes, to be merged with the others'.
#[derive(Debug, OpenApi)]
#[openapi(paths(
    exchanges::exchange,
    exchanges::exchanges,
    evidence::receipts,
    evidence::bundle,
    ledger::usage,
    ledger::accounts,
    ledger::balance,
    ledger::entries
))]
pub struct ViewApi;

/// The routes. Errors are complete under `access::edge::dress`.
pub fn router(state: ViewState) -> Router {
    Router::new()
        .route("/v1/exchanges", get(exchanges::exchanges))
        .route("/v1/exchanges/{exchange_id}", get(exchanges::exchange))
        .route("/v1/traces/{trace_id}/receipts", get(evidence::receipts))
        .route("/v1/traces/{trace_id}/bundle", get(evidence::bundle))
        .route("/v1/usage", get(ledger::usage))
        .route("/v1/accounts", get(ledger::accounts))
        .route("/v1/accounts/{account}/balance", get(ledger::balance))
        .route("/v1/ledger/entries", get(ledger::entries))
        .route_layer(middleware::from_fn_with_state(state.view.clone(), say_lag))
        .with_state(state)
}

/// Every answer says how many records the read model was behind.
async fn say_lag(State(view): State<View>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let lag = view.lag();
    if lag.known {
        response.headers_mut().insert(LAG_HEADER, HeaderValue::from(lag.records()));
    }
    response
}

impl From<ViewError> for Problem {
    fn from(error: ViewError) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "the read model cannot answer");
        Problem::unavailable("The read model cannot answer now.")
    }
}

impl ViewState {
    /// Waits until the read model has passed what these topics hold now; false when it took longer.
    async fn catch_up(&self, topics: &'static [&'static str], wait: Duration) -> Result<bool, Problem> {
        let log = self.log.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let mut ends = Vec::new();
            for name in topics {
                ends.extend(log.ends(&Topic::new(name))?);
            }
            Ok::<_, log::Fault>(ends)
        });
        let ends = match looked.await {
            Ok(Ok(ends)) => ends,
            Ok(Err(fault)) => return Err(ViewError::from(fault).into()),
            Err(_) => return Err(Problem::unavailable("The log cannot be asked now.")),
        };
        Ok(self.view.progress.reach(&ends, wait).await)
    }
}

fn missing(what: &str) -> Problem {
    Problem::not_found(format!("There is no {what} of that name for this tenant."))
}

/// A path that cannot be decoded names nothing.
fn named(path: Result<Path<String>, PathRejection>, what: &str) -> Result<String, Problem> {
    path.map(|Path(name)| name).map_err(|_| missing(what))
}
