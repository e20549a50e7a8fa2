//! HTTP as a client: of the API, and of the admin address of a process that runs here.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use reqwest::{Client, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;

use crate::admin::Trouble;
use crate::failure::{Doing as _, Failure};

const OTHER_VERSION: &str = "the answer of the admin address cannot be read: is it another version?";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Closing the books and filling a read model anew take their time.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(3_600);

/// How a client is to behave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientOptions {
    pub(crate) timeout: Duration,
    pub(crate) connections_max: usize,
}

/// A client for that address. An address on this machine is never asked for through a proxy.
pub(crate) fn client(base: &Url, options: ClientOptions) -> Result<Client, Failure> {
    // An error means that a provider is installed already, which is all that is wanted.
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut builder = Client::builder()
        .user_agent(concat!("countersign/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(options.timeout)
        .pool_max_idle_per_host(options.connections_max)
        .redirect(reqwest::redirect::Policy::none());
    if is_here(base) {
        builder = builder.no_proxy();
    }
    builder.build().doing("the HTTP client cannot be made")
}

fn is_here(base: &Url) -> bool {
    let host = base.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback() || address.is_unspecified())
}

/// Runs a future of a command to its end.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> Result<T, Failure> {
    Ok(runtime()?.block_on(future))
}

fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().doing("the runtime cannot be started")
}

/// The admin address of a running process.
pub(crate) struct AdminClient {
    base: Url,
    client: Client,
    runtime: Runtime,
}

impl AdminClient {
    pub(crate) fn new(address: SocketAddr) -> Result<Self, Failure> {
        let base = Url::parse(&format!("http://{address}/")).doing("the admin address is not a URL")?;
        let options = ClientOptions { timeout: ADMIN_TIMEOUT, connections_max: 1 };
        let client = client(&base, options)?;
        Ok(Self { base, client, runtime: runtime()? })
    }

    /// `GET /admin/<path>`, with query parameters.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, Failure> {
        let mut url = self.url(path)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.runtime.block_on(async { answer(self.client.get(url).send().await.map_err(unreachable)?).await })
    }

    /// `POST /admin/<path>` with a JSON body.
    pub(crate) fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        let url = self.url(path)?;
        self.runtime
            .block_on(async { answer(self.client.post(url).json(body).send().await.map_err(unreachable)?).await })
    }

    /// `POST /admin/<path>` whose answer comes line by line; ends with the first line that `each` makes something of.
    pub(crate) fn post_lines<T: DeserializeOwned, R>(
        &self,
        path: &str,
        body: &impl Serialize,
        mut each: impl FnMut(T) -> Result<Option<R>, Failure>,
    ) -> Result<R, Failure> {
        let url = self.url(path)?;
        self.runtime.block_on(async {
            let mut response = self.client.post(url).json(body).send().await.map_err(unreachable)?;
            let status = response.status();
            if !status.is_success() {
                return Err(refused(status, &response.bytes().await.map_err(unreachable)?));
            }
            let mut unread = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
                unread.extend_from_slice(&chunk);
                while let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = unread.drain(..=end).collect();
                    let line = serde_json::from_slice(&line).doing(OTHER_VERSION)?;
                    if let Some(made) = each(line)? {
                        return Ok(made);
                    }
                }
            }
            Err(Failure::new("the process ended before its answer was whole").try_this("its log says why it ended"))
        })
    }

    fn url(&self, path: &str) -> Result<Url, Failure> {
        self.base.join(&format!("admin/{path}")).doing("the question is not a URL")
    }
}

fn unreachable(error: reqwest::Error) -> Failure {
    Failure::new("the process that runs in this data directory does not answer at its admin address")
        .because(error)
        .try_this("wait until it is ready, or stop it: without it, the command reads the log itself")
}

async fn answer<T: DeserializeOwned>(response: Response) -> Result<T, Failure> {
    let status = response.status();
    let body = response.bytes().await.map_err(unreachable)?;
    if status.is_success() {
        return serde_json::from_slice(&body).doing(OTHER_VERSION);
    }
    Err(refused(status, &body))
}

fn refused(status: StatusCode, body: &[u8]) -> Failure {
    match serde_json::from_slice::<Trouble>(body) {
        Ok(trouble) => trouble.into(),
        Err(_) => Failure::new(format!("the admin address answered {status}"))
            .try_this("is the process that runs here of another version? start it anew"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_here_is_known_as_such() {
        for (url, here) in [
            ("http://127.0.0.1:8080", true),
            ("http://[::1]:8080/", true),
            ("http://localhost/", true),
            ("http://0.0.0.0:9464/", true),
            ("https://countersign.example/", false),
            ("http://10.0.0.1/", false),
        ] {
            assert_eq!(is_here(&Url::parse(url).unwrap()), here, "{url}");
        }
    }
}
