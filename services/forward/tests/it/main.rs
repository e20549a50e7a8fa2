//! Forward against a receiver with TLS of its own, on the embedded log.

mod courier;
mod dial;
mod receiver;
mod world;
