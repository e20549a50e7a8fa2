//! A payload type that can be applied: sanitise, input schema, JSON inside strings, mapping, output schema, in this order.
//!
//! Pure, and the same for every role: whoever has the definition gets the same bytes or the same refusal.

use std::collections::BTreeMap;

use event::digest::{Digest, digest_of};
use event::door::{self, DoorCode, Limits, canonicalise};
use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use crate::definition::{Definition, Embedded, Target};
use crate::embedded::{Path, PathError};
use crate::mapping::Mapping;
use crate::refusal::{FieldError, REPAIR_NOT_ALLOWED, Refusal};
use crate::repair::Rung;
use crate::sanitise::sanitise;
use crate::{invariants, repair, tree};

/// Faults of one document that are told.
const TOLD_MAX: usize = 10;
const DETAIL_CHARS_MAX: usize = 300;
/// The payload, in the request body.
const PAYLOAD: &str = "/payload";

/// Whether strings that hold JSON may be repaired: the tenant says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RepairPolicy {
    /// What is not JSON is refused.
    Off,
    /// The ladder of fixed rules.
    #[default]
    Rules,
}

/// A payload type, compiled.
#[derive(Debug)]
pub struct PayloadType {
    definition: Definition,
    digest: Digest,
    input: Validator,
    embedded: Vec<(Path, Option<Validator>)>,
    targets: BTreeMap<String, (Mapping, Validator)>,
}

/// A part of a definition that is not usable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileError {
    pub part: Part,
    /// JSON pointer inside the part.
    pub pointer: String,
    pub detail: String,
}

/// What a definition consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    InputSchema,
    /// The one of this number.
    EmbeddedPath(usize),
    EmbeddedSchema(usize),
    Mapping(String),
    OutputSchema(String),
}

/// A payload as it will be countersigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Normalized {
    pub target: String,
    pub canonical: Vec<u8>,
    pub repairs: Vec<Repair>,
}

/// One string that was put right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// In the request body.
    pub pointer: String,
    pub rungs: Vec<Rung>,
    /// Of the string as it was received (sanitised where the type says so).
    pub received: Digest,
    /// Of the canonical form that it was read as.
    pub repaired: Digest,
}

/// Why no mapping could be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetFault {
    Unknown,
    /// The type has several and the request names none.
    Ambiguous,
}

impl PayloadType {
    /// Compiles every schema and mapping.
    ///
    /// # Errors
    /// The first part that is not usable.
    pub fn compile(definition: Definition, digest: Digest) -> Result<Self, CompileError> {
        let input = schema(&definition.input_schema, Part::InputSchema)?;
        let embedded = definition.embedded_json.iter().enumerate().map(|(index, embedded)| {
            let path = Path::parse(&embedded.path).map_err(|error: PathError| CompileError {
                part: Part::EmbeddedPath(index),
                pointer: String::new(),
                detail: error.to_string(),
            })?;
            let compiled = embedded.schema.as_ref().map(|text| schema(text, Part::EmbeddedSchema(index)));
            Ok((path, compiled.transpose()?))
        });
        let targets = definition.targets.iter().map(|(name, target)| {
            let mapping = Mapping::compile(&target.mapping).map_err(|fault| CompileError {
                part: Part::Mapping(name.clone()),
                pointer: String::new(),
                detail: fault.detail,
            })?;
            Ok((name.clone(), (mapping, schema(&target.output_schema, Part::OutputSchema(name.clone()))?)))
        });
        let (embedded, targets) = (embedded.collect::<Result<_, _>>()?, targets.collect::<Result<_, _>>()?);
        Ok(Self { input, embedded, targets, definition, digest })
    }

    pub fn name(&self) -> &str {
        self.definition.name()
    }

