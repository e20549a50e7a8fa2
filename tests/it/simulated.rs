//! The steps that decide, as they are, on a Kafka in memory that misbehaves (`crates/log/src/kafka/hostile.rs`): schedules
//! told by a seed, judged from the requests alone.
//!
//! `COUNTERSIGN_TEST_SCHEDULES` says how many (they are the seeds from 0 on); a failure names its seed.

mod input;
mod oracle;
mod pipeline;

use log::kafka::hostile::{Removed, first_failure};

/// The schedules of every run.
const SCHEDULES: u64 = 60;
/// Within so many, a rule that is removed must be missed.
const SEEDS_MAX: u64 = 200;
const THREADS: usize = 2;

fn schedules() -> u64 {
    std::env::var("COUNTERSIGN_TEST_SCHEDULES").map_or(SCHEDULES, |text| text.parse().expect("a number of schedules"))
}

#[test]
fn whatever_fails_each_request_is_decided_sealed_and_metered_once() {
    if let Some((seed, why)) = first_failure(schedules(), THREADS, |seed| pipeline::tell(seed, None).map(drop)) {
        panic!("seed {seed}: {why}");
    }
}

/// Without the rules against KAFKA-10167 (restore to the end, open transactions too), against an `EndTxn` that arrives
/// after the next transaction began, and for offsets in the transaction.
#[test]
fn a_pipeline_misses_each_rule_that_is_removed() {
    for removed in [Removed::OpenEnd, Removed::Recycling, Removed::OffsetsInTheTransaction] {
        let (seed, why) = first_failure(SEEDS_MAX, THREADS, |seed| pipeline::tell(seed, Some(removed)).map(drop))
            .unwrap_or_else(|| panic!("{SEEDS_MAX} schedules end well without {removed:?}"));
        println!("{removed:?}: seed {seed}: {why}");
    }
}

#[test]
fn a_simulated_pipeline_is_repeated_by_its_seed() {
    for seed in [1, 7] {
        assert_eq!(pipeline::tell(seed, None), pipeline::tell(seed, None), "seed {seed}");
    }
}
