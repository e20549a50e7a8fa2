//! Exchanges: one with everything known, and the list.

use access::{Principal, Problem, Scope};
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::Response;
use event::id::{ExchangeId, TraceId};

use super::parameters::{Parameters, paged};
use super::{FRESH_WAIT, MISSING_WAIT, ViewState, missing, named};
use crate::cursor;
use crate::read::ExchangeFilter;
use crate::shape::{ExchangeView, ExchangesView, Status};

/// One exchange: everything known.
///
/// Never 404 after a 202 or 201 for the same id.
#[utoipa::path(get, path = "/v1/exchanges/{exchange_id}", tag = "exchanges", security(("api_key" = [])),
    params(("exchange_id" = String, Path)),
    responses((status = 200, description = "as documented in the schema", body = ExchangeView), (status = 401, description = "problem: unauthenticated"), (status = 403, description = "problem: missing_scope"), (status = 404, description = "problem: not_found"), (status = 503, description = "problem: unavailable; the same request may be sent again")))]
pub(super) async fn exchange(
    State(state): State<ViewState>,
    principal: Principal,
    exchange_id: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Json<ExchangeView>, Problem> {
    principal.require(Scope::ExchangeRead)?;
    Parameters::read(&uri, &[])?;
    let exchange_id = named(exchange_id, "exchange")?;
    if ExchangeId::parse(exchange_id.as_str()).is_err() {
        return Err(missing("exchange"));
    }
    let tenant = principal.tenant.as_str();
    let mut found = state.view.exchange(tenant, &exchange_id).await?;
    if found.is_none() {
        state.catch_up(&[event::topic::REQUESTED], MISSING_WAIT).await?;
        found = state.view.exchange(tenant, &exchange_id).await?;
    }
    if found.as_ref().is_some_and(|exchange| exchange.status == Status::Accepted) {
        state.catch_up(&[event::topic::SEALED, event::topic::REJECTED], FRESH_WAIT).await?;
        found = state.view.exchange(tenant, &exchange_id).await?;
    }
    found.map(Json).ok_or_else(|| missing("exchange"))
}

/// Exchanges of the tenant, newest first.
#[utoipa::path(get, path = "/v1/exchanges", tag = "exchanges", security(("api_key" = [])),
    params(
        ("trace_id" = Option<String>, Query), ("status" = Option<Status>, Query),
        ("from" = Option<String>, Query, description = "admitted at this time or later"),
        ("to" = Option<String>, Query, description = "admitted before this time"),
        ("limit" = Option<u32>, Query, description = "1 to 500, 50 where absent"), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "as documented in the schema", body = ExchangesView, headers(("Link" = String, description = "rel=next where there is more"))),
        (status = 400, description = "problem: invalid_parameter"), (status = 401, description = "problem: unauthenticated"), (status = 403, description = "problem: missing_scope"), (status = 503, description = "problem: unavailable; the same request may be sent again")))]
pub(super) async fn exchanges(
    State(state): State<ViewState>,
    principal: Principal,
    uri: Uri,
) -> Result<Response, Problem> {
    principal.require(Scope::ExchangeRead)?;
    let parameters = Parameters::read(&uri, &["trace_id", "status", "from", "to", "limit", "cursor"])?;
    let after = match parameters.cursor::<2>()? {
        None => None,
        Some([at, exchange_id]) => {
            let at = at
                .parse()
                .map_err(|_| Problem::invalid_parameter("`cursor` must be one that an earlier page gave."))?;
            Some((at, exchange_id))
        }
    };
    let filter = ExchangeFilter {
        trace_id: parameters
            .parsed("trace_id", TraceId::RULE, |text| TraceId::parse(text).ok().map(|id| id.to_string()))?,
        status: parameters.parsed("status", "accepted, sealed, refused or dead", |text| {
            Status::ALL.iter().find(|(_, name, _)| *name == text).map(|(status, _, _)| *status)
        })?,
        from: parameters.time("from")?,
        to: parameters.time("to")?,
        after,
        limit: parameters.limit()?,
    };
    state.catch_up(&[event::topic::REQUESTED, event::topic::SEALED, event::topic::REJECTED], FRESH_WAIT).await?;
    let page = state.view.exchanges(principal.tenant.as_str(), &filter).await?;
    let next = page.next.map(|(at, exchange_id)| cursor::write(&[at.to_string(), exchange_id]));
    Ok(paged(&uri, Json(ExchangesView { exchanges: page.items }), next))
}
