//! Reads: one function for each question, for HTTP and for the command line.

use event::topic;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::db::{Bind, Row};
use crate::money::{Balances, HALF, Sums};
use crate::rows::{OWED_STATE, PARKED_STATE, POSTED_STATE};
use crate::shape::{self, AccountView, EntryView, ExchangeLine, ExchangeView, MeterView, MoneyView, Status, UsageView};
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

/// Which entries to list.
#[derive(Clone, Debug, Default)]
pub(crate) struct EntryFilter {
    pub(crate) exchange_id: Option<String>,
    pub(crate) account: Option<String>,
    /// at, partition, offset, line
    pub(crate) after: Option<[i64; 4]>,
    pub(crate) limit: i64,
}

/// One page, and where the next begins.
#[derive(Debug)]
pub(crate) struct Page<T, C> {
    pub(crate) items: Vec<T>,
    pub(crate) next: Option<C>,
}

/// A statement in the making.
struct Sql {
    text: String,
    binds: Vec<Bind>,
}

impl Sql {
    fn new(text: &str) -> Self {
        Self { text: text.to_owned(), binds: Vec::new() }
    }

    /// Appends a text in which each `?` becomes the number of the next bind.
    fn and(&mut self, text: &str, binds: impl IntoIterator<Item = Bind>) {
        let mut binds = binds.into_iter();
        for part in text.split_inclusive('?') {
            match part.strip_suffix('?') {
                Some(before) => {
                    self.binds.extend(binds.next());
                    self.text.push_str(before);
                    self.text.push('$');
                    self.text.push_str(&self.binds.len().to_string());
                }
                None => self.text.push_str(part),
            }
        }
    }
}

