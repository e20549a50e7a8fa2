//! The rows as the tables want them.

use super::Rows;
use crate::db::Bind;
use crate::tables::{COMMAND, DELIVERY, ENTRY, EXCHANGE, HOP, OWED, PUBLIC_KEY, RECEIPT, Table, USAGE_TOTAL};

impl Rows {
    /// Every table with its rows, in the order of `Table::columns`.
    pub(crate) fn into_tables(self) -> Vec<(&'static Table, Vec<Vec<Bind>>)> {
        let exchanges = self.exchanges.into_iter().map(|(exchange_id, row)| {
            vec![
                exchange_id.into(),
                row.tenant.into(),
                row.trace_id.into(),
                row.at.into(),
                row.origin.into(),
                row.standing.into(),
                row.receipt.into(),
                row.refusal.into(),
                row.usage.into(),
            ]
        });
        let receipts =
            self.receipts.into_iter().map(|((tenant, trace_id, chain, hop), (exchange_id, receipt, offset))| {
                vec![
                    tenant.into(),
                    trace_id.into(),
                    chain.into(),
                    hop.into(),
                    exchange_id.into(),
                    receipt.into(),
                    offset.into(),
                ]
            });
        let deliveries = self.deliveries.into_iter().map(|((partition, offset), (exchange_id, body))| {
            vec![partition.into(), offset.into(), exchange_id.into(), body.into()]
        });
        let totals = self.totals.into_iter().map(|((tenant, month, meter), (total, exchanges, as_of, offset))| {
            vec![tenant.into(), month.into(), meter.into(), total.into(), exchanges.into(), as_of.into(), offset.into()]
        });
        let commands = self.commands.into_iter().map(|(command_id, row)| {
            vec![
                command_id.into(),
                row.tenant.into(),
                row.exchange_id.into(),
                row.at.into(),
                row.state.into(),
                row.body.into(),
                row.outcome.into(),
            ]
        });
        let owed = self.owed.into_iter().map(|((command_id, line), (tenant, at, transfer))| {
            vec![
                command_id.into(),
                line.into(),
                tenant.into(),
                at.into(),
                transfer.debit_account.into(),
                transfer.credit_account.into(),
                transfer.currency.into(),
                transfer.minor.into(),
            ]
        });
        let hops = self.hops.into_iter().map(|((topic, partition, offset), row)| {
            vec![
                topic.into(),
                partition.into(),
                offset.into(),
                row.exchange_id.into(),
                row.time_ms.into(),
                row.cause.into(),
                row.note.into(),
                row.void.into(),
            ]
        });
        let keys = self.keys.into_iter().map(|(kid, (used_for, jwk))| vec![kid.into(), used_for.into(), jwk.into()]);
        vec![
            (&EXCHANGE, exchanges.collect()),
            (&RECEIPT, receipts.collect()),
            (&DELIVERY, deliveries.collect()),
            (&USAGE_TOTAL, totals.collect()),
            (&COMMAND, commands.collect()),
            (&OWED, owed.collect()),
            (&ENTRY, self.entries.into_values().collect()),
            (&HOP, hops.collect()),
            (&PUBLIC_KEY, keys.collect()),
        ]
    }
}
