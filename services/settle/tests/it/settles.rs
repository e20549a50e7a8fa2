//! What comes of commands when nothing fails.

use event::topic::{LEDGER_COMMAND, SETTLEMENT_PARKED, SETTLEMENT_POSTED};
use event::wire::Wire;
use stage::testing::{Hook, Point};

use crate::on_both;
use crate::world::{DEAD, REDO, World, charge, charges};

on_both! {
    commands_become_books_and_settlements
    a_settlement_names_its_exchange_and_its_cause
    a_repeated_command_posts_nothing_twice
    a_key_reused_for_another_command_is_parked
    a_currency_without_a_schedule_is_parked
    an_account_that_is_full_parks_the_charge
    a_bad_record_becomes_a_dead_letter_and_the_rest_goes_on
    a_redone_dead_letter_is_settled
    a_dead_letter_that_is_redone_twice_is_settled_once_and_says_so
    a_price_of_zero_moves_nothing
    a_long_queue_is_settled_in_bounded_batches
    a_later_schema_waits_and_what_came_before_it_is_settled
}

fn commands_become_books_and_settlements(world: World) {
    let commands = charges(0..60);
    world.commands(&commands);
    world.settle();
    world.assert_settled_once(&commands);
    let total: i128 = world.balances().iter().map(|balance| balance.credits - balance.debits).sum();
    assert_eq!(total, 0);
}

fn a_settlement_names_its_exchange_and_its_cause(world: World) {
    world.command(&charge(1, "acme", 9_900));
    world.settle();
    let records = world.records(SETTLEMENT_POSTED);
    let [record] = records.as_slice() else { panic!("{records:?}") };
    let partition = log::partition_of(b"acme:main", 2);
    let header = |name: &str| String::from_utf8(record.header(name).unwrap().to_vec()).unwrap();
    assert_eq!(header("cause"), format!("{partition}:0:0"));
    assert_eq!(header("ce_id"), "ex_1");
    assert_eq!(header("ce_type"), "settlement.posted.v1");
    assert_eq!(header("ce_source"), "countersign/acme");
    assert_eq!(header("traceparent"), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    assert_eq!(record.key.as_deref(), Some(b"acme".as_ref()));
    let posted = &world.posted()[0];
    assert_eq!((posted.fee_minor, posted.sequence), (305, 1));
    assert_eq!(posted.tariff_version, billing::BUILTIN_TARIFF_VERSION);
    assert_eq!(posted.transfers.iter().map(|transfer| transfer.minor).collect::<Vec<_>>(), [9_595, 305]);
}

fn a_repeated_command_posts_nothing_twice(world: World) {
    let commands = charges(0..9);
    world.commands(&commands);
    world.settle();
    world.commands(&commands);
    world.settle();
    world.assert_settled_once(&commands);
    assert!(world.parked().is_empty());
}

fn a_key_reused_for_another_command_is_parked(world: World) {
    let first = charge(1, "acme", 500);
    world.command(&first);
    world.command(&charge(1, "acme", 501));
    world.settle();
    world.assert_settled_once(&[first]);
    let parked = world.parked();
    assert_eq!(parked.len(), 1);
    assert_eq!(parked[0].reason, "command_key_reused");
    assert_eq!(parked[0].transfers[0].minor, 501);
}

fn a_currency_without_a_schedule_is_parked(world: World) {
    let mut foreign = charge(1, "acme", 500);
    foreign.transfers[0].currency = "EUR".to_owned();
    world.command(&foreign);
    let dollars = charge(2, "acme", 500);
    world.command(&dollars);
    world.settle();
    world.assert_settled_once(&[dollars]);
    assert_eq!(world.parked()[0].reason, "no_tariff");
    assert_eq!(world.records(SETTLEMENT_PARKED)[0].header("ce_id"), Some(b"ex_1".as_ref()));
}

fn an_account_that_is_full_parks_the_charge(world: World) {
    let whole = charge(1, "acme", i64::MAX);
    world.command(&whole);
    world.command(&charge(2, "acme", 1));
    world.settle();
    world.assert_settled_once(&[whole]);
    assert_eq!(world.parked()[0].reason, "balance_overflow");
}

fn a_bad_record_becomes_a_dead_letter_and_the_rest_goes_on(world: World) {
    let before = charge(1, "acme", 500);
    world.command(&before);
    world.append(LEDGER_COMMAND, "acme:main", b"\0\0\0\0\x09 damage", &[]);
    let mut foreign_payer = charge(2, "acme", 500);
    foreign_payer.transfers[0].debit_account = "bolt:main".to_owned();
    world.command(&foreign_payer);
    let after = charge(3, "acme", 500);
    world.command(&after);
    world.settle();
    world.assert_settled_once(&[before, after]);
    let dead = world.records(DEAD);
    let reasons: Vec<&[u8]> = dead.iter().map(|record| record.header("reason").unwrap()).collect();
    assert_eq!(reasons, [b"malformed_record".as_ref(), b"invalid_command"]);
    let partition = log::partition_of(b"acme:main", 2);
    assert_eq!(dead[0].header("source"), Some(format!("{LEDGER_COMMAND}:{partition}:1").as_bytes()));
    assert_eq!(dead[0].value.as_deref(), Some(b"\0\0\0\0\x09 damage".as_ref()));
    assert_eq!(dead[1].header("tenant"), Some(b"acme".as_ref()));
}

fn a_redone_dead_letter_is_settled(world: World) {
    let commands = charges(0..6);
    world.commands(&commands[..3]);
    for command in &commands[3..] {
        world.append(REDO, &format!("{}:main", command.tenant), &command.encode().unwrap(), &[]);
    }
    // On the redo topic a later schema is no reason to wait.
    world.append(REDO, "acme:main", &[0, 0, 0, 0, 99], &[]);
    world.settle();
    world.assert_settled_once(&commands);
    let dead = world.records(DEAD);
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].header("reason"), Some(b"unknown_schema".as_ref()));
    let redone: Vec<_> =
        world.records(SETTLEMENT_POSTED).into_iter().filter(|record| record.header("cause-topic").is_some()).collect();
    assert_eq!(redone.len(), 3);
}

