//! One call: who is dialled, whose certificate is taken, what an answer may cost.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use event::destination::{AddressRules, Destination};
use forward::call::{Call, CallError};
use forward::dial::{CallLimits, Dialer};
use forward::{DialOptions, Resolver};
use tempfile::TempDir;

use crate::receiver::{Ca, Receiver, Reply};

const BODY: &[u8] = b"{\"a\":1}";

struct House {
    ca: Ca,
    dir: TempDir,
    options: DialOptions,
}

/// `good.example` resolves to the loopback address, which the operator has named, and the CA is trusted.
fn house() -> House {
    let (ca, dir) = (Ca::new(), TempDir::new().unwrap());
    let ca_file = dir.path().join("ca.pem");
    ca.write(&ca_file);
    let loopback: IpAddr = "127.0.0.1".parse().unwrap();
    let options = DialOptions {
        rules: AddressRules { networks_allowed: vec!["127.0.0.0/8".parse().unwrap()], ..AddressRules::default() },
        ca_file: Some(ca_file),
        resolver: Resolver::Table(BTreeMap::from([("good.example".to_owned(), vec![loopback])])),
        limits: CallLimits::default(),
    };
    House { ca, dir, options }
}

fn call(options: &DialOptions, url: &str) -> Call {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let destination = Destination::parse(url).unwrap();
    let dialer = Dialer::new(options).unwrap();
    runtime.block_on(dialer.call(&destination, http::HeaderMap::new(), Bytes::from_static(BODY), 1_000))
}

#[test]
fn the_body_arrives_as_it_is_under_the_name_that_was_asked_for() {
    let house = house();
    let receiver = Receiver::start(&house.ca, &["good.example"], |_, _| Reply::Status(201));
    let call = call(&house.options, &format!("https://GOOD.example:{}/a%20b/ü?q=1#part", receiver.address.port()));
    assert_eq!((call.status, call.error, call.response_bytes), (Some(201), None, 2));
    assert_eq!(call.address, Some(receiver.address.to_string()));
    assert_eq!(call.at_ms, 1_000);
    let got = receiver.got().remove(0);
    assert_eq!(got.request_line, "POST /a%20b/%C3%BC?q=1 HTTP/1.1");
    assert_eq!(got.header("host"), format!("good.example:{}", receiver.address.port()));
    assert_eq!(got.server_name.as_deref(), Some("good.example"));
    assert_eq!(got.body, BODY);
}

#[test]
fn an_address_that_the_operator_named_is_dialled_and_verified_as_an_address() {
    let house = house();
    let receiver = Receiver::start(&house.ca, &["127.0.0.1"], |_, _| Reply::Status(200));
    assert_eq!(call(&house.options, &receiver.url("127.0.0.1")).status, Some(200));
    let other = Receiver::start(&house.ca, &["127.0.0.2"], |_, _| Reply::Status(200));
    assert_eq!(call(&house.options, &other.url("127.0.0.1")).error, Some(CallError::CertificateRefused));
}

#[test]
fn a_certificate_for_another_host_is_refused() {
    let house = house();
    let receiver = Receiver::start(&house.ca, &["other.example"], |_, _| Reply::Status(200));
    let call = call(&house.options, &receiver.url("good.example"));
    assert_eq!((call.status, call.error), (None, Some(CallError::CertificateRefused)));
    assert!(receiver.got().is_empty());
}

#[test]
fn a_certificate_that_nobody_we_trust_vouches_for_is_refused() {
    let house = house();
    let receiver = Receiver::start(&Ca::new(), &["good.example"], |_, _| Reply::Status(200));
    assert_eq!(call(&house.options, &receiver.url("good.example")).error, Some(CallError::CertificateRefused));
    assert!(receiver.got().is_empty());
}

#[test]
fn a_private_address_is_denied_unless_its_network_is_named() {
    let mut house = house();
    let receiver = Receiver::start(&house.ca, &["good.example"], |_, _| Reply::Status(200));
    house.options.rules = AddressRules::default();
    let call = call(&house.options, &receiver.url("good.example"));
    assert_eq!((call.error, call.address), (Some(CallError::DestinationDenied), None));
    assert!(receiver.got().is_empty());
}

#[test]
fn one_bad_address_among_several_denies_the_name() {
    let mut house = house();
    let receiver = Receiver::start(&house.ca, &["good.example"], |_, _| Reply::Status(200));
    let addresses = ["127.0.0.1", "10.0.0.1"].map(|text| text.parse().unwrap()).to_vec();
    house.options.resolver = Resolver::Table(BTreeMap::from([("good.example".to_owned(), addresses)]));
    let call = call(&house.options, &receiver.url("good.example"));
    assert_eq!((call.error, call.address), (Some(CallError::DestinationDenied), None));
    assert!(receiver.got().is_empty());
}

