//! The books: what was published, or everything counted anew up to this moment.

use std::time::Duration;

use audit::{AuditError, CloseOptions, Report};
use log::{Log, Topic};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stage::Stop;

use super::Trouble;

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

/// Cuts at the end of what was requested, waits until every step has passed it, and closes up to it.
pub(crate) fn cut_now(log: &dyn Log, request: &CutRequest) -> Result<BooksAnswer, Trouble> {
    require_topics(log)?;
    let options = CloseOptions { deadline: Duration::from_secs(request.deadline_s), ..CloseOptions::default() };
    let report = audit::close(log, &options, &Stop::new()).map_err(|error| trouble(&error))?;
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
    use log::embedded::EmbeddedLog;

    #[test]
    fn the_books_of_nothing_are_closed_and_those_of_no_log_are_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(dir.path()).unwrap();
        let request = CutRequest { deadline_s: 5 };
        assert!(cut_now(&log, &request).is_err() && report(&log).is_err());
        crate::topics::apply(&log, &Config::default()).unwrap();
        assert!(cut_now(&log, &request).unwrap().closed);
        assert!(report(&log).unwrap().table.contains("no hour is published yet"));
    }
}
