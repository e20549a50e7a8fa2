//! The suite proves itself: any log with one defect planted in it must fail the cases named beside the defect, and every
//! case is named beside at least one.
//!
//! A defect is planted from outside, by a log that wraps another: what a case cannot see here it could not see in a log
//! that is wrong within.

mod session;
mod tail;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;

use super::{Damage, Failure, Harness, cases};
use crate::{AckSink, Fault, Group, Log, Member, Output, Position, Session, Tail, Topic, TopicChange, TopicSpec};
use session::{PlantedSession, Rewound};
use tail::PlantedTail;

/// One thing that a log may do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    OutputsDropped,
    HeadersDropped,
    NullsFilled,
    EmittedAtOnce,
    EndsNotAnswered,
    RecoverKeepsStaged,
    RecoverStaysAhead,
    OffsetsDropped,
    UnmovedOffsetsDropped,
    UnnamedOffsetsAdded,
    SessionSeekIgnored,
    StateDropped,
    StateForgotten,
    PutsUnseen,
    ScanFromIgnored,
    ScanNeverEnds,
    PartitionsShareCells,
    ForgetsEverything,
    ForgetsNothing,
    FencingIgnored,
    ZombieCommits,
    HandedOverRewound,
    ReleasedUnasked,
    OffsetsReset,
    CountsIgnored,
    KeptAsCreated,
    PartitionerWrong,
    TimeWrong,
    OrderReversed,
    AckBeforeWrite,
    AckWithoutPosition,
    TailSeekIgnored,
    EndsStale,
    ProgressForgotten,
    NeverWaits,
    AlwaysDrained,
    Unbounded,
}

/// Every defect, with the cases that must catch it.
pub const DEFECTS: &[(Defect, &[&str])] = &[
    (Defect::OutputsDropped, &["a commit is visible with all that it wrote", "state and outputs are one"]),
    (Defect::HeadersDropped, &["a record comes back with its nulls and headers as they were"]),
    (Defect::NullsFilled, &["a record comes back with its nulls and headers as they were"]),
    (
        Defect::EmittedAtOnce,
        &[
            "an open transaction hides what it wrote and what follows",
            "what is recovered from is never seen and is read again",
            "state and outputs are one",
        ],
    ),
    (Defect::EndsNotAnswered, &["a commit answers where each partition ended"]),
    (Defect::RecoverKeepsStaged, &["what is recovered from is never seen and is read again"]),
    (Defect::RecoverStaysAhead, &["what is recovered from is never seen and is read again"]),
    (
        Defect::OffsetsDropped,
        &["a commit moves the offsets that it names and only those", "a session goes on where the last commit was"],
    ),
    (Defect::UnmovedOffsetsDropped, &["a commit moves the offsets that it names and only those"]),
    (Defect::UnnamedOffsetsAdded, &["a commit moves the offsets that it names and only those"]),
    (Defect::SessionSeekIgnored, &["a session reads on from where it is told"]),
    (
        Defect::StateDropped,
        &["state and outputs are one", "a session sees its own puts", "a deleted state directory comes back equal"],
    ),
    (
        Defect::StateForgotten,
        &["a deleted state directory comes back equal", "a stale or foreign state directory is refused or rebuilt"],
    ),
    (Defect::PutsUnseen, &["a session sees its own puts"]),
    (Defect::ScanFromIgnored, &["a scan is ordered, begins where it is told and ends when it is told"]),
    (Defect::ScanNeverEnds, &["a scan is ordered, begins where it is told and ends when it is told"]),
    (Defect::PartitionsShareCells, &["cells of partitions and groups are apart"]),
    (Defect::ForgetsEverything, &["forgetting a prefix leaves the other cells"]),
    (Defect::ForgetsNothing, &["forgetting a prefix leaves the other cells"]),
    (Defect::FencingIgnored, &["a second session on the same slot fences the first"]),
    (
        Defect::ZombieCommits,
        &[
            "a second session on the same slot fences the first",
            "a lost partition recovers with nothing lost or doubled",
            "outputs without an offset that fences them are refused",
        ],
    ),
    (
        Defect::HandedOverRewound,
        &["a partition is handed over where its last commit was", "a session goes on where the last commit was"],
    ),
    (Defect::ReleasedUnasked, &["a partition is handed over where its last commit was"]),
    (Defect::OffsetsReset, &["missing offsets are an error and no rewind to the start"]),
    (Defect::CountsIgnored, &["a partition count that differs is refused", "applying again changes nothing"]),
    (Defect::KeptAsCreated, &["applying again changes nothing"]),
    (Defect::PartitionerWrong, &["a key goes where the Java client would put it"]),
    (Defect::TimeWrong, &["the log stamps the time of an append"]),
    (Defect::OrderReversed, &["records of a key keep their order"]),
    (Defect::AckBeforeWrite, &["an acknowledged append lies where it is said to"]),
    (Defect::AckWithoutPosition, &["an acknowledged append lies where it is said to"]),
    (Defect::TailSeekIgnored, &["a tail can go anywhere"]),
    (Defect::EndsStale, &["starts, ends and progress answer what is so"]),
    (
        Defect::ProgressForgotten,
        &["starts, ends and progress answer what is so", "a commit moves the offsets that it names and only those"],
    ),
    (Defect::NeverWaits, &["a poll waits for what is not there yet"]),
    (Defect::AlwaysDrained, &["a poll says when nothing more is waiting"]),
    (Defect::Unbounded, &["a slow reader gets bounded batches"]),
];

