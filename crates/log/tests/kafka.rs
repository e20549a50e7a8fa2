//! The Kafka log under the suite that every log must pass, and what only Kafka can get wrong.
//!
//! They need a broker: `scripts/test` starts one.
#![cfg(feature = "conformance")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "what helps a test fails the test that called it"
)]

#[path = "kafka/broker.rs"]
mod broker;
#[path = "kafka/broker_killed.rs"]
mod broker_killed;
#[path = "kafka/conformance.rs"]
mod conformance;
#[path = "kafka/copier.rs"]
mod copier;
#[path = "kafka/ghost.rs"]
mod ghost;
#[path = "kafka/measured.rs"]
mod measured;
#[path = "kafka/progress.rs"]
mod progress;
#[path = "kafka/restart.rs"]
mod restart;
#[path = "kafka/restore.rs"]
mod restore;
