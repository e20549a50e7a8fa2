//! The embedded log under the suite that every log must pass, and the suite under its planted defects.
#![cfg(feature = "conformance")]
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign_log::Log;
use countersign_log::conformance::{Damage, Failure, Harness, failures, planted};
use countersign_log::embedded::{EmbeddedLog, Options};

struct Embedded {
    dir: PathBuf,
    log: Mutex<Option<EmbeddedLog>>,
    names: AtomicU64,
    wait: Duration,
    _temporary: tempfile::TempDir,
}

fn options() -> Options {
    Options { revoke_wait: Duration::from_millis(200), ..Options::default() }
}

impl Embedded {
    fn new(wait: Duration) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().join("log");
        let log = Mutex::new(Some(EmbeddedLog::open_with(&dir, options()).unwrap()));
        Self { dir, log, names: AtomicU64::new(0), wait, _temporary: temporary }
    }

    fn embedded(&self) -> EmbeddedLog {
        self.log.lock().unwrap().clone().unwrap()
    }
}

impl Harness for Embedded {
    fn log(&self) -> Arc<dyn Log> {
        Arc::new(self.embedded())
    }

    fn reopen(&self) -> Result<(), Failure> {
        let mut log = self.log.lock().unwrap();
        drop(log.take());
        *log = Some(EmbeddedLog::open_with(&self.dir, options())?);
        Ok(())
    }

    fn fresh_name(&self, base: &str) -> String {
        format!("{base}.{}", self.names.fetch_add(1, Ordering::Relaxed))
    }

    /// State lies in the one database beside the records: there is no copy of it that could be older than they are.
    fn keep_state(&self, _: &str) -> Result<bool, Failure> {
        Ok(false)
    }

    fn damage_state(&self, _: &str, _: Damage) -> Result<bool, Failure> {
        Ok(false)
    }

    fn lose_offsets(&self, group: &str) -> Result<(), Failure> {
        Ok(self.embedded().drop_offsets(group)?)
    }

    fn wait(&self) -> Duration {
        self.wait
    }
}

#[test]
fn the_embedded_log_keeps_what_every_log_must() {
    let failures = failures(&Embedded::new(Duration::from_secs(30)));
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_suite_catches_every_planted_defect_and_every_case_can_fail() {
    // Where a defect makes a case wait in vain, the wait is what the test takes.
    let missed = planted::missed(&Embedded::new(Duration::from_secs(2)));
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}
