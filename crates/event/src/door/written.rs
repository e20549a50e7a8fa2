//! A document as it was written, for those who must see the spelling of its numbers, or judge its texts themselves.

use super::read::{Fault, Form, Reader};
use super::{DoorCode, Refusal, push_pointer};

/// Containers inside each other that [`read`] follows; the bound of a payload (docs/contracts/receipt.md section 1).
const DEPTH_MAX: usize = 64;

/// A JSON value whose numbers keep their spelling and whose members keep their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written<'a> {
    Null,
    Boolean(bool),
    /// As it stands in the text: `100` and `100.0` differ.
    Number(&'a str),
    Text(String),
    List(Vec<Written<'a>>),
    /// No name occurs twice.
    Object(Vec<(String, Written<'a>)>),
}

impl<'a> Written<'a> {
    /// The value of a member; `None` where this is no object or has no such member.
    pub fn member(&self, name: &str) -> Option<&Written<'a>> {
        match self {
            Self::Object(members) => members.iter().find(|(known, _)| known == name).map(|(_, value)| value),
            _ => None,
        }
    }
}

/// Reads a document by every rule of the door but those on numbers and noncharacters: any number of RFC 8259 is kept as
/// it is written, and any text that UTF-8 can hold.
///
/// # Errors
/// As [`super::canonicalise`], without its codes for numbers, noncharacters and sizes.
pub fn read(bytes: &[u8]) -> Result<Written<'_>, Refusal> {
    let mut reader = Reader::new(bytes).map_err(|fault| fault.at(String::new()))?;
    reader.take_any_character();
    let mut steps = Vec::new();
    let read = value(&mut reader, DEPTH_MAX, &mut steps).and_then(|value| reader.expect_end().map(|()| value));
    read.map_err(|fault| {
        let mut pointer = String::new();
        steps.iter().rev().for_each(|step| push_pointer(&mut pointer, step));
        fault.at(pointer)
    })
}

/// Where it fails, `steps` gets the way to the place, innermost first.
fn value<'a>(reader: &mut Reader<'a>, depth_left: usize, steps: &mut Vec<String>) -> Result<Written<'a>, Fault> {
    match reader.peek_token() {
        Some(b'{') => object(reader, deeper(reader, depth_left)?, steps),
        Some(b'[') => list(reader, deeper(reader, depth_left)?, steps),
        Some(b'"') => text(reader).map(Written::Text),
        Some(b'-' | b'0'..=b'9') => reader.number_text().map(|number| Written::Number(number.as_str())),
        Some(b't') => reader.word("true").map(|()| Written::Boolean(true)),
        Some(b'f') => reader.word("false").map(|()| Written::Boolean(false)),
        Some(b'n') => reader.word("null").map(|()| Written::Null),
        _ => Err(reader.malformed("expected a value")),
    }
}

fn deeper(reader: &Reader<'_>, depth_left: usize) -> Result<usize, Fault> {
    let too_deep = || Fault::new(DoorCode::TooDeep, reader.offset(), "too many containers inside each other");
    depth_left.checked_sub(1).ok_or_else(too_deep)
}

fn text(reader: &mut Reader<'_>) -> Result<String, Fault> {
    let mut characters = Vec::new();
    reader.string(Form::Plain, &mut characters)?;
    // The reader checked the UTF-8 of the document, and escapes are whole characters.
    Ok(String::from_utf8_lossy(&characters).into_owned())
}

fn list<'a>(reader: &mut Reader<'a>, depth_left: usize, steps: &mut Vec<String>) -> Result<Written<'a>, Fault> {
    reader.advance();
    let mut items = Vec::new();
    if reader.peek_token() == Some(b']') {
        reader.advance();
        return Ok(Written::List(items));
    }
    loop {
        let place = |fault, steps: &mut Vec<String>| {
            steps.push(items.len().to_string());
            fault
        };
        let item = value(reader, depth_left, steps).map_err(|fault| place(fault, steps))?;
        match reader.peek_token() {
            Some(b',') => reader.advance(),
            Some(b']') => {
                reader.advance();
                items.push(item);
                return Ok(Written::List(items));
            }
            _ => return Err(place(reader.malformed("expected , or ]"), steps)),
        }
        items.push(item);
    }
}

fn object<'a>(reader: &mut Reader<'a>, depth_left: usize, steps: &mut Vec<String>) -> Result<Written<'a>, Fault> {
    reader.advance();
    let mut members = Vec::new();
    let mut offsets = Vec::new();
    if reader.peek_token() == Some(b'}') {
        reader.advance();
        return Ok(Written::Object(members));
    }
    loop {
        reader.peek_token();
        offsets.push(reader.offset());
        let name = text(reader)?;
        let place = |fault, steps: &mut Vec<String>| {
            steps.push(name.clone());
            fault
        };
        reader.expect(b':', "expected :").map_err(|fault| place(fault, steps))?;
        let inside = value(reader, depth_left, steps).map_err(|fault| place(fault, steps))?;
        let token = reader.peek_token();
        if !matches!(token, Some(b',' | b'}')) {
            return Err(place(reader.malformed("expected , or }"), steps));
        }
        reader.advance();
        members.push((name, inside));
        if token == Some(b'}') {
            break;
        }
    }
    match first_repeated(&members) {
        None => Ok(Written::Object(members)),
        Some(index) => {
            steps.extend(members.into_iter().nth(index).map(|(name, _)| name));
            let offset = offsets.get(index).copied().unwrap_or_default();
            Err(Fault::new(DoorCode::DuplicateName, offset, "a member name occurs twice in one object"))
        }
    }
}

