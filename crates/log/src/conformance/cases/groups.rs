//! Who works where, and what becomes of the work of one who should not.

use std::collections::BTreeMap;
use std::time::Instant;

use super::Entry;
use crate::conformance::Failure;
use crate::conformance::world::{Driven, Step, World, after, ensure, output, value_of};
use crate::{Fault, Member, Polled, TopicChange, TopicSpec};

pub(super) const CASES: &[Entry] = &[
    ("a second session on the same slot fences the first", same_slot_fences),
    ("a lost partition recovers with nothing lost or doubled", lost_partition_recovers),
    ("a partition is handed over where its last commit was", partition_is_handed_over),
    ("missing offsets are an error and no rewind to the start", missing_offsets_are_an_error),
    ("a partition count that differs is refused", differing_counts_are_refused),
];

fn same_slot_fences(world: &World<'_>) -> Result<(), Failure> {
    let step = world.step(2)?;
    world.append_all(&step.input, 0, &["1"])?;
    let mut first = world.join_alone(&step, 2)?;
    let read = first.read(1)?;
    first.session.emit(&output(&step.output, Some(0), "k", b"of the first"))?;
    let mut second = world.join(&step, "slot-0")?;
    match first.session.commit(&after(&read)) {
        Err(Fault::Fatal(cause)) => ensure!(cause.code == "fenced", "the first is told {cause}, not that it is fenced"),
        outcome => return Err(Failure(format!("the first session still commits: {outcome:?}"))),
    }
    drop(first);
    second.until("the second holds everything", |second| second.held.len() == 2)?;
    let again = second.read(1)?;
    second.session.emit(&output(&step.output, Some(0), "k", b"of the second"))?;
    second.session.commit(&after(&again))?;
    let values = world.values(&step.output)?;
    ensure!(values == ["of the second"], "seen are {values:?}");
    Ok(())
}

/// Copies what was read to the output, with a count of what has been copied in the partition's state, and commits.
fn copy(driven: &mut Driven, step: &Step) -> Result<(), Fault> {
    let records = std::mem::take(&mut driven.batch.records);
    for record in &records {
        let mut count = Vec::new();
        driven.session.get(record.partition, b"count", &mut count)?;
        count.push(b'+');
        driven.session.put(record.partition, b"count", Some(&count))?;
        let value = value_of(record);
        driven.session.emit(&output(&step.output, Some(record.partition), &value, value.as_bytes()))?;
    }
    driven.session.commit(&after(&records)).map(drop)
}

fn lost_partition_recovers(world: &World<'_>) -> Result<(), Failure> {
    let step = world.step(2)?;
    world.append_all(&step.input, 0, &["a", "b"])?;
    world.append_all(&step.input, 1, &["c", "d"])?;
    let mut loser = world.join_alone(&step, 2)?;
    loser.until("the loser has read everything", |loser| loser.batch.records.len() == 4)?;
    // It stages and then does not come back in time; meanwhile another slot takes a part of its partitions over.
    for record in &loser.batch.records {
        let value = value_of(record);
        loser.session.emit(&output(&step.output, Some(record.partition), "loser", value.as_bytes()))?;
        loser.session.put(record.partition, b"count", Some(b"loser"))?;
    }
    let next = after(&loser.batch.records);
    let mut winner = world.join(&step, "slot-1")?;
    winner.until("another slot takes a part over", |winner| !winner.held.is_empty())?;
    ensure!(loser.session.commit(&next).is_err(), "work on a partition that was lost is committed");
    // A loser that may go on does; one that may not starts anew, as the orchestrator would have it.
    if loser.session.recover().is_err() {
        loser = world.join(&step, "slot-0")?;
    }
    loser.batch.records.clear();
    let deadline = Instant::now() + world.wait();
    while world.values(&step.output)?.len() < 4 && Instant::now() < deadline {
        for driven in [&mut loser, &mut winner] {
            let turned = driven.turn().and_then(|()| copy(driven, &step));
            if let Err(Fault::Abort(_)) = turned {
                driven.session.recover()?;
                driven.batch.records.clear();
            } else {
                turned?;
            }
        }
    }
    let values = world.values(&step.output)?;
    ensure!(values == ["a", "b", "c", "d"], "after the loss the output is {values:?}");
    drop((loser, winner));
    let last = world.join_alone(&step, 2)?;
    let counts = (last.cell(0, "count")?, last.cell(1, "count")?);
    ensure!(counts == (Some("++".into()), Some("++".into())), "after the loss the state is {counts:?}");
    Ok(())
}

