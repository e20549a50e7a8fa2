use super::*;

fn sender() -> Sender {
    Sender { tenant: TenantId::parse("acme").unwrap(), idempotency_key: IdempotencyKey::parse("key-0").unwrap() }
}

fn read(body: &str) -> Result<Admissible, Problem> {
    exchange(&sender(), body.as_bytes(), Place::default(), &Limits::default())
}

/// Code of the problem, and pointer and code of every fault.
fn refusal(body: &str) -> (String, Vec<(String, String)>) {
    let problem = read(body).expect_err(body);
    let faults = problem.errors().iter().map(|error| (error.pointer.clone(), error.code.to_string())).collect();
    (problem.code().to_owned(), faults)
}

#[test]
fn a_full_request_becomes_a_record() {
    let head = format!("sha256:{}", "0".repeat(64));
    let body = format!(
        r#"{{"payload_type":"passthrough","payload":{{"b":1,  "a":[]}},"target_type":"passthrough","trace_id":"trace-1",
            "expected_prev_receipt_hash":"{head}","amount":{{"minor":"1250","currency":"USD","payee":"agent-7"}},
            "forward_url":"https://example.com/hook"}}"#
    );
    let admissible = read(&body).unwrap();
    assert_eq!(admissible.exchange_id.as_str(), "ex_a46f1z1wmbq2pds9zabtvhng7b");
    assert_eq!(admissible.trace_id.as_str(), "trace-1");
    assert_eq!(
        admissible.request,
        ExchangeRequested {
            tenant: "acme".into(),
            idempotency_key: "key-0".into(),
            payload: br#"{"b":1,  "a":[]}"#.to_vec(),
            payload_type: "passthrough".into(),
            target_type: Some("passthrough".into()),
            trace_id: Some("trace-1".into()),
            expected_prev_receipt_hash: Some(head),
            amount: Some(WireAmount { currency: "USD".into(), minor: 1250, payee: "agent-7".into() }),
            forward_url: Some("https://example.com/hook".into()),
        }
    );
}

