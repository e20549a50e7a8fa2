//! Outputs and offsets: together or not at all.

use std::time::Duration;

use super::Entry;
use crate::conformance::Failure;
use crate::conformance::world::{World, after, ensure, output, read_to, value_of};
use crate::{Batch, Fault, Output, Position};

pub(super) const CASES: &[Entry] = &[
    ("a commit is visible with all that it wrote", commit_is_visible),
    ("a commit answers where each partition ended", commit_answers_ends),
    ("what is recovered from is never seen and is read again", recovered_is_not_seen),
    ("an open transaction hides what it wrote and what follows", open_transaction_hides),
    ("a commit moves the offsets that it names and only those", commit_moves_offsets),
    ("outputs without an offset that fences them are refused", unfenced_outputs_are_refused),
    ("a session goes on where the last commit was", goes_on_after_reopening),
    ("a session reads on from where it is told", session_seeks),
    ("a record comes back with its nulls and headers as they were", record_comes_back),
];

fn commit_is_visible(world: &World<'_>) -> Result<(), Failure> {
    let step = world.step(3)?;
    let second = world.topic("second", 3)?;
    let mut driven = world.join_alone(&step, 3)?;
    for (topic, values) in [(&step.output, ["a", "b", "c"]), (&second, ["d", "e", "f"])] {
        for (partition, value) in (0..).zip(values) {
            driven.session.emit(&output(topic, Some(partition), value, value.as_bytes()))?;
        }
    }
    driven.session.commit(&driven.session.positions())?;
    let (first, second) = (world.values(&step.output)?, world.values(&second)?);
    ensure!(first == ["a", "b", "c"] && second == ["d", "e", "f"], "committed, but seen are {first:?} and {second:?}");
    Ok(())
}

fn commit_answers_ends(world: &World<'_>) -> Result<(), Failure> {
    let step = world.step(3)?;
    let mut driven = world.join_alone(&step, 3)?;
    for value in ["a", "b"] {
        driven.session.emit(&output(&step.output, Some(1), value, value.as_bytes()))?;
    }
    let committed = driven.session.commit(&driven.session.positions())?;
    let ends = world.log().ends(&step.output)?;
    let [end] = &committed.ends[..] else {
        return Err(Failure(format!("one partition was written to: {committed:?}")));
    };
    let [record, ..] = &world.committed(&step.output)?[..] else { return Err(Failure("nothing is committed".into())) };
    ensure!((&end.topic, end.partition) == (&step.output, 1), "another partition was written to: {end:?}");
    ensure!(end.offset >= record.offset + 2, "{end:?} is before what was written at {}", record.offset);
    let known = ends.iter().find(|known| known.partition == 1).map_or(0, |known| known.offset);
    ensure!(end.offset <= known, "{end:?} is past the end {known}");
    Ok(())
}

fn recovered_is_not_seen(world: &World<'_>) -> Result<(), Failure> {
    let step = world.step(1)?;
    world.append_all(&step.input, 0, &["1", "2"])?;
    let mut driven = world.join_alone(&step, 1)?;
    let read = driven.read(2)?;
    driven.session.emit(&output(&step.output, Some(0), "k", b"dropped"))?;
    driven.session.put(0, b"cell", Some(b"dropped"))?;
    driven.session.recover()?;
    ensure!(driven.cell(0, "cell")?.is_none(), "a cell that was dropped is still there");
    let again = driven.read(2)?;
    ensure!(read == again, "after recovery other records are read: {again:?}");
    driven.session.emit(&output(&step.output, Some(0), "k", b"kept"))?;
    driven.session.commit(&after(&again))?;
    let values = world.values(&step.output)?;
    ensure!(values == ["kept"], "what was dropped is seen: {values:?}");
    Ok(())
}

fn open_transaction_hides(world: &World<'_>) -> Result<(), Failure> {
    let step = world.step(1)?;
    let mut driven = world.join_alone(&step, 1)?;
    let log = world.log();
    let mut tail = log.tail(&log.starts(&step.output)?)?;
    driven.session.emit(&output(&step.output, Some(0), "k", b"staged"))?;
    world.append(&output(&step.output, Some(0), "k", b"appended"))?;
    let mut batch = Batch::default();
    tail.poll(Duration::ZERO, &mut batch)?;
    let early = batch.records.iter().map(value_of).collect::<Vec<_>>();
    ensure!(!early.contains(&"staged".to_owned()), "an uncommitted record is seen");
    driven.session.commit(&driven.session.positions())?;
    let mut seen = early;
    seen.extend(read_to(tail.as_mut(), &log.ends(&step.output)?, world.wait())?.iter().map(value_of));
    seen.sort();
    ensure!(seen == ["appended", "staged"], "one reader sees {seen:?}");
    // Whatever it saw while the transaction was open, it has skipped nothing and nothing came twice.
    let offsets = world.committed(&step.output)?.iter().map(|record| record.offset).collect::<Vec<_>>();
    ensure!(offsets.is_sorted() && offsets.len() == 2, "two records lie at {offsets:?}");
    Ok(())
}

