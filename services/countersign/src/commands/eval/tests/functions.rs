//! What each function answers, and what it refuses.

use serde_json::{Value, json};

use super::{ask, refused};

#[test]
fn canonicalize_takes_text_or_bytes_and_points_into_the_document() {
    let answer = ask("canonicalize", &json!({"text": " {\"b\":1.50,\"a\":\"\\u00e9\"} "}));
    assert_eq!(answer["ok"]["canonical"], "{\"a\":\"é\",\"b\":1.5}");
    let digest = event::digest::digest_of("{\"a\":\"é\",\"b\":1.5}".as_bytes()).to_string();
    assert_eq!(answer["ok"]["cid"], digest);
    assert_eq!(ask("canonicalize", &json!({"base64": "eyJhIjoxfQ=="}))["ok"]["canonical"], "{\"a\":1}");
    refused("canonicalize", &json!({"text": "{\"a\":[1,1e400]}"}), "not_i_json", "/a/1");
    refused("canonicalize", &json!({"text": "[\"\u{ffff}\"]"}), "not_i_json", "/0");
    refused("canonicalize", &json!({"text": ""}), "malformed_json", "");
    refused("canonicalize", &json!({"base64": "/w=="}), "malformed_json", "");
    refused("canonicalize", &json!({"text": "[".repeat(65)}), "payload_too_deep", &"/0".repeat(64));
    refused("canonicalize", &json!({"text": format!("\"{}\"", "a".repeat(256 * 1024))}), "payload_too_large", "");
    assert!(ask("canonicalize", &json!({"text": format!("\"{}\"", "a".repeat(256 * 1024 - 2))}))["ok"].is_object());
    assert!(
        ask("canonicalize", &json!({"text": format!("\"{}\"", "\\u0061".repeat(256 * 1024 - 2))}))["ok"].is_object()
    );
    refused("canonicalize", &json!({}), "invalid_request", "/text");
    refused("canonicalize", &json!({"text": "1", "base64": "MQ=="}), "invalid_request", "/base64");
    refused("canonicalize", &json!({"base64": "MQ"}), "invalid_request", "/base64");
    refused("canonicalize", &json!({"text": 1}), "invalid_request", "/text");
    refused("canonicalize", &json!({"text": "1", "txt": ""}), "invalid_request", "/txt");
}

#[test]
fn exchange_ids_are_derived_from_checked_names() {
    let answer = ask("exchange-id", &json!({"tenant": "acme", "idempotency_key": "order-1"}));
    let id = answer["ok"]["exchange_id"].as_str().unwrap();
    assert!(id.starts_with("ex_") && id.len() == 29);
    refused("exchange-id", &json!({"tenant": "Acme", "idempotency_key": "k"}), "invalid_request", "/tenant");
    refused(
        "exchange-id",
        &json!({"tenant": "acme", "idempotency_key": "a b"}),
        "idempotency_key_invalid",
        "/idempotency_key",
    );
    refused("exchange-id", &json!({"tenant": "acme"}), "invalid_request", "/idempotency_key");
}

