//! The decision: admit, replay, refuse, move, or park. Pure: time is the record's, configuration is handed in.

use std::sync::Arc;

use access::{Directory, KnownType};
use admission::{Admissible, Examined, PASSTHROUGH, PayloadType, Refusal, Rules};
use event::door::Limits;
use event::envelope::{REPLY, Reply, request_key};
use event::id::{ExchangeId, IdempotencyKey, TenantId, TraceId};
use event::wire::{
    Admission, DedupEntry, ExchangeAdmitted, ExchangeRequested, Normalization, Refusal as KeptRefusal,
    Repair as WireRepair, Wire, WireError,
};
use log::{Fault, Record, partition_of};
use stage::expiring::{Clocks, Window};
use stage::value::{UnknownSchema, read};
use stage::{Effects, Reject, Step, StepError};

use crate::authenticity;
use crate::dedup;
use crate::outcome::{Subject, Writer};

/// What canonicalise is given once.
#[derive(Clone, Debug)]
pub struct Settings {
    pub window: Window,
    /// Of the payload (docs/contracts/receipt.md section 1).
    pub limits: Limits,
    /// Partitions of `exchange.requested.v1`: a foreign record must lie where its key belongs.
    pub partitions: u32,
}

/// Reads the tenants' configuration up to now.
pub type Refresh = Box<dyn Fn() -> Result<(), Fault> + Send>;

/// The step.
pub struct Canonicalise {
    settings: Settings,
    directory: Arc<Directory>,
    refresh: Refresh,
    writer: Writer,
    /// `admitted_at = max(last in the partition, append time)` (R2).
    clocks: Clocks,
}

/// A request whose writer and key are proven.
struct Proven<'a> {
    record: &'a Record,
    request: ExchangeRequested,
    tenant: TenantId,
    exchange_id: ExchangeId,
    reply: Option<Reply>,
    at: i64,
}

impl Proven<'_> {
    fn subject<'s>(&'s self, trace_id: &'s str) -> Subject<'s> {
        Subject {
            tenant: &self.request.tenant,
            idempotency_key: &self.request.idempotency_key,
            exchange_id: self.exchange_id.as_str(),
            trace_id,
            at: self.at,
        }
    }

    fn own_trace(&self) -> &str {
        // One that breaks the rule is refused, and the refusal must still have a trace of its own.
        let valid = self.request.trace_id.as_deref().filter(|trace| TraceId::parse(*trace).is_ok());
        valid.unwrap_or_else(|| self.exchange_id.as_str())
    }

    /// The record of an admission.
    fn admitted(&self, fingerprint: Vec<u8>, admissible: Admissible, config_version: i64) -> ExchangeAdmitted {
        let normalization = admissible.mapped.map(|mapped| Normalization {
            definition: mapped.definition.to_string(),
            repairs: mapped.repairs.iter().map(wire_repair).collect(),
        });
        ExchangeAdmitted {
            exchange_id: self.exchange_id.as_str().to_owned(),
            tenant: self.request.tenant.clone(),
            trace_id: self.own_trace().to_owned(),
            at: self.at,
            answered: false,
            admission: Some(Admission {
                idempotency_key: self.request.idempotency_key.clone(),
                fingerprint,
                payload_type: self.request.payload_type.clone(),
                target_type: admissible.target_type,
                request_cid: admissible.request_cid.to_string(),
                cid: admissible.cid.to_string(),
                payload: admissible.canonical,
                payload_key_id: None,
                policy_reason: admissible.policy_reason.to_owned(),
                policy_host: admissible.policy_host,
                fu: 0,
                amount: self.request.amount.clone(),
                forward_url: self.request.forward_url.clone(),
                expected_prev_receipt_hash: self.request.expected_prev_receipt_hash.clone(),
                config_version,
                normalization,
            }),
        }
    }
}

impl Canonicalise {
    pub fn new(settings: Settings, directory: Arc<Directory>, refresh: Refresh) -> Self {
        Self { settings, directory, refresh, writer: Writer::default(), clocks: Clocks::default() }
    }

