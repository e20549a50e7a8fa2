//! Published vectors, refusals with their places, and properties against an independent implementation.

use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::{Map, Value};

use super::*;
use crate::digest::digest_of;

fn canonical(bytes: &[u8]) -> Result<String, Refusal> {
    let mut out = b"before".to_vec();
    match canonicalise(bytes, &Limits::default(), &mut out) {
        Ok(()) => Ok(String::from_utf8(out.split_off(6)).unwrap()),
        Err(refusal) => {
            assert_eq!(out, b"before", "a refusal leaves nothing behind");
            Err(refusal)
        }
    }
}

#[test]
fn numbers_keep_their_value_or_are_refused() {
    let kept = [
        ("0", "0"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("0e400", "0"),
        ("-0.000e-400", "0"),
        ("1e30", "1e+30"),
        ("1e21", "1e+21"),
        ("333333333.33333329", "333333333.3333333"),
        ("1E-7", "1e-7"),
        ("0.000001", "0.000001"),
        ("4.50", "4.5"),
        ("2e-3", "0.002"),
        ("10e2", "1000"),
        ("9007199254740991", "9007199254740991"),
        ("-9007199254740991", "-9007199254740991"),
        ("9007199254740991.0", "9007199254740991"),
        ("999999999999999", "999999999999999"),
        ("-99999999999999", "-99999999999999"),
        ("5e-324", "5e-324"),
        ("1.7976931348623157e308", "1.7976931348623157e+308"),
    ];
    for (written, expected) in kept {
        assert_eq!(canonical(written.as_bytes()).as_deref(), Ok(expected), "{written}");
    }
    let refused = [
        ("9007199254740992", DoorCode::UnsafeInteger),
        ("9007199254740993", DoorCode::UnsafeInteger),
        ("-9007199254740992", DoorCode::UnsafeInteger),
        ("999999999999999999999", DoorCode::UnsafeInteger),
        ("1000000000000000000000000", DoorCode::UnsafeInteger),
        ("1e20", DoorCode::UnsafeInteger),
        ("1.5e20", DoorCode::UnsafeInteger),
        ("9007199254740992.0", DoorCode::UnsafeInteger),
        ("1e309", DoorCode::NumberOverflow),
        ("-1e309", DoorCode::NumberOverflow),
        ("1e-400", DoorCode::NumberUnderflow),
        ("-2e-324", DoorCode::NumberUnderflow),
    ];
    for (written, code) in refused {
        assert_eq!(canonical(written.as_bytes()).unwrap_err().code, code, "{written}");
    }
    assert_eq!(canonical("9".repeat(400).as_bytes()).unwrap_err().code, DoorCode::NumberOverflow);
}

#[test]
fn what_is_not_rfc_8259_is_malformed() {
    let texts: &[&[u8]] = &[
        b"",
        b" ",
        b"\xef\xbb\xbf{}",
        b"\"\xff\"",
        b"\"\xed\xa0\x80\"",
        b"\"\xc0\x80\"",
        b"nul",
        b"nulls",
        b"True",
        b"01",
        b"-",
        b"+1",
        b".5",
        b"1.",
        b"1e",
        b"1e+",
        b"0x10",
        b"NaN",
        b"-Infinity",
        b"[1,]",
        b"[,1]",
        b"[1 2]",
        b"[1",
        b"]",
        b"{\"a\":1,}",
        b"{,}",
        b"{\"a\"}",
        b"{\"a\":}",
        b"{a:1}",
        b"{'a':1}",
        b"{\"a\":1]",
        b"[1}",
        b"{} {}",
        b"1 2",
        b"\"a",
        b"\"\\x\"",
        b"\"\\u12\"",
        b"\"\\u12g4\"",
        b"\"\\ud800\\u12\"",
        b"\"\n\"",
        b"\"\0\"",
        b"\"\\",
        b"// c\n1",
        b"\x0b1",
        b"\xc2\xa01",
        b"{1:2}",
        b"[\"a\":1]",
    ];
    for text in texts {
        let refusal = canonical(text).unwrap_err();
        assert_eq!(refusal.code, DoorCode::Malformed, "{}", String::from_utf8_lossy(text));
        assert_eq!(refusal.code.problem_code(), "malformed_json");
    }
}

#[test]
fn refusals_name_their_code_and_pointer() {
    let cases: &[(&str, DoorCode, &str)] = &[
        (r#"{"a":1,"a":2}"#, DoorCode::DuplicateName, "/a"),
        (r#"{"b":1,"a":2,"b":3}"#, DoorCode::DuplicateName, "/b"),
        (r#"{"x":[0,{"a":1,"\u0061":2}]}"#, DoorCode::DuplicateName, "/x/1/a"),
        (r#"{"":{"/":1,"~":2,"/":3}}"#, DoorCode::DuplicateName, "//~1"),
        (r#"{"z":{"a":0,"a~b/c":"\ud800"}}"#, DoorCode::LoneSurrogate, "/z/a~0b~1c"),
        (r#"["a","\udc00"]"#, DoorCode::LoneSurrogate, "/1"),
        (r#"["\ud800\ud800"]"#, DoorCode::LoneSurrogate, "/0"),
        (r#"["\ud800x"]"#, DoorCode::LoneSurrogate, "/0"),
        (r#"{"ok":{"k":1,"\udfff":2}}"#, DoorCode::LoneSurrogate, "/ok"),
        ("{\"a\":[\"\u{fffe}\"]}", DoorCode::Noncharacter, "/a/0"),
        ("{\"a\":\"\u{10ffff}\"}", DoorCode::Noncharacter, "/a"),
        ("{\"a\":\"\u{fdd0}\"}", DoorCode::Noncharacter, "/a"),
        ("{\"a\":{\"\u{fdef}\":1}}", DoorCode::Noncharacter, "/a"),
        (r#"{"a":"\ufdd0"}"#, DoorCode::Noncharacter, "/a"),
        (r#"{"a":"\ud83f\udfff"}"#, DoorCode::Noncharacter, "/a"),
        (r#"{"lines":[{"price":1e20}]}"#, DoorCode::UnsafeInteger, "/lines/0/price"),
        (r#"{"a":1,"b":[1,2,1e999]}"#, DoorCode::NumberOverflow, "/b/2"),
        (r#"[[],{"q":1e-999}]"#, DoorCode::NumberUnderflow, "/1/q"),
        (r#"{"a":{"b":tru}}"#, DoorCode::Malformed, "/a/b"),
    ];
    for (text, code, pointer) in cases {
        let refusal = canonical(text.as_bytes()).unwrap_err();
        assert_eq!((refusal.code, refusal.pointer.as_str()), (*code, *pointer), "{text}");
        let mut out = Vec::new();
        let inner = canonicalise_at("/payload", text.as_bytes(), &Limits::default(), &mut out).unwrap_err();
        assert_eq!(inner.pointer, format!("/payload{pointer}"));
    }
    assert_eq!(canonical(br#"{"a":1,"b":2,"a":3}"#).unwrap_err().offset, 13);
}

#[test]
fn characters_beside_noncharacters_pass() {
    let text = "\"\u{fdcf}\u{fdf0}\u{fffd}\u{1fffd}\u{20000}\u{10fffd}\u{feff}\u{e000}\"";
    assert_eq!(canonical(text.as_bytes()).as_deref(), Ok(text));
}

#[test]
fn depth_counts_containers_and_any_depth_is_survived() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(canonical(nested(64).as_bytes()).is_ok());
    let refusal = canonical(nested(65).as_bytes()).unwrap_err();
    assert_eq!((refusal.code, refusal.pointer), (DoorCode::TooDeep, "/0".repeat(64)));
    assert_eq!(refusal.code.problem_code(), "payload_too_deep");
    assert_eq!(canonical("[".repeat(500_000).as_bytes()).unwrap_err().code, DoorCode::TooDeep);
    let unbounded = Limits { depth_max: usize::MAX, canonical_bytes_max: usize::MAX };
    let mut out = Vec::new();
    canonicalise(nested(500_000).as_bytes(), &unbounded, &mut out).unwrap();
    assert_eq!(out.len(), 1_000_000);
    assert!(members(format!("{{\"a\":{}}}", nested(500_000)).as_bytes()).is_ok());
}

#[test]
fn size_is_that_of_the_canonical_form() {
    let fits = format!("  [ \"{}\" ]  ", "a".repeat(256 * 1024 - 4));
    assert_eq!(canonical(fits.as_bytes()).unwrap().len(), 256 * 1024);
    let refusal = canonical(fits.replace("\" ]", "a\" ]").as_bytes()).unwrap_err();
    assert_eq!((refusal.code, refusal.pointer.as_str()), (DoorCode::TooLarge, ""));
    assert_eq!(refusal.code.problem_code(), "payload_too_large");
    let numbers = format!("[{}1]", "1e30,".repeat(52_000));
    assert_eq!(canonical(numbers.as_bytes()).unwrap_err().code, DoorCode::TooLarge);
}

#[test]
fn members_are_ordered_by_utf16_at_every_level() {
    let text =
        r#"{"\ufb33":1,"\ud83d\ude00":{"b":[{"y":1,"x":2}],"a":"\/\u0007\u001F\u00e9"},"":0,"\r":1,"1":2,"\u0080":3}"#;
    let expected = "{\"\":0,\"\\r\":1,\"1\":2,\"\u{80}\":3,\"😀\":{\"a\":\"/\\u0007\\u001fé\",\"b\":[{\"x\":2,\"y\":1}]},\"\u{fb33}\":1}";
    assert_eq!(canonical(text.as_bytes()).as_deref(), Ok(expected));
}

#[test]
fn members_gives_names_and_raw_ranges() {
    let text = br#" { "payload" : {"b": [1, "}\"]"], "a":2 } ,"p\u0061th":"x\\" , "n":-1.50e1, "t":true} "#;
    let found = members(text).unwrap();
    let read: Vec<(&str, &str)> =
        found.iter().map(|(name, range)| (name.as_str(), std::str::from_utf8(&text[range.clone()]).unwrap())).collect();
    let expected =
        [("payload", r#"{"b": [1, "}\"]"], "a":2 }"#), ("path", r#""x\\""#), ("n", "-1.50e1"), ("t", "true")];
    assert_eq!(read, expected);
    assert_eq!(members(b"{}"), Ok(vec![]));
    let twice = members(br#"{"a":1,"b":2,"\u0061":3}"#).unwrap_err();
    assert_eq!((twice.code, twice.pointer.as_str()), (DoorCode::DuplicateName, "/a"));
    for bad in [
        "",
        "[]",
        "1",
        "{",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":}",
        "{\"a\":1,}",
        "{\"a\":1 2}",
        "{\"a\":[1}",
        "{}x",
        "{\"a\":\"x}",
        "{\"a\":,}",
    ] {
        assert_eq!(members(bad.as_bytes()).map_err(|refusal| refusal.code), Err(DoorCode::Malformed), "{bad}");
    }
}

#[test]
fn elements_gives_raw_ranges() {
    let text = br#" [ {"a":[1,2]} ,"]", 3,[] ] "#;
    let found: Vec<&[u8]> = elements(text).unwrap().into_iter().map(|range| &text[range]).collect();
    assert_eq!(found, [&br#"{"a":[1,2]}"#[..], br#""]""#, b"3", b"[]"]);
    assert_eq!(elements(b"[]"), Ok(vec![]));
    for bad in ["", "{}", "[", "[1", "[1,]", "[,]", "[1 2]", "[]x", "[}"] {
        assert_eq!(elements(bad.as_bytes()).map_err(|refusal| refusal.code), Err(DoorCode::Malformed), "{bad}");
    }
}

fn test_data() -> Option<PathBuf> {
    match std::env::var_os("COUNTERSIGN_TEST_DATA") {
        Some(folder) => Some(folder.into()),
        None => {
            let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
            println!("COUNTERSIGN_TEST_DATA is not set: the published vectors were not tried");
            assert!(!in_ci, "COUNTERSIGN_TEST_DATA must be set in CI");
            None
        }
    }
}

#[test]
fn the_vectors_of_the_author_of_rfc_8785_come_out_byte_for_byte() {
    let Some(folder) = test_data().map(|data| data.join("jcs-author")) else { return };
    let mut tried = 0;
    for entry in std::fs::read_dir(folder.join("input")).unwrap() {
        let input = entry.unwrap().path();
        let expected = std::fs::read_to_string(folder.join("output").join(input.file_name().unwrap())).unwrap();
        let found = canonical(&std::fs::read(&input).unwrap()).unwrap();
        assert_eq!(found, expected.trim_end(), "{}", input.display());
        tried += 1;
    }
    assert!(tried >= 6);
}

#[test]
fn real_documents_have_the_digests_that_others_computed() {
    let Some(data) = test_data() else { return };
    let documents = std::fs::read_to_string(data.join("payloads.jsonl")).unwrap();
    let index = std::fs::read_to_string(data.join("payloads.index.tsv")).unwrap();
    let cids = index.lines().skip(1).map(|row| row.rsplit('\t').next().unwrap());
    assert_eq!(documents.lines().count(), index.lines().count() - 1);
    for (number, (document, cid)) in documents.lines().zip(cids).enumerate() {
        let found = digest_of(canonical(document.as_bytes()).unwrap().as_bytes());
        assert_eq!(found.to_string(), cid, "line {}", number + 1);
    }
}

/// Documents that pass the door, biased towards names whose order is hard.
fn documents() -> impl Strategy<Value = Value> {
    let safe = |number: f64| {
        let passes = number.is_finite() && !(number.abs() > 9_007_199_254_740_991.0 && number.abs() < 1e21);
        if passes { number } else { 0.5 }
    };
    let text =
        prop_oneof!["[ab\"\\\\\u{8}\n\u{1f}é\u{e000}\u{fffd}😀]{0,5}", any::<String>()].prop_map(|text: String| {
            text.chars()
                .filter(|&c| u32::from(c) & 0xfffe != 0xfffe && !('\u{fdd0}'..='\u{fdef}').contains(&c))
                .collect::<String>()
        });
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-9_007_199_254_740_991_i64..=9_007_199_254_740_991).prop_map(Value::from),
        any::<f64>().prop_map(move |number| Value::from(safe(number))),
        text.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 8, move |inner| {
        let member = (text.clone(), inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..8).prop_map(Value::from),
            prop::collection::vec(member, 0..8)
                .prop_map(|members| Value::from(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// The document as another program might have written it: members in reverse, everything escaped, much space.
fn write_oddly(value: &Value, out: &mut String) {
    let escaped = |text: &str| text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect::<String>();
    match value {
        Value::Object(members) => {
            let parts: Vec<String> = members
                .iter()
                .rev()
                .map(|(name, value)| {
                    let mut text = format!("\t\"{}\" :\r\n", escaped(name));
                    write_oddly(value, &mut text);
                    text
                })
                .collect();
            out.push_str(&format!("{{ {} }}", parts.join(" ,")));
        }
        Value::Array(items) => {
            let parts: Vec<String> = items
                .iter()
                .map(|item| {
                    let mut text = String::new();
                    write_oddly(item, &mut text);
                    text
                })
                .collect();
            out.push_str(&format!("[ {} ]", parts.join("\n,")));
        }
        Value::String(text) => out.push_str(&format!("\"{}\"", escaped(text))),
        other => out.push_str(&format!(" {other} ")),
    }
}

proptest! {
    #[test]
    fn the_output_is_that_of_another_implementation_however_it_was_written(document in documents()) {
        let expected = serde_json_canonicalizer::to_string(&document).unwrap();
        prop_assert_eq!(canonical(document.to_string().as_bytes()), Ok(expected.clone()));
        let mut oddly = String::new();
        write_oddly(&document, &mut oddly);
        prop_assert_eq!(canonical(oddly.as_bytes()), Ok(expected.clone()));
        prop_assert_eq!(canonical(expected.as_bytes()), Ok(expected), "the canonical form is a fixed point");
    }

    #[test]
    fn no_input_panics_and_what_passes_is_json(bytes in prop::collection::vec(prop::sample::select(br#"{}[]",:\u0d8e1-+.Et rfalsn"#.to_vec()), 0..60)) {
        if let Ok(text) = canonical(&bytes) {
            prop_assert!(serde_json::from_str::<Value>(&text).is_ok());
            prop_assert_eq!(canonical(text.as_bytes()), Ok(text));
        }
        if canonical(&bytes).is_ok() && bytes.contains(&b'{') && bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{') {
            prop_assert!(members(&bytes).is_ok());
        }
    }

    #[test]
    fn any_bytes_are_answered(bytes in any::<Vec<u8>>()) {
        let _ = canonical(&bytes);
        let _ = members(&bytes);
    }
}
