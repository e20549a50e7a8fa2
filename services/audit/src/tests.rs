//! The books over hand-made topics: correct ones close, whatever the order; each planted fault is named.

mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use log::{Log, Position, Record, Topic};
use stage::Stop;

use crate::books::Books;
use crate::cut::Boundary;
use crate::report::Report;
use crate::store::Store;
use crate::{CloseOptions, Gap, GapKind, Options, close, report, run, topics};
use world::{EXCHANGES, Fault, PARTITIONS, World, open_log, pass_every_step};

fn empty_books() -> Books {
    let mut from = Vec::new();
    let mut partitions = BTreeMap::new();
    for topic in topics() {
        partitions.insert(topic.clone(), PARTITIONS);
        from.extend((0..PARTITIONS).map(|partition| Position { topic: topic.clone(), partition, offset: 0 }));
    }
    Books::begin(&from, partitions)
}

fn keep(books: &mut Books, records: &[Record]) {
    for record in records {
        books.apply(record).unwrap();
    }
}

fn report_of(records: &[Record]) -> Report {
    let mut books = empty_books();
    keep(&mut books, records);
    Report::of(&books, &Boundary::everything_read(&books))
}

fn gaps_with(fault: Fault) -> (World, Vec<Gap>) {
    let world = World::with(fault);
    let report = report_of(&world.topics.records);
    assert!(!report.closed, "{fault:?}\n{report}");
    for seed in 0..20 {
        assert_eq!(report_of(&world.shuffled(seed)), report, "seed {seed}");
    }
    (world, report.gaps)
}

#[test]
fn correct_topics_close_and_every_equation_holds() {
    let report = report_of(&World::with(Fault::None).topics.records);
    assert!(report.closed, "{report}");
    assert!(report.equations.iter().all(|equation| equation.holds && equation.in_flight == 0));
    let totals = report.totals;
    let exchanges = i64::try_from(EXCHANGES).unwrap();
    assert_eq!(totals.requested, exchanges + 7);
    assert_eq!((totals.moved, totals.replayed, totals.rejected, totals.dead), (1, 1, 2, 1));
    assert_eq!((totals.admitted, totals.sealed), (exchanges + 2, exchanges));
    assert_eq!((totals.refused, totals.dead_in_sign), (1, 1));
    assert_eq!((totals.owed, totals.posted, totals.parked), (5, 4, 1));
    assert_eq!((totals.deliveries_owed, totals.deliveries_recorded), (8, 8));
    assert!(report.rows.len() > 2, "two hours of acme and one of nobody's");
    assert_eq!(report.balances.len(), 1);
    assert_eq!((report.balances[0].sum.as_str(), report.balances[0].credit.as_str()), ("0", "4000"));
}

#[test]
fn records_count_under_nobody_while_nobody_proved_them() {
    let report = report_of(&World::with(Fault::None).topics.records);
    let nobody: Vec<_> = report.rows.iter().filter(|row| row.tenant == "-").collect();
    assert_eq!(nobody.len(), 1);
    assert_eq!((nobody[0].counts.requested, nobody[0].counts.dead), (1, 1));
}

#[test]
fn the_order_between_topics_and_a_second_reading_change_nothing() {
    let world = World::with(Fault::None);
    let report = report_of(&world.topics.records);
    for seed in 0..200 {
        let mut records = world.shuffled(seed);
        assert_eq!(report_of(&records), report, "seed {seed}");
        records.extend(world.shuffled(seed + 1));
        assert_eq!(report_of(&records), report, "seed {seed}, read twice");
    }
}

#[test]
fn what_is_beyond_the_cut_is_on_its_way_and_not_missing() {
    let world = World::with(Fault::None);
    for cut in 0..world.topics.records.len() {
        let mut books = empty_books();
        keep(&mut books, &world.topics.records[..cut]);
        let report = Report::of(&books, &Boundary::default());
        assert!(report.equations.iter().all(|equation| equation.holds), "after {cut} records\n{report}");
        let missing = report.gaps.iter().filter(|gap| gap.kind == GapKind::Missing).count();
        assert_eq!(missing, 0, "after {cut} records");
    }
}

