//! What the edges rely on: appends, tails, placement, time, bounds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Entry;
use crate::conformance::Failure;
use crate::conformance::world::{World, ensure, kept, output, read_to, value_of};
use crate::{Batch, Position, TopicChange, partition_of};

pub(super) const CASES: &[Entry] = &[
    ("an acknowledged append lies where it is said to", append_is_where_it_is_said),
    ("a key goes where the Java client would put it", keys_are_placed),
    ("the log stamps the time of an append", the_log_stamps_time),
    ("records of a key keep their order", order_is_kept),
    ("a tail can go anywhere", tail_seeks),
    ("starts, ends and progress answer what is so", extents_answer),
    ("applying again changes nothing", applying_again_changes_nothing),
    ("a poll waits for what is not there yet", polls_wait),
    ("a poll says when nothing more is waiting", polls_say_drained),
    ("a slow reader gets bounded batches", batches_are_bounded),
];

fn append_is_where_it_is_said(world: &World<'_>) -> Result<(), Failure> {
    let topic = world.topic("edge", 2)?;
    let log = world.log();
    for (partition, value) in [(0, "a"), (1, "b"), (1, "c")] {
        let at = world.append(&output(&topic, Some(partition), "k", value.as_bytes()))?;
        ensure!(at.topic == topic && at.partition == partition, "{value} for partition {partition} lies at {at:?}");
        let ends = log.ends(&topic)?;
        let end = ends.iter().find(|end| end.partition == partition).map_or(0, |end| end.offset);
        ensure!(at.offset < end, "{at:?} was acknowledged, but the partition ends at {end}");
        let mut tail = log.tail(std::slice::from_ref(&at))?;
        let read = read_to(tail.as_mut(), &[Position { offset: at.offset + 1, ..at.clone() }], world.wait())?;
        let found = read.first().map(|record| (record.offset, value_of(record)));
        ensure!(found == Some((at.offset, value.to_owned())), "at {at:?} lies {found:?}, not {value}");
    }
    Ok(())
}

fn keys_are_placed(world: &World<'_>) -> Result<(), Failure> {
    // Among 12 partitions, from the hashes that Apache Kafka's own UtilsTest gives for these keys.
    let placed =
        [("21", 0), ("foobar", 6), ("a-little-bit-long-string", 8), ("a-little-bit-longer-string", 11), ("abc", 3)];
    let topic = world.topic("placed", 12)?;
    let step = world.step(12)?;
    let mut driven = world.join_alone(&step, 12)?;
    for (key, partition) in placed {
        ensure!(partition_of(key.as_bytes(), 12) == partition, "{key} belongs to {}", partition_of(key.as_bytes(), 12));
        let at = world.append(&output(&topic, None, key, b"appended"))?;
        ensure!(at.partition == partition, "{key} is appended to {}, not {partition}", at.partition);
        driven.session.emit(&output(&topic, None, key, b"emitted"))?;
    }
    driven.session.commit(&driven.session.positions())?;
    for record in world.committed(&topic)? {
        let key = record.key.as_deref().unwrap_or_default();
        ensure!(
            placed.iter().any(|(known, at)| known.as_bytes() == key && *at == record.partition),
            "misplaced: {record:?}"
        );
    }
    Ok(())
}

fn the_log_stamps_time(world: &World<'_>) -> Result<(), Failure> {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let step = world.step(1)?;
    let before = now();
    world.append_all(&step.input, 0, &["a", "b", "c"])?;
    let mut driven = world.join_alone(&step, 1)?;
    let records = driven.read(3)?;
    let times = records.iter().map(|record| record.time_ms).collect::<Vec<_>>();
    // The log's clock is that of its own machine, which tests share.
    let is_now = |time: &i64| u128::try_from(*time).is_ok_and(|time| (before..=now()).contains(&time));
    ensure!(times.iter().all(is_now), "appended after {before}, stamped {times:?}");
    ensure!(times.is_sorted(), "the log's time goes back: {times:?}");
    let seen = world.committed(&step.input)?.iter().map(|record| record.time_ms).collect::<Vec<_>>();
    ensure!(seen == times, "a session reads the times {times:?}, a tail {seen:?}");
    Ok(())
}

