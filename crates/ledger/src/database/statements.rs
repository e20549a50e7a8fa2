//! The statements, for the dialect that includes this file. A batch takes a fixed number of round trips, whatever its
//! size: rows go in many at a time.

use std::collections::BTreeMap;

use billing::Minor;
use sqlx::{Connection, QueryBuilder, Row};

use super::{BEGIN, DURABILITY, Db, Link};
use crate::books::{AccountKey, Books, CommandKey, Needs, Parked, Sides, VolumeKey};
use crate::database::{Applied, Balance, Batch, Entry, Offsets, Progress};
use crate::error::LedgerError;
use crate::outbox::{GENESIS, Input, OutboxRow, RowDraft, RowHash, Source, decode_headers, encode_headers};

/// Rows of one statement: with ten columns each, well under SQLite's 32,766 parameters.
const STATEMENT_ROWS_MAX: usize = 1_000;

type Outcome<T> = Result<T, LedgerError>;
type DbRow = <Db as sqlx::Database>::Row;

fn failed(operation: &'static str) -> impl FnOnce(sqlx::Error) -> LedgerError {
    move |source| LedgerError::Statement { operation, source }
}

fn column(name: &'static str, value: u64) -> Outcome<i64> {
    i64::try_from(value).map_err(|_| LedgerError::OutOfRange { column: name })
}

fn count(name: &'static str, row: &DbRow, index: usize) -> Outcome<u64> {
    let value: i64 = row.try_get(index).map_err(failed("read a column"))?;
    u64::try_from(value).map_err(|_| LedgerError::Damaged { column: name })
}

fn small(name: &'static str, row: &DbRow, index: usize) -> Outcome<u32> {
    u32::try_from(count(name, row, index)?).map_err(|_| LedgerError::Damaged { column: name })
}

fn text(row: &DbRow, index: usize) -> Outcome<String> {
    row.try_get(index).map_err(failed("read a column"))
}

fn hash(name: &'static str, row: &DbRow, index: usize) -> Outcome<[u8; 32]> {
    let bytes: Vec<u8> = row.try_get(index).map_err(failed("read a column"))?;
    bytes.try_into().map_err(|_| LedgerError::Damaged { column: name })
}

fn minor(row: &DbRow, index: usize) -> Outcome<Minor> {
    row.try_get(index).map(Minor::new).map_err(failed("read a column"))
}

pub(in crate::database) async fn bind(link: &mut Link, identity: &str, partitions: u32) -> Outcome<(String, u32)> {
    sqlx::query("INSERT INTO origin (one, log_identity, partitions) VALUES (1, $1, $2) ON CONFLICT (one) DO NOTHING")
        .bind(identity)
        .bind(i64::from(partitions))
        .execute(&mut *link)
        .await
        .map_err(failed("bind to the log"))?;
    let row = sqlx::query("SELECT log_identity, partitions FROM origin WHERE one = 1")
        .fetch_one(&mut *link)
        .await
        .map_err(failed("read the log it belongs to"))?;
    Ok((text(&row, 0)?, small("origin.partitions", &row, 1)?))
}

pub(in crate::database) async fn progress(link: &mut Link, partition: u32, start: Offsets) -> Outcome<Progress> {
    sqlx::query(
        "INSERT INTO progress (partition, command_next, redo_next, next_sequence, row_hash) \
         VALUES ($1, $2, $3, 1, $4) ON CONFLICT (partition) DO NOTHING",
    )
    .bind(i64::from(partition))
    .bind(column("progress.command_next", start.command)?)
    .bind(column("progress.redo_next", start.redo)?)
    .bind(GENESIS.as_slice())
    .execute(&mut *link)
    .await
    .map_err(failed("begin a partition"))?;
    let row = sqlx::query("SELECT command_next, redo_next, next_sequence, row_hash FROM progress WHERE partition = $1")
        .bind(i64::from(partition))
        .fetch_one(&mut *link)
        .await
        .map_err(failed("read the progress"))?;
    let offsets =
        Offsets { command: count("progress.command_next", &row, 0)?, redo: count("progress.redo_next", &row, 1)? };
    Ok(Progress {
        offsets,
        next_sequence: count("progress.next_sequence", &row, 2)?,
        head: hash("progress.row_hash", &row, 3)?,
    })
}

