//! Payload types on the whole way: what a language model wrote becomes a sealed invoice, a type is added with files alone,
//! and a dry run says all of it before and leaves no trace.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use event::digest::digest_of;
use event::door::{Limits, canonicalise};
use event::topic::{self, ADMITTED, REJECTED, REQUESTED, SEALED, SIGNING_KEY, TENANT_CONFIG};
use event::wire::{ExchangeAdmitted, ExchangeRejected, ExchangeRequested, ExchangeSealed};
use log::embedded::EmbeddedLog;
use log::{Log as _, Topic};
use proof::{Code, KeyRing, Trust};
use reqwest::{Client, Response};
use serde_json::{Value, json};

use crate::exactly_once::alone;
use crate::exactly_once::topics::values;
use crate::process::{Process, end_of, run, verify};

const INVOICE: &str = "openai.tooluse.invoice.v1";
const TARGET: &str = "invoice.iso20022.v1";
/// Where the arguments lie, in the request body.
const ARGUMENTS: &str = "/payload/tool_calls/0/function/arguments";
const GOOD: &str = r#"{"invoice_id":"INV-1","amount":12.5,"currency":"USD","customer_name":"Acme"}"#;
/// What a model writes that learned from Python.
const ALMOST: &str = r"{'invoice_id': 'INV-2', 'amount': 1250, 'currency': 'JPY', 'customer_name': 'Acme',}";
const NOTHING: &str = "I am sorry, I cannot do that.";
/// A read model follows, and settings take effect, within this.
const DEADLINE: Duration = Duration::from_secs(30);

