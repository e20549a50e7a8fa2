//! Configuration: defaults, then a file, then the environment; unknown keys are refused (docs/contracts/program.md).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::{Deserialize, Serialize};

/// Where the file is looked for in the data directory.
const FILE: &str = "countersign.toml";
const ENVIRONMENT: &str = "COUNTERSIGN_";

/// Everything that can be configured. `config/defaults.toml` documents each key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) profile: Profile,
    /// How long a key stays used up; absent: for ever.
    pub(crate) dedup_window_days: DedupWindow,
    pub(crate) http: Http,
    pub(crate) log: LogConfig,
    pub(crate) database: Database,
    pub(crate) forward: Forward,
    pub(crate) types: Types,
    pub(crate) tenants: BTreeMap<String, Tenant>,
    pub(crate) telemetry: Telemetry,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Profile {
    /// The embedded log and SQLite, in the data directory.
    Local,
    /// Apache Kafka and PostgreSQL.
    Cluster,
}

/// A number of days, or `forever`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum DedupWindow {
    Days(u32),
    Word(Forever),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Forever {
    Forever,
}

impl DedupWindow {
    pub(crate) fn days(self) -> Option<u32> {
        match self {
            Self::Days(days) => Some(days),
            Self::Word(Forever::Forever) => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Http {
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// What `type` URLs of problems begin with; empty: the listening address.
    pub(crate) base_url: String,
    /// This ingest's partition of `exchange.answer.v1`, 0 to 63; each running ingest has its own.
    pub(crate) slot: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogConfig {
    /// Kafka's bootstrap servers, `host:port,host:port` (cluster).
    pub(crate) brokers: String,
    pub(crate) replication_factor: i32,
    /// Of every topic but those with a fixed number; 0: as the profile says (4 local, 12 cluster).
    pub(crate) partitions: u32,
    /// This process's place in every consumer group (cluster): two processes with the same slot fence each other.
    pub(crate) slot: String,
    /// Further client settings, as librdkafka names them: TLS, SASL.
    pub(crate) client: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Database {
    /// `postgres://...` (cluster); empty: SQLite in the data directory.
    pub(crate) url: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Forward {
    /// Networks that deliveries may reach although they are not public, `10.1.0.0/16` for instance.
    pub(crate) networks_allowed: Vec<String>,
    /// Certificates trusted beside the system's (PEM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Prefixes of the operator's own NAT64.
    pub(crate) nat64_prefixes: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Types {
    /// Payload types beside the shipped ones, a folder each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) directory: Option<PathBuf>,
}

/// A tenant, as the file names it; `countersign tenants set` writes the same into `access.db`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tenant {
    #[serde(default)]
    pub(crate) forward_allowlist: Vec<String>,
    /// Whether strings that a payload type reads as JSON may be repaired; not named: as it was set before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) repair: Option<admission::RepairPolicy>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Telemetry {
    /// A filter as `tracing` reads it: `info`, `warn,settle=debug`.
    pub(crate) log: String,
    pub(crate) format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Text,
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            profile: Profile::Local,
            dedup_window_days: DedupWindow::Days(35),
            http: Http {
                listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
                admin: SocketAddr::from(([127, 0, 0, 1], 9464)),
                base_url: String::new(),
                slot: 0,
            },
            log: LogConfig {
                brokers: String::new(),
                replication_factor: 1,
                partitions: 0,
                slot: "0".to_owned(),
                client: BTreeMap::new(),
            },
            database: Database { url: String::new() },
            forward: Forward { networks_allowed: Vec::new(), ca_file: None, nat64_prefixes: Vec::new() },
            types: Types::default(),
            tenants: BTreeMap::new(),
            telemetry: Telemetry {
                log: "info,fjall=warn,lsm_tree=warn,sqlx=error".to_owned(),
                format: LogFormat::Text,
            },
        }
    }
}

/// What the command line says beside the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overrides {
    pub(crate) profile: Option<Profile>,
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) admin: Option<SocketAddr>,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("the configuration cannot be read")]
    Read(#[source] Box<figment::Error>),
    #[error("there is no configuration file {0}")]
    Missing(PathBuf),
    #[error("{key}: {fault}")]
    Invalid { key: &'static str, fault: String },
}

impl Config {
    /// Reads and checks everything.
    pub(crate) fn load(file: Option<&Path>, data: &Path, overrides: &Overrides) -> Result<Self, ConfigError> {
        let file = match file {
            Some(file) if !file.is_file() => return Err(ConfigError::Missing(file.to_owned())),
            Some(file) => file.to_owned(),
            None => data.join(FILE),
        };
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if file.is_file() {
            figment = figment.merge(Toml::file_exact(file));
        }
        let figment = figment.merge(Env::prefixed(ENVIRONMENT).filter(|name| is_a_setting(name.as_str())).split("__"));
        let mut config: Self = figment.extract().map_err(|error| ConfigError::Read(Box::new(error)))?;
        if let Some(profile) = overrides.profile {
            config.profile = profile;
        }
        if let Some(listen) = overrides.listen {
            config.http.listen = listen;
        }
        if let Some(admin) = overrides.admin {
            config.http.admin = admin;
        }
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let invalid = |key, fault: &str| Err(ConfigError::Invalid { key, fault: fault.to_owned() });
        if self.http.slot >= event::topic::ANSWER_SLOTS {
            return invalid("http.slot", "must be 0 to 63");
        }
        if self.dedup_window_days.days() == Some(0) {
            return invalid("dedup_window_days", "must be at least 1, or \"forever\"");
        }
        if self.log.replication_factor < 1 {
            return invalid("log.replication_factor", "must be at least 1");
        }
        if self.profile == Profile::Cluster {
            if self.log.brokers.is_empty() {
                return invalid("log.brokers", "the cluster profile needs Kafka's addresses: host:port,host:port");
            }
            if self.database.url.is_empty() {
                return invalid(
                    "database.url",
                    "the cluster profile needs a PostgreSQL database: postgres://user@host/name",
                );
            }
        }
        Ok(())
    }

    /// Partitions of every topic without a fixed number.
    pub(crate) fn partitions(&self) -> u32 {
        match (self.log.partitions, self.profile) {
            (0, Profile::Local) => 4,
            (0, Profile::Cluster) => 12,
            (partitions, _) => partitions,
        }
    }

    /// What `type` URLs of problems begin with.
    pub(crate) fn base_url(&self) -> String {
        if self.http.base_url.is_empty() { format!("http://{}", self.http.listen) } else { self.http.base_url.clone() }
    }

    /// As TOML, with secrets hidden.
    pub(crate) fn shown(&self) -> Result<String, toml::ser::Error> {
        let mut shown = self.clone();
        shown.database.url = hide_password(&shown.database.url);
        for (name, value) in &mut shown.log.client {
            if ["password", "secret", "key.pem", "token"].iter().any(|word| name.contains(word)) {
                *value = "(hidden)".to_owned();
            }
        }
        toml::to_string_pretty(&shown)
    }
}

/// Variables that begin like ours and are none of the configuration: the commands' own, and those of the tests.
fn is_a_setting(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    !["DATA", "API_KEY", "BIN", "URL"].contains(&name.as_str())
        && !["TEST_", "PARTS", "PRODUCER_"].iter().any(|own| name.starts_with(own))
}

/// `postgres://user:password@host?password=...` without the passwords.
fn hide_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
    let place = match place.rsplit_once('@') {
        Some((user, host)) => {
            let user = user.split_once(':').map_or(user.to_owned(), |(name, _)| format!("{name}:(hidden)"));
            format!("{user}@{host}")
        }
        None => place.to_owned(),
    };
    let hide =
        |pair: &str| if pair.starts_with("password=") { "password=(hidden)".to_owned() } else { pair.to_owned() };
    let query = query.map(|query| query.split('&').map(hide).collect::<Vec<_>>().join("&"));
    format!("{scheme}://{place}{}", query.map(|query| format!("?{query}")).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), text).unwrap();
        Config::load(None, dir.path(), &Overrides::default())
    }

