//! Sealing and verifying as a stranger would try them.
#![cfg(test)]

mod broken;
mod exported;
mod fixture;
mod tamper;
mod vectors;
mod webhook;
