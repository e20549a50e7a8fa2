//! Cells: part of the transaction, restored whatever becomes of their directory.

use super::Entry;
use crate::conformance::world::{Driven, Step, World, ensure, output};
use crate::conformance::{Damage, Failure};

pub(super) const CASES: &[Entry] = &[
    ("state and outputs are one", state_and_outputs_are_one),
    ("a session sees its own puts", own_puts_are_seen),
    ("a scan is ordered, begins where it is told and ends when it is told", scan_is_ordered),
    ("cells of partitions and groups are apart", cells_are_apart),
    ("a deleted state directory comes back equal", lost_state_comes_back),
    ("a stale or foreign state directory is refused or rebuilt", damaged_state_is_not_used),
    ("forgetting a prefix leaves the other cells", forgetting_leaves_the_rest),
];

fn state_and_outputs_are_one(world: &World<'_>) -> Result<(), Failure> {
    let step = world.step(2)?;
    let mut driven = world.join_alone(&step, 2)?;
    driven.session.emit(&output(&step.output, Some(0), "k", b"1"))?;
    driven.put_all(0, &[("cell", Some("1"))])?;
    driven.session.commit(&driven.session.positions())?;
    driven.session.emit(&output(&step.output, Some(0), "k", b"2"))?;
    driven.put_all(0, &[("cell", Some("2"))])?;
    drop(driven);
    let driven = world.join_alone(&step, 2)?;
    let (values, cell) = (world.values(&step.output)?, driven.cell(0, "cell")?);
    ensure!(
        values == ["1"] && cell.as_deref() == Some("1"),
        "of two transactions, one committed: {values:?} and {cell:?}"
    );
    Ok(())
}

fn own_puts_are_seen(world: &World<'_>) -> Result<(), Failure> {
    let step = world.step(1)?;
    let mut driven = world.join_alone(&step, 1)?;
    driven.put_all(0, &[("a", Some("1")), ("b", Some("2")), ("c", Some("3"))])?;
    ensure!(driven.cell(0, "b")?.as_deref() == Some("2"), "a session does not see its own put");
    driven.session.commit(&driven.session.positions())?;
    driven.put_all(0, &[("b", None), ("c", Some("4")), ("bb", Some(""))])?;
    let cells = (driven.cell(0, "a")?, driven.cell(0, "b")?, driven.cell(0, "c")?, driven.cell(0, "bb")?);
    ensure!(
        cells == (Some("1".into()), None, Some("4".into()), Some(String::new())),
        "own puts over committed cells: {cells:?}"
    );
    let scanned = driven.cells(0, "")?;
    ensure!(scanned == texts(&[("a", "1"), ("bb", ""), ("c", "4")]), "own puts in a scan: {scanned:?}");
    ensure!(driven.cell(0, "none")?.is_none(), "a cell that was never put is there");
    Ok(())
}

fn scan_is_ordered(world: &World<'_>) -> Result<(), Failure> {
    let step = world.step(1)?;
    let mut driven = world.join_alone(&step, 1)?;
    driven.put_all(0, &[("c", Some("3")), ("a", Some("1")), ("b2", Some("2"))])?;
    driven.session.commit(&driven.session.positions())?;
    driven.put_all(0, &[("b3", Some("5")), ("b1", Some("4"))])?;
    let scanned = driven.cells(0, "b")?;
    ensure!(scanned == texts(&[("b1", "4"), ("b2", "2"), ("b3", "5"), ("c", "3")]), "a scan from b visits {scanned:?}");
    for limit in 1..=3 {
        let mut visited = 0;
        driven.session.scan(0, b"", &mut |_, _| {
            visited += 1;
            visited < limit
        })?;
        ensure!(visited == limit, "a scan ended after {limit} cells visits {visited}");
    }
    Ok(())
}

