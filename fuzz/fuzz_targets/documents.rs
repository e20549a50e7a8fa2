//! What strangers hand in as a whole: receipts, chains, bundles, key sets, and the inputs of older hashes.
#![no_main]

use compat::{Recipe, hash};
use libfuzzer_sys::fuzz_target;
use proof::{KeyRing, Trust, verify, verify_by};

fuzz_target!(|bytes: &[u8]| {
    let ring = KeyRing::from_jwks(bytes).unwrap_or_else(|_| KeyRing::new());
    for embedded in [false, true] {
        let trust = Trust { given: &ring, embedded };
        let spread = verify_by(bytes, trust, &[], &|verifier, receipts| {
            receipts.chunks(3).flat_map(|some| verifier.check(some)).collect()
        });
        assert_eq!(verify(bytes, trust, &[]), spread, "whoever checks them, the verdict is one");
    }
    let nobody = verify(bytes, Trust { given: &KeyRing::new(), embedded: false }, &[]);
    assert!(nobody.exit_code() != 0, "where nobody is trusted, nothing holds");
    for recipe in Recipe::ALL {
        if let Ok(hashed) = hash(recipe, bytes) {
            assert_eq!(hash(recipe, bytes).expect("the same input has the same hash"), hashed);
        }
    }
});
