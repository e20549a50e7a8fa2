//! A receiver of deliveries on this machine: over TLS, with a certificate of its own, and not always in the mood.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing::any};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::failure::{Doing as _, Failure};

/// What came, by webhook-id: how often, and whether it was taken.
type Seen = Arc<Mutex<BTreeMap<String, Calls>>>;

#[derive(Clone, Copy, Debug, Default)]
struct Calls {
    calls: usize,
    taken: bool,
}

/// A running receiver.
pub(crate) struct Receiver {
    pub(crate) port: u16,
    /// What its certificate is trusted by.
    pub(crate) ca_file: PathBuf,
    seen: Seen,
    _runtime: tokio::runtime::Runtime,
}

impl Receiver {
    pub(crate) fn start(data: &Path) -> Result<Self, Failure> {
        drop(rustls::crypto::ring::default_provider().install_default());
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])
            .doing("the receiver's certificate cannot be made")?;
        let ca_file = data.join("receiver-ca.pem");
        std::fs::write(&ca_file, made.cert.pem()).doing("the receiver's certificate cannot be written")?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let tls = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .doing("the receiver's certificate cannot be used")?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .doing("the receiver has no runtime")?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).doing("the receiver has no port")?;
        let port = listener.local_addr().doing("the receiver's port is not known")?.port();
        let seen = Seen::default();
        let router = Router::new().route("/{*path}", any(receive)).with_state(Arc::clone(&seen));
        runtime.spawn(serve(listener, TlsAcceptor::from(Arc::new(tls)), router));
        Ok(Self { port, ca_file, seen, _runtime: runtime })
    }

    /// Deliveries taken, each counted once.
    pub(crate) fn taken(&self) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).values().filter(|calls| calls.taken).count()
    }

    /// Calls beyond the first of each delivery.
    pub(crate) fn called_again(&self) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).values().map(|calls| calls.calls - 1).sum()
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, router: Router) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let (acceptor, router) = (acceptor.clone(), router.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = TowerToHyperService::new(router);
            // A caller that goes away is its own affair.
            drop(auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

/// `/…/flaky` is out of order at its first call, `/gone` for ever.
async fn receive(State(seen): State<Seen>, headers: HeaderMap, request: Request) -> Response {
    let id = headers.get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
    if id.is_empty() || !headers.contains_key("webhook-signature") {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let calls = seen.entry(id).or_default();
    calls.calls += 1;
    if request.uri().path() == "/gone" {
        return StatusCode::GONE.into_response();
    }
    if request.uri().path().ends_with("/flaky") && calls.calls == 1 {
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")]).into_response();
    }
    calls.taken = true;
    StatusCode::NO_CONTENT.into_response()
}
