//! The published webhook examples, both schemes.

use event::webhook::{Clock, Message, Secret};
use proof::webhook::{WebhookPrivateKey, WebhookPublicKey, verify};
use serde_json::Value;

fn examples(name: &str) -> Option<Vec<Value>> {
    let Some(folder) = std::env::var_os("COUNTERSIGN_TEST_DATA") else {
        println!("COUNTERSIGN_TEST_DATA is not set: the webhook examples were not tried");
        assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "COUNTERSIGN_TEST_DATA must be set in CI");
        return None;
    };
    let path = std::path::Path::new(&folder).join("examples").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    Some(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

#[test]
fn messages_are_signed_as_published() {
    for row in examples("webhook-sign.jsonl").into_iter().flatten() {
        let request = &row["request"];
        let message = Message {
            id: text(request, "webhook_id"),
            timestamp: text(request, "webhook_timestamp"),
            body: text(request, "body").as_bytes(),
        };
        let secret = Secret::parse(text(request, "secret")).unwrap();
        assert_eq!(secret.sign(&message), row["expected"]["v1"], "{}", row["id"]);
        let private_key = WebhookPrivateKey::parse(text(request, "private_key")).unwrap();
        assert_eq!(private_key.sign(&message), row["expected"]["v1a"], "{}", row["id"]);
        assert_eq!(WebhookPublicKey::parse(&private_key.public().to_string()), Ok(private_key.public()));
    }
}

#[test]
fn messages_are_judged_as_published() {
    for row in examples("webhook-verify.jsonl").into_iter().flatten() {
        let (request, headers) = (&row["request"], &row["request"]["headers"]);
        let message = Message {
            id: text(headers, "webhook-id"),
            timestamp: text(headers, "webhook-timestamp"),
            body: text(request, "body").as_bytes(),
        };
        let texts = |name: &str| -> Vec<String> {
            request[name].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
        };
        let secrets: Vec<Secret> = texts("secrets").iter().filter_map(|text| Secret::parse(text).ok()).collect();
        let public_keys: Vec<WebhookPublicKey> =
            texts("public_keys").iter().filter_map(|text| WebhookPublicKey::parse(text).ok()).collect();
        let clock = Clock {
            now: request["now"].as_i64().unwrap(),
            tolerance_seconds: request["tolerance_seconds"].as_u64().unwrap(),
        };
        let outcome = verify(&message, text(headers, "webhook-signature"), clock, (&secrets, &public_keys));
        let verdict = if outcome.is_ok() { "valid" } else { "invalid" };
        assert_eq!(verdict, row["expected"]["verdict"], "{}: {}", row["id"], row["why"]);
    }
}
