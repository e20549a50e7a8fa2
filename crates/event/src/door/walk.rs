//! Containers: an explicit stack instead of recursion, and members put into order where their object ends.

use std::cmp::Ordering;
use std::ops::Range;

use super::read::{Fault, Form, Reader};
use super::{DoorCode, Limits, push_pointer};
use crate::canonical::compare_utf16;

/// Appends the canonical form, or says what is wrong and on which path.
pub(super) fn document(bytes: &[u8], limits: &Limits, out: &mut Vec<u8>) -> Result<(), (Fault, String)> {
    let reader = Reader::new(bytes).map_err(|fault| (fault, String::new()))?;
    let base = out.len();
    // The canonical form is seldom longer than what was written.
    out.reserve(bytes.len().min(limits.canonical_bytes_max));
    let members = Vec::with_capacity(MEMBERS_EXPECTED);
    let (frames, names, ordered) = (Vec::with_capacity(FRAMES_EXPECTED), Vec::new(), Vec::new());
    let mut walk = Walk { reader, limits, out, base, frames, members, names, ordered };
    walk.run().map_err(|fault| {
        let path = if fault.code() == DoorCode::TooLarge { String::new() } else { walk.path() };
        (fault, path)
    })
}

/// So much fits before the lists grow.
const FRAMES_EXPECTED: usize = 8;
const MEMBERS_EXPECTED: usize = 16;

/// A container that is open.
struct Frame {
    kind: Kind,
    /// Where its text begins in the output, bracket included.
    text_start: usize,
}

enum Kind {
    Array {
        index: usize,
    },
    Object {
        /// Its first member in `members`.
        members_start: usize,
        /// Where its names begin in `names`.
        names_start: usize,
        /// Whether the last member has been named: what happens now happens inside it.
        is_inside_member: bool,
        is_sorted: bool,
    },
}

/// A member of an open object.
#[derive(Clone)]
struct Member {
    name: Name,
    /// `"name":value` in the output.
    text: Range<usize>,
    /// Where the name stands in the input.
    offset: usize,
}

/// Where a name stands unescaped.
#[derive(Clone)]
enum Name {
    /// In the output itself, for all of its characters stand for themselves.
    Written(Range<usize>),
    /// In `names`.
    Kept(Range<usize>),
}

enum Next {
    Value,
    AfterValue,
    End,
}

struct Walk<'a, 'o> {
    reader: Reader<'a>,
    limits: &'a Limits,
    out: &'o mut Vec<u8>,
    base: usize,
    frames: Vec<Frame>,
    members: Vec<Member>,
    names: Vec<u8>,
    /// An object's members on their way into order.
    ordered: Vec<u8>,
}

impl Walk<'_, '_> {
    fn run(&mut self) -> Result<(), Fault> {
        let mut next = Next::Value;
        loop {
            next = match next {
                Next::Value => self.begin_value()?,
                Next::AfterValue => self.after_value()?,
                Next::End => return self.reader.expect_end(),
            };
        }
    }

    fn begin_value(&mut self) -> Result<Next, Fault> {
        match self.reader.peek_token() {
            Some(b'{') => return self.open_object(),
            Some(b'[') => return self.open_array(),
            Some(b'"') => {
                self.reader.string(Form::Escaped, self.out)?;
            }
            Some(b'-' | b'0'..=b'9') => self.reader.number(self.out)?,
            Some(b't') => self.reader.literal("true", self.out)?,
            Some(b'f') => self.reader.literal("false", self.out)?,
            Some(b'n') => self.reader.literal("null", self.out)?,
            _ => return Err(self.reader.malformed("expected a value")),
        }
        Ok(Next::AfterValue)
    }

    fn open_array(&mut self) -> Result<Next, Fault> {
        self.open(b'[', Kind::Array { index: 0 })?;
        if self.reader.peek_token() == Some(b']') {
            self.close(b']');
            return Ok(Next::AfterValue);
        }
        Ok(Next::Value)
    }

    fn open_object(&mut self) -> Result<Next, Fault> {
        let (members_start, names_start) = (self.members.len(), self.names.len());
        self.open(b'{', Kind::Object { members_start, names_start, is_inside_member: false, is_sorted: true })?;
        if self.reader.peek_token() == Some(b'}') {
            self.close(b'}');
            return Ok(Next::AfterValue);
        }
        self.begin_member()?;
        Ok(Next::Value)
    }

    fn open(&mut self, bracket: u8, kind: Kind) -> Result<(), Fault> {
        if self.frames.len() >= self.limits.depth_max {
            let detail = "too many containers inside each other";
            return Err(Fault::new(DoorCode::TooDeep, self.reader.offset(), detail));
        }
        self.frames.push(Frame { kind, text_start: self.out.len() });
        self.out.push(bracket);
        self.reader.advance();
        Ok(())
    }

    fn close(&mut self, bracket: u8) {
        self.reader.advance();
        self.out.push(bracket);
        self.frames.pop();
    }

