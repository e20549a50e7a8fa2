//! PostgreSQL. It compiles the same `statements.rs` as SQLite: neither can do what the other does not.

use sqlx::PgConnection as Link;
use sqlx::Postgres as Db;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Executor};

/// The fence locks the partition's row first, so that what is read after it is what was last committed.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

const DURABILITY: &str = "SELECT 'synchronous_commit ' || current_setting('synchronous_commit')";

#[path = "statements.rs"]
mod statements;
pub(super) use statements::*;

/// Connects; a commit that answers before it is on disk would break R5, whatever the server's default is.
pub(super) async fn connect(options: &PgConnectOptions) -> Result<Link, sqlx::Error> {
    let mut link = options.connect().await?;
    link.execute(
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
    )
    .await?;
    Ok(link)
}
