//! The decision: which hop of which chain, or why not.

use std::collections::BTreeMap;

use event::amount::{Amount, Currency, Minor};
use event::digest::Digest;
use event::envelope::trace_key;
use event::id::{ExchangeId, Payee, TenantId, TraceId};
use event::time::Timestamp;
use event::topic::ADMITTED;
use event::wire::{Admission, ChainHead, Decided, ExchangeAdmitted, ExchangeRejected, ExchangeSealed, Wire, WireError};
use log::{Committed, Position, Record};
use proof::{Draft, Policy};
use signing::Keyring;
use stage::dead_letter::ALREADY_DECIDED;
use stage::expiring::{Clocks, Window};
use stage::redone::{Asked, Redone};
use stage::value::{UnknownSchema, read};
use stage::{Effects, Reject, Step, StepError};

use crate::answer::{Refusal, Told, Writer, created, reply_of};
use crate::chain;
use crate::lookup::SealedLookup;

/// What an admission says that must open its chain (schemas/exchange.requested.v1).
const FIRST_HOP: &str = "first";
/// One exchange is one verified exchange.
const VEX_PER_EXCHANGE: i64 = 1;

/// Where the sealed partition ended at some commit before.
const SEALED_END_CELL: &[u8] = b"e";

/// What sign is given once.
pub struct Settings {
    pub window: Window,
    pub keys: Keyring,
}

/// An admission on its way to the chain. `now` is the partition's time: admissions of one trace come from different
/// partitions of the request topic, so their own times may run backwards, and a head must never move to an older one.
#[derive(Clone, Copy)]
struct Admitted<'a> {
    record: &'a Record,
    admitted: &'a ExchangeAdmitted,
    admission: &'a Admission,
    now: i64,
}

/// The step.
pub struct Sign {
    settings: Settings,
    lookup: SealedLookup,
    writer: Writer,
    clocks: Clocks,
    /// A dead letter may come back later than the window remembers what it led to.
    redone: Redone,
    /// Where our partitions of the sealed topic ended after the last commit: a record sealed since lies there or later.
    sealed_ends: BTreeMap<u32, u64>,
    /// Sealed in the batch that is open: a replay in the same batch cannot read them back yet.
    open: BTreeMap<String, ExchangeSealed>,
}

impl Sign {
    pub fn new(settings: Settings, lookup: SealedLookup) -> Self {
        Self {
            settings,
            lookup,
            writer: Writer::default(),
            clocks: Clocks::default(),
            redone: Redone::default(),
            sealed_ends: BTreeMap::new(),
            open: BTreeMap::new(),
        }
    }

