//! What strangers hand in as a whole: receipts, chains, bundles, key sets, and the inputs of older hashes.
#![no_main]

use compat::{Recipe, hash};
use libfuzzer_sys::fuzz_target;
use proof::{KeyRing, Trust, verify};

fuzz_target!(|bytes: &[u8]| {
    let ring = KeyRing::from_jwks(bytes).unwrap_or_else(|_| KeyRing::new());
    for embedded in [false, true] {
        let verdict = verify(bytes, Trust { given: &ring, embedded }, &[]);
        assert!(verdict.exit_code() != 0, "nothing here is signed by anybody");
    }
    for recipe in Recipe::ALL {
        if let Ok(hashed) = hash(recipe, bytes) {
            assert_eq!(hash(recipe, bytes).expect("the same input has the same hash"), hashed);
        }
    }
});
