//! From a sealed record to one recorded outcome, whatever the receiver, the log or the process does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use event::webhook::{self, Clock, Message};
use event::wire::{ExchangeDelivered, ExchangeSealed, Wire};
use forward::{Tenants, WebhookSecret};
use log::{Cause, Fault, Log, Topic};

use crate::receiver::{Receiver, Reply};
use crate::world::{Failure, Running, SECRET, TRACEPARENT, World, delivered, failing, sealed, settings};

/// Hosts of the tenant at the receiver's port.
fn entry(host: &str, receiver: &Receiver) -> String {
    format!("{host}:{}", receiver.address.port())
}

#[test]
fn a_delivery_arrives_once_signed_and_is_recorded_once() {
    let world = World::new();
    let receiver = Receiver::start(&world.ca, &["good.example"], |_, _| Reply::Status(200));
    let exchange = sealed(1, &receiver.url("good.example"));
    let position = world.seal(&exchange);
    {
        let _running = world.run(world.options(&[&entry("good.example", &receiver)]));
        let outcome = world.outcomes(1).remove(0);
        assert!(outcome.delivered);
        assert_eq!((outcome.exchange_id, outcome.host), (exchange.exchange_id.clone(), "good.example".to_owned()));
        assert_eq!((outcome.admitted_at, outcome.cid), (exchange.admitted_at, format!("sha256:{:064}", 1)));
        assert_eq!(outcome.attempts.len(), 1);
        assert_eq!((outcome.attempts[0].attempt, outcome.attempts[0].status), (1, Some(200)));
        assert_eq!(outcome.attempts[0].address, Some(receiver.address.to_string()));
    }
    let got = receiver.got();
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].body, exchange.payload);
    assert_eq!(got[0].header("content-type"), "application/json");
    assert_eq!(got[0].header("webhook-id"), exchange.exchange_id);
    let message =
        Message { id: got[0].header("webhook-id"), timestamp: got[0].header("webhook-timestamp"), body: &got[0].body };
    let clock = Clock { now: message.timestamp.parse().unwrap(), tolerance_seconds: 0 };
    let secret = WebhookSecret::parse(SECRET).unwrap();
    assert_eq!(webhook::verify(&message, got[0].header("webhook-signature"), clock, &[secret]), Ok(()));
    let mut names = got[0].header_names();
    names.sort_unstable();
    let expected =
        "connection content-length content-type host user-agent webhook-id webhook-signature webhook-timestamp";
    assert_eq!(names.join(" "), expected, "nothing else is told to a receiver");

    let record = world.records(&delivered(), 1).remove(0);
    let text = |name: &str| String::from_utf8(record.header(name).unwrap().to_vec()).unwrap();
    assert_eq!(text("cause"), format!("{}:{}:0", position.partition, position.offset));
    assert_eq!(text("ce_id"), exchange.exchange_id);
    assert_eq!(text("ce_type"), "exchange.delivered.v1");
    assert_eq!(text("ce_source"), "countersign/acme");
    assert_eq!(text("traceparent"), TRACEPARENT);
    assert_eq!(record.key.as_deref(), Some(b"acme:trace-1".as_slice()));
    assert!(world.pending().is_empty());
}

#[test]
fn many_deliveries_and_exchanges_without_a_url_are_told_apart() {
    let world = World::new();
    let receiver = Receiver::start(&world.ca, &["good.example"], |_, _| Reply::Status(204));
    for number in 0..100 {
        let mut exchange = sealed(number, &receiver.url("good.example"));
        if number % 2 == 1 {
            exchange.forward_url = None;
        }
        world.seal(&exchange);
    }
    {
        let _running = world.run(world.options(&[&entry("good.example", &receiver)]));
        world.outcomes(50);
    }
    let mut ids: Vec<String> = receiver.got().iter().map(|got| got.header("webhook-id").to_owned()).collect();
    ids.sort();
    assert_eq!(ids, (0..100).step_by(2).map(|number| format!("ex_{number:026}")).collect::<Vec<_>>());
    assert_eq!(world.count(&delivered()), 50);
    assert!(world.pending().is_empty());
}

