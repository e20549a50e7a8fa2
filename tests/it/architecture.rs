//! The arrows of ARCHITECTURE.md, held over what cargo itself says.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::repository;

/// Crates that do no IO, read no clock and start no thread, each with those of ours that it may know.
const PURE: [(&str, &[&str]); 5] = [
    ("event", &[]),
    ("proof", &["event"]),
    ("billing", &["event"]),
    ("admission", &["event", "billing"]),
    ("compat", &["event"]),
];
/// What would make a crate impure, wherever in its dependencies it lies.
const IMPURE: [&str; 11] =
    ["axum", "fjall", "hyper", "hyper-util", "mio", "rdkafka", "reqwest", "rustls", "socket2", "sqlx", "tokio"];
/// What the log is made of; nobody else may know it.
const OF_THE_LOG: [&str; 4] = ["fjall", "lsm-tree", "rdkafka", "rdkafka-sys"];
/// Crates that carry records without knowing what is in them.
const BLIND: [&str; 2] = ["countersign-log", "stage"];
const BINARY: &str = "countersign";
/// What every service's card says, in these words.
const CARD: [&str; 10] =
    ["reads", "writes", "key", "ordering", "state", "guarantee", "bad record", "crash", "metrics", "configuration"];
/// Lines in which the card must be complete.
const CARD_LINES: usize = 20;

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: BTreeSet<String>,
    resolve: Resolve,
}

#[derive(Clone, Debug, Deserialize)]
struct Package {
    id: String,
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Clone, Debug, Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
    features: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Debug, Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<EdgeKind>,
}

#[derive(Debug, Deserialize)]
struct EdgeKind {
    kind: Option<String>,
}

/// Who depends on whom, in the words of cargo.
struct Graph {
    members: Vec<Package>,
    /// Names by id.
    names: BTreeMap<String, String>,
    /// What is linked into a package (build scripts and tests left out), by id.
    edges: BTreeMap<String, Vec<String>>,
}

impl Graph {
    fn read() -> Self {
        // Only this platform's: what others would need is not downloaded here.
        let version = output(Command::new("rustc").arg("-vV"));
        let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["metadata", "--format-version", "1", "--all-features", "--filter-platform", host]);
        let metadata: Metadata = serde_json::from_str(&output(&mut cargo)).expect("cargo metadata is as documented");
        let names = metadata.packages.iter().map(|package| (package.id.clone(), package.name.clone())).collect();
        let linked = |edge: &Edge| edge.dep_kinds.iter().any(|kind| kind.kind.is_none());
        let edges = metadata.resolve.nodes.iter().map(|node| {
            let to = node.deps.iter().filter(|edge| linked(edge)).map(|edge| edge.pkg.clone());
            (node.id.clone(), to.collect())
        });
        let members = metadata.packages.into_iter().filter(|package| metadata.workspace_members.contains(&package.id));
        Self { edges: edges.collect(), members: members.collect(), names }
    }

    /// Everything that is linked into a package, however far away, by name.
    fn reaches(&self, package: &Package) -> BTreeSet<&str> {
        let mut seen = BTreeSet::new();
        let mut waiting = VecDeque::from([package.id.as_str()]);
        while let Some(id) = waiting.pop_front() {
            for next in self.edges.get(id).into_iter().flatten() {
                if seen.insert(next.as_str()) {
                    waiting.push_back(next);
                }
            }
        }
        seen.into_iter().filter_map(|id| self.names.get(id)).map(String::as_str).collect()
    }

    /// What is linked into a package directly, by name.
    fn links(&self, package: &Package) -> BTreeSet<&str> {
        let direct = self.edges.get(&package.id).into_iter().flatten();
        direct.filter_map(|id| self.names.get(id)).map(String::as_str).collect()
    }

    fn member(&self, name: &str) -> &Package {
        self.members.iter().find(|package| package.name == name).unwrap_or_else(|| panic!("there is no package {name}"))
    }

    fn is_ours(&self, name: &str) -> bool {
        self.members.iter().any(|package| package.name == name)
    }

    /// Members under a folder of the repository.
    fn under(&self, folder: &str) -> Vec<&Package> {
        let root = repository().join(folder);
        let members: Vec<&Package> =
            self.members.iter().filter(|package| package.manifest_path.starts_with(&root)).collect();
        assert!(!members.is_empty(), "nothing lies under {folder}");
        members
    }
}

