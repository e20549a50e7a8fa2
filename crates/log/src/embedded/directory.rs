//! Whose directory it is: the lock, the header, and a database that opens also after a torn write.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use fjall::Database;

use super::codec::{FORMAT, Malformed, Reader};
use super::expired::{self, Expired};
use super::fault::{fatal, io_fault, newer_format};
use super::torn::{self, Cut};
use crate::Fault;

const LOCK_FILE: &str = "lock";
const HEADER_FILE: &str = "format";
const HEADER_MAGIC: &str = "countersign-log";
pub(super) const DATABASE_FOLDER: &str = "db";
const BLOCK_CACHE_BYTES: u64 = 32 * 1024 * 1024;

pub(super) fn lock(dir: &Path) -> Result<File, Fault> {
    let path = dir.join(LOCK_FILE);
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = open.map_err(|error| io_fault("log_open_failed", &path, error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            let holder = holder.trim();
            let who = if holder.is_empty() { "another process".to_owned() } else { format!("process {holder}") };
            return Err(fatal("log_locked", format!("{} is in use by {who}", dir.display())));
        }
        Err(TryLockError::Error(error)) => return Err(io_fault("log_open_failed", &path, error)),
    }
    let named = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    named.map_err(|error| io_fault("log_open_failed", &path, error))?;
    Ok(file)
}

pub(super) fn open_database(database: &Path, expired: &Arc<Expired>) -> fjall::Result<Database> {
    let open = || {
        let builder = Database::builder(database).cache_size(BLOCK_CACHE_BYTES).manual_journal_persist(true);
        builder.with_compaction_filter_factories(expired::filters(expired)).open()
    };
    let refused = match open() {
        Err(error) if torn::may_be_torn(&error) => error,
        opened => return opened,
    };
    let Some(cut) = Cut::last_batch(database)? else { return Err(refused) };
    match open() {
        Ok(db) => {
            tracing::error!(error = %refused, "the last batch of the journal was torn and is cut off; a copy lies beside it");
            Ok(db)
        }
        Err(_) => {
            cut.undo()?;
            Err(refused)
        }
    }
}

/// The identity in the header file, if there is one.
pub(super) fn read_header(dir: &Path) -> Result<Option<String>, Fault> {
    let path = dir.join(HEADER_FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_fault("log_open_failed", &path, error)),
    };
    let mut words = text.split_whitespace();
    let (magic, format, identity) = (words.next(), words.next(), words.next());
    match (magic, format.and_then(|format| format.parse::<u16>().ok()), identity) {
        (Some(HEADER_MAGIC), Some(FORMAT), Some(identity)) => Ok(Some(identity.to_owned())),
        (Some(HEADER_MAGIC), Some(format), _) => Err(newer_format(dir, format)),
        _ => Err(fatal("log_foreign", format!("{} is not the header of a log", path.display()))),
    }
}

pub(super) fn write_header(dir: &Path, identity: &str) -> Result<(), Fault> {
    let path = dir.join(HEADER_FILE);
    let draft = dir.join("format.new");
    let written = File::create(&draft)
        .and_then(|mut file| writeln!(file, "{HEADER_MAGIC} {FORMAT} {identity}").and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&draft, &path))
        .and_then(|()| File::open(dir)?.sync_all());
    written.map_err(|error| io_fault("log_open_failed", &path, error))
}

/// A new log is made only where nothing else lies: a mistyped directory is not littered.
pub(super) fn refuse_other_files(dir: &Path) -> Result<(), Fault> {
    let entries = fs::read_dir(dir).map_err(|error| io_fault("log_open_failed", dir, error))?;
    for entry in entries {
        let name = entry.map_err(|error| io_fault("log_open_failed", dir, error))?.file_name();
        if name != LOCK_FILE {
            return Err(fatal("log_foreign", format!("{} holds {name:?}, which no log made", dir.display())));
        }
    }
    Ok(())
}

/// 128 bits from the standard library's own random source: names a log, guards nothing.
pub(super) fn new_identity() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let half = || {
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u128(since.as_nanos());
        hasher.finish()
    };
    format!("{:016x}{:016x}", half(), half())
}

pub(super) fn parse_header(bytes: &[u8]) -> Result<(u16, String), Malformed> {
    let mut reader = Reader::new(bytes);
    let format = u16::from_be_bytes(reader.array()?);
    let identity = String::from_utf8(reader.rest().to_vec()).map_err(|_| Malformed("identity in the header"))?;
    Ok((format, identity))
}
