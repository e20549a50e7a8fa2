//! The holes by name: the tests of `hole_<what>` and the table of `docs/exactly-once.md` tell of the same ones, and the line
//! that each of them guards is there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::repository;

const DOCUMENT: &str = "docs/exactly-once.md";
const SECTION: &str = "## The holes";
const PREFIX: &str = "hole_";
/// Where tests lie.
const FOLDERS: [&str; 3] = ["crates", "services", "tests"];

/// A test of a hole, as the sources tell of it.
#[derive(Debug)]
struct Hole {
    place: PathBuf,
    /// What its comment says, in one line.
    said: String,
}

/// A line, or a part of one, without which the test must fail.
#[derive(Debug, PartialEq, Eq)]
struct Removal<'a> {
    code: &'a str,
    file: &'a str,
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("an entry of a folder").path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The name of the hole, where a line begins its test.
fn declared(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("fn ")?;
    let is_function = before.trim().split(' ').all(|word| ["", "pub(crate)", "async"].contains(&word));
    (is_function && after.starts_with(PREFIX)).then(|| name(after))
}

/// The name that a text begins with.
fn name(text: &str) -> &str {
    let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
    text.split_once(|character| !is_part(character)).map_or(text, |(name, _)| name)
}

/// The comment above a line, in one line.
fn comment_above(lines: &[&str]) -> String {
    let above = lines.iter().rev().map(|line| line.trim());
    let mut comment: Vec<&str> = above
        .take_while(|line| line.starts_with("///") || line.starts_with("#["))
        .filter_map(|line| line.strip_prefix("///"))
        .map(str::trim)
        .collect();
    comment.reverse();
    comment.join(" ")
}

fn holes() -> BTreeMap<String, Hole> {
    let mut files = Vec::new();
    FOLDERS.iter().for_each(|folder| sources(&repository().join(folder), &mut files));
    let mut found: BTreeMap<String, Hole> = BTreeMap::new();
    for place in files {
        let text = read(&place);
        let lines: Vec<&str> = text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let Some(name) = declared(line) else { continue };
            let said = comment_above(lines.get(..index).expect("lines above"));
            let hole = Hole { place: place.clone(), said };
            let other = found.insert(name.to_owned(), hole);
            assert!(other.is_none(), "{name} is in {} and in {other:?}", place.display());
        }
    }
    found
}

/// Each "Remove `code` in `file`" of a comment.
fn removals(said: &str) -> Vec<Removal<'_>> {
    let mut found = Vec::new();
    let mut rest = said;
    while let Some((_, after)) = rest.split_once("emove `") {
        let Some((code, after)) = after.split_once("` in `") else { break };
        let Some((file, after)) = after.split_once('`') else { break };
        found.push(Removal { code, file });
        rest = after;
    }
    found
}

/// Code, however it is broken into lines.
fn unwrapped(code: &str) -> String {
    code.chars().filter(|character| !character.is_whitespace()).collect()
}

/// The rows of the document that tell of a hole, by its name.
fn rows() -> BTreeMap<String, String> {
    let text = read(&repository().join(DOCUMENT));
    let (_, section) = text.split_once(SECTION).expect("the document has a section of holes");
    let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
    let mut rows = BTreeMap::new();
    for line in section.lines().filter(|line| line.starts_with('|')) {
        for (at, _) in line.match_indices("`hole_") {
            let known = rows.insert(name(&line[at + 1..]).to_owned(), line.replace("\\|", "|"));
            assert!(known.is_none(), "two rows: {line}");
        }
    }
    rows
}

#[test]
fn every_hole_of_the_document_has_a_test_and_every_test_a_row() {
    let (holes, rows) = (holes(), rows());
    let untold: Vec<_> = holes.iter().filter(|(name, _)| !rows.contains_key(*name)).collect();
    assert!(untold.is_empty(), "{DOCUMENT} says nothing of {untold:?}");
    let untested: Vec<_> = rows.keys().filter(|name| !holes.contains_key(*name)).collect();
    assert!(untested.is_empty(), "{DOCUMENT} names tests that are not there: {untested:?}");
}

#[test]
fn every_hole_names_the_line_that_it_guards() {
    let rows = rows();
    for (name, Hole { place, said }) in holes() {
        let removals = removals(&said);
        assert!(!removals.is_empty(), "{name} in {} does not say what to remove: {said}", place.display());
        for Removal { code, file } in removals {
            let there = unwrapped(&read(&repository().join(file))).contains(&unwrapped(code));
            assert!(there, "{name}: there is no `{code}` in {file}");
            let row = rows.get(&name).map(String::as_str).unwrap_or_default();
            assert!(row.contains(code) && row.contains(file), "{name}: its row does not say `{code}` in `{file}`");
        }
    }
}

#[test]
fn a_comment_tells_what_to_remove() {
    let lines =
        ["/// A hole (R1). Remove `a(b)?;` in", "/// `x.rs` to see it fail; or remove `c` in `y.rs`.", "#[test]"];
    let said = comment_above(&lines);
    let expected = [Removal { code: "a(b)?;", file: "x.rs" }, Removal { code: "c", file: "y.rs" }];
    assert_eq!(removals(&said), expected);
    assert_eq!(declared("    async fn hole_in_one(world: World) {"), Some("hole_in_one"));
    assert_eq!(declared("// fn hole_in_one() {"), None);
}