pub(in crate::database) async fn apply<F>(link: &mut Link, batch: &Batch, decide: F) -> Outcome<Applied>
where
    F: FnOnce(&mut Books) -> Result<(), Box<dyn std::error::Error + Send + Sync>>,
{
    let mut transaction = link.begin_with(BEGIN).await.map_err(failed("begin"))?;
    let Some(mut books) = fence(&mut transaction, batch).await? else {
        transaction.rollback().await.map_err(failed("roll back"))?;
        return Err(LedgerError::Fenced { partition: batch.partition, expected: batch.expected });
    };
    load(&mut transaction, &mut books, &batch.needs).await?;
    if let Err(source) = decide(&mut books) {
        transaction.rollback().await.map_err(failed("roll back"))?;
        return Err(LedgerError::Decide(source));
    }
    write(&mut transaction, &books, batch).await?;
    transaction.commit().await.map_err(LedgerError::Commit)?;
    let progress = Progress { offsets: batch.next, next_sequence: books.next_sequence(), head: books.head() };
    Ok(Applied { progress, rows: books.rows.len() })
}

/// The first statement of every batch (R5). `None`: somebody else has been here.
async fn fence(link: &mut Link, batch: &Batch) -> Outcome<Option<Books>> {
    let row = sqlx::query(
        "UPDATE progress SET command_next = $1, redo_next = $2 \
         WHERE partition = $3 AND command_next = $4 AND redo_next = $5 RETURNING next_sequence, row_hash",
    )
    .bind(column("progress.command_next", batch.next.command)?)
    .bind(column("progress.redo_next", batch.next.redo)?)
    .bind(i64::from(batch.partition))
    .bind(column("progress.command_next", batch.expected.command)?)
    .bind(column("progress.redo_next", batch.expected.redo)?)
    .fetch_optional(&mut *link)
    .await
    .map_err(failed("fence"))?;
    row.map(|row| {
        let next_sequence = count("progress.next_sequence", &row, 0)?;
        Ok(Books::new(batch.partition, next_sequence, hash("progress.row_hash", &row, 1)?))
    })
    .transpose()
}

async fn load(link: &mut Link, books: &mut Books, needs: &Needs) -> Outcome<()> {
    let commands: Vec<&CommandKey> = needs.commands.iter().collect();
    for some in commands.chunks(STATEMENT_ROWS_MAX) {
        let mut query = QueryBuilder::<Db>::new(
            "SELECT tenant, idempotency_key, content_hash FROM command WHERE (tenant, idempotency_key) IN (",
        );
        query.push_values(some, |mut tuple, key| {
            tuple.push_bind(key.tenant.as_str()).push_bind(key.idempotency_key.as_str());
        });
        query.push(")");
        let rows = query.build().persistent(false).fetch_all(&mut *link).await.map_err(failed("read commands"))?;
        for row in &rows {
            let key = CommandKey { tenant: text(row, 0)?, idempotency_key: text(row, 1)? };
            books.known.insert(key, hash("command.content_hash", row, 2)?);
        }
    }

    let accounts: Vec<&AccountKey> = needs.accounts.iter().collect();
    for some in accounts.chunks(STATEMENT_ROWS_MAX) {
        let mut query =
            QueryBuilder::<Db>::new("SELECT account, currency, debits, credits FROM balance WHERE partition = ");
        query.push_bind(i64::from(books.partition())).push(" AND (account, currency) IN (");
        query.push_values(some, |mut tuple, key| {
            tuple.push_bind(key.account.as_str()).push_bind(key.currency.as_str());
        });
        query.push(")");
        let rows = query.build().persistent(false).fetch_all(&mut *link).await.map_err(failed("read balances"))?;
        for row in &rows {
            let key = AccountKey { account: text(row, 0)?, currency: text(row, 1)? };
            books.balances.insert(key, Sides { debits: minor(row, 2)?, credits: minor(row, 3)? });
        }
    }

    let volumes: Vec<&VolumeKey> = needs.volumes.iter().collect();
    for some in volumes.chunks(STATEMENT_ROWS_MAX) {
        let mut query = QueryBuilder::<Db>::new(
            "SELECT tenant, currency, month, gross FROM volume WHERE (tenant, currency, month) IN (",
        );
        query.push_values(some, |mut tuple, key| {
            tuple.push_bind(key.tenant.as_str()).push_bind(key.currency.as_str()).push_bind(key.month.as_str());
        });
        query.push(")");
        let rows = query.build().persistent(false).fetch_all(&mut *link).await.map_err(failed("read volumes"))?;
        for row in &rows {
            let key = VolumeKey { tenant: text(row, 0)?, currency: text(row, 1)?, month: text(row, 2)? };
            books.volumes.insert(key, minor(row, 3)?);
        }
    }
    Ok(())
}

