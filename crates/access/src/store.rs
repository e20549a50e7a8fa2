//! `access.db`: tenants, API keys and producers as the operator wrote them (SQLite, WAL, synced).
//!
//! Commands write it while the pipeline runs. Every change raises the store's version, in the same transaction; nothing
//! is ever deleted, so that whoever follows the versions misses nothing.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use event::id::{InvalidId, TenantId};
use event::wire::TenantConfig;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous};
use sqlx::{Row as _, Sqlite, SqlitePool, Transaction};

use crate::settings::{ApiKeyBody, ProducerBody, kind};
use crate::{ApiKey, ProducerGrant, Scopes, Secret, TenantSettings};

const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTIONS_MAX: u32 = 2;
/// How much of a key's id must be given to revoke it.
const KEY_ID_PREFIX_MIN: usize = 8;

/// Whose accounts are ours: `countersign:fees` must be no tenant's payee.
const RESERVED_TENANT: &str = "countersign";

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS version (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    version INTEGER NOT NULL
) STRICT;
INSERT OR IGNORE INTO version (one, version) VALUES (1, 0);
CREATE TABLE IF NOT EXISTS tenants (
    id TEXT PRIMARY KEY,
    settings TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    changed INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS api_keys (
    sha256 TEXT PRIMARY KEY,
    tenant TEXT NOT NULL REFERENCES tenants (id),
    scopes TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    revoked_ms INTEGER,
    changed INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS producers (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    secret TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    revoked_ms INTEGER,
    changed INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS tenants_changed ON tenants (changed);
CREATE INDEX IF NOT EXISTS api_keys_changed ON api_keys (changed);
CREATE INDEX IF NOT EXISTS producers_changed ON producers (changed);
";

/// What went wrong with `access.db`.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{path} cannot be opened")]
    Create {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} cannot be opened as a database")]
    Open {
        path: PathBuf,
        #[source]
        source: sqlx::Error,
    },
    #[error("access.db could not {operation}")]
    Query {
        operation: &'static str,
        #[source]
        source: sqlx::Error,
    },
    #[error("access.db holds settings of `{id}` that cannot be read")]
    Settings {
        id: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("access.db holds a name that breaks its rule")]
    Stored(#[source] InvalidId),
    #[error("the tenant id `{RESERVED_TENANT}` is reserved: its accounts are our own")]
    ReservedTenant,
    #[error("there is no {0} `{1}`")]
    Unknown(&'static str, String),
    #[error("more than one API key begins with `{0}`; give more of it")]
    Ambiguous(String),
    #[error("give at least the first {KEY_ID_PREFIX_MIN} characters of the API key's id")]
    PrefixTooShort,
}

/// A key as it is listed: never the key itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKeyRow {
    /// SHA-256 of the key, in hex.
    pub id: String,
    pub tenant: TenantId,
    pub scopes: Scopes,
    pub created_ms: i64,
    pub revoked_ms: Option<i64>,
}

/// A producer as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerRow {
    pub id: String,
    pub grant: ProducerGrant,
    pub created_ms: i64,
    pub revoked_ms: Option<i64>,
}

/// A producer just made; the secret is shown once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewProducer {
    pub id: String,
    pub secret: Secret,
}

/// The open database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    pool: SqlitePool,
}