fn partition_is_handed_over(world: &World<'_>) -> Result<(), Failure> {
    let step = world.step(2)?;
    world.append_all(&step.input, 0, &["a", "b"])?;
    world.append_all(&step.input, 1, &["c", "d"])?;
    let mut older = world.join_alone(&step, 2)?;
    older.until("everything is read", |older| older.batch.records.len() == 4)?;
    for record in &older.batch.records {
        let value = value_of(record);
        older.session.emit(&output(&step.output, Some(record.partition), &value, value.as_bytes()))?;
        older.session.put(record.partition, b"count", Some(b"++"))?;
    }
    let mut newer = world.join(&step, "slot-1")?;
    let deadline = Instant::now() + world.wait();
    let mut has_committed = false;
    while newer.held.is_empty() || !has_committed {
        ensure!(Instant::now() < deadline, "a partition is never handed over");
        match older.session.poll(std::time::Duration::from_millis(20), &mut older.batch)? {
            Polled::Revoke { partitions, lost } => {
                ensure!(!lost, "a partition is lost that was polled for in time");
                if !has_committed {
                    older.session.commit(&after(&older.batch.records))?;
                    has_committed = true;
                }
                older.session.release()?;
                older.held.retain(|partition| !partitions.contains(partition));
            }
            Polled::Assigned(positions) => older.held.extend(positions.iter().map(|position| position.partition)),
            Polled::Records { .. } => {}
        }
        newer.turn()?;
    }
    world.append_all(&step.input, 0, &["e"])?;
    world.append_all(&step.input, 1, &["f"])?;
    older.batch.records.clear();
    let deadline = Instant::now() + world.wait();
    while world.values(&step.output)?.len() < 6 && Instant::now() < deadline {
        for driven in [&mut older, &mut newer] {
            driven.turn()?;
            copy(driven, &step)?;
        }
    }
    let values = world.values(&step.output)?;
    ensure!(values == ["a", "b", "c", "d", "e", "f"], "after the handing over the output is {values:?}");
    let mut counts = BTreeMap::new();
    for driven in [&older, &newer] {
        for partition in &driven.held {
            counts.insert(*partition, driven.cell(*partition, "count")?.unwrap_or_default());
        }
    }
    let counts = counts.into_values().collect::<Vec<_>>();
    ensure!(counts == ["+++", "+++"], "after the handing over the state is {counts:?}");
    Ok(())
}

fn missing_offsets_are_an_error(world: &World<'_>) -> Result<(), Failure> {
    let step = world.step(1)?;
    world.append_all(&step.input, 0, &["1", "2"])?;
    let mut driven = world.join_alone(&step, 1)?;
    let read = driven.read(2)?;
    driven.session.commit(&after(&read))?;
    drop(driven);
    world.harness.lose_offsets(&step.group)?;
    let fault = match world.try_join(&step, "slot-0") {
        Err(fault) => fault,
        Ok(mut session) => {
            let deadline = Instant::now() + world.wait();
            loop {
                let mut batch = crate::Batch::default();
                match session.poll(std::time::Duration::from_millis(20), &mut batch) {
                    Err(fault) => break fault,
                    Ok(_) => {
                        ensure!(batch.records.is_empty(), "without offsets it reads from {:?}", batch.records.first())
                    }
                }
                ensure!(Instant::now() < deadline, "without offsets it says nothing");
            }
        }
    };
    match fault {
        Fault::Fatal(cause) if cause.code == "offsets_missing" => Ok(()),
        fault => Err(Failure(format!("without offsets it says {fault}"))),
    }
}

fn differing_counts_are_refused(world: &World<'_>) -> Result<(), Failure> {
    let (two, three) = (world.step(2)?, world.step(3)?);
    let log = world.log();
    let spec = TopicSpec { partitions: 5, ..crate::conformance::world::kept(&two.input, 5) };
    let changes = log.apply(&[spec], &[])?;
    let differs = matches!(&changes[..], [TopicChange::Differs(topic, _)] if *topic == two.input);
    ensure!(differs, "a topic of two partitions becomes one of five: {changes:?}");
    ensure!(log.partitions(&two.input)? == Some(2), "a topic of two partitions has {:?}", log.partitions(&two.input)?);
    let member = Member {
        group: two.group.clone(),
        slot: "slot-0".into(),
        inputs: vec![two.input.clone(), three.input.clone()],
        state: Some(two.state.clone()),
    };
    match log.join(&member).map(drop) {
        Err(Fault::Fatal(cause)) if cause.code == "partitions_differ" => {}
        outcome => return Err(Failure(format!("inputs of two and three partitions are joined: {outcome:?}"))),
    }
    let member = Member { inputs: vec![two.input], state: Some(three.state), ..member };
    match log.join(&member).map(drop) {
        Err(Fault::Fatal(cause)) if cause.code == "partitions_differ" => Ok(()),
        outcome => Err(Failure(format!("a changelog of three partitions for two is joined: {outcome:?}"))),
    }
}
