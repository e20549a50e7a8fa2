//! How receipts hang together (docs/contracts/receipt.md section 4, "For a chain").

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use event::digest::Digest;
use event::id::{ExchangeId, TenantId, TraceId};
use event::time::Timestamp;

use crate::receipt::Receipt;
use crate::verdict::{Code, Failure, check};

/// What a receipt says about its place: all that the next one is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub(crate) tenant: TenantId,
    pub(crate) trace_id: TraceId,
    pub(crate) chain: ExchangeId,
    pub(crate) exchange_id: ExchangeId,
    pub(crate) hop: u64,
    pub(crate) ts: Timestamp,
    pub(crate) prev_receipt_hash: Option<Digest>,
    pub(crate) receipt_hash: Digest,
}

impl Link {
    pub(crate) fn of(receipt: &Receipt) -> Self {
        let draft = &receipt.draft;
        Self {
            tenant: draft.tenant.clone(),
            trace_id: draft.trace_id.clone(),
            chain: draft.chain.clone(),
            exchange_id: draft.exchange_id.clone(),
            hop: draft.hop,
            ts: draft.ts,
            prev_receipt_hash: draft.prev_receipt_hash,
            receipt_hash: receipt.receipt_hash,
        }
    }
}

/// What all receipts of a chain share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity<'a> {
    pub(crate) tenant: &'a TenantId,
    pub(crate) trace_id: &'a TraceId,
    pub(crate) chain: &'a ExchangeId,
}

impl<'a> Identity<'a> {
    pub(crate) fn of(link: &'a Link) -> Self {
        Self { tenant: &link.tenant, trace_id: &link.trace_id, chain: &link.chain }
    }
}

/// Of the hop before: what the next one is compared with beside the chain's identity.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    hop: u64,
    ts: Timestamp,
    receipt_hash: Digest,
}

impl Head {
    pub(crate) fn of(link: &Link) -> Self {
        Self { hop: link.hop, ts: link.ts, receipt_hash: link.receipt_hash }
    }
}

/// Receipts of many chains in one stream, each chain from its first hop and in its order. Memory is per chain.
#[derive(Debug, Default)]
pub struct Chains(BTreeMap<ExchangeId, Open>);

#[derive(Debug)]
struct Open {
    tenant: TenantId,
    trace_id: TraceId,
    head: Head,
}

impl Chains {
    /// No chain yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many chains were begun.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none was begun.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next receipt of the stream, in its chain.
    pub fn follow(&mut self, link: Link) -> Result<(), Failure> {
        match self.0.entry(link.chain.clone()) {
            Entry::Vacant(vacant) => {
                check_next(Identity::of(&link), None, &link)?;
                let head = Head::of(&link);
                vacant.insert(Open { tenant: link.tenant, trace_id: link.trace_id, head });
            }
            Entry::Occupied(mut occupied) => {
                let open = occupied.get_mut();
                let identity = Identity { tenant: &open.tenant, trace_id: &open.trace_id, chain: &link.chain };
                check_next(identity, Some(open.head), &link)?;
                open.head = Head::of(&link);
            }
        }
        Ok(())
    }
}

/// The links that a receipt shows by itself: only hop 1 has none before it, and its chain is its own name.
pub(crate) fn check_alone(link: &Link) -> Result<(), Failure> {
    check_chain_name(link)?;
    if (link.hop == 1) == link.prev_receipt_hash.is_none() {
        return Ok(());
    }
    Err(Failure::new(Code::BrokenLink, check::LINK, "prev_receipt_hash must be null at hop 1 and only there"))
}

/// The receipt after `before`, or the first one.
pub(crate) fn check_next(identity: Identity<'_>, before: Option<Head>, link: &Link) -> Result<(), Failure> {
    if link.tenant != *identity.tenant {
        return Err(Failure::new(Code::WrongTenant, check::TENANT, "the tenant is another than the chain's"));
    }
    if link.trace_id != *identity.trace_id {
        return Err(Failure::new(Code::WrongTrace, check::TRACE, "the trace is another than the chain's"));
    }
    if link.chain != *identity.chain {
        return Err(Failure::new(Code::WrongChain, check::CHAIN, "the receipt is of another chain"));
    }
    check_chain_name(link)?;
    let hop = before.map_or(0, |before| before.hop) + 1;
    if link.hop != hop {
        let detail = format!("hop {} stands where hop {hop} belongs", link.hop);
        return Err(Failure::new(Code::HopGap, check::HOP, detail));
    }
    if link.prev_receipt_hash != before.map(|before| before.receipt_hash) {
        let detail = "prev_receipt_hash is not the receipt_hash of the hop before";
        return Err(Failure::new(Code::BrokenLink, check::LINK, detail));
    }
    if before.is_some_and(|before| link.ts < before.ts) {
        return Err(Failure::new(Code::TimeReversed, check::TIME, "ts is earlier than that of the hop before"));
    }
    Ok(())
}

fn check_chain_name(link: &Link) -> Result<(), Failure> {
    if link.hop == 1 && link.chain != link.exchange_id {
        return Err(Failure::new(
            Code::WrongChain,
            check::CHAIN,
            "at hop 1 the chain is the receipt's own exchange_id",
        ));
    }
    Ok(())
}
