//! view: the read model behind every GET, filled from the topics alone.
//!
//! | | |
//! |---|---|
//! | reads | every public topic, `exchange.admitted.v1`, `signing_key.v1` and the dead letters, with `Log::tail` (no group: it decides nothing) |
//! | writes | no topic but `signing_key.v1`: the public keys that sign bundles |
//! | key | none: it reads all partitions |
//! | ordering | none needed between topics: every upsert commutes; within a partition by offset |
//! | state | its own tables in SQLite (`view.db`) or PostgreSQL (schema `view`); wiped and refilled by [`rebuild`] |
//! | guarantee | rows and the positions they follow from are one database transaction, fenced by the positions: each record shows once |
//! | bad record | a later schema: wait for the deploy, and say how far behind; damage: logged, counted, passed over (R10 finds it) |
//! | crash | the next start goes on from the stored positions |
//! | metrics | `view_records_total`, `view_batches_total`, `view_apply_seconds`, `view_lag_records{topic}`, `view_unreadable_total` |
//! | configuration | [`Database`], and the bundles' key files in `signing/`, looked at once a second |
#![forbid(unsafe_code)]

mod bundle;
mod cursor;
mod db;
mod follow;
mod http;
mod money;
mod progress;
mod read;
mod rows;
mod shape;
mod store;
mod tables;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use log::{Fault, Position};

pub use db::Database;
pub use follow::{follow, rebuild, topics};
pub use http::{ViewApi, ViewState, router};
pub use progress::{Lag, TopicLag};
pub use read::{Hop, Known};
pub use shape::{
    AccountBalance, AccountView, AccountsView, BalanceView, EntriesView, EntryView, ExchangeView, ExchangesView,
    ReceiptsView, UsageView,
};

use crate::db::Db;
use crate::progress::Progress;

/// Why the read model could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    #[error("the read model's database failed")]
    Database(#[from] sqlx::Error),
    #[error("the read model's tables could not be made or migrated")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    #[error("`{0}` cannot be the name of a schema: lower-case letters, digits and _ only")]
    Schema(String),
    #[error("the log could not be read")]
    Log(#[from] Fault),
    /// Another follower has moved the positions; read them again.
    #[error("another follower has written {0:?}")]
    Overtaken(Position),
    #[error("the thread of the read model could not start its runtime")]
    Runtime(#[source] std::io::Error),
    #[error("a stored value of `{0}` is damaged: rebuild the read model")]
    Damaged(&'static str),
}

/// The read model of one process: what HTTP asks, and what its follower fills. Cheap to clone.
#[derive(Clone, Debug)]
pub struct View {
    database: Database,
    reader: Db,
    progress: Arc<Progress>,
}

impl View {
    /// Makes what is missing and connects. Call on the runtime that will ask.
    ///
    /// # Errors
    /// The database cannot be reached, written or migrated.
    pub async fn open(database: Database) -> Result<Self, ViewError> {
        let writer = Db::writer(&database).await?;
        let stored = store::positions(&writer).await?;
        writer.close().await;
        let progress = Progress::default();
        progress.passed(&stored);
        Ok(Self { reader: Db::reader(&database).await?, database, progress: Arc::new(progress) })
    }

    /// How far behind the read model is, as its follower last saw it.
    pub fn lag(&self) -> Lag {
        self.progress.lag()
    }

    /// Where its follower stands: the next offset of every partition taken in.
    pub fn positions(&self) -> Vec<Position> {
        self.progress.positions()
    }

    /// Lets the connections go.
    pub async fn close(&self) {
        self.reader.close().await;
    }
}
