//! Makes the topics that are missing and the first offsets of groups; alters nothing that exists.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::clients::Clients;
use super::config;
use super::fault::{During, fault, misconfigured};
use super::librdkafka::{Quiet, create};
use crate::{Cause, Cleanup, Fault, Group, Topic, TopicChange, TopicSpec};

pub(super) fn apply(clients: &Clients, topics: &[TopicSpec], groups: &[Group]) -> Result<Vec<TopicChange>, Fault> {
    let admin = Admin {
        clients,
        client: create(&config::client(&clients.config)?, Quiet)?,
        options: AdminOptions::new()
            .request_timeout(Some(clients.config.timings.call))
            .operation_timeout(Some(clients.config.timings.call)),
    };
    let mut changes = Vec::with_capacity(topics.len());
    for spec in topics {
        changes.push(admin.make(spec)?);
    }
    admin.wait_visible(topics)?;
    let created = changes.iter().filter_map(|change| match change {
        TopicChange::Created(topic) => Some(topic),
        TopicChange::Kept(_) | TopicChange::Differs(..) => None,
    });
    set_first_offsets(clients, groups, &created.collect())?;
    Ok(changes)
}

struct Admin<'a> {
    clients: &'a Clients,
    client: AdminClient<Quiet>,
    options: AdminOptions,
}

impl Admin<'_> {
    fn make(&self, spec: &TopicSpec) -> Result<TopicChange, Fault> {
        if let Some(partitions) = self.clients.partitions(&spec.topic)? {
            return self.compare(spec, partitions);
        }
        let settings = self.settings(spec);
        let partitions = i32::try_from(spec.partitions).unwrap_or(i32::MAX);
        let replication = TopicReplication::Fixed(self.clients.config.replication_factor);
        let mut wanted = NewTopic::new(spec.topic.as_str(), partitions, replication);
        for (name, value) in &settings {
            wanted = wanted.set(name, value);
        }
        let made = {
            let _watch = self.clients.watchdog.watch("create_topics", self.clients.hang());
            wait(self.client.create_topics([&wanted], &self.options)).map_err(|error| fault(During::Ask, error))?
        };
        match made.into_iter().next() {
            Some(Ok(_)) => Ok(TopicChange::Created(spec.topic.clone())),
            // Another process applied at the same time, or our own request was repeated.
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => {
                let partitions = self.clients.await_partitions(&spec.topic)?;
                self.compare(spec, partitions.ok_or_else(|| unseen(&spec.topic))?)
            }
            Some(Err((_, code))) if is_invalid(code) => {
                Err(misconfigured("topic_invalid", format!("topic {} cannot be created: {code}", spec.topic)))
            }
            Some(Err((_, code))) => Err(fault(During::Ask, KafkaError::AdminOp(code))),
            None => Err(Fault::Retry(Cause::new("unavailable", "no answer to the creation of a topic"))),
        }
    }

    fn settings(&self, spec: &TopicSpec) -> BTreeMap<&'static str, String> {
        let (policy, retention) = match spec.cleanup {
            Cleanup::Delete { retention } => ("delete", Some(retention.map_or("-1".to_owned(), config::millis))),
            Cleanup::Compact => ("compact", None),
            Cleanup::CompactDelete { retention } => ("compact,delete", Some(config::millis(retention))),
        };
        let mut settings = BTreeMap::from([
            ("cleanup.policy", policy.to_owned()),
            ("message.timestamp.type", if spec.log_append_time { "LogAppendTime" } else { "CreateTime" }.to_owned()),
        ]);
        settings.extend(retention.map(|retention| ("retention.ms", retention)));
        if self.clients.config.replication_factor >= 3 {
            settings.insert("min.insync.replicas", "2".to_owned());
        }
        settings
    }

    fn compare(&self, spec: &TopicSpec, partitions: u32) -> Result<TopicChange, Fault> {
        let mut differences = Vec::new();
        if partitions != spec.partitions {
            differences.push(format!("{partitions} partitions instead of {}", spec.partitions));
        }
        let found = {
            let _watch = self.clients.watchdog.watch("describe_configs", self.clients.hang());
            let topic = ResourceSpecifier::Topic(spec.topic.as_str());
            wait(self.client.describe_configs([&topic], &self.options)).map_err(|error| fault(During::Ask, error))?
        };
        let described = match found.into_iter().next() {
            Some(Ok(described)) => described,
            Some(Err(code)) => return Err(fault(During::Ask, KafkaError::AdminOp(code))),
            None => return Err(Fault::Retry(Cause::new("unavailable", "no answer about the settings of a topic"))),
        };
        for (name, wanted) in self.settings(spec) {
            let value = described.get(name).and_then(|entry| entry.value.as_deref()).unwrap_or("unset");
            if !is_same(name, value, &wanted) {
                differences.push(format!("{name} is {value} instead of {wanted}"));
            }
        }
        Ok(if differences.is_empty() {
            TopicChange::Kept(spec.topic.clone())
        } else {
            TopicChange::Differs(spec.topic.clone(), differences.join(", "))
        })
    }

    /// A topic is created before every broker knows of it.
    fn wait_visible(&self, topics: &[TopicSpec]) -> Result<(), Fault> {
        let deadline = Instant::now() + self.clients.config.timings.call;
        for spec in topics {
            loop {
                let seen = self.clients.partitions(&spec.topic)?.map(|partitions| (0..partitions).collect::<Vec<_>>());
                if let Some(partitions) = seen
                    && !partitions.is_empty()
                    && self.clients.ends(&spec.topic, &partitions).is_ok()
                {
                    break;
                }
                if Instant::now() >= deadline {
                    return Err(unseen(&spec.topic));
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }
}

fn unseen(topic: &Topic) -> Fault {
    Fault::Retry(Cause::new("unavailable", format!("topic {topic} has been created but cannot be seen yet")))
}

/// A topic that was made just now, or a partition that was never written to, starts at 0 for every group: no rewind.
fn set_first_offsets(clients: &Clients, groups: &[Group], created: &BTreeSet<&Topic>) -> Result<(), Fault> {
    for group in groups {
        let client = clients.open_group_client(&group.name)?;
        for topic in &group.inputs {
            let partitions = (0..clients.require_partitions(topic)?).collect::<Vec<_>>();
            let known = clients.known_offsets(&client, topic, &partitions)?;
            let has_offset = |partition: u32| known.iter().any(|at| at.partition == partition);
            let ends = clients.open_ends(topic, &partitions)?;
            let first = ends
                .iter()
                .filter(|end| !has_offset(end.partition) && (end.offset == 0 || created.contains(topic)))
                .map(|end| end.partition)
                .collect::<Vec<_>>();
            if !first.is_empty() {
                clients.set_first_offsets(&client, topic, &first)?;
            }
        }
    }
    Ok(())
}

/// The broker may list the policies in either order.
fn is_same(name: &str, value: &str, wanted: &str) -> bool {
    let parts = |list: &str| list.split(',').map(|part| part.trim().to_owned()).collect::<BTreeSet<_>>();
    if name == "cleanup.policy" { parts(value) == parts(wanted) } else { value == wanted }
}

fn is_invalid(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::InvalidTopic
            | RDKafkaErrorCode::InvalidPartitions
            | RDKafkaErrorCode::InvalidReplicationFactor
            | RDKafkaErrorCode::InvalidConfig
            | RDKafkaErrorCode::PolicyViolation
    )
}

/// Waits for one of rdkafka's futures, which its own thread completes.
fn wait<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}