impl Store {
    /// Opens the database, making it (readable by its owner only) where it is missing.
    ///
    /// # Errors
    /// If the file cannot be made or is not such a database.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .map_err(|source| StoreError::Create { path: path.to_owned(), source })?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let open = async {
            let pool = SqlitePoolOptions::new().max_connections(CONNECTIONS_MAX).connect_with(options).await?;
            sqlx::raw_sql(SCHEMA).execute(&pool).await?;
            Ok(pool)
        };
        let pool = open.await.map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
        Ok(Self { pool })
    }

    /// Closes every connection; the write-ahead log is folded back.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Rises with every change.
    pub async fn version(&self) -> Result<i64, StoreError> {
        let row = sqlx::query("SELECT version FROM version")
            .fetch_one(&self.pool)
            .await
            .map_err(while_("read its version"))?;
        Ok(row.get(0))
    }

    /// Everything that changed after `version`, oldest change first, and the version it brings one to.
    pub async fn changed_since(&self, version: i64) -> Result<(i64, Vec<TenantConfig>), StoreError> {
        let operation = "read its changes";
        let mut snapshot = self.pool.begin().await.map_err(while_(operation))?;
        let at: i64 = sqlx::query("SELECT version FROM version")
            .fetch_one(&mut *snapshot)
            .await
            .map_err(while_(operation))?
            .get(0);
        let rows = sqlx::query(
            "SELECT 'tenant' AS kind, id, id AS tenant, settings AS body, 0 AS removed, changed FROM tenants WHERE changed > ?1
             UNION ALL
             SELECT 'api_key', sha256, tenant, scopes, revoked_ms IS NOT NULL, changed FROM api_keys WHERE changed > ?1
             UNION ALL
             SELECT 'producer', id, tenant, secret, revoked_ms IS NOT NULL, changed FROM producers WHERE changed > ?1
             ORDER BY changed",
        )
        .bind(version)
        .fetch_all(&mut *snapshot)
        .await
        .map_err(while_(operation))?;
        let entries = rows.iter().map(entry).collect::<Result<_, _>>()?;
        Ok((at, entries))
    }

    /// Makes the tenant known, with a webhook secret of its own; true where it was not.
    ///
    /// # Errors
    /// If the tenant is reserved, or the database fails.
    pub async fn ensure_tenant(&self, tenant: &TenantId) -> Result<bool, StoreError> {
        let operation = "add a tenant";
        let mut change = self.change(operation).await?;
        let added = change.ensure_tenant(tenant, operation).await?;
        change.commit(operation).await?;
        Ok(added)
    }

    pub async fn tenant(&self, tenant: &TenantId) -> Result<Option<TenantSettings>, StoreError> {
        let row = sqlx::query("SELECT settings FROM tenants WHERE id = ?")
            .bind(tenant.as_str())
            .fetch_optional(&self.pool)
            .await
            .map_err(while_("read a tenant"))?;
        row.map(|row| settings(tenant.as_str(), row.get(0))).transpose()
    }

    pub async fn tenants(&self) -> Result<Vec<(TenantId, TenantSettings)>, StoreError> {
        let rows = sqlx::query("SELECT id, settings FROM tenants ORDER BY id")
            .fetch_all(&self.pool)
            .await
            .map_err(while_("list its tenants"))?;
        rows.iter()
            .map(|row| {
                let id = tenant_id(row.get(0))?;
                let settings = settings(id.as_str(), row.get(1))?;
                Ok((id, settings))
            })
            .collect()
    }

    /// Replaces the settings of a tenant, which is made where it is missing. Equal settings are no change.
    ///
    /// # Errors
    /// If the tenant is reserved, or the database fails.
    pub async fn set_tenant(&self, tenant: &TenantId, to: &TenantSettings) -> Result<(), StoreError> {
        let operation = "change a tenant";
        let mut change = self.change(operation).await?;
        change.ensure_tenant(tenant, operation).await?;
        sqlx::query("UPDATE tenants SET settings = ?2, changed = ?3 WHERE id = ?1 AND settings <> ?2")
            .bind(tenant.as_str())
            .bind(json(to))
            .bind(change.version)
            .execute(&mut *change.transaction)
            .await
            .map_err(while_(operation))?;
        change.commit(operation).await
    }

    /// Makes a key for a tenant, which is made where it is missing. This is the only time the key can be seen.
    ///
    /// # Errors
    /// If the tenant is reserved, or the database fails.
    pub async fn create_api_key(&self, tenant: &TenantId, scopes: &Scopes) -> Result<ApiKey, StoreError> {
        let operation = "add an API key";
        let mut change = self.change(operation).await?;
        change.ensure_tenant(tenant, operation).await?;
        let api_key = ApiKey::generate();
        sqlx::query("INSERT INTO api_keys (sha256, tenant, scopes, created_ms, changed) VALUES (?, ?, ?, ?, ?)")
            .bind(api_key.digest().to_string())
            .bind(tenant.as_str())
            .bind(json(scopes))
            .bind(now_ms())
            .bind(change.version)
            .execute(&mut *change.transaction)
            .await
            .map_err(while_(operation))?;
        change.commit(operation).await?;
        Ok(api_key)
    }

    pub async fn api_keys(&self, tenant: Option<&TenantId>) -> Result<Vec<ApiKeyRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT sha256, tenant, scopes, created_ms, revoked_ms FROM api_keys
             WHERE ?1 IS NULL OR tenant = ?1 ORDER BY tenant, created_ms, sha256",
        )
        .bind(tenant.map(TenantId::as_str))
        .fetch_all(&self.pool)
        .await
        .map_err(while_("list its API keys"))?;
        rows.iter()
            .map(|row| {
                let id: String = row.get(0);
                let scopes = serde_json::from_str(row.get(2))
                    .map_err(|source| StoreError::Settings { id: id.clone(), source })?;
                Ok(ApiKeyRow {
                    id,
                    tenant: tenant_id(row.get(1))?,
                    scopes,
                    created_ms: row.get(3),
                    revoked_ms: row.get(4),
                })
            })
            .collect()
    }

    /// Revokes the key whose id begins so; answers the whole id. A revoked key stays revoked.
    ///
    /// # Errors
    /// If no key or several begin so, or the database fails.
    pub async fn revoke_api_key(&self, id_prefix: &str) -> Result<String, StoreError> {
        let operation = "revoke an API key";
        if id_prefix.len() < KEY_ID_PREFIX_MIN {
            return Err(StoreError::PrefixTooShort);
        }
        let mut change = self.change(operation).await?;
        let found = sqlx::query("SELECT sha256 FROM api_keys WHERE substr(sha256, 1, length(?1)) = ?1 LIMIT 2")
            .bind(id_prefix)
            .fetch_all(&mut *change.transaction)
            .await
            .map_err(while_(operation))?;
        let id: String = match found.as_slice() {
            [] => return Err(StoreError::Unknown("API key", id_prefix.to_owned())),
            [one] => one.get(0),
            _ => return Err(StoreError::Ambiguous(id_prefix.to_owned())),
        };
        sqlx::query("UPDATE api_keys SET revoked_ms = ?2, changed = ?3 WHERE sha256 = ?1 AND revoked_ms IS NULL")
            .bind(&id)
            .bind(now_ms())
            .bind(change.version)
            .execute(&mut *change.transaction)
            .await
            .map_err(while_(operation))?;
        change.commit(operation).await?;
        Ok(id)
    }

    /// Makes a producer `<prefix>-<random>`; a tenant that it is for is made where it is missing.
    ///
    /// # Errors
    /// If the tenant is reserved, or the database fails.
    pub async fn create_producer(&self, prefix: &str, grant: &ProducerGrant) -> Result<NewProducer, StoreError> {
        let operation = "add a producer";
        let mut change = self.change(operation).await?;
        if let ProducerGrant::Tenant(tenant) = grant {
            change.ensure_tenant(tenant, operation).await?;
        }
        let producer =
            NewProducer { id: format!("{prefix}-{:016x}", rand::random::<u64>()), secret: Secret::producer() };
        sqlx::query("INSERT INTO producers (id, tenant, secret, created_ms, changed) VALUES (?, ?, ?, ?, ?)")
            .bind(&producer.id)
            .bind(grant.as_str())
            .bind(producer.secret.expose())
            .bind(now_ms())
            .bind(change.version)
            .execute(&mut *change.transaction)
            .await
            .map_err(while_(operation))?;
        change.commit(operation).await?;
        Ok(producer)
    }

    /// The oldest unrevoked producer with that prefix and grant, with its secret; made where there is none.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn ensure_producer(&self, prefix: &str, grant: &ProducerGrant) -> Result<NewProducer, StoreError> {
        let begins = format!("{prefix}-");
        let row = sqlx::query(
            "SELECT id, secret FROM producers
             WHERE tenant = ?1 AND revoked_ms IS NULL AND substr(id, 1, length(?2)) = ?2 ORDER BY created_ms, id LIMIT 1",
        )
        .bind(grant.as_str())
        .bind(begins)
        .fetch_optional(&self.pool)
        .await
        .map_err(while_("read a producer"))?;
        match row {
            Some(row) => Ok(NewProducer { id: row.get(0), secret: Secret::new(row.get::<String, _>(1)) }),
            None => self.create_producer(prefix, grant).await,
        }
    }

    pub async fn producers(&self) -> Result<Vec<ProducerRow>, StoreError> {
        let rows =
            sqlx::query("SELECT id, tenant, created_ms, revoked_ms FROM producers ORDER BY tenant, created_ms, id")
                .fetch_all(&self.pool)
                .await
                .map_err(while_("list its producers"))?;
        rows.iter()
            .map(|row| {
                let grant = row.get::<&str, _>(1).parse().map_err(StoreError::Stored)?;
                Ok(ProducerRow { id: row.get(0), grant, created_ms: row.get(2), revoked_ms: row.get(3) })
            })
            .collect()
    }

    /// # Errors
    /// If there is no such producer, or the database fails.
    pub async fn revoke_producer(&self, id: &str) -> Result<(), StoreError> {
        let operation = "revoke a producer";
        let mut change = self.change(operation).await?;
        let known = sqlx::query("SELECT 1 FROM producers WHERE id = ?")
            .bind(id)
            .fetch_optional(&mut *change.transaction)
            .await
            .map_err(while_(operation))?;
        if known.is_none() {
            return Err(StoreError::Unknown("producer", id.to_owned()));
        }
        sqlx::query("UPDATE producers SET revoked_ms = ?2, changed = ?3 WHERE id = ?1 AND revoked_ms IS NULL")
            .bind(id)
            .bind(now_ms())
            .bind(change.version)
            .execute(&mut *change.transaction)
            .await
            .map_err(while_(operation))?;
        change.commit(operation).await
    }

    /// Begins a change: takes the write lock first, so that versions are in commit order.
    async fn change(&self, operation: &'static str) -> Result<Change, StoreError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(while_(operation))?;
        let version = sqlx::query("UPDATE version SET version = version + 1 RETURNING version")
            .fetch_one(&mut *transaction)
            .await
            .map_err(while_(operation))?
            .get(0);
        Ok(Change { transaction, version })
    }
}

