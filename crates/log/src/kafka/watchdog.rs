//! A call into librdkafka that hangs can be neither cancelled nor dropped: then the process must end (R7).

use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Knows every call that is under way.
#[derive(Clone, Debug)]
pub(super) struct Watchdog {
    calls: Arc<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    open: Mutex<Vec<Call>>,
}

#[derive(Clone, Debug)]
struct Call {
    id: u64,
    what: &'static str,
    since: Instant,
    bound: Duration,
}

/// Ends the watch over a call when it returns.
#[derive(Debug)]
pub(super) struct Guard<'a> {
    calls: &'a Calls,
    id: u64,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.calls.open.lock().retain(|call| call.id != self.id);
    }
}

const LOOK_EVERY: Duration = Duration::from_millis(500);

impl Watchdog {
    /// Looks on until the last handle is gone.
    pub(super) fn start() -> std::io::Result<Self> {
        Self::start_with(LOOK_EVERY, |what, took| {
            tracing::error!(
                call = what,
                seconds = took.as_secs(),
                "a call into librdkafka hangs; aborting the process"
            );
            std::process::abort();
        })
    }

    /// For calls that no clock of this machine bounds.
    #[cfg(feature = "hostile")]
    pub(super) fn blind() -> Self {
        Self { calls: Arc::default() }
    }

    fn start_with(every: Duration, hung: impl Fn(&'static str, Duration) + Send + 'static) -> std::io::Result<Self> {
        let calls = Arc::<Calls>::default();
        let weak = Arc::downgrade(&calls);
        thread::Builder::new().name("kafka-watchdog".to_owned()).spawn(move || look_on(&weak, every, &hung))?;
        Ok(Self { calls })
    }

    /// `what` must return within `bound`.
    pub(super) fn watch(&self, what: &'static str, bound: Duration) -> Guard<'_> {
        let mut open = self.calls.open.lock();
        let id = open.last().map_or(0, |last| last.id + 1);
        open.push(Call { id, what, since: Instant::now(), bound });
        Guard { calls: &self.calls, id }
    }
}

fn look_on(calls: &Weak<Calls>, every: Duration, hung: &dyn Fn(&'static str, Duration)) {
    while let Some(calls) = calls.upgrade() {
        let hanging = calls.open.lock().iter().find(|call| call.since.elapsed() > call.bound).cloned();
        if let Some(call) = hanging {
            hung(call.what, call.since.elapsed());
        }
        drop(calls);
        thread::sleep(every);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_hangs_is_told_and_one_that_returned_is_not() {
        let (tell, told) = std::sync::mpsc::channel();
        let watchdog = Watchdog::start_with(Duration::from_millis(1), move |what, _| {
            let _ = tell.send(what);
        })
        .unwrap();
        drop(watchdog.watch("returns", Duration::ZERO));
        let first = watchdog.watch("patient", Duration::from_secs(3_600));
        let second = watchdog.watch("hangs", Duration::from_millis(2));
        assert_eq!(told.recv().unwrap(), "hangs");
        drop((first, second));
    }
}
