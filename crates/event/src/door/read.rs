//! The tokens of RFC 8259, read strictly and written canonically at once.

use super::{DoorCode, Refusal};
use crate::canonical::{needs_escape, write_escape, write_number};

/// A refusal before its JSON pointer is known.
#[derive(Debug)]
pub(super) struct Fault {
    code: DoorCode,
    detail: &'static str,
    offset: usize,
}

impl Fault {
    pub(super) fn new(code: DoorCode, offset: usize, detail: &'static str) -> Self {
        Self { code, detail, offset }
    }

    /// The refusal, once the place is known.
    pub(super) fn at(self, pointer: String) -> Refusal {
        Refusal { code: self.code, pointer, detail: self.detail.to_owned(), offset: self.offset }
    }

    pub(super) fn code(&self) -> DoorCode {
        self.code
    }
}

/// How a string's characters are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As a JSON string in canonical form, with its quotes.
    Escaped,
    /// As they are.
    Plain,
}

/// The largest integer that binary64 keeps apart from its neighbours, 2^53-1.
const SAFE_INTEGER_MAX: f64 = 9_007_199_254_740_991.0;
/// Integers of up to so many bytes are safe and their own canonical form.
const PLAIN_INTEGER_BYTES: usize = 15;

/// A number as it stands in the text.
pub(super) struct NumberText<'a> {
    text: &'a [u8],
    /// What stands before the exponent.
    mantissa: &'a [u8],
    /// Without fraction and exponent.
    is_written_integer: bool,
}

impl<'a> NumberText<'a> {
    pub(super) fn as_str(&self) -> &'a str {
        // Digits, signs, a point and a letter: all ASCII.
        std::str::from_utf8(self.text).unwrap_or_default()
    }
}

/// A place in the text.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Whether strings may hold noncharacters.
    takes_any_character: bool,
}

impl<'a> Reader<'a> {
    /// Refuses what is not UTF-8 or begins with a byte order mark (docs/contracts/receipt.md section 1).
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, Fault> {
        if bytes.starts_with(b"\xef\xbb\xbf") {
            return Err(Fault::new(DoorCode::Malformed, 0, "the document begins with a byte order mark"));
        }
        match std::str::from_utf8(bytes) {
            Ok(_) => Ok(Self { bytes, at: 0, takes_any_character: false }),
            Err(error) => Err(Fault::new(DoorCode::Malformed, error.valid_up_to(), "the document is not UTF-8")),
        }
    }

    /// From here on strings may hold noncharacters.
    pub(super) fn take_any_character(&mut self) {
        self.takes_any_character = true;
    }

