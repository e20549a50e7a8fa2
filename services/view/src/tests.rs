//! The read model over hand-made topics, on both databases, and every GET.

mod world;

use std::sync::Arc;
use std::time::Duration;

use access::{ApiKey, Authenticator, Directory};
use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use event::wire::TenantConfig;
use http_body_util::BodyExt as _;
use log::embedded::EmbeddedLog;
use log::{Log, Position, Record, Topic};
use serde_json::{Value, json};
use stage::Stop;
use tower::ServiceExt as _;

use crate::db::Db;
use crate::rows::Rows;
use crate::store::{self, Advance};
use crate::{BundleKey, Database, View, ViewError, ViewState, follow, rebuild, router, tables, topics};
use world::{BEGAN, EXCHANGES, World, exchange_id, open_log, postgres, sqlite, write};

const PATIENCE: Duration = Duration::from_secs(30);

/// Every row of every table, as text, in an order of its own.
async fn dump(db: &Db) -> Vec<String> {
    let tables = [
        &tables::EXCHANGE,
        &tables::RECEIPT,
        &tables::DELIVERY,
        &tables::USAGE_TOTAL,
        &tables::COMMAND,
        &tables::OWED,
        &tables::ENTRY,
        &tables::HOP,
        &tables::PUBLIC_KEY,
    ];
    let mut lines = Vec::new();
    for table in tables {
        let columns: Vec<String> = table.columns.iter().map(|column| format!("CAST({column} AS TEXT)")).collect();
        for row in db.fetch(&format!("SELECT {} FROM {}", columns.join(", "), table.name), &[]).await.unwrap() {
            let cells: Vec<String> =
                (0..columns.len()).map(|column| row.text(column).unwrap().unwrap_or("NULL".into())).collect();
            lines.push(format!("{}: {}", table.name, cells.join(" | ")));
        }
    }
    lines.sort();
    lines
}

async fn take_in(db: &Db, records: &[Record]) {
    let mut rows = Rows::default();
    for record in records {
        rows.add(record).unwrap();
    }
    store::apply(db, rows, &[]).await.unwrap();
}

/// The order between topics, the size of the batches and reading twice change nothing.
async fn arrival_in_any_order_gives_the_same_rows(database: Database, seeds: u64) {
    let world = World::full();
    let db = Db::writer(&database).await.unwrap();
    take_in(&db, &world.records).await;
    let expected = dump(&db).await;
    assert!(expected.len() > 100, "{}", expected.len());
    for seed in 0..seeds {
        store::wipe(&db).await.unwrap();
        let records = world.shuffled(seed);
        let batch = [1, 3, 7, 40][usize::try_from(seed % 4).unwrap()];
        for batch in records.chunks(batch) {
            take_in(&db, batch).await;
        }
        assert_eq!(dump(&db).await, expected, "seed {seed}");
        take_in(&db, &world.shuffled(seed + 100)).await;
        assert_eq!(dump(&db).await, expected, "seed {seed}, read twice");
    }
    db.close().await;
}

#[tokio::test]
async fn arrival_in_any_order_gives_the_same_rows_in_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    arrival_in_any_order_gives_the_same_rows(sqlite(dir.path()), 24).await;
}

#[tokio::test]
async fn arrival_in_any_order_gives_the_same_rows_in_postgresql() {
    arrival_in_any_order_gives_the_same_rows(postgres(), 8).await;
}

async fn a_follower_that_was_overtaken_writes_nothing(database: Database) {
    let db = Db::writer(&database).await.unwrap();
    let at = |offset| Position { topic: Topic::new("exchange.sealed.v1"), partition: 1, offset };
    let advance = |from: Option<u64>, to| Advance { from: from.map(at), to: at(to) };
    let rows = || {
        let mut rows = Rows::default();
        rows.add(&World::full().records[0]).unwrap();
        rows
    };
    store::apply(&db, Rows::default(), &[advance(None, 5)]).await.unwrap();
    for stale in [advance(None, 7), advance(Some(4), 7)] {
        let refused = store::apply(&db, rows(), &[stale]).await;
        assert!(matches!(refused, Err(ViewError::Overtaken(_))), "{refused:?}");
        assert_eq!(dump(&db).await, Vec::<String>::new());
    }
    store::apply(&db, rows(), &[advance(Some(5), 7)]).await.unwrap();
    assert_eq!(store::positions(&db).await.unwrap(), [at(7)]);
    assert_eq!(dump(&db).await.len(), 1);
    db.close().await;
}

#[tokio::test]
async fn a_follower_that_was_overtaken_writes_nothing_to_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    a_follower_that_was_overtaken_writes_nothing(sqlite(dir.path())).await;
}

