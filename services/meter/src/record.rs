//! The first step: one sealed exchange, one usage record, and one ledger command where money is owed.

use bytes::Bytes;
use event::envelope::{TRACEPARENT, public_headers};
use event::time::Timestamp;
use event::topic::{LEDGER_COMMAND, SEALED, USAGE_RECORDED};
use event::wire::{ExchangeSealed, LedgerCommand, Transfer, UsageRecorded, Wire, WireAmount};
use log::Topic;
use stage::redone::Redone;
use stage::{Effects, Emit, Reject, Step, StepError};

use crate::{Sealing, claim};

/// Records usage and states what is owed at sealing.
#[derive(Debug)]
pub struct Record {
    usage: Topic,
    command: Topic,
    tariff_version: String,
    redone: Redone,
}

impl Record {
    /// `tariff_version` is recorded in each command: settle prices by it (R2).
    pub fn new(tariff_version: &str) -> Self {
        Self {
            usage: Topic::new(USAGE_RECORDED),
            command: Topic::new(LEDGER_COMMAND),
            tariff_version: tariff_version.to_owned(),
            redone: Redone::default(),
        }
    }

    fn command(&self, sealed: &ExchangeSealed, amount: &WireAmount, record: &log::Record) -> LedgerCommand {
        LedgerCommand {
            command_id: format!("exchange_charge:{}", sealed.exchange_id),
            tenant: sealed.tenant.clone(),
            idempotency_key: sealed.exchange_id.clone(),
            kind: "exchange_charge".to_owned(),
            decided_in: format!("{}:{}:{}", record.topic, record.partition, record.offset),
            at: sealed.admitted_at,
            transfers: vec![Transfer {
                debit_account: payer(&sealed.tenant),
                credit_account: format!("{}:{}", sealed.tenant, amount.payee),
                currency: amount.currency.clone(),
                minor: amount.minor,
            }],
            exchange_id: Some(sealed.exchange_id.clone()),
            tariff_version: self.tariff_version.clone(),
            config_version: sealed.config_version,
        }
    }
}

/// The account that pays and that alone can refuse.
fn payer(tenant: &str) -> String {
    format!("{tenant}:main")
}

impl Step for Record {
    fn apply(&mut self, record: &log::Record, effects: &mut dyn Effects) -> Result<(), StepError> {
        let sealed: ExchangeSealed = crate::decode(record, SEALED)?;
        let (exchange_id, tenant) = (sealed.exchange_id.as_str(), sealed.tenant.as_str());
        let sealing = Sealing { exchange_id, tenant, admitted_at: sealed.admitted_at };
        claim(&mut self.redone, record, SEALED, &sealing, effects)?;
        let month = Timestamp::from_millis(sealed.admitted_at)
            .map_err(|error| Reject {
                reason: "invalid_time",
                detail: error.to_string(),
                tenant: sealed.tenant.clone(),
            })?
            .month()
            .to_string();
        let usage = UsageRecorded {
            exchange_id: sealed.exchange_id.clone(),
            tenant: sealed.tenant.clone(),
            trace_id: sealed.trace_id.clone(),
            admitted_at: sealed.admitted_at,
            month,
            vex: sealed.vex,
            fu: sealed.fu,
        };
        let traceparent = record.header(TRACEPARENT);
        effects.emit(Emit {
            topic: self.usage.clone(),
            partition: None,
            key: Some(Bytes::from(sealed.tenant.clone())),
            value: Some(encode(&usage)?),
            headers: public_headers(USAGE_RECORDED, &sealed.tenant, &sealed.exchange_id, traceparent),
        })?;
        // Zero seals and posts nothing.
        let Some(amount) = sealed.amount.as_ref().filter(|amount| amount.minor > 0) else {
            return Ok(());
        };
        let command = self.command(&sealed, amount, record);
        effects.emit(Emit {
            topic: self.command.clone(),
            partition: None,
            key: Some(Bytes::from(payer(&sealed.tenant))),
            value: Some(encode(&command)?),
            headers: public_headers(LEDGER_COMMAND, &sealed.tenant, &sealed.exchange_id, traceparent),
        })?;
        Ok(())
    }

    fn finish(&mut self, partition: u32, effects: &mut dyn Effects) -> Result<(), StepError> {
        Ok(self.redone.finish(partition, effects)?)
    }

    fn reset(&mut self, _assigned: &[log::Position]) {
        self.redone.clear();
    }
}

