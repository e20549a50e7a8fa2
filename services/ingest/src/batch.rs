//! `POST /v1/exchanges/batch`: many exchanges in one request, each decided by itself.

use std::time::Duration;

use access::{Code, Principal, Problem, RequestId, Scope};
use axum::body::Body;
use axum::extract::{Extension, RawQuery, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::door::{self, ItemRules, Place};
use crate::exchange::{no_parameters, read_body, traceparent};
use crate::prefer::wait_of;
use crate::state::IngestState;
use crate::submit::{Outcome, Submitted};
use crate::types;

/// How far an item has come.
enum Stage {
    Refused(Problem),
    Submitted(Box<Submitted>),
}

/// Countersigns up to 500 exchanges; one bad item fails alone.
#[utoipa::path(
    post,
    path = "/v1/exchanges/batch",
    tag = "exchanges",
    operation_id = "createExchanges",
    security(("api_key" = [])),
    params(("Prefer" = Option<String>, Header, description = "`wait=<seconds>` or `respond-async`, for all items together")),
    request_body = Vec<crate::openapi::BatchItem>,
    responses(
        (status = 200, description = "One result each, in order", body = Vec<crate::openapi::BatchResult>),
        (status = "4XX", description = "The batch as a whole could not be read", body = crate::openapi::ProblemDocument,
         content_type = "application/problem+json"),
    )
)]
pub(crate) async fn create(
    State(state): State<IngestState>,
    Extension(request_id): Extension<RequestId>,
    principal: Principal,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    principal.require(Scope::ExchangeWrite)?;
    no_parameters(query.as_deref())?;
    door::media_type(&headers)?;
    let config = &state.0.config;
    let body = match read_body(&headers, body, config.batch_bytes_max, config.body_timeout).await {
        Ok(body) => body,
        Err(response) => return Ok(*response),
    };
    let items = delimit(&body, config.batch_items_max)?;
    let traceparent = traceparent(&headers);
    let rules = ItemRules { tenant: &principal.tenant, body_bytes_max: config.body_bytes_max, limits: &config.payload };
    let mut under_way = Vec::with_capacity(items.len());
    for (index, (offset, item)) in items.into_iter().enumerate() {
        let (name, read) = door::item(item, Place { pointer: &format!("/{index}"), offset }, rules);
        let known = read.and_then(|admissible| {
            let known = types::known(&state.0.directory, &admissible.request);
            known.map(|_| admissible).map_err(|problem| problem.under(&format!("/{index}/exchange")))
        });
        let stage = match known.and_then(|admissible| state.0.submit(admissible, traceparent)) {
            Ok(submitted) => Stage::Submitted(Box::new(submitted)),
            Err(problem) => Stage::Refused(problem),
        };
        under_way.push((name, stage));
    }
    drop(body);
    let wait = wait_of(&headers, config);
    let results = finish(&state, under_way, wait, &request_id).await;
    Ok(([(header::CONTENT_TYPE, "application/json")], results).into_response())
}

/// The items as they came. What is no JSON at all cannot be told apart and fails as a whole.
fn delimit(body: &[u8], items_max: usize) -> Result<Vec<(usize, &[u8])>, Problem> {
    let items = door::items(body)?;
    if items.len() > items_max {
        let detail = format!("A batch may have at most {items_max} items; this one has {}.", items.len());
        return Err(Problem::new(Code::InvalidRequest, detail.clone()).error("", "too_many_items", detail));
    }
    Ok(items)
}

/// Awaits every item, all within the same wait, and writes the array of results.
async fn finish(
    state: &IngestState,
    under_way: Vec<(Option<String>, Stage)>,
    wait: Duration,
    request_id: &RequestId,
) -> Vec<u8> {
    let mut results = vec![b'['];
    // All wait at once: an item's time runs from when it was submitted, whatever is looked at first.
    for (index, (name, stage)) in under_way.into_iter().enumerate() {
        if index > 0 {
            results.push(b',');
        }
        let outcome = match stage {
            Stage::Refused(problem) => Err(problem),
            // What was decided later speaks of the exchange alone; its pointers are to lead into this body, too.
            Stage::Submitted(submitted) => match state.0.outcome(*submitted, wait).await {
                Ok(Outcome::Refused { replayed, problem }) => {
                    Ok(Outcome::Refused { replayed, problem: problem.under(&format!("/{index}/exchange")) })
                }
                outcome => outcome,
            },
        };
        write_result(state, name.as_deref(), outcome, request_id, &mut results);
    }
    results.push(b']');
    results
}

fn write_result(
    state: &IngestState,
    name: Option<&str>,
    outcome: Result<Outcome, Problem>,
    request_id: &RequestId,
    results: &mut Vec<u8>,
) {
    let refused = |problem: Problem, replayed: bool| {
        let status = if problem.status().is_server_error() { "unknown" } else { "refused" };
        let document = problem.document(state.0.config.base_url.trim_end_matches('/'), Some(request_id.as_str()));
        json!({"idempotency_key": name, "status": status, "replayed": replayed, "problem": document})
    };
    let value: Value = match outcome {
        // The sealed body is written through as it is; its first byte is the brace of an object.
        Ok(Outcome::Sealed { replayed, body, .. }) if body.first() == Some(&b'{') && body.len() > 2 => {
            let head = format!("{{\"idempotency_key\":{},\"replayed\":{replayed},", json!(name));
            results.extend_from_slice(head.as_bytes());
            results.extend_from_slice(body.get(1..).unwrap_or_default());
            return;
        }
        Ok(Outcome::Sealed { exchange_id, replayed, .. }) => {
            json!({"idempotency_key": name, "replayed": replayed, "exchange_id": exchange_id, "status": "sealed"})
        }
        Ok(Outcome::Accepted { exchange_id, trace_id }) => json!({
            "idempotency_key": name, "replayed": false,
            "exchange_id": exchange_id, "trace_id": trace_id, "status": "accepted",
        }),
        Ok(Outcome::Refused { replayed, problem }) => refused(problem, replayed),
        Err(problem) => refused(problem, false),
    };
    results.extend_from_slice(value.to_string().as_bytes());
}
