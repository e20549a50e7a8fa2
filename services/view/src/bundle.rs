//! Bundles: one chain with the keys that it needs, signed by a key of view's own (evidence.md section 5).

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use event::id::{ExchangeId, TenantId, TraceId};
use event::time::Timestamp;
use event::topic;
use event::wire::{SigningKey as SigningKeyRecord, Wire, WireError};
use log::{Fault, Log, Output, Topic};
use proof::{BundleDraft, KeyRing, PublicKey, Receipt, SealError, SigningKey};

const FILE: &str = "view.json";
const USED_FOR: &str = "bundle";
/// A first key is valid from this long before it was made (conventions.md, signing keys).
const NBF_BEFORE_S: i64 = 24 * 3_600;
const PUBLISH_WAIT: Duration = Duration::from_secs(30);

/// The key that signs bundles; its public half is on `signing_key.v1`.
#[derive(Debug)]
pub struct BundleKey {
    signing_key: SigningKey,
}

/// Why the key or a bundle cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BundleKeyError {
    #[error("the key file {} cannot be read or made", .0.display())]
    File(PathBuf, #[source] std::io::Error),
    #[error("the key file {} is not a private JWK", .0.display())]
    NotAKey(PathBuf, #[source] proof::jwk::InvalidKey),
    #[error("the public key cannot be encoded")]
    Encode(#[source] WireError),
    #[error("the public key cannot be published")]
    Publish(#[source] Fault),
    #[error("the log did not say that the public key is durable")]
    NotDurable,
    #[error("a stored receipt or key of trace {0} is damaged")]
    Stored(String),
    #[error("the bundle cannot be sealed")]
    Seal(#[from] SealError),
}

/// What goes into a bundle, as the read model has it.
pub(crate) struct Draft<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) trace_id: &'a str,
    pub(crate) chain: &'a str,
    /// JSON texts in hop order.
    pub(crate) receipts: &'a [String],
    /// JSON texts of the public keys that sign receipts.
    pub(crate) keys: &'a [String],
}

impl BundleKey {
    /// Reads `view.json` of this directory; at the first start it is made, readable by its owner only. `now_s` is the
    /// time in Unix seconds.
    pub fn open(signing_directory: &Path, now_s: i64) -> Result<Self, BundleKeyError> {
        let file = signing_directory.join(FILE);
        let failed = |error| BundleKeyError::File(file.clone(), error);
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let made = SigningKey::from_seed(&rand::random(), now_s - NBF_BEFORE_S, None).to_private_jwk();
                make(signing_directory, &file, made.as_bytes()).map_err(failed)?;
                fs::read(&file).map_err(failed)?
            }
            Err(error) => return Err(failed(error)),
        };
        let signing_key = SigningKey::from_jwk(&text).map_err(|error| BundleKeyError::NotAKey(file.clone(), error))?;
        Ok(Self { signing_key })
    }

    /// Whether this directory has one already.
    pub fn exists(signing_directory: &Path) -> bool {
        signing_directory.join(FILE).exists()
    }

    /// The half that everybody may have.
    pub fn public(&self) -> &PublicKey {
        self.signing_key.public()
    }

    /// Writes the public half to `signing_key.v1`, for the JWKS, and waits until it is durable. Safe to repeat.
    pub fn publish(&self, log: &dyn Log) -> Result<(), BundleKeyError> {
        let public = self.public();
        let record =
            SigningKeyRecord { kid: public.kid().to_owned(), used_for: USED_FOR.to_owned(), jwk: public.to_jwk() };
        let value = record.encode().map_err(BundleKeyError::Encode)?;
        let (done, acknowledged) = mpsc::channel();
        log.append(
            &Output {
                topic: &Topic::new(topic::SIGNING_KEY),
                partition: None,
                key: Some(public.kid().as_bytes()),
                value: Some(&value),
                headers: &[],
            },
            Box::new(move |outcome| {
                // Nobody waits any more: then nobody is told.
                let _gone = done.send(outcome);
            }),
        )
        .map_err(BundleKeyError::Publish)?;
        match acknowledged.recv_timeout(PUBLISH_WAIT) {
            Ok(outcome) => outcome.map(|_| ()).map_err(BundleKeyError::Publish),
            Err(_) => Err(BundleKeyError::NotDurable),
        }
    }

    /// The sealed bundle as JSON text.
    pub(crate) fn seal(&self, draft: &Draft<'_>, now_ms: i64) -> Result<String, BundleKeyError> {
        let damaged = || BundleKeyError::Stored(draft.trace_id.to_owned());
        let mut ring = KeyRing::new();
        for key in draft.keys {
            let key = PublicKey::from_jwk(key.as_bytes()).map_err(|_| damaged())?;
            ring.insert(key).map_err(|_| damaged())?;
        }
        let receipts = draft.receipts.iter().map(|receipt| Receipt::parse(receipt.as_bytes()));
        let bundle = BundleDraft {
            tenant: TenantId::parse(draft.tenant).map_err(|_| damaged())?,
            trace_id: TraceId::parse(draft.trace_id).map_err(|_| damaged())?,
            chain: ExchangeId::parse(draft.chain).map_err(|_| damaged())?,
            exported_at: Timestamp::from_millis(now_ms).map_err(|_| damaged())?,
            receipts: receipts.collect::<Result<_, _>>().map_err(|_| damaged())?,
        };
        Ok(bundle.seal(&ring, &self.signing_key)?.to_json())
    }
}

/// Whole or not at all: written beside it, then linked. Of two first starts at once the first one's key stays.
fn make(directory: &Path, file: &Path, text: &[u8]) -> std::io::Result<()> {
    fs::create_dir_all(directory)?;
    let beside = directory.join(format!("{FILE}.{:016x}", rand::random::<u64>()));
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o400).open(&beside)?;
    out.write_all(text)?;
    out.sync_all()?;
    drop(out);
    let linked = match fs::hard_link(&beside, file) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    };
    fs::remove_file(&beside)?;
    linked?;
    fs::File::open(directory)?.sync_all()
}
