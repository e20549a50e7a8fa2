//! `send`: documents of a file, a directory or stdin, each under a key of its own, so that sending again is harmless.
//!
//! Bodies are built from the bytes as they are: a number keeps its spelling, and what is malformed is refused by the door
//! and not by us. An unknown outcome is asked for again with the same key until it is known.

mod documents;
mod summary;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use event::id::TraceId;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, StatusCode, Url};
use tokio::sync::{Mutex, mpsc};

pub(crate) use documents::{Document, Line};
pub(crate) use summary::Summary;

use crate::admin::print;
use crate::client::{ClientOptions, block_on, client};
use crate::failure::{Doing as _, Failure};
use documents::{Form, Source};

/// Longer than ingest holds a request back (`Prefer: wait` is at most 60 s).
const REQUEST_TIMEOUT: Duration = Duration::from_secs(75);
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// What a server may ask us to wait at most.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);
const CONCURRENCY_MAX: u16 = 1_024;

#[derive(Debug, Args)]
pub(crate) struct SendArgs {
    /// JSON lines, a *.json document, a directory of both, or `-` for JSON lines on stdin
    #[arg(value_name = "FILE|DIR|-", default_value = "-")]
    from: PathBuf,
    /// Address of the API
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: Url,
    /// API key, as `countersign keys create` printed it
    #[arg(long, value_name = "KEY", env = "COUNTERSIGN_API_KEY", hide_env_values = true)]
    key: String,
    /// A line's idempotency key is `<prefix>-<line number>` [default: the file's name; on stdin something random, which is
    /// told]
    #[arg(long, value_name = "P")]
    prefix: Option<String>,
    /// Lines are `{"idempotency_key": …, "exchange": {…}}` instead of payloads
    #[arg(long, conflicts_with_all = ["prefix", "trace"])]
    exchanges: bool,
    /// Put every payload into this trace, in the order of the lines with --concurrency 1
    #[arg(long, value_name = "TRACE_ID")]
    trace: Option<TraceId>,
    /// Requests under way at once
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=i64::from(CONCURRENCY_MAX)))]
    concurrency: u16,
    /// How long to ask again for one document's outcome
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    give_up_after: u64,
    /// The summary as JSON
    #[arg(long)]
    json: bool,
}

/// Where documents go, and how hard to try.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) url: Url,
    pub(crate) api_key: String,
    pub(crate) concurrency: usize,
    /// How long to ask again for one document's outcome.
    pub(crate) give_up_after: Duration,
}

/// What became of one document.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// Where it came from: `file:line`.
    pub(crate) name: String,
    pub(crate) idempotency_key: String,
    /// HTTP status of the last answer; 0 where there was none.
    pub(crate) status: u16,
    /// `sealed`, `accepted`, the code of the problem, or why there was no answer.
    pub(crate) code: String,
    pub(crate) replayed: bool,
    pub(crate) attempts: u32,
    pub(crate) took: Duration,
}

impl Answer {
    /// Whether this is the exchange's answer: what only the door refused for want of a key, a right or room is none.
    pub(crate) fn is_decided(&self) -> bool {
        match self.status {
            200 | 201 => true,
            401 | 404 | 405 | 408 | 429 => false,
            403 => self.code != "missing_scope",
            400..=499 => true,
            _ => false,
        }
    }

    fn told(&self) -> String {
        match (self.attempts, self.status) {
            (0, _) => self.code.clone(),
            (_, 0) => format!("{} (key {})", self.code, self.idempotency_key),
            (_, status) => format!("{status} {} (key {})", self.code, self.idempotency_key),
        }
    }

    /// Of a document that could not be sent at all.
    fn unsendable(name: String, idempotency_key: String, why: String) -> Self {
        let (status, replayed, attempts) = (0, false, 0);
        Self { name, idempotency_key, status, code: why, replayed, attempts, took: Duration::ZERO }
    }
}