#[test]
fn a_receiver_in_trouble_is_tried_until_it_accepts() {
    let world = World::new();
    let receiver = Receiver::start(&world.ca, &["good.example"], |before, _| match before {
        0 => Reply::Status(503),
        1 => Reply::Raw(Vec::new()),
        2 => Reply::Status(429),
        _ => Reply::Status(200),
    });
    world.seal(&sealed(1, &receiver.url("good.example")));
    {
        let _running = world.run(world.options(&[&entry("good.example", &receiver)]));
        let outcome = world.outcomes(1).remove(0);
        assert!(outcome.delivered);
        let statuses: Vec<Option<i32>> = outcome.attempts.iter().map(|attempt| attempt.status).collect();
        assert_eq!(statuses, [Some(503), None, Some(429), Some(200)]);
        assert_eq!(outcome.attempts[1].error.as_deref(), Some("connection_closed"));
    }
    let got = receiver.got();
    assert!(got.iter().all(|each| each.header("webhook-id") == got[0].header("webhook-id")));
    assert_eq!((got.len(), world.count(&delivered())), (4, 1));
}

#[test]
fn a_refusal_is_recorded_as_a_failure_and_not_tried_again() {
    let world = World::new();
    let receiver = Receiver::start(&world.ca, &["good.example"], |_, got| {
        if got.body == b"{\"number\":1}" {
            Reply::Status(410)
        } else {
            Reply::Raw(b"HTTP/1.1 302 -\r\nlocation: /\r\ncontent-length: 0\r\n\r\n".to_vec())
        }
    });
    world.seal(&sealed(1, &receiver.url("good.example")));
    world.seal(&sealed(2, &receiver.url("good.example")));
    {
        let _running = world.run(world.options(&[&entry("good.example", &receiver)]));
        let outcomes = world.outcomes(2);
        assert!(outcomes.iter().all(|outcome| !outcome.delivered && outcome.attempts.len() == 1));
    }
    assert_eq!(receiver.got().len(), 2);
    assert!(world.pending().is_empty());
}

#[test]
fn attempts_end_and_the_failure_is_recorded() {
    let world = World::new();
    let receiver = Receiver::start(&world.ca, &["good.example"], |_, _| Reply::Status(500));
    world.seal(&sealed(1, &receiver.url("good.example")));
    let mut options = world.options(&[&entry("good.example", &receiver)]);
    options.retries.attempts_max = 3;
    {
        let _running = world.run(options);
        let outcome = world.outcomes(1).remove(0);
        assert_eq!((outcome.delivered, outcome.attempts.len()), (false, 3));
    }
    assert_eq!(receiver.got().len(), 3);
    assert!(world.pending().is_empty());
}

#[test]
fn a_destination_that_hangs_delays_no_other() {
    let world = World::new();
    let slow = Receiver::start(&world.ca, &["slow.example"], |_, _| Reply::Stall);
    let good = Receiver::start(&world.ca, &["good.example"], |_, _| Reply::Status(200));
    for number in 0..30 {
        world.seal(&sealed(number, &slow.url("slow.example")));
    }
    for number in 30..50 {
        world.seal(&sealed(number, &good.url("good.example")));
    }
    let begun = Instant::now();
    {
        let options = world.options(&[&entry("slow.example", &slow), &entry("good.example", &good)]);
        let read_timeout = options.dial.limits.read;
        let _running = world.run(options);
        slow.wait_for(4);
        let outcomes = world.outcomes(20);
        assert!(outcomes.iter().all(|outcome| outcome.delivered && outcome.host == "good.example"));
        assert!(begun.elapsed() < read_timeout, "the others have waited for the one that hangs");
    }
    assert_eq!(slow.got().len(), 4, "calls to one destination are bounded");
    assert_eq!(world.pending().len(), 30);
}

#[test]
fn a_destination_that_fails_is_left_alone_after_five_failures() {
    let world = World::new();
    let bad = Receiver::start(&world.ca, &["slow.example"], |_, _| Reply::Status(500));
    let good = Receiver::start(&world.ca, &["good.example"], |_, _| Reply::Status(200));
    for number in 0..30 {
        world.seal(&sealed(number, &bad.url("slow.example")));
    }
    world.seal(&sealed(30, &good.url("good.example")));
    {
        let _running = world.run(world.options(&[&entry("slow.example", &bad), &entry("good.example", &good)]));
        bad.wait_for(5);
        assert!(world.outcomes(1)[0].delivered);
    }
    // Four calls at a time: three may have been under way when the fifth failure opened the breaker.
    assert!((5..=8).contains(&bad.got().len()), "{}", bad.got().len());
    assert_eq!(world.pending().len(), 30);
}

#[test]
fn what_waits_too_long_behind_a_failing_destination_is_given_up() {
    let world = World::new();
    let bad = Receiver::start(&world.ca, &["slow.example"], |_, _| Reply::Status(500));
    for number in 0..10 {
        world.seal(&sealed(number, &bad.url("slow.example")));
    }
    let mut options = world.options(&[&entry("slow.example", &bad)]);
    options.retries.give_up_after = Duration::from_millis(500);
    {
        let _running = world.run(options);
        let outcomes = world.outcomes(10);
        assert!(outcomes.iter().all(|outcome| !outcome.delivered));
        let last = |outcome: &ExchangeDelivered| outcome.attempts.last().unwrap().error.clone();
        assert!(outcomes.iter().any(|outcome| last(outcome).as_deref() == Some("given_up")));
    }
    assert_eq!(world.count(&delivered()), 10);
    assert!(world.pending().is_empty());
}

