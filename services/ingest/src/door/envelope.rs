//! An object whose members are looked at one by one, and what is wrong with it: every fault with its pointer into the
//! request body, and every breach of JSON with its byte there.

use std::ops::Range;

use access::{Code, FieldError, Problem};
use event::door::{Limits, Refusal, canonicalise_at, elements, members, push_pointer};

/// Where a part lies in the request body.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place<'a> {
    /// Its JSON pointer; empty for the body itself.
    pub(crate) pointer: &'a str,
    /// Its first byte.
    pub(crate) offset: usize,
}

impl Place<'_> {
    /// The pointer of a member of what lies here.
    pub(super) fn pointer_of(self, member: &str) -> String {
        let mut pointer = self.pointer.to_owned();
        push_pointer(&mut pointer, member);
        pointer
    }
}

/// The members of an object, not yet read.
pub(super) struct Envelope<'a> {
    bytes: &'a [u8],
    /// Where `bytes` begin in the request body.
    offset: usize,
    members: Vec<(String, Range<usize>)>,
}

impl<'a> Envelope<'a> {
    /// Delimits the members; `what` names the object for those who sent something else.
    pub(super) fn read(bytes: &'a [u8], place: Place<'_>, what: &str) -> Result<Self, Problem> {
        if is_another_value(bytes, b'{') {
            let detail = format!("{what} is a JSON object.");
            return Err(Problem::new(Code::InvalidRequest, detail.clone()).error(
                place.pointer,
                "not_an_object",
                detail,
            ));
        }
        let members = members(bytes).map_err(|refusal| {
            let pointer = format!("{}{}", place.pointer, refusal.pointer);
            refused(Refusal { pointer, ..refusal }, place.offset)
        })?;
        Ok(Self { bytes, offset: place.offset, members })
    }

    /// Every member but one, which has a limit of its own and goes last, passes the same door: syntax, duplicate names
    /// and I-JSON hold for the whole body.
    pub(super) fn through_the_door_but(&self, last: &str, place: Place<'_>, limits: &Limits) -> Result<(), Problem> {
        let mut scratch = Vec::new();
        for (name, range) in self.members.iter().filter(|(name, _)| name != last) {
            let raw = self.bytes.get(range.clone()).unwrap_or_default();
            scratch.clear();
            canonicalise_at(&place.pointer_of(name), raw, limits, &mut scratch)
                .map_err(|refusal| refused(refusal, self.offset + range.start))?;
        }
        Ok(())
    }

    pub(super) fn raw(&self, name: &str) -> Option<&'a [u8]> {
        self.bytes.get(self.range(name)?)
    }

    /// Where a member's value begins in the request body.
    pub(super) fn offset_of(&self, name: &str) -> usize {
        self.offset + self.range(name).map_or(0, |range| range.start)
    }

    fn range(&self, name: &str) -> Option<Range<usize>> {
        self.members.iter().find(|(known, _)| known == name).map(|(_, range)| range.clone())
    }

    /// A member that is a string; null is the same as absent.
    pub(super) fn text(&self, name: &str, at: &str, faults: &mut Faults<'_>) -> Option<String> {
        let raw = self.raw(name).filter(|raw| *raw != b"null")?;
        let read = serde_json::from_slice(raw);
        read.map_err(|_| faults.add(&format!("{at}/{name}"), "not_a_string", format!("`{name}` must be a string.")))
            .ok()
    }

    pub(super) fn known_only(&self, known: &[&str], at: &str, faults: &mut Faults<'_>) {
        for (name, _) in self.members.iter().filter(|(name, _)| !known.contains(&name.as_str())) {
            let pointer = Place { pointer: at, offset: 0 }.pointer_of(name);
            faults.add(&pointer, "unknown_member", format!("{name:?} is not a member here."));
        }
    }
}

/// The elements of a body that is an array, each with its first byte.
pub(crate) fn items(body: &[u8]) -> Result<Vec<(usize, &[u8])>, Problem> {
    if is_another_value(body, b'[') {
        let detail = "A batch is a JSON array.";
        return Err(Problem::new(Code::InvalidRequest, detail).error("", "not_an_array", detail));
    }
    let ranges = elements(body).map_err(|refusal| refused(refusal, 0))?;
    Ok(ranges.into_iter().map(|range| (range.start, body.get(range).unwrap_or_default())).collect())
}

/// Whether this is JSON that begins with another byte than that: a value of another kind, and no breach of the syntax.
fn is_another_value(bytes: &[u8], opening: u8) -> bool {
    let first = bytes.iter().find(|byte| !b" \t\r\n".contains(byte));
    first.is_some_and(|first| *first != opening) && serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok()
}

/// What the JSON door refused in a part that begins at `offset` of the request body, as a problem.
pub(super) fn refused(refusal: Refusal, offset: usize) -> Problem {
    let code = Code::parse(refusal.code.problem_code()).unwrap_or(Code::InvalidRequest);
    let sentence = refusal.detail.trim_end_matches('.');
    let detail = match code {
        Code::MalformedJson => format!("{sentence} (byte {} of the body).", offset + refusal.offset),
        _ => format!("{sentence}."),
    };
    Problem::new(code, detail).error(refusal.pointer, refusal.code.as_str(), refusal.detail)
}

/// Faults of an envelope: all of them are told at once.
pub(super) struct Faults<'a> {
    prefix: &'a str,
    errors: Vec<FieldError>,
}

impl<'a> Faults<'a> {
    /// Of what lies at this pointer.
    pub(super) fn at(prefix: &'a str) -> Self {
        Self { prefix, errors: Vec::new() }
    }

    pub(super) fn prefix(&self) -> &'a str {
        self.prefix
    }

    pub(super) fn add(&mut self, pointer: &str, code: &'static str, detail: impl Into<String>) {
        let pointer = format!("{}{pointer}", self.prefix);
        self.errors.push(FieldError { pointer, code: code.into(), detail: detail.into() });
    }

    pub(super) fn of_amount<T, E: std::fmt::Display>(&mut self, pointer: &str, read: Result<T, E>) -> Option<T> {
        read.map_err(|error| self.add(pointer, "invalid_amount", format!("{error}."))).ok()
    }

    pub(super) fn none(self) -> Result<(), Problem> {
        let Some(first) = self.errors.first() else { return Ok(()) };
        let problem = Problem::new(Code::InvalidRequest, first.detail.clone());
        Err(self
            .errors
            .into_iter()
            .fold(problem, |problem, error| problem.error(error.pointer, error.code, error.detail)))
    }
}
