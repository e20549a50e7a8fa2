//! What an exchange is: ids, the JSON door, canonical bytes, digests, topics, and the Avro records of every topic.
//!
//! Pure: no IO, no clock, no thread, no environment.
#![forbid(unsafe_code)]

pub mod amount;
pub mod canonical;
pub mod destination;
pub mod digest;
pub mod door;
pub mod envelope;
pub mod fingerprint;
pub mod hmac;
pub mod id;
pub mod time;
pub mod topic;
pub mod webhook;
#[cfg(feature = "wire")]
pub mod wire;
