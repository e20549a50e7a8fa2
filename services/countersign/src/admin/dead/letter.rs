//! How a dead letter is named.

use std::fmt;
use std::str::FromStr;

use event::topic::{STEPS, Step, step};
use log::{Position, Topic};

use crate::admin::{Trouble, reading};

/// `STEP:PARTITION:OFFSET`: a letter by the place where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LetterId {
    pub(super) step: &'static Step,
    pub(super) partition: u32,
    pub(super) offset: u64,
}

impl LetterId {
    pub(super) fn position(&self) -> Position {
        Position { topic: Topic::new(&self.step.dead_topic()), partition: self.partition, offset: self.offset }
    }
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.step.name, self.partition, self.offset)
    }
}

impl FromStr for LetterId {
    type Err = Trouble;

    /// The topic of dead letters is taken for the step's name, as audit and others write it.
    fn from_str(text: &str) -> Result<Self, Trouble> {
        let wrong = || Trouble::bad_question(format!("`{text}` names no dead letter: it is STEP:PARTITION:OFFSET"));
        let at = reading::parse(text).ok_or_else(wrong)?;
        let name = at.topic.as_str();
        let step = step_named(name.strip_suffix(".dead.v1").unwrap_or(name))?;
        Ok(Self { step, partition: at.partition, offset: at.offset })
    }
}

pub(super) fn step_named(name: &str) -> Result<&'static Step, Trouble> {
    step(name).ok_or_else(|| {
        let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
        Trouble::bad_question(format!("there is no step `{name}`")).try_this(format!("one of {}", names.join(", ")))
    })
}
