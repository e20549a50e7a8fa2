//! Usage beyond what is reserved, priced by tiers. One function for the running total and for the report.

use crate::currency::Currency;
use crate::money::{Minor, MoneyError, round_half_up};

/// Nano units in a major unit of any currency.
const NANO: i128 = 1_000_000_000;

/// A tier as it is written in the price list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tier {
    /// Its width: how many units it takes, not the total up to which it reaches.
    pub threshold: u64,
    /// Billionths of the currency's major unit.
    pub unit_price_nano: u64,
}

/// How much fell into one tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TierLine {
    /// Its place in the list as written, from 0.
    pub tier: usize,
    pub units: u64,
}

/// What is owed for a month.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overage {
    /// Units beyond what is reserved.
    pub units: u64,
    pub total: Minor,
    /// Tiers that took something, in the order written. The last tier's line holds what went beyond it too.
    pub lines: Vec<TierLine>,
}

/// Why usage was not priced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TierError {
    #[error("a price list has at least one tier")]
    NoTier,
    #[error("the total cannot be computed")]
    Money(#[source] MoneyError),
}

/// Usage of one month, in whole units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub used: u64,
    pub reserved: u64,
}

/// Prices the overage: tiers take their width each, in the order written, and the rest goes at the last tier's price.
/// The total of the month is rounded once, half up, to the currency's minor unit.
///
/// # Errors
/// `NoTier` for an empty list, `Money` where a result does not fit.
pub fn overage(currency: Currency, usage: Usage, tiers: &[Tier]) -> Result<Overage, TierError> {
    let last = tiers.len().checked_sub(1).ok_or(TierError::NoTier)?;
    let units = usage.used.saturating_sub(usage.reserved);
    let overflow = TierError::Money(MoneyError::Overflow);
    let (mut lines, mut left, mut nano) = (Vec::new(), units, 0_i128);
    for (index, tier) in tiers.iter().enumerate() {
        let taken = if index == last { left } else { left.min(tier.threshold) };
        left = left.saturating_sub(taken);
        if taken == 0 {
            continue;
        }
        let price = i128::from(taken).checked_mul(i128::from(tier.unit_price_nano)).ok_or(overflow)?;
        nano = nano.checked_add(price).ok_or(overflow)?;
        lines.push(TierLine { tier: index, units: taken });
    }
    let per_major = 10_i128.checked_pow(u32::from(currency.exponent())).ok_or(overflow)?;
    let total = nano.checked_mul(per_major).ok_or(overflow)?;
    let total = round_half_up(total, NANO).and_then(Minor::try_from).map_err(TierError::Money)?;
    Ok(Overage { units, total, lines })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(currency: &str, used: u64, tiers: &[(u64, u64)]) -> i64 {
        let tiers: Vec<Tier> =
            tiers.iter().map(|&(threshold, unit_price_nano)| Tier { threshold, unit_price_nano }).collect();
        let usage = Usage { used, reserved: 0 };
        overage(Currency::of(currency).unwrap(), usage, &tiers).unwrap().total.units()
    }

    #[test]
    fn the_checked_totals_come_out() {
        // S-73, S-74 and S-75.
        let seed = [(5_000, 10_000_000)];
        assert_eq!([5_000, 5_001, 12_000].map(|used| total("USD", used, &seed)), [5_000, 5_001, 12_000]);
        let reserved = [(5_000, 5_000_000), (10_000, 8_000_000)];
        let found = [5_000, 12_000, 15_000, 20_000].map(|used| total("USD", used, &reserved));
        assert_eq!(found, [2_500, 8_100, 10_500, 14_500]);
        assert_eq!(total("USD", 300_000, &[(50_000, 5_000_000), (200_000, 3_000_000)]), 100_000);
    }

    #[test]
    fn a_threshold_is_a_width_and_the_order_is_that_of_the_list() {
        let tiers = [(10, 1_000_000_000), (5, 2_000_000_000), (1, 3_000_000_000)];
        assert_eq!(total("USD", 10, &tiers), 1_000);
        assert_eq!(total("USD", 15, &tiers), 2_000);
        assert_eq!(total("USD", 17, &tiers), 2_600);
        let usage = Usage { used: 120, reserved: 103 };
        let tiers = tiers.map(|(threshold, unit_price_nano)| Tier { threshold, unit_price_nano });
        let lines = overage(Currency::of("USD").unwrap(), usage, &tiers).unwrap().lines;
        assert_eq!(lines, [(0, 10), (1, 5), (2, 2)].map(|(tier, units)| TierLine { tier, units }));
    }

    #[test]
    fn the_total_is_rounded_once_half_up_in_the_currency_s_own_minor_unit() {
        assert_eq!(total("USD", 1, &[(1, 5_000_000)]), 1);
        assert_eq!(total("USD", 1, &[(1, 4_999_999)]), 0);
        assert_eq!(total("USD", 2, &[(1, 2_500_000), (1, 2_500_000)]), 1);
        assert_eq!(total("JPY", 1, &[(1, 500_000_000)]), 1);
        assert_eq!(total("KWD", 1, &[(1, 500_000)]), 1);
        assert_eq!(total("CLF", 1, &[(1, 50_000)]), 1);
    }

    #[test]
    fn usage_within_the_reserve_owes_nothing() {
        let usage = Usage { used: 5, reserved: 6 };
        let found = overage(Currency::of("USD").unwrap(), usage, &[Tier { threshold: 1, unit_price_nano: 1 }]).unwrap();
        assert_eq!(found, Overage { units: 0, total: Minor::ZERO, lines: vec![] });
    }

    #[test]
    fn what_cannot_be_priced_is_refused() {
        let dollars = Currency::of("USD").unwrap();
        let usage = Usage { used: u64::MAX, reserved: 0 };
        assert_eq!(overage(dollars, usage, &[]), Err(TierError::NoTier));
        let dear = [Tier { threshold: 1, unit_price_nano: u64::MAX }];
        assert_eq!(overage(dollars, usage, &dear), Err(TierError::Money(MoneyError::Overflow)));
    }
}
