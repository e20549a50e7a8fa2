//! Dead letters: which there are, what is in them, and their way back.

mod legible;
mod letter;
mod look;
mod replay;
#[cfg(test)]
mod tests;
mod told;

pub(crate) use letter::LetterId;
pub(crate) use look::{Letters, ListRequest, Shown, list, show};
pub(crate) use replay::{ReplayRequest, Replayed, replay};
