//! The road from `access.db` to `tenant.config.v1`.
//!
//! One task in the ingest role. It publishes what the topic does not say yet, oldest change first, each acknowledged
//! before the next; what fails is tried again, and publishing twice changes nothing for any reader.

use std::sync::Arc;
use std::time::Duration;

use event::wire::{TenantConfig, Wire as _, WireError};
use log::{Fault, Log, Output, Topic};
use tokio::sync::{Mutex, oneshot};

use crate::directory::entry_key;
use crate::{Directory, Store, StoreError};

/// How often the store is asked for changes: they are in force within a second.
const POLL: Duration = Duration::from_millis(200);
const FAULT_WAIT: Duration = Duration::from_secs(1);
const PARTITION: u32 = 0;

/// Why the configuration could not be published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error("the store cannot be read")]
    Store(#[from] StoreError),
    #[error("an entry cannot be written as Avro")]
    Encode(#[from] WireError),
    #[error("the log did not take an entry")]
    Log(#[from] Fault),
    #[error("the log dropped an entry without a word")]
    NoAnswer,
}

/// Publishes the store's changes.
pub struct Publisher {
    store: Store,
    log: Arc<dyn Log>,
    directory: Arc<Directory>,
    /// The store's version up to which everything is published.
    published: Mutex<i64>,
}

impl Publisher {
    /// `directory` must have caught up: what it says already is not published again.
    pub fn new(store: Store, log: Arc<dyn Log>, directory: Arc<Directory>) -> Self {
        Self { store, log, directory, published: Mutex::new(0) }
    }

    /// Publishes everything that changed since the last call; returns when it is durable.
    ///
    /// # Errors
    /// If the store or the log fails; the next call goes on where this one stopped.
    pub async fn sync(&self) -> Result<(), PublishError> {
        let mut published = self.published.lock().await;
        if self.store.version().await? == *published {
            return Ok(());
        }
        let (version, entries) = self.store.changed_since(*published).await?;
        for entry in entries.iter().filter(|entry| !self.directory.agrees(entry)) {
            append(&*self.log, entry).await?;
        }
        *published = version;
        Ok(())
    }

    /// Publishes for ever: end it by dropping it.
    pub async fn run(&self) {
        loop {
            match self.sync().await {
                Ok(()) => tokio::time::sleep(POLL).await,
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "tenants' configuration is not published; trying again"
                    );
                    drop(error);
                    tokio::time::sleep(FAULT_WAIT).await;
                }
            }
        }
    }
}

/// Appends one entry, and waits until it is durable.
pub(crate) async fn append(log: &dyn Log, entry: &TenantConfig) -> Result<(), PublishError> {
    let topic = Topic::new(TenantConfig::TOPIC);
    let record_key = entry_key(entry);
    let value = entry.encode()?;
    let (done, acknowledged) = oneshot::channel();
    let output = Output {
        topic: &topic,
        partition: Some(PARTITION),
        key: Some(record_key.as_bytes()),
        value: Some(&value),
        headers: &[],
    };
    log.append(
        &output,
        Box::new(move |outcome| {
            // Nobody waits any more only where the process is ending.
            let _ = done.send(outcome);
        }),
    )?;
    acknowledged.await.map_err(|_| PublishError::NoAnswer)??;
    Ok(())
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
