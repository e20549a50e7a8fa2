//! What a record owes, and how that is kept until its outcome is recorded.

use event::envelope::TRACEPARENT;
use event::wire::{ExchangeSealed, PendingDelivery, Wire, WireError};
use log::Record;
use serde::Deserialize;
use stage::{Reject, StepError};

/// The kind of cell that holds a pending delivery. Marks of redone records lie in the same state.
pub const PENDING: u8 = b'p';

/// What a record owes: nothing, or one delivery, due at once. `now_ms` is when it is queued.
///
/// # Errors
/// `Reject` for what no deploy will make readable, `Wait` for a schema of a later version on the input itself.
pub fn owed(record: &Record, now_ms: i64) -> Result<Option<PendingDelivery>, StepError> {
    let reject = |reason, detail: String| Reject { reason, detail, tenant: tenant_of(record) };
    let value = record.value.as_deref().ok_or_else(|| reject("no_value", "the record has no value".to_owned()))?;
    let sealed = match ExchangeSealed::decode(value) {
        Ok(sealed) => sealed,
        Err(error @ WireError::UnknownSchema(_)) if is_input(record) => return Err(StepError::Wait(error.to_string())),
        Err(error @ WireError::UnknownSchema(_)) => return Err(reject("unknown_schema", error.to_string()).into()),
        Err(error) => return Err(reject("undecodable", error.to_string()).into()),
    };
    let Some(url) = sealed.forward_url else { return Ok(None) };
    let receipt: ReceiptCid =
        serde_json::from_str(&sealed.receipt).map_err(|error| reject("undecodable", format!("receipt: {error}")))?;
    let at = format!("{}:{}", record.partition, record.offset);
    // What is no text is no trace context either.
    let traceparent = record.header(TRACEPARENT).and_then(|bytes| std::str::from_utf8(bytes).ok());
    Ok(Some(PendingDelivery {
        exchange_id: sealed.exchange_id,
        tenant: sealed.tenant,
        trace_id: sealed.trace_id,
        admitted_at: sealed.admitted_at,
        url,
        cid: receipt.cid,
        payload: sealed.payload,
        config_version: sealed.config_version,
        source: if is_input(record) { at } else { format!("{}:{at}", record.topic) },
        traceparent: traceparent.map(str::to_owned),
        next_at: now_ms,
        attempts: Vec::new(),
    }))
}

#[derive(Deserialize)]
struct ReceiptCid {
    cid: String,
}

/// Whether it is of the step's own input, and not of its redo topic.
pub fn is_input(record: &Record) -> bool {
    record.topic.as_str() == event::topic::SEALED
}

/// On internal topics the key is written by us, so it names the tenant of a value that cannot be read.
pub fn tenant_of(record: &Record) -> String {
    let text = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok());
    text.and_then(|key| key.split_once(':')).map_or_else(|| "-".to_owned(), |(tenant, _)| tenant.to_owned())
}

/// The cell of a pending delivery.
pub fn cell_key(pending: &PendingDelivery) -> Vec<u8> {
    [&[PENDING], pending.exchange_id.as_bytes()].concat()
}

/// `cause` of an outcome and, where it is not the input, the topic of that cause (R11).
pub fn cause_of(pending: &PendingDelivery) -> (String, Option<&str>) {
    match pending.source.rsplitn(3, ':').collect::<Vec<_>>().as_slice() {
        [offset, partition, topic] => (format!("{partition}:{offset}:0"), Some(topic)),
        _ => (format!("{}:0", pending.source), None),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use stage::testing::record;

    pub(crate) const NOW: i64 = 1_800_000_000_000;

    fn sealed(forward_url: Option<&str>) -> ExchangeSealed {
        ExchangeSealed {
            exchange_id: "ex_1".into(),
            tenant: "acme".into(),
            trace_id: "t-1".into(),
            idempotency_key: "k-1".into(),
            admitted_at: NOW - 5,
            receipt: r#"{"cid":"sha256:00","hop":1}"#.into(),
            payload: b"{\"a\":1}".to_vec(),
            payload_key_id: None,
            payload_type: "passthrough".into(),
            target_type: "passthrough".into(),
            vex: 1,
            fu: 0,
            amount: None,
            forward_url: forward_url.map(str::to_owned),
            config_version: 7,
            normalization: None,
        }
    }

    fn record_of(topic: &str, sealed: &ExchangeSealed) -> Record {
        record(topic, 3, 17, NOW, "acme:t-1", sealed.encode().unwrap())
    }

    pub(crate) fn pending() -> PendingDelivery {
        let record = record_of(event::topic::SEALED, &sealed(Some("https://Good.example/hook")));
        owed(&record, NOW).unwrap().unwrap()
    }

    #[test]
    fn a_sealed_record_without_a_url_owes_nothing() {
        assert_eq!(owed(&record_of(event::topic::SEALED, &sealed(None)), NOW).unwrap(), None);
    }

    #[test]
    fn a_sealed_record_with_a_url_owes_one_delivery_at_once() {
        let mut record = record_of(event::topic::SEALED, &sealed(Some("https://good.example/")));
        record.headers.push((TRACEPARENT.to_owned(), "00-11-22-01".into()));
        let pending = owed(&record, NOW).unwrap().unwrap();
        assert_eq!(cell_key(&pending), b"pex_1");
        assert_eq!(pending.traceparent.as_deref(), Some("00-11-22-01"));
        assert_eq!((pending.next_at, pending.config_version), (NOW, 7));
        assert_eq!(pending.cid, "sha256:00");
        assert_eq!(cause_of(&pending), ("3:17:0".to_owned(), None));
    }

    #[test]
    fn a_redone_record_names_the_redo_topic_as_the_topic_of_its_cause() {
        let record = record_of("forward.redo.v1", &sealed(Some("https://good.example/")));
        let pending = owed(&record, NOW).unwrap().unwrap();
        assert_eq!((cell_key(&pending), &pending.traceparent), (b"pex_1".to_vec(), &None));
        assert_eq!(cause_of(&pending), ("3:17:0".to_owned(), Some("forward.redo.v1")));
    }

    #[test]
    fn what_cannot_be_read_is_rejected_and_a_later_schema_is_waited_for() {
        let with = |topic: &str, value: Vec<u8>| owed(&record(topic, 0, 0, NOW, "acme:t", value), NOW).unwrap_err();
        let reason = |error| match error {
            StepError::Reject(reject) => (reject.reason, reject.tenant),
            other => panic!("{other}"),
        };
        assert_eq!(reason(with(event::topic::SEALED, b"x".to_vec())), ("undecodable", "acme".to_owned()));
        assert!(matches!(with(event::topic::SEALED, vec![0, 0, 0, 1, 0]), StepError::Wait(_)));
        assert_eq!(reason(with("forward.redo.v1", vec![0, 0, 0, 1, 0])).0, "unknown_schema");
        let broken = ExchangeSealed { receipt: "{}".into(), ..sealed(Some("https://good.example/")) };
        assert_eq!(reason(with(event::topic::SEALED, broken.encode().unwrap())).0, "undecodable");
    }
}