/// One change under way.
struct Change {
    transaction: Transaction<'static, Sqlite>,
    version: i64,
}

impl Change {
    async fn ensure_tenant(&mut self, tenant: &TenantId, operation: &'static str) -> Result<bool, StoreError> {
        if tenant.as_str() == RESERVED_TENANT {
            return Err(StoreError::ReservedTenant);
        }
        let fresh = TenantSettings::fresh();
        let done = sqlx::query("INSERT OR IGNORE INTO tenants (id, settings, created_ms, changed) VALUES (?, ?, ?, ?)")
            .bind(tenant.as_str())
            .bind(json(&fresh))
            .bind(now_ms())
            .bind(self.version)
            .execute(&mut *self.transaction)
            .await
            .map_err(while_(operation))?;
        Ok(done.rows_affected() > 0)
    }

    async fn commit(self, operation: &'static str) -> Result<(), StoreError> {
        self.transaction.commit().await.map_err(while_(operation))
    }
}

/// Read back what only parsed ids were written to; other programs may have written too.
fn tenant_id(text: &str) -> Result<TenantId, StoreError> {
    TenantId::parse(text).map_err(StoreError::Stored)
}

fn entry(row: &SqliteRow) -> Result<TenantConfig, StoreError> {
    let kind: String = row.get("kind");
    let id: String = row.get("id");
    let stored: String = row.get("body");
    let body = match kind.as_str() {
        kind::API_KEY => {
            let scopes =
                serde_json::from_str(&stored).map_err(|source| StoreError::Settings { id: id.clone(), source })?;
            json(&ApiKeyBody { scopes })
        }
        kind::PRODUCER => json(&ProducerBody { secret: Secret::new(stored) }),
        _ => stored,
    };
    Ok(TenantConfig { kind, id, tenant: row.get("tenant"), body, removed: row.get("removed") })
}

fn settings(id: &str, text: &str) -> Result<TenantSettings, StoreError> {
    serde_json::from_str(text).map_err(|source| StoreError::Settings { id: id.to_owned(), source })
}

#[expect(
    clippy::expect_used,
    reason = "these are plain structs of strings and lists; writing them to memory cannot fail"
)]
fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("plain structs serialise")
}

fn while_(operation: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |source| StoreError::Query { operation, source }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
