//! Exchanges: one with everything known, and the list.

use event::topic;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{EntryFilter, Page, Sql, page, stored_json};
use crate::rows::{PARKED_STATE, POSTED_STATE};
use crate::shape::{self, EntryView, ExchangeLine, ExchangeView, Status};
use crate::{View, ViewError};

/// A record of an exchange: where it lies, when it was written, and what led to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Hop {
    pub topic: String,
    pub partition: i64,
    pub offset: i64,
    /// the record's own time
    pub at: Option<String>,
    /// `partition:offset:index` of the record that caused it; its topic comes before where it is a redo topic
    pub cause: Option<String>,
    /// what it says: admitted, replay, sealed, metered, posted, or a code
    pub note: Option<String>,
}

/// Everything about one exchange, whoever's it is (`countersign why`).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Known {
    pub tenant: String,
    pub exchange: ExchangeView,
    pub entries: Vec<EntryView>,
}

/// Which exchanges to list. Times are half-open: from <= at < to.
#[derive(Clone, Debug, Default)]
pub(crate) struct ExchangeFilter {
    pub(crate) trace_id: Option<String>,
    pub(crate) status: Option<Status>,
    pub(crate) from: Option<i64>,
    pub(crate) to: Option<i64>,
    pub(crate) after: Option<(i64, String)>,
    pub(crate) limit: i64,
}

/// An exchange that only refused records named is not there (R10): every claim was withdrawn.
const VISIBLE: &str = " AND (e.standing > 0 OR e.origin = 9223372036854775807 OR EXISTS (SELECT 1 FROM hop h \
    WHERE h.exchange_id = e.exchange_id AND h.topic = 'exchange.requested.v1' AND h.void = 0))";

impl View {
    /// Everything known about one exchange; `None` where the tenant has none of that id.
    pub async fn exchange(&self, tenant: &str, exchange_id: &str) -> Result<Option<ExchangeView>, ViewError> {
        Ok(self.known(Some(tenant), exchange_id).await?.map(|(_, exchange)| exchange))
    }

    /// Everything known about one exchange of any tenant, with its postings.
    pub async fn why(&self, exchange_id: &str) -> Result<Option<Known>, ViewError> {
        let Some((tenant, exchange)) = self.known(None, exchange_id).await? else { return Ok(None) };
        let filter = EntryFilter { exchange_id: Some(exchange_id.to_owned()), limit: 1_000, ..EntryFilter::default() };
        let entries = self.entries(&tenant, &filter).await?.items;
        Ok(Some(Known { tenant, exchange, entries }))
    }

    async fn known(
        &self,
        tenant: Option<&str>,
        exchange_id: &str,
    ) -> Result<Option<(String, ExchangeView)>, ViewError> {
        let mut sql = Sql::new(
            "SELECT e.tenant, e.trace_id, e.at, e.standing, e.receipt, e.refusal, e.usage FROM exchange e WHERE",
        );
        sql.and(" e.exchange_id = ?", [exchange_id.into()]);
        if let Some(tenant) = tenant {
            sql.and(" AND e.tenant = ?", [tenant.into()]);
        }
        sql.and(VISIBLE, []);
        let rows = self.reader.fetch(&sql.text, &sql.binds).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let exchange = ExchangeView {
            exchange_id: exchange_id.to_owned(),
            trace_id: row.known_text(1)?,
            status: Status::of_standing(row.known_int(3)?),
            at: shape::time(row.known_int(2)?),
            receipt: stored_json(row.text(4)?, "exchange")?,
            refusal: stored_json(row.text(5)?, "exchange")?,
            usage: stored_json(row.text(6)?, "exchange")?,
            deliveries: self.deliveries(exchange_id).await?,
            settlement: self.settlement(exchange_id).await?,
            positions: self.hops(exchange_id).await?,
        };
        Ok(Some((row.known_text(0)?, exchange)))
    }

    async fn deliveries(&self, exchange_id: &str) -> Result<Vec<Value>, ViewError> {
        let sql = "SELECT body FROM delivery WHERE exchange_id = $1 ORDER BY at_partition, at_offset";
        let rows = self.reader.fetch(sql, &[exchange_id.into()]).await?;
        rows.iter().filter_map(|row| row.text(0).and_then(|body| stored_json(body, "delivery")).transpose()).collect()
    }

