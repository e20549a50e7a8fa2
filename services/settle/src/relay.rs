//! The relay: outbox rows and how far they are published, in one transaction of the log (R6).

use event::wire::{RelayPosition, Wire};
use ledger::{GENESIS, OutboxRow, RowHash};
use log::{Cause, Fault, Output, Session, Topic};

/// The cell, in the state of each ledger partition, that says how far its outbox is published.
const CELL: &[u8] = b"relay";

/// The last row that is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Relayed {
    pub(crate) sequence: u64,
    pub(crate) row_hash: RowHash,
}

/// Reads how far a partition is published.
pub(crate) fn relayed(session: &dyn Session, partition: u32) -> Result<Relayed, Fault> {
    let mut bytes = Vec::new();
    if !session.get(partition, CELL, &mut bytes)? {
        return Ok(Relayed { sequence: 0, row_hash: GENESIS });
    }
    let damaged =
        |why: String| Fault::Fatal(Cause::new("relay_position_damaged", format!("partition {partition}: {why}")));
    let position = RelayPosition::decode(&bytes).map_err(|error| damaged(error.to_string()))?;
    let sequence = u64::try_from(position.sequence).map_err(|error| damaged(error.to_string()))?;
    let row_hash = position.row_hash.try_into().map_err(|_| damaged("its hash is not 32 bytes".to_owned()))?;
    Ok(Relayed { sequence, row_hash })
}

/// Stages rows and the position after them. Answers that position.
pub(crate) fn stage_rows(
    session: &mut dyn Session,
    partition: u32,
    before: Relayed,
    rows: &[OutboxRow],
) -> Result<Relayed, Fault> {
    let mut at = before;
    for row in rows {
        if row.sequence != at.sequence + 1 {
            let detail = format!("partition {partition}: row {} follows row {}", row.sequence, at.sequence);
            return Err(Fault::Fatal(Cause::new("outbox_gap", detail)));
        }
        let headers: Vec<(&str, &[u8])> =
            row.draft.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        session.emit(&Output {
            topic: &Topic::new(&row.draft.topic),
            partition: row.draft.target_partition,
            key: row.draft.record_key.as_deref(),
            value: row.draft.value.as_deref(),
            headers: &headers,
        })?;
        at = Relayed { sequence: row.sequence, row_hash: row.row_hash };
    }
    if at != before {
        let sequence = i64::try_from(at.sequence)
            .map_err(|error| Fault::Fatal(Cause::new("outbox_sequence_overflow", error.to_string())))?;
        let position = RelayPosition { sequence, row_hash: at.row_hash.to_vec() };
        let value = position
            .encode()
            .map_err(|error| Fault::Fatal(Cause::new("relay_position_unencodable", error.to_string())))?;
        session.put(partition, CELL, Some(&value))?;
    }
    Ok(at)
}
