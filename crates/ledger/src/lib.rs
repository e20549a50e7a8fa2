//! The books in a database: commands, entries, balances, volumes, and the outbox that tells the log of them.
//!
//! One database transaction holds the effects of a batch, its next input offsets and its outbox rows; its first statement
//! is the fence (R5). What is posted is decided elsewhere, in pure code, on [`Books`]: this crate loads them before
//! and writes them after. SQLite and PostgreSQL run the same statements and keep the same promises.
//!
//! Not in it: topics, records, fees, retries.

#![allow(clippy::duplicate_mod, reason = "one text of the statements, compiled for each dialect")]

mod books;
mod database;
mod error;
mod outbox;

pub use books::{AccountKey, Books, CommandKey, ContentHash, Needs, Parked, PostError, Posting, Sides, VolumeKey};
pub use database::{
    Applied, BATCH_COMMANDS_MAX, Balance, Batch, DatabaseUrl, DatabaseUrlError, Entry, Ledger, Offsets, Progress,
};
pub use error::{Disposition, LedgerError};
pub use outbox::{GENESIS, Headers, Input, OutboxRow, RowDraft, RowHash, Source, row_hash};
