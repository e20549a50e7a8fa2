//! Which dead letters there are, and what is in them.

use std::collections::BTreeMap;

use event::topic::{STEPS, Step};
use log::{Log, Position, Record, Topic};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stage::dead_letter::{
    AT_HEADER, BY_REFERENCE_HEADER, DETAIL_HEADER, OWN_HEADERS, REASON_HEADER, REDO_OF_HEADER, SOURCE_HEADER,
    TENANT_HEADER,
};

use super::legible::legible;
use super::letter::{LetterId, step_named};
use crate::admin::reading::{self, each, one};
use crate::admin::{Trouble, print};

/// Letters in one list.
const LETTERS_MAX: usize = 1_000;

/// `GET /admin/dead`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListRequest {
    pub(crate) step: Option<String>,
}

/// A dead letter, without its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Letter {
    /// STEP:PARTITION:OFFSET
    pub(crate) letter: String,
    /// the refused record's own time
    pub(crate) at: Option<String>,
    pub(crate) tenant: String,
    pub(crate) reason: String,
    pub(crate) detail: String,
    /// topic:partition:offset of the refused record
    pub(crate) source: String,
    pub(crate) record_key: Option<String>,
    pub(crate) value_bytes: usize,
    /// the value is read at `source`
    pub(crate) by_reference: bool,
    /// where it went back
    pub(crate) replayed_as: Option<String>,
}

/// Dead letters, oldest first within each step and partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Letters {
    pub(crate) letters: Vec<Letter>,
    /// more than fit into one list
    pub(crate) left_out: usize,
}

/// A dead letter with everything in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Shown {
    #[serde(flatten)]
    pub(crate) letter: Letter,
    /// those that the refused record had itself
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) value: Option<Value>,
}

/// Where each letter of a step went back, by the place of the letter.
pub(super) fn answered(log: &dyn Log, step: &Step) -> Result<BTreeMap<String, String>, Trouble> {
    let mut answered = BTreeMap::new();
    each(log, &Topic::new(&step.redo_topic()), &mut |record| {
        if let Some(letter) = record.header(REDO_OF_HEADER) {
            let at = Position { topic: record.topic.clone(), partition: record.partition, offset: record.offset };
            answered.entry(String::from_utf8_lossy(letter).into_owned()).or_insert(reading::name(&at));
        }
        Ok(())
    })?;
    Ok(answered)
}

fn letter_of(step: &'static Step, record: &Record, answered: &BTreeMap<String, String>) -> Letter {
    let header = |name: &str| record.header(name).map(|value| String::from_utf8_lossy(value).into_owned());
    let id = LetterId { step, partition: record.partition, offset: record.offset };
    Letter {
        letter: id.to_string(),
        at: header(AT_HEADER).and_then(|at| at.parse().ok()).map(print::time),
        tenant: header(TENANT_HEADER).unwrap_or_else(|| "-".to_owned()),
        reason: header(REASON_HEADER).unwrap_or_default(),
        detail: header(DETAIL_HEADER).unwrap_or_default(),
        source: header(SOURCE_HEADER).unwrap_or_default(),
        record_key: record.key.as_ref().map(|key| String::from_utf8_lossy(key).into_owned()),
        value_bytes: record.value.as_ref().map_or(0, |value| value.len()),
        by_reference: record.header(BY_REFERENCE_HEADER).is_some(),
        replayed_as: answered.get(&reading::name(&id.position())).cloned(),
    }
}

/// Every dead letter, or those of one step.
pub(crate) fn list(log: &dyn Log, request: &ListRequest) -> Result<Letters, Trouble> {
    let steps: Vec<&'static Step> = match &request.step {
        Some(name) => vec![step_named(name)?],
        None => STEPS.iter().collect(),
    };
    let mut letters = Vec::new();
    let mut left_out = 0;
    for step in steps {
        let answered = answered(log, step)?;
        each(log, &Topic::new(&step.dead_topic()), &mut |record| {
            if letters.len() < LETTERS_MAX {
                letters.push(letter_of(step, &record, &answered))
            } else {
                left_out += 1
            }
            Ok(())
        })?;
    }
    Ok(Letters { letters, left_out })
}

/// One dead letter with the value that was refused.
pub(crate) fn show(log: &dyn Log, id: &LetterId) -> Result<Shown, Trouble> {
    let record = find(log, id)?;
    let letter = letter_of(id.step, &record, &answered(log, id.step)?);
    let value = original_value(log, &record)?.as_deref().map(legible);
    let headers =
        own_headers(&record).map(|(name, value)| (name.clone(), String::from_utf8_lossy(value).into_owned())).collect();
    Ok(Shown { letter, headers, value })
}

pub(super) fn find(log: &dyn Log, id: &LetterId) -> Result<Record, Trouble> {
    one(log, &id.position())?
        .ok_or_else(|| Trouble::not_found(format!("there is no dead letter {id}")).try_this("countersign dead list"))
}

/// Headers of the refused record, without those that the dead letter added.
pub(super) fn own_headers(record: &Record) -> impl Iterator<Item = &(String, bytes::Bytes)> {
    record.headers.iter().filter(|(name, _)| !OWN_HEADERS.contains(&name.as_str()))
}

/// The refused value: of the letter itself, or of the record that it names where the value was too large to keep twice.
pub(super) fn original_value(log: &dyn Log, record: &Record) -> Result<Option<bytes::Bytes>, Trouble> {
    if record.header(BY_REFERENCE_HEADER).is_none() {
        return Ok(record.value.clone());
    }
    let source = record.header(SOURCE_HEADER).map(String::from_utf8_lossy).unwrap_or_default();
    let gone = || {
        Trouble::not_found(format!("the dead letter keeps its value at {source}, which the log does not hold any more"))
            .try_this("let its sender send it again")
    };
    let at = reading::parse(&source).ok_or_else(gone)?;
    Ok(one(log, &at)?.ok_or_else(gone)?.value)
}