#[test]
fn only_the_payload_is_required_and_null_is_absent_except_for_the_head() {
    let bare = read(r#"{"payload":null}"#).unwrap();
    assert_eq!(bare.request.payload, b"null");
    assert_eq!(bare.request.payload_type, "passthrough");
    assert_eq!(bare.trace_id.as_str(), bare.exchange_id.as_str());
    assert_eq!(bare.request.trace_id, None);
    assert_eq!(bare.request.expected_prev_receipt_hash, None);

    let nulls =
        r#"{"payload":null,"payload_type":null,"target_type":null,"trace_id":null,"amount":null,"forward_url":null}"#;
    assert_eq!(read(nulls).unwrap(), bare);

    let first = read(r#"{"payload":1,"expected_prev_receipt_hash":null}"#).unwrap();
    assert_eq!(first.request.expected_prev_receipt_hash.as_deref(), Some("first"));
}

#[test]
fn what_is_no_exchange_is_refused_with_pointer_and_code() {
    type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);
    let table: &[Case<'_>] = &[
        (r#"{"payload":1,"amuont":{}}"#, "invalid_request", &[("/amuont", "unknown_member")]),
        (r#"{"payload":1,"a/b~":{}}"#, "invalid_request", &[("/a~1b~0", "unknown_member")]),
        ("{}", "invalid_request", &[("/payload", "missing_member")]),
        ("[]", "invalid_request", &[("", "not_an_object")]),
        (" 7", "invalid_request", &[("", "not_an_object")]),
        (r#"{"payload":1,"trace_id":7}"#, "invalid_request", &[("/trace_id", "not_a_string")]),
        (r#"{"payload":1,"trace_id":"a b"}"#, "invalid_request", &[("/trace_id", "invalid_trace_id")]),
        (r#"{"payload":1,"trace_id":""}"#, "invalid_request", &[("/trace_id", "invalid_trace_id")]),
        (
            r#"{"payload":1,"trace_id":"a b","x":1,"expected_prev_receipt_hash":"md5:0"}"#,
            "invalid_request",
            &[
                ("/x", "unknown_member"),
                ("/trace_id", "invalid_trace_id"),
                ("/expected_prev_receipt_hash", "invalid_digest"),
            ],
        ),
        (r#"{"payload":1,"forward_url":"http://example.com/"}"#, "invalid_request", &[("/forward_url", "not_https")]),
        (r#"{"payload":1,"forward_url":{}}"#, "invalid_request", &[("/forward_url", "not_a_string")]),
        (r#"{"payload":1,"amount":"1"}"#, "invalid_request", &[("/amount", "invalid_amount")]),
        (
            r#"{"payload":1,"amount":{"currency":"usd","minor":1250}}"#,
            "invalid_request",
            &[
                ("/amount/minor", "not_a_string"),
                ("/amount/payee", "missing_member"),
                ("/amount/currency", "invalid_amount"),
            ],
        ),
        (
            r#"{"payload":1,"amount":{"currency":"USD","minor":"-1","payee":"p","fee":"0"}}"#,
            "invalid_request",
            &[("/amount/fee", "unknown_member"), ("/amount/minor", "invalid_amount")],
        ),
    ];
    for (body, code, faults) in table {
        let expected: Vec<_> =
            faults.iter().map(|(pointer, fault)| ((*pointer).to_owned(), (*fault).to_owned())).collect();
        assert_eq!(refusal(body), ((*code).to_owned(), expected), "{body}");
    }
}

#[test]
fn the_json_door_is_run_on_the_payload() {
    let table = [
        (r#"{"payload":{"a":1,"a":2}}"#, "not_i_json", "duplicate_name"),
        (r#"{"payload":{"lines":[{"n":9007199254740993}]}}"#, "not_i_json", "unsafe_integer"),
        (r#"{"payload":"\ud800"}"#, "not_i_json", "lone_surrogate"),
        (r#"{"payload":1e999}"#, "not_i_json", "number_overflow"),
    ];
    for (body, code, fault) in table {
        let (found, faults) = refusal(body);
        assert_eq!((found.as_str(), faults[0].1.as_str()), (code, fault), "{body}");
        assert!(faults[0].0.starts_with("/payload"), "{body}: {faults:?}");
    }
    let (_, faults) = refusal(r#"{"payload":{"lines":[{"n":9007199254740993}]}}"#);
    assert_eq!(faults[0].0, "/payload/lines/0/n");
}

#[test]
fn depth_and_size_are_bounded_by_the_payload() {
    let nested = |depth: usize| format!(r#"{{"payload":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert!(read(&nested(64)).is_ok());
    assert_eq!(refusal(&nested(65)).0, "payload_too_deep");
    assert_eq!(refusal(&nested(100_000)).0, "payload_too_deep");
    let long = |length: usize| format!(r#"{{"payload":"{}"}}"#, "a".repeat(length));
    assert!(read(&long(256 * 1024 - 2)).is_ok());
    assert_eq!(refusal(&long(256 * 1024 - 1)).0, "payload_too_large");
}

#[test]
fn what_is_no_json_is_malformed() {
    for body in [
        "",
        "{",
        r#"{"payload":}"#,
        r#"{"payload":1,}"#,
        "\u{feff}{}",
        r#"{"payload":1} x"#,
        "nonsense",
        r#"{"payload":'a'}"#,
    ] {
        assert_eq!(refusal(body).0, "malformed_json", "{body}");
    }
    let problem = exchange(&sender(), b"{\"payload\":\"\xff\"}", Place::default(), &Limits::default()).unwrap_err();
    assert_eq!(problem.code(), "malformed_json");
}

#[test]
fn a_member_twice_in_the_envelope_is_refused() {
    assert_eq!(refusal(r#"{"payload":1,"payload":2}"#).0, "not_i_json");
    assert_eq!(refusal(r#"{"payload":1,"pay\u006coad":2}"#).0, "not_i_json");
    let twice = r#"{"payload":1,"amount":{"currency":"USD","minor":"1","minor":"2","payee":"p"}}"#;
    let (code, faults) = refusal(twice);
    assert_eq!(code, "not_i_json");
    assert!(faults[0].0.starts_with("/amount"), "{faults:?}");
}

/// The byte that the problem's detail names.
fn byte_of(problem: &Problem) -> usize {
    assert_eq!(problem.code(), "malformed_json", "{}", problem.detail());
    let (_, after) = problem.detail().split_once("(byte ").unwrap();
    after.strip_suffix(" of the body).").unwrap().parse().unwrap()
}

#[test]
fn a_breach_of_json_is_told_by_its_byte_in_the_body() {
    for body in [
        "{@",
        r#"  {"payload": {"a": [1, @]}}"#,
        r#"{"trace_id":"t", "payload": {"a": "b", @}}"#,
        r#"{"payload":1, "trace_id": @}"#,
        r#"{"payload":1, "amount": {"currency": @}}"#,
        r#"{"payload":1, "amount": {"currency": "USD", @}}"#,
        r#"{"payload":1} @"#,
    ] {
        assert_eq!(byte_of(&read(body).unwrap_err()), body.find('@').unwrap(), "{body}");
    }
}

/// The key that an item was sent with, and what it came to.
type ReadItem = (Option<String>, Result<Admissible, Problem>);

/// Everything that the items of a batch come to.
fn batch(body: &str) -> Result<Vec<ReadItem>, Problem> {
    let tenant = TenantId::parse("acme").unwrap();
    let rules = ItemRules { tenant: &tenant, body_bytes_max: 200, limits: &Limits::default() };
    let read = |(index, (offset, bytes)): (usize, (usize, &[u8]))| {
        item(bytes, Place { pointer: &format!("/{index}"), offset }, rules)
    };
    Ok(items(body.as_bytes())?.into_iter().enumerate().map(read).collect())
}

#[test]
fn an_item_is_read_as_the_same_exchange_alone() {
    let read_items = batch(r#" [ {"exchange":{"payload":{"a":1}}, "idempotency_key":"key-0"} ] "#).unwrap();
    let [(name, Ok(admissible))] = read_items.as_slice() else { panic!("{read_items:?}") };
    assert_eq!(name.as_deref(), Some("key-0"));
    assert_eq!(*admissible, read(r#"{"payload":{"a":1}}"#).unwrap());
    assert!(batch("[]").unwrap().is_empty());
}

#[test]
fn what_is_wrong_with_an_item_is_told_with_its_key_and_a_pointer_into_the_batch() {
    let long = format!(r#"{{"idempotency_key":"k","exchange":{{"payload":"{}"}}}}"#, "a".repeat(200));
    let table: [(&str, Option<&str>, &str, &str, &str); 14] = [
        ("7", None, "invalid_request", "/1", "not_an_object"),
        ("[]", None, "invalid_request", "/1", "not_an_object"),
        (r#"{"idempotency_key":"k"}"#, Some("k"), "invalid_request", "/1/exchange", "missing_member"),
        (r#"{"exchange":{"payload":1}}"#, None, "idempotency_key_missing", "/1/idempotency_key", "missing_member"),
        (
            r#"{"idempotency_key":null,"exchange":{"payload":1}}"#,
            None,
            "idempotency_key_missing",
            "/1/idempotency_key",
            "missing_member",
        ),
        (
            r#"{"idempotency_key":7,"exchange":{"payload":1}}"#,
            None,
            "idempotency_key_invalid",
            "/1/idempotency_key",
            "not_a_string",
        ),
        (
            r#"{"idempotency_key":"a b","exchange":{"payload":1}}"#,
            Some("a b"),
            "idempotency_key_invalid",
            "/1/idempotency_key",
            "invalid_idempotency_key",
        ),
        (
            r#"{"idempotency_key":"k","exchange":{"payload":1},"x/y":1}"#,
            Some("k"),
            "invalid_request",
            "/1/x~1y",
            "unknown_member",
        ),
        (r#"{"idempotency_key":"k","exchange":7}"#, Some("k"), "invalid_request", "/1/exchange", "not_an_object"),
        (
            r#"{"idempotency_key":"k","exchange":{"payload":[1e999],"x":1}}"#,
            Some("k"),
            "invalid_request",
            "/1/exchange/x",
            "unknown_member",
        ),
        (
            r#"{"idempotency_key":"k","exchange":{"payload":[1e999]}}"#,
            Some("k"),
            "not_i_json",
            "/1/exchange/payload/0",
            "number_overflow",
        ),
        (
            r#"{"idempotency_key":"k","idempotency_key":"l","exchange":{"payload":1}}"#,
            None,
            "not_i_json",
            "/1/idempotency_key",
            "duplicate_name",
        ),
        (
            r#"{"idempotency_key":"k","exchange":{"payload":@}}"#,
            Some("k"),
            "malformed_json",
            "/1/exchange/payload",
            "malformed_json",
        ),
        (&long, Some("k"), "payload_too_large", "/1/exchange", "too_large"),
    ];
    for (text, name, code, pointer, fault) in table {
        let body = format!(r#"[{{"idempotency_key":"good","exchange":{{"payload":1}}}}, {text}]"#);
        let read = batch(&body).unwrap();
        assert!(read[0].1.is_ok(), "{text}: one bad item fails alone");
        let problem = read[1].1.as_ref().expect_err(text);
        assert_eq!((read[1].0.as_deref(), problem.code()), (name, code), "{text}");
        let error = &problem.errors()[0];
        assert_eq!((error.pointer.as_str(), &*error.code), (pointer, fault), "{text}");
        assert!(!problem.detail().contains("line 1 column"), "{}", problem.detail());
        if code == "malformed_json" {
            assert_eq!(byte_of(problem), body.find('@').unwrap());
        }
    }
}

#[test]
fn a_batch_that_is_no_array_fails_as_a_whole() {
    for (body, code) in [
        ("{}", "invalid_request"),
        (" 7", "invalid_request"),
        ("[@", "malformed_json"),
        ("[] @", "malformed_json"),
        ("[{} @", "malformed_json"),
    ] {
        let problem = batch(body).unwrap_err();
        assert_eq!(problem.code(), code, "{body}");
        if code == "malformed_json" && body != "[@" {
            assert_eq!(byte_of(&problem), body.find('@').unwrap(), "{body}");
        }
    }
}

#[test]
fn idempotency_keys_come_from_either_header() {
    let headers = |pairs: &[(&'static str, &str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    };
    let code =
        |pairs: &[(&'static str, &str)]| idempotency_key(&headers(pairs)).map_err(|problem| problem.code().to_owned());
    let given = |text: &str| Ok(IdempotencyKey::parse(text).unwrap());
    assert_eq!(code(&[("idempotency-key", "a")]), given("a"));
    assert_eq!(code(&[("x-signet-idempotency-key", "b")]), given("b"));
    assert_eq!(code(&[("idempotency-key", "a"), ("x-signet-idempotency-key", "a")]), given("a"));
    assert_eq!(
        code(&[("idempotency-key", "a"), ("x-signet-idempotency-key", "b")]),
        Err("idempotency_key_invalid".into())
    );
    assert_eq!(code(&[]), Err("idempotency_key_missing".into()));
    for bad in ["", "a b", "é", &"k".repeat(256)] {
        assert_eq!(code(&[("idempotency-key", bad)]), Err("idempotency_key_invalid".into()), "{bad}");
    }
}

#[test]
fn only_plain_json_is_read() {
    let check = |content_type: Option<&str>, encoding: Option<&str>| {
        let mut headers = HeaderMap::new();
        if let Some(value) = content_type {
            headers.insert("content-type", value.parse().unwrap());
        }
        if let Some(value) = encoding {
            headers.insert("content-encoding", value.parse().unwrap());
        }
        media_type(&headers).is_ok()
    };
    assert!(check(Some("application/json"), None));
    assert!(check(Some("Application/JSON; charset=utf-8"), Some("identity")));
    for refused in [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("application/jsonx")] {
        assert!(!check(refused, None), "{refused:?}");
    }
    assert!(!check(Some("application/json"), Some("gzip")));
}
