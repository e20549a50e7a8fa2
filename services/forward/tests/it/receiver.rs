//! A receiver of webhooks that behaves as badly as a test wants it to, and remembers what it got.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use stage::testing::PATIENCE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A certificate authority that nobody else trusts.
pub(crate) struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn write(&self, path: &Path) {
        std::fs::File::create(path).unwrap().write_all(self.0.pem().as_bytes()).unwrap();
    }

    fn server(&self, names: &[&str]) -> ServerConfig {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.0).unwrap();
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.into()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap()
    }
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) server_name: Option<String>,
    pub(crate) request_line: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Got {
    /// The value of a header that must be there exactly once.
    pub(crate) fn header(&self, name: &str) -> &str {
        let values: Vec<&str> =
            self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect();
        assert_eq!(values.len(), 1, "{name}: {values:?}");
        values[0]
    }

    pub(crate) fn header_names(&self) -> Vec<&str> {
        self.headers.iter().map(|(name, _)| name.as_str()).collect()
    }
}

/// What becomes of a request.
pub(crate) enum Reply {
    Status(u16),
    /// Bytes as they are, then the end of the connection, without a goodbye in TLS.
    Raw(Vec<u8>),
    /// The head, then bytes without end.
    Endless(&'static str),
    /// Nothing, until the receiver ends.
    Stall,
    /// 200, once the receiver is told to answer.
    Held,
}

type Script = dyn Fn(usize, &Got) -> Reply + Send + Sync;

struct Shared {
    script: Box<Script>,
    got: Mutex<Vec<Got>>,
    changed: Condvar,
    ended: watch::Receiver<bool>,
    released: watch::Receiver<bool>,
}

pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    release: watch::Sender<bool>,
    _end: watch::Sender<bool>,
    runtime: Option<Runtime>,
}

impl Receiver {
    /// Listens on the loopback address with a certificate for these names. `script` is asked with the number of requests
    /// before this one.
    pub(crate) fn start(
        ca: &Ca,
        names: &[&str],
        script: impl Fn(usize, &Got) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (end, ended) = watch::channel(false);
        let (release, released) = watch::channel(false);
        let (script, got) = (Box::new(script), Mutex::default());
        let shared = Arc::new(Shared { script, got, changed: Condvar::new(), ended, released });
        let acceptor = TlsAcceptor::from(Arc::new(ca.server(names)));
        let serving = shared.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, shared) = (acceptor.clone(), serving.clone());
                tokio::spawn(async move {
                    // A client that refuses our certificate or goes away is what some tests are about.
                    drop(serve(&acceptor, stream, &shared).await);
                });
            }
        });
        Self { address, shared, release, _end: end, runtime: Some(runtime) }
    }

    pub(crate) fn url(&self, host: &str) -> String {
        format!("https://{host}:{}/hook", self.address.port())
    }

    pub(crate) fn got(&self) -> Vec<Got> {
        self.shared.got.lock().unwrap().clone()
    }

    /// Waits until so many requests have come.
    pub(crate) fn wait_for(&self, count: usize) {
        assert!(self.has_come(count, PATIENCE), "{} requests of {count} came", self.got().len());
    }

    /// Whether so many requests come within this time.
    pub(crate) fn has_come(&self, count: usize, within: Duration) -> bool {
        let until = Instant::now() + within;
        let mut got = self.shared.got.lock().unwrap();
        while got.len() < count {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            got = self.shared.changed.wait_timeout(got, left).unwrap().0;
        }
        true
    }

    /// Answers what is held, from now on at once.
    pub(crate) fn release(&self) {
        self.release.send_replace(true);
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(acceptor: &TlsAcceptor, stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let got = read_request(&mut stream).await?;
    let reply = {
        let mut all = shared.got.lock().unwrap();
        let reply = (shared.script)(all.len(), &got);
        all.push(got);
        shared.changed.notify_all();
        reply
    };
    match reply {
        Reply::Status(status) => answer(&mut stream, status).await,
        Reply::Held => {
            drop(shared.released.clone().wait_for(|released| *released).await);
            answer(&mut stream, 200).await
        }
        Reply::Raw(bytes) => {
            stream.write_all(&bytes).await?;
            stream.flush().await
        }
        Reply::Endless(head) => {
            stream.write_all(head.as_bytes()).await?;
            loop {
                stream.write_all(&[b'x'; 16 * 1024]).await?;
            }
        }
        Reply::Stall => {
            let mut ended = shared.ended.clone();
            drop(ended.changed().await);
            Ok(())
        }
    }
}

async fn answer(stream: &mut TlsStream<TcpStream>, status: u16) -> io::Result<()> {
    let answer = format!("HTTP/1.1 {status} -\r\ncontent-length: 2\r\n\r\nok");
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

async fn read_request(stream: &mut TlsStream<TcpStream>) -> io::Result<Got> {
    let mut bytes = Vec::new();
    let end_of_head = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let head = String::from_utf8(bytes[..end_of_head].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let request_line = lines.next().unwrap().to_owned();
    let headers: Vec<(String, String)> =
        lines.map(|line| line.split_once(": ").unwrap()).map(|(name, value)| (name.into(), value.into())).collect();
    let length: usize = headers.iter().find(|(name, _)| name == "content-length").unwrap().1.parse().unwrap();
    let mut body = bytes.split_off(end_of_head + 4);
    while body.len() < length {
        if stream.read_buf(&mut body).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let server_name = stream.get_ref().1.server_name().map(str::to_owned);
    Ok(Got { server_name, request_line, headers, body })
}
