//! A payload type as files: a folder named as the type, and what must lie in it.
//!
//! ```text
//! <payload type>/type.json                               what is sanitised, which strings hold JSON
//! <payload type>/input.schema.json                       what may enter
//! <payload type>/to/<target type>/mapping.jmespath       one expression
//! <payload type>/to/<target type>/output.schema.json     what must come out
//! <payload type>/examples/<name>.json                    {"target", "input", "output" or "refusal"}
//! ```
//!
//! Reading the disk is the caller's; here are names and bytes only.

use std::collections::{BTreeMap, BTreeSet};

use event::digest::digest_of;
use event::door::{self, Limits, canonicalise};
use serde::Deserialize;
use serde_json::Value;

use crate::definition::{Definition, Embedded, PASSTHROUGH, Target, is_type_name};
use crate::example::{self, Example};
use crate::payload_type::{CompileError, Part, PayloadType};
use crate::sanitise::Rule;
use crate::tree;

const TYPE: &str = "type.json";
const INPUT: &str = "input.schema.json";
const MAPPING: &str = "mapping.jmespath";
const OUTPUT: &str = "output.schema.json";

/// What lies in a type's folder: bytes by their path inside it, with `/`.
pub type Files = BTreeMap<String, Vec<u8>>;

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFault {
    /// Path inside the type's folder; empty for the folder itself.
    pub file: String,
    /// JSON pointer inside the file; empty for the whole.
    pub pointer: String,
    pub detail: String,
}

/// A type whose files are in order.
#[derive(Debug)]
pub struct Checked {
    pub payload_type: PayloadType,
    /// The canonical definition, as it is published.
    pub canonical: Vec<u8>,
    pub examples: usize,
}

/// `type.json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TypeFile {
    /// For people; no part of the definition.
    #[serde(default, rename = "description")]
    _description: String,
    #[serde(default)]
    sanitise: BTreeSet<Rule>,
    #[serde(default)]
    embedded_json: Vec<EmbeddedFile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EmbeddedFile {
    path: String,
    /// A file beside `type.json`.
    schema: Option<String>,
    #[serde(default)]
    repair: bool,
}

impl FileFault {
    fn new(file: &str, pointer: &str, detail: impl Into<String>) -> Self {
        Self { file: file.to_owned(), pointer: pointer.to_owned(), detail: detail.into() }
    }
}

/// Reads a type from its files, compiles it, and runs its examples.
///
/// # Errors
/// Everything that is wrong, by file and pointer.
pub fn check(name: &str, files: &Files) -> Result<Checked, Vec<FileFault>> {
    let mut faults = Vec::new();
    let definition = definition(name, files, &mut faults);
    if !faults.is_empty() {
        return Err(faults);
    }
    let fault = |file: &str, detail: String| vec![FileFault::new(file, "", detail)];
    let canonical = definition.canonical().map_err(|error| fault(TYPE, error.to_string()))?;
    // What is used is what is published: the definition is read back before it is compiled.
    let (definition, digest) = Definition::read(&canonical).map_err(|error| fault(TYPE, error.to_string()))?;
    let schemas: Vec<Option<String>> = embedded_schemas(files);
    let payload_type = PayloadType::compile(definition, digest).map_err(|error| vec![of_compile(error, &schemas)])?;
    debug_assert_eq!(digest_of(&canonical), payload_type.digest());
    let mut examples = 0;
    for (file, bytes) in files.iter().filter(|(file, _)| file.starts_with("examples/")) {
        examples += 1;
        let run = Example::read(bytes).and_then(|example| example::run(&payload_type, &example));
        faults.extend(run.err().map(|fault| FileFault::new(file, &fault.pointer, fault.detail)));
    }
    if faults.is_empty() { Ok(Checked { payload_type, canonical, examples }) } else { Err(faults) }
}

