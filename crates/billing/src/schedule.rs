//! Fee schedules as data, and the fee of one exchange.

use serde::{Deserialize, Serialize};

use crate::currency::{Currency, CurrencyError};
use crate::money::{Minor, MoneyError, round_half_up};

/// Parts per million that make a whole.
pub const PPM: u32 = 1_000_000;

/// The version of the schedules that are shipped.
pub const BUILTIN_TARIFF_VERSION: &str = "builtin-2026-11-01";

/// From this volume on, the whole fee is multiplied by this factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Discount {
    /// Volume of the month before the exchange, in minor units.
    pub from_volume_minor: i64,
    /// At most 1,000,000.
    pub factor_ppm: u32,
}

/// How the fee of an exchange in one currency is worked out. Valid by construction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    currency: Currency,
    rate_ppm: u32,
    fixed: Minor,
    discounts: Vec<Discount>,
}

/// Why a schedule or a fee was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    #[error("the currency cannot carry an amount")]
    Currency(#[source] CurrencyError),
    #[error("a share is above 1,000,000 parts per million")]
    ShareAboveOne,
    #[error("the fixed part or a volume is negative")]
    Negative,
    #[error("two discounts begin at the same volume")]
    RepeatedVolume,
    #[error("the smallest fee of a payout is above the smallest payout")]
    FeeAboveMinimum,
    #[error("the fee cannot be computed")]
    Money(#[source] MoneyError),
}

impl Schedule {
    /// Checks a schedule. Discounts may come in any order.
    ///
    /// # Errors
    /// A currency without minor units, a share above one, a negative amount, or two discounts from the same volume.
    pub fn new(
        currency: &str,
        rate_ppm: u32,
        fixed: Minor,
        mut discounts: Vec<Discount>,
    ) -> Result<Self, ScheduleError> {
        let currency = Currency::of(currency).map_err(ScheduleError::Currency)?;
        if rate_ppm > PPM || discounts.iter().any(|discount| discount.factor_ppm > PPM) {
            return Err(ScheduleError::ShareAboveOne);
        }
        if fixed < Minor::ZERO || discounts.iter().any(|discount| discount.from_volume_minor < 0) {
            return Err(ScheduleError::Negative);
        }
        discounts.sort_unstable_by_key(|discount| discount.from_volume_minor);
        let mut following = discounts.iter().skip(1);
        if discounts
            .iter()
            .any(|discount| following.next().is_some_and(|next| next.from_volume_minor == discount.from_volume_minor))
        {
            return Err(ScheduleError::RepeatedVolume);
        }
        Ok(Self { currency, rate_ppm, fixed, discounts })
    }

    /// The currency that it is for.
    pub fn currency(&self) -> Currency {
        self.currency
    }

    /// The factor that holds at this volume.
    fn factor_ppm(&self, volume: i128) -> u32 {
        self.discounts
            .iter()
            .rev()
            .find(|discount| i128::from(discount.from_volume_minor) <= volume)
            .map_or(PPM, |discount| discount.factor_ppm)
    }
}

/// What an exchange costs and what the payee gets: together the gross.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fee {
    pub fee: Minor,
    pub net: Minor,
}

/// `(gross x rate + fixed) x factor`, rounded once, half up, after the discount, and never more than the gross.
/// A negative gross is a reversal and mirrors the fee of the positive one to the unit.
///
/// `volume` is the payer's gross in this currency in the calendar month (UTC) before this exchange.
///
/// # Errors
/// `Negative` for a negative volume; `Money` where a result does not fit.
pub fn fee(schedule: &Schedule, gross: Minor, volume: i128) -> Result<Fee, ScheduleError> {
    if volume < 0 {
        return Err(ScheduleError::Negative);
    }
    let size = i128::from(gross.units()).checked_abs().ok_or(ScheduleError::Money(MoneyError::Overflow))?;
    let fee = fee_of_size(schedule, size, volume).ok_or(ScheduleError::Money(MoneyError::Overflow))?;
    let fee = if gross < Minor::ZERO { fee.checked_neg() } else { Some(fee) };
    let fee = Minor::try_from(fee.ok_or(ScheduleError::Money(MoneyError::Overflow))?).map_err(ScheduleError::Money)?;
    let net = gross.minus(fee).map_err(ScheduleError::Money)?;
    Ok(Fee { fee, net })
}

fn fee_of_size(schedule: &Schedule, size: i128, volume: i128) -> Option<i128> {
    let whole = i128::from(PPM);
    let share = size.checked_mul(i128::from(schedule.rate_ppm))?;
    let fixed = i128::from(schedule.fixed.units()).checked_mul(whole)?;
    let undiscounted = share.checked_add(fixed)?;
    let discounted = undiscounted.checked_mul(i128::from(schedule.factor_ppm(volume)))?;
    let rounded = round_half_up(discounted, whole.checked_mul(whole)?).ok()?;
    Some(rounded.min(size))
}

/// A schedule with the day from which it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Dated {
    /// Milliseconds since the Unix epoch.
    from_ms: i64,
    tariff_version: String,
    schedule: Schedule,
}

