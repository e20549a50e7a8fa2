//! GET: every answer comes from the read model; nothing here writes.
//!
//! A client that was just answered finds what it was told of: before saying "not found" or "accepted" a handler waits, for
//! a bounded time, until the read model has passed what lay in the log when the question came.

use std::sync::Arc;
use std::time::Duration;

use access::{Authenticator, Principal, Problem, Scope};
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRef, Path, Query, Request, State};
use axum::http::{HeaderName, HeaderValue, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use event::id::{AccountName, ExchangeId, TraceId};
use event::time::{Month, Timestamp};
use log::{Log, Topic};
use utoipa::OpenApi;

use crate::read::{EntryFilter, ExchangeFilter};
use crate::shape::{
    AccountBalance, AccountView, AccountsView, EntriesView, ExchangeView, ExchangesView, ReceiptsView, Status,
    UsageView,
};
use crate::{BundleKey, View, ViewError, cursor};

const LAG_HEADER: HeaderName = HeaderName::from_static("countersign-view-lag");
/// How long a GET waits for an id that is not there yet.
const MISSING_WAIT: Duration = Duration::from_secs(2);
/// How long it waits for a status to become final that may be so already.
const FRESH_WAIT: Duration = Duration::from_millis(250);
const LIMIT_DEFAULT: i64 = 50;
const LIMIT_MAX: i64 = 500;

/// What the handlers share.
#[derive(Clone)]
pub struct ViewState {
    pub view: View,
    pub log: Arc<dyn Log>,
    pub authenticator: Authenticator,
    pub bundle_key: Arc<BundleKey>,
}

impl FromRef<ViewState> for Authenticator {
    fn from_ref(state: &ViewState) -> Self {
        state.authenticator.clone()
    }
}

/// The OpenAPI of these routes, to be merged with the others'.
#[derive(Debug, OpenApi)]
#[openapi(paths(exchange, exchanges, receipts, bundle, usage, accounts, balance, entries))]
pub struct ViewApi;

/// The routes. Errors are complete under `access::edge::dress`.
pub fn router(state: ViewState) -> Router {
    Router::new()
        .route("/v1/exchanges", get(exchanges))
        .route("/v1/exchanges/{exchange_id}", get(exchange))
        .route("/v1/traces/{trace_id}/receipts", get(receipts))
        .route("/v1/traces/{trace_id}/bundle", get(bundle))
        .route("/v1/usage", get(usage))
        .route("/v1/accounts", get(accounts))
        .route("/v1/accounts/{account}/balance", get(balance))
        .route("/v1/ledger/entries", get(entries))
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

/// The query, strictly: a misspelt filter must not be ignored.
struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn read(uri: &Uri, known: &[&str]) -> Result<Self, Problem> {
        let Ok(Query(pairs)) = Query::<Vec<(String, String)>>::try_from_uri(uri) else {
            return Err(Problem::invalid_parameter("The query cannot be read."));
        };
        for (index, (name, _)) in pairs.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let detail = format!("`{name}` is not a parameter here; there are {}.", known.join(", "));
                return Err(Problem::invalid_parameter(detail));
            }
            if pairs.iter().skip(index + 1).any(|(other, _)| other == name) {
                return Err(Problem::invalid_parameter(format!("`{name}` is given twice.")));
            }
        }
        Ok(Self(pairs))
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn parsed<T>(&self, name: &str, rule: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>, Problem> {
        match self.text(name) {
            None => Ok(None),
            Some(text) => match parse(text) {
                Some(value) => Ok(Some(value)),
                None => Err(Problem::invalid_parameter(format!("`{name}` must be {rule}."))),
            },
        }
    }

    fn time(&self, name: &str) -> Result<Option<i64>, Problem> {
        self.parsed(name, "a time like 2026-11-21T10:00:00.000Z", |text| {
            let whole = text.strip_suffix('Z').filter(|rest| rest.len() == 19).map(|rest| format!("{rest}.000Z"));
            Timestamp::parse(whole.as_deref().unwrap_or(text)).ok().map(Timestamp::as_millis)
        })
    }

    fn limit(&self) -> Result<i64, Problem> {
        let rule = format!("a number from 1 to {LIMIT_MAX}");
        let limit = self.parsed("limit", &rule, |text| text.parse().ok().filter(|n| (1..=LIMIT_MAX).contains(n)))?;
        Ok(limit.unwrap_or(LIMIT_DEFAULT))
    }

    fn exchange_id(&self) -> Result<Option<String>, Problem> {
        self.parsed("exchange_id", ExchangeId::RULE, |text| ExchangeId::parse(text).ok().map(|id| id.to_string()))
    }

    fn cursor<const N: usize>(&self) -> Result<Option<[String; N]>, Problem> {
        self.parsed("cursor", "one that an earlier page gave", cursor::read::<N>)
    }
}

/// The body with `Link: rel="next"` where there is more.
fn paged(uri: &Uri, body: impl IntoResponse, next: Option<String>) -> Response {
    let mut response = body.into_response();
    let Some(next) = next else { return response };
    let kept: Vec<&str> = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty() && !pair.starts_with("cursor="))
        .collect();
    let mut query = kept.join("&");
    if !query.is_empty() {
        query.push('&');
    }
    let link = format!("<{}?{query}cursor={next}>; rel=\"next\"", uri.path());
    if let Ok(value) = HeaderValue::from_str(&link) {
        response.headers_mut().insert(header::LINK, value);
    }
    response
}