#[test]
fn a_missing_usage_record_is_named_by_its_sealed_record() {
    let (world, gaps) = gaps_with(Fault::UsageMissing(7));
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!((gaps[0].kind, &gaps[0].at), (GapKind::Missing, &world.sealed[&7]));
    assert_eq!(gaps[0].to_string(), format!("missing: {} lacks usage.recorded.v1", world.sealed[&7]));
}

#[test]
fn usage_that_the_receipt_does_not_say_is_named() {
    let (_, gaps) = gaps_with(Fault::UsageWrong(7));
    assert_eq!(gaps.iter().map(|gap| gap.kind).collect::<Vec<_>>(), [GapKind::UsageDiffers]);
}

#[test]
fn usage_recorded_twice_is_a_repeat_and_the_total_shows_it() {
    let (_, gaps) = gaps_with(Fault::UsageTwice(7));
    assert!(gaps.iter().any(|gap| gap.kind == GapKind::Repeat), "{gaps:?}");
}

#[test]
fn a_posting_made_twice_is_named() {
    let (world, gaps) = gaps_with(Fault::PostingTwice(4));
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!((gaps[0].kind, &gaps[0].at), (GapKind::Repeat, &world.postings[&4][1]));
    assert!(gaps[0].detail.contains(&world.commands[&4].to_string()));
}

#[test]
fn a_posting_that_is_not_what_was_owed_is_named() {
    let (world, gaps) = gaps_with(Fault::PostingUnbalanced(4));
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!((gaps[0].kind, &gaps[0].at), (GapKind::Unbalanced, &world.postings[&4][0]));
}

#[test]
fn a_missing_delivery_is_named() {
    let (world, gaps) = gaps_with(Fault::DeliveryMissing(9));
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!((gaps[0].kind, &gaps[0].at), (GapKind::Missing, &world.sealed[&9]));
}

#[test]
fn a_missing_seal_is_named_by_its_admission() {
    let (_, gaps) = gaps_with(Fault::SealMissing(7));
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!((gaps[0].kind, gaps[0].at.topic.as_str()), (GapKind::Missing, "exchange.admitted.v1"));
}

#[test]
fn a_total_that_is_not_the_sum_is_named() {
    let (_, gaps) = gaps_with(Fault::TotalWrong);
    assert!(gaps.iter().all(|gap| gap.kind == GapKind::TotalDiffers), "{gaps:?}");
    assert_eq!(gaps.len(), 2);
}

#[test]
fn a_dead_letter_of_meter_keeps_the_books_open_until_it_is_redone() {
    let (mut world, gaps) = gaps_with(Fault::DeadInMeter(7));
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!((gaps[0].kind, &gaps[0].at), (GapKind::Dead, &world.sealed[&7]));

    // The redo carries what the dead letter held; meter records the usage with the redo as its cause.
    let letter = world.letters.iter().find(|letter| letter.topic.as_str() == "meter.dead.v1").unwrap().to_string();
    let sealed = world.find(&world.sealed[&7]);
    let value = sealed.value.unwrap().to_vec();
    let redo = world.put("meter.redo.v1", "acme:x", sealed.time_ms, value.clone(), &[("redo-of", &letter)]);
    let seal = <event::wire::ExchangeSealed as event::wire::Wire>::decode(&value).unwrap();
    let usage = event::wire::UsageRecorded {
        exchange_id: seal.exchange_id,
        tenant: seal.tenant,
        trace_id: seal.trace_id,
        admitted_at: seal.admitted_at,
        month: "2026-12".into(),
        vex: seal.vex,
        fu: seal.fu,
    };
    let cause = format!("{}:{}:0", redo.partition, redo.offset);
    let headers = [("cause", cause.as_str()), ("cause-topic", "meter.redo.v1")];
    let value = event::wire::Wire::encode(&usage).unwrap();
    world.put("usage.recorded.v1", "acme", seal.admitted_at, value, &headers);
    for seed in 0..50 {
        let report = report_of(&world.shuffled(seed));
        assert!(report.closed, "seed {seed}\n{report}");
    }
}

