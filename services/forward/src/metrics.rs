//! The names of this service's metrics.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Calls made, by `result` (`delivered`, `again`, `failed`).
pub const ATTEMPTS: &str = "forward_attempts_total";
/// Outcomes recorded, by `outcome` (`delivered`, `failed`).
pub const OUTCOMES: &str = "forward_outcomes_total";
/// How long a call took.
pub const ATTEMPT_SECONDS: &str = "forward_attempt_seconds";
/// Deliveries that wait for their turn.
pub const PENDING: &str = "forward_pending";
/// Calls in progress.
pub const IN_FLIGHT: &str = "forward_in_flight";

/// Registers units and help texts with the recorder.
pub fn describe() {
    describe_counter!(ATTEMPTS, Unit::Count, "Calls to destinations, by result");
    describe_counter!(OUTCOMES, Unit::Count, "Outcomes of deliveries, by outcome");
    describe_histogram!(ATTEMPT_SECONDS, Unit::Seconds, "Duration of a call to a destination");
    describe_gauge!(PENDING, Unit::Count, "Deliveries that wait for their turn");
    describe_gauge!(IN_FLIGHT, Unit::Count, "Calls to destinations in progress");
}
