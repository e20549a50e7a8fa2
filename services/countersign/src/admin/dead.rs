//! Dead letters: which there are, what is in them, and their way back.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use event::topic::{STEPS, Step, step};
use event::wire::{ExchangeAdmitted, ExchangeRequested, ExchangeSealed, LedgerCommand, UsageRecorded, Wire, split};
use log::{Fault, Log, Output, Position, Record, Topic};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stage::dead_letter::{
    AT_HEADER, BY_REFERENCE_HEADER, DETAIL_HEADER, OWN_HEADERS, REASON_HEADER, REDO_OF_HEADER, SOURCE_HEADER,
    TENANT_HEADER,
};

use super::reading::{self, each, one};
use super::{Trouble, print};

/// Letters in one list.
const LETTERS_MAX: usize = 1_000;
/// Bytes of an unreadable value that are shown.
const UNREADABLE_BYTES_MAX: usize = 4_096;
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(30);
const FULL_QUEUE_WAIT: Duration = Duration::from_millis(100);
const FULL_QUEUE_TRIES: u32 = 50;

/// `STEP:PARTITION:OFFSET`: a letter by the place where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LetterId {
    step: &'static Step,
    partition: u32,
    offset: u64,
}

impl LetterId {
    fn position(&self) -> Position {
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

fn step_named(name: &str) -> Result<&'static Step, Trouble> {
    step(name).ok_or_else(|| {
        let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
        Trouble::bad_question(format!("there is no step `{name}`")).try_this(format!("one of {}", names.join(", ")))
    })
}

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

/// Where each letter of a step went back, by the place of the letter.
fn answered(log: &dyn Log, step: &Step) -> Result<BTreeMap<String, String>, Trouble> {
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

fn find(log: &dyn Log, id: &LetterId) -> Result<Record, Trouble> {
    one(log, &id.position())?
        .ok_or_else(|| Trouble::not_found(format!("there is no dead letter {id}")).try_this("countersign dead list"))
}

/// Headers of the refused record, without those that the dead letter added.
fn own_headers(record: &Record) -> impl Iterator<Item = &(String, bytes::Bytes)> {
    record.headers.iter().filter(|(name, _)| !OWN_HEADERS.contains(&name.as_str()))
}

/// The refused value: of the letter itself, or of the record that it names where the value was too large to keep twice.
fn original_value(log: &dyn Log, record: &Record) -> Result<Option<bytes::Bytes>, Trouble> {
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

fn append(log: &dyn Log, output: &Output<'_>) -> Result<Position, Trouble> {
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

/// A value for people: as JSON where its schema is known.
fn legible(value: &[u8]) -> Value {
    fn read<T: Wire>(value: &[u8]) -> Option<Value> {
        T::decode(value).ok().and_then(|record| serde_json::to_value(record).ok())
    }
    let decoded = match split(value).map(|(id, _)| id) {
        Ok(ExchangeRequested::SCHEMA_ID) => read::<ExchangeRequested>(value),
        Ok(ExchangeAdmitted::SCHEMA_ID) => read::<ExchangeAdmitted>(value),
        Ok(ExchangeSealed::SCHEMA_ID) => read::<ExchangeSealed>(value),
        Ok(UsageRecorded::SCHEMA_ID) => read::<UsageRecorded>(value),
        Ok(LedgerCommand::SCHEMA_ID) => read::<LedgerCommand>(value),
        _ => None,
    };
    match decoded {
        Some(mut decoded) => {
            bytes_to_text(&mut decoded);
            decoded
        }
        None => {
            let head = value.get(..UNREADABLE_BYTES_MAX).unwrap_or(value);
            serde_json::json!({"unreadable": hex(head), "bytes": value.len()})
        }
    }
}

/// Avro's bytes come as lists of numbers: shown as text, or in hex where they are none.
fn bytes_to_text(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if matches!(name.as_str(), "payload" | "fingerprint")
                    && let Some(bytes) = as_bytes(member)
                {
                    *member = String::from_utf8(bytes).unwrap_or_else(|error| hex(error.as_bytes())).into();
                } else {
                    bytes_to_text(member);
                }
            }
        }
        Value::Array(elements) => elements.iter_mut().for_each(bytes_to_text),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn as_bytes(value: &Value) -> Option<Vec<u8>> {
    value.as_array()?.iter().map(|byte| u8::try_from(byte.as_u64()?).ok()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Letters {
    /// For people.
    pub(crate) fn told(&self) -> String {
        if self.letters.is_empty() {
            return "no dead letters\n".to_owned();
        }
        let mut rows = vec![print::row(["letter", "time", "tenant", "reason", "replayed as", "detail"])];
        for letter in &self.letters {
            let (at, replayed) =
                (letter.at.as_deref().unwrap_or_default(), letter.replayed_as.as_deref().unwrap_or("-"));
            rows.push(print::row([&letter.letter, at, &letter.tenant, &letter.reason, replayed, &letter.detail]));
        }
        let mut text = print::table(&rows);
        if self.left_out > 0 {
            text.push_str(&format!("and {} more\n", self.left_out));
        }
        text
    }
}

impl Shown {
    /// For people.
    pub(crate) fn told(&self) -> String {
        let letter = &self.letter;
        let mut rows = vec![
            print::row(["letter", &letter.letter]),
            print::row(["time", letter.at.as_deref().unwrap_or("-")]),
            print::row(["tenant", &letter.tenant]),
            print::row(["reason", &letter.reason]),
            print::row(["detail", &letter.detail]),
            print::row(["source", &letter.source]),
            print::row(["record key", letter.record_key.as_deref().unwrap_or("-")]),
            print::row(["replayed as", letter.replayed_as.as_deref().unwrap_or("-")]),
        ];
        for (name, value) in &self.headers {
            rows.push(vec![format!("header {name}"), value.clone()]);
        }
        let value = self.value.as_ref().map_or_else(|| "none".to_owned(), |value| format!("{value:#}"));
        format!("{}value\n{value}\n", print::table(&rows))
    }
}

impl Replayed {
    /// For people.
    pub(crate) fn told(&self) -> String {
        let mut text = String::new();
        for (letter, at) in &self.replayed {
            text.push_str(&format!("{letter} -> {at}\n"));
        }
        text.push_str(&format!("replayed: {}, replayed before: {}\n", self.replayed.len(), self.before));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use log::embedded::EmbeddedLog;
    use stage::{DeadLetter, Reject};

    fn log_with_topics(dir: &std::path::Path) -> EmbeddedLog {
        let log = EmbeddedLog::open(dir).unwrap();
        crate::topics::apply(&log, &Config::default()).unwrap();
        log
    }

    fn put(log: &dyn Log, topic: &str, value: &[u8], headers: &[(&str, &[u8])]) -> Position {
        let topic = Topic::new(topic);
        append(log, &Output { topic: &topic, partition: Some(2), key: Some(b"acme:t"), value: Some(value), headers })
            .unwrap()
    }

    /// A record of sign's input that sign refused; answers where its dead letter lies.
    fn refused(log: &dyn Log, value: &[u8]) -> Position {
        let source = put(log, "exchange.admitted.v1", value, &[("traceparent", b"00-1"), ("cause", b"2:0:0")]);
        let record = one(log, &source).unwrap().unwrap();
        let reject = Reject { reason: "malformed_record", detail: "it is damaged".into(), tenant: "acme".into() };
        let emit = DeadLetter { record: &record, reject: &reject }.emit_to(&Topic::new("sign.dead.v1"));
        let headers: Vec<(&str, &[u8])> =
            emit.headers.iter().map(|(name, value)| (name.as_str(), value.as_ref())).collect();
        let output = Output {
            topic: &emit.topic,
            partition: emit.partition,
            key: emit.key.as_deref(),
            value: emit.value.as_deref(),
            headers: &headers,
        };
        append(log, &output).unwrap()
    }

    #[test]
    fn a_letter_goes_back_as_the_record_that_was_refused_and_only_once() {
        let dir = tempfile::tempdir().unwrap();
        let log = log_with_topics(dir.path());
        refused(&log, b"\x00damaged");
        let listed = list(&log, &ListRequest::default()).unwrap();
        assert_eq!(listed.letters.len(), 1);
        let letter = &listed.letters[0];
        assert_eq!((letter.letter.as_str(), letter.reason.as_str()), ("sign:2:0", "malformed_record"));
        assert_eq!((letter.source.as_str(), letter.replayed_as.as_deref()), ("exchange.admitted.v1:2:0", None));

        let done = replay(&log, &ReplayRequest::Letter("sign:2:0".into())).unwrap();
        assert_eq!(done.replayed, [("sign:2:0".to_owned(), "sign.redo.v1:2:0".to_owned())]);
        let redo = one(&log, &reading::parse("sign.redo.v1:2:0").unwrap()).unwrap().unwrap();
        assert_eq!(redo.key.as_deref(), Some(&b"acme:t"[..]));
        assert_eq!(redo.value.as_deref(), Some(&b"\x00damaged"[..]));
        let headers: Vec<(&str, &[u8])> =
            redo.headers.iter().map(|(name, value)| (name.as_str(), value.as_ref())).collect();
        assert_eq!(headers, [("traceparent", &b"00-1"[..]), (REDO_OF_HEADER, &b"sign.dead.v1:2:0"[..])]);

        assert!(replay(&log, &ReplayRequest::Letter("sign:2:0".into())).is_err(), "it went back already");
        let all = replay(&log, &ReplayRequest::Step("sign".into())).unwrap();
        assert_eq!((all.replayed.len(), all.before), (0, 1));
        assert_eq!(
            list(&log, &ListRequest { step: Some("sign".into()) }).unwrap().letters[0].replayed_as.as_deref(),
            Some("sign.redo.v1:2:0")
        );
        assert!(list(&log, &ListRequest { step: Some("meter".into()) }).unwrap().letters.is_empty());
    }

    #[test]
    fn a_large_value_is_fetched_from_where_it_lies() {
        let dir = tempfile::tempdir().unwrap();
        let log = log_with_topics(dir.path());
        let large = vec![7; stage::dead_letter::BYTES_MAX + 1];
        refused(&log, &large);
        let shown = show(&log, &"sign:2:0".parse().unwrap()).unwrap();
        assert!(shown.letter.by_reference);
        assert_eq!(shown.value.unwrap()["bytes"], large.len());
        replay(&log, &ReplayRequest::Step("sign".into())).unwrap();
        let redo = one(&log, &reading::parse("sign.redo.v1:2:0").unwrap()).unwrap().unwrap();
        assert_eq!(redo.value.as_deref(), Some(large.as_slice()));
        assert!(redo.header(BY_REFERENCE_HEADER).is_none());
    }

    #[test]
    fn a_known_value_is_shown_as_json_with_its_payload_as_text() {
        let requested = ExchangeRequested {
            tenant: "acme".into(),
            idempotency_key: "k".into(),
            payload: b"{\"a\":1}".to_vec(),
            payload_type: "passthrough".into(),
            target_type: None,
            trace_id: None,
            expected_prev_receipt_hash: None,
            amount: None,
            forward_url: None,
        };
        assert_eq!(legible(&requested.encode().unwrap())["payload"], "{\"a\":1}");
    }

    #[test]
    fn a_letter_is_named_by_step_or_topic() {
        let id: LetterId = "meter.tally:1:17".parse().unwrap();
        assert_eq!("meter.tally.dead.v1:1:17".parse::<LetterId>().unwrap(), id);
        assert_eq!(id.to_string(), "meter.tally:1:17");
        for wrong in ["meter.tally", "nobody:0:1", "sign:0"] {
            assert!(wrong.parse::<LetterId>().is_err(), "{wrong}");
        }
    }
}