#[test]
fn what_was_redone_twice_counts_once() {
    let mut world = World::with(Fault::None);
    let before = report_of(&world.topics.records);
    let admission = world.topics.records.iter().find(|record| record.topic.as_str() == "exchange.admitted.v1");
    let admission = crate::Place::of(admission.unwrap());
    let usage = world.topics.records.iter().find(|record| record.topic.as_str() == "usage.recorded.v1");
    let usage = crate::Place::of(usage.unwrap());
    // Priced and delivered, and neither.
    let (owing, plain) = (world.sealed[&0].clone(), world.sealed[&7].clone());
    let command = world.commands[&4].clone();
    world.redone_again("sign", &admission);
    world.redone_again("meter.tally", &usage);
    world.redone_again("settle", &command);
    for sealed in [&owing, &plain] {
        world.redone_again("meter", sealed);
    }
    world.redone_again("forward", &owing);
    for seed in 0..50 {
        let after = report_of(&world.shuffled(seed));
        assert!(after.closed, "seed {seed}\n{after}");
        assert_eq!(after.totals, before.totals, "seed {seed}");
    }
}

#[test]
fn a_step_that_has_read_its_input_once_cannot_have_decided_it_before() {
    let mut world = World::with(Fault::UsageMissing(7));
    let sealed = world.sealed[&7].clone();
    world.says_already("meter", &sealed);
    let report = report_of(&world.topics.records);
    assert!(!report.closed);
    assert_eq!(report.gaps.iter().map(|gap| gap.kind).collect::<Vec<_>>(), [GapKind::Dead]);
}

#[test]
fn a_cause_that_others_make_up_moves_nothing() {
    let mut world = World::with(Fault::None);
    let before = report_of(&world.topics.records);
    // A producer of the tenant's own says that its request was moved from another one, which lies where it belongs.
    let source = world.put(
        "exchange.requested.v1",
        "acme:own",
        0,
        world::requested("own").clone_encoded(),
        &[("cause", "0:0:0")],
    );
    let refusal = event::wire::ExchangeRejected {
        exchange_id: "ex_own".into(),
        tenant: "acme".into(),
        idempotency_key: "own".into(),
        trace_id: "t".into(),
        decided_by: "canonicalise".into(),
        at: 1_793_525_400_000,
        status: 422,
        code: "c".into(),
        detail: "d".into(),
        errors: "[]".into(),
        overwrites: true,
    };
    let cause = format!("{}:{}:0", source.partition, source.offset);
    let value = event::wire::Wire::encode(&refusal).unwrap();
    world.put("exchange.rejected.v1", "acme:own", 0, value, &[("cause", &cause)]);
    for seed in 0..50 {
        let after = report_of(&world.shuffled(seed));
        assert!(after.closed, "seed {seed}\n{after}");
        assert_eq!(after.totals.moved, before.totals.moved);
        assert_eq!(after.totals.requested, before.totals.requested + 1);
    }
}

trait Encoded {
    fn clone_encoded(&self) -> Vec<u8>;
}

impl Encoded for event::wire::ExchangeRequested {
    fn clone_encoded(&self) -> Vec<u8> {
        event::wire::Wire::encode(self).unwrap()
    }
}

