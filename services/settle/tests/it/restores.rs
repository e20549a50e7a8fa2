//! The database comes back from a backup while the log is ahead.

use event::topic::LEDGER_COMMAND;
use event::wire::Wire;
use ledger::Ledger;

use crate::database::{Place, block_on};
use crate::on_both;
use crate::world::{REDO, START, World, charge, charges};

on_both! {
    an_older_database_takes_back_what_was_published
    an_empty_database_takes_back_everything
    what_was_decided_once_is_never_decided_again
    a_database_with_another_history_is_fatal
    a_published_row_that_the_table_contradicts_is_fatal
    a_database_of_another_log_is_fatal
}

/// Settles commands with everything in them that can come of a command, in two parts around a backup.
fn settled_around_a_backup(world: &mut World) -> Place {
    world.limits.batch_commands_max = 5;
    world.limits.restore_rows_max = 7;
    world.commands(&charges(0..20));
    world.settle();
    let backup = world.place.copy();
    world.commands(&charges(20..50));
    world.append(LEDGER_COMMAND, "acme:main", b"damage", &[]);
    world.append(REDO, "bolt:main", b"more damage", &[]);
    let mut foreign = charge(90, "bolt", 5);
    foreign.transfers[0].currency = "EUR".to_owned();
    world.command(&foreign);
    world.command(&charge(21, "acme", 12_345));
    world.commands(&charges(20..30));
    let redone = charge(91, "acme", 777);
    world.append(REDO, "acme:main", &redone.encode().unwrap(), &[]);
    // Redone twice: the second leaves a letter, which comes back as well.
    world.append(REDO, "acme:main", &redone.encode().unwrap(), &[]);
    world.settle();
    world.commands(&charges(50..60));
    // The last ones of each partition leave no row: only the database's own offset says that they were read.
    world.commands(&charges(50..56));
    world.settle();
    backup
}

/// Everything that the database holds of the books.
fn books(world: &World) -> impl PartialEq + std::fmt::Debug + use<> {
    block_on(async {
        let mut ledger = Ledger::open(world.place.url()).await.unwrap();
        let mut parked = Vec::new();
        let mut progress = Vec::new();
        for partition in 0..2 {
            parked.push(ledger.parked(partition, 0, 1_000).await.unwrap());
            progress.push(ledger.progress(partition, START).await.unwrap());
        }
        let mut entries = Vec::new();
        for number in 0..100 {
            entries.push(ledger.entries_of_exchange(&format!("ex_{number}")).await.unwrap());
        }
        (ledger.balances().await.unwrap(), parked, progress, entries)
    })
}

fn restored_from(world: &mut World, place: Place) {
    // The redone one is of acme, and its place among acme's others is the order in which the books were written.
    let fees: i64 = world.posted().iter().map(|posted| posted.fee_minor).sum();
    let records = world.posted().len() + world.parked().len();
    let before = books(world);
    world.place = place;
    world.settle();
    assert_eq!(books(world), before);
    world.assert_gapless();
    assert_eq!(world.posted().len() + world.parked().len(), records);
    // Three more are priced by the volumes that came back.
    world.commands(&charges(60..63));
    world.settle();
    world.assert_gapless();
    let tariffs = billing::Tariffs::builtin();
    let schedule = tariffs.at("USD", 0).unwrap().0;
    let mut expected = fees;
    for command in charges(60..63) {
        // By now every tenant has reached the first discount and not the second: lost volumes would cost more.
        let gross = billing::Minor::new(command.transfers[0].minor);
        expected += billing::fee(schedule, gross, 500_000).unwrap().fee.units();
    }
    assert_eq!(world.posted().iter().map(|posted| posted.fee_minor).sum::<i64>(), expected);
    assert_eq!(world.posted().len() + world.parked().len(), records + 3);
}

fn an_older_database_takes_back_what_was_published(mut world: World) {
    let backup = settled_around_a_backup(&mut world);
    restored_from(&mut world, backup);
}

fn an_empty_database_takes_back_everything(mut world: World) {
    settled_around_a_backup(&mut world);
    let empty = world.place.another();
    restored_from(&mut world, empty);
}

fn what_was_decided_once_is_never_decided_again(mut world: World) {
    let commands = charges(0..12);
    world.commands(&commands);
    world.settle();
    let before = books(&world);
    world.place = world.place.another();
    world.tariffs = billing::Tariffs::none();
    world.settle();
    assert_eq!(books(&world), before);
    world.assert_settled_once(&commands);
}

fn a_database_with_another_history_is_fatal(mut world: World) {
    world.commands(&charges(0..9));
    world.settle();
    let older = world.place.copy();
    world.commands(&charges(9..18));
    world.settle();
    world.place = older;
    world.place.tamper("UPDATE progress SET row_hash = (SELECT row_hash FROM outbox WHERE sequence = 1 LIMIT 1)");
    let before = world.balances();
    let fault = world.settle_with(&world.log).unwrap_err();
    assert_eq!(fault.cause().code, "ledger_regressed");
    assert_eq!(world.balances(), before, "nothing was written on a chain that does not hold");
}

fn a_published_row_that_the_table_contradicts_is_fatal(mut world: World) {
    world.limits.batch_commands_max = 100;
    world.commands(&charges(0..9));
    world.settle();
    world.place.tamper("UPDATE progress SET row_hash = (SELECT row_hash FROM outbox ORDER BY sequence LIMIT 1)");
    world.commands(&charges(9..18));
    let fault = world.settle_with(&world.log).unwrap_err();
    assert_eq!(fault.cause().code, "ledger_regressed");
}

fn a_database_of_another_log_is_fatal(world: World) {
    world.command(&charge(0, "acme", 1));
    world.settle();
    world.place.tamper("UPDATE origin SET log_identity = 'another'");
    world.command(&charge(1, "acme", 1));
    let fault = world.settle_with(&world.log).unwrap_err();
    assert_eq!(fault.cause().code, "foreign_ledger");
}