pub(crate) fn encode<T: Wire>(value: &T) -> Result<Bytes, StepError> {
    value.encode().map(Bytes::from).map_err(|error| {
        StepError::Reject(Reject { reason: "unencodable", detail: error.to_string(), tenant: "-".to_owned() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use stage::testing::{MemoryEffects, record};

    fn sealed(amount: Option<WireAmount>) -> ExchangeSealed {
        ExchangeSealed {
            exchange_id: "ex_1".into(),
            tenant: "acme".into(),
            trace_id: "t".into(),
            idempotency_key: "k".into(),
            admitted_at: 1_767_225_600_000,
            receipt: "{}".into(),
            payload: b"{}".to_vec(),
            payload_key_id: None,
            payload_type: "passthrough".into(),
            target_type: "passthrough".into(),
            vex: 1,
            fu: 0,
            amount,
            forward_url: None,
            config_version: 7,
            normalization: None,
        }
    }

    fn emitted(amount: Option<WireAmount>) -> Vec<Emit> {
        let mut effects = MemoryEffects::default();
        let value = sealed(amount).encode().unwrap();
        Record::new("t1").apply(&record(SEALED, 2, 9, 5, "acme:t", value), &mut effects).unwrap();
        effects.take()
    }

    #[test]
    fn an_exchange_without_a_price_is_only_counted() {
        let emits = emitted(None);
        assert_eq!(emits.len(), 1);
        let usage = UsageRecorded::decode(emits[0].value.as_ref().unwrap()).unwrap();
        assert_eq!((usage.month.as_str(), usage.vex, usage.fu), ("2026-01", 1, 0));
    }

    #[test]
    fn a_priced_exchange_is_owed_by_the_tenants_main_account() {
        let emits = emitted(Some(WireAmount { currency: "USD".into(), minor: 1250, payee: "agent-7".into() }));
        assert_eq!(emits.len(), 2);
        assert_eq!(emits[1].key.as_deref(), Some(b"acme:main".as_ref()));
        let command = LedgerCommand::decode(emits[1].value.as_ref().unwrap()).unwrap();
        assert_eq!(command.decided_in, "exchange.sealed.v1:2:9");
        assert_eq!(command.transfers[0].credit_account, "acme:agent-7");
        assert_eq!(command.transfers[0].minor, 1250);
    }

    #[test]
    fn a_price_of_zero_posts_nothing() {
        assert_eq!(emitted(Some(WireAmount { currency: "USD".into(), minor: 0, payee: "a".into() })).len(), 1);
    }

    #[test]
    fn a_dead_letter_that_is_redone_twice_is_metered_once() {
        let amount = || Some(WireAmount { currency: "USD".into(), minor: 1250, payee: "agent-7".into() });
        let mut effects = MemoryEffects::default();
        let mut step = Record::new("t1");
        let redo =
            |offset, sealed: &ExchangeSealed| record("meter.redo.v1", 2, offset, 5, "acme:t", sealed.encode().unwrap());
        step.apply(&redo(0, &sealed(amount())), &mut effects).unwrap();
        let again = step.apply(&redo(1, &sealed(amount())), &mut effects);
        assert!(matches!(again, Err(StepError::Reject(reject)) if reject.reason == "already_decided"));
        step.finish(2, &mut effects).unwrap();
        assert_eq!(effects.take().len(), 2, "one usage record and one command");
        let mut restarted = Record::new("t1");
        assert!(restarted.apply(&redo(2, &sealed(amount())), &mut effects).is_err());
        // The same key sealed again after the dedup window is another exchange to be metered.
        let later = ExchangeSealed { admitted_at: 1_767_225_600_000 + 40 * 86_400_000, ..sealed(amount()) };
        restarted.apply(&redo(3, &later), &mut effects).unwrap();
        assert_eq!(effects.take().len(), 2);
    }

    #[test]
    fn records_of_the_input_leave_no_mark() {
        let mut effects = MemoryEffects::default();
        let mut step = Record::new("t1");
        step.apply(&record(SEALED, 2, 9, 5, "acme:t", sealed(None).encode().unwrap()), &mut effects).unwrap();
        step.finish(2, &mut effects).unwrap();
        assert!(effects.cells.is_empty());
    }

    #[test]
    fn damage_is_a_dead_letter_and_a_later_schema_waits() {
        let mut effects = MemoryEffects::default();
        let damaged = Record::new("t1").apply(&record(SEALED, 0, 0, 0, "k", vec![1]), &mut effects);
        assert!(matches!(damaged, Err(StepError::Reject(_))));
        let later = Record::new("t1").apply(&record(SEALED, 0, 0, 0, "k", vec![0, 0, 0, 9, 9, 1]), &mut effects);
        assert!(matches!(later, Err(StepError::Wait(_))));
        let redone =
            Record::new("t1").apply(&record("meter.redo.v1", 0, 0, 0, "k", vec![0, 0, 0, 9, 9, 1]), &mut effects);
        assert!(matches!(redone, Err(StepError::Reject(_))));
    }
}