    /// A lower bound of where the next sealed record will lie. It is kept in the state too, so that after a restart a
    /// replay need not search the partition from its beginning.
    fn sealed_end(&mut self, partition: u32, effects: &dyn Effects) -> Result<u64, StepError> {
        if let Some(end) = self.sealed_ends.get(&partition) {
            return Ok(*end);
        }
        let stored =
            effects.get(SEALED_END_CELL)?.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes);
        self.sealed_ends.insert(partition, stored);
        Ok(stored)
    }

    /// The original's answer once more (docs/contracts/http.md): sealed ones are read back from the log.
    fn replay(
        &mut self,
        record: &Record,
        admitted: &ExchangeAdmitted,
        now: i64,
        effects: &mut dyn Effects,
    ) -> Result<(), StepError> {
        let Some(reply) = reply_of(record).filter(|_| !admitted.answered) else { return Ok(()) };
        let exchange_id = admitted.exchange_id.as_str();
        let decided = chain::decided(self.settings.window, exchange_id, now, effects)?.ok_or_else(|| Reject {
            reason: "replay_without_original",
            detail: format!("{exchange_id} was never decided here"),
            tenant: admitted.tenant.clone(),
        })?;
        let body = match (&decided.body, self.open.get(exchange_id)) {
            (Some(body), _) => body.as_bytes().to_vec(),
            (None, Some(sealed)) => created(sealed)?,
            (None, None) => {
                let from = u64::try_from(decided.sealed_from).unwrap_or(0);
                created(&self.lookup.find(record.partition, from, exchange_id)?)?
            }
        };
        let told = Told {
            exchange_id,
            tenant: &admitted.tenant,
            status: decided.status,
            code: decided.code.as_deref(),
            body,
            replayed: true,
        };
        self.writer.answer(&reply, told, effects)
    }

    fn seal(
        &mut self,
        subject: Admitted<'_>,
        head: Option<ChainHead>,
        effects: &mut dyn Effects,
    ) -> Result<(), StepError> {
        let Admitted { record, admitted, admission, now } = subject;
        let ts = head.as_ref().map_or(admitted.at, |head| head.ts.max(admitted.at));
        let draft = draft(admitted, admission, head.as_ref(), ts).map_err(|detail| Reject {
            reason: "malformed_record",
            detail,
            tenant: admitted.tenant.clone(),
        })?;
        // Without a key for this moment nothing is lost by waiting until the operator gives one.
        let keys = self.settings.keys.for_time(draft.ts).map_err(|error| StepError::Wait(error.to_string()))?;
        let key =
            keys.at(draft.ts).ok_or_else(|| StepError::Wait(format!("no signing key is valid at {}", draft.ts)))?;
        let receipt = draft.seal(key).map_err(|error| Reject {
            reason: "unsealable",
            detail: error.to_string(),
            tenant: admitted.tenant.clone(),
        })?;
        let sealed = ExchangeSealed {
            exchange_id: admitted.exchange_id.clone(),
            tenant: admitted.tenant.clone(),
            trace_id: admitted.trace_id.clone(),
            idempotency_key: admission.idempotency_key.clone(),
            admitted_at: admitted.at,
            receipt: receipt.to_json(),
            payload: admission.payload.clone(),
            payload_key_id: admission.payload_key_id.clone(),
            payload_type: admission.payload_type.clone(),
            target_type: admission.target_type.clone(),
            vex: VEX_PER_EXCHANGE,
            fu: admission.fu,
            amount: admission.amount.clone(),
            forward_url: admission.forward_url.clone(),
            config_version: admission.config_version,
            normalization: admission.normalization.clone(),
        };
        self.writer.sealed(&sealed, record, effects)?;
        if let Some(reply) = reply_of(record) {
            let told = Told {
                exchange_id: &sealed.exchange_id,
                tenant: &sealed.tenant,
                status: 201,
                code: None,
                body: created(&sealed)?,
                replayed: false,
            };
            self.writer.answer(&reply, told, effects)?;
        }
        let window = self.settings.window;
        let moved = ChainHead {
            chain: receipt.draft.chain.to_string(),
            hop: i64::try_from(receipt.draft.hop).unwrap_or(i64::MAX),
            receipt_hash: receipt.receipt_hash.to_string(),
            ts,
            at: now,
        };
        chain::put_head(window, &trace_key(&admitted.tenant, &admitted.trace_id), moved, effects)?;
        let sealed_from = self.sealed_end(record.partition, effects)?;
        let decided = Decided {
            at: now,
            sealed_from: i64::try_from(sealed_from).unwrap_or(i64::MAX),
            status: 201,
            code: None,
            body: None,
        };
        chain::put_decided(window, &admitted.exchange_id, decided, effects)?;
        self.open.insert(sealed.exchange_id.clone(), sealed);
        Ok(())
    }

    fn refuse(&mut self, subject: Admitted<'_>, refusal: &Refusal, effects: &mut dyn Effects) -> Result<(), StepError> {
        let Admitted { record, admitted, admission, now } = subject;
        let body = refusal.body();
        let rejected = ExchangeRejected {
            exchange_id: admitted.exchange_id.clone(),
            tenant: admitted.tenant.clone(),
            idempotency_key: admission.idempotency_key.clone(),
            trace_id: admitted.trace_id.clone(),
            decided_by: "sign".to_owned(),
            at: admitted.at,
            status: Refusal::STATUS,
            code: refusal.code.to_owned(),
            detail: refusal.detail.clone(),
            errors: refusal.errors_json(),
            overwrites: true,
        };
        self.writer.rejected(&rejected, record, effects)?;
        if let Some(reply) = reply_of(record) {
            let told = Told {
                exchange_id: &admitted.exchange_id,
                tenant: &admitted.tenant,
                status: Refusal::STATUS,
                code: Some(refusal.code),
                body: body.clone().into_bytes(),
                replayed: false,
            };
            self.writer.answer(&reply, told, effects)?;
        }
        let decided = Decided {
            at: now,
            sealed_from: 0,
            status: Refusal::STATUS,
            code: Some(refusal.code.to_owned()),
            body: Some(body),
        };
        chain::put_decided(self.settings.window, &admitted.exchange_id, decided, effects)
    }
}

/// What the receipt will say. The text names the member that cannot be read.
fn draft(
    admitted: &ExchangeAdmitted,
    admission: &Admission,
    head: Option<&ChainHead>,
    ts: i64,
) -> Result<Draft, String> {
    fn named<T, E: std::fmt::Display>(name: &str, parsed: Result<T, E>) -> Result<T, String> {
        parsed.map_err(|error| format!("{name}: {error}"))
    }
    let exchange_id = named("exchange_id", ExchangeId::parse(admitted.exchange_id.as_str()))?;
    let (chain, hop, previous) = match head {
        None => (exchange_id.clone(), 1, None),
        Some(head) => {
            let hop = named("hop", u64::try_from(head.hop))?.saturating_add(1);
            let previous = named("receipt_hash", Digest::parse(&head.receipt_hash))?;
            (named("chain", ExchangeId::parse(head.chain.as_str()))?, hop, Some(previous))
        }
    };
    let amount = match &admission.amount {
        None => None,
        Some(amount) => Some(Amount {
            currency: named("amount.currency", Currency::parse(&amount.currency))?,
            minor: named("amount.minor", Minor::new(amount.minor))?,
            payee: named("amount.payee", Payee::parse(amount.payee.as_str()))?,
        }),
    };
    Ok(Draft {
        tenant: named("tenant", TenantId::parse(admitted.tenant.as_str()))?,
        exchange_id,
        trace_id: named("trace_id", TraceId::parse(admitted.trace_id.as_str()))?,
        chain,
        hop,
        ts: named("at", Timestamp::from_millis(ts))?,
        payload_type: admission.payload_type.clone(),
        target_type: admission.target_type.clone(),
        request_cid: named("request_cid", Digest::parse(&admission.request_cid))?,
        cid: named("cid", Digest::parse(&admission.cid))?,
        policy: Policy { reason: admission.policy_reason.clone(), host: admission.policy_host.clone() },
        fu: named("fu", u64::try_from(admission.fu))?,
        amount,
        prev_receipt_hash: previous,
    })
}

