//! The keys of a running signer: it takes up new ones, and lists them, while it signs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use event::time::Timestamp;
use log::Log;
use proof::PublicKey;
use stage::Stop;

use crate::files::{KeyFileError, KeyFiles, LEAD_S_MIN, SigningKeys, publish};

/// How often the key files are looked at: several times within the shortest lead of a new key.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The clock of this host, in Unix seconds.
pub type Clock = fn() -> i64;

/// The keys that sign. Cheap to clone; one for whoever signs, one for the thread that looks for new keys.
#[derive(Clone)]
pub struct Keyring {
    source: Option<Arc<Source>>,
    held: Arc<Mutex<Held>>,
}

struct Source {
    files: KeyFiles,
    log: Arc<dyn Log>,
    clock: Clock,
}

struct Held {
    keys: Arc<SigningKeys>,
    /// Unix seconds; no key that is not held begins before.
    complete_until: i64,
    /// When the files were read last.
    read_at: i64,
    listed: BTreeMap<String, PublicKey>,
}

impl Keyring {
    /// Keys that never change.
    pub fn fixed(keys: SigningKeys) -> Self {
        let keys = Arc::new(keys);
        let held = Held { keys, complete_until: i64::MAX, read_at: i64::MAX, listed: BTreeMap::new() };
        Self { source: None, held: Arc::new(Mutex::new(held)) }
    }

    /// Reads the keys of these files, or makes the first one from `seed`, and lists them on `signing_key.v1`.
    ///
    /// # Errors
    /// If the files cannot be used, or the log does not take the keys.
    pub fn open(files: KeyFiles, seed: &[u8; 32], log: Arc<dyn Log>, clock: Clock) -> Result<Self, KeyFileError> {
        let read_at = clock();
        let keys = Arc::new(files.load_or_make(seed, read_at)?);
        let mut listed = BTreeMap::new();
        publish(log.as_ref(), (files.used_for, &keys), &mut listed)?;
        let held = Held { keys, complete_until: read_at.saturating_add(LEAD_S_MIN), read_at, listed };
        let source = Source { files, log, clock };
        Ok(Self { source: Some(Arc::new(source)), held: Arc::new(Mutex::new(held)) })
    }

    /// Keys among which is every key that may sign what is dated so, all of them listed.
    ///
    /// # Errors
    /// If such a key may have been made meanwhile and the files cannot be read, or the log does not take it: wait.
    pub fn for_time(&self, ts: Timestamp) -> Result<Arc<SigningKeys>, KeyFileError> {
        let mut held = self.held();
        if ts.as_seconds() >= held.complete_until
            && let Some(source) = &self.source
        {
            // Where the log's clock is ahead of ours by more than the lead, this would be so for each record: once a second is
            // enough, as long as new keys lead by more than the clocks differ.
            if (source.clock)() > held.read_at {
                held.refresh(source)?;
            }
        }
        Ok(Arc::clone(&held.keys))
    }

