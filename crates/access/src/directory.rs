//! The read model of `tenant.config.v1` that every service keeps in memory.
//!
//! Applying a record twice changes nothing: [`follow`](Directory::follow) and [`catch_up`](Directory::catch_up) may run
//! side by side.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use admission::{Definition, DefinitionError, PayloadType};
use event::id::TenantId;
use event::wire::{TenantConfig, Wire as _};
use log::{Batch, Cause, Fault, Log, Position, Record, Topic};
use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::settings::{ApiKeyBody, ProducerBody, kind};
use crate::{ApiKey, KeyDigest, ProducerGrant, Scopes, Secret, TenantSettings};

const PARTITION: u32 = 0;
const POLL_WAIT: Duration = Duration::from_millis(100);
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(10);
const FAULT_WAIT: Duration = Duration::from_millis(500);

/// Tenants, API keys and producers as the topic has them.
#[derive(Debug)]
pub struct Directory {
    facts: RwLock<Facts>,
    version: watch::Sender<i64>,
}

#[derive(Debug, Default)]
struct Facts {
    /// Next offset of the topic.
    next: u64,
    api_keys: HashMap<[u8; 8], Vec<KnownKey>>,
    producers: HashMap<String, Producer>,
    tenants: HashMap<String, Arc<TenantSettings>>,
    payload_types: HashMap<String, KnownType>,
    /// The newest entry of each record key, as it was published.
    entries: HashMap<String, TenantConfig>,
}

#[derive(Clone, Debug)]
struct KnownKey {
    digest: KeyDigest,
    tenant: TenantId,
    scopes: Scopes,
}

/// A producer that signs its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producer {
    pub grant: ProducerGrant,
    /// The HMAC key is this text, as bytes.
    pub secret: Secret,
}

/// A payload type, as it was published.
#[derive(Clone, Debug)]
pub enum KnownType {
    Usable(Arc<PayloadType>),
    /// Published by a later version, or with an expression that this one does not read: not for this process to refuse.
    Unusable(Arc<str>),
}

/// What a key stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyHolder {
    pub tenant: TenantId,
    pub scopes: Scopes,
}

impl Default for Directory {
    fn default() -> Self {
        Self::new()
    }
}

impl Directory {
    pub fn new() -> Self {
        Self { facts: RwLock::default(), version: watch::Sender::new(0) }
    }

    /// A directory that holds exactly these entries: for tests of whoever looks things up.
    pub fn of(entries: impl IntoIterator<Item = TenantConfig>) -> Self {
        let directory = Self::new();
        for entry in entries {
            let mut facts = directory.facts.write();
            facts.set(&entry);
            facts.next += 1;
            directory.version.send_replace(i64::try_from(facts.next).unwrap_or(i64::MAX));
        }
        directory
    }

    /// How far the configuration is known: the next offset of the topic. Decisions made from it record this number.
    pub fn config_version(&self) -> i64 {
        *self.version.borrow()
    }

    /// Wakes whenever the configuration has changed.
    pub fn changes(&self) -> watch::Receiver<i64> {
        self.version.subscribe()
    }

    /// Whose key this is; `None` where it is unknown or revoked.
    pub fn api_key(&self, presented: &ApiKey) -> Option<KeyHolder> {
        let digest = presented.digest();
        let facts = self.facts.read();
        let known = facts.api_keys.get(&digest.bucket())?.iter().find(|known| known.digest.agrees(&digest))?;
        Some(KeyHolder { tenant: known.tenant.clone(), scopes: known.scopes.clone() })
    }

    /// The producer of that id; `None` where it is unknown or removed.
    pub fn producer(&self, id: &str) -> Option<Producer> {
        self.facts.read().producers.get(id).cloned()
    }

    /// The tenant's settings; `None` where the tenant is unknown.
    pub fn tenant(&self, tenant: &TenantId) -> Option<Arc<TenantSettings>> {
        self.facts.read().tenants.get(tenant.as_str()).cloned()
    }

