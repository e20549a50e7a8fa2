//! `countersign eval` as another program meets it: a process with pipes.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};

fn eval(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command.arg("eval").args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn a_co_process_gets_each_answer_before_it_sends_more() {
    let mut child: Child = eval(&["exchange-id"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut requests = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    for number in 0..3 {
        writeln!(requests, r#"{{"tenant":"acme","idempotency_key":"k","id":{number}}}"#).unwrap();
        let answer = answers.next().unwrap().unwrap();
        assert!(answer.starts_with(&format!(r#"{{"id":{number},"ok":{{"exchange_id":"ex_"#)), "{answer}");
    }
    write!(requests, "not JSON").unwrap();
    drop(requests);
    assert!(answers.next().unwrap().unwrap().contains("malformed_json"));
    assert!(answers.next().is_none());
    assert_eq!(child.wait().unwrap().code(), Some(0), "a refusal is an answer");
}

#[test]
fn the_exit_code_is_2_for_an_unknown_function_and_an_unreadable_stdin() {
    assert_eq!(eval(&["no-such-function"]).status().unwrap().code(), Some(2));
    assert_eq!(eval(&[]).status().unwrap().code(), Some(2));
    let directory = File::open(env!("CARGO_MANIFEST_DIR")).unwrap();
    assert_eq!(eval(&["fee"]).stdin(directory).status().unwrap().code(), Some(2));
    assert_eq!(eval(&["fee"]).status().unwrap().code(), Some(0), "no line, no answer, no failure");
}

#[test]
fn functions_are_listed_and_each_has_examples() {
    let listed = eval(&["--list"]).output().unwrap();
    assert_eq!(listed.status.code(), Some(0));
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert_eq!(listed.lines().count(), 13);
    for function in listed.lines() {
        let examples = eval(&[function, "--example"]).output().unwrap();
        assert_eq!(examples.status.code(), Some(0));
        assert!(String::from_utf8(examples.stdout).unwrap().starts_with(r#"{"request":{"#));
    }
}