fn definition(name: &str, files: &Files, faults: &mut Vec<FileFault>) -> Definition {
    let mut definition = Definition::new(name);
    if name == PASSTHROUGH || !is_type_name(name) {
        let detail = format!(
            "{name:?} names no type: a folder is called like invoice.v1, of a-z 0-9 . _ -, and ends in .v and a number"
        );
        faults.push(FileFault::new("", "", detail));
    }
    let mut known = BTreeSet::from([TYPE.to_owned(), INPUT.to_owned()]);
    match files.get(TYPE) {
        None => faults.push(FileFault::new(TYPE, "", "the file is missing; {} is enough where nothing is to be said")),
        Some(bytes) => match read(bytes).and_then(|value| Ok(serde_json::from_value::<TypeFile>(value)?)) {
            Err(Unreadable { pointer, detail }) => faults.push(FileFault::new(TYPE, &pointer, detail)),
            Ok(file) => {
                definition.sanitise = file.sanitise.into_iter().collect();
                for (index, embedded) in file.embedded_json.into_iter().enumerate() {
                    let pointer = format!("/embedded_json/{index}/schema");
                    let schema = embedded.schema.and_then(|file| {
                        known.insert(file.clone());
                        if !files.contains_key(&file) {
                            faults.push(FileFault::new(TYPE, &pointer, format!("there is no file {file}")));
                        }
                        schema_of(&file, files, faults)
                    });
                    definition.embedded_json.push(Embedded { path: embedded.path, schema, repair: embedded.repair });
                }
            }
        },
    }
    match files.contains_key(INPUT) {
        true => definition.input_schema = schema_of(INPUT, files, faults).unwrap_or(Value::Bool(true)),
        false => faults.push(FileFault::new(INPUT, "", "the file is missing; {} lets everything in")),
    }
    let targets: BTreeSet<&str> =
        files.keys().filter_map(|file| Some(file.strip_prefix("to/")?.split_once('/')?.0)).collect();
    for target in targets {
        definition.targets.extend(read_target(target, files, &mut known, faults));
    }
    let is_free = |file: &str| {
        file.starts_with("examples/") && file.ends_with(".json") || !file.contains('/') && file.ends_with(".md")
    };
    for file in files.keys().filter(|file| !known.contains(*file) && !is_free(file)) {
        faults.push(FileFault::new(file, "", "no file of a payload type has this name"));
    }
    definition
}

fn read_target(
    target: &str,
    files: &Files,
    known: &mut BTreeSet<String>,
    faults: &mut Vec<FileFault>,
) -> Option<(String, Target)> {
    let place = format!("to/{target}");
    if !is_type_name(target) {
        faults.push(FileFault::new(&place, "", "a target type is called like invoice.v1, with its version"));
    }
    let (mapping_file, output_file) = (format!("{place}/{MAPPING}"), format!("{place}/{OUTPUT}"));
    known.extend([mapping_file.clone(), output_file.clone()]);
    for file in [&mapping_file, &output_file].into_iter().filter(|file| !files.contains_key(*file)) {
        faults.push(FileFault::new(file, "", "the file is missing"));
    }
    let mapping = match std::str::from_utf8(files.get(&mapping_file)?) {
        Ok(mapping) => mapping,
        Err(error) => {
            faults.push(FileFault::new(&mapping_file, "", error.to_string()));
            return None;
        }
    };
    let output = schema_of(&output_file, files, faults)?;
    Some((target.to_owned(), Target::new(mapping, output)))
}

fn schema_of(file: &str, files: &Files, faults: &mut Vec<FileFault>) -> Option<Value> {
    match read(files.get(file)?) {
        Ok(value) => Some(value),
        Err(Unreadable { pointer, detail }) => {
            faults.push(FileFault::new(file, &pointer, detail));
            None
        }
    }
}

/// The file of each embedded schema, by its number.
fn embedded_schemas(files: &Files) -> Vec<Option<String>> {
    let read = files.get(TYPE).and_then(|bytes| serde_json::from_slice::<TypeFile>(bytes).ok());
    read.map(|file| file.embedded_json.into_iter().map(|embedded| embedded.schema).collect()).unwrap_or_default()
}

fn of_compile(error: CompileError, schemas: &[Option<String>]) -> FileFault {
    let CompileError { part, pointer, detail } = error;
    let (file, pointer) = match part {
        Part::InputSchema => (INPUT.to_owned(), pointer),
        Part::EmbeddedPath(index) => (TYPE.to_owned(), format!("/embedded_json/{index}/path")),
        Part::EmbeddedSchema(index) => {
            (schemas.get(index).cloned().flatten().unwrap_or_else(|| TYPE.to_owned()), pointer)
        }
        Part::Mapping(target) => (format!("to/{target}/{MAPPING}"), pointer),
        Part::OutputSchema(target) => (format!("to/{target}/{OUTPUT}"), pointer),
    };
    FileFault { file, pointer, detail }
}

/// A file that is no JSON as it enters here, or not of the form it must have.
struct Unreadable {
    pointer: String,
    detail: String,
}

impl From<door::Refusal> for Unreadable {
    fn from(refusal: door::Refusal) -> Self {
        Self { detail: format!("{} (byte {})", refusal.detail, refusal.offset), pointer: refusal.pointer }
    }
}

impl From<serde_json::Error> for Unreadable {
    fn from(error: serde_json::Error) -> Self {
        Self { pointer: String::new(), detail: error.to_string() }
    }
}

/// Through the same door as every payload: no duplicate names, no numbers that would be rounded.
fn read(bytes: &[u8]) -> Result<Value, Unreadable> {
    let mut canonical = Vec::with_capacity(bytes.len());
    canonicalise(bytes, &Limits::default(), &mut canonical)?;
    Ok(tree::read(&canonical)?)
}
