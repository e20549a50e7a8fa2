//! The local copy of one partition's state, on fjall. The changelog is the truth; this is what makes it quick to ask.
//!
//! A store is one database at `<state_dir>/<group>/<partition>` with the cells, a header that says whose they are, and
//! how far they go. Each commit is applied as one atomic batch, unsynced: what a crash of the machine takes, the
//! changelog gives back (R3).

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::disk::{Change, Disk, Files, Part};
use super::fault::misconfigured;
use super::forget::Forgotten;
use crate::{Cause, Fault};

/// Of the way cells and header are kept here. Another one is rebuilt.
const FORMAT: u32 = 1;
const HEADER: &[u8] = b"header";
const PROGRESS: &[u8] = b"progress";
const FORGOTTEN: u8 = b'f';

/// Whose state it is. All of it must agree, or it is not opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) cluster: String,
    pub(super) changelog: String,
    /// Another one of the same name is another changelog.
    pub(super) changelog_id: String,
    pub(super) partition: u32,
    pub(super) partitions: u32,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    format: u32,
    #[serde(flatten)]
    header: Header,
}

/// How far the cells go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    pub(super) stage: Stage,
    /// Next offset of each input, by topic.
    pub(super) inputs: BTreeMap<String, u64>,
    /// Next offset of the changelog.
    pub(super) changelog: u64,
    /// When this was written, by the clock of this machine.
    pub(super) written_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    /// Cells of before may still be there.
    Clearing,
    /// Cells up to `changelog`, which is not yet the end.
    Restoring,
    /// Cells as of `inputs`.
    Complete,
}

/// Every store that this process has open.
pub(super) struct Stores {
    root: PathBuf,
    disk: Disk,
    open: Mutex<HashMap<PathBuf, Weak<Opened>>>,
}

struct Opened {
    files: Files,
    forgotten: Forgotten,
    /// The claim that may write. Held while a batch is applied, so that a newer claim reads all of it or none.
    owner: Mutex<u64>,
}

/// One claim to a store. A newer claim within the process takes it over: the older session has lost the partition.
pub(super) struct Store {
    opened: Arc<Opened>,
    claim: u64,
}

impl Stores {
    pub(super) fn new(root: PathBuf, disk: Disk) -> Self {
        Self { root, disk, open: Mutex::default() }
    }

    /// Opens the store or makes an empty one. One that cannot be read is made anew; one of another owner is refused.
    pub(super) fn claim(&self, group: &str, header: &Header) -> Result<Store, Fault> {
        let path = self.root.join(group).join(header.partition.to_string());
        let mut open = self.open.lock();
        let opened = match open.get(&path).and_then(Weak::upgrade) {
            Some(opened) => opened,
            None => {
                let opened = Arc::new(open_or_replace(&self.disk, &path)?);
                open.insert(path.clone(), Arc::downgrade(&opened));
                opened
            }
        };
        drop(open);
        let claim = {
            let mut owner = opened.owner.lock();
            *owner += 1;
            *owner
        };
        let store = Store { opened, claim };
        store.check(header, &path)?;
        Ok(store)
    }
}

fn open_or_replace(disk: &Disk, path: &Path) -> Result<Opened, Fault> {
    match open(disk, path) {
        Ok(opened) => Ok(opened),
        Err(fjall::Error::Locked) => {
            let detail = format!("{} is in use by another process", path.display());
            Err(Fault::Retry(Cause::new("store_locked", detail)))
        }
        Err(fjall::Error::Io(error)) => Err(unusable(path, fjall::Error::Io(error))),
        Err(error) => {
            tracing::warn!(store = %path.display(), %error, "a store cannot be read and is rebuilt from its changelog");
            disk.remove(path).map_err(|error| unusable(path, error.into()))?;
            open(disk, path).map_err(|error| unusable(path, error))
        }
    }
}

fn open(disk: &Disk, path: &Path) -> Result<Opened, fjall::Error> {
    let forgotten = Forgotten::default();
    let files = disk.open(path, &forgotten)?;
    for key in files.head_keys(FORGOTTEN)? {
        forgotten.add(key.get(1..).unwrap_or_default());
    }
    Ok(Opened { files, forgotten, owner: Mutex::new(0) })
}

fn unusable(path: &Path, error: fjall::Error) -> Fault {
    let detail = format!("cannot open the store {}: {error}", path.display());
    Fault::Fatal(Cause::new("store_unusable", detail).caused_by(error))
}

