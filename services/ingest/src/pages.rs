//! Pages for people: the API's documentation and a page for every error code, all compiled in.

use access::{Code, Problem};
use axum::extract::Path;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};

mod markdown;

const DOCS: &str = include_str!("pages/docs.html");

macro_rules! pages {
    ($($code:literal),* $(,)?) => {
        /// Code and text of every page.
        const ERRORS: &[(&str, &str)] =
            &[$(($code, include_str!(concat!("../../../docs/runbook/errors/", $code, ".md")))),*];
    };
}

pages![
    "malformed_json",
    "idempotency_key_missing",
    "idempotency_key_invalid",
    "invalid_parameter",
    "unauthenticated",
    "insufficient_credits",
    "missing_scope",
    "destination_denied",
    "not_found",
    "method_not_allowed",
    "request_timeout",
    "chain_conflict",
    "head_expired",
    "payload_too_large",
    "unsupported_media_type",
    "invalid_request",
    "not_i_json",
    "payload_too_deep",
    "unknown_payload_type",
    "schema_violation",
    "mapping_failed",
    "invariant_broken",
    "idempotency_key_reused",
    "rate_limited",
    "quota_exceeded",
    "unavailable",
];

/// Renders `/openapi.json` in the browser; nothing is loaded from anywhere else.
pub(crate) async fn docs() -> Response {
    html(
        DOCS.to_owned(),
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'",
    )
}

/// What an error code means and what to do.
#[utoipa::path(get, path = "/errors/{code}", tag = "operations", operation_id = "getErrorPage",
    params(("code" = String, Path, description = "a problem's `code`")),
    responses((status = 200, description = "The page", body = String, content_type = "text/html"),
        (status = 404, description = "No such code", body = crate::openapi::ProblemDocument, content_type = "application/problem+json")))]
pub(crate) async fn error_page(Path(code): Path<String>) -> Result<Response, Problem> {
    let found = ERRORS.iter().find(|(known, _)| *known == code);
    let (code, text) = found.ok_or_else(|| Problem::not_found("There is no error code of that name."))?;
    Ok(page(code, &markdown::to_html(text)))
}

/// All codes.
pub(crate) async fn error_index() -> Response {
    let mut text = String::from("# Error codes\n\n");
    for code in Code::ALL {
        text.push_str(&format!("- `{}` ({}): {}\n", code.as_str(), code.status(), code.title()));
    }
    page("Error codes", &markdown::to_html(&text))
}

fn page(title: &str, content: &str) -> Response {
    const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:2rem auto;padding:0 1rem}\
        code,pre{background:#8881;border-radius:3px;padding:.1em .3em}pre{padding:.6em;overflow:auto}pre code{padding:0;background:none}";
    let document = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style></head><body>{content}</body></html>"
    );
    html(document, "default-src 'none'; style-src 'unsafe-inline'")
}

fn html(document: String, policy: &'static str) -> Response {
    const SECURITY_POLICY: HeaderName = header::CONTENT_SECURITY_POLICY;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (SECURITY_POLICY, HeaderValue::from_static(policy)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (headers, document).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_page_that_names_it_and_says_what_to_do() {
        for code in Code::ALL {
            let page = ERRORS.iter().find(|(known, _)| *known == code.as_str());
            let (_, text) = page.unwrap_or_else(|| panic!("no page for {}", code.as_str()));
            let heading = format!("# {} ({})\n", code.as_str(), code.status());
            assert!(text.starts_with(&heading), "{}: begins with {:?}", code.as_str(), text.lines().next());
            for section in ["## What it means", "## What to do"] {
                assert!(text.contains(section), "{}: {section}", code.as_str());
            }
        }
        assert_eq!(ERRORS.len(), Code::ALL.len());
    }

    #[test]
    fn the_documentation_loads_nothing_from_elsewhere() {
        for foreign in ["http://", "https://", "src=", "@import"] {
            assert!(!DOCS.contains(foreign), "{foreign}");
        }
    }
}