/// A type that is nowhere but in files.
const NOTE: [(&str, &str); 5] = [
    ("note.acme.v1/type.json", r#"{"sanitise": ["line_ends"]}"#),
    ("note.acme.v1/input.schema.json", r#"{"type": "object", "required": ["text"]}"#),
    ("note.acme.v1/to/line.acme.v1/mapping.jmespath", "{Line: text, Length: length(text)}"),
    ("note.acme.v1/to/line.acme.v1/output.schema.json", r#"{"properties": {"Line": {"type": "string"}}}"#),
    ("note.acme.v1/examples/one.json", r#"{"input": {"text": "a\r\nb"}, "output": {"Line": "a\nb", "Length": 3}}"#),
];

/// A data directory whose configuration names a directory of types beside it.
fn installation(root: &Path) -> std::path::PathBuf {
    for (file, text) in NOTE {
        let path = root.join("types").join(file);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folders of a type");
        std::fs::write(path, text).expect("a file of a type");
    }
    let data = root.join("data");
    std::fs::create_dir(&data).expect("a data directory");
    let text = format!("[types]\ndirectory = '{}'\n", root.join("types").display());
    std::fs::write(data.join("countersign.toml"), text).expect("a configuration");
    data
}

fn tool_use(arguments: &str) -> Value {
    let call =
        json!({"id": "call_1", "type": "function", "function": {"name": "create_invoice", "arguments": arguments}});
    json!({"payload_type": INVOICE, "payload": {"tool_calls": [call]}, "trace_id": "trip-1"})
}

fn priced(arguments: &str) -> Value {
    let mut exchange = tool_use(arguments);
    exchange["amount"] = json!({"currency": "USD", "minor": "1250", "payee": "agent-7"});
    exchange
}

/// The digest of the canonical form of a document.
fn cid(document: &[u8]) -> String {
    let mut canonical = Vec::new();
    canonicalise(document, &Limits::default(), &mut canonical).expect("a document");
    digest_of(&canonical).to_string()
}

fn digest_of_value(value: &Value) -> String {
    cid(value.to_string().as_bytes())
}

/// One caller of the API.
struct Caller {
    base: String,
    api_key: String,
    client: Client,
}

/// Status, whether it is marked as a replay, and body.
type Answer = (u16, bool, Value);

impl Caller {
    fn new(base: &str, api_key: &str) -> Self {
        // An error means that a provider is installed already, which is all that is wanted.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = Client::builder().timeout(DEADLINE).no_proxy().build().expect("an HTTP client");
        Self { base: base.to_owned(), api_key: api_key.to_owned(), client }
    }

    async fn post(&self, path: &str, idempotency_key: Option<&str>, exchange: &Value) -> Answer {
        let request = self.client.post(format!("{}{path}", self.base)).bearer_auth(&self.api_key).json(exchange);
        let request = match idempotency_key {
            Some(idempotency_key) => request.header("Idempotency-Key", idempotency_key),
            None => request,
        };
        answer(request.send().await.expect("an answer")).await
    }

    async fn send(&self, idempotency_key: &str, exchange: &Value) -> Answer {
        self.post("/v1/exchanges", Some(idempotency_key), exchange).await
    }

    async fn dry_run(&self, idempotency_key: Option<&str>, exchange: &Value) -> (u16, Value) {
        let (status, replayed, body) = self.post("/v1/exchanges?dry_run=true", idempotency_key, exchange).await;
        assert!(!replayed, "a dry run is no replay: {body}");
        (status, body)
    }

    async fn get(&self, path: &str) -> Answer {
        let request = self.client.get(format!("{}{path}", self.base)).bearer_auth(&self.api_key);
        answer(request.send().await.expect("an answer")).await
    }

    /// The bundle of a trace once the read model has all of these receipts.
    async fn bundle(&self, trace: &str, receipts: usize) -> Value {
        let until = Instant::now() + DEADLINE;
        loop {
            let (status, _, bundle) = self.get(&format!("/v1/traces/{trace}/bundle")).await;
            if status == 200 && bundle["receipts"].as_array().is_some_and(|found| found.len() == receipts) {
                return bundle;
            }
            assert!(Instant::now() < until, "no bundle with {receipts} receipts: {status} {bundle}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn answer(response: Response) -> Answer {
    let status = response.status().as_u16();
    let replayed = response.headers().get("Idempotent-Replayed").is_some_and(|value| value == "true");
    (status, replayed, response.json().await.expect("a JSON body"))
}

/// Where every topic ends, partition by partition, but for those to which a start itself writes: keys and configuration.
fn ends(data: &Path) -> BTreeMap<String, Vec<u64>> {
    let log = EmbeddedLog::open(&data.join("log")).expect("the log of a pipeline that has ended");
    let end = |name: &str| log.ends(&Topic::new(name)).expect("its ends").iter().map(|end| end.offset).collect();
    let layouts = topic::layouts().into_iter().filter(|layout| ![SIGNING_KEY, TENANT_CONFIG].contains(&&*layout.name));
    layouts.map(|layout| (layout.name.clone(), end(&layout.name))).collect()
}

/// What each of these says, without having said it before.
async fn dry_runs(caller: &Caller) {
    let (status, told) = caller.dry_run(Some("good"), &priced(GOOD)).await;
    assert_eq!(status, 200, "{told}");
    let normalized = json!({"Document": {"Invoice": {"Id": "INV-1", "TotalMinor": 1250, "Currency": "USD", "Party": {"Name": "Acme"}}}});
    assert_eq!((&told["status"], &told["normalized"]), (&json!("admissible"), &normalized));
    assert_eq!((&told["type"]["payload"], &told["type"]["target"]), (&json!(INVOICE), &json!(TARGET)));
    assert_eq!(told["cid"], digest_of_value(&normalized));
    assert_eq!(told["request_cid"], digest_of_value(&priced(GOOD)["payload"]));
    assert_eq!(told["policy"], json!({"allowed": true, "reason": "no_forward", "host": null}));
    // 2.8 % of 12.50 and 0.28.
    assert_eq!(
        (&told["price"]["currency"], &told["price"]["minor"], &told["price"]["fee_minor"]),
        (&json!("USD"), &json!("1250"), &json!("63"))
    );
    assert_eq!(told["repairs"], json!([]));

    let (status, told) = caller.dry_run(None, &tool_use(ALMOST)).await;
    assert_eq!((status, &told["exchange_id"], &told["price"]), (200, &Value::Null, &Value::Null), "{told}");
    assert_eq!(told["normalized"]["Document"]["Invoice"]["TotalMinor"], 1250, "a yen has no smaller unit");
    assert_eq!(
        (&told["repairs"][0]["pointer"], told["repairs"][0]["rungs"][0].as_str()),
        (&json!(ARGUMENTS), Some("trailing_commas"))
    );

    for (exchange, status, code) in [
        (tool_use(NOTHING), 422, "mapping_failed"),
        (tool_use(r#"{"invoice_id":"a"}"#), 422, "schema_violation"),
        (json!({"payload_type": "nobody.knows.v1", "payload": {}}), 422, "unknown_payload_type"),
        (json!({"payload": {}, "forward_url": "https://nowhere.example/"}), 403, "destination_denied"),
    ] {
        let (came, told) = caller.dry_run(Some("refused"), &exchange).await;
        assert_eq!((came, told["code"].as_str()), (status, Some(code)), "{told}");
    }
}

#[test]
fn what_a_model_wrote_is_sealed_as_an_invoice_and_a_dry_run_leaves_no_trace() {
    let _alone = alone();
    let root = tempfile::tempdir().expect("a directory");
    let data = installation(root.path());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");

    let process = Process::start(&data, "up");
    let api_key = run(&data, &["keys", "create", "--tenant", "acme"]);
    process.stop("up");
    let before = ends(&data);
    let process = Process::start(&data, "up");
    runtime.block_on(dry_runs(&Caller::new(&process.base, api_key.trim())));
    process.stop("up");
    assert_eq!(ends(&data), before, "dry runs wrote records");

    let process = Process::start(&data, "up");
    let caller = Caller::new(&process.base, api_key.trim());
    let (sealed, bundle, jwks) = runtime.block_on(async {
        let (_, told) = caller.dry_run(Some("good"), &priced(GOOD)).await;
        let (status, replayed, first) = caller.send("good", &priced(GOOD)).await;
        assert_eq!((status, replayed), (201, false), "{first}");
        for member in ["cid", "request_cid", "type", "policy", "usage"] {
            let mut said = told[member].clone();
            // Receipts name a type; the record beside them says by which definition.
            said.as_object_mut().and_then(|said| said.remove("definition"));
            assert_eq!(first["receipt"][member], said, "{member} as the dry run said");
        }
        assert_eq!((&first["normalized"], &first["exchange_id"]), (&told["normalized"], &told["exchange_id"]));
        let again = caller.send("good", &priced(GOOD)).await;
        assert_eq!(again, (201, true, first.clone()), "the repeat is a replay");

        let (status, _, repaired) = caller.send("almost", &tool_use(ALMOST)).await;
        assert_eq!(status, 201, "{repaired}");
        assert_ne!(repaired["receipt"]["request_cid"], repaired["receipt"]["cid"]);
        assert_eq!(repaired["receipt"]["request_cid"], digest_of_value(&tool_use(ALMOST)["payload"]));
        assert_eq!(repaired["receipt"]["cid"], digest_of_value(&repaired["normalized"]));

        // Without a model to ask, the ladder ends in a refusal, which is the answer for ever.
        let (status, replayed, refused) = caller.send("nothing", &tool_use(NOTHING)).await;
        assert_eq!((status, replayed, refused["code"].as_str()), (422, false, Some("mapping_failed")), "{refused}");
        assert_eq!(refused["errors"][0]["pointer"], ARGUMENTS);
        let (status, replayed, again) = caller.send("nothing", &tool_use(NOTHING)).await;
        assert_eq!((status, replayed, again["detail"] == refused["detail"]), (422, true, true), "{again}");

        // A misspelt type does not use the key up.
        let note = json!({"payload_type": "note.acme.v1", "payload": {"text": "a\r\nb"}, "trace_id": "trip-1"});
        let mut misspelt = note.clone();
        misspelt["payload_type"] = json!("note.acne.v1");
        let (status, _, unknown) = caller.send("note", &misspelt).await;
        assert_eq!((status, unknown["code"].as_str()), (422, Some("unknown_payload_type")));
        let (status, _, noted) = caller.send("note", &note).await;
        assert_eq!((status, &noted["normalized"]), (201, &json!({"Line": "a\nb", "Length": 3})), "{noted}");

        let sealed = [first, repaired, noted];
        (sealed, caller.bundle("trip-1", 3).await, caller.get("/.well-known/jwks.json").await.2)
    });
    let ring = KeyRing::from_jwks(jwks.to_string().as_bytes()).expect("a JWKS");
    let payloads: Vec<Vec<u8>> = sealed.iter().map(|sealed| sealed["normalized"].to_string().into_bytes()).collect();
    let payloads: Vec<Option<&[u8]>> = payloads.iter().map(|payload| Some(payload.as_slice())).collect();
    let trust = Trust { given: &ring, embedded: false };
    let verdict = proof::verify(bundle.to_string().as_bytes(), trust, &payloads);
    assert_eq!((verdict.verdict, verdict.receipts), (Code::Ok, 3), "{verdict:?}");
    let by_command = verify(&["-", "--json", "--trust-embedded-keys"], &bundle.to_string());
    assert!(by_command.status.success(), "{}", String::from_utf8_lossy(&by_command.stdout));

    // What is forbidden is no longer repaired, and a dry run is how one finds out.
    run(&data, &["tenants", "set", "acme", "--repair", "off"]);
    runtime.block_on(async {
        let until = Instant::now() + DEADLINE;
        while caller.dry_run(None, &tool_use(ALMOST)).await.0 == 200 {
            assert!(Instant::now() < until, "a tenant's setting has no effect");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let (status, _, refused) = caller.send("forbidden", &tool_use(ALMOST)).await;
        assert_eq!((status, refused["code"].as_str()), (422, Some("mapping_failed")), "{refused}");
        assert_eq!(refused["errors"][0]["code"], "repair_not_allowed");
    });
    let audit = run(&data, &["audit", "--cut", "now"]);
    assert!(!audit.is_empty());
    process.stop("up");
    the_records_say_what_was_done(&data, &sealed);
}

/// One record for each decision, and in it what the receipt has no room for.
fn the_records_say_what_was_done(data: &Path, answers: &[Value; 3]) {
    let log = EmbeddedLog::open(&data.join("log")).expect("the log of a pipeline that has ended");
    assert_eq!(
        values::<ExchangeRequested>(&log, REQUESTED).len(),
        7,
        "four that were decided, two repeats, one forbidden"
    );
    let sealed: BTreeMap<String, ExchangeSealed> =
        values::<ExchangeSealed>(&log, SEALED).into_iter().map(|sealed| (sealed.exchange_id.clone(), sealed)).collect();
    assert_eq!(sealed.len(), answers.len());
    let of = |answer: &Value| &sealed[answer["exchange_id"].as_str().expect("an id")];
    let normalizations = answers.iter().map(|answer| of(answer).normalization.clone().expect("it was mapped"));
    let [good, repaired, noted]: [_; 3] = normalizations.collect::<Vec<_>>().try_into().expect("three");
    assert_eq!(good.definition, repaired.definition);
    assert_ne!(good.definition, noted.definition);
    assert!(good.repairs.is_empty() && noted.repairs.is_empty());
    let [repair]: [_; 1] = repaired.repairs.clone().try_into().expect("one string was repaired");
    assert_eq!(
        (repair.pointer.as_str(), repair.rungs),
        (ARGUMENTS, vec!["trailing_commas".to_owned(), "quotes".to_owned()])
    );
    assert_eq!(repair.received, digest_of(ALMOST.as_bytes()).to_string());
    let meant = ALMOST.replace('\'', "\"").replace(",}", "}");
    assert_eq!(repair.repaired, cid(meant.as_bytes()));
    let admitted = values::<ExchangeAdmitted>(&log, ADMITTED);
    let admissions = admitted.iter().filter_map(|admitted| admitted.admission.as_ref());
    assert_eq!(admissions.filter(|admission| admission.normalization.is_some()).count(), 3);
    let rejected = values::<ExchangeRejected>(&log, REJECTED);
    assert_eq!(rejected.iter().map(|rejected| rejected.code.as_str()).collect::<Vec<_>>(), ["mapping_failed"; 2]);
}

#[test]
fn types_are_checked_before_anything_runs_by_them_and_never_change() {
    let _alone = alone();
    let root = tempfile::tempdir().expect("a directory");
    let data = installation(root.path());
    let checked = run(&data, &["types", "check"]);
    assert!(checked.contains(&format!("ok {INVOICE} -> {TARGET}: ")), "{checked}");
    assert!(checked.contains("ok note.acme.v1 -> line.acme.v1: 1 example, sha256:"), "{checked}");
    Process::start(&data, "up").stop("up");

    // Another definition under a name that is published.
    let schema = root.path().join("types/note.acme.v1/input.schema.json");
    std::fs::write(&schema, r#"{"type": "object"}"#).expect("a file of a type");
    run(&data, &["types", "check"]);
    let ended = end_of(&data, &["up", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(!ended.status.success() && told.contains("note.acme.v1") && told.contains("never changes"), "{told}");

    // What is wrong is told by file and pointer.
    std::fs::write(&schema, r#"{"type": "objekt"}"#).expect("a file of a type");
    let ended = end_of(&data, &["types", "check"]);
    let told = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert_eq!(ended.status.code(), Some(1));
    assert!(told.contains("types/note.acme.v1/input.schema.json at /type: "), "{told}");
}
