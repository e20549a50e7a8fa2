//! Payload types on disk: the shipped ones, and the directory that the configuration names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use access::TypeToPublish;
use admission::files::{Checked, Files, check};

use crate::failure::Failure;

/// Of one file; a definition is smaller still.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// `<type>/to/<target>/<file>`.
const DEPTH_MAX: usize = 3;

/// Every type that is in order, by name.
pub(crate) type Types = BTreeMap<String, Checked>;

/// One line for each thing that is wrong: file, pointer inside it, what.
#[derive(Debug, Default)]
pub(crate) struct Faults(pub(crate) Vec<String>);

impl Faults {
    fn add(&mut self, path: &Path, pointer: &str, detail: &str) {
        let place = if pointer.is_empty() { String::new() } else { format!(" at {pointer}") };
        self.0.push(format!("{}{place}: {detail}", path.display()));
    }
}

/// The shipped types.
pub(crate) fn shipped() -> Result<Types, Faults> {
    let mut faults = Faults::default();
    let mut types = Types::new();
    for (name, files) in admission::shipped::types() {
        take(&name, &files, Path::new("(shipped)"), (&mut types, &mut faults));
    }
    if faults.0.is_empty() { Ok(types) } else { Err(faults) }
}

/// The types of a directory, each in a folder of its name.
pub(crate) fn of_directory(directory: &Path) -> Result<Types, Faults> {
    let mut faults = Faults::default();
    let mut types = Types::new();
    let shipped = admission::shipped::types();
    for path in entries(directory, &mut faults) {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if !path.is_dir() {
            if !name.ends_with(".md") {
                faults.add(&path, "", "a payload type is a folder; no file lies beside the folders but notes (.md)");
            }
            continue;
        }
        let mut files = Files::new();
        read(&path, "", 1, (&mut files, &mut faults));
        match shipped.get(&name) {
            Some(ours) if *ours != files => {
                faults.add(&path, "", "a shipped type has this name, and it never changes: give yours another");
            }
            _ => take(&name, &files, directory, (&mut types, &mut faults)),
        }
    }
    if faults.0.is_empty() { Ok(types) } else { Err(faults) }
}

/// The shipped types and those of the directory, as they are to be published.
pub(crate) fn to_publish(directory: Option<&Path>) -> Result<Vec<TypeToPublish>, Failure> {
    let own = directory.map_or_else(|| Ok(Types::new()), of_directory);
    let types = shipped().and_then(|shipped| {
        let mut types = shipped;
        types.extend(own?);
        Ok(types)
    });
    let types = types.map_err(|faults| {
        Failure::new("the payload types cannot be used")
            .because(faults.0.join("; "))
            .try_this("`countersign types check` says what is wrong with each file")
    })?;
    types
        .into_iter()
        .map(|(name, checked)| match String::from_utf8(checked.canonical) {
            Ok(definition) => Ok(TypeToPublish { name, definition }),
            Err(error) => Err(Failure::new(format!("the payload type {name} cannot be published")).because(error)),
        })
        .collect()
}

fn take(name: &str, files: &Files, directory: &Path, (types, faults): (&mut Types, &mut Faults)) {
    match check(name, files) {
        Ok(checked) => drop(types.insert(name.to_owned(), checked)),
        Err(found) => {
            let folder = directory.join(name);
            for fault in found {
                let path = if fault.file.is_empty() { folder.clone() } else { folder.join(&fault.file) };
                faults.add(&path, &fault.pointer, &fault.detail);
            }
        }
    }
}

/// Every file below a folder, by its path inside the type's.
fn read(folder: &Path, inside: &str, depth: usize, (files, faults): (&mut Files, &mut Faults)) {
    for path in entries(folder, faults) {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let place = if inside.is_empty() { name } else { format!("{inside}/{name}") };
        if path.is_dir() {
            if depth < DEPTH_MAX {
                read(&path, &place, depth + 1, (files, faults));
            } else {
                faults.add(&path, "", "no file of a payload type lies as deep as this");
            }
            continue;
        }
        match std::fs::metadata(&path) {
            Ok(found) if found.len() > FILE_BYTES_MAX => {
                faults.add(&path, "", &format!("a file may have at most {FILE_BYTES_MAX} bytes"));
            }
            _ => match std::fs::read(&path) {
                Ok(bytes) => drop(files.insert(place, bytes)),
                Err(error) => faults.add(&path, "", &error.to_string()),
            },
        }
    }
}

