//! Between our records and librdkafka's.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use rdkafka::Message;
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Header, Headers, OwnedHeaders};

use super::clients::{known_offset, known_partition};
use crate::{Output, Record, Topic};

/// Instead of the name of a header whose name is not UTF-8. Nobody asks for it; the record is not lost.
const NAMELESS: &str = "\u{fffd}";

/// Key, value and headers are copied into one block that the fields share: the message goes back to librdkafka.
pub(super) fn record(topic: &Topic, message: &BorrowedMessage<'_>) -> Record {
    let headers = message.headers().map(read_headers).unwrap_or_default();
    let (key, value) = (message.key(), message.payload());
    let bytes = key.map_or(0, <[u8]>::len)
        + value.map_or(0, <[u8]>::len)
        + headers.iter().map(|(_, value)| value.len()).sum::<usize>();
    let mut block = Vec::with_capacity(bytes);
    for part in [key, value].into_iter().flatten().chain(headers.iter().map(|(_, value)| *value)) {
        block.extend_from_slice(part);
    }
    let block = Bytes::from(block);
    let mut taken = 0;
    let mut take = |length: usize| {
        taken += length;
        block.slice(taken - length..taken)
    };
    Record {
        topic: topic.clone(),
        partition: known_partition(message.partition()),
        offset: known_offset(message.offset()),
        time_ms: message.timestamp().to_millis().unwrap_or_default(),
        key: key.map(|key| take(key.len())),
        value: value.map(|value| take(value.len())),
        headers: headers.into_iter().map(|(name, value)| (name, take(value.len()))).collect(),
    }
}

/// rdkafka panics at a header name that is not UTF-8, and any producer may send one.
fn read_headers(headers: &BorrowedHeaders) -> Vec<(String, &[u8])> {
    (0..headers.count())
        .map(|index| {
            catch_unwind(AssertUnwindSafe(|| headers.try_get(index)))
                .ok()
                .flatten()
                .map_or((NAMELESS.to_owned(), &[][..]), |header| {
                    (header.key.to_owned(), header.value.unwrap_or_default())
                })
        })
        .collect()
}

/// `None` where there are none: making an empty list costs a call and an allocation.
pub(super) fn headers(out: &Output<'_>) -> Option<OwnedHeaders> {
    if out.headers.is_empty() {
        return None;
    }
    let mut headers = OwnedHeaders::new_with_capacity(out.headers.len());
    for (name, value) in out.headers {
        headers = headers.insert(Header { key: name, value: Some(*value) });
    }
    Some(headers)
}
