//! A receiver of deliveries on this machine, over TLS with a certificate of its own.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::input::digest;

/// What came under one webhook-id.
#[derive(Clone, Debug, Default)]
pub(super) struct Calls {
    pub(super) calls: usize,
    pub(super) is_taken: bool,
    /// Digests of the bodies: one, however often it came.
    pub(super) cids: std::collections::BTreeSet<String>,
}

type Seen = Arc<Mutex<BTreeMap<String, Calls>>>;

pub(super) struct Receiver {
    pub(super) port: u16,
    /// What its certificate is trusted by.
    pub(super) ca_file: PathBuf,
    seen: Seen,
}

impl Receiver {
    pub(super) async fn start(directory: &Path) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let ca_file = directory.join("receiver-ca.pem");
        std::fs::write(&ca_file, made.cert.pem()).expect("the certificate is written");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let tls = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("the certificate and its key");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let seen = Seen::default();
        tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(tls)), Arc::clone(&seen)));
        Self { port, ca_file, seen }
    }

    pub(super) fn seen(&self) -> BTreeMap<String, Calls> {
        self.seen.lock().expect("not poisoned").clone()
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, seen: Seen) {
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        let (acceptor, seen) = (acceptor.clone(), Arc::clone(&seen));
        tokio::spawn(async move {
            // A caller that is killed in the middle is what this is about.
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(move |request| receive(request, Arc::clone(&seen)));
            drop(auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

/// `/flaky` is out of order at its first call, `/gone` for ever.
async fn receive(request: Request<Incoming>, seen: Seen) -> Result<Response<Empty<Bytes>>, Infallible> {
    let answer = |status| Ok(Response::builder().status(status).body(Empty::new()).expect("a response"));
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (Some(id), Some(_)) = (header("webhook-id"), header("webhook-signature")) else {
        return answer(StatusCode::BAD_REQUEST);
    };
    let path = request.uri().path().to_owned();
    let Ok(body) = request.into_body().collect().await else { return answer(StatusCode::BAD_REQUEST) };
    let mut seen = seen.lock().expect("not poisoned");
    let calls = seen.entry(id).or_default();
    calls.calls += 1;
    calls.cids.insert(digest(&body.to_bytes()));
    if path == "/gone" {
        return answer(StatusCode::GONE);
    }
    if path == "/flaky" && calls.calls == 1 {
        return answer(StatusCode::SERVICE_UNAVAILABLE);
    }
    calls.is_taken = true;
    answer(StatusCode::NO_CONTENT)
}
