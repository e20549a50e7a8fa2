//! Reading a sealed record back: the log is the receipt store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event::topic::SEALED;
use event::wire::{ExchangeSealed, Wire};
use log::{Batch, Cause, Fault, Log, Position, Tail, Topic};

/// How long one lookup may take before the batch is given up and read again.
const LOOKUP_TIME_MAX: Duration = Duration::from_secs(10);
const POLL_WAIT: Duration = Duration::from_millis(100);

/// Finds sealed records by where they were written.
pub struct SealedLookup {
    log: Arc<dyn Log>,
    topic: Topic,
    /// A reader for each partition, made at its first replay and moved from then on: a new one costs a connection, and
    /// replays of several partitions come in turn.
    tails: BTreeMap<u32, Box<dyn Tail>>,
    batch: Batch,
}

impl SealedLookup {
    pub fn new(log: Arc<dyn Log>) -> Self {
        Self { log, topic: Topic::new(SEALED), tails: BTreeMap::new(), batch: Batch::default() }
    }

    /// The sealed record of this exchange: at `from` of the partition or soon after it.
    ///
    /// # Errors
    /// Whatever the log answers; Abort `receipt_not_found` where it is not there in time.
    pub fn find(&mut self, partition: u32, from: u64, exchange_id: &str) -> Result<ExchangeSealed, Fault> {
        // Taken out: a reader that failed is not trusted again.
        let tail = self.tails.remove(&partition);
        let (tail, found) = self.search(tail, partition, from, exchange_id)?;
        self.tails.insert(partition, tail);
        Ok(found)
    }

    /// Lets go of the readers of partitions that are not held any more.
    pub fn keep(&mut self, held: &[u32]) {
        self.tails.retain(|partition, _| held.contains(partition));
    }

    fn search(
        &mut self,
        tail: Option<Box<dyn Tail>>,
        partition: u32,
        from: u64,
        exchange_id: &str,
    ) -> Result<(Box<dyn Tail>, ExchangeSealed), Fault> {
        let at = Position { topic: self.topic.clone(), partition, offset: from };
        let mut tail = match tail {
            Some(mut tail) => {
                tail.seek(&[at])?;
                tail
            }
            None => self.log.tail(&[at])?,
        };
        let begun = Instant::now();
        while begun.elapsed() < LOOKUP_TIME_MAX {
            self.batch.records.clear();
            tail.poll(POLL_WAIT, &mut self.batch)?;
            for record in
                self.batch.records.iter().filter(|record| record.partition == partition && record.offset >= from)
            {
                let is_it = record.header(event::envelope::CE_ID).is_some_and(|id| id == exchange_id.as_bytes());
                if let Some(value) = record.value.as_deref().filter(|_| is_it) {
                    let sealed = ExchangeSealed::decode(value)
                        .map_err(|error| Fault::Fatal(Cause::new("receipt_unreadable", error.to_string())))?;
                    return Ok((tail, sealed));
                }
            }
        }
        let detail = format!("{exchange_id} is not in {SEALED}:{partition} from {from} on");
        Err(Fault::Abort(Cause::new("receipt_not_found", detail)))
    }
}
