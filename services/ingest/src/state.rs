//! What every handler of ingest shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use access::{Authenticator, Directory};
use axum::extract::FromRef;
use log::{Log, Record};
use tokio::sync::Semaphore;

use crate::config::Config;
use crate::follow::Reader;
use crate::jwks::KeyDirectory;
use crate::submit::Signer;
use crate::waiting::Waiting;

/// Shared by all requests; cheap to clone.
#[derive(Clone)]
pub struct IngestState(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) authenticator: Authenticator,
    /// Tenants and payload types.
    pub(crate) directory: Arc<Directory>,
    pub(crate) signer: Signer,
    pub(crate) waiting: Arc<Waiting>,
    pub(crate) keys: Arc<KeyDirectory>,
    pub(crate) answers: Arc<Answers>,
    pub(crate) in_flight: Arc<Semaphore>,
    pub(crate) verifying: Semaphore,
    pub(crate) openapi: String,
}

impl IngestState {
    /// What is missing before work can be accepted; empty: ready.
    pub fn missing(&self) -> Vec<&'static str> {
        let mut missing = Vec::new();
        if !self.0.answers.flowing.load(Ordering::Relaxed) {
            missing.push("answers: the log's answer topic cannot be read");
        }
        if self.0.keys.is_empty() {
            missing.push("signing_key: sign has not published a key yet");
        }
        missing
    }

    /// The public keys, for whoever else verifies in this process.
    pub fn keys(&self) -> &Arc<KeyDirectory> {
        &self.0.keys
    }
}

impl FromRef<IngestState> for Authenticator {
    fn from_ref(state: &IngestState) -> Self {
        state.0.authenticator.clone()
    }
}

impl std::fmt::Debug for IngestState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IngestState").field("config", &self.0.config).finish_non_exhaustive()
    }
}

/// The reader of this slot's answers.
#[derive(Debug)]
pub(crate) struct Answers {
    pub(crate) waiting: Arc<Waiting>,
    pub(crate) flowing: AtomicBool,
}

impl Reader for Answers {
    fn read(&self, record: &Record) {
        self.waiting.deliver(record);
    }

    fn flowing(&self, flowing: bool) {
        self.flowing.store(flowing, Ordering::Relaxed);
    }
}
