use std::net::SocketAddr;

use access::Scopes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;

use super::*;
use crate::config::Config;
use crate::http::tests::{World, eventually};

const PATIENCE: Duration = Duration::from_secs(20);

async fn listen(world: &World, limits: ServeLimits) -> (SocketAddr, Stop, JoinHandle<io::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), Stop::new());
    let (router, stopping) = (world.router.clone(), stop.clone());
    let server = tokio::spawn(async move { serve(router, listener, limits, &stopping).await });
    (address, stop, server)
}

/// Sends bytes and reads whatever comes until the server closes.
async fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    read_to_end(&mut stream).await
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the server closes").unwrap();
    String::from_utf8(bytes).unwrap()
}

fn head(api_key: &access::ApiKey, length: usize) -> String {
    format!(
        "POST /v1/exchanges HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         idempotency-key: k\r\nprefer: wait=60\r\ncontent-length: {length}\r\n\r\n",
        api_key.expose()
    )
}

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_ends_its_head_is_cut_off_and_its_place_is_free_again() {
    let world = World::new(Config::default()).await;
    let limits =
        ServeLimits { connections_max: 1, header_timeout: Duration::from_millis(200), ..ServeLimits::default() };
    let (address, stop, server) = listen(&world, limits).await;
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(b"POST /v1/exchanges HTTP/1.1\r\nhost: x\r\nx-a: ").await.unwrap();
    // There is one place only: this answer proves that the slow one lost it.
    assert!(exchange(address, HEALTH).await.starts_with("HTTP/1.1 200"));
    assert!(!read_to_end(&mut slow).await.starts_with("HTTP/1.1 200"));
    stop.request();
    server.await.unwrap().unwrap();
    world.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_arrive_is_refused_in_time() {
    let world = World::new(Config { body_timeout: Duration::from_millis(200), ..Config::default() }).await;
    let api_key = world.api_key(&Scopes::standard()).await;
    let (address, stop, server) = listen(&world, ServeLimits::default()).await;
    let answer = exchange(address, format!("{}{{\"payload\"", head(&api_key, 100)).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("request_timeout"), "{answer}");
    stop.request();
    server.await.unwrap().unwrap();
    world.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_announced_too_large_is_refused_unread() {
    let world = World::new(Config::default()).await;
    let api_key = world.api_key(&Scopes::standard()).await;
    let (address, stop, server) = listen(&world, ServeLimits::default()).await;
    let answer = exchange(address, head(&api_key, 10_000_000).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    stop.request();
    server.await.unwrap().unwrap();
    world.end();
}

/// The HTTP library's own answers: nothing of ours sees such a request (docs/contracts/http.md).
#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_too_large_or_none_is_answered_without_a_body() {
    let world = World::new(Config::default()).await;
    let (address, stop, server) = listen(&world, ServeLimits::default()).await;
    let headers: String = (0..=HEADERS_MAX).map(|number| format!("x-{number}: y\r\n")).collect();
    for (request, status) in
        [(format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{headers}\r\n"), "431"), ("nonsense\r\n\r\n".to_owned(), "400")]
    {
        let answer = exchange(address, request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "no body: {answer}");
    }
    stop.request();
    server.await.unwrap().unwrap();
    world.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_break_off_leave_nothing_behind() {
    let world = World::new(Config::default()).await;
    let api_key = world.api_key(&Scopes::standard()).await;
    let (address, stop, server) = listen(&world, ServeLimits::default()).await;
    let mut in_body = TcpStream::connect(address).await.unwrap();
    in_body.write_all(format!("{}{{\"pay", head(&api_key, 100)).as_bytes()).await.unwrap();
    drop(in_body);
    let mut in_wait = TcpStream::connect(address).await.unwrap();
    let body = r#"{"payload":"never"}"#;
    in_wait.write_all(format!("{}{body}", head(&api_key, body.len())).as_bytes()).await.unwrap();
    eventually("it waits", || world.ingest.state.0.waiting.count() == 1).await;
    drop(in_wait);
    eventually("nobody waits", || world.ingest.state.0.waiting.count() == 0).await;
    assert!(exchange(address, HEALTH).await.starts_with("HTTP/1.1 200"));
    stop.request();
    server.await.unwrap().unwrap();
    world.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stop_lets_open_requests_finish() {
    let world = World::new(Config::default()).await;
    let api_key = world.api_key(&Scopes::standard()).await;
    let (address, stop, server) = listen(&world, ServeLimits::default()).await;
    let mut open = TcpStream::connect(address).await.unwrap();
    let body = r#"{"payload":"never"}"#;
    let head = head(&api_key, body.len()).replace("wait=60", "wait=1");
    open.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    eventually("it waits", || world.ingest.state.0.waiting.count() == 1).await;
    stop.request();
    let answer = read_to_end(&mut open).await;
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    server.await.unwrap().unwrap();
    world.end();
}

#[tokio::test]
async fn a_peer_that_takes_nothing_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _idle = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let mut patient = Patient::new(stream, Duration::from_millis(100));
    let chunk = vec![0; 1 << 20];
    let gave_up = timeout(PATIENCE, async {
        loop {
            if let Err(error) = patient.write_all(&chunk).await {
                return error;
            }
        }
    });
    assert_eq!(gave_up.await.unwrap().kind(), io::ErrorKind::TimedOut);
}
