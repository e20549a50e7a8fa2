//! Names, units and meanings of ingest's metrics.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Labels `status` (HTTP) and `code` (of the problem, otherwise `ok`).
pub(crate) const REQUESTS: &str = "ingest_requests_total";
pub(crate) const REQUEST_SECONDS: &str = "ingest_request_seconds";
/// Label `outcome`: sealed, refused, accepted, unavailable.
pub(crate) const EXCHANGES: &str = "ingest_exchanges_total";
pub(crate) const REPLAYS: &str = "ingest_replays_total";
pub(crate) const APPEND_SECONDS: &str = "ingest_append_seconds";
pub(crate) const WAITING: &str = "ingest_waiting_exchanges";
pub(crate) const CONNECTIONS: &str = "ingest_connections";

/// Tells the recorder what each metric means. Call once, after it is installed.
pub fn describe() {
    describe_counter!(REQUESTS, "HTTP requests answered, by status and problem code");
    describe_histogram!(REQUEST_SECONDS, Unit::Seconds, "From the request's head to the response's head");
    describe_counter!(EXCHANGES, "Exchanges by what their client was told: sealed, refused, accepted, unavailable");
    describe_counter!(REPLAYS, "Answers that repeated an earlier one");
    describe_histogram!(APPEND_SECONDS, Unit::Seconds, "From append to the log's acknowledgement");
    describe_gauge!(WAITING, "Exchanges whose client waits for the answer");
    describe_gauge!(CONNECTIONS, "Open HTTP connections");
}