#[test]
fn money_is_refused_where_it_is_no_money() {
    let fee = |gross: Value, volume: Value| json!({"currency": "USD", "gross_minor": gross, "volume_minor": volume});
    for bad in [json!(1), json!("01"), json!("-0"), json!("1.0"), json!(""), json!("9223372036854775808"), json!(null)]
    {
        refused("fee", &fee(bad.clone(), json!("0")), "invalid_request", "/gross_minor");
        refused("fee", &fee(json!("0"), bad), "invalid_request", "/volume_minor");
    }
    refused("fee", &fee(json!("1"), json!("-1")), "invalid_request", "/volume_minor");
    refused("fee", &json!({"currency": "EUR", "gross_minor": "1", "volume_minor": "0"}), "no_tariff", "/currency");
    refused(
        "fee",
        &json!({"currency": "usd", "gross_minor": "1", "volume_minor": "0"}),
        "invalid_request",
        "/currency",
    );
    let with =
        |schedule: Value| json!({"currency": "EUR", "gross_minor": "1", "volume_minor": "0", "schedule": schedule});
    let ok = json!({"currency": "EUR", "rate_ppm": 1, "fixed_minor": "0"});
    assert_eq!(ask("fee", &with(ok.clone()))["ok"]["fee_minor"], "0");
    let changed = |name: &str, value: Value| {
        let mut schedule = ok.clone();
        schedule[name] = value;
        with(schedule)
    };
    refused("fee", &changed("currency", json!("USD")), "invalid_request", "/schedule/currency");
    refused("fee", &changed("currency", json!("XAU")), "invalid_request", "/schedule/currency");
    refused("fee", &changed("rate_ppm", json!(1_000_001)), "invalid_request", "/schedule/rate_ppm");
    refused("fee", &changed("rate_ppm", json!("1")), "invalid_request", "/schedule/rate_ppm");
    refused("fee", &changed("fixed_minor", json!(1)), "invalid_request", "/schedule/fixed_minor");
    refused("fee", &changed("extra", json!(1)), "invalid_request", "/schedule/extra");
    refused("fee", &changed("discounts", json!({})), "invalid_request", "/schedule/discounts");
    let discount = json!({"from_volume_minor": "0", "factor_ppm": 1, "x": 0});
    refused("fee", &changed("discounts", json!([discount])), "invalid_request", "/schedule/discounts/0/x");
    let discount = json!({"from_volume_minor": "5", "factor_ppm": 1});
    refused("fee", &changed("discounts", json!([discount, discount])), "invalid_request", "/schedule/discounts");
    refused("fee", &with(json!([])), "invalid_request", "/schedule");
    refused("split", &json!({"total_minor": "1", "shares_ppm": []}), "invalid_request", "/shares_ppm");
    refused("split", &json!({"total_minor": "1", "shares_ppm": [1_000_000, -1]}), "invalid_request", "/shares_ppm/1");
    refused("split", &json!({"total_minor": "1", "shares_ppm": [0.5]}), "invalid_request", "/shares_ppm/0");
    refused("payout", &json!({"currency": "EUR", "amount_minor": "5000"}), "no_tariff", "/currency");
    refused("payout", &json!({"currency": "USD", "amount_minor": "2499"}), "invalid_request", "/amount_minor");
    assert_eq!(
        ask("payout", &json!({"currency": "USD", "amount_minor": "2500"}))["ok"],
        json!({"fee_minor": "50", "net_minor": "2450"})
    );
}

#[test]
fn tiers_are_priced_and_what_is_too_much_is_refused() {
    let request = |used: Value, tiers: Value| json!({"currency": "USD", "used": used, "reserved": 1, "tiers": tiers});
    let tier = |threshold: Value, price: &str| json!({"threshold": threshold, "unit_price_nano": price});
    let answer = ask("tiers", &request(json!(8), json!([tier(json!(2), "1000000000"), tier(json!(3), "2000000000")])));
    let lines = json!([{"tier": 0, "units": 2}, {"tier": 1, "units": 5}]);
    assert_eq!(answer["ok"], json!({"overage": 7, "total_minor": "1200", "lines": lines}));
    refused("tiers", &request(json!(8), json!([])), "invalid_request", "/tiers");
    refused("tiers", &request(json!("8"), json!([tier(json!(1), "1")])), "invalid_request", "/used");
    refused("tiers", &request(json!(8), json!([tier(json!(-1), "1")])), "invalid_request", "/tiers/0/threshold");
    refused("tiers", &request(json!(8), json!([tier(json!(1), "-1")])), "invalid_request", "/tiers/0/unit_price_nano");
    refused("tiers", &request(json!(8), json!([1])), "invalid_request", "/tiers/0");
    let dear = ask("tiers", &request(json!(9_007_199_254_740_991_u64), json!([tier(json!(1), "9223372036854775807")])));
    assert_eq!(dear["error"]["code"], "invalid_request");
}

