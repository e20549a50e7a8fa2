//! The JSON door: nothing panics, the canonical form is accepted and is itself, and another implementation writes the same.
#![no_main]

use event::door::{DoorCode, Limits, canonicalise, elements, members, written};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits::default();
    let mut canonical = b"kept".to_vec();
    let written = written::read(bytes);
    let (members, elements) = (members(bytes), elements(bytes));
    if let Err(refusal) = canonicalise(bytes, &limits, &mut canonical) {
        assert_eq!(canonical, b"kept", "a refusal leaves nothing behind");
        assert!(refusal.offset <= bytes.len());
        let of_values = [
            DoorCode::NumberOverflow,
            DoorCode::NumberUnderflow,
            DoorCode::UnsafeInteger,
            DoorCode::Noncharacter,
            DoorCode::TooLarge,
        ];
        assert!(written.is_err() || of_values.contains(&refusal.code));
        return;
    }
    let canonical = canonical.split_off(4);
    assert!(written.is_ok());
    let mut again = Vec::new();
    canonicalise(&canonical, &limits, &mut again).expect("a canonical form is accepted");
    assert_eq!(again, canonical, "and is itself");
    let value: serde_json::Value = serde_json::from_slice(bytes).expect("what enters is JSON");
    assert_eq!(members.is_ok(), value.is_object());
    assert_eq!(elements.is_ok(), value.is_array());
    let theirs = serde_json_canonicalizer::to_vec(&value).expect("what enters has a canonical form");
    assert_eq!(theirs, canonical);
});
