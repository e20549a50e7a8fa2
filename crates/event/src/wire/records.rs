//! The records of every topic, as `schemas/` describes them. Times are milliseconds since the Unix epoch.

use serde::{Deserialize, Serialize};

use super::bind;

/// What is paid by the tenant to a payee.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename = "Amount")]
pub struct WireAmount {
    /// ISO 4217, upper case
    pub currency: String,
    /// minor units, 0 to 2^63-1
    pub minor: i64,
    /// account name without tenant
    pub payee: String,
}

/// A request for an exchange, from ingest or from a producer of the tenant's own. Record key: tenant:idempotency_key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExchangeRequested {
    pub tenant: String,
    /// 1 to 255 bytes of visible ASCII
    pub idempotency_key: String,
    /// the JSON text as received
    #[serde(with = "apache_avro::serde::bytes")]
    pub payload: Vec<u8>,
    pub payload_type: String,
    pub target_type: Option<String>,
    pub trace_id: Option<String>,
    /// absent: not asked for; the word first: must be the first hop; otherwise sha256:...
    pub expected_prev_receipt_hash: Option<String>,
    pub amount: Option<WireAmount>,
    pub forward_url: Option<String>,
}

/// One string of a payload that was put right before it was read as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// RFC 6901, into the request body
    pub pointer: String,
    /// trailing_commas, quotes, escapes
    pub rungs: Vec<String>,
    /// digest of the string as it was received
    pub received: String,
    /// digest of the canonical form that it was read as
    pub repaired: String,
}

/// How the normalized payload came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Normalization {
    /// digest of the payload type's definition
    pub definition: String,
    pub repairs: Vec<Repair>,
}

/// What was decided at admission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    pub idempotency_key: String,
    /// SHA-256 as in docs/contracts/http.md
    #[serde(with = "apache_avro::serde::bytes")]
    pub fingerprint: Vec<u8>,
    pub payload_type: String,
    pub target_type: String,
    pub request_cid: String,
    pub cid: String,
    /// canonical bytes
    #[serde(with = "apache_avro::serde::bytes")]
    pub payload: Vec<u8>,
    pub payload_key_id: Option<String>,
    pub policy_reason: String,
    pub policy_host: Option<String>,
    pub fu: i64,
    pub amount: Option<WireAmount>,
    pub forward_url: Option<String>,
    pub expected_prev_receipt_hash: Option<String>,
    pub config_version: i64,
    /// absent where nothing is mapped (passthrough), and before version 2
    pub normalization: Option<Normalization>,
}

/// Internal. An admission, or the replay of one (admission is null). Record key: tenant:trace_id of the original.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExchangeAdmitted {
    pub exchange_id: String,
    pub tenant: String,
    pub trace_id: String,
    /// ms since the epoch: admitted_at, or when the replay was decided
    pub at: i64,
    /// for a replay: true where canonicalise answered it (a refusal)
    pub answered: bool,
    pub admission: Option<Admission>,
}

/// A refusal after acceptance, kept like a receipt. Record key: tenant:idempotency_key from canonicalise, tenant:trace_id from sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExchangeRejected {
    pub exchange_id: String,
    pub tenant: String,
    pub idempotency_key: String,
    pub trace_id: String,
    /// canonicalise or sign
    pub decided_by: String,
    /// ms since the epoch: the admitted_at this decision belongs to
    pub at: i64,
    /// HTTP status
    pub status: i32,
    pub code: String,
    pub detail: String,
    /// JSON array of {pointer, code, detail}
    pub errors: String,
    /// false where another request with this key holds the exchange (idempotency_key_reused)
    pub overwrites: bool,
}

/// The fact that everything else hangs on. Record key: tenant:trace_id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExchangeSealed {
    pub exchange_id: String,
    pub tenant: String,
    pub trace_id: String,
    pub idempotency_key: String,
    /// ms since the epoch
    pub admitted_at: i64,
    /// JSON text of the receipt
    pub receipt: String,
    /// canonical bytes
    #[serde(with = "apache_avro::serde::bytes")]
    pub payload: Vec<u8>,
    pub payload_key_id: Option<String>,
    pub payload_type: String,
    pub target_type: String,
    pub vex: i64,
    pub fu: i64,
    pub amount: Option<WireAmount>,
    pub forward_url: Option<String>,
    pub config_version: i64,
    /// absent where nothing is mapped (passthrough), and before version 2
    pub normalization: Option<Normalization>,
}

