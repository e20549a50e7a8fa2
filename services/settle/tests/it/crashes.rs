//! The writer dies, or loses its log, between any two effects; the next one ends in the same books.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ledger::{Batch, Input, Ledger, Offsets};
use log::{Cause, Fault, Log, Topic};
use stage::testing::{Hook, HookedLog, Point};

use crate::database::block_on;
use crate::on_both;
use crate::world::{DEAD, START, StopOnDrop, World, charges};

on_both! {
    death_between_the_database_commit_and_the_relay_loses_nothing
    death_between_the_relay_and_its_commit_loses_nothing
    death_right_after_the_commit_repeats_nothing
    death_at_every_effect_in_turn_ends_in_the_same_books
    an_aborted_or_unknown_commit_is_found_out_and_goes_on
    a_rival_behind_the_fence_wins_and_nothing_is_posted_twice
    a_second_writer_on_the_slot_ends_the_first
    partitions_that_move_between_writers_are_settled_once
}

fn died() -> Fault {
    Fault::Fatal(Cause::new("died", "killed by the test"))
}

/// A fault at the `nth` point that `is_point` names, counted from 0; once.
fn once(nth: usize, is_point: fn(&Point<'_>) -> bool, fault: fn() -> Fault) -> Hook {
    let seen = AtomicUsize::new(0);
    Arc::new(move |point| (is_point(&point) && seen.fetch_add(1, Ordering::SeqCst) == nth).then(fault))
}

fn dies_once_and_ends_whole(world: &World, nth: usize, is_point: fn(&Point<'_>) -> bool) {
    let commands = charges(0..40);
    world.commands(&commands);
    let fault = world.settle_hooked(once(nth, is_point, died)).unwrap_err();
    assert_eq!(fault.cause().code, "died");
    world.settle();
    world.assert_settled_once(&commands);
}

fn death_between_the_database_commit_and_the_relay_loses_nothing(world: World) {
    dies_once_and_ends_whole(&world, 0, |point| matches!(point, Point::BeforeEmit(_)));
}

fn death_between_the_relay_and_its_commit_loses_nothing(world: World) {
    dies_once_and_ends_whole(&world, 0, |point| matches!(point, Point::BeforeCommit));
}

fn death_right_after_the_commit_repeats_nothing(world: World) {
    dies_once_and_ends_whole(&world, 0, |point| matches!(point, Point::AfterCommit));
}

fn death_at_every_effect_in_turn_ends_in_the_same_books(mut world: World) {
    world.limits.batch_commands_max = 4;
    world.limits.relay_rows_max = 3;
    let commands = charges(0..24);
    world.commands(&commands);
    let mut deaths = 0;
    // Each life sees one more effect than the one before and then dies; the last one sees them all.
    for life in 0.. {
        let hook = once(life % 23, |_| true, died);
        match world.settle_hooked(hook) {
            Ok(()) => break,
            Err(fault) => assert_eq!(fault.cause().code, "died"),
        }
        deaths += 1;
        assert!(deaths < 500, "never done");
    }
    assert!(deaths > 3, "{deaths}");
    world.settle();
    world.assert_settled_once(&commands);
}

fn an_aborted_or_unknown_commit_is_found_out_and_goes_on(world: World) {
    let commands = charges(0..40);
    world.commands(&commands);
    let (polls, before, after) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let hook: Hook = Arc::new(move |point| {
        let twice = |count: &AtomicUsize, made: fn(Cause) -> Fault| {
            (count.fetch_add(1, Ordering::SeqCst) < 2).then(|| made(Cause::new("planted", "by the test")))
        };
        match point {
            Point::Polled(records) if !records.is_empty() => twice(&polls, Fault::Retry),
            Point::BeforeCommit => twice(&before, Fault::Abort),
            Point::AfterCommit => twice(&after, Fault::Unknown),
            Point::Polled(_) | Point::BeforeEmit(_) => None,
        }
    });
    world.settle_hooked(hook).unwrap();
    world.assert_settled_once(&commands);
}

fn a_rival_behind_the_fence_wins_and_nothing_is_posted_twice(world: World) {
    let commands = charges(0..30);
    world.commands(&commands);
    let url = world.place.url();
    let rivalled = AtomicUsize::new(0);
    // A zombie of another life decides the same records between our poll and our database transaction.
    let hook: Hook = Arc::new(move |point| {
        let Point::Polled(records) = point else { return None };
        let first = records.first()?;
        if rivalled.fetch_add(1, Ordering::SeqCst) == 0 {
            let partition = first.partition;
            let dead = Topic::new(DEAD);
            let items: Vec<settle::Item> = records
                .iter()
                .filter(|record| record.partition == partition)
                .map(|record| settle::parse(record, Input::Command, &dead).unwrap())
                .collect();
            let next = Offsets { command: items.last().unwrap().source.offset + 1, redo: 0 };
            let batch = Batch { partition, expected: START, next, needs: settle::needs(&items), published: 0 };
            let tariffs = billing::Tariffs::builtin();
            block_on(async {
                let mut rival = Ledger::open(url.clone()).await.unwrap();
                rival.apply(&batch, |books| settle::decide(&items, &tariffs, books)).await.unwrap();
            });
        }
        None
    });
    world.settle_hooked(hook).unwrap();
    world.assert_settled_once(&commands);
}

fn a_second_writer_on_the_slot_ends_the_first(world: World) {
    let commands = charges(0..30);
    let options = world.options();
    let stop = stage::Stop::new();
    let (joined, has_joined) = std::sync::mpsc::channel();
    let hook: Hook = Arc::new(move |_| {
        let _ = joined.send(());
        None
    });
    let log = HookedLog { log: world.log.clone(), hook };
    std::thread::scope(|scope| {
        let _ends_with_the_scope = StopOnDrop(&stop);
        let first = scope.spawn(|| settle::run(&log as &dyn Log, &options, &stop));
        has_joined.recv().unwrap();
        world.commands(&commands);
        world.settle();
        let fault = first.join().unwrap().unwrap_err();
        assert!(matches!(fault, Fault::Fatal(_)), "{fault}");
    });
    world.settle();
    world.assert_settled_once(&commands);
}

fn partitions_that_move_between_writers_are_settled_once(mut world: World) {
    world.limits.batch_commands_max = 3;
    world.limits.relay_rows_max = 2;
    let commands = charges(0..90);
    let beside = settle::SettleOptions { slot: "1".to_owned(), ..world.options() };
    let stop = stage::Stop::new();
    std::thread::scope(|scope| {
        let _ends_with_the_scope = StopOnDrop(&stop);
        let stays = scope.spawn(|| settle::run(&world.log, &beside, &stop));
        // Another writer comes, takes its share of what is going on, and leaves; three times.
        for some in commands.chunks(30) {
            world.commands(some);
            world.settle();
        }
        stop.request();
        stays.join().unwrap().unwrap();
    });
    world.settle();
    world.assert_settled_once(&commands);
}
