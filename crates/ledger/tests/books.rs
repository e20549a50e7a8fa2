//! What the ledger promises, on both databases, case for case.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::path::Path;

use billing::{Minor, Transfer};
use ledger::{
    AccountKey, Applied, Batch, Books, CommandKey, DatabaseUrl, Disposition, GENESIS, Input, Ledger, LedgerError,
    Needs, Offsets, Parked, PostError, Posting, RowDraft, Source, VolumeKey,
};
use sqlx::Connection;
use tempfile::TempDir;

const START: Offsets = Offsets { command: 0, redo: 0 };

fn offsets(command: u64, redo: u64) -> Offsets {
    Offsets { command, redo }
}

/// A database of the test's own.
struct Place {
    url: DatabaseUrl,
    _directory: TempDir,
}

fn sqlite() -> Place {
    let directory = TempDir::new().unwrap();
    Place { url: DatabaseUrl::sqlite(&directory.path().join("ledger.db")), _directory: directory }
}

async fn postgres() -> Place {
    let server = std::env::var("COUNTERSIGN_TEST_POSTGRES")
        .expect("COUNTERSIGN_TEST_POSTGRES is not set: run the tests by scripts/test, which starts PostgreSQL");
    let directory = TempDir::new().unwrap();
    let unique =
        format!("{:?}", std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos());
    let name = format!("ledger_{}_{unique}", std::process::id());
    let mut connection = sqlx::PgConnection::connect(&server).await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await.unwrap();
    let (base, _) = server.rsplit_once('/').unwrap();
    Place { url: DatabaseUrl::parse(&format!("{base}/{name}")).unwrap(), _directory: directory }
}

/// Runs each case on SQLite and on PostgreSQL.
macro_rules! on_both {
    ($($case:ident)*) => {
        mod on_sqlite {
            $(#[tokio::test]
            async fn $case() {
                super::$case(super::sqlite()).await;
            })*
        }
        mod on_postgres {
            $(#[tokio::test]
            async fn $case() {
                super::$case(super::postgres().await).await;
            })*
        }
    };
}

on_both! {
    a_batch_is_written_whole
    a_stale_batch_is_fenced_and_changes_nothing
    a_batch_that_cannot_be_decided_changes_nothing
    of_two_writers_at_one_offset_one_wins
    balances_are_summed_over_partitions
    a_full_account_overflows_and_stays
    a_known_key_is_seen_by_a_later_batch
    published_rows_are_trimmed_and_the_last_one_stays
    a_database_of_another_log_is_refused
    a_reopened_ledger_goes_on_where_it_was
    a_thousand_commands_go_into_one_transaction
    what_is_parked_is_kept_with_its_reason
    null_columns_of_a_row_come_back
}

fn transfer(debit: &str, credit: &str, units: i64) -> Transfer {
    Transfer {
        debit_account: debit.into(),
        credit_account: credit.into(),
        currency: "USD".into(),
        amount: Minor::new(units),
    }
}

fn volume() -> VolumeKey {
    VolumeKey { tenant: "acme".into(), currency: "USD".into(), month: "2026-11".into() }
}

fn key(name: &str) -> CommandKey {
    CommandKey { tenant: "acme".into(), idempotency_key: name.into() }
}

fn account(name: &str) -> AccountKey {
    AccountKey { account: name.into(), currency: "USD".into() }
}

fn posting(id: &str, units: i64) -> Posting {
    Posting {
        command_id: id.into(),
        exchange_id: Some(format!("ex_{id}")),
        at: 1_700_000_000_000,
        transfers: vec![transfer("acme:main", "acme:agent-7", units)],
        gross: Minor::new(units),
        volume: volume(),
    }
}

fn draft(offset: u64, value: &str) -> RowDraft {
    RowDraft {
        source: Source { input: Input::Command, offset },
        topic: "settlement.posted.v1".into(),
        target_partition: None,
        record_key: Some(b"acme".to_vec()),
        value: Some(value.as_bytes().to_vec()),
        headers: vec![("cause".into(), format!("0:{offset}:0").into_bytes())],
    }
}

fn needs(id: &str) -> Needs {
    Needs {
        commands: [key(id)].into(),
        accounts: [account("acme:main"), account("acme:agent-7")].into(),
        volumes: [volume()].into(),
    }
}

fn batch(partition: u32, expected: Offsets, next: Offsets, id: &str) -> Batch {
    Batch { partition, expected, next, needs: needs(id), published: 0 }
}

type Decided = Result<(), Box<dyn std::error::Error + Send + Sync>>;

