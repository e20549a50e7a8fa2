//! The handle: one connection, opened again after every failure whose cause may lie in it.

mod postgres;
mod sqlite;

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, PgConnection, SqliteConnection};

use crate::books::{Books, Needs, Parked};
use crate::error::{Disposition, LedgerError};
use crate::outbox::{OutboxRow, RowHash};

static SQLITE_MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES_MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// The most commands that one database transaction takes.
pub const BATCH_COMMANDS_MAX: usize = 1_000;

/// How long SQLite waits for another writer before it answers that the database is locked.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the books are. `Debug` hides the password.
#[derive(Clone)]
pub struct DatabaseUrl(Options);

#[derive(Clone)]
enum Options {
    Sqlite(Box<SqliteConnectOptions>),
    Postgres(Box<PgConnectOptions>),
}

/// Why a text names no database.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseUrlError {
    #[error("a database URL begins with sqlite: or postgres:")]
    Scheme,
    #[error("the database URL cannot be read")]
    Malformed(#[source] sqlx::Error),
}

impl DatabaseUrl {
    /// Reads `sqlite:FILE` or `postgres://USER:PASSWORD@HOST:PORT/DATABASE`.
    ///
    /// # Errors
    /// Another scheme, or a URL that its driver cannot read.
    pub fn parse(text: &str) -> Result<Self, DatabaseUrlError> {
        if text.starts_with("sqlite:") {
            SqliteConnectOptions::from_str(text).map(Self::of_sqlite).map_err(DatabaseUrlError::Malformed)
        } else if text.starts_with("postgres:") || text.starts_with("postgresql:") {
            let options = PgConnectOptions::from_str(text).map_err(DatabaseUrlError::Malformed)?;
            Ok(Self(Options::Postgres(Box::new(options.disable_statement_logging()))))
        } else {
            Err(DatabaseUrlError::Scheme)
        }
    }

    /// A SQLite file; it is made if it is missing.
    pub fn sqlite(file: &Path) -> Self {
        Self::of_sqlite(SqliteConnectOptions::new().filename(file))
    }

    fn of_sqlite(options: SqliteConnectOptions) -> Self {
        // FULL, because WAL with NORMAL does not sync each commit, and an outbox that is published must not be lost.
        let options = options
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .disable_statement_logging();
        Self(Options::Sqlite(Box::new(options)))
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Options::Sqlite(options) => write!(f, "sqlite:{}", options.get_filename().display()),
            Options::Postgres(options) => write!(
                f,
                "postgres://{}@{}:{}/{}",
                options.get_username(),
                options.get_host(),
                options.get_port(),
                options.get_database().unwrap_or_default()
            ),
        }
    }
}

/// The next offset of each input of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    pub command: u64,
    pub redo: u64,
}

/// How far a partition has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub offsets: Offsets,
    /// The sequence that the next outbox row gets; from 1.
    pub next_sequence: u64,
    /// The hash of the outbox row before that.
    pub head: RowHash,
}

/// One database transaction: from these offsets to those.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub partition: u32,
    pub expected: Offsets,
    pub next: Offsets,
    pub needs: Needs,
    /// Outbox rows below this sequence are published and go.
    pub published: u64,
}

/// What a batch came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    pub progress: Progress,
    /// Outbox rows written.
    pub rows: usize,
}

/// Both sides of an account in one currency, over all partitions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Balance {
    pub account: String,
    pub currency: String,
    pub debits: i128,
    pub credits: i128,
}

/// A transfer that was posted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pub partition: u32,
    pub sequence: u64,
    pub part: u32,
    pub exchange_id: Option<String>,
    pub command_id: String,
    pub debit_account: String,
    pub credit_account: String,
    pub currency: String,
    pub minor: i64,
    pub at: i64,
}

enum Connection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// The books, through one connection: one writer. Every method may be called again after an error that says so
/// ([`LedgerError::disposition`]); the connection is made anew then.
pub struct Ledger {
    url: DatabaseUrl,
    connection: Option<Connection>,
}

/// Calls one statement function of the dialect that is connected, and drops the connection when it may be at fault.
macro_rules! dispatch {
    ($ledger:ident, $function:ident($($argument:expr),*)) => {{
        let outcome = match $ledger.connected().await? {
            Connection::Sqlite(connection) => sqlite::$function(connection, $($argument),*).await,
            Connection::Postgres(connection) => postgres::$function(connection, $($argument),*).await,
        };
        $ledger.kept(outcome)
    }};
}

