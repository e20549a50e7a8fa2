//! The documents of a demo, and what the API answers to each.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use indicatif::ProgressBar;
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::failure::{Doing as _, Failure};

/// In the shipped documents: the port of the demo's own receiver.
const RECEIVER: &str = "{receiver}";
/// "Unknown" is asked again with the same key, so often at most.
const TRIES_MAX: u32 = 20;
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// One request body under its key.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    key: String,
    body: String,
}

#[derive(Deserialize)]
struct ShippedLine<'a> {
    idempotency_key: String,
    #[serde(borrow)]
    exchange: &'a RawValue,
}

#[derive(Deserialize)]
struct MalformedLine {
    idempotency_key: String,
    body: String,
}

/// The documents of `examples/`: exchanges, then bodies that no door lets in.
pub(crate) fn shipped(examples: &Path) -> Result<Vec<Document>, Failure> {
    let mut documents = Vec::new();
    for line in read(&examples.join("exchanges.jsonl"))?.lines() {
        let line: ShippedLine<'_> = serde_json::from_str(line).doing("a shipped exchange cannot be read")?;
        documents.push(Document { key: line.idempotency_key, body: line.exchange.get().to_owned() });
    }
    for line in read(&examples.join("malformed.jsonl"))?.lines() {
        let line: MalformedLine = serde_json::from_str(line).doing("a shipped malformed body cannot be read")?;
        documents.push(Document { key: line.idempotency_key, body: line.body });
    }
    Ok(documents)
}

/// Any documents, one a line, each as a payload with its number as its key. The bytes go as they are.
pub(crate) fn payloads(file: &Path) -> Result<Vec<Document>, Failure> {
    let lines = read(file)?;
    let numbered = lines.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    Ok(numbered
        .map(|(index, line)| Document { key: format!("line-{}", index + 1), body: format!("{{\"payload\":{line}}}") })
        .collect())
}

fn read(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file).map_err(|error| {
        Failure::new(format!("{} cannot be read", file.display()))
            .because(error)
            .try_this("run it in the repository, or name your documents with --input FILE.jsonl")
    })
}

/// How often each answer was given: `201`, `201 replayed`, or a problem's code.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers {
    pub(crate) counted: BTreeMap<String, usize>,
    /// Documents without a decision after every try.
    pub(crate) undecided: usize,
}

impl Answers {
    pub(crate) fn of(&self, answer: &str) -> usize {
        self.counted.get(answer).copied().unwrap_or(0)
    }
}

/// Sends every document, `at_once` of them at a time, in order where that is one.
pub(crate) async fn send_all(
    client: &Client,
    http: &Url,
    key: &str,
    documents: &[Document],
    receiver_port: u16,
    at_once: usize,
    bar: &ProgressBar,
) -> Result<Answers, Failure> {
    let url = http.join("v1/exchanges").doing("the address is not a URL")?;
    let places = Arc::new(Semaphore::new(at_once));
    let mut sending = JoinSet::new();
    for document in documents {
        let place = Arc::clone(&places).acquire_owned().await.doing("the sender was closed")?;
        let body = document.body.replace(RECEIVER, &receiver_port.to_string());
        let (client, url, key, own, bar) =
            (client.clone(), url.clone(), key.to_owned(), document.key.clone(), bar.clone());
        sending.spawn(async move {
            let answer = send(&client, &url, &key, &own, body).await;
            bar.inc(1);
            drop(place);
            answer
        });
    }
    let mut answers = Answers::default();
    while let Some(answer) = sending.join_next().await {
        match answer.doing("a request was cut short")? {
            Some(answer) => *answers.counted.entry(answer).or_default() += 1,
            None => answers.undecided += 1,
        }
    }
    Ok(answers)
}

/// One document until it is decided; `None` where it never was.
async fn send(client: &Client, url: &Url, key: &str, own: &str, body: String) -> Option<String> {
    for _ in 0..TRIES_MAX {
        let mut request = client.post(url.clone()).bearer_auth(key).header("content-type", "application/json");
        if !own.is_empty() {
            request = request.header("idempotency-key", own);
        }
        match request.body(body.clone()).send().await {
            Ok(response) => {
                let status = response.status();
                let replayed = response.headers().contains_key("idempotent-replayed");
                let decided = status == StatusCode::CREATED
                    || (status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS);
                if decided && let Some(answer) = told(status, replayed, response.text().await.ok()?) {
                    return Some(answer);
                }
            }
            // A broken connection says nothing: the same key finds out.
            Err(error) => tracing::debug!(%error, "asking again"),
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
    None
}

fn told(status: StatusCode, replayed: bool, body: String) -> Option<String> {
    let answer = if status == StatusCode::CREATED {
        "sealed".to_owned()
    } else {
        let problem: serde_json::Value = serde_json::from_str(&body).ok()?;
        problem.get("code")?.as_str()?.to_owned()
    };
    Some(if replayed { "replayed".to_owned() } else { answer })
}
