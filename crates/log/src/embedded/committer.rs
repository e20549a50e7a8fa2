//! The one thread that writes: it takes all that waits, makes one batch and one sync of it, and only then lets readers
//! see it and answers who asked.
//!
//! Being the only writer it also decides who owns a partition: a session that was superseded finds its commit refused
//! here, because the claim of its successor came through the same queue.

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use fjall::OwnedWriteBatch;

use super::codec::{CHUNK_BYTES_MAX, Piece};
use super::control::Control;
use super::fault::fatal;
use super::keys::{encode_end, meta_key, record_key};
use super::staged::Staged;
use super::store::{Store, TopicEntry};
use crate::{AckSink, Cause, Committed, Fault, Position};

/// Jobs that wait for the committer; who brings more is pushed back.
const QUEUE_JOBS_MAX: usize = 16 * 1024;
/// Bytes of appends that wait for the committer; who brings more is pushed back.
const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What one round writes with one sync, at most (and one job more).
const ROUND_BYTES_MAX: usize = 32 * 1024 * 1024;
const ROUND_JOBS_MAX: usize = 16 * 1024;

pub(super) enum Job {
    Append(Append),
    Commit(Box<Commit>),
    /// The slot's older session is superseded from here on.
    Enter {
        group: u32,
        slot: String,
        member: u64,
        reply: Sender<Result<(), Fault>>,
    },
    /// The partition's older grants are superseded from here on.
    Claim {
        group: u32,
        grants: Vec<(u32, u64)>,
        reply: Sender<Result<(), Fault>>,
    },
    Control(Control),
}

pub(super) struct Append {
    pub(super) entry: Arc<TopicEntry>,
    pub(super) partition: u32,
    pub(super) piece: Piece,
    pub(super) done: AckSink,
}

pub(super) struct Commit {
    pub(super) group: u32,
    pub(super) slot: String,
    pub(super) member: u64,
    /// Every partition that the transaction touched, with the grant that it was worked under.
    pub(super) grants: Vec<(u32, u64)>,
    pub(super) staged: Staged,
    pub(super) offsets: Vec<NextOffset>,
    pub(super) reply: Sender<Result<Committed, Fault>>,
}

/// How far an input has come.
pub(super) struct NextOffset {
    pub(super) topic: u32,
    pub(super) partition: u32,
    pub(super) offset: u64,
}

/// What a transaction writes to one partition, in order.
pub(super) struct StagedOutput {
    pub(super) entry: Arc<TopicEntry>,
    pub(super) partition: u32,
    pub(super) pieces: Vec<Piece>,
}

/// The way to the committer.
#[derive(Clone)]
pub(super) struct Queue {
    jobs: Sender<Job>,
    append_bytes: Arc<AtomicUsize>,
}

impl Queue {
    pub(super) fn new() -> (Self, Receiver<Job>) {
        let (jobs, waiting) = bounded(QUEUE_JOBS_MAX);
        (Self { jobs, append_bytes: Arc::default() }, waiting)
    }

    /// Never waits: a full queue is the caller's to hear of.
    pub(super) fn append(&self, append: Append) -> Result<(), Fault> {
        let byte_count = append.piece.byte_count();
        if self.append_bytes.fetch_add(byte_count, Ordering::AcqRel) > QUEUE_BYTES_MAX {
            self.append_bytes.fetch_sub(byte_count, Ordering::AcqRel);
            return Err(busy());
        }
        let sent = self.jobs.try_send(Job::Append(append));
        sent.map_err(|error| {
            self.append_bytes.fetch_sub(byte_count, Ordering::AcqRel);
            match error {
                TrySendError::Full(_) => busy(),
                TrySendError::Disconnected(_) => stopped(),
            }
        })
    }

    /// Hands over a job and waits for its answer.
    pub(super) fn ask<T>(&self, job: impl FnOnce(Sender<Result<T, Fault>>) -> Job) -> Result<T, Fault> {
        let (reply, answer) = bounded(1);
        self.jobs.send(job(reply)).map_err(|_| stopped())?;
        answer.recv().map_err(|_| stopped())?
    }
}

fn busy() -> Fault {
    Fault::Retry(Cause::new("log_busy", "more is waiting to be written than the log takes on"))
}

fn stopped() -> Fault {
    fatal("log_stopped", "the log's committer has ended")
}