#[test]
fn a_host_whose_first_address_is_deaf_is_reached_at_the_second() {
    let mut house = house();
    let receiver = Receiver::start(&house.ca, &["good.example"], |_, _| Reply::Status(200));
    // Nothing listens at 127.0.0.2: the receiver is bound to 127.0.0.1.
    let addresses = ["127.0.0.2", "127.0.0.1"].map(|text| text.parse().unwrap()).to_vec();
    house.options.resolver = Resolver::Table(BTreeMap::from([("good.example".to_owned(), addresses)]));
    let call = call(&house.options, &receiver.url("good.example"));
    assert_eq!((call.status, call.address), (Some(200), Some(receiver.address.to_string())));
}

#[test]
fn a_name_without_an_address_may_be_tried_again() {
    let house = house();
    assert_eq!(call(&house.options, "https://nowhere.example/").error, Some(CallError::ResolveFailed));
}

#[test]
fn nobody_listening_is_a_failure_to_connect() {
    let house = house();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let call = call(&house.options, &format!("https://good.example:{}/", free.port()));
    assert_eq!((call.error, call.address), (Some(CallError::ConnectFailed), Some(free.to_string())));
}

#[test]
fn a_redirect_is_not_followed() {
    let house = house();
    let receiver = Receiver::start(&house.ca, &["good.example"], |_, _| {
        Reply::Raw(b"HTTP/1.1 307 -\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n".to_vec())
    });
    assert_eq!(call(&house.options, &receiver.url("good.example")).status, Some(307));
    assert_eq!(receiver.got().len(), 1);
}

#[test]
fn an_answer_larger_than_the_cap_is_cut_off_announced_or_not() {
    let house = house();
    for head in [
        "HTTP/1.1 200 -\r\ncontent-length: 1048577\r\n\r\n",
        "HTTP/1.1 200 -\r\n\r\n",
        "HTTP/1.1 200 -\r\ncontent-length: 99999999999999\r\n\r\n",
    ] {
        let receiver = Receiver::start(&house.ca, &["good.example"], move |_, _| Reply::Endless(head));
        let call = call(&house.options, &receiver.url("good.example"));
        assert_eq!((call.status, call.error), (Some(200), Some(CallError::ResponseTooLarge)), "{head}");
        assert!(call.response_bytes < 2 * CallLimits::RESPONSE_BYTES_MAX, "{}", call.response_bytes);
    }
    let largest = [b"HTTP/1.1 200 -\r\ncontent-length: 1048576\r\n\r\n".to_vec(), vec![b'x'; 1_048_576]].concat();
    let receiver = Receiver::start(&house.ca, &["good.example"], move |_, _| Reply::Raw(largest.clone()));
    let call = call(&house.options, &receiver.url("good.example"));
    assert_eq!((call.error, call.response_bytes), (None, 1_048_576));
}

#[test]
fn a_head_without_end_is_cut_off() {
    let house = house();
    let receiver = Receiver::start(&house.ca, &["good.example"], |_, _| Reply::Endless("HTTP/1.1 200 -\r\nx: "));
    assert_eq!(call(&house.options, &receiver.url("good.example")).error, Some(CallError::BadResponse));
}

#[test]
fn an_answer_that_never_comes_is_not_waited_for() {
    let mut house = house();
    house.options.limits.read = Duration::from_millis(100);
    let receiver = Receiver::start(&house.ca, &["good.example"], |_, _| Reply::Stall);
    let call = call(&house.options, &receiver.url("good.example"));
    assert_eq!((call.status, call.error), (None, Some(CallError::ReadTimeout)));
    assert!(call.duration_ms >= 100);
}

#[test]
fn a_listener_that_does_not_speak_tls_is_not_waited_for() {
    let mut house = house();
    house.options.limits.connect = Duration::from_millis(100);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://good.example:{}/", silent.local_addr().unwrap().port());
    assert_eq!(call(&house.options, &url).error, Some(CallError::ConnectTimeout));
}

#[test]
fn broken_answers_have_their_own_reasons() {
    let house = house();
    for (answer, status, error) in [
        ("", None, Some(CallError::ConnectionClosed)),
        ("HTTP/1.1 200 -\r\ncontent-length: 10\r\n\r\nhalf", Some(200), Some(CallError::ConnectionClosed)),
        ("hello\r\n\r\n", None, Some(CallError::BadResponse)),
        // The body ends with the connection, which the server closes without a goodbye: complete as far as HTTP goes.
        ("HTTP/1.1 200 -\r\n\r\nwhole", Some(200), None),
        ("HTTP/1.1 503 -\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n", Some(503), None),
    ] {
        let receiver = Receiver::start(&house.ca, &["good.example"], move |_, _| Reply::Raw(answer.into()));
        let call = call(&house.options, &receiver.url("good.example"));
        assert_eq!((call.status, call.error), (status, error), "{answer}");
        assert_eq!(call.retry_after.as_deref(), (status == Some(503)).then_some("7"));
    }
}

#[test]
fn a_ca_file_that_is_of_no_use_is_an_error() {
    let mut house = house();
    let path = house.dir.path().join("other.pem");
    for text in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        std::fs::write(&path, text).unwrap();
        house.options.ca_file = Some(path.clone());
        assert!(Dialer::new(&house.options).is_err(), "{text:?}");
    }
    house.options.ca_file = Some(house.dir.path().join("missing.pem"));
    assert!(Dialer::new(&house.options).is_err());
}
