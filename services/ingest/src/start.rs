//! What runs beside the requests: the publisher of `access.db`, the reader of answers, the reader of signing keys.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;

use access::publish::PublishError;
use access::{Authenticator, Directory, ProducerGrant, Publisher, Store, StoreError};
use event::topic::{ANSWER, SIGNING_KEY};
use log::{Fault, Log, Position, Topic};
use stage::Stop;
use tokio::sync::Semaphore;
use utoipa::openapi::OpenApi as Document;

use crate::config::Config;
use crate::follow::{Reader, follow};
use crate::jwks::KeyDirectory;
use crate::state::{Answers, IngestState, Shared};
use crate::submit::Signer;
use crate::waiting::Waiting;

/// Ingest's own producer credential: `ingest-<random>`.
const PRODUCER: &str = "ingest";

/// Why ingest did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("access.db cannot be used")]
    Store(#[from] StoreError),
    #[error("the tenants' configuration cannot be published")]
    Publish(#[from] PublishError),
    #[error("the log cannot be read")]
    Log(#[from] Fault),
    #[error("{topic} has no partition {partition}: run `countersign topics apply`, or choose another slot")]
    NoPartition { topic: &'static str, partition: u32 },
    #[error("a thread cannot be started")]
    Thread(#[source] std::io::Error),
    #[error("a task ended before its time")]
    Task(#[source] tokio::task::JoinError),
    #[error("the OpenAPI document cannot be written")]
    OpenApi(#[source] serde_json::Error),
}

/// A running ingest.
#[derive(Debug)]
pub struct Ingest {
    pub state: IngestState,
    threads: Vec<JoinHandle<()>>,
    publisher: tokio::task::JoinHandle<()>,
}

impl Ingest {
    /// Waits for the threads; request the stop first. Blocks for less than a second.
    pub fn join(self) {
        self.publisher.abort();
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a thread of ingest panicked");
            }
        }
    }
}

/// Starts what ingest needs. `directory` is followed by the caller (`Directory::follow` on a thread), as the services of
/// one process share it; `documents` are the OpenAPI parts of services on the same listener.
///
/// Returns when requests may be accepted: the credential that signs them is published and its answers are awaited.
///
/// # Errors
/// If `access.db` or the log cannot be used, or a topic is missing.
pub async fn start(
    config: Config,
    log: Arc<dyn Log>,
    access: (Store, Arc<Directory>),
    documents: Vec<Document>,
    stop: &Stop,
) -> Result<Ingest, StartError> {
    let (store, directory) = access;
    let producer = store.ensure_producer(PRODUCER, &ProducerGrant::Any).await?;
    let (caught_up, read) = (Arc::clone(&directory), Arc::clone(&log));
    tokio::task::spawn_blocking(move || caught_up.catch_up(&*read)).await.map_err(StartError::Task)??;
    let publisher = Publisher::new(store, Arc::clone(&log), Arc::clone(&directory));
    publisher.sync().await?;

    let waiting = Arc::new(Waiting::new(config.slot));
    let answers = Arc::new(Answers { waiting: Arc::clone(&waiting), flowing: AtomicBool::new(false) });
    let keys = Arc::new(KeyDirectory::default());
    // Taken before the first request is written: no answer to one of ours lies before it.
    let answers_from = position(log.ends(&Topic::new(ANSWER))?, ANSWER, config.slot)?;
    let keys_from = position(log.starts(&Topic::new(SIGNING_KEY))?, SIGNING_KEY, 0)?;
    let threads = vec![
        spawn("ingest-answers", &log, answers_from, Arc::clone(&answers), stop)?,
        spawn("ingest-keys", &log, keys_from, Arc::clone(&keys), stop)?,
    ];
    let openapi = documents.into_iter().fold(crate::openapi::document(), Document::merge_from);
    let state = IngestState(Arc::new(Shared {
        authenticator: Authenticator::new(Arc::clone(&directory)),
        directory,
        signer: Signer { key_id: producer.id, secret: producer.secret },
        waiting,
        keys,
        answers,
        in_flight: Arc::new(Semaphore::new(config.in_flight_max)),
        verifying: Semaphore::new(config.verifying_max),
        openapi: openapi.to_json().map_err(StartError::OpenApi)?,
        config,
        log,
    }));
    let publisher = tokio::spawn(async move { publisher.run().await });
    Ok(Ingest { state, threads, publisher })
}

fn position(positions: Vec<Position>, topic: &'static str, partition: u32) -> Result<Position, StartError> {
    let found = positions.into_iter().find(|position| position.partition == partition);
    found.ok_or(StartError::NoPartition { topic, partition })
}

fn spawn(
    name: &str,
    log: &Arc<dyn Log>,
    from: Position,
    reader: Arc<impl Reader + Send + Sync + 'static>,
    stop: &Stop,
) -> Result<JoinHandle<()>, StartError> {
    let (log, stop) = (Arc::clone(log), stop.clone());
    let work = move || follow(&*log, from, &*reader, &stop);
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(StartError::Thread)
}