fn cells_are_apart(world: &World<'_>) -> Result<(), Failure> {
    let (step, other) = (world.step(2)?, world.step(2)?);
    let mut driven = world.join_alone(&step, 2)?;
    driven.put_all(0, &[("k", Some("0"))])?;
    driven.put_all(1, &[("k", Some("1"))])?;
    driven.session.commit(&driven.session.positions())?;
    let other = world.join_alone(&other, 2)?;
    let cells = (driven.cells(0, "")?, driven.cells(1, "")?, other.cells(0, "")?);
    ensure!(
        cells == (texts(&[("k", "0")]), texts(&[("k", "1")]), Vec::new()),
        "cells of partitions 0, 1, and another group: {cells:?}"
    );
    Ok(())
}

/// Two rounds of changes over three partitions, with removals; answers what must be there.
fn fill(
    world: &World<'_>,
    step: &Step,
    between: impl FnOnce() -> Result<(), Failure>,
) -> Result<Vec<Vec<(String, String)>>, Failure> {
    let mut driven = world.join_alone(step, 3)?;
    for partition in 0..3 {
        driven.put_all(partition, &[("a", Some("1")), ("b", Some("1")), ("c", Some("1"))])?;
    }
    driven.session.commit(&driven.session.positions())?;
    drop(driven);
    between()?;
    let mut driven = world.join_alone(step, 3)?;
    for partition in 0..3 {
        driven.put_all(partition, &[("b", None), ("c", Some("2")), ("d", Some(""))])?;
        driven.session.commit(&driven.session.positions())?;
    }
    all_cells(&driven)
}

fn all_cells(driven: &Driven) -> Result<Vec<Vec<(String, String)>>, Failure> {
    (0..3).map(|partition| driven.cells(partition, "")).collect()
}

fn lost_state_comes_back(world: &World<'_>) -> Result<(), Failure> {
    let step = world.step(3)?;
    let before = fill(world, &step, || Ok(()))?;
    ensure!(before == vec![texts(&[("a", "1"), ("c", "2"), ("d", "")]); 3], "what was put is {before:?}");
    world.harness.reopen()?;
    world.harness.damage_state(&step.group, Damage::Lost)?;
    let restored = all_cells(&world.join_alone(&step, 3)?)?;
    ensure!(restored == before, "restored is {restored:?}, not {before:?}");
    Ok(())
}

fn damaged_state_is_not_used(world: &World<'_>) -> Result<(), Failure> {
    for damage in [Damage::Stale, Damage::Foreign] {
        let step = world.step(3)?;
        let keep = || world.harness.keep_state(&step.group).map(drop);
        let before = fill(world, &step, keep)?;
        world.harness.reopen()?;
        world.harness.damage_state(&step.group, damage)?;
        match world.try_join(&step, "slot-0") {
            Err(crate::Fault::Fatal(_)) => continue,
            Err(fault) => return Err(fault.into()),
            Ok(_) => {}
        }
        let mut driven = world.join(&step, "slot-0")?;
        let assigned = driven.until("all partitions are assigned", |driven| driven.held.len() == 3);
        let cells = if assigned.is_ok() { all_cells(&driven)? } else { before.clone() };
        ensure!(cells == before, "{damage:?} state was used: {cells:?}, not {before:?}");
    }
    Ok(())
}

fn forgetting_leaves_the_rest(world: &World<'_>) -> Result<(), Failure> {
    let step = world.step(2)?;
    let mut driven = world.join_alone(&step, 2)?;
    for partition in 0..2 {
        driven.put_all(partition, &[("1a", Some("x")), ("1b", Some("x")), ("2a", Some("x"))])?;
    }
    driven.session.commit(&driven.session.positions())?;
    driven.session.forget(0, b"1")?;
    driven.put_all(0, &[("2b", Some("x"))])?;
    driven.session.commit(&driven.session.positions())?;
    let (forgotten, other) = (driven.cells(0, "2")?, driven.cells(1, "")?);
    ensure!(forgotten == texts(&[("2a", "x"), ("2b", "x")]), "forgetting 1 leaves {forgotten:?} from 2 on");
    ensure!(other.len() == 3, "forgetting in one partition leaves {other:?} in the other");
    ensure!(driven.cell(0, "1a")?.is_none(), "a forgotten cell is still read in the session that forgot it");
    Ok(())
}

fn texts(cells: &[(&str, &str)]) -> Vec<(String, String)> {
    cells.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}