impl Ledger {
    /// Connects and brings the tables up to date.
    ///
    /// # Errors
    /// Unreachable, or tables of a version that this one does not know.
    pub async fn open(url: DatabaseUrl) -> Result<Self, LedgerError> {
        let mut ledger = Self { url, connection: None };
        let outcome = match ledger.connected().await? {
            Connection::Sqlite(connection) => SQLITE_MIGRATIONS.run(connection).await,
            Connection::Postgres(connection) => POSTGRES_MIGRATIONS.run(connection).await,
        };
        ledger.kept(outcome.map_err(LedgerError::Migrate))?;
        Ok(ledger)
    }

    async fn connected(&mut self) -> Result<&mut Connection, LedgerError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => match &self.url.0 {
                Options::Sqlite(options) => options.connect().await.map(Connection::Sqlite),
                Options::Postgres(options) => postgres::connect(options).await.map(Connection::Postgres),
            }
            .map_err(LedgerError::Connect)?,
        };
        Ok(self.connection.insert(connection))
    }

    fn kept<T>(&mut self, outcome: Result<T, LedgerError>) -> Result<T, LedgerError> {
        if let Err(error) = &outcome
            && !matches!(error, LedgerError::Fenced { .. })
        {
            self.connection = None;
        }
        outcome
    }

    /// Ties the database to a log, or says that it is tied to another one.
    ///
    /// # Errors
    /// `Foreign` for a database of another log or another number of partitions.
    pub async fn bind(&mut self, log_identity: &str, partitions: u32) -> Result<(), LedgerError> {
        let (found, found_partitions) = dispatch!(self, bind(log_identity, partitions))?;
        if found == log_identity && found_partitions == partitions {
            return Ok(());
        }
        Err(LedgerError::Foreign { found, found_partitions, expected: log_identity.to_owned(), partitions })
    }

    /// How far a partition has come; one that was never written begins at `start`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn progress(&mut self, partition: u32, start: Offsets) -> Result<Progress, LedgerError> {
        dispatch!(self, progress(partition, start))
    }

    /// One transaction: the fence, what `decide` needs, `decide`, and everything that it did to the books.
    /// `decide` takes at most [`BATCH_COMMANDS_MAX`] commands.
    ///
    /// # Errors
    /// `Fenced` if the partition is not at `expected`; `Commit` if nobody knows; `Decide` with the error of `decide`.
    pub async fn apply<F>(&mut self, batch: &Batch, decide: F) -> Result<Applied, LedgerError>
    where
        F: FnOnce(&mut Books) -> Result<(), Box<dyn std::error::Error + Send + Sync>>,
    {
        dispatch!(self, apply(batch, decide))
    }

    /// Outbox rows after this sequence, in order, at most `limit`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn outbox_after(
        &mut self,
        partition: u32,
        sequence: u64,
        limit: u32,
    ) -> Result<Vec<OutboxRow>, LedgerError> {
        dispatch!(self, outbox_after(partition, sequence, limit))
    }

    /// The hash of one outbox row, while it is there.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn outbox_hash(&mut self, partition: u32, sequence: u64) -> Result<Option<RowHash>, LedgerError> {
        dispatch!(self, outbox_hash(partition, sequence))
    }

    /// Every account that was ever moved, summed over the partitions from one snapshot.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn balances(&mut self) -> Result<Vec<Balance>, LedgerError> {
        dispatch!(self, balances())
    }

    /// What is parked in a partition after this sequence, with the sequence it was told of, at most `limit`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn parked(
        &mut self,
        partition: u32,
        sequence: u64,
        limit: u32,
    ) -> Result<Vec<(u64, Parked)>, LedgerError> {
        dispatch!(self, parked(partition, sequence, limit))
    }

    /// How commits are made durable, in the database's own words: for `doctor`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn durability(&mut self) -> Result<String, LedgerError> {
        dispatch!(self, durability())
    }

    /// The transfers of one exchange, in the order they were posted.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn entries_of_exchange(&mut self, exchange_id: &str) -> Result<Vec<Entry>, LedgerError> {
        dispatch!(self, entries_of_exchange(exchange_id))
    }

    /// Whether an error leaves nothing to do but to end.
    pub fn is_fatal(error: &LedgerError) -> bool {
        error.disposition() == Disposition::Fatal
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("url", &self.url).field("connected", &self.connection.is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_its_database_and_shows_no_password() {
        let url = DatabaseUrl::parse("postgres://clerk:hunter2@db.internal:5433/books").unwrap();
        assert_eq!(format!("{url:?}"), "postgres://clerk@db.internal:5433/books");
        assert_eq!(format!("{:?}", DatabaseUrl::sqlite(Path::new("/x/ledger.db"))), "sqlite:/x/ledger.db");
        assert!(DatabaseUrl::parse("sqlite:ledger.db").is_ok());
        assert!(matches!(DatabaseUrl::parse("mysql://x"), Err(DatabaseUrlError::Scheme)));
    }
}
