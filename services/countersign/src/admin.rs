//! The admin address: health, readiness, metrics, and what operators ask of the process that holds the log.
//!
//! It is for operators and asks for no key: it listens on the loopback address unless told otherwise, and whoever opens it
//! to a network guards it there. What changes something takes a JSON body, which no web page can send here unasked.
//!
//! Each question is one function in a module below, for the address and for the command alike.

pub(crate) mod books;
pub(crate) mod dead;
mod lines;
pub(crate) mod model;
pub(crate) mod print;
mod reading;
pub(crate) mod topics;
pub(crate) mod why;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use log::{Fault, Topic};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use view::View;

use crate::cli::Place;
use crate::client::AdminClient;
use crate::config::Overrides;
use crate::failure::Failure;
use crate::roles::chain;
use crate::substrate::{Substrate, configure};

/// Histograms are folded this often, whether anybody scrapes them or not.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Something that must hold before work can be accepted; the error says what is missing.
type Ready = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What the admin address answers from.
pub(crate) struct AdminState {
    pub(crate) substrate: Arc<Substrate>,
    pub(crate) metrics: PrometheusHandle,
    /// The read model, where this process fills one.
    pub(crate) view: Option<View>,
    readiness: Vec<(&'static str, Ready)>,
    /// One replay of dead letters at a time: each looks first what was replayed already.
    replay: Mutex<()>,
}

impl AdminState {
    /// Ready as soon as the log answers; `check` adds what else must hold.
    pub(crate) fn new(substrate: Arc<Substrate>, metrics: PrometheusHandle) -> Self {
        let log = Arc::clone(&substrate.log);
        let mut state = Self { substrate, metrics, view: None, readiness: Vec::new(), replay: Mutex::new(()) };
        let requested = Topic::new(event::topic::REQUESTED);
        state.check("log", move || log.ends(&requested).map(drop).map_err(|fault| chain(&fault)));
        state
    }

    /// One more thing that `/readyz` asks for.
    pub(crate) fn check(&mut self, name: &'static str, ready: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        self.readiness.push((name, Box::new(ready)));
    }
}

/// What could not be answered: told over HTTP and on the command line alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trouble {
    #[serde(skip, default = "failed")]
    status: u16,
    pub(crate) error: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    because: String,
    #[serde(default, rename = "try", skip_serializing_if = "String::is_empty")]
    advice: String,
}

fn failed() -> u16 {
    StatusCode::INTERNAL_SERVER_ERROR.as_u16()
}

impl Trouble {
    pub(crate) fn new(error: impl Into<String>) -> Self {
        Self { status: failed(), error: error.into(), because: String::new(), advice: String::new() }
    }

    /// There is nothing of that name.
    pub(crate) fn not_found(error: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND.as_u16(), ..Self::new(error) }
    }

    /// The question itself is wrong.
    pub(crate) fn bad_question(error: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST.as_u16(), ..Self::new(error) }
    }

    /// The question cannot be read.
    fn of(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status: status.as_u16(), ..Self::new(error) }
    }

    /// What is there does not allow it.
    pub(crate) fn conflict(error: impl Into<String>) -> Self {
        Self { status: StatusCode::CONFLICT.as_u16(), ..Self::new(error) }
    }

    pub(crate) fn because(mut self, cause: &(dyn std::error::Error + 'static)) -> Self {
        self.because = chain(cause);
        self
    }

    pub(crate) fn try_this(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)
    }
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::new("the log cannot be read").because(&fault)
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        let mut failure = Failure::new(trouble.error);
        if !trouble.because.is_empty() {
            failure = failure.because(trouble.because);
        }
        if trouble.advice.is_empty() { failure } else { failure.try_this(trouble.advice) }
    }
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(self)).into_response()
    }
}

/// Who answers a command: the process that runs in the data directory, or the command itself.
pub(crate) enum Reach {
    Beside(AdminClient),
    Here(Box<Substrate>),
}

impl Reach {
    /// Finds out; the log is opened only where no process holds it.
    pub(crate) fn find(place: &Place) -> Result<Self, Failure> {
        let overrides = Overrides { profile: place.profile, ..Overrides::default() };
        let (config, data) = configure(place, &overrides)?;
        match data.running() {
            Some(run) => AdminClient::new(run.admin).map(Self::Beside),
            None => Substrate::with(config, data).map(|substrate| Self::Here(Box::new(substrate))),
        }
    }
}