    /// Of the definition: what was made with this type says so.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    pub fn targets(&self) -> impl Iterator<Item = &str> {
        self.targets.keys().map(String::as_str)
    }

    /// The target that a request gets: the one it names, or the only one.
    ///
    /// # Errors
    /// If there is none of that name, or several to choose from.
    pub fn target<'t>(&'t self, named: Option<&str>) -> Result<&'t str, TargetFault> {
        let mut known = self.targets.keys();
        match (named, known.next(), known.next()) {
            (None, None, _) => Ok(self.name()),
            (None, Some(only), None) => Ok(only),
            (None, Some(_), Some(_)) => Err(TargetFault::Ambiguous),
            (Some(name), None, _) if name == self.name() => Ok(self.name()),
            (Some(name), _, _) => {
                self.targets.get_key_value(name).map(|(known, _)| known.as_str()).ok_or(TargetFault::Unknown)
            }
        }
    }

    /// Makes the payload that is countersigned of the one that was received, which passed the JSON door.
    ///
    /// # Errors
    /// 422 with the place in the request body, or 413 where the result is too large.
    pub fn normalize(
        &self,
        received: &[u8],
        target: Option<&str>,
        policy: RepairPolicy,
        limits: &Limits,
    ) -> Result<Normalized, Refusal> {
        let target = self.target(target).map_err(|fault| target_refused(fault, self.name(), target))?;
        let mut document = tree::read(received)
            .map_err(|error| Refusal::at(422, "mapping_failed", PAYLOAD, "unreadable", error.to_string()))?;
        sanitise(&self.definition.sanitise, &mut document);
        conforms(&self.input, &document)?;
        let mut repairs = Vec::new();
        for ((path, schema), embedded) in self.embedded.iter().zip(&self.definition.embedded_json) {
            for pointer in path.find(&document) {
                let Some(place) = document.pointer_mut(&pointer) else { continue };
                let Value::String(text) = &*place else { continue };
                let pointer = format!("{PAYLOAD}{pointer}");
                let (inside, repair) = self.read_embedded(text, &pointer, embedded, (policy, limits))?;
                if let Some(schema) = schema {
                    conforms_inside(schema, &inside, &pointer)?;
                }
                *place = inside;
                repairs.extend(repair);
            }
        }
        let mapped = match self.targets.get(target) {
            None => document,
            Some((mapping, output)) => mapped(mapping, output, &document)?,
        };
        let (mut text, mut canonical) = (Vec::new(), Vec::new());
        tree::write(&mapped, &mut text);
        canonicalise(&text, limits, &mut canonical).map_err(|refusal| {
            let detail = format!("the mapped payload: {} at {:?}", refusal.detail, refusal.pointer);
            match refusal.code {
                DoorCode::TooLarge => Refusal::at(413, "payload_too_large", PAYLOAD, refusal.code.as_str(), detail),
                code => Refusal::at(422, "mapping_failed", PAYLOAD, code.as_str(), detail),
            }
        })?;
        Ok(Normalized { target: target.to_owned(), canonical, repairs })
    }

    /// The document inside a string, sanitised like the rest.
    fn read_embedded(
        &self,
        text: &str,
        pointer: &str,
        embedded: &Embedded,
        (policy, limits): (RepairPolicy, &Limits),
    ) -> Result<(Value, Option<Repair>), Refusal> {
        let unreadable =
            |error: serde_json::Error| Refusal::at(422, "mapping_failed", pointer, "unreadable", error.to_string());
        let mut canonical = Vec::with_capacity(text.len());
        let (mut inside, repair) = match canonicalise(text.as_bytes(), limits, &mut canonical) {
            Ok(()) => (tree::read(&canonical).map_err(unreadable)?, None),
            Err(refusal) if refusal.code != DoorCode::Malformed => return Err(door_inside(&refusal, pointer)),
            Err(refusal) if !embedded.repair => {
                return Err(Refusal::at(
                    422,
                    "mapping_failed",
                    pointer,
                    refusal.code.as_str(),
                    inside_detail(&refusal),
                ));
            }
            Err(refusal) if policy == RepairPolicy::Off => {
                let detail = format!("{}; the tenant allows no repair", inside_detail(&refusal));
                return Err(Refusal::at(422, "mapping_failed", pointer, REPAIR_NOT_ALLOWED, detail));
            }
            Err(refusal) => {
                let repaired = repair::repair(text, limits).map_err(|refusal| door_inside(&refusal, pointer))?;
                let repaired = repaired.ok_or_else(|| {
                    let detail = format!("{}; no repair leads to JSON", inside_detail(&refusal));
                    Refusal::at(422, "mapping_failed", pointer, refusal.code.as_str(), detail)
                })?;
                let inside = tree::read(&repaired.canonical).map_err(unreadable)?;
                unbroken(text, &inside, pointer)?;
                let repair = Repair {
                    pointer: pointer.to_owned(),
                    rungs: repaired.rungs,
                    received: digest_of(text.as_bytes()),
                    repaired: digest_of(&repaired.canonical),
                };
                (inside, Some(repair))
            }
        };
        sanitise(&self.definition.sanitise, &mut inside);
        Ok((inside, repair))
    }
}

