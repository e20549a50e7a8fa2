//! What can go wrong with the database, by what the caller must do.

use crate::database::Offsets;

/// An operation that failed.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("cannot connect to the ledger database")]
    Connect(#[source] sqlx::Error),
    #[error("cannot bring the ledger database up to date")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    #[error("ledger statement failed: {operation}")]
    Statement {
        operation: &'static str,
        #[source]
        source: sqlx::Error,
    },
    /// The transaction may be committed or not.
    #[error("the outcome of a ledger commit is unknown")]
    Commit(#[source] sqlx::Error),
    #[error("ledger partition {partition} is not at {expected:?}: somebody else has written it")]
    Fenced { partition: u32, expected: Offsets },
    #[error(
        "the ledger belongs to log {found} with {found_partitions} partitions, not to {expected} with {partitions}"
    )]
    Foreign { found: String, found_partitions: u32, expected: String, partitions: u32 },
    #[error("the ledger database holds a value that cannot be: {column}")]
    Damaged { column: &'static str },
    #[error("a value does not fit its column: {column}")]
    OutOfRange { column: &'static str },
    #[error("the batch could not be decided")]
    Decide(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Nothing happened, and it may work later: the same call again, on a new connection.
    Retry,
    /// It may have happened, or somebody else was first: read the progress and go on from there.
    Reread,
    /// No retry can help.
    Fatal,
}

impl LedgerError {
    /// What the caller must do.
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Connect(source) | Self::Statement { source, .. } => of_sqlx(source),
            Self::Migrate(source) => match source {
                sqlx::migrate::MigrateError::Execute(source)
                | sqlx::migrate::MigrateError::ExecuteMigration(source, _) => of_sqlx(source),
                _ => Disposition::Fatal,
            },
            Self::Commit(_) | Self::Fenced { .. } => Disposition::Reread,
            Self::Foreign { .. } | Self::Damaged { .. } | Self::OutOfRange { .. } | Self::Decide(_) => {
                Disposition::Fatal
            }
        }
    }

    /// A stable code for logs and runbooks.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Connect(_) => "ledger_unreachable",
            Self::Migrate(_) => "ledger_migration_failed",
            Self::Statement { .. } => "ledger_statement_failed",
            Self::Commit(_) => "ledger_commit_unknown",
            Self::Fenced { .. } => "ledger_fenced",
            Self::Foreign { .. } => "foreign_ledger",
            Self::Damaged { .. } => "ledger_damaged",
            Self::OutOfRange { .. } => "ledger_out_of_range",
            Self::Decide(_) => "ledger_decision_failed",
        }
    }
}

fn of_sqlx(error: &sqlx::Error) -> Disposition {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::BeginFailed => Disposition::Retry,
        sqlx::Error::Database(database) => {
            let code = database.code().unwrap_or_default();
            let heals = if let Some(sqlite) = database.try_downcast_ref::<sqlx::sqlite::SqliteError>() {
                sqlite_heals(sqlite)
            } else {
                postgres_heals(&code)
            };
            if heals { Disposition::Retry } else { Disposition::Fatal }
        }
        _ => Disposition::Fatal,
    }
}

/// SQLITE_BUSY, SQLITE_LOCKED, SQLITE_IOERR, SQLITE_FULL, SQLITE_CANTOPEN; the low byte is the primary code.
fn sqlite_heals(error: &sqlx::sqlite::SqliteError) -> bool {
    use sqlx::error::DatabaseError;
    let extended: Option<u32> = error.code().and_then(|code| code.parse().ok());
    extended.is_some_and(|code| matches!(code & 0xff, 5 | 6 | 10 | 13 | 14))
}

/// By SQLSTATE class: connection (08), rolled back (40), resources (53), lock not available (55P03), operator intervention
/// (57), a standby after a failover (25006), and a key that another partition has just used (23505): read it again.
fn postgres_heals(code: &str) -> bool {
    ["08", "40", "53", "57"].iter().any(|class| code.starts_with(class)) || ["55P03", "25006", "23505"].contains(&code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_heal_is_told_from_what_cannot() {
        for code in ["08006", "40001", "40P01", "53300", "57P01", "57P03", "55P03", "25006", "23505"] {
            assert!(postgres_heals(code), "{code}");
        }
        for code in ["", "23514", "42P01", "22003", "28P01"] {
            assert!(!postgres_heals(code), "{code}");
        }
        let lost = LedgerError::Commit(sqlx::Error::WorkerCrashed);
        assert_eq!(lost.disposition(), Disposition::Reread);
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert_eq!(LedgerError::Connect(sqlx::Error::Io(refused)).disposition(), Disposition::Retry);
    }
}
