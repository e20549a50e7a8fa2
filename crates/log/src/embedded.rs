//! The log inside one process, in one directory.
//!
//! Promises: one atomic, synced batch holds the outputs, offsets and state of a transaction; nothing is acknowledged or
//! seen before that sync; after an unclean end everything acknowledged is there, and of the rest whole batches or nothing;
//! one thread writes for all sessions, so that one sync carries many. Not in it: replication, other processes.
//!
//! ```text
//! session, append --queue--> committer --one batch, one sync--> store --ends move, pollers wake--> session, tail
//! ```

mod codec;
mod committer;
mod control;
mod directory;
mod expired;
mod fault;
mod group;
mod keys;
mod probe;
mod retention;
mod session;
mod signal;
mod staged;
mod store;
mod tail;
mod torn;

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;

use crate::{AckSink, Fault, Group, Log, Member, Output, Position, Session, Tail, Topic, TopicChange, TopicSpec};
use codec::Piece;
use committer::{Append, Job, Queue};
use control::Control;
use fault::fatal;
use group::Groups;
#[cfg(feature = "conformance")]
pub use probe::Probe;
#[cfg(not(feature = "conformance"))]
use probe::Probe;
use retention::{TIDY_EVERY, Tidier};
use session::EmbeddedSession;
use staged::{partition_for, too_large};
use store::{Store, TopicEntry};
use tail::EmbeddedTail;

/// How long a member may keep a partition that another one should have.
const REVOKE_WAIT: Duration = Duration::from_secs(30);

/// What can be chosen about an embedded log.
#[derive(Clone)]
pub struct Options {
    /// How long a member may keep a partition that another one should have, before it loses it.
    pub revoke_wait: Duration,
    /// The window for the tests of durability.
    #[cfg(feature = "conformance")]
    pub probe: Probe,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            revoke_wait: REVOKE_WAIT,
            #[cfg(feature = "conformance")]
            probe: Probe::default(),
        }
    }
}

/// The log of one directory. Cheap to clone; the directory is free again when the last clone, session and tail is gone.
#[derive(Clone)]
pub struct EmbeddedLog(Arc<Shared>);

struct Shared {
    queue: Queue,
    groups: Groups,
    tidy: Sender<Sender<Result<(), Fault>>>,
    threads: Mutex<Option<Threads>>,
    store: Arc<Store>,
}

struct Threads {
    committer: JoinHandle<()>,
    tidier: JoinHandle<()>,
}

impl EmbeddedLog {
    /// Opens the log in `dir`, which is made if it is missing.
    ///
    /// # Errors
    /// `log_locked`: another process has it; `log_foreign`, `log_format`: not a log of ours, or of a newer program;
    /// `log_open_failed`, `log_damaged`: it cannot be read.
    pub fn open(dir: &Path) -> Result<Self, Fault> {
        Self::open_with(dir, Options::default())
    }

    /// As `open`, with other settings than the usual ones.
    pub fn open_with(dir: &Path, options: Options) -> Result<Self, Fault> {
        #[cfg(feature = "conformance")]
        let probe = options.probe;
        #[cfg(not(feature = "conformance"))]
        let probe = Probe::default();
        let store = Arc::new(Store::open(dir, probe)?);
        let (queue, waiting) = Queue::new();
        let committer = spawn("log-committer", {
            let (store, queued_bytes) = (Arc::clone(&store), committer::queued_bytes(&queue));
            move || committer::run(&store, &waiting, &queued_bytes)
        })?;
        let (tidy, asked) = bounded(1);
        let tidier = spawn("log-tidier", {
            let (store, queue) = (Arc::clone(&store), queue.clone());
            move || tidy_up(&store, &queue, &asked)
        })?;
        let threads = Mutex::new(Some(Threads { committer, tidier }));
        let shared = Shared { queue, groups: Groups::new(options.revoke_wait), tidy, threads, store };
        Ok(Self(Arc::new(shared)))
    }

    /// Enforces retention and compaction now instead of within the minute.
    pub fn tidy(&self) -> Result<(), Fault> {
        let (reply, answer) = bounded(1);
        let ended = |_| fatal("log_stopped", "the log's tidier has ended");
        self.0.tidy.send(reply).map_err(|_| ended(()))?;
        answer.recv().map_err(|_| ended(()))?
    }