fn pays(id: &str, units: i64, offset: u64) -> impl FnOnce(&mut Books) -> Decided + use<> {
    let id = id.to_owned();
    move |books| {
        books.remember(key(&id), [7; 32]);
        books.post(&posting(&id, units))?;
        books.publish(draft(offset, &id));
        Ok(())
    }
}

async fn open(place: &Place) -> Ledger {
    Ledger::open(place.url.clone()).await.unwrap()
}

async fn pay(ledger: &mut Ledger, partition: u32, at: u64, id: &str, units: i64) -> Applied {
    let batch = batch(partition, offsets(at, 0), offsets(at + 1, 0), id);
    ledger.apply(&batch, pays(id, units, at)).await.unwrap()
}

async fn net(ledger: &mut Ledger, name: &str) -> i128 {
    let balances = ledger.balances().await.unwrap();
    balances.iter().filter(|balance| balance.account == name).map(|balance| balance.credits - balance.debits).sum()
}

async fn a_batch_is_written_whole(place: Place) {
    let mut ledger = open(&place).await;
    ledger.progress(0, START).await.unwrap();
    let applied = pay(&mut ledger, 0, 0, "a", 12).await;
    assert_eq!(applied.rows, 1);
    assert_eq!(ledger.progress(0, START).await.unwrap(), applied.progress);
    assert_eq!(applied.progress.offsets, offsets(1, 0));
    assert_eq!(net(&mut ledger, "acme:main").await, -12);
    assert_eq!(net(&mut ledger, "acme:agent-7").await, 12);
    let rows = ledger.outbox_after(0, 0, 10).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].sequence, &rows[0].draft), (1, &draft(0, "a")));
    assert_eq!(rows[0].row_hash, ledger::row_hash(&GENESIS, 1, &draft(0, "a")));
    assert_eq!(rows[0].row_hash, applied.progress.head);
    let entries = ledger.entries_of_exchange("ex_a").await.unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!((entries[0].minor, entries[0].debit_account.as_str()), (12, "acme:main"));
}

async fn a_stale_batch_is_fenced_and_changes_nothing(place: Place) {
    let mut ledger = open(&place).await;
    ledger.progress(0, START).await.unwrap();
    let before = pay(&mut ledger, 0, 0, "a", 12).await.progress;
    for expected in [START, offsets(1, 1), offsets(2, 0)] {
        let stale = batch(0, expected, offsets(5, 5), "b");
        let error = ledger.apply(&stale, |_| panic!("decided behind the fence")).await.unwrap_err();
        assert!(matches!(error, LedgerError::Fenced { .. }), "{error:?}");
        assert_eq!(error.disposition(), Disposition::Reread);
    }
    assert_eq!(ledger.progress(0, START).await.unwrap(), before);
    let unknown_partition = batch(9, START, offsets(1, 0), "b");
    assert!(matches!(ledger.apply(&unknown_partition, |_| Ok(())).await, Err(LedgerError::Fenced { .. })));
}

async fn a_batch_that_cannot_be_decided_changes_nothing(place: Place) {
    let mut ledger = open(&place).await;
    let before = ledger.progress(0, START).await.unwrap();
    let undecided = batch(0, START, offsets(1, 0), "a");
    let error = ledger
        .apply(&undecided, |books| {
            pays("a", 12, 0)(books)?;
            Err("a defect".into())
        })
        .await
        .unwrap_err();
    assert!(matches!(error, LedgerError::Decide(_)));
    assert!(Ledger::is_fatal(&error));
    assert_eq!(ledger.progress(0, START).await.unwrap(), before);
    assert_eq!(ledger.balances().await.unwrap(), []);
}

async fn of_two_writers_at_one_offset_one_wins(place: Place) {
    let mut one = open(&place).await;
    let mut other = open(&place).await;
    one.progress(0, START).await.unwrap();
    let of_one = batch(0, START, offsets(1, 0), "a");
    let of_other = batch(0, START, offsets(1, 0), "a");
    let (first, second) = tokio::join!(one.apply(&of_one, pays("a", 12, 0)), other.apply(&of_other, pays("a", 12, 0)));
    assert_eq!(usize::from(first.is_ok()) + usize::from(second.is_ok()), 1);
    let lost = first.err().or(second.err()).unwrap();
    assert!(matches!(lost, LedgerError::Fenced { .. }), "{lost:?}");
    assert_eq!(net(&mut one, "acme:main").await, -12);
    assert_eq!(other.outbox_after(0, 0, 10).await.unwrap().len(), 1);
}

