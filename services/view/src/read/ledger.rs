//! Usage, balances and posted transfers.

use super::{Page, Sql, page};
use crate::db::Bind;
use crate::money::{Balances, HALF, Sums};
use crate::rows::{OWED_STATE, PARKED_STATE, POSTED_STATE};
use crate::shape::{self, AccountView, EntryView, MeterView, MoneyView, UsageView};
use crate::{View, ViewError};

/// Which entries to list.
#[derive(Clone, Debug, Default)]
pub(crate) struct EntryFilter {
    pub(crate) exchange_id: Option<String>,
    pub(crate) account: Option<String>,
    /// at, partition, offset, line
    pub(crate) after: Option<[i64; 4]>,
    pub(crate) limit: i64,
}

/// Which accounts to sum.
struct Which<'a> {
    /// This one alone.
    account: Option<&'a str>,
    /// Those whose names come later.
    after: Option<&'a str>,
    /// Only what was admitted up to then.
    at: Option<i64>,
    limit: i64,
}

impl View {
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

    /// One page of a tenant's accounts with their balances, from one snapshot, in the order of their names. The account
    /// that pays exists from the start.
    pub(crate) async fn accounts(
        &self,
        tenant: &str,
        after: Option<&str>,
        limit: i64,
    ) -> Result<Page<AccountView, String>, ViewError> {
        let which = Which { account: None, after, at: None, limit: limit + 1 };
        let mut items = self.balances(tenant, &which).await?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let has_more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| has_more).map(|last| last.account.clone());
        Ok(Page { items, next })
    }

    /// One account: what was booked for exchanges admitted up to `at`. `None` where the tenant has none of that name.
    pub(crate) async fn account(
        &self,
        tenant: &str,
        account: &str,
        at: Option<i64>,
    ) -> Result<Option<AccountView>, ViewError> {
        let which = Which { account: Some(account), after: None, at, limit: 1 };
        Ok(self.balances(tenant, &which).await?.pop())
    }

    /// Accounts with the sums of all their legs, in one statement: one snapshot on both databases.
    async fn balances(&self, tenant: &str, which: &Which<'_>) -> Result<Vec<AccountView>, ViewError> {
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
            format!("SELECT $1 || ':main', CAST(NULL AS TEXT), {POSTED_STATE}, 0, 0"),
        ];
        let sum = |side: &str| format!("CAST(SUM(l.{side} / {HALF}) AS TEXT), CAST(SUM(l.{side} % {HALF}) AS TEXT)");
        let sql = format!(
            "WITH l AS ({}), page AS (SELECT DISTINCT l.account FROM l \
             WHERE SUBSTR(l.account, 1, LENGTH($1) + 1) = $1 || ':' AND COALESCE($3, l.account) = l.account \
             AND ($4 IS NULL OR l.account > $4) ORDER BY l.account LIMIT $5) \
             SELECT l.account, l.currency, l.state, {}, {} FROM l JOIN page ON page.account = l.account \
             GROUP BY l.account, l.currency, l.state ORDER BY l.account",
            legs.join(" UNION ALL "),
            sum("credit"),
            sum("debit"),
        );
        let text = |text: Option<&str>| Bind::Text(text.map(str::to_owned));
        let at = which.at.unwrap_or(i64::MAX);
        let binds = [tenant.into(), at.into(), text(which.account), text(which.after), which.limit.into()];
        let mut balances = Balances::default();
        for row in self.reader.fetch(&sql, &binds).await? {
            let account = row.known_text(0)?;
            match row.text(1)? {
                None => balances.know(account),
                Some(currency) => balances.add(Sums {
                    account,
                    currency,
                    state: row.known_int(2)?,
                    credits: (row.known_text(3)?, row.known_text(4)?),
                    debits: (row.known_text(5)?, row.known_text(6)?),
                })?,
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

const _: () = assert!(OWED_STATE == 0 && PARKED_STATE == 1 && POSTED_STATE == 2, "Balances indexes by state");
