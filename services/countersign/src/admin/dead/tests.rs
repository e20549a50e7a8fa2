use event::wire::{ExchangeRequested, Wire as _};
use log::embedded::EmbeddedLog;
use log::{Log, Output, Position, Topic};
use stage::dead_letter::{BY_REFERENCE_HEADER, REDO_OF_HEADER};
use stage::{DeadLetter, Reject};

use super::legible::legible;
use super::replay::append;
use super::*;
use crate::admin::reading::{self, one};
use crate::config::Config;

fn log_with_topics(dir: &std::path::Path) -> EmbeddedLog {
    let log = EmbeddedLog::open(dir).unwrap();
    crate::topics::apply(&log, &Config::default()).unwrap();
    log
}

fn put(log: &dyn Log, topic: &str, value: &[u8], headers: &[(&str, &[u8])]) -> Position {
    let topic = Topic::new(topic);
    append(log, &Output { topic: &topic, partition: Some(2), key: Some(b"acme:t"), value: Some(value), headers })
        .unwrap()
}

/// A record of sign's input that sign refused; answers where its dead letter lies.
fn refused(log: &dyn Log, value: &[u8]) -> Position {
    let source = put(log, "exchange.admitted.v1", value, &[("traceparent", b"00-1"), ("cause", b"2:0:0")]);
    let record = one(log, &source).unwrap().unwrap();
    let reject = Reject { reason: "malformed_record", detail: "it is damaged".into(), tenant: "acme".into() };
    let emit = DeadLetter { record: &record, reject: &reject }.emit_to(&Topic::new("sign.dead.v1"));
    let headers: Vec<(&str, &[u8])> =
        emit.headers.iter().map(|(name, value)| (name.as_str(), value.as_ref())).collect();
    let output = Output {
        topic: &emit.topic,
        partition: emit.partition,
        key: emit.key.as_deref(),
        value: emit.value.as_deref(),
        headers: &headers,
    };
    append(log, &output).unwrap()
}

#[test]
fn a_letter_goes_back_as_the_record_that_was_refused_and_only_once() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_with_topics(dir.path());
    refused(&log, b"\x00damaged");
    let listed = list(&log, &ListRequest::default()).unwrap();
    assert_eq!(listed.letters.len(), 1);
    let letter = &listed.letters[0];
    assert_eq!((letter.letter.as_str(), letter.reason.as_str()), ("sign:2:0", "malformed_record"));
    assert_eq!((letter.source.as_str(), letter.replayed_as.as_deref()), ("exchange.admitted.v1:2:0", None));

    let done = replay(&log, &ReplayRequest::Letter("sign:2:0".into())).unwrap();
    assert_eq!(done.replayed, [("sign:2:0".to_owned(), "sign.redo.v1:2:0".to_owned())]);
    let redo = one(&log, &reading::parse("sign.redo.v1:2:0").unwrap()).unwrap().unwrap();
    assert_eq!(redo.key.as_deref(), Some(&b"acme:t"[..]));
    assert_eq!(redo.value.as_deref(), Some(&b"\x00damaged"[..]));
    let headers: Vec<(&str, &[u8])> =
        redo.headers.iter().map(|(name, value)| (name.as_str(), value.as_ref())).collect();
    assert_eq!(headers, [("traceparent", &b"00-1"[..]), (REDO_OF_HEADER, &b"sign.dead.v1:2:0"[..])]);

    assert!(replay(&log, &ReplayRequest::Letter("sign:2:0".into())).is_err(), "it went back already");
    let all = replay(&log, &ReplayRequest::Step("sign".into())).unwrap();
    assert_eq!((all.replayed.len(), all.before), (0, 1));
    assert_eq!(
        list(&log, &ListRequest { step: Some("sign".into()) }).unwrap().letters[0].replayed_as.as_deref(),
        Some("sign.redo.v1:2:0")
    );
    assert!(list(&log, &ListRequest { step: Some("meter".into()) }).unwrap().letters.is_empty());
}

#[test]
fn a_large_value_is_fetched_from_where_it_lies() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_with_topics(dir.path());
    let large = vec![7; stage::dead_letter::BYTES_MAX + 1];
    refused(&log, &large);
    let shown = show(&log, &"sign:2:0".parse().unwrap()).unwrap();
    assert!(shown.letter.by_reference);
    assert_eq!(shown.value.unwrap()["bytes"], large.len());
    replay(&log, &ReplayRequest::Step("sign".into())).unwrap();
    let redo = one(&log, &reading::parse("sign.redo.v1:2:0").unwrap()).unwrap().unwrap();
    assert_eq!(redo.value.as_deref(), Some(large.as_slice()));
    assert!(redo.header(BY_REFERENCE_HEADER).is_none());
}

#[test]
fn a_known_value_is_shown_as_json_with_its_payload_as_text() {
    let requested = ExchangeRequested {
        tenant: "acme".into(),
        idempotency_key: "k".into(),
        payload: b"{\"a\":1}".to_vec(),
        payload_type: "passthrough".into(),
        target_type: None,
        trace_id: None,
        expected_prev_receipt_hash: None,
        amount: None,
        forward_url: None,
    };
    assert_eq!(legible(&requested.encode().unwrap())["payload"], "{\"a\":1}");
}

#[test]
fn a_letter_is_named_by_step_or_topic() {
    let id: LetterId = "meter.tally:1:17".parse().unwrap();
    assert_eq!("meter.tally.dead.v1:1:17".parse::<LetterId>().unwrap(), id);
    assert_eq!(id.to_string(), "meter.tally:1:17");
    for wrong in ["meter.tally", "nobody:0:1", "sign:0"] {
        assert!(wrong.parse::<LetterId>().is_err(), "{wrong}");
    }
}
