//! What a start or an end waits for, told while it takes long: a process that waits without a word looks like one that
//! hangs.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::data_dir::DataDir;
use crate::failure::{Doing as _, Failure};

/// How long one thing may take before it is told, and how often it is told again.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Something under way; it is over when this is dropped.
pub(crate) struct Patience {
    stage: Arc<Mutex<Stage>>,
    _over: Sender<()>,
}

#[derive(Clone, Copy)]
struct Stage {
    waits_for: &'static str,
    since: Instant,
}

impl Patience {
    /// Begins to watch; `doing` is a word like "starting".
    pub(crate) fn begin(doing: &'static str, waits_for: &'static str, data: DataDir) -> Result<Self, Failure> {
        let stage = Arc::new(Mutex::new(Stage { waits_for, since: Instant::now() }));
        let (over, ended) = channel();
        let watched = Arc::clone(&stage);
        let watch = move || watch(doing, &watched, &ended, &data);
        std::thread::Builder::new().name("patience".to_owned()).spawn(watch).doing("a thread cannot be started")?;
        Ok(Self { stage, _over: over })
    }

    /// What comes next.
    pub(crate) fn waits_for(&self, what: &'static str) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = Stage { waits_for: what, since: Instant::now() };
    }
}

fn watch(doing: &str, stage: &Mutex<Stage>, ended: &Receiver<()>, data: &DataDir) {
    while ended.recv_timeout(TELL_EVERY) == Err(RecvTimeoutError::Timeout) {
        let Stage { waits_for, since } = *stage.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = since.elapsed();
        if waited < TELL_EVERY {
            continue;
        }
        let waited_s = waited.as_secs();
        match data.room() {
            Ok(()) => tracing::warn!(waits_for, waited_s, "still {doing}"),
            Err(error) => {
                tracing::error!(waits_for, waited_s, %error, "still {doing}; the data directory has no room");
            }
        }
    }
}
