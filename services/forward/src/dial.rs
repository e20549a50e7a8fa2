//! One call: resolve, judge every address, dial one of those that were judged, check the certificate, send, read.
//!
//! There is no other way out: no redirects, no proxies, no connection that is used twice, no switch that turns the
//! verification off. What the name resolves to later does not matter, because the name is not asked again.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use event::destination::{AddressRules, Destination, Host, dialable};
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderValue, RETRY_AFTER, TRANSFER_ENCODING};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::call::{Call, CallError};

/// What a call may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallLimits {
    /// For the answer of the resolver, and again for the connection and its handshake, over all addresses.
    pub connect: Duration,
    /// For the request and the whole of its answer.
    pub read: Duration,
    /// A response body is read up to this.
    pub response_bytes_max: u64,
}

impl CallLimits {
    pub const CONNECT: Duration = Duration::from_secs(3);
    pub const READ: Duration = Duration::from_secs(10);
    pub const RESPONSE_BYTES_MAX: u64 = 1024 * 1024;
}

impl Default for CallLimits {
    fn default() -> Self {
        Self { connect: Self::CONNECT, read: Self::READ, response_bytes_max: Self::RESPONSE_BYTES_MAX }
    }
}

const RESPONSE_HEAD_BYTES_MAX: usize = 64 * 1024;
const RESPONSE_HEADERS_MAX: usize = 100;
/// Addresses of one host that are tried.
const ADDRESSES_TRIED_MAX: usize = 4;

/// Who turns names into addresses.
#[derive(Clone, Debug)]
pub enum Resolver {
    /// The system's.
    System,
    /// A table; names that are not in it have no address.
    Table(BTreeMap<String, Vec<IpAddr>>),
}

impl Resolver {
    async fn resolve(&self, name: &str, port: u16) -> io::Result<Vec<IpAddr>> {
        match self {
            Self::System => Ok(tokio::net::lookup_host((name, port)).await?.map(|address| address.ip()).collect()),
            Self::Table(table) => Ok(table.get(name).cloned().unwrap_or_default()),
        }
    }
}

/// Why no call can be made at all.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("the certificates in {} could not be read", path.display())]
    CaFile { path: PathBuf, source: rustls_pki_types::pem::Error },
    #[error("{} holds no certificate", path.display())]
    CaFileEmpty { path: PathBuf },
    #[error("a certificate in {} is not one that can be trusted", path.display())]
    CaFileRefused { path: PathBuf, source: rustls::Error },
    #[error("the TLS library refuses its own defaults")]
    Tls(#[source] rustls::Error),
}

/// How calls are made.
#[derive(Clone, Debug)]
pub struct DialOptions {
    /// `forward.networks_allowed` and `forward.nat64_prefixes`.
    pub rules: AddressRules,
    /// Certificates (PEM) that are trusted beside the system's own.
    pub ca_file: Option<PathBuf>,
    pub resolver: Resolver,
    pub limits: CallLimits,
}

impl Default for DialOptions {
    fn default() -> Self {
        Self {
            rules: AddressRules::default(),
            ca_file: None,
            resolver: Resolver::System,
            limits: CallLimits::default(),
        }
    }
}

/// Makes calls. Holds what they share: trusted roots, address rules.
pub struct Dialer {
    tls: TlsConnector,
    resolver: Resolver,
    rules: AddressRules,
    limits: CallLimits,
}

impl Dialer {
    /// Reads the system's roots and `ca_file`.
    ///
    /// # Errors
    /// If `ca_file` cannot be read or holds no usable certificate.
    pub fn new(options: &DialOptions) -> Result<Self, SetupError> {
        let mut roots = RootCertStore::empty();
        let native = rustls_native_certs::load_native_certs();
        for error in &native.errors {
            tracing::warn!(%error, "a certificate of the system could not be read");
        }
        let (added, ignored) = roots.add_parsable_certificates(native.certs);
        tracing::debug!(added, ignored, "certificates of the system");
        if let Some(path) = &options.ca_file {
            add_ca_file(&mut roots, path)?;
        }
        if roots.is_empty() {
            tracing::warn!(
                "no certificate is trusted: every delivery will fail; install ca-certificates or set forward.ca_file"
            );
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(SetupError::Tls)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            tls: TlsConnector::from(Arc::new(config)),
            resolver: options.resolver.clone(),
            rules: options.rules.clone(),
            limits: options.limits,
        })
    }

    /// Posts a body. The caller has compared the destination with the allowlist; the addresses are judged here.
    pub async fn call(&self, destination: &Destination, headers: HeaderMap, body: Bytes, at_ms: i64) -> Call {
        let begun = Instant::now();
        let mut call = Call {
            at_ms,
            duration_ms: 0,
            status: None,
            address: None,
            response_bytes: 0,
            error: None,
            retry_after: None,
        };
        call.error = self.exchange(destination, headers, body, &mut call).await.err();
        call.duration_ms = i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX);
        call
    }

    /// What is known is written into `call` as it becomes known.
    async fn exchange(
        &self,
        destination: &Destination,
        headers: HeaderMap,
        body: Bytes,
        call: &mut Call,
    ) -> Result<(), CallError> {
        let addresses = self.addresses(destination).await?;
        let server_name = server_name(destination)?;
        let stream = within(self.limits.connect, CallError::ConnectTimeout, async {
            let stream = connect(&addresses, self.limits.connect, call).await?;
            self.tls.connect(server_name, stream).await.map_err(|error| tls_error(&error))
        })
        .await?;
        let request = request(destination, headers, body)?;
        let answer = send(stream, request, self.limits.response_bytes_max, call);
        within(self.limits.read, CallError::ReadTimeout, answer).await
    }

    async fn addresses(&self, destination: &Destination) -> Result<Vec<SocketAddr>, CallError> {
        let resolved = match destination.host() {
            Host::Address(address) => vec![*address],
            Host::Name(name) => {
                let answer = timeout(self.limits.connect, self.resolver.resolve(name, destination.port())).await;
                answer.map_err(|_| CallError::ResolveFailed)?.map_err(|_| CallError::ResolveFailed)?
            }
        };
        dialable(destination, &resolved, &self.rules).map_err(|refusal| {
            tracing::debug!(host = %destination.host(), reason = refusal.code(), "not dialled");
            CallError::from(refusal)
        })
    }
}