    #[test]
    fn nothing_configured_is_the_local_profile() {
        let config = load("").unwrap();
        assert_eq!((config.profile, config.partitions()), (Profile::Local, 4));
        assert_eq!(config.dedup_window_days.days(), Some(35));
    }

    #[test]
    fn a_directory_without_a_file_has_the_defaults() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Config::load(None, dir.path(), &Overrides::default()).unwrap(), Config::default());
        let named = dir.path().join("missing.toml");
        assert!(matches!(Config::load(Some(&named), dir.path(), &Overrides::default()), Err(ConfigError::Missing(_))));
    }

    #[test]
    fn the_documented_defaults_are_the_defaults() {
        let documented = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/defaults.toml");
        let dir = tempfile::tempdir().unwrap();
        let loaded = Config::load(Some(Path::new(documented)), dir.path(), &Overrides::default()).unwrap();
        assert_eq!(loaded, Config::default());
    }

    #[test]
    fn a_misspelt_key_is_refused() {
        assert!(matches!(load("[http]\nlisen = '127.0.0.1:1'\n"), Err(ConfigError::Read(_))));
    }

    #[test]
    fn the_window_is_days_or_forever() {
        assert_eq!(load("dedup_window_days = 'forever'").unwrap().dedup_window_days.days(), None);
        assert_eq!(load("dedup_window_days = 7").unwrap().dedup_window_days.days(), Some(7));
        assert!(load("dedup_window_days = 0").is_err());
        assert!(load("dedup_window_days = 'never'").is_err());
    }

    #[test]
    fn the_cluster_profile_names_what_it_lacks() {
        let error = load("profile = 'cluster'").unwrap_err();
        assert!(error.to_string().contains("log.brokers"), "{error}");
    }

    #[test]
    fn passwords_are_not_shown() {
        let text = "profile='cluster'\n[log]\nbrokers='a:1'\n[log.client]\n\"sasl.password\"='hush'\n[database]\nurl='postgres://me:hush@db/x'\n";
        let shown = load(text).unwrap().shown().unwrap();
        assert!(!shown.contains("hush"), "{shown}");
        assert!(shown.contains("postgres://me:(hidden)@db/x"), "{shown}");
        let url = "postgres://me@db/x?sslmode=require&password=hu@sh";
        assert_eq!(hide_password(url), "postgres://me@db/x?sslmode=require&password=(hidden)");
    }
}