fn missing(what: &str) -> Problem {
    Problem::not_found(format!("There is no {what} of that name for this tenant."))
}

/// A path that cannot be decoded names nothing.
fn named(path: Result<Path<String>, PathRejection>, what: &str) -> Result<String, Problem> {
    path.map(|Path(name)| name).map_err(|_| missing(what))
}

/// One exchange: everything known.
///
/// Never 404 after a 202 or 201 for the same id.
#[utoipa::path(get, path = "/v1/exchanges/{exchange_id}", tag = "exchanges", security(("api_key" = [])),
    params(("exchange_id" = String, Path)),
    responses((status = 200, description = "as documented in the schema", body = ExchangeView), (status = 401, description = "problem: unauthenticated"), (status = 403, description = "problem: missing_scope"), (status = 404, description = "problem: not_found"), (status = 503, description = "problem: unavailable; the same request may be sent again")))]
async fn exchange(
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
async fn exchanges(State(state): State<ViewState>, principal: Principal, uri: Uri) -> Result<Response, Problem> {
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

/// Receipts of a trace in the order they were sealed, all its chains.
#[utoipa::path(get, path = "/v1/traces/{trace_id}/receipts", tag = "receipts", security(("api_key" = [])),
    params(("trace_id" = String, Path), ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "as documented in the schema", body = ReceiptsView, headers(("Link" = String, description = "rel=next where there is more"))),
        (status = 400, description = "problem: invalid_parameter"), (status = 401, description = "problem: unauthenticated"), (status = 403, description = "problem: missing_scope"), (status = 404, description = "problem: not_found"), (status = 503, description = "problem: unavailable; the same request may be sent again")))]
async fn receipts(
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

/// One chain as a signed bundle, the newest where none is named (evidence.md section 5).
#[utoipa::path(get, path = "/v1/traces/{trace_id}/bundle", tag = "receipts", security(("api_key" = [])),
    params(("trace_id" = String, Path), ("chain" = Option<String>, Query, description = "exchange_id of its first receipt")),
    responses((status = 200, description = "as documented in the schema", body = Object), (status = 400, description = "problem: invalid_parameter"), (status = 401, description = "problem: unauthenticated"), (status = 403, description = "problem: missing_scope"), (status = 404, description = "problem: not_found"), (status = 503, description = "problem: unavailable; the same request may be sent again")))]
async fn bundle(
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
    let draft = crate::bundle::Draft { tenant, trace_id: &trace_id, chain: &chain, receipts: &receipts, keys: &keys };
    let text = state.bundle_key.seal(&draft, now()).map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "a bundle cannot be made");
        Problem::unavailable("The bundle cannot be made now.")
    })?;
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], text).into_response())
}

/// Usage of a month.
#[utoipa::path(get, path = "/v1/usage", tag = "usage", security(("api_key" = [])),
    params(("month" = String, Query, description = "YYYY-MM, UTC")),
    responses((status = 200, description = "as documented in the schema", body = UsageView), (status = 400, description = "problem: invalid_parameter"), (status = 401, description = "problem: unauthenticated"), (status = 403, description = "problem: missing_scope"), (status = 503, description = "problem: unavailable; the same request may be sent again")))]
