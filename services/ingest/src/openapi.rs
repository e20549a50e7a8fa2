//! The OpenAPI document, generated from the handlers and from the shapes below.
//!
//! The shapes describe; they are not what is parsed: the door reads raw members, so that a payload keeps its bytes.

use serde_json::Value;
use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi, ToSchema};

/// This service's part of the document; others are merged into it where they share the listener.
pub fn document() -> Document {
    IngestApi::openapi()
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Countersign",
        description = "An exactly-once exchange pipeline: send a document once, get a countersigned receipt, check it anywhere.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    paths(
        crate::exchange::create,
        crate::batch::create,
        crate::verify::verify,
        crate::http::jwks,
        crate::http::idempotency,
        crate::http::healthz,
        crate::http::readyz,
        crate::pages::error_page,
    ),
    components(schemas(DryRun, ExchangeRequest, Amount, SealedExchange, AcceptedExchange, BatchItem, BatchResult, ProblemDocument,
        ProblemError, Verdict)),
    modifiers(&ApiKeySecurity),
)]
struct IngestApi;

struct ApiKeySecurity;

impl Modify for ApiKeySecurity {
    fn modify(&self, document: &mut Document) {
        let mut scheme = Http::new(HttpAuthScheme::Bearer);
        scheme.bearer_format = Some("csk_...".to_owned());
        scheme.description = Some("An API key, made by `countersign keys create --tenant T`.".to_owned());
        document.components.get_or_insert_default().add_security_scheme("api_key", SecurityScheme::Http(scheme));
    }
}

/// What is to be countersigned. Members that are not listed are refused.
#[derive(serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "described, never built")]
pub(crate) struct ExchangeRequest {
    /// Any I-JSON value: at most 64 containers deep, canonical form at most 256 KiB
    payload: Value,
    /// A payload type that is in force here, with its version; `passthrough` where nothing is to be mapped
    #[schema(default = "passthrough")]
    payload_type: Option<String>,
    /// The mapping's target, where one payload type has several
    target_type: Option<String>,
    /// Ties exchanges to one chain; the exchange's own id where it is missing
    #[schema(pattern = "^[A-Za-z0-9._:-]{1,128}$")]
    trace_id: Option<String>,
    /// The head that the chain must have: a receipt hash, or null for "must be the first hop"; absent: any
    #[schema(pattern = "^sha256:[0-9a-f]{64}$")]
    expected_prev_receipt_hash: Option<String>,
    amount: Option<Amount>,
    /// Where the canonical bytes are delivered: an https URL that the tenant's allowlist names
    forward_url: Option<String>,
}

/// Money that the tenant pays to a payee with this exchange.
#[derive(serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "described, never built")]
pub(crate) struct Amount {
    /// ISO 4217
    #[schema(pattern = "^[A-Z]{3}$", example = "USD")]
    currency: String,
    /// Minor units, an integer as a string, at most 2^63-1
    #[schema(pattern = "^(0|[1-9][0-9]*)$", example = "1250")]
    minor: String,
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", example = "agent-7")]
    payee: String,
}

/// Sealed: everything that follows (delivery, metering, settlement) needs no caller.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described, never built")]
pub(crate) struct SealedExchange {
    exchange_id: String,
    trace_id: String,
    #[schema(example = "sealed")]
    status: String,
    /// The payload as it was countersigned
    normalized: Value,
    /// The countersigned receipt
    receipt: Value,
}

/// What would be admitted. Nothing was stored, and no key was used up.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described, never built")]
pub(crate) struct DryRun {
    #[schema(example = "admissible")]
    status: String,
    /// Null where the request has no idempotency key
    exchange_id: Option<String>,
    /// `payload`, `target`, and the digest of the type's `definition` (null for `passthrough`)
    r#type: Value,
    /// Digest of the payload as received
    request_cid: String,
    /// Digest of the normalized payload
    cid: String,
    /// The payload as it would be countersigned
    normalized: Value,
    /// `allowed`, `reason`, `host`
    policy: Value,
    /// `vex`, `fu`
    usage: Value,
    /// The amount with `fee_minor` (before a discount for the month's volume) and `tariff_version`; null without an amount
    price: Option<Value>,
    /// Strings that would be put right: `pointer`, `rungs`, and digests of what was `received` and what it is `repaired` to
    repairs: Vec<Value>,
}

/// Held by the log and never lost, not decided yet. Send the same key again for the answer.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described, never built")]
pub(crate) struct AcceptedExchange {
    exchange_id: String,
    trace_id: String,
    #[schema(example = "accepted")]
    status: String,
}

/// One exchange of a batch.
#[derive(serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "described, never built")]
pub(crate) struct BatchItem {
    idempotency_key: String,
    exchange: ExchangeRequest,
}

/// What became of one item: the members of a sealed or accepted exchange, or a problem.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described, never built")]
pub(crate) struct BatchResult {
    idempotency_key: Option<String>,
    /// `sealed`, `accepted`, `refused`, or `unknown` (send the same key again)
    status: String,
    /// True where this repeats an earlier answer
    replayed: bool,
    exchange_id: Option<String>,
    trace_id: Option<String>,
    normalized: Option<Value>,
    receipt: Option<Value>,
    problem: Option<ProblemDocument>,
}

/// RFC 9457.
#[derive(ToSchema)]
#[schema(as = Problem)]
#[expect(dead_code, reason = "described, never built")]
pub(crate) struct ProblemDocument {
    /// The page of this code
    r#type: String,
    title: String,
    status: u16,
    detail: String,
    /// The request's id, as in X-Request-ID
    instance: String,
    /// Stable; for programs
    code: String,
    errors: Option<Vec<ProblemError>>,
}

/// One fault inside the request.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described, never built")]
pub(crate) struct ProblemError {
    /// RFC 6901, into the request body
    pointer: String,
    code: String,
    detail: String,
}

/// What verification found.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described, never built")]
pub(crate) struct Verdict {
    /// `ok`, or the first check that failed
    verdict: String,
    /// The receipt that failed; null for what concerns the whole
    index: Option<u32>,
    check: Option<String>,
    detail: Option<String>,
    /// How many receipts were looked at
    receipts: u32,
    /// Where the keys came from
    trusted: Option<String>,
}
