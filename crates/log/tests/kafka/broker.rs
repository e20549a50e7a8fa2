//! The broker that the tests share, and small words to write them in.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use countersign_log::kafka::{KafkaConfig, KafkaLog, Timings};

/// Where the broker is.
pub(crate) fn brokers() -> String {
    std::env::var("COUNTERSIGN_TEST_KAFKA")
        .expect("COUNTERSIGN_TEST_KAFKA names no broker: run scripts/test, which starts one")
}

/// Defaults, but a member that is gone or does not poll is missed early.
pub(crate) fn timings() -> Timings {
    Timings {
        session: Duration::from_secs(3),
        transaction: Duration::from_secs(5),
        poll_interval: Duration::from_secs(6),
        ..Timings::default()
    }
}

pub(crate) fn config(state_dir: &Path) -> KafkaConfig {
    KafkaConfig { timings: timings(), ..KafkaConfig::new(&brokers(), state_dir) }
}

pub(crate) fn open(state_dir: &Path) -> KafkaLog {
    KafkaLog::open(config(state_dir)).unwrap()
}

/// A name that no test of any run has used: all share one broker.
pub(crate) fn fresh_name(base: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let run = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
    format!("{base}.{run:x}.{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Waits for one of rdkafka's futures, which its own thread completes.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}