/// Plants each defect in turn and answers what the suite has missed: nothing, if the suite is worth its name.
pub fn missed(harness: &dyn Harness) -> Vec<String> {
    let cases = cases();
    let mut missed = Vec::new();
    let mut unproven = cases.iter().map(|case| case.name).collect::<BTreeSet<_>>();
    for (defect, names) in DEFECTS {
        let planted = PlantedHarness { inner: harness, defect: *defect, history: Arc::default() };
        for name in *names {
            unproven.remove(name);
            match cases.iter().find(|case| case.name == *name) {
                None => missed.push(format!("{defect:?} names a case that does not exist: {name}")),
                Some(case) if case.run(&planted).is_ok() => missed.push(format!("{defect:?} passes: {name}")),
                Some(_) => {}
            }
        }
    }
    missed.extend(unproven.into_iter().map(|name| format!("no defect fails: {name}")));
    missed
}

/// What a defect needs to know of what has happened.
#[derive(Default)]
struct History {
    joins: AtomicU64,
    /// Local state was damaged: from here on a restore that forgets would show.
    is_damaged: AtomicBool,
}

struct PlantedHarness<'a> {
    inner: &'a dyn Harness,
    defect: Defect,
    history: Arc<History>,
}

impl Harness for PlantedHarness<'_> {
    fn log(&self) -> Arc<dyn Log> {
        Arc::new(PlantedLog { inner: self.inner.log(), defect: self.defect, history: Arc::clone(&self.history) })
    }

    fn reopen(&self) -> Result<(), Failure> {
        self.inner.reopen()
    }

    fn fresh_name(&self, base: &str) -> String {
        self.inner.fresh_name(base)
    }

    fn keep_state(&self, group: &str) -> Result<bool, Failure> {
        self.inner.keep_state(group)
    }

    fn damage_state(&self, group: &str, damage: Damage) -> Result<bool, Failure> {
        self.history.is_damaged.store(true, Ordering::Relaxed);
        self.inner.damage_state(group, damage)
    }

    fn lose_offsets(&self, group: &str) -> Result<(), Failure> {
        self.inner.lose_offsets(group)
    }

    fn wait(&self) -> std::time::Duration {
        self.inner.wait()
    }
}

struct PlantedLog {
    inner: Arc<dyn Log>,
    defect: Defect,
    history: Arc<History>,
}

impl PlantedLog {
    fn count_of(&self, topic: &Topic) -> Result<u32, Fault> {
        Ok(self.inner.partitions(topic)?.unwrap_or(1))
    }
}