/// The refusal of a request that names a target which its type does not have, or has to.
pub fn target_refused(fault: TargetFault, payload_type: &str, named: Option<&str>) -> Refusal {
    let (code, detail) = match fault {
        TargetFault::Unknown => {
            let named: String = named.unwrap_or_default().chars().take(DETAIL_CHARS_MAX).collect();
            ("unknown_target_type", format!("{payload_type} has no target type {named:?}"))
        }
        TargetFault::Ambiguous => ("missing_target_type", format!("{payload_type} has several target types: name one")),
    };
    Refusal::at(422, "invalid_request", "/target_type", code, detail)
}

/// A schema of a type: no network, no files, and patterns in linear time.
fn schema(text: &Value, part: Part) -> Result<Validator, CompileError> {
    let options = jsonschema::options().should_validate_formats(true).with_pattern_options(PatternOptions::regex());
    options.build(text).map_err(|error| CompileError {
        part,
        pointer: error.instance_path().to_string(),
        detail: shortened(&error.to_string()),
    })
}

/// Every fault of a document, in an order that does not depend on chance.
fn violations(schema: &Validator, document: &Value) -> Vec<FieldError> {
    let mut found: Vec<FieldError> = schema
        .iter_errors(document)
        .map(|error| FieldError {
            pointer: error.instance_path().to_string(),
            code: error.kind().keyword().to_owned(),
            detail: shortened(&error.masked_with("the value").to_string()),
        })
        .collect();
    found.sort_by(|a, b| (&a.pointer, &a.code, &a.detail).cmp(&(&b.pointer, &b.code, &b.detail)));
    found.dedup();
    found.truncate(TOLD_MAX);
    found
}

fn conforms(schema: &Validator, document: &Value) -> Result<(), Refusal> {
    if schema.is_valid(document) {
        return Ok(());
    }
    let mut faults = violations(schema, document);
    for fault in &mut faults {
        fault.pointer.insert_str(0, PAYLOAD);
    }
    Err(Refusal::of(422, "schema_violation", faults))
}

/// A fault inside a JSON string has the string's own pointer; the detail says where inside (docs/contracts/http.md).
fn conforms_inside(schema: &Validator, document: &Value, pointer: &str) -> Result<(), Refusal> {
    if schema.is_valid(document) {
        return Ok(());
    }
    let mut faults = violations(schema, document);
    for fault in &mut faults {
        fault.detail = format!("inside the string, at {:?}: {}", fault.pointer, fault.detail);
        pointer.clone_into(&mut fault.pointer);
    }
    Err(Refusal::of(422, "schema_violation", faults))
}

fn mapped(mapping: &Mapping, output: &Validator, document: &Value) -> Result<Value, Refusal> {
    let mapped = mapping
        .apply(document)
        .map_err(|fault| Refusal::at(422, "mapping_failed", PAYLOAD, fault.code, shortened(&fault.detail)))?;
    if output.is_valid(&mapped) {
        return Ok(mapped);
    }
    let mut faults = violations(output, &mapped);
    for fault in &mut faults {
        fault.detail = format!("what the mapping gives, at {:?}: {}", fault.pointer, fault.detail);
        PAYLOAD.clone_into(&mut fault.pointer);
    }
    Err(Refusal::of(422, "mapping_failed", faults))
}

/// The invariants hold, or the repair is none.
fn unbroken(text: &str, inside: &Value, pointer: &str) -> Result<(), Refusal> {
    let unescaped = repair::unescaped_once(text);
    let broken = invariants::broken(unescaped.as_deref().unwrap_or(text), inside);
    if broken.is_empty() {
        return Ok(());
    }
    let faults = broken.into_iter().map(|broken| FieldError {
        pointer: pointer.to_owned(),
        code: broken.rule.to_owned(),
        detail: format!("the repair would change what is said at {:?} inside the string", broken.pointer),
    });
    Err(Refusal::of(422, "invariant_broken", faults.collect()))
}

fn door_inside(refusal: &door::Refusal, pointer: &str) -> Refusal {
    let status = if refusal.code == DoorCode::TooLarge { 413 } else { 422 };
    let code = refusal.code.problem_code();
    Refusal::at(status, code, pointer, refusal.code.as_str(), inside_detail(refusal))
}

fn inside_detail(refusal: &door::Refusal) -> String {
    format!("inside the string, at {:?} (byte {}): {}", refusal.pointer, refusal.offset, refusal.detail)
}

fn shortened(text: &str) -> String {
    text.chars().take(DETAIL_CHARS_MAX).collect()
}

impl Target {
    pub(crate) fn new(mapping: &str, output_schema: Value) -> Self {
        Self { mapping: mapping.trim().to_owned(), output_schema }
    }
}
