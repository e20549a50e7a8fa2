//! The seam between the pipeline and what carries its records.
//!
//! Two implementations keep the same promises, held to them by one conformance suite: [`kafka`] (rdkafka transactions)
//! and [`embedded`] (fjall, one process, one directory). This crate is the only owner of both libraries.
//!
//! Not in it: async, codecs, retries, dead letters, timers, metrics. A service sees records, cells of state, one commit.

pub mod embedded;
pub mod kafka;

#[cfg(feature = "conformance")]
pub mod conformance;

mod partitioner;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use partitioner::{murmur2, partition_of};

/// The name of a topic. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(Arc<str>);

impl Topic {
    pub fn new(name: &str) -> Self {
        Self(Arc::from(name))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Topic {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A place in a partition. Where a position says how far something has come, `offset` is the next offset, not the last one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    pub topic: Topic,
    pub partition: u32,
    pub offset: u64,
}

/// One record as it lies in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub topic: Topic,
    pub partition: u32,
    pub offset: u64,
    /// Milliseconds since the Unix epoch; the log's own clock where the topic uses LogAppendTime.
    pub time_ms: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<(String, Bytes)>,
}

impl Record {
    /// The last header of that name, as Kafka's own `lastHeader` does.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_ref())
    }

    /// The W3C trace context that came with it, for log lines: nothing is copied, and a line that is not written does
    /// not look for it.
    pub fn traceparent(&self) -> Option<&str> {
        std::str::from_utf8(self.header(TRACEPARENT)?).ok()
    }
}

/// Header of the W3C trace context.
const TRACEPARENT: &str = "traceparent";

/// One record to be written.
#[derive(Clone, Copy, Debug)]
pub struct Output<'a> {
    pub topic: &'a Topic,
    /// `None`: murmur2 of the key, as the Java client partitions (KIP-480 does not apply: our records have keys).
    pub partition: Option<u32>,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [(&'a str, &'a [u8])],
}

/// What a topic must be; `Log::apply` makes it so or says what differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    pub topic: Topic,
    pub partitions: u32,
    pub cleanup: Cleanup,
    /// True: the log stamps each record on append (request topics, R2).
    pub log_append_time: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleanup {
    /// Records go after this long; `None` keeps them for ever.
    Delete { retention: Option<Duration> },
    /// The newest record of each key stays.
    Compact,
    /// The newest record of each key stays, but no longer than this.
    CompactDelete { retention: Duration },
}

/// A consumer group and what it reads. `Log::apply` commits offset 0 for it on partitions that were never written to,
/// so that later a missing offset is an error and never a rewind (R3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub name: String,
    pub inputs: Vec<Topic>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicChange {
    Created(Topic),
    Kept(Topic),
    /// Exists with other partitions or settings; nothing was changed. The text says what differs.
    Differs(Topic, String),
}

/// Who joins: one step, one slot, one OS thread.
#[derive(Clone, Debug)]
pub struct Member {
    /// Name of the step: consumer group, and prefix of the transactional ids `<group>-<slot>-a` and `-b`.
    pub group: String,
    /// Stable name of this instance's place. A second session on the same slot fences the first.
    pub slot: String,
    /// Inputs with equal partition counts (a step's topic and its redo topic); partition n of each belongs together.
    pub inputs: Vec<Topic>,
    /// The changelog of the step's state: partition n holds the state of input partition n. `None`: a step without state.
    pub state: Option<Topic>,
}

/// Records of one poll. The caller clears it.
#[derive(Debug, Default)]
pub struct Batch {
    pub records: Vec<Record>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Polled {
    /// `drained`: nothing more is waiting on this side at the moment.
    Records { drained: bool },
    /// These partitions are ours now, their state is restored, and they start at the positions given.
    Assigned(Vec<Position>),
    /// These partitions are to be given up: finish with `commit` unless `lost`, then call `release`.
    Revoke { partitions: Vec<u32>, lost: bool },
}

/// Where the partitions that a transaction wrote to ended right after it (next offsets).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    pub ends: Vec<Position>,
}

/// What went wrong, with a stable code.
pub struct Cause {
    pub code: &'static str,
    pub detail: String,
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Cause {
    pub fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), source: None }
    }

    pub fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({:?})", self.code, self.detail, self.source)
    }
}

/// Every failure of the log, by what the caller must do.
#[derive(Debug)]
pub enum Fault {
    /// Nothing happened; the same call may be made again.
    Retry(Cause),
    /// The open transaction is void: `recover`, then read again.
    Abort(Cause),
    /// It may have happened: `recover` finds out (R7).
    Unknown(Cause),
    /// Fenced, damaged or misconfigured: end the process (or this session) and start anew.
    Fatal(Cause),
}

impl Fault {
    pub fn cause(&self) -> &Cause {
        match self {
            Self::Retry(cause) | Self::Abort(cause) | Self::Unknown(cause) | Self::Fatal(cause) => cause,
        }
    }

