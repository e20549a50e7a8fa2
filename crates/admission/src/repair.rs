//! The repair ladder: JSON that a language model wrote almost right, put right where only one reading is possible.
//!
//! Each rung is tried on top of the ones before, and the strict JSON door reads the result. What is not plainly one of
//! these faults is left alone and refused. [`crate::invariants`] holds the result against the original.

use event::canonical::write_string;
use event::door::{self, DoorCode, Limits};

use crate::lenient::{Piece, pieces};

/// What a rung does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rung {
    /// A comma before a closing bracket goes.
    TrailingCommas,
    /// Strings in single quotes get double ones.
    Quotes,
    /// A document whose quotes are escaped is unescaped once. `\'`, `\xHH`, `\UHHHHHHHH` and raw control characters inside
    /// strings become what JSON writes for them.
    Escapes,
}

impl Rung {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TrailingCommas => "trailing_commas",
            Self::Quotes => "quotes",
            Self::Escapes => "escapes",
        }
    }
}

/// What a rung makes of a text.
type Climb = fn(&str) -> String;

/// In the order in which they are tried.
const LADDER: [(Rung, Climb); 3] = [
    (Rung::TrailingCommas, without_trailing_commas),
    (Rung::Quotes, with_double_quotes),
    (Rung::Escapes, with_json_escapes),
];

/// A text that is JSON now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Repaired {
    pub(crate) canonical: Vec<u8>,
    /// Those that changed something, in order.
    pub(crate) rungs: Vec<Rung>,
}

/// Climbs the ladder. `None`: no rung leads to JSON.
///
/// # Errors
/// What the door refuses once the syntax is right: a repair does not make an unsafe integer safe.
pub(crate) fn repair(text: &str, limits: &Limits) -> Result<Option<Repaired>, door::Refusal> {
    let unescaped = unescaped_once(text);
    let mut rungs: Vec<Rung> = unescaped.iter().map(|_| Rung::Escapes).collect();
    let mut current = unescaped.unwrap_or_else(|| text.to_owned());
    let mut next = LADDER.into_iter();
    loop {
        let mut canonical = Vec::with_capacity(current.len());
        match door::canonicalise(current.as_bytes(), limits, &mut canonical) {
            Ok(()) => return Ok(Some(Repaired { canonical, rungs })),
            Err(refusal) if refusal.code == DoorCode::Malformed => {}
            Err(refusal) => return Err(refusal),
        }
        let Some((rung, step)) = next.next() else { return Ok(None) };
        let climbed = step(&current);
        if climbed != current && !rungs.contains(&rung) {
            rungs.push(rung);
        }
        current = climbed;
    }
}

/// The document that this text is once its escapes are taken away, where its first quote outside a string is escaped.
pub(crate) fn unescaped_once(text: &str) -> Option<String> {
    let inside = text.trim_start().strip_prefix(['{', '['])?;
    if !inside.trim_start().starts_with('\\') {
        return None;
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character != '\\' {
            out.push(character);
            continue;
        }
        out.push(match rest.next()? {
            same @ ('"' | '\'' | '\\' | '/') => same,
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'u' => utf16(&mut rest)?,
            _ => return None,
        });
    }
    Some(out)
}

/// What follows `\u`: four hex digits, or two times four that make a pair.
fn utf16(rest: &mut std::str::Chars<'_>) -> Option<char> {
    let first = hex(rest, 4)?;
    if !(0xd800..0xdc00).contains(&first) {
        return char::from_u32(first);
    }
    let is_pair = rest.next() == Some('\\') && rest.next() == Some('u');
    let second = hex(rest, 4).filter(|second| is_pair && (0xdc00..0xe000).contains(second))?;
    char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00))
}

fn hex(rest: &mut std::str::Chars<'_>, digits: usize) -> Option<u32> {
    (0..digits).try_fold(0_u32, |value, _| Some(value << 4 | rest.next()?.to_digit(16)?))
}

/// A comma that follows an element and is followed by the end of its container.
fn without_trailing_commas(text: &str) -> String {
    let mut before = '[';
    rewritten(text, |piece, out| match piece {
        Piece::Outside(outside) => {
            for (at, character) in outside.char_indices() {
                let after = outside.get(at + character.len_utf8()..).unwrap_or_default().trim_start();
                let is_trailing = character == ',' && after.starts_with(['}', ']']);
                if !is_trailing || matches!(before, '[' | '{' | ',' | ':') {
                    out.push(character);
                }
                if !character.is_whitespace() {
                    before = character;
                }
            }
        }
        Piece::Text { quote, inside } => {
            before = *quote;
            push_text(*quote, inside, out);
        }
    })
}

fn with_double_quotes(text: &str) -> String {
    rewritten(text, |piece, out| match piece {
        Piece::Text { quote: '\'', inside } => {
            let mut doubled = String::with_capacity(inside.len());
            let mut rest = inside.chars();
            while let Some(character) = rest.next() {
                match (character, rest.clone().next()) {
                    ('\\', Some('\'')) => {
                        rest.next();
                        doubled.push('\'');
                    }
                    ('\\', Some(escaped)) => {
                        rest.next();
                        doubled.extend(['\\', escaped]);
                    }
                    ('"', _) => doubled.push_str("\\\""),
                    (other, _) => doubled.push(other),
                }
            }
            push_text('"', &doubled, out);
        }
        Piece::Text { quote, inside } => push_text(*quote, inside, out),
        Piece::Outside(outside) => out.push_str(outside),
    })
}

