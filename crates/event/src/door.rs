//! The JSON door: what may enter, and its canonical form, in one pass (docs/contracts/receipt.md sections 1 and 2).
//!
//! Nothing is repaired or rounded: a document is refused with a stable code and the JSON pointer of the place.

mod members;
mod read;
mod walk;
pub mod written;

use std::ops::Range;

/// Bounds on a document (docs/contracts/receipt.md section 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Containers inside each other.
    pub depth_max: usize,
    /// Bytes of the canonical form.
    pub canonical_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { depth_max: 64, canonical_bytes_max: 256 * 1024 }
    }
}

/// Why a document was refused (docs/contracts/receipt.md section 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DoorCode {
    /// A byte order mark, bad UTF-8 or a breach of RFC 8259.
    Malformed,
    DuplicateName,
    LoneSurrogate,
    Noncharacter,
    NumberOverflow,
    NumberUnderflow,
    UnsafeInteger,
    TooDeep,
    TooLarge,
}

impl DoorCode {
    /// The code in `errors[].code`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed_json",
            Self::DuplicateName => "duplicate_name",
            Self::LoneSurrogate => "lone_surrogate",
            Self::Noncharacter => "noncharacter",
            Self::NumberOverflow => "number_overflow",
            Self::NumberUnderflow => "number_underflow",
            Self::UnsafeInteger => "unsafe_integer",
            Self::TooDeep => "too_deep",
            Self::TooLarge => "too_large",
        }
    }

    /// The problem's own `code` (docs/contracts/http.md, Errors).
    pub fn problem_code(self) -> &'static str {
        match self {
            Self::Malformed => "malformed_json",
            Self::TooDeep => "payload_too_deep",
            Self::TooLarge => "payload_too_large",
            _ => "not_i_json",
        }
    }
}

/// A document that may not enter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} at \"{pointer}\" (byte {offset}): {detail}", code.as_str())]
pub struct Refusal {
    pub code: DoorCode,
    /// RFC 6901, after the prefix that the caller gave. For a fault inside a member name: the object's.
    pub pointer: String,
    pub detail: String,
    /// Where in the bytes given.
    pub offset: usize,
}

/// Appends the canonical form of a document to `out`; on a refusal `out` is as it was.
pub fn canonicalise(bytes: &[u8], limits: &Limits, out: &mut Vec<u8>) -> Result<(), Refusal> {
    canonicalise_at("", bytes, limits, out)
}

/// As [`canonicalise`], for a part of a larger document: `prefix` is its JSON pointer there (`/payload`).
pub fn canonicalise_at(prefix: &str, bytes: &[u8], limits: &Limits, out: &mut Vec<u8>) -> Result<(), Refusal> {
    let before = out.len();
    let result = walk::document(bytes, limits, out).map_err(|(fault, path)| fault.at(format!("{prefix}{path}")));
    if result.is_err() {
        out.truncate(before);
    }
    result
}

/// The members of a top-level object: names unescaped, values as ranges of `bytes`, in the order written.
///
/// The object itself is read strictly and duplicates are refused. Values are only delimited, not read: pass each
/// one that is used through [`canonicalise_at`].
pub fn members(bytes: &[u8]) -> Result<Vec<(String, Range<usize>)>, Refusal> {
    members::of_object(bytes)
}

/// Whether a top-level object has one of these members, as far as it can be read, and even where a name occurs twice.
pub fn has_member(bytes: &[u8], names: &[&str]) -> bool {
    members::has_one_of(bytes, names)
}

/// The elements of a top-level array as ranges of `bytes`, delimited as [`members`] does.
pub fn elements(bytes: &[u8]) -> Result<Vec<Range<usize>>, Refusal> {
    members::of_array(bytes)
}

/// Appends one step to a JSON pointer (RFC 6901 section 3).
pub fn push_pointer(pointer: &mut String, step: &str) {
    pointer.push('/');
    for character in step.chars() {
        match character {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            other => pointer.push(other),
        }
    }
}

#[cfg(test)]
mod tests;
