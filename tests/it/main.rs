//! Tests of the whole pipeline: its shape, its contracts, and that an exchange travels it exactly once.
//!
//! Those that run the product use the `countersign` binary of the same build; `scripts/test` builds it first.

#[cfg(test)]
mod architecture;
#[cfg(test)]
mod exactly_once;
#[cfg(test)]
mod holes;
#[cfg(test)]
mod payload_types;
#[cfg(test)]
mod process;
#[cfg(test)]
mod rotation;
#[cfg(test)]
mod schemas;
#[cfg(test)]
mod simulated;

use std::path::PathBuf;

/// The root of the repository.
#[cfg(test)]
fn repository() -> PathBuf {
    let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the tests lie in the repository").to_owned()
}
