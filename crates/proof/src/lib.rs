//! Evidence that a stranger can check: receipts, chains and bundles, sealed and verified (docs/contracts/receipt.md).
//!
//! Pure: keys, times and documents come in as arguments. A verifier here never repairs.
#![forbid(unsafe_code)]

pub mod bundle;
mod chain;
mod document;
mod exact;
pub mod jwk;
pub mod jws;
mod multiples;
mod plain;
pub mod receipt;
pub mod signing_key;
pub mod verdict;
pub mod verifier;
pub mod verify;
pub mod webhook;

pub use bundle::{Bundle, BundleDraft};
pub use chain::{Chains, Link};
pub use jwk::{KeyRing, PublicKey};
pub use receipt::{Draft, Policy, Receipt};
pub use signing_key::{SealError, SigningKey};
pub use verdict::{Code, Failure, Verdict};
pub use verifier::{Claimed, Verifier};
pub use verify::{Check, Trust, is_line, verify, verify_by};
