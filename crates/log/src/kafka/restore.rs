//! Brings the local stores of an assignment to where the committed offsets are (R3).
//!
//! Commit markers land broker by broker, so a reader that stops at the last stable offset may miss the last transaction
//! and then admit duplicates (KAFKA-10167). Therefore the end with open transactions is asked for, after the offsets
//! were read; the last stable offset is waited for until it has passed that end; and all up to there is replayed.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::Offset;

use super::clients::{Clients, known_offset, known_partition, places};
use super::driver::{Driver, Fetched, Reads};
use super::fault::{During, fault, is_of_unknown_topic, is_passing};
use super::store::{Header, Progress, Stage, Store, Stores, now_ms};
use crate::{Cause, Fault, Position, Topic};

/// Cells that are written to a store at once.
const BATCH_CELLS: usize = 2_000;
const BATCH_BYTES: usize = 4 << 20;
const AHEAD_KBYTES: u32 = 16_384;
const POLL: Duration = Duration::from_millis(5);
/// How often the group hears of us meanwhile.
const ALIVE_EVERY: Duration = Duration::from_millis(200);

/// Of one step.
pub(super) struct Restorer<'a, D: Driver> {
    pub(super) clients: &'a Clients<D>,
    pub(super) stores: &'a Stores,
    pub(super) group: &'a str,
    pub(super) changelog: &'a Topic,
    pub(super) changelog_id: &'a str,
    pub(super) partitions: u32,
}

/// A partition's store, and how far it goes.
pub(super) struct Local {
    pub(super) store: Store,
    pub(super) progress: Progress,
}

/// A store that is on its way to the end of its changelog.
struct Replay {
    store: Store,
    from: u64,
    end: u64,
    inputs: BTreeMap<String, u64>,
    cells: BTreeMap<Bytes, Option<Bytes>>,
    bytes: usize,
    reached: u64,
}

impl<D: Driver> Restorer<'_, D> {
    /// `committed` holds the next offset of each input by topic, for every partition. Call after `init_transactions`
    /// and after reading these offsets. `meanwhile` keeps the group informed and may end the work.
    pub(super) fn restore(
        &self,
        committed: BTreeMap<u32, BTreeMap<String, u64>>,
        meanwhile: &mut dyn FnMut() -> Result<(), Fault>,
    ) -> Result<BTreeMap<u32, Local>, Fault> {
        let partitions = committed.keys().copied().collect::<Vec<_>>();
        let ends = self.clients.open_ends(self.changelog, &partitions)?;
        let starts = self.clients.starts(self.changelog, &partitions)?;
        let mut replays = BTreeMap::new();
        for (partition, inputs) in committed {
            let (start, end) = (offset_at(&starts, partition)?, offset_at(&ends, partition)?);
            replays.insert(partition, self.plan(partition, inputs, (start, end))?);
        }
        self.clients.wait_stable(self.changelog, &ends, meanwhile)?;
        self.replay(&mut replays, meanwhile)?;
        replays.into_iter().map(|(partition, replay)| Ok((partition, replay.complete()?))).collect()
    }

    /// Where to begin: equal, behind, or to be built anew.
    fn plan(&self, partition: u32, inputs: BTreeMap<String, u64>, range: (u64, u64)) -> Result<Replay, Fault> {
        let (start, end) = range;
        let header = Header {
            cluster: self.clients.cluster().to_owned(),
            changelog: self.changelog.as_str().to_owned(),
            changelog_id: self.changelog_id.to_owned(),
            partition,
            partitions: self.partitions,
        };
        let store = self.stores.claim(self.group, &header)?;
        let progress = store.progress()?;
        let kept_for = self.clients.config.timings.tombstones.as_millis();
        let from = match rebuild_because(progress.as_ref(), &inputs, (start, end), kept_for) {
            None => progress.as_ref().map_or(start, |at| at.changelog),
            Some(why) => {
                if end > start || progress.is_some_and(|at| at.stage != Stage::Restoring) {
                    tracing::info!(group = self.group, partition, why, records = end - start, "state is rebuilt");
                }
                store.clear(start)?;
                start
            }
        };
        Ok(Replay { store, from, end, inputs, cells: BTreeMap::new(), bytes: 0, reached: from })
    }

    fn replay(
        &self,
        replays: &mut BTreeMap<u32, Replay>,
        meanwhile: &mut dyn FnMut() -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let unread = |replays: &BTreeMap<u32, Replay>| replays.values().any(|replay| replay.reached < replay.end);
        if !unread(replays) {
            return Ok(());
        }
        let reader = self.clients.reader(AHEAD_KBYTES)?;
        let behind = replays.iter().filter(|(_, replay)| replay.from < replay.end);
        let list = places(behind.map(|(partition, replay)| (self.changelog.as_str(), *partition, replay.from)))?;
        reader.assign(&list).map_err(|error| fault(During::Read, error))?;
        let mut alive = self.clients.now();
        let mut progressed = self.clients.now();
        while unread(replays) {
            match reader.poll(POLL) {
                Some(Ok(message)) => {
                    progressed = self.clients.now();
                    if let Some(replay) = replays.get_mut(&message.partition()) {
                        replay.take(message.key(), message.value(), message.offset())?;
                    }
                }
                Some(Err(error)) if is_passing(&error) => {}
                Some(Err(error)) if is_of_unknown_topic(&error) => self.clients.refuse_missing([self.changelog])?,
                Some(Err(error)) => return Err(fault(During::Read, error)),
                // Markers and aborted records are read but not shown.
                None => {
                    for element in reader.position().map_err(|error| fault(During::Read, error))?.elements() {
                        if let (Offset::Offset(at), Some(replay)) =
                            (element.offset(), replays.get_mut(&known_partition(element.partition())))
                        {
                            replay.reached = replay.reached.max(known_offset(at));
                        }
                    }
                    let stalled = self.clients.now().saturating_duration_since(progressed);
                    if stalled > self.clients.config.timings.stability() {
                        let detail = format!("nothing more of {} could be read", self.changelog);
                        return Err(Fault::Retry(Cause::new("restore_stalled", detail)));
                    }
                }
            }
            if self.clients.now().saturating_duration_since(alive) >= ALIVE_EVERY {
                meanwhile()?;
                alive = self.clients.now();
            }
        }
        Ok(())
    }
}

