//! Whether the topics are as the configuration wants them.

use log::{Log, TopicChange};
use serde::{Deserialize, Serialize};

use super::{Trouble, print};
use crate::config::Config;
use crate::topics::{groups, specs};

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TopicLine {
    pub(crate) topic: String,
    pub(crate) partitions: u32,
    pub(crate) state: State,
    /// what differs
    pub(crate) detail: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Created,
    Ok,
    Missing,
    Differs,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Ok => "ok",
            Self::Missing => "MISSING",
            Self::Differs => "DIFFERS",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TopicsAnswer {
    pub(crate) topics: Vec<TopicLine>,
    /// consumer groups without an offset on a topic that they read: `group topic:partition`
    pub(crate) groups_without_offset: Vec<String>,
}

impl TopicsAnswer {
    pub(crate) fn holds(&self) -> bool {
        let fine = |line: &TopicLine| matches!(line.state, State::Created | State::Ok);
        self.groups_without_offset.is_empty() && self.topics.iter().all(fine)
    }

    pub(crate) fn told(&self) -> String {
        let mut rows = vec![print::row(["topic", "partitions", "state", ""])];
        for line in &self.topics {
            let detail = line.detail.as_deref().unwrap_or_default();
            rows.push(print::row([&line.topic, &line.partitions.to_string(), line.state.as_str(), detail]));
        }
        let mut text = print::table(&rows);
        for group in &self.groups_without_offset {
            text.push_str(&format!("no offset: {group}\n"));
        }
        text
    }
}

/// Makes what is missing and names what differs.
pub(crate) fn apply(log: &dyn Log, config: &Config) -> Result<TopicsAnswer, Trouble> {
    let changes = log.apply(&specs(config), &groups())?;
    let topics = specs(config)
        .into_iter()
        .map(|spec| {
            let (state, detail) = changes
                .iter()
                .find_map(|change| match change {
                    TopicChange::Created(topic) if *topic == spec.topic => Some((State::Created, None)),
                    TopicChange::Kept(topic) if *topic == spec.topic => Some((State::Ok, None)),
                    TopicChange::Differs(topic, how) if *topic == spec.topic => {
                        Some((State::Differs, Some(how.clone())))
                    }
                    TopicChange::Created(_) | TopicChange::Kept(_) | TopicChange::Differs(..) => None,
                })
                .unwrap_or((State::Missing, None));
            TopicLine { topic: spec.topic.to_string(), partitions: spec.partitions, state, detail }
        })
        .collect();
    Ok(TopicsAnswer { topics, groups_without_offset: without_offset(log)? })
}

/// Names what differs and changes nothing.
pub(crate) fn check(log: &dyn Log, config: &Config) -> Result<TopicsAnswer, Trouble> {
    let mut missing = Vec::new();
    let mut present = Vec::new();
    for spec in specs(config) {
        if log.partitions(&spec.topic)?.is_some() { present.push(spec) } else { missing.push(spec) }
    }
    // Topics that are there are never altered, so that applying them only compares; no group is named.
    let changes = log.apply(&present, &[])?;
    let mut topics: Vec<TopicLine> = present
        .into_iter()
        .map(|spec| {
            let how = changes.iter().find_map(|change| match change {
                TopicChange::Differs(topic, how) if *topic == spec.topic => Some(how.clone()),
                TopicChange::Created(_) | TopicChange::Kept(_) | TopicChange::Differs(..) => None,
            });
            let state = if how.is_some() { State::Differs } else { State::Ok };
            TopicLine { topic: spec.topic.to_string(), partitions: spec.partitions, state, detail: how }
        })
        .collect();
    topics.extend(missing.into_iter().map(|spec| TopicLine {
        topic: spec.topic.to_string(),
        partitions: spec.partitions,
        state: State::Missing,
        detail: Some("`countersign topics apply` makes it".to_owned()),
    }));
    Ok(TopicsAnswer { topics, groups_without_offset: without_offset(log)? })
}

/// R3: a missing offset is an error, never a rewind.
fn without_offset(log: &dyn Log) -> Result<Vec<String>, Trouble> {
    let mut lacking = Vec::new();
    for group in groups() {
        for topic in &group.inputs {
            let Some(partitions) = log.partitions(topic)? else { continue };
            let known = log.progress(&group.name, topic)?;
            let without = (0..partitions).filter(|partition| known.iter().all(|at| at.partition != *partition));
            lacking.extend(without.map(|partition| format!("{} {topic}:{partition}", group.name)));
        }
    }
    Ok(lacking)
}

#[cfg(test)]
mod tests {
    use super::*;
    use log::embedded::EmbeddedLog;

    #[test]
    fn what_is_missing_is_named_then_made_and_then_holds() {
        let dir = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(dir.path()).unwrap();
        let mut config = Config::default();
        let before = check(&log, &config).unwrap();
        assert!(!before.holds() && before.topics.iter().all(|line| line.state == State::Missing));
        assert!(apply(&log, &config).unwrap().holds());
        let after = check(&log, &config).unwrap();
        assert!(after.holds(), "{}", after.told());
        config.log.partitions = 7;
        let other = check(&log, &config).unwrap();
        assert!(!other.holds());
        assert!(other.told().contains("DIFFERS"), "{}", other.told());
    }
}
