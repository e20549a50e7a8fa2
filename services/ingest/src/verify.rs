//! `POST /v1/verify`: the offline verifier, on line, with the keys of this installation.

use access::{Principal, Problem};
use axum::Json;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use proof::Trust;

use crate::door;
use crate::exchange::{no_parameters, read_body};
use crate::state::IngestState;

/// Checks a receipt, a chain (array of receipts) or a bundle. A failed check is an answer, not an error.
#[utoipa::path(
    post,
    path = "/v1/verify",
    tag = "evidence",
    operation_id = "verify",
    security(("api_key" = [])),
    request_body(content = serde_json::Value, description = "a receipt, an array of receipts, or a bundle"),
    responses(
        (status = 200, description = "The verdict", body = crate::openapi::Verdict),
        (status = "4XX", description = "Refused unread", body = crate::openapi::ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn verify(
    State(state): State<IngestState>,
    _principal: Principal,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    no_parameters(query.as_deref())?;
    door::media_type(&headers)?;
    let config = &state.0.config;
    let document = match read_body(&headers, body, config.batch_bytes_max, config.body_timeout).await {
        Ok(document) => document,
        Err(response) => return Ok(*response),
    };
    let Ok(_permit) = state.0.verifying.try_acquire() else {
        return Err(Problem::unavailable("Too much is being verified; nothing was looked at."));
    };
    let ring = state.0.keys.ring();
    let verified =
        tokio::task::spawn_blocking(move || proof::verify(&document, Trust { given: &ring, embedded: false }, &[]));
    match verified.await {
        Ok(verdict) => Ok(Json(verdict).into_response()),
        Err(error) => {
            tracing::error!(%error, "the verifier ended before its time");
            Err(Problem::unavailable("The verifier did not finish."))
        }
    }
}