fn with_json_escapes(text: &str) -> String {
    rewritten(text, |piece, out| match piece {
        Piece::Text { quote, inside } => {
            let mut escaped = String::with_capacity(inside.len());
            let mut rest = inside.chars();
            while let Some(character) = rest.next() {
                if character != '\\' {
                    match character {
                        '\0'..='\u{1f}' => push_escaped(character, &mut escaped),
                        plain => escaped.push(plain),
                    }
                    continue;
                }
                let mut ahead = rest.clone();
                let meant = match ahead.next() {
                    Some('\'') => Some('\''),
                    Some('x') => hex(&mut ahead, 2).and_then(char::from_u32),
                    Some('U') => hex(&mut ahead, 8).and_then(char::from_u32),
                    _ => None,
                };
                match meant {
                    Some(meant) => {
                        push_escaped(meant, &mut escaped);
                        rest = ahead;
                    }
                    None => {
                        escaped.push('\\');
                        escaped.extend(rest.next());
                    }
                }
            }
            push_text(*quote, &escaped, out);
        }
        Piece::Outside(outside) => out.push_str(outside),
    })
}

fn rewritten(text: &str, mut write: impl FnMut(&Piece<'_>, &mut String)) -> String {
    let mut out = String::with_capacity(text.len());
    pieces(text).iter().for_each(|piece| write(piece, &mut out));
    out
}

fn push_text(quote: char, inside: &str, out: &mut String) {
    out.push(quote);
    out.push_str(inside);
    out.push(quote);
}

/// A character as it stands inside a JSON string.
fn push_escaped(character: char, out: &mut String) {
    let mut quoted = Vec::new();
    write_string(character.encode_utf8(&mut [0; 4]), &mut quoted);
    let inside = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
    out.push_str(&String::from_utf8_lossy(inside));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn climb(text: &str) -> Option<(String, Vec<Rung>)> {
        let repaired = repair(text, &Limits::default()).unwrap()?;
        Some((String::from_utf8(repaired.canonical).unwrap(), repaired.rungs))
    }

    #[test]
    fn each_fault_is_put_right_by_its_rung() {
        use Rung::{Escapes, Quotes, TrailingCommas};
        for (text, json, rungs) in [
            (r#"{"a":[1,2,],"b":",]",}"#, r#"{"a":[1,2],"b":",]"}"#, vec![TrailingCommas]),
            ("{\"a\": 1 ,\n }", r#"{"a":1}"#, vec![TrailingCommas]),
            (
                r#"{'a': 'it\'s', 'b': "don't", 'c': 'say "hi"'}"#,
                r#"{"a":"it's","b":"don't","c":"say \"hi\""}"#,
                vec![Quotes],
            ),
            (r#"{'a': [1,],}"#, r#"{"a":[1]}"#, vec![TrailingCommas, Quotes]),
            ("{\"a\":\"one\ntwo\tthree\"}", r#"{"a":"one\ntwo\tthree"}"#, vec![Escapes]),
            (r#"{"a":"it\'s \x41\U0001F600\x22"}"#, "{\"a\":\"it's A😀\\\"\"}", vec![Escapes]),
            (r#"{\"a\": \"caf\u00e9 \\n\", \"b\": [1]}"#, r#"{"a":"café \n","b":[1]}"#, vec![Escapes]),
            (r#"{\n  \"a\": \"\ud83d\ude00\",\n}"#, r#"{"a":"😀"}"#, vec![Escapes, TrailingCommas]),
            ("{'a': 'x\ny',}", r#"{"a":"x\ny"}"#, vec![TrailingCommas, Quotes, Escapes]),
        ] {
            assert_eq!(climb(text), Some((json.to_owned(), rungs)), "{text}");
        }
    }

    #[test]
    fn what_could_be_meant_in_two_ways_is_not_repaired() {
        for text in [
            "",
            "{",
            "[1",
            "{\"a\":",
            "[1,,2]",
            "[1,,]",
            "[,]",
            "{,}",
            "{\"a\":,}",
            "{\"a\" 1}",
            "{\"a\":1 \"b\":2}",
            "{'it's': 1}",
            "{a: 1}",
            "{\"a\": True}",
            "{\"a\":\"\\q\"}",
            "{\"a\":\"\\xZZ\"}",
            "{\"a\":1}}",
            "{\"a\":1,250}",
            "{\\\"a\\\": \\q}",
            "{\\\"a\\\":\\\"\\ud800\\\"}",
            "'",
            "\"",
        ] {
            assert_eq!(climb(text), None, "{text}");
        }
    }

    #[test]
    fn the_strict_door_reads_the_result() {
        for (text, code) in [
            (r#"{"a":1,"a":2,}"#, DoorCode::DuplicateName),
            (r#"{'a': 9007199254740993}"#, DoorCode::UnsafeInteger),
            (r#"{'a': '\ud800'}"#, DoorCode::LoneSurrogate),
        ] {
            assert_eq!(repair(text, &Limits::default()).unwrap_err().code, code, "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_repaired_to_json_or_left(text in "[\\[\\]{}:,'\"\\\\ax1u0 \\n]{0,40}") {
            if let Ok(Some(repaired)) = repair(&text, &Limits::default()) {
                let mut again = Vec::new();
                door::canonicalise(&repaired.canonical, &Limits::default(), &mut again).unwrap();
                prop_assert_eq!(again, repaired.canonical);
            }
        }
    }
}
