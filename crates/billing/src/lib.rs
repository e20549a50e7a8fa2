//! Money: minor units, currencies, fees, tiers, splits, payouts, credits, and the transfers of a charge.
//!
//! Pure and exact: integers only, every operation checked, one rounding in one named place. It reads no clock, no file
//! and no configuration, and it posts nothing: `ledger` writes what is worked out here.
#![forbid(unsafe_code)]
#![deny(clippy::float_arithmetic)]
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod credits;
mod currency;
mod decimal;
mod money;
mod payout;
mod posting;
mod schedule;
mod split;
mod tiers;

pub use credits::{CreditsError, Multiplier};
pub use currency::{Currency, CurrencyError};
pub use decimal::{Decimal, DecimalError, minor_units};
pub use money::{Minor, MoneyError, round_half_up};
pub use payout::{PayoutError, PayoutSchedule, WrittenPayoutSchedule, payout};
pub use posting::{
    Account, AccountError, Charge, FEES_ACCOUNT, PostingError, Transfer, debits_equal_credits, exchange_charge,
};
pub use schedule::{BUILTIN_TARIFF_VERSION, Discount, Fee, PPM, Schedule, ScheduleError, Tariffs, fee};
pub use split::{SplitError, split};
pub use tiers::{Overage, Tier, TierError, TierLine, Usage, overage};