/// Where a wrong partitioner puts a key: never where it belongs.
fn misplaced(out: &Output<'_>, partitions: u32) -> Option<u32> {
    out.partition.or_else(|| out.key.map(|key| (crate::partition_of(key, partitions) + 1) % partitions))
}

/// Appends and waits: for defects that write where they should stage.
fn append_now(log: &dyn Log, out: &Output<'_>) -> Result<(), Fault> {
    let (done, acked) = mpsc::channel();
    log.append(out, Box::new(move |result| drop(done.send(result))))?;
    let _ = acked.recv();
    Ok(())
}

impl Log for PlantedLog {
    fn identity(&self) -> &str {
        self.inner.identity()
    }

    fn apply(&self, topics: &[TopicSpec], groups: &[Group]) -> Result<Vec<TopicChange>, Fault> {
        let changes = self.inner.apply(topics, groups)?;
        let twisted = |change| match (self.defect, change) {
            (Defect::CountsIgnored, TopicChange::Differs(topic, _)) => TopicChange::Kept(topic),
            (Defect::KeptAsCreated, TopicChange::Kept(topic)) => TopicChange::Created(topic),
            (_, change) => change,
        };
        Ok(changes.into_iter().map(twisted).collect())
    }

    fn partitions(&self, topic: &Topic) -> Result<Option<u32>, Fault> {
        self.inner.partitions(topic)
    }

    fn ends(&self, topic: &Topic) -> Result<Vec<Position>, Fault> {
        if self.defect == Defect::EndsStale { self.inner.starts(topic) } else { self.inner.ends(topic) }
    }

    fn starts(&self, topic: &Topic) -> Result<Vec<Position>, Fault> {
        self.inner.starts(topic)
    }

    fn progress(&self, group: &str, topic: &Topic) -> Result<Vec<Position>, Fault> {
        if self.defect == Defect::ProgressForgotten { Ok(Vec::new()) } else { self.inner.progress(group, topic) }
    }

    fn join(&self, member: &Member) -> Result<Box<dyn Session>, Fault> {
        let mut member = member.clone();
        if self.defect == Defect::FencingIgnored {
            member.slot = format!("{}-{}", member.slot, self.history.joins.fetch_add(1, Ordering::Relaxed));
        }
        let session = match (self.defect, self.inner.join(&member)) {
            (Defect::CountsIgnored, Err(_)) => {
                let first = member.inputs.first().cloned().into_iter().collect();
                self.inner.join(&Member { inputs: first, state: None, ..member.clone() })?
            }
            (Defect::OffsetsReset, Err(_)) => return Ok(Box::new(Rewound::new(self.inner.as_ref(), &member)?)),
            (_, joined) => joined?,
        };
        let forgets = self.defect == Defect::StateForgotten && self.history.is_damaged.load(Ordering::Relaxed);
        Ok(Box::new(PlantedSession::new(session, (self.defect, forgets), Arc::clone(&self.inner), member)))
    }

    fn append(&self, out: &Output<'_>, done: AckSink) -> Result<(), Fault> {
        match self.defect {
            Defect::PartitionerWrong => {
                let partition = misplaced(out, self.count_of(out.topic)?);
                self.inner.append(&Output { partition, ..*out }, done)
            }
            Defect::AckBeforeWrite => {
                let partition = out.partition.unwrap_or(0);
                let ends = self.inner.ends(out.topic)?;
                let end = ends.into_iter().find(|end| end.partition == partition);
                done(Ok(end.unwrap_or(Position { topic: out.topic.clone(), partition, offset: 0 })));
                Ok(())
            }
            Defect::AckWithoutPosition => {
                let done: AckSink =
                    Box::new(move |acked| done(acked.map(|position| Position { offset: 0, ..position })));
                self.inner.append(out, done)
            }
            _ => self.inner.append(out, done),
        }
    }

    fn tail(&self, from: &[Position]) -> Result<Box<dyn Tail>, Fault> {
        Ok(Box::new(PlantedTail { inner: self.inner.tail(from)?, defect: self.defect }))
    }
}