#[test]
fn what_was_pending_goes_on_after_a_restart() {
    let world = World::new();
    let is_up = Arc::new(AtomicBool::new(false));
    let asked = is_up.clone();
    let receiver = Receiver::start(&world.ca, &["good.example"], move |_, _| {
        Reply::Status(if asked.load(Ordering::SeqCst) { 200 } else { 503 })
    });
    world.seal(&sealed(1, &receiver.url("good.example")));
    let mut options = world.options(&[&entry("good.example", &receiver)]);
    options.retries.backoff_first = Duration::from_millis(300);
    {
        let _running = world.run(options.clone());
        receiver.wait_for(1);
    }
    let pending = world.pending().remove(0);
    assert_eq!(pending.attempts.len(), 1);
    assert_eq!(world.count(&delivered()), 0);
    is_up.store(true, Ordering::SeqCst);
    {
        let _running = world.run(options);
        let outcome = world.outcomes(1).remove(0);
        assert!(outcome.delivered);
        assert_eq!(outcome.attempts.len(), 2);
        assert!(outcome.attempts[1].at >= pending.next_at, "not before it was due");
    }
    let record = world.records(&delivered(), 1).remove(0);
    assert_eq!(record.header("traceparent"), Some(TRACEPARENT.as_bytes()), "the trace survives the restart");
    assert_eq!((receiver.got().len(), world.count(&delivered())), (2, 1));
    assert!(world.pending().is_empty());
}

#[test]
fn a_commit_that_fails_costs_no_second_call_and_records_no_second_outcome() {
    for failure in [Failure::Aborted, Failure::Unacknowledged] {
        let world = World::new();
        let receiver = Receiver::start(&world.ca, &["good.example"], |_, _| Reply::Status(200));
        for number in 0..10 {
            world.seal(&sealed(number, &receiver.url("good.example")));
        }
        let left = Arc::new(AtomicUsize::new(2));
        {
            let log = failing(world.log.clone(), failure, left.clone());
            let _running = Running::start(log, world.options(&[&entry("good.example", &receiver)]));
            world.outcomes(10);
        }
        assert_eq!(left.load(Ordering::SeqCst), 0, "both failures were met");
        assert_eq!((receiver.got().len(), world.count(&delivered())), (10, 10), "{failure:?}");
        assert!(world.pending().is_empty());
    }
}

#[test]
fn a_destination_that_is_not_allowed_any_more_is_denied_without_a_call() {
    let world = World::new();
    let receiver = Receiver::start(&world.ca, &["good.example"], |_, _| Reply::Status(200));
    world.seal(&sealed(1, &receiver.url("good.example")));
    world.seal(&sealed(2, "http://good.example/"));
    {
        let _running = world.run(world.options(&["other.example"]));
        for outcome in world.outcomes(2) {
            assert!(!outcome.delivered);
            assert_eq!(outcome.attempts[0].error.as_deref(), Some("destination_denied"));
            assert_eq!(outcome.attempts[0].address, None);
        }
    }
    assert!(receiver.got().is_empty());
}

#[test]
fn an_address_that_is_not_public_is_denied_without_a_call() {
    let world = World::new();
    let receiver = Receiver::start(&world.ca, &["good.example"], |_, _| Reply::Status(200));
    world.seal(&sealed(1, &receiver.url("good.example")));
    let mut options = world.options(&[&entry("good.example", &receiver)]);
    options.dial.rules.networks_allowed.clear();
    {
        let _running = world.run(options);
        assert_eq!(world.outcomes(1)[0].attempts[0].error.as_deref(), Some("destination_denied"));
    }
    assert!(receiver.got().is_empty());
}

/// A configuration that begins without the tenant, and how far it is known.
struct Lagging {
    version: Arc<AtomicI64>,
    read: Arc<AtomicUsize>,
}