fn output(command: &mut Command) -> String {
    let done = command.current_dir(repository()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).expect("UTF-8")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn pure_crates_are_pure_and_know_no_other_but_event() {
    let graph = Graph::read();
    for (name, may_know) in PURE {
        let package = graph.member(name);
        let reached = graph.reaches(package);
        let impure: Vec<&str> = IMPURE.into_iter().filter(|impure| reached.contains(impure)).collect();
        assert!(impure.is_empty(), "{name} reaches {impure:?}");
        let ours: Vec<&str> = reached.iter().copied().filter(|reached| graph.is_ours(reached)).collect();
        assert!(ours.iter().all(|ours| may_know.contains(ours)), "{name} knows {ours:?}");
    }
    // The check can see: what is known to be impure is found so.
    assert!(graph.reaches(graph.member("ingest")).contains("tokio"));
}

#[test]
fn proof_does_without_the_codec() {
    let graph = Graph::read();
    let declared = &graph.member("proof").dependencies;
    let event: Vec<&Dependency> = declared.iter().filter(|dependency| dependency.name == "event").collect();
    assert!(!event.is_empty(), "proof takes event");
    assert!(event.iter().all(|event| !event.features.iter().any(|feature| feature == "wire")), "{event:?}");
    // The verifier of a stranger is proof alone: what cargo links into it there is asked of cargo, not concluded.
    let tree = output(Command::new(env!("CARGO")).args(["tree", "-p", "proof", "-e", "normal", "--prefix", "none"]));
    assert!(tree.contains("ed25519-dalek"), "{tree}");
    assert!(!tree.contains("apache-avro"), "{tree}");
}

#[test]
fn log_and_stage_know_nothing_of_exchanges() {
    let graph = Graph::read();
    for name in BLIND {
        let known: Vec<&str> =
            graph.reaches(graph.member(name)).into_iter().filter(|name| graph.is_ours(name)).collect();
        assert!(known.iter().all(|known| BLIND.contains(known)), "{name} knows {known:?}");
    }
}

#[test]
fn only_log_owns_what_carries_the_records() {
    let graph = Graph::read();
    let owner = graph.links(graph.member("countersign-log"));
    assert!(owner.contains("rdkafka") && owner.contains("fjall"), "{owner:?}");
    for package in graph.members.iter().filter(|package| package.name != "countersign-log") {
        let declared = package.dependencies.iter().map(|dependency| dependency.name.as_str());
        let owned: Vec<&str> = declared.filter(|name| OF_THE_LOG.contains(name)).collect();
        assert!(owned.is_empty(), "{} declares {owned:?}", package.name);
    }
}

#[test]
fn services_know_no_other_service() {
    let graph = Graph::read();
    let services = graph.under("services");
    let is_service = |name: &str| services.iter().any(|service| service.name == name);
    for service in services.iter().filter(|service| service.name != BINARY) {
        // Dev-dependencies too: a test that needs two services belongs to the pipeline's.
        let declared = service.dependencies.iter().filter(|dependency| is_service(&dependency.name));
        let known: Vec<String> = declared.map(|known| format!("{} ({:?})", known.name, known.kind)).collect();
        assert!(known.is_empty(), "{} knows {known:?}", service.name);
    }
    let all = graph.links(graph.member(BINARY));
    let missing: Vec<&str> = services
        .iter()
        .map(|service| service.name.as_str())
        .filter(|name| *name != BINARY && !all.contains(name))
        .collect();
    assert!(missing.is_empty(), "the binary runs every service but {missing:?}");
    for library in graph.under("crates") {
        let known: Vec<&str> = library
            .dependencies
            .iter()
            .map(|dependency| dependency.name.as_str())
            .filter(|name| is_service(name))
            .collect();
        assert!(known.is_empty(), "{} knows {known:?}", library.name);
    }
}

#[test]
fn nothing_is_common_and_nothing_is_a_utility() {
    for package in &Graph::read().members {
        let folder = package.manifest_path.parent().and_then(Path::file_name).expect("a folder").to_string_lossy();
        for name in [package.name.as_str(), &folder] {
            let parts: Vec<&str> = name.split(['-', '_']).collect();
            let vague = ["common", "util", "utils", "helper", "helpers", "misc", "shared"];
            assert!(!parts.iter().any(|part| vague.contains(part)), "{name} says nothing");
        }
    }
}

#[test]
fn every_package_inherits_the_lints() {
    for package in &Graph::read().members {
        let manifest = read(&package.manifest_path);
        let after = manifest.split_once("\n[lints]\n").map(|(_, after)| after.trim_start());
        let inherits = after.is_some_and(|after| after.starts_with("workspace = true"));
        assert!(inherits, "{} does not inherit the lints of the workspace", package.manifest_path.display());
    }
}

#[test]
fn every_service_opens_with_its_card() {
    let graph = Graph::read();
    for service in graph.under("services").into_iter().filter(|service| service.name != BINARY) {
        let library = service.manifest_path.with_file_name("src").join("lib.rs");
        let text = read(&library);
        let said: Vec<&str> = text
            .lines()
            .take(CARD_LINES)
            .filter_map(|line| line.strip_prefix("//! "))
            .filter_map(|line| line.strip_prefix("| ").or_else(|| line.strip_prefix("- ")))
            .filter_map(|line| line.split_once([':', '|']).map(|(word, _)| word.trim()))
            .collect();
        let missing: Vec<&str> = CARD.into_iter().filter(|word| !said.contains(word)).collect();
        assert!(missing.is_empty(), "{} does not say {missing:?}", library.display());
    }
}