fn add_ca_file(roots: &mut RootCertStore, path: &Path) -> Result<(), SetupError> {
    let unreadable = |source| SetupError::CaFile { path: path.to_owned(), source };
    let mut added = 0;
    for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
        let certificate = certificate.map_err(unreadable)?;
        roots.add(certificate).map_err(|source| SetupError::CaFileRefused { path: path.to_owned(), source })?;
        added += 1;
    }
    if added == 0 { Err(SetupError::CaFileEmpty { path: path.to_owned() }) } else { Ok(()) }
}

async fn within<T>(
    limit: Duration,
    late: CallError,
    work: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    timeout(limit, work).await.unwrap_or(Err(late))
}

fn server_name(destination: &Destination) -> Result<ServerName<'static>, CallError> {
    match destination.host() {
        Host::Address(address) => Ok(ServerName::IpAddress((*address).into())),
        Host::Name(name) => ServerName::try_from(name.clone()).map_err(|_| CallError::DestinationDenied),
    }
}

/// Dials the judged addresses in order until one answers; each gets its share of the time.
async fn connect(addresses: &[SocketAddr], limit: Duration, call: &mut Call) -> Result<TcpStream, CallError> {
    let tried = addresses.get(..ADDRESSES_TRIED_MAX).unwrap_or(addresses);
    let share = limit / u32::try_from(tried.len().max(1)).unwrap_or(1);
    let mut last = CallError::ConnectFailed;
    for address in tried {
        call.address = Some(address.to_string());
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // One request a connection: nothing is gained by waiting to fill a packet.
                drop(stream.set_nodelay(true));
                return Ok(stream);
            }
            Ok(Err(_)) => last = CallError::ConnectFailed,
            Err(_) => last = CallError::ConnectTimeout,
        }
    }
    Err(last)
}

fn tls_error(error: &io::Error) -> CallError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
            CallError::CertificateRefused
        }
        Some(_) => CallError::TlsFailed,
        None => CallError::ConnectionClosed,
    }
}

fn request(destination: &Destination, headers: HeaderMap, body: Bytes) -> Result<Request<Full<Bytes>>, CallError> {
    let host = HeaderValue::from_str(&destination.authority()).map_err(|_| CallError::DestinationDenied)?;
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(destination.target())
        .body(Full::new(body))
        .map_err(|_| CallError::DestinationDenied)?;
    *request.headers_mut() = headers;
    request.headers_mut().insert(HOST, host);
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(request)
}

async fn send(
    stream: TlsStream<TcpStream>,
    request: Request<Full<Bytes>>,
    response_bytes_max: u64,
    call: &mut Call,
) -> Result<(), CallError> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(RESPONSE_HEAD_BYTES_MAX)
        .max_headers(RESPONSE_HEADERS_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| http_error(&error))?;
    // The connection lives as long as this call: whichever way it ends, the socket is closed.
    let work = async {
        let response = sender.send_request(request).await.map_err(|error| http_error(&error))?;
        read(response, response_bytes_max, call).await
    };
    tokio::pin!(connection);
    tokio::pin!(work);
    tokio::select! {
        biased;
        outcome = &mut work => outcome,
        // An error of the connection reaches the request too, with more to say.
        _ = &mut connection => work.await,
    }
}

async fn read(response: Response<Incoming>, bytes_max: u64, call: &mut Call) -> Result<(), CallError> {
    let (head, mut body) = response.into_parts();
    call.status = Some(head.status.as_u16());
    call.retry_after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let announced = head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > bytes_max) {
        return Err(CallError::ResponseTooLarge);
    }
    let has_end = announced.is_some() || head.headers.contains_key(TRANSFER_ENCODING);
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Ok(frame) => frame,
            // A body that ends with the connection, from a server that does not say goodbye in TLS.
            Err(error) if !has_end && is_unexpected_end(&error) => break,
            Err(error) => return Err(http_error(&error)),
        };
        call.response_bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        if call.response_bytes > bytes_max {
            return Err(CallError::ResponseTooLarge);
        }
    }
    Ok(())
}

fn is_unexpected_end(error: &hyper::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if inner.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::UnexpectedEof) {
            return true;
        }
        source = inner.source();
    }
    false
}

fn http_error(error: &hyper::Error) -> CallError {
    if error.is_parse() || error.is_parse_too_large() { CallError::BadResponse } else { CallError::ConnectionClosed }
}
