//! The schemas of every topic: pinned, compatible with every version before, and shown by golden samples.
//!
//! `schemas/<topic>/<n>.golden.json` is one value in the JSON encoding of the Avro specification (a branch of a union is
//! `{"type": value}`, a byte is the character of its number), `<n>.golden.hex` its bytes on the wire. Bytes written once
//! are in somebody's log: a golden sample is added, never edited.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};
use std::path::{Path, PathBuf};

use apache_avro::Schema;
use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};
use event::wire::{self, Wire};
use serde_json::{Map, Value};

use crate::repository;

/// A change of a schema, for a made-up history.
type Change = fn(&mut Map<String, Value>);
/// Every version of a topic's schema, by number.
type Versions = BTreeMap<u32, PathBuf>;

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn schema_of(path: &Path) -> Schema {
    Schema::parse_str(&read(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What lies in `schemas/`: `<topic>/<n>.avsc`.
fn shipped() -> BTreeMap<String, Versions> {
    let mut topics = BTreeMap::new();
    for entry in std::fs::read_dir(repository().join("schemas")).expect("schemas/") {
        let folder = entry.expect("an entry").path();
        // Beside the topics: vectors of receipts and canonical forms, for implementers.
        if !folder.is_dir() || folder.ends_with("vectors") {
            continue;
        }
        let topic = folder.file_name().expect("a name").to_string_lossy().into_owned();
        let files = std::fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path());
        let versions: Versions = files
            .filter(|file| file.extension().is_some_and(|extension| extension == "avsc"))
            .map(|file| {
                let number = file.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
                (number.unwrap_or_else(|| panic!("{} is not <number>.avsc", file.display())), file)
            })
            .collect();
        assert!(!versions.is_empty(), "{topic} has no schema");
        topics.insert(topic, versions);
    }
    topics
}

fn pinned() -> BTreeMap<u32, String> {
    serde_json::from_str(&read(&repository().join("schemas/ids.json"))).expect("ids.json holds ids and paths")
}

#[test]
fn every_schema_parses_and_every_one_is_pinned_once() {
    let mut files: Vec<String> = Vec::new();
    for (topic, versions) in shipped() {
        let numbers: Vec<u32> = versions.keys().copied().collect();
        let count = u32::try_from(numbers.len()).expect("few versions");
        assert_eq!(numbers, (1..=count).collect::<Vec<_>>(), "versions of {topic} have no gap");
        for (number, file) in versions {
            drop(schema_of(&file));
            files.push(format!("{topic}/{number}.avsc"));
        }
    }
    let pinned = pinned();
    let mut paths: Vec<String> = pinned.values().cloned().collect();
    paths.sort();
    files.sort();
    assert_eq!(paths, files, "what ids.json pins is what lies there, each once");
    for (id, topic, text) in wire::SCHEMAS {
        let path = &pinned[id];
        assert!(path.starts_with(&format!("{topic}/")), "the binary's id {id} is of {topic}, ids.json says {path}");
        assert_eq!(*text, read(&repository().join("schemas").join(path)), "the binary was built with another {path}");
    }
}

/// The first pair of versions that cannot read each other, in words (FULL_TRANSITIVE).
fn incompatibility(versions: &[(u32, Schema)]) -> Option<String> {
    let pairs = versions
        .iter()
        .enumerate()
        .flat_map(|(index, older)| versions.iter().skip(index + 1).map(move |newer| (older, newer)));
    for ((old, older), (new, newer)) in pairs {
        for (writer, reader, way) in [(older, newer, "read by the newer"), (newer, older, "read by the older")] {
            match SchemaCompatibility::can_read(writer, reader) {
                Ok(Compatibility::Full) => {}
                Ok(Compatibility::Partial) => return Some(format!("{old} and {new}: some values cannot be {way}")),
                Err(error) => return Some(format!("{old} and {new}: not {way}: {error}")),
            }
        }
    }
    None
}

#[test]
fn every_version_reads_every_other() {
    for (topic, versions) in shipped() {
        let schemas: Vec<(u32, Schema)> = versions.iter().map(|(number, file)| (*number, schema_of(file))).collect();
        assert_eq!(incompatibility(&schemas), None, "{topic}");
    }
}

/// A made-up history of one topic, beginning with what is shipped.
fn history(changes: &[Change]) -> Vec<(u32, Schema)> {
    let first: Value = serde_json::from_str(&read(&repository().join("schemas/usage.recorded.v1/1.avsc"))).unwrap();
    let mut versions = vec![first];
    for change in changes {
        let mut next = versions.last().unwrap().clone();
        change(next.as_object_mut().unwrap());
        versions.push(next);
    }
    (1..).zip(versions.iter().map(|version| Schema::parse(version).unwrap())).collect()
}

fn fields(schema: &mut Map<String, Value>) -> &mut Vec<Value> {
    schema["fields"].as_array_mut().unwrap()
}

#[test]
fn a_change_that_breaks_a_reader_is_caught() {
    let with_default = |schema: &mut Map<String, Value>| {
        fields(schema).push(serde_json::json!({"name": "note", "type": ["null", "string"], "default": null}));
    };
    assert_eq!(incompatibility(&history(&[with_default])), None, "a field with a default is what may be added");

    let without_default = |schema: &mut Map<String, Value>| {
        fields(schema).push(serde_json::json!({"name": "note", "type": "string"}));
    };
    let removed = |schema: &mut Map<String, Value>| drop(fields(schema).pop());
    let retyped = |schema: &mut Map<String, Value>| fields(schema).last_mut().unwrap()["type"] = "string".into();
    // A reader may widen an int, but the reader before cannot narrow it back.
    let narrowed = |schema: &mut Map<String, Value>| fields(schema).last_mut().unwrap()["type"] = "int".into();
    let renamed = |schema: &mut Map<String, Value>| fields(schema).last_mut().unwrap()["name"] = "forwarding".into();
    let made_nullable = |schema: &mut Map<String, Value>| {
        fields(schema).last_mut().unwrap()["type"] = serde_json::json!(["null", "long"])
    };
    let breaking: [(&str, Change); 6] = [
        ("a field without a default", without_default),
        ("a field removed", removed),
        ("another type", retyped),
        ("a narrower type", narrowed),
        ("another name", renamed),
        ("null where no reader expects it", made_nullable),
    ];
    for (what, change) in breaking {
        assert!(incompatibility(&history(&[change])).is_some(), "{what} passes");
    }

    // Transitive: the third agrees with the second, not with the first.
    let without_that_default = |schema: &mut Map<String, Value>| {
        drop(fields(schema).last_mut().unwrap().as_object_mut().unwrap().remove("default"))
    };
    let three = history(&[with_default, without_that_default]);
    assert_eq!(incompatibility(&three[1..]), None);
    assert!(incompatibility(&three).is_some(), "the first and the third do not read each other");
}

/// A value in Avro's JSON encoding as serde knows it: bytes as numbers, unions without the name of their branch.
fn plain(schema: &Value, value: &Value) -> Value {
    match schema {
        Value::Array(branches) => match value {
            Value::Null => Value::Null,
            named => {
                let (name, inner) = named.as_object().and_then(|named| named.iter().next()).expect("a named branch");
                let branch = branches.iter().find(|branch| name_of(branch) == *name);
                plain(branch.unwrap_or_else(|| panic!("{name} is no branch of {schema}")), inner)
            }
        },
        Value::String(primitive) if primitive == "bytes" => {
            let characters = value.as_str().expect("bytes are a string").chars();
            characters.map(|character| Value::from(u8::try_from(u32::from(character)).expect("one byte"))).collect()
        }
        Value::String(_) => value.clone(),
        Value::Object(complex) => match complex["type"].as_str().expect("a type") {
            "record" => {
                let fields = complex["fields"].as_array().expect("fields");
                let named: Vec<&str> = fields.iter().map(|field| field["name"].as_str().expect("a name")).collect();
                let given: Vec<&str> = value.as_object().expect("a record").keys().map(String::as_str).collect();
                assert!(
                    given.len() == named.len() && given.iter().all(|name| named.contains(name)),
                    "{given:?}, not {named:?}"
                );
                let plainly = |field: &Value, name: &str| (name.to_owned(), plain(&field["type"], &value[name]));
                fields.iter().zip(named).map(|(field, name)| plainly(field, name)).collect()
            }
            "array" => value.as_array().expect("an array").iter().map(|item| plain(&complex["items"], item)).collect(),
            other => panic!("samples know no {other} yet"),
        },
        other => panic!("{other} is no schema"),
    }
}

/// What the JSON encoding calls a branch of a union. Our records share one namespace.
fn name_of(branch: &Value) -> String {
    match branch {
        Value::String(primitive) => primitive.clone(),
        complex if complex["type"] == "record" => format!("countersign.{}", complex["name"].as_str().expect("a name")),
        complex => complex["type"].as_str().expect("a type").to_owned(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

/// Checks the newest sample of a topic both ways, and that older ones can be read.
fn golden<T: Wire + PartialEq + Debug>() {
    let topic = T::TOPIC;
    let path = &pinned()[&T::SCHEMA_ID];
    let place = repository().join("schemas").join(path);
    let schema: Value = serde_json::from_str(&read(&place)).expect("a schema is JSON");
    let sample: Value = serde_json::from_str(&read(&place.with_extension("golden.json"))).expect("a sample is JSON");
    let value: T = serde_json::from_value(plain(&schema, &sample)).unwrap_or_else(|error| panic!("{topic}: {error}"));
    let bytes = value.encode().unwrap_or_else(|error| panic!("{topic}: {error}"));

    let written = sample_bytes(&place);
    assert_eq!(hex(&bytes), hex(&written), "{topic}: the sample's bytes");
    let read_back = |bytes: &[u8]| T::decode(bytes).unwrap_or_else(|error| panic!("{topic}: {error}"));
    assert_eq!(read_back(&written), value, "{topic}: the sample's value");

    // What older versions wrote is read too, and written anew it is of the newest version.
    for (id, _, _) in wire::SCHEMAS.iter().filter(|(id, of, _)| *of == topic && *id != T::SCHEMA_ID) {
        let older = read_back(&sample_bytes(&repository().join("schemas").join(&pinned()[id])));
        let rewritten = older.encode().unwrap_or_else(|error| panic!("{topic}: {error}"));
        assert_eq!(read_back(&rewritten), older, "{topic}: the sample of id {id}");
    }
}

/// The bytes of a golden sample, of which the file holds hex.
fn sample_bytes(place: &Path) -> Vec<u8> {
    let written: String = read(&place.with_extension("golden.hex")).split_whitespace().collect();
    (0..written.len()).step_by(2).map(|at| u8::from_str_radix(&written[at..at + 2], 16).expect("hex")).collect()
}

macro_rules! golden_samples {
    ($($record:ident),* $(,)?) => {
        #[test]
        fn samples_are_written_and_read_as_they_were() {
            let checked = [$((golden::<wire::$record> as fn(), <wire::$record as Wire>::TOPIC)),*];
            let topics: Vec<&str> = checked.iter().map(|(_, topic)| *topic).collect();
            let mut all: Vec<&str> = wire::SCHEMAS.iter().map(|(_, topic, _)| *topic).collect();
            all.dedup();
            assert_eq!(topics, all, "every record has a sample, in the order of the binary's list");
            for (check, _) in checked {
                check();
            }
        }
    };
}

golden_samples!(
    ExchangeRequested,
    ExchangeAdmitted,
    ExchangeRejected,
    ExchangeSealed,
    ExchangeAnswer,
    ExchangeDelivered,
    UsageRecorded,
    UsageTotal,
    LedgerCommand,
    SettlementPosted,
    SettlementParked,
    AuditCheckpoint,
    SigningKey,
    TenantConfig,
    DedupEntry,
    SignState,
    RelayPosition,
    PendingDelivery,
    Tally,
);

#[test]
fn every_schema_has_its_sample() {
    for (topic, versions) in shipped() {
        for file in versions.values() {
            for kind in ["golden.json", "golden.hex"] {
                assert!(file.with_extension(kind).is_file(), "{topic}: {} has no {kind}", file.display());
            }
        }
    }
}