    async fn settlement(&self, exchange_id: &str) -> Result<Option<Value>, ViewError> {
        let sql = "SELECT command_id, state, body, outcome FROM command WHERE exchange_id = $1 ORDER BY command_id";
        let rows = self.reader.fetch(sql, &[exchange_id.into()]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let state = match row.known_int(1)? {
            POSTED_STATE => "posted",
            PARKED_STATE => "parked",
            _ => "owed",
        };
        let owed = stored_json(row.text(2)?, "command")?;
        let mut settlement = Map::new();
        settlement.insert("command_id".to_owned(), row.known_text(0)?.into());
        settlement.insert("state".to_owned(), state.into());
        settlement.insert("owed".to_owned(), owed.unwrap_or_default());
        if let Some(outcome) = stored_json(row.text(3)?, "command")? {
            settlement.insert(state.to_owned(), outcome);
        }
        Ok(Some(Value::Object(settlement)))
    }

    async fn hops(&self, exchange_id: &str) -> Result<Vec<Hop>, ViewError> {
        let sql = "SELECT topic, at_partition, at_offset, time_ms, cause, note FROM hop \
                   WHERE exchange_id = $1 AND void = 0 ORDER BY time_ms, topic, at_partition, at_offset";
        let rows = self.reader.fetch(sql, &[exchange_id.into()]).await?;
        let mut hops = rows
            .iter()
            .map(|row| {
                Ok(Hop {
                    topic: row.known_text(0)?,
                    partition: row.known_int(1)?,
                    offset: row.known_int(2)?,
                    at: row.int(3)?.map(shape::time),
                    cause: row.text(4)?,
                    note: row.text(5)?,
                })
            })
            .collect::<Result<Vec<_>, ViewError>>()?;
        // Records of one millisecond are told in the order of the steps.
        hops.sort_by(|a, b| a.at.cmp(&b.at).then_with(|| step_of(&a.topic).cmp(&step_of(&b.topic))));
        Ok(hops)
    }

    pub(crate) async fn exchanges(
        &self,
        tenant: &str,
        filter: &ExchangeFilter,
    ) -> Result<Page<ExchangeLine, (i64, String)>, ViewError> {
        let mut sql = Sql::new("SELECT e.exchange_id, e.trace_id, e.standing, e.at FROM exchange e WHERE");
        sql.and(" e.tenant = ?", [tenant.into()]);
        if let Some(trace_id) = &filter.trace_id {
            sql.and(" AND e.trace_id = ?", [trace_id.as_str().into()]);
        }
        if let Some(status) = filter.status {
            let standing =
                Status::ALL.iter().find(|(known, _, _)| *known == status).map_or(0, |(_, _, standing)| *standing);
            sql.and(" AND e.standing = ?", [standing.into()]);
        }
        if let Some(from) = filter.from {
            sql.and(" AND e.at >= ?", [from.into()]);
        }
        if let Some(to) = filter.to {
            sql.and(" AND e.at < ?", [to.into()]);
        }
        if let Some((at, exchange_id)) = &filter.after {
            sql.and(" AND (e.at, e.exchange_id) < (?, ?)", [(*at).into(), exchange_id.as_str().into()]);
        }
        sql.and(VISIBLE, []);
        sql.and(" ORDER BY e.at DESC, e.exchange_id DESC LIMIT ?", [(filter.limit + 1).into()]);
        let rows = self.reader.fetch(&sql.text, &sql.binds).await?;
        page(&rows, filter.limit, |row| {
            let at = row.known_int(3)?;
            let line = ExchangeLine {
                exchange_id: row.known_text(0)?,
                trace_id: row.known_text(1)?,
                status: Status::of_standing(row.known_int(2)?),
                at: shape::time(at),
            };
            let key = (at, line.exchange_id.clone());
            Ok((line, key))
        })
    }
}

/// How far along the pipeline a topic lies.
fn step_of(name: &str) -> usize {
    const ORDER: [&str; 9] = [
        topic::REQUESTED,
        topic::REJECTED,
        topic::ADMITTED,
        topic::SEALED,
        topic::DELIVERED,
        topic::USAGE_RECORDED,
        topic::LEDGER_COMMAND,
        topic::SETTLEMENT_PARKED,
        topic::SETTLEMENT_POSTED,
    ];
    ORDER.iter().position(|known| *known == name).unwrap_or(ORDER.len())
}