    /// Looks for new keys until the stop.
    pub fn follow(&self, stop: &Stop) {
        let Some(source) = &self.source else { return };
        let mut failing = false;
        while !stop.wait(LOOK_INTERVAL) {
            let outcome = self.held().refresh(source);
            match outcome {
                Ok(new) => {
                    for kid in new {
                        tracing::info!(kid, "a new signing key is listed");
                    }
                    failing = false;
                }
                Err(error) if !failing => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::error!(%error, cause, "the signing keys cannot be read; what is dated later waits");
                    failing = true;
                }
                Err(_) => {}
            }
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // What is held is replaced as a whole, so that a panic elsewhere leaves nothing half done.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Takes up what the directory holds now; answers the keys that were listed for the first time.
    fn refresh(&mut self, source: &Source) -> Result<Vec<String>, KeyFileError> {
        let read_at = (source.clock)();
        let keys = source.files.load()?;
        let known: Vec<String> = self.listed.keys().cloned().collect();
        publish(source.log.as_ref(), (source.files.used_for, &keys), &mut self.listed)?;
        self.keys = Arc::new(keys);
        self.read_at = read_at;
        self.complete_until = read_at.saturating_add(LEAD_S_MIN);
        Ok(self.listed.keys().filter(|kid| !known.contains(kid)).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Use;
    use event::wire::{SigningKey as KeyRecord, Wire as _};
    use log::embedded::EmbeddedLog;
    use log::{Batch, Cleanup, Position, Topic, TopicSpec};
    use std::sync::atomic::{AtomicI64, Ordering};

    static NOW: AtomicI64 = AtomicI64::new(1_000_000);

    fn clock() -> i64 {
        NOW.load(Ordering::SeqCst)
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000).unwrap()
    }

    /// Every publication so far: kid and `exp`.
    fn listed(log: &dyn Log) -> Vec<(String, Option<i64>)> {
        let topic = Topic::new(KeyRecord::TOPIC);
        let end = log.ends(&topic).unwrap()[0].offset;
        let mut tail = log.tail(&[Position { topic, partition: 0, offset: 0 }]).unwrap();
        let mut batch = Batch::default();
        let mut found = Vec::new();
        while (found.len() as u64) < end {
            batch.records.clear();
            tail.poll(Duration::from_millis(100), &mut batch).unwrap();
            for record in &batch.records {
                let key = KeyRecord::decode(record.value.as_ref().unwrap()).unwrap();
                found.push((key.kid, PublicKey::from_jwk(key.jwk.as_bytes()).unwrap().exp()));
            }
        }
        found
    }

    #[test]
    fn a_new_key_is_listed_before_it_signs_and_the_old_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(&dir.path().join("log")).unwrap();
        let spec = TopicSpec {
            topic: Topic::new(KeyRecord::TOPIC),
            partitions: 1,
            cleanup: Cleanup::Compact,
            log_append_time: false,
        };
        log.apply(&[spec], &[]).unwrap();
        let log: Arc<dyn Log> = Arc::new(log);
        let signing = dir.path().join("signing");
        let files = KeyFiles::new(&signing, Use::Receipts);
        let keyring = Keyring::open(files.clone(), &[1; 32], Arc::clone(&log), clock).unwrap();
        let kid_at = |seconds: i64| {
            let keys = keyring.for_time(at(seconds)).unwrap();
            keys.at(at(seconds)).unwrap().public().kid().to_owned()
        };
        let first = kid_at(clock());
        assert_eq!(listed(log.as_ref()), [(first.clone(), None)]);

        let next = files.rotate(&[2; 32], clock(), 10).unwrap();
        // Nothing is read while what is held is complete.
        assert_eq!(kid_at(clock() + LEAD_S_MIN - 1), first);
        assert_eq!(listed(log.as_ref()).len(), 1);
        // What is dated later than that is not decided before the files were read again, and then the new key is listed.
        NOW.fetch_add(9, Ordering::SeqCst);
        assert_eq!(kid_at(clock()), first);
        let seen = listed(log.as_ref());
        assert_eq!(seen.len(), 3, "{seen:?}");
        assert!(seen.contains(&(first.clone(), Some(next.nbf()))) && seen.contains(&(next.kid().to_owned(), None)));
        assert_eq!(kid_at(next.nbf() - 1), first);
        assert_eq!(kid_at(next.nbf()), next.kid());
        // A late record is still of the old key's time.
        assert_eq!(kid_at(next.nbf() - 3_600), first);
        assert_eq!(listed(log.as_ref()).len(), 3);

        // A key that cannot be listed does not sign: whoever asks is told to wait.
        NOW.fetch_add(60, Ordering::SeqCst);
        std::fs::rename(&signing, dir.path().join("elsewhere")).unwrap();
        assert!(keyring.for_time(at(clock())).is_err());
        assert_eq!(kid_at(next.nbf()), next.kid());
        std::fs::rename(dir.path().join("elsewhere"), &signing).unwrap();
        assert_eq!(kid_at(clock()), next.kid());
    }
}
