//! What goes wrong in the model, how often, and which rule it is held against.

use super::schedule::Chance;

/// A rule of the log that is taken out from beneath it: the model does what would follow if the code did not keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Removed {
    /// R3: a restore stops at the last stable offset (KAFKA-10167): the end with open transactions is never told.
    OpenEnd,
    /// R7: a producer whose end was slow or was asked for twice is used on.
    Recycling,
    /// R7: a producer that is made anew takes the place of the old one without a new epoch.
    FencingByInit,
    /// R1: offsets are committed by themselves, after the transaction.
    OffsetsInTheTransaction,
    /// R1: the group does not look at who commits.
    GenerationInTheTransaction,
    /// R3: committed offsets are told while others are pending.
    StableOffsets,
    /// R1: readers see open and aborted transactions.
    CommittedReads,
    /// R7: an end whose answer is lost is taken for done.
    UnknownOutcome,
}

/// All of them.
pub const REMOVED: &[Removed] = &[
    Removed::OpenEnd,
    Removed::Recycling,
    Removed::FencingByInit,
    Removed::OffsetsInTheTransaction,
    Removed::GenerationInTheTransaction,
    Removed::StableOffsets,
    Removed::CommittedReads,
    Removed::UnknownOutcome,
];

/// How often what goes wrong, in a thousand.
#[derive(Clone, Debug)]
pub struct Weather {
    /// A request arrives late, long after its connection was given up.
    pub stuck: u64,
    /// A request is done, but its answer is lost.
    pub answers_lost: u64,
    /// A request is lost.
    pub requests_lost: u64,
    /// A request takes longer than it should.
    pub slow: u64,
    /// A marker is written late.
    pub late_markers: u64,
    /// An older copy of a JoinGroup arrives after the one that was answered.
    pub ghosts: u64,
    /// A question is not answered in time.
    pub unanswered: u64,
    /// A poll finds nothing although there is something.
    pub fetching: u64,
    /// A call is where another process goes on.
    pub interrupted: u64,
}

impl Weather {
    /// Different in every schedule, so that some see many faults of one kind.
    pub fn of(chance: &mut Chance) -> Self {
        let mut up_to = |most: u64| if chance.happens(400) { chance.below(most) } else { 0 };
        Self {
            stuck: up_to(300),
            answers_lost: up_to(100),
            requests_lost: up_to(100),
            slow: up_to(150),
            late_markers: up_to(600),
            ghosts: up_to(200),
            unanswered: up_to(30),
            fetching: 100 + up_to(600),
            interrupted: 50 + up_to(300),
        }
    }

    pub fn calm() -> Self {
        Self {
            stuck: 0,
            answers_lost: 0,
            requests_lost: 0,
            slow: 0,
            late_markers: 0,
            ghosts: 0,
            unanswered: 0,
            fetching: 100,
            interrupted: 100,
        }
    }
}