/// Tenants whose configuration lags: every reading is counted and answered by `read`; from version 12 on the tenant may
/// send to these hosts.
fn lagging(hosts: &[&str], read: impl Fn(usize) -> Result<i64, Fault> + Send + Sync + 'static) -> (Tenants, Lagging) {
    let lag = Lagging { version: Arc::default(), read: Arc::default() };
    let (known, asked, moved, reads) =
        (lag.version.clone(), lag.version.clone(), lag.version.clone(), lag.read.clone());
    let (now, before) = (settings(hosts), settings(&[]));
    let tenants = Tenants {
        lookup: Arc::new(move |_| Some(if asked.load(Ordering::SeqCst) >= 12 { now.clone() } else { before.clone() })),
        version: Arc::new(move || known.load(Ordering::SeqCst)),
        catch_up: Arc::new(move || {
            moved.store(read(reads.fetch_add(1, Ordering::SeqCst))?, Ordering::SeqCst);
            Ok(())
        }),
    };
    (tenants, lag)
}

#[test]
fn no_delivery_is_denied_by_settings_that_are_older_than_its_admission() {
    let world = World::new();
    let receiver = Receiver::start(&world.ca, &["good.example"], |_, _| Reply::Status(200));
    world.seal(&ExchangeSealed { config_version: 12, ..sealed(1, &receiver.url("good.example")) });
    let mut options = world.options(&[]);
    let (tenants, lag) = lagging(&[&entry("good.example", &receiver)], |before| match before {
        0 | 1 => Err(Fault::Retry(Cause::new("planted", "the configuration cannot be read"))),
        _ => Ok(12),
    });
    options.tenants = tenants;
    {
        let _running = world.run(options);
        let outcome = world.outcomes(1).remove(0);
        assert!(outcome.delivered, "{outcome:?}");
        assert_eq!(outcome.attempts.len(), 1, "waiting for the configuration is no attempt");
    }
    assert_eq!(lag.read.load(Ordering::SeqCst), 3);
}

#[test]
fn a_configuration_that_was_made_anew_is_believed_once_it_is_read_to_its_end() {
    let world = World::new();
    let receiver = Receiver::start(&world.ca, &["good.example"], |_, _| Reply::Status(200));
    world.seal(&ExchangeSealed { config_version: 500, ..sealed(1, &receiver.url("good.example")) });
    world.seal(&ExchangeSealed { config_version: 499, ..sealed(2, &receiver.url("good.example")) });
    let mut options = world.options(&[]);
    let (tenants, lag) = lagging(&[&entry("good.example", &receiver)], |_| Ok(20));
    options.tenants = tenants;
    {
        let _running = world.run(options);
        assert!(world.outcomes(2).iter().all(|outcome| outcome.delivered));
    }
    assert!((1..=2).contains(&lag.read.load(Ordering::SeqCst)));
}

#[test]
fn a_delivery_whose_settings_never_come_is_given_up_and_not_denied() {
    let world = World::new();
    world.seal(&ExchangeSealed { config_version: 12, ..sealed(1, "https://good.example/") });
    let mut options = world.options(&[]);
    options.retries.give_up_after = Duration::from_millis(300);
    let (tenants, _lag) = lagging(&[], |_| Err(Fault::Retry(Cause::new("planted", "it cannot be read"))));
    options.tenants = tenants;
    let _running = world.run(options);
    let outcome = world.outcomes(1).remove(0);
    assert_eq!((outcome.delivered, outcome.attempts.len()), (false, 1));
    assert_eq!(outcome.attempts[0].error.as_deref(), Some("given_up"));
}

#[test]
fn a_dead_letter_that_is_redone_twice_is_delivered_once_and_says_so() {
    let world = World::new();
    let receiver = Receiver::start(&world.ca, &["good.example"], |_, _| Reply::Status(200));
    let redo = |number| {
        let exchange = sealed(number, &receiver.url("good.example"));
        world.append("forward.redo.v1", &format!("acme:trace-{number}"), &exchange.encode().unwrap())
    };
    redo(1);
    let again = redo(1);
    {
        let _running = world.run(world.options(&[&entry("good.example", &receiver)]));
        world.outcomes(1);
        let letter = world.records(&Topic::new("forward.dead.v1"), 1).remove(0);
        assert_eq!(letter.header("reason"), Some(b"already_decided".as_ref()));
        let source = format!("{}:{}:{}", again.topic, again.partition, again.offset);
        assert_eq!(letter.header("source"), Some(source.as_bytes()));
    }
    // After its outcome, and after a restart.
    redo(1);
    redo(2);
    {
        let _running = world.run(world.options(&[&entry("good.example", &receiver)]));
        world.outcomes(2);
        world.records(&Topic::new("forward.dead.v1"), 2);
    }
    assert_eq!((receiver.got().len(), world.count(&delivered())), (2, 2));
    assert!(world.pending().is_empty());
}