/// Works until every `Queue` is gone.
pub(super) fn run(store: &Store, waiting: &Receiver<Job>, queued_bytes: &AtomicUsize) {
    let mut owners = Owners::default();
    while let Ok(first) = waiting.recv() {
        let mut round = Round::new(store);
        let mut next = Some(first);
        let mut control = None;
        while let Some(job) = next {
            match job {
                Job::Append(append) => {
                    queued_bytes.fetch_sub(append.piece.byte_count(), Ordering::AcqRel);
                    round.append(append);
                }
                Job::Commit(commit) => round.commit(*commit, &owners),
                Job::Enter { group, slot, member, reply } => {
                    owners.slots.insert((group, slot), member);
                    round.answers.push(Answer::Done(reply));
                }
                Job::Claim { group, grants, reply } => {
                    owners.claim(group, &grants);
                    round.answers.push(Answer::Done(reply));
                }
                Job::Control(job) => control = Some(job),
            }
            let goes_on = control.is_none() && round.has_room();
            next = if goes_on { waiting.try_recv().ok() } else { None };
        }
        round.finish();
        if let Some(control) = control {
            control.work(store);
        }
    }
}

pub(super) fn queued_bytes(queue: &Queue) -> Arc<AtomicUsize> {
    Arc::clone(&queue.append_bytes)
}

/// Who may commit for what.
#[derive(Default)]
struct Owners {
    slots: HashMap<(u32, String), u64>,
    grants: HashMap<(u32, u32), u64>,
}

impl Owners {
    /// A claim that was overtaken by a later grant changes nothing; its commits will be refused.
    fn claim(&mut self, group: u32, grants: &[(u32, u64)]) {
        for (partition, grant) in grants {
            let known = self.grants.entry((group, *partition)).or_insert(*grant);
            *known = (*known).max(*grant);
        }
    }

    fn check(&self, commit: &Commit) -> Result<(), Fault> {
        // The owned key is the price of a map keyed by (id, name); it is paid once a transaction.
        if self.slots.get(&(commit.group, commit.slot.clone())) != Some(&commit.member) {
            return Err(fatal("fenced", format!("another session has joined on slot {}", commit.slot)));
        }
        for (partition, grant) in &commit.grants {
            if self.grants.get(&(commit.group, *partition)) != Some(grant) {
                let detail = format!("partition {partition} belongs to another session now");
                return Err(Fault::Abort(Cause::new("partition_lost", detail)));
            }
        }
        Ok(())
    }
}

enum Answer {
    Append { position: Position, done: AckSink },
    Commit { committed: Committed, reply: Sender<Result<Committed, Fault>> },
    Done(Sender<Result<(), Fault>>),
}

/// A partition in this round: the chunk under construction and where it will end.
struct Growing {
    entry: Arc<TopicEntry>,
    piece: Piece,
    base: u64,
    time_ms: i64,
}

impl Growing {
    fn next_offset(&self) -> u64 {
        self.base + u64::from(self.piece.count)
    }
}

struct Round<'a> {
    store: &'a Store,
    batch: OwnedWriteBatch,
    now_ms: i64,
    byte_count: usize,
    growing: BTreeMap<(u32, u32), Growing>,
    forgotten: Vec<Vec<u8>>,
    answers: Vec<Answer>,
}

impl<'a> Round<'a> {
    fn new(store: &'a Store) -> Self {
        Self {
            store,
            batch: store.db.batch(),
            now_ms: now_ms(),
            byte_count: 0,
            growing: BTreeMap::new(),
            forgotten: Vec::new(),
            answers: Vec::new(),
        }
    }

    fn has_room(&self) -> bool {
        self.byte_count < ROUND_BYTES_MAX && self.answers.len() < ROUND_JOBS_MAX
    }

    fn append(&mut self, append: Append) {
        let offset = self.add(&append.entry, append.partition, append.piece) - 1;
        let position = append.entry.position(append.partition, offset);
        self.answers.push(Answer::Append { position, done: append.done });
    }

    fn commit(&mut self, commit: Commit, owners: &Owners) {
        if let Err(fault) = owners.check(&commit) {
            let _ = commit.reply.send(Err(fault));
            return;
        }
        let mut ends = Vec::with_capacity(commit.staged.outputs.len());
        for StagedOutput { entry, partition, pieces } in commit.staged.outputs {
            let end = pieces.into_iter().map(|piece| self.add(&entry, partition, piece)).last();
            ends.extend(end.map(|end| entry.position(partition, end)));
        }
        for prefix in commit.staged.forgotten {
            self.batch.insert(&self.store.meta, meta_key::forgotten(&prefix), Vec::new());
            self.forgotten.push(prefix);
        }
        for (key, value) in commit.staged.cells {
            self.byte_count += key.len() + value.as_ref().map_or(0, Vec::len);
            match value {
                Some(value) => self.batch.insert(&self.store.state, key, value),
                None => self.batch.remove(&self.store.state, key),
            }
        }
        for next in commit.offsets {
            let key = meta_key::offset(commit.group, next.topic, next.partition);
            self.batch.insert(&self.store.meta, key, next.offset.to_be_bytes().to_vec());
        }
        self.answers.push(Answer::Commit { committed: Committed { ends }, reply: commit.reply });
    }