    fn after_value(&mut self) -> Result<Next, Fault> {
        if self.out.len() - self.base > self.limits.canonical_bytes_max {
            let detail = "the canonical form is too large";
            return Err(Fault::new(DoorCode::TooLarge, self.reader.offset(), detail));
        }
        let token = self.reader.peek_token();
        let Some(frame) = self.frames.last_mut() else { return Ok(Next::End) };
        match (&mut frame.kind, token) {
            (Kind::Array { index }, Some(b',')) => {
                *index += 1;
                self.out.push(b',');
                self.reader.advance();
                Ok(Next::Value)
            }
            (Kind::Array { .. }, Some(b']')) => {
                self.close(b']');
                Ok(Next::AfterValue)
            }
            (Kind::Object { is_inside_member, .. }, Some(b',')) => {
                *is_inside_member = false;
                self.end_member();
                self.out.push(b',');
                self.reader.advance();
                self.begin_member()?;
                Ok(Next::Value)
            }
            (Kind::Object { .. }, Some(b'}')) => {
                self.end_member();
                self.order_members()?;
                self.close(b'}');
                Ok(Next::AfterValue)
            }
            (Kind::Array { .. }, _) => Err(self.reader.malformed("expected , or ]")),
            (Kind::Object { .. }, _) => Err(self.reader.malformed("expected , or }")),
        }
    }

    /// The name and the colon. A name that repeats the one before is found at once, others where the object ends.
    fn begin_member(&mut self) -> Result<(), Fault> {
        self.reader.peek_token();
        let offset = self.reader.offset();
        let start = self.out.len();
        let is_plain = self.reader.string(Form::Escaped, self.out)?;
        let name = if is_plain {
            Name::Written(start + 1..self.out.len() - 1)
        } else {
            let kept = self.names.len();
            self.reader.return_to(offset);
            self.reader.string(Form::Plain, &mut self.names)?;
            Name::Kept(kept..self.names.len())
        };
        let member = Member { name, text: start..self.out.len(), offset };
        let mut order = Ordering::Greater;
        if let Some(Frame { kind: Kind::Object { members_start, is_inside_member, is_sorted, .. }, .. }) =
            self.frames.last_mut()
        {
            if let Some(before) = self.members.get(*members_start..).and_then(<[Member]>::last) {
                let texts = (self.out.as_slice(), self.names.as_slice());
                order = compare_utf16(name_of(texts, &member), name_of(texts, before));
            }
            *is_inside_member = true;
            *is_sorted &= order == Ordering::Greater;
        }
        self.members.push(member);
        if order == Ordering::Equal {
            return Err(duplicate(offset));
        }
        self.reader.expect(b':', "expected :")?;
        self.out.push(b':');
        Ok(())
    }

    fn end_member(&mut self) {
        if let Some(member) = self.members.last_mut() {
            member.text.end = self.out.len();
        }
    }

    /// Sorts the members of the innermost object (RFC 8785 section 3.2.3) and forgets them.
    fn order_members(&mut self) -> Result<(), Fault> {
        let Some(&Frame { kind: Kind::Object { members_start, names_start, is_sorted, .. }, text_start }) =
            self.frames.last()
        else {
            return Ok(());
        };
        if !is_sorted {
            let texts = (self.out.as_slice(), self.names.as_slice());
            let members = self.members.get_mut(members_start..).unwrap_or_default();
            members.sort_unstable_by(|a, b| {
                compare_utf16(name_of(texts, a), name_of(texts, b)).then_with(|| a.offset.cmp(&b.offset))
            });
            let twice = members.windows(2).find_map(|pair| match pair {
                [first, second] if name_of(texts, first) == name_of(texts, second) => Some(second.clone()),
                _ => None,
            });
            if let Some(second) = twice {
                let offset = second.offset;
                self.members.push(second);
                return Err(duplicate(offset));
            }
            self.ordered.clear();
            for member in members.iter() {
                self.ordered.push(if self.ordered.is_empty() { b'{' } else { b',' });
                self.ordered.extend_from_slice(self.out.get(member.text.clone()).unwrap_or_default());
            }
            self.out.truncate(text_start);
            self.out.extend_from_slice(&self.ordered);
        }
        self.members.truncate(members_start);
        self.names.truncate(names_start);
        Ok(())
    }

    /// Where we are, as a JSON pointer.
    fn path(&self) -> String {
        let mut pointer = String::new();
        let texts = (self.out.as_slice(), self.names.as_slice());
        let mut inner_members_end = self.members.len();
        let mut steps = Vec::with_capacity(self.frames.len());
        for frame in self.frames.iter().rev() {
            match frame.kind {
                Kind::Array { index } => steps.push(index.to_string()),
                Kind::Object { members_start, is_inside_member, .. } => {
                    let current = self.members.get(members_start..inner_members_end).and_then(<[Member]>::last);
                    if let Some(member) = current.filter(|_| is_inside_member) {
                        steps.push(String::from_utf8_lossy(name_of(texts, member)).into_owned());
                    }
                    inner_members_end = members_start;
                }
            }
        }
        steps.iter().rev().for_each(|step| push_pointer(&mut pointer, step));
        pointer
    }
}

/// A member's name, from the output or from the names kept.
fn name_of<'n>((out, names): (&'n [u8], &'n [u8]), member: &Member) -> &'n [u8] {
    match &member.name {
        Name::Written(range) => out.get(range.clone()),
        Name::Kept(range) => names.get(range.clone()),
    }
    .unwrap_or_default()
}

fn duplicate(offset: usize) -> Fault {
    Fault::new(DoorCode::DuplicateName, offset, "a member name occurs twice in one object")
}
