//! Reading the log from outside the pipeline: a whole topic as it is at this moment, or one record.

use std::time::{Duration, Instant};

use log::{Batch, Log, Position, Record, Topic};

use super::Trouble;

const POLL_WAIT: Duration = Duration::from_millis(200);
/// A log that gives nothing for this long although there is more is not answering.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Visits every record that is committed at this moment, in order within each partition. A missing topic has none.
pub(super) fn each(
    log: &dyn Log,
    topic: &Topic,
    visit: &mut dyn FnMut(Record) -> Result<(), Trouble>,
) -> Result<(), Trouble> {
    if log.partitions(topic)?.is_none() {
        return Ok(());
    }
    let ends = log.ends(topic)?;
    let from: Vec<Position> = log.starts(topic)?.into_iter().filter(|start| is_before(start, &ends)).collect();
    if from.is_empty() {
        return Ok(());
    }
    let mut tail = log.tail(&from)?;
    let mut batch = Batch::default();
    let mut heard = Instant::now();
    while tail.positions().iter().any(|at| is_before(at, &ends)) {
        batch.records.clear();
        tail.poll(POLL_WAIT, &mut batch)?;
        if !batch.records.is_empty() {
            heard = Instant::now();
        }
        if heard.elapsed() > SILENCE_MAX {
            return Err(Trouble::new(format!("{topic} has records that the log does not give"))
                .try_this("is the log reachable? `countersign doctor`"));
        }
        for record in batch.records.drain(..) {
            let at = Position { topic: topic.clone(), partition: record.partition, offset: record.offset };
            if is_before(&at, &ends) {
                visit(record)?;
            }
        }
    }
    Ok(())
}

/// One record, if the log still has it.
pub(super) fn one(log: &dyn Log, at: &Position) -> Result<Option<Record>, Trouble> {
    if log.partitions(&at.topic)?.is_none_or(|partitions| at.partition >= partitions) {
        return Ok(None);
    }
    let starts = log.starts(&at.topic)?;
    if !is_before(at, &log.ends(&at.topic)?) || is_before(at, &starts) {
        return Ok(None);
    }
    let mut tail = log.tail(std::slice::from_ref(at))?;
    let mut batch = Batch::default();
    let asked = Instant::now();
    loop {
        tail.poll(POLL_WAIT, &mut batch)?;
        if let Some(record) = batch.records.drain(..).next() {
            return Ok((record.offset == at.offset).then_some(record));
        }
        // A position beyond it without a record: it was compacted away, or is the log's own.
        if tail.positions().iter().any(|position| position.offset > at.offset) {
            return Ok(None);
        }
        if asked.elapsed() > SILENCE_MAX {
            return Err(Trouble::new(format!("the log does not give {}", name(at))));
        }
    }
}

/// `topic:partition:offset`.
pub(super) fn name(at: &Position) -> String {
    format!("{}:{}:{}", at.topic, at.partition, at.offset)
}

/// Reads `topic:partition:offset`.
pub(super) fn parse(text: &str) -> Option<Position> {
    let mut parts = text.rsplitn(3, ':');
    let (offset, partition, topic) = (parts.next()?, parts.next()?, parts.next()?);
    let named = (!topic.is_empty()).then(|| Topic::new(topic))?;
    Some(Position { topic: named, partition: partition.parse().ok()?, offset: offset.parse().ok()? })
}

fn is_before(at: &Position, ends: &[Position]) -> bool {
    ends.iter().any(|end| end.partition == at.partition && at.offset < end.offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_reads_back_what_it_prints() {
        let at = Position { topic: Topic::new("meter.tally.dead.v1"), partition: 3, offset: 17 };
        assert_eq!(parse(&name(&at)), Some(at));
        for wrong in ["", "a:1", ":1:2", "a:x:2", "a:1:-2"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
