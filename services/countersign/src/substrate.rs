//! What a profile stands on: its log, its configuration and its directory.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::embedded::EmbeddedLog;
use log::kafka::{KafkaConfig, KafkaLog};
use log::{Fault, Log, TopicChange};

use crate::cli::Place;
use crate::config::{Config, Overrides, Profile};
use crate::data_dir::DataDir;
use crate::failure::{Doing as _, Failure};
use crate::topics;

/// How long a log that is not ready is waited for at the start.
const PATIENCE: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// An open log with what belongs to it.
pub(crate) struct Substrate {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) config: Config,
    pub(crate) data: DataDir,
}

/// Reads the configuration of a place, without opening anything.
pub(crate) fn configure(place: &Place, overrides: &Overrides) -> Result<(Config, DataDir), Failure> {
    let config = Config::load(place.config.as_deref(), &place.data, overrides).map_err(|error| {
        Failure::new("the configuration cannot be used").because(error).try_this("countersign config show")
    })?;
    let data = DataDir::open(&place.data).map_err(|error| {
        Failure::new(format!("the data directory {} cannot be made", place.data.display()))
            .because(error)
            .try_this("name another with --data DIR")
    })?;
    Ok((config, data))
}

impl Substrate {
    /// Opens the log.
    pub(crate) fn with(config: Config, data: DataDir) -> Result<Self, Failure> {
        let log = match config.profile {
            Profile::Local => embedded(&data.log())?,
            Profile::Cluster => patiently(|| kafka(&config, &data)).map_err(|fault| {
                let advice = "is Kafka running there? `countersign doctor --profile cluster` looks";
                of_fault(fault).try_this(format!("{}: {advice}", config.log.brokers))
            })?,
        };
        Ok(Self { log, config, data })
    }

    /// Makes the topics that are missing. One that exists with another partition count would scatter keys: an error.
    pub(crate) fn apply_topics(&self) -> Result<(), Failure> {
        let changes = patiently(|| topics::apply(self.log.as_ref(), &self.config)).map_err(of_fault)?;
        let differing: Vec<String> = changes
            .into_iter()
            .filter_map(|change| match change {
                TopicChange::Differs(topic, how) => Some(format!("{topic}: {how}")),
                TopicChange::Created(_) | TopicChange::Kept(_) => None,
            })
            .collect();
        if differing.is_empty() {
            return Ok(());
        }
        Err(Failure::new(format!("topics differ from what the configuration says: {}", differing.join("; ")))
            .try_this("set log.partitions to what the topics have, or see `countersign topics check`"))
    }
}

fn embedded(dir: &Path) -> Result<Arc<dyn Log>, Failure> {
    match EmbeddedLog::open(dir) {
        Ok(log) => Ok(Arc::new(log)),
        Err(fault) => Err(of_fault(fault)),
    }
}

fn kafka(config: &Config, data: &DataDir) -> Result<Arc<dyn Log>, Fault> {
    let mut kafka = KafkaConfig::new(&config.log.brokers, data.state());
    kafka.replication_factor = config.log.replication_factor;
    kafka.options = config.log.client.clone();
    Ok(Arc::new(KafkaLog::open(kafka)?))
}

/// A broker that is just starting is waited for, within bounds: what may be tried again is, what may not is told at once.
fn patiently<T>(mut attempt: impl FnMut() -> Result<T, Fault>) -> Result<T, Fault> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = FIRST_PAUSE;
    loop {
        match attempt() {
            Err(Fault::Retry(cause)) if Instant::now() + pause < deadline => {
                tracing::warn!(%cause, "the log is not ready yet; trying again");
                std::thread::sleep(pause);
                pause = (pause * 2).min(PAUSE_MAX);
            }
            outcome => return outcome,
        }
    }
}

/// A fault of the log, told to a person.
pub(crate) fn of_fault(fault: Fault) -> Failure {
    let locked = fault.cause().code == "log_locked";
    let failure = Failure::new("the log cannot be used").because(fault);
    if locked { failure.try_this("stop the other process, or use another --data DIR") } else { failure }
}

/// Where the ledger lies.
pub(crate) fn ledger_url(config: &Config, data: &DataDir) -> Result<ledger::DatabaseUrl, Failure> {
    let url = match config.profile {
        Profile::Local => format!("sqlite:{}", data.ledger_db().display()),
        Profile::Cluster => config.database.url.clone(),
    };
    ledger::DatabaseUrl::parse(&url).doing("database.url cannot be used")
}
