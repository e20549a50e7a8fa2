//! Which hosts a tenant may name.

use std::str::FromStr;

use super::{Destination, HTTPS_PORT, Host, split_port};

/// An entry that names no host: it is neither `host`, `host:port`, `*.host` nor `*`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an allowlist entry: write `host`, `host:port`, `*.host` or `*`")]
pub struct BadEntry(pub String);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    /// Any public name, but no address literal.
    Any,
    /// One or more labels below this name, not the name itself.
    Below(String),
    Exactly(Host),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    pattern: Pattern,
    port: u16,
}

impl FromStr for Entry {
    type Err = BadEntry;

    fn from_str(text: &str) -> Result<Self, BadEntry> {
        let bad = || BadEntry(text.to_owned());
        let (host, port) = split_port(text).map_err(|_| bad())?;
        let pattern = if host == "*" {
            Pattern::Any
        } else if let Some(suffix) = host.strip_prefix("*.") {
            match Host::parse(suffix) {
                Ok(Host::Name(name)) => Pattern::Below(name),
                _ => return Err(bad()),
            }
        } else {
            Pattern::Exactly(Host::parse(host).map_err(|_| bad())?)
        };
        Ok(Self { pattern, port: port.unwrap_or(HTTPS_PORT) })
    }
}

/// The hosts of a tenant and the global ones together. Empty: nothing may be named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowlist {
    entries: Vec<Entry>,
}

impl Allowlist {
    /// Reads entries; names are compared in punycode and lower case.
    ///
    /// # Errors
    /// The first entry that cannot match anything.
    pub fn parse<T: AsRef<str>>(entries: impl IntoIterator<Item = T>) -> Result<Self, BadEntry> {
        let entries = entries.into_iter().map(|text| text.as_ref().parse()).collect::<Result<_, _>>()?;
        Ok(Self { entries })
    }

    /// Reads entries that were accepted earlier; one that names no host matches nothing.
    pub fn lenient<T: AsRef<str>>(entries: impl IntoIterator<Item = T>) -> Self {
        Self { entries: entries.into_iter().filter_map(|text| text.as_ref().parse().ok()).collect() }
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn names(&self, destination: &Destination) -> bool {
        self.entries.iter().any(|entry| entry.port == destination.port() && entry.pattern.matches(destination.host()))
    }
}

impl Pattern {
    fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Any, Host::Name(name)) => is_public_name(name),
            (Self::Below(suffix), Host::Name(name)) => {
                // The suffix was read as a whole name, so what is left of the dot is at least one label.
                name.strip_suffix(suffix.as_str()).is_some_and(|labels| labels.len() > 1 && labels.ends_with('.'))
            }
            (Self::Exactly(named), host) => named == host,
            (Self::Any | Self::Below(_), Host::Address(_)) => false,
        }
    }
}

/// A single label resolves inside the house only, and `localhost` to the machine itself (RFC 6761).
fn is_public_name(name: &str) -> bool {
    name.contains('.') && !name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(entries: &[&str], url: &str) -> bool {
        Allowlist::parse(entries).unwrap().names(&Destination::parse(url).unwrap())
    }

    #[test]
    fn a_name_matches_itself_in_any_spelling_of_the_same_name() {
        assert!(names(&["Bücher.example"], "https://xn--bcher-kva.EXAMPLE/"));
        assert!(!names(&["good.example"], "https://good.example.evil.test/"));
        assert!(!names(&["good.example"], "https://evilgood.example/"));
        assert!(!names(&["good.example"], "https://a.good.example/"));
        assert!(!names(&[], "https://good.example/"));
    }

    #[test]
    fn a_star_before_a_name_means_one_or_more_labels_below_it() {
        assert!(names(&["*.good.example"], "https://a.good.example/"));
        assert!(names(&["*.good.example"], "https://a.b.good.example/"));
        assert!(!names(&["*.good.example"], "https://good.example/"));
        assert!(!names(&["*.good.example"], "https://evilgood.example/"));
    }

    #[test]
    fn a_star_means_any_public_name_and_no_address() {
        assert!(names(&["*"], "https://evil.test/"));
        assert!(!names(&["*"], "https://8.8.8.8/"));
        assert!(!names(&["*"], "https://[2606:4700::1111]/"));
        assert!(!names(&["*"], "https://localhost/"));
        assert!(!names(&["*"], "https://intranet/"));
        assert!(names(&["localhost:8443"], "https://localhost:8443/"));
    }

    #[test]
    fn the_port_is_443_unless_the_entry_names_another() {
        assert!(!names(&["good.example"], "https://good.example:8443/"));
        assert!(names(&["good.example:8443"], "https://good.example:8443/"));
        assert!(!names(&["good.example:8443"], "https://good.example/"));
        assert!(names(&["*:8443"], "https://good.example:8443/"));
        assert!(names(&["8.8.8.8"], "https://8.8.8.8:443/"));
        assert!(names(&["[2606:4700::1111]:8443"], "https://[2606:4700::1111]:8443/"));
    }

    #[test]
    fn an_entry_that_names_no_host_is_an_error_or_matches_nothing() {
        for entry in [
            "",
            "*.",
            "*.8.8.8.8",
            "a.*",
            "https://a.example",
            "a.example/",
            "a.example.",
            "127.1",
            "a.example:0",
            "*a.example",
        ] {
            assert_eq!(Allowlist::parse([entry]), Err(BadEntry(entry.to_owned())));
            assert!(Allowlist::lenient([entry]).is_empty());
        }
    }
}
