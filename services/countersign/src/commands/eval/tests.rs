//! The filter itself, and the published examples; beside them each function, and hostile input.

mod functions;
mod hostile;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use clap::ValueEnum as _;
use serde_json::{Value, json};

use super::*;

fn all_functions() -> impl Iterator<Item = Function> {
    Function::value_variants().iter().copied()
}

fn named(name: &str) -> Function {
    Function::from_str(name, false).unwrap()
}

fn ask(function: &str, request: &Value) -> Value {
    serde_json::from_str(&named(function).answer(request.to_string().as_bytes())).unwrap()
}

#[track_caller]
fn refused(function: &str, request: &Value, code: &str, pointer: &str) {
    let answer = ask(function, request);
    assert_eq!(
        (answer["error"]["code"].as_str(), answer["error"]["pointer"].as_str()),
        (Some(code), Some(pointer)),
        "{answer}"
    );
    assert!(answer["error"]["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{answer}");
}

fn lines(input: &[u8]) -> Vec<String> {
    let mut output = Vec::new();
    filter(input, &mut output, |line| format!("{}", line.len())).unwrap();
    String::from_utf8(output).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn every_line_has_one_answer_in_order() {
    assert_eq!(lines(b""), [""; 0]);
    assert_eq!(lines(b"a\nbc\n\nd"), ["1", "2", "0", "1"]);
    assert_eq!(lines(b"a\n"), ["1"]);
    assert_eq!(lines(b"\n"), ["0"]);
    let piece = "x".repeat(PIECE_BYTES);
    assert_eq!(
        lines(format!("{piece}{piece}\n{piece}").as_bytes()),
        [(2 * PIECE_BYTES).to_string(), PIECE_BYTES.to_string()]
    );
}

#[test]
fn a_line_without_end_is_answered_in_bounded_memory_and_the_next_one_is_read() {
    let mut input = vec![b'x'; LINE_BYTES_MAX];
    input.push(b'\n');
    input.extend(std::iter::repeat_n(b'y', LINE_BYTES_MAX + 1));
    input.extend_from_slice(b"\nz\n");
    let answers = lines(&input);
    assert_eq!([answers[0].as_str(), answers[2].as_str()], [LINE_BYTES_MAX.to_string().as_str(), "1"]);
    assert!(answers[1].contains("payload_too_large"), "{}", answers[1]);
    let mut endless = Lines { pending: Vec::new(), is_skipping: false };
    for _ in 0..10 * LINE_BYTES_MAX / PIECE_BYTES {
        endless.keep(&[b'x'; PIECE_BYTES]);
        assert!(endless.pending.capacity() <= 2 * LINE_BYTES_MAX);
    }
    let mut answers = Vec::new();
    endless.end(|_| String::new(), &mut answers);
    assert!(String::from_utf8(answers).unwrap().contains("payload_too_large"));
}

/// Gives pieces one by one; before each it notes what has been answered.
struct Pieces {
    left: VecDeque<&'static [u8]>,
    output: Output,
    answered_before: Vec<usize>,
}

#[derive(Clone, Default)]
struct Output(Rc<RefCell<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.answered_before.push(self.output.0.borrow().iter().filter(|byte| **byte == b'\n').count());
        let piece = self.left.pop_front().unwrap_or_default();
        into[..piece.len()].copy_from_slice(piece);
        Ok(piece.len())
    }
}

#[test]
fn what_can_be_answered_is_answered_before_more_is_waited_for() {
    let output = Output::default();
    let left = VecDeque::from([&b"1\n2\n3"[..], b"3\n", b"4", b"4"]);
    let mut pieces = Pieces { left, output: output.clone(), answered_before: Vec::new() };
    filter(&mut pieces, output.clone(), |line| String::from_utf8_lossy(line).into_owned()).unwrap();
    assert_eq!(pieces.answered_before, [0, 2, 3, 3, 3]);
    assert_eq!(output.0.borrow().as_slice(), b"1\n2\n33\n44\n");
}

#[test]
fn the_protocol_s_own_example_comes_out() {
    let answer = named("fee").answer(br#"{"currency":"USD","gross_minor":"9900","volume_minor":"0"}"#);
    assert_eq!(answer, r#"{"ok":{"fee_minor":"305","net_minor":"9595"}}"#);
}

#[test]
fn all_functions_are_listed_and_have_examples_that_are_answered() {
    let expected = "canonicalize exchange-id fee split tiers payout credits minor-units ssrf-address ssrf-url webhook-sign webhook-verify compat-hash";
    assert_eq!(listed().split_whitespace().collect::<Vec<_>>(), expected.split(' ').collect::<Vec<_>>());
    for function in all_functions() {
        let pairs = examples(function);
        assert!(pairs.contains("\"ok\""), "{pairs}");
        for pair in pairs.lines() {
            let pair: Value = serde_json::from_str(pair).unwrap();
            let mut again: Value =
                serde_json::from_str(&function.answer(pair["request"].to_string().as_bytes())).unwrap();
            assert_eq!(again, pair["answer"]);
            again.as_object_mut().unwrap().remove("id");
            assert_eq!(again.as_object().unwrap().len(), 1);
        }
    }
}

#[test]
fn the_id_comes_back_beside_ok_and_error() {
    let fee = |request: &str| named("fee").answer(request.as_bytes());
    let good = r#""currency":"USD","gross_minor":"0","volume_minor":"0"}"#;
    let ok = r#""ok":{"fee_minor":"0","net_minor":"0"}}"#;
    for id in ["\"a\"", "7", "null", "[1,{\"b\":2}]", "\"\\u0001é\""] {
        assert_eq!(fee(&format!("{{\"id\":{id},{good}")), format!("{{\"id\":{id},{ok}"));
        assert!(fee(&format!("{{\"id\":{id}}}")).starts_with(r#"{"error":{"code":"invalid_request""#));
        assert!(fee(&format!("{{\"id\":{id}}}")).ends_with(&format!("\"id\":{id}}}")));
        let twice = fee(&format!("{{\"x\":1,\"id\":{id},\"x\":1}}"));
        assert!(twice.contains("duplicate_name"), "{twice}");
    }
    let inside: Value = serde_json::from_str(&fee(r#"{"id":5,"schedule":{"a":1,"a":2}}"#)).unwrap();
    assert_eq!((&inside["id"], &inside["error"]["pointer"]), (&json!(5), &json!("/schedule/a")));
}

#[test]
fn a_line_that_is_no_request_is_refused() {
    for function in all_functions() {
        let code = |line: &[u8]| {
            let answer: Value = serde_json::from_str(&function.answer(line)).unwrap();
            (
                answer["error"]["code"].as_str().unwrap().to_owned(),
                answer["error"]["pointer"].as_str().unwrap().to_owned(),
            )
        };
        for line in [
            &b""[..],
            b" ",
            b"\r",
            b"nul",
            b"{",
            b"{}{}",
            b"\xff",
            b"{\"a\":\"\xc3\"}",
            b"\xef\xbb\xbf{}",
            b"\0",
            b"{'a':1}",
        ] {
            assert_eq!(code(line).0, "malformed_json", "{line:?}");
        }
        for line in [&b"[]"[..], b"1", b"null", b"\"\"", b"[{}]"] {
            assert_eq!(code(line), ("invalid_request".to_owned(), String::new()), "{line:?}");
        }
        assert_eq!(code(br#"{"a":1,"a":1}"#), ("not_i_json".to_owned(), "/a".to_owned()));
        assert_eq!(code(br#"{"a":1e20}"#), ("not_i_json".to_owned(), "/a".to_owned()));
        assert_eq!(code(br#"{"a":"\ud800"}"#), ("not_i_json".to_owned(), "/a".to_owned()));
        assert_eq!(code(&[b"{\"a\":", "[".repeat(70).as_bytes()].concat()).0, "payload_too_deep");
        assert_eq!(code(br#"{"~/":1}"#), ("invalid_request".to_owned(), "/~0~1".to_owned()));
    }
}

#[test]
fn the_published_examples_come_out() {
    let Some(folder) = std::env::var_os("COUNTERSIGN_TEST_DATA") else {
        println!("COUNTERSIGN_TEST_DATA is not set: the published examples were not tried");
        assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "COUNTERSIGN_TEST_DATA must be set in CI");
        return;
    };
    let mut tried = 0;
    for entry in std::fs::read_dir(std::path::Path::new(&folder).join("examples")).unwrap() {
        let path = entry.unwrap().path();
        let function = path.file_stem().unwrap().to_str().unwrap();
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            let row: Value = serde_json::from_str(line).unwrap();
            let answer = ask(function, &row["request"]);
            for (name, expected) in row["expected"].as_object().unwrap() {
                assert_eq!(&answer["ok"][name], expected, "{function} {}: {answer}", row["id"]);
            }
            tried += 1;
        }
    }
    assert!(tried >= 136, "{tried}");
}