    pub fn into_cause(self) -> Cause {
        match self {
            Self::Retry(cause) | Self::Abort(cause) | Self::Unknown(cause) | Self::Fatal(cause) => cause,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let disposition = match self {
            Self::Retry(_) => "retry",
            Self::Abort(_) => "abort",
            Self::Unknown(_) => "unknown outcome",
            Self::Fatal(_) => "fatal",
        };
        write!(f, "{disposition}: {}", self.cause())
    }
}

impl std::error::Error for Fault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause().source.as_deref().map(|source| source as _)
    }
}

/// Called once with where the record lies, when it is durable, or with why that is not known. Must not block.
pub type AckSink = Box<dyn FnOnce(Result<Position, Fault>) + Send>;

/// What carries the records.
pub trait Log: Send + Sync {
    /// The id of this log (Kafka's cluster id): stores made for another log are refused.
    fn identity(&self) -> &str;

    /// Makes the topics that are missing and the first offsets of the groups; never alters a topic that exists.
    fn apply(&self, topics: &[TopicSpec], groups: &[Group]) -> Result<Vec<TopicChange>, Fault>;

    /// How many partitions a topic has; `None` if it does not exist.
    fn partitions(&self, topic: &Topic) -> Result<Option<u32>, Fault>;

    /// The committed end of every partition: a `tail` that reaches it has seen all that was committed at this moment.
    fn ends(&self, topic: &Topic) -> Result<Vec<Position>, Fault>;

    /// The earliest offset that every partition still holds.
    fn starts(&self, topic: &Topic) -> Result<Vec<Position>, Fault>;

    /// How far a group has come on a topic; partitions without an offset are left out.
    fn progress(&self, group: &str, topic: &Topic) -> Result<Vec<Position>, Fault>;

    /// Joins a group. Call on the thread that will own the session.
    ///
    /// Fatal, here or in the session's first polls: `topic_missing`, `partitions_differ` (inputs or state with other
    /// counts), `offsets_missing` (never a rewind). Once another session has joined on the slot, `poll`, `commit` and
    /// `recover` answer `fenced`.
    fn join(&self, member: &Member) -> Result<Box<dyn Session>, Fault>;

    /// Writes one record outside any transaction (the edges); `done` hears of it when it is durable. Keeps order per key.
    fn append(&self, out: &Output<'_>, done: AckSink) -> Result<(), Fault>;

    /// Reads committed records from these positions on, without a group.
    fn tail(&self, from: &[Position]) -> Result<Box<dyn Tail>, Fault>;
}

/// Committed reads without a group.
pub trait Tail: Send {
    /// Waits at most `wait` for records and adds them to `into`, in order per partition, in bounded number.
    /// Answers true when nothing more was waiting.
    fn poll(&mut self, wait: Duration, into: &mut Batch) -> Result<bool, Fault>;

    /// The next offset of every partition read.
    fn positions(&self) -> Vec<Position>;

    /// Goes on from these positions; partitions not named stay where they are.
    fn seek(&mut self, at: &[Position]) -> Result<(), Fault>;
}

/// One member of a group: one OS thread, one slot, one transaction at a time.
///
/// State is kept per input partition. `put` and `emit` stage; nothing is seen outside before `commit` returns, and after
/// `recover` nothing of it ever is.
pub trait Session {
    /// Waits at most `wait`. Records of a partition come in order; their number a call is bounded.
    fn poll(&mut self, wait: Duration, into: &mut Batch) -> Result<Polled, Fault>;

    /// The partitions that are ours, with the next offset to commit for each input.
    fn positions(&self) -> Vec<Position>;

    /// Reads a cell of a partition's state into `out` (cleared first); sees the session's own `put`s. False: not there.
    fn get(&self, partition: u32, key: &[u8], out: &mut Vec<u8>) -> Result<bool, Fault>;

    /// Visits the cells from key `from` on in order of their bytes, own `put`s included, until `visit` answers false.
    fn scan(&self, partition: u32, from: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), Fault>;

    /// Stages one cell; `None` removes it.
    fn put(&mut self, partition: u32, key: &[u8], value: Option<&[u8]>) -> Result<(), Fault>;

    /// Gives back the space of every cell whose key begins with `prefix`, without a record for each: for generations of
    /// cells that have expired and are never read again. A store that is rebuilt may show them once more.
    fn forget(&mut self, partition: u32, prefix: &[u8]) -> Result<(), Fault>;

    /// Stages one record; opens the transaction if none is open.
    fn emit(&mut self, out: &Output<'_>) -> Result<(), Fault>;

    /// Outputs, state and offsets become durable and visible together. `next` names every partition that was touched,
    /// even one whose offset did not move (R1): it is what fences a member that has lost its partitions. Refused are
    /// outputs without any offset, and a change of state in a partition that `next` leaves out.
    fn commit(&mut self, next: &[Position]) -> Result<Committed, Fault>;

    /// Drops what is staged, fences earlier selves, and goes back to the committed offsets.
    fn recover(&mut self) -> Result<(), Fault>;

    /// Reads on from these positions: for a step whose truth is a database (R5). Nothing may be staged.
    fn seek(&mut self, at: &[Position]) -> Result<(), Fault>;

    /// Gives up the partitions of the last `Polled::Revoke`.
    fn release(&mut self) -> Result<(), Fault>;
}
