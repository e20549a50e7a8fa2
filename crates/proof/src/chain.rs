//! How receipts hang together (evidence.md section 4, "For a chain").

use event::id::{ExchangeId, TenantId, TraceId};

use crate::receipt::{Draft, Receipt};
use crate::verdict::{Code, Failure, check};

/// What all receipts of a chain share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity<'a> {
    pub(crate) tenant: &'a TenantId,
    pub(crate) trace_id: &'a TraceId,
    pub(crate) chain: &'a ExchangeId,
}

impl<'a> Identity<'a> {
    pub(crate) fn of(draft: &'a Draft) -> Self {
        Self { tenant: &draft.tenant, trace_id: &draft.trace_id, chain: &draft.chain }
    }
}

/// The links that a receipt shows by itself: only hop 1 has none before it, and its chain is its own name.
pub(crate) fn check_alone(draft: &Draft) -> Result<(), Failure> {
    check_chain_name(draft)?;
    if (draft.hop == 1) == draft.prev_receipt_hash.is_none() {
        return Ok(());
    }
    Err(Failure::new(Code::BrokenLink, check::LINK, "prev_receipt_hash must be null at hop 1 and only there"))
}

/// The receipt after `before`, or the first one.
pub(crate) fn check_next(identity: Identity<'_>, before: Option<&Receipt>, draft: &Draft) -> Result<(), Failure> {
    if draft.tenant != *identity.tenant {
        return Err(Failure::new(Code::WrongTenant, check::TENANT, "the tenant is another than the chain's"));
    }
    if draft.trace_id != *identity.trace_id {
        return Err(Failure::new(Code::WrongTrace, check::TRACE, "the trace is another than the chain's"));
    }
    if draft.chain != *identity.chain {
        return Err(Failure::new(Code::WrongChain, check::CHAIN, "the receipt is of another chain"));
    }
    check_chain_name(draft)?;
    let hop = before.map_or(0, |before| before.draft.hop) + 1;
    if draft.hop != hop {
        let detail = format!("hop {} stands where hop {hop} belongs", draft.hop);
        return Err(Failure::new(Code::HopGap, check::HOP, detail));
    }
    if draft.prev_receipt_hash != before.map(|before| before.receipt_hash) {
        let detail = "prev_receipt_hash is not the receipt_hash of the hop before";
        return Err(Failure::new(Code::BrokenLink, check::LINK, detail));
    }
    if before.is_some_and(|before| draft.ts < before.draft.ts) {
        return Err(Failure::new(Code::TimeReversed, check::TIME, "ts is earlier than that of the hop before"));
    }
    Ok(())
}

fn check_chain_name(draft: &Draft) -> Result<(), Failure> {
    if draft.hop == 1 && draft.chain != draft.exchange_id {
        return Err(Failure::new(
            Code::WrongChain,
            check::CHAIN,
            "at hop 1 the chain is the receipt's own exchange_id",
        ));
    }
    Ok(())
}
