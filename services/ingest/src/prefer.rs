//! How long a client wants to wait (RFC 7240).

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};

use crate::config::Config;

const PREFER: HeaderName = HeaderName::from_static("prefer");

/// How long the answer is awaited; zero for `respond-async`. Preferences that make no sense are passed over, as the
/// RFC wants.
pub(crate) fn wait_of(headers: &HeaderMap, config: &Config) -> Duration {
    let mut wait = None;
    let values = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    for preference in values.flat_map(|value| value.split(',')) {
        let preference = preference.split(';').next().unwrap_or_default().trim();
        if preference.eq_ignore_ascii_case("respond-async") {
            return Duration::ZERO;
        }
        let Some((name, value)) = preference.split_once('=') else { continue };
        if name.trim().eq_ignore_ascii_case("wait") && wait.is_none() {
            wait = value.trim().trim_matches('"').parse().ok().map(Duration::from_secs);
        }
    }
    wait.unwrap_or(config.wait_default).min(config.wait_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferences_say_how_long_to_wait() {
        let table: [(&[&str], u64); 10] = [
            (&[], 10),
            (&["wait=3"], 3),
            (&["wait=0"], 0),
            (&["wait=600"], 60),
            (&["wait=-1"], 10),
            (&["wait=soon"], 10),
            (&["respond-async"], 0),
            (&["respond-async, wait=5"], 0),
            (&["handling=lenient", "Wait = \"7\"; x=y"], 7),
            (&["wait=2, wait=9"], 2),
        ];
        for (values, seconds) in table {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(PREFER, value.parse().unwrap());
            }
            assert_eq!(wait_of(&headers, &Config::default()), Duration::from_secs(seconds), "{values:?}");
        }
    }
}
