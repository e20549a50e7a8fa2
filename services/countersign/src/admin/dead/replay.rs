//! The way back: the refused record, as it was, on the redo topic of its step.

use std::sync::mpsc::sync_channel;
use std::time::Duration;

use event::topic::Step;
use log::{Fault, Log, Output, Position, Record, Topic};
use serde::{Deserialize, Serialize};
use stage::dead_letter::REDO_OF_HEADER;

use super::letter::{LetterId, step_named};
use super::look::{answered, find, original_value, own_headers};
use crate::admin::Trouble;
use crate::admin::reading::{self, each};

const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(30);
const FULL_QUEUE_WAIT: Duration = Duration::from_millis(100);
const FULL_QUEUE_TRIES: u32 = 50;

/// `POST /admin/dead/replay`: one letter, or all of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum ReplayRequest {
    Letter(String),
    Step(String),
}

/// What went back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Replayed {
    /// letter and where it lies on the redo topic
    pub(crate) replayed: Vec<(String, String)>,
    /// letters that went back before
    pub(crate) before: usize,
}

/// Sends letters back to their step. One that went back before stays where it is: it may have been processed since.
pub(crate) fn replay(log: &dyn Log, request: &ReplayRequest) -> Result<Replayed, Trouble> {
    let mut done = Replayed::default();
    match request {
        ReplayRequest::Letter(id) => {
            let id: LetterId = id.parse()?;
            let record = find(log, &id)?;
            if let Some(at) = answered(log, id.step)?.get(&reading::name(&id.position())) {
                return Err(Trouble::conflict(format!("{id} was replayed already: it lies at {at}"))
                    .try_this("if it was refused again, there is a new dead letter: `countersign dead list`"));
            }
            done.replayed.push((id.to_string(), back(log, id.step, &record)?));
        }
        ReplayRequest::Step(name) => {
            let step = step_named(name)?;
            let answered = answered(log, step)?;
            each(log, &Topic::new(&step.dead_topic()), &mut |record| {
                let id = LetterId { step, partition: record.partition, offset: record.offset };
                if answered.contains_key(&reading::name(&id.position())) {
                    done.before += 1;
                } else {
                    done.replayed.push((id.to_string(), back(log, step, &record)?));
                }
                Ok(())
            })?;
        }
    }
    Ok(done)
}

/// Appends the refused record to the redo topic as it was; answers where it lies.
fn back(log: &dyn Log, step: &Step, record: &Record) -> Result<String, Trouble> {
    let value = original_value(log, record)?;
    let letter = Position { topic: record.topic.clone(), partition: record.partition, offset: record.offset };
    let redo_of = reading::name(&letter);
    let mut headers: Vec<(&str, &[u8])> =
        own_headers(record).map(|(name, value)| (name.as_str(), value.as_ref())).collect();
    headers.push((REDO_OF_HEADER, redo_of.as_bytes()));
    let topic = Topic::new(&step.redo_topic());
    let output = Output {
        topic: &topic,
        partition: Some(record.partition),
        key: record.key.as_deref(),
        value: value.as_deref(),
        headers: &headers,
    };
    append(log, &output).map(|at| reading::name(&at))
}

pub(super) fn append(log: &dyn Log, output: &Output<'_>) -> Result<Position, Trouble> {
    let unknown = || {
        Trouble::new("it is not known whether the dead letter was replayed")
            .try_this("`countersign dead list` shows it; replaying again is safe, for what went back is not sent twice")
    };
    let (done, acknowledged) = sync_channel(1);
    for _ in 0..FULL_QUEUE_TRIES {
        let done = done.clone();
        let taken = log.append(output, Box::new(move |outcome| drop(done.try_send(outcome))));
        match taken {
            Ok(()) => {
                return match acknowledged.recv_timeout(ACKNOWLEDGED_WITHIN) {
                    Ok(Ok(at)) => Ok(at),
                    Ok(Err(fault)) => Err(unknown().because(&fault)),
                    Err(error) => Err(unknown().because(&error)),
                };
            }
            Err(Fault::Retry(_)) => std::thread::sleep(FULL_QUEUE_WAIT),
            Err(fault) => return Err(Trouble::new("the dead letter cannot be replayed").because(&fault)),
        }
    }
    Err(Trouble::new("the log takes no records at the moment").try_this("do it again when it is less busy"))
}
