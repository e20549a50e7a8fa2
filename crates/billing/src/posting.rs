//! Double entry: the transfers that a charge consists of.
//!
//! Every transfer balances by construction: one amount, two accounts. LED-1 says it again over a whole posting.

use std::collections::BTreeMap;
use std::fmt;

use crate::money::{Minor, MoneyError};
use crate::schedule::{Schedule, ScheduleError, fee};

/// The account that fees are credited to.
pub const FEES_ACCOUNT: &str = "countersign:fees";

/// The name, within a tenant, of the account that pays.
const MAIN: &str = "main";

/// The longest account name within a tenant.
const NAME_BYTES_MAX: usize = 64;

/// An account of a tenant (`acme:main`) or the fee account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Account(String);

/// Why a text is no account name: it must be `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an account name")]
pub struct AccountError;

impl Account {
    /// Where fees go.
    pub fn fees() -> Self {
        Self(FEES_ACCOUNT.to_owned())
    }

    /// The account that pays for a tenant.
    pub fn main_of(tenant: &str) -> Self {
        Self(format!("{tenant}:{MAIN}"))
    }

    /// The account of a payee, by its name within the tenant.
    ///
    /// # Errors
    /// `AccountError` for a name that breaks the rule.
    pub fn payee_of(tenant: &str, name: &str) -> Result<Self, AccountError> {
        let ruled = match name.as_bytes() {
            [first, rest @ ..] => {
                first.is_ascii_alphanumeric()
                    && rest.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte))
            }
            [] => false,
        };
        if ruled && name.len() <= NAME_BYTES_MAX { Ok(Self(format!("{tenant}:{name}"))) } else { Err(AccountError) }
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One amount from one account to another: always positive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    pub debit_account: String,
    pub credit_account: String,
    pub currency: String,
    pub amount: Minor,
}

/// The exchange that is to be charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge<'a> {
    pub tenant: &'a str,
    /// Name of the payee within the tenant.
    pub payee: &'a str,
    pub gross: Minor,
    /// Gross of the tenant in this currency in the month before this exchange.
    pub volume: i128,
}

