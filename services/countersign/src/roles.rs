//! The roles: which threads each one is, and what happens when one of them ends.

use std::error::Error;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use access::{Directory, Secret, TenantSettings};
use canonicalise::Canonicalise;
use event::destination::{AddressRules, Allowlist};
use event::id::TenantId;
use event::topic;
use log::{Log, Member, Topic};
use sign::{SealedLookup, Sign};
use signing::{KeyFileError, KeyFiles, Keyring, Use};
use stage::expiring::Window;
use stage::{RunOptions, Step, Stop};

use crate::config::Config;
use crate::data_dir::DataDir;
use crate::failure::{Doing as _, Failure};
use crate::substrate::{Substrate, ledger_url};

/// One service of the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Ingest,
    Canonicalise,
    Sign,
    Meter,
    Settle,
    Forward,
    View,
    Audit,
}

impl Role {
    /// In the order of an exchange's way.
    pub(crate) const ALL: &[Self] = &[
        Self::Ingest,
        Self::Canonicalise,
        Self::Sign,
        Self::Meter,
        Self::Settle,
        Self::Forward,
        Self::View,
        Self::Audit,
    ];
}

/// A thread that ended although nobody asked it to.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) thread: String,
    pub(crate) why: String,
}

/// The threads of this process. The first that fails ends the process: whoever started it starts it again.
pub(crate) struct Crew {
    pub(crate) stop: Stop,
    threads: Vec<JoinHandle<()>>,
    ingest: Option<ingest::Ingest>,
    report: Sender<Ended>,
    pub(crate) ended: Option<Receiver<Ended>>,
}

impl Crew {
    pub(crate) fn new(stop: Stop) -> Self {
        let (report, ended) = channel();
        Self { stop, threads: Vec::new(), ingest: None, report, ended: Some(ended) }
    }

    /// Starts a thread that runs until the stop.
    pub(crate) fn spawn(
        &mut self,
        name: &str,
        body: impl FnOnce(&Stop) -> Result<(), Box<dyn Error>> + Send + 'static,
    ) -> Result<(), Failure> {
        let (stop, report, thread) = (self.stop.clone(), self.report.clone(), name.to_owned());
        let run = move || {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(&stop)));
            let why = match outcome {
                Ok(Ok(())) if stop.requested() => return,
                Ok(Ok(())) => "it ended by itself".to_owned(),
                Ok(Err(error)) => chain(error.as_ref()),
                Err(_) => "it panicked".to_owned(),
            };
            // Nobody listens any more only when the process is ending already.
            drop(report.send(Ended { thread, why }));
        };
        let started = std::thread::Builder::new().name(name.to_owned()).spawn(run);
        self.threads.push(started.doing("a thread cannot be started")?);
        Ok(())
    }

    /// Ingest has threads of its own, which end with the others.
    pub(crate) fn keep(&mut self, ingest: ingest::Ingest) {
        self.ingest = Some(ingest);
    }

    /// Waits for every thread; request the stop first.
    pub(crate) fn join(self) {
        if let Some(ingest) = self.ingest {
            ingest.join();
        }
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a thread could not be joined");
            }
        }
    }
}

/// An error with its causes, on one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// What the steps of one process share.
pub(crate) struct Shared {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) window: Window,
    pub(crate) slot: String,
}

impl Shared {
    pub(crate) fn new(substrate: &Substrate, directory: Arc<Directory>) -> Self {
        Self {
            log: Arc::clone(&substrate.log),
            directory,
            window: Window::of_days(substrate.config.dedup_window_days.days()),
            slot: substrate.config.log.slot.clone(),
        }
    }

    /// Runs a pure step under its name until the stop.
    fn run_step(&self, crew: &mut Crew, name: &'static str, mut step: impl Step + 'static) -> Result<(), Failure> {
        let layout = topic::step(name).ok_or_else(|| Failure::new(format!("there is no step {name}")))?;
        let member = Member {
            group: name.to_owned(),
            slot: self.slot.clone(),
            inputs: vec![Topic::new(layout.input), Topic::new(&layout.redo_topic())],
            state: layout.state.map(Topic::new),
        };
        let options = RunOptions::new(member, Topic::new(&layout.dead_topic()));
        let log = Arc::clone(&self.log);
        crew.spawn(name, move |stop| {
            stage::run(log.as_ref(), &mut step, &options, stop)?;
            Ok(())
        })
    }
}

pub(crate) fn canonicalise(shared: &Shared, crew: &mut Crew, config: &Config) -> Result<(), Failure> {
    let settings = canonicalise::Settings {
        window: shared.window,
        limits: event::door::Limits::default(),
        partitions: config.partitions(),
    };
    let (directory, log) = (Arc::clone(&shared.directory), Arc::clone(&shared.log));
    let refresh = Box::new(move || directory.catch_up(log.as_ref()));
    shared.run_step(crew, "canonicalise", Canonicalise::new(settings, Arc::clone(&shared.directory), refresh))
}