fn commit_moves_offsets(world: &World<'_>) -> Result<(), Failure> {
    let step = world.step(3)?;
    let log = world.log();
    let origin = log.progress(&step.group, &step.input)?;
    let begun = origin.iter().map(|position| position.offset).collect::<Vec<_>>();
    ensure!(begun == [0, 0, 0], "a new group on a new topic begins at {begun:?}");
    let input = world.append_all(&step.input, 1, &["a", "b"])?;
    let mut driven = world.join_alone(&step, 3)?;
    let read = driven.read(2)?;
    ensure!(read.iter().map(|record| record.offset).eq(input.iter().map(|at| at.offset)), "read is {read:?}");
    // Partition 2 was touched (a cell), but did not move.
    driven.session.put(2, b"cell", Some(b"1"))?;
    let still = Position { topic: step.input.clone(), partition: 2, offset: 0 };
    let next = [&after(&read)[..], std::slice::from_ref(&still)].concat();
    driven.session.commit(&next)?;
    let progress = log.progress(&step.group, &step.input)?;
    for at in &next {
        ensure!(progress.contains(at), "{at:?} was committed, the group is at {progress:?}");
    }
    // A change without the offset that fences it must not come through.
    driven.session.put(2, b"cell", Some(b"2"))?;
    ensure!(
        driven.session.commit(&after(&read)).is_err(),
        "state of a partition that the commit does not name was committed"
    );
    Ok(())
}

fn unfenced_outputs_are_refused(world: &World<'_>) -> Result<(), Failure> {
    let step = world.step(1)?;
    let mut driven = world.join_alone(&step, 1)?;
    driven.session.emit(&output(&step.output, Some(0), "k", b"unfenced"))?;
    match driven.session.commit(&[]) {
        Err(Fault::Fatal(cause)) if cause.code == "offsets_incomplete" => {}
        outcome => return Err(Failure(format!("outputs are committed without an offset: {outcome:?}"))),
    }
    drop(driven);
    let values = world.values(&step.output)?;
    ensure!(values.is_empty(), "what was refused is seen: {values:?}");
    Ok(())
}

fn goes_on_after_reopening(world: &World<'_>) -> Result<(), Failure> {
    let step = world.step(1)?;
    world.append_all(&step.input, 0, &["1", "2", "3"])?;
    let mut driven = world.join_alone(&step, 1)?;
    let read = driven.read(3)?;
    let Some((first, _)) = read.split_first() else { return Err(Failure("nothing is read".into())) };
    driven.session.emit(&output(&step.output, Some(0), "k", b"1"))?;
    driven.session.commit(&after(std::slice::from_ref(first)))?;
    drop(driven);
    world.harness.reopen()?;
    let mut driven = world.join_alone(&step, 1)?;
    let rest = driven.read(2)?.iter().map(value_of).collect::<Vec<_>>();
    ensure!(rest == ["2", "3"], "after the first of three it goes on with {rest:?}");
    let values = world.values(&step.output)?;
    ensure!(values == ["1"], "after the reopening the output is {values:?}");
    Ok(())
}

fn session_seeks(world: &World<'_>) -> Result<(), Failure> {
    let step = world.step(1)?;
    let input = world.append_all(&step.input, 0, &["1", "2", "3"])?;
    let mut driven = world.join_alone(&step, 1)?;
    driven.read(3)?;
    let Some(second) = input.get(1) else { return Ok(()) };
    driven.session.seek(std::slice::from_ref(second))?;
    ensure!(
        driven.session.positions() == [second.clone()],
        "after a seek it stands at {:?}",
        driven.session.positions()
    );
    let read = driven.read(2)?.iter().map(value_of).collect::<Vec<_>>();
    ensure!(read == ["2", "3"], "after a seek to the second it reads {read:?}");
    Ok(())
}

/// Key and value.
type Parts<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

fn record_comes_back(world: &World<'_>) -> Result<(), Failure> {
    let step = world.step(1)?;
    let headers: &[(&str, &[u8])] = &[("h", b"1"), ("empty", b""), ("h", b"2")];
    let mut driven = world.join_alone(&step, 1)?;
    let parts: [Parts<'_>; 4] =
        [(None, Some(b"v")), (Some(b""), Some(b"")), (Some(b"k"), None), (Some(b"\xff\0"), Some(b"\xff\0"))];
    for (key, value) in parts {
        driven.session.emit(&Output { topic: &step.output, partition: Some(0), key, value, headers })?;
    }
    driven.session.commit(&driven.session.positions())?;
    let records = world.committed(&step.output)?;
    let read = records.iter().map(|record| (record.key.as_deref(), record.value.as_deref())).collect::<Vec<_>>();
    ensure!(read == parts, "other keys and values come back: {read:?}");
    for record in &records {
        let read = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_ref())).collect::<Vec<_>>();
        ensure!(read == headers, "other headers come back: {read:?}");
        ensure!(record.header("h") == Some(b"2"), "the last header of a name is not {:?}", record.header("h"));
    }
    Ok(())
}