#[test]
fn credits_and_minor_units_take_decimals_as_texts_or_numbers() {
    let credits = |benchmark: Value, duration: Value| {
        ask("credits", &json!({"benchmark_seconds": benchmark, "duration_seconds": duration}))["ok"].clone()
    };
    for benchmark in [json!("17.5"), json!("17.50"), json!(17.5)] {
        assert_eq!(credits(benchmark, json!("120")), json!({"multiplier": "2.00", "credits": 240}));
    }
    for bad in [json!("0"), json!("-1"), json!(0), json!("x"), json!(null), json!("1e-19")] {
        refused(
            "credits",
            &json!({"benchmark_seconds": bad, "duration_seconds": "1"}),
            "invalid_request",
            "/benchmark_seconds",
        );
        refused(
            "credits",
            &json!({"benchmark_seconds": "1", "duration_seconds": bad}),
            "invalid_request",
            "/duration_seconds",
        );
    }
    assert_eq!(
        ask("credits", &json!({"benchmark_seconds": "1", "duration_seconds": "1e18"}))["error"]["code"],
        "invalid_request"
    );

    let minor = |currency: &str, amount: Value| ask("minor-units", &json!({"currency": currency, "amount": amount}));
    for (currency, amount, expected) in [
        ("USD", json!("12.50"), "1250"),
        ("USD", json!(12.5), "1250"),
        ("USD", json!("1.25e1"), "1250"),
        ("JPY", json!("1e3"), "1000"),
        ("KWD", json!("1.001"), "1001"),
        ("USD", json!("-0.01"), "-1"),
        // What the cid covers is 0.1: the digits behind it are not in binary64.
        ("USD", json!("0.10000000000000000000000001"), "10"),
    ] {
        assert_eq!(minor(currency, amount.clone())["ok"]["minor"], expected, "{amount}");
    }
    for bad in ["1.005", " 1", "1 ", "", "true", "\"1\"", "[1]", "1e300", "-"] {
        let answer = minor("USD", json!(bad));
        assert_eq!(answer["error"]["pointer"], "/amount", "{bad}: {answer}");
    }
    refused("minor-units", &json!({"currency": "USD", "amount": "9007199254740993"}), "not_i_json", "/amount");
    for currency in ["usd", "XAU", "XXX", "ABC", ""] {
        refused("minor-units", &json!({"currency": currency, "amount": "1"}), "invalid_request", "/currency");
    }
}

#[test]
fn addresses_and_urls_are_judged_with_a_reason() {
    let address = |text: &str| ask("ssrf-address", &json!({"address": text}))["ok"]["verdict"].clone();
    for text in [
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "0177.0.0.1",
        "2130706433",
        "::ffff:8.8.8.8",
        "fe80::1%eth0",
        "[::1]",
        "",
        "8.8.8.8 ",
    ] {
        assert_eq!(address(text), "deny", "{text}");
    }
    for text in ["8.8.8.8", "2606:4700::1111", "64:ff9b::8.8.8.8", "64:FF9B::808:808"] {
        assert_eq!(address(text), "allow", "{text}");
    }
    refused(
        "ssrf-address",
        &json!({"address": "::1", "nat64_prefixes": ["64:ff9b::/33"]}),
        "invalid_request",
        "/nat64_prefixes/0",
    );
    let url = json!({"url": "https://Bücher.example:443/x", "allowlist": ["bücher.example"], "addresses": ["93.184.215.14", "2606:4700::1111"]});
    let expected = json!({
        "verdict": "allow", "reason": "allowlisted", "host": "xn--bcher-kva.example", "port": 443,
        "dial": ["93.184.215.14:443", "[2606:4700::1111]:443"],
    });
    assert_eq!(ask("ssrf-url", &url)["ok"], expected);
    let reason = |addresses: Value| {
        ask("ssrf-url", &json!({"url": "https://a.example/", "allowlist": ["a.example"], "addresses": addresses}))["ok"]
            ["reason"]
            .clone()
    };
    assert_eq!(reason(json!([])), "unresolved");
    assert_eq!(reason(json!(["8.8.8.8", "10.0.0.1"])), "private");
    assert_eq!(reason(json!(["127.1"])), "not_an_address");
    refused("ssrf-url", &json!({"url": "https://a.example/", "allowlist": "*"}), "invalid_request", "/allowlist");
    refused(
        "ssrf-url",
        &json!({"url": "https://a.example/", "allowlist": ["*", 1]}),
        "invalid_request",
        "/allowlist/1",
    );
}