    /// Puts records behind what the partition holds; answers where they end.
    fn add(&mut self, entry: &Arc<TopicEntry>, partition: u32, piece: Piece) -> u64 {
        self.byte_count += piece.byte_count();
        let now_ms = self.now_ms;
        let growing = self.growing.entry((entry.id, partition)).or_insert_with(|| Growing {
            entry: Arc::clone(entry),
            piece: Piece::default(),
            base: entry.end(partition),
            // The log's clock never goes back within a partition, whatever the machine's does.
            time_ms: now_ms
                .max(entry.extent(partition).map_or(0, |extent| extent.last_time_ms.load(Ordering::Acquire))),
        });
        if growing.piece.count == 0 {
            growing.piece = piece;
        } else if growing.piece.byte_count() + piece.byte_count() <= CHUNK_BYTES_MAX {
            growing.piece.append(&piece);
        } else {
            close_chunk(self.store, &mut self.batch, partition, growing);
            growing.piece = piece;
        }
        growing.next_offset()
    }

    fn finish(mut self) {
        for ((topic, partition), growing) in &mut self.growing {
            close_chunk(self.store, &mut self.batch, *partition, growing);
            let end = encode_end(growing.base, growing.time_ms);
            self.batch.insert(&self.store.meta, meta_key::end(*topic, *partition), end);
        }
        let written = if self.batch.is_empty() { Ok(()) } else { self.store.write(self.batch) };
        if written.is_ok() {
            publish(self.store, &self.growing, self.forgotten);
        }
        for answer in self.answers {
            answer.give(&written);
        }
    }
}

fn close_chunk(store: &Store, batch: &mut OwnedWriteBatch, partition: u32, growing: &mut Growing) {
    let piece = std::mem::take(&mut growing.piece);
    if piece.count > 0 {
        let end = growing.base + u64::from(piece.count);
        let key = record_key(growing.entry.id, partition, end - 1);
        batch.insert(&store.records, key, piece.into_chunk(growing.base, growing.time_ms));
        growing.base = end;
    }
}

/// From here on readers see what was written.
fn publish(store: &Store, grown: &BTreeMap<(u32, u32), Growing>, forgotten: Vec<Vec<u8>>) {
    for prefix in forgotten {
        store.expired.forget(prefix);
    }
    for ((_, partition), growing) in grown {
        if let Some(extent) = growing.entry.extent(*partition) {
            extent.last_time_ms.store(growing.time_ms, Ordering::Release);
            extent.end.store(growing.base, Ordering::Release);
        }
    }
    let mut rung = None;
    for ((topic, _), growing) in grown {
        if rung.replace(*topic) != Some(*topic) {
            growing.entry.waiters.ring();
        }
    }
}

impl Answer {
    fn give(self, written: &Result<(), Fault>) {
        match self {
            Self::Append { position, done } => {
                let result = same(written).map(|()| position);
                // The sink is the caller's code: its panic must not end everybody's committer.
                if catch_unwind(AssertUnwindSafe(|| done(result))).is_err() {
                    tracing::error!("the receiver of an acknowledgement panicked");
                }
            }
            // A session that is gone does not hear its answer; what was written stays.
            Self::Commit { committed, reply } => drop(reply.send(same(written).map(|()| committed))),
            Self::Done(reply) => drop(reply.send(same(written))),
        }
    }
}

/// The same outcome for everybody in the round (the source of an error is not cloned; it was logged).
fn same(written: &Result<(), Fault>) -> Result<(), Fault> {
    let copy = |cause: &Cause| Cause::new(cause.code, cause.detail.clone());
    match written {
        Ok(()) => Ok(()),
        Err(Fault::Retry(cause)) => Err(Fault::Retry(copy(cause))),
        Err(Fault::Abort(cause)) => Err(Fault::Abort(copy(cause))),
        Err(Fault::Unknown(cause)) => Err(Fault::Unknown(copy(cause))),
        Err(Fault::Fatal(cause)) => Err(Fault::Fatal(copy(cause))),
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
