//! The keys that sign receipts: files of mode 0400, made at first start; their public halves go to `signing_key.v1`.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use event::time::Timestamp;
use event::wire::{SigningKey as KeyRecord, Wire};
use log::{Cause, Fault, Log, Output, Topic};
use proof::SigningKey;

const PREFIX: &str = "receipt-";
const SUFFIX: &str = ".jwk";
/// The first key is valid from a day before it was made, so that a clock a little behind does not refuse (conventions.md).
const FIRST_KEY_LEAD_S: i64 = 86_400;
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(30);

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("the key directory {0} cannot be read or written")]
    Directory(PathBuf, #[source] std::io::Error),
    #[error("the key file {0} cannot be read or written")]
    File(PathBuf, #[source] std::io::Error),
    #[error("{0} is not a private Ed25519 JWK")]
    Invalid(PathBuf, #[source] proof::jwk::InvalidKey),
    #[error("the public keys cannot be published")]
    Publish(#[from] Fault),
    #[error("the public key cannot be encoded")]
    Encode(#[from] event::wire::WireError),
}

/// Every key of this signer.
#[derive(Clone, Debug)]
pub struct SigningKeys(Vec<SigningKey>);

impl SigningKeys {
    pub fn new(keys: Vec<SigningKey>) -> Self {
        Self(keys)
    }

    /// The key for a receipt of this time: `nbf <= ts < exp`, the youngest where several fit.
    pub fn at(&self, ts: Timestamp) -> Option<&SigningKey> {
        self.0.iter().filter(|key| key.public().is_valid_at(ts)).max_by_key(|key| key.public().nbf())
    }

    pub fn iter(&self) -> impl Iterator<Item = &SigningKey> {
        self.0.iter()
    }
}

/// Reads the keys in `dir`; without one, makes the first from `seed`. `now` is in Unix seconds.
pub fn load_or_make(dir: &Path, seed: &[u8; 32], now: i64) -> Result<SigningKeys, KeyFileError> {
    let of_dir = |error| KeyFileError::Directory(dir.to_owned(), error);
    fs::create_dir_all(dir).map_err(of_dir)?;
    let mut keys = Vec::new();
    for entry in fs::read_dir(dir).map_err(of_dir)? {
        let path = entry.map_err(of_dir)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
            let text = fs::read(&path).map_err(|error| KeyFileError::File(path.clone(), error))?;
            keys.push(SigningKey::from_jwk(&text).map_err(|error| KeyFileError::Invalid(path, error))?);
        }
    }
    if keys.is_empty() {
        let key = SigningKey::from_seed(seed, now - FIRST_KEY_LEAD_S, None);
        write(dir, &key)?;
        keys.push(key);
    }
    Ok(SigningKeys(keys))
}

/// Whole or not at all: a half-written key would keep the signer from starting.
fn write(dir: &Path, key: &SigningKey) -> Result<(), KeyFileError> {
    let path = dir.join(format!("{PREFIX}{}{SUFFIX}", key.public().kid()));
    let temporary = path.with_extension("new");
    let written = || -> std::io::Result<()> {
        if temporary.exists() {
            fs::remove_file(&temporary)?;
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o400).open(&temporary)?;
        file.write_all(key.to_private_jwk().as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        fs::File::open(dir)?.sync_all()
    };
    written().map_err(|error| KeyFileError::File(path.clone(), error))
}

/// Lists the public halves on `signing_key.v1`; returns when they are durable. A receipt is never signed with a key that
/// nobody can look up.
pub fn publish(log: &dyn Log, keys: &SigningKeys) -> Result<(), KeyFileError> {
    let topic = Topic::new(KeyRecord::TOPIC);
    for key in keys.iter() {
        let kid = key.public().kid().to_owned();
        let record = KeyRecord { kid: kid.clone(), used_for: "receipt".to_owned(), jwk: key.public().to_jwk() };
        let value = record.encode()?;
        let out =
            Output { topic: &topic, partition: Some(0), key: Some(kid.as_bytes()), value: Some(&value), headers: &[] };
        let (done, acknowledged) = mpsc::channel();
        log.append(&out, Box::new(move |outcome| drop(done.send(outcome))))?;
        let unanswered =
            |_| Fault::Unknown(Cause::new("append_unanswered", "the log did not acknowledge a signing key"));
        acknowledged.recv_timeout(PUBLISH_TIMEOUT).map_err(unanswered)??;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_first_key_is_made_once_and_only_its_owner_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let made = load_or_make(dir.path(), &[7; 32], 1_000_000).unwrap();
        let read = load_or_make(dir.path(), &[8; 32], 2_000_000).unwrap();
        let kid = |keys: &SigningKeys| keys.iter().next().unwrap().public().kid().to_owned();
        assert_eq!(kid(&made), kid(&read));
        let files: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap()).collect();
        assert_eq!(files.len(), 1);
        assert_eq!(files[0].metadata().unwrap().permissions().mode() & 0o777, 0o400);
    }

    #[test]
    fn the_youngest_valid_key_signs() {
        let old = SigningKey::from_seed(&[1; 32], 0, Some(200));
        let young = SigningKey::from_seed(&[2; 32], 100, None);
        let keys = SigningKeys::new(vec![old.clone(), young.clone()]);
        let kid_at = |seconds: i64| {
            keys.at(Timestamp::from_millis(seconds * 1000).unwrap()).map(|key| key.public().kid().to_owned())
        };
        assert_eq!(kid_at(50).as_deref(), Some(old.public().kid()));
        assert_eq!(kid_at(150).as_deref(), Some(young.public().kid()));
    }

    #[test]
    fn a_damaged_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("receipt-x.jwk"), "{}").unwrap();
        assert!(
            matches!(load_or_make(dir.path(), &[7; 32], 0), Err(KeyFileError::Invalid(path, _)) if path.ends_with("receipt-x.jwk"))
        );
    }
}
