//! Every GET, over both databases.

use std::sync::Arc;

use access::{ApiKey, Authenticator, Directory};
use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use event::wire::TenantConfig;
use http_body_util::BodyExt as _;
use log::embedded::EmbeddedLog;
use proof::SigningKey;
use serde_json::{Value, json};
use signing::{Keyring, SigningKeys};
use tower::ServiceExt as _;

use super::world::{BEGAN, EXCHANGES, World, exchange_id, open_log, postgres, sqlite, write};
use super::{caught_up, ends, followed};
use crate::{Database, View, ViewState, router};

/// What a test of GET needs.
struct Edge {
    log: EmbeddedLog,
    view: View,
    routes: Router,
    acme: String,
    globex: String,
    newcomer: String,
    writer_only: String,
    _dir: tempfile::TempDir,
}

fn api_key(tenant: &str, scopes: &str) -> (String, TenantConfig) {
    let api_key = ApiKey::generate();
    let entry = TenantConfig {
        kind: "api_key".into(),
        id: api_key.digest().to_string(),
        tenant: tenant.into(),
        body: json!({"scopes": scopes.split(',').collect::<Vec<_>>()}).to_string(),
        removed: false,
    };
    (api_key.expose().to_owned(), entry)
}

impl Edge {
    async fn open(database: Option<Database>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = open_log(&dir.path().join("log"));
        let view = View::open(database.unwrap_or_else(|| sqlite(dir.path()))).await.unwrap();
        let read = "exchange:read,receipt:read,ledger:read";
        let (acme, acme_entry) = api_key("acme", read);
        let (globex, globex_entry) = api_key("globex", read);
        let (newcomer, newcomer_entry) = api_key("newcomer", read);
        let (writer_only, writer_entry) = api_key("acme", "exchange:write");
        let directory = Arc::new(Directory::of([acme_entry, globex_entry, newcomer_entry, writer_entry]));
        let bundle_keys = Keyring::fixed(SigningKeys::new(vec![SigningKey::from_seed(&[5; 32], BEGAN / 1_000, None)]));
        let routes = router(ViewState {
            view: view.clone(),
            log: Arc::new(log.clone()),
            authenticator: Authenticator::new(directory),
            bundle_keys,
        });
        let routes = access::edge::dress(routes, "https://x.example");
        Self { log, view, routes, acme, globex, newcomer, writer_only, _dir: dir }
    }

    async fn get(&self, key: &str, uri: &str) -> (StatusCode, axum::http::HeaderMap, Value) {
        let request = Request::get(uri).header(header::AUTHORIZATION, format!("Bearer {key}"));
        let response = self.routes.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status, parts.headers, serde_json::from_slice(&body).unwrap_or_default())
    }

    async fn found(&self, uri: &str) -> Value {
        let (status, _, body) = self.get(&self.acme, uri).await;
        assert_eq!(status, StatusCode::OK, "{uri}: {body}");
        body
    }

    /// Follows `rel="next"` to the end.
    async fn pages(&self, uri: &str, list: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let mut next = Some(uri.to_owned());
        while let Some(uri) = next {
            let (status, headers, body) = self.get(&self.acme, &uri).await;
            assert_eq!(status, StatusCode::OK, "{uri}: {body}");
            items.extend(body[list].as_array().unwrap().iter().cloned());
            next = headers.get(header::LINK).map(|link| {
                let link = link.to_str().unwrap();
                assert!(link.ends_with("; rel=\"next\""), "{link}");
                link[1..link.find('>').unwrap()].to_owned()
            });
            assert!(items.len() < 1_000, "the pages do not end");
        }
        items
    }
}

async fn every_get_answers_as_the_contract_says(database: Option<Database>) {
    let edge = Edge::open(database).await;
    write(&edge.log, &World::full().records);
    let (log, view) = (edge.log.clone(), edge.view.clone());
    followed(&log, &view, async || {
        caught_up(&edge.log, &edge.view).await;
        exchanges_answer(&edge).await;
        receipts_and_bundles_answer(&edge).await;
        usage_and_ledger_answer(&edge).await;
        refusals_answer(&edge).await;
    })
    .await;
    view.close().await;
}

#[tokio::test]
async fn every_get_answers_as_the_contract_says_from_sqlite() {
    every_get_answers_as_the_contract_says(None).await;
}