#[test]
fn books_resumed_from_a_snapshot_are_the_books_read_in_one_go() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let world = World::with(Fault::UsageMissing(3));
    let whole = report_of(&world.topics.records);
    for seed in 0..8 {
        let records = world.shuffled(seed);
        for cut in [0, 1, records.len() / 3, records.len() / 2, records.len()] {
            let file = dir.path().join(format!("{seed}-{cut}.db"));
            runtime.block_on(async {
                let store = Store::open(&file, "log-1").await.unwrap();
                let mut books = empty_books();
                keep(&mut books, &records[..cut / 2]);
                store.save(&mut books).await.unwrap();
                keep(&mut books, &records[cut / 2..cut]);
                store.save(&mut books).await.unwrap();
                store.close().await;

                let store = Store::open(&file, "log-1").await.unwrap();
                let partitions = books.partitions.clone();
                let mut resumed = store.load(partitions.clone()).await.unwrap().unwrap();
                assert_eq!(resumed, books, "seed {seed}, after {cut}");
                keep(&mut resumed, &records);
                assert_eq!(Report::of(&resumed, &Boundary::everything_read(&resumed)), whole);
                store.close().await;

                let other = Store::open(&file, "log-2").await.unwrap();
                assert_eq!(other.load(partitions).await.unwrap(), None, "the snapshot of another log is not believed");
                other.close().await;
            });
        }
    }
}

#[test]
fn the_cut_waits_for_every_step_and_then_closes() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_log(dir.path());
    let world = World::with(Fault::None);
    world.write(&log, 0, world.topics.records.len());
    let hasty = CloseOptions { deadline: Duration::ZERO, publish: false };
    let behind = close(&log, &hasty, &Stop::new()).unwrap();
    assert!(!behind.closed);
    assert_eq!(behind.behind, ["canonicalise"]);
    assert!(report(&log).unwrap().rows.is_empty(), "nothing was published");

    pass_every_step(&log);
    let closed = close(&log, &CloseOptions::default(), &Stop::new()).unwrap();
    assert!(closed.closed, "{closed}");
    let table = closed.to_string();
    assert!(table.contains("holds  sealed = metered: 24 = 24"), "{table}");
    assert!(serde_json::to_value(&closed).unwrap()["closed"].as_bool().unwrap());

    let published = report(&log).unwrap();
    assert!(published.closed);
    assert_eq!(published.totals, closed.totals);
    let ends = |log: &dyn Log| log.ends(&Topic::new("audit.checkpoint.v1")).unwrap();
    let before = ends(&log);
    close(&log, &CloseOptions::default(), &Stop::new()).unwrap();
    assert_eq!(ends(&log), before, "what did not change is not published again");
}

#[test]
fn closing_early_names_the_missing_usage_record_from_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_log(dir.path());
    let world = World::with(Fault::UsageMissing(7));
    world.write(&log, 0, world.topics.records.len());
    pass_every_step(&log);
    let report =
        close(&log, &CloseOptions { deadline: Duration::from_millis(300), publish: true }, &Stop::new()).unwrap();
    assert!(!report.closed);
    assert_eq!(report.gaps.len(), 1, "{report}");
    assert_eq!(report.gaps[0].at, world.sealed[&7]);
    let published = crate::report(&log).unwrap();
    assert!(!published.closed);
    assert_eq!(published.gaps[0].at, world.sealed[&7]);
}

#[test]
fn hours_close_by_themselves_and_a_restart_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_log(&dir.path().join("log"));
    let world = World::with(Fault::None);
    let half = world.topics.records.len() / 2;
    let mut options = Options::new(dir.path().join("state").join("audit.db"));
    options.snapshot_every = Duration::from_millis(20);
    let until = |done: &dyn Fn() -> bool| {
        let stop = Stop::new();
        std::thread::scope(|scope| {
            let running = scope.spawn(|| run(&log, &options, &stop));
            while !done() && !running.is_finished() {
                stop.wait(Duration::from_millis(10));
            }
            stop.request();
            running.join().unwrap().unwrap();
        });
    };
    world.write(&log, 0, half);
    pass_every_step(&log);
    until(&|| !report(&log).unwrap().rows.is_empty());
    world.write(&log, half, world.topics.records.len());
    pass_every_step(&log);
    until(&|| report(&log).unwrap().closed);
    let counted_anew = close(&log, &CloseOptions { publish: false, ..CloseOptions::default() }, &Stop::new()).unwrap();
    let published = report(&log).unwrap();
    assert_eq!(published.totals, counted_anew.totals);
    assert_eq!(published.rows, counted_anew.rows);
}