#[test]
fn a_tenant_without_a_secret_gets_nothing_unsigned() {
    let world = World::new();
    let receiver = Receiver::start(&world.ca, &["good.example"], |_, _| Reply::Status(200));
    world.seal(&sealed(1, &receiver.url("good.example")));
    let mut options = world.options(&[&entry("good.example", &receiver)]);
    let lookup = options.tenants.lookup.clone();
    options.tenants.lookup = Arc::new(move |tenant| {
        lookup(tenant).map(|settings| forward::TenantForwardSettings { secret: None, ..settings })
    });
    options.retries.attempts_max = 2;
    {
        let _running = world.run(options);
        let outcome = world.outcomes(1).remove(0);
        assert!(!outcome.delivered);
        assert_eq!(outcome.attempts[0].error.as_deref(), Some("no_webhook_secret"));
    }
    assert!(receiver.got().is_empty());
}

#[test]
fn an_unreadable_record_is_a_dead_letter_and_the_others_go_on() {
    let world = World::new();
    let receiver = Receiver::start(&world.ca, &["good.example"], |_, _| Reply::Status(200));
    let position = world.append(event::topic::SEALED, "acme:trace-1", b"nonsense");
    world.append("forward.redo.v1", "acme:trace-1", &[0, 0, 0, 9, 9]);
    world.seal(&sealed(1, &receiver.url("good.example")));
    {
        let _running = world.run(world.options(&[&entry("good.example", &receiver)]));
        world.outcomes(1);
        let dead = world.records(&Topic::new("forward.dead.v1"), 2);
        let of = |reason: &str| dead.iter().find(|record| record.header("reason") == Some(reason.as_bytes())).unwrap();
        let source = format!("{}:{}:{}", position.topic, position.partition, position.offset);
        assert_eq!(of("undecodable").header("source"), Some(source.as_bytes()));
        assert_eq!(of("undecodable").header("tenant"), Some(b"acme".as_slice()));
        assert_eq!(of("unknown_schema").header("cause-topic"), Some(b"forward.redo.v1".as_slice()));
    }
    assert_eq!(world.count(&Topic::new("forward.dead.v1")), 2);
}

#[test]
fn a_schema_of_a_later_version_is_waited_for_and_what_came_before_it_goes_on() {
    let world = World::new();
    let receiver = Receiver::start(&world.ca, &["good.example"], |_, _| Reply::Status(200));
    world.seal(&sealed(1, &receiver.url("good.example")));
    let waiting = world.append(event::topic::SEALED, "acme:trace-1", &[0, 0, 0, 9, 9]);
    {
        let _running = world.run(world.options(&[&entry("good.example", &receiver)]));
        assert!(world.outcomes(1)[0].delivered);
    }
    assert_eq!(world.count(&Topic::new("forward.dead.v1")), 0);
    let progress = world.log.progress("forward", &waiting.topic).unwrap();
    let next = progress.iter().find(|position| position.partition == waiting.partition).unwrap();
    assert_eq!(next.offset, waiting.offset, "the record is still to be read");
}

#[test]
fn partitions_that_move_wait_for_their_calls() {
    let world = World::new();
    let receiver = Receiver::start(&world.ca, &["good.example"], |_, _| Reply::Held);
    for number in 0..8 {
        world.seal(&sealed(number, &receiver.url("good.example")));
    }
    let mut options = world.options(&[&entry("good.example", &receiver)]);
    options.bounds.in_flight_per_lane_max = 16;
    let mut second = options.clone();
    second.slot = "1".into();
    {
        let _first = world.run(options);
        receiver.wait_for(8);
        let _second = world.run(second);
        assert!(!receiver.has_come(9, Duration::from_millis(500)), "a call was repeated while the first was under way");
        receiver.release();
        world.outcomes(8);
    }
    assert_eq!((receiver.got().len(), world.count(&delivered())), (8, 8));
}

#[test]
fn a_second_instance_takes_over_its_share_and_nothing_is_recorded_twice() {
    let world = World::new();
    let receiver = Receiver::start(&world.ca, &["good.example"], |_, _| Reply::Status(200));
    let options = world.options(&[&entry("good.example", &receiver)]);
    let mut second = options.clone();
    second.slot = "1".into();
    {
        let _first = world.run(options);
        for number in 0..20 {
            world.seal(&sealed(number, &receiver.url("good.example")));
        }
        receiver.wait_for(1);
        let _second = world.run(second);
        for number in 20..60 {
            world.seal(&sealed(number, &receiver.url("good.example")));
        }
        world.outcomes(60);
    }
    let mut ids: Vec<String> = world.outcomes(60).into_iter().map(|outcome| outcome.exchange_id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), world.count(&delivered())), (60, 60));
    assert!(world.pending().is_empty());
}
