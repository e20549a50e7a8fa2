//! What is sent: request bodies made of the bytes of files, one document after another.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use event::id::TraceId;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::failure::Failure;

/// A line of a sensible size is refused by the door where it is too large; a longer one is not even read.
const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;
const STDIN: &str = "-";

/// A request to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Document {
    /// Where it came from: `file:line`.
    pub(crate) name: String,
    pub(crate) idempotency_key: String,
    pub(crate) body: Vec<u8>,
    /// How much was read for it, for the progress bar.
    pub(crate) bytes_read: u64,
}

/// What a line became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Document(Document),
    /// It has no key, or it would become another request than it says.
    Unsendable {
        name: String,
        why: String,
        bytes_read: u64,
    },
}

impl Line {
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Document(document) => document.bytes_read,
            Self::Unsendable { bytes_read, .. } => *bytes_read,
        }
    }
}

/// What a line means.
#[derive(Clone, Debug)]
pub(super) enum Form {
    /// Each is a payload; its key is `<prefix>-<line>`.
    Payloads { prefix: String, trace: Option<TraceId> },
    /// Each is `{"idempotency_key", "exchange"}`.
    Exchanges,
}

/// Documents of a file, a directory or stdin, in order.
pub(super) struct Source {
    form: Form,
    /// Files that are still to be read, each with what its keys have between prefix and line.
    files: VecDeque<(PathBuf, String)>,
    open: Option<Lines>,
    bytes: Option<u64>,
}

struct Lines {
    reader: Box<dyn BufRead + Send>,
    name: String,
    infix: String,
    number: u64,
}

pub(super) fn is_stdin(path: &Path) -> bool {
    path == Path::new(STDIN)
}

/// What keys of a file begin with where nobody says: its name, so that the same file sent again is the same requests.
pub(super) fn prefix_of(path: &Path) -> String {
    if is_stdin(path) {
        return format!("stdin-{:08x}", rand::random::<u32>());
    }
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    visible(&name.unwrap_or_default().to_string_lossy())
}

/// Keys are visible ASCII.
fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() { c } else { '_' }).collect()
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|known| known == extension)
}

impl Source {
    pub(super) fn open(from: &Path, form: Form) -> Result<Self, Failure> {
        if is_stdin(from) {
            let lines = Lines {
                reader: Box::new(BufReader::new(std::io::stdin())),
                name: "stdin".to_owned(),
                infix: String::new(),
                number: 0,
            };
            return Ok(Self { form, files: VecDeque::new(), open: Some(lines), bytes: None });
        }
        let mut files = Vec::new();
        if from.is_dir() {
            find(from, &mut files)?;
            if files.is_empty() {
                return Err(Failure::new(format!("{} holds no *.json and no *.jsonl", from.display())));
            }
        } else {
            files.push(from.to_owned());
        }
        files.sort();
        let mut bytes = 0;
        let mut named = VecDeque::new();
        for file in files {
            bytes += std::fs::metadata(&file).map_err(|error| unreadable(&file, error))?.len();
            // In a directory the key names the file too.
            let infix = match file.strip_prefix(from) {
                Ok(inside) if from.is_dir() => format!("-{}", visible(&inside.to_string_lossy())),
                _ => String::new(),
            };
            named.push_back((file, infix));
        }
        Ok(Self { form, files: named, open: None, bytes: Some(bytes) })
    }

    /// How much there is to read, where that is known.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.bytes
    }

    fn whole(&self, file: &Path, infix: &str) -> Result<Line, Failure> {
        let text = std::fs::read(file).map_err(|error| unreadable(file, error))?;
        // A single document has no line of its own: it counts as the first, in a directory the file's name says enough.
        let key_end = if infix.is_empty() { "-1" } else { infix };
        Ok(self.line(&text, file.display().to_string(), key_end))
    }

    fn line(&self, text: &[u8], name: String, key_end: &str) -> Line {
        let bytes_read = text.len() as u64;
        match &self.form {
            Form::Payloads { prefix, trace } => match payload(text, trace.as_ref()) {
                Ok(body) => {
                    Line::Document(Document { name, idempotency_key: format!("{prefix}{key_end}"), body, bytes_read })
                }
                Err(why) => Line::Unsendable { name, why, bytes_read },
            },
            Form::Exchanges => match exchange(text) {
                Some((idempotency_key, body)) => Line::Document(Document { name, idempotency_key, body, bytes_read }),
                None => {
                    let why = "the line is not {\"idempotency_key\": …, \"exchange\": …}".to_owned();
                    Line::Unsendable { name, why, bytes_read }
                }
            },
        }
    }
}

