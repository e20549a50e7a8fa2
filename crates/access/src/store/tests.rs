use super::*;

async fn store() -> (Store, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("access.db")).await.unwrap();
    (store, dir)
}

fn acme() -> TenantId {
    TenantId::parse("acme").unwrap()
}

#[tokio::test]
async fn the_file_is_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let (store, dir) = store().await;
    store.ensure_tenant(&acme()).await.unwrap();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", entry.path());
    }
}

#[tokio::test]
async fn a_key_makes_its_tenant_and_is_kept_as_a_digest_only() {
    let (store, dir) = store().await;
    let api_key = store.create_api_key(&acme(), &Scopes::standard()).await.unwrap();
    let rows = store.api_keys(Some(&acme())).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!((&rows[0].id, &rows[0].tenant), (&api_key.digest().to_string(), &acme()));
    assert_eq!((&rows[0].scopes, rows[0].revoked_ms), (&Scopes::standard(), None));
    assert!(store.tenant(&acme()).await.unwrap().unwrap().webhook_secret.expose().starts_with("whsec_"));
    assert!(store.api_keys(Some(&TenantId::parse("other").unwrap())).await.unwrap().is_empty());
    store.close().await;
    let secret = &api_key.expose()[4..];
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
    }
}

#[tokio::test]
async fn revoking_takes_a_prefix_that_names_one_key() {
    let (store, _dir) = store().await;
    let first = store.create_api_key(&acme(), &Scopes::standard()).await.unwrap().digest().to_string();
    store.create_api_key(&acme(), &Scopes::standard()).await.unwrap();
    assert!(matches!(store.revoke_api_key("").await, Err(StoreError::PrefixTooShort)));
    assert!(matches!(store.revoke_api_key("zzzzzzzz").await, Err(StoreError::Unknown("API key", _))));
    assert_eq!(store.revoke_api_key(&first[..12]).await.unwrap(), first);
    let revoked = |rows: Vec<ApiKeyRow>| rows.into_iter().find(|row| row.id == first).unwrap().revoked_ms.unwrap();
    let at = revoked(store.api_keys(None).await.unwrap());
    store.revoke_api_key(&first).await.unwrap();
    assert_eq!(revoked(store.api_keys(None).await.unwrap()), at, "a revoked key keeps its time");
}

#[tokio::test]
async fn changes_are_told_once_and_in_order() {
    let (store, _dir) = store().await;
    assert_eq!(store.changed_since(0).await.unwrap(), (0, Vec::new()));
    store.ensure_tenant(&acme()).await.unwrap();
    let producer = store.create_producer("p", &ProducerGrant::Tenant(acme())).await.unwrap();
    let (version, entries) = store.changed_since(0).await.unwrap();
    let kinds: Vec<_> = entries.iter().map(|entry| (entry.kind.as_str(), entry.id.as_str(), entry.removed)).collect();
    assert_eq!(kinds, [("tenant", "acme", false), ("producer", producer.id.as_str(), false)]);
    assert_eq!(version, store.version().await.unwrap());
    assert_eq!(store.changed_since(version).await.unwrap(), (version, Vec::new()));

    store.revoke_producer(&producer.id).await.unwrap();
    let (_, entries) = store.changed_since(version).await.unwrap();
    assert_eq!(entries.len(), 1);
    assert!(entries[0].removed);
    assert!(matches!(store.revoke_producer("nobody").await, Err(StoreError::Unknown("producer", _))));
}

#[tokio::test]
async fn equal_settings_are_no_change() {
    let (store, _dir) = store().await;
    let mut settings = TenantSettings { forward_allowlist: vec!["example.com".into()], ..TenantSettings::fresh() };
    store.set_tenant(&acme(), &settings).await.unwrap();
    let (version, _) = store.changed_since(0).await.unwrap();
    store.set_tenant(&acme(), &settings).await.unwrap();
    assert!(store.changed_since(version).await.unwrap().1.is_empty());
    settings.forward_allowlist.clear();
    store.set_tenant(&acme(), &settings).await.unwrap();
    assert_eq!(store.changed_since(version).await.unwrap().1.len(), 1);
    assert_eq!(store.tenants().await.unwrap(), [(acme(), settings)]);
}

#[tokio::test]
async fn the_tenant_whose_accounts_are_ours_cannot_be_made() {
    let (store, _dir) = store().await;
    let ours = TenantId::parse("countersign").unwrap();
    assert!(matches!(store.create_api_key(&ours, &Scopes::standard()).await, Err(StoreError::ReservedTenant)));
    assert!(store.tenants().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_credential_is_found_again_until_it_is_revoked() {
    let (store, _dir) = store().await;
    let first = store.ensure_producer("ingest", &ProducerGrant::Any).await.unwrap();
    assert_eq!(store.ensure_producer("ingest", &ProducerGrant::Any).await.unwrap(), first);
    store.revoke_producer(&first.id).await.unwrap();
    assert_ne!(store.ensure_producer("ingest", &ProducerGrant::Any).await.unwrap().id, first.id);
    assert_eq!(store.producers().await.unwrap().len(), 2);
}

#[tokio::test]
async fn two_processes_may_write_at_once() {
    let (first, dir) = store().await;
    let second = Store::open(&dir.path().join("access.db")).await.unwrap();
    let many = async |store: &Store| {
        for _ in 0..10 {
            store.create_api_key(&acme(), &Scopes::standard()).await.unwrap();
        }
    };
    tokio::join!(many(&first), many(&second));
    assert_eq!(first.api_keys(None).await.unwrap().len(), 20);
    assert_eq!(first.version().await.unwrap(), 20);
}
