//! The outermost container alone, for readers that treat its members differently.

use std::ops::Range;

use super::read::{Fault, Form, Reader};
use super::{DoorCode, Refusal, push_pointer};

/// Names unescaped, values as ranges, in the order written.
pub(super) fn of_object(bytes: &[u8]) -> Result<Vec<(String, Range<usize>)>, Refusal> {
    let mut found: Vec<(String, Range<usize>)> = Vec::new();
    if let Err(fault) = read(bytes, &mut found) {
        return Err(fault.at(String::new()));
    }
    let mut order: Vec<&(String, Range<usize>)> = found.iter().collect();
    order.sort_by(|a, b| a.0.cmp(&b.0));
    for pair in order.windows(2) {
        if let [first, second] = pair
            && first.0 == second.0
        {
            let mut pointer = String::new();
            push_pointer(&mut pointer, &second.0);
            let detail = "a member name occurs twice in one object";
            return Err(Fault::new(DoorCode::DuplicateName, second.1.start, detail).at(pointer));
        }
    }
    Ok(found)
}

/// What was read before a fault counts too.
pub(super) fn has_one_of(bytes: &[u8], names: &[&str]) -> bool {
    let mut found = Vec::new();
    // A fault ends the reading, and is told by who reads the whole.
    drop(read(bytes, &mut found));
    found.iter().any(|(name, _)| names.contains(&name.as_str()))
}

/// Elements as ranges, in order.
pub(super) fn of_array(bytes: &[u8]) -> Result<Vec<Range<usize>>, Refusal> {
    let mut found = Vec::new();
    read_array(bytes, &mut found).map_err(|fault| fault.at(String::new()))?;
    Ok(found)
}

fn read_array(bytes: &[u8], found: &mut Vec<Range<usize>>) -> Result<(), Fault> {
    let mut reader = Reader::new(bytes)?;
    reader.expect(b'[', "expected an array")?;
    if reader.peek_token() == Some(b']') {
        reader.advance();
        return reader.expect_end();
    }
    loop {
        reader.peek_token();
        let start = reader.offset();
        let end = reader.skip_value()?;
        found.push(start..end);
        match reader.peek_token() {
            Some(b',') => reader.advance(),
            Some(b']') => break,
            _ => return Err(reader.malformed("expected , or ]")),
        }
    }
    reader.advance();
    reader.expect_end()
}

fn read(bytes: &[u8], found: &mut Vec<(String, Range<usize>)>) -> Result<(), Fault> {
    let mut reader = Reader::new(bytes)?;
    reader.expect(b'{', "expected an object")?;
    if reader.peek_token() == Some(b'}') {
        reader.advance();
        return reader.expect_end();
    }
    loop {
        let mut name = Vec::new();
        reader.string(Form::Plain, &mut name)?;
        reader.expect(b':', "expected :")?;
        reader.peek_token();
        let start = reader.offset();
        let end = reader.skip_value()?;
        found.push((String::from_utf8_lossy(&name).into_owned(), start..end));
        match reader.peek_token() {
            Some(b',') => reader.advance(),
            Some(b'}') => break,
            _ => return Err(reader.malformed("expected , or }")),
        }
    }
    reader.advance();
    reader.expect_end()
}