    /// The payload type of that name; `None` where none was published.
    pub fn payload_type(&self, name: &str) -> Option<KnownType> {
        self.facts.read().payload_types.get(name).cloned()
    }

    /// Takes in one record of the topic. Records before `config_version` are known already and passed over.
    pub fn apply(&self, record: &Record) {
        let mut facts = self.facts.write();
        if record.offset < facts.next {
            return;
        }
        match record.value.as_deref().map(TenantConfig::decode) {
            Some(Ok(entry)) => facts.set(&entry),
            // A tombstone of compaction: the entry before it said `removed`.
            None => {}
            Some(Err(error)) => {
                tracing::error!(offset = record.offset, %error, "an entry of tenant.config.v1 cannot be read; it is left out");
            }
        }
        facts.next = record.offset + 1;
        let version = i64::try_from(facts.next).unwrap_or(i64::MAX);
        // Whoever waits for a version may look facts up while it is told: the two locks are never held together here.
        drop(facts);
        // Two readers may come here in either order; the version does not go back.
        self.version.send_if_modified(|known| {
            let newer = version > *known;
            *known = version.max(*known);
            newer
        });
    }

    /// Reads to where the topic ends now. Blocks.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn catch_up(&self, log: &dyn Log) -> Result<(), Fault> {
        let topic = Topic::new(TenantConfig::TOPIC);
        let end = log.ends(&topic)?.iter().find(|end| end.partition == PARTITION).map_or(0, |end| end.offset);
        if self.next() >= end {
            return Ok(());
        }
        let mut tail = log.tail(&[self.position(log)?])?;
        let mut batch = Batch::default();
        let deadline = Instant::now() + CATCH_UP_TIMEOUT;
        while self.next() < end {
            if Instant::now() > deadline {
                return Err(Fault::Retry(Cause::new(
                    "log_unavailable",
                    "tenant.config.v1 could not be read to its end in time",
                )));
            }
            batch.records.clear();
            let drained = tail.poll(POLL_WAIT, &mut batch)?;
            batch.records.iter().for_each(|record| self.apply(record));
            // The end may lie behind markers or compacted records, which nobody is given.
            if drained && batch.records.is_empty() && tail.positions().iter().all(|at| at.offset >= end) {
                break;
            }
        }
        Ok(())
    }

    /// Follows the topic until `stopped` answers true, through every fault of the log. Blocks: give it a thread.
    pub fn follow(&self, log: &dyn Log, stopped: &dyn Fn() -> bool) {
        while !stopped() {
            if let Err(fault) = self.read(log, stopped) {
                tracing::warn!(%fault, "tenant.config.v1 cannot be read; trying again");
                pause(FAULT_WAIT, stopped);
            }
        }
    }

    fn read(&self, log: &dyn Log, stopped: &dyn Fn() -> bool) -> Result<(), Fault> {
        let mut tail = log.tail(&[self.position(log)?])?;
        let mut batch = Batch::default();
        while !stopped() {
            batch.records.clear();
            tail.poll(POLL_WAIT, &mut batch)?;
            batch.records.iter().for_each(|record| self.apply(record));
        }
        Ok(())
    }

    fn next(&self) -> u64 {
        self.facts.read().next
    }

    /// Where to read on: never before the topic's start, which compaction may move.
    fn position(&self, log: &dyn Log) -> Result<Position, Fault> {
        let topic = Topic::new(TenantConfig::TOPIC);
        let start =
            log.starts(&topic)?.iter().find(|start| start.partition == PARTITION).map_or(0, |start| start.offset);
        Ok(Position { topic, partition: PARTITION, offset: self.next().max(start) })
    }

    /// What the topic says under the record key of this entry.
    pub(crate) fn entry_like(&self, entry: &TenantConfig) -> Option<TenantConfig> {
        self.facts.read().entries.get(&entry_key(entry)).cloned()
    }

    /// True where the topic says exactly this already.
    pub(crate) fn agrees(&self, entry: &TenantConfig) -> bool {
        self.facts.read().entries.get(&entry_key(entry)).is_some_and(|known| known == entry)
    }
}

