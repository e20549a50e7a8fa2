//! Where a record lies, and which record it names as its cause.

use std::fmt;
use std::str::FromStr;

use log::{Record, Topic};
use serde::{Deserialize, Serialize};
use stage::dead_letter::{CAUSE_HEADER, CAUSE_TOPIC_HEADER, REDO_OF_HEADER, SOURCE_HEADER};

/// One record of one partition; written `topic:partition:offset`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Place {
    pub topic: Topic,
    pub partition: u32,
    pub offset: u64,
}

/// A text that names no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record is named topic:partition:offset")]
pub struct InvalidPlace;

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.topic, self.partition, self.offset)
    }
}

impl FromStr for Place {
    type Err = InvalidPlace;

    fn from_str(text: &str) -> Result<Self, InvalidPlace> {
        let mut parts = text.rsplitn(3, ':');
        let (offset, partition, topic) = (parts.next(), parts.next(), parts.next());
        let read = || {
            let topic = Topic::new(topic.filter(|topic| !topic.is_empty())?);
            Some(Self { topic, partition: partition?.parse().ok()?, offset: offset?.parse().ok()? })
        };
        read().ok_or(InvalidPlace)
    }
}

impl TryFrom<String> for Place {
    type Error = InvalidPlace;

    fn try_from(text: String) -> Result<Self, InvalidPlace> {
        text.parse()
    }
}

impl From<Place> for String {
    fn from(place: Place) -> Self {
        place.to_string()
    }
}

impl Place {
    pub(crate) fn of(record: &Record) -> Self {
        Self { topic: record.topic.clone(), partition: record.partition, offset: record.offset }
    }

    /// The record that a dead letter holds.
    pub(crate) fn source_of(record: &Record) -> Option<Self> {
        text(record, SOURCE_HEADER)?.parse().ok()
    }

    /// The dead letter that a redo answers.
    pub(crate) fn redo_of(record: &Record) -> Option<Self> {
        text(record, REDO_OF_HEADER)?.parse().ok()
    }
}

/// The header `cause` (R11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CauseOf {
    pub(crate) place: Place,
    pub(crate) index: u32,
}

impl CauseOf {
    /// `input` is the topic that causes are counted on where the header names none.
    pub(crate) fn read(record: &Record, input: &str) -> Option<Self> {
        let cause = text(record, CAUSE_HEADER)?;
        let mut parts = cause.split(':');
        let (partition, offset, index) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let topic = Topic::new(text(record, CAUSE_TOPIC_HEADER).unwrap_or(input));
        Some(Self {
            place: Place { topic, partition: partition.parse().ok()?, offset: offset.parse().ok()? },
            index: index.parse().ok()?,
        })
    }
}

pub(crate) fn text<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    record.header(name).and_then(|value| std::str::from_utf8(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_back_and_nonsense_does_not() {
        let place = Place { topic: Topic::new("exchange.sealed.v1"), partition: 3, offset: 17 };
        assert_eq!(place.to_string(), "exchange.sealed.v1:3:17");
        assert_eq!(place.to_string().parse(), Ok(place));
        for bad in ["", "a:b", ":1:2", "a:1:x", "a:-1:2"] {
            assert_eq!(bad.parse::<Place>(), Err(InvalidPlace), "{bad}");
        }
    }
}