    /// Writer, schema, tenant, key and place of a record.
    fn prove<'r>(&mut self, record: &'r Record, effects: &mut dyn Effects) -> Result<Placed<'r>, StepError> {
        let writer = authenticity::prove(record, &self.directory, &self.refresh)?;
        let request = read(record, ExchangeRequested::decode, WireError::is_unknown_schema, UnknownSchema::Reject)?;
        let refuse = |reason, tenant: &str, detail: String| {
            StepError::Reject(Reject { reason, detail, tenant: tenant.to_owned() })
        };
        let tenant = TenantId::parse(request.tenant.as_str())
            .map_err(|error| refuse("invalid_tenant", "-", error.to_string()))?;
        if !writer.producer.grant.covers(&tenant) {
            return Err(refuse("unauthenticated", "-", "the producer may not write for that tenant".to_owned()));
        }
        let key = IdempotencyKey::parse(request.idempotency_key.as_str())
            .map_err(|error| refuse("idempotency_key_invalid", &request.tenant, error.to_string()))?;
        let record_key = request_key(&request.tenant, &request.idempotency_key);
        if record.key.as_deref() != Some(record_key.as_bytes()) {
            let detail = "the record key must be tenant:idempotency_key".to_owned();
            return Err(refuse("record_key_mismatch", &request.tenant, detail));
        }
        if partition_of(record_key.as_bytes(), self.settings.partitions) != record.partition {
            return Ok(Placed::Elsewhere);
        }
        let reply = record.header(REPLY).filter(|_| writer.is_ingest).and_then(Reply::parse);
        let exchange_id = ExchangeId::derive(&tenant, &key);
        let at = self.clocks.observe(self.settings.window, record.partition, record.time_ms, effects)?;
        Ok(Placed::Here(Box::new(Proven { record, request, tenant, exchange_id, reply, at })))
    }

    /// By the configuration as it is known here.
    fn decide(&self, examined: &Examined<'_>, proven: &Proven<'_>) -> Result<Result<Admissible, Refusal>, StepError> {
        let payload_type = self.payload_type(&proven.request.payload_type)?;
        let tenant = self.directory.tenant(&proven.tenant);
        let rules = Rules {
            payload_type: payload_type.as_deref(),
            repair: tenant.as_ref().map(|settings| settings.repair).unwrap_or_default(),
            allowlist: tenant.as_ref().map(|settings| settings.forward_allowlist.as_slice()).unwrap_or_default(),
            limits: &self.settings.limits,
        };
        Ok(examined.admissible(rules))
    }

    /// The type that a request names. One that this version cannot use is nobody's fault: it waits for the deploy.
    fn payload_type(&self, name: &str) -> Result<Option<Arc<PayloadType>>, StepError> {
        match Some(name).filter(|name| *name != PASSTHROUGH).and_then(|name| self.directory.payload_type(name)) {
            None => Ok(None),
            Some(KnownType::Usable(payload_type)) => Ok(Some(payload_type)),
            Some(KnownType::Unusable(why)) => Err(StepError::Wait(format!("the payload type {name}: {why}"))),
        }
    }

    /// The key was used before: the same request gets the same answer, another one is refused.
    fn repeated(
        &self,
        proven: &Proven<'_>,
        entry: &DedupEntry,
        fingerprint: &[u8],
        effects: &mut dyn Effects,
    ) -> Result<(), StepError> {
        let original_trace = entry.trace_id.as_deref().unwrap_or_else(|| proven.exchange_id.as_str());
        if entry.fingerprint != fingerprint {
            let detail = format!(
                "the key was used with another body: first {}, now {}",
                digest_text(&entry.fingerprint),
                digest_text(fingerprint)
            );
            let refusal =
                Refusal { status: 422, code: "idempotency_key_reused".to_owned(), detail, errors: Vec::new() };
            let subject = proven.subject(original_trace);
            self.writer.rejected(subject, &refusal, false, proven.record, effects)?;
            return self.tell(proven, &refusal, false, effects);
        }
        if let Some(kept) = &entry.refusal
            && let Some(reply) = &proven.reply
        {
            let told = (kept.status, kept.code.as_str(), kept.body.as_str());
            self.writer.answer(reply, proven.subject(original_trace), told, true, effects)?;
        }
        let replay = ExchangeAdmitted {
            exchange_id: proven.exchange_id.as_str().to_owned(),
            tenant: proven.request.tenant.clone(),
            trace_id: original_trace.to_owned(),
            at: proven.at,
            answered: entry.refusal.is_some(),
            admission: None,
        };
        let reply = proven.reply.as_ref().filter(|_| entry.refusal.is_none());
        self.writer.admitted(&replay, reply, proven.record, effects)
    }

    fn refuse(
        &self,
        proven: &Proven<'_>,
        fingerprint: Vec<u8>,
        refusal: &Refusal,
        effects: &mut dyn Effects,
    ) -> Result<(), StepError> {
        let kept = KeptRefusal { status: refusal.status, code: refusal.code.clone(), body: refusal.body() };
        self.mark(proven, fingerprint, Some(kept), effects)?;
        self.writer.rejected(proven.subject(proven.own_trace()), refusal, true, proven.record, effects)?;
        self.tell(proven, refusal, false, effects)
    }

    fn tell(
        &self,
        proven: &Proven<'_>,
        refusal: &Refusal,
        replayed: bool,
        effects: &mut dyn Effects,
    ) -> Result<(), StepError> {
        let Some(reply) = &proven.reply else { return Ok(()) };
        let body = refusal.body();
        let told = (refusal.status, refusal.code.as_str(), body.as_str());
        self.writer.answer(reply, proven.subject(proven.own_trace()), told, replayed, effects)
    }

    fn mark(
        &self,
        proven: &Proven<'_>,
        fingerprint: Vec<u8>,
        refusal: Option<KeptRefusal>,
        effects: &mut dyn Effects,
    ) -> Result<(), StepError> {
        let trace_id =
            Some(proven.own_trace()).filter(|trace| *trace != proven.exchange_id.as_str()).map(str::to_owned);
        let entry = DedupEntry { at: proven.at, fingerprint, trace_id, refusal };
        dedup::mark(self.settings.window, &proven.exchange_id, &entry, effects)
    }
}

