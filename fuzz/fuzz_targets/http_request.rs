//! What a client sends over HTTP, through the door of ingest as it stands: header lines, then a body, taken for an exchange
//! and for a batch. Nothing panics, every refusal is told as a problem, and what is let in passes the door of the next step.
#![no_main]
#![allow(dead_code, reason = "files of the product are taken in whole")]

// The door knows `access` for its problems alone, and `admission` for one name; the rest of those crates would bring
// databases, a Kafka client and JSON Schema along.
extern crate self as access;
extern crate self as admission;

#[path = "../../services/ingest/src/config.rs"]
mod config;
#[path = "../../services/view/src/cursor.rs"]
mod cursor;
#[path = "../../services/ingest/src/door.rs"]
mod door;
#[path = "../../services/ingest/src/prefer.rs"]
mod prefer;
#[path = "../../crates/access/src/problem.rs"]
mod problem;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use event::door::canonicalise;
use event::id::{IdempotencyKey, TenantId};
use event::wire::{ExchangeRequested, Wire as _};
use libfuzzer_sys::fuzz_target;
pub use problem::{Code, FieldError, Problem};

use config::Config;
use door::{Admissible, ItemRules, Place, Sender};

/// The payload type without a mapping, as `admission` has it.
pub const PASSTHROUGH: &str = "passthrough";

const HEADERS_MAX: usize = 32;

/// The header lines that the bytes begin with, as an HTTP library would hand them on, and what follows.
fn request(bytes: &[u8]) -> (HeaderMap, &[u8]) {
    let mut lines = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let Ok(httparse::Status::Complete((length, lines))) = httparse::parse_headers(bytes, &mut lines) else {
        return (HeaderMap::new(), bytes);
    };
    let mut headers = HeaderMap::new();
    for line in lines {
        if let (Ok(name), Ok(value)) = (line.name.parse::<HeaderName>(), HeaderValue::from_bytes(line.value)) {
            headers.append(name, value);
        }
    }
    (headers, &bytes[length..])
}

fn told(problem: &Problem, within: &str) {
    assert!(problem.status().is_client_error(), "{problem:?}");
    assert!(Code::parse(problem.code()).is_some(), "{problem:?}");
    let document = problem.document("https://x.example", None).to_string();
    assert!(document.starts_with('{') && !problem.detail().is_empty());
    for error in problem.errors() {
        assert!(error.pointer.is_empty() || error.pointer.starts_with('/'), "{problem:?}");
        assert!(error.pointer.starts_with(within), "{problem:?} outside of {within}");
    }
}

fn let_in(admissible: &Admissible, config: &Config) {
    let request = &admissible.request;
    let mut canonical = Vec::new();
    canonicalise(&request.payload, &config.payload, &mut canonical).expect("what is let in passes the next door");
    let encoded = request.encode().expect("what is let in can be written");
    assert_eq!(&ExchangeRequested::decode(&encoded).expect("and read"), request);
}

fuzz_target!(|bytes: &[u8]| {
    let (headers, body) = request(bytes);
    let config = Config::default();
    assert!(prefer::wait_of(&headers, &config) <= config.wait_max);
    if let Err(problem) = door::media_type(&headers) {
        told(&problem, "");
    }
    let idempotency_key = match door::idempotency_key(&headers) {
        Ok(idempotency_key) => idempotency_key,
        Err(problem) => {
            told(&problem, "");
            IdempotencyKey::parse("key-1").expect("a key")
        }
    };
    let tenant = TenantId::parse("acme").expect("a tenant");
    let sender = Sender { tenant: tenant.clone(), idempotency_key };
    match door::exchange(&sender, body, Place::default(), &config.payload) {
        Ok(admissible) => let_in(&admissible, &config),
        Err(problem) => told(&problem, ""),
    }
    let rules = ItemRules { tenant: &tenant, body_bytes_max: config.body_bytes_max, limits: &config.payload };
    match door::items(body) {
        Ok(items) => {
            for (index, (offset, item)) in items.into_iter().take(config.batch_items_max).enumerate() {
                let pointer = format!("/{index}");
                match door::item(item, Place { pointer: &pointer, offset }, rules).1 {
                    Ok(admissible) => let_in(&admissible, &config),
                    Err(problem) => told(&problem, &pointer),
                }
            }
        }
        Err(problem) => told(&problem, ""),
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Some(parts) = cursor::read::<2>(text)
    {
        assert_eq!(cursor::read::<2>(&cursor::write(&parts)), Some(parts), "a cursor comes back");
    }
});