/// The keys that sign receipts, made at first start and listed for everybody before the first signature.
pub(crate) fn signing_keys(log: Arc<dyn Log>, data: &DataDir) -> Result<Keyring, Failure> {
    keyring(log, KeyFiles::new(data.signing(), Use::Receipts)).doing("the signing keys cannot be used")
}

/// The keys that sign bundles, likewise.
pub(crate) fn bundle_keys(log: Arc<dyn Log>, data: &DataDir) -> Result<Keyring, Failure> {
    keyring(log, KeyFiles::new(data.signing(), Use::Bundles)).doing("the bundle keys cannot be used")
}

fn keyring(log: Arc<dyn Log>, files: KeyFiles) -> Result<Keyring, KeyFileError> {
    let seed: [u8; 32] = rand::random();
    Keyring::open(files, &seed, log, unix_seconds)
}

/// Takes up new keys until the stop.
pub(crate) fn follow_keys(crew: &mut Crew, thread: &str, keys: &Keyring) -> Result<(), Failure> {
    let followed = keys.clone();
    crew.spawn(thread, move |stop| {
        followed.follow(stop);
        Ok(())
    })
}

pub(crate) fn sign(shared: &Shared, crew: &mut Crew, keys: Keyring) -> Result<(), Failure> {
    follow_keys(crew, "sign-keys", &keys)?;
    let settings = sign::Settings { window: shared.window, keys };
    shared.run_step(crew, "sign", Sign::new(settings, SealedLookup::new(Arc::clone(&shared.log))))
}

pub(crate) fn meter(shared: &Shared, crew: &mut Crew) -> Result<(), Failure> {
    shared.run_step(crew, "meter", meter::Record::new(billing::BUILTIN_TARIFF_VERSION))?;
    shared.run_step(crew, "meter.tally", meter::Tally::default())
}

pub(crate) fn settle(shared: &Shared, crew: &mut Crew, substrate: &Substrate) -> Result<(), Failure> {
    let options = settle::SettleOptions::new(&shared.slot, ledger_url(&substrate.config, &substrate.data)?);
    let log = Arc::clone(&shared.log);
    crew.spawn("settle", move |stop| Ok(settle::run(log.as_ref(), &options, stop)?))
}

pub(crate) fn forward(shared: &Shared, crew: &mut Crew, config: &Config) -> Result<(), Failure> {
    let directory = Arc::clone(&shared.directory);
    let (known, read, log) = (Arc::clone(&directory), Arc::clone(&directory), Arc::clone(&shared.log));
    let tenants = forward::Tenants {
        lookup: Arc::new(move |tenant| {
            let settings = directory.tenant(&TenantId::parse(tenant).ok()?)?;
            Some(forward_settings(&settings))
        }),
        version: Arc::new(move || known.config_version()),
        catch_up: Arc::new(move || read.catch_up(log.as_ref())),
    };
    let mut options = forward::Options::new(shared.slot.clone(), tenants);
    options.dial.rules = address_rules(config)?;
    options.dial.ca_file = config.forward.ca_file.clone();
    let log = Arc::clone(&shared.log);
    crew.spawn("forward", move |stop| Ok(forward::run(log.as_ref(), options, stop)?))
}

/// What forward needs of a tenant's settings.
pub(crate) fn forward_settings(settings: &TenantSettings) -> forward::TenantForwardSettings {
    let parsed = |secret: &Secret| forward::WebhookSecret::parse(secret.expose()).ok();
    let retiring = settings.webhook_secret_retiring.as_ref().and_then(|retiring| {
        Some(forward::RetiringSecret { secret: parsed(&retiring.secret)?, until_ms: retiring.until_ms })
    });
    forward::TenantForwardSettings {
        allowlist: Allowlist::lenient(&settings.forward_allowlist),
        secret: parsed(&settings.webhook_secret),
        retiring,
    }
}

/// `forward.networks_allowed` and `forward.nat64_prefixes`, parsed.
fn address_rules(config: &Config) -> Result<AddressRules, Failure> {
    let mut rules = AddressRules::default();
    for text in &config.forward.networks_allowed {
        let network = text.parse().map_err(|error| {
            Failure::new(format!("forward.networks_allowed: {text:?} is not a network like 10.1.0.0/16: {error}"))
        })?;
        rules.networks_allowed.push(network);
    }
    for text in &config.forward.nat64_prefixes {
        let prefix =
            text.parse().map_err(|error| Failure::new(format!("forward.nat64_prefixes: {text:?}: {error}")))?;
        rules.nat64_prefixes.push(prefix);
    }
    Ok(rules)
}

/// The wall clock, for what is not decided from records: a key's first validity.
pub(crate) fn unix_seconds() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

pub(crate) fn audit(shared: &Shared, crew: &mut Crew, substrate: &Substrate) -> Result<(), Failure> {
    let options = audit::Options::new(substrate.data.state().join("audit.db"));
    let log = Arc::clone(&shared.log);
    crew.spawn("audit", move |stop| Ok(audit::run(log.as_ref(), &options, stop)?))
}