impl Iterator for Source {
    type Item = Result<Line, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(lines) = &mut self.open {
                match lines.next_line() {
                    Ok(Some((text, name, key_end))) => return Some(Ok(self.line(&text, name, &key_end))),
                    Ok(None) => self.open = None,
                    Err(failure) => {
                        self.open = None;
                        self.files.clear();
                        return Some(Err(failure));
                    }
                }
                continue;
            }
            let (file, infix) = self.files.pop_front()?;
            if has_extension(&file, "json") {
                return Some(self.whole(&file, &infix));
            }
            match File::open(&file) {
                Ok(opened) => {
                    let (reader, name) = (Box::new(BufReader::new(opened)), file.display().to_string());
                    self.open = Some(Lines { reader, name, infix, number: 0 });
                }
                Err(error) => return Some(Err(unreadable(&file, error))),
            }
        }
    }
}

impl Lines {
    /// The next line that is not blank, its name, and how its key ends.
    fn next_line(&mut self) -> Result<Option<(Vec<u8>, String, String)>, Failure> {
        loop {
            let mut text = Vec::new();
            let read = (&mut self.reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut text);
            self.number += 1;
            match read {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(error) => return Err(unreadable(Path::new(&self.name), error)),
            }
            if text.last() == Some(&b'\n') {
                text.pop();
            } else if text.len() as u64 == LINE_BYTES_MAX {
                return Err(Failure::new(format!(
                    "{}:{} is longer than {LINE_BYTES_MAX} bytes",
                    self.name, self.number
                ))
                .try_this("is it JSON lines? a file with one document must be named *.json"));
            }
            if !text.trim_ascii().is_empty() {
                let name = format!("{}:{}", self.name, self.number);
                return Ok(Some((text, name, format!("{}-{}", self.infix, self.number))));
            }
        }
    }
}

fn unreadable(file: &Path, error: std::io::Error) -> Failure {
    Failure::new(format!("{} cannot be read", file.display())).because(error)
}

/// Every *.json and *.jsonl below.
fn find(dir: &Path, into: &mut Vec<PathBuf>) -> Result<(), Failure> {
    for entry in std::fs::read_dir(dir).map_err(|error| unreadable(dir, error))? {
        let entry = entry.map_err(|error| unreadable(dir, error))?;
        let path = entry.path();
        // A link to a directory could lead round in circles.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            find(&path, into)?;
        } else if path.is_file() && (has_extension(&path, "json") || has_extension(&path, "jsonl")) {
            into.push(path);
        }
    }
    Ok(())
}

/// The request body of a payload, byte for byte.
fn payload(text: &[u8], trace: Option<&TraceId>) -> Result<Vec<u8>, String> {
    let mut body = Vec::with_capacity(text.len() + 64);
    body.push(b'{');
    if let Some(trace) = trace {
        body.extend_from_slice(b"\"trace_id\":");
        event::canonical::write_string(trace.as_str(), &mut body);
        body.push(b',');
    }
    body.extend_from_slice(b"\"payload\":");
    body.extend_from_slice(text);
    body.push(b'}');
    // `1, "amount": {…}` is no JSON, but inside the envelope it would become a request to pay. What stays malformed in the
    // envelope is the door's to refuse.
    let is_json = |bytes: &[u8]| serde_json::from_slice::<IgnoredAny>(bytes).is_ok();
    if !is_json(text) && is_json(&body) {
        return Err("the line is not one JSON value, and would become members of the request".to_owned());
    }
    Ok(body)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExchangeLine<'a> {
    idempotency_key: String,
    #[serde(borrow)]
    exchange: &'a RawValue,
}

/// Key and request body of an exchange line, the body byte for byte.
fn exchange(text: &[u8]) -> Option<(String, Vec<u8>)> {
    match serde_json::from_slice::<ExchangeLine<'_>>(text) {
        Ok(line) => Some((line.idempotency_key, line.exchange.get().as_bytes().to_vec())),
        Err(_) => malformed_exchange(text),
    }
}

/// The same where the exchange itself is malformed, which is the door's to say: `{"idempotency_key":…,"exchange":…}` in
/// that order.
fn malformed_exchange(text: &[u8]) -> Option<(String, Vec<u8>)> {
    let rest = after(after(text, b"{")?, b"\"idempotency_key\"")?;
    let rest = after(rest, b":")?;
    let mut strings = serde_json::Deserializer::from_slice(rest).into_iter::<String>();
    let idempotency_key = strings.next()?.ok()?;
    let rest = rest.get(strings.byte_offset()..)?;
    let rest = after(after(after(rest, b",")?, b"\"exchange\"")?, b":")?;
    Some((idempotency_key, rest.trim_ascii_end().strip_suffix(b"}")?.to_vec()))
}

