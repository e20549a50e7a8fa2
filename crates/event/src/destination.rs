//! Where a delivery may go: what a destination URL must look like, which hosts a tenant may name, which addresses may
//! be dialled.
//!
//! One set of rules for two moments: admission, which knows the URL and the allowlist, and dialling, which knows the
//! addresses too. A URL is refused rather than repaired: two programs that repair differently disagree about the host,
//! and that disagreement is the attack. Nothing here resolves a name.

mod address;
mod allowlist;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub use address::{BadPrefix, Nat64Prefix, Verdict, judge_address};
pub use allowlist::{Allowlist, BadEntry};
use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
/// A network, as `forward.networks_allowed` names it.
pub use ipnet::IpNet;

/// Longer URLs are refused.
pub const URL_BYTES_MAX: usize = 2_048;
/// The port where neither the URL nor the allowlist names one.
pub const HTTPS_PORT: u16 = 443;

/// Why a destination is refused, by a stable code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the URL is longer than {URL_BYTES_MAX} bytes")]
    TooLong,
    #[error("the URL has spaces, control characters or backslashes, or no authority")]
    Malformed,
    #[error("only https is delivered to")]
    NotHttps,
    #[error("the URL holds a user name or password")]
    Userinfo,
    #[error("the URL names no host")]
    NoHost,
    #[error("the host is not a DNS name")]
    BadHost,
    #[error("the host is percent-encoded")]
    EncodedHost,
    #[error("the host ends in a dot")]
    TrailingDot,
    #[error("the host is an address in a spelling that is not the canonical one")]
    AddressSpelling,
    #[error("the port is not a number from 1 to 65535")]
    BadPort,
    #[error("no entry of the allowlist names this host and port")]
    NotAllowlisted,
    #[error("the host has no address")]
    Unresolved,
    #[error("an address of the host may not be dialled: {0}")]
    Address(&'static str),
}

impl Refusal {
    /// The stable code; for an address, the code of its [`Verdict`].
    pub fn code(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Malformed => "malformed_url",
            Self::NotHttps => "not_https",
            Self::Userinfo => "userinfo",
            Self::NoHost => "no_host",
            Self::BadHost => "bad_host",
            Self::EncodedHost => "encoded_host",
            Self::TrailingDot => "trailing_dot",
            Self::AddressSpelling => "address_spelling",
            Self::BadPort => "bad_port",
            Self::NotAllowlisted => "not_allowlisted",
            Self::Unresolved => "unresolved",
            Self::Address(reason) => reason,
        }
    }
}

/// The host of a destination: a DNS name in lower-case ASCII (punycode), or an address in its canonical spelling.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    Name(String),
    Address(IpAddr),
}

