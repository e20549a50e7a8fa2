//! What it costs to pay out.

use serde::Deserialize;

use crate::currency::Currency;
use crate::money::{Minor, MoneyError, round_half_up};
use crate::schedule::{Fee, PPM, ScheduleError};

/// How payouts in one currency are priced. Valid by construction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayoutSchedule {
    currency: Currency,
    minimum: Minor,
    fee_minimum: Minor,
    fee_rate_ppm: u32,
}

/// A schedule as it is written, amounts in the minor units of its own currency.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenPayoutSchedule {
    pub currency: String,
    /// The smallest payout.
    pub minimum_minor: i64,
    /// The fee is never less than this.
    pub fee_minimum_minor: i64,
    pub fee_rate_ppm: u32,
}

/// Why there is no payout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayoutError {
    #[error("less than the smallest payout, {0} in minor units")]
    BelowMinimum(Minor),
    #[error("the fee cannot be computed")]
    Money(#[source] MoneyError),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPayouts {
    schedules: Vec<WrittenPayoutSchedule>,
}

/// The file compiled in.
const BUILTIN: &str = include_str!("builtin_payouts.json");

impl PayoutSchedule {
    /// Checks a schedule.
    ///
    /// # Errors
    /// A currency without minor units, a share above one, a negative amount, or a fee above the smallest payout.
    pub fn new(written: &WrittenPayoutSchedule) -> Result<Self, ScheduleError> {
        let currency = Currency::of(&written.currency).map_err(ScheduleError::Currency)?;
        if written.fee_rate_ppm > PPM {
            return Err(ScheduleError::ShareAboveOne);
        }
        let (minimum, fee_minimum) = (Minor::new(written.minimum_minor), Minor::new(written.fee_minimum_minor));
        if minimum < Minor::ZERO || fee_minimum < Minor::ZERO {
            return Err(ScheduleError::Negative);
        }
        if fee_minimum > minimum {
            return Err(ScheduleError::FeeAboveMinimum);
        }
        Ok(Self { currency, minimum, fee_minimum, fee_rate_ppm: written.fee_rate_ppm })
    }

    /// The shipped schedule of a currency: there is one for USD.
    ///
    /// # Panics
    /// If the file compiled in is not valid, which the test `the_shipped_payouts_are_valid` rules out.
    #[expect(clippy::expect_used, reason = "the file is compiled in and read by a test")]
    pub fn builtin(currency: &str) -> Option<Self> {
        let written: WrittenPayouts = serde_json::from_str(BUILTIN).expect("the shipped payouts are valid JSON");
        let written = written.schedules.into_iter().find(|schedule| schedule.currency == currency)?;
        Some(Self::new(&written).expect("the shipped payouts are valid"))
    }

    /// The currency that it is for.
    pub fn currency(&self) -> Currency {
        self.currency
    }

    /// The smallest payout.
    pub fn minimum(&self) -> Minor {
        self.minimum
    }
}

/// The fee of a payout, `max(smallest fee, amount x rate)` rounded half up, and what arrives.
///
/// # Errors
/// `BelowMinimum` for an amount that is not paid out, negative ones among them.
pub fn payout(schedule: &PayoutSchedule, amount: Minor) -> Result<Fee, PayoutError> {
    if amount < schedule.minimum {
        return Err(PayoutError::BelowMinimum(schedule.minimum));
    }
    let share = i128::from(amount.units()).checked_mul(i128::from(schedule.fee_rate_ppm));
    let share = share.ok_or(MoneyError::Overflow).and_then(|share| round_half_up(share, i128::from(PPM)));
    let fee = share.and_then(Minor::try_from).map_err(PayoutError::Money)?.max(schedule.fee_minimum);
    let net = amount.minus(fee).map_err(PayoutError::Money)?;
    Ok(Fee { fee, net })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dollars() -> PayoutSchedule {
        PayoutSchedule::builtin("USD").unwrap()
    }

    #[test]
    fn the_shipped_payouts_are_valid() {
        assert_eq!(dollars().currency().code(), "USD");
        assert_eq!(dollars().minimum(), Minor::new(2_500));
        assert_eq!(PayoutSchedule::builtin("EUR"), None);
    }

    #[test]
    fn the_fee_is_half_a_percent_and_at_least_fifty_cents() {
        let cases = [
            (2_500, 50),
            (9_900, 50),
            (10_000, 50),
            (10_099, 50),
            (10_100, 51),
            (10_300, 52),
            (100_000, 500),
            (i64::MAX, 46_116_860_184_273_879),
        ];
        for (amount, fee) in cases {
            let paid = payout(&dollars(), Minor::new(amount)).unwrap();
            assert_eq!((paid.fee.units(), paid.net.units()), (fee, amount - fee), "{amount}");
        }
    }

    #[test]
    fn small_and_negative_amounts_are_not_paid_out() {
        for amount in [2_499, 0, -2_500, i64::MIN] {
            let refused = payout(&dollars(), Minor::new(amount));
            assert_eq!(refused, Err(PayoutError::BelowMinimum(Minor::new(2_500))), "{amount}");
        }
    }

    #[test]
    fn a_schedule_that_makes_no_sense_is_refused() {
        let made = |minimum_minor, fee_minimum_minor, fee_rate_ppm| {
            let currency = "USD".to_owned();
            PayoutSchedule::new(&WrittenPayoutSchedule { currency, minimum_minor, fee_minimum_minor, fee_rate_ppm })
        };
        assert_eq!(made(1, 0, PPM + 1), Err(ScheduleError::ShareAboveOne));
        assert_eq!(made(-1, 0, 0), Err(ScheduleError::Negative));
        assert_eq!(made(1, 2, 0), Err(ScheduleError::FeeAboveMinimum));
        assert!(made(1, 1, PPM).is_ok());
    }
}
