//! Exactly once, the whole way: a load goes through `countersign up` while it is killed again and again, and what the
//! topics hold afterwards is compared with what the input alone says must be there.
//!
//! The size of the load is `COUNTERSIGN_TEST_EXCHANGES`, its seed `COUNTERSIGN_TEST_SEED`; a failed run leaves its
//! directory and names both.

mod driver;
mod input;
mod oracle;
pub(crate) mod parts;
pub(crate) mod pipeline;
mod receiver;
pub(crate) mod topics;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::Log;
use log::embedded::EmbeddedLog;
use log::kafka::{KafkaConfig, KafkaLog};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use driver::{Driver, Seen};
use input::{Plan, Rng, TENANTS};
use oracle::Oracle;
use parts::Parts;
use pipeline::Pipeline;
use receiver::Receiver;
use topics::Found;

const EXCHANGES: usize = 20_000;
const SEED: u64 = 20_261_121;
const AT_ONCE: usize = 64;
/// kill -9 of a pipeline at work.
const KILLS: usize = 10;
/// kill -9 of a pipeline that is still starting.
const KILLS_AT_START: usize = 2;
const BROKER_KILLS: usize = 3;
/// The pipeline may give up so often where a broker is killed.
const OWN_ENDS_MAX: usize = 10 * BROKER_KILLS;
/// Nothing is decided for so long: the pipeline hangs.
const STALL_DEADLINE: Duration = Duration::from_secs(180);
const BOOKS_DEADLINE: Duration = Duration::from_secs(240);
/// How often it is looked whether the pipeline still runs.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
struct Survived {
    kills: usize,
    broker_kills: usize,
    /// The pipeline ended itself and was started again, as an orchestrator does (cluster only).
    own_ends: Vec<String>,
}

/// What is done to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    Kill,
    /// So long after the start.
    KillAtStart(Duration),
    KillBroker,
}

/// One run, on either profile.
struct Run {
    runtime: Runtime,
    directory: tempfile::TempDir,
    pipeline: Pipeline,
    parts: Option<Parts>,
    receiver: Receiver,
    plan: Plan,
    rng: Rng,
    survived: Survived,
}

fn setting<T: std::str::FromStr>(name: &str, default: T) -> T {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")),
        Err(_) => default,
    }
}

/// Each load wants the whole machine: a broker that starts beside another load is away for longer than a transaction lasts.
pub(crate) fn alone() -> std::sync::MutexGuard<'static, ()> {
    static MACHINE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    MACHINE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[test]
fn an_exchange_is_settled_exactly_once_on_the_embedded_log() {
    let _alone = alone();
    let run = Run::prepare(None);
    let log_directory = run.pipeline_directory().join("log");
    run.through(|| Box::new(EmbeddedLog::open(&log_directory).expect("the log of a pipeline that has ended")));
}

#[test]
fn an_exchange_is_settled_exactly_once_on_kafka() {
    let _alone = alone();
    let directory = tempfile::Builder::new().prefix("countersign-parts-").tempdir().expect("a directory");
    let parts = Parts::start(directory.path());
    let (brokers, state) = (parts.brokers().to_owned(), directory.path().join("reader"));
    let run = Run::prepare(Some(parts));
    run.through(|| Box::new(KafkaLog::open(KafkaConfig::new(&brokers, state)).expect("the log is there")));
}

impl Run {
    fn prepare(parts: Option<Parts>) -> Self {
        // An error means that a provider is installed already, which is all that is wanted.
        drop(rustls::crypto::ring::default_provider().install_default());
        let (exchanges, seed) =
            (setting("COUNTERSIGN_TEST_EXCHANGES", EXCHANGES), setting("COUNTERSIGN_TEST_SEED", SEED));
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        let mut directory =
            tempfile::Builder::new().prefix("countersign-exactly-once-").tempdir().expect("a directory");
        // Kept where the test fails; `through` removes it where it does not.
        directory.disable_cleanup(true);
        println!("exactly once: seed {seed}, {exchanges} exchanges, in {}", directory.path().display());
        let receiver = runtime.block_on(Receiver::start(directory.path()));
        let data = directory.path().join("data");
        std::fs::create_dir(&data).expect("a data directory");
        std::fs::write(data.join("countersign.toml"), configuration(&receiver, parts.as_ref()))
            .expect("a configuration");
        let plan = Plan::make(seed, exchanges, receiver.port);
        let survived = Survived::default();
        Self {
            pipeline: Pipeline::new(&data),
            runtime,
            directory,
            parts,
            receiver,
            plan,
            rng: Rng::new(!seed),
            survived,
        }
    }