fn order_is_kept(world: &World<'_>) -> Result<(), Failure> {
    const ROUNDS: u32 = 40;
    let step = world.step(3)?;
    let keys = ["a", "b", "c", "d", "e"];
    for round in 0..ROUNDS {
        for key in keys {
            let log = world.log();
            // Without waiting: order is the log's to keep.
            let value = round.to_string();
            log.append(&output(&step.input, None, key, value.as_bytes()), Box::new(drop))?;
        }
    }
    let total = keys.len() * 40;
    let mut driven = world.join_alone(&step, 3)?;
    let read = driven.read(total)?;
    for record in &read {
        let key = record.key.as_deref().unwrap_or_default();
        let key = String::from_utf8_lossy(key).into_owned();
        driven.session.emit(&output(&step.output, None, &key, value_of(record).as_bytes()))?;
    }
    driven.session.commit(&driven.session.positions())?;
    for (what, records) in [("a session", read), ("a tail", world.committed(&step.output)?)] {
        for key in keys {
            let of_key = records.iter().filter(|record| record.key.as_deref() == Some(key.as_bytes()));
            let rounds = of_key.map(value_of).collect::<Vec<_>>();
            let expected = (0..ROUNDS).map(|round| round.to_string()).collect::<Vec<_>>();
            ensure!(rounds == expected, "{what} reads {key} in the order {rounds:?}");
        }
    }
    Ok(())
}

fn tail_seeks(world: &World<'_>) -> Result<(), Failure> {
    let topic = world.topic("edge", 2)?;
    let first = world.append_all(&topic, 0, &["a", "b", "c"])?;
    world.append_all(&topic, 1, &["d"])?;
    let log = world.log();
    let ends = log.ends(&topic)?;
    let mut tail = log.tail(&log.starts(&topic)?)?;
    let all = read_to(tail.as_mut(), &ends, world.wait())?;
    ensure!(all.len() == 4, "a tail from the starts reads {}", all.len());
    let [_, second, _] = &first[..] else { return Ok(()) };
    tail.seek(std::slice::from_ref(second))?;
    ensure!(tail.positions().contains(second), "after a seek to {second:?} it stands at {:?}", tail.positions());
    let again = read_to(tail.as_mut(), &ends, world.wait())?.iter().map(value_of).collect::<Vec<_>>();
    ensure!(again == ["b", "c"], "after a seek to the second of three it reads {again:?}");
    let mut middle = log.tail(std::slice::from_ref(second))?;
    let ends = ends.into_iter().filter(|end| end.partition == 0).collect::<Vec<_>>();
    let read = read_to(middle.as_mut(), &ends, world.wait())?.iter().map(value_of).collect::<Vec<_>>();
    ensure!(read == ["b", "c"], "a tail from the second of three reads {read:?}");
    Ok(())
}

fn extents_answer(world: &World<'_>) -> Result<(), Failure> {
    let step = world.step(2)?;
    let log = world.log();
    let offsets = |positions: Vec<Position>| positions.iter().map(|at| (at.partition, at.offset)).collect::<Vec<_>>();
    let empty = vec![(0, 0), (1, 0)];
    ensure!(offsets(log.starts(&step.input)?) == empty, "an empty topic starts at {:?}", log.starts(&step.input)?);
    ensure!(offsets(log.ends(&step.input)?) == empty, "an empty topic ends at {:?}", log.ends(&step.input)?);
    ensure!(
        offsets(log.progress(&step.group, &step.input)?) == empty,
        "a new group is at {:?}",
        log.progress(&step.group, &step.input)?
    );
    let stranger = log.progress(&world.harness.fresh_name("stranger"), &step.input)?;
    ensure!(stranger.is_empty(), "an unknown group is at {stranger:?}");
    world.append_all(&step.input, 1, &["a", "b"])?;
    ensure!(
        offsets(log.ends(&step.input)?) == [(0, 0), (1, 2)],
        "after two appends it ends at {:?}",
        log.ends(&step.input)?
    );
    let mut driven = world.join_alone(&step, 2)?;
    driven.read(2)?;
    ensure!(
        offsets(driven.session.positions()).contains(&(1, 2)),
        "after two records it stands at {:?}",
        driven.session.positions()
    );
    driven.session.commit(&driven.session.positions())?;
    let progress = offsets(log.progress(&step.group, &step.input)?);
    ensure!(progress == [(0, 0), (1, 2)], "after a commit the group is at {progress:?}");
    let missing = crate::Topic::new(&world.harness.fresh_name("missing"));
    ensure!(
        log.partitions(&missing)?.is_none() && log.partitions(&step.input)? == Some(2),
        "partitions are miscounted"
    );
    Ok(())
}