/// Everything that the admin address serves. Call within the runtime that will serve it. Paths and methods that it does
/// not have are told as problems, like those of the API.
pub(crate) fn router(state: AdminState) -> Router {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        let metrics = state.metrics.clone();
        runtime.spawn(async move {
            loop {
                tokio::time::sleep(UPKEEP_EVERY).await;
                metrics.run_upkeep();
            }
        });
    }
    let base = state.substrate.config.base_url();
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/admin/topics", get(check_topics).post(apply_topics))
        .route("/admin/why/{exchange_id}", get(why))
        .route("/admin/dead", get(list_dead))
        .route("/admin/dead/{letter}", get(show_dead))
        .route("/admin/dead/replay", post(replay_dead))
        .route("/admin/audit/report", get(audit_report))
        .route("/admin/audit/cut-now", post(cut_now))
        .route("/admin/view/rebuild", post(rebuild_view))
        .with_state(Arc::new(state));
    access::edge::dress(router, &base)
}

type Admin = State<Arc<AdminState>>;
type Answer<T> = Result<Json<T>, Trouble>;

/// A body that asks for nothing in particular.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// The body of a request; what is none is told as everything else is.
struct Asked<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Asked<T> {
    type Rejection = Trouble;

    async fn from_request(request: Request, state: &S) -> Result<Self, Trouble> {
        match Json::from_request(request, state).await {
            Ok(Json(asked)) => Ok(Self(asked)),
            Err(rejection) => Err(Trouble::of(rejection.status(), rejection.body_text())),
        }
    }
}

/// Reads and writes of the log block: they have threads of their own.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Trouble> + Send + 'static) -> Answer<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map(Json),
        Err(error) => Err(Trouble::new("the work was cut short").because(&error)),
    }
}

async fn healthz() -> Json<serde_json::Value> {
    Json(serde_json::json!({"status": "ok"}))
}

async fn readyz(State(state): Admin) -> Response {
    let looked = tokio::task::spawn_blocking(move || {
        let missing = |(name, ready): &(&'static str, Ready)| ready().err().map(|detail| (*name, detail));
        state.readiness.iter().filter_map(missing).collect::<Vec<_>>()
    });
    let missing = looked.await.unwrap_or_else(|error| vec![("readiness", error.to_string())]);
    if missing.is_empty() {
        return Json(serde_json::json!({"status": "ready"})).into_response();
    }
    let missing: Vec<_> =
        missing.iter().map(|(name, detail)| serde_json::json!({"name": name, "detail": detail})).collect();
    let body = serde_json::json!({"status": "not ready", "missing": missing});
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}

async fn metrics(State(state): Admin) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.metrics.render()).into_response()
}

async fn check_topics(State(state): Admin) -> Answer<topics::TopicsAnswer> {
    blocking(move || topics::check(state.substrate.log.as_ref(), &state.substrate.config)).await
}

async fn apply_topics(State(state): Admin, Asked(Nothing {}): Asked<Nothing>) -> Answer<topics::TopicsAnswer> {
    blocking(move || topics::apply(state.substrate.log.as_ref(), &state.substrate.config)).await
}

async fn why(State(state): Admin, Path(exchange_id): Path<String>) -> Answer<why::WhyAnswer> {
    let view = match &state.view {
        Some(view) => view.clone(),
        None => model::open(&state.substrate).await?,
    };
    let fresh = if state.view.is_some() { why::FRESH_WAIT } else { Duration::ZERO };
    let answer = why::why(Arc::clone(&state.substrate.log), &view, &exchange_id, fresh).await;
    if state.view.is_none() {
        view.close().await;
    }
    answer.map(Json)
}

async fn list_dead(
    State(state): Admin,
    list: Result<Query<dead::ListRequest>, QueryRejection>,
) -> Answer<dead::Letters> {
    let Query(list) = list.map_err(|rejection| Trouble::of(rejection.status(), rejection.body_text()))?;
    blocking(move || dead::list(state.substrate.log.as_ref(), &list)).await
}

async fn show_dead(State(state): Admin, Path(letter): Path<String>) -> Answer<dead::Shown> {
    blocking(move || dead::show(state.substrate.log.as_ref(), &letter.parse()?)).await
}

async fn replay_dead(State(state): Admin, Asked(request): Asked<dead::ReplayRequest>) -> Answer<dead::Replayed> {
    // The work goes on where the client hangs up, so the lock goes with it.
    blocking(move || {
        let _one_at_a_time = state.replay.blocking_lock();
        dead::replay(state.substrate.log.as_ref(), &request)
    })
    .await
}

