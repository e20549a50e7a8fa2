//! The routes on a real embedded log, with a stand-in for canonicalise and sign that answers what the payload asks for.

mod batch;
mod door;
mod exchange;
mod open;
mod world;

pub(crate) use world::{World, eventually};
