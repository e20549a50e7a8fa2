//! Reading a record's value: what an unreadable one means (R9), decided in one place.

use std::fmt::Display;

use log::Record;

use crate::{Reject, StepError};

/// What a value of a later schema means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownSchema {
    /// Internal topics: our own next version writes it, wait for the deploy.
    Wait,
    /// Topics that others write to, and redo topics: a dead letter `unknown_schema`.
    Reject,
}

/// Decodes the value. `is_unknown` tells an unknown schema from damage; damage is a dead letter `malformed_record`.
pub fn read<T, E: Display>(
    record: &Record,
    decode: impl FnOnce(&[u8]) -> Result<T, E>,
    is_unknown: impl FnOnce(&E) -> bool,
    unknown: UnknownSchema,
) -> Result<T, StepError> {
    let Some(value) = record.value.as_deref() else {
        return Err(reject("malformed_record", "the record has no value".to_owned()));
    };
    decode(value).map_err(|error| match (is_unknown(&error), unknown) {
        (true, UnknownSchema::Wait) => StepError::Wait(error.to_string()),
        (true, UnknownSchema::Reject) => reject("unknown_schema", error.to_string()),
        (false, _) => reject("malformed_record", error.to_string()),
    })
}

fn reject(reason: &'static str, detail: String) -> StepError {
    StepError::Reject(Reject { reason, detail, tenant: "-".to_owned() })
}
