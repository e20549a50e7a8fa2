//! The data directory: what lies where (docs/contracts/program.md), and who is running in it.

use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// What a start needs on the disk at the least; with less it would end, or wait, in the middle of something.
const ROOM_BYTES: usize = 4 * 1024 * 1024;

/// Paths under `--data DIR`.
#[derive(Clone, Debug)]
pub(crate) struct DataDir(PathBuf);

/// Who runs here: read by the commands that talk to a running process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) pid: u32,
    pub(crate) http: Option<SocketAddr>,
    pub(crate) admin: SocketAddr,
}

impl DataDir {
    /// Makes the directory if it is missing.
    pub(crate) fn open(path: &Path) -> std::io::Result<Self> {
        fs::create_dir_all(path.join("state"))?;
        Ok(Self(path.to_owned()))
    }

    /// Whether a little can be written here: by writing it, which also tells of quotas and of a disk that is read-only.
    pub(crate) fn room(&self) -> io::Result<()> {
        let probe = self.0.join(format!("room.{}", std::process::id()));
        let write = || {
            let mut file = fs::File::create(&probe)?;
            file.write_all(&vec![0; ROOM_BYTES])?;
            file.sync_all()
        };
        let written = write();
        let removed = fs::remove_file(&probe);
        written.and(removed)
    }

    /// As [`Self::room`], told to a person.
    pub(crate) fn require_room(&self) -> Result<(), Failure> {
        let place = self.0.display();
        self.room().map_err(|error| {
            Failure::new(format!("{place} cannot take {} MiB", ROOM_BYTES / (1024 * 1024))).because(error).try_this(
                format!("make room on its disk (`df -h {place}`), then start again: nothing that was answered is lost"),
            )
        })
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    pub(crate) fn signing(&self) -> PathBuf {
        self.0.join("signing")
    }

    pub(crate) fn access_db(&self) -> PathBuf {
        self.0.join("access.db")
    }

    pub(crate) fn ledger_db(&self) -> PathBuf {
        self.0.join("ledger.db")
    }

    pub(crate) fn view_db(&self) -> PathBuf {
        self.0.join("view.db")
    }

    fn run_file(&self) -> PathBuf {
        self.0.join("run.json")
    }

    /// Says who runs here, for the commands beside it.
    pub(crate) fn announce(&self, run: &Run) -> std::io::Result<()> {
        let temporary = self.0.join("run.json.new");
        let mut file = fs::File::create(&temporary)?;
        serde_json::to_writer(&mut file, run)?;
        file.flush()?;
        fs::rename(temporary, self.run_file())
    }

    /// Takes the announcement back.
    pub(crate) fn withdraw(&self) {
        if let Err(error) = fs::remove_file(self.run_file()) {
            tracing::debug!(%error, "run.json was gone already");
        }
    }

    /// The process that runs here, if it is still alive.
    pub(crate) fn running(&self) -> Option<Run> {
        let run: Run = serde_json::from_slice(&fs::read(self.run_file()).ok()?).ok()?;
        // A process that was killed leaves its file behind, and its number may be another's by now. A dead one that nobody
        // has waited for yet has no executable.
        let executable = fs::read_link(Path::new("/proc").join(run.pid.to_string()).join("exe")).ok()?;
        let own = std::env::current_exe().ok()?;
        (name_of(&executable) == name_of(&own)).then_some(run)
    }
}

/// The file's name; a binary that was replaced while it runs is told as `name (deleted)`.
fn name_of(executable: &Path) -> Option<String> {
    let name = executable.file_name()?.to_str()?;
    Some(name.trim_end_matches(" (deleted)").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_looked_for_and_nothing_is_left_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        data.require_room().unwrap();
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["state"]);
        fs::remove_dir_all(dir.path()).unwrap();
        let told = data.require_room().unwrap_err().to_string();
        assert!(told.contains("cannot take 4 MiB"), "{told}");
    }

    #[test]
    fn only_a_living_process_of_ours_is_running() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        let admin = SocketAddr::from(([127, 0, 0, 1], 1));
        data.announce(&Run { pid: std::process::id(), http: None, admin }).unwrap();
        assert!(data.running().is_some());
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        data.announce(&Run { pid: ended.id(), http: None, admin }).unwrap();
        // Ended and not waited for, or still starting: neither is one of ours.
        assert!(data.running().is_none());
        ended.wait().unwrap();
        assert!(data.running().is_none());
        data.announce(&Run { pid: 1, http: None, admin }).unwrap();
        assert!(data.running().is_none());
    }
}