    /// Takes a group's offsets away, as an operator's mistake or expiry would.
    #[cfg(feature = "conformance")]
    pub fn drop_offsets(&self, group: &str) -> Result<(), Fault> {
        let group = group.to_owned();
        self.0.queue.ask(|reply| Job::Control(Control::DropOffsets { group, reply }))
    }

    fn each_partition(&self, topic: &Topic, offset: impl Fn(&TopicEntry, u32) -> u64) -> Result<Vec<Position>, Fault> {
        let entry = self.0.store.require_topic(topic)?;
        Ok((0..entry.spec.partitions).map(|partition| entry.position(partition, offset(&entry, partition))).collect())
    }
}

impl Log for EmbeddedLog {
    fn identity(&self) -> &str {
        &self.0.store.identity
    }

    fn apply(&self, topics: &[TopicSpec], groups: &[Group]) -> Result<Vec<TopicChange>, Fault> {
        let (topics, groups) = (topics.to_vec(), groups.to_vec());
        self.0.queue.ask(|reply| Job::Control(Control::Apply { topics, groups, reply }))
    }

    fn partitions(&self, topic: &Topic) -> Result<Option<u32>, Fault> {
        Ok(self.0.store.topic(topic).map(|entry| entry.spec.partitions))
    }

    fn ends(&self, topic: &Topic) -> Result<Vec<Position>, Fault> {
        self.each_partition(topic, TopicEntry::end)
    }

    fn starts(&self, topic: &Topic) -> Result<Vec<Position>, Fault> {
        self.each_partition(topic, TopicEntry::start)
    }

    fn progress(&self, group: &str, topic: &Topic) -> Result<Vec<Position>, Fault> {
        let entry = self.0.store.require_topic(topic)?;
        let Some(group) = self.0.store.group(group) else { return Ok(Vec::new()) };
        let mut positions = Vec::new();
        for partition in 0..entry.spec.partitions {
            let offset = self.0.store.offset(group.id, entry.id, partition)?;
            positions.extend(offset.map(|offset| entry.position(partition, offset)));
        }
        Ok(positions)
    }

    fn join(&self, member: &Member) -> Result<Box<dyn Session>, Fault> {
        Ok(Box::new(EmbeddedSession::join(Arc::clone(&self.0), member)?))
    }

    fn append(&self, out: &Output<'_>, done: AckSink) -> Result<(), Fault> {
        self.0.store.refuse_if_damaged()?;
        let entry = self.0.store.require_topic(out.topic)?;
        let partition = partition_for(&entry, out)?;
        let mut piece = Piece::default();
        if !piece.push(out) {
            return Err(too_large(out.topic));
        }
        self.0.queue.append(Append { entry, partition, piece, done })
    }

    fn tail(&self, from: &[Position]) -> Result<Box<dyn Tail>, Fault> {
        Ok(Box::new(EmbeddedTail::new(Arc::clone(&self.0), from)?))
    }
}

impl Drop for Shared {
    /// Ends the threads, so that the directory is free when this returns.
    fn drop(&mut self) {
        // The threads end when nobody can ask them any more.
        let (tidy, _) = bounded(0);
        drop(std::mem::replace(&mut self.tidy, tidy));
        let (queue, _) = Queue::new();
        let queue = std::mem::replace(&mut self.queue, queue);
        let Some(threads) = self.threads.lock().take() else { return };
        drop(queue);
        join_unless_own(threads.tidier);
        join_unless_own(threads.committer);
    }
}

/// The last handle may be dropped on one of the threads themselves, by a receiver of an acknowledgement.
fn join_unless_own(thread: JoinHandle<()>) {
    if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
        tracing::error!("a thread of the log has panicked");
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Fault> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(|error| {
        Fault::Fatal(crate::Cause::new("log_open_failed", format!("thread {name} does not start")).caused_by(error))
    })
}

fn tidy_up(store: &Store, queue: &Queue, asked: &Receiver<Sender<Result<(), Fault>>>) {
    let mut tidier = Tidier::default();
    loop {
        let reply = match asked.recv_timeout(TIDY_EVERY) {
            Ok(reply) => Some(reply),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        let result = tidier.tidy(store, queue, now_ms);
        match (reply, result) {
            (Some(reply), result) => drop(reply.send(result)),
            (None, Ok(())) => {}
            (None, Err(fault)) => tracing::error!(%fault, "the log could not tidy up; it tries again in a minute"),
        }
    }
}
