//! How a process asks its threads to end.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Shared by every loop of a process; cheap to clone. Once requested it stays so.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<Shared>);

#[derive(Default)]
struct Shared {
    requested: Mutex<bool>,
    changed: Condvar,
    /// Where time is simulated.
    pause: Option<Pause>,
}

type Pause = Box<dyn Fn(Duration) + Send + Sync>;

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stop").field("requested", &*self.requested.lock()).finish_non_exhaustive()
    }
}

impl Stop {
    pub fn new() -> Self {
        Self::default()
    }

    /// For a simulation, whose time is not the machine's: `pause` waits instead.
    pub fn simulated(pause: impl Fn(Duration) + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared { pause: Some(Box::new(pause)), ..Shared::default() }))
    }

    pub fn request(&self) {
        *self.0.requested.lock() = true;
        self.0.changed.notify_all();
    }

    pub fn requested(&self) -> bool {
        *self.0.requested.lock()
    }

    /// Waits at most `timeout`; true as soon as the stop is requested.
    pub fn wait(&self, timeout: Duration) -> bool {
        if let Some(pause) = &self.0.pause {
            if !self.requested() {
                pause(timeout);
            }
            return self.requested();
        }
        let mut requested = self.0.requested.lock();
        if !*requested {
            self.0.changed.wait_for(&mut requested, timeout);
        }
        *requested
    }
}
