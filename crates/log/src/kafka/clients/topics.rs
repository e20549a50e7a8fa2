//! Which topics there are. What one broker knows, another may not have heard of yet.

use std::time::Duration;

use super::super::driver::{Driver, Reads};
use super::super::fault::{During, TOPIC_MISSING, fault, misconfigured};
use super::Clients;
use crate::{Fault, Topic};

/// Between two questions for a topic that a broker has not heard of yet.
const PAUSE: Duration = Duration::from_millis(20);

impl<D: Driver> Clients<D> {
    /// What the broker that happens to be asked knows.
    pub(in super::super) fn partitions(&self, topic: &Topic) -> Result<Option<u32>, Fault> {
        let _watch = self.watchdog.watch("fetch_metadata", self.hang());
        let found = self.committed.partitions(topic, self.call()).map_err(|error| fault(During::Ask, error))?;
        if found.is_some() {
            self.seen.lock().insert(topic.clone());
        }
        Ok(found)
    }

    /// Waits for a topic that is known to have been made, but for no longer than a request may take.
    pub(in super::super) fn await_partitions(&self, topic: &Topic) -> Result<Option<u32>, Fault> {
        let deadline = self.now() + self.call();
        loop {
            let found = self.partitions(topic)?;
            if found.is_some() || self.now() >= deadline {
                return Ok(found);
            }
            self.driver.sleep(PAUSE);
        }
    }

    /// A topic that was there a moment ago is waited for; of one that nobody has seen it is said at once that it is missing.
    pub(in super::super) fn require_partitions(&self, topic: &Topic) -> Result<u32, Fault> {
        let found = if self.has_seen(topic) { self.await_partitions(topic)? } else { self.partitions(topic)? };
        found.ok_or_else(|| {
            misconfigured(TOPIC_MISSING, format!("topic {topic} does not exist; apply the topics first"))
        })
    }

    /// For a reader that was told of an unknown topic: refuses only if one of these is not there.
    pub(in super::super) fn refuse_missing<'a>(
        &self,
        topics: impl IntoIterator<Item = &'a Topic>,
    ) -> Result<(), Fault> {
        topics.into_iter().try_for_each(|topic| self.require_partitions(topic).map(drop))
    }

    /// Tells a topic from one of the same name that was made after it was deleted.
    pub(in super::super) fn topic_id(&self, topic: &Topic) -> Result<String, Fault> {
        let deadline = self.now() + self.call();
        loop {
            let told = {
                let _watch = self.watchdog.watch("describe_topics", self.hang());
                self.committed.topic_id(topic, self.call())
            };
            match told {
                Err(Fault::Fatal(cause))
                    if cause.code == TOPIC_MISSING && self.has_seen(topic) && self.now() < deadline =>
                {
                    self.driver.sleep(PAUSE);
                }
                told => return told,
            }
        }
    }

    fn has_seen(&self, topic: &Topic) -> bool {
        self.seen.lock().contains(topic)
    }
}
