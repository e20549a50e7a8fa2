//! The admin address: health, readiness, metrics, and what operators ask of the process that holds the log.
//!
//! It is for operators and asks for no key: it listens on the loopback address unless told otherwise, and whoever opens it
//! to a network guards it there. What changes something takes a JSON body, which no web page can send here unasked.
//!
//! Each question is one function in a module below, for the address and for the command alike.

pub(crate) mod books;
pub(crate) mod dead;
pub(crate) mod model;
pub(crate) mod print;
mod reading;
pub(crate) mod topics;
pub(crate) mod why;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use log::{Fault, Topic};
use metrics_exporter_prometheus::PrometheusHandle;
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

/// Everything that the admin address serves. Call within the runtime that will serve it.
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
    Router::new()
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
        .with_state(Arc::new(state))
}

type Admin = State<Arc<AdminState>>;
type Answer<T> = Result<Json<T>, Trouble>;

/// A body that asks for nothing in particular.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

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

async fn apply_topics(State(state): Admin, Json(Nothing {}): Json<Nothing>) -> Answer<topics::TopicsAnswer> {
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

async fn list_dead(State(state): Admin, Query(list): Query<dead::ListRequest>) -> Answer<dead::Letters> {
    blocking(move || dead::list(state.substrate.log.as_ref(), &list)).await
}

async fn show_dead(State(state): Admin, Path(letter): Path<String>) -> Answer<dead::Shown> {
    blocking(move || dead::show(state.substrate.log.as_ref(), &letter.parse()?)).await
}

async fn replay_dead(State(state): Admin, Json(request): Json<dead::ReplayRequest>) -> Answer<dead::Replayed> {
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

async fn cut_now(State(state): Admin, Json(request): Json<books::CutRequest>) -> Answer<books::BooksAnswer> {
    blocking(move || books::cut_now(state.substrate.log.as_ref(), &request)).await
}

async fn rebuild_view(State(state): Admin, Json(Nothing {}): Json<Nothing>) -> Answer<model::Rebuilt> {
    let view = match &state.view {
        Some(view) => view.clone(),
        None => model::open(&state.substrate).await?,
    };
    blocking(move || model::rebuild(state.substrate.log.as_ref(), &view)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_told_over_http_as_it_is_told_here() {
        let trouble = Trouble::conflict("it was replayed already").try_this("look at `countersign dead list`");
        let told: Trouble = serde_json::from_slice(&serde_json::to_vec(&trouble).unwrap()).unwrap();
        assert_eq!((told.error, told.advice), (trouble.error.clone(), trouble.advice.clone()));
        assert_eq!(trouble.into_response().status(), StatusCode::CONFLICT);
    }
}