    fn pipeline_directory(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Everything: the load under blows, the books, the topics, the oracle.
    fn through(mut self, open: impl FnOnce() -> Box<dyn Log>) {
        let begun = Instant::now();
        let api_keys =
            TENANTS.iter().map(|tenant| self.pipeline.run(&["keys", "create", "--tenant", tenant]).1.trim().to_owned());
        let driver = Driver::new(&self.plan, SEED, self.pipeline.base(), api_keys.collect());
        self.bring_up();
        let mut load = self.runtime.spawn(Arc::clone(&driver).run(AT_ONCE));
        self.strike(&mut load, driver.decided());
        let loaded = begun.elapsed();
        let seen = driver.seen();

        let report = self.close_books();
        self.pipeline.stop();
        let log = open();
        let found = Found::read(log.as_ref());
        drop(log);

        let oracle = Oracle::new(&self.plan);
        let mut faults = oracle.faults(&found);
        faults.extend(oracle::verifier_faults(&found));
        faults.extend(oracle.seen_outside(&found, &seen, &driver.receipts_given(), &self.receiver.seen()));
        for (what, expected) in
            [("sealed", oracle.sealed()), ("metered", oracle.sealed()), ("requested", found.requested.len())]
        {
            if report["totals"][what] != expected {
                faults.push(format!("the books say {what} {}, not {expected}", report["totals"][what]));
            }
        }
        let place = self.directory.path().display();
        assert!(faults.is_empty(), "{}; see {place}", told(&faults));
        the_oracle_sees_what_is_planted(&oracle, &found);
        self.summary(&oracle, &found, &seen, (loaded, begun.elapsed()));
        self.directory.disable_cleanup(false);
    }

    /// Kills at seeded moments until the load is through.
    fn strike(&mut self, load: &mut JoinHandle<()>, decided: watch::Receiver<usize>) {
        let mut moments = self.moments();
        while let Some((threshold, blow)) = moments.pop() {
            self.await_decided(&decided, threshold);
            // Anywhere in what follows, not only where a count was reached.
            let pause = Duration::from_millis(self.rng.below(400));
            std::thread::sleep(pause);
            self.deal(blow);
        }
        self.await_decided(&decided, self.plan.requests);
        let ended = self.runtime.block_on(async { tokio::time::timeout(STALL_DEADLINE, load).await });
        ended.expect("the load ends with its last request").expect("no worker failed");
    }

    /// Thresholds in falling order, each with what happens there.
    fn moments(&mut self) -> Vec<(usize, Blow)> {
        let mut blows = vec![Blow::Kill; KILLS];
        for _ in 0..KILLS_AT_START {
            blows.push(Blow::KillAtStart(Duration::from_millis(self.rng.below(1_500))));
        }
        if self.parts.is_some() {
            blows.extend([Blow::KillBroker; BROKER_KILLS]);
        }
        let requests = self.plan.requests as u64;
        let mut moments: Vec<(usize, u64, Blow)> = blows
            .into_iter()
            .map(|blow| {
                let threshold = requests / 50 + self.rng.below(requests * 9 / 10);
                (usize::try_from(threshold).expect("a count"), self.rng.below(u64::MAX), blow)
            })
            .collect();
        moments.sort_by_key(|(threshold, random, _)| (std::cmp::Reverse(*threshold), *random));
        moments.into_iter().map(|(threshold, _, blow)| (threshold, blow)).collect()
    }

    fn deal(&mut self, blow: Blow) {
        match (blow, &self.parts) {
            (Blow::KillBroker, Some(parts)) => {
                parts.kill_broker();
                self.survived.broker_kills += 1;
                parts.restart_broker();
            }
            (Blow::KillAtStart(after), _) => {
                self.pipeline.kill();
                self.pipeline.start_and_kill(after);
                self.survived.kills += 2;
                self.bring_up();
            }
            (Blow::Kill | Blow::KillBroker, _) => {
                self.pipeline.kill();
                self.survived.kills += 1;
                self.bring_up();
            }
        }
    }

    /// Waits until so many requests are decided, and for none longer than a stall may last.
    fn await_decided(&mut self, decided: &watch::Receiver<usize>, threshold: usize) {
        let (mut moved, mut last) = (Instant::now(), *decided.borrow());
        let mut decided = decided.clone();
        loop {
            let reached = self.runtime.block_on(async {
                tokio::time::timeout(WATCH_INTERVAL, decided.wait_for(|decided| *decided >= threshold)).await.is_ok()
            });
            self.keep_running();
            if reached {
                return;
            }
            let now = *decided.borrow();
            if now != last {
                (moved, last) = (Instant::now(), now);
            }
            let place = self.directory.path().display();
            assert!(
                moved.elapsed() < STALL_DEADLINE,
                "no decision after {last} of {}: {}; see {place}",
                self.plan.requests,
                self.pipeline.said()
            );
        }
    }

    /// Looks whether the pipeline still runs.
    fn keep_running(&mut self) {
        if let Some(end) = self.pipeline.ended() {
            self.ended_of_itself(end);
            self.bring_up();
        }
    }

    fn bring_up(&mut self) {
        while let Err(end) = self.pipeline.start() {
            self.ended_of_itself(end);
        }
    }

    /// A process that ends of itself is started again, as an orchestrator does, where a broker may be away; on the embedded
    /// log it may not end.
    fn ended_of_itself(&mut self, end: String) {
        assert!(self.parts.is_some(), "the pipeline ended of itself: {end}; see {}", self.directory.path().display());
        self.survived.own_ends.push(end);
        let ends = &self.survived.own_ends;
        assert!(
            ends.len() <= OWN_ENDS_MAX,
            "the pipeline keeps ending: {ends:#?}; see {}",
            self.directory.path().display()
        );
    }

    /// Closes the books; deliveries that are still due may take some time.
    fn close_books(&self) -> serde_json::Value {
        let deadline = Instant::now() + BOOKS_DEADLINE;
        loop {
            let (closed, report) = self.pipeline.close_books(Duration::from_secs(60));
            if closed {
                return report;
            }
            let place = self.directory.path().display();
            assert!(Instant::now() < deadline, "the books do not close: {report:#}; see {place}");
        }
    }

    fn summary(&self, oracle: &Oracle<'_>, found: &Found, seen: &Seen, (loaded, whole): (Duration, Duration)) {
        let survived = &self.survived;
        println!(
            "exactly once: {} exchanges ({} sealed, {} duplicates, {} posted, {} delivered or given up) in {} requests sent as {}, \
             {} answers replayed; survived {} kills -9 of the pipeline, {} of the broker, {} ends of its own; \
             load {:.0} s, in all {:.0} s",
            self.plan.exchanges.len(),
            oracle.sealed(),
            self.plan.duplicates,
            found.posted.len(),
            found.delivered.len(),
            self.plan.requests,
            seen.sent,
            seen.replayed,
            survived.kills,
            survived.broker_kills,
            survived.own_ends.len(),
            loaded.as_secs_f64(),
            whole.as_secs_f64(),
        );
        for end in &survived.own_ends {
            println!("  it ended with {end}");
        }
        assert!(survived.kills >= KILLS);
    }
}

fn configuration(receiver: &Receiver, parts: Option<&Parts>) -> String {
    let mut text = String::new();
    if let Some(parts) = parts {
        let (brokers, database) = (parts.brokers(), parts.database());
        // A broker beside the pipeline on two cores spends its time on the markers of every partition that a transaction
        // touches: with fewer of them the load is through in minutes.
        let cluster = format!(
            "profile = 'cluster'\n[log]\nbrokers = '{brokers}'\npartitions = 4\n[database]\nurl = '{database}'\n"
        );
        text.push_str(&cluster);
    }
    let ca_file = receiver.ca_file.display();
    write!(
        text,
        "[telemetry]\nlog = 'warn,sqlx=error'\n[forward]\nnetworks_allowed = ['127.0.0.0/8', '::1/128']\nca_file = '{ca_file}'\n"
    )
    .expect("a string takes everything");
    for tenant in TENANTS {
        write!(text, "[tenants.{tenant}]\nforward_allowlist = ['localhost:{}']\n", receiver.port)
            .expect("a string takes everything");
    }
    text
}

fn told(faults: &[String]) -> String {
    let some: Vec<&str> = faults.iter().take(40).map(String::as_str).collect();
    format!("{} faults:\n  {}", faults.len(), some.join("\n  "))
}

/// The comparison can fail: whatever is lost, doubled or changed in what was found is told.
fn the_oracle_sees_what_is_planted(oracle: &Oracle<'_>, found: &Found) {
    type Plant = fn(&mut Found);
    let plants: [(&str, Plant); 13] = [
        ("a seal lost", |found| drop(found.sealed.pop())),
        ("a seal doubled", |found| found.sealed.push(found.sealed[0].clone())),
        ("a payload changed", |found| found.sealed[0].payload[0] ^= 1),
        ("a usage record lost", |found| drop(found.usage.pop())),
        ("a usage record doubled", |found| found.usage.push(found.usage[0].clone())),
        ("a total that is one short", |found| {
            found.totals.values_mut().filter(|total| total.meter == "vex").take(1).for_each(|total| total.total -= 1);
        }),
        ("a posting lost", |found| drop(found.posted.pop())),
        ("a posting doubled", |found| found.posted.push(found.posted[0].clone())),
        ("a fee that is one off", |found| found.posted[0].transfers[0].minor += 1),
        ("an outcome doubled", |found| found.delivered.push(found.delivered[0].clone())),
        ("a request without outcome", |found| drop(found.admitted.pop())),
        ("a command doubled", |found| found.commands.push(found.commands[0].clone())),
        ("a chain that forks", |found| {
            let hop =
                found.sealed.iter().position(|sealed| sealed.receipt.contains("\"hop\":2,")).expect("a second hop");
            found.sealed[hop].receipt = found.sealed[hop].receipt.replace("\"hop\":2,", "\"hop\":1,");
        }),
    ];
    // One receipt and no key: the verifier is really asked.
    let unsigned = Found { sealed: found.sealed[..1].to_vec(), ..Found::default() };
    assert!(!oracle::verifier_faults(&unsigned).is_empty(), "a receipt without a key is not seen");
    for (what, plant) in plants {
        let mut planted = found.clone();
        plant(&mut planted);
        assert!(!oracle.faults(&planted).is_empty(), "{what} is not seen");
    }
}

/// What a test of the pipeline needs is there, or is named.
#[test]
fn the_binary_of_this_build_is_there() {
    let version = std::process::Command::new(pipeline::binary()).arg("--version").output().expect("it runs");
    assert!(String::from_utf8_lossy(&version.stdout).starts_with("countersign "));
}