/// Why a charge has no posting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PostingError {
    #[error("the payee cannot be an account")]
    Payee(#[source] AccountError),
    /// Reversals are transfers of their own kind, in the other direction.
    #[error("a charge is not negative")]
    Negative,
    #[error("the fee cannot be computed")]
    Fee(#[source] ScheduleError),
}

/// The transfers of an exchange charge: the net from the payer to the payee, the fee from the payer to the fee account.
/// A part of zero posts nothing, so a gross of zero posts nothing at all.
///
/// # Errors
/// A payee that cannot be an account, a negative gross, a fee that cannot be computed.
pub fn exchange_charge(schedule: &Schedule, charge: Charge<'_>) -> Result<Vec<Transfer>, PostingError> {
    if charge.gross < Minor::ZERO {
        return Err(PostingError::Negative);
    }
    let payee = Account::payee_of(charge.tenant, charge.payee).map_err(PostingError::Payee)?;
    let split = fee(schedule, charge.gross, charge.volume).map_err(PostingError::Fee)?;
    let payer = Account::main_of(charge.tenant);
    let parts = [(payee, split.net), (Account::fees(), split.fee)];
    let transfers: Vec<Transfer> = parts
        .into_iter()
        .filter(|(_, amount)| *amount > Minor::ZERO)
        .map(|(credited, amount)| Transfer {
            debit_account: payer.as_str().to_owned(),
            credit_account: credited.as_str().to_owned(),
            currency: schedule.currency().code().to_owned(),
            amount,
        })
        .collect();
    debug_assert_eq!(debits_equal_credits(&transfers, charge.gross), Ok(true));
    Ok(transfers)
}

/// LED-1: debits equal credits. In one currency, every transfer is positive, what is taken from accounts is what is given
/// to accounts, and both are `gross`.
///
/// # Errors
/// `Overflow` where the transfers cannot be summed.
pub fn debits_equal_credits(transfers: &[Transfer], gross: Minor) -> Result<bool, MoneyError> {
    let mut by_account: BTreeMap<&str, i128> = BTreeMap::new();
    let mut moved: i128 = 0;
    for transfer in transfers {
        let units = i128::from(transfer.amount.units());
        let debited = by_account.entry(&transfer.debit_account).or_insert(0);
        *debited = debited.checked_sub(units).ok_or(MoneyError::Overflow)?;
        let credited = by_account.entry(&transfer.credit_account).or_insert(0);
        *credited = credited.checked_add(units).ok_or(MoneyError::Overflow)?;
        moved = moved.checked_add(units).ok_or(MoneyError::Overflow)?;
    }
    let mut left: i128 = 0;
    for balance in by_account.values() {
        left = left.checked_add(*balance).ok_or(MoneyError::Overflow)?;
    }
    let one_currency = transfers.iter().all(|transfer| {
        transfer.amount > Minor::ZERO && Some(&transfer.currency) == transfers.first().map(|first| &first.currency)
    });
    Ok(left == 0 && one_currency && moved == i128::from(gross.units()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Tariffs;

    fn charged(gross: i64, payee: &str) -> Result<Vec<Transfer>, PostingError> {
        let tariffs = Tariffs::builtin();
        let schedule = tariffs.at("USD", 0).unwrap().0;
        exchange_charge(schedule, Charge { tenant: "acme", payee, gross: Minor::new(gross), volume: 0 })
    }

    #[test]
    fn a_charge_pays_the_payee_and_the_fee() {
        let transfers = charged(9_900, "agent-7").unwrap();
        let flat: Vec<_> = transfers
            .iter()
            .map(|one| (one.debit_account.as_str(), one.credit_account.as_str(), one.amount.units()))
            .collect();
        assert_eq!(flat, [("acme:main", "acme:agent-7", 9_595), ("acme:main", "countersign:fees", 305)]);
        assert_eq!(debits_equal_credits(&transfers, Minor::new(9_900)), Ok(true));
    }

    #[test]
    fn a_gross_of_zero_posts_nothing() {
        assert_eq!(charged(0, "agent-7"), Ok(vec![]));
        assert_eq!(debits_equal_credits(&[], Minor::ZERO), Ok(true));
    }

    #[test]
    fn a_gross_eaten_by_its_fee_posts_the_fee_alone() {
        let transfers = charged(20, "agent-7").unwrap();
        assert_eq!(transfers.len(), 1);
        assert_eq!(transfers[0].credit_account, FEES_ACCOUNT);
    }

    #[test]
    fn negative_charges_and_names_against_the_rule_are_refused() {
        assert_eq!(charged(-1, "agent-7"), Err(PostingError::Negative));
        for payee in ["", "-a", "a:b", "a b", "é", &"a".repeat(65)] {
            assert_eq!(charged(1, payee), Err(PostingError::Payee(AccountError)), "{payee:?}");
        }
        assert!(charged(1, &"a".repeat(64)).is_ok());
    }

    #[test]
    fn led_1_sees_a_lost_unit_a_second_currency_and_an_empty_transfer() {
        let gross = Minor::new(9_900);
        let whole = charged(9_900, "agent-7").unwrap();
        let mut short = whole.clone();
        short[0].amount = Minor::new(9_594);
        assert_eq!(debits_equal_credits(&short, gross), Ok(false));
        let mut mixed = whole.clone();
        mixed[1].currency = "EUR".to_owned();
        assert_eq!(debits_equal_credits(&mixed, gross), Ok(false));
        let mut empty = whole;
        empty[0].amount = Minor::ZERO;
        empty[1].amount = gross;
        assert_eq!(debits_equal_credits(&empty, gross), Ok(false));
    }
}
