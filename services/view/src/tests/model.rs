//! From topics to tables: order, repetition, restart, rebuild; on both databases.

use std::time::Duration;

use log::{Position, Record, Topic};
use stage::Stop;

use super::world::{World, open_log, postgres, sqlite, write};
use super::{caught_up, ends, followed};
use crate::db::Db;
use crate::rows::Rows;
use crate::store::{self, Advance};
use crate::{Database, View, ViewError, rebuild, tables};

/// Every row of every table, as text, in an order of its own.
async fn dump(db: &Db) -> Vec<String> {
    let tables = [
        &tables::EXCHANGE,
        &tables::RECEIPT,
        &tables::DELIVERY,
        &tables::USAGE_TOTAL,
        &tables::COMMAND,
        &tables::OWED,
        &tables::ENTRY,
        &tables::HOP,
        &tables::PUBLIC_KEY,
    ];
    let mut lines = Vec::new();
    for table in tables {
        let columns: Vec<String> = table.columns.iter().map(|column| format!("CAST({column} AS TEXT)")).collect();
        for row in db.fetch(&format!("SELECT {} FROM {}", columns.join(", "), table.name), &[]).await.unwrap() {
            let cells: Vec<String> =
                (0..columns.len()).map(|column| row.text(column).unwrap().unwrap_or("NULL".into())).collect();
            lines.push(format!("{}: {}", table.name, cells.join(" | ")));
        }
    }
    lines.sort();
    lines
}

async fn take_in(db: &Db, records: &[Record]) {
    let mut rows = Rows::default();
    for record in records {
        rows.add(record).unwrap();
    }
    store::apply(db, rows, &[]).await.unwrap();
}

/// The order between topics, the size of the batches and reading twice change nothing.
async fn arrival_in_any_order_gives_the_same_rows(database: Database, seeds: u64) {
    let world = World::full();
    let db = Db::writer(&database).await.unwrap();
    take_in(&db, &world.records).await;
    let expected = dump(&db).await;
    assert!(expected.len() > 100, "{}", expected.len());
    for seed in 0..seeds {
        store::wipe(&db).await.unwrap();
        let records = world.shuffled(seed);
        let batch = [1, 3, 7, 40][usize::try_from(seed % 4).unwrap()];
        for batch in records.chunks(batch) {
            take_in(&db, batch).await;
        }
        assert_eq!(dump(&db).await, expected, "seed {seed}");
        take_in(&db, &world.shuffled(seed + 100)).await;
        assert_eq!(dump(&db).await, expected, "seed {seed}, read twice");
    }
    db.close().await;
}

#[tokio::test]
async fn arrival_in_any_order_gives_the_same_rows_in_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    arrival_in_any_order_gives_the_same_rows(sqlite(dir.path()), 24).await;
}

#[tokio::test]
async fn arrival_in_any_order_gives_the_same_rows_in_postgresql() {
    arrival_in_any_order_gives_the_same_rows(postgres(), 8).await;
}

async fn a_follower_that_was_overtaken_writes_nothing(database: Database) {
    let db = Db::writer(&database).await.unwrap();
    let at = |offset| Position { topic: Topic::new("exchange.sealed.v1"), partition: 1, offset };
    let advance = |from: Option<u64>, to| Advance { from: from.map(at), to: at(to) };
    let rows = || {
        let mut rows = Rows::default();
        rows.add(&World::full().records[0]).unwrap();
        rows
    };
    store::apply(&db, Rows::default(), &[advance(None, 5)]).await.unwrap();
    for stale in [advance(None, 7), advance(Some(4), 7)] {
        let refused = store::apply(&db, rows(), &[stale]).await;
        assert!(matches!(refused, Err(ViewError::Overtaken(_))), "{refused:?}");
        assert_eq!(dump(&db).await, Vec::<String>::new());
    }
    store::apply(&db, rows(), &[advance(Some(5), 7)]).await.unwrap();
    assert_eq!(store::positions(&db).await.unwrap(), [at(7)]);
    assert_eq!(dump(&db).await.len(), 1);
    db.close().await;
}

#[tokio::test]
async fn a_follower_that_was_overtaken_writes_nothing_to_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    a_follower_that_was_overtaken_writes_nothing(sqlite(dir.path())).await;
}

#[tokio::test]
async fn a_follower_that_was_overtaken_writes_nothing_to_postgresql() {
    a_follower_that_was_overtaken_writes_nothing(postgres()).await;
}

#[tokio::test]
async fn a_disk_that_was_full_is_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::writer(&sqlite(dir.path())).await.unwrap();
    let insert = "INSERT INTO public_key (kid, used_for, jwk) VALUES ('k', 'receipt', '{}')";
    // Where it finds no room, SQLite ends the transaction itself; a trigger can make it do so.
    let full = "CREATE TRIGGER full BEFORE INSERT ON public_key BEGIN SELECT RAISE(ROLLBACK, 'full'); END";
    for statement in [full, insert] {
        let mut tx = db.begin().await.unwrap();
        let done = tx.execute(statement, &[]).await;
        assert_eq!(done.is_err(), statement == insert);
        if done.is_ok() {
            tx.commit().await.unwrap();
        }
    }
    for statement in ["DROP TRIGGER full", insert] {
        let mut tx = db.begin().await.expect("there is room again");
        tx.execute(statement, &[]).await.unwrap();
        tx.commit().await.unwrap();
    }
    assert_eq!(db.fetch("SELECT kid FROM public_key", &[]).await.unwrap().len(), 1);
}

async fn a_restart_goes_on_and_a_rebuild_ends_equal(database: Database) {
    let dir = tempfile::tempdir().unwrap();
    let log = open_log(&dir.path().join("log"));
    let world = World::full();
    let (first, second) = world.records.split_at(world.records.len() / 2);
    write(&log, first);
    let view = View::open(database.clone()).await.unwrap();
    assert!(!view.lag().known);
    followed(&log, &view, async || caught_up(&log, &view).await).await;
    let half_way = view.positions();
    view.close().await;

    write(&log, second);
    let view = View::open(database.clone()).await.unwrap();
    let moved: Vec<Position> = half_way.into_iter().filter(|at| at.offset > 0).collect();
    assert_eq!(view.positions(), moved, "the stored positions are the ones it had come to");
    followed(&log, &view, async || caught_up(&log, &view).await).await;
    let followed_rows = dump(&view.reader).await;
    assert!(followed_rows.iter().any(|line| line.starts_with("entry: ")));

    let rebuilt = {
        let (log, view) = (log.clone(), view.clone());
        tokio::task::spawn_blocking(move || rebuild(&log, &view, &Stop::new())).await.unwrap()
    };
    rebuilt.unwrap();
    assert_eq!(dump(&view.reader).await, followed_rows);
    assert!(view.progress.reach(&ends(&log), Duration::ZERO).await);
    view.close().await;
}

#[tokio::test]
async fn a_restart_goes_on_and_a_rebuild_ends_equal_in_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    a_restart_goes_on_and_a_rebuild_ends_equal(sqlite(dir.path())).await;
}

#[tokio::test]
async fn a_restart_goes_on_and_a_rebuild_ends_equal_in_postgresql() {
    a_restart_goes_on_and_a_rebuild_ends_equal(postgres()).await;
}