#[test]
fn webhooks_are_signed_and_verified_during_a_rotation() {
    let secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_PiPoFgA5WUoziU9lZOGxNIu9egCI1CxKy3PurtWcAJ0="];
    let sign = |secret: &str| {
        let request = json!({"webhook_id": "msg_1", "webhook_timestamp": "1000", "body": "{}", "secret": secret});
        ask("webhook-sign", &request)["ok"]["v1"].as_str().unwrap().to_owned()
    };
    let both = format!("{} {}", sign(secrets[0]), sign(secrets[1]));
    let verify = |signature: &str, secrets: &[&str], now: i64| {
        let headers =
            json!({"Webhook-Id": "msg_1", "WEBHOOK-TIMESTAMP": "1000", "webhook-signature": signature, "host": "x"});
        let request = json!({
            "headers": headers, "body": "{}", "secrets": secrets, "public_keys": [], "now": now, "tolerance_seconds": 300,
        });
        ask("webhook-verify", &request)["ok"]["reason"].as_str().unwrap().to_owned()
    };
    for known in [&secrets[..], &secrets[..1], &secrets[1..]] {
        assert_eq!(verify(&both, known, 1_300), "signature_matches");
    }
    assert_eq!(verify(&sign(secrets[0]), &secrets, 700), "signature_matches");
    assert_eq!(verify(&sign(secrets[0]), &secrets[1..], 1_000), "no_signature_matches");
    assert_eq!(verify(&both, &secrets, 1_301), "too_old");
    assert_eq!(verify(&both, &secrets, 699), "too_new");
    assert_eq!(verify(&both, &["whsec_!"], 1_000), "no_signature_matches");
    let headers = |headers: Value| {
        let request = json!({
            "headers": headers, "body": "", "secrets": [], "public_keys": [], "now": 0, "tolerance_seconds": 0,
        });
        ask("webhook-verify", &request)
    };
    assert_eq!(headers(json!({}))["ok"], json!({"verdict": "invalid", "reason": "missing_header"}));
    assert_eq!(headers(json!({"webhook-id": "a", "Webhook-Id": "a"}))["ok"]["reason"], "repeated_header");
    assert_eq!(headers(json!({"webhook-id": 1}))["error"]["pointer"], "/headers/webhook-id");
    let request = |name: &str, value: &str| {
        let mut request = json!({"webhook_id": "a", "webhook_timestamp": "1", "body": "", "secret": secrets[0]});
        request[name] = value.into();
        request
    };
    refused("webhook-sign", &request("webhook_id", "a.b"), "invalid_request", "/webhook_id");
    refused("webhook-sign", &request("webhook_timestamp", "01"), "invalid_request", "/webhook_timestamp");
    refused("webhook-sign", &request("secret", "abc"), "invalid_request", "/secret");
    refused("webhook-sign", &request("private_key", "whsk_AAAA"), "invalid_request", "/private_key");
    refused(
        "webhook-sign",
        &json!({"webhook_id": "a", "webhook_timestamp": "1", "body": ""}),
        "invalid_request",
        "/secret",
    );
}

#[test]
fn compat_hashes_point_into_their_input() {
    let request = |recipe: &str, input: &str| json!({"recipe": recipe, "input": input});
    let key = |amount: &str| {
        let input = format!(r#"{{"deal_id":"deal_0123456789ab","action":"settle","params":{{"amount":{amount}}}}}"#);
        ask("compat-hash", &request("A-26", &input))["ok"]["hash"].clone()
    };
    assert_eq!(key("100.0"), "idem_bd4974f25bd1b7d459b615d0");
    assert_eq!(key("100"), "idem_6a22653807d69be3b49db469");
    refused("compat-hash", &request("A-34", "{}"), "invalid_request", "/recipe");
    refused("compat-hash", &request("A-27", "{}"), "invalid_request", "/event_id");
    refused("compat-hash", &request("A-29", "{"), "malformed_json", "");
    refused("compat-hash", &request("A-29", "[{\"a\":1,\"a\":2}]"), "not_i_json", "/0/a");
    refused("compat-hash", &json!({"recipe": "A-29", "input": []}), "invalid_request", "/input");
}
