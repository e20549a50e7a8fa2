//! Writes: a batch's rows and its positions in one transaction (R5), and wiping all of it.

use log::{Position, Topic};

use crate::ViewError;
use crate::db::{Bind, Db};
use crate::rows::{Rows, signed};
use crate::tables::{self, Table};

/// One step of a partition: taken in from here to there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Advance {
    pub(crate) from: Option<Position>,
    pub(crate) to: Position,
}

/// The stored next offset of every partition.
pub(crate) async fn positions(db: &Db) -> Result<Vec<Position>, ViewError> {
    let rows = db.fetch("SELECT topic, at_partition, next_offset FROM tail ORDER BY topic, at_partition", &[]).await?;
    rows.iter()
        .map(|row| {
            Ok(Position {
                topic: Topic::new(&row.known_text(0)?),
                partition: u32::try_from(row.known_int(1)?).map_err(|_| ViewError::Damaged("tail"))?,
                offset: u64::try_from(row.known_int(2)?).map_err(|_| ViewError::Damaged("tail"))?,
            })
        })
        .collect()
}

/// Writes one batch.
///
/// # Errors
/// `Overtaken` where a stored position is not the one this batch started from: nothing was written.
pub(crate) async fn apply(db: &Db, rows: Rows, advances: &[Advance]) -> Result<(), ViewError> {
    let mut tx = db.begin().await?;
    // The fence comes first: a second follower waits for the row here and then finds it moved.
    for advance in advances {
        let to = &advance.to;
        let place: [Bind; 3] = [to.topic.as_str().into(), i64::from(to.partition).into(), signed(to.offset).into()];
        let moved = match &advance.from {
            Some(from) => {
                let [topic, partition, next] = place;
                tx.execute(
                    "UPDATE tail SET next_offset = $3 WHERE topic = $1 AND at_partition = $2 AND next_offset = $4",
                    &[topic, partition, next, signed(from.offset).into()],
                )
                .await?
            }
            None => {
                tx.execute(
                    "INSERT INTO tail (topic, at_partition, next_offset) VALUES ($1, $2, $3) \
                     ON CONFLICT (topic, at_partition) DO NOTHING",
                    &place,
                )
                .await?
            }
        };
        if moved != 1 {
            return Err(ViewError::Overtaken(to.clone()));
        }
    }
    for (table, rows) in rows.into_tables() {
        Table::upsert(table, &mut tx, &rows).await?;
    }
    tx.commit().await
}

/// Empties every table, positions included.
pub(crate) async fn wipe(db: &Db) -> Result<(), ViewError> {
    let mut tx = db.begin().await?;
    for table in tables::ALL {
        tx.execute(&format!("DELETE FROM {table}"), &[]).await?;
    }
    tx.commit().await
}
