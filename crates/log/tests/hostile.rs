//! The log's Kafka side, the runner and a step on a Kafka in memory that misbehaves: schedules told by a seed, and the
//! proof that they find what they are for.
//!
//! `cargo run -p countersign-log --features hostile --example hostile -- --schedules 1 --seed <seed>` repeats one that
//! failed; the same command runs many.

#![cfg(feature = "hostile")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "hostile/early.rs"]
mod early;
#[path = "hostile/oracle.rs"]
mod oracle;
#[path = "hostile/step.rs"]
mod step;
#[path = "hostile/story.rs"]
mod story;

use countersign_log::kafka::hostile::{self, Exit, REMOVED, Removed};

/// The schedules of every run.
const SCHEDULES: u64 = 400;
/// Within so many, each rule that is removed must be missed.
const SEEDS_MAX: u64 = 1_500;

fn first_failure(count: u64, removed: Option<Removed>) -> Option<(u64, String)> {
    hostile::first_failure(count, 2, |seed| story::tell(seed, removed).map(drop))
}

#[test]
fn whatever_fails_each_input_leads_to_its_outputs_once() {
    if let Some((seed, why)) = first_failure(SCHEDULES, None) {
        panic!("seed {seed}: {why}");
    }
}

#[test]
fn every_rule_that_is_removed_is_missed() {
    for removed in REMOVED {
        let (seed, why) = first_failure(SEEDS_MAX, Some(*removed)).unwrap_or_else(|| {
            panic!("{SEEDS_MAX} schedules end well without {removed:?}");
        });
        println!("{removed:?}: seed {seed}: {why}");
    }
}

/// A role that has made its topics joins at once, and may ask a broker that has not heard of them yet.
#[test]
fn a_topic_that_not_every_broker_knows_yet_is_waited_for() {
    for seed in 0..40 {
        assert_eq!(early::join_early(seed), Exit::Done, "seed {seed}");
    }
}

#[test]
fn a_schedule_is_repeated_by_its_seed() {
    for seed in [3, 4, 14] {
        let (first, second) = (story::tell(seed, None), story::tell(seed, None));
        assert_eq!(first, second, "seed {seed}");
    }
}
