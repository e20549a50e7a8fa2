//! The topics of the pipeline, made as the profile wants them.

use std::time::Duration;

use event::topic::{Keep, STEPS, layouts};
use log::{Cleanup, Fault, Group, Log, Topic, TopicChange, TopicSpec};

use crate::config::Config;

const DAY: Duration = Duration::from_secs(86_400);
/// Dedup entries live in the log for the window and this much longer, so that none is missed at its end.
const WINDOW_SLACK_DAYS: u32 = 7;

/// Every topic with its settings.
pub(crate) fn specs(config: &Config) -> Vec<TopicSpec> {
    layouts()
        .into_iter()
        .map(|layout| TopicSpec {
            topic: Topic::new(&layout.name),
            partitions: layout.partitions.unwrap_or(config.partitions()),
            cleanup: cleanup(layout.keep, config),
            log_append_time: layout.log_append_time,
        })
        .collect()
}

fn cleanup(keep: Keep, config: &Config) -> Cleanup {
    match (keep, config.dedup_window_days.days()) {
        (Keep::Forever, _) => Cleanup::Delete { retention: None },
        (Keep::Days(days), _) => Cleanup::Delete { retention: Some(DAY * days) },
        (Keep::Newest, _) | (Keep::NewestWithinWindow, None) => Cleanup::Compact,
        (Keep::NewestWithinWindow, Some(days)) => {
            Cleanup::CompactDelete { retention: DAY * (days.saturating_add(WINDOW_SLACK_DAYS)) }
        }
    }
}

/// Every consumer group with what it reads.
pub(crate) fn groups() -> Vec<Group> {
    STEPS
        .iter()
        .map(|step| Group {
            name: step.name.to_owned(),
            inputs: vec![Topic::new(step.input), Topic::new(&step.redo_topic())],
        })
        .collect()
}

/// Makes what is missing; what differs is named and left alone.
pub(crate) fn apply(log: &dyn Log, config: &Config) -> Result<Vec<TopicChange>, Fault> {
    log.apply(&specs(config), &groups())
}
