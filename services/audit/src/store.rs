//! The snapshot: counters, balances, what is open, and the positions they follow from, in one SQLite transaction.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use log::{Position, Topic};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};

use crate::AuditError;
use crate::books::{Books, Cell};
use crate::counts::Counts;

const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Changed when a snapshot of an earlier form cannot be read: the books are then counted anew from the topics.
const FORM: i64 = 1;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS form (one INTEGER PRIMARY KEY CHECK (one = 1), form INTEGER NOT NULL, log TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS tail (topic TEXT NOT NULL, at_partition INTEGER NOT NULL, next_offset INTEGER NOT NULL,
    PRIMARY KEY (topic, at_partition)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cell (tenant TEXT NOT NULL, hour INTEGER NOT NULL, counts TEXT NOT NULL,
    PRIMARY KEY (tenant, hour)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS balance (account TEXT NOT NULL, currency TEXT NOT NULL, minor TEXT NOT NULL,
    PRIMARY KEY (account, currency)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS open (one INTEGER PRIMARY KEY CHECK (one = 1), open TEXT NOT NULL);
";

/// One process's snapshot file.
#[derive(Debug)]
pub(crate) struct Store {
    pool: SqlitePool,
}

impl Store {
    /// Opens or makes the file; what belongs to another log, or was written in another form, is emptied.
    pub(crate) async fn open(file: &Path, log: &str) -> Result<Self, AuditError> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
        sqlx::raw_sql(TABLES).execute(&pool).await?;
        let store = Self { pool };
        let known: Option<(i64, String)> =
            sqlx::query_as("SELECT form, log FROM form").fetch_optional(&store.pool).await?;
        if known.as_ref().is_none_or(|(form, of)| *form != FORM || of != log) {
            if known.is_some() {
                tracing::warn!("the snapshot of the books is of another log or form: counting anew");
            }
            let mut tx = store.pool.begin().await?;
            for wipe in
                ["DELETE FROM form", "DELETE FROM tail", "DELETE FROM cell", "DELETE FROM balance", "DELETE FROM open"]
            {
                sqlx::query(wipe).execute(&mut *tx).await?;
            }
            sqlx::query("INSERT INTO form (one, form, log) VALUES (1, $1, $2)")
                .bind(FORM)
                .bind(log)
                .execute(&mut *tx)
                .await?;
            tx.commit().await?;
        }
        Ok(store)
    }

    /// Reads the snapshot; `None` where there is none.
    pub(crate) async fn load(&self, partitions: BTreeMap<Topic, u32>) -> Result<Option<Books>, AuditError> {
        let Some((open,)) = sqlx::query_as::<_, (String,)>("SELECT open FROM open").fetch_optional(&self.pool).await?
        else {
            return Ok(None);
        };
        let open = serde_json::from_str(&open).map_err(AuditError::Damaged)?;
        let mut books = Books { partitions, open, ..Books::default() };
        let tail: Vec<(String, i64, i64)> =
            sqlx::query_as("SELECT topic, at_partition, next_offset FROM tail").fetch_all(&self.pool).await?;
        for (topic, partition, offset) in tail {
            let (Ok(partition), Ok(offset)) = (u32::try_from(partition), u64::try_from(offset)) else {
                return Ok(None);
            };
            books.next.insert((Topic::new(&topic), partition), offset);
        }
        let cells: Vec<(String, i64, String)> =
            sqlx::query_as("SELECT tenant, hour, counts FROM cell").fetch_all(&self.pool).await?;
        for (tenant, hour, counts) in cells {
            let counts: Counts = serde_json::from_str(&counts).map_err(AuditError::Damaged)?;
            books.cells.insert(Cell { tenant, hour }, counts);
        }
        let balances: Vec<(String, String, String)> =
            sqlx::query_as("SELECT account, currency, minor FROM balance").fetch_all(&self.pool).await?;
        for (account, currency, minor) in balances {
            let Ok(minor) = minor.parse() else { return Ok(None) };
            books.balances.insert((account, currency), minor);
        }
        Ok(Some(books))
    }

    /// Writes what changed since the last snapshot.
    pub(crate) async fn save(&self, books: &mut Books) -> Result<(), AuditError> {
        let mut tx = self.pool.begin().await?;
        for Position { topic, partition, offset } in books.positions() {
            sqlx::query(
                "INSERT INTO tail (topic, at_partition, next_offset) VALUES ($1, $2, $3) \
                 ON CONFLICT (topic, at_partition) DO UPDATE SET next_offset = excluded.next_offset",
            )
            .bind(topic.as_str().to_owned())
            .bind(i64::from(partition))
            .bind(i64::try_from(offset).unwrap_or(i64::MAX))
            .execute(&mut *tx)
            .await?;
        }
        for cell in &books.changed_cells {
            let counts = books.cells.get(cell).copied().unwrap_or_default();
            sqlx::query(
                "INSERT INTO cell (tenant, hour, counts) VALUES ($1, $2, $3) \
                 ON CONFLICT (tenant, hour) DO UPDATE SET counts = excluded.counts",
            )
            .bind(&cell.tenant)
            .bind(cell.hour)
            .bind(serde_json::to_string(&counts).map_err(AuditError::Damaged)?)
            .execute(&mut *tx)
            .await?;
        }
        for account in &books.changed_balances {
            let minor = books.balances.get(account).copied().unwrap_or_default();
            sqlx::query(
                "INSERT INTO balance (account, currency, minor) VALUES ($1, $2, $3) \
                 ON CONFLICT (account, currency) DO UPDATE SET minor = excluded.minor",
            )
            .bind(&account.0)
            .bind(&account.1)
            .bind(minor.to_string())
            .execute(&mut *tx)
            .await?;
        }
        let open = serde_json::to_string(&books.open).map_err(AuditError::Damaged)?;
        sqlx::query("INSERT INTO open (one, open) VALUES (1, $1) ON CONFLICT (one) DO UPDATE SET open = excluded.open")
            .bind(open)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        books.changed_cells.clear();
        books.changed_balances.clear();
        Ok(())
    }

    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}