/// What comes after a token, white space before it passed over.
fn after<'a>(text: &'a [u8], token: &[u8]) -> Option<&'a [u8]> {
    text.trim_ascii_start().strip_prefix(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payloads(dir: &Path, from: &str) -> Vec<Line> {
        let from = dir.join(from);
        let form = Form::Payloads { prefix: prefix_of(&from), trace: None };
        Source::open(&from, form).unwrap().map(Result::unwrap).collect()
    }

    fn keys(lines: &[Line]) -> Vec<&str> {
        lines
            .iter()
            .map(|line| match line {
                Line::Document(document) => document.idempotency_key.as_str(),
                Line::Unsendable { .. } => "-",
            })
            .collect()
    }

    #[test]
    fn keys_are_the_prefix_and_the_number_of_the_line() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("my orders.jsonl"), "{}\n\n  \n{\"a\":1}\r\n3").unwrap();
        let lines = payloads(dir.path(), "my orders.jsonl");
        assert_eq!(keys(&lines), ["my_orders-1", "my_orders-4", "my_orders-5"]);
        let Line::Document(last) = &lines[2] else { panic!("a document") };
        assert_eq!(last.body, b"{\"payload\":3}");
    }

    #[test]
    fn a_directory_is_read_whole_in_order_with_the_names_of_its_files_in_the_keys() {
        let dir = tempfile::tempdir().unwrap();
        let docs = dir.path().join("docs");
        std::fs::create_dir_all(docs.join("sub")).unwrap();
        std::fs::write(docs.join("b.jsonl"), "1\n2\n").unwrap();
        std::fs::write(docs.join("a.json"), "{\n \"a\": 1\n}\n").unwrap();
        std::fs::write(docs.join("sub/c.json"), "{}").unwrap();
        std::fs::write(docs.join("read.me"), "no").unwrap();
        assert_eq!(
            keys(&payloads(dir.path(), "docs")),
            ["docs-a.json", "docs-b.jsonl-1", "docs-b.jsonl-2", "docs-sub/c.json"]
        );
        assert_eq!(keys(&payloads(dir.path(), "docs/a.json")), ["a-1"]);
    }

    #[test]
    fn a_payload_keeps_its_bytes_and_stays_inside_its_member() {
        let trace = TraceId::parse("t-1").unwrap();
        let body = payload(b"{\"n\":1.50e0,\"n\":2}", Some(&trace)).unwrap();
        assert_eq!(body, b"{\"trace_id\":\"t-1\",\"payload\":{\"n\":1.50e0,\"n\":2}}");
        assert_eq!(payload(b"{\"a\":\xff", None).unwrap(), b"{\"payload\":{\"a\":\xff}", "malformed: the door says so");
        assert!(payload(b"1, \"amount\": {\"minor\":\"1\"}", None).is_err());
        assert!(payload(b"{},\"forward_url\":\"https://a\"", None).is_err());
    }

    #[test]
    fn an_exchange_keeps_its_bytes_also_where_it_is_malformed() {
        let of = |text: &str| exchange(text.as_bytes()).map(|(key, body)| (key, String::from_utf8(body).unwrap()));
        let some = |key: &str, body: &str| Some((key.to_owned(), body.to_owned()));
        assert_eq!(of(r#"{"idempotency_key":"k","exchange":{"payload": 1.0}}"#), some("k", r#"{"payload": 1.0}"#));
        assert_eq!(of(r#"{"exchange":{},"idempotency_key":"k"}"#), some("k", "{}"));
        assert_eq!(
            of(r#" {"idempotency_key" : "k\n" , "exchange": {"payload": 1,} } "#),
            some("k\n", r#" {"payload": 1,} "#)
        );
        for nothing in ["{}", r#"{"exchange":{}}"#, r#"{"idempotency_key":1,"exchange":{}}"#, "not json", ""] {
            assert_eq!(of(nothing), None, "{nothing}");
        }
        let invalid = b"{\"idempotency_key\":\"k\",\"exchange\":\"\xff\"}";
        assert_eq!(exchange(invalid), Some(("k".to_owned(), b"\"\xff\"".to_vec())));
    }

    #[test]
    fn a_random_prefix_of_stdin_is_another_each_time() {
        assert_ne!(prefix_of(Path::new("-")), prefix_of(Path::new("-")));
    }
}
