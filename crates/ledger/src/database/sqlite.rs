//! SQLite, for a first start. It compiles the same `statements.rs` as PostgreSQL: neither can do what the other does not.

use sqlx::Sqlite as Db;
use sqlx::SqliteConnection as Link;

/// Takes the write lock at once: a reader that becomes a writer later could be refused without waiting.
const BEGIN: &str = "BEGIN IMMEDIATE";

/// `synchronous 2` is FULL.
const DURABILITY: &str = "SELECT (SELECT journal_mode FROM pragma_journal_mode) || ', synchronous ' || (SELECT synchronous FROM pragma_synchronous)";

#[path = "statements.rs"]
mod statements;
pub(super) use statements::*;
