//! Canonical bytes as a tree and back, every number keeping its canonical value.

use std::collections::BTreeMap;

use event::canonical::{write_number, write_string};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};

/// Reads a document that passed the JSON door.
///
/// Numbers are read here and not by the JSON library, which may take the neighbour of the binary64 that is meant.
///
/// # Errors
/// If the text is no JSON after all.
pub(crate) fn read(canonical: &[u8]) -> Result<Value, serde_json::Error> {
    of_raw(serde_json::from_slice::<&RawValue>(canonical)?.get())
}

fn of_raw(text: &str) -> Result<Value, serde_json::Error> {
    Ok(match text.as_bytes().first() {
        Some(b'{') => {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(text)?;
            let read = members.into_iter().map(|(name, raw)| Ok((name, of_raw(raw.get())?)));
            Value::Object(read.collect::<Result<Map<_, _>, serde_json::Error>>()?)
        }
        Some(b'[') => {
            let elements: Vec<&RawValue> = serde_json::from_str(text)?;
            Value::Array(elements.into_iter().map(|raw| of_raw(raw.get())).collect::<Result<_, _>>()?)
        }
        Some(b'-' | b'0'..=b'9') => match number(text) {
            Some(number) => Value::Number(number),
            None => serde_json::from_str(text)?,
        },
        _ => serde_json::from_str(text)?,
    })
}

fn number(text: &str) -> Option<Number> {
    match text.parse::<i64>() {
        Ok(integer) => Some(Number::from(integer)),
        // Correctly rounded, and so the one binary64 whose canonical form this is.
        Err(_) => Number::from_f64(text.parse().ok()?),
    }
}

/// The canonical text of a number.
pub(crate) fn number_text(number: &Number) -> String {
    match (number.as_i64(), number.as_f64()) {
        (None, Some(real)) => {
            let mut text = Vec::new();
            write_number(real, &mut text);
            String::from_utf8_lossy(&text).into_owned()
        }
        _ => number.to_string(),
    }
}

/// Appends the value as JSON. Members are in no canonical order: the result goes through the JSON door.
pub(crate) fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => out.extend_from_slice(number_text(number).as_bytes()),
        Value::String(text) => write_string(text, out),
        Value::Array(elements) => {
            out.push(b'[');
            for (index, element) in elements.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(element, out);
            }
            out.push(b']');
        }
        Value::Object(members) => {
            out.push(b'{');
            for (index, (name, member)) in members.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_string(name, out);
                out.push(b':');
                write(member, out);
            }
            out.push(b'}');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use event::door::{Limits, canonicalise};
    use proptest::prelude::*;

    fn there_and_back(text: &str) -> String {
        let mut canonical = Vec::new();
        canonicalise(text.as_bytes(), &Limits::default(), &mut canonical).unwrap();
        let (mut written, mut again) = (Vec::new(), Vec::new());
        write(&read(&canonical).unwrap(), &mut written);
        canonicalise(&written, &Limits::default(), &mut again).unwrap();
        assert_eq!(String::from_utf8(again.clone()), String::from_utf8(canonical), "{text}");
        String::from_utf8(again).unwrap()
    }

    #[test]
    fn a_document_comes_back_as_its_canonical_form() {
        assert_eq!(
            there_and_back(r#"{"b":[1.0,-0,true,null],"a":{"€":"\u000a\"","\ud83d\ude00":1e30}}"#),
            "{\"a\":{\"€\":\"\\n\\\"\",\"😀\":1e+30},\"b\":[1,0,true,null]}"
        );
    }

    proptest! {
        #[test]
        fn every_number_keeps_its_canonical_value(bits in any::<u64>()) {
            let number = f64::from_bits(bits);
            let is_unsafe_integer = number.abs() > 9_007_199_254_740_991.0 && number.abs() < 1e21;
            prop_assume!(number.is_finite() && !is_unsafe_integer);
            there_and_back(&format!("[{number:e}]"));
        }
    }
}
