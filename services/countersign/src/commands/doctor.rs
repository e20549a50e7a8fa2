//! `doctor`: what this machine lacks, and how to get it. It changes nothing.

use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use reqwest::Url;

use crate::admin::{print, topics};
use crate::cli::Place;
use crate::config::{Config, Overrides, Profile};
use crate::data_dir::{DataDir, Run};
use crate::failure::Failure;
use crate::roles::chain;
use crate::substrate::Substrate;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Below this a start is not worth it; the log grows by about this much per million exchanges.
const FREE_MIB_MIN: u64 = 1_024;
/// Segments, connections and databases of one process.
const OPEN_FILES_MIN: u64 = 4_096;
/// Where Debian and Ubuntu, Fedora and Alpine keep the certificates of public authorities.
const CERTIFICATES: &[&str] =
    &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// What was looked at: the finding, and what to do about one that is bad.
struct Finding {
    what: &'static str,
    state: State,
    detail: String,
    advice: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Ok,
    /// It works, but not for long or not for everything.
    Warn,
    Missing,
}

impl Finding {
    fn ok(what: &'static str, detail: impl Into<String>) -> Self {
        Self { what, state: State::Ok, detail: detail.into(), advice: String::new() }
    }

    fn warn(what: &'static str, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what, state: State::Warn, detail: detail.into(), advice: advice.into() }
    }

    fn missing(what: &'static str, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what, state: State::Missing, detail: detail.into(), advice: advice.into() }
    }
}

