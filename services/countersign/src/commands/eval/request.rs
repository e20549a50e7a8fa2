//! A request as it comes through the strict JSON door, its members read one by one, and the answer that is written.

use billing::{Currency, CurrencyError, Decimal, Minor, MoneyError};
use event::door::written::{self, Written};
use event::door::{self, Limits, canonicalise_at, push_pointer};
use serde_json::{Map, Value, json};

use super::LINE_BYTES_MAX;

/// What a function worked out: the members of `ok`.
pub(super) type Outcome = Result<Value, Refused>;

/// A refusal, which is an answer too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// A code of the API, or `no_tariff`.
    code: &'static str,
    detail: String,
    /// Into the document examined or the request.
    pointer: Option<String>,
}

impl Refused {
    pub(super) fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), pointer: None }
    }

    pub(super) fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new("invalid_request", detail).at(pointer)
    }

    pub(super) fn at(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = Some(pointer.into());
        self
    }

    /// A refusal of the JSON door, with the pointer into the document that was examined.
    pub(super) fn by_door(refusal: &door::Refusal) -> Self {
        let code = refusal.code;
        let detail = format!("{}: {} (byte {})", code.as_str(), refusal.detail, refusal.offset);
        Self::new(code.problem_code(), detail).at(&refusal.pointer)
    }

    fn to_json(&self) -> Value {
        let mut error = json!({"code": self.code, "detail": self.detail});
        if let (Some(error), Some(pointer)) = (error.as_object_mut(), &self.pointer) {
            error.insert("pointer".to_owned(), Value::from(pointer.as_str()));
        }
        error
    }
}

/// Answers a line: every one, whatever it holds.
pub(super) fn answer(line: &[u8], work_out: impl FnOnce(&Members<'_>) -> Outcome) -> String {
    let (id, outcome) = match read(line) {
        Err(refusal) => (rescued_id(line), Err(Refused::by_door(&refusal))),
        Ok(Value::Object(mut members)) => {
            let id = members.remove("id");
            let outcome = work_out(&Members { map: &members, pointer: String::new() });
            (id, outcome)
        }
        Ok(_) => (None, Err(Refused::invalid("", "a request is a JSON object"))),
    };
    written(id, outcome)
}

/// The answer to a line that was not even kept.
pub(super) fn too_long() -> String {
    written(None, Err(Refused::new("payload_too_large", format!("the line is longer than {LINE_BYTES_MAX} bytes"))))
}

fn written(id: Option<Value>, outcome: Outcome) -> String {
    let mut answer = Map::new();
    answer.extend(id.map(|id| ("id".to_owned(), id)));
    match outcome {
        Ok(ok) => answer.insert("ok".to_owned(), ok),
        Err(refused) => answer.insert("error".to_owned(), refused.to_json()),
    };
    Value::Object(answer).to_string()
}

/// Reads what the door lets in: no name twice, no number that would be rounded. Texts may hold any character: whether the
/// document in one may is for that document's own door to say.
fn read(text: &[u8]) -> Result<Value, door::Refusal> {
    value_of(&written::read(text)?, &mut String::new())
}

fn value_of(written: &Written<'_>, pointer: &mut String) -> Result<Value, door::Refusal> {
    let here = pointer.len();
    Ok(match written {
        Written::Null => Value::Null,
        Written::Boolean(truth) => Value::Bool(*truth),
        Written::Number(text) => number_of(text, pointer)?,
        Written::Text(text) => Value::String(text.clone()),
        Written::List(items) => {
            let mut values = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                push_pointer(pointer, &index.to_string());
                values.push(value_of(item, pointer)?);
                pointer.truncate(here);
            }
            Value::Array(values)
        }
        Written::Object(members) => {
            let mut values = Map::new();
            for (name, member) in members {
                push_pointer(pointer, name);
                values.insert(name.clone(), value_of(member, pointer)?);
                pointer.truncate(here);
            }
            Value::Object(values)
        }
    })
}

/// A number by its canonical form.
fn number_of(text: &str, pointer: &str) -> Result<Value, door::Refusal> {
    let mut canonical = Vec::new();
    canonicalise_at(pointer, text.as_bytes(), &Limits::default(), &mut canonical)?;
    serde_json::from_slice(&canonical).map_err(|error| door::Refusal {
        code: door::DoorCode::Malformed,
        pointer: pointer.to_owned(),
        detail: error.to_string(),
        offset: 0,
    })
}

/// The `id` of a request that the door refuses for something beside it.
fn rescued_id(line: &[u8]) -> Option<Value> {
    let members = door::members(line).ok()?;
    let (_, range) = members.into_iter().find(|(name, _)| name == "id")?;
    read(line.get(range)?).ok()
}

/// The members of the request, or of an object inside it.
pub(super) struct Members<'r> {
    map: &'r Map<String, Value>,
    /// Where the object stands in the request.
    pointer: String,
}

