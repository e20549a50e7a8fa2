//! The writing half of RFC 8785: strings, numbers and the order of members.

use std::cmp::Ordering;

/// Appends a string with the escapes of RFC 8785 section 3.2.2.2: the shortest ones, and no others.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    out.push(b'"');
    while let Some(at) = rest.iter().position(|&byte| needs_escape(byte)) {
        let (plain, from) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((&byte, after)) = from.split_first() else { break };
        write_escape(byte, out);
        rest = after;
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// Appends a number as ECMAScript does (RFC 8785 section 3.2.2.3). The number is finite, or the text is no JSON.
pub fn write_number(number: f64, out: &mut Vec<u8>) {
    out.extend_from_slice(ryu_js::Buffer::new().format(number).as_bytes());
}

/// Whether a byte cannot stand for itself inside a string.
pub(crate) fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Appends the escape of a byte that needs one.
pub(crate) fn write_escape(byte: u8, out: &mut Vec<u8>) {
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        0x09 => b't',
        0x0a => b'n',
        0x0c => b'f',
        0x0d => b'r',
        _ => {
            let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Compares two UTF-8 texts by their UTF-16 code units (RFC 8785 section 3.2.3), without converting them.
///
/// Both orders agree but for one case: characters above U+FFFF (first byte from F0) are surrogate pairs in
/// UTF-16 and come before U+E000 to U+FFFF (first byte EE or EF).
pub(crate) fn compare_utf16(left: &[u8], right: &[u8]) -> Ordering {
    let rank = |byte: u8| if byte == 0xee || byte == 0xef { byte + 0x10 } else { byte };
    match left.iter().zip(right).find(|(a, b)| a != b) {
        Some((&a, &b)) => rank(a).cmp(&rank(b)),
        None => left.len().cmp(&right.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn strings_are_written_as_the_reference_writes_them(text in any::<String>()) {
            let mut out = Vec::new();
            write_string(&text, &mut out);
            prop_assert_eq!(out, serde_json_canonicalizer::to_vec(&text).unwrap());
        }

        #[test]
        fn the_order_is_that_of_utf16(left in "[a\u{e000}\u{ffff}\u{d7ff}😀é]{0,4}", right in "[a\u{e000}\u{ffff}\u{d7ff}😀é]{0,4}") {
            let expected = left.encode_utf16().cmp(right.encode_utf16());
            prop_assert_eq!(compare_utf16(left.as_bytes(), right.as_bytes()), expected);
        }
    }

    #[test]
    fn control_characters_take_their_shortest_escape() {
        let mut out = Vec::new();
        write_string("\u{0}\u{8}\t\n\u{b}\u{c}\r\u{1f}\"\\/\u{7f}€", &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "\"\\u0000\\b\\t\\n\\u000b\\f\\r\\u001f\\\"\\\\/\u{7f}€\"");
    }
}