/// Where a proven record lies.
enum Placed<'r> {
    Here(Box<Proven<'r>>),
    /// In a partition that its key does not belong to.
    Elsewhere,
}

impl Step for Canonicalise {
    fn apply(&mut self, record: &Record, effects: &mut dyn Effects) -> Result<(), StepError> {
        let proven = match self.prove(record, effects)? {
            Placed::Here(proven) => proven,
            Placed::Elsewhere => return self.writer.moved(record, effects),
        };
        let examined = Examined::new(&proven.request, &self.settings.limits);
        let fingerprint = examined.fingerprint().as_bytes().to_vec();
        if let Some(entry) = dedup::find(self.settings.window, &proven.exchange_id, proven.at, effects)? {
            return self.repeated(&proven, &entry, &fingerprint, effects);
        }
        let mut decided = self.decide(&examined, &proven)?;
        if decided.as_ref().is_err_and(Refusal::depends_on_configuration) {
            // A refusal is for ever: not by a configuration that is older than the request.
            (self.refresh)()?;
            decided = self.decide(&examined, &proven)?;
        }
        let admissible = match decided {
            Ok(admissible) => admissible,
            Err(refusal) => return self.refuse(&proven, fingerprint, &refusal, effects),
        };
        self.mark(&proven, fingerprint.clone(), None, effects)?;
        let admitted = proven.admitted(fingerprint, admissible, self.directory.config_version());
        self.writer.admitted(&admitted, proven.reply.as_ref(), record, effects)
    }

    fn finish(&mut self, partition: u32, effects: &mut dyn Effects) -> Result<(), StepError> {
        Ok(self.clocks.finish(self.settings.window, &[dedup::CELL], partition, effects)?)
    }

    fn reset(&mut self, _assigned: &[log::Position]) {
        self.clocks.clear();
    }
}

fn wire_repair(repair: &admission::Repair) -> WireRepair {
    WireRepair {
        pointer: repair.pointer.clone(),
        rungs: repair.rungs.iter().map(|rung| rung.as_str().to_owned()).collect(),
        received: repair.received.to_string(),
        repaired: repair.repaired.to_string(),
    }
}

fn digest_text(fingerprint: &[u8]) -> String {
    use std::fmt::Write as _;
    fingerprint.iter().fold("sha256:".to_owned(), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
#[path = "step_tests.rs"]
mod tests;
#[cfg(test)]
#[path = "types_tests.rs"]
mod types_tests;
