//! Examples lie beside a type and are run whenever it is checked: an input, and what must come of it.

use event::door::{self, Limits, canonicalise_at, members};
use serde::Deserialize;
use serde_json::Value;

use crate::payload_type::{PayloadType, RepairPolicy};
use crate::refusal::Refusal;

const MEMBERS: [&str; 5] = ["description", "target", "input", "output", "refusal"];

/// One example.
#[derive(Debug)]
pub(crate) struct Example {
    target: Option<String>,
    /// The payload as it would be received, canonical already.
    input: Vec<u8>,
    expected: Expected,
}

#[derive(Debug)]
enum Expected {
    Output(Vec<u8>),
    Refusal(ExpectedRefusal),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedRefusal {
    /// The problem's code.
    code: String,
    /// Of its first fault, in the request body.
    pointer: Option<String>,
    /// The code of its first fault.
    fault: Option<String>,
}

/// What an example shows to be wrong.
#[derive(Debug)]
pub(crate) struct ExampleFault {
    pub(crate) pointer: String,
    pub(crate) detail: String,
}

impl From<door::Refusal> for ExampleFault {
    fn from(refusal: door::Refusal) -> Self {
        Self { detail: format!("{} (byte {})", refusal.detail, refusal.offset), pointer: refusal.pointer }
    }
}

impl Example {
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, ExampleFault> {
        let fault =
            |pointer: &str, detail: &str| ExampleFault { pointer: pointer.to_owned(), detail: detail.to_owned() };
        let found = members(bytes)?;
        if let Some((name, _)) = found.iter().find(|(name, _)| !MEMBERS.contains(&name.as_str())) {
            let mut pointer = String::new();
            door::push_pointer(&mut pointer, name);
            return Err(fault(&pointer, "no member of an example has this name"));
        }
        let part = |name: &str| -> Result<Option<Vec<u8>>, ExampleFault> {
            let Some((_, range)) = found.iter().find(|(known, _)| known == name) else { return Ok(None) };
            let mut canonical = Vec::new();
            let raw = bytes.get(range.clone()).unwrap_or_default();
            canonicalise_at(&format!("/{name}"), raw, &Limits::default(), &mut canonical)?;
            Ok(Some(canonical))
        };
        let target = match part("target")? {
            None => None,
            Some(text) => Some(serde_json::from_slice(&text).map_err(|_| fault("/target", "it must be a string"))?),
        };
        let input = part("input")?.ok_or_else(|| fault("", "`input` is missing"))?;
        let expected = match (part("output")?, part("refusal")?) {
            (Some(output), None) => Expected::Output(output),
            (None, Some(refusal)) => {
                let read = serde_json::from_slice(&refusal);
                Expected::Refusal(read.map_err(|error| fault("/refusal", &error.to_string()))?)
            }
            _ => return Err(fault("", "an example has either `output` or `refusal`")),
        };
        Ok(Self { target, input, expected })
    }
}

/// Runs an example with repairs allowed.
pub(crate) fn run(payload_type: &PayloadType, example: &Example) -> Result<(), ExampleFault> {
    let came =
        payload_type.normalize(&example.input, example.target.as_deref(), RepairPolicy::Rules, &Limits::default());
    match (&example.expected, came) {
        (Expected::Output(expected), Ok(came)) if came.canonical == *expected => Ok(()),
        (Expected::Output(expected), Ok(came)) => {
            let detail = format!("{} was expected, {} came", shown(expected), shown(&came.canonical));
            Err(ExampleFault { pointer: difference(expected, &came.canonical), detail })
        }
        (Expected::Output(_), Err(refusal)) => {
            let detail = format!("it was refused with {}: {}", refusal.code, refusal.detail);
            Err(ExampleFault { pointer: in_example(&refusal), detail })
        }
        (Expected::Refusal(expected), Ok(came)) => {
            let detail = format!("{} was expected, {} came", expected.code, shown(&came.canonical));
            Err(ExampleFault { pointer: "/refusal".to_owned(), detail })
        }
        (Expected::Refusal(expected), Err(refusal)) => agrees(expected, &refusal),
    }
}

fn agrees(expected: &ExpectedRefusal, refusal: &Refusal) -> Result<(), ExampleFault> {
    let first = refusal.errors.first();
    let differs = |member: &str, wanted: &str, came: &str| {
        let detail = format!("{wanted} was expected, {came} came: {}", refusal.detail);
        Err(ExampleFault { pointer: format!("/refusal/{member}"), detail })
    };
    if expected.code != refusal.code {
        return differs("code", &expected.code, &refusal.code);
    }
    let came = first.map_or("", |first| first.pointer.as_str());
    if let Some(wanted) = expected.pointer.as_deref().filter(|wanted| *wanted != came) {
        return differs("pointer", wanted, came);
    }
    let came = first.map_or("", |first| first.code.as_str());
    match expected.fault.as_deref().filter(|wanted| *wanted != came) {
        Some(wanted) => differs("fault", wanted, came),
        None => Ok(()),
    }
}

/// A place in the request body as a place in the example.
fn in_example(refusal: &Refusal) -> String {
    let pointer = refusal.errors.first().map_or("", |first| first.pointer.as_str());
    pointer.strip_prefix("/payload").map_or_else(|| pointer.to_owned(), |inside| format!("/input{inside}"))
}

/// Where two documents part, as a pointer into the example.
fn difference(expected: &[u8], came: &[u8]) -> String {
    let (Ok(expected), Ok(came)) = (serde_json::from_slice(expected), serde_json::from_slice(came)) else {
        return "/output".to_owned();
    };
    let mut pointer = "/output".to_owned();
    descend(&expected, &came, &mut pointer);
    pointer
}

/// Stops where a container has other members, or a scalar differs. Documents are bounded in depth.
fn descend(expected: &Value, came: &Value, pointer: &mut String) {
    let next = match (expected, came) {
        (Value::Object(expected), Value::Object(came)) if expected.len() == came.len() => expected
            .iter()
            .find(|(name, member)| came.get(*name).is_none_or(|other| other != *member))
            .and_then(|(name, member)| Some((name.clone(), member, came.get(name)?))),
        (Value::Array(expected), Value::Array(came)) if expected.len() == came.len() => {
            let pairs = expected.iter().zip(came).enumerate();
            pairs.into_iter().find(|(_, (a, b))| a != b).map(|(index, (a, b))| (index.to_string(), a, b))
        }
        _ => None,
    };
    if let Some((step, expected, came)) = next {
        door::push_pointer(pointer, &step);
        descend(expected, came, pointer);
    }
}

/// Canonical bytes for people, bounded.
fn shown(canonical: &[u8]) -> String {
    const CHARS_MAX: usize = 400;
    String::from_utf8_lossy(canonical).chars().take(CHARS_MAX).collect()
}
