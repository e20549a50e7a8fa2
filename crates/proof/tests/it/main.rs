//! Sealing and verifying as a stranger would try them.
#![cfg(test)]

mod broken;
mod fixture;
mod tamper;
mod vectors;
mod webhook;
