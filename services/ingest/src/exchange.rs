//! `POST /v1/exchanges`.

use std::time::Duration;

use access::{Code, Principal, Problem, Scope};
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::json;
use tokio::time::timeout;

use crate::door::{self, Place, Sender};
use crate::dry_run;
use crate::prefer::wait_of;
use crate::state::IngestState;
use crate::submit::Outcome;
use crate::types;

const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const TRUE: HeaderValue = HeaderValue::from_static("true");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// Countersigns one exchange.
#[utoipa::path(
    post,
    path = "/v1/exchanges",
    tag = "exchanges",
    operation_id = "createExchange",
    security(("api_key" = [])),
    params(
        ("dry_run" = Option<bool>, Query, description = "`true`: answer what would be admitted, write nothing, use no key up"),
        ("Idempotency-Key" = String, Header, description = "1 to 255 characters of visible ASCII; also read: X-SIGNET-Idempotency-Key"),
        ("Prefer" = Option<String>, Header, description = "`wait=<seconds>` (default 10, at most 60) or `respond-async`"),
        ("X-Request-ID" = Option<String>, Header, description = "echoed; made where it is missing"),
        ("traceparent" = Option<String>, Header, description = "W3C trace context, carried to everything that follows"),
    ),
    request_body = crate::openapi::ExchangeRequest,
    responses(
        (status = 200, description = "With `dry_run=true`: what would be admitted", body = crate::openapi::DryRun),
        (status = 201, description = "Sealed: the receipt is committed", body = crate::openapi::SealedExchange,
         headers(("Location" = String), ("Idempotent-Replayed" = String, description = "`true` where this repeats an earlier answer"))),
        (status = 202, description = "Accepted, not decided within the wait", body = crate::openapi::AcceptedExchange,
         headers(("Location" = String))),
        (status = "4XX", description = "Refused", body = crate::openapi::ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "Nothing was accepted, or acceptance is unknown: retry with the same key",
         body = crate::openapi::ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = String))),
    )
)]
pub(crate) async fn create(
    State(state): State<IngestState>,
    principal: Principal,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    principal.require(Scope::ExchangeWrite)?;
    let is_dry_run = dry_run::is_asked(query.as_deref())?;
    door::media_type(&headers)?;
    let idempotency_key = door::idempotency_key(&headers);
    if !is_dry_run {
        // Before the body is read: a request without a key is refused cheaply.
        idempotency_key.as_ref().map_err(Problem::clone)?;
    }
    let config = &state.0.config;
    let body = match read_body(&headers, body, config.body_bytes_max, config.body_timeout).await {
        Ok(body) => body,
        Err(response) => return Ok(*response),
    };
    if is_dry_run {
        return dry_run::answer(&state, principal.tenant, &headers, &body).await;
    }
    let sender = Sender { idempotency_key: idempotency_key?, tenant: principal.tenant };
    let admissible = door::exchange(&sender, &body, Place::default(), &config.payload)?;
    types::known(&state.0.directory, &admissible.request)?;
    drop(body);
    let submitted = state.0.submit(admissible, traceparent(&headers))?;
    state.0.outcome(submitted, wait_of(&headers, config)).await.map(respond)
}

/// A parameter that is passed over could mean money: `dry_run=true` must not seal a batch.
pub(crate) fn no_parameters(query: Option<&str>) -> Result<(), Problem> {
    match query {
        None | Some("") => Ok(()),
        Some(_) => Err(Problem::invalid_parameter("This request takes no query parameters.")),
    }
}

/// The whole body, bounded in size and time. What fails closes the connection: the rest of the body is not wanted.
pub(crate) async fn read_body(
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
    within: Duration,
) -> Result<Bytes, Box<Response>> {
    let too_large = || Problem::new(Code::PayloadTooLarge, format!("The body may have at most {bytes_max} bytes."));
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let problem = if announced.is_some_and(|length| length > bytes_max) {
        too_large()
    } else {
        match timeout(within, Limited::new(body, bytes_max).collect()).await {
            Ok(Ok(body)) => return Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => too_large(),
            Ok(Err(_)) => Problem::new(Code::MalformedJson, "The body broke off."),
            Err(_) => Problem::new(
                Code::RequestTimeout,
                format!("The body did not arrive within {} s.", within.as_secs_f32()),
            ),
        }
    };
    let mut response = problem.into_response();
    response.headers_mut().insert(header::CONNECTION, CLOSE);
    Err(Box::new(response))
}

/// The trace context, where it is one: nothing else of the client's is carried on unchecked.
pub(crate) fn traceparent(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(event::envelope::TRACEPARENT)?.to_str().ok()?;
    let parts: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    let is_hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'));
    (lengths == [2, 32, 16, 2] && is_hex).then_some(text)
}

pub(crate) fn location(exchange_id: &str) -> String {
    format!("/v1/exchanges/{exchange_id}")
}

fn respond(outcome: Outcome) -> Response {
    match outcome {
        Outcome::Sealed { exchange_id, replayed, body } => {
            let headers = [(header::LOCATION, location(&exchange_id))];
            let mut response = (StatusCode::CREATED, headers, body).into_response();
            response.headers_mut().insert(header::CONTENT_TYPE, JSON);
            mark(response, replayed)
        }
        Outcome::Refused { replayed, problem } => mark(problem.into_response(), replayed),
        Outcome::Accepted { exchange_id, trace_id } => {
            let headers = [(header::LOCATION, location(exchange_id.as_str()))];
            let body = json!({"exchange_id": exchange_id, "trace_id": trace_id, "status": "accepted"});
            (StatusCode::ACCEPTED, headers, axum::Json(body)).into_response()
        }
    }
}

fn mark(mut response: Response, replayed: bool) -> Response {
    if replayed {
        response.headers_mut().insert(REPLAYED, TRUE);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_trace_context_is_carried_on() {
        let mut headers = HeaderMap::new();
        assert_eq!(traceparent(&headers), None);
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        headers.insert("traceparent", good.parse().unwrap());
        assert_eq!(traceparent(&headers), Some(good));
        for bad in ["00-4bf9-00f0-01", "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", "x"] {
            headers.insert("traceparent", bad.parse().unwrap());
            assert_eq!(traceparent(&headers), None, "{bad}");
        }
    }
}