/// Reading or writing failed: the disk, or a store that broke while it was open.
fn broken(error: fjall::Error) -> Fault {
    Fault::Fatal(Cause::new("store_broken", format!("the local state failed: {error}")).caused_by(error))
}

impl Store {
    fn check(&self, header: &Header, path: &Path) -> Result<(), Fault> {
        let kept = self.opened.files.head(HEADER).map_err(broken)?;
        let Some(kept) = kept.map(|bytes| serde_json::from_slice::<Kept>(&bytes)) else {
            return self.begin(header);
        };
        match kept {
            Ok(kept) if kept.header == *header && kept.format == FORMAT => Ok(()),
            Ok(kept) if kept.header == *header => {
                tracing::info!(store = %path.display(), "a store of another format is rebuilt");
                self.begin(header)
            }
            Ok(kept) => {
                let detail = format!("{} belongs to {:?}, not to {header:?}", path.display(), kept.header);
                Err(misconfigured("store_foreign", detail))
            }
            Err(error) => {
                tracing::warn!(store = %path.display(), %error, "a store without a readable header is rebuilt");
                self.begin(header)
            }
        }
    }

    fn begin(&self, header: &Header) -> Result<(), Fault> {
        self.clear(0)?;
        let kept = Kept { format: FORMAT, header: header.clone() };
        let text = serde_json::to_vec(&kept).map_err(|error| misconfigured("store_unusable", error.to_string()))?;
        self.opened.files.write([in_head(HEADER, Some(&text))].into_iter()).map_err(broken)
    }

    fn refuse_if_taken_over(&self, owner: u64) -> Result<(), Fault> {
        if owner == self.claim {
            return Ok(());
        }
        // Who is right, the group decides with the next commit; the other one recovers and claims it again.
        Err(Fault::Abort(Cause::new("partition_lost", "another session of this process has claimed the partition")))
    }

