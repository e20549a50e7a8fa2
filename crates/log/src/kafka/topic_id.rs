//! The id of a topic, which rdkafka's safe interface does not tell.
//!
//! A store must notice when its changelog was deleted and made anew under the same name (R3). Everything else
//! that could mark a topic (a first record, a group offset, a setting) is lost to compaction, expiry or an operator.

#![expect(
    unsafe_code,
    reason = "rdkafka 0.39 has no safe DescribeTopics; the calls below own what they make and free it"
)]

use std::ffi::{CStr, CString};
use std::ptr::NonNull;
use std::time::Duration;

use rdkafka::bindings as raw;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::fault::{During, TOPIC_MISSING, fault, misconfigured};
use crate::{Cause, Fault, Topic};

/// Frees what librdkafka made when it goes out of scope.
struct Owned<T> {
    made: NonNull<T>,
    free: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    fn new(made: *mut T, free: unsafe extern "C" fn(*mut T)) -> Result<Self, Fault> {
        let made = NonNull::new(made)
            .ok_or_else(|| Fault::Retry(Cause::new("unavailable", "librdkafka gave no answer to DescribeTopics")))?;
        Ok(Self { made, free })
    }

    fn ptr(&self) -> *mut T {
        self.made.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: `made` came from the constructor that `free` belongs to, and only this drop frees it.
        unsafe { (self.free)(self.made.as_ptr()) }
    }
}

/// The id in Kafka's own base64 spelling.
pub(super) fn ask<C: ClientContext>(client: &Client<C>, topic: &Topic, patience: Duration) -> Result<String, Fault> {
    let name = CString::new(topic.as_str()).map_err(|error| misconfigured(TOPIC_MISSING, error.to_string()))?;
    let patience_ms = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
    let mut names = [name.as_ptr()];
    // SAFETY: the client outlives every handle made from it here; `name` outlives the collection, which copies it; the
    // options and the collection are copied by the request; the queue is destroyed after the event that came from it
    // (locals drop in reverse order); the result is read while its event lives and nothing of it leaves but a copy.
    unsafe {
        let rk = client.native_ptr();
        let topics = Owned::new(
            raw::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len()),
            raw::rd_kafka_TopicCollection_destroy,
        )?;
        let options = Owned::new(
            raw::rd_kafka_AdminOptions_new(rk, raw::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS),
            raw::rd_kafka_AdminOptions_destroy,
        )?;
        raw::rd_kafka_AdminOptions_set_request_timeout(options.ptr(), patience_ms, std::ptr::null_mut(), 0);
        let queue = Owned::new(raw::rd_kafka_queue_new(rk), raw::rd_kafka_queue_destroy)?;
        raw::rd_kafka_DescribeTopics(rk, topics.ptr(), options.ptr(), queue.ptr());
        let event = Owned::new(
            raw::rd_kafka_queue_poll(queue.ptr(), patience_ms.saturating_add(1_000)),
            raw::rd_kafka_event_destroy,
        )?;
        refuse(raw::rd_kafka_event_error(event.ptr()))?;
        let result = raw::rd_kafka_event_DescribeTopics_result(event.ptr());
        if result.is_null() {
            return Err(Fault::Retry(Cause::new("unavailable", "DescribeTopics was answered by something else")));
        }
        let mut count = 0_usize;
        let described = raw::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if described.is_null() || count == 0 {
            return Err(misconfigured(TOPIC_MISSING, format!("topic {topic} does not exist")));
        }
        let error = raw::rd_kafka_TopicDescription_error(*described);
        if !error.is_null() {
            refuse(raw::rd_kafka_error_code(error))?;
        }
        let text = raw::rd_kafka_Uuid_base64str(raw::rd_kafka_TopicDescription_topic_id(*described));
        if text.is_null() {
            return Err(Fault::Retry(Cause::new("unavailable", format!("topic {topic} has no id"))));
        }
        Ok(CStr::from_ptr(text).to_string_lossy().into_owned())
    }
}

fn refuse(code: raw::rd_kafka_resp_err_t) -> Result<(), Fault> {
    match RDKafkaErrorCode::from(code) {
        RDKafkaErrorCode::NoError => Ok(()),
        code @ (RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
            Err(misconfigured(TOPIC_MISSING, format!("DescribeTopics: {code}")))
        }
        code => Err(fault(During::Ask, KafkaError::AdminOp(code))),
    }
}