async fn balances_are_summed_over_partitions(place: Place) {
    let mut ledger = open(&place).await;
    for partition in 0..3 {
        ledger.progress(partition, START).await.unwrap();
        pay(&mut ledger, partition, 0, &format!("p{partition}"), 4).await;
    }
    assert_eq!(net(&mut ledger, "acme:main").await, -12);
    let total: i128 = ledger.balances().await.unwrap().iter().map(|one| one.credits - one.debits).sum();
    assert_eq!(total, 0);
}

async fn a_full_account_overflows_and_stays(place: Place) {
    let mut ledger = open(&place).await;
    ledger.progress(0, START).await.unwrap();
    pay(&mut ledger, 0, 0, "a", i64::MAX).await;
    let more = batch(0, offsets(1, 0), offsets(2, 0), "b");
    ledger
        .apply(&more, |books| {
            assert_eq!(books.post(&posting("b", 1)), Err(PostError::BalanceOverflow));
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!(net(&mut ledger, "acme:main").await, -i128::from(i64::MAX));
    // Another partition has rows of its own, and the sum passes 64 bits without harm.
    ledger.progress(1, START).await.unwrap();
    let elsewhere = Batch { needs: Needs { volumes: [].into(), ..needs("c") }, ..batch(1, START, offsets(1, 0), "c") };
    ledger
        .apply(&elsewhere, |books| {
            books.post(&Posting {
                volume: VolumeKey { month: "2026-12".into(), ..volume() },
                ..posting("c", i64::MAX)
            })?;
            books.publish(draft(0, "c"));
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!(net(&mut ledger, "acme:main").await, -2 * i128::from(i64::MAX));
}

async fn a_known_key_is_seen_by_a_later_batch(place: Place) {
    let mut ledger = open(&place).await;
    ledger.progress(0, START).await.unwrap();
    pay(&mut ledger, 0, 0, "a", 12).await;
    let again = batch(0, offsets(1, 0), offsets(2, 0), "a");
    let applied = ledger
        .apply(&again, |books| {
            assert_eq!(books.content_of(&key("a")), Some([7; 32]));
            assert_eq!(books.content_of(&key("b")), None);
            assert_eq!(books.volume(&volume()), Minor::new(12));
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!((applied.rows, applied.progress.next_sequence), (0, 2));
    assert_eq!(applied.progress, ledger.progress(0, START).await.unwrap());
}

async fn published_rows_are_trimmed_and_the_last_one_stays(place: Place) {
    let mut ledger = open(&place).await;
    ledger.progress(0, START).await.unwrap();
    for at in 0..3 {
        pay(&mut ledger, 0, at, &format!("k{at}"), 1).await;
    }
    let trimming = Batch { published: 3, ..batch(0, offsets(3, 0), offsets(3, 1), "x") };
    ledger.apply(&trimming, |_| Ok(())).await.unwrap();
    let left: Vec<u64> = ledger.outbox_after(0, 0, 10).await.unwrap().iter().map(|row| row.sequence).collect();
    assert_eq!(left, [3]);
    assert_eq!(ledger.outbox_hash(0, 2).await.unwrap(), None);
    assert_eq!(ledger.outbox_hash(0, 3).await.unwrap(), Some(ledger.progress(0, START).await.unwrap().head));
}

async fn a_database_of_another_log_is_refused(place: Place) {
    let mut ledger = open(&place).await;
    ledger.bind("log-1", 4).await.unwrap();
    ledger.bind("log-1", 4).await.unwrap();
    assert!(matches!(ledger.bind("log-2", 4).await, Err(LedgerError::Foreign { .. })));
    let error = open(&place).await.bind("log-1", 12).await.unwrap_err();
    assert!(Ledger::is_fatal(&error), "{error}");
}

async fn a_reopened_ledger_goes_on_where_it_was(place: Place) {
    let mut ledger = open(&place).await;
    assert_eq!(ledger.progress(0, offsets(0, 40)).await.unwrap().offsets, offsets(0, 40));
    let batch = batch(0, offsets(0, 40), offsets(1, 40), "a");
    let applied = ledger.apply(&batch, pays("a", 12, 0)).await.unwrap();
    drop(ledger);
    let mut ledger = open(&place).await;
    assert_eq!(ledger.progress(0, offsets(9, 99)).await.unwrap(), applied.progress);
}

async fn a_thousand_commands_go_into_one_transaction(place: Place) {
    let mut ledger = open(&place).await;
    ledger.progress(0, START).await.unwrap();
    let count = ledger::BATCH_COMMANDS_MAX;
    let names: Vec<String> = (0..count).map(|index| format!("k{index}")).collect();
    let needs = Needs {
        commands: names.iter().map(|name| key(name)).collect(),
        accounts: names.iter().map(|name| account(&format!("acme:{name}"))).chain([account("acme:main")]).collect(),
        volumes: [volume()].into(),
    };
    let whole = Batch { needs: needs.clone(), ..batch(0, START, offsets(count as u64, 0), "") };
    let decide = |books: &mut Books| -> Decided {
        for (offset, name) in (0..).zip(&names) {
            books.remember(key(name), [1; 32]);
            let transfers =
                vec![transfer("acme:main", &format!("acme:{name}"), 3), transfer("acme:main", "countersign:fees", 1)];
            books.post(&Posting { transfers, gross: Minor::new(4), ..posting(name, 0) })?;
            books.publish(draft(offset, name));
        }
        Ok(())
    };
    assert_eq!(ledger.apply(&whole, decide).await.unwrap().rows, count);
    assert_eq!(net(&mut ledger, "acme:main").await, -4 * count as i128);
    assert_eq!(net(&mut ledger, "countersign:fees").await, count as i128);
    assert_eq!(ledger.outbox_after(0, 0, 2_000).await.unwrap().len(), count);
    let again = Batch { needs, ..batch(0, offsets(count as u64, 0), offsets(2 * count as u64, 0), "") };
    ledger
        .apply(&again, |books| {
            assert!(names.iter().all(|name| books.content_of(&key(name)) == Some([1; 32])));
            assert!(names.iter().all(|name| books.sides(&account(&format!("acme:{name}"))).credits == Minor::new(3)));
            Ok(())
        })
        .await
        .unwrap();
}

async fn what_is_parked_is_kept_with_its_reason(place: Place) {
    let mut ledger = open(&place).await;
    ledger.progress(0, START).await.unwrap();
    let one = batch(0, START, offsets(1, 0), "a");
    let parked = Parked {
        command_id: "c".into(),
        tenant: "acme".into(),
        exchange_id: None,
        at: 5,
        reason: "no_tariff".into(),
        detail: "no schedule".into(),
    };
    ledger
        .apply(&one, |books| {
            books.park(parked.clone());
            books.publish(draft(0, "parked"));
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!(ledger.balances().await.unwrap(), []);
    assert_eq!(ledger.parked(0, 0, 10).await.unwrap(), [(1, parked)]);
}

async fn null_columns_of_a_row_come_back(place: Place) {
    let mut ledger = open(&place).await;
    ledger.progress(0, START).await.unwrap();
    let mut bare = draft(0, "x");
    bare.source = Source { input: Input::Redo, offset: 3 };
    bare.target_partition = Some(0);
    bare.record_key = None;
    bare.value = None;
    let one = batch(0, START, offsets(0, 4), "a");
    ledger
        .apply(&one, |books| {
            books.publish(bare.clone());
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!(ledger.outbox_after(0, 0, 1).await.unwrap()[0].draft, bare);
}

#[tokio::test]
async fn sqlite_syncs_every_commit() {
    let place = sqlite();
    let mut ledger = open(&place).await;
    assert_eq!(ledger.durability().await.unwrap(), "wal, synchronous 2");
}

#[tokio::test]
async fn a_locked_sqlite_file_may_be_tried_again() {
    let place = sqlite();
    let mut ledger = open(&place).await;
    ledger.progress(0, START).await.unwrap();
    let file: &Path = &place._directory.path().join("ledger.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
    let mut holder = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    let held = holder.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let one = batch(0, START, offsets(1, 0), "a");
    let error = ledger.apply(&one, pays("a", 12, 0)).await.unwrap_err();
    assert_eq!(error.disposition(), Disposition::Retry, "{error:?}");
    held.rollback().await.unwrap();
    ledger.apply(&one, pays("a", 12, 0)).await.unwrap();
}

#[tokio::test]
async fn a_lost_postgres_connection_may_be_tried_again() {
    let place = postgres().await;
    let mut ledger = open(&place).await;
    ledger.progress(0, START).await.unwrap();
    let one = batch(0, START, offsets(1, 0), "a");
    let server = std::env::var("COUNTERSIGN_TEST_POSTGRES").unwrap();
    let database = format!("{:?}", place.url).rsplit('/').next().unwrap().to_owned();
    let mut executioner = sqlx::PgConnection::connect(&server).await.unwrap();
    sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1")
        .bind(database)
        .execute(&mut executioner)
        .await
        .unwrap();
    let error = ledger.apply(&one, pays("a", 12, 0)).await.unwrap_err();
    assert_eq!(error.disposition(), Disposition::Retry, "{error:?}");
    ledger.apply(&one, pays("a", 12, 0)).await.unwrap();
    assert_eq!(net(&mut ledger, "acme:main").await, -12);
}
