//! What goes wrong with the files, by what the caller must do.

use std::path::Path;

use super::codec::{FORMAT, Malformed};
use crate::{Cause, Fault};

pub(super) fn fatal(code: &'static str, detail: impl Into<String>) -> Fault {
    Fault::Fatal(Cause::new(code, detail))
}

pub(super) fn read_fault(error: fjall::Error) -> Fault {
    Fault::Fatal(Cause::new("log_read_failed", "the log could not be read").caused_by(error))
}

pub(super) fn malformed_fault(error: Malformed) -> Fault {
    Fault::Fatal(Cause::new("log_damaged", "the log holds what it never wrote").caused_by(error))
}

pub(super) fn newer_format(dir: &Path, format: u16) -> Fault {
    fatal("log_format", format!("{} has format {format}; this program knows format {FORMAT}", dir.display()))
}

pub(super) fn io_fault(code: &'static str, path: &Path, error: std::io::Error) -> Fault {
    Fault::Fatal(Cause::new(code, path.display().to_string()).caused_by(error))
}

pub(super) fn open_fault(dir: &Path, error: fjall::Error) -> Fault {
    let place = dir.display().to_string();
    match error {
        fjall::Error::Locked => fatal("log_locked", format!("{place} is in use by another process")),
        fjall::Error::InvalidVersion(_) => Fault::Fatal(Cause::new("log_format", place).caused_by(error)),
        error => Fault::Fatal(Cause::new("log_open_failed", place).caused_by(error)),
    }
}
