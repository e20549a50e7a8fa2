//! A payload type as data: what it is made of, and the digest that names exactly this.
//!
//! The definition travels in `tenant.config.v1`, so that every role decides by the same one (docs/adr/0015).

use std::collections::BTreeMap;

use event::digest::{Digest, digest_of};
use event::door::{Limits, canonicalise};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::sanitise::Rule;
use crate::tree;

/// The only payload type without a definition: nothing is mapped.
pub const PASSTHROUGH: &str = "passthrough";
/// How definitions are written by this version.
const FORMAT: u32 = 1;
/// Of a definition, all schemas and mappings included.
pub const DEFINITION_BYTES_MAX: usize = 256 * 1024;
const NAME_BYTES_MAX: usize = 128;

/// What a payload type consists of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    pub(crate) format: u32,
    pub(crate) name: String,
    pub(crate) sanitise: Vec<Rule>,
    pub(crate) input_schema: Value,
    pub(crate) embedded_json: Vec<Embedded>,
    /// By the name of the target type. None: what enters is what is countersigned, once it passed the schema.
    pub(crate) targets: BTreeMap<String, Target>,
}

/// Strings that hold JSON; the mapping finds the document in their place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Embedded {
    /// A JSON pointer in which `*` stands for every element.
    pub(crate) path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) schema: Option<Value>,
    pub(crate) repair: bool,
}

/// One mapping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Target {
    pub(crate) mapping: String,
    pub(crate) output_schema: Value,
}

/// Why a text is no definition that can be used here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DefinitionError {
    /// Of a later version: whoever reads it waits for its deploy.
    #[error("the definition has format {0}, this version reads {FORMAT}")]
    LaterFormat(u64),
    #[error("the definition cannot be read: {0}")]
    Malformed(String),
}

impl Definition {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            format: FORMAT,
            name: name.to_owned(),
            sanitise: Vec::new(),
            input_schema: Value::Bool(true),
            embedded_json: Vec::new(),
            targets: BTreeMap::new(),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The canonical text, of which the digest is taken.
    ///
    /// # Errors
    /// If it is larger or nested more deeply than a definition may be.
    pub fn canonical(&self) -> Result<Vec<u8>, DefinitionError> {
        let malformed = |detail: String| DefinitionError::Malformed(detail);
        let value = serde_json::to_value(self).map_err(|error| malformed(error.to_string()))?;
        let (mut text, mut canonical) = (Vec::new(), Vec::new());
        tree::write(&value, &mut text);
        let limits = Limits { canonical_bytes_max: DEFINITION_BYTES_MAX, ..Limits::default() };
        canonicalise(&text, &limits, &mut canonical).map_err(|refusal| malformed(refusal.to_string()))?;
        Ok(canonical)
    }

    /// Reads the canonical text back.
    ///
    /// # Errors
    /// A later format, or anything but a definition.
    pub fn read(canonical: &[u8]) -> Result<(Self, Digest), DefinitionError> {
        let malformed = |error: serde_json::Error| DefinitionError::Malformed(error.to_string());
        let value = tree::read(canonical).map_err(malformed)?;
        match value.get("format").and_then(Value::as_u64) {
            Some(format) if format == u64::from(FORMAT) => {}
            Some(format) => return Err(DefinitionError::LaterFormat(format)),
            None => return Err(DefinitionError::Malformed("it has no format".to_owned())),
        }
        Ok((serde_json::from_value(value).map_err(malformed)?, digest_of(canonical)))
    }
}

/// Whether this can name a type: lower case, and with its version, for a type once published never changes.
pub(crate) fn is_type_name(name: &str) -> bool {
    let are_allowed = name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'));
    let version = name.rsplit_once(".v").map(|(stem, version)| (stem.bytes().next(), version));
    let is_versioned = version.is_some_and(|(first, version)| {
        first.is_some_and(|first| first.is_ascii_lowercase() || first.is_ascii_digit())
            && !version.is_empty()
            && version.bytes().all(|byte| byte.is_ascii_digit())
            && !version.starts_with('0')
    });
    are_allowed && is_versioned && name.len() <= NAME_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_definition_comes_back_and_its_digest_is_of_what_it_says() {
        let definition = Definition { input_schema: json!({"multipleOf": 0.01}), ..Definition::new("a.v1") };
        let canonical = definition.canonical().unwrap();
        assert_eq!(Definition::read(&canonical).unwrap(), (definition.clone(), digest_of(&canonical)));
        let other = Definition { sanitise: vec![Rule::LineEnds], ..definition };
        assert_ne!(other.canonical().unwrap(), canonical);
    }

    #[test]
    fn a_later_format_is_told_from_damage() {
        assert_eq!(Definition::read(br#"{"format":2,"new":1}"#), Err(DefinitionError::LaterFormat(2)));
        for damaged in ["{}", "[]", "{", r#"{"format":1,"name":"a.v1"}"#] {
            assert!(matches!(Definition::read(damaged.as_bytes()), Err(DefinitionError::Malformed(_))), "{damaged}");
        }
    }

    #[test]
    fn a_name_carries_its_version() {
        for good in ["a.v1", "openai.tooluse.invoice.v1", "x-1_2.v10"] {
            assert!(is_type_name(good), "{good}");
        }
        for bad in [
            "",
            "a",
            ".v1",
            "a.v",
            "a.v0",
            "a.v01",
            "a.v1x",
            "A.v1",
            "a b.v1",
            "a/b.v1",
            "a:b.v1",
            "-a.v1",
            PASSTHROUGH,
        ] {
            assert!(!is_type_name(bad), "{bad}");
        }
    }
}
