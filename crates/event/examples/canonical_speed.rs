//! How fast the JSON door is, beside parsing to a tree and writing that: `cargo run --release -p event --example canonical_speed`.
//!
//! Both take turns in one run on the same documents, so that what the machine does besides meets both. A file of documents,
//! one a line, may be named; those of 300 to 500 bytes are taken.

#![expect(clippy::print_stdout, reason = "it prints its figures")]
#![expect(clippy::expect_used, clippy::panic, reason = "without its documents there is nothing to measure")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use event::door::{Limits, canonicalise};

/// 400 bytes: what a model bills for a tool call, names unsorted, as clients write them.
const DOCUMENT: &str = concat!(
    r#"{"type":"tool_call.billed","id":"call_8Kd02mVq71","created":1767225600,"model":"gpt-4o-mini","user":"agent-7","#,
    r#""usage":{"prompt_tokens":1284,"completion_tokens":311,"total_tokens":1595,"cached":false},"amount":"0.0187","#,
    r#""currency":"USD","lines":[{"sku":"tokens.in","quantity":1284,"unit_price":2.5e-06,"note":null},{"sku":"tokens.out","#,
    r#""quantity":311,"unit_price":0.00001}],"memo":"Über 300, \"fast\""}"#,
);
const ROUNDS: usize = 1_000;
const ROUND: Duration = Duration::from_millis(1);

fn main() {
    let file = std::env::args().nth(1);
    let text = file.map(|path| std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}")));
    let documents: Vec<&str> = match &text {
        None => vec![DOCUMENT],
        Some(text) => text.lines().filter(|line| (300..=500).contains(&line.len())).collect(),
    };
    let bytes: usize = documents.iter().map(|document| document.len()).sum();
    for document in &documents {
        assert_eq!(door(document), tree(document), "both write the same");
    }
    let (mut doors, mut trees) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        doors.push(nanoseconds(&documents, door));
        trees.push(nanoseconds(&documents, tree));
    }
    println!("{} documents of {} bytes on average, {ROUNDS} rounds", documents.len(), bytes / documents.len());
    // The quickest round is one that nothing else interrupted.
    told("quickest", quickest(&doors), quickest(&trees));
    told("median", median(&doors), median(&trees));
}

fn told(name: &str, door: f64, tree: f64) {
    println!("{name:8}  door {door:.0} ns, tree {tree:.0} ns, ratio {:.2}", tree / door);
}

fn door(document: &str) -> Vec<u8> {
    let mut canonical = Vec::new();
    canonicalise(document.as_bytes(), &Limits::default(), &mut canonical).expect("the document may enter");
    canonical
}

fn tree(document: &str) -> Vec<u8> {
    let value: serde_json::Value = serde_json::from_slice(document.as_bytes()).expect("the document is JSON");
    serde_json_canonicalizer::to_vec(&value).expect("the document has a canonical form")
}

/// Of one document, on average over a round.
fn nanoseconds(documents: &[&str], canonical: impl Fn(&str) -> Vec<u8>) -> f64 {
    let (began, mut count) = (Instant::now(), 0_u32);
    while began.elapsed() < ROUND {
        for document in documents {
            black_box(canonical(black_box(document)));
            count += 1;
        }
    }
    began.elapsed().as_secs_f64() * 1e9 / f64::from(count)
}

fn quickest(figures: &[f64]) -> f64 {
    figures.iter().copied().fold(f64::INFINITY, f64::min)
}

fn median(figures: &[f64]) -> f64 {
    let mut figures = figures.to_vec();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