#[tokio::test]
async fn every_get_answers_as_the_contract_says_from_postgresql() {
    every_get_answers_as_the_contract_says(Some(postgres())).await;
}

async fn exchanges_answer(edge: &Edge) {
    let id = exchange_id("acme", "key-0");
    let exchange = edge.found(&format!("/v1/exchanges/{id}")).await;
    assert_eq!(exchange["exchange_id"], id.as_str());
    assert_eq!((&exchange["trace_id"], &exchange["status"]), (&json!("trace-1"), &json!("sealed")));
    assert_eq!(exchange["at"], "2026-11-01T00:00:00.000Z");
    assert_eq!(exchange["receipt"]["hop"], 1);
    assert_eq!(exchange["refusal"], Value::Null);
    assert_eq!(exchange["usage"], json!({"vex": 1, "fu": 3, "month": "2026-11"}));
    assert_eq!(exchange["deliveries"][0]["attempts"][1]["status"], 200);
    assert_eq!(exchange["deliveries"][0]["attempts"][0]["at"], "2026-11-01T00:00:00.001Z");
    assert_eq!(exchange["settlement"]["state"], "posted");
    assert_eq!(exchange["settlement"]["posted"]["fee_minor"], "25");
    let amount = &exchange["settlement"]["owed"]["transfers"][0]["amount"];
    assert_eq!(amount, &json!({"currency": "USD", "minor": "1000"}));
    let notes: Vec<&str> =
        exchange["positions"].as_array().unwrap().iter().filter_map(|hop| hop["note"].as_str()).collect();
    for note in ["admitted", "sealed", "metered", "owed", "posted", "delivered", "replay"] {
        assert!(notes.contains(&note), "{note} is not among {notes:?}");
    }

    let refused = edge.found(&format!("/v1/exchanges/{}", exchange_id("acme", "refused"))).await;
    assert_eq!((&refused["status"], &refused["refusal"]["code"]), (&json!("refused"), &json!("schema_violation")));
    assert_eq!(refused["refusal"]["errors"][0]["pointer"], "/payload/a");
    let reused = edge.found(&format!("/v1/exchanges/{}", exchange_id("acme", "key-1"))).await;
    assert_eq!((&reused["status"], &reused["refusal"]), (&json!("sealed"), &Value::Null), "the original stands");
    assert_eq!(edge.found(&format!("/v1/exchanges/{}", exchange_id("acme", "dead"))).await["status"], "dead");
    assert_eq!(edge.found(&format!("/v1/exchanges/{}", exchange_id("acme", "waiting"))).await["status"], "accepted");

    for absent in
        [exchange_id("acme", "forged"), exchange_id("acme", "never"), exchange_id("globex", "key-0"), "ex_x".into()]
    {
        let (status, headers, problem) = edge.get(&edge.acme, &format!("/v1/exchanges/{absent}")).await;
        assert_eq!((status, &problem["code"]), (StatusCode::NOT_FOUND, &json!("not_found")), "{absent}");
        assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json");
    }
    let why = edge.view.why(&exchange_id("globex", "key-0")).await.unwrap().unwrap();
    assert_eq!((why.tenant.as_str(), why.entries.len()), ("globex", 2));

    let all = edge.pages("/v1/exchanges?limit=4", "exchanges").await;
    assert_eq!(all.len(), EXCHANGES + 3);
    assert!(all.is_sorted_by_key(|line| std::cmp::Reverse(line["at"].as_str().unwrap().to_owned())));
    let sealed = edge.pages("/v1/exchanges?status=sealed&limit=5", "exchanges").await;
    assert_eq!(sealed.len(), EXCHANGES);
    assert_eq!(edge.pages("/v1/exchanges?trace_id=trace-9", "exchanges").await.len(), 3);
    let window = "/v1/exchanges?from=2026-11-01T00:01:00.000Z&to=2026-11-01T00:03:00Z&limit=1";
    assert_eq!(edge.pages(window, "exchanges").await.len(), 2);
}

