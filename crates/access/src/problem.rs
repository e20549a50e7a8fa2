//! Every refusal over HTTP: RFC 9457 `application/problem+json` with a stable code (docs/contracts/http.md, "Errors").
//!
//! One table says what each code's status and title are; `docs/runbook/errors/` has a page for each.

use std::borrow::Cow;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

macro_rules! codes {
    ($($code:ident $text:literal $status:literal $title:literal;)*) => {
        /// A stable code of a refusal.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $($code),* }

        impl Code {
            pub const ALL: &'static [Self] = &[$(Self::$code),*];

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$code => $text),* }
            }

            /// HTTP status.
            pub const fn status(self) -> u16 {
                match self { $(Self::$code => $status),* }
            }

            pub const fn title(self) -> &'static str {
                match self { $(Self::$code => $title),* }
            }
        }
    };
}

codes! {
    MalformedJson "malformed_json" 400 "The body is not JSON";
    IdempotencyKeyMissing "idempotency_key_missing" 400 "An idempotency key is required";
    IdempotencyKeyInvalid "idempotency_key_invalid" 400 "The idempotency key is not valid";
    InvalidParameter "invalid_parameter" 400 "A parameter is not valid";
    Unauthenticated "unauthenticated" 401 "A valid API key is required";
    InsufficientCredits "insufficient_credits" 402 "The account has too few credits";
    MissingScope "missing_scope" 403 "The API key lacks a scope";
    DestinationDenied "destination_denied" 403 "The destination is not allowed";
    NotFound "not_found" 404 "There is nothing here";
    MethodNotAllowed "method_not_allowed" 405 "The method is not allowed here";
    RequestTimeout "request_timeout" 408 "The request did not arrive in time";
    ChainConflict "chain_conflict" 409 "The chain's head is not the one expected";
    HeadExpired "head_expired" 409 "The chain of the expected head is closed";
    PayloadTooLarge "payload_too_large" 413 "The request is too large";
    UnsupportedMediaType "unsupported_media_type" 415 "The body must be application/json";
    InvalidRequest "invalid_request" 422 "The request is not valid";
    NotIJson "not_i_json" 422 "The payload is not I-JSON";
    PayloadTooDeep "payload_too_deep" 422 "The payload is nested too deeply";
    UnknownPayloadType "unknown_payload_type" 422 "The payload type is not known";
    SchemaViolation "schema_violation" 422 "The payload does not match its schema";
    MappingFailed "mapping_failed" 422 "The payload could not be mapped";
    InvariantBroken "invariant_broken" 422 "The mapped payload breaks an invariant";
    IdempotencyKeyReused "idempotency_key_reused" 422 "The idempotency key was used for another request";
    RateLimited "rate_limited" 429 "Too many requests";
    QuotaExceeded "quota_exceeded" 429 "The quota is used up";
    Unavailable "unavailable" 503 "The service cannot take this now";
}

impl Code {
    /// The code of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text)
    }
}

/// One fault inside a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldError {
    /// RFC 6901, into the request body.
    pub pointer: String,
    pub code: Cow<'static, str>,
    pub detail: String,
}

/// A refusal on its way to the client. Boxed: it is the error of almost every function of an edge.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem(Box<Parts>);

#[derive(Clone, Debug, PartialEq)]
struct Parts {
    code: Cow<'static, str>,
    status: StatusCode,
    title: Cow<'static, str>,
    detail: String,
    errors: Vec<FieldError>,
    extra: Map<String, Value>,
    retry_after_s: Option<u32>,
}

