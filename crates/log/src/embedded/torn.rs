//! A batch that the power cut while it was being written.
//!
//! The journal's pages reach the disk in any order, so that the last batch, which nobody was told of, may lie there with
//! its frame whole and a hole within. The database then refuses to open. Such a batch is cut off here, if it is the last
//! one: each batch is synced before the next is written, so damage further in is not a torn write but a lost promise.

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, ErrorKind, Read, Result, Seek};
use std::path::{Path, PathBuf};

use fjall::{Error, JournalRecoveryError};

/// True if the journal frames batches, but one of them is not what its checksum says.
pub(super) fn may_be_torn(error: &Error) -> bool {
    matches!(
        error,
        Error::JournalRecovery(
            JournalRecoveryError::ChecksumMismatch
                | JournalRecoveryError::InsufficientLength
                | JournalRecoveryError::TooManyItems
        )
    )
}

/// The journal without its last batch, and a copy of it as it was.
pub(super) struct Cut {
    journal: PathBuf,
    copy: PathBuf,
}

impl Cut {
    /// Cuts off the last batch of the active journal; `None` if there is none.
    pub(super) fn last_batch(database: &Path) -> Result<Option<Self>> {
        let Some(journal) = active_journal(database)? else { return Ok(None) };
        let Some(start) = last_batch_start(&mut BufReader::new(File::open(&journal)?))? else { return Ok(None) };
        let copy = journal.with_extension("torn");
        fs::copy(&journal, &copy)?;
        File::open(&copy)?.sync_all()?;
        let file = OpenOptions::new().write(true).open(&journal)?;
        file.set_len(start)?;
        file.sync_all()?;
        Ok(Some(Self { journal, copy }))
    }

    /// It was not the last batch: everything as it was, for whoever repairs it.
    pub(super) fn undo(self) -> Result<()> {
        fs::rename(&self.copy, &self.journal)
    }
}

/// The journal with the highest number is the one being written.
fn active_journal(database: &Path) -> Result<Option<PathBuf>> {
    let mut newest = None;
    for entry in fs::read_dir(database)? {
        let path = entry?.path();
        let is_journal = path.extension().is_some_and(|extension| extension == "jnl");
        let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u64>().ok());
        if let (true, Some(number)) = (is_journal, number) {
            newest = newest.max(Some((number, path)));
        }
    }
    Ok(newest.map(|(_, path)| path))
}

/// Walks the frames of a journal of fjall 3: a start, items, an end with a trailer.
fn last_batch_start(journal: &mut (impl Read + Seek)) -> Result<Option<u64>> {
    let (mut last, mut open) = (None, None);
    loop {
        let at = journal.stream_position()?;
        let [tag] = match take::<1>(journal) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(last),
            tag => tag?,
        };
        let skipped = match tag {
            1 => {
                open = Some(at);
                12
            }
            2 => item_bytes(journal),
            3 => {
                last = open.take().or(last);
                12
            }
            4 => 8,
            _ => return Ok(last),
        };
        journal.seek_relative(skipped)?;
    }
}

/// What is left of an item after its lengths, which are read; at the end of the file, nothing.
fn item_bytes(journal: &mut impl Read) -> i64 {
    let Ok(_kind_and_keyspace) = take::<10>(journal) else { return 0 };
    let (Ok(key), Ok(_value)) = (take(journal), take::<4>(journal)) else { return 0 };
    let Ok(stored) = take(journal) else { return 0 };
    i64::from(u16::from_le_bytes(key)) + i64::from(u32::from_le_bytes(stored))
}

fn take<const N: usize>(journal: &mut impl Read) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    journal.read_exact(&mut bytes)?;
    Ok(bytes)
}
