//! The tables, and how a row that is there already meets a new one. Every rule commutes (`rows`).

use crate::ViewError;
use crate::db::{Bind, Tx};

/// One table, as the upserts need it.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) columns: &'static [&'static str],
    /// What follows `ON CONFLICT`.
    conflict: &'static str,
}

/// Statements come in these sizes only, so that few of them need preparing; each stays below 32,766 binds.
const CHUNKS: [usize; 5] = [1024, 256, 32, 4, 1];

pub(crate) const EXCHANGE: Table = Table {
    name: "exchange",
    columns: &["exchange_id", "tenant", "trace_id", "at", "origin", "standing", "receipt", "refusal", "usage"],
    conflict: "(exchange_id) DO UPDATE SET \
        trace_id = CASE WHEN excluded.origin > exchange.origin THEN excluded.trace_id ELSE exchange.trace_id END, \
        at = CASE WHEN excluded.origin > exchange.origin THEN excluded.at ELSE exchange.at END, \
        origin = CASE WHEN excluded.origin > exchange.origin THEN excluded.origin ELSE exchange.origin END, \
        standing = CASE WHEN excluded.standing > exchange.standing THEN excluded.standing ELSE exchange.standing END, \
        receipt = COALESCE(exchange.receipt, excluded.receipt), \
        refusal = COALESCE(exchange.refusal, excluded.refusal), \
        usage = COALESCE(exchange.usage, excluded.usage)",
};

pub(crate) const RECEIPT: Table = Table {
    name: "receipt",
    columns: &["tenant", "trace_id", "chain", "hop", "exchange_id", "receipt", "at_offset"],
    conflict: "(tenant, trace_id, chain, hop) DO UPDATE SET exchange_id = excluded.exchange_id, \
        receipt = excluded.receipt, at_offset = excluded.at_offset WHERE excluded.at_offset < receipt.at_offset",
};

pub(crate) const DELIVERY: Table = Table {
    name: "delivery",
    columns: &["at_partition", "at_offset", "exchange_id", "body"],
    conflict: "(at_partition, at_offset) DO NOTHING",
};

pub(crate) const USAGE_TOTAL: Table = Table {
    name: "usage_total",
    columns: &["tenant", "month", "meter", "total", "exchanges", "as_of", "at_offset"],
    conflict: "(tenant, month, meter) DO UPDATE SET total = excluded.total, exchanges = excluded.exchanges, \
        as_of = excluded.as_of, at_offset = excluded.at_offset WHERE excluded.at_offset > usage_total.at_offset",
};

pub(crate) const COMMAND: Table = Table {
    name: "command",
    columns: &["command_id", "tenant", "exchange_id", "at", "state", "body", "outcome"],
    conflict: "(command_id) DO UPDATE SET \
        body = COALESCE(command.body, excluded.body), \
        outcome = CASE WHEN excluded.state > command.state THEN excluded.outcome ELSE command.outcome END, \
        state = CASE WHEN excluded.state > command.state THEN excluded.state ELSE command.state END",
};

pub(crate) const OWED: Table = Table {
    name: "owed",
    columns: &["command_id", "line", "tenant", "at", "debit_account", "credit_account", "currency", "minor"],
    conflict: "(command_id, line) DO NOTHING",
};

pub(crate) const ENTRY: Table = Table {
    name: "entry",
    columns: &[
        "at_partition",
        "at_offset",
        "line",
        "ledger_partition",
        "sequence",
        "tenant",
        "exchange_id",
        "command_id",
        "kind",
        "at",
        "debit_account",
        "credit_account",
        "currency",
        "minor",
    ],
    conflict: "(at_partition, at_offset, line) DO NOTHING",
};

pub(crate) const HOP: Table = Table {
    name: "hop",
    columns: &["topic", "at_partition", "at_offset", "exchange_id", "time_ms", "cause", "note", "void"],
    conflict: "(topic, at_partition, at_offset) DO UPDATE SET \
        exchange_id = COALESCE(hop.exchange_id, excluded.exchange_id), \
        time_ms = COALESCE(hop.time_ms, excluded.time_ms), \
        cause = COALESCE(hop.cause, excluded.cause), \
        note = COALESCE(hop.note, excluded.note), \
        void = CASE WHEN excluded.void > hop.void THEN excluded.void ELSE hop.void END",
};

pub(crate) const PUBLIC_KEY: Table = Table {
    name: "public_key",
    columns: &["kid", "used_for", "jwk"],
    conflict: "(kid) DO UPDATE SET used_for = excluded.used_for, jwk = excluded.jwk",
};

/// Every table, `tail` too: what a rebuild empties.
pub(crate) const ALL: [&str; 10] = [
    "tail",
    EXCHANGE.name,
    RECEIPT.name,
    DELIVERY.name,
    USAGE_TOTAL.name,
    COMMAND.name,
    OWED.name,
    ENTRY.name,
    HOP.name,
    PUBLIC_KEY.name,
];

impl Table {
    /// Writes the rows, many to a statement. No two rows of one call may have the same key.
    pub(crate) async fn upsert(&self, tx: &mut Tx, rows: &[Vec<Bind>]) -> Result<(), ViewError> {
        let mut rest = rows;
        for size in CHUNKS {
            while rest.len() >= size {
                let (chunk, after) = rest.split_at(size);
                rest = after;
                let binds: Vec<Bind> = chunk.iter().flatten().cloned().collect();
                tx.execute(&self.statement(size), &binds).await?;
            }
        }
        Ok(())
    }

    fn statement(&self, rows: usize) -> String {
        let width = self.columns.len();
        let mut sql = format!("INSERT INTO {} ({}) VALUES ", self.name, self.columns.join(", "));
        for row in 0..rows {
            sql.push_str(if row == 0 { "(" } else { ", (" });
            for column in 0..width {
                if column > 0 {
                    sql.push_str(", ");
                }
                sql.push('$');
                sql.push_str(&(row * width + column + 1).to_string());
            }
            sql.push(')');
        }
        sql.push_str(" ON CONFLICT ");
        sql.push_str(self.conflict);
        sql
    }
}
