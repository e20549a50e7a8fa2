//! What records say of usage totals, of what is owed, and of what became of it.

use event::wire::{LedgerCommand, SettlementParked, SettlementPosted, UsageTotal};
use log::Record;
use serde_json::json;

use super::{CommandRow, PARKED_STATE, POSTED_STATE, Rows, signed};

impl Rows {
    pub(super) fn total(&mut self, record: &Record, total: UsageTotal) {
        let row = (total.total, total.exchanges, total.as_of, signed(record.offset));
        let known = self.totals.entry((total.tenant, total.month, total.meter)).or_insert(row);
        if row.3 > known.3 {
            *known = row;
        }
    }

    pub(super) fn command(&mut self, record: &Record, command: &LedgerCommand) {
        self.hop(record, command.exchange_id.as_deref(), Some("owed".to_owned()));
        let body = json!({
            "command_id": command.command_id, "kind": command.kind, "decided_in": command.decided_in,
            "transfers": crate::shape::transfers(&command.transfers), "tariff_version": command.tariff_version,
            "config_version": command.config_version,
        });
        let row = self.command_row(&command.command_id, &command.tenant, command.exchange_id.as_ref(), command.at);
        row.body = Some(body.to_string());
        for (line, transfer) in command.transfers.iter().enumerate() {
            self.owed.insert(
                (command.command_id.clone(), count(line)),
                (command.tenant.clone(), command.at, transfer.clone()),
            );
        }
    }

    pub(super) fn posted(&mut self, record: &Record, posted: &SettlementPosted) {
        self.hop(record, posted.exchange_id.as_deref(), Some("posted".to_owned()));
        let outcome = json!({
            "transfers": crate::shape::transfers(&posted.transfers), "fee_minor": posted.fee_minor.to_string(),
            "tariff_version": posted.tariff_version, "sequence": posted.sequence,
            "ledger_partition": posted.ledger_partition,
        });
        let row = self.command_row(&posted.command_id, &posted.tenant, posted.exchange_id.as_ref(), posted.at);
        row.state = POSTED_STATE;
        row.outcome = Some(outcome.to_string());
        let place = (i64::from(record.partition), signed(record.offset));
        for (line, transfer) in posted.transfers.iter().enumerate() {
            let line = count(line);
            self.entries.insert(
                (place.0, place.1, line),
                vec![
                    place.0.into(),
                    place.1.into(),
                    line.into(),
                    i64::from(posted.ledger_partition).into(),
                    posted.sequence.into(),
                    posted.tenant.clone().into(),
                    posted.exchange_id.clone().into(),
                    posted.command_id.clone().into(),
                    posted.kind.clone().into(),
                    posted.at.into(),
                    transfer.debit_account.clone().into(),
                    transfer.credit_account.clone().into(),
                    transfer.currency.clone().into(),
                    transfer.minor.into(),
                ],
            );
        }
    }

    pub(super) fn parked(&mut self, record: &Record, parked: &SettlementParked) {
        self.hop(record, parked.exchange_id.as_deref(), Some(parked.reason.clone()));
        let outcome = json!({
            "reason": parked.reason, "detail": parked.detail,
            "sequence": parked.sequence, "ledger_partition": parked.ledger_partition,
        });
        let row = self.command_row(&parked.command_id, &parked.tenant, parked.exchange_id.as_ref(), parked.at);
        // Posted stays posted: of two outcomes the further one is shown.
        if row.state < PARKED_STATE {
            row.state = PARKED_STATE;
            row.outcome = Some(outcome.to_string());
        }
    }

    fn command_row(
        &mut self,
        command_id: &str,
        tenant: &str,
        exchange_id: Option<&String>,
        at: i64,
    ) -> &mut CommandRow {
        let row = self.commands.entry(command_id.to_owned()).or_default();
        row.tenant = tenant.to_owned();
        row.exchange_id = exchange_id.cloned();
        row.at = at;
        row
    }
}

fn count(line: usize) -> i64 {
    i64::try_from(line).unwrap_or(i64::MAX)
}
