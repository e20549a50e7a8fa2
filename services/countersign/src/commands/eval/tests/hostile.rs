//! Requests by mistake and on purpose: each has one answer, always the same.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::all_functions;
use crate::commands::eval::function::Function;

/// Values that a request might hold by mistake or on purpose.
fn hostile_values() -> impl Strategy<Value = Value> {
    let texts = prop_oneof![
        any::<String>(),
        "-?[0-9]{0,40}(\\.[0-9]{0,30})?(e[+-]?[0-9]{0,25})?",
        "[0-9a-fx:.\\[\\]%/*@-]{0,40}",
        "(https://)?[a-z0-9.:@\\[\\]/%*é-]{0,30}",
        "(whsec_|whsk_|whpk_|v1,|v1a,)[A-Za-z0-9+/=]{0,100}",
        "[{}\\[\\]\",:0-9a-z\\\\]{0,60}",
        prop::sample::select(vec![
            "USD",
            "JPY",
            "CLF",
            "XAU",
            "A-26",
            "A-27",
            "A-32",
            "A-33",
            "S-43",
            "1000000",
            "-9223372036854775808",
            "9223372036854775807"
        ])
        .prop_map(str::to_owned),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        Just(json!(1_000_000)),
        texts.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(member_names(), inner, 0..6)
                .prop_map(|members| Value::from(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn member_names() -> impl Strategy<Value = String> {
    let known = vec![
        "id",
        "text",
        "base64",
        "tenant",
        "idempotency_key",
        "currency",
        "gross_minor",
        "volume_minor",
        "schedule",
        "rate_ppm",
        "fixed_minor",
        "discounts",
        "from_volume_minor",
        "factor_ppm",
        "total_minor",
        "shares_ppm",
        "used",
        "reserved",
        "tiers",
        "threshold",
        "unit_price_nano",
        "amount_minor",
        "benchmark_seconds",
        "duration_seconds",
        "amount",
        "address",
        "nat64_prefixes",
        "url",
        "allowlist",
        "addresses",
        "webhook_id",
        "webhook_timestamp",
        "body",
        "secret",
        "private_key",
        "headers",
        "secrets",
        "public_keys",
        "now",
        "tolerance_seconds",
        "recipe",
        "input",
    ];
    prop_oneof![9 => prop::sample::select(known).prop_map(str::to_owned), 1 => any::<String>()]
}

/// A good request with some members exchanged for hostile ones.
fn spoilt_requests() -> impl Strategy<Value = (Function, Value)> {
    let good: Vec<(Function, Value)> = all_functions()
        .flat_map(|function| {
            function.examples().iter().map(move |text| (function, serde_json::from_str(text).unwrap()))
        })
        .collect();
    (prop::sample::select(good), prop::collection::vec((any::<prop::sample::Index>(), hostile_values()), 0..3))
        .prop_map(|((function, mut request), spoilt)| {
            let names: Vec<String> = request.as_object().unwrap().keys().cloned().collect();
            for (index, value) in spoilt {
                request[index.get(&names)] = value;
            }
            (function, request)
        })
}

/// One line that says `ok` or `error`, with a code that somebody knows.
fn check_answer(answer: &str) {
    assert!(!answer.contains('\n'));
    let answer: Value = serde_json::from_str(answer).unwrap();
    let members: Vec<&str> =
        answer.as_object().unwrap().keys().map(String::as_str).filter(|name| *name != "id").collect();
    match members.as_slice() {
        ["ok"] => assert!(answer["ok"].is_object()),
        ["error"] => {
            let code = answer["error"]["code"].as_str().unwrap();
            assert!(code == "no_tariff" || access::problem::Code::parse(code).is_some(), "{code}");
        }
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 2_000 } else { 50_000 }))]

    #[test]
    fn hostile_requests_are_answered((function, request) in spoilt_requests()) {
        let line = request.to_string();
        let answer = function.answer(line.as_bytes());
        check_answer(&answer);
        prop_assert_eq!(function.answer(line.as_bytes()), answer, "the same line gives the same answer");
    }

    #[test]
    fn objects_of_known_members_are_answered(value in hostile_values()) {
        for function in all_functions() {
            check_answer(&function.answer(value.to_string().as_bytes()));
        }
    }

    #[test]
    fn any_bytes_are_answered(bytes in any::<Vec<u8>>()) {
        for function in all_functions() {
            check_answer(&function.answer(&bytes));
        }
    }
}
