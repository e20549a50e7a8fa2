//! `POST /v1/exchanges?dry_run=true`: what would be admitted, by the code that admits, and nothing is written.
//!
//! What only the log knows is not asked: whether the key was used, and where the chain of the trace stands.

use std::time::SystemTime;

use access::{Code, Problem};
use admission::{Admissible, Examined, Rules};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use billing::{Minor, Tariffs, fee};
use event::id::{IdempotencyKey, TenantId};
use event::wire::{ExchangeRequested, WireAmount};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::door::{self, Place, Sender};
use crate::state::IngestState;
use crate::types;

/// A dry run needs no key; where none is sent, no exchange id is told.
const NO_KEY: &str = "dry-run";
/// What every exchange counts.
const VEX_PER_EXCHANGE: u32 = 1;

/// Whether the query asks for a dry run.
///
/// # Errors
/// Any other parameter: one that is passed over could mean money.
pub(crate) fn is_asked(query: Option<&str>) -> Result<bool, Problem> {
    match query {
        None | Some("" | "dry_run=false") => Ok(false),
        Some("dry_run=true") => Ok(true),
        Some(_) => {
            let detail = "The only query parameter of this request is `dry_run`, which is `true` or `false`.";
            Err(Problem::invalid_parameter(detail))
        }
    }
}

/// What would become of this body.
///
/// # Errors
/// The refusal that the exchange would get.
pub(crate) async fn answer(
    state: &IngestState,
    tenant: TenantId,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Response, Problem> {
    let named = match door::idempotency_key(headers) {
        Ok(named) => Some(named),
        Err(problem) if problem.code() == Code::IdempotencyKeyMissing.as_str() => None,
        Err(problem) => return Err(problem),
    };
    let is_named = named.is_some();
    let idempotency_key = match named {
        Some(named) => named,
        None => IdempotencyKey::parse(NO_KEY).map_err(|error| Problem::unavailable(error.to_string()))?,
    };
    let sender = Sender { tenant, idempotency_key };
    let read = door::exchange(&sender, body, Place::default(), &state.0.config.payload)?;
    let exchange_id = is_named.then(|| read.exchange_id.to_string());
    let (shared, request) = (state.clone(), read.request);
    // Schemas and mappings are CPU alone.
    let decided = tokio::task::spawn_blocking(move || decide(&shared, &sender.tenant, &request, exchange_id));
    let body = decided.await.map_err(|_| Problem::unavailable("The dry run was cut short; do it again."))??;
    let mut response = body.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

fn decide(
    state: &IngestState,
    tenant: &TenantId,
    request: &ExchangeRequested,
    exchange_id: Option<String>,
) -> Result<Vec<u8>, Problem> {
    let (directory, limits) = (&state.0.directory, &state.0.config.payload);
    let payload_type = types::known(directory, request)?;
    let settings = directory.tenant(tenant);
    let rules = Rules {
        payload_type: payload_type.as_deref(),
        repair: settings.as_ref().map(|settings| settings.repair).unwrap_or_default(),
        allowlist: settings.as_ref().map(|settings| settings.forward_allowlist.as_slice()).unwrap_or_default(),
        limits,
    };
    let admissible = Examined::new(request, limits).admissible(rules).map_err(|refusal| types::problem(&refusal))?;
    told(request, &admissible, exchange_id).map_err(|error| {
        tracing::error!(%error, "a dry run cannot be told");
        Problem::unavailable("The dry run cannot be told.")
    })
}

/// What would be admitted; `openapi.rs` describes it.
#[derive(Serialize)]
struct DryRun<'a> {
    /// `admissible`
    status: &'static str,
    /// Where the request has an idempotency key
    exchange_id: Option<String>,
    r#type: Type<'a>,
    /// Digest of the payload as received
    request_cid: String,
    /// Digest of the normalized payload
    cid: String,
    /// The payload as it would be countersigned
    normalized: &'a RawValue,
    policy: Policy<'a>,
    usage: Usage,
    price: Option<Price<'a>>,
    /// Strings that would be put right before they are read as JSON
    repairs: Vec<Repaired<'a>>,
}

#[derive(Serialize)]
struct Type<'a> {
    payload: &'a str,
    target: &'a str,
    /// Digest of the type's definition; null for `passthrough`
    definition: Option<String>,
}

#[derive(Serialize)]
struct Policy<'a> {
    allowed: bool,
    reason: &'a str,
    host: Option<&'a str>,
}

#[derive(Serialize)]
struct Usage {
    vex: u32,
    fu: u32,
}

/// What the tenant would pay, and what of it is fee.
#[derive(Serialize)]
struct Price<'a> {
    currency: &'a str,
    /// Minor units, an integer as a string
    minor: String,
    payee: &'a str,
    /// The part of it that is fee, before any discount for the volume of the month; null where there is no schedule for
    /// the currency, and the charge would be parked
    fee_minor: Option<String>,
    tariff_version: Option<&'a str>,
}

#[derive(Serialize)]
struct Repaired<'a> {
    pointer: &'a str,
    /// `trailing_commas`, `quotes`, `escapes`
    rungs: Vec<&'static str>,
    /// Digest of the string as received
    received: String,
    /// Digest of the canonical form that it is read as
    repaired: String,
}

fn told(
    request: &ExchangeRequested,
    admissible: &Admissible,
    exchange_id: Option<String>,
) -> serde_json::Result<Vec<u8>> {
    let tariffs = Tariffs::builtin();
    let mapped = admissible.mapped.as_ref();
    let repairs = mapped.map(|mapped| mapped.repairs.as_slice()).unwrap_or_default().iter().map(|repair| Repaired {
        pointer: &repair.pointer,
        rungs: repair.rungs.iter().map(|rung| rung.as_str()).collect(),
        received: repair.received.to_string(),
        repaired: repair.repaired.to_string(),
    });
    serde_json::to_vec(&DryRun {
        status: "admissible",
        exchange_id,
        r#type: Type {
            payload: &request.payload_type,
            target: &admissible.target_type,
            definition: mapped.map(|mapped| mapped.definition.to_string()),
        },
        request_cid: admissible.request_cid.to_string(),
        cid: admissible.cid.to_string(),
        normalized: serde_json::from_slice(&admissible.canonical)?,
        policy: Policy { allowed: true, reason: admissible.policy_reason, host: admissible.policy_host.as_deref() },
        usage: Usage { vex: VEX_PER_EXCHANGE, fu: 0 },
        price: request.amount.as_ref().map(|amount| price(amount, &tariffs)),
        repairs: repairs.collect(),
    })
}

fn price<'a>(amount: &'a WireAmount, tariffs: &'a Tariffs) -> Price<'a> {
    let schedule = tariffs.at(&amount.currency, now_ms());
    let charged = schedule.and_then(|(schedule, version)| {
        fee(schedule, Minor::new(amount.minor), 0).ok().map(|fee| (fee.fee.to_string(), version))
    });
    let (fee_minor, tariff_version) = charged.unzip();
    let minor = amount.minor.to_string();
    Price { currency: &amount.currency, minor, payee: &amount.payee, fee_minor, tariff_version }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