impl Problem {
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            code: Cow::Borrowed(code.as_str()),
            status: StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            title: Cow::Borrowed(code.title()),
            detail: detail.into(),
            errors: Vec::new(),
            extra: Map::new(),
            retry_after_s: None,
        }))
    }

    /// `503 unavailable` with `Retry-After`: nothing was accepted, or acceptance is unknown.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(Code::Unavailable, detail).retry_after(1)
    }

    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(Code::NotFound, detail)
    }

    /// `400 invalid_parameter` about a header or query parameter.
    pub fn invalid_parameter(detail: impl Into<String>) -> Self {
        Self::new(Code::InvalidParameter, detail)
    }

    /// The refusal that a step decided, from `{detail, errors, ...}`. A code of a later version keeps its own name.
    pub fn decided(status: u16, code: &str, body: Map<String, Value>) -> Self {
        let mut body = body;
        let known = Code::parse(code);
        let status =
            StatusCode::from_u16(status).ok().filter(|status| status.is_client_error() || status.is_server_error());
        let status = status.unwrap_or(StatusCode::UNPROCESSABLE_ENTITY);
        let title = match known {
            Some(known) => Cow::Borrowed(known.title()),
            None => Cow::Borrowed(status.canonical_reason().unwrap_or("Refused")),
        };
        let detail = match body.remove("detail") {
            Some(Value::String(detail)) => detail,
            _ => title.clone().into_owned(),
        };
        let errors = body.remove("errors").and_then(|errors| serde_json::from_value(errors).ok()).unwrap_or_default();
        for reserved in ["type", "title", "status", "code", "instance"] {
            body.remove(reserved);
        }
        Self(Box::new(Parts {
            code: Cow::Owned(code.to_owned()),
            status,
            title,
            detail,
            errors,
            extra: body,
            retry_after_s: None,
        }))
    }

    pub fn error(
        mut self,
        pointer: impl Into<String>,
        code: impl Into<Cow<'static, str>>,
        detail: impl Into<String>,
    ) -> Self {
        self.0.errors.push(FieldError { pointer: pointer.into(), code: code.into(), detail: detail.into() });
        self
    }

    /// The same, where what it speaks of lies at this pointer of the request body.
    pub fn under(mut self, prefix: &str) -> Self {
        for error in &mut self.0.errors {
            error.pointer.insert_str(0, prefix);
        }
        self
    }

    /// One more member, for programs: the head that was found, the digests that differ.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.extra.insert(name.to_owned(), value.into());
        self
    }

    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.0.retry_after_s = Some(seconds);
        self
    }

    pub fn code(&self) -> &str {
        &self.0.code
    }

    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    pub fn errors(&self) -> &[FieldError] {
        &self.0.errors
    }

    /// The document. `base` stands before `/errors/<code>`; `instance` is the request id.
    pub fn document(&self, base: &str, instance: Option<&str>) -> Value {
        let mut document = Map::new();
        document.insert("type".into(), format!("{base}/errors/{}", self.0.code).into());
        document.insert("title".into(), self.0.title.as_ref().into());
        document.insert("status".into(), self.0.status.as_u16().into());
        document.insert("detail".into(), self.0.detail.as_str().into());
        if let Some(instance) = instance {
            document.insert("instance".into(), instance.into());
        }
        document.insert("code".into(), self.0.code.as_ref().into());
        if !self.0.errors.is_empty() {
            document.insert("errors".into(), serde_json::to_value(&self.0.errors).unwrap_or_default());
        }
        for (name, value) in &self.0.extra {
            document.insert(name.clone(), value.clone());
        }
        Value::Object(document)
    }
}

/// Complete but for base and request id, which `edge::dress` adds: it finds the problem among the extensions.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
        const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
        const BEARER: HeaderValue = HeaderValue::from_static("Bearer");
        let body = self.document("", None).to_string();
        let headers: [(HeaderName, HeaderValue); 2] =
            [(header::CONTENT_TYPE, PROBLEM_JSON), (header::CACHE_CONTROL, NO_STORE)];
        let mut response = (self.0.status, headers, body).into_response();
        if let Some(seconds) = self.0.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.0.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, BEARER);
        }
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_back_and_has_an_error_status() {
        for code in Code::ALL {
            assert_eq!(Code::parse(code.as_str()), Some(*code));
            assert!((400..600).contains(&code.status()), "{code:?}");
        }
        assert_eq!(Code::parse("teapot"), None);
    }

    #[test]
    fn a_problem_says_everything_that_rfc_9457_and_the_contract_want() {
        let problem = Problem::new(Code::InvalidRequest, "The request has a member that is not known.")
            .error("/amuont", "unknown_member", "`amuont` is not a member of an exchange")
            .with("hint", "amount");
        assert_eq!(
            problem.document("https://x.example", Some("req-1")),
            serde_json::json!({
                "type": "https://x.example/errors/invalid_request",
                "title": "The request is not valid",
                "status": 422,
                "detail": "The request has a member that is not known.",
                "instance": "req-1",
                "code": "invalid_request",
                "errors": [{"pointer": "/amuont", "code": "unknown_member", "detail": "`amuont` is not a member of an exchange"}],
                "hint": "amount",
            })
        );
    }

    #[test]
    fn a_decided_refusal_keeps_its_members_and_cannot_overwrite_the_problems_own() {
        let body = serde_json::json!({"detail": "d", "errors": [], "head": "sha256:00", "status": 200, "code": "x"});
        let Value::Object(body) = body else { panic!() };
        let problem = Problem::decided(409, "chain_conflict", body);
        let document = problem.document("", None);
        assert_eq!(document["status"], 409);
        assert_eq!(document["code"], "chain_conflict");
        assert_eq!(document["head"], "sha256:00");
        assert_eq!(document["detail"], "d");
    }

    #[test]
    fn a_code_of_a_later_version_is_passed_on() {
        let problem = Problem::decided(422, "brand_new", Map::new());
        assert_eq!(problem.document("", None)["code"], "brand_new");
        assert_eq!(problem.status(), StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(Problem::decided(200, "brand_new", Map::new()).status(), StatusCode::UNPROCESSABLE_ENTITY);
    }
}
