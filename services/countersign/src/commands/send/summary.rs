//! What became of all documents, counted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Serialize, Serializer};

use super::Answer;
use crate::admin::print;

/// Counts and times so far.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) documents: u64,
    /// without an answer that holds
    pub(crate) undecided: u64,
    /// not sent at all: lines that are no request
    pub(crate) not_sent: u64,
    /// requests, those that were made again included
    pub(crate) requests: u64,
    /// how many by `status code`, replays apart
    #[serde(rename = "answers")]
    pub(crate) counts: BTreeMap<String, u64>,
    #[serde(rename = "elapsed_ms", serialize_with = "millis")]
    pub(crate) elapsed: Duration,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    #[serde(skip)]
    pub(crate) bytes_read: u64,
    /// Microseconds until the answer, for those that were decided.
    #[serde(skip)]
    latencies_us: Vec<u32>,
    #[serde(skip)]
    begun: Instant,
}

fn millis<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

impl Summary {
    pub(super) fn begin() -> Self {
        Self {
            documents: 0,
            undecided: 0,
            not_sent: 0,
            requests: 0,
            counts: BTreeMap::new(),
            elapsed: Duration::ZERO,
            p50_ms: 0.0,
            p99_ms: 0.0,
            bytes_read: 0,
            latencies_us: Vec::new(),
            begun: Instant::now(),
        }
    }

    pub(super) fn add(&mut self, answer: &Answer, bytes_read: u64) {
        self.documents += 1;
        self.requests += u64::from(answer.attempts);
        self.bytes_read += bytes_read;
        let replayed = if answer.replayed { " (replayed)" } else { "" };
        let told = match answer.status {
            0 => format!("--- {}", answer.code),
            status => format!("{status} {}{replayed}", answer.code),
        };
        *self.counts.entry(told).or_default() += 1;
        if answer.is_decided() {
            self.latencies_us.push(u32::try_from(answer.took.as_micros()).unwrap_or(u32::MAX));
        } else if answer.attempts == 0 {
            self.not_sent += 1;
        } else {
            self.undecided += 1;
        }
        self.elapsed = self.begun.elapsed();
    }

    pub(super) fn finish(&mut self) {
        self.elapsed = self.begun.elapsed();
        self.latencies_us.sort_unstable();
        self.p50_ms = self.percentile(50);
        self.p99_ms = self.percentile(99);
    }

    /// Nearest rank.
    fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.latencies_us.len() * percent).div_ceil(100).saturating_sub(1);
        self.latencies_us.get(rank).map_or(0.0, |us| f64::from(*us) / 1_000.0)
    }

    /// Documents a second.
    #[expect(clippy::cast_precision_loss, reason = "a rate for people; 2^53 documents are not counted exactly")]
    pub(crate) fn rate(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 { self.documents as f64 / seconds } else { 0.0 }
    }

    /// For people.
    pub(crate) fn told(&self) -> String {
        let mut rows = vec![print::row(["answer", "documents"])];
        rows.extend(self.counts.iter().map(|(told, count)| print::row([told, &count.to_string()])));
        let mut text = print::table(&rows);
        text.push_str(&format!(
            "\n{} documents in {:.1} s, {:.0}/s; p50 {:.1} ms, p99 {:.1} ms; {} requests\n",
            self.documents,
            self.elapsed.as_secs_f64(),
            self.rate(),
            self.p50_ms,
            self.p99_ms,
            self.requests,
        ));
        if self.undecided > 0 {
            text.push_str(&format!("{} undecided: send them again, the same keys make it safe\n", self.undecided));
        }
        if self.not_sent > 0 {
            text.push_str(&format!("{} not sent: correct them first\n", self.not_sent));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let mut summary = Summary::begin();
        assert_eq!(summary.percentile(50), 0.0);
        summary.latencies_us = (1..=200).map(|n| n * 1_000).collect();
        summary.finish();
        assert_eq!((summary.p50_ms, summary.p99_ms), (100.0, 198.0));
        summary.latencies_us = vec![7_000];
        summary.finish();
        assert_eq!((summary.p50_ms, summary.p99_ms), (7.0, 7.0));
    }
}