/// Exit code 1 where anything remained undecided or could not be sent.
pub(crate) fn run(args: &SendArgs) -> Result<ExitCode, Failure> {
    let form = if args.exchanges {
        Form::Exchanges
    } else {
        let prefix = args.prefix.clone().unwrap_or_else(|| documents::prefix_of(&args.from));
        if args.prefix.is_none() && documents::is_stdin(&args.from) {
            eprintln!("keys begin with {prefix}; the same lines with --prefix {prefix} are sent once");
        }
        Form::Payloads { prefix, trace: args.trace.clone() }
    };
    let source = Source::open(&args.from, form)?;
    let target = Target {
        url: args.url.clone(),
        api_key: args.key.clone(),
        concurrency: usize::from(args.concurrency),
        give_up_after: Duration::from_secs(args.give_up_after),
    };
    let bar = progress_bar(source.bytes());
    let summary = block_on(async {
        greet(&target).await?;
        run_documents(&target, source, |answer, so_far| {
            bar.set_position(so_far.bytes_read);
            bar.set_message(format!(
                "{} sent, {:.0}/s, {} undecided",
                so_far.documents,
                so_far.rate(),
                so_far.undecided
            ));
            if !answer.is_decided() {
                bar.suspend(|| eprintln!("{}: {}", answer.name, answer.told()));
            }
        })
        .await
    })??;
    bar.finish_and_clear();
    if args.json {
        print::json(&summary)?
    } else {
        print::out(&summary.told())?
    }
    Ok(if summary.undecided + summary.not_sent == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// On a terminal only.
pub(super) fn progress_bar(bytes: Option<u64>) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match bytes {
        Some(bytes) => (ProgressBar::new(bytes), "{elapsed_precise} {bar:40} {percent:>3}%  {msg}"),
        None => (ProgressBar::new_spinner(), "{elapsed_precise} {spinner}  {msg}"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Nothing is sent where nobody listens: a wrong address is told at once, not document by document.
async fn greet(target: &Target) -> Result<(), Failure> {
    let url = target.url.join("/healthz").doing("the address is not usable")?;
    let options = ClientOptions { timeout: Duration::from_secs(10), connections_max: 1 };
    match client(&target.url, options)?.get(url).send().await {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::new(format!("nobody answers at {}", target.url))
            .because(error)
            .try_this("start one with `countersign up`, or name another with --url")),
    }
}

/// Sends documents, several at a time, each until its outcome is known; `each` hears of every answer as it comes.
///
/// # Errors
/// The documents cannot be read any further; what was read before is sent.
pub(crate) async fn run_documents(
    target: &Target,
    documents: impl Iterator<Item = Result<Line, Failure>> + Send + 'static,
    mut each: impl FnMut(&Answer, &Summary),
) -> Result<Summary, Failure> {
    let sender = Arc::new(Sender::new(target)?);
    let (lines, waiting) = mpsc::channel(target.concurrency);
    let waiting = Arc::new(Mutex::new(waiting));
    let (answers, mut answered) = mpsc::channel(target.concurrency);
    let reader = tokio::task::spawn_blocking(move || {
        for line in documents {
            // Nobody waits any more: the sending was cut short.
            if lines.blocking_send(line?).is_err() {
                break;
            }
        }
        Ok::<_, Failure>(())
    });
    for _ in 0..target.concurrency.max(1) {
        let (sender, waiting, answers) = (Arc::clone(&sender), Arc::clone(&waiting), answers.clone());
        tokio::spawn(async move {
            loop {
                // The lock is let go before the line is sent.
                let Some(line) = waiting.lock().await.recv().await else { break };
                let bytes = line.bytes();
                let answer = match line {
                    Line::Document(document) => sender.send(document).await,
                    Line::Unsendable { name, why, .. } => Answer::unsendable(name, String::new(), why),
                };
                if answers.send((answer, bytes)).await.is_err() {
                    break;
                }
            }
        });
    }
    drop(answers);
    let mut summary = Summary::begin();
    while let Some((answer, bytes)) = answered.recv().await {
        summary.add(&answer, bytes);
        each(&answer, &summary);
    }
    summary.finish();
    match reader.await {
        Ok(Ok(())) => Ok(summary),
        Ok(Err(failure)) => Err(failure),
        Err(error) => Err(Failure::new("the documents could not be read to their end").because(error)),
    }
}

struct Sender {
    client: Client,
    url: Url,
    authorization: HeaderValue,
    give_up_after: Duration,
}

/// One try.
enum Tried {
    Known { status: u16, code: String, replayed: bool },
    Unknown { status: u16, code: String, wait: Option<Duration> },
}

impl Sender {
    fn new(target: &Target) -> Result<Self, Failure> {
        let options = ClientOptions { timeout: REQUEST_TIMEOUT, connections_max: target.concurrency };
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", target.api_key)).map_err(|_| {
            Failure::new("the API key has characters that no key has").try_this("countersign keys create --tenant T")
        })?;
        authorization.set_sensitive(true);
        Ok(Self {
            client: client(&target.url, options)?,
            url: target.url.join("/v1/exchanges").doing("the address is not usable")?,
            authorization,
            give_up_after: target.give_up_after,
        })
    }

    async fn send(&self, document: Document) -> Answer {
        let Document { name, idempotency_key, body, .. } = document;
        let Ok(key_header) = HeaderValue::from_bytes(idempotency_key.as_bytes()) else {
            return Answer::unsendable(name, idempotency_key, "the key cannot stand in a header".to_owned());
        };
        let body = Bytes::from(body);
        let begun = Instant::now();
        let mut backoff = BACKOFF_FIRST;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let tried = self.once(&key_header, body.clone()).await;
            let took = begun.elapsed();
            let (status, code, wait) = match tried {
                Tried::Known { status, code, replayed } => {
                    return Answer { name, idempotency_key, status, code, replayed, attempts, took };
                }
                Tried::Unknown { status, code, wait } => (status, code, wait),
            };
            // Half of it is chance, so that those who failed together do not come back together.
            let pause = wait.unwrap_or(backoff).mul_f64(rand::random_range(0.5..=1.0));
            if took + pause > self.give_up_after {
                return Answer { name, idempotency_key, status, code, replayed: false, attempts, took };
            }
            tokio::time::sleep(pause).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    async fn once(&self, key_header: &HeaderValue, body: Bytes) -> Tried {
        let lost = |error: &reqwest::Error| {
            let code = if error.is_connect() { "no_connection" } else { "broken_connection" };
            Tried::Unknown { status: 0, code: code.to_owned(), wait: None }
        };
        let request = self
            .client
            .post(self.url.clone())
            .header(reqwest::header::AUTHORIZATION, self.authorization.clone())
            .header(reqwest::header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header("idempotency-key", key_header.clone())
            .body(body);
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return lost(&error),
        };
        let (status, headers) = (response.status(), response.headers().clone());
        match response.bytes().await {
            Ok(body) => read(status, &headers, &body),
            Err(error) => lost(&error),
        }
    }
}

fn read(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Tried {
    let code = match status {
        StatusCode::CREATED | StatusCode::OK => "sealed".to_owned(),
        StatusCode::ACCEPTED => "accepted".to_owned(),
        _ => problem_code(body).unwrap_or_else(|| "no_problem_document".to_owned()),
    };
    let asks_again =
        status == StatusCode::ACCEPTED || status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
    if asks_again {
        return Tried::Unknown { status: status.as_u16(), code, wait: retry_after(headers) };
    }
    let replayed = headers.get("idempotent-replayed").is_some_and(|value| value == "true");
    Tried::Known { status: status.as_u16(), code, replayed }
}

fn problem_code(body: &[u8]) -> Option<String> {
    let problem: serde_json::Value = serde_json::from_slice(body).ok()?;
    problem.get("code")?.as_str().map(str::to_owned)
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    use axum::Router;
    use axum::extract::State;
    use axum::http::HeaderMap as Headers;
    use axum::response::IntoResponse;
    use axum::routing::post;

    #[derive(Clone, Default)]
    struct Seen {
        tries: Arc<AtomicU32>,
        bodies: Arc<std::sync::Mutex<Vec<(String, Bytes)>>>,
    }

    /// Answers 503, then 202, then decides; a key that ends in 3 is refused.
    async fn door(State(seen): State<Seen>, headers: Headers, body: Bytes) -> axum::response::Response {
        let key = headers["idempotency-key"].to_str().unwrap().to_owned();
        seen.bodies.lock().unwrap().push((key.clone(), body));
        if headers["authorization"] != "Bearer csk_test" {
            return (StatusCode::UNAUTHORIZED, "{\"code\":\"unauthenticated\"}").into_response();
        }
        if key.ends_with('3') {
            return (StatusCode::BAD_REQUEST, "{\"code\":\"malformed_json\"}").into_response();
        }
        match seen.tries.fetch_add(1, Ordering::Relaxed) {
            0 => {
                (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "0")], "{\"code\":\"unavailable\"}").into_response()
            }
            1 => (StatusCode::ACCEPTED, "{}").into_response(),
            2 => (StatusCode::CREATED, [("idempotent-replayed", "true")], "{}").into_response(),
            _ => (StatusCode::CREATED, "{}").into_response(),
        }
    }

    async fn serve(seen: Seen) -> Url {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let router = Router::new().route("/v1/exchanges", post(door)).with_state(seen);
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    fn target(url: Url, api_key: &str) -> Target {
        Target { url, api_key: api_key.into(), concurrency: 1, give_up_after: Duration::from_secs(10) }
    }

    fn lines(text: &str) -> impl Iterator<Item = Result<Line, Failure>> + Send + use<> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("orders.jsonl");
        std::fs::write(&file, text).unwrap();
        let form = Form::Payloads { prefix: "orders".into(), trace: None };
        Source::open(&file, form).unwrap().collect::<Vec<_>>().into_iter()
    }

    #[tokio::test]
    async fn an_unknown_outcome_is_asked_for_again_with_the_same_key() {
        let seen = Seen::default();
        let url = serve(seen.clone()).await;
        let mut codes = Vec::new();
        let summary = run_documents(&target(url, "csk_test"), lines("{\"a\":1.0}\n{}\n{\"a\n"), |answer, _| {
            codes.push((answer.idempotency_key.clone(), answer.status, answer.attempts, answer.replayed));
        })
        .await
        .unwrap();
        codes.sort();
        let expected = [("orders-1", 201, 3, true), ("orders-2", 201, 1, false), ("orders-3", 400, 1, false)];
        assert_eq!(
            codes,
            expected.map(|(key, status, attempts, replayed)| (key.to_owned(), status, attempts, replayed))
        );
        assert_eq!((summary.documents, summary.undecided), (3, 0));
        let bodies = seen.bodies.lock().unwrap();
        assert!(
            bodies.iter().filter(|(key, _)| key == "orders-1").all(|(_, body)| body == "{\"payload\":{\"a\":1.0}}")
        );
        assert!(bodies.iter().any(|(key, body)| key == "orders-3" && body == "{\"payload\":{\"a}"));
    }

    #[tokio::test]
    async fn what_nobody_answers_or_a_wrong_key_stays_undecided() {
        let url = serve(Seen::default()).await;
        let refused = run_documents(&target(url.clone(), "csk_wrong"), lines("{}\n"), |_, _| {}).await.unwrap();
        assert_eq!(refused.undecided, 1);
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let nobody = Url::parse(&format!("http://{}", closed.local_addr().unwrap())).unwrap();
        drop(closed);
        let target = Target { give_up_after: Duration::from_millis(200), ..target(nobody, "csk_test") };
        let summary =
            run_documents(&target, lines("{}\n"), |answer, _| assert_eq!(answer.code, "no_connection")).await.unwrap();
        assert_eq!(summary.undecided, 1);
    }
}
