//! The Kafka log under the suite that every log must pass, and what only Kafka can get wrong.
//!
//! They need a broker: `scripts/test` starts one.
#![cfg(feature = "conformance")]

#[path = "kafka/broker.rs"]
mod broker;
#[path = "kafka/conformance.rs"]
mod conformance;
