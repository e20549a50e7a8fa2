//! What must be true after any schedule, told from the input alone.

use std::collections::{BTreeMap, BTreeSet};

use countersign_log::kafka::hostile::{CommittedRecord, Simulation, TransactionId};

use crate::step::{COUNT, Topics, output, seen};

/// What a partition's input leads to.
pub(crate) struct Expected {
    /// By input offset.
    pub(crate) outputs: Vec<String>,
    pub(crate) cells: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// The inputs of each partition, as (key, value).
pub(crate) type Inputs = Vec<Vec<(String, String)>>;

pub(crate) fn expected(partition: u32, inputs: &[(String, String)]) -> Expected {
    let mut cells = BTreeMap::new();
    let mut outputs = Vec::new();
    for (count, (key, value)) in (1_u64..).zip(inputs) {
        let is_repeated = cells.insert(seen(key.as_bytes()), b"1".to_vec()).is_some();
        outputs.push(output(partition, count, value, is_repeated));
        cells.insert(COUNT.to_vec(), count.to_be_bytes().to_vec());
    }
    Expected { outputs, cells }
}

/// Partition and offset of the input that a record was caused by.
fn cause(record: &CommittedRecord) -> Option<(u32, u64)> {
    let (_, cause) = record.headers.iter().rev().find(|(name, _)| name == "cause")?;
    let mut parts = std::str::from_utf8(cause).ok()?.split(':');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// By cause: the value, where it lies, and the transaction that wrote it.
type Found = BTreeMap<(u32, u64), (String, (u32, u64), Option<TransactionId>)>;

fn outputs(records: &[CommittedRecord], name: &str) -> Result<Found, String> {
    let mut found = Found::new();
    let mut last = BTreeMap::new();
    for record in records {
        let cause = cause(record).ok_or_else(|| format!("a record of {name} names no cause"))?;
        let value = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned();
        let place = (record.partition, record.offset);
        if let Some((_, first, _)) = found.insert(cause, (value, place, record.transaction)) {
            return Err(format!("{name}: input {cause:?} has an output at {first:?} and another at {place:?}"));
        }
        if let Some(before) = last.insert((record.partition, cause.0), cause.1)
            && before > cause.1
        {
            return Err(format!("{name}-{}: the output of {cause:?} comes after that of {before}", record.partition));
        }
    }
    Ok(found)
}

pub(crate) fn check(simulation: &Simulation, topics: &Topics, group: &str, inputs: &Inputs) -> Result<(), String> {
    let spread = outputs(&simulation.committed(&topics.spread), "spread")?;
    let beside = outputs(&simulation.committed(&topics.beside), "beside")?;
    let mut all = BTreeSet::new();
    for (partition, inputs) in (0_u32..).zip(inputs) {
        let expected = expected(partition, inputs);
        for (offset, output) in (0_u64..).zip(&expected.outputs) {
            all.insert((partition, offset));
            for (name, found) in [("spread", &spread), ("beside", &beside)] {
                match found.get(&(partition, offset)) {
                    None => return Err(format!("{name}: input {partition}:{offset} has no output")),
                    Some((value, ..)) if value != output => {
                        return Err(format!("{name}: input {partition}:{offset} led to {value}, not to {output}"));
                    }
                    Some(_) => {}
                }
            }
        }
        let committed = simulation.offset(group, &topics.input, partition);
        if committed.unwrap_or_default() < u64::try_from(inputs.len()).unwrap_or(u64::MAX) {
            return Err(format!("the offset of partition {partition} is {committed:?} at the end"));
        }
        let mut cells = BTreeMap::new();
        let mut counted = Vec::new();
        for record in simulation.committed(&topics.state).into_iter().filter(|record| record.partition == partition) {
            let key = record.key.unwrap_or_default().to_vec();
            let Some(value) = record.value.map(|value| value.to_vec()) else {
                cells.remove(&key);
                continue;
            };
            if let (COUNT, Ok(count)) = (key.as_slice(), <[u8; 8]>::try_from(value.as_slice())) {
                counted.push((u64::from_be_bytes(count), record.transaction));
            }
            cells.insert(key, value);
        }
        if cells != expected.cells {
            return Err(format!("the changelog of partition {partition} adds up to {cells:?}"));
        }
        let passed = |offset| simulation.passed_by(group, (&topics.input, partition), offset);
        // Offsets that are committed by themselves are found by what they do.
        let has_passed = !inputs.is_empty() && (0..).zip(inputs).any(|(offset, _)| passed(offset).is_some());
        for offset in (0_u64..).zip(inputs).map(|(offset, _)| offset) {
            let by = |found: &Found| found.get(&(partition, offset)).and_then(|(.., by)| *by);
            let output = by(&spread);
            let state = counted.iter().find(|(count, _)| *count > offset).and_then(|(_, by)| *by);
            if output.is_none() || output != by(&beside) || output != state || (has_passed && output != passed(offset))
            {
                return Err(format!("what follows from {partition}:{offset} is of two transactions"));
            }
        }
    }
    let of_nothing = spread.keys().chain(beside.keys()).find(|cause| !all.contains(cause));
    if let Some(cause) = of_nothing {
        return Err(format!("an output names {cause:?}, which is no input"));
    }
    if simulation.committed(&topics.dead).is_empty() { Ok(()) } else { Err("there are dead letters".to_owned()) }
}