/// Everything that was decided, and at last the end of the outbox.
async fn write(link: &mut Link, books: &Books, batch: &Batch) -> Outcome<()> {
    write_commands(link, books).await?;
    write_entries(link, books).await?;
    write_balances(link, books).await?;
    write_volumes(link, books).await?;
    write_parked(link, books).await?;
    write_outbox(link, books).await?;
    if batch.published > 0 {
        sqlx::query("DELETE FROM outbox WHERE partition = $1 AND sequence < $2")
            .bind(i64::from(batch.partition))
            .bind(column("outbox.sequence", batch.published)?)
            .execute(&mut *link)
            .await
            .map_err(failed("trim the outbox"))?;
    }
    if !books.rows.is_empty() {
        sqlx::query("UPDATE progress SET next_sequence = $1, row_hash = $2 WHERE partition = $3")
            .bind(column("progress.next_sequence", books.next_sequence())?)
            .bind(books.head().as_slice())
            .bind(i64::from(batch.partition))
            .execute(&mut *link)
            .await
            .map_err(failed("move the end of the outbox"))?;
    }
    Ok(())
}

async fn run(link: &mut Link, mut query: QueryBuilder<Db>, operation: &'static str) -> Outcome<()> {
    query.build().persistent(false).execute(&mut *link).await.map_err(failed(operation))?;
    Ok(())
}

async fn write_commands(link: &mut Link, books: &Books) -> Outcome<()> {
    for some in books.decided.chunks(STATEMENT_ROWS_MAX) {
        let mut query = QueryBuilder::<Db>::new("INSERT INTO command (tenant, idempotency_key, content_hash) ");
        query.push_values(some, |mut tuple, (key, content)| {
            tuple.push_bind(key.tenant.as_str()).push_bind(key.idempotency_key.as_str()).push_bind(content.as_slice());
        });
        run(link, query, "write commands").await?;
    }
    Ok(())
}

async fn write_entries(link: &mut Link, books: &Books) -> Outcome<()> {
    for some in books.entries.chunks(STATEMENT_ROWS_MAX) {
        let sequences: Vec<i64> =
            some.iter().map(|entry| column("entry.sequence", entry.sequence)).collect::<Outcome<_>>()?;
        let mut query = QueryBuilder::<Db>::new(
            "INSERT INTO entry (partition, sequence, part, exchange_id, command_id, debit_account, credit_account, \
             currency, minor, at) ",
        );
        query.push_values(some.iter().zip(sequences), |mut tuple, (entry, sequence)| {
            tuple
                .push_bind(i64::from(books.partition()))
                .push_bind(sequence)
                .push_bind(i64::from(entry.part))
                .push_bind(entry.exchange_id.as_deref())
                .push_bind(entry.command_id.as_str())
                .push_bind(entry.transfer.debit_account.as_str())
                .push_bind(entry.transfer.credit_account.as_str())
                .push_bind(entry.transfer.currency.as_str())
                .push_bind(entry.transfer.amount.units())
                .push_bind(entry.at);
        });
        run(link, query, "write entries").await?;
    }
    Ok(())
}

async fn write_balances(link: &mut Link, books: &Books) -> Outcome<()> {
    let touched: Vec<&AccountKey> = books.touched_accounts.iter().collect();
    for some in touched.chunks(STATEMENT_ROWS_MAX) {
        let mut query = QueryBuilder::<Db>::new("INSERT INTO balance (account, currency, partition, debits, credits) ");
        query.push_values(some, |mut tuple, key| {
            let sides = books.sides(key);
            tuple
                .push_bind(key.account.as_str())
                .push_bind(key.currency.as_str())
                .push_bind(i64::from(books.partition()))
                .push_bind(sides.debits.units())
                .push_bind(sides.credits.units());
        });
        query.push(
            " ON CONFLICT (account, currency, partition) \
             DO UPDATE SET debits = excluded.debits, credits = excluded.credits",
        );
        run(link, query, "write balances").await?;
    }
    Ok(())
}

