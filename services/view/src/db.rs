//! The database behind the read model: SQLite or PostgreSQL, the same statements on both.
//!
//! Both know `$1` and `ON CONFLICT`, so one text serves; what differs is here and in the two folders of migrations.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgRow};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, Postgres, Row as _, Sqlite, Transaction};

use crate::ViewError;

static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");

/// Connections that answer reads.
const READERS_MAX: u32 = 4;
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// The writer takes its lock at once, not with its first statement.
const BEGIN_IMMEDIATE: &str = "BEGIN IMMEDIATE";

/// Where the read model lies.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// A file of this process's own.
    Sqlite { file: PathBuf },
    /// A server; the tables lie in a schema of their own, so that the database can be shared.
    Postgres { url: String, schema: String },
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite { file } => f.debug_struct("Sqlite").field("file", file).finish(),
            // The address may hold a password.
            Self::Postgres { schema, .. } => f.debug_struct("Postgres").field("schema", schema).finish_non_exhaustive(),
        }
    }
}

/// A value bound to a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Bind {
    Text(Option<String>),
    Int(Option<i64>),
}

impl From<String> for Bind {
    fn from(text: String) -> Self {
        Self::Text(Some(text))
    }
}

impl From<&str> for Bind {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<Option<String>> for Bind {
    fn from(text: Option<String>) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Bind {
    fn from(int: i64) -> Self {
        Self::Int(Some(int))
    }
}

impl From<Option<i64>> for Bind {
    fn from(int: Option<i64>) -> Self {
        Self::Int(int)
    }
}

macro_rules! bound {
    ($sql:expr, $binds:expr) => {{
        let mut query = sqlx::query(AssertSqlSafe($sql.to_owned()));
        for bind in $binds {
            query = match bind {
                Bind::Text(text) => query.bind(text.clone()),
                Bind::Int(int) => query.bind(*int),
            };
        }
        query
    }};
}

/// One row of an answer.
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    pub(crate) fn text(&self, column: usize) -> Result<Option<String>, ViewError> {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }?)
    }

    pub(crate) fn int(&self, column: usize) -> Result<Option<i64>, ViewError> {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }?)
    }

    /// A text that the table does not allow to be null.
    pub(crate) fn known_text(&self, column: usize) -> Result<String, ViewError> {
        Ok(self.text(column)?.unwrap_or_default())
    }

    pub(crate) fn known_int(&self, column: usize) -> Result<i64, ViewError> {
        Ok(self.int(column)?.unwrap_or_default())
    }
}

/// Connections to the read model.
#[derive(Clone, Debug)]
pub(crate) enum Db {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Db {
    /// One connection that writes; makes and migrates what is missing.
    pub(crate) async fn writer(database: &Database) -> Result<Self, ViewError> {
        match database {
            Database::Sqlite { file } => {
                let options = sqlite(file).create_if_missing(true).journal_mode(SqliteJournalMode::Wal);
                // The model can be refilled from the topics at any time, so a commit need not wait for the disk; what
                // is left after a crash is a whole transaction, positions included.
                let options = options.synchronous(SqliteSynchronous::Normal);
                let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
                SQLITE.run(&pool).await.map_err(ViewError::Migrate)?;
                Ok(Self::Sqlite(pool))
            }
            Database::Postgres { url, schema } => {
                check_schema(schema)?;
                let pool = PgPoolOptions::new().max_connections(1).connect_with(postgres(url, schema)?).await?;
                sqlx::raw_sql(AssertSqlSafe(format!("CREATE SCHEMA IF NOT EXISTS {schema}"))).execute(&pool).await?;
                POSTGRES.run(&pool).await.map_err(ViewError::Migrate)?;
                Ok(Self::Postgres(pool))
            }
        }
    }

    /// Connections that read. The tables must be there.
    pub(crate) async fn reader(database: &Database) -> Result<Self, ViewError> {
        Ok(match database {
            Database::Sqlite { file } => Self::Sqlite(
                SqlitePoolOptions::new()
                    .max_connections(READERS_MAX)
                    .connect_with(sqlite(file).read_only(true))
                    .await?,
            ),
            Database::Postgres { url, schema } => Self::Postgres(
                PgPoolOptions::new().max_connections(READERS_MAX).connect_with(postgres(url, schema)?).await?,
            ),
        })
    }

    pub(crate) async fn fetch(&self, sql: &str, binds: &[Bind]) -> Result<Vec<Row>, ViewError> {
        Ok(match self {
            Self::Sqlite(pool) => bound!(sql, binds).fetch_all(pool).await?.into_iter().map(Row::Sqlite).collect(),
            Self::Postgres(pool) => bound!(sql, binds).fetch_all(pool).await?.into_iter().map(Row::Postgres).collect(),
        })
    }

    pub(crate) async fn begin(&self) -> Result<Tx, ViewError> {
        Ok(match self {
            Self::Sqlite(pool) => Tx::Sqlite(begin_immediate(pool).await?),
            Self::Postgres(pool) => Tx::Postgres(pool.begin().await?),
        })
    }

    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

/// SQLite ends a transaction by itself where it finds no room on the disk, and sqlx goes on taking it for open: such a
/// connection would never begin another, also when there is room again.
async fn begin_immediate(pool: &SqlitePool) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
    match pool.begin_with(BEGIN_IMMEDIATE).await {
        Err(sqlx::Error::InvalidSavePointStatement) => {
            pool.acquire().await?.close().await?;
            pool.begin_with(BEGIN_IMMEDIATE).await
        }
        begun => begun,
    }
}

/// An open transaction; dropped without `commit` it never was.
pub(crate) enum Tx {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

impl Tx {
    /// Answers how many rows were touched.
    pub(crate) async fn execute(&mut self, sql: &str, binds: &[Bind]) -> Result<u64, ViewError> {
        Ok(match self {
            Self::Sqlite(tx) => bound!(sql, binds).execute(&mut **tx).await?.rows_affected(),
            Self::Postgres(tx) => bound!(sql, binds).execute(&mut **tx).await?.rows_affected(),
        })
    }

    pub(crate) async fn commit(self) -> Result<(), ViewError> {
        match self {
            Self::Sqlite(tx) => tx.commit().await?,
            Self::Postgres(tx) => tx.commit().await?,
        }
        Ok(())
    }
}

fn sqlite(file: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(file).busy_timeout(BUSY_TIMEOUT)
}

fn postgres(url: &str, schema: &str) -> Result<PgConnectOptions, ViewError> {
    Ok(PgConnectOptions::from_str(url)?.options([("search_path", schema)]).application_name("countersign-view"))
}

/// The schema's name goes into a statement as it is.
fn check_schema(schema: &str) -> Result<(), ViewError> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let ok = schema.starts_with(|c: char| c.is_ascii_lowercase()) && schema.len() <= 63 && schema.chars().all(plain);
    if ok { Ok(()) } else { Err(ViewError::Schema(schema.to_owned())) }
}
