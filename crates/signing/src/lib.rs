//! The keys of whoever signs evidence: files in its own directory, replaced without a gap, listed before they sign.
//!
//! Sign has keys for receipts, view has keys for bundles; both keep one discipline. Not in it: what is signed, and with which
//! bytes (`proof`), and the JWKS that is made of `signing_key.v1` (ingest).
#![forbid(unsafe_code)]

mod files;
mod keyring;

pub use files::{KeyFileError, KeyFiles, LEAD_S_MIN, SigningKeys, Use};
pub use keyring::{Clock, Keyring};
