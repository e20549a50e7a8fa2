//! The hash recipes of two older systems, byte for byte, so that what they hashed can still be checked.
//!
//! They leave out what a hash should cover and write numbers as one language prints them; nothing of ours is hashed this
//! way. Pure: no IO, no clock, no thread, no environment.
#![forbid(unsafe_code)]

mod amount;
mod printable;
mod python;
mod receipt;
mod recipe;

pub use recipe::{Hashed, Recipe, Refusal, UnknownRecipe, hash};
