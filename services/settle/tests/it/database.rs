//! A database of the test's own, and copies of it at a moment.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use ledger::DatabaseUrl;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};
use tempfile::TempDir;

static COUNT: AtomicU64 = AtomicU64::new(0);

pub enum Place {
    Sqlite { directory: TempDir, file: PathBuf },
    Postgres { name: String },
}

/// Runs async code where a test has none.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    runtime().block_on(future)
}

/// A connection lives on the runtime that made it.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn server() -> String {
    std::env::var("COUNTERSIGN_TEST_POSTGRES")
        .expect("COUNTERSIGN_TEST_POSTGRES is not set: run the tests by scripts/test, which starts PostgreSQL")
}

fn fresh_name() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros();
    format!("settle_{}_{since}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

async fn on_server(statement: String) {
    let mut connection = PgConnection::connect(&server()).await.unwrap();
    connection.execute(AssertSqlSafe(statement)).await.unwrap();
}

impl Place {
    pub fn sqlite() -> Self {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("ledger.db");
        Self::Sqlite { directory, file }
    }

    pub fn postgres() -> Self {
        let name = fresh_name();
        block_on(on_server(format!("CREATE DATABASE {name}")));
        Self::Postgres { name }
    }

    pub fn url(&self) -> DatabaseUrl {
        match self {
            Self::Sqlite { file, .. } => DatabaseUrl::sqlite(file),
            Self::Postgres { name } => DatabaseUrl::parse(&url_of(name)).unwrap(),
        }
    }

    /// The database as it is now; nobody may be connected.
    pub fn copy(&self) -> Self {
        match self {
            Self::Sqlite { file, .. } => {
                let directory = TempDir::new().unwrap();
                let copy = directory.path().join("ledger.db");
                block_on(async {
                    let mut connection =
                        SqliteConnection::connect(&format!("sqlite:{}", file.display())).await.unwrap();
                    let statement = format!("VACUUM INTO '{}'", copy.display());
                    connection.execute(AssertSqlSafe(statement)).await.unwrap();
                });
                Self::Sqlite { directory, file: copy }
            }
            Self::Postgres { name } => {
                let copy = fresh_name();
                block_on(on_server(format!("CREATE DATABASE {copy} TEMPLATE {name}")));
                Self::Postgres { name: copy }
            }
        }
    }

    /// An empty one of the same kind.
    pub fn another(&self) -> Self {
        match self {
            Self::Sqlite { .. } => Self::sqlite(),
            Self::Postgres { .. } => Self::postgres(),
        }
    }

    /// Runs a statement by hand, as an accident would.
    pub fn tamper(&self, statement: &'static str) {
        block_on(async {
            match self {
                Self::Sqlite { file, .. } => {
                    let mut connection =
                        SqliteConnection::connect(&format!("sqlite:{}", file.display())).await.unwrap();
                    connection.execute(statement).await.unwrap();
                }
                Self::Postgres { name } => {
                    PgConnection::connect(&url_of(name)).await.unwrap().execute(statement).await.unwrap();
                }
            }
        });
    }
}

fn url_of(name: &str) -> String {
    let server = server();
    let (base, _) = server.rsplit_once('/').unwrap();
    format!("{base}/{name}")
}

impl Drop for Place {
    fn drop(&mut self) {
        match self {
            Self::Sqlite { directory, .. } => {
                let _kept_until_here = directory.path();
            }
            // Whoever is still connected is leaving; a database that cannot be dropped goes with the test's server.
            Self::Postgres { name } => {
                let statement = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
                block_on(async {
                    if let Ok(mut connection) = PgConnection::connect(&server()).await {
                        let _ = connection.execute(AssertSqlSafe(statement)).await;
                    }
                });
            }
        }
    }
}