fn a_dead_letter_that_is_redone_twice_is_settled_once_and_says_so(world: World) {
    let redone = charge(1, "acme", 500);
    for _ in 0..2 {
        world.append(REDO, "acme:main", &redone.encode().unwrap(), &[]);
        world.settle();
    }
    world.assert_settled_once(&[redone]);
    let dead = world.records(DEAD);
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].header("reason"), Some(b"already_decided".as_ref()));
    let partition = log::partition_of(b"acme:main", 2);
    assert_eq!(dead[0].header("source"), Some(format!("{REDO}:{partition}:1").as_bytes()));
}

fn a_price_of_zero_moves_nothing(world: World) {
    world.command(&charge(1, "acme", 0));
    world.settle();
    assert_eq!(world.balances(), []);
    let posted = world.posted();
    assert_eq!((posted.len(), posted[0].transfers.len(), posted[0].fee_minor), (1, 0, 0));
}

fn a_long_queue_is_settled_in_bounded_batches(mut world: World) {
    world.limits.batch_commands_max = 7;
    world.limits.relay_rows_max = 3;
    let commands = charges(0..100);
    world.commands(&commands);
    world.settle();
    world.assert_settled_once(&commands);
}

fn a_later_schema_waits_and_what_came_before_it_is_settled(mut world: World) {
    world.limits.recoveries_max = 1;
    let before = charge(1, "acme", 500);
    world.command(&before);
    world.append(LEDGER_COMMAND, "acme:main", &[0, 0, 0, 0, 99], &[]);
    world.command(&charge(2, "acme", 500));
    let polls = std::sync::atomic::AtomicUsize::new(0);
    // Waiting is no failure, however often it is seen; the test ends it from outside.
    let hook: Hook = std::sync::Arc::new(move |point| {
        let waited = matches!(point, Point::Polled(records) if records.iter().any(|record| record.offset == 1))
            && polls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 4;
        waited.then(|| log::Fault::Fatal(log::Cause::new("waited", "long enough")))
    });
    assert_eq!(world.settle_hooked(hook).unwrap_err().cause().code, "waited");
    world.assert_settled_once(&[before]);
    assert!(world.records(DEAD).is_empty());
}