/// Exit code 1 where something that is needed is missing.
pub(crate) fn run(place: &Place) -> Result<ExitCode, Failure> {
    let findings = look(place);
    let mut text = String::new();
    for finding in &findings {
        let state = match finding.state {
            State::Ok => "ok     ",
            State::Warn => "note   ",
            State::Missing => "MISSING",
        };
        text.push_str(&format!("{state}  {:<15}  {}\n", finding.what, finding.detail));
        if !finding.advice.is_empty() {
            text.push_str(&format!("         {:<15}  try: {}\n", "", finding.advice));
        }
    }
    print::out(&text)?;
    let lacks = findings.iter().any(|finding| finding.state == State::Missing);
    Ok(if lacks { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

fn look(place: &Place) -> Vec<Finding> {
    let overrides = Overrides { profile: place.profile, ..Overrides::default() };
    let config = match Config::load(place.config.as_deref(), &place.data, &overrides) {
        Ok(config) => config,
        Err(error) => {
            let advice = "correct what is named; `countersign config show` prints what is in force";
            return vec![Finding::missing("configuration", chain(&error), advice), directory(&place.data)];
        }
    };
    let profile = match config.profile {
        Profile::Local => "local: embedded log and SQLite, nothing else is needed",
        Profile::Cluster => "cluster: Kafka and PostgreSQL",
    };
    let mut findings = vec![Finding::ok("configuration", format!("profile {profile}")), directory(&place.data)];
    findings.extend(disk(&place.data));
    findings.extend(open_files());
    findings.push(certificates());
    findings.extend(config.forward.ca_file.as_deref().map(ca_file));
    let running =
        if place.data.is_dir() { DataDir::open(&place.data).ok().and_then(|data| data.running()) } else { None };
    if let Some(run) = running {
        findings.push(process(&run));
        return findings;
    }
    findings.push(port("API", "--listen", config.http.listen));
    findings.push(port("admin", "--admin", config.http.admin));
    match config.profile {
        Profile::Local => findings.push(embedded_log(place, config)),
        Profile::Cluster => {
            findings.push(postgres(&config.database.url));
            findings.extend(kafka(place, config));
        }
    }
    findings
}

/// The directory itself, or the nearest one above it that is there.
fn nearest(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.ancestors().find(|path| path.is_dir()).map_or(absolute.clone(), Path::to_owned)
}

fn directory(data: &Path) -> Finding {
    let here = nearest(data);
    let advice = "name a directory that this user may write with --data DIR";
    let probe = here.join(format!(".countersign-doctor-{}", std::process::id()));
    let written = std::fs::File::create_new(&probe).and_then(|_| std::fs::remove_file(&probe));
    match written {
        Ok(()) if data.is_dir() => Finding::ok("data directory", format!("{} can be written", data.display())),
        Ok(()) => Finding::ok("data directory", format!("{} will be made at the first start", data.display())),
        Err(error) => {
            Finding::missing("data directory", format!("{} cannot be written: {error}", here.display()), advice)
        }
    }
}

/// As `df` says it; where that is not there, nothing is said.
fn disk(data: &Path) -> Option<Finding> {
    let output = Command::new("df").arg("-Pk").arg(nearest(data)).output().ok()?;
    let free_mib = free_mib(&String::from_utf8_lossy(&output.stdout))?;
    let detail = format!("{free_mib} MiB free");
    Some(if free_mib >= FREE_MIB_MIN {
        Finding::ok("disk", detail)
    } else {
        Finding::missing(
            "disk",
            detail,
            "make room: on a full disk nothing is accepted and the process ends; count 10 to 13 GiB per million exchanges (docs/runbook/day-one.md)",
        )
    })
}

/// The fourth column of the last line of `df -Pk`.
fn free_mib(text: &str) -> Option<u64> {
    let kib: u64 = text.lines().last()?.split_whitespace().nth(3)?.parse().ok()?;
    Some(kib / 1_024)
}

fn open_files() -> Option<Finding> {
    let soft = soft_limit_of_files(&std::fs::read_to_string("/proc/self/limits").ok()?)?;
    Some(if soft >= OPEN_FILES_MIN {
        Finding::ok("open files", format!("up to {soft}"))
    } else {
        Finding::warn("open files", format!("up to {soft}"), format!("ulimit -n {OPEN_FILES_MIN}"))
    })
}

fn soft_limit_of_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// Needed for deliveries, and for nothing else.
fn certificates() -> Finding {
    match CERTIFICATES.iter().find(|path| Path::new(path).is_file()) {
        Some(path) => Finding::ok("certificates", *path),
        None => Finding::warn(
            "certificates",
            "no certificates of public authorities: deliveries to public receivers will fail",
            "apt-get install ca-certificates, or name those of your receivers as forward.ca_file",
        ),
    }
}

fn ca_file(path: &Path) -> Finding {
    match std::fs::read_to_string(path) {
        Ok(text) if text.contains("-----BEGIN CERTIFICATE-----") => {
            Finding::ok("forward.ca_file", path.display().to_string())
        }
        Ok(_) => {
            Finding::missing("forward.ca_file", format!("{} holds no certificate", path.display()), "it must be PEM")
        }
        Err(error) => Finding::missing(
            "forward.ca_file",
            format!("{} cannot be read: {error}", path.display()),
            "correct forward.ca_file in the configuration",
        ),
    }
}

fn process(run: &Run) -> Finding {
    match TcpStream::connect_timeout(&run.admin, CONNECT_TIMEOUT) {
        Ok(_) => {
            Finding::ok("process", format!("{} runs here; GET http://{}/readyz says what it lacks", run.pid, run.admin))
        }
        Err(error) => Finding::missing(
            "process",
            format!("{} runs here, but its admin address {} does not answer: {error}", run.pid, run.admin),
            "wait until it is ready, or stop it and start it again",
        ),
    }
}

fn port(what: &'static str, flag: &str, address: SocketAddr) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) => Finding::ok(what, format!("{address} is free")),
        Err(error) => Finding::missing(
            what,
            format!("{address} cannot be listened on: {error}"),
            format!("stop what holds it, or choose another with {flag} HOST:PORT"),
        ),
    }
}

fn embedded_log(place: &Place, config: Config) -> Finding {
    let what = "log";
    // Opening it would make it.
    if !place.data.join("log").is_dir() {
        return Finding::ok(what, "will be made at the first start");
    }
    let opened = DataDir::open(&place.data)
        .map_err(|error| Failure::new("the data directory cannot be used").because(error))
        .and_then(|data| Substrate::with(config, data));
    match opened {
        Ok(substrate) => Finding::ok(what, format!("opens, id {}", substrate.log.identity())),
        Err(failure) => Finding::missing(
            what,
            told(&failure),
            "if another process holds it, stop that one; if it is damaged, restore the directory from a backup",
        ),
    }
}

/// A failure with its causes; they are told on stderr elsewhere.
fn told(failure: &Failure) -> String {
    format!("{failure}: {failure:?}").chars().take(400).collect()
}

/// The first of the addresses that takes a connection.
fn reach(host: &str, port: u16) -> Result<SocketAddr, String> {
    let addresses = (host, port).to_socket_addrs().map_err(|error| error.to_string())?;
    let mut refused = "the name has no address".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(_) => return Ok(address),
            Err(error) => refused = error.to_string(),
        }
    }
    Err(refused)
}