#[tokio::test]
async fn a_follower_that_was_overtaken_writes_nothing_to_postgresql() {
    a_follower_that_was_overtaken_writes_nothing(postgres()).await;
}

fn ends(log: &dyn Log) -> Vec<Position> {
    topics().iter().flat_map(|topic| log.ends(topic).unwrap()).collect()
}

/// Runs a follower beside `work`.
async fn followed<T>(log: &EmbeddedLog, view: &View, work: impl AsyncFnOnce() -> T) -> T {
    let stop = Stop::new();
    let follower = std::thread::spawn({
        let (log, view, stop) = (log.clone(), view.clone(), stop.clone());
        move || follow(&log, &view, &stop)
    });
    let result = work().await;
    stop.request();
    tokio::task::spawn_blocking(move || follower.join().unwrap().unwrap()).await.unwrap();
    result
}

async fn caught_up(log: &EmbeddedLog, view: &View) {
    assert!(view.progress.reach(&ends(log), PATIENCE).await, "the follower stands at {:?}", view.positions());
}

async fn a_restart_goes_on_and_a_rebuild_ends_equal(database: Database) {
    let dir = tempfile::tempdir().unwrap();
    let log = open_log(&dir.path().join("log"));
    let world = World::full();
    let (first, second) = world.records.split_at(world.records.len() / 2);
    write(&log, first);
    let view = View::open(database.clone()).await.unwrap();
    assert!(!view.lag().known);
    followed(&log, &view, async || caught_up(&log, &view).await).await;
    let half_way = view.positions();
    view.close().await;

    write(&log, second);
    let view = View::open(database.clone()).await.unwrap();
    let moved: Vec<Position> = half_way.into_iter().filter(|at| at.offset > 0).collect();
    assert_eq!(view.positions(), moved, "the stored positions are the ones it had come to");
    followed(&log, &view, async || caught_up(&log, &view).await).await;
    let followed_rows = dump(&view.reader).await;
    assert!(followed_rows.iter().any(|line| line.starts_with("entry: ")));

    let rebuilt = {
        let (log, view) = (log.clone(), view.clone());
        tokio::task::spawn_blocking(move || rebuild(&log, &view, &Stop::new())).await.unwrap()
    };
    rebuilt.unwrap();
    assert_eq!(dump(&view.reader).await, followed_rows);
    assert!(view.progress.reach(&ends(&log), Duration::ZERO).await);
    view.close().await;
}

#[tokio::test]
async fn a_restart_goes_on_and_a_rebuild_ends_equal_in_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    a_restart_goes_on_and_a_rebuild_ends_equal(sqlite(dir.path())).await;
}

#[tokio::test]
async fn a_restart_goes_on_and_a_rebuild_ends_equal_in_postgresql() {
    a_restart_goes_on_and_a_rebuild_ends_equal(postgres()).await;
}

/// What a test of GET needs.
struct Edge {
    log: EmbeddedLog,
    view: View,
    routes: Router,
    acme: String,
    globex: String,
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
        let (writer_only, writer_entry) = api_key("acme", "exchange:write");
        let directory = Arc::new(Directory::of([acme_entry, globex_entry, writer_entry]));
        let bundle_key = Arc::new(BundleKey::open(&dir.path().join("signing"), BEGAN / 1000).unwrap());
        let routes = router(ViewState {
            view: view.clone(),
            log: Arc::new(log.clone()),
            authenticator: Authenticator::new(directory),
            bundle_key,
        });
        let routes = access::edge::dress(routes, "https://x.example");
        Self { log, view, routes, acme, globex, writer_only, _dir: dir }
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
fn the_bundle_key_is_made_once_for_its_owner_only_and_published() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let signing = dir.path().join("signing");
    let made = BundleKey::open(&signing, 1_000_000).unwrap();
    assert_eq!(made.public().nbf(), 1_000_000 - 86_400);
    let mode = std::fs::metadata(signing.join("view.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o400);
    assert_eq!(std::fs::read_dir(&signing).unwrap().count(), 1);
    assert_eq!(BundleKey::open(&signing, 2_000_000).unwrap().public(), made.public());

    let log = open_log(&dir.path().join("log"));
    made.publish(&log).unwrap();
    assert_eq!(log.ends(&Topic::new("signing_key.v1")).unwrap()[0].offset, 1);
}

#[test]
fn the_routes_are_described() {
    let document = serde_json::to_value(<crate::ViewApi as utoipa::OpenApi>::openapi()).unwrap();
    assert_eq!(document["paths"].as_object().unwrap().len(), 8);
    assert!(document["components"]["schemas"]["ExchangeView"].is_object());
}
