//! Receipts of a trace, and a chain as a signed bundle.

use access::{Principal, Problem, Scope};
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use event::id::ExchangeId;

use super::parameters::{Parameters, paged};
use super::{FRESH_WAIT, MISSING_WAIT, ViewState, missing, named};
use crate::bundle::Draft;
use crate::cursor;
use crate::shape::ReceiptsView;

/// Receipts of a trace in the order they were sealed, all its chains.
#[utoipa::path(get, path = "/v1/traces/{trace_id}/receipts", tag = "receipts", security(("api_key" = [])),
    params(("trace_id" = String, Path), ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "as documented in the schema", body = ReceiptsView, headers(("Link" = String, description = "rel=next where there is more"))),
        (status = 400, description = "problem: invalid_parameter"), (status = 401, description = "problem: unauthenticated"), (status = 403, description = "problem: missing_scope"), (status = 404, description = "problem: not_found"), (status = 503, description = "problem: unavailable; the same request may be sent again")))]
pub(super) async fn receipts(
    State(state): State<ViewState>,
    principal: Principal,
    trace_id: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, Problem> {
    principal.require(Scope::ReceiptRead)?;
    let trace_id = named(trace_id, "trace")?;
    let parameters = Parameters::read(&uri, &["limit", "cursor"])?;
    let after = parameters.parsed("cursor", "one that an earlier page gave", |text| {
        cursor::read::<1>(text).and_then(|[after]| after.parse::<i64>().ok())
    })?;
    let limit = parameters.limit()?;
    let sealed = &[event::topic::SEALED];
    state.catch_up(sealed, FRESH_WAIT).await?;
    let first = after.unwrap_or(-1);
    let mut page = state.view.receipts(principal.tenant.as_str(), &trace_id, first, limit).await?;
    if page.items.is_empty() && after.is_none() {
        state.catch_up(sealed, MISSING_WAIT).await?;
        page = state.view.receipts(principal.tenant.as_str(), &trace_id, first, limit).await?;
        if page.items.is_empty() {
            return Err(missing("trace"));
        }
    }
    let next = page.next.map(|after| cursor::write(&[after.to_string()]));
    Ok(paged(&uri, Json(ReceiptsView { trace_id, receipts: page.items }), next))
}

/// One chain as a signed bundle, the newest where none is named (docs/contracts/receipt.md section 5).
#[utoipa::path(get, path = "/v1/traces/{trace_id}/bundle", tag = "receipts", security(("api_key" = [])),
    params(("trace_id" = String, Path), ("chain" = Option<String>, Query, description = "exchange_id of its first receipt")),
    responses((status = 200, description = "as documented in the schema", body = Object), (status = 400, description = "problem: invalid_parameter"), (status = 401, description = "problem: unauthenticated"), (status = 403, description = "problem: missing_scope"), (status = 404, description = "problem: not_found"), (status = 503, description = "problem: unavailable; the same request may be sent again")))]
pub(super) async fn bundle(
    State(state): State<ViewState>,
    principal: Principal,
    trace_id: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, Problem> {
    principal.require(Scope::ReceiptRead)?;
    let trace_id = named(trace_id, "trace")?;
    let parameters = Parameters::read(&uri, &["chain"])?;
    let chain =
        parameters.parsed("chain", ExchangeId::RULE, |text| ExchangeId::parse(text).ok().map(|id| id.to_string()))?;
    let topics = &[event::topic::SEALED, event::topic::SIGNING_KEY];
    state.catch_up(topics, FRESH_WAIT).await?;
    let tenant = principal.tenant.as_str();
    let mut found = state.view.chain(tenant, &trace_id, chain.as_deref()).await?;
    if found.is_none() {
        state.catch_up(topics, MISSING_WAIT).await?;
        found = state.view.chain(tenant, &trace_id, chain.as_deref()).await?;
    }
    let Some((chain, receipts)) = found else { return Err(missing("chain")) };
    let keys = state.view.public_keys("receipt").await?;
    let (bundle_keys, tenant) = (state.bundle_keys.clone(), tenant.to_owned());
    // A long chain is much work, and a new key may have to be read and listed first.
    let sealing = tokio::task::spawn_blocking(move || {
        let (receipts, keys) = (receipts.as_slice(), keys.as_slice());
        let draft = Draft { tenant: &tenant, trace_id: &trace_id, chain: &chain, receipts, keys };
        draft.seal(&bundle_keys, now())
    });
    let sealed = sealing.await.map_err(|error| unmade(&error))?;
    let text = sealed.map_err(|error| unmade(&error))?;
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], text).into_response())
}

fn unmade(error: &(dyn std::error::Error + 'static)) -> Problem {
    tracing::error!(error, "a bundle cannot be made");
    Problem::unavailable("The bundle cannot be made now.")
}

/// When a bundle was exported: the one time that an answer takes from the clock.
fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
