//! What can be chosen about ingest; every bound has its name here.

use std::time::Duration;

use event::door;

/// Settings of ingest.
#[derive(Clone, Debug)]
pub struct Config {
    /// Partition of `exchange.answer.v1` that answers come back on: 0 to 63, another for each instance.
    pub slot: u32,
    /// Where clients reach us: stands before `/errors/<code>` in problems.
    pub base_url: String,
    /// How long a key is remembered; `None`: for ever. Published at `/v1/idempotency`.
    pub dedup_window: Option<Duration>,
    /// Body of a single request.
    pub body_bytes_max: usize,
    /// Body of a batch, and of what is to be verified.
    pub batch_bytes_max: usize,
    /// Exchanges in one batch.
    pub batch_items_max: usize,
    /// Depth and canonical size of a payload.
    pub payload: door::Limits,
    /// A body that takes longer to arrive is refused.
    pub body_timeout: Duration,
    /// An acknowledgement of the log that takes longer is unknown.
    pub acknowledge_timeout: Duration,
    /// How long an answer is awaited where the client does not say.
    pub wait_default: Duration,
    /// The longest that a client may ask to wait.
    pub wait_max: Duration,
    /// Exchanges between acceptance and answer at a time; above it `503` at once.
    pub in_flight_max: usize,
    /// Verifications at a time: they are all CPU.
    pub verifying_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            slot: 0,
            base_url: "http://127.0.0.1:8080".to_owned(),
            dedup_window: Some(Duration::from_secs(35 * 24 * 3600)),
            body_bytes_max: 512 * 1024,
            batch_bytes_max: 8 * 1024 * 1024,
            batch_items_max: 500,
            payload: door::Limits::default(),
            body_timeout: Duration::from_secs(30),
            acknowledge_timeout: Duration::from_secs(10),
            wait_default: Duration::from_secs(10),
            wait_max: Duration::from_secs(60),
            in_flight_max: 10_000,
            verifying_max: 2,
        }
    }
}

/// Bounds of the HTTP server on one listener.
#[derive(Clone, Copy, Debug)]
pub struct ServeLimits {
    /// Connections at a time; more wait in the listener's queue.
    pub connections_max: usize,
    /// From the end of one request to the whole head of the next.
    pub header_timeout: Duration,
    /// A client that takes nothing of its response for so long is cut off.
    pub write_timeout: Duration,
    /// How long open requests may go on after the stop.
    pub drain_timeout: Duration,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self {
            connections_max: 4_096,
            header_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(15),
        }
    }
}