/// Why the cells that are there cannot be built upon.
fn rebuild_because(
    progress: Option<&Progress>,
    committed: &BTreeMap<String, u64>,
    (start, end): (u64, u64),
    tombstones_ms: u128,
) -> Option<&'static str> {
    let Some(progress) = progress else { return Some("unreadable") };
    let age_ms = u128::try_from(now_ms().saturating_sub(progress.written_ms)).unwrap_or_default();
    let is_ahead = |(topic, next): (&String, &u64)| committed.get(topic).is_none_or(|committed| next > committed);
    match progress.stage {
        Stage::Clearing => Some("half cleared"),
        _ if progress.changelog < start => Some("older than its changelog"),
        _ if progress.changelog > end => Some("ahead of its changelog"),
        _ if progress.inputs.iter().any(is_ahead) => Some("ahead of the committed offsets"),
        // A tombstone that was cleaned away meanwhile would leave its cell standing.
        _ if progress.changelog + 1 < end && age_ms > tombstones_ms => Some("left behind too long"),
        Stage::Restoring | Stage::Complete => None,
    }
}

impl Replay {
    fn take(&mut self, key: Option<&[u8]>, value: Option<&[u8]>, offset: u64) -> Result<(), Fault> {
        let key = Bytes::copy_from_slice(key.unwrap_or_default());
        self.bytes += key.len() + value.map_or(0, <[u8]>::len);
        self.cells.insert(key, value.map(Bytes::copy_from_slice));
        self.reached = offset + 1;
        if self.cells.len() >= BATCH_CELLS || self.bytes >= BATCH_BYTES {
            let progress = self.progress(Stage::Restoring, BTreeMap::new());
            self.write(&progress)?;
        }
        Ok(())
    }

    fn progress(&self, stage: Stage, inputs: BTreeMap<String, u64>) -> Progress {
        Progress { stage, inputs, changelog: self.reached, written_ms: now_ms() }
    }

    fn write(&mut self, progress: &Progress) -> Result<(), Fault> {
        let cells = std::mem::take(&mut self.cells);
        self.bytes = 0;
        self.store.apply(cells.iter().map(|(key, value)| (key.as_ref(), value.as_deref())), &[], progress)
    }

    fn complete(mut self) -> Result<Local, Fault> {
        let inputs = std::mem::take(&mut self.inputs);
        let progress = self.progress(Stage::Complete, inputs);
        self.write(&progress)?;
        Ok(Local { store: self.store, progress })
    }
}

fn offset_at(positions: &[Position], partition: u32) -> Result<u64, Fault> {
    positions
        .iter()
        .find(|at| at.partition == partition)
        .map(|at| at.offset)
        .ok_or_else(|| Fault::Retry(Cause::new("unavailable", format!("no offsets of partition {partition}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u128 = 86_400_000;

    fn progress(stage: Stage, next: u64, changelog: u64) -> Progress {
        Progress { stage, inputs: BTreeMap::from([("in".into(), next)]), changelog, written_ms: now_ms() }
    }

    fn decide(progress: &Progress, range: (u64, u64)) -> Option<&'static str> {
        rebuild_because(Some(progress), &BTreeMap::from([("in".into(), 10)]), range, DAY_MS)
    }

    #[test]
    fn equal_and_behind_are_built_upon() {
        assert_eq!(decide(&progress(Stage::Complete, 10, 20), (0, 21)), None);
        assert_eq!(decide(&progress(Stage::Complete, 7, 12), (0, 21)), None);
        assert_eq!(decide(&progress(Stage::Restoring, 0, 12), (0, 21)), None);
    }

    #[test]
    fn ahead_stale_and_half_cleared_are_rebuilt() {
        assert!(decide(&progress(Stage::Complete, 11, 20), (0, 21)).is_some());
        assert!(decide(&progress(Stage::Complete, 10, 22), (0, 21)).is_some());
        assert!(decide(&progress(Stage::Complete, 10, 4), (5, 21)).is_some());
        assert!(decide(&progress(Stage::Clearing, 10, 20), (0, 21)).is_some());
    }

    #[test]
    fn a_store_that_may_have_missed_tombstones_is_rebuilt() {
        let mut old = progress(Stage::Complete, 7, 12);
        old.written_ms -= 2 * 86_400_000;
        assert_eq!(decide(&old, (0, 21)), Some("left behind too long"));
        old.changelog = 20;
        assert_eq!(decide(&old, (0, 21)), None);
    }
}