    pub(super) fn offset(&self) -> usize {
        self.at
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    pub(super) fn advance(&mut self) {
        self.at += 1;
    }

    /// Takes the next byte if it is this one.
    pub(super) fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// The next byte that is not white space, without taking it.
    pub(super) fn peek_token(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
        self.peek()
    }

    /// Takes the next token, which must be this byte.
    pub(super) fn expect(&mut self, byte: u8, otherwise: &'static str) -> Result<(), Fault> {
        self.peek_token();
        if self.eat(byte) { Ok(()) } else { Err(self.malformed(otherwise)) }
    }

    /// Nothing but white space may be left.
    pub(super) fn expect_end(&mut self) -> Result<(), Fault> {
        match self.peek_token() {
            None => Ok(()),
            Some(_) => Err(self.malformed("something follows the document")),
        }
    }

    pub(super) fn malformed(&self, detail: &'static str) -> Fault {
        Fault::new(DoorCode::Malformed, self.at, detail)
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or(&[])
    }

    /// `true`, `false` or `null`.
    pub(super) fn literal(&mut self, word: &'static str, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.word(word)?;
        out.extend_from_slice(word.as_bytes());
        Ok(())
    }

    /// As [`Reader::literal`], without writing.
    pub(super) fn word(&mut self, word: &'static str) -> Result<(), Fault> {
        if !self.rest().starts_with(word.as_bytes()) {
            return Err(self.malformed("expected a value"));
        }
        self.at += word.len();
        Ok(())
    }

    /// A string, from its opening quote. Answers whether every character stood for itself.
    pub(super) fn string(&mut self, form: Form, out: &mut Vec<u8>) -> Result<bool, Fault> {
        self.expect(b'"', "expected a string")?;
        if form == Form::Escaped {
            out.push(b'"');
        }
        let mut is_plain = true;
        loop {
            let rest = self.rest();
            let (plain, special) = rest.split_at(plain_run(rest));
            let run = plain.len();
            out.extend_from_slice(plain);
            self.at += run;
            match special.first() {
                None => return Err(self.malformed("the string does not end")),
                Some(b'"') => break,
                Some(b'\\') => {
                    let character = self.escape()?;
                    push_character(character, form, out);
                    is_plain = false;
                }
                Some(0..=0x1f) => return Err(self.malformed("a control character in a string must be escaped")),
                Some(_) => self.wide_character(out)?,
            }
        }
        self.at += 1;
        if form == Form::Escaped {
            out.push(b'"');
        }
        Ok(is_plain)
    }

    /// Goes back to a place where it was.
    pub(super) fn return_to(&mut self, offset: usize) {
        self.at = offset;
    }

    /// A character from U+F000 on, written as itself: noncharacters are among these.
    fn wide_character(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        let length = if self.peek() == Some(0xef) { 3 } else { 4 };
        let encoded = self.rest().get(..length).unwrap_or(&[]);
        // U+FDD0 to U+FDEF, and the last two of every plane.
        let is_noncharacter = match encoded {
            [0xef, 0xb7, 0x90..=0xaf] | [0xef, 0xbf, 0xbe | 0xbf] => true,
            [_, second, 0xbf, 0xbe | 0xbf] => second & 0x0f == 0x0f,
            _ => false,
        };
        if is_noncharacter && !self.takes_any_character {
            return Err(self.noncharacter(self.at));
        }
        out.extend_from_slice(encoded);
        self.at += length;
        Ok(())
    }

    fn noncharacter(&self, offset: usize) -> Fault {
        Fault::new(DoorCode::Noncharacter, offset, "a Unicode noncharacter (RFC 7493 section 2.1)")
    }

    /// One escape sequence, or two that make a surrogate pair.
    fn escape(&mut self) -> Result<char, Fault> {
        let start = self.at;
        self.at += 1;
        let letter = self.peek();
        self.at += 1;
        let character = match letter {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => self.unicode_escape(start)?,
            _ => return Err(Fault::new(DoorCode::Malformed, start, "an unknown escape sequence")),
        };
        let code_point = u32::from(character);
        let is_noncharacter = (0xfdd0..=0xfdef).contains(&code_point) || code_point & 0xfffe == 0xfffe;
        if is_noncharacter && !self.takes_any_character {
            return Err(self.noncharacter(start));
        }
        Ok(character)
    }

    fn unicode_escape(&mut self, start: usize) -> Result<char, Fault> {
        let lone = Fault::new(DoorCode::LoneSurrogate, start, "a surrogate without its other half");
        let first = self.hex4()?;
        let code_point = match first {
            0xd800..=0xdbff if self.rest().starts_with(b"\\u") => {
                self.at += 2;
                let second = self.hex4()?;
                if !(0xdc00..=0xdfff).contains(&second) {
                    return Err(lone);
                }
                0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)
            }
            _ => first,
        };
        // Only surrogates are no `char` here: the largest pair is U+10FFFF.
        char::from_u32(code_point).ok_or(lone)
    }

