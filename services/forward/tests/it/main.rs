//! Forward against a receiver with TLS of its own, on the embedded log.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the helpers of these tests are no tests by name, and fail as tests do"
)]

mod courier;
mod dial;
mod receiver;
mod rotation;
mod world;
