//! Takes exchanges in over HTTP and brings back what was decided about them.
//!
//! - reads: `exchange.answer.v1` (one partition, its slot), `signing_key.v1`, `tenant.config.v1`, `access.db`
//! - writes: `exchange.requested.v1`, and `tenant.config.v1` from `access.db`
//! - key: `tenant:idempotency_key`
//! - ordering: per key, in the order of the log's acknowledgements
//! - state: none that decides; who waits for which answer lives in memory and dies with the process
//! - guarantee: 201 only for what is sealed, 202 only for what the log holds; otherwise the same key may be sent again
//! - bad record: refused at the door with problem+json; nothing is written and the key is not used up
//! - crash: whoever waited repeats the request with the same key and gets the answer
//! - metrics: `ingest_*` in `metrics.rs`
//! - configuration: [`Config`]
#![forbid(unsafe_code)]

mod batch;
mod config;
mod door;
mod dry_run;
mod exchange;
mod follow;
mod http;
mod jwks;
mod metrics;
mod openapi;
mod pages;
mod prefer;
mod serve;
mod start;
mod state;
mod submit;
mod types;
mod verify;
mod waiting;

pub use config::{Config, ServeLimits};
pub use http::router;
pub use jwks::KeyDirectory;
pub use metrics::describe as describe_metrics;
pub use openapi::document as openapi_document;
pub use serve::serve;
pub use start::{Ingest, StartError, start};
pub use state::IngestState;
