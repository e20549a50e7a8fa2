//! The payload types that come with every installation: what lies in `types/` when this is built.

use std::collections::BTreeMap;

use crate::files::Files;

macro_rules! shipped {
    ($($name:literal: $($file:literal)*;)*) => {
        &[$(($name, &[$(($file, include_bytes!(concat!("../../../types/", $name, "/", $file)))),*])),*]
    };
}

type Shipped = [(&'static str, &'static [(&'static str, &'static [u8])])];

const TYPES: &Shipped = shipped! {
    "openai.tooluse.invoice.v1":
        "type.json"
        "input.schema.json"
        "arguments.schema.json"
        "to/invoice.iso20022.v1/mapping.jmespath"
        "to/invoice.iso20022.v1/output.schema.json"
        "examples/plain.json"
        "examples/amount-in-text.json"
        "examples/yen.json"
        "examples/sanitised.json"
        "examples/repaired.json"
        "examples/refused-arguments.json"
        "examples/refused-currency.json"
        "examples/refused-decimals.json"
        "examples/refused-id-changed-by-repair.json"
        "examples/refused-two-calls.json"
        "examples/refused-without-customer.json";
};

/// The files of each type, by its name.
pub fn types() -> BTreeMap<String, Files> {
    let files =
        |files: &[(&str, &[u8])]| files.iter().map(|(file, bytes)| ((*file).to_owned(), bytes.to_vec())).collect();
    TYPES.iter().map(|(name, listed)| ((*name).to_owned(), files(listed))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};

    fn walk(folder: &Path, into: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, into) } else { into.push(path) }
        }
    }

    #[test]
    fn every_file_that_lies_in_types_is_shipped() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../types");
        let mut lie_there = Vec::new();
        walk(&root, &mut lie_there);
        let mut lie_there: Vec<String> = lie_there
            .iter()
            .map(|path| path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/"))
            .filter(|path| path.contains('/'))
            .collect();
        lie_there.sort();
        let mut shipped: Vec<String> =
            types().iter().flat_map(|(name, files)| files.keys().map(move |file| format!("{name}/{file}"))).collect();
        shipped.sort();
        assert_eq!(shipped, lie_there);
    }

    /// What is published is in receipts that somebody holds: a change is a new type, never an edit.
    #[test]
    fn a_shipped_type_never_changes() {
        let digests: Vec<(String, String)> = types()
            .iter()
            .map(|(name, files)| {
                let checked = crate::files::check(name, files).unwrap_or_else(|faults| panic!("{name}: {faults:#?}"));
                (name.clone(), checked.payload_type.digest().to_string())
            })
            .collect();
        let pinned =
            [("openai.tooluse.invoice.v1", "sha256:c4780088ca84a4d84aeb7473ae12aca6a21e36c77e40b77b4c520fade44e85f3")];
        assert_eq!(digests, pinned.map(|(name, digest)| (name.to_owned(), digest.to_owned())));
    }
}