    fn hex4(&mut self) -> Result<u32, Fault> {
        let digits = self.rest().get(..4).unwrap_or(&[]);
        if digits.len() != 4 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(self.malformed("\\u needs four hex digits"));
        }
        self.at += 4;
        Ok(digits.iter().fold(0, |value, &digit| value << 4 | char::from(digit).to_digit(16).unwrap_or(0)))
    }

    /// A number, by the rule of docs/contracts/receipt.md section 1.
    pub(super) fn number(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        let start = self.at;
        let number = self.number_text()?;
        if number.is_written_integer && number.text.len() <= PLAIN_INTEGER_BYTES {
            out.extend_from_slice(if number.text == b"-0" { b"0" } else { number.text });
            return Ok(());
        }
        write_checked(&number, out).map_err(|(code, detail)| Fault::new(code, start, detail))
    }

    /// A number by its grammar (RFC 8259 section 6) alone.
    pub(super) fn number_text(&mut self) -> Result<NumberText<'a>, Fault> {
        let (start, rest) = (self.at, self.rest());
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        let has_fraction = self.eat(b'.');
        if has_fraction {
            self.digits()?;
        }
        let mantissa_end = self.at;
        let has_exponent = self.eat(b'e') || self.eat(b'E');
        if has_exponent {
            let _sign = self.eat(b'+') || self.eat(b'-');
            self.digits()?;
        }
        let text = rest.get(..self.at - start).unwrap_or_default();
        let mantissa = rest.get(..mantissa_end - start).unwrap_or_default();
        Ok(NumberText { text, mantissa, is_written_integer: !has_fraction && !has_exponent })
    }

    /// At least one digit.
    fn digits(&mut self) -> Result<(), Fault> {
        let run = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        if run == 0 {
            return Err(self.malformed("expected a digit"));
        }
        self.at += run;
        Ok(())
    }

    /// Passes over a value by its quotes and brackets alone; returns where it ended.
    pub(super) fn skip_value(&mut self) -> Result<usize, Fault> {
        let mut open = 0_usize;
        loop {
            match self.peek_token() {
                Some(b'"') => self.skip_string()?,
                Some(b'{' | b'[') => {
                    open += 1;
                    self.at += 1;
                }
                Some(b'}' | b']') if open > 0 => {
                    open -= 1;
                    self.at += 1;
                }
                None | Some(b'}' | b']') => return Err(self.malformed("expected a value")),
                Some(b',' | b':') if open > 0 => self.at += 1,
                Some(_) => self.skip_scalar()?,
            }
            if open == 0 {
                return Ok(self.at);
            }
        }
    }

    fn skip_string(&mut self) -> Result<(), Fault> {
        self.at += 1;
        loop {
            match self.peek() {
                None => return Err(self.malformed("the string does not end")),
                Some(b'"') => break,
                Some(b'\\') => self.at += 2,
                Some(_) => self.at += 1,
            }
        }
        self.at += 1;
        Ok(())
    }

    fn skip_scalar(&mut self) -> Result<(), Fault> {
        let ends =
            |byte: &u8| matches!(byte, b',' | b':' | b'"' | b'{' | b'}' | b'[' | b']' | b' ' | b'\t' | b'\n' | b'\r');
        let rest = self.rest();
        let run = rest.iter().position(ends).unwrap_or(rest.len());
        if run == 0 {
            return Err(self.malformed("expected a value"));
        }
        self.at += run;
        Ok(())
    }
}

fn push_character(character: char, form: Form, out: &mut Vec<u8>) {
    match u8::try_from(character) {
        Ok(byte) if form == Form::Escaped && needs_escape(byte) => write_escape(byte, out),
        _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// Writes a number's ECMAScript form, unless binary64 would change what it says.
fn write_checked(number: &NumberText<'_>, out: &mut Vec<u8>) -> Result<(), (DoorCode, &'static str)> {
    // The grammar was checked: what Rust reads here is the same number, correctly rounded.
    let value = number.as_str().parse::<f64>().map_err(|_| (DoorCode::Malformed, "expected a number"))?;
    if value.is_infinite() {
        return Err((DoorCode::NumberOverflow, "the number is beyond binary64"));
    }
    if value == 0.0 && number.mantissa.iter().any(|byte| (b'1'..=b'9').contains(byte)) {
        return Err((DoorCode::NumberUnderflow, "the number is not zero and becomes zero in binary64"));
    }
    let from = out.len();
    write_number(value, out);
    let is_integer = || number.is_written_integer || !out.iter().skip(from).any(|byte| matches!(byte, b'.' | b'e'));
    if value.abs() > SAFE_INTEGER_MAX && is_integer() {
        return Err((DoorCode::UnsafeInteger, "an integer outside -(2^53-1)..2^53-1; send it as a string"));
    }
    Ok(())
}

/// How many bytes at the beginning stand for themselves in a string and need no look: no quote, backslash or control
/// character, and no first byte of a character from U+F000 on.
fn plain_run(bytes: &[u8]) -> usize {
    let is_special = |byte: &u8| needs_escape(*byte) || *byte >= 0xef;
    let words = bytes.as_chunks::<8>().0.iter();
    // Beyond ASCII it goes on byte by byte.
    let ascii = words.take_while(|word| is_plain_ascii(**word)).count() * 8;
    let rest = bytes.get(ascii..).unwrap_or_default();
    ascii + rest.iter().position(is_special).unwrap_or(rest.len())
}

/// Whether none of eight bytes is a control character, a quote, a backslash, or beyond ASCII: all at once, by the borrow
/// that a subtraction leaves in the highest bit of each byte.
fn is_plain_ascii(word: [u8; 8]) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    let word = u64::from_ne_bytes(word);
    let below = |word: u64, bound: u8| word.wrapping_sub(ONES * u64::from(bound)) & !word;
    let equal = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    (word | below(word, 0x20) | equal(b'"') | equal(b'\\')) & HIGH == 0
}