/// What lies in a folder, in the order of its names; hidden files belong to somebody else.
fn entries(folder: &Path, faults: &mut Faults) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>());
    let mut found = listed.unwrap_or_else(|error| {
        faults.add(folder, "", &error.to_string());
        Vec::new()
    });
    found.retain(|path| !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')));
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (file, text) in files {
            let path = root.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }

    const GOOD: [(&str, &str); 5] = [
        ("note.v1/type.json", "{}"),
        ("note.v1/input.schema.json", r#"{"type":"object","required":["text"]}"#),
        ("note.v1/to/line.v1/mapping.jmespath", "{Line: text}"),
        ("note.v1/to/line.v1/output.schema.json", r#"{"properties":{"Line":{"type":"string"}}}"#),
        ("note.v1/examples/one.json", r#"{"input":{"text":"a"},"output":{"Line":"a"}}"#),
    ];

    #[test]
    fn a_type_is_added_with_files_alone() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &GOOD);
        write(dir.path(), &[("README.md", "ours"), (".git/config", "")]);
        let types = of_directory(dir.path()).unwrap();
        assert_eq!(types["note.v1"].examples, 1);
        let published = to_publish(Some(dir.path())).unwrap();
        let names: Vec<&str> = published.iter().map(|published| published.name.as_str()).collect();
        assert_eq!(names, ["note.v1", "openai.tooluse.invoice.v1"]);
    }

    #[test]
    fn whatever_is_wrong_names_its_file_and_pointer() {
        for (file, text, told) in [
            ("note.v1/type.json", r#"{"sanitize":[]}"#, "note.v1/type.json: unknown field `sanitize`"),
            ("note.v1/type.json", r#"{"a":1,"a":2}"#, "note.v1/type.json at /a: "),
            (
                "note.v1/type.json",
                r#"{"embedded_json":[{"path":"text"}]}"#,
                "note.v1/type.json at /embedded_json/0/path: ",
            ),
            (
                "note.v1/type.json",
                r#"{"embedded_json":[{"path":"/a","schema":"b.json"}]}"#,
                "note.v1/type.json at /embedded_json/0/schema: there is no file b.json",
            ),
            ("note.v1/input.schema.json", r#"{"type":"objekt"}"#, "note.v1/input.schema.json at /type: "),
            ("note.v1/input.schema.json", r#"{"pattern":"("}"#, "note.v1/input.schema.json at /pattern: "),
            ("note.v1/input.schema.json", r#"{"$ref":"https://example.com/x"}"#, "note.v1/input.schema.json"),
            ("note.v1/to/line.v1/mapping.jmespath", "{Line: ", "note.v1/to/line.v1/mapping.jmespath: "),
            ("note.v1/to/line.v1/mapping.jmespath", "{Line: sum(a)}", "mapping.jmespath: sum() is left out here"),
            ("note.v1/to/Line/mapping.jmespath", "@", "note.v1/to/Line: "),
            (
                "note.v1/to/line.v1/maping.jmespath",
                "@",
                "note.v1/to/line.v1/maping.jmespath: no file of a payload type",
            ),
            (
                "note.v1/examples/two.json",
                r#"{"input":{"text":"a"},"output":{"Line":"b"}}"#,
                "note.v1/examples/two.json at /output/Line: {\"Line\":\"b\"} was expected",
            ),
            (
                "note.v1/examples/two.json",
                r#"{"input":{},"output":{}}"#,
                "examples/two.json at /input: it was refused with schema_violation",
            ),
            (
                "note.v1/examples/two.json",
                r#"{"input":{"text":1},"refusal":{"code":"schema_violation"}}"#,
                "examples/two.json at /refusal/code: schema_violation was expected, mapping_failed came",
            ),
            ("note.v1/examples/two.json", r#"{"input":{"text":"a"},"outputs":{}}"#, "examples/two.json at /outputs: "),
            ("Note/type.json", "{}", "Note: \"Note\" names no type"),
            ("loose.json", "{}", "loose.json: a payload type is a folder"),
            ("openai.tooluse.invoice.v1/type.json", "{}", "openai.tooluse.invoice.v1: a shipped type has this name"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            write(dir.path(), &GOOD);
            write(dir.path(), &[(file, text)]);
            let Faults(faults) = of_directory(dir.path()).expect_err(told);
            assert!(faults.iter().any(|fault| fault.contains(told)), "{told}: {faults:#?}");
        }
        let gone = of_directory(Path::new("/nowhere/at/all")).unwrap_err();
        assert_eq!(gone.0.len(), 1);
    }

    #[test]
    fn a_missing_file_is_named() {
        for missing in GOOD.iter().map(|(file, _)| *file).filter(|file| !file.contains("examples")) {
            let dir = tempfile::tempdir().unwrap();
            write(dir.path(), &GOOD);
            std::fs::remove_file(dir.path().join(missing)).unwrap();
            let Faults(faults) = of_directory(dir.path()).unwrap_err();
            assert!(faults.iter().any(|fault| fault.contains(missing) && fault.contains("missing")), "{faults:?}");
        }
    }
}
