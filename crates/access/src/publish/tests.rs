use std::time::Duration;

use event::id::TenantId;
use log::embedded::EmbeddedLog;
use log::{Cleanup, TopicSpec};

use super::*;
use crate::{ApiKey, ProducerGrant, Scope, Scopes};

struct World {
    store: Store,
    log: Arc<dyn Log>,
    _dir: tempfile::TempDir,
}

async fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let log: Arc<dyn Log> = Arc::new(EmbeddedLog::open(&dir.path().join("log")).unwrap());
    let topic = Topic::new(TenantConfig::TOPIC);
    log.apply(&[TopicSpec { topic, partitions: 1, cleanup: Cleanup::Compact, log_append_time: false }], &[]).unwrap();
    let store = Store::open(&dir.path().join("access.db")).await.unwrap();
    World { store, log, _dir: dir }
}

impl World {
    /// A directory that has read everything published so far.
    fn directory(&self) -> Arc<Directory> {
        let directory = Arc::new(Directory::new());
        directory.catch_up(&*self.log).unwrap();
        directory
    }

    async fn publish(&self) {
        Publisher::new(self.store.clone(), Arc::clone(&self.log), self.directory()).sync().await.unwrap();
    }

    fn published(&self) -> u64 {
        self.log.ends(&Topic::new(TenantConfig::TOPIC)).unwrap()[0].offset
    }
}

fn acme() -> TenantId {
    TenantId::parse("acme").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_says_the_directory_knows() {
    let world = world().await;
    let scopes: Scopes = [Scope::ExchangeRead].into_iter().collect();
    let api_key = world.store.create_api_key(&acme(), &scopes).await.unwrap();
    let producer = world.store.create_producer("p", &ProducerGrant::Tenant(acme())).await.unwrap();
    world.publish().await;

    let directory = world.directory();
    assert_eq!(directory.config_version(), 3);
    let holder = directory.api_key(&api_key).unwrap();
    assert_eq!((holder.tenant, holder.scopes), (acme(), scopes));
    assert_eq!(directory.api_key(&ApiKey::generate()), None);
    let known = directory.producer(&producer.id).unwrap();
    assert_eq!(known.secret, producer.secret);
    assert!(known.grant.covers(&acme()) && !known.grant.covers(&TenantId::parse("other").unwrap()));
    assert_eq!(*directory.tenant(&acme()).unwrap(), world.store.tenant(&acme()).await.unwrap().unwrap());

    world.store.revoke_api_key(&api_key.digest().to_string()).await.unwrap();
    world.store.revoke_producer(&producer.id).await.unwrap();
    world.publish().await;
    directory.catch_up(&*world.log).unwrap();
    assert_eq!(directory.api_key(&api_key), None);
    assert_eq!(directory.producer(&producer.id), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_publishes_nothing_twice() {
    let world = world().await;
    world.store.create_api_key(&acme(), &Scopes::standard()).await.unwrap();
    world.publish().await;
    let before = world.published();
    world.publish().await;
    assert_eq!(world.published(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_in_force_within_the_promised_second_and_the_follower_ends_when_asked() {
    let world = world().await;
    let directory = world.directory();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let follower = std::thread::spawn({
        let (directory, log, stop) = (Arc::clone(&directory), Arc::clone(&world.log), Arc::clone(&stop));
        move || directory.follow(&*log, &|| stop.load(std::sync::atomic::Ordering::Relaxed))
    });
    let publisher = Publisher::new(world.store.clone(), Arc::clone(&world.log), Arc::clone(&directory));
    let running = tokio::spawn(async move { publisher.run().await });
    let api_key = world.store.create_api_key(&acme(), &Scopes::standard()).await.unwrap();
    let mut changes = directory.changes();
    let known = changes.wait_for(|_| directory.api_key(&api_key).is_some());
    tokio::time::timeout(Duration::from_secs(20), known).await.unwrap().unwrap();
    running.abort();
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    follower.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_makes_no_sense_is_left_out_and_the_rest_is_read() {
    let entry = |kind: &str, id: &str, body: &str| TenantConfig {
        kind: kind.into(),
        id: id.into(),
        tenant: "acme".into(),
        body: body.into(),
        removed: false,
    };
    let directory = Directory::of([
        entry("tenant", "acme", "nonsense"),
        entry("api_key", "not-a-digest", r#"{"scopes":[]}"#),
        entry("of_a_later_version", "x", "{}"),
        entry("producer", "p-1", r#"{"secret":"csp_1"}"#),
    ]);
    assert_eq!(directory.config_version(), 4);
    assert_eq!(directory.tenant(&acme()), None);
    assert_eq!(directory.producer("p-1").unwrap().secret.expose(), "csp_1");
}
