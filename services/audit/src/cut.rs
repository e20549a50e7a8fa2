//! A cut: everything that was requested before some ends, followed through every step.
//!
//! Wave by wave in the order of the flow: once the steps of a wave have passed what their inputs held, the ends of the next
//! inputs are taken, so that all that followed from the cut lies before them.

use std::collections::BTreeMap;

use event::topic;
use log::{Fault, Log, Position, Topic};

use crate::books::Books;
use crate::topics;

/// Steps whose inputs are complete once the wave before has passed.
const WAVES: [&[&str]; 4] = [&["canonicalise"], &["sign"], &["meter", "forward"], &["meter.tally", "settle"]];

/// Everything before these offsets has been passed by every step; what is open before them is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Boundary(BTreeMap<(Topic, u32), u64>);

impl Boundary {
    pub(crate) fn passed(&self, topic: &Topic, partition: u32, offset: u64) -> bool {
        self.0.get(&(topic.clone(), partition)).is_some_and(|end| offset < *end)
    }

    /// Everything that was read: for books whose cut could not be waited out.
    pub(crate) fn everything_read(books: &Books) -> Self {
        Self(books.next.clone())
    }

    fn add(&mut self, ends: Vec<Position>) {
        for end in ends {
            self.0.entry((end.topic, end.partition)).or_insert(end.offset);
        }
    }
}

/// A cut on its way.
#[derive(Debug)]
pub(crate) struct Cut {
    boundary: Boundary,
    wave: usize,
    looked: Option<usize>,
    /// The ends of every topic once the last wave has passed: outcomes lie before them.
    last: Option<Vec<Position>>,
    behind: Vec<String>,
}

impl Cut {
    /// Begins with these ends of the request topic.
    pub(crate) fn at(requested: Vec<Position>) -> Self {
        let mut boundary = Boundary::default();
        boundary.add(requested);
        Self { boundary, wave: 0, looked: None, last: None, behind: Vec::new() }
    }

    pub(crate) fn boundary(&self) -> &Boundary {
        &self.boundary
    }

    /// Which steps had not passed yet when it was last asked.
    pub(crate) fn behind(&self) -> &[String] {
        &self.behind
    }

    /// Goes on as far as it can; true once every step has passed and the books have read all that followed.
    pub(crate) fn advance(&mut self, log: &dyn Log, books: &Books) -> Result<bool, Fault> {
        while let Some(steps) = WAVES.get(self.wave) {
            if self.looked != Some(self.wave) {
                for input in inputs(steps) {
                    self.boundary.add(log.ends(&input)?);
                }
                self.looked = Some(self.wave);
            }
            self.behind.clear();
            for name in *steps {
                if !self.step_passed(log, books, name)? {
                    self.behind.push((*name).to_owned());
                }
            }
            if !self.behind.is_empty() {
                return Ok(false);
            }
            self.wave += 1;
        }
        if self.last.is_none() {
            let mut ends = Vec::new();
            for topic in topics() {
                ends.extend(log.ends(&topic)?);
            }
            self.last = Some(ends);
        }
        let read = |end: &Position| reached(books, &end.topic, end.partition, end.offset);
        Ok(self.last.iter().flatten().all(read))
    }

    fn step_passed(&self, log: &dyn Log, books: &Books, name: &str) -> Result<bool, Fault> {
        for input in inputs(&[name]) {
            let ends = self.boundary.0.iter().filter(|((topic, _), _)| *topic == input);
            let mut progress = None;
            for ((_, partition), end) in ends {
                if !reached(books, &input, *partition, *end) {
                    return Ok(false);
                }
                // What lies between the last record and the end is the log's own (Kafka's commit markers), and no group
                // commits an offset beyond it.
                let after_last = books.last(&input, *partition).map_or(0, |offset| offset + 1);
                let needed = (*end).min(after_last);
                let progress = match &progress {
                    Some(known) => known,
                    None => progress.insert(log.progress(name, &input)?),
                };
                let at = progress.iter().find(|at| at.partition == *partition).map_or(0, |at| at.offset);
                if at < needed {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

/// Everything before `end` has been read.
fn reached(books: &Books, topic: &Topic, partition: u32, end: u64) -> bool {
    books.next.get(&(topic.clone(), partition)).copied().unwrap_or(0) >= end
}

fn inputs(steps: &[&str]) -> Vec<Topic> {
    let known = steps.iter().filter_map(|name| topic::step(name));
    let mut inputs: Vec<Topic> =
        known.flat_map(|step| [Topic::new(step.input), Topic::new(&step.redo_topic())]).collect();
    inputs.sort();
    inputs.dedup();
    inputs
}