/// Internal. The answer to one HTTP request; partition = ingest slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExchangeAnswer {
    pub nonce: String,
    pub exchange_id: String,
    pub tenant: String,
    pub status: i32,
    pub replayed: bool,
    /// problem code where refused
    pub code: Option<String>,
    /// 201: the whole body; refused: JSON object {detail, errors}
    #[serde(with = "apache_avro::serde::bytes")]
    pub body: Vec<u8>,
}

/// One call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// from 1
    pub attempt: i32,
    /// ms since the epoch
    pub at: i64,
    /// HTTP status
    pub status: Option<i32>,
    /// address dialled
    pub address: Option<String>,
    pub response_bytes: i64,
    pub duration_ms: i64,
    /// stable code
    pub error: Option<String>,
}

/// The outcome of a delivery, recorded once. Record key: tenant:trace_id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExchangeDelivered {
    pub exchange_id: String,
    pub tenant: String,
    pub trace_id: String,
    pub admitted_at: i64,
    /// false: given up
    pub delivered: bool,
    pub host: String,
    pub cid: String,
    pub decided_at: i64,
    pub attempts: Vec<Attempt>,
}

/// Usage of one exchange. Record key: tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRecorded {
    pub exchange_id: String,
    pub tenant: String,
    pub trace_id: String,
    pub admitted_at: i64,
    /// YYYY-MM of admitted_at, UTC
    pub month: String,
    pub vex: i64,
    pub fu: i64,
}

/// Usage so far. Record key: tenant:meter:month.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageTotal {
    pub tenant: String,
    /// vex or fu
    pub meter: String,
    pub month: String,
    pub total: i64,
    /// exchanges counted
    pub exchanges: i64,
    /// latest admitted_at counted
    pub as_of: i64,
}

/// One amount, two accounts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    pub debit_account: String,
    pub credit_account: String,
    pub currency: String,
    pub minor: i64,
}

/// What is owed. Record key: the account that can refuse.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerCommand {
    pub command_id: String,
    pub tenant: String,
    pub idempotency_key: String,
    /// exchange_charge
    pub kind: String,
    /// topic:partition:offset of the fact
    pub decided_in: String,
    /// admitted_at of the exchange
    pub at: i64,
    pub transfers: Vec<Transfer>,
    pub exchange_id: Option<String>,
    pub tariff_version: String,
    pub config_version: i64,
}

/// Money moved. Record key: tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettlementPosted {
    pub command_id: String,
    pub tenant: String,
    pub exchange_id: Option<String>,
    pub kind: String,
    /// admitted_at of the exchange
    pub at: i64,
    /// as posted, fee included; debits equal credits
    pub transfers: Vec<Transfer>,
    pub fee_minor: i64,
    pub tariff_version: String,
    /// gapless per ledger partition, from 1
    pub sequence: i64,
    pub ledger_partition: i32,
}

/// Owed, but not posted until somebody decides. Record key: tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettlementParked {
    pub command_id: String,
    pub tenant: String,
    pub exchange_id: Option<String>,
    pub kind: String,
    pub at: i64,
    /// stable code, no_tariff for instance
    pub reason: String,
    pub detail: String,
    pub transfers: Vec<Transfer>,
    pub sequence: i64,
    pub ledger_partition: i32,
}

/// The books of one tenant and hour. Record key: tenant:hour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditCheckpoint {
    pub tenant: String,
    /// start of the hour, ms since the epoch
    pub hour: i64,
    /// every equation holds and every partition has passed the cut
    pub closed: bool,
    pub requested: i64,
    pub moved: i64,
    pub admitted: i64,
    pub rejected: i64,
    pub replayed: i64,
    pub dead: i64,
    pub sealed: i64,
    pub refused: i64,
    pub metered: i64,
    pub owed: i64,
    pub posted: i64,
    pub parked: i64,
    pub deliveries_owed: i64,
    pub deliveries_recorded: i64,
    /// what is missing, by topic, partition and offset
    pub gaps: Vec<String>,
}