/// An exchange that only refused records named is not there (DESIGN R10): every claim was withdrawn.
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

    /// Receipts of a trace in the order they were sealed (a trace lies in one partition).
    pub(crate) async fn receipts(
        &self,
        tenant: &str,
        trace_id: &str,
        after: i64,
        limit: i64,
    ) -> Result<Page<Value, i64>, ViewError> {
        let sql = "SELECT receipt, at_offset FROM receipt WHERE tenant = $1 AND trace_id = $2 AND at_offset > $3 \
                   ORDER BY at_offset LIMIT $4";
        let binds = [tenant.into(), trace_id.into(), after.into(), (limit + 1).into()];
        let rows = self.reader.fetch(sql, &binds).await?;
        page(&rows, limit, |row| Ok((stored_json(row.text(0)?, "receipt")?.unwrap_or_default(), row.known_int(1)?)))
    }

    /// One whole chain, the newest where none is named: its name and the JSON texts of its receipts in hop order.
    pub(crate) async fn chain(
        &self,
        tenant: &str,
        trace_id: &str,
        chain: Option<&str>,
    ) -> Result<Option<(String, Vec<String>)>, ViewError> {
        let sql = "SELECT chain, receipt FROM receipt WHERE tenant = $1 AND trace_id = $2 AND chain = COALESCE($3, \
                   (SELECT r.chain FROM receipt r WHERE r.tenant = $1 AND r.trace_id = $2 ORDER BY r.at_offset DESC LIMIT 1)) \
                   ORDER BY hop";
        let binds = [tenant.into(), trace_id.into(), Bind::Text(chain.map(str::to_owned))];
        let rows = self.reader.fetch(sql, &binds).await?;
        let Some(first) = rows.first() else { return Ok(None) };
        let receipts = rows.iter().map(|row| row.known_text(1)).collect::<Result<Vec<_>, _>>()?;
        Ok(Some((first.known_text(0)?, receipts)))
    }

    /// The JSON texts of all public keys for that use.
    pub(crate) async fn public_keys(&self, used_for: &str) -> Result<Vec<String>, ViewError> {
        let sql = "SELECT jwk FROM public_key WHERE used_for = $1 ORDER BY kid";
        self.reader.fetch(sql, &[used_for.into()]).await?.iter().map(|row| row.known_text(0)).collect()
    }

    /// Usage of one month (`YYYY-MM`); a month without any shows zeros.
    pub async fn usage(&self, tenant: &str, month: &str) -> Result<UsageView, ViewError> {
        let sql =
            "SELECT meter, total, exchanges, as_of FROM usage_total WHERE tenant = $1 AND month = $2 ORDER BY meter";
        let rows = self.reader.fetch(sql, &[tenant.into(), month.into()]).await?;
        let mut meters = rows
            .iter()
            .map(|row| {
                Ok(MeterView {
                    meter: row.known_text(0)?,
                    total: row.known_int(1)?,
                    exchanges: row.known_int(2)?,
                    as_of: row.int(3)?.map(shape::time),
                })
            })
            .collect::<Result<Vec<_>, ViewError>>()?;
        for meter in ["vex", "fu"] {
            if meters.iter().all(|known| known.meter != meter) {
                meters.push(MeterView { meter: meter.to_owned(), total: 0, exchanges: 0, as_of: None });
            }
        }
        meters.sort_by(|a, b| b.meter.cmp(&a.meter));
        Ok(UsageView { month: month.to_owned(), meters })
    }

    /// Accounts of a tenant, or one of them, from one snapshot: what was booked for exchanges admitted up to `at`.
    pub async fn balances(
        &self,
        tenant: &str,
        account: Option<&str>,
        at: Option<i64>,
    ) -> Result<Vec<AccountView>, ViewError> {
        let leg = |table: &str, state: &str, side: &str| {
            let (credit, debit) = if side == "credit_account" { ("t.minor", "0") } else { ("0", "t.minor") };
            format!(
                "SELECT t.{side} AS account, t.currency AS currency, {state} AS state, {credit} AS credit, {debit} AS debit FROM {table}"
            )
        };
        let entry = "entry t WHERE t.tenant = $1 AND t.at <= $2";
        let owed = format!(
            "owed t JOIN command c ON c.command_id = t.command_id WHERE t.tenant = $1 AND t.at <= $2 \
             AND c.state <> {POSTED_STATE}"
        );
        let posted = POSTED_STATE.to_string();
        let legs = [
            leg(entry, &posted, "debit_account"),
            leg(entry, &posted, "credit_account"),
            leg(&owed, "c.state", "debit_account"),
            leg(&owed, "c.state", "credit_account"),
        ];
        let sum = |side: &str| format!("CAST(SUM(l.{side} / {HALF}) AS TEXT), CAST(SUM(l.{side} % {HALF}) AS TEXT)");
        let sql = format!(
            "SELECT l.account, l.currency, l.state, {}, {} FROM ({}) l WHERE COALESCE($3, l.account) = l.account \
             GROUP BY l.account, l.currency, l.state",
            sum("credit"),
            sum("debit"),
            legs.join(" UNION ALL "),
        );
        let binds = [tenant.into(), at.unwrap_or(i64::MAX).into(), Bind::Text(account.map(str::to_owned))];
        let mut balances = Balances::default();
        let own = format!("{tenant}:");
        for row in self.reader.fetch(&sql, &binds).await? {
            let sums = Sums {
                account: row.known_text(0)?,
                currency: row.known_text(1)?,
                state: row.known_int(2)?,
                credits: (row.known_text(3)?, row.known_text(4)?),
                debits: (row.known_text(5)?, row.known_text(6)?),
            };
            if sums.account.starts_with(&own) {
                balances.add(sums)?;
            }
        }
        Ok(balances.into_views())
    }

    pub(crate) async fn entries(
        &self,
        tenant: &str,
        filter: &EntryFilter,
    ) -> Result<Page<EntryView, [i64; 4]>, ViewError> {
        let mut sql = Sql::new(
            "SELECT exchange_id, command_id, kind, at, debit_account, credit_account, currency, minor, \
             ledger_partition, sequence, line, at_partition, at_offset FROM entry WHERE",
        );
        sql.and(" tenant = ?", [tenant.into()]);
        if let Some(exchange_id) = &filter.exchange_id {
            sql.and(" AND exchange_id = ?", [exchange_id.as_str().into()]);
        }
        if let Some(account) = &filter.account {
            sql.and(
                " AND (debit_account = ? OR credit_account = ?)",
                [account.as_str().into(), account.as_str().into()],
            );
        }
        if let Some(after) = filter.after {
            sql.and(" AND (at, at_partition, at_offset, line) < (?, ?, ?, ?)", after.map(Bind::from));
        }
        sql.and(" ORDER BY at DESC, at_partition DESC, at_offset DESC, line DESC LIMIT ?", [(filter.limit + 1).into()]);
        let rows = self.reader.fetch(&sql.text, &sql.binds).await?;
        page(&rows, filter.limit, |row| {
            let entry = EntryView {
                exchange_id: row.text(0)?,
                command_id: row.known_text(1)?,
                kind: row.known_text(2)?,
                at: shape::time(row.known_int(3)?),
                debit_account: row.known_text(4)?,
                credit_account: row.known_text(5)?,
                amount: MoneyView::new(&row.known_text(6)?, i128::from(row.known_int(7)?)),
                ledger_partition: row.known_int(8)?,
                sequence: row.known_int(9)?,
                line: row.known_int(10)?,
            };
            let key = [row.known_int(3)?, row.known_int(11)?, row.known_int(12)?, row.known_int(10)?];
            Ok((entry, key))
        })
    }
}

/// Cuts the row that only says that there is more.
fn page<T, C>(
    rows: &[Row],
    limit: i64,
    read: impl Fn(&Row) -> Result<(T, C), ViewError>,
) -> Result<Page<T, C>, ViewError> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut items = Vec::with_capacity(rows.len().min(limit));
    let mut last = None;
    for row in rows.iter().take(limit) {
        let (item, key) = read(row)?;
        items.push(item);
        last = Some(key);
    }
    Ok(Page { items, next: last.filter(|_| rows.len() > limit) })
}

fn stored_json(text: Option<String>, table: &'static str) -> Result<Option<Value>, ViewError> {
    text.map(|text| serde_json::from_str(&text).map_err(|_| ViewError::Damaged(table))).transpose()
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

const _: () = assert!(OWED_STATE == 0 && PARKED_STATE == 1 && POSTED_STATE == 2, "Balances indexes by state");