fn postgres(url: &str) -> Finding {
    let what = "PostgreSQL";
    let advice = "apt-get install postgresql, or `docker compose up postgres`; then set database.url";
    let Some((host, port)) = host_of(url, 5_432) else {
        return Finding::missing(what, "database.url names no host", "database.url = \"postgres://user@host/name\"");
    };
    match reach(&host, port) {
        Ok(address) => {
            Finding::ok(what, format!("{host} answers at {address}; whether the login is right shows at the start"))
        }
        Err(error) => Finding::missing(what, format!("{host}:{port} does not answer: {error}"), advice),
    }
}

/// Host and port of a database URL.
fn host_of(url: &str, default_port: u16) -> Option<(String, u16)> {
    let url = Url::parse(url).ok()?;
    let host = url.host_str().filter(|host| !host.is_empty())?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    Some((bare.to_owned(), url.port().unwrap_or(default_port)))
}

fn kafka(place: &Place, config: Config) -> Vec<Finding> {
    let what = "Kafka";
    let advice = "scripts/parts starts one without a container, or `docker compose up kafka`; then set log.brokers";
    let mut findings = Vec::new();
    let mut reached = false;
    for broker in config.log.brokers.split(',').map(str::trim) {
        let (host, port) = broker.rsplit_once(':').unwrap_or((broker, "9092"));
        let tried = port.parse().map_err(|_| "the port is no number".to_owned()).and_then(|port| reach(host, port));
        match tried {
            Ok(address) => {
                reached = true;
                findings.push(Finding::ok(what, format!("{broker} answers at {address}")));
            }
            Err(error) => findings.push(Finding::warn(what, format!("{broker} does not answer: {error}"), advice)),
        }
    }
    if !reached {
        findings.push(Finding::missing(what, "no broker answers", advice));
        return findings;
    }
    if !place.data.is_dir() {
        findings.push(Finding::ok("topics", "looked at once the data directory is there"));
        return findings;
    }
    findings.push(kafka_topics(place, config));
    findings
}

fn kafka_topics(place: &Place, config: Config) -> Finding {
    let what = "topics";
    let opened = DataDir::open(&place.data)
        .map_err(|error| Failure::new("the data directory cannot be used").because(error))
        .and_then(|data| Substrate::with(config, data));
    let substrate = match opened {
        Ok(substrate) => substrate,
        Err(failure) => {
            let advice = "the cluster must be Apache Kafka 4 and take this client: see log.client for TLS and SASL";
            return Finding::missing(what, told(&failure), advice);
        }
    };
    match topics::check(substrate.log.as_ref(), &substrate.config) {
        Ok(answer) if answer.holds() => Finding::ok(what, format!("all {} are as they should be", answer.topics.len())),
        Ok(answer) if answer.topics.iter().all(|line| line.state == topics::State::Missing) => {
            Finding::ok(what, "none yet: the first start makes them")
        }
        Ok(_) => {
            Finding::missing(what, "some are missing or differ", "countersign topics check; countersign topics apply")
        }
        Err(trouble) => Finding::missing(what, trouble.error, "countersign topics check"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_from_what_the_system_says() {
        let df = "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/sda1 100 50 2097152 50% /\n";
        assert_eq!(free_mib(df), Some(2_048));
        assert_eq!(free_mib(""), None);
        let limits =
            "Limit Soft Hard Units\nMax open files            1024                 524288               files\n";
        assert_eq!(soft_limit_of_files(limits), Some(1_024));
        assert_eq!(soft_limit_of_files("Max open files  unlimited unlimited files"), Some(u64::MAX));
        assert_eq!(host_of("postgres://me:secret@db.example/x", 5_432), Some(("db.example".into(), 5_432)));
        assert_eq!(host_of("postgres://me@[::1]:5433/x", 5_432), Some(("::1".into(), 5_433)));
        assert_eq!(host_of("postgres:///x", 5_432), None);
    }

    #[test]
    fn a_fresh_machine_lacks_nothing_for_the_local_profile_and_is_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place { data: dir.path().join("new"), config: None, profile: None };
        let findings = look(&place);
        let of = |what| findings.iter().find(|finding| finding.what == what).unwrap();
        assert!(of("data directory").state == State::Ok && of("log").state == State::Ok);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_taken_port_and_an_unusable_configuration_are_missing_things() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(port("API", "--listen", taken.local_addr().unwrap()).state == State::Missing);
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("countersign.toml"), "nonsense = 1\n").unwrap();
        let place = Place { data: dir.path().to_owned(), config: None, profile: None };
        assert_eq!(run(&place).unwrap(), ExitCode::from(1));
    }
}