async fn receipts_and_bundles_answer(edge: &Edge) {
    let receipts = edge.pages("/v1/traces/trace-1/receipts?limit=5", "receipts").await;
    let hops: Vec<i64> = receipts.iter().map(|receipt| receipt["hop"].as_i64().unwrap()).collect();
    assert_eq!(hops, (1..=12).collect::<Vec<_>>());

    let bundle = edge.found("/v1/traces/trace-1/bundle").await;
    assert_eq!(bundle["chain"], exchange_id("acme", "key-0"));
    assert_eq!(bundle["receipts"].as_array().unwrap().len(), EXCHANGES);
    let trust = proof::Trust { given: &proof::KeyRing::new(), embedded: true };
    let verdict = proof::verify(bundle.to_string().as_bytes(), trust, &[]);
    assert_eq!(verdict.verdict, proof::Code::Ok, "{verdict:?}");
    let named = edge.found(&format!("/v1/traces/trace-1/bundle?chain={}", exchange_id("acme", "key-0"))).await;
    assert_eq!(named["receipts"], bundle["receipts"]);

    let other = exchange_id("globex", "key-0");
    for absent in
        ["/v1/traces/none/receipts", "/v1/traces/none/bundle", &format!("/v1/traces/trace-1/bundle?chain={other}")]
    {
        assert_eq!(edge.get(&edge.acme, absent).await.0, StatusCode::NOT_FOUND, "{absent}");
    }
}

async fn usage_and_ledger_answer(edge: &Edge) {
    let usage = edge.found("/v1/usage?month=2026-11").await;
    assert_eq!(usage["meters"][0]["meter"], "vex");
    assert_eq!((&usage["meters"][0]["total"], &usage["meters"][1]["total"]), (&json!(12), &json!(36)));
    assert_eq!(edge.found("/v1/usage?month=2026-10").await["meters"][0]["total"], 0);

    // Priced are 0, 3, 6 and 9: posted, parked, owed, posted.
    let usd = |minor: &str| json!({"currency": "USD", "minor": minor});
    let main = edge.found("/v1/accounts/acme:main/balance").await;
    let expected =
        json!({"posted": usd("-2000"), "pending": usd("-1000"), "available": usd("-3000"), "parked": usd("-1000")});
    assert_eq!(main["balances"], json!([expected]));
    assert_eq!(edge.found("/v1/accounts/main/balance").await["balances"], main["balances"]);
    let bob = edge.found("/v1/accounts/acme:bob/balance").await;
    assert_eq!(bob["balances"][0]["posted"], usd("1950"));
    let early = edge.found("/v1/accounts/acme:main/balance?at=2026-11-01T00:00:30.000Z").await;
    assert_eq!((&early["balances"][0]["posted"], &early["at"]), (&usd("-1000"), &json!("2026-11-01T00:00:30.000Z")));
    let before = edge.found("/v1/accounts/acme:bob/balance?at=2026-10-01T00:00:00.000Z").await;
    assert_eq!(before["balances"], json!([]));
    let accounts = edge.found("/v1/accounts").await;
    let names: Vec<&str> =
        accounts["accounts"].as_array().unwrap().iter().filter_map(|a| a["account"].as_str()).collect();
    assert_eq!(names, ["acme:bob", "acme:main"]);
    let paged = edge.pages("/v1/accounts?limit=1", "accounts").await;
    assert_eq!(json!(paged), accounts["accounts"], "page by page it is the same");
    assert_eq!(edge.get(&edge.acme, "/v1/accounts?limit=2").await.1.get("link"), None, "a full page may be the last");
    let (_, _, new) = edge.get(&edge.newcomer, "/v1/accounts").await;
    assert_eq!(
        new["accounts"],
        json!([{"account": "newcomer:main", "balances": []}]),
        "who pays is there from the start"
    );
    for absent in
        ["/v1/accounts/globex:main/balance", "/v1/accounts/acme:eve/balance", "/v1/accounts/countersign:fees/balance"]
    {
        assert_eq!(edge.get(&edge.acme, absent).await.0, StatusCode::NOT_FOUND, "{absent}");
    }

    let entries = edge.pages("/v1/ledger/entries?limit=1", "entries").await;
    assert_eq!(entries.len(), 4);
    let of_one =
        edge.pages(&format!("/v1/ledger/entries?exchange_id={}", exchange_id("acme", "key-9")), "entries").await;
    assert_eq!(of_one.len(), 2);
    assert_eq!(edge.pages("/v1/ledger/entries?account=bob&limit=1", "entries").await.len(), 2);
    assert_eq!(of_one[1]["amount"], usd("975"));
}

