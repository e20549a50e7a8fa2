//! Keys in files of mode 0400, the first made at first start; their public halves go to `signing_key.v1`.
//!
//! A key signs from its `nbf` until that of the next one, so a new key is one new file and no old one is touched. It is made
//! with an `nbf` that lies ahead by at least [`LEAD_S_MIN`]; a set that was read at some second is therefore complete for
//! everything that is dated less than that later, and which key signs is decided by the receipt's time alone.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use event::time::Timestamp;
use event::wire::{SigningKey as KeyRecord, Wire};
use log::{Cause, Fault, Log, Output, Topic};
use proof::{PublicKey, SigningKey};

const SUFFIX: &str = ".jwk";
/// The first key of a view.
const FIRST_OF_BUNDLES: &str = "view.json";
/// The first key is valid from a day before it was made, so that a clock a little behind does not refuse.
const FIRST_KEY_LEAD_S: i64 = 86_400;
/// How far ahead the `nbf` of a new key must lie: running signers take it up, and list it, before that.
pub const LEAD_S_MIN: i64 = 5;
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(30);
/// What nobody but the owner and the group may do with a key file: anything.
const OTHERS: u32 = 0o007;

/// Why the keys cannot be used. None of these shows what a key file holds.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("the key directory {0} cannot be read or written")]
    Directory(PathBuf, #[source] std::io::Error),
    #[error("the key file {0} cannot be read or written")]
    File(PathBuf, #[source] std::io::Error),
    #[error("{0} is not a private Ed25519 JWK")]
    Invalid(PathBuf, #[source] proof::jwk::InvalidKey),
    #[error("everybody may read the key file {0}: chmod 0400")]
    Open(PathBuf),
    #[error("{dir} holds no key for {used_for}s; the first start of whoever signs them makes one")]
    None { dir: PathBuf, used_for: &'static str },
    #[error("key {kid} is waiting already, and signs from {nbf} (Unix seconds)")]
    Waiting { kid: String, nbf: i64 },
    #[error("a new key must be listed for at least {LEAD_S_MIN} seconds before it signs")]
    TooSoon,
    #[error("the public keys cannot be published")]
    Publish(#[from] Fault),
    #[error("the public key cannot be encoded")]
    Encode(#[from] event::wire::WireError),
}

/// What keys sign. Each use has files of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    Receipts,
    Bundles,
}

impl Use {
    /// As `signing_key.v1` says it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Receipts => "receipt",
            Self::Bundles => "bundle",
        }
    }

    fn file(self, kid: &str) -> String {
        format!("{}-{kid}{SUFFIX}", self.as_str())
    }

    fn first_file(self, kid: &str) -> String {
        match self {
            Self::Receipts => self.file(kid),
            Self::Bundles => FIRST_OF_BUNDLES.to_owned(),
        }
    }

    fn owns(self, name: &str) -> bool {
        let is_first = self == Self::Bundles && name == FIRST_OF_BUNDLES;
        let rest = name.strip_prefix(self.as_str()).and_then(|rest| rest.strip_prefix('-'));
        is_first || rest.is_some_and(|rest| rest.ends_with(SUFFIX))
    }
}

/// The files of one use in one directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFiles {
    pub dir: PathBuf,
    pub used_for: Use,
}

/// Every key of this signer, the oldest first.
#[derive(Clone, Debug)]
pub struct SigningKeys(Vec<SigningKey>);

impl SigningKeys {
    /// Each key ends where the next one begins, if it did not end before.
    pub fn new(mut keys: Vec<SigningKey>) -> Self {
        keys.sort_by(|a, b| (a.public().nbf(), a.public().kid()).cmp(&(b.public().nbf(), b.public().kid())));
        let mut next = None;
        for key in keys.iter_mut().rev() {
            let end = key.public().exp().into_iter().chain(next).min();
            next = Some(key.public().nbf());
            *key = key.clone().with_exp(end);
        }
        Self(keys)
    }

    /// The key for a receipt of this time: `nbf <= ts < exp`, the youngest where several fit.
    pub fn at(&self, ts: Timestamp) -> Option<&SigningKey> {
        self.0.iter().rfind(|key| key.public().is_valid_at(ts))
    }

    pub fn iter(&self) -> impl Iterator<Item = &SigningKey> {
        self.0.iter()
    }
}

impl KeyFiles {
    /// Those of `dir` for that use.
    pub fn new(dir: impl Into<PathBuf>, used_for: Use) -> Self {
        Self { dir: dir.into(), used_for }
    }

    /// Reads the keys, of which there is at least one.
    ///
    /// # Errors
    /// If there is none, or one cannot be read or is open to everybody.
    pub fn load(&self) -> Result<SigningKeys, KeyFileError> {
        let keys = self.read()?;
        if keys.is_empty() { Err(self.none()) } else { Ok(SigningKeys::new(keys)) }
    }

    /// Reads the keys; without one, makes the first from `seed`. `now` is in Unix seconds.
    pub(crate) fn load_or_make(&self, seed: &[u8; 32], now: i64) -> Result<SigningKeys, KeyFileError> {
        fs::create_dir_all(&self.dir).map_err(|error| KeyFileError::Directory(self.dir.clone(), error))?;
        if self.read()?.is_empty() {
            let first = SigningKey::from_seed(seed, now - FIRST_KEY_LEAD_S, None);
            self.write(&self.used_for.first_file(first.public().kid()), &first)?;
        }
        self.load()
    }

    /// Makes the next key from `seed`, to sign from `lead_s` after `now` (Unix seconds). Running signers find it by
    /// themselves.
    ///
    /// # Errors
    /// If the lead is below [`LEAD_S_MIN`], another key waits already, or the files cannot be read or written.
    pub fn rotate(&self, seed: &[u8; 32], now: i64, lead_s: i64) -> Result<PublicKey, KeyFileError> {
        if lead_s < LEAD_S_MIN {
            return Err(KeyFileError::TooSoon);
        }
        let keys = self.load()?;
        if let Some(waiting) = keys.iter().map(SigningKey::public).find(|public| public.nbf() > now) {
            return Err(KeyFileError::Waiting { kid: waiting.kid().to_owned(), nbf: waiting.nbf() });
        }
        let key = SigningKey::from_seed(seed, now.saturating_add(lead_s), None);
        self.write(&self.used_for.file(key.public().kid()), &key)?;
        Ok(key.public().clone())
    }

    fn none(&self) -> KeyFileError {
        KeyFileError::None { dir: self.dir.clone(), used_for: self.used_for.as_str() }
    }

    fn read(&self) -> Result<Vec<SigningKey>, KeyFileError> {
        let of_dir = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => self.none(),
            _ => KeyFileError::Directory(self.dir.clone(), error),
        };
        let mut keys = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(of_dir)? {
            let path = entry.map_err(of_dir)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if !self.used_for.owns(name) {
                continue;
            }
            let of_file = |error| KeyFileError::File(path.clone(), error);
            if fs::metadata(&path).map_err(of_file)?.permissions().mode() & OTHERS != 0 {
                return Err(KeyFileError::Open(path));
            }
            let text = fs::read(&path).map_err(of_file)?;
            keys.push(SigningKey::from_jwk(&text).map_err(|error| KeyFileError::Invalid(path.clone(), error))?);
        }
        Ok(keys)
    }

    /// Whole or not at all: a half-written key would keep the signer from starting. A file that is there stays: of two first
    /// starts at once, the first one's key counts for both.
    fn write(&self, name: &str, key: &SigningKey) -> Result<(), KeyFileError> {
        let path = self.dir.join(name);
        let temporary = self.dir.join(format!("{}.new", key.public().kid()));
        let written = || -> std::io::Result<()> {
            if temporary.exists() {
                fs::remove_file(&temporary)?;
            }
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o400).open(&temporary)?;
            file.write_all(key.to_private_jwk().as_bytes())?;
            file.sync_all()?;
            let linked = match fs::hard_link(&temporary, &path) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
                _ => Ok(()),
            };
            fs::remove_file(&temporary)?;
            linked?;
            fs::File::open(&self.dir)?.sync_all()
        };
        written().map_err(|error| KeyFileError::File(path.clone(), error))
    }
}

