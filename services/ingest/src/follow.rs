//! Reads one partition for ever, through every fault of the log.

use std::time::Duration;

use log::{Batch, Fault, Log, Position};
use stage::Stop;

const POLL_WAIT: Duration = Duration::from_millis(200);
const FAULT_WAIT: Duration = Duration::from_millis(500);

/// What becomes of what is read.
pub(crate) trait Reader {
    fn read(&self, record: &log::Record);
    /// Whether the partition can be read now.
    fn flowing(&self, flowing: bool);
}

/// Blocks until the stop: give it a thread.
pub(crate) fn follow(log: &dyn Log, from: Position, reader: &dyn Reader, stop: &Stop) {
    let mut next = from;
    while !stop.requested() {
        if let Err(fault) = read_on(log, &mut next, reader, stop) {
            reader.flowing(false);
            tracing::warn!(topic = %next.topic, partition = next.partition, %fault, "cannot be read; trying again");
            stop.wait(FAULT_WAIT);
        }
    }
}

fn read_on(log: &dyn Log, next: &mut Position, reader: &dyn Reader, stop: &Stop) -> Result<(), Fault> {
    // After a long outage the start may have moved past us; what expired is nobody's to answer any more.
    let start = log.starts(&next.topic)?.into_iter().find(|start| start.partition == next.partition);
    next.offset = next.offset.max(start.map_or(0, |start| start.offset));
    let mut tail = log.tail(std::slice::from_ref(next))?;
    let mut batch = Batch::default();
    while !stop.requested() {
        batch.records.clear();
        tail.poll(POLL_WAIT, &mut batch)?;
        for record in &batch.records {
            reader.read(record);
            next.offset = record.offset + 1;
        }
        reader.flowing(true);
    }
    Ok(())
}
