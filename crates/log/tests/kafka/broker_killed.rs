//! The broker dies and comes back under a running session (R7): outcomes become unknown and are found out.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use countersign_log::kafka::{KafkaConfig, KafkaLog};
use countersign_log::{Batch, Fault, Polled};

use crate::broker;
use crate::copier::{Copier, append, values};

const RECORDS: u64 = 6_000;
const KILLS: u64 = 3;
const LONG: Duration = Duration::from_secs(240);

/// A broker of this test's own, as others use the shared one at the same time.
struct OwnBroker {
    directory: tempfile::TempDir,
}

impl OwnBroker {
    fn start() -> Self {
        let broker = Self { directory: tempfile::tempdir().unwrap() };
        broker.parts(&["start", broker.path(), "--without-postgres"]);
        broker
    }

    fn path(&self) -> &str {
        self.directory.path().to_str().unwrap()
    }

    fn parts(&self, arguments: &[&str]) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/parts");
        let done = Command::new(script).args(arguments).output().unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    fn address(&self) -> String {
        let env = std::fs::read_to_string(self.directory.path().join("env")).unwrap();
        let line = env.lines().find_map(|line| line.strip_prefix("export COUNTERSIGN_TEST_KAFKA=")).unwrap();
        line.trim_matches(['"', '\'']).to_owned()
    }

    fn kill_and_restart(&self) {
        let pid: PathBuf = self.directory.path().join("kafka-1").join("pid");
        let pid = std::fs::read_to_string(pid).unwrap();
        assert!(Command::new("kill").args(["-9", pid.trim()]).status().unwrap().success());
        self.parts(&["restart-broker", self.path(), "1"]);
    }
}

impl Drop for OwnBroker {
    fn drop(&mut self) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/parts");
        let _ = Command::new(script).args(["stop", self.path()]).output();
    }
}

#[test]
fn a_broker_that_is_killed_loses_and_doubles_nothing() {
    let own = OwnBroker::start();
    let state_dir = tempfile::tempdir().unwrap();
    let timings = countersign_log::kafka::Timings {
        // Above what the broker is away for. A transaction that has timed out when the only broker comes back is ended
        // before the broker knows its partitions: Kafka 4.3 then skips the markers, and the transaction hangs for good.
        transaction: Duration::from_secs(120),
        socket: Duration::from_secs(1),
        poll_interval: Duration::from_secs(180),
        session: Duration::from_secs(20),
        ..broker::timings()
    };
    let config = KafkaConfig { timings, ..KafkaConfig::new(&own.address(), state_dir.path()) };
    let log = KafkaLog::open(config).unwrap();
    let copier = Copier::new(&log);
    append(&log, copier.input(), 0..RECORDS);

    let copied = AtomicU64::new(0);
    let faults = std::thread::scope(|scope| {
        scope.spawn(|| {
            for kill in 1..=KILLS {
                let deadline = Instant::now() + LONG;
                while copied.load(Ordering::Acquire) < kill * RECORDS / (KILLS + 1) && Instant::now() < deadline {
                    std::thread::park_timeout(Duration::from_millis(2));
                }
                own.kill_and_restart();
            }
        });
        copy_all(&log, &copier, &copied)
    });
    println!("faults met: {faults:?}");
    assert_eq!(values(&log, &copier.output), (0..RECORDS).collect::<Vec<_>>());
}

/// Copies in small transactions; recovers as the runner would. Answers the faults met.
fn copy_all(log: &KafkaLog, copier: &Copier, copied: &AtomicU64) -> Vec<String> {
    let mut session = copier.join(log);
    let mut faults = Vec::new();
    let deadline = Instant::now() + LONG;
    let mut counted = 0;
    while counted < RECORDS {
        assert!(Instant::now() < deadline, "{counted} of {RECORDS} after {faults:?}");
        let mut batch = Batch::default();
        let outcome = session.poll(Duration::from_millis(100), &mut batch).and_then(|polled| match polled {
            Polled::Records { .. } => {
                batch.records.chunks(50).try_for_each(|chunk| copier.copy(session.as_mut(), chunk))
            }
            Polled::Assigned(_) => Ok(()),
            Polled::Revoke { .. } => session.recover().and_then(|()| session.release()),
        });
        match outcome {
            Ok(()) => {}
            // It is alone on its slot: nothing that a broker does may end it.
            Err(Fault::Fatal(cause)) => panic!("{cause} after {faults:?}"),
            Err(fault) => {
                faults.push(fault.to_string());
                while let Err(again) = session.recover() {
                    assert!(Instant::now() < deadline && !matches!(again, Fault::Fatal(_)), "{again} after {faults:?}");
                }
            }
        }
        let mut out = Vec::new();
        // Without the partition, as after a rebalance, there is nothing to ask.
        if session.get(0, b"count", &mut out).is_ok() {
            counted = out.try_into().map_or(0, u64::from_be_bytes);
            copied.store(counted, Ordering::Release);
        }
    }
    faults
}
