//! Values as CPython reads them from JSON, and the texts that it makes of them: `json.dumps`, `str` and `repr`.

use std::fmt::Write as _;

use event::canonical::write_number;
use event::door::written::Written;
use event::door::{DoorCode, push_pointer};

use crate::printable::is_printable;
use crate::recipe::Refusal;

/// Longer integers are refused by CPython itself.
const INTEGER_DIGITS_MAX: usize = 4_300;
/// Floats from 1e16 on, and below 1e-4, are printed with an exponent.
const FIXED_EXPONENTS: std::ops::Range<i32> = -4..16;

/// What `json.loads` makes of a document.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    None,
    Bool(bool),
    /// Of any size, in its one spelling.
    Int(String),
    Float(f64),
    Str(String),
    List(Vec<Value>),
    /// In the order of insertion.
    Dict(Vec<(String, Value)>),
}

/// What stands between the parts of a container: `", "` and `": "`, or no spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Separators {
    Spaced,
    Compact,
}

impl Value {
    /// Reads a document. What Python reads as infinite, and what it refuses, is refused.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Refusal> {
        let written = event::door::written::read(bytes).map_err(Refusal::Document)?;
        Self::of(&written, &mut Vec::new())
    }

    fn of<'w>(written: &'w Written<'_>, way: &mut Vec<Step<'w>>) -> Result<Self, Refusal> {
        Ok(match written {
            Written::Null => Self::None,
            Written::Boolean(truth) => Self::Bool(*truth),
            Written::Number(text) => number(text).map_err(|detail| overflow(way, detail))?,
            Written::Text(text) => Self::Str(text.clone()),
            Written::List(items) => {
                let mut values = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    way.push(Step::Item(index));
                    values.push(Self::of(item, way)?);
                    way.pop();
                }
                Self::List(values)
            }
            Written::Object(members) => {
                let mut values = Vec::with_capacity(members.len());
                for (name, member) in members {
                    way.push(Step::Member(name));
                    values.push((name.clone(), Self::of(member, way)?));
                    way.pop();
                }
                Self::Dict(values)
            }
        })
    }

    /// Whether `or` takes it.
    pub(crate) fn is_truthy(&self) -> bool {
        match self {
            Self::None => false,
            Self::Bool(truth) => *truth,
            Self::Int(digits) => digits != "0",
            Self::Float(number) => *number != 0.0,
            Self::Str(text) => !text.is_empty(),
            Self::List(items) => !items.is_empty(),
            Self::Dict(members) => !members.is_empty(),
        }
    }

    /// `json.dumps(value, sort_keys=True)` with these separators.
    pub(crate) fn to_json(&self, separators: Separators) -> String {
        let mut out = String::new();
        self.write_json(separators, &mut out);
        out
    }

    fn write_json(&self, separators: Separators, out: &mut String) {
        let (comma, colon) = match separators {
            Separators::Spaced => (", ", ": "),
            Separators::Compact => (",", ":"),
        };
        match self {
            Self::None => out.push_str("null"),
            Self::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
            Self::Int(digits) => out.push_str(digits),
            Self::Float(number) => write_float(*number, out),
            Self::Str(text) => write_json_string(text, out),
            Self::List(items) => {
                let write = |item: &Self, out: &mut String| item.write_json(separators, out);
                write_parts(('[', ']'), comma, items.iter(), write, out);
            }
            Self::Dict(members) => {
                // Python compares by code point, as UTF-8 does.
                let mut sorted: Vec<&(String, Self)> = members.iter().collect();
                sorted.sort_by(|left, right| left.0.cmp(&right.0));
                let write = |(name, value): &(String, Self), out: &mut String| {
                    write_json_string(name, out);
                    out.push_str(colon);
                    value.write_json(separators, out);
                };
                write_parts(('{', '}'), comma, sorted.into_iter(), write, out);
            }
        }
    }

    /// `str(value)`: a text as it is, anything else as [`Value::repr`].
    pub(crate) fn to_text(&self) -> String {
        match self {
            Self::Str(text) => text.clone(),
            other => {
                let mut out = String::new();
                other.repr(&mut out);
                out
            }
        }
    }

    /// `repr(value)`: containers in the order of insertion.
    fn repr(&self, out: &mut String) {
        match self {
            Self::None => out.push_str("None"),
            Self::Bool(truth) => out.push_str(if *truth { "True" } else { "False" }),
            Self::Int(digits) => out.push_str(digits),
            Self::Float(number) => write_float(*number, out),
            Self::Str(text) => repr_string(text, out),
            Self::List(items) => write_parts(('[', ']'), ", ", items.iter(), Self::repr, out),
            Self::Dict(members) => {
                let write = |(name, value): &(String, Self), out: &mut String| {
                    repr_string(name, out);
                    out.push_str(": ");
                    value.repr(out);
                };
                write_parts(('{', '}'), ", ", members.iter(), write, out);
            }
        }
    }
}

