//! Why an exchange is refused: status, code, and the place in the request body (docs/contracts/http.md, Errors).

use serde_json::{Value, json};

/// Of a string that is no JSON, where its tenant allows no repair.
pub(crate) const REPAIR_NOT_ALLOWED: &str = "repair_not_allowed";

/// A refusal: before acceptance it costs nothing, after acceptance it is the answer of that exchange for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: i32,
    pub code: String,
    pub detail: String,
    pub errors: Vec<FieldError>,
}

/// One fault, by its place in the request body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    pub pointer: String,
    pub code: String,
    pub detail: String,
}

impl Refusal {
    /// One fault.
    pub fn at(status: i32, code: &str, pointer: &str, fault: &str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let error = FieldError { pointer: pointer.to_owned(), code: fault.to_owned(), detail: detail.clone() };
        Self { status, code: code.to_owned(), detail, errors: vec![error] }
    }

    /// Several faults of one kind; the first is the detail.
    pub(crate) fn of(status: i32, code: &str, errors: Vec<FieldError>) -> Self {
        let detail = errors.first().map_or_else(String::new, |first| first.detail.clone());
        Self { status, code: code.to_owned(), detail, errors }
    }

    /// Whether newer configuration could decide otherwise: an allowlist, a type, a repair that is allowed now.
    ///
    /// Whoever asks reads the configuration up to now before it refuses, which is a round trip to the log: no payload
    /// may bring that about by what is in it.
    pub fn depends_on_configuration(&self) -> bool {
        matches!(self.code.as_str(), "destination_denied" | "unknown_payload_type")
            || self.errors.iter().any(|error| matches!(error.code.as_str(), "unknown_target_type" | REPAIR_NOT_ALLOWED))
    }

    pub fn errors_json(&self) -> Value {
        self.errors
            .iter()
            .map(|error| json!({"pointer": error.pointer, "code": error.code, "detail": error.detail}))
            .collect()
    }

    /// The part of the problem that does not depend on who asks.
    pub fn body(&self) -> String {
        json!({"detail": self.detail, "errors": self.errors_json()}).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_configured_can_be_decided_otherwise() {
        for (code, fault, expected) in [
            ("destination_denied", "not_allowlisted", true),
            ("unknown_payload_type", "unknown_payload_type", true),
            ("invalid_request", "unknown_target_type", true),
            ("mapping_failed", REPAIR_NOT_ALLOWED, true),
            ("mapping_failed", "malformed", false),
            ("invalid_request", "missing_target_type", false),
            ("invariant_broken", "id_changed", false),
        ] {
            let refusal = Refusal::at(422, code, "/payload", fault, "");
            assert_eq!(refusal.depends_on_configuration(), expected, "{code} {fault}");
        }
    }
}
