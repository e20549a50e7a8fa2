//! What comes in headers and URLs: ids, webhook signatures, destinations, allowlists, and what records carry beside a value.
#![no_main]

use event::destination::{AddressRules, Allowlist, Destination, Host, allowed, dialable};
use event::envelope::{Reply, traceparent};
use event::hmac;
use event::id::{IdempotencyKey, TenantId, TraceId};
use event::webhook::{Clock, Message, Secret};
use libfuzzer_sys::fuzz_target;
use proof::webhook::{WebhookPrivateKey, WebhookPublicKey, verify};

fuzz_target!(|bytes: &[u8]| {
    let texts: Vec<&str> =
        bytes.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok()).collect();
    let text = |index: usize| texts.get(index).copied().unwrap_or_default();
    if let Ok(key) = IdempotencyKey::parse(text(0)) {
        assert!(http::HeaderValue::from_str(key.as_str()).is_ok(), "a key can be a header");
    }
    let _ = (TenantId::parse(text(0)), TraceId::parse(text(0)));
    for line in bytes.split(|byte| *byte == b'\n') {
        assert!(traceparent(line).is_none_or(|passed| passed == line && passed.is_ascii()));
        if let Some(reply) = Reply::parse(line) {
            assert_eq!(Reply::parse(reply.to_string().as_bytes()), Some(reply), "an address to answer to comes back");
        }
    }
    let proof = hmac::sign(text(3), "t", text(0).as_bytes(), text(2).as_bytes()).expect("parts are short");
    assert!(hmac::verify(text(3), "t", text(0).as_bytes(), text(2).as_bytes(), &proof));
    assert!(text(5) == proof || !hmac::verify(text(3), "t", text(0).as_bytes(), text(2).as_bytes(), text(5)));
    let message = Message { id: text(0), timestamp: text(1), body: text(2).as_bytes() };
    let secrets: Vec<Secret> = Secret::parse(text(3)).into_iter().collect();
    let keys: Vec<WebhookPublicKey> = WebhookPublicKey::parse(text(4)).into_iter().collect();
    let clock = Clock { now: 1_767_225_600, tolerance_seconds: 300 };
    let claimed = verify(&message, text(5), clock, (&secrets, &keys));
    if let ([secret], Ok(sent_at)) = (secrets.as_slice(), message.sent_at()) {
        let clock = Clock { now: sent_at, tolerance_seconds: 0 };
        assert_eq!(verify(&message, &secret.sign(&message), clock, (&secrets, &[])), Ok(()));
    } else {
        assert!(claimed.is_err() || !keys.is_empty());
    }
    let _ = WebhookPrivateKey::parse(text(4)).map(|key| key.sign(&message));
    if let Ok(destination) = Destination::parse(text(6)) {
        let host = destination.host().to_string();
        assert!(host.is_ascii() && destination.target().is_ascii() && destination.target().starts_with('/'));
        let again = format!("https://{}{}", destination.authority(), destination.target());
        assert_eq!(Destination::parse(&again).as_ref(), Ok(&destination), "what was read is read again as the same");
        let everything = Allowlist::lenient(["*", text(7)]);
        if allowed(&destination, &everything) {
            let loopback = ["127.0.0.1".parse().expect("an address")];
            let dialled = dialable(&destination, &loopback, &AddressRules::default());
            assert!(
                dialled.is_err() || matches!(destination.host(), Host::Address(_)),
                "no name leads to this machine"
            );
        }
    }
});
