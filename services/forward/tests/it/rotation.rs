//! A webhook secret is replaced: whoever knows only the old one and whoever knows only the new one both believe the calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use event::webhook::{self, Clock, Invalid, Message};
use forward::{Options, RetiringSecret, TenantForwardSettings, WebhookSecret};

use crate::receiver::{Got, Receiver, Reply};
use crate::world::{SECRET, World, sealed};

const NEW: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Whether a receiver that knows this secret alone believes the call.
fn believed(got: &Got, secret: &str) -> Result<(), Invalid> {
    let message = Message { id: got.header("webhook-id"), timestamp: got.header("webhook-timestamp"), body: &got.body };
    let clock = Clock { now: message.timestamp.parse().unwrap(), tolerance_seconds: 0 };
    webhook::verify(&message, got.header("webhook-signature"), clock, &[WebhookSecret::parse(secret).unwrap()])
}

/// The new secret signs, the old one until that time, which may change while the courier runs.
fn rotating(mut options: Options, until_ms: &Arc<AtomicI64>) -> Options {
    let (lookup, until_ms) = (options.tenants.lookup.clone(), Arc::clone(until_ms));
    options.tenants.lookup = Arc::new(move |tenant| {
        let settings = lookup(tenant)?;
        let (secret, until_ms) = (WebhookSecret::parse(NEW).ok(), until_ms.load(Ordering::SeqCst));
        let retiring = settings.secret.map(|secret| RetiringSecret { secret, until_ms });
        Some(TenantForwardSettings { allowlist: settings.allowlist, secret, retiring })
    });
    options
}

#[test]
fn during_a_rotation_a_receiver_may_know_either_secret_and_afterwards_only_the_new_one() {
    let world = World::new();
    let receiver = Receiver::start(&world.ca, &["good.example"], |_, _| Reply::Status(200));
    let entry = format!("good.example:{}", receiver.address.port());
    let until_ms = Arc::new(AtomicI64::new(i64::MAX));
    let _running = world.run(rotating(world.options(&[&entry]), &until_ms));

    world.seal(&sealed(1, &receiver.url("good.example")));
    world.outcomes(1);
    until_ms.store(0, Ordering::SeqCst);
    world.seal(&sealed(2, &receiver.url("good.example")));
    world.outcomes(2);

    let [during, after] = &receiver.got()[..] else { panic!("two calls") };
    assert_eq!([SECRET, NEW].map(|secret| believed(during, secret)), [Ok(()), Ok(())]);
    assert_eq!(during.header("webhook-signature").split(' ').count(), 2);
    assert_eq!([SECRET, NEW].map(|secret| believed(after, secret)), [Err(Invalid::NoSignatureMatches), Ok(())]);
}
