//! An embedded log with the topics that forward touches, a courier on a thread of its own, and commits that fail on demand.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use event::destination::{AddressRules, Allowlist};
use event::wire::{ExchangeDelivered, ExchangeSealed, PendingDelivery, Wire};
use forward::owed::PENDING;
use forward::{DialOptions, Options, Resolver, TenantForwardSettings, Tenants, WebhookSecret};
use log::embedded::EmbeddedLog;
use log::{Batch, Cause, Fault, Group, Log, Member, Output, Position, Record, Topic};
use stage::Stop;
use stage::testing::{Hook, HookedLog, Point, append, open_log, read};
use tempfile::TempDir;

use crate::receiver::Ca;

pub(crate) const PARTITIONS: u32 = 2;
pub(crate) const SECRET: &str = "whsec_DW5AeeNnA+vTfAByL1iR0osOKBHcEUsS";
pub(crate) const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

pub(crate) struct World {
    pub(crate) ca: Ca,
    pub(crate) log: EmbeddedLog,
    ca_file: PathBuf,
    _dir: TempDir,
}

pub(crate) fn delivered() -> Topic {
    Topic::new(event::topic::DELIVERED)
}

pub(crate) fn sealed(number: usize, url: &str) -> ExchangeSealed {
    ExchangeSealed {
        exchange_id: format!("ex_{number:026}"),
        tenant: "acme".into(),
        trace_id: format!("trace-{number}"),
        idempotency_key: format!("key-{number}"),
        admitted_at: 1_800_000_000_000,
        receipt: format!(r#"{{"cid":"sha256:{number:064}"}}"#),
        payload: format!("{{\"number\":{number}}}").into_bytes(),
        payload_key_id: None,
        payload_type: "passthrough".into(),
        target_type: "passthrough".into(),
        vex: 1,
        fu: 0,
        amount: None,
        forward_url: Some(url.to_owned()),
        config_version: 1,
        normalization: None,
    }
}

pub(crate) fn settings(hosts: &[&str]) -> TenantForwardSettings {
    TenantForwardSettings {
        allowlist: Allowlist::parse(hosts).unwrap(),
        secret: Some(WebhookSecret::parse(SECRET).unwrap()),
        retiring: None,
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let (ca, dir) = (Ca::new(), TempDir::new().unwrap());
        let ca_file = dir.path().join("ca.pem");
        ca.write(&ca_file);
        let inputs = vec![Topic::new(event::topic::SEALED), Topic::new("forward.redo.v1")];
        let names =
            [event::topic::SEALED, "forward.redo.v1", event::topic::DELIVERED, "forward.dead.v1", "forward.state.v1"];
        let topics = names.map(|name| (name.to_owned(), PARTITIONS));
        let log = open_log(&dir.path().join("log"), topics, &[Group { name: "forward".into(), inputs }]);
        Self { ca, log, ca_file, _dir: dir }
    }

    /// Names below `.example` resolve to the loopback address, which is allowed; pauses are short.
    pub(crate) fn options(&self, hosts: &[&str]) -> Options {
        let settings = settings(hosts);
        let lookup = Arc::new(move |tenant: &str| (tenant == "acme").then(|| settings.clone()));
        let tenants = Tenants { lookup, version: Arc::new(|| i64::MAX), catch_up: Arc::new(|| Ok(())) };
        let mut options = Options::new("0", tenants);
        let loopback = || vec!["127.0.0.1".parse().unwrap()];
        options.dial = DialOptions {
            rules: AddressRules { networks_allowed: vec!["127.0.0.0/8".parse().unwrap()], ..AddressRules::default() },
            ca_file: Some(self.ca_file.clone()),
            resolver: Resolver::Table(BTreeMap::from([
                ("good.example".to_owned(), loopback()),
                ("slow.example".to_owned(), loopback()),
            ])),
            ..DialOptions::default()
        };
        options.retries.backoff_first = Duration::from_millis(10);
        options
    }

    pub(crate) fn seal(&self, sealed: &ExchangeSealed) -> Position {
        let key = format!("{}:{}", sealed.tenant, sealed.trace_id);
        self.append(event::topic::SEALED, &key, &sealed.encode().unwrap())
    }

    pub(crate) fn append(&self, topic: &str, key: &str, value: &[u8]) -> Position {
        let output = Output {
            topic: &Topic::new(topic),
            partition: None,
            key: Some(key.as_bytes()),
            value: Some(value),
            headers: &[("traceparent", TRACEPARENT.as_bytes())],
        };
        append(&self.log, &output)
    }

    /// Waits until so many records have come, in order of their partitions.
    pub(crate) fn records(&self, topic: &Topic, count: usize) -> Vec<Record> {
        read(&self.log, topic, count)
    }

    pub(crate) fn outcomes(&self, count: usize) -> Vec<ExchangeDelivered> {
        let records = self.records(&delivered(), count);
        records.iter().map(|record| ExchangeDelivered::decode(record.value.as_ref().unwrap()).unwrap()).collect()
    }

    pub(crate) fn count(&self, topic: &Topic) -> u64 {
        self.log.ends(topic).unwrap().iter().map(|position| position.offset).sum()
    }

    /// What the state holds, while no courier runs.
    pub(crate) fn pending(&self) -> Vec<PendingDelivery> {
        let inputs = vec![Topic::new(event::topic::SEALED), Topic::new("forward.redo.v1")];
        let state = Some(Topic::new("forward.state.v1"));
        let member = Member { group: "forward".into(), slot: "0".into(), inputs, state };
        let mut session = self.log.join(&member).unwrap();
        while session.positions().is_empty() {
            session.poll(Duration::from_millis(100), &mut Batch::default()).unwrap();
        }
        let mut pending = Vec::new();
        for partition in 0..PARTITIONS {
            session
                .scan(partition, &[PENDING], &mut |key, value| {
                    if key.starts_with(&[PENDING]) {
                        pending.push(PendingDelivery::decode(value).unwrap());
                    }
                    key.starts_with(&[PENDING])
                })
                .unwrap();
        }
        pending
    }

    pub(crate) fn run(&self, options: Options) -> Running {
        Running::start(self.log.clone(), options)
    }
}

/// A courier. Dropping it stops it and checks that it ended well.
pub(crate) struct Running {
    stop: Stop,
    thread: Option<JoinHandle<Result<(), Fault>>>,
}

impl Running {
    pub(crate) fn start(log: impl Log + 'static, options: Options) -> Self {
        let stop = Stop::new();
        let asked = stop.clone();
        let thread = std::thread::spawn(move || forward::run(&log, options, &asked));
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.request();
        let outcome = self.thread.take().unwrap().join().unwrap();
        if !std::thread::panicking() {
            outcome.unwrap();
        }
    }
}

/// How the commits of outcomes fail.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Failure {
    /// Nothing of it happened.
    Aborted,
    /// It happened, but nobody was told.
    Unacknowledged,
}

/// A log whose first commits of outcomes fail, as many as are left.
pub(crate) fn failing(log: EmbeddedLog, failure: Failure, left: Arc<AtomicUsize>) -> HookedLog {
    let has_outcome = Arc::new(AtomicBool::new(false));
    let seen = has_outcome.clone();
    let fails = move || {
        seen.swap(false, Ordering::SeqCst)
            && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    };
    let hook: Hook = Arc::new(move |point| match (point, failure) {
        (Point::BeforeEmit(topic), _) if *topic == delivered() => {
            has_outcome.store(true, Ordering::SeqCst);
            None
        }
        (Point::BeforeCommit, Failure::Aborted) if fails() => Some(Fault::Abort(Cause::new("planted", "aborted"))),
        (Point::AfterCommit, Failure::Unacknowledged) if fails() => {
            Some(Fault::Unknown(Cause::new("planted", "not acknowledged")))
        }
        _ => None,
    });
    HookedLog { log, hook }
}