impl<'r> Members<'r> {
    /// Refuses members that nobody asked for: a misspelt one must not be ignored.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), Refused> {
        match self.map.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(unknown) => Err(Refused::invalid(
                self.pointer_of(unknown),
                format!("unknown member; known are {}", known.join(", ")),
            )),
        }
    }

    pub(super) fn pointer_of(&self, name: &str) -> String {
        let mut pointer = self.pointer.clone();
        push_pointer(&mut pointer, name);
        pointer
    }

    pub(super) fn optional(&self, name: &str) -> Option<&'r Value> {
        self.map.get(name)
    }

    fn needed(&self, name: &str) -> Result<&'r Value, Refused> {
        self.optional(name).ok_or_else(|| Refused::invalid(self.pointer_of(name), "the member is missing"))
    }

    pub(super) fn refuse(&self, name: &str, detail: impl Into<String>) -> Refused {
        Refused::invalid(self.pointer_of(name), detail)
    }

    /// As [`Members::refuse`], for an error and its causes.
    pub(super) fn refuse_for(&self, name: &str, error: &dyn std::error::Error) -> Refused {
        self.refuse(name, with_causes(error))
    }

    pub(super) fn text(&self, name: &str) -> Result<&'r str, Refused> {
        self.needed(name)?.as_str().ok_or_else(|| self.refuse(name, "must be a string"))
    }

    pub(super) fn optional_text(&self, name: &str) -> Result<Option<&'r str>, Refused> {
        self.optional(name).map(|_| self.text(name)).transpose()
    }

    /// A whole number, written as a JSON number.
    pub(super) fn count(&self, name: &str) -> Result<u64, Refused> {
        self.needed(name)?.as_u64().ok_or_else(|| self.refuse(name, "must be an integer that is not negative"))
    }

    pub(super) fn integer(&self, name: &str) -> Result<i64, Refused> {
        self.needed(name)?.as_i64().ok_or_else(|| self.refuse(name, "must be an integer"))
    }

    /// A share in parts per million.
    pub(super) fn ppm(&self, name: &str) -> Result<u32, Refused> {
        ppm(self.needed(name)?).ok_or_else(|| self.refuse(name, PPM_RULE))
    }

    pub(super) fn shares(&self, name: &str) -> Result<Vec<u32>, Refused> {
        let shares = self.list(name)?.iter().enumerate();
        shares
            .map(|(index, share)| ppm(share).ok_or_else(|| Refused::invalid(self.pointer_at(name, index), PPM_RULE)))
            .collect()
    }

    /// Money: an integer in minor units, as a string.
    pub(super) fn minor(&self, name: &str) -> Result<Minor, Refused> {
        Minor::parse(self.text(name)?).map_err(|error| self.refuse_for(name, &error))
    }

    /// As [`Members::minor`], and not negative.
    pub(super) fn positive_minor(&self, name: &str) -> Result<i64, Refused> {
        let units = self.minor(name)?.units();
        if units < 0 { Err(self.refuse(name, "must not be negative")) } else { Ok(units) }
    }

    /// An exact decimal: a string, or a JSON number, which is read from its canonical form.
    pub(super) fn decimal(&self, name: &str) -> Result<Decimal, Refused> {
        let value = self.needed(name)?;
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return Err(self.refuse(name, "must be a decimal, as a string")),
        };
        Decimal::parse(&text).map_err(|error| self.refuse_for(name, &error))
    }

    /// A currency that amounts can be in.
    pub(super) fn currency(&self, name: &str) -> Result<Currency, Refused> {
        Currency::of(self.text(name)?).map_err(|error: CurrencyError| self.refuse_for(name, &error))
    }

    /// A currency by its form, whether or not anybody knows it.
    pub(super) fn currency_code(&self, name: &str) -> Result<&'r str, Refused> {
        let code = self.text(name)?;
        event::amount::Currency::parse(code).map_err(|error| self.refuse_for(name, &error))?;
        Ok(code)
    }

    pub(super) fn list(&self, name: &str) -> Result<&'r [Value], Refused> {
        let items = self.needed(name)?.as_array();
        items.map(Vec::as_slice).ok_or_else(|| self.refuse(name, "must be an array"))
    }

    pub(super) fn texts(&self, name: &str) -> Result<Vec<&'r str>, Refused> {
        let items = self.list(name)?.iter().enumerate();
        items
            .map(|(index, item)| {
                item.as_str().ok_or_else(|| Refused::invalid(self.pointer_at(name, index), "must be a string"))
            })
            .collect()
    }

    /// None given is none.
    pub(super) fn optional_texts(&self, name: &str) -> Result<Vec<&'r str>, Refused> {
        self.optional(name).map_or_else(|| Ok(Vec::new()), |_| self.texts(name))
    }

    pub(super) fn pointer_at(&self, name: &str, index: usize) -> String {
        format!("{}/{index}", self.pointer_of(name))
    }

    pub(super) fn object(&self, name: &str) -> Result<Members<'r>, Refused> {
        Self::of(self.needed(name)?, self.pointer_of(name))
    }

    /// The objects of an array.
    pub(super) fn objects(&self, name: &str) -> Result<Vec<Members<'r>>, Refused> {
        let items = self.list(name)?.iter().enumerate();
        items.map(|(index, item)| Self::of(item, self.pointer_at(name, index))).collect()
    }

    fn of(value: &'r Value, pointer: String) -> Result<Self, Refused> {
        match value.as_object() {
            Some(map) => Ok(Self { map, pointer }),
            None => Err(Refused::invalid(pointer, "must be an object")),
        }
    }

    /// Every member with its text.
    pub(super) fn each_text(&self) -> Result<Vec<(&'r str, &'r str)>, Refused> {
        let members = self.map.keys().map(|name| Ok((name.as_str(), self.text(name)?)));
        members.collect()
    }
}

const PPM_RULE: &str = "must be an integer from 0 to 1000000";

fn ppm(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|share| u32::try_from(share).ok()).filter(|share| *share <= billing::PPM)
}

/// A result that does not fit: of valid members, so that no single one is to blame.
pub(super) fn too_large(error: MoneyError) -> Refused {
    Refused::new("invalid_request", format!("the result cannot be told: {error}"))
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
