//! Any change at all must be noticed.

use proof::{Code, Receipt};
use proptest::prelude::*;
use serde_json::Value;

use crate::fixture::{array, bundle, chain, draft, ring_of, signing_key, verify};

#[test]
fn no_single_bit_of_a_receipt_can_be_flipped() {
    let sealed = chain(2)[1].to_json();
    let ring = ring_of(&[&signing_key()]);
    for position in 0..sealed.len() {
        for bit in 0..8 {
            let mut bytes = sealed.clone().into_bytes();
            bytes[position] ^= 1 << bit;
            let verdict = proof::verify(&bytes, proof::Trust { given: &ring, embedded: false }, &[]);
            assert_ne!(verdict.verdict, Code::Ok, "byte {position}, bit {bit}");
        }
    }
}

/// Every string and number in the document, by its pointer.
fn leaves(value: &Value, pointer: String, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| leaves(value, format!("{pointer}/{name}"), found))
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, value)| leaves(value, format!("{pointer}/{i}"), found))
        }
        _ => found.push(pointer),
    }
}

fn strings() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<String>().prop_map(Value::from),
        any::<u32>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_value_of_a_bundle_can_be_replaced(at in any::<prop::sample::Index>(), other in strings()) {
        let text = bundle(chain(3), &ring_of(&[&signing_key()]), &signing_key()).to_json();
        let mut document: Value = serde_json::from_str(&text).unwrap();
        let mut pointers = Vec::new();
        leaves(&document, String::new(), &mut pointers);
        let pointer: &String = at.get(&pointers);
        let leaf = document.pointer_mut(pointer).unwrap();
        prop_assume!(*leaf != other);
        *leaf = other;
        prop_assert_ne!(verify(&document.to_string()).verdict, Code::Ok);
    }

    #[test]
    fn a_chain_verifies_in_hop_order_from_the_first_and_in_no_other(order in Just((0..5_usize).collect::<Vec<_>>()).prop_shuffle(), length in 1..=5_usize) {
        let whole = chain(5);
        let picked: Vec<Receipt> = order[..length].iter().map(|&index| whole[index].clone()).collect();
        let first_misplaced = order[..length].iter().enumerate().find(|(place, index)| place != *index).map(|(place, _)| place);
        let verdict = verify(&array(&picked));
        let expected = if first_misplaced.is_some() { Code::HopGap } else { Code::Ok };
        prop_assert_eq!((verdict.verdict, verdict.index), (expected, first_misplaced));
    }

    #[test]
    fn whatever_a_receipt_says_it_comes_back_and_verifies(payload_type in "[ -~é😀\n\"\\\\]{0,12}", host in prop::option::of("[a-z.]{1,9}"), fu in 0..1_u64 << 53) {
        let mut draft = draft();
        draft.payload_type = payload_type;
        draft.policy.host = host;
        draft.fu = fu;
        let sealed = draft.seal(&signing_key()).unwrap();
        prop_assert_eq!(verify(&sealed.to_json()).verdict, Code::Ok);
        prop_assert_eq!(Receipt::parse(sealed.to_json().as_bytes()).unwrap(), sealed.clone());
        let spaced = serde_json::to_string_pretty(&serde_json::from_str::<Value>(&sealed.to_json()).unwrap()).unwrap();
        prop_assert_eq!(verify(&spaced).verdict, Code::Ok);
    }

    #[test]
    fn nothing_makes_the_verifier_panic(bytes in any::<Vec<u8>>()) {
        let ring = ring_of(&[]);
        let verdict = proof::verify(&bytes, proof::Trust { given: &ring, embedded: true }, &[]);
        prop_assert_ne!(verdict.verdict, Code::Ok);
    }
}
