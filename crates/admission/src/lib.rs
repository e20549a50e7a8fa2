//! What may be admitted, and as what: the rules of a request, payload types with their mapping, and repairs.
//!
//! Pure: no IO, no clock, no thread. Canonicalise decides by it, and ingest's dry run answers by the same code.
#![forbid(unsafe_code)]

mod definition;
mod embedded;
mod example;
pub mod files;
mod invariants;
mod lenient;
mod mapping;
mod payload_type;
mod refusal;
mod repair;
mod request;
mod sanitise;
pub mod shipped;
mod tree;

pub use definition::{DEFINITION_BYTES_MAX, Definition, DefinitionError, PASSTHROUGH};
pub use payload_type::{
    CompileError, Normalized, Part, PayloadType, Repair, RepairPolicy, TargetFault, target_refused,
};
pub use refusal::{FieldError, Refusal};
pub use repair::Rung;
pub use request::{Admissible, Examined, Mapped, Rules, known_type};
