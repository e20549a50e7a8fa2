//! How far the follower has come, for whoever waits to read what was just written.

use std::collections::BTreeMap;
use std::sync::RwLock;
use std::time::Duration;

use log::{Position, Topic};
use serde::Serialize;
use tokio::sync::watch;

/// Records of one topic that the read model has not taken in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TopicLag {
    pub topic: String,
    pub behind: u64,
}

/// How far behind the read model is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lag {
    pub topics: Vec<TopicLag>,
    /// False until the follower has looked for the first time.
    pub known: bool,
}

impl Lag {
    /// Records behind, over all topics.
    pub fn records(&self) -> u64 {
        self.topics.iter().map(|topic| topic.behind).sum()
    }
}

type Places = BTreeMap<(Topic, u32), u64>;

#[derive(Debug)]
pub(crate) struct Progress {
    places: watch::Sender<Places>,
    lag: RwLock<Lag>,
}

impl Default for Progress {
    fn default() -> Self {
        Self { places: watch::Sender::new(Places::new()), lag: RwLock::default() }
    }
}

impl Progress {
    pub(crate) fn passed(&self, positions: &[Position]) {
        self.places.send_modify(|places| {
            for position in positions {
                places.insert((position.topic.clone(), position.partition), position.offset);
            }
        });
    }

    pub(crate) fn forget(&self) {
        self.places.send_modify(Places::clear);
    }

    pub(crate) fn positions(&self) -> Vec<Position> {
        let places = self.places.borrow();
        places
            .iter()
            .map(|((topic, partition), offset)| Position {
                topic: topic.clone(),
                partition: *partition,
                offset: *offset,
            })
            .collect()
    }

    /// Waits until everything before `ends` is in the tables; false when that took longer than `wait`.
    pub(crate) async fn reach(&self, ends: &[Position], wait: Duration) -> bool {
        let mut seen = self.places.subscribe();
        let reached = seen.wait_for(|places| {
            ends.iter().all(|end| places.get(&(end.topic.clone(), end.partition)).copied().unwrap_or(0) >= end.offset)
        });
        tokio::time::timeout(wait, reached).await.is_ok_and(|reached| reached.is_ok())
    }

    /// Compares with the ends of every partition.
    pub(crate) fn measure(&self, ends: &[Position]) {
        let mut behind: BTreeMap<&str, u64> = BTreeMap::new();
        {
            let places = self.places.borrow();
            for end in ends {
                let at = places.get(&(end.topic.clone(), end.partition)).copied().unwrap_or(0);
                *behind.entry(end.topic.as_str()).or_default() += end.offset.saturating_sub(at);
            }
        }
        let topics: Vec<TopicLag> =
            behind.into_iter().map(|(topic, behind)| TopicLag { topic: topic.to_owned(), behind }).collect();
        for topic in &topics {
            crate::follow::metrics::lag(&topic.topic, topic.behind);
        }
        let mut lag = self.lag.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        *lag = Lag { topics, known: true };
    }

    pub(crate) fn lag(&self) -> Lag {
        self.lag.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}
