//! Names and units of what audit counts.

/// `audit_records_total`: records taken into the books.
pub(crate) fn records(records: usize) {
    metrics::counter!("audit_records_total").increment(records as u64);
}

/// `audit_unreadable_total{topic}`: records that no version can read.
pub(crate) fn unreadable(topic: &str) {
    metrics::counter!("audit_unreadable_total", "topic" => topic.to_owned()).increment(1);
}

/// `audit_checkpoints_total{closed}`: checkpoints published.
pub(crate) fn checkpoint(closed: bool) {
    metrics::counter!("audit_checkpoints_total", "closed" => if closed { "true" } else { "false" }).increment(1);
}

/// `audit_gaps`: faults in the hours that every step has passed.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; nobody has 2^53 gaps")]
pub(crate) fn gaps(gaps: usize) {
    metrics::gauge!("audit_gaps").set(gaps as f64);
}
