//! An embedded log with the topics that forward touches, a courier on a thread of its own, and a log that fails on demand.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use event::destination::{AddressRules, Allowlist};
use event::wire::{ExchangeDelivered, ExchangeSealed, PendingDelivery, Wire};
use forward::{DialOptions, Options, Resolver, TenantForwardSettings, WebhookSecret};
use log::embedded::EmbeddedLog;
use log::{
    AckSink, Batch, Cause, Cleanup, Committed, Fault, Group, Log, Member, Output, Polled, Position, Record, Session,
    Tail, Topic, TopicChange, TopicSpec,
};
use stage::Stop;
use tempfile::TempDir;

use crate::receiver::{Ca, PATIENCE};

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
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let (ca, dir) = (Ca::new(), TempDir::new().unwrap());
        let ca_file = dir.path().join("ca.pem");
        ca.write(&ca_file);
        let log = EmbeddedLog::open(&dir.path().join("log")).unwrap();
        let inputs = vec![Topic::new(event::topic::SEALED), Topic::new("forward.redo.v1")];
        let others = [delivered(), Topic::new("forward.dead.v1"), Topic::new("forward.state.v1")];
        let specs: Vec<TopicSpec> = inputs
            .iter()
            .cloned()
            .chain(others)
            .map(|topic| TopicSpec {
                cleanup: if topic.as_str() == "forward.state.v1" {
                    Cleanup::Compact
                } else {
                    Cleanup::Delete { retention: None }
                },
                topic,
                partitions: PARTITIONS,
                log_append_time: false,
            })
            .collect();
        log.apply(&specs, &[Group { name: "forward".into(), inputs }]).unwrap();
        Self { ca, log, ca_file, _dir: dir }
    }

    /// Names below `.example` resolve to the loopback address, which is allowed; pauses are short.
    pub(crate) fn options(&self, hosts: &[&str]) -> Options {
        let settings = TenantForwardSettings {
            allowlist: Allowlist::parse(hosts).unwrap(),
            secret: Some(WebhookSecret::parse(SECRET).unwrap()),
        };
        let tenants = Arc::new(move |tenant: &str| (tenant == "acme").then(|| settings.clone()));
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
        let (done, acknowledged) = channel();
        let output = Output {
            topic: &Topic::new(topic),
            partition: None,
            key: Some(key.as_bytes()),
            value: Some(value),
            headers: &[("traceparent", TRACEPARENT.as_bytes())],
        };
        self.log.append(&output, Box::new(move |ack| drop(done.send(ack)))).unwrap();
        acknowledged.recv_timeout(PATIENCE).unwrap().unwrap()
    }

    /// Waits until so many records have come, in order of their partitions.
    pub(crate) fn records(&self, topic: &Topic, count: usize) -> Vec<Record> {
        let mut tail = self.log.tail(&self.log.starts(topic).unwrap()).unwrap();
        let until = Instant::now() + PATIENCE;
        let mut batch = Batch::default();
        while batch.records.len() < count {
            assert!(Instant::now() < until, "{} records of {count} came in {topic}", batch.records.len());
            tail.poll(Duration::from_millis(100), &mut batch).unwrap();
        }
        batch.records
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
                .scan(partition, &[], &mut |_, value| {
                    pending.push(PendingDelivery::decode(value).unwrap());
                    true
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

/// A log whose first commits of outcomes fail.
pub(crate) struct FailingLog {
    pub(crate) log: EmbeddedLog,
    pub(crate) failure: Failure,
    pub(crate) left: Arc<AtomicUsize>,
}

impl Log for FailingLog {
    fn identity(&self) -> &str {
        self.log.identity()
    }

    fn apply(&self, topics: &[TopicSpec], groups: &[Group]) -> Result<Vec<TopicChange>, Fault> {
        self.log.apply(topics, groups)
    }

    fn partitions(&self, topic: &Topic) -> Result<Option<u32>, Fault> {
        self.log.partitions(topic)
    }

    fn ends(&self, topic: &Topic) -> Result<Vec<Position>, Fault> {
        self.log.ends(topic)
    }

    fn starts(&self, topic: &Topic) -> Result<Vec<Position>, Fault> {
        self.log.starts(topic)
    }

    fn progress(&self, group: &str, topic: &Topic) -> Result<Vec<Position>, Fault> {
        self.log.progress(group, topic)
    }

    fn join(&self, member: &Member) -> Result<Box<dyn Session>, Fault> {
        let inner = self.log.join(member)?;
        Ok(Box::new(FailingSession { inner, failure: self.failure, left: self.left.clone(), has_outcome: false }))
    }

    fn append(&self, out: &Output<'_>, done: AckSink) -> Result<(), Fault> {
        self.log.append(out, done)
    }

    fn tail(&self, from: &[Position]) -> Result<Box<dyn Tail>, Fault> {
        self.log.tail(from)
    }
}

struct FailingSession {
    inner: Box<dyn Session>,
    failure: Failure,
    left: Arc<AtomicUsize>,
    has_outcome: bool,
}

impl Session for FailingSession {
    fn poll(&mut self, wait: Duration, into: &mut Batch) -> Result<Polled, Fault> {
        self.inner.poll(wait, into)
    }

    fn positions(&self) -> Vec<Position> {
        self.inner.positions()
    }

    fn get(&self, partition: u32, key: &[u8], out: &mut Vec<u8>) -> Result<bool, Fault> {
        self.inner.get(partition, key, out)
    }

    fn scan(&self, partition: u32, from: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), Fault> {
        self.inner.scan(partition, from, visit)
    }

    fn put(&mut self, partition: u32, key: &[u8], value: Option<&[u8]>) -> Result<(), Fault> {
        self.inner.put(partition, key, value)
    }

    fn forget(&mut self, partition: u32, prefix: &[u8]) -> Result<(), Fault> {
        self.inner.forget(partition, prefix)
    }

    fn emit(&mut self, out: &Output<'_>) -> Result<(), Fault> {
        self.has_outcome |= *out.topic == delivered();
        self.inner.emit(out)
    }

    fn commit(&mut self, next: &[Position]) -> Result<Committed, Fault> {
        let has_outcome = std::mem::take(&mut self.has_outcome);
        let fails = has_outcome
            && self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        match self.failure {
            Failure::Aborted if fails => Err(Fault::Abort(Cause::new("planted", "aborted"))),
            Failure::Unacknowledged if fails => {
                self.inner.commit(next)?;
                Err(Fault::Unknown(Cause::new("planted", "not acknowledged")))
            }
            _ => self.inner.commit(next),
        }
    }

    fn recover(&mut self) -> Result<(), Fault> {
        self.has_outcome = false;
        self.inner.recover()
    }

    fn seek(&mut self, at: &[Position]) -> Result<(), Fault> {
        self.inner.seek(at)
    }

    fn release(&mut self) -> Result<(), Fault> {
        self.inner.release()
    }
}
