//! Usage, accounts and posted transfers.

use access::{Principal, Problem, Scope};
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::Response;
use event::id::AccountName;
use event::time::Month;

use super::parameters::{Parameters, paged};
use super::{ViewState, missing, named};
use crate::cursor;
use crate::read::EntryFilter;
use crate::shape::{AccountBalance, AccountView, AccountsView, EntriesView, UsageView};

/// Usage of a month.
#[utoipa::path(get, path = "/v1/usage", tag = "usage", security(("api_key" = [])),
    params(("month" = String, Query, description = "YYYY-MM, UTC")),
    responses((status = 200, description = "as documented in the schema", body = UsageView), (status = 400, description = "problem: invalid_parameter"), (status = 401, description = "problem: unauthenticated"), (status = 403, description = "problem: missing_scope"), (status = 503, description = "problem: unavailable; the same request may be sent again")))]
pub(super) async fn usage(
    State(state): State<ViewState>,
    principal: Principal,
    uri: Uri,
) -> Result<Json<UsageView>, Problem> {
    principal.require(Scope::LedgerRead)?;
    let parameters = Parameters::read(&uri, &["month"])?;
    let month = parameters.parsed("month", "YYYY-MM", |text| Month::parse(text).ok())?;
    let month = month.ok_or_else(|| Problem::invalid_parameter("`month` is required: YYYY-MM."))?;
    Ok(Json(state.view.usage(principal.tenant.as_str(), &month.to_string()).await?))
}

/// Accounts of the tenant with their balances, a page from one snapshot, by name.
#[utoipa::path(get, path = "/v1/accounts", tag = "ledger", security(("api_key" = [])),
    params(("limit" = Option<u32>, Query, description = "1 to 500, 50 where absent"), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "as documented in the schema", body = AccountsView, headers(("Link" = String, description = "rel=next where there is more"))),
        (status = 400, description = "problem: invalid_parameter"), (status = 401, description = "problem: unauthenticated"), (status = 403, description = "problem: missing_scope"), (status = 503, description = "problem: unavailable; the same request may be sent again")))]
pub(super) async fn accounts(
    State(state): State<ViewState>,
    principal: Principal,
    uri: Uri,
) -> Result<Response, Problem> {
    principal.require(Scope::LedgerRead)?;
    let parameters = Parameters::read(&uri, &["limit", "cursor"])?;
    let after = parameters.cursor::<1>()?.map(|[after]| after);
    let page = state.view.accounts(principal.tenant.as_str(), after.as_deref(), parameters.limit()?).await?;
    let next = page.next.map(|after| cursor::write(&[after]));
    Ok(paged(&uri, Json(AccountsView { accounts: page.items }), next))
}

/// The balance of one account: posted, pending and available per currency, from one snapshot.
#[utoipa::path(get, path = "/v1/accounts/{account}/balance", tag = "ledger", security(("api_key" = [])),
    params(("account" = String, Path, description = "`<tenant>:<name>`, or the name alone"),
        ("at" = Option<String>, Query, description = "only what was admitted up to this time")),
    responses((status = 200, description = "as documented in the schema", body = AccountBalance), (status = 400, description = "problem: invalid_parameter"), (status = 401, description = "problem: unauthenticated"), (status = 403, description = "problem: missing_scope"), (status = 404, description = "problem: not_found"), (status = 503, description = "problem: unavailable; the same request may be sent again")))]
pub(super) async fn balance(
    State(state): State<ViewState>,
    principal: Principal,
    account: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Json<AccountBalance>, Problem> {
    principal.require(Scope::LedgerRead)?;
    let account =
        own_account(principal.tenant.as_str(), &named(account, "account")?).ok_or_else(|| missing("account"))?;
    let at = Parameters::read(&uri, &["at"])?.time("at")?;
    let tenant = principal.tenant.as_str();
    let mut found = state.view.account(tenant, &account, at).await?;
    if found.is_none() && at.is_some() {
        // It may be known, but hold nothing yet at that time.
        let known = state.view.account(tenant, &account, None).await?;
        found = known.map(|known| AccountView { balances: Vec::new(), ..known });
    }
    let balances = found.ok_or_else(|| missing("account"))?.balances;
    Ok(Json(AccountBalance { account, at: at.map(crate::shape::time), balances }))
}

/// Posted transfers, newest first.
#[utoipa::path(get, path = "/v1/ledger/entries", tag = "ledger", security(("api_key" = [])),
    params(("exchange_id" = Option<String>, Query), ("account" = Option<String>, Query),
        ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "as documented in the schema", body = EntriesView, headers(("Link" = String, description = "rel=next where there is more"))),
        (status = 400, description = "problem: invalid_parameter"), (status = 401, description = "problem: unauthenticated"), (status = 403, description = "problem: missing_scope"), (status = 503, description = "problem: unavailable; the same request may be sent again")))]
pub(super) async fn entries(
    State(state): State<ViewState>,
    principal: Principal,
    uri: Uri,
) -> Result<Response, Problem> {
    principal.require(Scope::LedgerRead)?;
    let parameters = Parameters::read(&uri, &["exchange_id", "account", "limit", "cursor"])?;
    let after = parameters.parsed("cursor", "one that an earlier page gave", |text| {
        let [at, partition, offset, line] = cursor::read::<4>(text)?;
        Some([at.parse().ok()?, partition.parse().ok()?, offset.parse().ok()?, line.parse().ok()?])
    })?;
    let filter = EntryFilter {
        exchange_id: parameters.exchange_id()?,
        account: parameters
            .parsed("account", AccountName::RULE, |text| own_account(principal.tenant.as_str(), text))?,
        after,
        limit: parameters.limit()?,
    };
    let page = state.view.entries(principal.tenant.as_str(), &filter).await?;
    let next = page.next.map(|key| cursor::write(&key.map(|part| part.to_string())));
    Ok(paged(&uri, Json(EntriesView { entries: page.items }), next))
}

/// The full name of a tenant's own account; a name without tenant is the caller's.
fn own_account(tenant: &str, name: &str) -> Option<String> {
    let full = if name.contains(':') { name.to_owned() } else { format!("{tenant}:{name}") };
    let own = full.split_once(':').is_some_and(|(owner, _)| owner == tenant);
    (own && AccountName::parse(full.as_str()).is_ok()).then_some(full)
}
