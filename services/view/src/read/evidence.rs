//! Receipts, chains and the keys that they are checked with.

use serde_json::Value;

use super::{Page, page, stored_json};
use crate::db::Bind;
use crate::{View, ViewError};

impl View {
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
}