/// A public key. Record key: kid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningKey {
    pub kid: String,
    /// receipt or bundle
    pub used_for: String,
    /// public JWK, JSON text
    pub jwk: String,
}

/// One entry of the tenants' configuration. Record key: kind:id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantConfig {
    /// tenant, api_key, producer or webhook
    pub kind: String,
    pub id: String,
    pub tenant: String,
    /// JSON text
    pub body: String,
    pub removed: bool,
}

/// The refusal that every replay gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub status: i32,
    pub code: String,
    /// JSON {detail, errors}
    pub body: String,
}

/// Changelog of canonicalise: a key that is used up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DedupEntry {
    /// admitted_at
    pub at: i64,
    #[serde(with = "apache_avro::serde::bytes")]
    pub fingerprint: Vec<u8>,
    /// absent where it equals the exchange id
    pub trace_id: Option<String>,
    pub refusal: Option<Refusal>,
}

/// Head of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainHead {
    pub chain: String,
    pub hop: i64,
    pub receipt_hash: String,
    /// of the head's receipt
    pub ts: i64,
    /// when the head last moved, by admitted_at
    pub at: i64,
}

/// An exchange that sign has decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// admitted_at
    pub at: i64,
    /// the sealed record lies at this offset of our partition or later
    pub sealed_from: i64,
    pub status: i32,
    pub code: Option<String>,
    pub body: Option<String>,
}

/// Changelog of sign: the head of a trace's chain, or where an exchange was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignState {
    pub head: Option<ChainHead>,
    pub decided: Option<Decided>,
}

/// How far the outbox of a ledger partition is published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayPosition {
    pub sequence: i64,
    /// SHA-256 chained over the rows published
    #[serde(with = "apache_avro::serde::bytes")]
    pub row_hash: Vec<u8>,
}

/// Changelog of forward: a delivery without an outcome yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingDelivery {
    pub exchange_id: String,
    pub tenant: String,
    pub trace_id: String,
    pub admitted_at: i64,
    pub url: String,
    pub cid: String,
    #[serde(with = "apache_avro::serde::bytes")]
    pub payload: Vec<u8>,
    /// the tenants' configuration that it was admitted under: no call is made by an older one
    pub config_version: i64,
    /// partition:offset of the sealed record
    pub source: String,
    /// trace context of the sealed record
    pub traceparent: Option<String>,
    /// when the next attempt is due, ms since the epoch
    pub next_at: i64,
    pub attempts: Vec<Attempt>,
}

/// Changelog of meter's tally: a running total.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub total: i64,
    pub exchanges: i64,
    pub as_of: i64,
}

bind! {
    ExchangeRequested, "exchange.requested.v1", 1 => 1;
    ExchangeAdmitted, "exchange.admitted.v1", 20 => 2, 2 => 1;
    ExchangeRejected, "exchange.rejected.v1", 3 => 1;
    ExchangeSealed, "exchange.sealed.v1", 21 => 2, 4 => 1;
    ExchangeAnswer, "exchange.answer.v1", 5 => 1;
    ExchangeDelivered, "exchange.delivered.v1", 6 => 1;
    UsageRecorded, "usage.recorded.v1", 7 => 1;
    UsageTotal, "usage.total.v1", 8 => 1;
    LedgerCommand, "ledger.command.v1", 9 => 1;
    SettlementPosted, "settlement.posted.v1", 10 => 1;
    SettlementParked, "settlement.parked.v1", 11 => 1;
    AuditCheckpoint, "audit.checkpoint.v1", 12 => 1;
    SigningKey, "signing_key.v1", 13 => 1;
    TenantConfig, "tenant.config.v1", 14 => 1;
    DedupEntry, "canonicalise.state.v1", 15 => 1;
    SignState, "sign.state.v1", 16 => 1;
    RelayPosition, "relay.position.v1", 17 => 1;
    PendingDelivery, "forward.state.v1", 18 => 1;
    Tally, "meter.tally.state.v1", 19 => 1;
}