impl Host {
    /// Reads a host as it stands in a URL: IPv6 addresses in brackets.
    fn parse(text: &str) -> Result<Self, Refusal> {
        if text.is_empty() {
            return Err(Refusal::NoHost);
        }
        if let Some(inside) = text.strip_prefix('[') {
            let inside = inside.strip_suffix(']').ok_or(Refusal::BadHost)?;
            return canonical_v6(inside).map(|address| Self::Address(IpAddr::V6(address)));
        }
        if text.contains('%') {
            return Err(Refusal::EncodedHost);
        }
        if text.ends_with(['.', '\u{3002}', '\u{ff0e}', '\u{ff61}']) {
            return Err(Refusal::TrailingDot);
        }
        let name = Uts46::new()
            .to_ascii(text.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast, DnsLength::Verify)
            .map_err(|_| Refusal::BadHost)?;
        if !ends_in_number(&name) {
            return Ok(Self::Name(name.into_owned()));
        }
        match text.parse::<Ipv4Addr>() {
            Ok(address) if address.to_string() == text => Ok(Self::Address(IpAddr::V4(address))),
            _ => Err(Refusal::AddressSpelling),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

fn canonical_v6(text: &str) -> Result<Ipv6Addr, Refusal> {
    match text.parse::<Ipv6Addr>() {
        Ok(address) if address.to_string() == text => Ok(address),
        Ok(_) => Err(Refusal::AddressSpelling),
        Err(_) => Err(Refusal::BadHost),
    }
}

/// Whether any resolver or URL parser would try to read the name as an IPv4 address: no top-level domain is a number.
fn ends_in_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    match last.strip_prefix("0x") {
        Some(hex) => hex.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => last.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

/// A URL that may be compared with an allowlist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    host: Host,
    port: u16,
    target: String,
}

impl Destination {
    /// Reads a URL. The fragment is dropped, non-ASCII characters of path and query are percent-encoded as UTF-8.
    ///
    /// # Errors
    /// The first rule that the URL breaks.
    pub fn parse(url: &str) -> Result<Self, Refusal> {
        if url.len() > URL_BYTES_MAX {
            return Err(Refusal::TooLong);
        }
        if url.bytes().any(|byte| byte <= b' ' || byte == 0x7f || byte == b'\\') {
            return Err(Refusal::Malformed);
        }
        let (scheme, rest) = url.split_once(':').ok_or(Refusal::Malformed)?;
        if !scheme.eq_ignore_ascii_case("https") {
            return Err(Refusal::NotHttps);
        }
        let rest = rest.strip_prefix("//").ok_or(Refusal::Malformed)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        if authority.contains('@') {
            return Err(Refusal::Userinfo);
        }
        let (host, port) = split_port(authority)?;
        let target = rest.split('#').next().unwrap_or_default();
        Ok(Self { host: Host::parse(host)?, port: port.unwrap_or(HTTPS_PORT), target: target_of(target) })
    }

    pub fn host(&self) -> &Host {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path and query as they are sent: ASCII, beginning with a slash.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The value of the `Host` header: the port only where it is not the default.
    pub fn authority(&self) -> String {
        if self.port == HTTPS_PORT { self.host.to_string() } else { format!("{}:{}", self.host, self.port) }
    }
}

/// Splits host and port; an empty port is the default.
fn split_port(authority: &str) -> Result<(&str, Option<u16>), Refusal> {
    // The colons of an IPv6 address lie inside its brackets.
    let after_brackets = match (authority.starts_with('['), authority.rfind(']')) {
        (true, None) => return Err(Refusal::BadHost),
        (_, bracket) => bracket.map_or(0, |at| at + 1),
    };
    let (_, tail) = authority.split_at(after_brackets);
    let Some(colon) = tail.find(':') else { return Ok((authority, None)) };
    let (host, port) = authority.split_at(after_brackets + colon);
    let port = port.get(1..).unwrap_or_default();
    if port.is_empty() {
        return Ok((host, None));
    }
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Refusal::BadPort);
    }
    match port.parse::<u16>() {
        Ok(0) | Err(_) => Err(Refusal::BadPort),
        Ok(port) => Ok((host, Some(port))),
    }
}

/// Path and query in ASCII. What is percent-encoded already stays as it is.
fn target_of(rest: &str) -> String {
    let mut target = String::with_capacity(rest.len() + 1);
    if !rest.starts_with('/') {
        target.push('/');
    }
    for byte in rest.bytes() {
        if byte.is_ascii_graphic() && !b"\"<>^`{|}".contains(&byte) {
            target.push(char::from(byte));
        } else {
            target.push('%');
            for digit in [byte >> 4, byte & 0xf] {
                target.push(char::from_digit(u32::from(digit), 16).unwrap_or('0').to_ascii_uppercase());
            }
        }
    }
    target
}

/// What addresses are judged by, beside the registries.
#[derive(Clone, Debug, Default)]
pub struct AddressRules {
    /// Prefixes of the operator's own NAT64, beside 64:ff9b::/96.
    pub nat64_prefixes: Vec<Nat64Prefix>,
    /// Networks that may be dialled although they are not public.
    pub networks_allowed: Vec<IpNet>,
}

/// Judges everything that a host resolved to; one bad address denies. Answers what may be dialled, in the
/// order given: for a literal its own address, whatever was resolved.
///
/// # Errors
/// [`Refusal::Address`] for the first address that may not be dialled, [`Refusal::Unresolved`] if there is none.
pub fn dialable(
    destination: &Destination,
    resolved: &[IpAddr],
    rules: &AddressRules,
) -> Result<Vec<SocketAddr>, Refusal> {
    let literal;
    let addresses = match destination.host {
        Host::Address(address) => {
            literal = [address];
            literal.as_slice()
        }
        Host::Name(_) => resolved,
    };
    if addresses.is_empty() {
        return Err(Refusal::Unresolved);
    }
    addresses
        .iter()
        .map(|address| match judge_address(*address, &rules.nat64_prefixes, &rules.networks_allowed) {
            Verdict::Allow(_) => Ok(SocketAddr::new(*address, destination.port)),
            Verdict::Deny(reason) => Err(Refusal::Address(reason)),
        })
        .collect()
}

/// Whether an entry of the allowlist names this host and port.
pub fn allowed(destination: &Destination, allowlist: &Allowlist) -> bool {
    allowlist.names(destination)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str) -> &'static str {
        Destination::parse(url).unwrap_err().code()
    }