    pub(super) fn progress(&self) -> Result<Option<Progress>, Fault> {
        let kept = self.opened.files.head(PROGRESS).map_err(broken)?;
        Ok(kept.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// Empties the store; it then goes up to `changelog`. A crash in between leaves it marked.
    pub(super) fn clear(&self, changelog: u64) -> Result<(), Fault> {
        let owner = self.opened.owner.lock();
        self.refuse_if_taken_over(*owner)?;
        let nothing = |stage| Progress { stage, inputs: BTreeMap::new(), changelog, written_ms: now_ms() };
        let files = &self.opened.files;
        let clearing = encode(&nothing(Stage::Clearing))?;
        files.write([in_head(PROGRESS, Some(&clearing))].into_iter()).map_err(broken)?;
        files.clear_cells().map_err(broken)?;
        self.opened.forgotten.clear();
        let restoring = encode(&nothing(Stage::Restoring))?;
        let forgotten = files.head_keys(FORGOTTEN).map_err(broken)?;
        let removed = forgotten.iter().map(|key| in_head(key, None));
        files.write(removed.chain([in_head(PROGRESS, Some(&restoring))])).map_err(broken)
    }

    /// Applies cells and how far they go as one.
    pub(super) fn apply<'a>(
        &self,
        cells: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
        forgotten: &[Vec<u8>],
        progress: &Progress,
    ) -> Result<(), Fault> {
        let owner = self.opened.owner.lock();
        self.refuse_if_taken_over(*owner)?;
        let marks = forgotten.iter().map(|prefix| [&[FORGOTTEN], prefix.as_slice()].concat()).collect::<Vec<_>>();
        let progress = encode(progress)?;
        let cells = cells.map(|(key, value)| Change { part: Part::Cells, key, value });
        let marks = marks.iter().map(|mark| in_head(mark, Some(&[])));
        let all = cells.chain(marks).chain([in_head(PROGRESS, Some(&progress))]);
        self.opened.files.write(all).map_err(broken)?;
        forgotten.iter().for_each(|prefix| self.opened.forgotten.add(prefix));
        Ok(())
    }

    pub(super) fn has_forgotten(&self, key: &[u8]) -> bool {
        self.opened.forgotten.covers(key)
    }

    pub(super) fn get(&self, key: &[u8], out: &mut Vec<u8>) -> Result<bool, Fault> {
        if self.has_forgotten(key) {
            return Ok(false);
        }
        self.opened.files.get(key, out).map_err(broken)
    }

    /// Cells from `from` on, in order of their bytes, until `visit` answers false. Forgotten ones are not shown.
    pub(super) fn scan(&self, from: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), Fault> {
        let mut shown = |key: &[u8], value: &[u8]| self.has_forgotten(key) || visit(key, value);
        self.opened.files.scan(from, &mut shown).map_err(broken)
    }
}

fn in_head<'a>(key: &'a [u8], value: Option<&'a [u8]>) -> Change<'a> {
    Change { part: Part::Head, key, value }
}

fn encode(progress: &Progress) -> Result<Vec<u8>, Fault> {
    serde_json::to_vec(progress).map_err(|error| misconfigured("store_unusable", error.to_string()))
}

/// Only to tell how long a store lay unused; no decision of a step depends on it.
pub(super) fn now_ms() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_millis()).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(partition: u32) -> Header {
        Header {
            cluster: "here".into(),
            changelog: "step.state.v1".into(),
            changelog_id: "first".into(),
            partition,
            partitions: 4,
        }
    }

    fn progress(changelog: u64) -> Progress {
        Progress { stage: Stage::Complete, inputs: BTreeMap::from([("in".into(), 7)]), changelog, written_ms: 0 }
    }

    fn cell<'a>(key: &'a str, value: &'a str) -> (&'a [u8], Option<&'a [u8]>) {
        (key.as_bytes(), Some(value.as_bytes()))
    }

    #[test]
    fn cells_and_progress_come_back_together() {
        let directory = tempfile::tempdir().unwrap();
        {
            let stores = Stores::new(directory.path().into(), Disk::Directory);
            let store = stores.claim("step", &header(1)).unwrap();
            store.apply([cell("a", "1"), cell("b", "2")].into_iter(), &[], &progress(9)).unwrap();
        }
        let stores = Stores::new(directory.path().into(), Disk::Directory);
        let store = stores.claim("step", &header(1)).unwrap();
        assert_eq!(store.progress().unwrap(), Some(progress(9)));
        let mut seen = Vec::new();
        store
            .scan(b"", &mut |key, value| {
                seen.push((key.to_vec(), value.to_vec()));
                true
            })
            .unwrap();
        assert_eq!(seen, [(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), b"2".to_vec())]);
    }

    #[test]
    fn a_store_of_another_changelog_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let stores = Stores::new(directory.path().into(), Disk::Directory);
        drop(stores.claim("step", &header(1)).unwrap());
        let made_anew = Header { changelog_id: "second".into(), ..header(1) };
        let refused = stores.claim("step", &made_anew).err().unwrap();
        assert_eq!(refused.cause().code, "store_foreign");
    }

    #[test]
    fn a_newer_claim_takes_the_store_from_an_older_one() {
        let directory = tempfile::tempdir().unwrap();
        let stores = Stores::new(directory.path().into(), Disk::Directory);
        let zombie = stores.claim("step", &header(0)).unwrap();
        let owner = stores.claim("step", &header(0)).unwrap();
        let refused = zombie.apply(std::iter::empty(), &[], &progress(1)).unwrap_err();
        assert_eq!(refused.cause().code, "partition_lost");
        owner.apply([cell("a", "1")].into_iter(), &[], &progress(1)).unwrap();
    }

    #[test]
    fn what_was_forgotten_stays_hidden_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        {
            let stores = Stores::new(directory.path().into(), Disk::Directory);
            let store = stores.claim("step", &header(0)).unwrap();
            store.apply([cell("g1/a", "1"), cell("g2/a", "2")].into_iter(), &[], &progress(2)).unwrap();
            store.apply(std::iter::empty(), &[b"g1/".to_vec()], &progress(2)).unwrap();
        }
        let stores = Stores::new(directory.path().into(), Disk::Directory);
        let store = stores.claim("step", &header(0)).unwrap();
        let mut out = Vec::new();
        assert!(!store.get(b"g1/a", &mut out).unwrap());
        assert!(store.get(b"g2/a", &mut out).unwrap());
        store.clear(0).unwrap();
        assert!(!store.has_forgotten(b"g1/a") && !store.get(b"g2/a", &mut out).unwrap());
    }

    #[test]
    fn a_damaged_store_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("step").join("0");
        std::fs::create_dir_all(&place).unwrap();
        std::fs::write(place.join("version"), b"not a store").unwrap();
        let stores = Stores::new(directory.path().into(), Disk::Directory);
        let store = stores.claim("step", &header(0)).unwrap();
        assert_eq!(store.progress().unwrap().map(|progress| progress.stage), Some(Stage::Restoring));
    }
}