/// A step on the way to a value.
enum Step<'w> {
    Item(usize),
    Member(&'w str),
}

fn overflow(way: &[Step<'_>], detail: &'static str) -> Refusal {
    let mut pointer = String::new();
    for step in way {
        match step {
            Step::Item(index) => push_pointer(&mut pointer, &index.to_string()),
            Step::Member(name) => push_pointer(&mut pointer, name),
        }
    }
    Refusal::Document(event::door::Refusal {
        code: DoorCode::NumberOverflow,
        pointer,
        detail: detail.to_owned(),
        offset: 0,
    })
}

fn number(text: &str) -> Result<Value, &'static str> {
    if text.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
        return match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Value::Float(number)),
            _ => Err("the number is beyond binary64"),
        };
    }
    let digits = text.strip_prefix('-').unwrap_or(text).len();
    if digits > INTEGER_DIGITS_MAX {
        return Err("the integer has more than 4,300 digits");
    }
    Ok(Value::Int(if text == "-0" { "0".to_owned() } else { text.to_owned() }))
}

fn write_parts<T>(
    (open, close): (char, char),
    comma: &str,
    parts: impl Iterator<Item = T>,
    write: impl Fn(T, &mut String),
    out: &mut String,
) {
    out.push(open);
    for (index, part) in parts.enumerate() {
        if index > 0 {
            out.push_str(comma);
        }
        write(part, out);
    }
    out.push(close);
}

/// A float as Python prints it: the shortest digits that come back, fixed from 1e-4 to below 1e16.
fn write_float(number: f64, out: &mut String) {
    if number.is_sign_negative() {
        out.push('-');
    }
    let (digits, exponent) = shortest(number.abs());
    if !FIXED_EXPONENTS.contains(&exponent) {
        let (first, rest) = digits.split_at_checked(1).unwrap_or(("0", ""));
        let point = if rest.is_empty() { "" } else { "." };
        let (sign, size) = if exponent < 0 { ('-', -exponent) } else { ('+', exponent) };
        let _ = write!(out, "{first}{point}{rest}e{sign}{size:02}");
        return;
    }
    match usize::try_from(exponent) {
        Err(_) => {
            out.push_str("0.");
            out.extend(std::iter::repeat_n('0', usize::try_from(-1 - exponent).unwrap_or_default()));
            out.push_str(&digits);
        }
        Ok(exponent) => match digits.split_at_checked(exponent + 1) {
            Some((whole, fraction)) => {
                let fraction = if fraction.is_empty() { "0" } else { fraction };
                let _ = write!(out, "{whole}.{fraction}");
            }
            None => {
                out.push_str(&digits);
                out.extend(std::iter::repeat_n('0', exponent + 1 - digits.len()));
                out.push_str(".0");
            }
        },
    }
}