async fn write_volumes(link: &mut Link, books: &Books) -> Outcome<()> {
    let touched: Vec<&VolumeKey> = books.touched_volumes.iter().collect();
    for some in touched.chunks(STATEMENT_ROWS_MAX) {
        let mut query = QueryBuilder::<Db>::new("INSERT INTO volume (tenant, currency, month, gross) ");
        query.push_values(some, |mut tuple, key| {
            tuple
                .push_bind(key.tenant.as_str())
                .push_bind(key.currency.as_str())
                .push_bind(key.month.as_str())
                .push_bind(books.volume(key).units());
        });
        query.push(" ON CONFLICT (tenant, currency, month) DO UPDATE SET gross = excluded.gross");
        run(link, query, "write volumes").await?;
    }
    Ok(())
}

async fn write_parked(link: &mut Link, books: &Books) -> Outcome<()> {
    for some in books.parked.chunks(STATEMENT_ROWS_MAX) {
        let sequences: Vec<i64> =
            some.iter().map(|(sequence, _)| column("parked.sequence", *sequence)).collect::<Outcome<_>>()?;
        let mut query = QueryBuilder::<Db>::new(
            "INSERT INTO parked (partition, sequence, tenant, command_id, exchange_id, reason, detail, at) ",
        );
        query.push_values(some.iter().zip(sequences), |mut tuple, ((_, parked), sequence)| {
            tuple
                .push_bind(i64::from(books.partition()))
                .push_bind(sequence)
                .push_bind(parked.tenant.as_str())
                .push_bind(parked.command_id.as_str())
                .push_bind(parked.exchange_id.as_deref())
                .push_bind(parked.reason.as_str())
                .push_bind(parked.detail.as_str())
                .push_bind(parked.at);
        });
        run(link, query, "write what is parked").await?;
    }
    Ok(())
}

async fn write_outbox(link: &mut Link, books: &Books) -> Outcome<()> {
    for some in books.rows.chunks(STATEMENT_ROWS_MAX) {
        let mut columns = Vec::with_capacity(some.len());
        for row in some {
            let headers =
                encode_headers(&row.draft.headers).ok_or(LedgerError::OutOfRange { column: "outbox.headers" })?;
            let sequence = column("outbox.sequence", row.sequence)?;
            columns.push((row, sequence, column("outbox.source_offset", row.draft.source.offset)?, headers));
        }
        let mut query = QueryBuilder::<Db>::new(
            "INSERT INTO outbox (partition, sequence, source_input, source_offset, topic, target_partition, \
             record_key, value, headers, row_hash) ",
        );
        query.push_values(columns, |mut tuple, (row, sequence, source_offset, headers)| {
            tuple
                .push_bind(i64::from(books.partition()))
                .push_bind(sequence)
                .push_bind(row.draft.source.input.to_column())
                .push_bind(source_offset)
                .push_bind(row.draft.topic.as_str())
                .push_bind(row.draft.target_partition.map(i64::from))
                .push_bind(row.draft.record_key.as_deref())
                .push_bind(row.draft.value.as_deref())
                .push_bind(headers)
                .push_bind(row.row_hash.as_slice());
        });
        run(link, query, "write the outbox").await?;
    }
    Ok(())
}

pub(in crate::database) async fn outbox_after(
    link: &mut Link,
    partition: u32,
    sequence: u64,
    limit: u32,
) -> Outcome<Vec<OutboxRow>> {
    let rows = sqlx::query(
        "SELECT sequence, source_input, source_offset, topic, target_partition, record_key, value, headers, row_hash \
         FROM outbox WHERE partition = $1 AND sequence > $2 ORDER BY sequence LIMIT $3",
    )
    .bind(i64::from(partition))
    .bind(column("outbox.sequence", sequence)?)
    .bind(i64::from(limit))
    .fetch_all(&mut *link)
    .await
    .map_err(failed("read the outbox"))?;
    rows.iter().map(outbox_row).collect()
}

fn outbox_row(row: &DbRow) -> Outcome<OutboxRow> {
    let input: i64 = row.try_get(1).map_err(failed("read a column"))?;
    let target: Option<i64> = row.try_get(4).map_err(failed("read a column"))?;
    let headers: Vec<u8> = row.try_get(7).map_err(failed("read a column"))?;
    let draft = RowDraft {
        source: Source {
            input: Input::from_column(input).ok_or(LedgerError::Damaged { column: "outbox.source_input" })?,
            offset: count("outbox.source_offset", row, 2)?,
        },
        topic: text(row, 3)?,
        target_partition: target
            .map(|target| u32::try_from(target).map_err(|_| LedgerError::Damaged { column: "outbox.target_partition" }))
            .transpose()?,
        record_key: row.try_get(5).map_err(failed("read a column"))?,
        value: row.try_get(6).map_err(failed("read a column"))?,
        headers: decode_headers(&headers).ok_or(LedgerError::Damaged { column: "outbox.headers" })?,
    };
    Ok(OutboxRow { sequence: count("outbox.sequence", row, 0)?, draft, row_hash: hash("outbox.row_hash", row, 8)? })
}

