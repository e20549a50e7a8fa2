//! Sums that cannot overflow: both databases sum the upper and the lower half of each amount by itself.

use std::collections::BTreeMap;

use crate::ViewError;
use crate::shape::{AccountView, BalanceView, MoneyView};

/// An amount is `high * HALF + low`.
pub(crate) const HALF: i128 = 1 << 32;

/// Debits and credits of one account and currency, by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sides {
    credits: i128,
    debits: i128,
}

impl Sides {
    fn net(self) -> i128 {
        self.credits.saturating_sub(self.debits)
    }
}

/// What the rows of the balance statement add up to. Rows of one account follow one another; accounts stay in the order
/// of the database, by which it pages.
#[derive(Debug, Default)]
pub(crate) struct Balances {
    accounts: Vec<Account>,
}

/// Its name, and for each currency what is owed, parked and posted.
type Account = (String, BTreeMap<String, [Sides; 3]>);

/// One row: sums of one account, currency and state.
pub(crate) struct Sums {
    pub(crate) account: String,
    pub(crate) currency: String,
    /// As `rows` numbers the states of a command; posted ones come from the entries.
    pub(crate) state: i64,
    pub(crate) credits: (String, String),
    pub(crate) debits: (String, String),
}

impl Balances {
    /// An account that may hold nothing.
    pub(crate) fn know(&mut self, account: String) {
        let known = self.take(account);
        self.accounts.push(known);
    }

    pub(crate) fn add(&mut self, sums: Sums) -> Result<(), ViewError> {
        let Sums { account, currency, state, credits, debits } = sums;
        let sides = Sides { credits: whole(&credits)?, debits: whole(&debits)? };
        let mut known = self.take(account);
        let slot = usize::try_from(state).ok().and_then(|state| known.1.entry(currency).or_default().get_mut(state));
        *slot.ok_or(ViewError::Damaged("command"))? = sides;
        self.accounts.push(known);
        Ok(())
    }

    /// The account that the last row was of, or a new one; to be put back.
    fn take(&mut self, account: String) -> Account {
        match self.accounts.pop_if(|(last, _)| *last == account) {
            Some(known) => known,
            None => (account, BTreeMap::new()),
        }
    }

    pub(crate) fn into_views(self) -> Vec<AccountView> {
        let view = |currency: &str, [owed, parked, posted]: [Sides; 3]| BalanceView {
            posted: MoneyView::new(currency, posted.net()),
            pending: MoneyView::new(currency, owed.net()),
            available: MoneyView::new(currency, posted.net().saturating_sub(owed.debits)),
            parked: MoneyView::new(currency, parked.net()),
        };
        self.accounts
            .into_iter()
            .map(|(account, currencies)| AccountView {
                account,
                balances: currencies.into_iter().map(|(currency, states)| view(&currency, states)).collect(),
            })
            .collect()
    }
}

fn whole((high, low): &(String, String)) -> Result<i128, ViewError> {
    let read = |text: &str| text.parse::<i128>().map_err(|_| ViewError::Damaged("entry"));
    Ok(read(high)?.saturating_mul(HALF).saturating_add(read(low)?))
}