async fn audit_report(State(state): Admin) -> Answer<books::BooksAnswer> {
    blocking(move || books::report(state.substrate.log.as_ref())).await
}

/// Closing takes its time, so the answer is a line for each thing there is to tell. Who hangs up ends it.
async fn cut_now(State(state): Admin, Asked(request): Asked<books::CutRequest>) -> Response {
    lines::answer(move |lines| {
        let log = state.substrate.log.as_ref();
        let closed = books::cut_now(log, &request, &mut |waits| lines.send(&books::CutLine::Waiting(waits)));
        lines.send(&match closed {
            Ok(books) => books::CutLine::Books(books),
            Err(trouble) => books::CutLine::Trouble(trouble),
        });
    })
}

async fn rebuild_view(State(state): Admin, Asked(Nothing {}): Asked<Nothing>) -> Answer<model::Rebuilt> {
    let view = match &state.view {
        Some(view) => view.clone(),
        None => model::open(&state.substrate).await?,
    };
    blocking(move || model::rebuild(state.substrate.log.as_ref(), &view)).await
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use metrics_exporter_prometheus::PrometheusBuilder;
    use serde_json::{Value, json};
    use tower::ServiceExt as _;

    use super::*;
    use crate::config::Config;
    use crate::data_dir::DataDir;

    /// Status, media type and body of an answer.
    async fn call(router: &Router, method: &str, path: &str, body: Option<&str>) -> (u16, String, Value) {
        let mut request = Request::builder().method(method).uri(path);
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(Body::from(body.unwrap_or_default().to_owned())).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let media_type = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, media_type, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn what_is_not_there_is_a_problem_and_what_cannot_be_read_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        let substrate = Arc::new(Substrate::with(Config::default(), data).unwrap());
        let router = router(AdminState::new(substrate, PrometheusBuilder::new().build_recorder().handle()));
        for (method, path, status, code) in
            [("GET", "/nothing", 404, "not_found"), ("POST", "/healthz", 405, "method_not_allowed")]
        {
            let (found, media_type, problem) = call(&router, method, path, None).await;
            assert_eq!(
                (found, media_type.as_str(), &problem["code"]),
                (status, "application/problem+json", &json!(code))
            );
            assert!(problem["instance"].as_str().unwrap().starts_with("req_"), "{problem}");
        }
        for (path, body, status) in [
            ("/admin/audit/cut-now", None, 415),
            ("/admin/audit/cut-now", Some("{"), 400),
            ("/admin/audit/cut-now", Some(r#"{"deadline":1}"#), 422),
            ("/admin/dead/replay", Some(r#"{"letters":"sign:0:0"}"#), 422),
        ] {
            let (found, _, trouble) = call(&router, "POST", path, body).await;
            assert_eq!(found, status, "{path} {body:?}: {trouble}");
            assert!(!trouble["error"].as_str().unwrap().is_empty());
        }
        assert_eq!(call(&router, "GET", "/admin/dead?stepp=sign", None).await.0, 400);
    }

    #[test]
    fn an_answer_comes_line_by_line_and_ends_when_nobody_reads_any_more() {
        let (ended, heard) = std::sync::mpsc::channel();
        let count = move || {
            let ended = ended.clone();
            async move {
                lines::answer(move |lines| {
                    let written = (0_u32..).take_while(|number| lines.send(number)).count();
                    ended.send(written).unwrap();
                })
            }
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let stop = stage::Stop::new();
        let router = Router::new().route("/admin/count", post(count));
        let limits = ingest::ServeLimits::default();
        let server = runtime.spawn({
            let stop = stop.clone();
            async move { ingest::serve(router, listener, limits, &stop).await }
        });
        let client = AdminClient::new(address).unwrap();
        let third = client.post_lines("count", &json!({}), |number: u32| Ok((number == 3).then_some(number)));
        assert_eq!(third.unwrap(), 3);
        drop(client);
        assert!(heard.recv_timeout(Duration::from_secs(20)).unwrap() > 3);
        stop.request();
        runtime.block_on(server).unwrap().unwrap();
    }

    #[test]
    fn trouble_is_told_over_http_as_it_is_told_here() {
        let trouble = Trouble::conflict("it was replayed already").try_this("look at `countersign dead list`");
        let told: Trouble = serde_json::from_slice(&serde_json::to_vec(&trouble).unwrap()).unwrap();
        assert_eq!((told.error, told.advice), (trouble.error.clone(), trouble.advice.clone()));
        assert_eq!(trouble.into_response().status(), StatusCode::CONFLICT);
    }
}