/// The first member whose name stood before it.
fn first_repeated(members: &[(String, Written<'_>)]) -> Option<usize> {
    let mut order: Vec<(&str, usize)> =
        members.iter().enumerate().map(|(index, (name, _))| (name.as_str(), index)).collect();
    order.sort_unstable();
    let repeated = order.windows(2).filter_map(|pair| match pair {
        [(first, _), (second, index)] if first == second => Some(*index),
        _ => None,
    });
    repeated.min()
}

#[cfg(test)]
mod tests {
    use super::super::{DoorCode, Limits, canonicalise};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_keep_their_spelling_and_members_their_order() {
        let read =
            read(br#" {"b":[100, 100.0,1E5,-0],"a":{"\u0061":null,"x":true,"y":false},"c":"\u00e9\n"} "#).unwrap();
        let numbers = ["100", "100.0", "1E5", "-0"].map(Written::Number).to_vec();
        assert_eq!(read.member("b"), Some(&Written::List(numbers)));
        assert_eq!(read.member("a").unwrap().member("a"), Some(&Written::Null));
        assert_eq!(read.member("c"), Some(&Written::Text("é\n".to_owned())));
        assert_eq!(read.member("d"), None);
        let Written::Object(members) = read else { panic!("an object") };
        assert_eq!(members.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["b", "a", "c"]);
    }

    #[test]
    fn numbers_of_any_size_and_every_character_pass() {
        assert_eq!(read("\"\u{ffff}\\ufdd0\"".as_bytes()), Ok(Written::Text("\u{ffff}\u{fdd0}".to_owned())));
        for number in ["1e20", "9007199254740993", "1e999", "1e-999", "123456789012345678901234567890"] {
            assert_eq!(read(number.as_bytes()), Ok(Written::Number(number)));
        }
    }

    #[test]
    fn refusals_name_their_code_and_pointer() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(read(nested(64).as_bytes()).is_ok());
        let cases = [
            (r#"{"a":1,"b":2,"a":3}"#, DoorCode::DuplicateName, "/a"),
            (r#"{"a":[0,{"b":1,"\u0062":2}]}"#, DoorCode::DuplicateName, "/a/1/b"),
            (r#"["\ud800"]"#, DoorCode::LoneSurrogate, "/0"),
            (r#"{"a/b":["\udc00"]}"#, DoorCode::LoneSurrogate, "/a~1b/0"),
            (r#"{"a":[1,2"#, DoorCode::Malformed, "/a/1"),
            (r#"{"a":1"#, DoorCode::Malformed, "/a"),
            (r#"{"a" 1}"#, DoorCode::Malformed, "/a"),
            ("", DoorCode::Malformed, ""),
            ("[1] 2", DoorCode::Malformed, ""),
            ("\u{feff}1", DoorCode::Malformed, ""),
        ];
        for (text, code, pointer) in cases {
            let refusal = read(text.as_bytes()).unwrap_err();
            assert_eq!((refusal.code, refusal.pointer.as_str()), (code, pointer), "{text}");
        }
        let refusal = read(nested(65).as_bytes()).unwrap_err();
        assert_eq!((refusal.code, refusal.pointer), (DoorCode::TooDeep, "/0".repeat(64)));
        assert_eq!(read("[".repeat(500_000).as_bytes()).unwrap_err().code, DoorCode::TooDeep);
    }

    proptest! {
        #[test]
        fn what_passes_the_door_is_read_and_other_refusals_agree(
            bytes in prop::collection::vec(prop::sample::select(br#"{}[]",:\u0d8e1-+.Et rfalsn"#.to_vec()), 0..60)
        ) {
            let canonical = canonicalise(&bytes, &Limits::default(), &mut Vec::new());
            let is_of_values = |code| matches!(
                code,
                DoorCode::NumberOverflow | DoorCode::NumberUnderflow | DoorCode::UnsafeInteger | DoorCode::Noncharacter
            );
            match (read(&bytes), canonical) {
                // Of several faults either may be met first.
                (Err(read), Err(canonical)) => prop_assert!(
                    read.code == canonical.code
                        || is_of_values(canonical.code)
                        || [read.code, canonical.code].contains(&DoorCode::DuplicateName)
                ),
                (Err(read), Ok(())) => prop_assert!(false, "{read}"),
                (Ok(_), Err(canonical)) => prop_assert!(is_of_values(canonical.code)),
                (Ok(_), Ok(())) => {}
            }
        }

        #[test]
        fn any_bytes_are_answered(bytes in any::<Vec<u8>>()) {
            let _ = read(&bytes);
        }
    }
}
