//! How a poller sleeps until there is something for it.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Waits without an end are cut to a day, which no clock overflows.
pub(super) fn deadline_after(wait: Duration) -> Instant {
    Instant::now() + wait.min(Duration::from_secs(24 * 60 * 60))
}

/// A bell that remembers having been rung.
#[derive(Debug, Default)]
pub(super) struct Signal {
    is_rung: Mutex<bool>,
    rung: Condvar,
}

impl Signal {
    pub(super) fn ring(&self) {
        let mut is_rung = self.is_rung.lock();
        if !*is_rung {
            *is_rung = true;
            self.rung.notify_one();
        }
    }

    /// To be called before looking for work: what comes after the look rings again.
    pub(super) fn reset(&self) {
        *self.is_rung.lock() = false;
    }

    pub(super) fn wait_until(&self, deadline: Instant) {
        let mut is_rung = self.is_rung.lock();
        while !*is_rung {
            if self.rung.wait_until(&mut is_rung, deadline).timed_out() {
                return;
            }
        }
    }
}

/// Who wants to hear of new records in a topic.
#[derive(Debug, Default)]
pub(super) struct Waiters(Mutex<Vec<Weak<Signal>>>);

impl Waiters {
    pub(super) fn add(&self, signal: &Arc<Signal>) {
        let mut waiters = self.0.lock();
        waiters.retain(|waiter| waiter.strong_count() > 0);
        waiters.push(Arc::downgrade(signal));
    }

    pub(super) fn ring(&self) {
        for waiter in self.0.lock().iter() {
            if let Some(signal) = waiter.upgrade() {
                signal.ring();
            }
        }
    }
}
