//! What this service counts.

use std::time::Duration;

use ledger::OutboxRow;

/// `settle_batches_total`, `settle_apply_seconds`: database transactions; `settle_rows_total{topic}`: what was decided.
pub(crate) fn applied(rows: usize, took: Duration) {
    metrics::counter!("settle_batches_total").increment(1);
    metrics::counter!("settle_rows_decided_total").increment(rows as u64);
    metrics::histogram!("settle_apply_seconds").record(took.as_secs_f64());
}

/// `settle_rows_published_total{topic}`: outbox rows that are in the log.
pub(crate) fn published(rows: &[OutboxRow]) {
    for row in rows {
        metrics::counter!("settle_rows_published_total", "topic" => row.draft.topic.clone()).increment(1);
    }
}

/// `settle_rows_restored_total`: published rows that a restored database took back.
pub(crate) fn restored(rows: usize) {
    metrics::counter!("settle_rows_restored_total").increment(rows as u64);
}

/// `settle_recoveries_total{code}`: batches that were given up and read again.
pub(crate) fn recovered(code: &'static str) {
    metrics::counter!("settle_recoveries_total", "code" => code).increment(1);
}
