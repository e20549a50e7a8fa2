//! Predicates over single facts, computed by another road than the steps computed them.

use std::collections::BTreeMap;

use event::wire::{SettlementPosted, Transfer};
use serde::Deserialize;

const FEES: &str = "countersign:fees";

/// What a receipt says was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct ReceiptUsage {
    pub(crate) vex: i64,
    pub(crate) fu: i64,
}

#[derive(Deserialize)]
struct UsageOnly {
    usage: ReceiptUsage,
}

/// Usage as the signed receipt has it; `None` where the receipt cannot be read.
pub(crate) fn usage_of(receipt: &str) -> Option<ReceiptUsage> {
    serde_json::from_str::<UsageOnly>(receipt).ok().map(|receipt| receipt.usage)
}

/// AUD-1: what was posted is what was owed. Every transfer moves a positive amount between two accounts; what leaves the
/// accounts of the command arrives in them or is the fee; the payer pays what was owed, or that and the fee.
pub(crate) fn posting_balances(owed: &[Transfer], posted: &SettlementPosted) -> Result<(), String> {
    let mut net: BTreeMap<(&str, &str), i128> = BTreeMap::new();
    for transfer in &posted.transfers {
        if transfer.minor <= 0 || transfer.debit_account == transfer.credit_account {
            return Err(format!(
                "a transfer of {} {} from {} to {} moves nothing",
                transfer.minor, transfer.currency, transfer.debit_account, transfer.credit_account
            ));
        }
        *net.entry((&transfer.debit_account, &transfer.currency)).or_default() -= i128::from(transfer.minor);
        *net.entry((&transfer.credit_account, &transfer.currency)).or_default() += i128::from(transfer.minor);
    }
    let fee = i128::from(posted.fee_minor);
    let fees: i128 = net.iter().filter(|((account, _), _)| *account == FEES).map(|(_, minor)| minor).sum();
    if fees != fee {
        return Err(format!("the fee is {fee}, but {fees} reached {FEES}"));
    }
    for ((account, currency), minor) in &net {
        let named = |transfer: &Transfer| {
            transfer.currency == *currency
                && (transfer.debit_account == *account || transfer.credit_account == *account)
        };
        if *account != FEES && *minor != 0 && !owed.iter().any(named) {
            return Err(format!("{account} has {minor} {currency} that the command did not name"));
        }
    }
    let mut payers: BTreeMap<(&str, &str), i128> = BTreeMap::new();
    for transfer in owed {
        *payers.entry((&transfer.debit_account, &transfer.currency)).or_default() += i128::from(transfer.minor);
        *payers.entry((&transfer.credit_account, &transfer.currency)).or_default() -= i128::from(transfer.minor);
    }
    for ((account, currency), owes) in payers.into_iter().filter(|(_, owes)| *owes > 0) {
        let paid = -net.get(&(account, currency)).copied().unwrap_or(0);
        if paid != owes && paid != owes + fee {
            return Err(format!("{account} owed {owes} {currency} and paid {paid}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transfer(debit: &str, credit: &str, minor: i64) -> Transfer {
        Transfer { debit_account: debit.into(), credit_account: credit.into(), currency: "USD".into(), minor }
    }

    fn posted(fee_minor: i64, transfers: Vec<Transfer>) -> SettlementPosted {
        SettlementPosted {
            command_id: "c".into(),
            tenant: "acme".into(),
            exchange_id: None,
            kind: "exchange_charge".into(),
            at: 0,
            transfers,
            fee_minor,
            tariff_version: "t".into(),
            sequence: 1,
            ledger_partition: 0,
        }
    }

    #[test]
    fn a_fee_may_be_inside_the_price_or_on_top_of_it() {
        let owed = [transfer("acme:main", "acme:bob", 1000)];
        let inside = vec![transfer("acme:main", "acme:bob", 975), transfer("acme:main", FEES, 25)];
        let passed_on = vec![transfer("acme:main", "acme:bob", 1000), transfer("acme:bob", FEES, 25)];
        let on_top = vec![transfer("acme:main", "acme:bob", 1000), transfer("acme:main", FEES, 25)];
        for transfers in [inside, passed_on, on_top] {
            assert_eq!(posting_balances(&owed, &posted(25, transfers)), Ok(()));
        }
        assert_eq!(posting_balances(&owed, &posted(0, owed.to_vec())), Ok(()));
    }

    #[test]
    fn money_that_appears_disappears_or_strays_is_found() {
        let owed = [transfer("acme:main", "acme:bob", 1000)];
        for (fee, transfers) in [
            (0, vec![transfer("acme:main", "acme:bob", 999)]),
            (0, vec![]),
            (0, vec![transfer("acme:main", "acme:eve", 1000)]),
            (25, vec![transfer("acme:main", "acme:bob", 1000)]),
            (0, vec![transfer("acme:main", "acme:bob", 1000), transfer("acme:main", FEES, 25)]),
            (0, vec![transfer("acme:main", "acme:bob", -1000)]),
            (0, vec![transfer("acme:main", "acme:main", 1000)]),
            (0, vec![transfer("acme:main", "acme:bob", 1000), transfer("acme:main", "acme:bob", 1000)]),
        ] {
            assert!(posting_balances(&owed, &posted(fee, transfers.clone())).is_err(), "{fee} {transfers:?}");
        }
    }

    #[test]
    fn usage_is_read_from_the_receipt_itself() {
        assert_eq!(usage_of(r#"{"v":1,"usage":{"vex":1,"fu":3}}"#), Some(ReceiptUsage { vex: 1, fu: 3 }));
        assert_eq!(usage_of("{}"), None);
    }
}
