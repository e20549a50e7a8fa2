//! Kafka and PostgreSQL of the test's own, so that a broker can be killed without disturbing anybody.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::repository;

pub(crate) struct Parts {
    dir: PathBuf,
    env: BTreeMap<String, String>,
}

impl Parts {
    pub(crate) fn start(dir: &Path) -> Self {
        let parts = Self { dir: dir.to_owned(), env: BTreeMap::new() };
        parts.script(&["start"], &[]);
        let env = std::fs::read_to_string(dir.join("env")).expect("scripts/parts writes DIR/env");
        let env = env.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { env, dir: parts.into_dir() }
    }

    /// The directory, which is not stopped here.
    fn into_dir(mut self) -> PathBuf {
        std::mem::take(&mut self.dir)
    }

    fn script(&self, before: &[&str], after: &[&str]) {
        let mut script = Command::new(repository().join("scripts/parts"));
        script.args(before).arg(&self.dir).args(after).stdin(Stdio::null()).stdout(Stdio::null());
        let done = script.status();
        let ran = done.as_ref().is_ok_and(std::process::ExitStatus::success);
        assert!(ran, "scripts/parts {before:?}: {done:?}; `scripts/test pipeline` installs what it needs");
    }

    fn named(&self, name: &str) -> &str {
        self.env.get(name).unwrap_or_else(|| panic!("scripts/parts names no {name}"))
    }

    pub(crate) fn brokers(&self) -> &str {
        self.named("COUNTERSIGN_TEST_KAFKA")
    }

    pub(crate) fn database(&self) -> &str {
        self.named("COUNTERSIGN_TEST_POSTGRES")
    }

    /// kill -9 of the broker.
    pub(crate) fn kill_broker(&self) {
        let pid = std::fs::read_to_string(self.dir.join("kafka-1/pid")).expect("the broker's pid");
        let killed = Command::new("kill").args(["-KILL", pid.trim()]).status().expect("kill runs");
        assert!(killed.success(), "the broker {pid} runs");
    }

    pub(crate) fn restart_broker(&self) {
        self.script(&["restart-broker"], &["1"]);
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        if !self.dir.as_os_str().is_empty() {
            let script = repository().join("scripts/parts");
            drop(Command::new(script).arg("stop").arg(&self.dir).stdin(Stdio::null()).status());
        }
    }
}