/// Lists the public halves on `signing_key.v1`, but for those that `listed` has already, and returns when they are durable. A
/// receipt is never signed with a key that nobody can look up.
pub(crate) fn publish(
    log: &dyn Log,
    (used_for, keys): (Use, &SigningKeys),
    listed: &mut BTreeMap<String, PublicKey>,
) -> Result<(), KeyFileError> {
    let topic = Topic::new(KeyRecord::TOPIC);
    for public in keys.iter().map(SigningKey::public) {
        let kid = public.kid().to_owned();
        if listed.get(&kid) == Some(public) {
            continue;
        }
        let record = KeyRecord { kid: kid.clone(), used_for: used_for.as_str().to_owned(), jwk: public.to_jwk() };
        let value = record.encode()?;
        let out =
            Output { topic: &topic, partition: Some(0), key: Some(kid.as_bytes()), value: Some(&value), headers: &[] };
        let (done, acknowledged) = mpsc::channel();
        log.append(&out, Box::new(move |outcome| drop(done.send(outcome))))?;
        let unanswered =
            |_| Fault::Unknown(Cause::new("append_unanswered", "the log did not acknowledge a signing key"));
        acknowledged.recv_timeout(PUBLISH_TIMEOUT).map_err(unanswered)??;
        listed.insert(kid, public.clone());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn receipts(dir: &Path) -> KeyFiles {
        KeyFiles::new(dir, Use::Receipts)
    }

    #[test]
    fn the_first_key_is_made_once_and_only_its_owner_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let made = receipts(dir.path()).load_or_make(&[7; 32], 1_000_000).unwrap();
        let read = receipts(dir.path()).load_or_make(&[8; 32], 2_000_000).unwrap();
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

    fn shut(path: &Path) {
        fs::set_permissions(path, fs::Permissions::from_mode(0o400)).unwrap();
    }

    #[test]
    fn a_key_ends_where_the_next_begins_unless_it_ended_before() {
        let key = |seed: u8, nbf, exp| SigningKey::from_seed(&[seed; 32], nbf, exp);
        let keys = SigningKeys::new(vec![key(3, 300, None), key(1, 100, None), key(2, 200, Some(250))]);
        let times: Vec<_> = keys.iter().map(|key| (key.public().nbf(), key.public().exp())).collect();
        assert_eq!(times, [(100, Some(200)), (200, Some(250)), (300, None)]);
        let found = |seconds: i64| keys.at(Timestamp::from_millis(seconds * 1_000).unwrap()).is_some();
        assert_eq!(
            [99, 100, 199, 200, 249, 250, 299, 300].map(found),
            [false, true, true, true, true, false, false, true]
        );
    }

    #[test]
    fn a_new_key_waits_and_there_is_one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(receipts(dir.path()).rotate(&[2; 32], 1_000, 60), Err(KeyFileError::None { .. })));
        receipts(dir.path()).load_or_make(&[1; 32], 1_000).unwrap();
        assert!(matches!(receipts(dir.path()).rotate(&[2; 32], 1_000, LEAD_S_MIN - 1), Err(KeyFileError::TooSoon)));
        let next = receipts(dir.path()).rotate(&[2; 32], 1_000, 60).unwrap();
        assert_eq!((next.nbf(), next.exp()), (1_060, None));
        assert!(matches!(
            receipts(dir.path()).rotate(&[3; 32], 1_059, 60),
            Err(KeyFileError::Waiting { nbf: 1_060, .. })
        ));
        receipts(dir.path()).rotate(&[3; 32], 1_060, 60).unwrap();
        let ends: Vec<_> = receipts(dir.path()).load().unwrap().iter().map(|key| key.public().exp()).collect();
        assert_eq!(ends, [Some(1_060), Some(1_120), None]);
        for entry in fs::read_dir(dir.path()).unwrap() {
            assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o400);
        }
    }

    #[test]
    fn each_use_has_keys_of_its_own_in_one_directory() {
        let dir = tempfile::tempdir().unwrap();
        let (receipts, bundles) = (receipts(dir.path()), KeyFiles::new(dir.path(), Use::Bundles));
        let kids = |files: &KeyFiles| -> Vec<String> {
            files.load().unwrap().iter().map(|key| key.public().kid().to_owned()).collect()
        };
        let first = bundles.load_or_make(&[1; 32], 1_000).unwrap();
        assert!(dir.path().join("view.json").exists());
        assert!(matches!(receipts.load(), Err(KeyFileError::None { used_for: "receipt", .. })));
        receipts.load_or_make(&[2; 32], 1_000).unwrap();
        let next = bundles.rotate(&[3; 32], 1_000, 60).unwrap();
        assert_eq!(kids(&bundles), [first.iter().next().unwrap().public().kid(), next.kid()]);
        assert_eq!(kids(&receipts).len(), 1);
        assert!(receipts.rotate(&[4; 32], 1_000, 60).is_ok(), "the bundles' key waits, not the receipts'");
        assert!(!kids(&bundles).iter().any(|kid| kids(&receipts).contains(kid)));
    }

    #[test]
    fn of_two_first_starts_at_once_one_key_counts() {
        let dir = tempfile::tempdir().unwrap();
        let bundles = KeyFiles::new(dir.path(), Use::Bundles);
        let first = |seed| SigningKey::from_seed(&[seed; 32], 0, None);
        // Both have looked and found none.
        bundles.write(FIRST_OF_BUNDLES, &first(1)).unwrap();
        bundles.write(FIRST_OF_BUNDLES, &first(2)).unwrap();
        let kept = bundles.load().unwrap();
        assert_eq!(kept.iter().map(SigningKey::public).collect::<Vec<_>>(), [first(1).public()]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_file_is_named_and_what_it_holds_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("receipt-x.jwk");
        let secret = SigningKey::from_seed(&[7; 32], 5, None).to_private_jwk();
        let d = secret.split(r#""d":""#).nth(1).unwrap()[..43].to_owned();
        let damaged = [
            "{}".to_owned(),
            format!("\"{d}\""),
            format!("[\"{d}\"]"),
            secret.replace(r#""nbf":5"#, &format!(r#""nbf":"{d}""#)),
            secret.replace(r#""nbf":5"#, &format!(r#""nbf":5,"{d}":1,"{d}":1"#)),
            secret.replace(&d, &format!("{d}{d}")),
            secret[..secret.len() - 1].to_owned(),
        ];
        for text in damaged {
            fs::write(&file, &text).unwrap();
            shut(&file);
            let error = receipts(dir.path()).load_or_make(&[7; 32], 0).unwrap_err();
            assert!(matches!(&error, KeyFileError::Invalid(path, _) if path.ends_with("receipt-x.jwk")), "{error:?}");
            let mut told = format!("{error} {error:?}");
            let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(&error);
            while let Some(error) = cause {
                told.push_str(&error.to_string());
                cause = error.source();
            }
            assert!(!told.contains(&d[..12]), "{told}");
            fs::remove_file(&file).unwrap();
        }
    }

    #[test]
    fn a_key_that_everybody_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        receipts(dir.path()).load_or_make(&[7; 32], 0).unwrap();
        let file = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).unwrap();
        assert!(matches!(receipts(dir.path()).load(), Err(KeyFileError::Open(_))));
        shut(&file);
        assert!(receipts(dir.path()).load().is_ok());
    }
}
