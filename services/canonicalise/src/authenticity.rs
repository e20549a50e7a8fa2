//! Who wrote a request: every record proves its tenant by an HMAC (docs/contracts/topics.md, Headers).
//!
//! Ingest signs too, with a credential of its own that may write for every tenant; so an unsigned record is refused
//! whether or not the broker has ACLs (docs/adr/0003).

use access::Directory;
use access::directory::Producer;
use event::envelope::{KEY_ID, SIGNATURE};
use event::topic::REQUESTED;
use log::{Fault, Record};
use stage::{Reject, StepError};

/// The proven writer of a record.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) producer: Producer,
    /// Written by ingest: the JSON door was passed, and `reply` may be believed.
    pub(crate) is_ingest: bool,
}

/// Checks the signature. `refresh` reads the configuration up to now: a producer made a moment ago is not unknown.
pub(crate) fn prove(
    record: &Record,
    directory: &Directory,
    refresh: &dyn Fn() -> Result<(), Fault>,
) -> Result<Writer, StepError> {
    let key_id = record
        .header(KEY_ID)
        .and_then(|id| std::str::from_utf8(id).ok())
        .ok_or_else(|| unauthenticated("the record has no header countersign-key-id"))?;
    let signature = record
        .header(SIGNATURE)
        .and_then(|text| std::str::from_utf8(text).ok())
        .ok_or_else(|| unauthenticated("the record has no header countersign-signature"))?;
    let producer = match directory.producer(key_id) {
        Some(producer) => producer,
        None => {
            refresh()?;
            directory.producer(key_id).ok_or_else(|| unauthenticated("no such producer"))?
        }
    };
    let key = record.key.as_deref().unwrap_or_default();
    let value = record.value.as_deref().unwrap_or_default();
    // The signature names the request topic, also on a record that comes back by the redo topic.
    if !event::hmac::verify(producer.secret.expose(), REQUESTED, key, value, signature) {
        return Err(unauthenticated("the signature does not match the record"));
    }
    let is_ingest = matches!(producer.grant, access::ProducerGrant::Any);
    Ok(Writer { producer, is_ingest })
}

fn unauthenticated(detail: &str) -> StepError {
    StepError::Reject(Reject { reason: "unauthenticated", detail: detail.to_owned(), tenant: "-".to_owned() })
}