    #[test]
    fn a_url_is_taken_apart_and_not_repaired() {
        let destination = Destination::parse("HTTPS://Bücher.Example:8443/ü?q={é}#part").unwrap();
        assert_eq!(destination.host().to_string(), "xn--bcher-kva.example");
        assert_eq!(destination.port(), 8443);
        assert_eq!(destination.target(), "/%C3%BC?q=%7B%C3%A9%7D");
        assert_eq!(destination.authority(), "xn--bcher-kva.example:8443");
        assert_eq!(Destination::parse("https://a.example?x=1").unwrap().target(), "/?x=1");
        assert_eq!(Destination::parse("https://a.example").unwrap().target(), "/");
        assert_eq!(Destination::parse("https://[2606:4700::1111]/").unwrap().authority(), "[2606:4700::1111]");
    }

    #[test]
    fn every_refusal_has_its_own_reason() {
        assert_eq!(refused(&format!("https://a.example/{}", "a".repeat(URL_BYTES_MAX))), "too_long");
        for url in
            ["https:a.example", "https:/a.example", " https://a.example", "https://a.example\\b", "a.example", ""]
        {
            assert_eq!(refused(url), "malformed_url", "{url}");
        }
        assert_eq!(refused("http://a.example/"), "not_https");
        assert_eq!(refused("https://@a.example/"), "userinfo");
        for url in ["https://", "https:///a.example", "https://:443/"] {
            assert_eq!(refused(url), "no_host", "{url}");
        }
        for url in [
            "https://a..example/",
            "https://a_b.example/",
            "https://-a.example/",
            "https://a／b.example/",
            "https://[::1/",
        ] {
            assert_eq!(refused(url), "bad_host", "{url}");
        }
        assert_eq!(refused("https://a%2eexample/"), "encoded_host");
        for url in ["https://a.example./", "https://a.example。/"] {
            assert_eq!(refused(url), "trailing_dot", "{url}");
        }
        for url in [
            "https://127.1/",
            "https://0x7f000001/",
            "https://１27.0.0.1/",
            "https://[::FFFF:1.2.3.4]/",
            "https://1.2.3.4.5/",
            "https://08.08.08.08/",
            "https://a.0x/",
        ] {
            assert_eq!(refused(url), "address_spelling", "{url}");
        }
        for url in [
            "https://a.example:0/",
            "https://a.example:65536/",
            "https://a.example:+443/",
            "https://a.example:1:2/",
            "https://a.example:４43/",
        ] {
            assert_eq!(refused(url), "bad_port", "{url}");
        }
    }

    #[test]
    fn one_bad_address_among_several_denies() {
        let destination = Destination::parse("https://a.example/").unwrap();
        let good: IpAddr = "93.184.215.14".parse().unwrap();
        let bad: IpAddr = "10.0.0.1".parse().unwrap();
        let rules = AddressRules::default();
        assert_eq!(dialable(&destination, &[good], &rules), Ok(vec![SocketAddr::new(good, 443)]));
        assert_eq!(dialable(&destination, &[good, bad], &rules), Err(Refusal::Address("private")));
        assert_eq!(dialable(&destination, &[], &rules), Err(Refusal::Unresolved));
        let named = AddressRules { networks_allowed: vec!["10.0.0.0/8".parse().unwrap()], ..AddressRules::default() };
        assert!(dialable(&destination, &[good, bad], &named).is_ok());
    }

    #[test]
    fn the_url_examples_come_out_as_published() {
        let mut seen = 0;
        for line in include_str!("destination/vectors/ssrf-url.jsonl").lines() {
            let example: serde_json::Value = serde_json::from_str(line).unwrap();
            let request = &example["request"];
            let texts = |name: &str| -> Vec<String> {
                request[name].as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
            };
            let resolved: Vec<IpAddr> = texts("addresses").iter().map(|text| text.parse().unwrap()).collect();
            let rules = AddressRules {
                nat64_prefixes: texts("nat64_prefixes").iter().map(|text| text.parse().unwrap()).collect(),
                networks_allowed: Vec::new(),
            };
            let allowlist = Allowlist::lenient(texts("allowlist"));
            let outcome = Destination::parse(request["url"].as_str().unwrap()).and_then(|destination| {
                if !allowed(&destination, &allowlist) {
                    return Err(Refusal::NotAllowlisted);
                }
                dialable(&destination, &resolved, &rules)
            });
            let verdict = if outcome.is_ok() { "allow" } else { "deny" };
            assert_eq!(verdict, example["expected"]["verdict"], "{example} came out as {outcome:?}");
            seen += 1;
        }
        assert_eq!(seen, 20);
    }
}