/// The digits, and the power of ten of the first one.
///
/// Those of ECMAScript are those of Python; Rust's own differ where two texts of a length lie equally near.
fn shortest(number: f64) -> (String, i32) {
    let mut written = Vec::new();
    write_number(number, &mut written);
    let written = String::from_utf8_lossy(&written);
    let (mantissa, power) = written.split_once('e').unwrap_or((&written, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = [whole, fraction].concat();
    let digits = all.trim_start_matches('0');
    if digits.is_empty() {
        return ("0".to_owned(), 0);
    }
    let point = i32::try_from(whole.len()).unwrap_or_default() + power.parse::<i32>().unwrap_or_default();
    let leading = i32::try_from(all.len() - digits.len()).unwrap_or_default();
    (digits.trim_end_matches('0').to_owned(), point - leading - 1)
}

/// A string as `json.dumps` writes it: ASCII only, the rest in UTF-16 units.
fn write_json_string(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(character),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}

/// A string as `repr` writes it: single quotes, unless only double ones need no escape.
fn repr_string(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if character == quote => {
                out.push('\\');
                out.push(quote);
            }
            _ if is_printable(character) => out.push(character),
            _ => {
                let _ = match u32::from(character) {
                    code @ 0..=0xff => write!(out, "\\x{code:02x}"),
                    code @ 0x100..=0xffff => write!(out, "\\u{code:04x}"),
                    code => write!(out, "\\U{code:08x}"),
                };
            }
        }
    }
    out.push(quote);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn float(number: f64) -> String {
        let mut out = String::new();
        write_float(number, &mut out);
        out
    }

    #[test]
    #[allow(clippy::excessive_precision, reason = "the digits that a shorter text leaves out are what is tested")]
    fn floats_are_printed_as_python_prints_them() {
        let cases = [
            (100.0, "100.0"),
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (99.5, "99.5"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (9_999_999_999_999_998.0, "9999999999999998.0"),
            (1e16, "1e+16"),
            (1.5e16, "1.5e+16"),
            (123_456_789_012_345_680.0, "1.2345678901234568e+17"),
            (1e22, "1e+22"),
            (1e100, "1e+100"),
            (0.0001, "0.0001"),
            (0.000_123, "0.000123"),
            (0.000_01, "1e-05"),
            (1.5e-7, "1.5e-07"),
            (5e-324, "5e-324"),
            (-1.797_693_134_862_315_7e308, "-1.7976931348623157e+308"),
            (123.456, "123.456"),
            // Half way between two texts of the same length: the even one.
            (111_134_124_615_580.125, "111134124615580.12"),
            (803_802_529_522_175.25, "803802529522175.2"),
        ];
        for (number, expected) in cases {
            assert_eq!(float(number), expected);
        }
    }

    #[test]
    fn json_is_sorted_by_code_point_and_ascii() {
        let text = "{\"\u{fb33}a\":1,\"😀\":2,\"é\":[null,true,1.0,{}],\"a\\u007f\\u0001\\b\\f/\":\"\"}";
        let json = Value::read(text.as_bytes()).unwrap().to_json(Separators::Spaced);
        let expected =
            r#"{"a\u007f\u0001\b\f/": "", "\u00e9": [null, true, 1.0, {}], "\ufb33a": 1, "\ud83d\ude00": 2}"#;
        assert_eq!(json, expected);
    }

    #[test]
    fn texts_are_quoted_as_repr_quotes_them() {
        let repr = |text: &str| {
            let mut out = String::new();
            repr_string(text, &mut out);
            out
        };
        assert_eq!(repr("a"), "'a'");
        assert_eq!(repr("it's"), "\"it's\"");
        assert_eq!(repr("it's \"x\""), r#"'it\'s "x"'"#);
        assert_eq!(
            repr("\u{7f}\u{a0}\u{ad}é\u{200b}😀\u{e0001}\u{378}\0"),
            r"'\x7f\xa0\xadé\u200b😀\U000e0001\u0378\x00'"
        );
        assert_eq!(repr("\\\n\r\t"), r"'\\\n\r\t'");
    }

    #[test]
    fn numbers_that_python_has_no_text_for_are_refused() {
        for (text, pointer) in [("1e999", ""), (r#"{"a":[0,-1e400]}"#, "/a/1"), (&"9".repeat(4_301), "")] {
            let Err(Refusal::Document(refusal)) = Value::read(text.as_bytes()) else { panic!("{text}") };
            assert_eq!((refusal.code, refusal.pointer.as_str()), (DoorCode::NumberOverflow, pointer));
        }
        let long = format!("-{}", "9".repeat(4_300));
        assert_eq!(Value::read(long.as_bytes()).unwrap(), Value::Int(long.clone()));
        assert_eq!(Value::read(b"-0").unwrap(), Value::Int("0".to_owned()));
        assert_eq!(Value::read(b"1e-999").unwrap(), Value::Float(0.0));
    }

    proptest! {
        #[test]
        fn a_printed_float_is_the_same_float(number in any::<f64>().prop_filter("finite", |number| number.is_finite())) {
            let text = float(number);
            prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), number.to_bits());
            prop_assert!(text.contains(['.', 'e']));
        }

        #[test]
        fn what_is_written_as_json_is_read_as_the_same(text in any::<String>()) {
            let mut json = String::new();
            write_json_string(&text, &mut json);
            prop_assert!(json.is_ascii());
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }
}
