//! What every HTTP edge shares: the request id, and answers in problem+json for what no route takes.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::{self, Next};
use axum::response::Response;
use tracing::Instrument as _;

use crate::{Code, Problem};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const RESPONSE_TIME: HeaderName = HeaderName::from_static("x-response-time");
const REQUEST_ID_BYTES_MAX: usize = 128;

/// The id of one HTTP request, accepted or made; a request extension on every route under [`dress`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(Arc<str>);

impl RequestId {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The caller's own where it is 1 to 128 bytes of visible ASCII, otherwise a new one.
    fn of(headers: &HeaderMap) -> Self {
        let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
        match given {
            Some(given)
                if (1..=REQUEST_ID_BYTES_MAX).contains(&given.len()) && given.bytes().all(|b| b.is_ascii_graphic()) =>
            {
                Self(Arc::from(given))
            }
            _ => Self(Arc::from(format!("req_{:032x}", rand::random::<u128>()))),
        }
    }
}

/// Puts the shared edge around the whole router, after everything was merged into it: request id in and out, response
/// time, problem documents complete with `type` under `base` and `instance`, 404 and 405 as problems.
pub fn dress(router: Router, base: &str) -> Router {
    let base: Arc<str> = Arc::from(base.trim_end_matches('/'));
    router
        .fallback(|| async { Problem::not_found("No resource has this path.") })
        .method_not_allowed_fallback(|| async {
            Problem::new(
                Code::MethodNotAllowed,
                "This resource does not know that method; `Allow` lists those it knows.",
            )
        })
        .layer(middleware::from_fn(move |request, next| finish(base.clone(), request, next)))
}

async fn finish(base: Arc<str>, mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let id = RequestId::of(request.headers());
    request.extensions_mut().insert(id.clone());
    // Whatever is logged on the way says whose request it was.
    let span = tracing::error_span!("request", request_id = id.as_str());
    let mut response = next.run(request).instrument(span).await;
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        tracing::debug!(request_id = id.as_str(), code = problem.code(), "refused");
        // The body again, now complete; every header but the old body's length stays.
        response.headers_mut().remove(CONTENT_LENGTH);
        *response.body_mut() = Body::from(problem.document(&base, Some(id.as_str())).to_string());
        response.extensions_mut().insert(problem);
    }
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    if let Ok(elapsed) = HeaderValue::from_str(&format!("{}ms", begun.elapsed().as_millis())) {
        response.headers_mut().insert(RESPONSE_TIME, elapsed);
    }
    response
}

#[cfg(test)]
mod tests {
    use std::io;

    use axum::http::StatusCode;
    use axum::routing::get;
    use parking_lot::Mutex;
    use tower::ServiceExt as _;

    use super::*;

    /// What was logged.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn every_line_that_a_handler_logs_has_the_request_id() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let _default = tracing::subscriber::set_default(subscriber);
        let handler = || async {
            tokio::task::yield_now().await;
            tracing::warn!("something is amiss");
        };
        let router = dress(Router::new().route("/", get(handler)), "http://localhost");
        let request = Request::get("/").header("x-request-id", "mine-1").body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["x-request-id"], "mine-1");
        let told = String::from_utf8(lines.0.lock().clone()).unwrap();
        assert!(told.contains("something is amiss") && told.contains(r#"request_id="mine-1""#), "{told}");
    }

    #[test]
    fn request_ids_are_accepted_bounded_or_made() {
        let of = |given: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(given) = given {
                headers.insert(REQUEST_ID, given.parse().unwrap());
            }
            RequestId::of(&headers).as_str().to_owned()
        };
        assert_eq!(of(Some("mine-1")), "mine-1");
        for bad in [None, Some(""), Some("a b"), Some(&*"x".repeat(129)), Some("é")] {
            assert!(of(bad).starts_with("req_"), "{bad:?}");
        }
        assert_ne!(of(None), of(None));
    }
}
