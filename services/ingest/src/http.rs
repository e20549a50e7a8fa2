//! The routes of ingest.
//!
//! Bare routes: the binary merges other services' routers with them and puts `access::edge::dress` around the whole.

use access::Problem;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::time::Instant;

use crate::state::IngestState;
use crate::{batch, exchange, metrics, pages, verify};

/// Everything that ingest answers. Paths and methods are disjoint from those of view.
pub fn router(state: IngestState) -> Router {
    Router::new()
        .route("/v1/exchanges", post(exchange::create))
        .route("/v1/exchanges/batch", post(batch::create))
        .route("/v1/verify", post(verify::verify))
        .route("/v1/idempotency", get(idempotency))
        .route("/.well-known/jwks.json", get(jwks))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/openapi.json", get(openapi))
        .route("/docs", get(pages::docs))
        .route("/errors", get(pages::error_index))
        .route("/errors/{code}", get(pages::error_page))
        .layer(middleware::from_fn(count))
        // Bodies are bounded where they are read, by what is read.
        .layer(DefaultBodyLimit::disable())
        .with_state(state)
}

/// Every public key that may still be needed.
#[utoipa::path(get, path = "/.well-known/jwks.json", tag = "evidence", operation_id = "getKeys",
    responses((status = 200, description = "RFC 7517", body = serde_json::Value)))]
pub(crate) async fn jwks(State(state): State<IngestState>) -> Response {
    let headers = [(header::CACHE_CONTROL, "public, max-age=60"), (header::CONTENT_TYPE, "application/json")];
    (headers, state.0.keys.ring().to_jwks()).into_response()
}

/// What an idempotency key means here.
#[utoipa::path(get, path = "/v1/idempotency", tag = "exchanges", operation_id = "getIdempotency",
    responses((status = 200, description = "Scope, window and conflict rules", body = serde_json::Value)))]
pub(crate) async fn idempotency(State(state): State<IngestState>) -> Json<Value> {
    let window = match state.0.config.dedup_window {
        Some(window) => json!({"seconds": window.as_secs(), "days": window.as_secs() / 86_400, "forever": false}),
        None => json!({"seconds": null, "days": null, "forever": true}),
    };
    Json(json!({
        "required": true,
        "headers": ["Idempotency-Key", "X-SIGNET-Idempotency-Key"],
        "key": "1 to 255 characters of visible ASCII (0x21 to 0x7E)",
        "scope": ["tenant", "idempotency_key"],
        "window": window,
        "fingerprint": "SHA-256 of JCS({payload_type, target_type, payload, amount, forward_url}), absent members as null",
        "same_body": "the original status and body, with Idempotent-Replayed: true, also while the first is in flight",
        "other_body": {"status": 422, "code": "idempotency_key_reused"},
        "not_used_up_by": ["400", "401", "403 missing_scope", "413", "415", "429", "422 invalid_request",
            "422 not_i_json", "422 payload_too_deep", "422 unknown_payload_type"],
        "after_5xx_or_a_broken_connection": "unknown; sending the same key again is always safe",
        "priced_after_the_window": "a repeated key with an amount is parked, not paid",
    }))
}

/// The process lives.
#[utoipa::path(get, path = "/healthz", tag = "operations", operation_id = "getHealth",
    responses((status = 200, description = "The process lives", body = serde_json::Value)))]
pub(crate) async fn healthz() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// Whether work can be accepted; names what is missing.
#[utoipa::path(get, path = "/readyz", tag = "operations", operation_id = "getReadiness",
    responses((status = 200, description = "Ready", body = serde_json::Value),
        (status = 503, description = "Not ready; `missing` says why", body = serde_json::Value)))]
pub(crate) async fn readyz(State(state): State<IngestState>) -> Response {
    let missing = state.missing();
    if missing.is_empty() {
        return Json(json!({"status": "ready", "missing": []})).into_response();
    }
    let headers = [(header::RETRY_AFTER, "1")];
    (StatusCode::SERVICE_UNAVAILABLE, headers, Json(json!({"status": "not_ready", "missing": missing}))).into_response()
}

async fn openapi(State(state): State<IngestState>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], state.0.openapi.clone()).into_response()
}

async fn count(request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let response = next.run(request).await;
    let code = response.extensions().get::<Problem>().map_or("ok", Problem::code).to_owned();
    let status = response.status().as_u16().to_string();
    ::metrics::counter!(metrics::REQUESTS, "status" => status, "code" => code).increment(1);
    ::metrics::histogram!(metrics::REQUEST_SECONDS).record(begun.elapsed());
    response
}

#[cfg(test)]
pub(crate) mod tests;
