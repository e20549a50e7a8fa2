//! How a process asks its threads to end.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Shared by every loop of a process; cheap to clone. Once requested it stays so.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<(Mutex<bool>, Condvar)>);

impl Stop {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn request(&self) {
        *self.0.0.lock() = true;
        self.0.1.notify_all();
    }

    pub fn requested(&self) -> bool {
        *self.0.0.lock()
    }

    /// Waits at most `timeout`; true as soon as the stop is requested.
    pub fn wait(&self, timeout: Duration) -> bool {
        let mut requested = self.0.0.lock();
        if !*requested {
            self.0.1.wait_for(&mut requested, timeout);
        }
        *requested
    }
}
