//! `countersign demo`: a pipeline of its own in a fresh directory, documents through it, and the books closed over them.
//!
//! What became of the documents is counted from the topics themselves and compared with what was expected.

mod documents;
mod expectation;
mod process;
mod receiver;
mod tally;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use access::{Scopes, Store};
use clap::Args;
use event::id::TenantId;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Url;

use crate::admin::books::CutRequest;
use crate::admin::print;
use crate::client::{AdminClient, ClientOptions, block_on, client};
use crate::commands::audit::cut_beside;
use crate::failure::{Doing as _, Failure};
use documents::{Answers, Document};
use expectation::Expectation;
use process::Pipeline;
use receiver::Receiver;

const TENANT: &str = "demo";
/// How long the books may take to close after the last document.
const CLOSE_DEADLINE_S: u64 = 180;

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Documents of your own, one JSON document a line, in place of the shipped ones
    #[arg(long, value_name = "FILE.jsonl")]
    input: Option<PathBuf>,
    /// End when the books are closed; the exit code is 1 if anything did not hold
    #[arg(long)]
    exit: bool,
    /// Where the shipped documents lie
    #[arg(long, value_name = "DIR", default_value = "examples")]
    examples: PathBuf,
    /// Where the demo keeps its data: a directory that is not there yet [default: a new temporary one]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Runs the demo.
pub(crate) fn run(args: &DemoArgs) -> Result<ExitCode, Failure> {
    let (documents, expected) = match &args.input {
        Some(file) => (documents::payloads(file)?, None),
        None => (documents::shipped(&args.examples)?, Some(Expectation::read(&args.examples.join("expected.json"))?)),
    };
    let data = fresh_directory(args.data.as_deref())?;
    let receiver = Receiver::start(&data)?;
    configure(&data, &receiver)?;
    let key = block_on(make_key(&data))??;

    say(&format!("a pipeline of its own runs in {}\n", data.display()))?;
    let pipeline = Pipeline::start(&data)?;
    let answers = send(&pipeline.http, &key, &documents, &receiver, expected.is_none())?;
    say("closing the books\n")?;
    let admin = AdminClient::new(pipeline.admin)?;
    let books = cut_beside(&admin, &CutRequest { deadline_s: CLOSE_DEADLINE_S })?;
    pipeline.stop()?;

    let tally = tally::Tally::count(&data)?;
    say(&format!("\nwhat became of {} documents, counted from the topics\n{}", documents.len(), tally.told(&answers)))?;
    say(&format!("deliveries called again after a failure: {}\n", receiver.called_again()))?;
    say(&format!("\nthe books\n{}", books.table))?;
    say(&format!("\nbalances\n{}", tally.balances_told()))?;
    let mut faults = tally.faults(&books, &answers, &receiver);
    match &expected {
        Some(expected) => faults.extend(expected.differences(&tally, &answers)),
        None => faults.extend(tally.own_documents_faults(documents.len(), &answers)),
    }
    if faults.is_empty() {
        say(&format!(
            "\neverything holds: {} receipts verified offline, every balance accounted for\n",
            tally.receipts_verified
        ))?;
    } else {
        say(&format!(
            "\nnot everything holds:\n{}",
            faults.iter().map(|fault| format!("  - {fault}\n")).collect::<String>()
        ))?;
    }
    let code = if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) };
    if args.exit {
        if args.data.is_none() && faults.is_empty() {
            std::fs::remove_dir_all(&data).doing("the demo's directory cannot be removed")?;
        }
        return Ok(code);
    }
    stay(&data, &key, tally.an_exchange())?;
    Ok(code)
}