async fn usage(State(state): State<ViewState>, principal: Principal, uri: Uri) -> Result<Json<UsageView>, Problem> {
    principal.require(Scope::LedgerRead)?;
    let parameters = Parameters::read(&uri, &["month"])?;
    let month = parameters.parsed("month", "YYYY-MM", |text| Month::parse(text).ok())?;
    let month = month.ok_or_else(|| Problem::invalid_parameter("`month` is required: YYYY-MM."))?;
    Ok(Json(state.view.usage(principal.tenant.as_str(), &month.to_string()).await?))
}

/// All accounts of the tenant with their balances, from one snapshot.
#[utoipa::path(get, path = "/v1/accounts", tag = "ledger", security(("api_key" = [])),
    responses((status = 200, description = "as documented in the schema", body = AccountsView), (status = 401, description = "problem: unauthenticated"), (status = 403, description = "problem: missing_scope"), (status = 503, description = "problem: unavailable; the same request may be sent again")))]
async fn accounts(
    State(state): State<ViewState>,
    principal: Principal,
    uri: Uri,
) -> Result<Json<AccountsView>, Problem> {
    principal.require(Scope::LedgerRead)?;
    Parameters::read(&uri, &[])?;
    let mut accounts = state.view.balances(principal.tenant.as_str(), None, None).await?;
    let main = main_account(principal.tenant.as_str());
    // The account that pays exists from the start.
    if accounts.iter().all(|known| known.account != main) {
        accounts.insert(0, AccountView { account: main, balances: Vec::new() });
    }
    Ok(Json(AccountsView { accounts }))
}

/// The balance of one account: posted, pending and available per currency, from one snapshot.
#[utoipa::path(get, path = "/v1/accounts/{account}/balance", tag = "ledger", security(("api_key" = [])),
    params(("account" = String, Path, description = "`<tenant>:<name>`, or the name alone"),
        ("at" = Option<String>, Query, description = "only what was admitted up to this time")),
    responses((status = 200, description = "as documented in the schema", body = AccountBalance), (status = 400, description = "problem: invalid_parameter"), (status = 401, description = "problem: unauthenticated"), (status = 403, description = "problem: missing_scope"), (status = 404, description = "problem: not_found"), (status = 503, description = "problem: unavailable; the same request may be sent again")))]
async fn balance(
    State(state): State<ViewState>,
    principal: Principal,
    account: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Json<AccountBalance>, Problem> {
    principal.require(Scope::LedgerRead)?;
    let account =
        own_account(principal.tenant.as_str(), &named(account, "account")?).ok_or_else(|| missing("account"))?;
    let at = Parameters::read(&uri, &["at"])?.time("at")?;
    let mut found = state.view.balances(principal.tenant.as_str(), Some(&account), at).await?;
    // It may be known, but hold nothing yet at that time.
    let known = !found.is_empty()
        || account == main_account(principal.tenant.as_str())
        || (at.is_some() && !state.view.balances(principal.tenant.as_str(), Some(&account), None).await?.is_empty());
    if !known {
        return Err(missing("account"));
    }
    let balances = found.pop().map(|found| found.balances).unwrap_or_default();
    Ok(Json(AccountBalance { account, at: at.map(crate::shape::time), balances }))
}

/// Posted transfers, newest first.
#[utoipa::path(get, path = "/v1/ledger/entries", tag = "ledger", security(("api_key" = [])),
    params(("exchange_id" = Option<String>, Query), ("account" = Option<String>, Query),
        ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "as documented in the schema", body = EntriesView, headers(("Link" = String, description = "rel=next where there is more"))),
        (status = 400, description = "problem: invalid_parameter"), (status = 401, description = "problem: unauthenticated"), (status = 403, description = "problem: missing_scope"), (status = 503, description = "problem: unavailable; the same request may be sent again")))]
async fn entries(State(state): State<ViewState>, principal: Principal, uri: Uri) -> Result<Response, Problem> {
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

fn main_account(tenant: &str) -> String {
    format!("{tenant}:main")
}

/// The full name of a tenant's own account; a name without tenant is the caller's.
fn own_account(tenant: &str, name: &str) -> Option<String> {
    let full = if name.contains(':') { name.to_owned() } else { format!("{tenant}:{name}") };
    let own = full.split_once(':').is_some_and(|(owner, _)| owner == tenant);
    (own && AccountName::parse(full.as_str()).is_ok()).then_some(full)
}

/// When a bundle was exported: the one time that an answer takes from the clock.
fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