fn applying_again_changes_nothing(world: &World<'_>) -> Result<(), Failure> {
    let topic = world.topic("edge", 2)?;
    world.append_all(&topic, 0, &["a"])?;
    let log = world.log();
    let again = log.apply(&[kept(&topic, 2)], &[])?;
    ensure!(again == [TopicChange::Kept(topic.clone())], "applied again: {again:?}");
    let cleaned = crate::TopicSpec { cleanup: crate::Cleanup::Compact, ..kept(&topic, 2) };
    let other = log.apply(&[cleaned], &[])?;
    ensure!(matches!(&other[..], [TopicChange::Differs(..)]), "applied with another cleanup: {other:?}");
    let values = world.values(&topic)?;
    ensure!(values == ["a"], "after applying again the topic holds {values:?}");
    Ok(())
}

fn polls_wait(world: &World<'_>) -> Result<(), Failure> {
    let step = world.step(1)?;
    let mut driven = world.join_alone(&step, 1)?;
    let log = world.log();
    let mut tail = log.tail(&log.starts(&step.input)?)?;
    let (append, wait) = (world.log(), world.wait());
    let input = step.input.clone();
    let (polling, begun) = std::sync::mpsc::channel();
    let appender = std::thread::spawn(move || {
        // Each poll says that it is about to begin; one that does not wait is over before the append is acknowledged.
        for value in [b"1", b"2"] {
            if begun.recv().is_ok() {
                let _ = append.append(&output(&input, Some(0), "k", value), Box::new(drop));
            }
        }
    });
    let told =
        |sent: Result<(), _>| sent.map_err(|_: std::sync::mpsc::SendError<()>| Failure("the appender ended".into()));
    told(polling.send(()))?;
    driven.session.poll(wait, &mut driven.batch)?;
    let first = driven.batch.records.len();
    let mut seen = Batch::default();
    tail.poll(wait, &mut seen)?;
    let at_once = seen.records.len();
    told(polling.send(()))?;
    tail.poll(wait, &mut seen)?;
    ensure!(appender.join().is_ok(), "the appender panicked");
    ensure!(first == 1, "a session's poll came back without the record that came meanwhile");
    ensure!(
        (at_once, seen.records.len()) == (1, 2),
        "a tail's polls came back with {at_once} and {} records",
        seen.records.len()
    );
    Ok(())
}

fn polls_say_drained(world: &World<'_>) -> Result<(), Failure> {
    let topic = world.topic("edge", 2)?;
    let large = vec![b'x'; 256 * 1024];
    for index in 0..64 {
        world.log().append(&output(&topic, Some(index % 2), "k", &large), Box::new(drop))?;
    }
    let last = [world.append_all(&topic, 0, &["last"])?, world.append_all(&topic, 1, &["last"])?].concat();
    let log = world.log();
    let mut tail = log.tail(&log.starts(&topic)?)?;
    let (mut batch, mut polls) = (Batch::default(), 0);
    let deadline = std::time::Instant::now() + world.wait();
    while !tail.poll(Duration::from_millis(20), &mut batch)? || polls == 0 {
        polls += 1;
        ensure!(std::time::Instant::now() < deadline, "a tail is never drained");
    }
    let positions = tail.positions();
    for at in &last {
        let reached =
            positions.iter().any(|position| position.partition == at.partition && position.offset > at.offset);
        ensure!(reached, "a tail says that nothing more is waiting at {positions:?}, before {at:?}");
    }
    ensure!(batch.records.len() == 66, "{} of 66 records are read", batch.records.len());
    Ok(())
}

fn batches_are_bounded(world: &World<'_>) -> Result<(), Failure> {
    const RECORDS: u32 = 48;
    const BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;
    let step = world.step(2)?;
    let large = vec![b'x'; 512 * 1024];
    for index in 1..RECORDS {
        world.log().append(&output(&step.input, Some(index % 2), "k", &large), Box::new(drop))?;
    }
    world.append(&output(&step.input, Some(0), "k", &large))?;
    let mut driven = world.join_alone(&step, 2)?;
    let log = world.log();
    let mut tail = log.tail(&log.starts(&step.input)?)?;
    for reader in ["a session", "a tail"] {
        let (mut count, mut largest) = (0, 0);
        let deadline = std::time::Instant::now() + world.wait();
        while count < 48 {
            let mut batch = Batch::default();
            if reader == "a tail" {
                tail.poll(Duration::from_millis(20), &mut batch)?;
            } else {
                std::mem::swap(&mut batch, &mut driven.batch);
                driven.session.poll(Duration::from_millis(20), &mut batch)?;
            }
            count += batch.records.len();
            largest = largest
                .max(batch.records.iter().filter_map(|record| record.value.as_ref()).map(bytes::Bytes::len).sum());
            ensure!(std::time::Instant::now() < deadline, "{reader} reads {count} of 48 records");
        }
        ensure!(largest <= BATCH_BYTES_MAX, "{reader} gets {largest} bytes in one batch");
    }
    Ok(())
}