/// Starts the pipeline again, on what it left, until Ctrl-C.
fn stay(data: &Path, key: &str, exchange: Option<&str>) -> Result<(), Failure> {
    let pipeline = Pipeline::start(data)?;
    let exchange = exchange.unwrap_or("ex_...");
    let (url, data) = (&pipeline.http, data.display());
    say(&format!(
        "\nthe pipeline is up at {url}, its documentation at {url}docs\n\
         key: {key}\n\n\
         try next:\n  \
         curl -s {url}v1/exchanges -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' -H 'Idempotency-Key: mine-1' -d '{{\"payload\":{{\"hello\":\"world\"}}}}'\n  \
         countersign why {exchange} --data {data}\n  \
         countersign audit --cut now --data {data}\n\n\
         Ctrl-C ends it.\n"
    ))?;
    pipeline.wait()
}

fn fresh_directory(wanted: Option<&Path>) -> Result<PathBuf, Failure> {
    let directory = match wanted {
        Some(wanted) => wanted.to_owned(),
        None => std::env::temp_dir().join(format!("countersign-demo-{:016x}", rand::random::<u64>())),
    };
    if let Some(parent) = directory.parent() {
        std::fs::create_dir_all(parent).doing("the demo's directory cannot be made")?;
    }
    std::fs::create_dir(&directory).map_err(|error| {
        Failure::new(format!("{} cannot be made anew", directory.display()))
            .because(error)
            .try_this("the demo wants a directory that is not there yet")
    })?;
    // The child gets absolute paths.
    directory.canonicalize().doing("the demo's directory cannot be found again")
}

/// The demo's own receiver is on this machine: its network and certificate are named, verification stays on.
fn configure(data: &Path, receiver: &Receiver) -> Result<(), Failure> {
    let mut forward = toml::Table::new();
    forward.insert("networks_allowed".into(), vec!["127.0.0.0/8".to_owned(), "::1/128".to_owned()].into());
    forward.insert("ca_file".into(), receiver.ca_file.display().to_string().into());
    let mut tenant = toml::Table::new();
    tenant.insert("forward_allowlist".into(), vec![format!("localhost:{}", receiver.port)].into());
    let mut tenants = toml::Table::new();
    tenants.insert(TENANT.into(), tenant.into());
    let mut telemetry = toml::Table::new();
    telemetry.insert("log".into(), "warn".into());
    let config = toml::Table::from_iter([
        ("forward".to_owned(), forward.into()),
        ("tenants".to_owned(), tenants.into()),
        ("telemetry".to_owned(), telemetry.into()),
    ]);
    std::fs::write(data.join("countersign.toml"), config.to_string())
        .doing("the demo's configuration cannot be written")
}

async fn make_key(data: &Path) -> Result<String, Failure> {
    let tenant = TenantId::parse(TENANT).doing("the demo's tenant has no valid name")?;
    let store = Store::open(&data.join("access.db")).await.doing("access.db cannot be made")?;
    store.ensure_tenant(&tenant).await.doing("the demo's tenant cannot be made")?;
    let key = store.create_api_key(&tenant, &Scopes::standard()).await.doing("the demo's key cannot be made")?;
    store.close().await;
    Ok(key.expose().to_owned())
}

/// Sends in order, or several at a time where the order means nothing.
fn send(
    http: &Url,
    key: &str,
    documents: &[Document],
    receiver: &Receiver,
    unordered: bool,
) -> Result<Answers, Failure> {
    let style =
        ProgressStyle::with_template("{bar:40} {pos}/{len} {per_sec} {eta}").doing("the progress bar has no form")?;
    let bar = ProgressBar::new(documents.len() as u64).with_style(style);
    let options = ClientOptions { timeout: Duration::from_secs(90), connections_max: 32 };
    let client = client(http, options)?;
    let begun = Instant::now();
    let at_once = if unordered { options.connections_max } else { 1 };
    let answers = block_on(documents::send_all(&client, http, key, documents, receiver.port, at_once, &bar))??;
    bar.finish_and_clear();
    let seconds = begun.elapsed().as_secs_f64();
    say(&format!("sent {} documents in {seconds:.1} s, {at_once} at a time\n", documents.len()))?;
    Ok(answers)
}

fn say(text: &str) -> Result<(), Failure> {
    print::out(text)
}