/// The schedules of every currency, by date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tariffs {
    dated: Vec<Dated>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenTariffs {
    tariff_version: String,
    schedules: Vec<WrittenSchedule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSchedule {
    currency: String,
    from_ms: i64,
    rate_ppm: u32,
    fixed_minor: i64,
    discounts: Vec<Discount>,
}

/// The file compiled in. Nothing was charged before it, so it holds for every exchange up to the next dated one.
const BUILTIN: &str = include_str!("builtin_tariffs.json");

impl Tariffs {
    /// No schedule at all: every charge parks.
    pub fn none() -> Self {
        Self { dated: Vec::new() }
    }

    /// The schedules that are shipped: USD.
    ///
    /// # Panics
    /// If the file compiled in is not valid, which the test `the_shipped_tariffs_are_valid` rules out.
    #[expect(clippy::expect_used, reason = "the file is compiled in and read by a test")]
    pub fn builtin() -> Self {
        let written: WrittenTariffs = serde_json::from_str(BUILTIN).expect("the shipped tariffs are valid JSON");
        let mut tariffs = Self::none();
        for entry in written.schedules {
            let fixed = Minor::new(entry.fixed_minor);
            let schedule = Schedule::new(&entry.currency, entry.rate_ppm, fixed, entry.discounts)
                .expect("the shipped schedules are valid");
            tariffs = tariffs.with(schedule, entry.from_ms, &written.tariff_version);
        }
        tariffs
    }

    /// These and one more, which holds from `from_ms` (milliseconds since the Unix epoch) on.
    #[must_use]
    pub fn with(mut self, schedule: Schedule, from_ms: i64, tariff_version: &str) -> Self {
        self.dated.push(Dated { from_ms, tariff_version: tariff_version.to_owned(), schedule });
        self.dated.sort_by_key(|dated| dated.from_ms);
        self
    }

    /// The schedule of a currency that holds at this time, with its version.
    pub fn at(&self, currency: &str, at_ms: i64) -> Option<(&Schedule, &str)> {
        self.dated
            .iter()
            .rev()
            .find(|dated| dated.from_ms <= at_ms && dated.schedule.currency.code() == currency)
            .map(|dated| (&dated.schedule, dated.tariff_version.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dollars() -> Schedule {
        Tariffs::builtin().at("USD", 0).unwrap().0.clone()
    }

    #[test]
    fn the_shipped_tariffs_are_valid() {
        let tariffs = Tariffs::builtin();
        let (schedule, version) = tariffs.at("USD", 1_700_000_000_000).unwrap();
        assert_eq!(schedule.currency().code(), "USD");
        assert_eq!(version, BUILTIN_TARIFF_VERSION);
        assert_eq!(tariffs.at("EUR", 1_700_000_000_000), None);
    }

    #[test]
    fn the_fee_is_2_8_percent_and_28_cents() {
        let cases = [(500, 42), (9_900, 305), (10_000, 308), (100_000, 2_828), (1_000_000, 28_028)];
        for (gross, expected) in cases {
            assert_eq!(fee(&dollars(), Minor::new(gross), 0).unwrap().fee, Minor::new(expected), "{gross}");
        }
    }

    #[test]
    fn a_fee_never_exceeds_the_gross() {
        for gross in [0, 1, 27, 28, 29] {
            let split = fee(&dollars(), Minor::new(gross), 0).unwrap();
            assert!(split.net >= Minor::ZERO, "{gross}");
        }
    }

    #[test]
    fn the_discount_multiplies_the_whole_fee_from_its_volume_on() {
        let gross = Minor::new(1_000_000);
        assert_eq!(fee(&dollars(), gross, 99_999).unwrap().fee, Minor::new(28_028));
        assert_eq!(fee(&dollars(), gross, 100_000).unwrap().fee, Minor::new(26_627));
        assert_eq!(fee(&dollars(), gross, 1_000_000).unwrap().fee, Minor::new(25_225));
        assert_eq!(fee(&dollars(), gross, i128::MAX).unwrap().fee, Minor::new(23_824));
    }

    #[test]
    fn the_smallest_amount_mirrors_too() {
        let split = fee(&dollars(), Minor::new(i64::MIN), 0).unwrap();
        assert_eq!(split.fee.plus(split.net).unwrap(), Minor::new(i64::MIN));
    }

    #[test]
    fn a_schedule_that_makes_no_sense_is_refused() {
        let discount = |from_volume_minor, factor_ppm| Discount { from_volume_minor, factor_ppm };
        let made = |rate_ppm, fixed, discounts| Schedule::new("USD", rate_ppm, Minor::new(fixed), discounts);
        assert_eq!(made(PPM + 1, 0, vec![]), Err(ScheduleError::ShareAboveOne));
        assert_eq!(made(1, -1, vec![]), Err(ScheduleError::Negative));
        assert_eq!(made(1, 0, vec![discount(0, PPM + 1)]), Err(ScheduleError::ShareAboveOne));
        assert_eq!(made(1, 0, vec![discount(-1, 1)]), Err(ScheduleError::Negative));
        let repeated = vec![discount(5, 1), discount(9, 2), discount(5, 3)];
        assert_eq!(made(1, 0, repeated), Err(ScheduleError::RepeatedVolume));
        assert!(matches!(Schedule::new("XAU", 1, Minor::ZERO, vec![]), Err(ScheduleError::Currency(_))));
        assert_eq!(fee(&dollars(), Minor::new(1), -1), Err(ScheduleError::Negative));
    }

    #[test]
    fn the_order_of_discounts_does_not_matter() {
        let discount = |from_volume_minor, factor_ppm| Discount { from_volume_minor, factor_ppm };
        let rising = Schedule::new("USD", 1, Minor::ZERO, vec![discount(1, 9), discount(2, 8)]);
        let falling = Schedule::new("USD", 1, Minor::ZERO, vec![discount(2, 8), discount(1, 9)]);
        assert_eq!(rising, falling);
    }

    #[test]
    fn a_later_schedule_replaces_an_earlier_one_from_its_day_on() {
        let free = Schedule::new("USD", 0, Minor::ZERO, vec![]).unwrap();
        let tariffs = Tariffs::builtin().with(free.clone(), 1_000, "free");
        assert_eq!(tariffs.at("USD", 999).unwrap().1, BUILTIN_TARIFF_VERSION);
        assert_eq!(tariffs.at("USD", 1_000), Some((&free, "free")));
    }
}