pub(in crate::database) async fn outbox_hash(
    link: &mut Link,
    partition: u32,
    sequence: u64,
) -> Outcome<Option<RowHash>> {
    let row = sqlx::query("SELECT row_hash FROM outbox WHERE partition = $1 AND sequence = $2")
        .bind(i64::from(partition))
        .bind(column("outbox.sequence", sequence)?)
        .fetch_optional(&mut *link)
        .await
        .map_err(failed("read the outbox"))?;
    row.map(|row| hash("outbox.row_hash", &row, 0)).transpose()
}

pub(in crate::database) async fn parked(
    link: &mut Link,
    partition: u32,
    sequence: u64,
    limit: u32,
) -> Outcome<Vec<(u64, Parked)>> {
    let rows = sqlx::query(
        "SELECT sequence, tenant, command_id, exchange_id, reason, detail, at FROM parked \
         WHERE partition = $1 AND sequence > $2 ORDER BY sequence LIMIT $3",
    )
    .bind(i64::from(partition))
    .bind(column("parked.sequence", sequence)?)
    .bind(i64::from(limit))
    .fetch_all(&mut *link)
    .await
    .map_err(failed("read what is parked"))?;
    rows.iter()
        .map(|row| {
            let parked = Parked {
                tenant: text(row, 1)?,
                command_id: text(row, 2)?,
                exchange_id: row.try_get(3).map_err(failed("read a column"))?,
                reason: text(row, 4)?,
                detail: text(row, 5)?,
                at: row.try_get(6).map_err(failed("read a column"))?,
            };
            Ok((count("parked.sequence", row, 0)?, parked))
        })
        .collect()
}

pub(in crate::database) async fn durability(link: &mut Link) -> Outcome<String> {
    let row =
        sqlx::query(DURABILITY).fetch_one(&mut *link).await.map_err(failed("read how commits are made durable"))?;
    text(&row, 0)
}

pub(in crate::database) async fn balances(link: &mut Link) -> Outcome<Vec<Balance>> {
    let rows = sqlx::query("SELECT account, currency, debits, credits FROM balance")
        .fetch_all(&mut *link)
        .await
        .map_err(failed("read balances"))?;
    // Summed here and not in SQL: the sum over partitions may pass 64 bits, which SQLite refuses.
    let mut sums: BTreeMap<(String, String), (i128, i128)> = BTreeMap::new();
    for row in &rows {
        let (debits, credits) = sums.entry((text(row, 0)?, text(row, 1)?)).or_default();
        *debits += i128::from(minor(row, 2)?.units());
        *credits += i128::from(minor(row, 3)?.units());
    }
    Ok(sums
        .into_iter()
        .map(|((account, currency), (debits, credits))| Balance { account, currency, debits, credits })
        .collect())
}

pub(in crate::database) async fn entries_of_exchange(link: &mut Link, exchange_id: &str) -> Outcome<Vec<Entry>> {
    let rows = sqlx::query(
        "SELECT partition, sequence, part, exchange_id, command_id, debit_account, credit_account, currency, minor, at \
         FROM entry WHERE exchange_id = $1 ORDER BY partition, sequence, part",
    )
    .bind(exchange_id)
    .fetch_all(&mut *link)
    .await
    .map_err(failed("read entries"))?;
    rows.iter()
        .map(|row| {
            Ok(Entry {
                partition: small("entry.partition", row, 0)?,
                sequence: count("entry.sequence", row, 1)?,
                part: small("entry.part", row, 2)?,
                exchange_id: row.try_get(3).map_err(failed("read a column"))?,
                command_id: text(row, 4)?,
                debit_account: text(row, 5)?,
                credit_account: text(row, 6)?,
                currency: text(row, 7)?,
                minor: minor(row, 8)?.units(),
                at: row.try_get(9).map_err(failed("read a column"))?,
            })
        })
        .collect()
}
