//! The road of payload types from files to `tenant.config.v1`, which every role decides by.
//!
//! A type that is published never changes: its name is in receipts. Who brings another definition under a published name
//! does not start, and so no two roles can hold different ones.

use std::sync::Arc;

use event::digest::digest_of;
use event::wire::TenantConfig;
use log::{Fault, Log};

use crate::Directory;
use crate::publish::{PublishError, append};
use crate::settings::kind;

/// Types are everybody's.
const EVERY_TENANT: &str = "*";

/// A type that is to be in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeToPublish {
    pub name: String,
    /// The canonical definition.
    pub definition: String,
}

/// Why types are not in force.
#[derive(Debug, thiserror::Error)]
pub enum TypesError {
    #[error("tenant.config.v1 cannot be read")]
    Read(#[from] Fault),
    #[error("a payload type cannot be published")]
    Publish(#[from] PublishError),
    #[error("the payload type {name} is in force with the definition {published}, and the files here say {here}")]
    Changed { name: String, published: String, here: String },
    #[error("a task ended before its time")]
    Task(#[source] tokio::task::JoinError),
}

/// Publishes what is new, and returns when this process decides by it.
///
/// # Errors
/// If a published type has another definition, or the log fails. Nothing is published if one type differs.
pub async fn publish_types(
    log: &Arc<dyn Log>,
    directory: &Arc<Directory>,
    types: &[TypeToPublish],
) -> Result<(), TypesError> {
    caught_up(log, directory).await?;
    let entries: Vec<TenantConfig> = types.iter().map(entry).collect();
    entries.iter().try_for_each(|entry| unchanged(directory, entry))?;
    for entry in entries.iter().filter(|entry| !directory.agrees(entry)) {
        append(&**log, entry).await?;
    }
    caught_up(log, directory).await?;
    // Two may have published at once: the later one holds, and the other must not go on believing in its own.
    entries.iter().try_for_each(|entry| unchanged(directory, entry))
}

fn entry(published: &TypeToPublish) -> TenantConfig {
    TenantConfig {
        kind: kind::PAYLOAD_TYPE.to_owned(),
        id: published.name.clone(),
        tenant: EVERY_TENANT.to_owned(),
        body: published.definition.clone(),
        removed: false,
    }
}

fn unchanged(directory: &Directory, entry: &TenantConfig) -> Result<(), TypesError> {
    match directory.entry_like(entry).filter(|known| !known.removed && known.body != entry.body) {
        None => Ok(()),
        Some(known) => Err(TypesError::Changed {
            name: entry.id.clone(),
            published: digest_of(known.body.as_bytes()).to_string(),
            here: digest_of(entry.body.as_bytes()).to_string(),
        }),
    }
}

async fn caught_up(log: &Arc<dyn Log>, directory: &Arc<Directory>) -> Result<(), TypesError> {
    let (log, directory) = (Arc::clone(log), Arc::clone(directory));
    Ok(tokio::task::spawn_blocking(move || directory.catch_up(&*log)).await.map_err(TypesError::Task)??)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::KnownType;
    use event::wire::Wire as _;
    use log::embedded::EmbeddedLog;
    use log::{Cleanup, Topic, TopicSpec};

    fn shipped() -> TypeToPublish {
        let (name, files) = admission::shipped::types().pop_first().unwrap();
        let checked = admission::files::check(&name, &files).unwrap();
        TypeToPublish { name, definition: String::from_utf8(checked.canonical).unwrap() }
    }

    fn log(dir: &tempfile::TempDir) -> Arc<dyn Log> {
        let log = EmbeddedLog::open(&dir.path().join("log")).unwrap();
        let topic = Topic::new(TenantConfig::TOPIC);
        log.apply(&[TopicSpec { topic, partitions: 1, cleanup: Cleanup::Compact, log_append_time: false }], &[])
            .unwrap();
        Arc::new(log)
    }

    fn published(log: &Arc<dyn Log>) -> u64 {
        log.ends(&Topic::new(TenantConfig::TOPIC)).unwrap()[0].offset
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_published_is_what_every_directory_decides_by_and_is_published_once() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(&dir);
        let shipped = shipped();
        for _ in 0..2 {
            let directory = Arc::new(Directory::new());
            publish_types(&log, &directory, std::slice::from_ref(&shipped)).await.unwrap();
            let Some(KnownType::Usable(known)) = directory.payload_type(&shipped.name) else { panic!("not usable") };
            assert_eq!(known.digest(), digest_of(shipped.definition.as_bytes()));
            assert!(directory.payload_type("another.v1").is_none());
        }
        assert_eq!(published(&log), 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn another_definition_under_a_published_name_is_refused_and_publishes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(&dir);
        let shipped = shipped();
        publish_types(&log, &Arc::new(Directory::new()), std::slice::from_ref(&shipped)).await.unwrap();
        let changed = TypeToPublish {
            definition: shipped.definition.replace("\"repair\":true", "\"repair\":false"),
            ..shipped.clone()
        };
        let new = TypeToPublish { name: "new.v1".into(), definition: "{}".into() };
        let refused = publish_types(&log, &Arc::new(Directory::new()), &[new, changed]).await;
        assert!(matches!(refused, Err(TypesError::Changed { name, .. }) if name == shipped.name));
        assert_eq!(published(&log), 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_definition_of_a_later_version_is_known_but_not_usable() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(&dir);
        let later = TypeToPublish { name: "later.v1".into(), definition: r#"{"format":2}"#.into() };
        let directory = Arc::new(Directory::new());
        publish_types(&log, &directory, &[later]).await.unwrap();
        assert!(
            matches!(directory.payload_type("later.v1"), Some(KnownType::Unusable(why)) if why.contains("format 2"))
        );
    }
}