/// The head that the next receipt follows, or why the caller's expectation does not hold.
fn follow(
    window: Window,
    newest: Option<ChainHead>,
    expected: Option<&str>,
    now: i64,
) -> Result<Option<ChainHead>, Refusal> {
    let (open, closed) = match newest {
        Some(head) if window.covers(head.at, now) => (Some(head), None),
        closed => (None, closed),
    };
    let head_hash = open.as_ref().map(|head| head.receipt_hash.clone());
    let conflict = |detail: String| Refusal { code: "chain_conflict", detail, head: head_hash.clone() };
    match (expected, &open) {
        (None, _) | (Some(FIRST_HOP), None) => Ok(open),
        (Some(FIRST_HOP), Some(head)) => {
            Err(conflict(format!("the chain is open, its head is {} at hop {}", head.receipt_hash, head.hop)))
        }
        (Some(expected), Some(head)) if expected == head.receipt_hash => Ok(open),
        (Some(expected), _) if closed.as_ref().is_some_and(|head| head.receipt_hash == expected) => Err(Refusal {
            code: "head_expired",
            detail: format!("the chain of {expected} was quiet for longer than the dedup window and is closed"),
            head: None,
        }),
        (Some(_), Some(head)) => {
            Err(conflict(format!("the head of the chain is {} at hop {}", head.receipt_hash, head.hop)))
        }
        (Some(_), None) => Err(conflict("the trace has no open chain".to_owned())),
    }
}

impl Step for Sign {
    fn apply(&mut self, record: &Record, effects: &mut dyn Effects) -> Result<(), StepError> {
        let unknown = if record.topic.as_str() == ADMITTED { UnknownSchema::Wait } else { UnknownSchema::Reject };
        let admitted = read(record, ExchangeAdmitted::decode, WireError::is_unknown_schema, unknown)?;
        let window = self.settings.window;
        let now = self.clocks.observe(window, record.partition, admitted.at, effects)?;
        let Some(admission) = &admitted.admission else { return self.replay(record, &admitted, now, effects) };
        if record.topic.as_str() != ADMITTED {
            let name = format!("{}:{}", admitted.exchange_id, admitted.at);
            self.redone.claim(Asked { record, name: &name, tenant: &admitted.tenant }, effects)?;
        }
        if chain::decided(window, &admitted.exchange_id, now, effects)?.is_some() {
            // Only a dead letter that was redone twice comes here: a second receipt would double the exchange.
            return Err(StepError::Reject(Reject {
                reason: ALREADY_DECIDED,
                detail: format!("{} has its receipt or refusal", admitted.exchange_id),
                tenant: admitted.tenant.clone(),
            }));
        }
        let trace = trace_key(&admitted.tenant, &admitted.trace_id);
        let newest = chain::head(window, &trace, now, effects)?;
        match follow(window, newest, admission.expected_prev_receipt_hash.as_deref(), now) {
            Ok(head) => self.seal(Admitted { record, admitted: &admitted, admission, now }, head, effects),
            Err(refusal) => self.refuse(Admitted { record, admitted: &admitted, admission, now }, &refusal, effects),
        }
    }

    fn finish(&mut self, partition: u32, effects: &mut dyn Effects) -> Result<(), StepError> {
        if let Some(end) = self.sealed_ends.get(&partition) {
            effects.put(SEALED_END_CELL, Some(&end.to_be_bytes()))?;
        }
        self.redone.finish(partition, effects)?;
        Ok(self.clocks.finish(self.settings.window, chain::CELLS, partition, effects)?)
    }

    fn committed(&mut self, committed: &Committed) {
        for end in committed.ends.iter().filter(|end| end.topic.as_str() == event::topic::SEALED) {
            self.sealed_ends.insert(end.partition, end.offset);
        }
        self.open.clear();
    }

    fn reset(&mut self, assigned: &[Position]) {
        self.lookup.keep(&assigned.iter().map(|at| at.partition).collect::<Vec<_>>());
        // Another writer may have been here; the state says how far it had come.
        self.sealed_ends.clear();
        self.clocks.clear();
        self.redone.clear();
        self.open.clear();
    }
}

#[cfg(test)]
#[path = "step_tests.rs"]
mod tests;