async fn refusals_answer(edge: &Edge) {
    let invalid = [
        "/v1/exchanges?limit=0",
        "/v1/exchanges?limit=501",
        "/v1/exchanges?status=done",
        "/v1/exchanges?from=yesterday",
        "/v1/exchanges?cursor=nonsense",
        "/v1/exchanges?trace=trace-1",
        "/v1/exchanges?limit=1&limit=2",
        "/v1/exchanges?trace_id=%20",
        "/v1/traces/trace-1/receipts?cursor=W10",
        "/v1/traces/trace-1/bundle?chain=x",
        "/v1/usage",
        "/v1/usage?month=2026-13",
        "/v1/accounts?limit=0",
        "/v1/accounts?cursor=nonsense",
        "/v1/accounts/acme:main/balance?at=now",
        "/v1/ledger/entries?account=globex:main",
        "/v1/ledger/entries?exchange_id=x",
    ];
    for uri in invalid {
        let (status, _, problem) = edge.get(&edge.acme, uri).await;
        assert_eq!((status, &problem["code"]), (StatusCode::BAD_REQUEST, &json!("invalid_parameter")), "{uri}");
    }
    let id = exchange_id("acme", "key-0");
    for (uri, scope) in [
        (format!("/v1/exchanges/{id}"), "exchange:read"),
        ("/v1/exchanges".into(), "exchange:read"),
        ("/v1/traces/trace-1/receipts".into(), "receipt:read"),
        ("/v1/traces/trace-1/bundle".into(), "receipt:read"),
        ("/v1/usage?month=2026-11".into(), "ledger:read"),
        ("/v1/accounts".into(), "ledger:read"),
        ("/v1/accounts/acme:main/balance".into(), "ledger:read"),
        ("/v1/ledger/entries".into(), "ledger:read"),
    ] {
        let (status, _, problem) = edge.get(&edge.writer_only, &uri).await;
        assert_eq!((status, &problem["code"]), (StatusCode::FORBIDDEN, &json!("missing_scope")), "{uri}");
        assert!(problem["detail"].as_str().unwrap().contains(scope), "{uri}: {problem}");
        assert_eq!(edge.get("nothing", &uri).await.0, StatusCode::UNAUTHORIZED, "{uri}");
    }
    assert_eq!(edge.get(&edge.globex, &format!("/v1/exchanges/{id}")).await.0, StatusCode::NOT_FOUND);
    assert_eq!(edge.get(&edge.globex, "/v1/ledger/entries").await.2["entries"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn what_was_just_written_is_found() {
    let edge = Edge::open(None).await;
    let (log, view) = (edge.log.clone(), edge.view.clone());
    followed(&log, &view, async || {
        let mut world = World::default();
        for number in 0..20 {
            let key = format!("fresh-{number}");
            world.request("acme", &key, None, BEGAN);
            let written = world.records.len();
            write(&edge.log, &world.records[written - 1..]);
            let (status, headers, body) =
                edge.get(&edge.acme, &format!("/v1/exchanges/{}", exchange_id("acme", &key))).await;
            assert_eq!((status, &body["status"]), (StatusCode::OK, &json!("accepted")), "{key}");
            assert_eq!(body["trace_id"], body["exchange_id"]);
            drop(headers);
        }
    })
    .await;
}

#[tokio::test]
async fn the_answer_says_how_far_behind_it_is() {
    let edge = Edge::open(None).await;
    let world = World::full();
    write(&edge.log, &world.records);
    edge.view.progress.measure(&ends(&edge.log));
    assert_eq!(edge.view.lag().records(), u64::try_from(world.records.len()).unwrap());
    let (_, headers, _) = edge.get(&edge.acme, "/v1/accounts").await;
    assert_eq!(headers["countersign-view-lag"], world.records.len().to_string());
    let sealed = edge.view.lag().topics.into_iter().find(|topic| topic.topic == "exchange.sealed.v1").unwrap();
    assert_eq!(sealed.behind, u64::try_from(EXCHANGES).unwrap() + 1);

    let (log, view) = (edge.log.clone(), edge.view.clone());
    followed(&log, &view, async || caught_up(&edge.log, &edge.view).await).await;
    edge.view.progress.measure(&ends(&edge.log));
    assert_eq!(edge.view.lag().records(), 0);
}

#[test]
fn the_routes_are_described() {
    let document = serde_json::to_value(<crate::ViewApi as utoipa::OpenApi>::openapi()).unwrap();
    assert_eq!(document["paths"].as_object().unwrap().len(), 8);
    assert!(document["components"]["schemas"]["ExchangeView"].is_object());
}
