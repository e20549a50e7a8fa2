//! The books: what was published, or everything counted anew up to this moment.

mod waits;

use std::time::Duration;

use audit::{AuditError, CloseOptions, Report};
use log::{Log, Topic};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stage::Stop;

use super::Trouble;

pub(crate) use waits::WaitsFor;

/// What the books say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct BooksAnswer {
    pub(crate) closed: bool,
    /// the same for people
    pub(crate) table: String,
    pub(crate) report: Value,
}

/// `POST /admin/audit/cut-now`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CutRequest {
    /// How long to wait for the steps to pass the cut.
    pub(crate) deadline_s: u64,
}

/// One line of the answer: what is waited for, as often as there is something to tell, and in the end the outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CutLine {
    Waiting(WaitsFor),
    Books(BooksAnswer),
    Trouble(Trouble),
}

/// What the audit role has published.
pub(crate) fn report(log: &dyn Log) -> Result<BooksAnswer, Trouble> {
    require_topics(log)?;
    let report = audit::report(log).map_err(|error| trouble(&error))?;
    let nothing = report.rows.is_empty();
    let mut books = answer(&report)?;
    if nothing {
        books.table = "no hour is published yet; `countersign audit --cut now` closes the books up to now\n".to_owned();
    }
    Ok(books)
}

/// Cuts at the end of what was requested, waits until every step has passed it, and closes up to it. Gives up, and
/// publishes nothing, when `tell` answers false: nobody waits any more.
pub(crate) fn cut_now(
    log: &dyn Log,
    request: &CutRequest,
    tell: &mut dyn FnMut(WaitsFor) -> bool,
) -> Result<BooksAnswer, Trouble> {
    require_topics(log)?;
    let options = CloseOptions { deadline: Duration::from_secs(request.deadline_s), ..CloseOptions::default() };
    let (mut watch, stop) = (waits::Watch::new(log, request), Stop::new());
    let mut told = |waiting| {
        if !tell(watch.look(waiting)) {
            stop.request();
        }
    };
    let report = audit::close_and_tell(log, &options, &stop, &mut told).map_err(|error| trouble(&error))?;
    answer(&report)
}

/// A log without topics has no books: the directory is most likely the wrong one.
pub(crate) fn require_topics(log: &dyn Log) -> Result<(), Trouble> {
    if log.partitions(&Topic::new(event::topic::REQUESTED))?.is_some() {
        return Ok(());
    }
    Err(Trouble::not_found("nothing was ever run on this log: it has no topics")
        .try_this("name the directory of the pipeline with --data DIR, or start one with `countersign up`"))
}

fn answer(report: &Report) -> Result<BooksAnswer, Trouble> {
    let value =
        serde_json::to_value(report).map_err(|error| Trouble::new("the books cannot be written").because(&error))?;
    Ok(BooksAnswer { closed: report.closed, table: report.to_string(), report: value })
}

fn trouble(error: &AuditError) -> Trouble {
    Trouble::new("the books cannot be closed").because(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use event::wire::{ExchangeRequested, Wire as _};
    use log::Output;
    use log::embedded::EmbeddedLog;

    #[test]
    fn the_books_of_nothing_are_closed_and_those_of_no_log_are_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(dir.path()).unwrap();
        let request = CutRequest { deadline_s: 5 };
        let cut = || cut_now(&log, &request, &mut |_| true);
        assert!(cut().is_err() && report(&log).is_err());
        crate::topics::apply(&log, &Config::default()).unwrap();
        assert!(cut().unwrap().closed);
        assert!(report(&log).unwrap().table.contains("no hour is published yet"));
    }

    #[test]
    fn who_waits_hears_what_for_and_can_give_up() {
        let dir = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(dir.path()).unwrap();
        crate::topics::apply(&log, &Config::default()).unwrap();
        let requested = ExchangeRequested {
            tenant: "acme".into(),
            idempotency_key: "key-0".into(),
            payload: b"1".to_vec(),
            payload_type: "passthrough".into(),
            target_type: None,
            trace_id: None,
            expected_prev_receipt_hash: None,
            amount: None,
            forward_url: None,
        };
        let (done, durable) = std::sync::mpsc::channel();
        let output = Output {
            topic: &Topic::new(event::topic::REQUESTED),
            partition: Some(1),
            key: Some(b"acme:key-0"),
            value: Some(&requested.encode().unwrap()),
            headers: &[],
        };
        log.append(&output, Box::new(move |outcome| drop(done.send(outcome)))).unwrap();
        durable.recv().unwrap().unwrap();

        // No step runs here: nobody passes the cut.
        let mut told = Vec::new();
        let given_up = cut_now(&log, &CutRequest { deadline_s: 60 }, &mut |waits| {
            told.push(waits.told());
            false
        });
        assert!(given_up.is_err_and(|trouble| trouble.because.contains("given up")));
        let [told] = told.as_slice() else { panic!("told {} times", told.len()) };
        for part in [
            "of at most 60 s; not past the cut yet: canonicalise\n",
            "  requested = admitted + rejected + replayed + moved + dead: 1 open, for want of an admission",
            "\n    exchange.requested.v1:1:0  ex_a46f1z1wmbq2pds9zabtvhng7b\n",
        ] {
            assert!(told.contains(part), "{part:?} is not in {told:?}");
        }
    }
}