/// Record key of an entry.
pub(crate) fn entry_key(entry: &TenantConfig) -> String {
    format!("{}:{}", entry.kind, entry.id)
}

impl Facts {
    fn set(&mut self, entry: &TenantConfig) {
        let taken = match entry.kind.as_str() {
            kind::TENANT => self.set_tenant(entry),
            kind::API_KEY => self.set_api_key(entry),
            kind::PRODUCER => self.set_producer(entry),
            kind::PAYLOAD_TYPE => self.set_payload_type(entry),
            // A kind of a later version: what it concerns does not exist here.
            _ => Ok(()),
        };
        self.entries.insert(entry_key(entry), entry.clone());
        if let Err(BadEntry(what)) = taken {
            tracing::error!(
                kind = entry.kind,
                id = entry.id,
                what,
                "an entry of tenant.config.v1 makes no sense; it is left out"
            );
        }
    }

    fn set_tenant(&mut self, entry: &TenantConfig) -> Result<(), BadEntry> {
        self.tenants.remove(&entry.id);
        if !entry.removed {
            self.tenants.insert(entry.id.clone(), Arc::new(body(entry)?));
        }
        Ok(())
    }

    fn set_api_key(&mut self, entry: &TenantConfig) -> Result<(), BadEntry> {
        let digest = KeyDigest::from_hex(&entry.id).ok_or(BadEntry("id"))?;
        let bucket = self.api_keys.entry(digest.bucket()).or_default();
        bucket.retain(|known| !known.digest.agrees(&digest));
        if !entry.removed {
            let body: ApiKeyBody = body(entry)?;
            let tenant = TenantId::parse(entry.tenant.as_str()).map_err(|_| BadEntry("tenant"))?;
            bucket.push(KnownKey { digest, tenant, scopes: body.scopes });
        }
        Ok(())
    }

    fn set_payload_type(&mut self, entry: &TenantConfig) -> Result<(), BadEntry> {
        self.payload_types.remove(&entry.id);
        if !entry.removed {
            let known = match usable(entry) {
                Ok(payload_type) => KnownType::Usable(Arc::new(payload_type)),
                Err(why) => {
                    tracing::warn!(
                        id = entry.id,
                        why,
                        "a payload type cannot be used by this version; its records wait"
                    );
                    KnownType::Unusable(why.into())
                }
            };
            self.payload_types.insert(entry.id.clone(), known);
        }
        Ok(())
    }

    fn set_producer(&mut self, entry: &TenantConfig) -> Result<(), BadEntry> {
        self.producers.remove(&entry.id);
        if !entry.removed {
            let body: ProducerBody = body(entry)?;
            let grant = entry.tenant.parse().map_err(|_| BadEntry("tenant"))?;
            self.producers.insert(entry.id.clone(), Producer { grant, secret: body.secret });
        }
        Ok(())
    }
}

/// Reads and compiles: once for each process, when the type is published.
fn usable(entry: &TenantConfig) -> Result<PayloadType, String> {
    let read = Definition::read(entry.body.as_bytes());
    let (definition, digest) = read.map_err(|error: DefinitionError| error.to_string())?;
    if definition.name() != entry.id {
        return Err(format!("the definition is of {}", definition.name()));
    }
    PayloadType::compile(definition, digest).map_err(|error| format!("{:?}: {}", error.part, error.detail))
}

/// Which part of an entry makes no sense; never what it says, as bodies hold secrets.
struct BadEntry(&'static str);

fn body<T: DeserializeOwned>(entry: &TenantConfig) -> Result<T, BadEntry> {
    serde_json::from_str(&entry.body).map_err(|_| BadEntry("body"))
}

/// Waits in small steps, so that a stop is heard.
fn pause(wait: Duration, stopped: &dyn Fn() -> bool) {
    const STEP: Duration = Duration::from_millis(50);
    let mut left = wait;
    while !left.is_zero() && !stopped() {
        let step = left.min(STEP);
        std::thread::sleep(step);
        left -= step;
    }
}
